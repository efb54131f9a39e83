# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the storage of a domain that ended is free again: never two writers on one target.

``xl destroy`` says that all went well although a backend did not close in time; libxl then removes the backend's
directory itself, and the daemon may write on. So that a directory is gone proves something only where it went
before libxl's limit. For a backend in dom0 the kernel knows better: which process has the target open.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ._layout import STATE_CLOSED, STATE_INIT_WAIT, STATE_INITIALISING, backend_path
from ._report import live_attachment
from ._settle import GONE
from ._snapshot import Domain, LiveDisk, Snapshot
from ._store import Store, StoreError, read

#: libxl's limit for a backend to close (LIBXL_DESTROY_TIMEOUT, tools/libs/light/libxl_internal.h), less what
#: reading a state may be late: a directory that lived longer in state 5 was not removed by its daemon.
_LIBXL_LIMIT = 9.0
_PAUSE = 0.05


@dataclass
class Watched:
    """A disk of a domain that is to end, and how it goes.

    Attributes:
        guest: its name.
        domid, backend, devid: its numbers.
        label, uuid: the backend domain's.
        vdev, target: the disk.
        writable: the guest may write to it.
        state: of the backend when last read, None for a directory that is gone.
        closed: it was seen closed by its daemon, or it never was in use.
        closing_since: moment of the clock at which it was first seen closing.
        idle: nobody served it when the end began.
        unserved: nobody does, whatever its state says: its launcher knows.
    """

    guest: str
    domid: int
    backend: int
    label: str
    uuid: str | None
    devid: int
    vdev: str
    target: str
    writable: bool
    state: str | None = None
    closed: bool = False
    closing_since: float | None = None
    idle: bool = False
    unserved: bool = False

    @property
    def gone(self) -> bool:
        """The backend's directory is not there any more."""
        return self.state is GONE

    def saw(self, state: str | None, now: float) -> None:
        """Its backend's state was read."""
        before, self.state = self.state, state
        if state == STATE_INIT_WAIT:
            self.idle = False
        if state == STATE_CLOSED:
            self.closed = True
        elif state is GONE:
            if before is not GONE and not self.closed:
                since = self.closing_since
                self.closed = since is None or now - since < _LIBXL_LIMIT
        elif state == "5" and self.closing_since is None:
            self.closing_since = now

    def as_held(self) -> dict[str, Any]:
        """For the guest's record, so that no later call forgets it."""
        return {
            "vdev": self.vdev,
            "target": self.target,
            "backend": self.label,
            "backend_domid": self.backend,
            "backend_uuid": self.uuid,
        }


class Departure:
    """The disks of a domain that is to end, watched until they are free.

    Args:
        store: a session.
        guest: the domain's name.
        domid: the domain.
        snapshot: with its disks.
        shared: device numbers of disks that others may write to as well.
        unserved: device numbers of disks whose launcher says that their daemon is gone.
    """

    def __init__(
        self,
        store: Store,
        guest: str,
        domid: int,
        snapshot: Snapshot,
        shared: Iterable[int] = (),
        *,
        unserved: Iterable[int] = (),
    ) -> None:
        self._store = store
        self._shared = frozenset(shared)
        self.disks = [_watched(guest, live, snapshot) for live in snapshot.disks_of(domid).values()]
        self.disks = [disk for disk in self.disks if disk.target]
        dead = frozenset(unserved)
        for disk in self.disks:
            disk.unserved = disk.devid in dead
            # not taken up, closed, or given up: only the daemon itself removes a directory of a domain that lives
            disk.idle = disk.state in (GONE, STATE_INITIALISING, STATE_CLOSED)

    def look(self) -> None:
        """Read all states once."""
        if not self.disks:
            return
        paths = [f"{backend_path(disk.backend, disk.domid, disk.devid)}/state" for disk in self.disks]
        replies = self._store.call([read(path) for path in paths])
        now = time.monotonic()
        for disk, reply in zip(self.disks, replies):
            if isinstance(reply, StoreError):
                if reply.code != "ENOENT":
                    raise reply
                disk.saw(GONE, now)
            else:
                disk.saw(reply.decode("latin-1"), now)

    def wait(self, seconds: float, ended: Callable[[], bool] | None = None) -> None:
        """Look until all directories are gone (and `ended` says so too), or the time is up."""
        deadline = time.monotonic() + seconds
        while True:
            self.look()
            if all(disk.gone for disk in self.disks) and (ended is None or ended()):
                return
            if time.monotonic() >= deadline:
                return
            time.sleep(_PAUSE)

    def unreleased(self, complaints: str, seconds: float) -> list[tuple[Watched, str]]:
        """The disks that may still be written to, each with the reason.

        Args:
            complaints: what ``xl destroy`` said about devices.
            seconds: how long processes of this host may take to let go.
        """
        found = []
        # of a disk that is only read, or meant for many, there is no second writer to fear
        alone = [disk for disk in self.disks if disk.writable and disk.devid not in self._shared]
        holders = wait_for_free({disk.target for disk in alone if disk.backend == 0}, seconds)
        for disk in alone:
            path = backend_path(disk.backend, disk.domid, disk.devid)
            if disk.backend == 0:
                # the kernel's word counts; a directory that stayed is only litter
                for holder in holders.get(disk.target, [])[:1]:
                    found.append((disk, f"{holder} on this host still has {disk.target} open for writing"))
            elif disk.idle or disk.unserved:
                continue
            elif not disk.gone:
                found.append((disk, f"its directory {path} is still there (state {disk.state})"))
            elif path in complaints or not disk.closed:
                found.append(
                    (disk, f"{disk.label} did not close it in time, and libxl removed {path} itself")
                )
        return found


