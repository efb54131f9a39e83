# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every rule that would fail or corrupt later, checked over a whole plan at once. Pure.

The rules look at the picture after the plan: what is declared, what stays of the same guests, and what
other guests have at the same backend domains. A finding always concerns a declared disk or guest: trouble
among disks that nobody declared is for an audit, not a reason to refuse this call.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from ._dialect import Dialect
from ._diskspec import DiskSpec, virtio_violations
from ._findings import ERROR, WARNING, Finding
from ._layout import attachment
from ._mmio import LIMIT, SLOT
from ._plan import REMOVED, DiskPlan, GuestPlan, Plan
from ._snapshot import Quota, Snapshot

#: What one virtio disk costs in xenstore (counted in a real store): nodes owned by the backend domain,
#: nodes owned by the guest, watches of the backend domain's daemon while attached, and idle.
NODES_BACKEND, NODES_GUEST, WATCHES_ATTACHED, WATCHES_IDLE = 18, 7, 2, 2

#: From a target to names under which the same storage is known (device number, inode …), where the host
#: can be asked; a target that it cannot tell about gives nothing.
Identify = Callable[[int, str], frozenset[str]]


@dataclass(frozen=True)
class _Held:
    """A target in some guest's hands after the plan."""

    guest: str
    domid: int
    vdev: str
    devid: int
    backend: int
    target: str
    writable: bool
    shared: bool
    declared: bool


def preflight(plan: Plan, snapshot: Snapshot, dialect: Dialect, identify: Identify) -> list[Finding]:
    """All findings over a plan, in the order of guests and disks.

    Args:
        plan: what is to become of the host.
        snapshot: what the plan was made over.
        dialect: the host's.
        identify: tells under which other names a target is known.
    """
    found: list[Finding] = []
    for guest in plan.guests:
        found += _guest_rules(guest, snapshot)
        for disk in guest.disks:
            if disk.action != REMOVED and disk.spec is not None:
                found += _disk_rules(guest.reference, disk, disk.spec, snapshot, dialect)
    held = _held(plan, snapshot)
    found += _shared_devids(held, snapshot)
    found += _shared_targets(held, identify)
    found += _quotas(plan, snapshot)
    return found


# --- one disk ------------------------------------------------------------------------------------------


def _disk_rules(
    guest: str, disk: DiskPlan, spec: DiskSpec, snapshot: Snapshot, dialect: Dialect
) -> Iterable[Finding]:
    yield from _release_rules(guest, disk, spec, dialect)
    if disk.specification != "virtio" or disk.wanted is None:
        return
    for violation in virtio_violations(spec):
        yield Finding(
            "virtio-rules",
            ERROR,
            guest,
            disk.vdev,
            f"{disk.vdev}: {violation}",
            "libxl refuses such a virtio disk, or the daemon cannot serve it.",
            "Declare format raw, no script, no colo, an absolute target and no other backendtype than standalone.",
        )
    wanted = disk.wanted
    if ":" in wanted.target:
        yield Finding(
            "colon-in-target",
            WARNING,
            guest,
            disk.vdev,
            f"{disk.vdev}: the target {wanted.target} has a colon",
            "libxl cuts it there when it lists the disk, so xl block-list and xl list -l show another path.",
            "Use a name without colons, such as one under /dev/disk/by-id.",
        )
    if wanted.backend_domid != 0 and not wanted.grant_usage:
        backend = snapshot.domain(wanted.backend_domid).label
        yield Finding(
            "foreign-mapping",
            WARNING,
            guest,
            disk.vdev,
            f"{disk.vdev}: grant_usage is off and {backend} serves it",
            f"{backend} then maps all memory of the guest.",
            "Leave grant_usage out (grants are the default with a driver domain).",
        )


#: Disk options by the dialect that first accepts them, and what to do where it is older.
_GATED = ("grant_usage", "trusted")


def _release_rules(guest: str, disk: DiskPlan, spec: DiskSpec, dialect: Dialect) -> Iterable[Finding]:
    for option in _GATED:
        if getattr(spec, option) is not None and not dialect.accepts(option):
            yield Finding(
                "release",
                ERROR,
                guest,
                disk.vdev,
                f"{disk.vdev}: {option} is not known to Xen {dialect.name}",
                f"xl {dialect.name} ends with a syntax error, and no node of its layout carries the choice.",
                f"Leave {option} out, or bring the host to a release that has it.",
            )


# --- one guest -----------------------------------------------------------------------------------------


