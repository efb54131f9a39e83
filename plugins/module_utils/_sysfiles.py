# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files and folders of procfs, sysfs and the system, of which any may be missing, or go meanwhile."""

from __future__ import annotations

import os


def text(path: str) -> str:
    """All of a file; empty where it cannot be read. Bytes that are not UTF-8 are kept as surrogates."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def line(path: str) -> str | None:
    """The first line of a file without its end; None where it cannot be read or is empty."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.readline().rstrip("\n") or None
    except OSError:
        return None


def entries(folder: str) -> list[str]:
    """The names in a folder; none where it cannot be read."""
    try:
        return os.listdir(folder)
    except OSError:
        return []
