# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Configurations are found by the name in them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._configs import LONGEST, best_of, find_configs

ONE = 'name = "one"\nmemory = 64\n'


def found_in(folder: Path) -> list[tuple[str, str | None, bool]]:
    return [(os.path.relpath(one.path, folder), one.name, one.auto) for one in find_configs(str(folder))]


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({}, []),
        ({"one.cfg": ONE}, [("one.cfg", "one", False)]),
        ({"guest-7": ONE}, [("guest-7", "one", False)]),
        ({"xl.conf": 'autoballoon="auto"\n'}, []),  # no guest's
        ({"xlexample.pvlinux": 'name = "example.pvlinux"\n'}, []),  # Xen's own
        ({"one.cfg~": ONE, "one.cfg.bak": ONE, ".one.cfg.swp": ONE, "one.cfg.dpkg-old": ONE}, []),
        ({"readme": "names: none, see elsewhere\n"}, []),
        ({"one.cfg": ONE, "copy.cfg": ONE}, [("copy.cfg", "one", False), ("one.cfg", "one", False)]),
        ({"broken.cfg": 'name = "one\n'}, [("broken.cfg", None, False)]),
        ({"list.cfg": 'name = [ "one" ]\n'}, []),
        ({"long.cfg": ONE + "#" * LONGEST}, []),
    ],
)
def test_which_files_are_configurations(
    tmp_path: Path, files: dict[str, str], found: list[tuple[str, str | None, bool]]
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert found_in(tmp_path) == found


def test_a_missing_folder_has_none(tmp_path: Path) -> None:
    assert find_configs(str(tmp_path / "none")) == []


def test_what_xendomains_starts(tmp_path: Path) -> None:
    auto = tmp_path / "auto"
    auto.mkdir()
    (tmp_path / "one.cfg").write_text(ONE)
    (tmp_path / "two.cfg").write_text('name = "two"\n')
    (auto / "one.cfg").symlink_to("../one.cfg")
    (auto / "three").write_text('name = "three"\n')
    assert found_in(tmp_path) == [
        ("auto/three", "three", True),
        ("one.cfg", "one", True),
        ("two.cfg", "two", False),
    ]


def test_what_is_no_file_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
    assert [one for one in find_configs(str(tmp_path)) if one.error is None] == []


def test_the_best_of_several(tmp_path: Path) -> None:
    for name in ("a.cfg", "one.cfg", "z.cfg"):
        (tmp_path / name).write_text(ONE)
    found = find_configs(str(tmp_path))
    best = best_of(found, "one")
    assert best is not None
    assert os.path.basename(best.path) == "one.cfg"
    assert best_of(found, "two") is None


def test_bytes_that_are_no_text_are_kept(tmp_path: Path) -> None:
    (tmp_path / "one.cfg").write_bytes(b'name = "one"\ncmdline = "\xff"\n')
    [found] = find_configs(str(tmp_path))
    assert found.text.encode("utf-8", "surrogateescape") == b'name = "one"\ncmdline = "\xff"\n'