def _guest_rules(guest: GuestPlan, snapshot: Snapshot) -> Iterable[Finding]:
    virtio = [disk for disk in guest.disks if disk.action != REMOVED and disk.wanted is not None]
    generic = snapshot.generic.get(guest.domain.domid, {})
    count = len(virtio) + len(guest.kept) + len(generic)
    touched = any(disk.declared and disk.action != REMOVED for disk in guest.disks)
    if count > LIMIT and touched:
        yield Finding(
            "devices-limit",
            ERROR,
            guest.reference,
            None,
            f"{count} virtio devices ({len(virtio) + len(guest.kept)} disks, {len(generic)} others), "
            f"and there is room for {LIMIT}",
            "libxl ends a create with 'Ran out of reserved range for Virtio MMIO IRQ 44'.",
            "Take disks away, or put several file systems on one.",
        )
    removed = {disk.devid for disk in guest.disks if disk.action == REMOVED}
    xen = [disk.vdev for disk in guest.disks if disk.action != REMOVED and disk.specification == "xen"]
    xen += [str(number) for number in snapshot.xen_disks.get(guest.domain.domid, {}) if number not in removed]
    if xen and (virtio or guest.kept) and touched:
        yield Finding(
            "mixed-specification",
            ERROR,
            guest.reference,
            None,
            f"xen disks ({', '.join(sorted(set(xen)))}) and virtio disks in one guest",
            "It starts, but from then on libxl can list and detach neither.",
            "Give all disks of the guest one specification.",
        )
    yield from _overlaps(guest, snapshot)


def _overlaps(guest: GuestPlan, snapshot: Snapshot) -> Iterable[Finding]:
    """Two devices of one guest on one interrupt or in one register range; only hand-given places can collide."""
    placed: list[tuple[str, int, int]] = []
    for index, (base, irq) in sorted(snapshot.generic.get(guest.domain.domid, {}).items()):
        placed.append((f"virtio device {index}", base, irq))
    for live in guest.kept:
        if live.source is not None:
            disk = attachment(live.domid, live.devid, live.backend_domid or 0, live.source, None)
            placed.append((disk.vdev or str(disk.devid), disk.base, disk.irq))
    for planned in guest.disks:
        wanted = planned.wanted
        if planned.action == REMOVED or wanted is None or wanted.irq == 0:
            continue
        for other, base, irq in placed:
            if irq == wanted.irq or abs(base - wanted.base) < SLOT:
                yield Finding(
                    "irq-overlap",
                    ERROR,
                    guest.reference,
                    planned.vdev,
                    f"{planned.vdev} (base {wanted.base:#x}, irq {wanted.irq}) lies where {other} does "
                    f"(base {base:#x}, irq {irq})",
                    "Two devices would answer for one another.",
                    "Give each its own 0x200 bytes and its own interrupt, or leave base and irq out.",
                )
        placed.append((planned.vdev, wanted.base, wanted.irq))


# --- across guests -------------------------------------------------------------------------------------


def _held(plan: Plan, snapshot: Snapshot) -> list[_Held]:
    """Who has which target after the plan, declared disks first."""
    held: list[_Held] = []
    planned: set[tuple[int, int]] = set()
    for guest in plan.guests:
        for disk in guest.disks:
            planned.add((guest.domain.domid, disk.devid))
            wanted = disk.wanted
            if disk.action == REMOVED or wanted is None:
                continue
            held.append(
                _Held(
                    guest.reference,
                    wanted.domid,
                    disk.vdev,
                    wanted.devid,
                    wanted.backend_domid,
                    wanted.target,
                    not wanted.readonly,
                    disk.shared,
                    declared=True,
                )
            )
    for (domid, devid), live in sorted(snapshot.disks.items(), key=lambda item: item[0]):
        source, backend = live.source, live.backend_domid
        domain = snapshot.domain(domid)
        # a dead domain holds nothing; what it left behind is stale, not shared
        if (domid, devid) in planned or source is None or backend is None or not domain.alive:
            continue
        disk_now = attachment(domid, devid, backend, source, None)
        held.append(
            _Held(
                domain.label,
                domid,
                disk_now.vdev,
                devid,
                backend,
                disk_now.target,
                not disk_now.readonly,
                shared=False,
                declared=False,
            )
        )
    return held


def _shared_devids(held: list[_Held], snapshot: Snapshot) -> Iterable[Finding]:
    by_devid: dict[tuple[int, int], list[_Held]] = defaultdict(list)
    for disk in held:
        by_devid[disk.backend, disk.devid].append(disk)
    for (backend, number), disks in by_devid.items():
        if backend in snapshot.launchers or len({disk.domid for disk in disks}) < 2:
            continue
        for disk in disks:
            if not disk.declared:
                continue
            others = [other for other in disks if other.domid != disk.domid]
            label = snapshot.domain(backend).label
            yield Finding(
                "devid-shared",
                ERROR,
                disk.guest,
                disk.vdev,
                f"{disk.vdev} is device {number} at {label}, and so is {others[0].vdev} of {others[0].guest}",
                "Two plain virtio-disk daemons with one device number destroy each other's disk within a second.",
                f"Use vdevs that are unique among all guests of {label}, or run the daemons with our launcher "
                "(role xen.virtio.virtio_disk_backend).",
            )


