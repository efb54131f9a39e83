#!/usr/bin/python
# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The disks of one or many domains as declared."""

from __future__ import annotations

DOCUMENTATION = r"""
module: disk
short_description: Provision the virtio disks of one or many Xen domains
version_added: 0.1.0
description:
  - Compares the declared disks of a host's domains with what stands in xenstore and writes, changes or removes what
    differs, one transaction a disk, exactly as libxl would have written it.
  - Meant for domains that xl did not make (dom0less, other toolstacks). libxl refuses to hot-plug virtio disks, and so
    does this module for a domain that xl made. Disks with C(specification) V(xen) are attached and
    detached through the host's xl.
  - Checks every rule that would fail or corrupt later before the first change and reports all findings at once.
  - Waits until the disks are attached, that is until the backend is in state 2 and still is after a settling time.
extends_documentation_fragment:
  - xen.virtio.attributes
  - xen.virtio.attributes.group
  - xen.virtio.store
  - xen.virtio.accept
  - xen.virtio.host
  - xen.virtio.host.release
  - xen.virtio.host.xl
  - xen.virtio.host.boot
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  guests:
    description:
      - The guests and their disks. One call for all guests of a host is many times faster than one call each.
      - Mutually exclusive with O(domain).
    type: list
    elements: dict
    suboptions:
      domain:
        description:
          - Name, domid or UUID of the guest.
          - A name counts only where dom0 owns the node that holds it. What C(init-dom0less) made can rename itself; call
            it C(dom0less-DOMID), or by domid or UUID.
        type: raw
        required: true
      disks:
        description:
          - The guest's disks in order, each a mapping with the keys below or an xl disk string of any release, that of
            the patch series' sixth version (flag C(virtio)) included.
          - Left out, the guest's disks are left alone. An empty list needs O(guests[].exclusive=true).
          - Keys of a mapping. C(vdev) (C(xvda), C(d0p0), C(51712)), C(target) (absolute path in the backend domain),
            C(format) (C(raw)), C(access) (C(rw) or C(ro)), C(backend) (name, domid or UUID, dom0 by default),
            C(backendtype) (C(standalone)), C(specification) (C(virtio), the default in a mapping, or C(xen), which is
            what a string means that does not say), C(devtype) (C(disk) or C(cdrom)), C(script), C(discard),
            C(direct_io_safe), C(trusted), C(grant_usage) with xl's meanings and defaults.
          - Keys beyond xl's. C(shared) (several guests may write to the target), C(base) and C(irq) (where a
            hand-written device tree has the disk, given together, only for domains that xl did not make; else the
            lowest free place is taken and kept).
        type: list
        elements: raw
      exclusive:
        description: Whether disks of the guest that are not listed are removed.
        type: bool
        default: false
  domain:
    description: The short form for one guest, as O(guests[].domain).
    type: raw
  disks:
    description: The short form for one guest, as O(guests[].disks).
    type: list
    elements: raw
  exclusive:
    description: The short form for one guest, as O(guests[].exclusive); refused beside O(guests).
    type: bool
    default: false
  state:
    description:
      - V(present) has the listed disks as declared.
      - V(absent) removes the listed disks, of which only C(vdev) counts. Of a domain that is gone, what it left behind
        is removed.
    type: str
    choices: [present, absent]
    default: present
  hotplug:
    description:
      - Whether a disk in use may be changed or removed (its domain is alive and its backend past state 1), for domains
        that xl did not make. Adding a disk needs no such word.
      - Never overrides xl's own refusal.
    type: bool
    default: false
  persistent:
    description:
      - Whether the declaration is kept on the host and applied again at boot, with no controller.
      - Installs the service C(xen-virtio-disks.service) together with the code it runs, see O(persistent_dir) and
        O(lib_dir).
      - With O(state=absent) the guest's declaration is taken away again.
      - Left out, what is kept on the host is not touched.
    type: bool
    default: false
  persistent_dir:
    description: Where declarations are kept on the host.
    type: path
    default: /etc/xen/virtio-disks
  wait:
    description: Whether to end only when all declared virtio disks are attached, and to fail where they are not.
    type: bool
    default: true
  wait_timeout:
    description: Seconds to wait, over all disks of all guests together.
    type: float
    default: 10
  settle:
    description:
      - Seconds after which a disk that came up in this run must still be attached.
      - Waited for once a call. A daemon says that it is ready before it opens the image, and gives up where it cannot.
    type: float
    default: 0.5
seealso:
  - module: xen.virtio.disk_info
  - module: xen.virtio.xenstore
author:
  - xen.virtio contributors (@xen-virtio)
"""

