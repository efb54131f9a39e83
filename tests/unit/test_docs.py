# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/ against the tree."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_file_of_module_utils_has_its_place_in_the_architecture() -> None:
    rows = re.findall(r"^\| (`_.*?) \|", (ROOT / "docs/architecture.md").read_text(encoding="utf-8"), re.M)
    told = {name for row in rows for name in re.findall(r"`(_[a-z_]+)`", row)}
    assert told == {path.stem for path in (ROOT / "plugins/module_utils").glob("_*.py")}
