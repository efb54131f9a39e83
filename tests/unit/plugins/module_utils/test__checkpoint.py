# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a guest is kept, how it stands, and what brings it back; and a restore of many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._checkpoint import (
    Checkpoint,
    CheckpointError,
    Hands,
    Restore,
    Standing,
    Step,
    StepError,
    StoppedError,
    begin,
    carry_out,
    check_name,
    in_order,
    outdated,
    parse_checkpoint,
    parse_restore,
    plan,
    planned,
    render,
    same_meaning,
)

A = "name = 'g'\nmemory = 64\n"
A_TOO = "# by hand\nname='g'\nmemory=64\n"
B = "name = 'g'\nmemory = 64\ncmdline = 'quiet'\n"
OLD = {"kernel": {"path": "/k/old", "sha256": "aa"}}
NEW = {"kernel": {"path": "/k/new", "sha256": "bb"}}

#: Runs from A, which is its configuration, too.
RUNS = Standing("g", "/g.cfg", A, "running", 4, "u4", made_from=A, images=OLD)
PAUSED = replace(RUNS, run_state="paused")
DOWN = Standing("g", "/g.cfg", A)
NOBODY = Standing("g", "/g.cfg")
#: Another domain, made from B.
OTHER = replace(RUNS, config=B, domid=5, uuid="u5", made_from=B, images=NEW)
#: Another domain, made from the same.
SAME = replace(RUNS, domid=5, uuid="u5")
BY_HAND = replace(SAME, made_from=None)
PENDING = replace(RUNS, config=B)
LOST = replace(RUNS, lost=["xvda"])
ASKED = replace(RUNS, asked=True)
LEAVING = replace(RUNS, leaving=True)
CRASHED = replace(OTHER, run_state="crashed")

FILES: dict[str, str | None] = {"/k/old": "aa"}

#: kept, live → action, what is asked of module guest, from which text, how far it may go.
PLANS: list[tuple[str, Standing, Standing, tuple[str, str, str | None, str]]] = [
    ("as it was", RUNS, RUNS, ("unchanged", "configured", None, "unhealthy")),
    ("made anew from the same", RUNS, SAME, ("unchanged", "configured", None, "unhealthy")),
    (
        "from the same in other words",
        RUNS,
        replace(SAME, made_from=A_TOO),
        ("unchanged", "configured", None, "unhealthy"),
    ),
    ("from something else", RUNS, OTHER, ("restored", "running", A, "allowed")),
    ("from another kernel", RUNS, replace(SAME, images=NEW), ("restored", "running", A, "allowed")),
    ("nobody knows from what", RUNS, BY_HAND, ("restored", "running", A, "allowed")),
    ("the file is another one", RUNS, replace(RUNS, config=B), ("restored", "running", A, "unhealthy")),
    ("the file is gone", RUNS, replace(RUNS, config=None), ("restored", "running", A, "unhealthy")),
    ("paused since", RUNS, PAUSED, ("restored", "running", A, "unhealthy")),
    ("was paused", PAUSED, RUNS, ("restored", "paused", A, "unhealthy")),
    ("ended since", RUNS, DOWN, ("restored", "running", A, "allowed")),
    ("removed since", RUNS, NOBODY, ("restored", "running", A, "allowed")),
    ("crashed since", RUNS, CRASHED, ("restored", "running", A, "allowed")),
    (
        "half made",
        RUNS,
        replace(SAME, run_state="paused", unfinished=True),
        ("restored", "running", A, "allowed"),
    ),
    ("lost a disk", RUNS, LOST, ("restored", "running", A, "unhealthy")),
    ("asked to shut down since", RUNS, ASKED, ("restored", "running", A, "unhealthy")),
    ("had been asked then", ASKED, ASKED, ("unchanged", "configured", None, "unhealthy")),
    ("took note of it", RUNS, LEAVING, ("restored", "restarted", A, "allowed")),
    ("was leaving then", LEAVING, LEAVING, ("unchanged", "configured", None, "unhealthy")),
    (
        "asked twice, took note of one",
        RUNS,
        replace(LEAVING, asked=True),
        ("restored", "running", A, "unhealthy"),
    ),
    ("asked and made anew", ASKED, SAME, ("unchanged", "configured", None, "unhealthy")),
    ("was to go anyway", DOWN, LEAVING, ("restored", "shutdown", None, "unhealthy")),
    ("had lost it then", LOST, LOST, ("unchanged", "configured", None, "unhealthy")),
    (
        "had lost it, made anew, lost it",
        LOST,
        replace(SAME, lost=["xvda"]),
        ("restored", "running", A, "allowed"),
    ),
    ("a change was waiting", PENDING, PENDING, ("unchanged", "configured", None, "unhealthy")),
    ("it came into effect", PENDING, OTHER, ("restored", "running", A, "allowed")),
    ("a change waited, other file", PENDING, RUNS, ("restored", "running", None, "unhealthy")),
    (
        "a change waited, lost a disk",
        PENDING,
        replace(PENDING, lost=["xvda"]),
        ("restored", "running", A, "unhealthy"),
    ),
    ("was down", DOWN, DOWN, ("unchanged", "configured", None, "unhealthy")),
    ("was down, runs", DOWN, RUNS, ("restored", "shutdown", None, "unhealthy")),
    ("was down, other file", DOWN, replace(DOWN, config=B), ("restored", "configured", None, "unhealthy")),
    (
        "was down, crashed since",
        DOWN,
        replace(CRASHED, config=A),
        ("unchanged", "configured", None, "unhealthy"),
    ),
    (
        "had crashed",
        replace(CRASHED, config=A),
        replace(CRASHED, config=A),
        ("unchanged", "configured", None, "unhealthy"),
    ),
    ("had crashed, runs", replace(CRASHED, config=A), RUNS, ("restored", "shutdown", None, "unhealthy")),
    ("was not there", NOBODY, NOBODY, ("unchanged", "configured", None, "unhealthy")),
    ("was not there, is", NOBODY, RUNS, ("removed", "absent", None, "unhealthy")),
    ("was not there, a file is", NOBODY, DOWN, ("removed", "absent", None, "unhealthy")),
    (
        "comes up with the host",
        DOWN,
        replace(DOWN, autostart=True),
        ("restored", "configured", None, "unhealthy"),
    ),
    ("without a file", replace(RUNS, config=None), DOWN, ("restored", "running", A, "allowed")),
]


