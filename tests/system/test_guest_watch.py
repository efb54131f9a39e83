# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests that stay up, and guests that do not, seen by guest_watch on lab hosts."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_runs import run_module
from boards import BOARDS, prepared
from checkpoint_calls import result_of, watch, watching
from guests import create, domid_of, until, virtio_disk
from lab import LabHost
from test_guest import LabFactory

#: Seconds: so long that nobody waits for it to be over.
LONG = 60.0


@pytest.fixture
def board(lab: LabHost) -> LabHost:
    """A host of Xen 4.17 with the C xenstored."""
    return with_guests(prepared(lab))


def with_guests(host: LabHost) -> LabHost:
    """linux1 has two disks, linux2 one; linux1 is kept when it crashes, linux2 started anew."""
    create(host, "linux1", 2, on_crash="preserve")
    create(host, "linux2", [virtio_disk("xvdc", "/dev/vg/c")], on_crash="restart")
    return host


def domid(host: LabHost, name: str) -> int:
    found = domid_of(host, name)
    assert found is not None
    return found


@pytest.mark.parametrize("kind", BOARDS, ids="-".join)
def test_guests_that_stay_up(lab_factory: LabFactory, kind: tuple[str, str]) -> None:
    release, daemon = kind
    host = with_guests(prepared(lab_factory(release=release, daemon=daemon)))
    seen = watch(host, "linux1", "linux2", soak=0.5)
    assert seen["healthy"], seen["msg"]
    assert "2 guests up, with all disks attached, for 0.5 s" in seen["msg"]
    assert seen["guests"][0] == {
        "name": "linux1",
        "domid": domid(host, "linux1"),
        "run_state": "running",
        "disks": [{"vdev": "xvda", "health": "attached"}, {"vdev": "xvdb", "health": "attached"}],
        "healthy": True,
        "why": None,
    }


def backend(host: LabHost, name: str, devid: int) -> str:
    return f"/local/domain/1/backend/virtio_disk/{domid(host, name)}/{devid}"


#: What is seen of a domain that goes depends on the moment at which it is looked at.
GOES = r"linux1 (has no domain \(it was domain 2\)|\(domain 2\) is \w+|\(domain 2\): xvda is lost)"
COMES_AGAIN = r"linux2 (is domain 4 and no longer domain 3|has no domain|\(domain [34]\)(: xvdc)? is \w+)"
ENDS: list[tuple[str, Callable[[LabHost], object], str]] = [
    ("destroyed", lambda host: host.xl("destroy", "linux1"), GOES),
    ("crashed and kept", lambda host: host.guest_crashes(2), r"linux1 \(domain 2\) is crashed"),
    ("crashed, and xl starts it anew", lambda host: host.guest_crashes(3), COMES_AGAIN),
    ("rebooted", lambda host: host.guest_reboots(3), COMES_AGAIN),
    ("off", lambda host: host.shutdown_domain(2), GOES),
    (
        "lost a disk",
        lambda host: host.rm(backend(host, "linux1", 51728)),
        "xvdb is lost: its backend gave it up",
    ),
    (
        "a disk is closed",
        lambda host: host.write(f"{backend(host, 'linux2', 51744)}/state", "6"),
        r"xvdc is lost: its backend closed it \(state 6\)",
    ),
]


@pytest.mark.parametrize(("happens", "words"), [one[1:] for one in ENDS], ids=[one[0] for one in ENDS])
def test_it_ends_at_the_first_that_does_not(
    board: LabHost, happens: Callable[[LabHost], object], words: str
) -> None:
    expect = {"linux1": 2, "linux2": 3}  # so that it does not matter whether it has looked before
    process = watching(board, "linux1", "linux2", soak=LONG, expect=expect)
    assert until(lambda: any("_guest_watch_module" in one for one in board.processes().values()))
    happens(board)
    seen = result_of(process)
    assert not seen["healthy"]
    assert re.search(words, seen["msg"]), seen["msg"]
    assert [one["healthy"] for one in seen["guests"]].count(False) == 1


def test_what_is_wrong_at_the_first_look(board: LabHost) -> None:
    expect = {"linux1": 2, "linux2": 9}
    seen = watch(board, "linux1", "linux2", "nobody", expect=expect, soak=0)
    told = {one["name"]: one["why"] for one in seen["guests"]}
    assert told["linux1"] is None
    assert told["linux2"].startswith("linux2 is domain 3 and no longer domain 9")
    assert told["nobody"].startswith("nobody has no domain")
    assert "(and 1 more, see guests)" in seen["msg"]


def test_a_disk_that_nobody_takes_up_has_until_the_last_look(board: LabHost) -> None:
    board.answer_backends(False)
    board.write(f"{backend(board, 'linux1', 51712)}/state", "1")
    seen = watch(board, "linux1", soak=0.5)
    assert "xvda was not taken up by any daemon (state 1)" in seen["msg"]
    assert seen["guests"][0]["disks"][0]["vdev"] == "xvda"


def test_a_host_that_says_nothing_says_nothing_about_guests(board: LabHost) -> None:
    board.xenstored.stop()
    try:
        seen = watch(board, "linux1", soak=LONG, timeout=1)
    finally:
        board.xenstored.cont()
    assert not seen["guests"]
    assert "no answer" in seen["msg"] or "within" in seen["msg"], seen["msg"]


def test_a_task_fails_or_reports(board: LabHost, tmp_path: Path) -> None:
    def task(**arguments: Any) -> dict[str, Any]:
        return run_module(tmp_path, board.python, "xen.virtio.guest_watch", {"soak": 0, **arguments})

    assert not task(guests=["linux1"])["failed"]
    assert task(guests=["nobody"])["failed"]
    told = task(guests=["nobody"], report=True)
    assert (told["failed"], told["healthy"], told["changed"]) == (False, False, False)
    for wrong, words in (
        ({"expect": {"linux1": "x"}}, "a domid is a whole number"),
        ({"soak": -1}, "soak is a number of seconds"),
        ({"interval": 1e9}, "interval is a number of seconds"),
    ):
        assert words in task(guests=["linux1"], **wrong)["msg"]
