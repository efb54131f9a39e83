# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who hangs on a driver domain, in which order they go and come back, and what is kept of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._drain import (
    Device,
    Drain,
    DrainError,
    Guest,
    Hands,
    Plan,
    Sight,
    StateError,
    StoppedError,
    carry_out,
    listed,
    make_plan,
    parse,
    render,
)
from ansible_collections.xen.virtio.plugins.module_utils._snapshot import MADE_BY_XL, MADE_ELSEWHERE, Domain


def domain(domid: int, name: str, maker: str = MADE_BY_XL, *, trusted: bool = True) -> Domain:
    return Domain(domid, name, trusted, None, False, maker)


def sight(hangs: dict[str, Sequence[str]], *others: Domain, paused: Sequence[str] = ()) -> Sight:
    """Guests from domid 2 on, each with a disk of every domain that it names; DomD is domain 1."""
    numbers = {"Domain-0": 0, "DomD": 1} | {name: number for number, name in enumerate(hangs, 2)}
    domains = {number: domain(number, name) for name, number in numbers.items()}
    domains.update({one.domid: one for one in others})
    return Sight(
        domains=domains,
        devices={
            numbers[name]: [Device("vbd", 51712 + 16 * at, numbers[one]) for at, one in enumerate(backends)]
            for name, backends in hangs.items()
        },
        running={numbers[name]: name in paused for name in hangs},
        configs={one.label: f"/etc/xen/{one.label}.cfg" for one in domains.values() if one.domid},
    )


def names(plan: Plan) -> list[str]:
    return [guest.name for guest in plan.guests]


# ---- the plan ----


@pytest.mark.parametrize(
    ("hangs", "order", "expected"),
    [
        ({}, (), []),
        ({"a": ["DomD"], "b": ["Domain-0"], "c": ["Domain-0", "DomD"]}, (), ["a", "c"]),
        ({"a": ["DomD"], "b": ["DomD"], "c": ["DomD"]}, ("c", "x", "b"), ["c", "b", "a"]),
        ({"far": ["near"], "near": ["DomD"]}, ("far",), ["near", "far"]),  # order never beats need
        ({"a": ["b", "DomD"], "b": ["DomD"]}, (), ["b", "a"]),  # the longest way counts
    ],
)
def test_who_hangs_on_it_in_the_order_of_their_return(
    hangs: dict[str, Sequence[str]], order: Sequence[str], expected: list[str]
) -> None:
    host = sight(hangs)
    plan = make_plan(host.domains[1], host, order)
    assert (names(plan), plan.refusals) == (expected, [])


def test_guests_that_hang_on_each_other_come_to_an_end() -> None:
    host = sight({"a": ["DomD", "b"], "b": ["a"]})
    assert sorted(names(make_plan(host.domains[1], host))) == ["a", "b"]


def test_a_guest_is_told_with_what_hangs_and_through_whom() -> None:
    host = sight({"near": ["DomD"], "far": ["near", "Domain-0"]}, paused=["far"])
    near, far = make_plan(host.domains[1], host).guests
    assert (near.paused, far.paused, far.level, far.through) == (False, True, 2, ["near"])
    assert listed(far) == "far (domain 3): vbd 51712 at near"


@pytest.mark.parametrize(
    ("root", "hangs", "left_out", "words"),
    [
        (0, {}, "", "reboot the host"),
        (1, {"a": ["DomD"]}, "a", "a (domain 2) has no configuration"),
        (1, {"a": ["DomD"]}, "DomD", "DomD (domain 1) has no configuration"),
        (9, {}, "", "Xen itself started it (dom0less)"),
        (8, {}, "", "another toolstack made it"),
    ],
)
def test_what_could_not_come_back(
    root: int, hangs: dict[str, Sequence[str]], left_out: str, words: str
) -> None:
    others = (domain(9, "x", MADE_ELSEWHERE, trusted=False), domain(8, "y", MADE_ELSEWHERE))
    host = sight(hangs, *others)
    host = Sight(
        host.domains, host.devices, host.running, {k: v for k, v in host.configs.items() if k != left_out}
    )
    (refusal,) = make_plan(host.domains[root], host).refusals
    assert words in refusal


# ---- carrying it out ----


