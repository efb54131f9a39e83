#!/usr/bin/python
# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests of xl as declared."""

from __future__ import annotations

DOCUMENTATION = r"""
module: guest
short_description: Create, compare and re-create the guests of a Xen host with xl
version_added: 0.1.0
description:
  - Brings guests to the declared configuration and run state. Everything is done by the host's own C(xl), so what stands
    in xenstore afterwards is what C(xl create) makes of the same configuration.
  - Compares three things and tells them apart, which are the configuration's file (by meaning, so that a file that says
    the same in other words is left alone), the running domain (libxl's own record of it), and its disks in xenstore.
  - What C(xl) can change in a running guest is changed there, that is memory and vCPUs within their maximum, and xen
    disks. For everything else the guest has to be created anew, which happens only as far as O(recreate) allows.
  - Before anything changes, the configuration has passed the host's own C(xl create -n), and every rule that would fail
    or corrupt later was looked at. All findings are reported at once.
  - To create a guest anew, it is shut down, its old disks are proven to be free, it is created, and its disks have to be
    served and stay so. Two writers never have one disk, not even for a moment. Where the new guest fails, the old
    one comes back (O(rollback)).
  - A guest that is not there is created paused, and runs only once all of its virtio disks are served.
  - Everything goes by the name of a guest; its domid changes with each creation.
extends_documentation_fragment:
  - xen.virtio.attributes
  - xen.virtio.attributes.group
  - xen.virtio.guest
  - xen.virtio.accept
  - xen.virtio.creation
  - xen.virtio.host
  - xen.virtio.host.release
  - xen.virtio.host.xl
  - xen.virtio.host.config
  - xen.virtio.host.state
  - xen.virtio.host.boot
  - xen.virtio.host.hidden
  - xen.virtio.store
attributes:
  check_mode:
    support: full
    details: The configuration passes C(xl create -n) in check mode, too.
  diff_mode:
    support: full
  idempotent:
    support: full
    details: Except with O(state=restarted), which makes a new domain each time.
options:
  guests:
    description:
      - The guests, as a list, or as a mapping by name. Each has the options of a guest's configuration that this module
        has for one, and O(state), O(recreate), O(force_destroy), O(allow_reorder), O(autostart), O(path) and O(content)
        where it differs from the task's.
      - Mutually exclusive with O(name), the short form for one guest.
    type: raw
  state:
    description:
      - V(running) has a domain that runs. One that is paused is unpaused.
      - V(paused) has a domain that is paused.
      - V(shutdown) has no domain, and keeps the configuration.
      - V(restarted) shuts the domain down and creates a new one, always.
      - V(configured) writes the configuration and leaves the domain alone.
      - V(absent) has neither domain nor configuration, nor anything of O(autostart).
    type: str
    choices: [running, paused, shutdown, restarted, configured, absent]
    default: running
  recreate:
    description:
      - Whether a guest may be created anew that runs with something else than declared.
      - V(never) fails, and says what would change and why. Nothing is changed then, of no guest of the call.
      - V(report) says so and goes on. The configuration is written and has effect when the guest is created next; what
        can be changed in the running guest is.
      - V(allowed) creates it anew.
      - V(unhealthy) does so only with a guest that lost a disk, and is V(report) for the others. A guest without its disk
        hangs when it is shut down, so O(force_destroy) is asked for at once.
    type: str
    choices: [never, report, allowed, unhealthy]
    default: never
  force_destroy:
    description:
      - Whether a domain may be ended without a clean shutdown, where that takes longer than O(shutdown_timeout) or cannot
        be.
      - Also lets go of a domain that crashed and was kept, and of what a create of this module left behind.
    type: bool
    default: false
  allow_reorder:
    description:
      - Whether the order of the disks of an existing guest may change, which changes what the guest calls them (C(vda),
        C(vdb), …).
    type: bool
    default: false
  autostart:
    description:
      - V(true) has the guest created when the host starts, with no controller. A unit C(xen-virtio-guest@NAME.service)
        waits for the guest's backend domains, and for C(drivers/virtio-disk/status) to be C(ready) in each of them.
      - V(false) takes that away.
      - Left out, it stays as it is.
    type: bool
  path:
    description: Where the guest's configuration lies on the host. Left out, it is C(NAME.cfg) in O(config_dir).
    type: path
  content:
    description:
      - A whole configuration in xl's own language, such as one made from a template of your own, instead of the options.
      - It is compared by meaning, too.
    type: str
  rollback:
    description:
      - Whether to put the old configuration back and create the guest from it again where the new one fails. The task
        fails in any case.
    type: bool
    default: true
  backup:
    description: Whether to keep the old configuration beside the new one.
    type: bool
    default: true
  targets:
    description:
      - What M(xen.virtio.storage_info) said about targets in driver domains, by the name of the driver domain.
      - Targets in dom0 are looked at by this module.
    type: dict
    default: {}
  images_dir:
    description:
      - Where files that are given as C(src) and C(checksum) are kept, each under a name with its checksum. None is ever
        overwritten.
    type: path
    default: /var/lib/xen-virtio/images
notes:
  - A dom0less guest is never created or ended from here. Its disks are managed with M(xen.virtio.disk).
  - C(on_poweroff), C(on_reboot), C(on_crash) and the like are held by the xl process that looks after a guest; they
    cannot be changed in a running one.
  - Memory and vCPUs of a running guest follow only as far as the guest itself takes part.
seealso:
  - module: xen.virtio.guest_info
  - module: xen.virtio.disk
  - module: xen.virtio.storage_info
author:
  - xen.virtio contributors (@xen-virtio)
"""

