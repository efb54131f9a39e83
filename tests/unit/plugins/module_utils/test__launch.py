# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The launcher's rules, one by one: what is seen, second by second, and what is done about it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._diskstatus import (
    FAILED,
    LOST,
    SERVED,
    STARTING,
    WAITING,
)
from ansible_collections.xen.virtio.plugins.module_utils._launch import (
    UNIT_RUNNING,
    UNIT_STARTING,
    UNIT_STOPPING,
    Decision,
    Disk,
    Key,
    Memory,
    Observation,
    Rules,
    Start,
    Stop,
    Unit,
    step,
)

A, B, C = (1, 51712), (2, 51712), (1, 51728)


def disk(state: str | None = "1", target: str = "/dev/a", **more: Any) -> Disk:
    """A disk whose guest is there."""
    given = {"frontend": "1", "identity": frozenset({f"device of {target}"}), "births": 1, **more}
    return Disk(state, target=target, **given)


def unit(phase: str = UNIT_RUNNING, target: str = "/dev/a", **more: Any) -> Unit:
    given = {"identity": frozenset({f"device of {target}"}), "store": "mark", **more}
    return Unit(phase, target, **given)


class Launcher:
    """Steps in a row, with what each did in short."""

    def __init__(self, **rules: Any) -> None:
        self.rules = Rules(**rules)
        self.memory = Memory()
        self.last = Decision(self.memory)

    def see(
        self, now: float, disks: dict[Key, Disk] | None, units: dict[Key, Unit] | None = None, **more: Any
    ) -> list[str]:
        given = {"store": "mark", **more}
        seen = Observation(disks, {} if units is None else units, **given)
        self.last = step(self.memory, seen, now, self.rules)
        self.memory = self.last.memory
        return [
            f"{'start' if isinstance(action, Start) else 'stop'} {action.key[0]}-{action.key[1]}"
            for action in self.last.actions
        ]

    def told(self, key: Key = A) -> str | None:
        """The status of a disk."""
        assert self.last.statuses is not None
        found = self.last.statuses.get(key)
        return None if found is None else found.status

    def why(self, key: Key = A) -> str:
        assert self.last.statuses is not None
        return self.last.statuses[key].reason


@pytest.fixture
def launcher() -> Launcher:
    return Launcher()


@pytest.fixture
def serving(launcher: Launcher) -> Launcher:
    """One disk, served and settled at second 1."""
    launcher.see(0.0, {A: disk()})
    launcher.see(0.3, {A: disk("2")}, {A: unit()})
    launcher.see(1.0, {A: disk("2")}, {A: unit()})
    assert launcher.told() == SERVED
    return launcher


# --- a new disk -----------------------------------------------------------------------------------------


def test_a_new_disk_gets_a_daemon_and_is_served_once_it_stays_in_use(launcher: Launcher) -> None:
    assert launcher.see(0.0, {A: disk()}) == ["start 1-51712"]
    assert launcher.told() == STARTING
    assert launcher.see(0.1, {A: disk()}, {A: unit(UNIT_STARTING)}) == []
    assert launcher.see(0.3, {A: disk("2")}, {A: unit()}) == []
    assert launcher.told() == STARTING
    assert launcher.last.wake == pytest.approx(0.8)
    assert launcher.see(0.8, {A: disk("2")}, {A: unit()}) == []
    assert launcher.told() == SERVED
    assert launcher.last.wake is None


def test_several_guests_at_once_and_equal_device_numbers(launcher: Launcher) -> None:
    disks = {A: disk(), B: disk(target="/dev/b"), C: disk(target="/dev/c")}
    assert launcher.see(0.0, disks) == ["start 1-51712", "start 1-51728", "start 2-51712"]


def test_a_lower_domid_is_a_guest_as_any_other(serving: Launcher) -> None:
    lower = (0, 51712)
    assert serving.see(5.0, {A: disk("2"), lower: disk(target="/dev/b")}, {A: unit()}) == ["start 0-51712"]