class Board(Hands):
    """A host that remembers what was done to it, and fails where it was told to.

    ``fails`` maps an operation (``down a``, ``restart``, ``up a``) to how often it fails; ``stops`` is the number of
    the check at which somebody wants it to end.
    """

    def __init__(
        self, drain: Drain, fails: dict[str, int] | None = None, *, stops: int | None = None
    ) -> None:
        self.up = {guest.name: guest.domid for guest in drain.guests}
        self.guests = {guest.name: guest for guest in drain.guests}
        self.driver: int | None = 1
        self.next = 10
        self.fails = fails or {}
        self.stops = stops
        self.done: list[str] = []
        self.saved: list[bytes] = []
        self.late: str | None = None
        self.newcomers: list[Guest] = []
        self.leaves: str | None = None  # the driver domain goes when this guest is to come back

    def _fails(self, what: str) -> bool:
        self.done.append(what)
        self.fails[what] = self.fails.get(what, 0) - 1
        return self.fails[what] >= 0

    def save(self, drain: Drain) -> None:
        self.saved.append(render(drain))

    def hanging(self, drain: Drain) -> Plan:
        if self.driver != 1:
            return Plan([], [])
        while self.newcomers:
            guest = self.newcomers.pop()
            self.guests[guest.name], self.up[guest.name] = guest, guest.domid
        return Plan([guest for name, guest in self.guests.items() if name in self.up], [])

    def shut_down(self, guests: Sequence[Guest]) -> Iterator[tuple[Guest, str | None]]:
        for guest in guests:
            failed = self._fails(f"down {guest.name}")
            if not failed:
                del self.up[guest.name]
            yield guest, f"{guest.name} stays" if failed else None

    def restart(self, drain: Drain) -> int:
        how = "restart" if self.driver == 1 else "start"
        if self._fails(f"{how} but up"):
            raise DrainError("DomD stays")
        if self.driver not in (1, None):
            return self.driver
        self.driver = None
        if self._fails(how):
            raise DrainError("no memory")
        self.driver = self.next = self.next + 1
        return self.driver

    def still_up(self, drain: Drain) -> bool:
        return self.driver == 1

    def present(self, drain: Drain) -> bool:
        return self.driver is not None

    def wait_ready(self, drain: Drain) -> str | None:
        self.done.append("ready")
        return self.late

    def create(self, guest: Guest) -> int | None:
        if guest.name in self.up:
            return self.up[guest.name]
        if self.leaves == guest.name:
            self.driver = self.leaves = None
        if self._fails(f"up {guest.name}") or self.driver is None:
            raise DrainError(f"{guest.name}: no daemon")
        self.next += 1
        self.up[guest.name] = self.next
        return self.next

    def check(self) -> None:
        if self.stops is not None:
            self.stops -= 1
            if self.stops < 0:
                self.stops = None
                raise StoppedError


def drain_of(*guests: str) -> Drain:
    """Guests in order; ``far<near`` hangs on near."""
    found: list[Guest] = []
    for number, text in enumerate(guests, 2):
        name, _sign, through = text.partition("<")
        found.append(Guest(name, f"/{name}", number, ["xvda"], [through or "DomD"], 2 if through else 1))
    return Drain("DomD", "/DomD", 1, "boot", guests=found)


def statuses(drain: Drain) -> dict[str, str]:
    return {guest.name: guest.status for guest in drain.guests}


def actions(board: Board) -> list[str]:
    return [what for what in board.done if "but" not in what]


def test_all_go_and_come_back_in_order() -> None:
    drain = drain_of("a", "b", "far<b")
    board = Board(drain)
    carry_out(drain, board)
    assert actions(board) == ["down far", "down a", "down b", "restart", "ready", "up a", "up b", "up far"]
    assert (drain.outcome, drain.phase, drain.open) == ("done", "ended", False)
    assert drain.message == "DomD was restarted (domain 1 -> 11), 3 guests re-created"
    assert drain.lines()[1] == "a: back as domain 12 (was domain 2)"


@pytest.mark.parametrize(
    ("fails", "outcome", "back", "words"),
    [
        (
            {"down b": 1},
            "abandoned",
            {"a": "back", "b": "waiting"},
            "b stays. 1 guest that had been shut down is back",
        ),
        ({"down a": 1, "down b": 1}, "abandoned", {"a": "waiting", "b": "waiting"}, "a stays. b stays"),
        (
            {"restart but up": 1},
            "abandoned",
            {"a": "back", "b": "back"},
            "DomD stays. 2 guests that had been",
        ),
        ({"restart": 1}, "broken", {"a": "down", "b": "down"}, "Down with it: a, b"),
        ({"up a": 1}, "done", {"a": "back", "b": "back"}, "2 guests re-created"),  # tried once more
        ({"up a": 2}, "incomplete", {"a": "failed", "b": "back"}, "NOT back: a: no daemon"),
        ({"down b": 1, "up a": 2}, "abandoned", {"a": "failed", "b": "waiting"}, "NOT back: a: no daemon"),
    ],
)
def test_what_fails(fails: dict[str, int], outcome: str, back: dict[str, str], words: str) -> None:
    drain = drain_of("a", "b")
    board = Board(drain, dict(fails))
    carry_out(drain, board)
    assert (drain.outcome, statuses(drain)) == (outcome, back)
    assert words in drain.message
    assert drain.open == bool({"down", "failed"} & set(back.values()))
    if drain.open:  # the same again, once that is mended
        board.fails = {}
        carry_out(drain, board)
        assert not drain.open
        assert set(statuses(drain).values()) <= {"back", "waiting"}
        assert set(board.up) == {"a", "b"}