EXAMPLES = r"""
- name: A guest with two disks of the driver domain DomD
  xen.virtio.guest:
    name: linux1
    memory: 512
    vcpus: 2
    kernel: /boot/Image
    cmdline: root=/dev/vda
    disks:
      - {vdev: xvda, target: /dev/mmcblk0p3, backend: DomD}
      - "backend=DomD, phy:/dev/mmcblk1p3, xvdb, ro, virtio"
    autostart: true

- name: All guests of the host in one call, those that differ created anew
  xen.virtio.guest:
    guests: "{{ xen_guests }}"
    recreate: allowed
    shutdown_timeout: 120

- name: What would have to be created anew, without a failure
  xen.virtio.guest:
    guests: "{{ xen_guests }}"
    recreate: report
  register: pending

- name: Bring back only guests that lost a disk
  xen.virtio.guest:
    guests: "{{ xen_guests }}"
    recreate: unhealthy
    force_destroy: true

- name: A configuration of your own
  xen.virtio.guest:
    name: linux2
    content: "{{ lookup('ansible.builtin.template', 'linux2.cfg.j2') }}"

- name: A kernel that is known by its checksum
  xen.virtio.guest:
    name: linux1
    memory: 512
    kernel:
      src: /srv/images/Image-6.6
      checksum: sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    disks:
      - {vdev: xvda, target: /dev/mmcblk0p3, backend: DomD}

- name: Shut a guest down and keep its configuration
  xen.virtio.guest:
    name: linux1
    state: shutdown

- name: Take a guest away
  xen.virtio.guest:
    name: linux1
    state: absent
"""