@pytest.mark.parametrize(
    ("kept", "live", "wanted"), [one[1:] for one in PLANS], ids=[one[0] for one in PLANS]
)
def test_what_brings_it_back(
    kept: Standing, live: Standing, wanted: tuple[str, str, str | None, str]
) -> None:
    step = plan(kept, live, FILES)
    assert (step.action, step.state, step.text, step.recreate) == wanted
    assert bool(step.why) == (step.action != "unchanged")


@pytest.mark.parametrize(
    ("live", "force"),
    [
        (OTHER, False),
        (CRASHED, True),
        (LOST, True),
        (replace(SAME, run_state="paused", unfinished=True), True),
    ],
)
def test_only_what_cannot_be_shut_down_is_destroyed_unasked(live: Standing, force: bool) -> None:
    assert plan(RUNS, live, FILES).force == force
    assert plan(NOBODY, live, FILES).force == force


def test_a_second_configuration_of_a_guest_goes() -> None:
    assert plan(RUNS, replace(RUNS, path="/new.cfg"), FILES).stray == "/new.cfg"
    assert plan(RUNS, replace(RUNS, config=None, path="/new.cfg"), FILES).stray is None


@pytest.mark.parametrize(
    ("kept", "live", "files", "words"),
    [
        (RUNS, OTHER, {}, "g: kernel: /k/old is gone; put the file with sha256:aa back"),
        (RUNS, OTHER, {"/k/old": "cc"}, "g: kernel: /k/old holds another file now (sha256:cc)"),
        (RUNS, LOST, {}, "is gone"),
        (RUNS, PAUSED, {}, None),  # the domain stays, and with it what it runs from
        (DOWN, RUNS, {}, None),
        (replace(RUNS, images={"kernel": {"path": "/k/old", "sha256": None}}), OTHER, {}, None),
        (replace(RUNS, config=None, made_from=None), DOWN, FILES, "g: what it ran from is not known"),
    ],
)
def test_what_cannot_be_brought_back(
    kept: Standing, live: Standing, files: dict[str, str | None], words: str | None
) -> None:
    step = plan(kept, live, files)
    assert (step.action == "failed") == (words is not None)
    assert (words or "") in (step.error or "")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [(A, A, True), (A, A_TOO, True), (A, B, False), (A, None, False), ("(", A, False), ("(", "(", True)],
)
def test_configurations_are_compared_by_meaning(one: str, other: str | None, same: bool) -> None:
    assert same_meaning(one, other) == same


# ---- a restore ----


class Board(Hands):
    """A host that remembers what was done to it.

    ``fails`` names guests that cannot be brought back, ``stops`` the number of the guest before which it is told to
    stop, ``nothing`` guests of which module guest finds nothing to change.
    """

    def __init__(
        self, *live: Standing, fails: Sequence[str] = (), stops: int = 99, nothing: Sequence[str] = ()
    ) -> None:
        self.guests = {guest.name: guest for guest in live}
        self.fails, self.stops, self.nothing = fails, stops, nothing
        self.next = 10
        self.done: list[str] = []
        self.saved = b""

    def save(self, restore: Restore) -> None:
        self.saved = render(restore)

    def look(self, kept: Sequence[Standing]) -> dict[str, Standing]:
        for guest in kept:
            if guest.name in self.fails and self.guests[guest.name].path == "unreadable":
                raise StepError(f"{guest.name}: the host could not be looked at")
        return {guest.name: self.guests[guest.name] for guest in kept}

    def files(self, kept: Standing) -> dict[str, str | None]:
        return FILES

    def carry_out(self, kept: Standing, live: Standing, step: Step) -> bool:
        self.done.append(kept.name)
        if kept.name in self.fails:
            raise StepError(f"{kept.name}: no")
        if kept.name in self.nothing:
            return False
        self.next += 1
        self.guests[kept.name] = replace(kept, domid=self.next, uuid=f"u{self.next}") if kept.up else kept
        return True

    def check(self) -> None:
        self.stops -= 1
        if self.stops < 0:
            raise StoppedError("stopped")