UNFIT = [
    ("nodes that come late", {A: disk(unfit="nodes are missing: base, irq")}, "nodes are missing: base, irq"),
    ("no state yet", {A: disk(None, unfit="nodes are missing: state")}, "nodes are missing: state"),
    ("closing", {A: disk("5")}, "it is closed"),
    ("closed", {A: disk("6")}, "it is closed"),
    ("what a gone guest left behind", {A: disk("2", frontend=None)}, "its guest is gone and left it behind"),
]


@pytest.mark.parametrize(("_case", "disks", "why"), UNFIT, ids=[case for case, *_rest in UNFIT])
def test_no_daemon_for_what_none_could_serve(
    launcher: Launcher, _case: str, disks: dict[Key, Disk], why: str
) -> None:
    assert launcher.see(0.0, disks) == []
    assert (launcher.told(), launcher.why()) == (WAITING, why)
    assert launcher.last.look


def test_late_nodes_are_waited_for(launcher: Launcher) -> None:
    launcher.see(0.0, {A: disk(unfit="nodes are missing: params")})
    assert launcher.see(2.0, {A: disk()}) == ["start 1-51712"]


def test_nothing_is_started_beside_a_foreign_daemon(launcher: Launcher) -> None:
    foreign = ("process 7 of virtio-disk.service",)
    assert launcher.see(0.0, {A: disk(), B: disk("2")}, foreign=foreign) == []
    assert launcher.last.dead == "a daemon that is not the launcher's runs: process 7 of virtio-disk.service"
    assert (launcher.told(A), launcher.told(B)) == (WAITING, SERVED)
    assert launcher.see(1.0, {A: disk(), B: disk("2")}) == ["start 1-51712"]
    assert launcher.last.dead == ""
    assert launcher.told(B) == LOST


def test_nothing_is_started_where_no_daemon_could_be(launcher: Launcher) -> None:
    assert launcher.see(0.0, {A: disk()}, trouble="/x: no such program") == []
    assert (launcher.told(), launcher.last.dead) == (WAITING, "/x: no such program")
    assert launcher.see(1.0, {A: disk()}) == ["start 1-51712"]


# --- not served -----------------------------------------------------------------------------------------


def test_a_deaf_daemon_is_stopped_after_three_seconds_and_started_once_more(launcher: Launcher) -> None:
    launcher.see(0.0, {A: disk()})
    assert launcher.see(0.5, {A: disk()}, {A: unit()}) == []
    assert launcher.last.wake == pytest.approx(3.5)
    assert launcher.see(3.4, {A: disk()}, {A: unit()}) == []
    assert launcher.see(3.5, {A: disk()}, {A: unit()}) == ["stop 1-51712"]
    assert launcher.see(3.6, {A: disk()}, {A: unit(UNIT_STOPPING)}) == []  # not while the first one is there
    assert launcher.see(6.5, {A: disk()}) == ["start 1-51712"]
    launcher.see(6.6, {A: disk()}, {A: unit()})
    assert launcher.see(9.6, {A: disk()}, {A: unit()}) == ["stop 1-51712"]
    assert launcher.see(9.9, {A: disk()}) == []
    assert launcher.told() == FAILED
    assert launcher.why() == "started 2 times: no daemon took it up within 3 s"
    assert launcher.see(500.0, {A: disk()}) == []


def test_a_daemon_that_takes_its_disk_up_in_the_last_moment_stays(launcher: Launcher) -> None:
    launcher.see(0.0, {A: disk()})
    launcher.see(0.1, {A: disk()}, {A: unit()})
    assert launcher.see(3.2, {A: disk()}, {A: unit()}) == ["stop 1-51712"]
    (stop,) = launcher.last.actions
    assert isinstance(stop, Stop)
    assert stop.unless_taken
    assert launcher.see(3.3, {A: disk("2")}, {A: unit()}) == []
    assert launcher.see(3.9, {A: disk("2")}, {A: unit()}) == []
    assert launcher.told() == SERVED
    assert launcher.see(60.0, {A: disk("2")}, {A: unit()}) == []


