#!/usr/bin/python
# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of the storage behind targets, on the domain that owns it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: storage_info
short_description: Tell what targets of disks are and who uses them
version_added: 0.1.0
description:
  - Tells of each target whether it is there, a block device or a regular file, its size, and whether the system that it
    belongs to uses it already - mounted, as swap, as a member of LVM or RAID, or held exclusively by a process.
  - To be run where the storage is, that is on the host of a driver domain, or on dom0. Only that system can tell.
  - Reads and writes nothing of the storage itself. A block device without a known user is opened for a moment, for reading
    and exclusively, which the kernel refuses where somebody holds it. C(virtio-disk) does not hold what it serves in that
    way, so that a target which a guest has already is not in use for that alone.
  - Needs root for the whole truth, and nothing but Python. xenstore is not asked.
extends_documentation_fragment:
  - xen.virtio.attributes.info
options:
  targets:
    description:
      - Absolute paths, as disks have them.
      - P(xen.virtio.storage_targets#filter) makes these lists out of guests.
    type: list
    elements: str
    required: true
    aliases: [target]
seealso:
  - plugin: xen.virtio.preflight
    plugin_type: filter
  - plugin: xen.virtio.storage_targets
    plugin_type: filter
author:
  - xen.virtio contributors (@xen-virtio)
"""

EXAMPLES = r"""
- name: What the guests of this board are to get of its driver domain
  xen.virtio.storage_info:
    targets: "{{ (xen_guests | xen.virtio.storage_targets).DomD }}"
  delegate_to: "{{ xen_driver_domains.DomD.host }}"
  register: storage

- name: Nothing that would fail or corrupt
  ansible.builtin.assert:
    that: >-
      xen_guests | xen.virtio.preflight(targets={'DomD': storage.targets})
      | selectattr('severity', 'eq', 'error') | length == 0
"""

RETURN = r"""
targets:
  description: The facts by target, as P(xen.virtio.preflight#filter) takes them.
  returned: success
  type: dict
  contains:
    exists:
      description: Whether it is there, null where that may not be looked at.
      type: bool
      sample: true
    kind:
      description:
        - V(block), V(file), V(other), V(missing), or V(unknown) where it may not be looked at.
        - Only the first two can be served.
      type: str
      sample: block
    path:
      description: Where links lead to, null where it is not there.
      type: str
      sample: /dev/mmcblk0p3
    size:
      description: In bytes, null where it cannot be told.
      type: int
      sample: 8589934592
    readonly:
      description: Whether nothing can be written to it, null where it cannot be told.
      type: bool
      sample: false
    names:
      description:
        - Under which storage is compared. Two targets with one name in common are on the same storage.
        - They mean something on this system alone, and for loop devices until the next start only.
      type: list
      elements: str
      sample: [device 179:3, disk 179:0 partition 179:3]
    in_use:
      description: By whom it is in use, empty where nobody is known.
      type: list
      elements: dict
      contains:
        by:
          description:
            - V(mount), V(swap), V(holder) (another device, such as a volume, is made of it), or V(held) (exclusively, by
              whomever).
          type: str
          sample: mount
        what:
          description: Where it is mounted, the swap, the device that is made of it, or the processes that have it open.
          type: str
          sample: /srv
        storage:
          description: What of the storage is in use - the target, or a partition, loop device or file of the same storage.
          type: str
          sample: /dev/mmcblk0p3
    note:
      description: Why something could not be told, else null.
      type: str
      sample: null
  sample:
    /dev/mmcblk0p3:
      exists: true
      kind: block
      path: /dev/mmcblk0p3
      size: 8589934592
      readonly: false
      names: [device 179:3, disk 179:0 partition 179:3]
      in_use: [{by: mount, what: /srv, storage: /dev/mmcblk0p3}]
      note: null
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.xen.virtio.plugins.module_utils._storage_info_module import (
    STORAGE_ARGUMENT_SPEC,
    main_storage_info,
)


def main() -> None:
    """Run as a module."""
    main_storage_info(AnsibleModule(argument_spec=STORAGE_ARGUMENT_SPEC, supports_check_mode=True))


if __name__ == "__main__":
    main()