def _shared_targets(held: list[_Held], identify: Identify) -> Iterable[Finding]:
    names: dict[tuple[int, str], list[int]] = defaultdict(list)
    for index, disk in enumerate(held):
        for name in {f"path:{disk.target}"} | identify(disk.backend, disk.target):
            names[disk.backend, name].append(index)
    reported: set[tuple[int, int]] = set()
    for (_backend, name), indexes in names.items():
        writers = {index for index in indexes if held[index].writable}
        for one in indexes if writers else ():
            # of two readers there is nothing to say: a root file system that a thousand guests read is common
            for other in indexes if one in writers else sorted(writers):
                if one == other or not held[one].declared or (min(one, other), max(one, other)) in reported:
                    continue
                reported.add((min(one, other), max(one, other)))
                if _clash(held[one], held[other]):
                    yield _target_finding(held[one], held[other], name)


def _clash(one: _Held, other: _Held) -> bool:
    if not (one.writable or other.writable):
        return False
    if one.shared and (other.shared or not other.declared):
        return False
    return (one.domid, one.devid) != (other.domid, other.devid)


def _target_finding(one: _Held, other: _Held, name: str) -> Finding:
    how = "compared by path" if name.startswith("path:") else f"the same storage: {name}"
    writer = one if one.writable else other
    return Finding(
        "target-shared",
        ERROR,
        one.guest,
        one.vdev,
        f"{one.vdev} ({one.target}) is also {other.vdev} of {other.guest} ({other.target}); {how}",
        f"{writer.guest} writes to it, and a file system that two see while one writes is destroyed.",
        "Give each guest a target of its own, or make all of them read-only; where guests are made for it, "
        "mark the disks shared: true.",
    )


# --- quotas --------------------------------------------------------------------------------------------


def _quotas(plan: Plan, snapshot: Snapshot) -> Iterable[Finding]:
    new_at_backend: dict[int, int] = defaultdict(int)
    after_at_backend: dict[int, int] = defaultdict(int)
    for (domid, _devid), live in snapshot.disks.items():
        if snapshot.domain(domid).alive:
            for backend in live.backends:
                after_at_backend[backend] += 1
    for guest in plan.guests:
        new_in_guest = 0
        for disk in guest.disks:
            before = set() if disk.live is None else set(disk.live.backends)
            after = set() if disk.wanted is None else {disk.wanted.backend_domid}
            for backend in after - before:
                new_at_backend[backend] += 1
                after_at_backend[backend] += 1
            for backend in before - after:
                after_at_backend[backend] -= 1
            if after and (disk.live is None or disk.live.frontend is None):
                new_in_guest += 1
        if new_in_guest:
            yield from _nodes(
                guest.reference, guest.domain.domid, new_in_guest * NODES_GUEST, new_in_guest, snapshot.quotas
            )
    for backend, new in sorted(new_at_backend.items()):
        label = snapshot.domain(backend).label
        yield from _nodes(label, backend, new * NODES_BACKEND, new, snapshot.quotas)
        quota = snapshot.quotas.get(backend)
        watches = after_at_backend[backend] * WATCHES_ATTACHED + WATCHES_IDLE
        if quota is not None and watches > quota.watches:
            yield _quota_finding(
                label,
                f"{after_at_backend[backend]} disks need {watches} watches of {quota.watches}{_source(quota)}",
                "A daemon that gets no watch tries again ten times a second, for ever and without a word.",
                "watches",
            )


def _nodes(label: str, domid: int, nodes: int, disks: int, quotas: Mapping[int, Quota]) -> Iterable[Finding]:
    quota = quotas.get(domid)
    if quota is None:
        return
    after = (quota.used_nodes or 0) + nodes
    if after > quota.nodes:
        yield _quota_finding(
            label,
            f"{disks} new disks bring {label} to {after} nodes of {quota.nodes}{_source(quota)}",
            "The domain can then create no node of its own any more; its drivers fail in odd places.",
            "nodes",
        )


def _source(quota: Quota) -> str:
    return f" (assumed: {quota.assumed})" if quota.assumed else ""


def _quota_finding(domain: str, message: str, why: str, what: str) -> Finding:
    option = "-E" if what == "nodes" else "-W"
    return Finding(
        "quota",
        ERROR,
        domain,
        None,
        message,
        why,
        f"Raise it (XENSTORED_ARGS={option}, or xenstore-control quota set {what} N), or accept it by name "
        "with the reason.",
    )