def test_one_that_neither_takes_it_up_nor_ends_is_stopped_without_a_choice(launcher: Launcher) -> None:
    launcher.see(0.0, {A: disk()})
    launcher.see(0.1, {A: disk()}, {A: unit()})
    launcher.see(3.2, {A: disk()}, {A: unit()})
    assert launcher.see(13.3, {A: disk()}, {A: unit()}) == ["stop 1-51712"]
    assert launcher.last.actions == (Stop(A, "no daemon took it up within 3 s"),)


def test_a_daemon_that_ends_at_once_is_started_once_more(launcher: Launcher) -> None:
    launcher.see(0.0, {A: disk()})
    assert launcher.see(0.2, {A: disk()}) == []
    assert launcher.last.wake == pytest.approx(0.5)
    assert launcher.see(0.5, {A: disk()}) == ["start 1-51712"]
    assert launcher.see(0.7, {A: disk()}) == []
    assert launcher.told() == FAILED


def test_the_second_daemon_is_for_a_disk_that_is_still_free_alone(launcher: Launcher) -> None:
    launcher.see(0.0, {A: disk()})
    assert launcher.see(5.0, {A: disk("2")}) == []
    assert launcher.told() == LOST


def test_time_counts_from_when_a_daemon_runs(launcher: Launcher) -> None:
    launcher.see(0.0, {A: disk()})
    assert launcher.see(9.0, {A: disk()}, {A: unit(UNIT_STARTING)}) == []
    assert launcher.see(10.0, {A: disk()}, {A: unit(UNIT_STARTING)}) == ["stop 1-51712"]


def test_a_failed_disk_that_is_made_anew_is_a_new_one(launcher: Launcher) -> None:
    for second in (0.0, 1.0, 2.0):
        launcher.see(second, {A: disk()})
    assert launcher.told() == FAILED
    assert launcher.see(3.0, {A: disk(births=2)}) == ["start 1-51712"]


# --- in use ---------------------------------------------------------------------------------------------


def test_what_a_launcher_before_it_told_is_told_once(launcher: Launcher) -> None:
    assert launcher.see(0, {A: disk("2")}) == []
    told = launcher.why()
    track = launcher.memory.tracks[A]
    launcher.memory = Memory({A: replace(track, why=told)})  # as it stands in the store
    assert launcher.see(1, {A: disk("2")}) == []
    assert (launcher.told(), launcher.why()) == (LOST, told)


DEAD_STATES = [("2", LOST), ("3", LOST), ("4", LOST), ("1", LOST)]


@pytest.mark.parametrize(("state", "told"), DEAD_STATES)
def test_a_daemon_that_dies_past_state_1_is_never_replaced(serving: Launcher, state: str, told: str) -> None:
    assert serving.see(2.0, {A: disk(state)}) == []
    assert serving.told() == told
    for second in (3.0, 10.0, 1000.0):
        assert serving.see(second, {A: disk(state)}) == []
    assert serving.told() == told


def test_a_disk_made_anew_after_the_second_start_may_be_tried_once_more(launcher: Launcher) -> None:
    """Not one that only looks so: what is written for the first time is told of more than once."""
    assert launcher.see(0.0, {A: disk()}) == ["start 1-51712"]
    assert launcher.see(0.6, {A: disk(births=2)}) == ["start 1-51712"]
    assert launcher.see(1.0, {A: disk(births=3)}, {A: unit()}) == []
    assert launcher.see(1.1, {A: disk(births=3)}) == ["start 1-51712"]
    assert launcher.see(9.0, {A: disk(births=3)}) == []
    assert launcher.told() == FAILED


def test_a_daemon_may_have_whatever_its_disk_was_made_into(launcher: Launcher) -> None:
    """It reads the target long after its unit was started, and keeps what it read until it has ended."""
    others = {(7, 51712): disk(target="/dev/a"), (8, 51712): disk(target="/dev/b")}
    units = {A: unit(target="/dev/a")}
    assert launcher.see(0.0, {A: disk()}) == ["start 1-51712"]
    for state in ("1", "2"):
        seen = {A: disk(state, target="/dev/b", births=2), **others}
        assert launcher.see(0.5, seen, units) == []
        assert {launcher.told(key) for key in others} == {WAITING}
    again = {A: disk(target="/dev/c", births=3), **others}
    assert launcher.see(1.5, again, units) == ["stop 1-51712"]
    assert {launcher.told(key) for key in others} == {WAITING}
    assert launcher.see(1.6, again) == ["start 1-51712", "start 7-51712", "start 8-51712"]


