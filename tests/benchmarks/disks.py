# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Provisioning as the module's own code does it, without Ansible's start, against the leanest client."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

from ansible_collections.xen.virtio.plugins.module_utils._disk import run
from ansible_collections.xen.virtio.plugins.module_utils._disk_module import job_of
from ansible_collections.xen.virtio.plugins.module_utils._report import Result
from ansible_collections.xen.virtio.plugins.module_utils._store import Store
from provisioning import DEFAULTS, NoXl, userdata

from benchmarks.figures import Figure, interleaved, timed
from benchmarks.lean import Recorder, Script
from benchmarks.scene import Scene, accepted, declared, scene

Daemon = Literal["c", "o"]
NAMES = {"c": "xenstored", "o": "oxenstored"}

#: At most so many times the leanest client's time, at every number of disks.
LIMIT_PROVISION = 1.5
#: A run that changes nothing takes at most this part of the run that provisioned.
LIMIT_UNCHANGED = 0.5


def parameters(scenery: Scene, disks: int) -> dict[str, Any]:
    """The module's options for so many disks."""
    return {
        **DEFAULTS,
        "guests": [{"exclusive": False, **entry} for entry in declared(scenery.guests, disks)],
        "accept": [{"vdev": None, **entry} for entry in accepted(scenery.guests)],
        "wait": False,
        "xen": "4.20",
        "userdata_dir": userdata(scenery.host),
    }


def provision(params: dict[str, Any], store: Store, *, permissions: bool = True) -> Result:
    """What the module does between its options and its result."""
    job = job_of(params)
    result = run(job if permissions else replace(job, permissions=False), store, NoXl())
    if result.failed is not None:
        raise RuntimeError(result.failed)
    result.as_dict()
    return result


def _ours(params: dict[str, Any], path: str, *, changed: bool = True, permissions: bool = True) -> float:
    def work() -> None:
        with Store(path) as store:
            assert provision(params, store, permissions=permissions).changed is changed

    return timed(work)


def record(daemon: Daemon, disks: int) -> tuple[Script, int]:
    """What our code sends for so many disks, and how many nodes the store has then."""
    with scene(daemon, disks) as scenery:
        store = Recorder(scenery.host.socket)
        with store:
            provision(parameters(scenery, disks), store)
        script = Script(store.sent)
        return script, len(scenery.host.ls("/"))


def provisioning(daemon: Daemon, sizes: tuple[int, ...], repetitions: int) -> Iterator[Figure]:
    """N disks into a store without any, ours and the lean client's in turns."""
    group = f"provisioning, {NAMES[daemon]}"
    found: dict[int, tuple[float, float]] = {}
    for disks in sizes:
        script, nodes = record(daemon, disks)

        rounds = {1: 50, 10: 20}.get(disks, 1)
        times = [_in_turns(daemon, disks, script, nodes, rounds) for _scene in range(max(3, repetitions))]
        one, other = (statistics.median(column) for column in zip(*times))
        found[disks] = one, other
        yield Figure(
            group,
            f"{disks} disks ({script.operations} operations)",
            one,
            other,
            "lean client",
            LIMIT_PROVISION,
        )
    if 100 in found and 1000 in found:
        yield Figure(
            group,
            "1000 against 100, ours",
            found[1000][0],
            found[100][0],
            f"lean client: {found[1000][1] / found[100][1]:.1f}x",
        )


def _in_turns(daemon: Daemon, disks: int, script: Script, nodes: int, rounds: int) -> list[float]:
    """The median seconds of ours and of the lean client's on one host, whose disks go after each turn.

    Where a turn takes a few milliseconds one is not enough: the first ones on a fresh host measure how long
    its processes take to find their memory.
    """
    with scene(daemon, disks) as scenery:
        params = parameters(scenery, disks)
        path = scenery.host.socket

        def cleared(seconds: float) -> float:
            if len(scenery.host.ls("/")) != nodes:
                raise RuntimeError("the lean client did not make what our code made")
            with Store(path) as store:
                provision({**params, "state": "absent"}, store)
            return seconds

        def ours() -> float:
            with Store(path) as store:
                run(job_of(params, check=True), store, NoXl())  # as the lean client, which looks first
            return cleared(_ours(params, path))

        def lean() -> float:
            script.look(path)
            return cleared(timed(lambda: script.replay(path)))

        return interleaved(rounds, ours, lean)


def unchanged(disks: int, repetitions: int) -> Iterator[Figure]:
    """A run over disks that are there already, with and without a look at permissions."""
    limit = LIMIT_UNCHANGED if disks >= 1000 else None
    times: list[tuple[float, float, float]] = []
    for _repetition in range(repetitions):
        with scene("c", disks) as scenery:
            params = parameters(scenery, disks)
            path = scenery.host.socket
            times.append(
                (
                    _ours(params, path),
                    _ours(params, path, changed=False),
                    _ours(params, path, changed=False, permissions=False),
                )
            )
    made, compared, values = (statistics.median(column) for column in zip(*times))
    group = f"a run that changes nothing, {disks} disks, xenstored"
    yield Figure(group, "permissions not compared", values, made, "provisioning", limit)
    yield Figure(group, "permissions compared", compared, made, "provisioning", limit)