EXAMPLES = r"""
- name: Two disks of one guest, served by the driver domain DomD
  xen.virtio.disk:
    domain: domu1
    disks:
      - {vdev: xvda, target: /dev/mmcblk0p3, backend: DomD}
      - "backend=DomD, phy:/dev/mmcblk1p3, xvdb, ro, virtio"

- name: All guests of the host in one call, and no other disks
  xen.virtio.disk:
    guests:
      - domain: dom0less-1
        disks:
          - {vdev: xvda, target: /dev/vg0/domu1, backend: DomD}
        exclusive: true
      - domain: dom0less-2
        disks:
          - {vdev: xvdb, target: /dev/vg0/domu2, backend: DomD, access: ro}
        exclusive: true

- name: Keep it over a power cycle
  xen.virtio.disk:
    domain: dom0less-1
    disks:
      - {vdev: xvda, target: /dev/vg0/domu1, backend: DomD}
    persistent: true

- name: Take a disk away that the guest may be using
  xen.virtio.disk:
    domain: dom0less-1
    disks: [xvdb]
    state: absent
    hotplug: true

- name: Remove what a dead domain left behind
  xen.virtio.disk:
    domain: 7
    disks: []
    exclusive: true
    state: absent
"""

RETURN = r"""
guests:
  description: The declared guests, also where the call failed.
  returned: when the declaration could be read
  type: list
  elements: dict
  contains:
    domain:
      description: The guest as it was named.
      type: str
      sample: domu1
    domid:
      description: Its id, null where it is not there.
      type: int
      sample: 3
    disks:
      description: Its declared disks, and those that were removed.
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
        action:
          description:
            - V(added), V(changed), V(removed) or V(unchanged). In check mode and on refusal what would have been done.
          type: str
          sample: added
        state: {description: "The backend's XenbusState, null where there is none.", type: str, sample: "2"}
        health:
          description:
            - V(attached), V(pending), V(closing), V(closed), V(missing), V(stale), V(drifted), or V(unknown) for a xen
              disk.
          type: str
          sample: attached
        drift:
          description: The nodes that were not as declared.
          returned: in check mode and on refusal, where there are any
          type: list
          elements: dict
          sample:
            - node: /local/domain/1/backend/virtio_disk/3/51712/params
              what: value
              expected: /dev/mmcblk0p3
              found: /dev/mmcblk0p4
findings:
  description: All findings that were not accepted.
  returned: when the declaration could be read
  type: list
  elements: dict
  contains:
    code: {description: Stable name of the rule., type: str, sample: devid-shared}
    severity: {description: "V(error) stops before the first change, V(warning) does not.", type: str, sample: error}
    domain: {description: The domain it is about., type: str, sample: domu1}
    vdev: {description: "The disk, null where it is about the domain.", type: str, sample: xvda}
    message: {description: What is wrong., type: str, sample: "xvda is device 51712 at DomD, and so is xvda of domu2"}
    why:
      description: What would happen.
      type: str
      sample: Two plain virtio-disk daemons with one device number destroy each other's disk within a second.
    remedy:
      description: What to do.
      type: str
      sample: >-
        Use vdevs that are unique among all guests of DomD, or run the daemons with our launcher
        (role xen.virtio.virtio_disk_backend).
accepted:
  description: The findings that were accepted, in the same form.
  returned: when the declaration could be read
  type: list
  elements: dict
  sample:
    - code: foreign-mapping
      severity: warning
      domain: domu1
      vdev: xvda
      message: "xvda: grant_usage is off and DomD serves it"
      why: DomD then maps all memory of the guest.
      remedy: Leave grant_usage out (grants are the default with a driver domain).
msg:
  description: One line on what happened or what is wrong.
  returned: always
  type: str
  sample: "2 disks of 1 guests: 2 added"
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.xen.virtio.plugins.module_utils._disk_module import (
    ARGUMENT_SPEC,
    CONSTRAINTS,
    main_disk,
)


def main() -> None:
    """Run as a module."""
    main_disk(AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True, **CONSTRAINTS))


if __name__ == "__main__":
    main()
