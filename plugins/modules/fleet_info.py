#!/usr/bin/python
# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All that an audit of a fleet has to know of one host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_info
short_description: Read all that an audit has to know of a Xen host, in one call
version_added: 0.1.0
description:
  - Reads in one call what M(xen.virtio.host_info), M(xen.virtio.guest_info) and M(xen.virtio.backend_info) tell, and what
    M(xen.virtio.guest) in check mode would say of O(guests).
  - Guests of C(xl) that run and are not among O(guests) are compared with the configuration that lies on the host for them.
  - Every part is read by itself. A host whose xenstored is down, or a guest that cannot be compared, leaves the rest; nothing
    of that is an error of this module.
  - The filter P(xen.virtio.fleet_report#filter) makes a report out of it, as the playbook C(xen.virtio.audit) does.
extends_documentation_fragment:
  - xen.virtio.attributes.info
  - xen.virtio.attributes.group
  - xen.virtio.store
  - xen.virtio.host
  - xen.virtio.host.release
  - xen.virtio.host.xl
  - xen.virtio.host.config
  - xen.virtio.host.state
  - xen.virtio.host.boot
  - xen.virtio.host.hidden
options:
  side:
    description:
      - V(dom0) reads all of it.
      - V(backend) is for a driver domain, and reads only what serves disks there and O(look_at).
    type: str
    choices: [dom0, backend]
    default: dom0
  guests:
    description: The guests that the inventory declares, as O(xen.virtio.guest#module:guests) takes them.
    type: list
    elements: dict
    default: []
  targets:
    description: What is known of targets in driver domains, as O(xen.virtio.guest#module:targets).
    type: dict
    default: {}
  look_at:
    description: Targets on this very host that are looked at, as M(xen.virtio.storage_info) does.
    type: list
    elements: str
    default: []
  settle:
    description: Seconds after which a disk in state 2 must still be. V(0) reads once.
    type: float
    default: 0
  wait_timeout:
    description: Seconds that disks which are just coming up get, before they count as lost.
    type: float
    default: 10
  images_dir:
    description: Where kernels and other files with a checksum are kept.
    type: path
    default: /var/lib/xen-virtio/images
notes:
  - The first C(xl list -l) after a boot has libxl note dom0's own memory in the store; that is libxl's doing.
seealso:
  - module: xen.virtio.host_info
  - module: xen.virtio.guest_info
  - module: xen.virtio.backend_info
  - plugin: xen.virtio.fleet_report
    plugin_type: filter
author:
  - xen.virtio contributors (@xen-virtio)
"""

EXAMPLES = r"""
- name: Everything about this board, and how it differs from the inventory
  xen.virtio.fleet_info:
    guests: "{{ xen_guests | xen.virtio.merge_guests(xen_guest_defaults | default({}), xen_guest_overrides | default({})) }}"
  register: board

- name: What serves disks in its driver domain
  xen.virtio.fleet_info:
    side: backend
  delegate_to: "{{ xen_driver_domains.DomD.host }}"
  register: domd
"""

RETURN = r"""
side: {description: Which side was read., returned: success, type: str, sample: dom0}
host:
  description: What M(xen.virtio.host_info) returns.
  returned: with O(side=dom0)
  type: dict
  sample:
    xen:
      release: "4.17"
      version: 4.17.0
      arch: aarch64
      toolstack: {name: xl, present: true, path: /usr/sbin/xl, version: "4.17", error: null}
      accepts: {grant_usage: false, nr_spis: false, specification: true, standalone: true, trusted: false}
      note: null
      ioreq: {support: "yes", why: the hypervisor was built with CONFIG_IOREQ_SERVER}
    memory: {total: 32768, free: 28608}
    daemons: {xenstored: {reachable: true, kind: xenstored, error: null}}
    backends:
      - domain: DomD
        domid: 3
        alive: true
        status: ready
        reason: null
        launcher: 0.1.0
        guests: 5
        disks: 5
        quota: {nodes: 1000, used_nodes: 109, watches: 128, used_watches: 14, assumed: null}
        headroom: 49
guests:
  description: The guests as M(xen.virtio.guest_info) returns them, without what their configurations mean.
  returned: with O(side=dom0)
  type: list
  elements: dict
  sample:
    - name: linux1
      domid: 17
      uuid: 7b318070-85a5-4d0b-bc0a-41967bb1491e
      made_by: xl
      run_state: running
      reason: null
      leftover: null
      type: pvh
      memory: 1024
      maxmem: 1024
      vcpus: 1
      maxvcpus: 1
      autostart: false
      config: {path: /etc/xen/linux1.cfg, others: [], notes: [], error: null}
      disks: [{vdev: xvda, devid: 51712, target: /dev/mmcblk0p3, backend: DomD, specification: virtio, health: attached}]
configs:
  description: The configurations that lie on the host, as M(xen.virtio.guest_info) lists them, without what they mean.
  returned: with O(side=dom0)
  type: list
  elements: dict
  sample:
    - {name: linux1, domid: 17, running: true, autostart: false, path: /etc/xen/linux1.cfg, others: [], notes: [], error: null}
unreadable:
  description: Files that mean to be configurations and cannot be read, with C(path) and C(error).
  returned: with O(side=dom0)
  type: list
  elements: dict
  sample: []
compared:
  description: Guests as declared against guests as they are; null where there was nothing to compare.
  returned: with O(side=dom0)
  type: dict
  contains:
    guests:
      description: The guests as M(xen.virtio.guest) returns them in check mode, without their disks.
      type: list
      elements: dict
      sample:
        - name: linux1
          domid: 17
          uuid: 7b318070-85a5-4d0b-bc0a-41967bb1491e
          run_state: running
          state: running
          path: /etc/xen/linux1.cfg
          action: unchanged
          differences: {config: [], domain: [], store: []}
          recreate_reasons: []
          held: []
    findings: {description: The findings of M(xen.virtio.guest)., type: list, elements: dict, sample: []}
    refused: {description: "What M(xen.virtio.guest) would refuse beside these, else null.", type: str, sample: null}
    problems:
      description: Guests that could not be compared, with C(domain) (null for all of them) and C(error).
      type: list
      elements: dict
      sample: []
error:
  description: Why the guests could not be read, else null.
  returned: with O(side=dom0)
  type: str
  sample: null
warnings:
  description: What could not be asked of C(xl).
  returned: with O(side=dom0)
  type: list
  elements: str
  sample: []
backend:
  description: What M(xen.virtio.backend_info) returns of this very host, without RV(xen.virtio.backend_info#module:accepted).
  returned: success
  type: dict
  sample:
    domid: 0
    init: systemd
    store: {reachable: true, path: /run/xenstored/socket, error: null}
    disks: 0
    quota: null
    headroom: null
    foreign: []
    units: []
    pending_restart: []
    launcher: {installed: false, version: null, status: null, reason: null, pid: null}
    daemon: {path: null, real_path: null, version: null}
    findings: []
targets:
  description: What M(xen.virtio.storage_info) returns of O(look_at).
  returned: with O(look_at)
  type: dict
  sample:
    /dev/mmcblk0p3:
      exists: true
      kind: block
      path: /dev/mmcblk0p3
      size: 8589934592
      readonly: false
      names: [device 179:3, disk 179:0 partition 179:3]
      in_use: []
      note: null
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.xen.virtio.plugins.module_utils._fleet_info_module import (
    FLEET_INFO_ARGUMENT_SPEC,
    FLEET_INFO_CONSTRAINTS,
    main_fleet_info,
)


def main() -> None:
    """Run as a module."""
    main_fleet_info(
        AnsibleModule(
            argument_spec=FLEET_INFO_ARGUMENT_SPEC, supports_check_mode=True, **FLEET_INFO_CONSTRAINTS
        )
    )


if __name__ == "__main__":
    main()
