# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Launcher, views and daemons killed at random, guests that come and go, a store and a host that fail meanwhile.

No disk whose own daemon or view was not killed is lost, none ever has two writers, every lost one is told as lost.

XEN_VIRTIO_CHAOS_ROUNDS is how many rounds (500 before a release: ``make chaos``), XEN_VIRTIO_CHAOS_SEED which ones.
"""

from __future__ import annotations

import json
import os
import random
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import pytest
import standin
from guests import until
from lab import domains
from lab.machines import Machines
from launching import RUN, A, B, Backend, C, on_a_host

ROUNDS = int(os.environ.get("XEN_VIRTIO_CHAOS_ROUNDS", "30"))
SEED = int(os.environ.get("XEN_VIRTIO_CHAOS_SEED", "1"))
CALM = 10  # rounds between two moments at which everything has to be as it should
GUESTS = 6  # at a time
BOUND = 60.0  # seconds; generous, only to end a test that would hang
PROGRAM = "/usr/local/lib/virtio-disk/1.0/virtio-disk"

Key = tuple[int, int]


@pytest.fixture(scope="module")
def made(machines: Machines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    folder = tmp_path_factory.mktemp("chaos")
    program = standin.build(folder / "build", "1.0")
    with on_a_host(machines, "chaos", program, folder, "-E", "1500", "-W", "200") as backend:
        yield backend


@pytest.fixture
def chaos(made: Backend) -> Iterator[Chaos]:
    made.install()
    made.machine.run(["mkdir", "-p", "/srv/other"])
    made.machine.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", "/srv/other"])
    made.start_launcher()
    yield Chaos(made, random.Random(SEED))
    made.systemctl("stop", "virtio-disk@*.service")
    made.machine.run(["umount", "/srv/other"])
    made.clear()


@dataclass
class Fate:
    """What a test knows of a disk.

    Attributes:
        target: what it serves.
        daemon: the daemon that was seen to serve it, None before.
        lost: its daemon or its view was killed while it served.
    """

    target: str
    daemon: int | None = None
    lost: bool = False


class Chaos:
    """A backend, what should be there, and what goes wrong."""

    def __init__(self, backend: Backend, dice: random.Random) -> None:
        self.backend = backend
        self.dice = dice
        self.disks: dict[Key, Fate] = {}
        self.story: list[str] = []
        self.folder = "/srv"
        self.images: list[str] = []  # made beforehand
        # held while xenstored has nodes of a guest that it does not know yet
        self.introducing = threading.Lock()
        self._images = 0

    # ---- guests ----

    def create(self, targets: list[str] | None = None) -> None:
        """A guest with one to three disks; ``targets``: these."""
        with self.introducing:
            guest = self.backend.guest()
        if targets is None:
            targets = [self.image() for _disk in range(self.dice.randint(1, 3))]
        for devid, target in zip((A, B, C), targets):
            self.backend.plug(guest, devid, target)
            self.disks[guest, devid] = Fate(target)
        self.tell(f"guest {guest} with {', '.join(targets)}")

    def image(self) -> str:
        """A fresh one."""
        if self.images:
            return self.images.pop()
        self._images += 1
        path = f"{self.folder}/{self._images}.img"
        self.backend.machine.run(["truncate", "-s", "65536", path])
        return path

    def destroy(self, guest: int) -> list[str]:
        """As libxl does, which waits for daemons that are there; the targets it had."""
        mine = [key for key in self.disks if key[0] == guest]
        for _guest, devid in mine:
            self.backend.unplug(guest, devid)
        there = [key for key in mine if self.disks[key].daemon and not self.disks[key].lost]
        assert self.wait(lambda: all(self.backend.state(*key) is None for key in there)), "no daemon let go"
        self.backend.host.kill_domain(guest)
        self.backend.host.rm(f"{self.backend.top}/{guest}")
        self.tell(f"guest {guest} destroyed")
        return [self.disks.pop(key).target for key in mine]

    def guests(self) -> list[int]:
        return sorted({guest for guest, _devid in self.disks})

    def some_guest(self) -> int | None:
        return self.dice.choice(self.guests()) if self.disks else None

    # ---- what is killed ----

    def kill_launcher(self) -> None:
        pid = self.backend.launcher_pid()
        if pid:
            self.backend.machine.run(["kill", "-KILL", str(pid)], check=False)
        self.tell(f"launcher {pid} killed")

    def kill_of_disk(self, what: str) -> None:
        """The daemon or the view of a disk that is served."""
        served = sorted(key for key, fate in self.disks.items() if fate.daemon and not fate.lost)
        if not served:
            return
        key = self.dice.choice(served)
        record = self.backend.record(key)
        assert record is not None, f"the unit of {key} says nothing"
        self.disks[key].lost = True
        self.backend.kill(record[what])
        self.tell(f"{what} {record[what]} of {key} killed")

    # ---- one round ----

    def round(self) -> None:
        """Something happens."""
        deeds: list[Callable[[], None]] = self.dice.choices(
            [
                self.kill_launcher,
                lambda: self.kill_of_disk("daemon_pid"),
                lambda: self.kill_of_disk("view_pid"),
                self.come,
                self.go,
                self.reboot,
            ],
            [4, 3, 3, 3, 1, 3],
            k=self.dice.randint(1, 2),
        )
        for deed in deeds:
            deed()

    def come(self) -> None:
        if len(self.guests()) < GUESTS:
            self.create()
        else:
            self.go()

    def go(self) -> None:
        guest = self.some_guest()
        if guest is not None:
            self.destroy(guest)

    def reboot(self) -> None:
        """Gone, and at once there again under another domid."""
        guest = self.some_guest()
        if guest is not None:
            self.create(self.destroy(guest))

    # ---- what has to hold ----

    def calm(self) -> None:
        """Whatever is served is, by whom it was before; what was killed is told as lost; no two writers."""
        assert self.wait(lambda: self.backend.word() == "ready"), self.why("the launcher is not ready")
        for key, fate in self.disks.items():
            wanted = "lost" if fate.lost else "served"
            if not self.wait(lambda: self.backend.is_(wanted, key)):  # noqa: B023 - asked at once
                raise AssertionError(self.why(f"{key} should be {wanted}: {self.backend.said(key)}"))
        self.check()
        served = [key for key, fate in self.disks.items() if not fate.lost]
        assert self.wait(lambda: self.daemons_of(served) is not None), self.why(
            f"not {served} alone have daemons"
        )
        for key, pid in (self.daemons_of(served) or {}).items():
            self.disks[key].daemon = pid

    def look(self) -> tuple[set[int], dict[Key, int]]:
        """The daemons that run, and those that records name; one of a disk that is lost may be out of date."""
        done = self.backend.machine.run(["sh", "-c", f"pgrep -x virtio-disk; cat {RUN}/*.json"], check=False)
        lines = done.stdout.splitlines()
        alive = {int(line) for line in lines if line.isdigit()}
        records = [json.loads(line) for line in lines if line.startswith("{")]
        return alive, {(one["domid"], one["devid"]): one["daemon_pid"] for one in records}

    def daemons_of(self, served: list[Key]) -> dict[Key, int] | None:
        """The daemons of these disks, where they have one each and no other runs."""
        alive, recorded = self.look()
        daemons = {key: recorded.get(key, 0) for key in served}
        return daemons if set(daemons.values()) == alive and len(alive) == len(daemons) else None

    def check(self) -> None:
        """What holds at every moment."""
        alive, daemons = self.look()
        for key, fate in self.disks.items():
            if fate.daemon and not fate.lost:
                assert fate.daemon in alive, self.why(f"the daemon of {key} is gone")
                assert daemons.get(key) == fate.daemon, self.why(f"{key} has another daemon")
                assert self.backend.state(*key) == 2, self.why(f"{key} is not in state 2")
        if any(fate.daemon for fate in self.disks.values()):  # before, nobody has written into their log
            assert self.backend.clashes() == [], self.why("two writers")

    @staticmethod
    def wait(condition: Callable[[], bool]) -> bool:
        return until(condition, BOUND)

    def tell(self, text: str) -> None:
        self.story.append(text)

    def why(self, text: str) -> str:
        tale = "\n".join(self.story[-40:])
        journal = "\n".join(self.backend.machine.journal().splitlines()[-200:])
        return f"{text}\n(seed {SEED})\n{tale}\n{journal}"


def test_random_ends(chaos: Chaos) -> None:
    for number in range(ROUNDS):
        chaos.round()
        chaos.check()
        if number % CALM == CALM - 1:
            chaos.calm()
    chaos.calm()
    killed = sum("killed" in line for line in chaos.story)
    assert killed > ROUNDS / 4


# ---- with something else that fails ----


@contextmanager
def away(chaos: Chaos) -> Iterator[None]:
    """The daemon's program is not there."""
    chaos.backend.machine.run(["mv", PROGRAM, f"{PROGRAM}.away"])
    try:
        yield
    finally:
        chaos.backend.machine.run(["mv", f"{PROGRAM}.away", PROGRAM])


