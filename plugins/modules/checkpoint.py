#!/usr/bin/python
# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the guests of a host run from, kept and brought back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: checkpoint
short_description: Keep what the guests of a Xen host run from under a name, and bring them back to it
version_added: 0.1.0
description:
  - With O(state=present) keeps, for every guest of C(xl), its configuration, what its domain was created from, with the
    checksums of kernel, ramdisk and device tree, whether it runs, is paused or down, and whether it comes up with the host.
    Names without a guest are kept, too.
  - With O(state=restored) brings guests back to that. A guest that is as kept stays untouched, with the domid it has.
    One that runs from something else, or not at all, is created anew as M(xen.virtio.guest) creates guests, from what it ran
    from then. One that did not exist is removed, with its configuration.
  - A checkpoint lies on the host, below O(state_dir), readable by root alone. It holds configurations and no contents of
    disks. Kernels and other files that were given as C(src) and C(checksum) are kept under names with their checksums and
    never overwritten, so the old one is still there; one that lies elsewhere and was overwritten is an error that names it.
  - The network may be what went down. So a restore is done by one transient systemd unit on the host, which needs no
    controller. The task follows it, connects again where the connection was lost, and ends with the unit's outcome.
  - A run that finds a restore under way only follows it. One that finds a restore which was cut off goes on from there.
extends_documentation_fragment:
  - xen.virtio.attributes
  - xen.virtio.attributes.group
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
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  name:
    description:
      - The checkpoint's name, of at most 64 letters, digits, dots, dashes and underscores, the first a letter or a digit.
    type: str
    required: true
  state:
    description:
      - V(present) takes a checkpoint. One of that name that exists is left as it is.
      - V(restored) brings guests back to it.
      - V(absent) forgets it, and changes no guest.
    type: str
    choices: [present, restored, absent]
    default: present
  guests:
    description:
      - The guests that it is about, by name, or as mappings with C(name) and C(path), where a guest's configuration lies
        outside of O(config_dir).
      - Left out, it is about all guests that C(xl) made or that have a configuration, and a restore about all guests that
        the checkpoint holds.
      - A guest that does not exist is kept as such, so that a restore removes it.
    type: list
    elements: raw
  keep:
    description:
      - So many checkpoints whose names begin with C(rollout-), as those of the playbook C(xen.virtio.rollout) do, stay on the
        host when one of them is taken. Older ones of these are forgotten. A checkpoint with another name stays until
        O(state=absent).
    type: int
    default: 5
  wait:
    description:
      - Whether to wait for the end of a restore. Else the task ends when it is under way, and O(unit) reads its outcome.
    type: bool
    default: true
  unit:
    description:
      - The unit that an earlier task with O(wait=false) returned. With O(state=restored) its outcome is read, and no restore
        is begun.
    type: str
  force_destroy:
    description:
      - Whether a domain may be ended without a clean shutdown, where that takes longer than O(shutdown_timeout).
      - A domain that crashed, that lost a disk, or that no create completed is ended so in any case. There is nothing of it
        that could be shut down.
    type: bool
    default: false
  restore_timeout:
    description: Seconds after which a restore begins no further guest. One that is begun is brought to its end.
    type: float
    default: 1800
notes:
  - On a host without systemd a restore is done by the task itself, with a warning.
  - Which disks are C(shared) stands in no configuration. As with guests that come up with their host, a disk in dom0 that
    another guest has open for writing then keeps a guest from being created again.
  - A driver domain among the guests is created again before those that hang on it. To restart one as it is, with its guests,
    there is M(xen.virtio.drain).
seealso:
  - module: xen.virtio.guest
  - module: xen.virtio.guest_watch
  - module: xen.virtio.drain
author:
  - xen.virtio contributors (@xen-virtio)
"""

EXAMPLES = r"""
- name: Keep what all guests run from
  xen.virtio.checkpoint:
    name: before-6.6

- name: What would be brought back
  xen.virtio.checkpoint:
    name: before-6.6
    state: restored
  check_mode: true
  diff: true

