# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The storage behind a target, as the very host that this runs on knows it: what it is, its names, its users.

Two paths can be one device: a symlink, a loop device and its file, a partition and its whole disk. And a
target can be mounted, swapped to, part of a volume. Only the domain that owns the storage can tell, so this
answers for the host it runs on and says nothing of others.

Nothing is read from the storage itself, and nothing is written anywhere. A block device that nobody is known
to use is opened for a moment, for reading and exclusively: the kernel refuses that where somebody holds the
device exclusively, as mounts (also those of other mount namespaces), volumes and RAID do. A virtio-disk daemon
opens what it serves without that flag (disk_image__open in its disk/core.c), hence is not taken for such a user.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterator
from typing import NamedTuple

from . import _sysfiles
from ._target import BLOCK, FILE, HELD, HOLDER, MISSING, MOUNT, OTHER, SWAP, UNKNOWN, Target, Use

#: Bytes of a sector in /sys/…/size, whatever the device's own (Linux, include/linux/blk_types.h).
_SECTOR = 512

_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})


# --- names ---------------------------------------------------------------------------------------------


def identify(backend_domid: int, target: str) -> frozenset[str]:
    """Names of the storage (device numbers, inodes); empty where it cannot be told.

    Args:
        backend_domid: only 0, the host this runs on, can be looked at.
        target: an absolute path.

    A whole disk carries a name for each of its partitions, so that it meets every one of them while two
    partitions do not meet each other.
    """
    if backend_domid != 0 or not os.path.isabs(target) or "\0" in target:
        return frozenset()
    try:
        return frozenset(_names(target, os.stat(target), depth=0))
    except (OSError, ValueError):
        return frozenset()


def _names(path: str, status: os.stat_result, depth: int) -> set[str]:
    if stat.S_ISREG(status.st_mode):
        return {f"file {status.st_dev:x}:{status.st_ino}"}
    if not stat.S_ISBLK(status.st_mode):
        return set()
    number = _number(status.st_rdev)
    names = {f"device {number}"}
    sysfs = f"/sys/dev/block/{number}"
    backing = _sysfiles.line(f"{sysfs}/loop/backing_file")
    if backing and depth < 4:
        with contextlib.suppress(OSError):
            names |= _names(backing, os.stat(backing), depth + 1)
    if os.path.exists(f"{sysfs}/partition"):
        whole = _sysfiles.line(f"{sysfs}/../dev")
        if whole:
            names.add(f"disk {whole} partition {number}")
    else:
        names.update(f"disk {number} partition {part}" for part in _partitions(sysfs))
    return names


def _number(device: int) -> str:
    return f"{os.major(device)}:{os.minor(device)}"


def _partitions(sysfs: str) -> list[str]:
    """The device numbers of a disk's partitions."""
    parts = (entry for entry in _sysfiles.entries(sysfs) if os.path.exists(f"{sysfs}/{entry}/partition"))
    return [number for number in (_sysfiles.line(f"{sysfs}/{entry}/dev") for entry in parts) if number]


# --- the kernel's tables -------------------------------------------------------------------------------


class Mount(NamedTuple):
    """A line of /proc/self/mountinfo (Linux, Documentation/filesystems/proc.rst)."""

    device: str  #: major:minor; major 0 where the file system has no device of its own (btrfs)
    where: str
    source: str


_OCTAL = re.compile(r"\\([0-7]{3})")


def _plain(text: str) -> str:
    r"""A path out of the kernel's tables, which write blanks and backslashes as ``\040`` and ``\134``."""
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), text)


def parse_mounts(table: str) -> list[Mount]:
    """The mounts of /proc/self/mountinfo; lines of another shape are left out."""
    found = []
    for line in table.splitlines():
        left, _dash, right = line.partition(" - ")
        fields, kind = left.split(" "), right.split(" ")
        if len(fields) >= 6 and len(kind) >= 2:
            found.append(Mount(fields[2], _plain(fields[4]), _plain(kind[1])))
    return found


def parse_swaps(table: str) -> list[str]:
    """The paths in /proc/swaps."""
    rows = (line.split() for line in table.splitlines()[1:])
    return [_plain(row[0]) for row in rows if len(row) >= 5]


# --- who uses it ---------------------------------------------------------------------------------------


