# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The planner against hosts that live on: whatever is declared, applied, served, torn and declared again."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from ansible_collections.xen.virtio.plugins.module_utils._findings import errors
from ansible_collections.xen.virtio.plugins.module_utils._layout import Branch, attachment
from ansible_collections.xen.virtio.plugins.module_utils._mmio import BASE, LIMIT, SLOT, SPI_FIRST
from ansible_collections.xen.virtio.plugins.module_utils._plan import (
    Plan,
    Remove,
    Repair,
    Write,
    recorded_place,
)
from ansible_collections.xen.virtio.plugins.module_utils._report import diff, planned_disk
from ansible_collections.xen.virtio.plugins.module_utils._snapshot import LiveDisk, Snapshot
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from unit.plugins.module_utils.hosts import all_findings, carried_out, codes, host, planned

GUESTS = ("domu1", "domu2", "dom0less-5")
VDEVS = ("xvda", "d0p0", "xvdb", "xvdc", "xvdd", "51792", "sda")

wishes = st.fixed_dictionaries(
    {"vdev": st.sampled_from(VDEVS), "target": st.sampled_from(("/dev/a", "/dev/b", "/dev/c"))},
    optional={
        "backend": st.sampled_from(("DomD", "DomE", "0")),
        "access": st.sampled_from(("ro", "rw")),
        "shared": st.booleans(),
        "discard": st.booleans(),
        "grant_usage": st.booleans(),
        "devtype": st.just("cdrom"),
    },
)
by_hand = st.builds(
    lambda wish, slot: {**wish, "base": BASE + SLOT * slot, "irq": SPI_FIRST + slot},
    wishes,
    st.integers(0, LIMIT - 1),
)
guests = st.lists(
    st.builds(
        lambda domain, disks, exclusive: {
            "domain": domain,
            "disks": disks,
            "exclusive": exclusive or not disks,
        },
        st.sampled_from(GUESTS),
        st.lists(st.one_of(wishes, wishes, by_hand), max_size=6),
        st.booleans(),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda entry: str(entry["domain"]),
)
releases = st.sampled_from(("4.17", "4.20"))


class Host(RuleBasedStateMachine):
    """A host, and every call that a user could make on it."""

    def __init__(self) -> None:
        super().__init__()
        self.now: Snapshot = host()
        self.by_hand: set[tuple[int, int]] = set()

    @initialize(slot=st.integers(0, 3))
    def another_virtio_device(self, slot: int) -> None:
        self.now = host(generic={3: {0: (BASE + SLOT * slot, SPI_FIRST + slot)}})

    @rule(entries=guests, hotplug=st.booleans(), xen=releases, seed=st.integers(0, 9))
    def provision(self, entries: list[dict[str, Any]], hotplug: bool, xen: str, seed: int) -> None:
        before = self.now
        plan = planned(before, *entries, xen=xen, hotplug=hotplug)
        found = all_findings(plan, before, xen)
        shuffled = _shuffled(before, seed)
        again = planned(shuffled, *entries, xen=xen, hotplug=hotplug)
        assert all_findings(again, shuffled, xen) == found
        assert _picture(again) == _picture(plan)  # what check mode shows is what a run would do
        _can_be_shown(plan, before)
        if errors(found):
            return
        for step in plan.steps:
            live = step.live if isinstance(step, (Write, Repair, Remove)) else None
            if not hotplug and live is not None and live.in_use:
                assert isinstance(step, Repair)
        self.now = carried_out(plan, before)
        _stays(plan, before, self.now)
        if any("base" in wish for entry in entries for wish in entry["disks"]):
            self.by_hand |= {one.wanted.key for g in plan.guests for one in g.disks if one.wanted is not None}
        after = planned(self.now, *entries, xen=xen, hotplug=hotplug)
        assert not [one for g in after.guests for one in g.disks if one.action != "unchanged"]
        assert after.steps == []

    @rule(
        domain=st.sampled_from(GUESTS),
        vdevs=st.lists(st.sampled_from(VDEVS), min_size=1),
        hotplug=st.booleans(),
    )
    def remove(self, domain: str, vdevs: list[str], hotplug: bool) -> None:
        entry = {"domain": domain, "disks": list(vdevs)}
        plan = planned(self.now, entry, absent=True, hotplug=hotplug)
        if errors(plan.findings):
            assert codes(plan.findings) == ["in-use"] * len(plan.findings)
            assert not hotplug
            return
        self.now = carried_out(plan, self.now)
        assert planned(self.now, entry, absent=True).steps == []

    @rule(state=st.sampled_from(("1", "2", "2", "4", "5", "6")), pick=st.integers(0, 99))
    def a_backend_moves(self, state: str, pick: int) -> None:
        live = self._pick(pick)
        if live is not None and live.backend_domid in live.backends:
            branch = live.backends[live.backend_domid]
            moved = branch._replace(nodes={**branch.nodes, "state": state})
            self._set(replace(live, backends={**live.backends, live.backend_domid: moved}))

    @rule(tree=st.sampled_from(("record", "frontend", "backend")), pick=st.integers(0, 99))
    def a_tree_is_lost(self, tree: str, pick: int) -> None:
        live = self._pick(pick)
        if live is None:
            return
        torn = replace(live, backends={}) if tree == "backend" else replace(live, **{tree: None})  # type: ignore[arg-type]
        if torn.record is None and torn.frontend is None and not torn.backends:
            del self.now.disks[live.domid, live.devid]
        else:
            named = torn.backend_domid if torn.record or torn.backends else None
            self._set(replace(torn, backend_domid=named))

    @rule(tree=st.sampled_from(("frontend", "backend")), node=st.sampled_from(("backend", "params", "irq", "mode")),
          value=st.sampled_from(("", "1", "/dev/zero", "\udcff", "9" * 30)), pick=st.integers(0, 99))  # fmt: skip
    def a_guest_or_a_backend_writes(self, tree: str, node: str, value: str, pick: int) -> None:
        live = self._pick(pick)
        branch = live.trees[tree] if live is not None else None
        if live is None or branch is None or live.record is None:
            return
        branch = branch._replace(nodes={**branch.nodes, node: value})
        if tree == "frontend":
            self._set(replace(live, frontend=branch))
        else:
            self._set(replace(live, backends={**live.backends, live.backend_domid or 0: branch}))

    @rule(domid=st.sampled_from((3, 5)), devid=st.sampled_from((0, 51760, 10**20)))
    def a_guest_invents_a_disk(self, domid: int, devid: int) -> None:
        if (domid, devid) not in self.now.disks:
            self._set(LiveDisk(domid, devid, None, None, Branch((f"n{domid}",), {"state": "2"}, {}), {}))

    @invariant()
    def no_place_is_given_out_twice(self) -> None:
        for domid in (3, 4, 5):
            placed = list(self.now.generic.get(domid, {}).values())
            for devid, live in self.now.disks_of(domid).items():
                place = recorded_place(live)
                if place is not None and live.record is not None and (domid, devid) not in self.by_hand:
                    placed.append((place.base, place.irq))
            assert len({irq for _base, irq in placed}) == len(placed)
            bases = sorted(base for base, _irq in placed)
            assert all(low + SLOT <= high for low, high in zip(bases, bases[1:]))

    def _pick(self, pick: int) -> LiveDisk | None:
        listed = list(self.now.disks.values())
        return listed[pick % len(listed)] if listed else None

    def _set(self, live: LiveDisk) -> None:
        self.now = replace(self.now, disks={**self.now.disks, (live.domid, live.devid): live})


def _shuffled(snapshot: Snapshot, seed: int) -> Snapshot:
    """The same host, read in another order."""

    def mixed(mapping: dict[Any, Any]) -> dict[Any, Any]:
        items = list(mapping.items())
        random.Random(seed).shuffle(items)
        return dict(items)

    return replace(
        snapshot,
        domains=mixed(snapshot.domains),
        disks=mixed(snapshot.disks),
        generic={domid: mixed(devices) for domid, devices in mixed(snapshot.generic).items()},
    )


def _picture(plan: Plan) -> list[Any]:
    return [
        (g.reference, one.vdev, one.action, one.wanted, one.steps, one.differences)
        for g in plan.guests
        for one in g.disks
    ]


def _can_be_shown(plan: Plan, snapshot: Snapshot) -> None:
    for g in plan.guests:
        shown = diff(g, snapshot)
        assert (shown["before"] + shown["after"]).replace("\n", "").isprintable()
        for one in g.disks:
            assert planned_disk(g, one, snapshot)["devid"] == one.devid


def _stays(plan: Plan, before: Snapshot, after: Snapshot) -> None:
    """A disk that stays keeps its place, unless it was given one by hand."""
    for g in plan.guests:
        for one in g.disks:
            live = before.disks.get((g.domain.domid, one.devid))
            spec = one.wanted
            place = recorded_place(live) if live is not None and live.record is not None else None
            if spec is None or place is None or one.action == "removed":
                continue
            record = after.disks[spec.key].record
            assert record is not None
            now = attachment(spec.domid, spec.devid, spec.backend_domid, record, None)
            assert (now.base, now.irq) in (tuple(place), (spec.base, spec.irq))


TestHost = Host.TestCase
TestHost.settings = settings(
    max_examples=150, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