@contextmanager
def read_only(chaos: Chaos) -> Iterator[None]:
    """Where new images lie nothing can be written."""
    chaos.folder = "/srv/other"
    chaos.images = [chaos.image() for _image in range(12)]
    chaos.backend.machine.run(["mount", "-o", "remount,ro", chaos.folder])
    try:
        yield
    finally:
        chaos.backend.machine.run(["mount", "-o", "remount,rw", chaos.folder])


@contextmanager
def full(chaos: Chaos) -> Iterator[None]:
    """Not one more node for the driver domain, nor a watch."""
    with chaos.backend.full():
        yield


@contextmanager
def stopped(chaos: Chaos) -> Iterator[None]:
    """xenstored does not answer."""
    chaos.backend.host.xenstored.stop()
    try:
        yield
    finally:
        chaos.backend.host.xenstored.cont()


@contextmanager
def renewed(chaos: Chaos) -> Iterator[None]:
    """xenstored is updated again and again, but while a guest is made: that would be its end (test_lab_faults.py)."""
    over = threading.Event()

    def renew() -> None:
        while not over.wait(0.01):  # time for who waits for the lock to take it
            with chaos.introducing:
                chaos.backend.host.xenstored.live_update()

    with ThreadPoolExecutor() as pool:
        renewing = pool.submit(renew)
        try:
            yield
        finally:
            over.set()
        renewing.result()