RETURN = r"""
guests:
  description: The declared guests, also where the call was refused or failed.
  returned: when the declaration could be read
  type: list
  elements: dict
  contains:
    name: {description: The guest., type: str, sample: linux1}
    domid: {description: "Its domain's id, null where it has none.", type: int, sample: 7}
    uuid: {description: "Its domain's UUID, null where it has none.", type: str, sample: 6491059e-bf47-41e6-9cf0-c3a615ebbbc3}
    run_state:
      description: V(running), V(paused), V(shutdown), V(crashed), V(dying) or V(absent), after the call.
      type: str
      sample: running
    state: {description: The declared state., type: str, sample: running}
    path: {description: Where its configuration lies., type: str, sample: /etc/xen/linux1.cfg}
    action:
      description:
        - V(created) (with a new configuration), V(started), V(recreated), V(restarted), V(changed) (the configuration, or
          something in the running guest), V(stopped), V(removed), V(unchanged), or V(failed).
        - In check mode and on refusal what would have been done.
      type: str
      sample: recreated
    differences:
      description: What was not as declared when the call began.
      type: dict
      contains:
        config:
          description: Between the configuration's file and the declared one, each with C(option), C(before), C(after), and
              C(live), whether it can be changed in the running guest.
          type: list
          elements: dict
          sample:
            - {option: memory, before: 512, after: 1024, live: false}
            - {option: cmdline, before: root=/dev/vda, after: null, live: false}
        domain:
          description:
            - Between what the domain runs with and what is declared, each with C(option), C(before), C(after), and
              C(live) as above.
          type: list
          elements: dict
          sample:
            - {option: memory, before: 512, after: 1024, live: false}
            - {option: vcpus, before: 2, after: 1, live: true}
            - {option: disk xvdb, before: /dev/mmcblk1p3 ro at domain 3, after: null, live: false}
        store:
          description: Disks that were lost or changed behind libxl's back, each with C(vdev), C(what) (V(lost) or
              V(drifted)), C(found) and, where it is lost, C(devid).
          type: list
          elements: dict
          sample: [{vdev: xvdb, devid: 51728, what: lost, found: its backend gave it up}]
    recreate_reasons:
      description: Why the guest would have to be created anew to be as declared, empty where it need not be.
      type: list
      elements: str
      sample: ["memory: 512 -> 1024", "cmdline: root=/dev/vda -> (none)", "disk xvdb: /dev/mmcblk1p3 ro at domain 3 -> (none)"]
    backup:
      description: Where the old configuration was kept, null where none was.
      type: str
      sample: /etc/xen/linux1.cfg.144.2026-11-29@10:27:58~
    held:
      description:
        - Disks of its last domain that whoever served them was not seen to let go of, and so may still be written to. Each
          has C(vdev), C(target), C(backend), C(backend_domid) and C(backend_uuid). No new domain is given them.
      type: list
      elements: dict
      sample: []
    disks:
      description: Its disks, as RV(xen.virtio.disk#module:guests[].disks) tells of them; empty where it has no domain.
      type: list
      elements: dict
      sample:
        - vdev: xvda
          devid: 51712
          target: /dev/mmcblk0p3
          access: rw
          format: raw
          backend: DomD
          backend_domid: 3
          backendtype: standalone
          specification: virtio
          transport: mmio
          base: 33554432
          irq: 33
          grant_usage: true
          backend_path: /local/domain/3/backend/virtio_disk/9/51712
          frontend_path: /local/domain/9/device/virtio_disk/51712
          action: added
          state: "2"
          health: attached
findings:
  description: All findings that were not accepted, as RV(xen.virtio.disk#module:findings).
  returned: when the declaration could be read
  type: list
  elements: dict
  sample:
    - code: target-shared
      severity: error
      domain: linux1
      vdev: xvda
      message: xvda (/dev/mmcblk0p3) is also xvda of linux2 (/dev/mmcblk0p3); compared by path
      why: linux1 writes to it, and a file system that two see while one writes is destroyed.
      remedy: >-
        Give each guest a target of its own, or make all of them read-only; where guests are made for it, mark the disks
        shared: true.
accepted:
  description: The findings that were accepted, in the same form.
  returned: when the declaration could be read
  type: list
  elements: dict
  sample:
    - code: foreign-mapping
      severity: warning
      domain: linux1
      vdev: xvda
      message: "xvda: grant_usage is off and DomD serves it"
      why: DomD then maps all memory of the guest.
      remedy: Leave grant_usage out (grants are the default with a driver domain).
unread:
  description: Whether the host's store could not be read, so that nothing is said of what is declared.
  returned: when that is so
  type: bool
  sample: true
msg:
  description: One line on what happened or what is wrong.
  returned: always
  type: str
  sample: "3 guests: 1 created, 1 recreated"
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.xen.virtio.plugins.module_utils._guest_module import (
    ARGUMENT_SPEC,
    CONSTRAINTS,
    main_guest,
)


def main() -> None:
    """Run as a module."""
    main_guest(AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True, **CONSTRAINTS))


if __name__ == "__main__":
    main()
