# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What virtio-disk daemons serve: which daemon has which disk, as far as what it has open proves it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

#: States of a backend whose disk a daemon has in use (xen/include/public/io/xenbus.h): from the moment it says
#: InitWait until it says Closed. Closing is what libxl writes, and what the daemon takes no note of.
IN_USE = frozenset({"2", "3", "4", "5"})

#: What storage is to the kernel: a block device's number, or a file's device and inode.
Identity = tuple[str, int, int]


@dataclass(frozen=True)
class Daemon:
    """A process that is a virtio-disk daemon.

    Attributes:
        pid: its id; together with `started` it names one process for ever.
        started: clock ticks since boot (field 22 of /proc/PID/stat, proc(5)).
        command: its command line.
        exe: the program's path, None where it cannot be read. Ends in `` (deleted)`` where the file was replaced.
        unit: the systemd unit or scope that it belongs to, None where there is none.
        ours: domid and devid where it is in a unit of the launcher's.
        devid: the disk that its ``-d`` names, None where it takes the first that it finds.
        storage: what it has open of block devices and regular files; None where that cannot be read.
        devices: it has one of Xen's devices open (`DEVICES`); None where that cannot be read.
    """

    pid: int
    started: int
    command: str
    exe: str | None = None
    unit: str | None = None
    ours: tuple[int, int] | None = None
    devid: int | None = None
    storage: frozenset[Identity] | None = frozenset()
    devices: bool | None = False

    @property
    def label(self) -> str:
        """The daemon in a message."""
        return f"process {self.pid}" + (f" of {self.unit}" if self.unit else f" ({self.command})")


@dataclass(frozen=True)
class ServedDisk:
    """A disk in the backend's own tree.

    Attributes:
        domid, devid: its guest and its device number.
        state: of the backend.
        storage: what its target is to the kernel, None where that cannot be told.
        domain: the guest's name, None where this domain may not read it.
        target: as the node ``params`` has it.
    """

    domid: int
    devid: int
    state: str
    storage: Identity | None = None
    domain: str | None = None
    target: str = ""

    @property
    def label(self) -> str:
        """The disk in a message."""
        return f"disk {self.devid} of guest " + (
            f"{self.domain} (domain {self.domid})" if self.domain else str(self.domid)
        )


@dataclass(frozen=True)
class Service:
    """What a daemon does.

    Attributes:
        daemon: which.
        disks: those it serves; where nothing proves which, all that it may serve.
        idle: it serves none, which its open files prove.
    """

    daemon: Daemon
    disks: tuple[ServedDisk, ...] = field(default=())
    idle: bool = True


def services(daemons: Iterable[Daemon], disks: Iterable[ServedDisk]) -> list[Service]:
    """What each daemon does.

    Args:
        daemons: all of the host.
        disks: all of this domain's own tree; empty where the store does not answer.
    """
    listed = list(daemons)
    used = [disk for disk in disks if disk.state in IN_USE]
    proven = {daemon: _proven(daemon, used) for daemon in listed}
    spoken = {(disk.domid, disk.devid) for found in proven.values() for disk in found}
    spoken |= {daemon.ours for daemon in listed if daemon.ours is not None}
    open_ = [disk for disk in used if (disk.domid, disk.devid) not in spoken]
    result = []
    for daemon in listed:
        # a daemon says that it has a disk before it opens anything: then only its -d tells
        may = proven[daemon] or ([] if daemon.ours else [disk for disk in open_ if _could(daemon, disk)])
        holds = daemon.devices is not False or daemon.storage is None
        result.append(Service(daemon, tuple(may), idle=not may and not holds))
    return result


def _proven(daemon: Daemon, disks: Sequence[ServedDisk]) -> list[ServedDisk]:
    if daemon.ours is not None:
        return [disk for disk in disks if (disk.domid, disk.devid) == daemon.ours]
    held = daemon.storage or frozenset()
    return [disk for disk in disks if disk.storage in held and _could(daemon, disk)]


def _could(daemon: Daemon, disk: ServedDisk) -> bool:
    return daemon.devid is None or daemon.devid == disk.devid
