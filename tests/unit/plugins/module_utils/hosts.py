# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that exist in memory only: snapshots to plan over, and what a plan makes of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ansible_collections.xen.virtio.plugins.module_utils._declaration import parse_guests
from ansible_collections.xen.virtio.plugins.module_utils._dialect import DIALECTS
from ansible_collections.xen.virtio.plugins.module_utils._findings import Finding
from ansible_collections.xen.virtio.plugins.module_utils._layout import (
    BACKEND,
    FRONTEND,
    RECORD,
    Attachment,
    Branch,
    Schema,
    branches,
    nodes,
    permissions,
)
from ansible_collections.xen.virtio.plugins.module_utils._mmio import BASE, SLOT, SPI_FIRST
from ansible_collections.xen.virtio.plugins.module_utils._picture import from_plan
from ansible_collections.xen.virtio.plugins.module_utils._plan import (
    Options,
    Plan,
    Remove,
    Repair,
    Write,
    make_plan,
)
from ansible_collections.xen.virtio.plugins.module_utils._preflight import preflight
from ansible_collections.xen.virtio.plugins.module_utils._snapshot import (
    MADE_BY_XL,
    Domain,
    LiveDisk,
    Snapshot,
)

NEWEST_SCHEMA = Schema()

#: dom0, two driver domains, three guests of another toolstack, one of xl's, one that is gone.
DOMAINS = {
    one.domid: one
    for one in (
        Domain(0, "Domain-0", name_trusted=True),
        Domain(1, "DomD", name_trusted=True, vm="/vm/1", vm_owner="n0"),
        Domain(2, "DomE", name_trusted=True, vm="/vm/2", vm_owner="n0"),
        Domain(3, "domu1", name_trusted=True, vm="/vm/3", vm_owner="n0"),
        Domain(4, "domu2", name_trusted=True, vm="/vm/4", vm_owner="n0"),
        Domain(5, "dom0less-5", vm="/vm/5", vm_owner="n5"),
        Domain(6, "byxl", name_trusted=True, maker=MADE_BY_XL),
        Domain(9, alive=False),
    )
}


def attached(
    domid: int = 3,
    devid: int = 51712,
    backend: int = 1,
    *,
    slot: int = 0,
    schema: Schema = NEWEST_SCHEMA,
    state: str = "1",
    **more: Any,
) -> LiveDisk:
    """A disk in the store, whole, as libxl would have written it."""
    more.setdefault("vdev", f"xvd{'abcdefghijklmnop'[(devid >> 4) & 15]}")
    more.setdefault("target", f"/dev/vg/{domid}-{devid}")
    more.setdefault("readonly", False)
    more.setdefault("discard", not more["readonly"])
    more.setdefault("grant_usage", backend != 0)
    disk = Attachment(domid, backend, devid, base=BASE + SLOT * slot, irq=SPI_FIRST + slot, **more)
    live = written(disk, schema)
    live.backends[backend].nodes["state"] = state
    return live


def written(disk: Attachment, schema: Schema) -> LiveDisk:
    """What a disk is in the store right after it was written."""
    trees = branches(disk, schema)
    return LiveDisk(
        disk.domid,
        disk.devid,
        disk.backend_domid,
        trees[RECORD],
        trees[FRONTEND],
        {disk.backend_domid: trees[BACKEND]},
    )


def host(*disks: LiveDisk, **more: Any) -> Snapshot:
    """A snapshot of a host with these disks."""
    more.setdefault("domains", dict(DOMAINS))
    more.setdefault("statuses", {0: "ready", 1: "ready", 2: "ready"})
    return Snapshot(disks={(live.domid, live.devid): live for live in disks}, **more)


def guest(domain: str | int, *disks: object, **more: Any) -> dict[str, Any]:
    """A declared guest."""
    return {"domain": domain, "disks": list(disks), **more}


def disk(vdev: str = "xvda", target: str = "/dev/vg/a", backend: str = "DomD", **more: Any) -> dict[str, Any]:
    """A declared disk."""
    return {"vdev": vdev, "target": target, "backend": backend, **more}


def planned(
    snapshot: Snapshot,
    *guests: dict[str, Any],
    xen: str = "4.20",
    absent: bool = False,
    hotplug: bool = False,
    xl: bool = True,
) -> Plan:
    """The plan for declared guests."""
    declared = parse_guests({"guests": list(guests)}, absent=absent)
    return make_plan(declared, snapshot, DIALECTS[xen], Options(absent, hotplug, xl))


def all_findings(plan: Plan, snapshot: Snapshot, xen: str = "4.20") -> list[Finding]:
    """What the plan and the preflight over it say."""
    picture = from_plan(plan, snapshot, DIALECTS[xen], lambda _backend, _target: frozenset())
    return plan.findings + preflight(picture)


def codes(findings: Iterable[Finding]) -> list[str]:
    """Their codes, in order."""
    return [finding.code for finding in findings]


def actions(plan: Plan) -> dict[str, str]:
    """domain/vdev → action."""
    return {
        f"{one.reference}/{planned_disk.vdev}": planned_disk.action
        for one in plan.guests
        for planned_disk in one.disks
    }


def carried_out(plan: Plan, snapshot: Snapshot) -> Snapshot:
    """The host once every virtio step of a plan is done and no backend has reacted yet."""
    disks = dict(snapshot.disks)
    for step in plan.steps:
        if isinstance(step, Write):
            disks[step.disk.key] = written(step.disk, step.schema)
        elif isinstance(step, Repair):
            disks[step.disk.key] = _repaired(step)
        elif isinstance(step, Remove):
            del disks[step.live.domid, step.live.devid]
    return replace(snapshot, disks=disks)


def _repaired(step: Repair) -> LiveDisk:
    live, wanted, perms = step.live, nodes(step.disk, step.schema), permissions(step.disk)
    trees = dict(live.trees)
    for one in step.nodes:
        branch = trees[one.tree] or Branch((), {}, {})
        if one.node == "":
            lost = one.what == "missing"
            held = dict(wanted[one.tree]) if lost else branch.nodes
            owners = dict.fromkeys(held, perms[one.tree]) if lost else branch.node_perms
            trees[one.tree] = Branch(perms[one.tree], held, owners)
        else:
            value = wanted[one.tree][one.node]
            trees[one.tree] = Branch(
                branch.perms,
                {**branch.nodes, one.node: value},
                {**branch.node_perms, one.node: perms[one.tree]},
            )
    backend = step.disk.backend_domid
    sides = {**live.backends, backend: trees[BACKEND] or live.backends[backend]}
    return replace(
        live, record=trees[RECORD], frontend=trees[FRONTEND], backends=sides, backend_domid=backend
    )
