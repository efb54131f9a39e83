# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files planned first and written whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._files import FileChange, gone, linked, wanted

Planner = Callable[[str], "FileChange | None"]


def write(path: Path) -> None:
    path.write_text("old\n")


def link(path: Path) -> None:
    path.symlink_to("elsewhere")


def nothing(path: Path) -> None:
    """There is no such file."""


@pytest.mark.parametrize("before", [nothing, write, link])
@pytest.mark.parametrize(
    ("plan", "after"),
    [
        (lambda path: wanted(path, b"new\n"), "new\n"),
        (lambda path: linked(path, "../target"), "../target"),
        (gone, None),
    ],
    ids=["file", "link", "gone"],
)
def test_what_is_planned_is_done_once(
    tmp_path: Path, before: Callable[[Path], None], plan: Planner, after: str | None
) -> None:
    path = tmp_path / "file"
    before(path)
    shown = sorted(os.listdir(tmp_path))
    change = plan(str(path))
    assert sorted(os.listdir(tmp_path)) == shown  # planning touches nothing
    if change is not None:
        assert change.as_diff()["before_header"] == str(path)
        change.carry_out()
    assert plan(str(path)) is None
    if after is None:
        assert os.listdir(tmp_path) == []
    else:
        assert os.listdir(tmp_path) == ["file"]
        assert (os.readlink(path) if path.is_symlink() else path.read_text()) == after


def test_folders_are_made_and_permissions_are_set(tmp_path: Path) -> None:
    path = tmp_path / "a/b/c"
    change = wanted(str(path), b"x", 0o600)
    assert change is not None
    change.carry_out()
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    assert wanted(str(path), b"x", 0o600) is not None
    assert wanted(str(path), b"x", 0o644) is None


@pytest.mark.parametrize(
    ("content", "shown"), [(b"text\n", "text\n"), (b"a\0b", "sha256 "), (b"\xff", "sha256 "), (None, "")]
)
def test_what_a_person_is_shown(content: bytes | None, shown: str) -> None:
    assert FileChange("/x", content, b"").as_diff()["before"].startswith(shown)


def test_a_failed_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_text("old\n")
    change = wanted(str(path), b"new\n")
    assert change is not None

    def fail(*_paths: str) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        change.carry_out()
    assert os.listdir(tmp_path) == ["file"]
    assert path.read_text() == "old\n"
