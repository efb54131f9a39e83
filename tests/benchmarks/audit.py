# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook audit over many hosts by SSH, against tasks that do nothing on the same hosts."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.figures import Figure
from benchmarks.many import DISKS, FORKS, GUESTS, Many, many, whole

AUDIT = "xen.virtio.audit"
LIMIT = 3.0


def guest(name: str) -> dict[str, Any]:
    """A guest as its inventory declares it, and as it runs."""
    letters = "abcdefghijk"[:DISKS]
    disks = [{"vdev": f"xvd{one}", "target": f"/dev/vg/{name}-{one}", "backend": "DomD"} for one in letters]
    return {"name": name, "type": "pvh", "kernel": "{{ kernel }}", "memory": 64, "disks": disks}


def audited(fleet: Many, forks: int) -> list[Mapping[str, Any]]:
    """What the stopwatch noted of an audit that finds nothing to change."""
    fleet.forks = forks
    out = fleet.folder / "report"
    extra = {"xen_audit_dest": str(out), "xen_audit_max_severity": "error"}
    noted, _said = fleet.play(AUDIT, "-e", json.dumps(extra))
    report = json.loads((out / "audit.json").read_text())
    if report["summary"]["domains"] != fleet.hosts * (GUESTS + 1) or report["summary"]["findings"]["error"]:
        raise RuntimeError(f"another fleet was expected: {report['summary']}")
    codes = set(report["summary"]["codes"])
    if {one for one in codes if one.startswith("drift") or one == "not-compared"}:
        raise RuntimeError(f"the guests are as declared, and yet: {report['hosts'][0]['findings']}")
    return noted


def pings(fleet: Many, forks: int, tasks: int) -> float:
    """Seconds of so many tasks that do nothing."""
    fleet.forks = forks
    return fleet.pings(tasks)


def audit(hosts: int, machines: int, repetitions: int) -> Iterator[Figure]:
    """So many hosts, which are so many machines under several names; with Ansible's forks, and with one a host."""
    with many(hosts, machines) as fleet:
        fleet.variables = {
            "xen_guests": [guest(f"linux{number}") for number in range(GUESTS)],
            "xen_driver_domains": {"DomD": {}},
        }
        first = whole(audited(fleet, FORKS))
        for forks in (FORKS, hosts):
            rounds: list[tuple[float, float, float]] = []
            parts: dict[str, list[float]] = defaultdict(list)
            for _turn in range(repetitions):
                noted = audited(fleet, forks)
                rounds.append((whole(noted), pings(fleet, forks, 1), pings(fleet, forks, 3)))
                for name, seconds in _ends(noted).items():
                    parts[name].append(seconds)
            ours, one, three = (statistics.median(column) for column in zip(*rounds))
            group = f"{hosts} hosts over SSH, {forks} forks, cold connections"
            yield Figure(group, "an audit", ours, one, "ansible.builtin.ping", LIMIT)
            yield Figure(group, "an audit", ours, three, "three of these tasks")
            if forks == FORKS:
                yield Figure(group, "the first audit of these hosts", first, one, "ansible.builtin.ping")
            for name, times in parts.items():
                yield Figure(group, f"of it: {name}", statistics.median(times), one, "ansible.builtin.ping")


def _ends(noted: list[Mapping[str, Any]]) -> dict[str, float]:
    """Seconds of each task, from its start to the last host's answer."""
    found: dict[str, float] = defaultdict(float)
    for one in noted:
        if "task" in one:
            found[one["task"]] = max(found[one["task"]], one["seconds"])
    return dict(found)
