#!/usr/bin/python
# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host that serves virtio disks has for it, and what it lacks."""

from __future__ import annotations

DOCUMENTATION = r"""
module: backend_info
short_description: Tell what a host that serves virtio disks has for it, what it lacks, and what runs there
version_added: 0.1.0
description:
  - Tells of a driver domain, or of dom0 where dom0 serves disks, whether a daemon can work there at all, which daemons
    run and whom they serve, and whether what runs is what is installed.
  - To be run on the very host. Only that can see its processes, its devices and its kernel.
  - Every part is looked at by itself. A host whose store does not answer gives the rest; nothing of that is an error
    of this module. What is wrong is in RV(findings), each with its remedy.
  - A daemon that this collection's launcher did not start is a foreign one. It is idle only where its open files prove
    that it serves no disk.
extends_documentation_fragment:
  - xen.virtio.attributes.info
  - xen.virtio.attributes.group
  - xen.virtio.store
options:
  daemon:
    description:
      - A path of the daemon, where that is not called C(virtio-disk); processes of that name count as daemons as well.
    type: path
  run_dir:
    description: Where the units of disks say what they are.
    type: path
    default: /run/virtio-disk
  config_dir:
    description: Where the launcher's settings lie.
    type: path
    default: /etc/xen-virtio
  lib_dir:
    description: Where the launcher's view lies.
    type: path
    default: /usr/local/lib/xen-virtio
  unit_dir:
    description: Where the launcher's units lie.
    type: path
    default: /etc/systemd/system
  accept:
    description:
      - Findings that are known and wanted, as mappings of C(code) and C(reason). They are in RV(accepted) instead.
      - V(daemon-missing), V(foreign-daemon), V(no-systemd) and V(store) cannot be accepted.
    type: list
    elements: dict
    default: []
seealso:
  - module: xen.virtio.backend_foreign
  - module: xen.virtio.host_info
author:
  - xen.virtio contributors (@xen-virtio)
"""

EXAMPLES = r"""
- name: What is this driver domain
  xen.virtio.backend_info:
  delegate_to: "{{ xen_driver_domains.DomD.host }}"
  register: backend

- name: Nothing that keeps it from serving disks
  ansible.builtin.assert:
    that: backend.findings | selectattr('severity', 'eq', 'error') | length == 0
    fail_msg: "{% for one in backend.findings %}{{ one.message }} {{ one.why }} {{ one.remedy }} {% endfor %}"

- name: Which guests still run what was installed before
  ansible.builtin.debug:
    msg: "{{ backend.pending_restart }}"
"""