def test_lost_until_the_guest_is_re_created(serving: Launcher) -> None:
    serving.see(2.0, {A: disk("2")})
    assert serving.told() == LOST
    assert serving.see(3.0, {}) == []
    assert serving.told() is None
    assert serving.see(4.0, {A: disk(births=2)}) == ["start 1-51712"]


def test_lost_though_its_daemon_took_the_directory_with_it(serving: Launcher) -> None:
    """As on SIGTERM, or when it could not open the image: 6, and the directory goes."""
    assert serving.see(2.0, {}, {A: unit()}, frontends=frozenset({A})) == ["stop 1-51712"]
    assert serving.told() == LOST
    assert serving.see(3.0, {}, frontends=frozenset({A})) == []
    assert serving.told() == LOST
    assert serving.see(4.0, {}) == []
    assert serving.told() is None
    assert serving.memory == Memory()


@pytest.mark.parametrize("state", ["1", "5", "6", None, "x"])
def test_a_state_that_somebody_wrote_is_the_end_of_no_daemon(serving: Launcher, state: str | None) -> None:
    for second in (2.0, 10.0, 100.0):
        assert serving.see(second, {A: disk(state)}, {A: unit()}) == []
    assert (serving.told(), serving.why()) == (SERVED, f"its state reads {state} while its daemon has it")


def test_a_disk_made_anew_under_the_same_numbers_gets_a_daemon_of_its_own(serving: Launcher) -> None:
    assert serving.see(2.0, {A: disk("1", births=2)}, {A: unit()}) == ["stop 1-51712"]
    assert serving.see(2.1, {A: disk("1", births=2)}, {A: unit(UNIT_STOPPING)}) == []
    assert serving.see(2.2, {A: disk("1", births=2)}) == ["start 1-51712"]


def test_repairs_of_the_directory_of_a_disk_in_use_change_nothing(serving: Launcher) -> None:
    assert serving.see(2.0, {A: disk("2", births=9)}, {A: unit()}) == []
    assert serving.told() == SERVED


# --- the guest goes -------------------------------------------------------------------------------------


def test_a_daemon_whose_directory_is_gone_is_stopped(serving: Launcher) -> None:
    assert serving.see(2.0, {}, {A: unit()}) == ["stop 1-51712"]
    assert serving.see(2.1, {}, {A: unit(UNIT_STOPPING)}) == []
    assert serving.see(2.2, {}) == []
    assert serving.memory == Memory()


def test_one_that_does_not_close_is_stopped_in_time_for_libxl(serving: Launcher) -> None:
    gone = {A: disk("5", frontend=None)}
    assert serving.see(2.0, gone, {A: unit()}) == []
    assert serving.last.wake == pytest.approx(5.0)
    assert serving.see(5.0, gone, {A: unit()}) == ["stop 1-51712"]
    assert serving.see(8.1, gone) == []
    assert serving.told() == WAITING
    assert serving.see(8.2, {}) == []
    assert serving.told() is None


def test_a_stop_that_did_not_help_is_asked_for_again(serving: Launcher) -> None:
    serving.see(2.0, {}, {A: unit()})
    assert serving.see(11.9, {}, {A: unit(UNIT_STOPPING)}) == []
    assert serving.see(12.0, {}, {A: unit(UNIT_STOPPING)}) == ["stop 1-51712"]


# --- one writer a target --------------------------------------------------------------------------------


def test_a_rebooted_guest_waits_for_its_former_daemon(serving: Launcher) -> None:
    """Under another domid, with the same target, while the first daemon hangs."""
    old = {A: disk("5", frontend=None)}
    assert serving.see(2.0, {**old, B: disk()}, {A: unit()}) == ["stop 1-51712"]
    assert (serving.told(B), serving.why(B)) == (WAITING, "disk 51712 of guest 1 has its target writable")
    assert serving.see(3.0, {B: disk()}, {A: unit(UNIT_STOPPING)}) == []
    assert serving.see(5.1, {B: disk()}) == ["start 2-51712"]