- name: Bring one guest back, also where it does not shut down
  xen.virtio.checkpoint:
    name: before-6.6
    state: restored
    guests: [linux1]
    force_destroy: true

- name: Forget it
  xen.virtio.checkpoint:
    name: before-6.6
    state: absent
"""

RETURN = r"""
checkpoint:
  description: What is kept. Null with O(state=absent).
  returned: always
  type: dict
  contains:
    name: {description: Its name., type: str, sample: before-6.6}
    taken: {description: "When it was taken, ISO 8601 in UTC.", type: str, sample: "2026-05-04T10:11:12Z"}
    guests:
      description: The guests in it.
      type: list
      elements: dict
      contains:
        name: {description: The guest., type: str, sample: linux1}
        run_state:
          description: As M(xen.virtio.guest_watch) has it, V(absent) without a domain.
          type: str
          sample: running
        domid: {description: "The domid it had, null without a domain.", type: int, sample: 4}
        autostart: {description: Whether it came up with the host., type: bool, sample: true}
        path: {description: "Where its configuration lay, or would.", type: str, sample: /etc/xen/linux1.cfg}
        config_sha:
          description: The sha256 of its configuration, null where it had none.
          type: str
          sample: 6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b
        images:
          description: The files that it was created from, by option, each with C(path) and C(sha256).
          type: dict
          sample: {kernel: {path: /boot/Image, sha256: d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35}}
guests:
  description: With O(state=restored), what became of each guest, in the order in which they are brought back.
  returned: always
  type: list
  elements: dict
  contains:
    name: {description: The guest., type: str, sample: linux1}
    action:
      description: V(unchanged), V(restored), V(removed), V(failed), or V(waiting) while a restore has not come to it.
      type: str
      sample: restored
    before:
      description: How it stood, with C(run_state), C(domid), C(autostart) and C(config_sha).
      type: dict
      sample: {run_state: crashed, domid: 7, autostart: true, config_sha: 4e07408562bedb8b60ce05c1decfe3ad16b72230967de01f640b7e4729b49fce}
    after:
      description:
        - How it stands, null while it waits. In check mode how it would, a new domain's domid null.
      type: dict
      sample: {run_state: running, domid: 8, autostart: true, config_sha: 6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b}
    why: {description: What differed., type: list, elements: str, sample: [runs from another kernel]}
    error: {description: "Why it is not back, with the remedy, else null.", type: str, sample: null}
lines:
  description: A line for each guest, as it is kept, or what became of it.
  returned: always
  type: list
  elements: str
  sample: ["linux1: restored (running, domain 8 (was domain 7)): runs from another kernel"]
unit: {description: "The unit that restores or did, null without one.", returned: always, type: str, sample: null}
restore:
  description: The restore that was followed, null where none was begun.
  returned: always
  type: dict
  contains:
    running: {description: Whether it is under way., type: bool, sample: false}
    outcome:
      description:
        - V(done); V(incomplete), some guests are not back; V(stopped), somebody stopped the unit, or O(restore_timeout) was
          over; V(interrupted), the unit was cut off; V(running).
      type: str
      sample: done
    begun: {description: "When it began, ISO 8601 in UTC.", type: str, sample: "2026-05-04T11:11:12Z"}
    ended: {description: "When it ended, null before that.", type: str, sample: "2026-05-04T11:11:22Z"}
    state_file:
      description: The file on the host that says how it stands.
      type: str
      sample: /var/lib/xen-virtio/checkpoints/before-6.6/restore.json
msg:
  description: One line on what happened or what is wrong.
  returned: always
  type: str
  sample: "checkpoint before-6.6: 1 restored, 3 unchanged"
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.xen.virtio.plugins.module_utils._checkpoint_module import (
    CHECKPOINT_ARGUMENT_SPEC,
    CHECKPOINT_CONSTRAINTS,
    main_checkpoint,
)


def main() -> None:
    """Run as a module."""
    main_checkpoint(
        AnsibleModule(
            argument_spec=CHECKPOINT_ARGUMENT_SPEC, supports_check_mode=True, **CHECKPOINT_CONSTRAINTS
        )
    )


if __name__ == "__main__":
    main()
