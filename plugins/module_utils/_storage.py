# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Under which names the storage behind a target is known on this very host.

Two paths can be one device: a symlink, a loop device and its file, a partition and its whole disk. Only
the domain that owns the storage can tell, so this answers for dom0's targets and says nothing of others.
"""

from __future__ import annotations

import contextlib
import os
import stat


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
        return frozenset(_names(target, depth=0))
    except OSError:
        return frozenset()


def _names(path: str, depth: int) -> set[str]:
    status = os.stat(path)
    if stat.S_ISREG(status.st_mode):
        return {f"file {status.st_dev:x}:{status.st_ino}"}
    if not stat.S_ISBLK(status.st_mode):
        return set()
    number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    names = {f"device {number}"}
    sysfs = f"/sys/dev/block/{number}"
    backing = _line(f"{sysfs}/loop/backing_file")
    if backing and depth < 4:
        with contextlib.suppress(OSError):
            names |= _names(backing, depth + 1)
    if os.path.exists(f"{sysfs}/partition"):
        whole = _line(f"{sysfs}/../dev")
        if whole:
            names.add(f"disk {whole} partition {number}")
    else:
        for entry in _entries(sysfs):
            part = _line(f"{sysfs}/{entry}/dev") if os.path.exists(f"{sysfs}/{entry}/partition") else None
            if part:
                names.add(f"disk {number} partition {part}")
    return names


def _line(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.readline().rstrip("\n") or None
    except OSError:
        return None


def _entries(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []
