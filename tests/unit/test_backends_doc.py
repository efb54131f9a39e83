# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/backends.md lists every finding of a backend host, and which of them nobody can accept."""

from __future__ import annotations

import re
from pathlib import Path

from ansible_collections.xen.virtio.plugins.module_utils._backend_rules import BINDING, CODES

ROWS = re.findall(
    r"^\| `([a-z-]+)`( ✘)? \|",
    (Path(__file__).resolve().parents[2] / "docs/backends.md").read_text(encoding="utf-8"),
    re.MULTILINE,
)
WAYS = {"none", "package", "binary", "git", "tarball"}


def test_every_code_is_there() -> None:
    assert {code for code, _mark in ROWS} - WAYS == set(CODES)


def test_what_cannot_be_accepted_is_marked() -> None:
    assert {code for code, mark in ROWS if mark} == BINDING
