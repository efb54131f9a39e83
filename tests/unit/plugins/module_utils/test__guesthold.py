# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a disk of a domain that ended is free; tables of states, and real processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.xen.virtio.plugins.module_utils import _guesthold as hold

#: what was read of a backend's state, with the second it was read; whether its daemon let go by itself
COURSES: list[tuple[list[tuple[float, str | None]], bool]] = [
    ([(0, "2"), (1, "6"), (1.1, None)], True),
    ([(0, "2"), (1, "5"), (1.2, "6")], True),
    ([(0, "2"), (1, None)], True),
    ([(0, "2"), (1, "5"), (2, None)], True),
    ([(0, "2"), (1, "5"), (11, None)], False),
    ([(0, "2"), (1, "5"), (9.9, "5"), (10.5, None)], False),
    ([(0, "2"), (1, "5"), (30, "5")], False),
    ([(0, "2")], False),
]


@pytest.mark.parametrize(("course", "closed"), COURSES)
def test_who_removed_a_backends_directory(course: list[tuple[float, str | None]], closed: bool) -> None:
    disk = hold.Watched("g", 3, 1, "DomD", "u", 51712, "xvda", "/dev/vg/a", writable=True)
    for moment, state in course:
        disk.saw(state, moment)
    assert disk.closed == closed
    assert disk.gone == (course[-1][1] is None)


def test_writers_are_found_by_what_they_have_open(tmp_path: Path) -> None:
    target, link, other = tmp_path / "disk", tmp_path / "link", tmp_path / "other"
    for path in (target, other):
        path.write_bytes(b"1")
    link.symlink_to(target)
    assert hold.writers([str(target), str(tmp_path / "none"), "/dev/null", str(tmp_path)]) == {}
    with target.open("rb"):
        assert hold.writers([str(target)]) == {}
    with target.open("r+b"):
        found = hold.writers([str(link), str(other)])
        assert list(found) == [str(link)]
        assert found[str(link)][0].startswith(f"process {os.getpid()} (")
        assert hold.wait_for_free([str(target)], 0.05)
    assert hold.wait_for_free([str(target)], 5) == {}
