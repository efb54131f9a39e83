# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole calls over a store in memory: what is said where they stop, are overtaken, or cannot look."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils import _apply, _disk
from ansible_collections.xen.virtio.plugins.module_utils._declaration import DeclarationError, parse_guests
from ansible_collections.xen.virtio.plugins.module_utils._disk import (
    REPLANS,
    DiskError,
    Job,
    dialect_of,
    run,
)
from ansible_collections.xen.virtio.plugins.module_utils._disk_info import gather
from ansible_collections.xen.virtio.plugins.module_utils._disk_module import as_text, seconds
from ansible_collections.xen.virtio.plugins.module_utils._report import Result
from ansible_collections.xen.virtio.plugins.module_utils._snapshot import ResolveError
from ansible_collections.xen.virtio.plugins.module_utils._store import StoreError
from ansible_collections.xen.virtio.plugins.module_utils._survey import Scope, survey
from ansible_collections.xen.virtio.plugins.module_utils._xl import Xl
from unit.plugins.module_utils.hosts import disk, guest
from unit.plugins.module_utils.memory import MemoryStore

NO_XL = Xl("/nonexistent/xl")
THREE = guest("domu1", *(disk(f"xvd{x}", f"/dev/{x}") for x in "abc"))


@pytest.fixture
def store() -> MemoryStore:
    """dom0, a driver domain, two guests: one named by dom0, one by itself."""
    made = MemoryStore()
    for domid, name, owner in (
        (0, "Domain-0", "n0"),
        (1, "DomD", "n0"),
        (3, "domu1", "n0"),
        (5, "DomD", "n5"),
    ):
        made.add(domid, name, owner=owner)
    return made


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody sleeps between two plans."""
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    monkeypatch.setattr(_apply, "CLOSE_TIMEOUT", 0)


def call(store: MemoryStore, *guests: dict[str, Any], absent: bool = False, **options: Any) -> Result:
    options = {"wait": False, "xen": "4.20", "userdata": "/nonexistent", **options}
    declared = parse_guests({"guests": list(guests)}, absent=absent)
    return run(Job(declared, absent=absent, **options), store, NO_XL)  # type: ignore[arg-type]


def shown(result: Result) -> list[tuple[str, str, str]]:
    """vdev, action and health of every disk."""
    return [(one["vdev"], one["action"], one["health"]) for entry in result.guests for one in entry["disks"]]


def at(transaction: int, act: Callable[[], object]) -> Callable[[int], None]:
    """Do something before one transaction."""

    def before(number: int) -> None:
        if number == transaction:
            act()

    return before


def fail() -> None:
    raise StoreError("WRITE", "/x", "EIO")


def test_a_call_and_the_next_one(store: MemoryStore) -> None:
    done = call(store, THREE)
    assert (done.changed, done.msg) == (True, "3 disks of 1 guests: 3 added")
    assert shown(done) == [(f"xvd{x}", "added", "pending") for x in "abc"]
    again = call(store, THREE)
    assert (again.changed, again.msg, store.commits) == (False, "3 disks of 1 guests: nothing to change", 3)
    assert call(store, THREE, check=True).msg == again.msg


def test_the_store_shows_what_the_plan_wanted(store: MemoryStore) -> None:
    call(store, THREE)
    snapshot = survey(store, lambda _domains: Scope([3], [1]), userdata="/nonexistent")  # type: ignore[arg-type]
    assert sorted(devid for _guest, devid in snapshot.disks) == [51712, 51728, 51744]
    assert [one["drift"] for one in gather(store, None, userdata="/nonexistent")[0]["disks"]] == [[]] * 3  # type: ignore[arg-type]


def test_stopped_before_the_first_change(store: MemoryStore) -> None:
    store.before = at(0, fail)
    with pytest.raises(StoreError, match="EIO"):
        call(store, THREE)
    assert not [path for path in store.tree if "virtio_disk" in path]


def test_stopped_half_way(store: MemoryStore) -> None:
    store.before = at(1, fail)
    stopped = call(store, THREE)
    assert "stopped half-way: xenstore WRITE /x" in str(stopped.failed)
    assert stopped.changed
    assert shown(stopped) == [
        ("xvda", "added", "pending"),
        ("xvdb", "unchanged", "missing"),
        ("xvdc", "unchanged", "missing"),
    ]


def test_a_removal_that_stops_half_way(store: MemoryStore) -> None:
    call(store, THREE)
    store.before = at(5, fail)
    stopped = call(store, guest("domu1", exclusive=True))
    assert [action for _vdev, action, _health in shown(stopped)] == ["removed", "removed", "unchanged"]


def test_a_removal_that_stops_between_closing_and_removing_is_told(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_apply, "CLOSE_TIMEOUT", 0)
    call(store, THREE)
    store.put("/local/domain/1/backend/virtio_disk/3/51712/state", b"2")
    store.before = at(4, fail)
    stopped = call(store, guest("domu1", "xvda"), absent=True, hotplug=True)
    assert "stopped half-way" in str(stopped.failed)
    assert (stopped.changed, shown(stopped)[0][1]) == (True, "changed")
    store.before = lambda _transactions: None
    assert shown(call(store, guest("domu1", "xvda"), absent=True, hotplug=True))[0][1] == "removed"


def test_overtaken_in_the_middle_is_planned_anew_and_told_as_one(store: MemoryStore) -> None:
    store.before = at(1, lambda: call(MemoryView(store), guest("domu1", disk("xvdp", "/dev/p"))))
    done = call(store, THREE)
    assert done.msg == "3 disks of 1 guests: 3 added"
    irqs = [
        value
        for path, (value, _perms) in store.tree.items()
        if path.startswith("/libxl") and path.endswith("irq")
    ]
    assert sorted(irqs) == [b"33", b"34", b"35", b"36"]


class MemoryView(MemoryStore):
    """Somebody else at the same store."""

    def __init__(self, other: MemoryStore) -> None:
        super().__init__()
        self.tree, self.alive = other.tree, other.alive


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda s: s.put("/local/domain/3/vm", b"/vm/new"), "domain 3 ended during this call"),
        (lambda s: s.put("/local/domain/1/vm", b"/vm/new"), "domain 1 ended during this call"),
        (lambda s: s.alive.discard(3), "is gone"),
        (lambda s: s.alive.discard(1), r"domain 'DomD' \(1\) is gone"),
        (lambda s: s.remove("/local/domain/1"), "'DomD'"),
    ],
)
@pytest.mark.parametrize("transaction", [0, 1])
def test_domains_that_change_hands(
    store: MemoryStore, act: Callable[[MemoryStore], None], said: str, transaction: int
) -> None:
    store.before = at(transaction, lambda: act(store))
    if transaction == 0:
        with pytest.raises((DiskError, ResolveError), match=said):
            call(store, THREE)
    else:
        stopped = call(store, THREE)
        assert str(stopped.failed).startswith("stopped half-way: ")
        assert [action for _vdev, action, _health in shown(stopped)] == ["added", "unchanged", "unchanged"]
    assert store.commits == transaction


@pytest.mark.parametrize("domain", [5, "dom0less-5"])
def test_a_guest_cannot_hold_a_call_up(store: MemoryStore, domain: object) -> None:
    def restless(number: int) -> None:
        store.put("/local/domain/5/vm", b"/vm/%d" % number)
        store.put("/local/domain/5/name", b"DomD" if number % 2 else b"domu1")
        store.put(f"/local/domain/5/device/virtio_disk/{number}", b"")

    store.before = restless
    assert call(store, guest(domain, disk(backend="1"))).failed is None  # type: ignore[arg-type]
    assert store.commits == 1


def test_somebody_else_who_never_stops(store: MemoryStore) -> None:
    store.before = lambda number: store.put("/libxl/3/device/virtio_disk/0/irq", b"%d" % number)
    stopped = call(store, guest("domu1", disk("xvdz")))
    assert f"({REPLANS} times)" in str(stopped.failed)
    assert (stopped.changed, store.commits) == (False, 0)


def test_without_waiting_states_are_those_of_the_plan_and_of_what_was_written(store: MemoryStore) -> None:
    call(store, THREE, wait=False)
    backend = "/local/domain/1/backend/virtio_disk/3"
    for number in (51712, 51728):
        store.put(f"{backend}/{number}/state", b"2")
    store.put(f"{backend}/51728/params", b"/elsewhere")  # mended in place, in use
    more = {**THREE, "disks": [*THREE["disks"], disk("xvdd", "/dev/vg/new")]}
    assert shown(call(store, more, wait=False)) == [
        ("xvda", "unchanged", "attached"),
        ("xvdb", "changed", "attached"),
        ("xvdc", "unchanged", "pending"),
        ("xvdd", "added", "pending"),
    ]


def test_states_that_cannot_be_read_afterwards(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_arguments: object, **_options: object) -> None:
        fail()

    monkeypatch.setattr(_disk, "settle", lost)
    done = call(store, THREE, wait=True)
    assert "the disks were written, but their states could not be read" in str(done.failed)
    assert done.changed
    assert {health for _vdev, _action, health in shown(done)} == {"pending"}


def test_a_refusal_shows_what_would_be_done(store: MemoryStore) -> None:
    refused = call(store, guest("domu1", disk(), disk("xvdb", "relative")))
    assert refused.failed is not None
    assert (refused.changed, store.commits) == (False, 0)
    assert [action for _vdev, action, _health in shown(refused)] == ["added", "added"]


@pytest.mark.parametrize(
    ("reference", "result"),
    [("xvda", [("xvda", "removed", "missing")]), ("xvdp", []), ("d0p0", [("xvda", "removed", "missing")])],
)
def test_the_result_of_absent(store: MemoryStore, reference: str, result: list[Any]) -> None:
    call(store, THREE)
    assert shown(call(store, guest("domu1", reference), absent=True)) == result


@pytest.mark.parametrize(
    ("xen", "said"), [(None, 'set it, as in xen: "4.20"'), ("4.16", "^xen: "), ("nonsense", "^xen: ")]
)
def test_a_release_that_is_not_to_be_had(xen: str | None, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_disk, "host_release", lambda _xl: None)
    with pytest.raises(DiskError, match=said):
        dialect_of(xen, NO_XL)


@pytest.mark.parametrize(
    ("value", "fine"),
    [
        (0, True),
        (0.5, True),
        (3600, True),
        (-1, False),
        (1e9, False),
        (float("inf"), False),
        (float("nan"), False),
    ],
)
def test_seconds(value: float, fine: bool) -> None:
    if fine:
        assert seconds("settle", value) == value
        return
    with pytest.raises(DeclarationError, match="settle is a number of seconds"):
        seconds("settle", value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        ("grün", "grün"),
        ("/dev/\udcff\udcfe", "/dev/\\xff\\xfe"),
        ("half \ud83d", "half \\ud83d"),
        ({"a": ["\udcff", None, 3, True]}, {"a": ["\\xff", None, 3, True]}),
    ],
)
def test_results_are_text(value: object, text: object) -> None:
    assert as_text(value) == text