RETURN = r"""
domid:
  description: The domain's id, null where the store does not tell.
  returned: success
  type: int
  sample: 1
init:
  description: What runs the host's services, V(systemd), V(openrc), V(sysvinit) or V(unknown).
  returned: success
  type: str
  sample: systemd
store:
  description: The store as this domain reaches it.
  returned: success
  type: dict
  contains:
    reachable: {description: Whether it answers and knows this domain., type: bool, sample: true}
    path: {description: "The socket or device, null where there is none.", type: str, sample: /dev/xen/xenbus}
    error: {description: "Why it is not reachable, else null.", type: str, sample: null}
devices:
  description: The devices that the daemon opens.
  returned: success
  type: list
  elements: dict
  contains:
    path: {description: Where it looks for it., type: str, sample: /dev/xen/gntdev}
    present: {description: Whether it is there., type: bool, sample: true}
    kind: {description: "V(device), V(socket) or V(other), null where it is not there.", type: str, sample: device}
kernel:
  description: The kernel that runs.
  returned: success
  type: dict
  contains:
    release: {description: As C(uname -r) has it., type: str, sample: 6.1.0-40-arm64}
    source: {description: "Where its options were read, null where nowhere.", type: str, sample: /proc/config.gz}
    options:
      description: The options that a backend needs, V(y), V(m) or V(n), null where they cannot be read.
      type: dict
      sample: {CONFIG_XEN_DEV_EVTCHN: m, CONFIG_XEN_GNTDEV: m, CONFIG_XEN_GRANT_DEV_ALLOC: m, CONFIG_XEN_PRIVCMD: m}
    privcmd_restricted:
      description: Whether it confines C(/dev/xen/privcmd) in this domain, null where that cannot be told.
      type: bool
      sample: false
    privcmd_why: {description: From what that is known., type: str, sample: this kernel's driver confines nobody}
disks:
  description: How many disks are in this domain's own tree.
  returned: success
  type: int
  sample: 6
quota:
  description: The domain's limits in xenstored and what it uses of them; null for dom0, which has none.
  returned: success
  type: dict
  contains:
    nodes: {description: How many nodes it may own., type: int, sample: 1000}
    used_nodes: {description: "How many it owns, null where that cannot be counted.", type: int, sample: 133}
    watches: {description: How many watches it may have., type: int, sample: 100}
    used_watches: {description: "How many it has, always null here.", type: int, sample: null}
    assumed:
      description: Whose limits stand in, since only dom0 may ask.
      type: str
      sample: the defaults of xenstored and oxenstored, the lower of both
headroom:
  description: How many more disks it has room for by these limits, null for dom0.
  returned: success
  type: int
  sample: 42
foreign:
  description: Daemons that are in no unit of the launcher's.
  returned: success
  type: list
  elements: dict
  contains:
    pid: {description: The process., type: int, sample: 412}
    unit: {description: "Its unit, null where it is in none.", type: str, sample: virtio-disk.service}
    command: {description: Its command line., type: str, sample: /usr/bin/virtio-disk}
    devid: {description: "The disk that its C(-d) names, null without.", type: int, sample: 51712}
    idle: {description: Whether it serves no disk for certain., type: bool, sample: false}
    serves:
      description: The disks that it serves; all that it may serve where it cannot be told which.
      type: list
      elements: dict
      contains:
        domid: {description: The guest., type: int, sample: 3}
        domain: {description: "Its name, null where this domain may not read it.", type: str, sample: null}
        devid: {description: The disk., type: int, sample: 51712}
        target: {description: What is behind it., type: str, sample: /dev/mmcblk0p3}
units:
  description: The launcher's units that run, one for each disk that is served.
  returned: success
  type: list
  elements: dict
  contains:
    unit: {description: Its name., type: str, sample: virtio-disk@3-51712.service}
    domid: {description: The guest., type: int, sample: 3}
    devid: {description: The disk., type: int, sample: 51712}
    version: {description: The version of the daemon that runs., type: str, sample: v1.0-3f2a9c01d7be}
    daemon: {description: Its file., type: str, sample: /usr/local/lib/virtio-disk/v1.0-3f2a9c01d7be/virtio-disk}
    pid: {description: The daemon's process., type: int, sample: 611}
    view_pid: {description: The process of its view of the store., type: int, sample: 610}
    target: {description: What is behind the disk., type: str, sample: /dev/mmcblk0p3}
    mode: {description: "V(w) or V(r).", type: str, sample: w}
    size: {description: The target's size when the disk came up., type: int, sample: 8589934592}
    pending_restart: {description: Whether it runs what was installed before., type: bool, sample: false}
    why: {description: "In what it differs, else null.", type: str, sample: null}
unsettled:
  description: The disks whose units start or end just now, as C(DOMID-DEVID); they are not among RV(units).
  returned: success
  type: list
  elements: str
  sample: []
pending_restart:
  description: The disks that are served by what was installed before, as C(DOMID-DEVID).
  returned: success
  type: list
  elements: str
  sample: [3-51712]
launcher:
  description: The launcher.
  returned: success
  type: dict
  contains:
    installed: {description: Whether its settings are there., type: bool, sample: true}
    version: {description: "The version that it says it has, null where it says none.", type: str, sample: 0.1.0}
    status: {description: "V(ready) or V(dead), null where it never said a word.", type: str, sample: ready}
    reason: {description: "Why it is dead, else null.", type: str, sample: null}
    pid: {description: "Its process, null where there is none.", type: int, sample: 388}
daemon:
  description: The daemon that the launcher starts.
  returned: success
  type: dict
  contains:
    path:
      description: As its settings name it, null where it is not installed.
      type: str
      sample: /usr/local/lib/virtio-disk/current/virtio-disk
    real_path:
      description: The file that this is, null where it is not there.
      type: str
      sample: /usr/local/lib/virtio-disk/v1.0-3f2a9c01d7be/virtio-disk
    version: {description: Its version as the settings say it., type: str, sample: v1.0-3f2a9c01d7be}
findings:
  description:
    - What keeps the host from serving disks, or will.
    - Codes are V(daemon-missing), V(device-missing), V(foreign-daemon), V(kernel-option), V(launcher-down), V(no-systemd),
      V(pending-restart), V(privcmd-restricted), V(quota) and V(store).
  returned: success
  type: list
  elements: dict
  contains:
    code: {description: The rule., type: str, sample: device-missing}
    severity: {description: "V(error) or V(warning).", type: str, sample: error}
    domain: {description: Always null here., type: str, sample: null}
    vdev: {description: Always null here., type: str, sample: null}
    message: {description: What is wrong., type: str, sample: /dev/xen/gntdev is not there.}
    why: {description: What comes of it., type: str, sample: With it the daemon maps the memory that the guest grants it.}
    remedy: {description: What to do., type: str, sample: Load the module (modprobe xen-gntdev).}
accepted:
  description: Those findings that O(accept) names, in the same form.
  returned: success
  type: list
  elements: dict
  sample:
    - code: kernel-option
      severity: warning
      domain: null
      vdev: null
      message: The kernel was built without CONFIG_XEN_GRANT_DEV_ALLOC (/proc/config.gz).
      why: Backends hand memory of their own to guests with it.
      remedy: Run a kernel that is built with CONFIG_XEN_GRANT_DEV_ALLOC.
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.xen.virtio.plugins.module_utils._backend_info_module import (
    BACKEND_INFO_ARGUMENT_SPEC,
    BACKEND_INFO_CONSTRAINTS,
    main_backend_info,
)


def main() -> None:
    """Run as a module."""
    main_backend_info(
        AnsibleModule(
            argument_spec=BACKEND_INFO_ARGUMENT_SPEC, supports_check_mode=True, **BACKEND_INFO_CONSTRAINTS
        )
    )


if __name__ == "__main__":
    main()
