# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The line that a launcher writes of a disk, and what of it is believed."""

from __future__ import annotations

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._diskstatus import (
    REASON_LIMIT,
    STATUSES,
    DiskStatus,
    key_of,
    node_name,
    parse,
    render,
)
from hypothesis import given
from hypothesis import strategies as st

LINES = [
    ("served", DiskStatus("served")),
    ("served size=0", DiskStatus("served", 0)),
    ("served size=1048576 size-now=2097152 version=1.2", DiskStatus("served", 1048576, 2097152, "1.2")),
    ("lost reason=its daemon ended; size=7", DiskStatus("lost", reason="its daemon ended; size=7")),
    ("waiting size-now=5 reason=x", DiskStatus("waiting", None, 5, reason="x")),
]


@pytest.mark.parametrize(("line", "told"), LINES)
def test_a_line_both_ways(line: str, told: DiskStatus) -> None:
    assert parse(line) == told
    assert render(told) == line


@pytest.mark.parametrize(
    "line",
    [
        "",
        "ready",
        "served ",
        "Served",
        "served size=-1",
        "served size=01",
        "served size=123456789012345678901",
        "served size=1 size=2",
        "served version=",
        "served version=a b",
        "served\nreason=x",
        "served size=1x",
    ],
)
def test_what_has_another_form_is_no_line(line: str) -> None:
    assert parse(line) is None


def test_a_reason_is_text_for_people_and_nothing_else() -> None:
    found = parse("lost reason=" + "\x1b[31mred\x1b[0m\x00é" + "x" * 3000)
    assert found is not None
    assert found.reason.startswith("?[31mred?[0m?")
    assert len(found.reason) == REASON_LIMIT


numbers = st.none() | st.integers(0, 2**63)


@given(st.builds(DiskStatus, st.sampled_from(STATUSES), numbers, numbers, st.text(), st.text()))
def test_whatever_is_written_fits_a_node_and_can_be_read(told: DiskStatus) -> None:
    line = render(told)
    assert len(line) < 1024
    assert line.isascii()
    assert line.isprintable()
    found = parse(line)
    assert found is not None
    assert (found.status, found.size, found.size_now) == (told.status, told.size, told.size_now)


@pytest.mark.parametrize(
    ("size", "now", "changed"), [(1, 1, False), (1, 2, True), (None, 2, False), (1, None, False)]
)
def test_growth_is_seen_where_both_sizes_are_known(size: int | None, now: int | None, changed: bool) -> None:
    assert DiskStatus("served", size, now).size_changed is changed


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("1-51712", (1, 51712)),
        ("32751-268435472", (32751, 268435472)),
        ("1-0", (1, 0)),
        ("01-5", None),
        ("1-05", None),
        ("1", None),
        ("1-2-3", None),
        ("-1-2", None),
        ("1-2\n", None),
        ("\uff11-2", None),
    ],
)
def test_names_of_nodes(name: str, key: tuple[int, int] | None) -> None:
    assert key_of(name) == key
    if key is not None:
        assert node_name(*key) == name