def test_who_hangs_on_a_guest_that_is_not_back_is_not_tried() -> None:
    drain = drain_of("near", "far<near", "b")
    drain.guests.sort(key=lambda guest: guest.level)
    board = Board(drain, {"up near": 2})
    carry_out(drain, board)
    assert statuses(drain) == {"near": "failed", "b": "back", "far": "failed"}
    assert "up far" not in board.done
    assert "far hangs on near, which is not back" in drain.message


@pytest.mark.parametrize("fails", [{}, {"restart but up": 1}])
def test_a_driver_domain_that_goes_late_is_brought_back(fails: dict[str, int]) -> None:
    """It was asked to shut down and did so after all, or crashed."""
    drain = drain_of("a", "b")
    board = Board(drain, dict(fails))
    board.leaves = "b"
    carry_out(drain, board)
    assert (drain.outcome, statuses(drain)) == ("done", {"a": "back", "b": "back"})
    assert drain.new_domid == board.driver


def test_taken_up_without_its_driver_domain() -> None:
    drain = drain_of("a", "b")
    board = Board(drain, {"up a": 2})
    carry_out(drain, board)
    assert drain.outcome == "incomplete"
    board.driver = None
    carry_out(drain, board)
    assert (drain.outcome, board.driver) == ("done", drain.new_domid)


def test_a_daemon_that_is_late_keeps_nobody() -> None:
    drain = drain_of("a")
    board = Board(drain)
    board.late = "backend DomD: its virtio-disk says 'dead'"
    carry_out(drain, board)
    assert drain.outcome == "done"
    assert any("says 'dead'" in line for line in drain.log)


def test_a_guest_that_came_up_meanwhile_goes_too() -> None:
    drain = drain_of("a")
    board = Board(drain)
    board.newcomers = [Guest("b", "/b", 7, ["xvda"], ["DomD"])]
    carry_out(drain, board)
    assert (drain.outcome, statuses(drain)) == ("done", {"a": "back", "b": "back"})


class Restless(Board):
    """Somebody starts its guests as fast as they go."""

    def hanging(self, drain: Drain) -> Plan:
        self.up["a"] = 7
        return Plan([Guest("a", "/a", 7, ["xvda"], ["DomD"])], [])


def test_guests_that_come_up_again_and_again() -> None:
    drain = drain_of("a")
    board = Restless(drain)
    carry_out(drain, board)
    assert drain.outcome == "abandoned"
    assert "come up again as fast as they are shut down" in drain.message
    assert board.driver == 1


@pytest.mark.parametrize("stops", range(12))
@pytest.mark.parametrize("fails", [{}, {"down b": 1}, {"up a": 1}, {"restart but up": 1}])
def test_stopped_anywhere_it_goes_on_from_there(stops: int, fails: dict[str, int]) -> None:
    drain = drain_of("a", "b", "far<b")
    board = Board(drain, dict(fails), stops=stops)
    carry_out(drain, board)
    stopped = drain.outcome == "stopped"
    drain = parse(board.saved[-1], "/state")
    if stopped:
        carry_out(drain, board)
    assert drain.outcome in ("done", "abandoned")
    assert set(board.up) == {"a", "b", "far"}
    assert board.done.count("restart") <= 1


class CutError(Exception):
    """The process is gone."""


class Cut(Board):
    """Ends right after it has kept the state for the `left`-th time."""

    left = 0

    def save(self, drain: Drain) -> None:
        super().save(drain)
        self.left -= 1
        if self.left == -1:
            raise CutError


@pytest.mark.parametrize("fails", [{}, {"down b": 1}, {"up a": 2}, {"restart": 1}, {"restart but up": 1}])
def test_cut_off_after_any_save_it_goes_on_from_there(fails: dict[str, int]) -> None:
    """Whatever of a step was done, and not kept, is found out anew."""
    for cut in range(24):  # more than there are saves
        drain = drain_of("a", "b", "far<b")
        board = Cut(drain, dict(fails))
        board.left = cut
        for _attempt in range(3):
            try:
                carry_out(drain, board)
            except CutError:
                drain = parse(board.saved[-1], "/state")
                carry_out(drain, board)
            if not drain.open:
                break
        assert set(board.up) == {"a", "b", "far"}, cut
        assert board.driver is not None
        assert not drain.open


# ---- the state file ----


def test_what_is_kept_is_what_was() -> None:
    drain = drain_of("a", "far<a")
    drain.options = {"timeout": 1.0, "xen": None}
    drain.note("linux\udcff: begun")
    assert parse(render(drain), "/state") == drain


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b"\xff", b'{"version": 2}', render(drain_of("a")).replace(b'"waiting"', b'"gone"'),
     render(drain_of("a")).replace(b'"phase": "down"', b'"phase": "x"'),
     render(drain_of("a")).replace(b'"outcome": null', b'"outcome": "fine"'),
     render(drain_of("a")).replace(b'"level"', b'"levels"')],
)  # fmt: skip
def test_what_is_no_state_file_says_so(content: bytes) -> None:
    with pytest.raises(StateError, match="/state: not what this release keeps"):
        parse(content, "/state")
