#!/usr/bin/python
# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guests of a host, with run state, configuration and disks."""

from __future__ import annotations

DOCUMENTATION = r"""
module: guest_info
short_description: Read the guests of a Xen host, with run state, configuration, and the health of their disks
version_added: 0.1.0
description:
  - Reads all or some domains of a host but dom0, whoever made them, and for each its run state, memory and vCPUs, the
    configuration that lies on the host for it, what it was made from, and its disks as M(xen.virtio.disk_info) has them.
  - One of O(domains) that the host does not have is returned as V(absent), with its configuration where there is one.
  - Configurations are returned in the form in which an inventory declares a guest.
  - Takes one C(xl list), one C(xl list -l) and one reading of xenstore, however many guests there are. Without xl, and
    where it fails, the run state is unknown and the rest is told.
extends_documentation_fragment:
  - xen.virtio.attributes.info
  - xen.virtio.attributes.group
  - xen.virtio.store
  - xen.virtio.domains
  - xen.virtio.host
  - xen.virtio.host.release
  - xen.virtio.host.xl
  - xen.virtio.host.config
  - xen.virtio.host.state
  - xen.virtio.host.hidden
options:
  configs:
    description: Whether to list all configurations in O(config_dir) too, those of guests without a domain among them.
    type: bool
    default: false
  texts:
    description:
      - Whether to return configurations as they are written, beside their meaning.
      - They may hold passwords and what O(hidden) names, which are hidden in the meaning unless this is set.
    type: bool
    default: false
seealso:
  - module: xen.virtio.host_info
  - module: xen.virtio.disk_info
author:
  - xen.virtio contributors (@xen-virtio)
"""

EXAMPLES = r"""
- name: All guests of the host
  xen.virtio.guest_info:
  register: host

- name: Fail where one does not run
  ansible.builtin.assert:
    that: host.guests | rejectattr('run_state', 'eq', 'running') | length == 0

- name: Fail where one has lost a disk
  ansible.builtin.assert:
    that: item.disks | rejectattr('health', 'in', ['attached', 'unknown']) | length == 0
  loop: "{{ host.guests }}"
  loop_control:
    label: "{{ item.name }}"

- name: Everything that could be started
  xen.virtio.guest_info:
    configs: true
"""

RETURN = r"""
guests:
  description: One entry a guest, in the order asked for, else by domid.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Its name where dom0 vouches for it, else C(dom0less-DOMID) or C(domain DOMID).
      type: str
      sample: domu1
    domid: {description: "Its id, null where there is no domain.", type: int, sample: 3}
    uuid: {description: "Its UUID, null where unknown.", type: str, sample: 42b9bba0-2793-49bb-b2c6-276fb79a83ca}
    made_by:
      description: V(xl), V(other), or V(unknown) where libxl's record cannot be read; null where there is no domain.
      type: str
      sample: xl
    run_state:
      description:
        - V(running), V(paused), V(shutdown), V(crashed), V(dying), V(stale) (Xen has no such domain, but the store has not
          forgotten it), V(absent) (neither has), or V(unknown) where xl does not tell.
      type: str
      sample: running
    reason:
      description: Why it shut down, such as V(poweroff) or V(crash), else null.
      type: str
      sample: null
    leftover:
      description:
        - Why the domain is no guest that anybody could use, else null. V(dying) or V(stale), or V(unfinished) for a paused
          domain without libxl's record, which a create that was ended half-way leaves behind.
      type: str
      sample: null
    type: {description: "V(pv), V(pvh) or V(hvm), null where unknown.", type: str, sample: pvh}
    memory: {description: "Its memory in MiB, null where unknown.", type: int, sample: 512}
    maxmem: {description: "How much it can have in MiB, null where unknown.", type: int, sample: 512}
    vcpus: {description: "How many vCPUs are online, null where unknown.", type: int, sample: 2}
    maxvcpus: {description: "How many it can have, null where unknown.", type: int, sample: 2}
    autostart: {description: Whether it is started when the host boots., type: bool, sample: true}
    config:
      description: Its configuration, found by the name that stands in it; null where there is none.
      type: dict
      contains:
        path: {description: Where it lies., type: str, sample: /etc/xen/domu1.cfg}
        others:
          description: Other files with a configuration of that name.
          type: list
          elements: str
          sample: []
        declaration:
          description: What it says, as an inventory would declare it; null where it cannot be read.
          type: dict
          sample: {name: domu1, memory: 512, kernel: /boot/Image, disks: [{vdev: xvda, target: /dev/mmcblk0p3}]}
        notes:
          description: What is written in a way that xl calls deprecated.
          type: list
          elements: str
          sample: []
        error: {description: "Why it cannot be read, else null.", type: str, sample: null}
        text: {description: The text itself., returned: with O(texts), type: str, sample: "name = \"domu1\"\n"}
    created_from:
      description:
        - What the domain was made from, with C(kept_in), a path, and the rest as RV(guests[].config); null where nobody kept
          it. xl itself does not.
      type: dict
      sample: null
    disks:
      description: Its disks in the shape that M(xen.virtio.disk_info) returns.
      type: list
      elements: dict
      sample: [{vdev: xvda, target: /dev/mmcblk0p3, backend: DomD, specification: virtio, health: attached}]
configs:
  description:
    - Every configuration, with C(name), C(domid) of the returned domain of that name (null where there is none), C(running)
      (whether it is alive), C(autostart), and the rest as RV(guests[].config).
  returned: with O(configs)
  type: list
  elements: dict
  sample: []
unreadable:
  description: Files that mean to be configurations and cannot be read, with C(path) and C(error).
  returned: with O(configs)
  type: list
  elements: dict
  sample: []
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.xen.virtio.plugins.module_utils._guest_info_module import (
    GUEST_INFO_ARGUMENT_SPEC,
    GUEST_INFO_CONSTRAINTS,
    main_guest_info,
)


def main() -> None:
    """Run as a module."""
    main_guest_info(
        AnsibleModule(
            argument_spec=GUEST_INFO_ARGUMENT_SPEC, supports_check_mode=True, **GUEST_INFO_CONSTRAINTS
        )
    )


if __name__ == "__main__":
    main()
