# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What disk_info says of single disks; whole hosts are in tests/system."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._disk_info import _in_state, compare, find
from ansible_collections.xen.virtio.plugins.module_utils._layout import Branch
from ansible_collections.xen.virtio.plugins.module_utils._report import live_attachment
from ansible_collections.xen.virtio.plugins.module_utils._snapshot import LiveDisk, ResolveError
from unit.plugins.module_utils.hosts import DOMAINS, attached

WHOLE = attached(state="2")
EMPTY = Branch(None, {}, {})


@pytest.mark.parametrize(
    ("live", "found"),
    [
        (WHOLE, []),
        (replace(WHOLE, frontend=None), [("frontend", "missing")]),
        (replace(WHOLE, backends={}), [("backend", "missing")]),
        (replace(WHOLE, record=None), [("record", "missing")]),
        (replace(WHOLE, record=None, backends={}), [("record", "missing")]),
        (replace(WHOLE, backends={**WHOLE.backends, 2: EMPTY}), [("backend", "value")]),
        (LiveDisk(3, 0, None, None, EMPTY, {}), [("record", "missing")]),
    ],
)
def test_where_the_trees_do_not_agree(live: LiveDisk, found: list[tuple[str, str]]) -> None:
    differences = compare(live, live_attachment(live))
    assert [(one.tree, one.what) for one in differences] == found


@pytest.mark.parametrize(("state", "health"), [("2", "2"), ("5", "5"), (None, None)])
def test_a_state_that_was_read_again(state: str | None, health: str | None) -> None:
    assert _in_state(WHOLE, state).state == health
    assert WHOLE.state == "2"
    assert _in_state(replace(WHOLE, backends={}), state).state is None


@pytest.mark.parametrize(
    ("reference", "domid", "alive"),
    [("3", 3, True), ("9", 9, False), ("77", 77, False), ("domu1", 3, True), ("dom0less-5", 5, True)],
)
def test_domains_as_named(reference: str, domid: int, alive: bool) -> None:
    found = find(reference, DOMAINS)
    assert (found.domid, found.alive) == (domid, alive)


@pytest.mark.parametrize("reference", ["nobody", "²", "123456", "-1"])
def test_domains_that_are_none(reference: str) -> None:
    with pytest.raises(ResolveError):
        find(reference, DOMAINS)
