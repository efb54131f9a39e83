# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run over many guests that changes nothing, against a listing and three tasks that do nothing."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lab import LabHost

from benchmarks.figures import Figure, timed
from benchmarks.playbook import KEEP, PING, play

CREATE = "create"
#: So many tasks that do nothing, beside one ``xl list -l``, may a run over all guests cost.
TASKS = 3


def guests(count: int, disks: int, repetitions: int) -> Iterator[Figure]:
    """One task for so many running guests with so many virtio disks each."""
    with (
        tempfile.TemporaryDirectory(prefix="xen-bench-") as name,
        LabHost(Path(name) / "host", daemon_args=["--entry-nb", "8000"]) as host,
    ):
        host.add_domain("DomD", kind="toolstack")
        host.answer_backends(True)
        task = {"xen.virtio.guest": {"guests": _declared(host, count, disks), "accept": _accepted(count)}}
        rounds = [{"name": PING, "ansible.builtin.ping": {}}, {"name": KEEP, **task}]
        folder = Path(name)
        times = play(host, folder, [{"name": CREATE, **task}, *rounds * repetitions])
        listing = statistics.median(timed(lambda: host.xl("list", "-l")) for _turn in range(repetitions))
    keep, ping = statistics.median(times[KEEP]), statistics.median(times[PING])
    group = f"a task for {count} guests with {disks} disks each, xenstored, pipelined"
    yield Figure(
        group, "nothing to change", keep, listing + TASKS * ping, f"xl list -l and {TASKS} pings", 1.0
    )
    yield Figure(group, "xl list -l alone", listing, ping, "ansible.builtin.ping")
    yield Figure(group, "creating all of them", times[CREATE][0], keep, "nothing to change")


def _declared(host: LabHost, count: int, disks: int) -> list[dict[str, Any]]:
    return [
        {
            "name": f"guest{guest}",
            "type": "pvh",
            "kernel": host.kernel,
            "memory": 64,
            "disks": [
                {"vdev": f"d{number}p0", "target": f"/dev/vg0/disk{number}", "backend": "DomD"}
                for number in range(guest * disks, (guest + 1) * disks)
            ],
        }
        for guest in range(count)
    ]


def _accepted(count: int) -> list[dict[str, str]]:
    names = ["DomD", *(f"guest{guest}" for guest in range(count))]
    return [{"code": "quota", "domain": name, "reason": "raised at boot"} for name in names]
