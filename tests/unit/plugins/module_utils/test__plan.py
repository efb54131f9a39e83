# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declared against live → steps, refusals, places. What a real store adds is in tests/system."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._layout import Branch, Schema
from ansible_collections.xen.virtio.plugins.module_utils._plan import (
    Close,
    PlanError,
    Remove,
    Repair,
    Step,
    Write,
    XlAttach,
    XlDetach,
    health,
    recorded_place,
    vdev_of,
)
from ansible_collections.xen.virtio.plugins.module_utils._snapshot import (
    LiveDisk,
    Snapshot,
    UnknownDomainError,
    XenDisk,
)
from unit.plugins.module_utils.hosts import (
    DOMAINS,
    actions,
    all_findings,
    attached,
    codes,
    disk,
    guest,
    host,
    planned,
)

TARGET = "/dev/vg/3-51712"
SAME = disk(target=TARGET)


def edited(live: LiveDisk, tree: str, **nodes: str | None) -> LiveDisk:
    """A disk with nodes of one tree changed, or gone (None)."""
    branch = live.trees[tree]
    assert branch is not None
    held = {name: value for name, value in {**branch.nodes, **nodes}.items() if value is not None}
    branch = branch._replace(nodes=held)
    if tree == "backend":
        return replace(live, backends={**live.backends, live.backend_domid or 0: branch})
    return replace(live, **{tree: branch})  # type: ignore[arg-type]


def xen(devid: int = 51728, **nodes: str) -> Snapshot:
    """A host where domu1 has a xen disk."""
    held = {"params": "/dev/x", "type": "phy", "mode": "w", "device-type": "disk", "dev": "xvdb", **nodes}
    return host(xen_disks={3: {devid: XenDisk(3, devid, 0, held)}})


XEN = {"vdev": "xvdb", "target": "/dev/x", "specification": "xen"}
INVENTED = LiveDisk(3, 51760, None, None, Branch((), {}, {}), {})


def kinds(steps: list[Step]) -> list[type]:
    return [type(step) for step in steps]


# --- steps ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("live", "wish", "action", "steps", "found"),
    [
        (None, SAME, "added", [Write], []),
        (attached(), SAME, "unchanged", [], []),
        (attached(state="2"), SAME, "unchanged", [], []),
        (attached(state="6"), SAME, "unchanged", [], []),
        (attached(), disk(), "changed", [Write], []),
        (attached(state="2"), disk(), "changed", [Close, Remove, Write], ["in-use"]),
        (attached(state="2"), {**SAME, "access": "ro"}, "changed", [Close, Remove, Write], ["in-use"]),
        (attached(state="2"), {**SAME, "backend": "DomE"}, "changed", [Close, Remove, Write], ["in-use"]),
        (attached(), {**SAME, "backend": "DomE"}, "changed", [Write], []),
        # the record has this very disk: what differs elsewhere is mended, in use or not
        (edited(attached(state="2"), "backend", params="/x"), SAME, "changed", [Repair], []),
        (edited(attached(state="2"), "frontend", backend="/x"), SAME, "changed", [Repair], []),
        (edited(attached(state="2"), "record", params="/x"), SAME, "changed", [Repair], []),
        (replace(attached(state="2"), record=None), SAME, "changed", [Repair], []),
        (replace(attached(state="2"), frontend=None), SAME, "changed", [Close, Remove, Write], ["in-use"]),
        (replace(attached(state="2"), backends={}), SAME, "changed", [Write], []),
        (edited(attached(state="6"), "backend", params="/x"), SAME, "changed", [Write], []),
        (edited(attached(), "backend", state=None), SAME, "changed", [Write], []),
        (INVENTED, disk("xvdd"), "changed", [Write], []),
    ],
)
def test_one_disk(
    live: LiveDisk | None, wish: dict[str, Any], action: str, steps: list[type], found: list[str]
) -> None:
    snapshot = host(live) if live else host()
    plan = planned(snapshot, guest("domu1", wish))
    assert list(actions(plan).values()) == [action]
    assert kinds(plan.steps) == steps
    assert codes(plan.findings) == found
    willing = planned(snapshot, guest("domu1", wish), hotplug=True)
    assert (kinds(willing.steps), willing.findings) == (steps, [])


@pytest.mark.parametrize(
    ("options", "disks", "expected", "found"),
    [
        ({}, [], {}, []),
        ({"exclusive": True}, [SAME], {"domu1/xvda": "unchanged", "domu1/xvdb": "removed"}, ["in-use"]),
        ({"exclusive": True}, [], {"domu1/xvda": "removed", "domu1/xvdb": "removed"}, ["in-use"]),
        ({"absent": True}, ["xvda"], {"domu1/xvda": "removed"}, []),
        ({"absent": True}, ["d0p0"], {"domu1/xvda": "removed"}, []),
        ({"absent": True}, ["xvda", "d0p0", "xvda"], {"domu1/xvda": "removed"}, []),
        ({"absent": True}, ["xvdb"], {"domu1/xvdb": "removed"}, ["in-use"]),
        ({"absent": True}, ["xvdp", "sda"], {}, []),
        ({"absent": True, "hotplug": True}, ["xvdb"], {"domu1/xvdb": "removed"}, []),
        ({"absent": True, "exclusive": True}, [], {"domu1/xvda": "removed", "domu1/xvdb": "removed"}, ["in-use"]),
    ],
)  # fmt: skip
def test_which_disks_go(
    options: dict[str, Any], disks: list[Any], expected: dict[str, str], found: list[str]
) -> None:
    snapshot = host(attached(), attached(devid=51728, slot=1, state="2"))
    more = {key: options.pop(key) for key in ("exclusive",) if key in options}
    entry = guest("domu1", *disks, **more) if disks or more else {"domain": "domu1"}
    plan = planned(snapshot, entry, **options)
    assert actions(plan) == expected
    assert codes(plan.findings) == found


