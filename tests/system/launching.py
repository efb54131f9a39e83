# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A driver domain as a machine with systemd, with the launcher and a daemon in it, and guests with disks."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import standin
from ansible_collections.xen.virtio.plugins.module_utils._backend_launcher_module import (
    ARGUMENT_SPEC,
    Files,
    plan,
)
from guests import BOUND, until
from lab import LabError, LabHost, LabUnavailable, wire
from lab.host import Daemon
from lab.machines import Machines
from lab.machines_pair import Dom0, DriverDomain
from standin.bench import Bench

DAEMON = "/usr/local/lib/virtio-disk/current/virtio-disk"
RUN = "/run/virtio-disk"
SERVICE = "virtio-disk-launcher.service"
A, B, C = 51712, 51728, 51744  # xvda, xvdb, xvdc
STARTING = "7d4958e842da4a758f6c1cdc7b36dcc5"  # a unit is about to start; systemd's sd-messages.h


def params(**options: Any) -> dict[str, Any]:
    """Options of the module backend_launcher, with its defaults, for a machine."""
    given = {name: spec.get("default") for name, spec in ARGUMENT_SPEC.items()}
    return {**given, "daemon": DAEMON, "version": "1.0", "python": "/usr/bin/python3", **options}


class Backend(Bench):
    """The driver domain of a lab host, or its dom0, with a launcher that runs.

    ``program`` is a stand-in; what it is told to do wrong is said by `misbehave`.
    """

    def __init__(self, domain: DriverDomain | Dom0, program: Path, root: Path) -> None:
        self.host = domain.host
        self._domain = domain
        self.machine = domain.machine
        self.program = program
        self.domid = domain.domid
        self.top = f"/local/domain/{self.domid}/backend/virtio_disk"
        self.written = self.machine.share / "standin.log"
        self.log = self.written
        self._root = root
        self._daemons = []
        self._guests: list[int] = []
        self._before = 0
        folder = "/usr/local/lib/virtio-disk"
        shutil.copy(program, self.machine.share / "virtio-disk")
        self.machine.run(["mkdir", "-p", f"{folder}/1.0", "/srv"])
        self.machine.run(["cp", "/lab/share/virtio-disk", f"{folder}/1.0/virtio-disk"])
        self.machine.run(["ln", "-sfn", "1.0", f"{folder}/current"])
        self.misbehave()

    @property
    def domain(self) -> DriverDomain:
        assert isinstance(self._domain, DriverDomain)
        return self._domain

    # ---- what is installed ----

    def install(self, **options: Any) -> Files:
        """What the module would put in place, put there."""
        given = params(**options)
        staged = {name: f"{self._root}{given[name]}" for name in ("unit_dir", "config_dir", "command_dir")}
        shutil.rmtree(self._root, ignore_errors=True)
        files = plan(given | staged | {"lib_dir": given["lib_dir"]})
        for number, change in enumerate(files.all):
            assert change.after is not None
            (self.machine.share / f"{number}").write_bytes(change.after)
            path = change.path.removeprefix(str(self._root))
            self.machine.run(["install", "-D", "-m", f"{change.mode:o}", f"/lab/share/{number}", path])
        self.machine.run(["systemctl", "daemon-reload"])
        return files

    def systemctl(self, *arguments: str, check: bool = True) -> str:
        return self.machine.run(["systemctl", *arguments], check=check).stdout

    def start_launcher(self) -> None:
        """And wait until it says that it is ready."""
        self.systemctl("start", SERVICE)
        said = f"{self._domain.path}/drivers/virtio-disk"
        assert until(lambda: self.word() == "ready"), f"{self.host.ls(said)}\n{self.machine.journal(SERVICE)}"

    def clear(self) -> None:
        """As it was at first: no guests, no units, nothing that goes wrong."""
        self.misbehave()
        for domid in self._guests:
            self.host.rm(f"{self.top}/{domid}")
            with contextlib.suppress(LabError):
                self.host.kill_domain(domid)
        self._guests.clear()
        self.systemctl("stop", SERVICE, "virtio-disk@*.service", check=False)
        self.machine.run(["sh", "-c", f"rm -rf {RUN} /srv/*; systemctl reset-failed"], check=False)
        self.written.unlink(missing_ok=True)
        self._before += len(self.starts())

    def misbehave(self, *lines: str) -> None:
        """As `standin.misbehave`, for the daemons in the machine."""
        text = "\n".join([f"log /lab/share/{self.written.name}", *lines, ""])
        self.machine.write(f"{DAEMON}.faults.new", text)
        self.machine.run(["sh", "-c", f"mv {DAEMON}.faults.new $(readlink -f {DAEMON}).faults"])

    # ---- guests ----

    def image(self, name: str, size: int = 65536) -> str:
        """A file to be served; its path in the machine."""
        path = f"/srv/{name}.img"
        self.machine.run(["truncate", "-s", str(size), path])
        return path

    def disk(self, target: str, devid: int = A, guest: int | None = None, **other: str) -> tuple[int, int]:
        """A disk of a guest, of a new one where none is named; its guest and number."""
        domid = self.guest() if guest is None else guest
        self.plug(domid, devid, target, **other)
        return domid, devid

    def destroy(self, guest: int, *, wait: bool = True) -> None:
        """As libxl: the frontends go, the backends get their time, and what is left goes."""
        for devid in self.directory(guest) or []:
            self.unplug(guest, int(devid))
        if wait:
            assert until(lambda: not self.directory(guest))
        self.host.kill_domain(guest)
        self.host.rm(f"{self.top}/{guest}")

    # ---- quotas ----

    @contextlib.contextmanager
    def full(self, *, nodes: bool = True, watches: int | None = 0) -> Iterator[None]:
        """Not one more node for the driver domain, and so many more watches; None: as many as ever."""
        home = f"{self._domain.path}/data"
        with wire.Client(self.view) as greedy:
            if nodes:  # in folders: one node takes some hundred children
                assert use_up(lambda number: greedy.write(f"data/{number % 50}/{number}", "full")) > 500
            if watches is not None:
                used = use_up(lambda number: greedy.watch("data", f"{number}"))
                for number in range(watches):
                    greedy.unwatch("data", f"{number}")
                assert used > 50
            try:
                yield
            finally:
                with self.host.store() as client:
                    client.remove(home)
                    client.mkdir(home)
                    client.set_permissions(home, [f"n{self.domid}"])

    # ---- what is said and done ----

    def word(self) -> str | None:
        text = self.host.read(f"{self._domain.path}/drivers/virtio-disk/status")
        return None if text is None else text.decode()

    def said(self, key: tuple[int, int]) -> str | None:
        """The launcher's line of a disk."""
        path = f"{self._domain.path}/drivers/virtio-disk/disks/{key[0]}-{key[1]}"
        text = self.host.read(path)
        return None if text is None else text.decode()

    def is_(self, status: str, *keys: tuple[int, int]) -> bool:
        return all((self.said(key) or "").split(" ")[0] == status for key in keys)

    def becomes(self, status: str, *keys: tuple[int, int], bound: float = BOUND) -> bool:
        """Whether the launcher says so of all of them, within the bound."""
        deadline = time.monotonic() + bound
        while time.monotonic() < deadline:
            if self.is_(status, *keys):
                return True
            time.sleep(0.05)
        told = {key: self.said(key) for key in keys}
        raise AssertionError(f"{told}\n{self.machine.journal()}")

    def record(self, key: tuple[int, int]) -> dict[str, Any] | None:
        """What a unit that runs says of itself."""
        done = self.machine.run(["cat", f"{RUN}/{key[0]}-{key[1]}.json"], check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def pids(self) -> dict[str, int]:
        """The daemons by their units."""
        done = self.machine.run(["sh", "-c", f"cat {RUN}/*.json"], check=False)
        records = [json.loads(line) for line in done.stdout.splitlines()]
        return {f"{one['domid']}-{one['devid']}": one["daemon_pid"] for one in records}

    def units(self) -> Mapping[str, str]:
        """The units that systemd has loaded, and how they are."""
        listed = self.systemctl("list-units", "--all", "--plain", "--no-legend", "virtio-disk@*")
        rows = [line.split() for line in listed.splitlines()]
        return {row[0].partition("@")[2].removesuffix(".service"): row[2] for row in rows}

    def files(self) -> Sequence[str]:
        """What lies in the launcher's own folder."""
        return self.machine.run(["ls", RUN]).stdout.split()

    def launcher_pid(self) -> int:
        return int(self.systemctl("show", "--property=MainPID", "--value", SERVICE))

    def kill(self, pid: int, signal: str = "KILL") -> None:
        self.machine.run(["kill", f"-{signal}", str(pid)])

    def starts(self) -> Sequence[str]:
        """Every unit of a disk since it was cleared, once for each start, as systemd tells it."""
        told = self.machine.journalctl(
            "--output=json", "--output-fields=UNIT", "_PID=1", f"MESSAGE_ID={STARTING}"
        )
        units = [json.loads(line)["UNIT"] for line in told.splitlines()]
        found = [re.fullmatch(r"virtio-disk@([0-9]+-[0-9]+)\.service", unit) for unit in units]
        return [unit[1] for unit in found if unit][self._before :]

    def clashes(self) -> list[standin.Event]:
        return standin.clashes(self.written)


def use_up(take: Callable[[int], None]) -> int:
    """As much as the quota gives; how much that was."""
    for number in range(100_000):
        try:
            take(number)
        except wire.WireError as error:
            if error.code not in {"ENOSPC", "E2BIG", "EQUOTA"}:
                raise
            return number
    raise AssertionError("there is no quota")


@contextlib.contextmanager
def on_a_host(
    machines: Machines, name: str, program: Path, folder: Path, *quotas: str, daemon: Daemon = "c"
) -> Iterator[Backend]:
    """A driver domain, the machine ``name``, on a lab host of its own; ``quotas`` are arguments of its xenstored."""
    try:
        with LabHost(folder / "host", daemon, daemon_args=quotas) as host:
            domain = DriverDomain(host, machines, "DomD", name)
            try:
                yield Backend(domain.start(), program, folder / "root")
            finally:
                domain.end()
    except LabUnavailable as reason:
        pytest.skip(f"{reason}")
