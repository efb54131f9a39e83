# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""virtio-disk daemons among the processes of this host: the launcher's own, and those that somebody else runs.

A daemon that the launcher does not know of sees every disk of the domain, takes up what it likes, and destroys
disks that two have taken up. So nothing of ours runs beside one. Whether such a daemon serves a guest is told by
what it has open: storage of a disk, or Xen's devices. In doubt it serves.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import select
import shlex
import signal
import stat
import time
from collections.abc import Collection, Iterable, Sequence

from ._served import Daemon, Identity

#: What the daemon is called (TARGET in its Makefile).
NAME = "virtio-disk"

#: A unit of the launcher: the guest's domid and the disk's device number.
UNIT = re.compile(r"virtio-disk@(\d{1,5})-(\d{1,10})\.service")

#: What a daemon opens when it takes up a disk, and not before (demu.c of xen-troops/virtio-disk).
DEVICES = ("/dev/xen/evtchn", "/dev/xen/privcmd", "/dev/xen/gntdev")

#: Seconds that a daemon gets to end by itself; one that hangs at SIGTERM is known.
END_TIMEOUT = 3.0
_PAUSE = 0.05

#: Programs whose second argument is the one that runs.
_INTERPRETER = re.compile(r"(?:ba|da|a)?sh|busybox|perl|python[0-9.]*")

#: Of one process.
_COMMAND_LIMIT = 4096


def unit_of(cgroups: str) -> str | None:
    """The unit in which a process runs, out of /proc/PID/cgroup of either version; None outside of any.

    A service or a scope, not the slice that they lie in; a cgroup that the service made below its own is its own.
    """
    for line in cgroups.splitlines():
        _number, _colon, rest = line.partition(":")
        controllers, _colon, path = rest.partition(":")
        if controllers in {"", "name=systemd"}:
            for part in reversed(path.split("/")):
                if part.endswith((".service", ".scope")):
                    return part
    return None


def devid_option(arguments: Sequence[str]) -> int | None:
    """The device number that a daemon was started for; None for the first that it finds.

    The daemon's own reading: ``-d N`` and ``-dN``; of the long option only ``--devid=N``, since it takes its value
    as optional (getopt_long(3)). Behind several, the last counts.
    """
    found = None
    listed = list(arguments)
    for index, argument in enumerate(listed):
        text = None
        if argument == "--":
            break
        if argument == "-d":
            text = listed[index + 1] if index + 1 < len(listed) else ""
        elif argument.startswith("-d"):
            text = argument[2:]
        elif argument.startswith("--devid="):
            text = argument[len("--devid=") :]
        if text is not None:
            found = int(text) if text.isdigit() and len(text) <= 10 else None
    return found


def is_daemon(exe: str | None, arguments: Sequence[str], names: Collection[str]) -> bool:
    """Whether a process is a daemon, by its program, by what it was called with, or by the script that it runs."""
    if exe is not None and os.path.basename(exe.partition(" (deleted)")[0]) in names:
        return True
    called = [os.path.basename(argument) for argument in arguments[:2]]
    if called and called[0] in names:
        return True
    return len(called) == 2 and called[1] in names and _INTERPRETER.fullmatch(called[0]) is not None


# --- the processes of this host ----------------------------------------------------------------------------


def find(names: Iterable[str] = (), proc: str = "/proc", owner: int = 0) -> list[Daemon]:
    """The daemons of this host, by pid; what ends meanwhile is left out.

    Args:
        names: what daemons are called beside `NAME`.
        proc: where the kernel shows processes.
        owner: whose processes count. A daemon can do nothing without being root, and a user's process of that name
            shall keep nobody from anything.
    """
    wanted = {NAME, *names}
    found = []
    for pid in _pids(proc):
        folder = f"{proc}/{pid}"
        with contextlib.suppress(OSError, ValueError, IndexError):
            exe = _link(f"{folder}/exe")
            arguments = _arguments(folder)
            if is_daemon(exe, arguments, wanted) and _owner(folder) == owner:
                found.append(_daemon(pid, folder, exe, arguments))
    return found


def foreign(names: Iterable[str] = (), proc: str = "/proc", owner: int = 0) -> list[Daemon]:
    """Those that are in no unit of the launcher's."""
    return [daemon for daemon in find(names, proc, owner) if daemon.ours is None]