SAME_STORAGE = [
    ("the same path", disk(target="/dev/a"), {}, False),
    ("another name of it", disk(target="/dev/z", identity=frozenset({"device of /dev/a", "x"})), {}, False),
    ("to be read", disk(writable=False), {}, False),
    ("shared by their user's will", disk(), {"shared": frozenset({"/dev/a"})}, True),
    ("another one", disk(target="/dev/b"), {}, True),
]


@pytest.mark.parametrize(
    ("_case", "new", "rules", "started"), SAME_STORAGE, ids=[case for case, *_rest in SAME_STORAGE]
)
def test_no_daemon_on_what_a_living_guest_has_writable(
    serving: Launcher, _case: str, new: Disk, rules: dict[str, Any], started: bool
) -> None:
    serving.rules = replace(serving.rules, **rules)
    done = serving.see(2.0, {A: disk("2"), B: new}, {A: unit()})
    assert done == (["start 2-51712"] if started else [])  # and the one that serves stays
    assert serving.told(A) == SERVED


def test_a_target_that_is_only_read_holds_nobody_up(launcher: Launcher) -> None:
    launcher.see(0.0, {A: disk(writable=False)})
    held = {A: unit(writable=False)}
    assert launcher.see(1.0, {A: disk("2", writable=False), B: disk()}, held) == ["start 2-51712"]


def test_of_two_new_disks_with_one_target_one_waits(launcher: Launcher) -> None:
    assert launcher.see(0.0, {A: disk(), B: disk()}) == ["start 1-51712"]
    assert launcher.told(B) == WAITING


# --- without a view -------------------------------------------------------------------------------------


def test_without_a_view_never_two_daemons_with_one_device_number() -> None:
    launcher = Launcher(view=False)
    two = {A: disk(), B: disk(target="/dev/b"), C: disk(target="/dev/c")}
    assert launcher.see(0.0, two) == ["start 2-51712"]  # a daemon takes the highest domid
    units = {B: unit(target="/dev/b", view=False)}
    two[B] = disk("2", target="/dev/b")
    assert launcher.see(1.0, two, units) == []
    assert (
        launcher.why(A)
        == "disk 51712 of guest 2 has its device number, and there is no view to keep them apart"
    )
    assert launcher.told(B) == STARTING
    del two[B], units[B]
    assert launcher.see(2.0, two, units) == ["start 1-51712", "start 1-51728"]


@pytest.mark.parametrize("state", ["1", "2", "6"])
def test_without_a_view_no_daemon_for_a_guest_below_another(state: str) -> None:
    """It would look at the other one alone, which has no disk of its number, and at this one never."""
    launcher = Launcher(view=False)
    above = {(7, 51744): disk(state, target="/dev/b")}
    units = {(7, 51744): unit(target="/dev/b", view=False)}
    assert launcher.see(0.0, {A: disk(), **above}, units) == []
    assert launcher.told(A) == WAITING
    assert launcher.why(A) == "guest 7 is there: without a view a daemon looks at the highest domid alone"
    assert launcher.see(100.0, {A: disk()}) == ["start 1-51712"]


def test_a_daemon_without_a_view_that_took_up_a_guest_that_came_just_then_keeps_it() -> None:
    launcher = Launcher(view=False)
    units = {A: unit(view=False)}
    other = (7, 51744)
    assert launcher.see(0.0, {A: disk()}) == ["start 1-51712"]
    two = {A: disk(), B: disk("2", target="/dev/b")}
    assert launcher.see(0.3, two, units) == []
    assert (launcher.told(A), launcher.told(B)) == (WAITING, SERVED)
    assert launcher.see(9.0, {**two, other: disk(target="/dev/b")}, units) == []
    assert launcher.told(other) == WAITING  # the storage that it has now counts
    gone = {A: disk(), B: disk("5", frontend=None, target="/dev/b")}
    assert launcher.see(10.0, gone, units) == []  # it may see the one that it was started for now
    assert launcher.see(13.1, {A: disk()}, units) == ["stop 1-51712"]
    assert launcher.see(14.0, {A: disk()}) == ["start 1-51712"]


