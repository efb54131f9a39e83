# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory plugin reading many hosts over SSH, against one task that does nothing on the same hosts."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator

from benchmarks.figures import Figure
from benchmarks.many import FORKS, GUESTS, Many, many

LIMIT = 1.5


def listing(fleet: Many, *, live: bool) -> float:
    """Seconds of ``ansible-inventory``, with the plugin or without."""
    source = fleet.folder / "domains.xen.yml"
    source.write_text(json.dumps({"plugin": "xen.virtio.domains", "source": "live"}))
    sources = ["-i", str(fleet.inventory()), *(["-i", str(source)] if live else [])]
    seconds, said = fleet.run("ansible-inventory", *sources, "--list")
    if live and len(json.loads(said)["xen_guest"]["hosts"]) != fleet.hosts * GUESTS:
        raise RuntimeError("not all guests were found")
    return seconds


def inventory(hosts: int, machines: int, repetitions: int) -> Iterator[Figure]:
    """So many hosts, which are so many machines under several names."""
    with many(hosts, machines) as fleet:
        first = listing(fleet, live=True) - listing(fleet, live=False)
        rounds = [
            (listing(fleet, live=True), fleet.pings(), listing(fleet, live=False))
            for _turn in range(repetitions)
        ]
        with_it, ping, without = (statistics.median(column) for column in zip(*rounds))
    group = f"{hosts} hosts over SSH, {FORKS} forks, cold connections"
    yield Figure(group, "the inventory plugin", with_it - without, ping, "ansible.builtin.ping", LIMIT)
    yield Figure(group, "the first time on these hosts", first, ping, "ansible.builtin.ping")
    yield Figure(group, "ansible-inventory as a whole", with_it, without, "without the plugin")
