# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom a name means, and what of a disk is believed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._layout import Branch
from ansible_collections.xen.virtio.plugins.module_utils._snapshot import (
    MADE_BY_XL,
    MAKER_UNKNOWN,
    Domain,
    LiveDisk,
    ResolveError,
    UnknownDomainError,
    is_domid,
    resolve,
)
from unit.plugins.module_utils.hosts import attached

UUID = "42b9bba0-2793-49bb-b2c6-276fb79a83ca"
OTHER = "11111111-2222-3333-4444-555555555555"


def known(*more: Domain) -> dict[int, Domain]:
    listed = (
        Domain(0, "Domain-0", name_trusted=True),
        Domain(1, "DomD", name_trusted=True, uuid=OTHER, uuid_trusted=True),
        Domain(3, "dom0less-3", uuid=UUID),
        *more,
    )
    return {one.domid: one for one in listed}


LIAR = Domain(4, "DomD", uuid=OTHER)
TWIN = Domain(5, "DomD", name_trusted=True)
GHOST = Domain(6, "DomD", name_trusted=True, alive=False)
NUMBER = Domain(7, "12", name_trusted=True)
STUB = Domain(8, "dom0less-3", name_trusted=True)


@pytest.mark.parametrize(
    ("reference", "others", "domid"),
    [
        (0, (), 0),
        ("3", (), 3),
        (" 03 ", (), 3),
        ("Domain-0", (), 0),
        ("DomD", (), 1),
        ("DomD", (LIAR,), 1),
        ("DomD", (GHOST,), 1),
        (OTHER, (), 1),
        (OTHER.upper(), (LIAR,), 1),
        ("dom0less-3", (), 3),
        ("dom0less-3", (Domain(9, "dom0less-3"),), 3),
        ("dom0less-3", (STUB,), 8),  # a name that dom0 gave counts before one that is only an id
        ("dom0less-4", (LIAR,), 4),
    ],
)
def test_who_is_meant(reference: str | int, others: tuple[Domain, ...], domid: int) -> None:
    assert resolve(known(*others), reference).domid == domid


@pytest.mark.parametrize(
    ("reference", "others", "error", "said"),
    [
        (
            "nobody",
            (),
            UnknownDomainError,
            r"'nobody' is not on this host; known are Domain-0 \(0\), DomD \(1\)",
        ),
        ("12", (NUMBER,), UnknownDomainError, "no domain with that id"),
        ("40000", (), ResolveError, "at most 32751"),
        ("DomD", (TWIN,), ResolveError, "ambiguous: domains 1, 5"),
        (UUID, (), ResolveError, r"not believed: domain 3 .* use dom0less-3"),
        ("dom0less-0", (), UnknownDomainError, "not on this host"),
        ("dom0less-77", (), UnknownDomainError, "not on this host"),
        ("²", (), UnknownDomainError, "not on this host"),
        ("٣", (), UnknownDomainError, "not on this host"),
        ("000003", (), UnknownDomainError, "not on this host"),
    ],
)
def test_who_is_not(reference: str, others: tuple[Domain, ...], error: type[Exception], said: str) -> None:
    with pytest.raises(ResolveError, match=said) as raised:
        resolve(known(*others), reference)
    assert isinstance(raised.value, UnknownDomainError) == (error is UnknownDomainError)


def test_a_name_only_the_liar_has_is_not_believed() -> None:
    with pytest.raises(ResolveError, match="not believed: domain 4 owns the node"):
        resolve({4: LIAR}, "DomD")


def test_a_host_without_domains() -> None:
    with pytest.raises(UnknownDomainError, match="xenstored knows no domain"):
        resolve({}, "DomD")


@pytest.mark.parametrize(
    ("text", "is_one"), [("0", True), ("32751", True), ("123456", False), ("²", False), ("", False)]
)
def test_domids(text: str, is_one: bool) -> None:
    assert is_domid(text) == is_one


@pytest.mark.parametrize(
    ("domain", "label", "by_xl"),
    [
        (Domain(3, "domu", name_trusted=True), "domu", False),
        (Domain(3, "DomD"), "dom0less-3", False),
        (Domain(3, "DomD", maker=MADE_BY_XL), "domain 3", True),
        (Domain(3, maker=MAKER_UNKNOWN), "domain 3", True),
        (Domain(3, alive=False), "domain 3", False),
        (Domain(0), "Domain-0", False),
    ],
)
def test_labels_and_makers(domain: Domain, label: str, by_xl: bool) -> None:
    assert (domain.label, domain.made_by_xl) == (label, by_xl)


def _torn(**lost: Any) -> LiveDisk:
    return replace(attached(state="2"), **lost)


@pytest.mark.parametrize(
    ("live", "state", "in_use", "invented", "target"),
    [
        (attached(), "1", False, False, "/dev/vg/3-51712"),
        (attached(state="2"), "2", True, False, "/dev/vg/3-51712"),
        (_torn(record=None), "2", True, False, "/dev/vg/3-51712"),
        (_torn(frontend=None), "2", True, False, "/dev/vg/3-51712"),
        (_torn(backends={}), None, False, False, "/dev/vg/3-51712"),
        (_torn(backends={1: Branch(None, {}, {})}), None, False, False, "/dev/vg/3-51712"),
        (_torn(backends={2: Branch(None, {"state": "4"}, {})}), None, True, False, "/dev/vg/3-51712"),
        (_torn(record=Branch(None, {}, {})), "2", True, False, "/dev/vg/3-51712"),
        (_torn(record=None, backends={}, backend_domid=None), None, False, True, None),
    ],
)
def test_what_a_live_disk_says(
    live: LiveDisk, state: str | None, in_use: bool, invented: bool, target: str | None
) -> None:
    assert (live.state, live.in_use, live.invented) == (state, in_use, invented)
    assert (live.source.nodes["params"] if live.source else None) == target