def test_a_daemon_without_a_view_whose_guest_went_before_it_took_it_up_keeps_another() -> None:
    launcher = Launcher(view=False)
    units = {A: unit(view=False)}
    launcher.see(0.0, {A: disk()})
    for now in (0.3, 9.0):
        gone = {A: disk("5", frontend=None), B: disk("2", target="/dev/b")}
        assert launcher.see(now, gone, units) == []
        assert launcher.told(B) == SERVED


def test_a_deaf_daemon_without_a_view_is_stopped_though_another_disk_of_its_number_is_lost() -> None:
    launcher = Launcher(view=False)
    assert launcher.see(0.0, {A: disk("2")}) == []
    assert launcher.told(A) == LOST
    two = {A: disk("2"), B: disk(target="/dev/b")}
    assert launcher.see(1.0, two) == ["start 2-51712"]
    units = {B: unit(target="/dev/b", view=False)}
    assert launcher.see(1.5, two, units) == []
    assert launcher.see(4.6, two, units) == ["stop 2-51712"]
    assert launcher.told(A) == LOST


def test_a_daemon_without_a_view_that_closes_another_disk_gets_its_time_anew() -> None:
    """Told to end in that moment it would hang, and leave the other disk behind."""
    launcher = Launcher(view=False)
    units = {A: unit(view=False)}
    launcher.see(0.0, {A: disk()})
    launcher.see(0.5, {A: disk()}, units)
    launcher.see(3.0, {A: disk(), B: disk("2", target="/dev/b")}, units)
    assert launcher.told(A) == WAITING
    for left in ({}, {B: disk("6", frontend=None, target="/dev/b")}):
        assert launcher.see(9.0, {A: disk(), **left}, units) == []
    assert launcher.see(11.9, {A: disk()}, units) == []
    assert launcher.see(12.1, {A: disk()}, units) == ["stop 1-51712"]


def test_a_daemon_without_a_view_that_took_up_another_disk_keeps_it() -> None:
    """Its own guest went, and it found the one that waited for its number before it could be stopped."""
    launcher = Launcher(view=False)
    unit_of_a = unit(view=False)
    launcher.see(0.0, {A: disk()})
    launcher.see(1.0, {A: disk("2"), B: disk(target="/dev/b")}, {A: unit_of_a})
    taken = {B: disk("2", target="/dev/b")}
    assert launcher.see(2.0, taken, {A: unit_of_a}) == []
    assert launcher.told(B) == SERVED
    other = (7, 51744)
    assert launcher.see(3.0, {**taken, other: disk(target="/dev/b")}, {A: unit_of_a}) == []
    assert launcher.told(other) == WAITING  # the storage that it has now counts
    assert launcher.see(4.0, {}, {A: unit_of_a}) == ["stop 1-51712"]


def test_a_daemon_without_a_view_is_not_stopped_while_it_may_take_up_another_disk() -> None:
    launcher = Launcher(view=False)
    unit_of_a, waits = unit(view=False), disk(target="/dev/b")
    launcher.see(0.0, {A: disk()})
    launcher.see(1.0, {A: disk("2")}, {A: unit_of_a})
    assert launcher.see(2.0, {A: disk("5", frontend=None), B: waits}, {A: unit_of_a}) == []
    assert launcher.see(2.1, {B: waits}, {A: unit_of_a}) == []
    assert launcher.last.wake == pytest.approx(5.0)
    assert launcher.see(5.1, {B: waits}, {A: unit_of_a}) == ["stop 1-51712"]
    assert launcher.see(5.2, {B: waits}) == ["start 2-51712"]


def test_a_deaf_daemon_without_a_view_gets_time_for_each_guest_that_comes() -> None:
    launcher = Launcher(view=False)
    units, waits = {A: unit(view=False)}, disk(target="/dev/b")
    launcher.see(0.0, {A: disk()})
    launcher.see(0.5, {A: disk()}, units)
    assert launcher.see(3.4, {A: disk(), B: waits}, units) == []
    assert launcher.see(6.3, {A: disk(), B: waits}, units) == []
    assert launcher.see(6.5, {A: disk(), B: waits}, units) == ["stop 1-51712"]


