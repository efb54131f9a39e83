#!/usr/bin/python
# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A planned restart of a driver domain."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drain
short_description: Restart a driver domain with all guests that hang on it
version_added: 0.1.0
description:
  - libxl writes the domid of a device's backend into the guest's device tree. So a driver domain that is restarted, and
    has another domid then, has lost all guests it serves, until each of them is created anew.
  - Lists the guests that hang on a driver domain, by libxl's own records, with disks and any other devices, also those
    that hang on it through a guest which is a driver domain itself.
  - With O(consent=true) shuts them down, restarts the driver domain, waits until its daemon is ready, and creates the
    guests again, each from its configuration and as it was, running or paused. Guests go side by side, those behind others
    first, and come back one after the other.
  - A guest that does not shut down means that the driver domain is not restarted, and that those that went are created
    again. A guest that cannot be created again keeps no other from coming back, and is named with the remedy.
  - The driver domain may own the network card. So all of it is done by one transient systemd unit on the host, which needs
    no controller. What it does stands in a state file (RV(drain.state_file)), written whole at every step. The task follows
    it, connects again where the connection was lost, and ends with the unit's outcome.
  - A run that finds a restart under way only follows it. One that finds a restart which did not end takes it up where it
    stopped. One that finds the driver domain as the last restart left it changes nothing, and reads its outcome.
extends_documentation_fragment:
  - xen.virtio.attributes
  - xen.virtio.attributes.group
  - xen.virtio.host
  - xen.virtio.host.release
  - xen.virtio.host.xl
  - xen.virtio.host.config
  - xen.virtio.host.state
  - xen.virtio.creation
  - xen.virtio.store
attributes:
  check_mode:
    support: full
    details: Every guest's configuration passes C(xl create -n) in check mode, too.
  diff_mode:
    support: full
  idempotent:
    support: full
    details: Except with O(again=true).
options:
  domain:
    description: The driver domain, by its name.
    type: str
    required: true
  consent:
    description: Whether to take down all guests that hang on it. Without, they are only listed.
    type: bool
    default: false
  again:
    description:
      - Whether to restart also a driver domain that is what the last restart left.
      - Also forgets a restart that did not end, and plans anew from what there is now.
    type: bool
    default: false
  force_destroy:
    description:
      - Whether a domain may be ended without a clean shutdown, where that takes longer than O(shutdown_timeout) or cannot
        be, as of a guest that has lost a disk.
    type: bool
    default: false
  order:
    description:
      - Names of guests in the order in which they are to be created again. Others follow in the order in which they
        were created. What hangs on another guest comes after it in any case.
    type: list
    elements: str
    default: []
  ready_timeout:
    description:
      - Seconds for C(drivers/virtio-disk/status) of the new driver domain to be C(ready). One that says nothing of itself
        has 30 s. Guests are created then in any case.
    type: float
    default: 180
  follow:
    description:
      - Seconds in which the task follows the unit, connecting again where it has to. 0 only starts it.
      - When they are over the task fails, and the unit goes on.
    type: float
    default: 3600
notes:
  - A driver domain that Xen itself started (dom0less), and dom0, are restarted by a reboot of the host alone.
  - The host needs systemd for O(consent=true).
seealso:
  - module: xen.virtio.guest
author:
  - xen.virtio contributors (@xen-virtio)
"""

EXAMPLES = r"""
- name: Who hangs on the driver domain
  xen.virtio.drain:
    domain: DomD
  register: hanging

- name: Restart it, and bring back all of them
  xen.virtio.drain:
    domain: DomD
    consent: true
    order: [router, linux1, linux2]
"""

RETURN = r"""
domain: {description: The driver domain., returned: success, type: str, sample: DomD}
domid:
  description: Its domid when the task began, null while a restart is under way or where it has none.
  returned: success
  type: int
  sample: 3
guests:
  description:
    - The guests that hung on it when the task began, in the order in which they would be created again.
    - Empty while a restart is under way, and where the task began one; RV(drain.guests) has them then.
  returned: always
  type: list
  elements: dict
  contains:
    name: {description: The guest., type: str, sample: linux1}
    domid: {description: The domain that hangs., type: int, sample: 4}
    path: {description: The configuration that it would be created from., type: str, sample: /etc/xen/linux1.cfg}
    run_state: {description: V(running) or V(paused)., type: str, sample: running}
    devices:
      description: What hangs, a disk by its vdev and target.
      type: list
      elements: str
      sample: ["xvda (/dev/vg/a)"]
    through:
      description: Which backend domains it hangs on, of those that are restarted or created again.
      type: list
      elements: str
      sample: [DomD]
lines:
  description: The same, a line for each guest.
  returned: success
  type: list
  elements: str
  sample: ["linux1 (domain 4): xvda (/dev/vg/a)"]
refusals:
  description: Why the driver domain cannot be restarted as things are, each with the remedy.
  returned: success
  type: list
  elements: str
  sample: []
drain:
  description: The last restart of this driver domain, or the one that is under way. Null where there was none.
  returned: always
  type: dict
  contains:
    domain: {description: The driver domain., type: str, sample: DomD}
    domid: {description: The domain that had to go., type: int, sample: 3}
    new_domid: {description: "The one that took its place, null before that.", type: int, sample: 9}
    running: {description: Whether it is under way., type: bool, sample: false}
    phase: {description: "V(down), V(restart), V(ready), V(up) or V(ended).", type: str, sample: ended}
    outcome:
      description:
        - V(done); V(incomplete), some guests are not back; V(abandoned), nothing was restarted, since a guest did not go;
          V(broken), the driver domain is down; V(stopped), somebody stopped the unit; V(interrupted), the unit was cut off;
          V(running).
      type: str
      sample: done
    begun: {description: "When it began, ISO 8601 in UTC.", type: str, sample: "2026-05-04T10:11:12Z"}
    ended: {description: "When it ended, null before that.", type: str, sample: "2026-05-04T10:12:13Z"}
    unit:
      description: The unit that carries it out.
      type: str
      sample: xen-virtio-drain-DomD-66167cb8866ba.service
    state_file: {description: The file on the host with all of this., type: str, sample: /var/lib/xen-virtio/drain/DomD.json}
    guests:
      description:
        - The guests as in RV(guests), with C(status) (V(waiting), V(stopping), V(down), V(back), V(failed)), C(new_domid) and
          C(error).
      type: list
      elements: dict
      sample:
        - name: linux1
          domid: 4
          path: /etc/xen/linux1.cfg
          run_state: running
          devices: ["xvda (/dev/vg/a)"]
          through: [DomD]
          status: back
          new_domid: 10
          error: null
    lines:
      description: How the driver domain and each guest stand, a line for each.
      type: list
      elements: str
      sample: ["DomD: restarted, now domain 9 (was domain 3)", "linux1: back as domain 10 (was domain 4)"]
    msg: {description: How it ended., type: str, sample: "DomD was restarted (domain 3 -> 9), 1 guest re-created"}
msg:
  description: One line on what happened or what is wrong.
  returned: always
  type: str
  sample: "DomD was restarted (domain 3 -> 9), 1 guest re-created"
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.xen.virtio.plugins.module_utils._drain_module import (
    DRAIN_ARGUMENT_SPEC,
    DRAIN_CONSTRAINTS,
    main_drain,
)


def main() -> None:
    """Run as a module."""
    main_drain(
        AnsibleModule(argument_spec=DRAIN_ARGUMENT_SPEC, supports_check_mode=True, **DRAIN_CONSTRAINTS)
    )


if __name__ == "__main__":
    main()
