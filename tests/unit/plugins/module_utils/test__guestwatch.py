# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a guest at a moment, against how it stood when the watching began."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._guestwatch import DiskSeen, Guest, Seen, look_at

UP = Seen("g", 4, "running", (DiskSeen("xvda", 51712, "2", "attached"),))


def disk(state: str | None, health: str = "attached", launcher: str | None = None, reason: str = "") -> Seen:
    """The guest with its disk in a state."""
    return replace(UP, disks=(DiskSeen("xvda", 51712, state, health, launcher, reason),))


@pytest.mark.parametrize(
    ("looks", "last", "words"),
    [
        ([UP, UP], True, None),
        ([replace(UP, run_state="paused")], True, None),
        ([replace(UP, disks=())], True, None),
        ([disk("2", "drifted")], True, None),
        ([disk("1", "pending"), UP], True, None),
        ([disk("1", "pending")], False, None),
        ([disk("1", "pending")], True, "xvda was not taken up by any daemon (state 1)"),
        ([disk("3", "pending")], True, "xvda is in state 3, in which no virtio-disk stays"),
        ([UP, disk("1", "pending")], False, "xvda was attached and is so no longer (state 1)"),
        ([UP, disk("5", "closing")], False, "xvda is lost: its backend is closing it (state 5)"),
        ([UP, disk("6", "closed")], False, "xvda is lost: its backend closed it (state 6)"),
        ([UP, disk(None, "missing")], False, "xvda is lost: its backend gave it up"),
        ([UP, replace(UP, disks=())], False, "xvda is lost: its nodes are gone"),
        (
            [disk("2", launcher="lost", reason="daemon died")],
            False,
            "xvda is lost, as its launcher says (daemon died)",
        ),
        ([disk("1", launcher="failed")], False, "xvda is failed, as its launcher says (without a reason)"),
        ([UP, Seen("g")], False, "g has no domain (it was domain 4)"),
        ([Seen("g")], False, "g has no domain: look at its console's log"),
        (
            [UP, replace(UP, domid=5)],
            False,
            "g is domain 5 and no longer domain 4: it crashed or was restarted",
        ),
        ([UP, replace(UP, run_state="crashed")], False, "g (domain 4) is crashed"),
        ([UP, replace(UP, run_state="dying")], False, "g (domain 4) is dying"),
        ([UP, replace(UP, run_state="shutdown")], False, "g (domain 4) is shutdown"),
        ([Seen("g", trouble="g: ambiguous")], False, "g: ambiguous"),
    ],
)
def test_what_is_wrong(looks: list[Seen], last: bool, words: str | None) -> None:
    guest = Guest("g")
    for seen in looks[:-1]:
        assert guest.saw(seen, last=False) is None
    why = guest.saw(looks[-1], last=last)
    assert (why is None) if words is None else (words in (why or "")), why
    assert guest.as_dict()["healthy"] == (words is None)


def test_a_domid_may_be_said() -> None:
    assert "no longer domain 3" in (Guest("g", 3).saw(UP, last=True) or "")


def test_all_guests_are_looked_at() -> None:
    guests = [Guest("g"), Guest("h"), Guest("i")]
    told = look_at(guests, {"g": UP, "h": replace(UP, name="h", run_state="crashed")}, last=True)
    assert len(told) == 2
    assert [guest.as_dict()["why"] for guest in guests] == [None, *told]
