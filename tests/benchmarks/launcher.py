# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The launcher in a driver domain with systemd: how soon a disk has its daemon, many at once, and what it takes."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import standin
from ansible_collections.xen.virtio.plugins.module_utils._view import GONE_CHECK
from guests import until
from lab import LabHost
from lab.machines import Machines
from lab.machines_pair import DriverDomain
from launching import A, Backend

from benchmarks.figures import Figure
from benchmarks.view import own, resident

REACTION = 0.05  # seconds
PEACE = 1.0  # seconds until launcher and systemd are done with the disk before
LIBXL = 10.0  # LIBXL_INIT_TIMEOUT (tools/libs/light/libxl_internal.h)
MEMORY = 40.0  # MB
VIEWS = 12.0  # MB each
IDLE = 10.0  # seconds
NAME = "DomD"
Key = tuple[int, int]


@contextmanager
def backend(folder: Path) -> Iterator[Backend]:
    """A driver domain whose quotas have room for a hundred disks."""
    program = standin.build(folder / "build", "1.0")
    with (
        Machines(folder / "machines") as machines,
        LabHost(folder / "host", daemon_args=["-E", "8000", "-W", "2000"]) as host,
    ):
        domain = DriverDomain(host, machines, NAME, NAME.lower())
        try:
            found = Backend(domain.start(), program, folder / "root")
            found.install()
            found.start_launcher()
            yield found
        finally:
            domain.end()


def launcher(guests: int, disks: int, repetitions: int) -> Iterator[Figure]:
    """So many disks, spread over so many guests, at once; before that one after the other."""
    with tempfile.TemporaryDirectory(prefix="xen-bench-") as name, backend(Path(name)) as here:
        reactions = [reaction(here) for _turn in range(repetitions)]
        group = "the launcher, one disk at a time"
        yield Figure(group, "new nodes to the daemon's start", statistics.median(reactions), limit=REACTION)
        yield Figure(group, "the slowest", max(reactions))
        group = f"the launcher, {disks} disks of {guests} guests at once"
        keys, waits = burst(here, guests, disks)
        yield Figure(group, "until the last one is in state 2", max(waits), limit=LIBXL)
        yield Figure(group, "half of them", statistics.median(waits))
        if not until(lambda: here.is_("served", *keys), 60):
            raise RuntimeError("not all disks are told as served")
        yield from footprint(here, group, keys)


def reaction(here: Backend) -> float:
    """Seconds from a disk's commit to its daemon's start, as the unit tells that."""
    image = here.image(f"{time.monotonic_ns()}")
    guest = here.guest()
    time.sleep(PEACE)
    here.plug(guest, A, image)
    since = time.time()
    here.becomes("served", (guest, A))
    record = here.record((guest, A))
    if record is None:
        raise RuntimeError("the unit says nothing of itself")
    here.destroy(guest)
    if not until(lambda: not here.units()):
        raise RuntimeError("the unit does not go")
    return float(record["started"]) - since


def burst(here: Backend, guests: int, disks: int) -> tuple[list[Key], list[float]]:
    """The disks, and how long each had to wait for state 2 after its own nodes were written."""
    numbers = [here.guest() for _guest in range(guests)]
    here.machine.run(["sh", "-c", f"for i in $(seq {disks}); do truncate -s 65536 /srv/burst$i.img; done"])
    keys = [(numbers[number % guests], A + 16 * (number // guests)) for number in range(disks)]
    written: dict[Key, float] = {}
    waits: dict[Key, float] = {}
    with here.host.store() as client:
        client.watch(here.top, "states")
        for number, key in enumerate(keys, 1):
            here.plug(*key, f"/srv/burst{number}.img")
            written[key] = time.monotonic()
        while len(waits) < disks:
            event = client.event(LIBXL * 3)
            if event is None:
                late = {key: here.said(key) for key in keys if key not in waits}
                raise RuntimeError(f"{len(late)} of {disks} disks were not taken up: {late}")
            if event[0].endswith("/state") and client.read(event[0]) == b"2":
                guest, devid, _node = event[0].rsplit("/", 3)[1:]
                waits.setdefault((int(guest), int(devid)), time.monotonic() - written[int(guest), int(devid)])
    return keys, list(waits.values())


def footprint(here: Backend, group: str, keys: list[Key]) -> Iterator[Figure]:
    """Memory, and the CPU time that nothing to do takes."""
    main = outside(here, here.launcher_pid())
    views = [outside(here, record["view_pid"]) for key in keys if (record := here.record(key))]
    yield Figure(group, "resident memory of the launcher", resident(main), limit=MEMORY, unit="MB")
    sizes = [resident(pid) for pid in views]
    yield Figure(group, "of the largest view", max(sizes), limit=VIEWS, unit="MB")
    yield Figure(group, "of all views, what they do not share", sum(own(pid) for pid in views), unit="MB")
    time.sleep(GONE_CHECK + 1.0)  # a view looks once more after a change of its disk's nodes
    before = [ticks(pid) for pid in (main, *views)]
    time.sleep(IDLE)
    used = [ticks(pid) - earlier for pid, earlier in zip((main, *views), before)]
    yield Figure(group, f"CPU of the launcher in {IDLE:g} s with nothing to do", used[0], limit=0.0)
    yield Figure(group, "CPU of all views", sum(used[1:]), limit=0.0)


def outside(here: Backend, pid: int) -> int:
    """The process id out here of one in the machine."""
    space = here.machine.run(["readlink", f"/proc/{pid}/ns/pid"]).stdout.strip()
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and os.readlink(f"/proc/{entry}/ns/pid") == space:
                status = Path(f"/proc/{entry}/status").read_text()
                if next(line for line in status.splitlines() if line.startswith("NSpid")).split()[-1] == str(
                    pid
                ):
                    return int(entry)
        except OSError:
            continue
    raise RuntimeError(f"process {pid} of the machine is not to be found")


def ticks(pid: int) -> float:
    """CPU time of a process so far, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
