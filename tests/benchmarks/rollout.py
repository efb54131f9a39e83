# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rollout that changes nothing over many hosts over SSH, against tasks that do nothing on the same hosts."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from typing import Any

from guests import LETTERS

from benchmarks.figures import Figure
from benchmarks.many import DISKS, FORKS, GUESTS, Many, many

LIMIT = 8
PINGS = 8


def declared() -> dict[str, Any]:
    """Variables of all hosts: their guests as they run; the kernel is a file of each machine's own."""
    disks = [[f"/dev/vg/linux{guest}-{letter}" for letter in LETTERS[:DISKS]] for guest in range(GUESTS)]
    return {
        "xen_driver_domains": {"DomD": {"launcher": True}},
        "xen_guest_defaults": {"type": "pvh", "memory": 64},
        "xen_guests": {
            f"linux{guest}": {
                "kernel": "{{ kernel }}",
                "disks": [
                    {"vdev": f"xvd{letter}", "target": target, "backend": "DomD"}
                    for letter, target in zip(LETTERS, targets)
                ],
            }
            for guest, targets in enumerate(disks)
        },
    }


def rolled_out(fleet: Many, *words: str, **extra: Any) -> float:
    """Seconds of the playbook as a whole."""
    playbook = ("xen.virtio.rollout", "-e", json.dumps(extra), *words)
    seconds, said = fleet.run("ansible-playbook", "-i", str(fleet.inventory()), *playbook)
    if not words and f"{fleet.hosts} hosts, 0 batches: {fleet.hosts} ok" not in said:
        raise RuntimeError(said[-3000:])
    return seconds


def pings(fleet: Many, tasks: int) -> float:
    """Seconds of a playbook with so many tasks that do nothing, as a whole."""
    play = fleet.folder / "pings.json"
    listed = [{"name": "ping", "ansible.builtin.ping": {}}] * tasks
    play.write_text(json.dumps([{"hosts": "xen_dom0", "gather_facts": False, "tasks": listed}]))
    return fleet.run("ansible-playbook", "-i", str(fleet.inventory()), str(play))[0]


def rollout(hosts: int, machines: int, repetitions: int) -> Iterator[Figure]:
    """So many hosts, which are so many machines under several names."""
    with many(hosts, machines) as fleet:
        fleet.variables = declared()
        # each machine goes through once under one name, as all that ever had their guests from here have
        once = ",".join(f"b{number:02}" for number in range(machines))
        everything = {"xen_rollout_everything": True, "xen_rollout_serial": "100%", "xen_rollout_soak": 0}
        rolled_out(fleet, "--limit", once, **everything)
        rounds = [(rolled_out(fleet), pings(fleet, PINGS), pings(fleet, 0)) for _turn in range(repetitions)]
        ours, some, nothing = (statistics.median(column) for column in zip(*rounds))
    group = f"{hosts} hosts over SSH, {FORKS} forks, cold connections, nothing to change"
    one = (some - nothing) / PINGS
    yield Figure(group, "the playbook rollout", ours - nothing, one, "ansible.builtin.ping", LIMIT)
