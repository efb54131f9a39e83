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
from contextlib import contextmanager
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
from lab import LabHost

from benchmarks.figures import Figure
from benchmarks.scene import Scene, accepted, declared, scene

HERE = Path(__file__).resolve().parent
HOST = "board"
ADD, KEEP, DROP, PING = "add", "keep", "drop", "ping"
LOOP, SHELL = "single-disk tasks", "xenstore-write commands"

#: At most so many times ``ansible.builtin.ping`` on the same host.
LIMIT_ADD, LIMIT_KEEP = 2.5, 2.0


def tasks(disks: int, repetitions: int) -> Iterator[Figure]:
    """One task for all disks against a ping on the same host, in turns in one play."""
    with _stage(disks) as (scenery, folder):
        times = play(scenery.host, folder, _rounds(scenery, disks, repetitions))
    group = f"a task for {disks} disks, xenstored, pipelined"
    add, keep, ping = (statistics.median(times[name]) for name in (ADD, KEEP, PING))
    yield Figure(group, "new disks", add, ping, "ansible.builtin.ping", LIMIT_ADD)
    yield Figure(group, "unchanged disks", keep, ping, "ansible.builtin.ping", LIMIT_KEEP)
    yield Figure(group, "the first task of a play", times[ADD][0], ping, "ansible.builtin.ping")


def loops(disks: int) -> Iterator[Figure]:
    """The other ways of doing what one task does: a loop of single-disk tasks, and one of xenstore-write."""
    with _stage(disks) as (scenery, folder):
        times = play(scenery.host, folder, _ways(scenery, folder, disks))
    group = f"instead of a task for {disks} disks, xenstored, pipelined"
    add = statistics.median(times[ADD])
    yield Figure(group, f"{disks} {LOOP}", times[LOOP][0], add, "one task")
    yield Figure(group, SHELL, times[SHELL][0], add, "one task")


@contextmanager
def _stage(disks: int) -> Iterator[tuple[Scene, Path]]:
    with scene("c", disks) as scenery, tempfile.TemporaryDirectory(prefix="xen-bench-") as folder:
        yield scenery, Path(folder)


def play(host: LabHost, folder: Path, listed: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Seconds of each task of a play, by its name."""
    play = {"hosts": HOST, "gather_facts": False, "tasks": listed}
    (folder / "play.json").write_text(json.dumps([play]))
    variables = {"ansible_connection": "local", "ansible_python_interpreter": host.python}
    (folder / "inventory.json").write_text(json.dumps({"all": {"hosts": {HOST: variables}}}))
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
        if "task" not in entry:
            continue
        wrong = entry["failed"] or (entry["task"] in (ADD, LOOP) and not entry["changed"])
        if wrong or (entry["task"] == KEEP and entry["changed"]):
            raise RuntimeError(f"the task {entry['task']!r} did not do what it should: {entry}")
        times[entry["task"]].append(entry["seconds"])
    if done.returncode:
        raise RuntimeError(
            f"ansible-playbook ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr}"
        )
    return times


def _every(scenery: Scene, disks: int, **more: object) -> dict[str, Any]:
    """The task for all disks, but for its name."""
    options = {"wait": False, "xen": "4.20", "accept": accepted(scenery.guests), **more}
    return {"xen.virtio.disk": {"guests": declared(scenery.guests, disks), **options}}


def _rounds(scenery: Scene, disks: int, repetitions: int) -> list[dict[str, Any]]:
    one = [
        {"name": PING, "ansible.builtin.ping": {}},
        {"name": ADD, **_every(scenery, disks)},
        {"name": KEEP, **_every(scenery, disks)},
        {"name": DROP, **_every(scenery, disks, state="absent")},
    ]
    return [{"name": "warm up", "ansible.builtin.ping": {}}, *one * repetitions]


def _ways(scenery: Scene, folder: Path, disks: int) -> list[dict[str, Any]]:
    script = folder / "script"
    script.write_text("".join(f"{line}\n" for line in _commands(scenery, disks)))
    drop = {"name": DROP, **_every(scenery, disks, state="absent")}
    single = {
        "domain": "{{ item.0.domain }}",
        "disks": ["{{ item.1 }}"],
        "wait": False,
        "xen": "4.20",
        "accept": accepted(scenery.guests),
    }
    pairs = [[guest, disk] for guest in declared(scenery.guests, disks) for disk in guest["disks"]]
    return [
        *[{"name": ADD, **_every(scenery, disks)}, drop] * 3,
        {"name": LOOP, "xen.virtio.disk": single, "loop": pairs},
        drop,
        {"name": SHELL, "ansible.builtin.command": f"sh -e {script}"},
        {"name": KEEP, **_every(scenery, disks)},  # the commands made what the module makes
    ]


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
