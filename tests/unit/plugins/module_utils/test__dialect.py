# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each Xen release accepts."""

from __future__ import annotations

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._dialect import (
    DIALECTS,
    RELEASES,
    DialectError,
    parse_dialect,
    since,
)


@pytest.mark.parametrize(
    ("option", "accepting"),
    [
        ("target", ["v6", *RELEASES]),
        ("discard", ["v6", *RELEASES]),
        ("virtio", ["v6"]),
        ("specification", [*RELEASES]),
        ("standalone", [*RELEASES]),
        ("virtio_devices", ["4.18", "4.19", "4.20", "4.21", "4.22"]),
        ("trusted", ["4.19", "4.20", "4.21", "4.22"]),
        ("grant_usage", ["4.19", "4.20", "4.21", "4.22"]),
        ("nr_spis", ["4.19", "4.20", "4.21", "4.22"]),
        ("trap_unmapped_accesses", ["4.21", "4.22"]),
        ("xenstore_quota", ["4.22"]),
    ],
)
def test_accepts(option: str, accepting: list[str]) -> None:
    assert [name for name, dialect in DIALECTS.items() if dialect.accepts(option)] == accepting


@pytest.mark.parametrize(
    ("option", "release"),
    [("specification", "4.17"), ("grant_usage", "4.19"), ("virtio", None), ("target", None)],
)
def test_since(option: str, release: str | None) -> None:
    assert since(option) == release


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("4.17", "4.17"),
        ("4.17.7", "4.17"),
        ("4.17.7+13-g2445b30a44", "4.17"),
        ("4.20-rc", "4.20"),
        ("4.20.0-rc5", "4.20"),
        (" 4.22 ", "4.22"),
        ("v6", "v6"),
        ("V6", "v6"),
        (DIALECTS["4.19"], "4.19"),
    ],
)
def test_parse(value: object, name: str) -> None:
    dialect = parse_dialect(value)
    assert dialect is DIALECTS[name]
    assert dialect.note is None


@pytest.mark.parametrize("value", ["4.23", "4.23-unstable", "4.100", "5.0"])
def test_newer_than_known_is_read_as_the_newest_and_says_so(value: str) -> None:
    dialect = parse_dialect(value)
    assert dialect == DIALECTS[RELEASES[-1]]
    assert dialect.note is not None
    assert "newer than 4.22" in dialect.note


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (4.2, "quote it"),
        (4.17, "quote it"),
        (4, "quote it"),
        (True, "quote it"),
        (None, "text, not NoneType"),
        (["4.17"], "text, not list"),
        ("", "not a Xen release"),
        ("4", "not a Xen release"),
        ("4.17x", "not a Xen release"),
        ("xen-4.17", "not a Xen release"),
        ("4.1\u0667", "not a Xen release"),
        ("4.2", "for Xen 4.20 write the zero"),
        ("4.16", "has no virtio disks"),
        ("3.4", "has no virtio disks"),
        ("v5", "only v6 is known"),
        ("v10.1", "only v6 is known"),
        ("v11", "merged as Xen 4.17"),
    ],
)
def test_refused_with_the_known_ones(value: object, reason: str) -> None:
    with pytest.raises(DialectError, match=reason) as refusal:
        parse_dialect(value)
    assert "4.17, 4.18, 4.19, 4.20, 4.21, 4.22 and v6" in str(refusal.value)