@pytest.mark.parametrize("fault", [away, read_only, full, stopped, renewed], ids=lambda fault: fault.__name__)
def test_ends_while_something_else_fails(
    chaos: Chaos, fault: Callable[[Chaos], AbstractContextManager[None]]
) -> None:
    """Disks that come meanwhile are served when it is over; those that were there see nothing of it."""
    for _guest in range(3):
        chaos.create()
    chaos.calm()
    with fault(chaos):
        deeds: list[Callable[[], None]] = [chaos.kill_launcher, chaos.kill_launcher]
        deeds += [lambda: chaos.kill_of_disk("daemon_pid")]
        deeds += [lambda: chaos.kill_of_disk("view_pid")]
        deeds += [chaos.create] if fault in {away, read_only, renewed} else []
        chaos.dice.shuffle(deeds)
        for deed in deeds:
            deed()
            if fault is not stopped:
                chaos.check()
        if fault in {away, read_only}:
            late = [key for key, fate in chaos.disks.items() if fate.daemon is None]
            assert chaos.wait(lambda: chaos.backend.is_("waiting", *late)), chaos.why("not waiting")
            chaos.check()
    chaos.calm()
    chaos.create()
    for guest in chaos.guests():
        chaos.create(chaos.destroy(guest))
    chaos.calm()


def test_a_store_that_comes_back_empty(chaos: Chaos) -> None:
    """What was served is served on, the launcher killed or not: an empty store says nothing about guests."""
    for _guest in range(2):
        chaos.create()
    chaos.calm()
    backend = chaos.backend
    pids = backend.pids()
    backend.host.xenstored.restart()
    chaos.kill_launcher()
    give_back(backend)
    assert chaos.wait(lambda: backend.word() == "ready"), chaos.why("not ready")
    chaos.kill_launcher()
    assert chaos.wait(lambda: backend.launcher_pid() != 0 and backend.word() == "ready"), chaos.why(
        "not ready"
    )
    assert chaos.wait(lambda: backend.is_("served", *chaos.disks)), chaos.why("not told as served")
    assert backend.pids() == pids
    assert backend.clashes() == []


def give_back(backend: Backend) -> None:
    """What a toolstack writes of a driver domain, into a store that lost it."""
    with backend.host.store() as client:
        domains.write_toolstack(client, backend.domid, uuid.uuid4(), backend.domain.name)
    backend.domain.attach()