def test_a_daemon_without_a_view_keeps_others_off_its_number_when_views_are_on_again(
    launcher: Launcher,
) -> None:
    disks, units = {A: disk("2"), B: disk(target="/dev/b")}, {A: unit(view=False)}
    assert launcher.see(0.0, disks, units) == []
    assert launcher.told(B) == WAITING


# --- what says nothing ----------------------------------------------------------------------------------


def test_a_store_or_systemd_that_cannot_be_asked_changes_nothing(serving: Launcher) -> None:
    tracks = serving.memory.tracks
    assert serving.see(2.0, None, {A: unit()}) == []
    assert serving.last.statuses is None
    seen = Observation({}, None)
    assert step(serving.memory, seen, 3.0, serving.rules).actions == ()
    assert serving.memory.tracks == tracks


def test_time_without_a_store_is_no_time_in_which_a_daemon_could_serve(launcher: Launcher) -> None:
    launcher.see(0.0, {A: disk()})
    launcher.see(0.5, {A: disk()}, {A: unit()})
    launcher.see(1.0, None)
    assert launcher.see(60.0, {A: disk()}, {A: unit()}) == []
    assert launcher.last.wake == pytest.approx(63.0)


def test_a_store_that_came_back_empty_ends_nobody(serving: Launcher) -> None:
    assert serving.see(2.0, {}, {A: unit()}, store="another") == []
    assert (serving.told(), serving.why()) == (SERVED, "the store came back without it: its daemon serves on")
    assert serving.see(900.0, {}, {A: unit()}, store="another") == []


def test_nodes_that_were_written_anew_into_an_empty_store_end_nobody(serving: Launcher) -> None:
    assert serving.see(2.0, {A: disk("1", births=2)}, {A: unit()}, store="another") == []
    assert serving.told() == SERVED


def test_a_guest_that_an_empty_store_forgot_keeps_its_target(serving: Launcher) -> None:
    assert serving.see(2.0, {B: disk()}, {A: unit()}, store="another") == []
    assert serving.told(B) == WAITING


def test_a_store_with_another_mark_and_the_disk_in_use_is_as_before(serving: Launcher) -> None:
    serving.see(2.0, {A: disk("2")}, {A: unit()}, store="another")
    assert (serving.told(), serving.why()) == (SERVED, "")
    assert serving.see(3.0, {}, {A: unit()}, store="another") == ["stop 1-51712"]


# --- a launcher that starts anew ------------------------------------------------------------------------

ADOPTED = [
    ("serving", {A: disk("2")}, {A: unit()}, "mark", [], SERVED),
    ("in use by nobody", {A: disk("2")}, {}, "mark", [], LOST),
    ("just started", {A: disk("1")}, {A: unit()}, "mark", [], STARTING),
    ("its guest went meanwhile", {}, {A: unit()}, "mark", ["stop 1-51712"], None),
    ("the store was emptied meanwhile", {}, {A: unit()}, "another", [], SERVED),
    ("emptied and written anew", {A: disk("1")}, {A: unit()}, "another", [], SERVED),
    ("new", {A: disk("1")}, {}, "another", ["start 1-51712"], None),
]


@pytest.mark.parametrize(
    ("_case", "disks", "units", "store", "done", "told"), ADOPTED, ids=[case for case, *_rest in ADOPTED]
)
def test_what_is_there_is_taken_up_as_it_is(
    launcher: Launcher,
    _case: str,
    disks: dict[Key, Disk],
    units: dict[Key, Unit],
    store: str,
    done: list[str],
    told: str | None,
) -> None:
    assert launcher.see(0.0, disks, units, store=store) == done
    launcher.see(1.0, disks, units, store=store)
    assert done or launcher.told() == told


def test_sizes_are_those_at_the_start_and_now(launcher: Launcher) -> None:
    launcher.see(0.0, {A: disk(size=100)})
    launcher.see(1.0, {A: disk("2", size=200)}, {A: unit(size=100, version="1.2")})
    assert launcher.last.statuses is not None
    told = launcher.last.statuses[A]
    assert (told.size, told.size_now, told.version) == (100, 200, "1.2")