def _daemon(pid: int, folder: str, exe: str | None, arguments: Sequence[str]) -> Daemon:
    state, started = _stat(folder)
    if state in {"Z", "X"}:
        raise ValueError("it ended")
    unit = unit_of(_text(f"{folder}/cgroup")) if os.path.exists(f"{folder}/cgroup") else None
    ours = UNIT.fullmatch(unit or "")
    storage, devices = _open_files(folder)
    return Daemon(
        pid=pid,
        started=started,
        command=" ".join(map(shlex.quote, arguments)),
        exe=exe,
        unit=unit,
        ours=(int(ours[1]), int(ours[2])) if ours else None,
        devid=devid_option(arguments[1:]),
        storage=storage,
        devices=devices,
    )


def identity_of(target: str) -> Identity | None:
    """What a target is to the kernel; None for what is neither a block device nor a regular file."""
    try:
        return _identity(os.stat(target))
    except (OSError, ValueError):
        return None


def _identity(told: os.stat_result) -> Identity | None:
    if stat.S_ISBLK(told.st_mode):
        return "block", told.st_rdev, 0
    if stat.S_ISREG(told.st_mode):
        return "file", told.st_dev, told.st_ino
    return None


def _open_files(folder: str) -> tuple[frozenset[Identity] | None, bool | None]:
    try:
        handles = os.listdir(f"{folder}/fd")
    except OSError:
        return None, None
    storage: set[Identity] = set()
    devices = False
    for handle in handles:
        path = f"{folder}/fd/{handle}"
        # its own name for it, so that a daemon in a mount namespace of its own is seen as well
        devices = devices or _link(path) in DEVICES
        with contextlib.suppress(OSError):
            key = _identity(os.stat(path))
            if key is not None:
                storage.add(key)
    return frozenset(storage), devices


def _pids(proc: str) -> list[int]:
    try:
        return sorted(int(name) for name in os.listdir(proc) if name.isdigit())
    except OSError:
        return []


def _owner(folder: str) -> int:
    """The effective user (line ``Uid`` of /proc/PID/status: real, effective, saved, file system)."""
    for line in _text(f"{folder}/status").splitlines():
        if line.startswith("Uid:"):
            return int(line.split()[2])
    raise ValueError("no Uid")


def _stat(folder: str) -> tuple[str, int]:
    # the name in brackets may itself hold brackets and blanks
    fields = _text(f"{folder}/stat").rpartition(")")[2].split()
    return fields[0], int(fields[19])


def _arguments(folder: str) -> list[str]:
    # the launcher looks through all processes before each start: no file objects
    handle = os.open(f"{folder}/cmdline", os.O_RDONLY | os.O_CLOEXEC)
    try:
        raw = os.read(handle, _COMMAND_LIMIT)
    finally:
        os.close(handle)
    return raw.rstrip(b"\0").decode("utf-8", "backslashreplace").split("\0") if raw else []


def _link(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


# --- ending one ------------------------------------------------------------------------------------------


def end(daemon: Daemon, proc: str = "/proc", timeout: float = END_TIMEOUT) -> str | None:
    """End this very process: SIGTERM, and SIGKILL where that does not help in time.

    Returns:
        Why it still runs, None where it is gone.
    """
    try:
        handle = os.pidfd_open(daemon.pid)  # from here on the number cannot become another process
    except ProcessLookupError:
        return None
    except OSError as error:
        if error.errno == errno.ENOSYS:  # before Linux 5.3
            return _end_by_number(daemon, proc, timeout)
        return f"{daemon.label} cannot be ended: {error.strerror}"
    try:
        return None if _is_another(daemon, proc) else _end(handle, daemon, timeout)
    finally:
        os.close(handle)


def _is_another(daemon: Daemon, proc: str) -> bool:
    """Whether the number belongs to another process by now, or to none that runs."""
    try:
        state, started = _stat(f"{proc}/{daemon.pid}")
        return started != daemon.started or state in {"Z", "X"}
    except (OSError, ValueError, IndexError):
        return True


def _end(handle: int, daemon: Daemon, timeout: float) -> str | None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            return None
        except OSError as error:
            return f"{daemon.label} cannot be ended: {error.strerror}"
        if select.select([handle], [], [], timeout)[0]:
            return None
    return _stays(daemon)


def _stays(daemon: Daemon) -> str:
    return f"{daemon.label} did not end, not even of SIGKILL"


def _end_by_number(daemon: Daemon, proc: str, timeout: float) -> str | None:
    """The same where a process has no name but its number, which is looked at before each signal."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + timeout
        try:
            if _is_another(daemon, proc):
                return None
            os.kill(daemon.pid, number)
        except ProcessLookupError:
            return None
        except OSError as error:
            return f"{daemon.label} cannot be ended: {error.strerror}"
        while time.monotonic() < deadline:
            if _is_another(daemon, proc):
                return None
            time.sleep(_PAUSE)
    return _stays(daemon)
