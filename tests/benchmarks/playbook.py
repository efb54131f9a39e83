# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tasks of a real ansible-playbook on a lab host: one for many disks against the other ways of doing it."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible_collections.xen.virtio.plugins.module_utils._layout import (
    BACKEND,
    FRONTEND,
    RECORD,
    Attachment,
    Schema,
    nodes,
    paths,
    permissions,
)
from ansible_runs import environment

from benchmarks.figures import Figure
from benchmarks.scene import Scene, accepted, declared, scene

HERE = Path(__file__).resolve().parent
HOST = "board"
ADD, KEEP, DROP, PING = "add", "keep", "drop", "ping"
LOOP, SHELL = "single-disk tasks", "xenstore-write commands"

#: At most so many times ``ansible.builtin.ping`` on the same host.
LIMIT_ADD, LIMIT_KEEP = 2.5, 2.0


def tasks(disks: int, repetitions: int) -> Iterator[Figure]:
    """One task for all disks against a ping, a loop of single-disk tasks, and a loop of xenstore-write."""
    with scene("c", disks) as scenery, tempfile.TemporaryDirectory(prefix="xen-bench-") as folder:
        times = _play(scenery, Path(folder), disks, repetitions)
    median = {name: statistics.median(found) for name, found in times.items()}
    group = f"a task for {disks} disks, xenstored, pipelined"
    yield Figure(group, "new disks", median[ADD], median[PING], "ansible.builtin.ping", LIMIT_ADD)
    yield Figure(group, "unchanged disks", median[KEEP], median[PING], "ansible.builtin.ping", LIMIT_KEEP)
    yield Figure(group, "the first task of a play", times[ADD][0], times[PING][0], "ansible.builtin.ping")
    yield Figure(group, f"{disks} {LOOP}", median[LOOP], median[ADD], "new disks by one task")
    yield Figure(group, SHELL, median[SHELL], median[ADD], "new disks by one task")


def _play(scenery: Scene, folder: Path, disks: int, repetitions: int) -> dict[str, list[float]]:
    """Seconds of each task, by its name."""
    (folder / "play.json").write_text(json.dumps(_playbook(scenery, folder, disks, repetitions)))
    host = {"ansible_connection": "local", "ansible_python_interpreter": scenery.host.python}
    (folder / "inventory.json").write_text(json.dumps({"all": {"hosts": {HOST: host}}}))
    record = folder / "times"
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(folder / "inventory.json")]
    done = subprocess.run(
        [*command, str(folder / "play.json")],
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={
            **environment(folder),
            "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callback"),
            "ANSIBLE_CALLBACKS_ENABLED": "stopwatch",
            "STOPWATCH": str(record),
        },
    )
    times: dict[str, list[float]] = defaultdict(list)
    for line in record.read_text().splitlines() if record.exists() else ():
        entry = json.loads(line)
        wrong = entry["failed"] or (entry["task"] in (ADD, LOOP) and not entry["changed"])
        if wrong or (entry["task"] == KEEP and entry["changed"]):
            raise RuntimeError(f"the task {entry['task']!r} did not do what it should: {entry}")
        times[entry["task"]].append(entry["seconds"])
    if done.returncode or SHELL not in times:
        raise RuntimeError(
            f"ansible-playbook ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr}"
        )
    return times


def _playbook(scenery: Scene, folder: Path, disks: int, repetitions: int) -> list[dict[str, Any]]:
    guests = declared(scenery.guests, disks)
    options = {"wait": False, "xen": "4.20", "accept": accepted(scenery.guests)}
    every = {"xen.virtio.disk": {"guests": guests, **options}}
    absent = {"name": DROP, "xen.virtio.disk": {"guests": guests, "state": "absent", "xen": "4.20"}}
    single = [{"domain": guest["domain"], "disk": disk} for guest in guests for disk in guest["disks"]]
    script = folder / "script"
    script.write_text("".join(f"{line}\n" for line in _commands(scenery, disks)))
    listed: list[dict[str, Any]] = [{"name": "warm up", "ansible.builtin.ping": {}}]
    for _repetition in range(repetitions):
        listed += [
            {"name": PING, "ansible.builtin.ping": {}},
            {"name": ADD, **every},
            {"name": KEEP, **every},
            absent,
        ]
    listed += [
        {
            "name": LOOP,
            "xen.virtio.disk": {"domain": "{{ item.domain }}", "disks": ["{{ item.disk }}"], **options},
            "loop": single,
        },
        absent,
        {"name": SHELL, "ansible.builtin.command": f"sh -e {script}"},
        {"name": "look", **every, "register": "looked"},
        {
            "name": "the commands made what the module makes",
            "ansible.builtin.assert": {"that": "looked is not changed"},
        },
    ]
    return [{"hosts": HOST, "gather_facts": False, "tasks": listed}]


def _commands(scenery: Scene, disks: int) -> Iterator[str]:
    """The same nodes by the command line tools, one process an operation."""
    backend = 1  # the scene's driver domain is the host's first
    for guest, entry in zip(scenery.guests, declared(scenery.guests, disks)):
        for index, one in enumerate(entry["disks"]):
            number = int(one["vdev"][1:].partition("p")[0])
            devid = 51712 + 16 * number if number < 16 else (1 << 28) + 256 * number
            disk = Attachment(
                guest,
                backend,
                devid,
                one["vdev"],
                one["target"],
                readonly=False,
                base=0x2000000 + 0x200 * index,
                irq=33 + index,
                grant_usage=True,
            )
            wanted, perms, tops = nodes(disk, Schema()), permissions(disk), paths(disk)
            for tree in (RECORD, FRONTEND, BACKEND):
                yield f"xenstore-write {tops[tree]} ''"
                yield f"xenstore-chmod {tops[tree]} {' '.join(perms[tree])}"
                for name, value in wanted[tree].items():
                    yield f"xenstore-write {tops[tree]}/{name} {value}"