def test_removals_come_first() -> None:
    snapshot = host(attached(), attached(devid=51728, slot=1))
    plan = planned(snapshot, guest("domu1", disk("xvdc"), disk("xvdb", "/dev/new"), exclusive=True))
    assert kinds(plan.steps) == [Remove, Write, Write]


# --- places --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "backend", "place"),
    [
        ({}, {}, (0x2000400, 35)),
        ({"irq": None}, {}, (0x2000400, 35)),
        ({"base": "0x2000400"}, {}, (0x2000400, 35)),
        ({"irq": "\udcff"}, {"irq": "40"}, (0x2000400, 40)),
        ({"irq": "40"}, {}, (0x2000400, 40)),
        ({"base": "0", "irq": "0"}, {}, (0, 0)),
        ({"irq": "-5"}, {"irq": "9" * 11}, None),
        ({"base": None}, {"base": None}, None),
    ],
)
def test_where_a_disk_lies(
    record: dict[str, str | None], backend: dict[str, str | None], place: tuple[int, int] | None
) -> None:
    live = edited(edited(attached(slot=2), "record", **record), "backend", **backend)
    assert recorded_place(live) == place


def test_a_record_that_lost_its_irq_gets_it_back_and_spreads_nothing() -> None:
    live = edited(attached(slot=2, state="2"), "record", irq=None)
    (step,) = planned(host(live), guest("domu1", SAME)).steps
    assert isinstance(step, Repair)
    assert (step.disk.irq, [one.node for one in step.nodes]) == (35, ["irq"])


@pytest.mark.parametrize(
    ("live", "wishes", "irqs"),
    [
        ([], ["xvda", "xvdb"], [33, 34]),
        ([attached(slot=3)], ["xvda", "xvdb"], [36, 33]),
        ([attached(slot=0)], ["xvdb", "xvda"], [34, 33]),
        ([attached(devid=51744, slot=0)], ["xvda"], [34]),
        ([INVENTED], ["xvda"], [33]),
        ([attached()], [{"vdev": "xvdb", "base": 0x2000200, "irq": 34}, "xvdc"], [34, 35]),
        ([attached()], ["xvdc", {"vdev": "xvdb", "base": 0x2000200, "irq": 34}], [35, 34]),
        ([attached()], [{"vdev": "xvda", "base": 0x2000600, "irq": 36}, "xvdb"], [36, 34]),
    ],
)
def test_places(live: list[LiveDisk], wishes: list[Any], irqs: list[int]) -> None:
    disks = [disk(**(one if isinstance(one, dict) else {"vdev": one})) for one in wishes]
    plan = planned(host(*live), guest("domu1", *disks))
    assert [one.wanted.irq for one in plan.guests[0].disks if one.wanted] == irqs


# --- xl and xen ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "options", "said"),
    [
        ([disk("xvdb")], {}, "adding xvdb of byxl"),
        ([disk(target="/dev/new")], {"hotplug": True}, "changing xvda of byxl"),
        (["xvda"], {"absent": True, "hotplug": True}, "removing xvda of byxl"),
    ],
)
def test_a_guest_of_xl_is_refused(wish: list[Any], options: dict[str, Any], said: str) -> None:
    plan = planned(host(attached(6)), guest("byxl", *wish), **options)
    assert codes(plan.findings) == ["made-by-xl"]
    assert said in plan.findings[0].message
    assert "xen.virtio.guest" in plan.findings[0].remedy


@pytest.mark.parametrize(
    ("snapshot", "wish", "action", "steps"),
    [
        (host(), XEN, "added", [XlAttach]),
        (xen(), XEN, "unchanged", []),
        (xen(), {**XEN, "access": "ro"}, "changed", [XlDetach, XlAttach]),
        (xen(), {**XEN, "target": "/dev/y"}, "changed", [XlDetach, XlAttach]),
        (xen(), {**XEN, "backend": "DomD"}, "changed", [XlDetach, XlAttach]),
        (xen(type="qdisk", params="raw:/dev/x"), XEN, "unchanged", []),
    ],
)
def test_xen_disks(snapshot: Snapshot, wish: dict[str, Any], action: str, steps: list[type]) -> None:
    plan = planned(snapshot, guest("domu1", wish))
    assert (list(actions(plan).values()), kinds(plan.steps)) == ([action], steps)
    assert codes(planned(snapshot, guest("domu1", wish), xl=False).findings) == ["xl-missing"] * bool(steps)


