#!/usr/bin/python
# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Xen host is and has room for."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_info
short_description: Read what a Xen host is, which options its Xen takes, and how many disks it has room for
version_added: 0.1.0
description:
  - Reads the Xen release, which options of disks and guests it accepts, whether its toolstack is there, which xenstored
    runs, which domains serve disks and whether their daemon is ready, and how many more disks fit into their quotas.
  - Every part is read by itself. A host without xl, or one whose xenstored is down, gives the rest; nothing of that is
    an error of this module.
extends_documentation_fragment:
  - xen.virtio.attributes.info
  - xen.virtio.attributes.group
  - xen.virtio.store
  - xen.virtio.host
  - xen.virtio.host.xl
seealso:
  - module: xen.virtio.guest_info
  - module: xen.virtio.disk_info
author:
  - xen.virtio contributors (@xen-virtio)
"""

EXAMPLES = r"""
- name: What is this host
  xen.virtio.host_info:
  register: host

- name: Be sure that it takes virtio disks as releases since 4.17 write them
  ansible.builtin.assert:
    that: host.xen.accepts.specification
    fail_msg: "Xen {{ host.xen.release }} has no specification for disks"

- name: Be sure that ten more disks fit at every driver domain
  ansible.builtin.assert:
    that: item.headroom is none or item.headroom >= 10
    fail_msg: "{{ item.domain }} has room for {{ item.headroom }} disks more"
  loop: "{{ host.backends }}"
  loop_control:
    label: "{{ item.domain }}"
"""

RETURN = r"""
xen:
  description: The hypervisor and its toolstack.
  returned: success
  type: dict
  contains:
    release: {description: "Its release, null where the host does not tell.", type: str, sample: "4.17"}
    version: {description: The whole version., type: str, sample: 4.17.6-pre}
    arch: {description: The processor's architecture as C(uname -m) has it., type: str, sample: aarch64}
    toolstack:
      description: The host's xl.
      type: dict
      contains:
        name: {description: Always V(xl)., type: str, sample: xl}
        present: {description: Whether it is there., type: bool, sample: true}
        path: {description: "Where, null where it is not.", type: str, sample: /usr/sbin/xl}
        version:
          description: The release of the libxl that it is linked with, null where that cannot be seen.
          type: str
          sample: "4.17"
        error: {description: "Why C(xl info) says nothing, null where it works.", type: str, sample: null}
    accepts:
      description:
        - Options that not every release knows, and whether this one does, null where the release is unknown.
        - Of disks, V(virtio) (the flag of the patch series' sixth version), C(specification), C(standalone), C(trusted),
          C(grant_usage). Of guests, C(virtio_devices), C(nr_spis), C(trap_unmapped_accesses), C(xenstore_quota).
      type: dict
      sample: {grant_usage: false, nr_spis: false, specification: true, standalone: true, trusted: false}
    note:
      description: What was assumed about a release that is not known, or why nothing is accepted, else null.
      type: str
      sample: null
    ioreq:
      description: Whether a daemon outside the hypervisor can serve virtio devices.
      type: dict
      contains:
        support:
          description:
            - V(yes), V(no), or V(unknown). On Arm it is an option of the hypervisor's build, which only some builds tell.
          type: str
          sample: "yes"
        why: {description: From what that is known., type: str, sample: the hypervisor was built with CONFIG_IOREQ_SERVER}
memory:
  description: The host's memory in MiB, null where xl does not tell.
  returned: success
  type: dict
  contains:
    total: {description: All of it., type: int, sample: 4096}
    free: {description: What is not given to any domain., type: int, sample: 1024}
daemons:
  description: The host's daemons.
  returned: success
  type: dict
  contains:
    xenstored:
      description: The store daemon.
      type: dict
      contains:
        reachable: {description: Whether it answers and knows dom0., type: bool, sample: true}
        kind:
          description: V(xenstored) for the one in C, V(oxenstored) for the one in OCaml, null where it does not show.
          type: str
          sample: oxenstored
        error: {description: "Why it is not reachable, else null.", type: str, sample: null}
backends:
  description: The domains that serve virtio disks, or whose daemon has ever said a word, and dom0; by domid.
  returned: success
  type: list
  elements: dict
  contains:
    domain: {description: Its name., type: str, sample: DomD}
    domid: {description: Its id., type: int, sample: 1}
    alive: {description: Whether xenstored knows the domain., type: bool, sample: true}
    status:
      description: What stands in C(drivers/virtio-disk/status), V(ready) or V(dead), null where there is no such node.
      type: str
      sample: ready
    reason:
      description: Why this collection's launcher says V(dead) there, else null.
      type: str
      sample: null
    launcher:
      description: The version of this collection's launcher where that runs the daemons, else null.
      type: str
      sample: "1"
    guests: {description: How many guests it serves., type: int, sample: 2}
    disks: {description: How many virtio disks it serves., type: int, sample: 6}
    quota:
      description: Its limits in xenstored and what it uses of them; null for dom0, which has none.
      type: dict
      contains:
        nodes: {description: How many nodes it may own., type: int, sample: 1000}
        used_nodes: {description: "How many it owns, null where unknown.", type: int, sample: 133}
        watches: {description: How many watches it may have., type: int, sample: 128}
        used_watches: {description: "How many it has, null where unknown.", type: int, sample: 14}
        assumed: {description: "What is not asked but assumed, null where nothing is.", type: str, sample: null}
    headroom:
      description: How many more disks it has room for by these limits, null for dom0.
      type: int
      sample: 48
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.xen.virtio.plugins.module_utils._host_info_module import (
    HOST_INFO_ARGUMENT_SPEC,
    HOST_INFO_CONSTRAINTS,
    main_host_info,
)


def main() -> None:
    """Run as a module."""
    main_host_info(
        AnsibleModule(
            argument_spec=HOST_INFO_ARGUMENT_SPEC, supports_check_mode=True, **HOST_INFO_CONSTRAINTS
        )
    )


if __name__ == "__main__":
    main()