def _watched(guest: str, live: LiveDisk, snapshot: Snapshot) -> Watched:
    shown = live_attachment(live)
    backend: Domain = snapshot.domain(shown.backend_domid)
    return Watched(
        guest=guest,
        domid=live.domid,
        backend=shown.backend_domid,
        label=backend.label,
        uuid=backend.uuid,
        devid=live.devid,
        vdev=shown.vdev,
        target=shown.target,
        writable=not shown.readonly,
        state=live.state,
    )


# --- processes of this host ------------------------------------------------------------------------------


def identity(target: str) -> tuple[str, int, int] | None:
    """What a target is to the kernel: the device of a block device, else device and inode; None for no file."""
    try:
        told = os.stat(target)
    except OSError:
        return None
    return _identity(told)


def _identity(told: os.stat_result) -> tuple[str, int, int] | None:
    if stat.S_ISBLK(told.st_mode):
        return "block", told.st_rdev, 0
    if stat.S_ISREG(told.st_mode):
        return "file", told.st_dev, told.st_ino
    return None


def writers(targets: Iterable[str], proc: str = "/proc") -> dict[str, list[str]]:
    """Which processes of this host have targets open for writing.

    Args:
        targets: paths of block devices and regular files; others have no writers.
        proc: where the kernel shows its processes.

    Returns:
        Target → ``process N (command)``, only for those that have one.
    """
    wanted: dict[tuple[str, int, int], list[str]] = {}
    for target in targets:
        key = identity(target)
        if key is not None:
            wanted.setdefault(key, []).append(target)
    found: dict[str, list[str]] = {}
    if not wanted:
        return found
    for pid in _numbers(proc):
        for key in _written_by(f"{proc}/{pid}", wanted):
            for target in wanted[key]:
                found.setdefault(target, []).append(f"process {pid} ({_command(f'{proc}/{pid}')})")
    return found


def _numbers(proc: str) -> list[int]:
    try:
        return sorted(int(name) for name in os.listdir(proc) if name.isdigit())
    except OSError:
        return []


def _written_by(process: str, wanted: Mapping[tuple[str, int, int], list[str]]) -> set[tuple[str, int, int]]:
    found: set[tuple[str, int, int]] = set()
    try:
        handles = os.listdir(f"{process}/fd")
    except OSError:  # it ended, or is not ours to look at
        return found
    for handle in handles:
        with contextlib.suppress(OSError, ValueError):
            key = _identity(os.stat(f"{process}/fd/{handle}"))
            if key is not None and key in wanted and _writes(f"{process}/fdinfo/{handle}"):
                found.add(key)
    return found


def _writes(info: str) -> bool:
    """Whether a descriptor was opened for writing (``flags`` in proc(5), octal)."""
    with open(info, encoding="ascii") as file:
        for line in file:
            key, _colon, value = line.partition(":")
            if key == "flags":
                return int(value, 8) & os.O_ACCMODE != os.O_RDONLY
    return True


def _command(process: str) -> str:
    try:
        with open(f"{process}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return "ended"


def wait_for_free(targets: Iterable[str], seconds: float) -> dict[str, list[str]]:
    """Wait until nobody on this host writes to targets; who still does when the time is up."""
    listed = list(targets)
    deadline = time.monotonic() + seconds
    while True:
        held = writers(listed)
        if not held or time.monotonic() >= deadline:
            return held
        time.sleep(_PAUSE * 2)
