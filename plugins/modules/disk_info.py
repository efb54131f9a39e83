#!/usr/bin/python
# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The disks of all or some domains, with their health."""

from __future__ import annotations

DOCUMENTATION = r"""
module: disk_info
short_description: Read the disks of Xen domains from all three xenstore trees
version_added: 0.1.0
description:
  - Reads the virtio disks of one, some or all domains of a host from libxl's record, the frontend and the backend, and
    says how each is, where the three do not agree, and what dead domains left behind.
  - Disks with specification xen are listed beside them. Guests without disks are listed only where O(domains) has them.
extends_documentation_fragment:
  - xen.virtio.attributes.info
  - xen.virtio.attributes.group
  - xen.virtio.store
  - xen.virtio.domains
  - xen.virtio.host
seealso:
  - module: xen.virtio.disk
  - module: xen.virtio.xenstore_info
author:
  - xen.virtio contributors (@xen-virtio)
"""

EXAMPLES = r"""
- name: All disks of the host
  xen.virtio.disk_info:
  register: disks

- name: Fail where one is not attached
  ansible.builtin.assert:
    that: item.disks | rejectattr('specification', 'eq', 'xen') | rejectattr('health', 'eq', 'attached') | length == 0
    fail_msg: "{{ item.domain }} has lost a disk"
  loop: "{{ disks.guests }}"
  loop_control:
    label: "{{ item.domain }}"

- name: One guest, looked at twice
  xen.virtio.disk_info:
    domains: [domu1]
    settle: 0.5
"""

RETURN = r"""
guests:
  description: One entry a guest, in the order asked for, else by domid.
  returned: success
  type: list
  elements: dict
  contains:
    domain: {description: "The guest as it was named, else its name.", type: str, sample: domu1}
    domid: {description: Its id., type: int, sample: 3}
    uuid: {description: "Its UUID, null where unknown.", type: str, sample: 42b9bba0-2793-49bb-b2c6-276fb79a83ca}
    alive: {description: Whether xenstored knows the domain., type: bool, sample: true}
    made_by:
      description: V(xl), V(other), or V(unknown) where libxl's record cannot be read.
      type: str
      sample: other
    disks:
      description: Its disks by device number, in the shape that M(xen.virtio.disk) returns, without C(action).
      type: list
      elements: dict
      contains:
        vdev: {description: The disk's name., type: str, sample: xvda}
        devid: {description: The device number., type: int, sample: 51712}
        target: {description: What is served., type: str, sample: /dev/mmcblk0p3}
        access: {description: V(rw) or V(ro)., type: str, sample: rw}
        format: {description: Always V(raw) for a virtio disk., type: str, sample: raw}
        backend: {description: The domain that serves it., type: str, sample: DomD}
        backend_domid: {description: That domain's id., type: int, sample: 1}
        backendtype: {description: V(standalone) for a virtio disk., type: str, sample: standalone}
        specification: {description: V(virtio) or V(xen)., type: str, sample: virtio}
        transport: {description: V(mmio) for a virtio disk., type: str, sample: mmio}
        base: {description: Guest physical address of the device in bytes., type: int, sample: 33554432}
        irq: {description: Interrupt number., type: int, sample: 33}
        grant_usage: {description: Whether the guest grants single pages., type: bool, sample: true}
        backend_path: {description: The backend's directory., type: str, sample: /local/domain/1/backend/virtio_disk/3/51712}
        frontend_path: {description: The frontend's directory., type: str, sample: /local/domain/3/device/virtio_disk/51712}
        state: {description: "The backend's XenbusState, null where there is none.", type: str, sample: "2"}
        health:
          description:
            - V(attached), V(pending), V(closing), V(closed), V(missing), V(stale), V(drifted), or V(unknown) for a xen
              disk.
          type: str
          sample: attached
        launcher:
          description:
            - What the launcher of the backend domain says of the disk (role P(xen.virtio.virtio_disk_backend#role)), null where
              it says nothing.
            - V(served); V(starting); V(waiting) where no daemon can be started yet; V(failed) where no daemon took the disk up
              and none will be started any more; V(lost) where its daemon is gone and its guest has to be re-created.
          type: dict
          contains:
            status: {description: One of these., type: str, sample: served}
            reason: {description: "Why it is so, empty where there is nothing to say.", type: str, sample: ""}
            version: {description: "Of the daemon, null where unknown.", type: str, sample: "1.0"}
        size_at_attach:
          description: Bytes of the target when the daemon was started, null where no launcher tells.
          type: int
          sample: 8589934592
        size_now:
          description: Bytes of the target now. Where it differs from RV(guests[].disks[].size_at_attach), the guest sees it
            once it is restarted.
          type: int
          sample: 8589934592
        drift:
          description: Where the three trees do not agree, node by node; the record counts.
          type: list
          elements: dict
          sample: []
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.xen.virtio.plugins.module_utils._disk_info_module import (
    INFO_ARGUMENT_SPEC,
    INFO_CONSTRAINTS,
    main_disk_info,
)


def main() -> None:
    """Run as a module."""
    main_disk_info(
        AnsibleModule(argument_spec=INFO_ARGUMENT_SPEC, supports_check_mode=True, **INFO_CONSTRAINTS)
    )


if __name__ == "__main__":
    main()