@pytest.mark.parametrize(
    ("snapshot", "wish"),
    [
        (xen(), disk("xvdb")),
        (xen(), disk("xvdc")),
        (host(attached(devid=51728)), XEN),
        (host(attached(devid=51744)), XEN),
    ],
)
def test_no_guest_gets_both_kinds(snapshot: Snapshot, wish: dict[str, Any]) -> None:
    plan = planned(snapshot, guest("domu1", wish))
    assert "mixed-specification" in codes(all_findings(plan, snapshot))


def test_a_kind_may_replace_the_other() -> None:
    snapshot = xen()
    plan = planned(snapshot, guest("domu1", disk("xvdc"), exclusive=True))
    assert kinds(plan.steps) == [XlDetach, Write]
    assert all_findings(plan, snapshot) == []


# --- what cannot be meant ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("guests", "options", "error", "said"),
    [
        ([{"domain": "domu1", "exclusive": True}], {}, PlanError, "domu1: exclusive needs disks"),
        ([{"domain": "domu1"}], {"absent": True}, PlanError, "state absent needs the disks"),
        ([guest("domu1", SAME), guest(3, SAME)], {}, PlanError, "'3' and 'domu1' are the same domain"),
        ([guest("domu1", disk(irq=33))], {}, PlanError, "give base and irq together"),
        ([guest("byxl", disk(base=1, irq=33))], {}, PlanError, "libxl's to give"),
        ([guest("domu1", disk(backend="DomX"))], {}, UnknownDomainError, "backend of xvda: domain 'DomX'"),
        (
            [guest("domu1", disk(backend="9"))],
            {},
            UnknownDomainError,
            "backend of xvda: domain '9' .* is gone",
        ),
        ([guest(9, SAME)], {}, UnknownDomainError, "state: absent"),
        ([guest("domu1", {**XEN, "script": "a,b"})], {}, PlanError, "domu1: xvdb: .*comma"),
        ([guest("domu1", {**XEN, "trusted": False})], {"xen": "4.17"}, PlanError, "domu1: xvdb: .*trusted"),
    ],
)
def test_refused_declarations(
    guests: list[dict[str, Any]], options: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        planned(host(), *guests, **options)


@pytest.mark.parametrize("reference", ["nobody", "000003", "²", "٣", "123456", "40"])
def test_a_guest_that_is_not_there_has_nothing_to_remove(reference: str) -> None:
    """In particular no other spelling of a living guest's id reaches that one's disks."""
    plan = planned(host(attached(state="2")), guest(reference, "xvda"), absent=True)
    assert (actions(plan), plan.steps) == ({}, [])


@pytest.mark.parametrize(
    ("entry", "gone"),
    [
        (guest(9, "xvda"), ["xvda"]),
        (guest(9, "xvdb"), []),
        (guest(9, exclusive=True), ["xvda"]),
        ({"domain": 9}, ["xvda"]),
    ],
)
def test_leftovers_of_a_dead_domain(entry: dict[str, Any], gone: list[str]) -> None:
    plan = planned(host(attached(9, state="2")), entry, absent=True)
    assert [one.vdev for one in plan.guests[0].disks] == gone
    assert plan.findings == []
    assert all(isinstance(step, Remove) and not step.closed for step in plan.steps)


# --- words ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("live", "alive", "drifted", "word"),
    [
        (attached(state="1"), True, False, "pending"),
        (attached(state="2"), True, False, "attached"),
        (attached(state="3"), True, False, "pending"),
        (attached(state="4"), True, False, "pending"),
        (attached(state="5"), True, True, "closing"),
        (attached(state="6"), True, True, "closed"),
        (attached(state="banana"), True, False, "pending"),
        (attached(state="2"), True, True, "drifted"),
        (attached(state="2"), False, False, "stale"),
        (replace(attached(), backends={}), True, True, "missing"),
        (INVENTED, True, True, "stale"),
        (None, True, False, "missing"),
        (None, False, False, "stale"),
    ],
)
def test_health(live: LiveDisk | None, alive: bool, drifted: bool, word: str) -> None:
    assert health(live, alive, [object()] if drifted else []) == word  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("live", "name"),
    [
        (attached(vdev="d0p0"), "d0p0"),
        (edited(attached(), "record", dev=None), "xvda"),
        (INVENTED, "xvdd"),
        (replace(INVENTED, devid=10**20), str(10**20)),
    ],
)
def test_names_of_live_disks(live: LiveDisk, name: str) -> None:
    assert vdev_of(live) == name


def test_a_release_decides_the_nodes() -> None:
    old = attached(schema=Schema(grant_usage=False))
    assert not planned(host(old), guest("domu1", SAME), xen="4.18").guests[0].changed
    assert planned(host(old), guest("domu1", SAME), xen="4.19").guests[0].changed
    assert set(DOMAINS) == {0, 1, 2, 3, 4, 5, 6, 9}
