# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/ against the tree."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_every_file_of_module_utils_has_its_place_in_the_architecture() -> None:
    rows = re.findall(r"^\| (`_.*?) \|", (ROOT / "docs/architecture.md").read_text(encoding="utf-8"), re.M)
    told = {name for row in rows for name in re.findall(r"`(_[a-z_]+)`", row)}
    assert told == {path.stem for path in (ROOT / "plugins/module_utils").glob("_*.py")}


PICTURES = sorted((ROOT / "docs/pictures").glob("*.svg"))


@pytest.mark.parametrize("path", PICTURES, ids=[path.name for path in PICTURES])
def test_a_picture_is_for_everybody(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    for what in ("title", "desc"):
        told = root.find(f"{{http://www.w3.org/2000/svg}}{what}")
        assert told is not None
        assert told.text
    assert "prefers-color-scheme: dark" in text
    # no other address than that of SVG itself: a picture loads nothing
    assert re.findall(
        r"https?://[^\"'< ]+", text.replace("https://www.gnu.org/licenses/gpl-3.0.txt", "")
    ) == ["http://www.w3.org/2000/svg"]


def test_every_picture_is_shown_somewhere_and_told_in_words() -> None:
    pages = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md"))
    shown = re.findall(r"!\[([^\]]+)\]\((?:[^()]*/)?pictures/([^()]+)\)", pages)
    assert {name for alternative, name in shown if len(alternative) > 20} == {path.name for path in PICTURES}
