# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make one folder as another, and leave files alone that are the same: ``renew.py FROM TO``."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path


def files(folder: Path) -> dict[Path, bytes]:
    """What lies below a folder, by its path there."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def renew(source: Path, target: Path) -> None:
    """``target`` has the files of ``source``, and no others."""
    wanted, there = files(source), files(target) if target.exists() else {}
    for path in there.keys() - wanted.keys():
        (target / path).unlink()
    for path, content in wanted.items():
        if there.get(path) != content:
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / path, target / path)


if __name__ == "__main__":
    renew(Path(sys.argv[1]), Path(sys.argv[2]))