def named(standing: Standing, name: str, domid: int | None = None) -> Standing:
    return replace(standing, name=name, domid=domid if domid is not None else standing.domid)


KEPT = Checkpoint(
    "c", "2026", [named(RUNS, "b", 6), named(RUNS, "a", 3), named(NOBODY, "new"), named(DOWN, "down")]
)


def restore(board: Board) -> Restore:
    it = Restore("c", guests=begin(KEPT, board.guests))
    carry_out(it, KEPT, board)
    assert parse_restore(board.saved, "x") == it
    return it


def changed(**more: Standing) -> list[Standing]:
    now = {
        "a": named(OTHER, "a", 7),
        "b": named(OTHER, "b", 8),
        "new": named(RUNS, "new", 9),
        "down": named(DOWN, "down"),
    }
    return list({**now, **more}.values())


def actions(it: Restore) -> dict[str, str]:
    return {row.name: row.action for row in it.guests}


def test_all_come_back_those_that_go_first_and_then_as_they_were_made() -> None:
    board = Board(*changed())
    assert [guest.name for guest in in_order(KEPT.guests)] == ["new", "down", "a", "b"]
    it = restore(board)
    assert actions(it) == {"new": "removed", "down": "unchanged", "a": "restored", "b": "restored"}
    assert board.done == ["new", "a", "b"]
    assert (it.outcome, it.message) == ("done", "checkpoint c: 2 restored, 1 removed, 1 unchanged")
    assert (
        "a: restored (running, domain 12 (was domain 7)): its configuration, runs from another configuration"
        in it.lines()
    )
    assert it.touched
    again = restore(board)
    assert set(actions(again).values()) == {"unchanged"}
    assert not again.touched


def test_what_would_be_done_is_what_is_done() -> None:
    board = Board(*changed())
    rows = planned(KEPT, board.guests, board)
    assert board.done == []
    done = restore(board)
    assert [(row.name, row.action, row.why) for row in rows] == [
        (row.name, row.action, row.why) for row in done.guests
    ]
    assert [row.after["run_state"] for row in rows if row.after] == ["absent", "absent", "running", "running"]


@pytest.mark.parametrize(
    ("board", "wanted", "outcome", "words"),
    [
        (Board(*changed(), fails=["a"]), "failed", "incomplete", "NOT restored: a: no. Mend that"),
        (
            Board(*changed(a=named(replace(OTHER, path="unreadable"), "a")), fails=["a"]),
            "failed",
            "incomplete",
            "looked at",
        ),
        (Board(*changed(), nothing=["a"]), "unchanged", "done", "1 restored"),
        (Board(*changed(), stops=2), "waiting", "stopped", "not reached: a, b. Run the same again"),
    ],
)
def test_one_that_does_not_come_back(board: Board, wanted: str, outcome: str, words: str) -> None:
    it = restore(board)
    assert (actions(it)["a"], it.outcome) == (wanted, outcome)
    assert words in it.message
    if outcome != "stopped":
        assert actions(it)["b"] == "restored"
    board.fails, board.stops, board.nothing = (), 99, ()
    board.guests["a"] = replace(board.guests["a"], path="/g.cfg")
    assert restore(board).outcome == "done"
    assert board.guests["a"].config == A


# ---- files and names ----


def test_what_is_written_is_what_is_read() -> None:
    odd = Checkpoint("c", "2026", [replace(RUNS, config="\udcff", made_from=None), NOBODY])
    assert parse_checkpoint(render(odd), "x") == odd


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b'{"version": 2}', b'{"version": 1, "name": "c"}', b'{"version": 1, "guests": [{}]}'],
)
def test_what_is_nothing_of_ours(content: bytes) -> None:
    for parse in (parse_checkpoint, parse_restore):
        with pytest.raises(CheckpointError, match="x: not what this release keeps"):
            parse(content, "x")


def test_a_restore_with_an_unknown_end_is_nothing_of_ours() -> None:
    with pytest.raises(CheckpointError, match="not what this release keeps of a restore"):
        parse_restore(render(Restore("c", outcome="well")), "x")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-a", "a b", "a\n", "é", "x" * 65])
def test_no_name_of_a_checkpoint(name: str) -> None:
    with pytest.raises(CheckpointError):
        check_name(name)


@pytest.mark.parametrize(
    ("keep", "gone"), [(1, ["c", "b", "a"]), (2, ["b", "a"]), (3, ["a"]), (4, []), (9, [])]
)
def test_the_oldest_go(keep: int, gone: list[str]) -> None:
    names = {"1": "a", "2": "b", "3": "c"}
    taken = [(when, f"rollout-{name}") for when, name in names.items()]
    taken += [("2", "rollout-fresh"), ("0", "by-hand")]
    assert outdated(taken, keep, "rollout-fresh") == [f"rollout-{name}" for name in gone]
    assert outdated(taken, keep, "by-hand") == []
