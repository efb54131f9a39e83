#!/usr/bin/python
# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether guests stay up."""

from __future__ import annotations

DOCUMENTATION = r"""
module: guest_watch
short_description: Watch guests of a Xen host for a while, and fail at the first that does not stay up
version_added: 0.1.0
description:
  - Looks at guests again and again for O(soak) seconds, all of them in one call, and ends at once where one is not as it
    should be.
  - A guest is not, if it has no domain, or another one than before, since C(xl) starts a guest anew that crashed or
    rebooted; if its domain crashed, was shut down or is dying; if a virtio disk that was attached is so no longer, is lost,
    or was still not attached at the last look.
  - A state of 2 says only that a daemon has the disk. Whether the guest's own kernel is well is for it to say; its domid
    tells when it was not.
  - Xen disks are not judged, and a guest that is paused is up.
extends_documentation_fragment:
  - xen.virtio.attributes.info
  - xen.virtio.attributes.group
  - xen.virtio.store
  - xen.virtio.host
  - xen.virtio.host.xl
options:
  guests:
    description: The guests, by name. C(dom0less-D) is what Xen itself started as domain D.
    type: list
    elements: str
    required: true
  expect:
    description:
      - The domids that guests are to have, by name, such as those that M(xen.virtio.guest) returned a while ago.
      - A guest that is left out, or has none here, is to keep the domid that it has at the first look.
    type: dict
    default: {}
  soak:
    description: Seconds to watch. V(0) is one look, at which every disk has to be attached.
    type: float
    default: 10
  interval:
    description: Seconds between two looks, at least 0.05.
    type: float
    default: 0.5
  report:
    description: Whether to only tell what is wrong, and not to fail. A host that cannot be read is a failure in any case.
    type: bool
    default: false
notes:
  - It takes O(soak) seconds and one look more, and O(timeout) seconds where C(xl) or the store hangs.
seealso:
  - module: xen.virtio.guest
  - module: xen.virtio.guest_info
  - module: xen.virtio.checkpoint
author:
  - xen.virtio contributors (@xen-virtio)
"""

EXAMPLES = r"""
- name: Guests stay up for some seconds after a change
  xen.virtio.guest_watch:
    guests: [linux1, linux2]
    soak: 5

- name: They are still the domains that were made, and have all their disks
  xen.virtio.guest_watch:
    guests: [linux1]
    expect: {linux1: 4}
    soak: 0
    report: true
  register: look
"""

RETURN = r"""
guests:
  description: The guests in the order asked for, as they stood at the last look.
  returned: always
  type: list
  elements: dict
  contains:
    name: {description: The guest., type: str, sample: linux1}
    domid: {description: "Its domid, null where it has no domain.", type: int, sample: 4}
    run_state:
      description: V(running), V(paused), V(shutdown), V(crashed), V(dying), or V(absent) where it has no domain.
      type: str
      sample: running
    disks:
      description: Its virtio disks.
      type: list
      elements: dict
      contains:
        vdev: {description: The disk., type: str, sample: xvda}
        health:
          description: As M(xen.virtio.disk_info) has it, or V(lost) where the launcher in its backend domain says so.
          type: str
          sample: attached
    healthy: {description: Whether nothing is wrong with it., type: bool, sample: true}
    why: {description: "What is wrong, and where to look; null where nothing is.", type: str, sample: null}
healthy: {description: Whether nothing is wrong with any of them., returned: always, type: bool, sample: true}
msg:
  description: One line on what was seen.
  returned: always
  type: str
  sample: "2 guests up, with all disks attached, for 5 s"
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.xen.virtio.plugins.module_utils._guest_watch_module import (
    GUEST_WATCH_ARGUMENT_SPEC,
    GUEST_WATCH_CONSTRAINTS,
    main_guest_watch,
)


def main() -> None:
    """Run as a module."""
    main_guest_watch(
        AnsibleModule(
            argument_spec=GUEST_WATCH_ARGUMENT_SPEC, supports_check_mode=True, **GUEST_WATCH_CONSTRAINTS
        )
    )


if __name__ == "__main__":
    main()