class Storage:
    """What a host says of its storage; the tables that concern all targets are read once."""

    def __init__(self) -> None:
        self._mounted: dict[str, list[str]] | None = None
        self._swapped: dict[str, str] | None = None
        self._looped: dict[str, list[str]] | None = None

    def look(self, target: str) -> Target:
        """What is known of a target.

        Args:
            target: an absolute path; of anything else, and of what may not be looked at, the facts say so.
        """
        if not os.path.isabs(target) or "\0" in target:
            return Target(UNKNOWN, note="not an absolute path")
        try:
            status = os.stat(target)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in _GONE:
                return Target(MISSING)
            return Target(UNKNOWN, note=str(error))
        path = os.path.realpath(target)
        names = frozenset(_names(path, status, depth=0))
        if stat.S_ISREG(status.st_mode):
            readonly = bool(os.statvfs(path).f_flag & os.ST_RDONLY)
            return Target(FILE, path, status.st_size, readonly, names, tuple(self._uses(path, status)))
        if not stat.S_ISBLK(status.st_mode):
            return Target(OTHER, path)
        sysfs = f"/sys/dev/block/{_number(status.st_rdev)}"
        sectors, readonly_word = _sysfiles.line(f"{sysfs}/size"), _sysfiles.line(f"{sysfs}/ro")
        uses = tuple(self._uses(path, status))
        note = None
        if not uses:
            uses, note = _held(path, status.st_rdev)
        return Target(
            BLOCK,
            path,
            int(sectors) * _SECTOR if sectors and sectors.isdigit() else None,
            None if readonly_word is None else readonly_word != "0",
            names,
            uses,
            note,
        )

    def _uses(self, path: str, status: os.stat_result) -> list[Use]:
        """All known uses of the storage behind a path, each once."""
        found: dict[Use, None] = {}
        seen: set[str] = set()
        waiting = [(_key(status), True)]
        while waiting:
            key, covered = waiting.pop(0)
            if key in seen:
                continue
            label = _called(key) if seen else path
            seen.add(key)
            found.update(dict.fromkeys(self._direct(key, label)))
            waiting += self._beside(key, covered)
        return list(found)

    def _direct(self, key: str, label: str) -> Iterator[Use]:
        for where in self.mounted().get(key, ()):
            yield Use(MOUNT, where, label)
        swap = self.swapped().get(key)
        if swap is not None:
            yield Use(SWAP, swap, label)
        if not key.startswith("file "):
            for entry in sorted(_sysfiles.entries(f"/sys/dev/block/{key}/holders")):
                volume = _sysfiles.line(f"/sys/class/block/{entry}/dm/name")
                yield Use(HOLDER, f"/dev/{entry} ({volume})" if volume else f"/dev/{entry}", label)

    def _beside(self, key: str, covered: bool) -> Iterator[tuple[str, bool]]:
        """Other devices and files on the same storage: whoever uses them uses this.

        Each with whether the target covers all of it: of a disk that only holds the target's partition, the
        other partitions are no concern.
        """
        for loop in self.looped().get(key, ()):
            yield loop, covered
        if key.startswith("file "):
            return
        sysfs = f"/sys/dev/block/{key}"
        backing = _sysfiles.line(f"{sysfs}/loop/backing_file")
        below = _key_of(backing) if backing else None
        if below is not None:
            yield below, covered
        if os.path.exists(f"{sysfs}/partition"):
            disk = _sysfiles.line(f"{sysfs}/../dev")
            if disk:
                yield disk, False
        elif covered:
            for part in _partitions(sysfs):
                yield part, True

    def mounted(self) -> dict[str, list[str]]:
        """Mount points by what is mounted there."""
        if self._mounted is None:
            self._mounted = {}
            for mount in parse_mounts(_sysfiles.text("/proc/self/mountinfo")):
                key: str | None = mount.device
                if mount.device.startswith("0:"):
                    key = _key_of(mount.source) if mount.source.startswith("/dev/") else None
                if key is not None:
                    self._mounted.setdefault(key, []).append(mount.where)
        return self._mounted

    def swapped(self) -> dict[str, str]:
        """The swaps by what they are in."""
        if self._swapped is None:
            keys = ((_key_of(path), path) for path in parse_swaps(_sysfiles.text("/proc/swaps")))
            self._swapped = {key: path for key, path in keys if key is not None}
        return self._swapped

    def looped(self) -> dict[str, list[str]]:
        """The loop devices over each file or device."""
        if self._looped is None:
            self._looped = {}
            for name in _sysfiles.entries("/sys/block"):
                backing = (
                    _sysfiles.line(f"/sys/block/{name}/loop/backing_file")
                    if name.startswith("loop")
                    else None
                )
                over = _key_of(backing) if backing else None
                number = _sysfiles.line(f"/sys/block/{name}/dev")
                if over is not None and number:
                    self._looped.setdefault(over, []).append(number)
        return self._looped


def _key(status: os.stat_result) -> str:
    """What a device or file is known by here: ``major:minor``, or ``file`` with its file system and inode."""
    if stat.S_ISBLK(status.st_mode):
        return _number(status.st_rdev)
    return f"file {status.st_dev:x}:{status.st_ino}"


def _key_of(path: str) -> str | None:
    try:
        return _key(os.stat(path))
    except (OSError, ValueError):
        return None


def _called(key: str) -> str:
    """What to call a device or file that the target shares its storage with."""
    if key.startswith("file "):
        return key
    name = next(
        (
            line[len("DEVNAME=") :]
            for line in _sysfiles.text(f"/sys/dev/block/{key}/uevent").splitlines()
            if line.startswith("DEVNAME=")
        ),
        None,
    )
    return f"/dev/{name}" if name else f"device {key}"


def _held(path: str, device: int) -> tuple[tuple[Use, ...], str | None]:
    """Whether somebody holds a block device exclusively, and why that could not be told."""
    try:
        # for reading, so that closing it wakes no udev; it is given back at once
        os.close(os.open(path, os.O_RDONLY | os.O_EXCL | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        if error.errno == errno.EBUSY:
            return (Use(HELD, _openers(device), path),), None
        return (), f"cannot be opened: {error.strerror}"
    return (), None


def _openers(device: int) -> str:
    """The processes that have a device open, up to three; which of them holds it the kernel does not tell."""
    found: dict[str, str] = {}
    for pid in _sysfiles.entries("/proc"):
        for number in _sysfiles.entries(f"/proc/{pid}/fd") if pid.isdigit() and pid not in found else ():
            try:
                status = os.stat(f"/proc/{pid}/fd/{number}")
            except OSError:
                continue
            if stat.S_ISBLK(status.st_mode) and status.st_rdev == device:
                found[pid] = f"{_sysfiles.line(f'/proc/{pid}/comm') or 'a process'} ({pid})"
                break
    return ", ".join(list(found.values())[:3])
