# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Provision a host's virtio disks: snapshot → plan → preflight → apply → settle → result.

The one way in for the module, for check mode and for the service that applies declarations at boot.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ._apply import Overtaken, apply
from ._declaration import GuestDeclaration
from ._dialect import Dialect, DialectError, parse_dialect
from ._findings import Acceptance, Finding, errors, sort_out, summary
from ._layout import STATE_INITIALISING, Attachment
from ._picture import Look, from_plan
from ._plan import (
    ADDED,
    CHANGED,
    NOBODY,
    REMOVED,
    UNCHANGED,
    Close,
    DiskPlan,
    GuestPlan,
    Options,
    Plan,
    PlanError,
    Remove,
    Repair,
    Step,
    Write,
    XlDetach,
    backend_of,
    make_plan,
    targets,
)
from ._preflight import preflight
from ._report import Result, counts, diff, finished_disk, planned_disk
from ._settle import Outcome, settle
from ._snapshot import Domain, ResolveError, Snapshot
from ._store import Store, StoreError
from ._survey import USERDATA_DIR, EmptyStoreError, Scope, survey
from ._words import some
from ._xl import Xl, XlError, host_release

if TYPE_CHECKING:
    from ._storage import Storage
    from ._target import Target

_NAMELESS: frozenset[str] = frozenset()

#: How often to plan anew when somebody else changes the same guests at the same time.
REPLANS = 20


class DiskError(RuntimeError):
    """The call cannot be carried out; nothing of it, or only what `Result` says, was done."""


@dataclass(frozen=True)
class Job:
    """One call: what shall be, and how far it may go.

    Attributes:
        declarations: the guests and their disks.
        absent: the listed disks are to go.
        hotplug: disks in use may be changed and removed.
        wait: end only when all declared disks are attached.
        wait_timeout: seconds over all disks.
        settle: seconds after which a disk must still be attached.
        xen: the host's release, None to ask the host.
        accept: findings that are known and wanted.
        check: plan only.
        userdata: libxl's folder of domain records.
        permissions: also compare the permissions of disks that are there.
    """

    declarations: tuple[GuestDeclaration, ...]
    absent: bool = False
    hotplug: bool = False
    wait: bool = True
    wait_timeout: float = 10.0
    settle: float = 0.5
    xen: str | None = None
    accept: tuple[Acceptance, ...] = ()
    check: bool = False
    userdata: str = USERDATA_DIR
    permissions: bool = True


def dialect_of(xen: str | None, xl: Xl) -> Dialect:
    """The host's dialect.

    Raises:
        DiskError: not told and not to be found out, or a release without virtio disks.
    """
    told = xen if xen is not None else host_release(xl)
    if told is None:
        raise DiskError(
            "the host does not tell its Xen release (no /sys/hypervisor/version, no xl); "
            'set it, as in xen: "4.20"'
        )
    try:
        return parse_dialect(told)
    except DialectError as error:
        raise DiskError(
            f"xen: {error}" if xen is not None else f"the host runs Xen {told}: {error}"
        ) from error


def run(job: Job, store: Store, xl: Xl) -> Result:
    """Carry a call out.

    Args:
        job: the call.
        store: a session as dom0.
        xl: the host's toolstack; only asked for the release and for xen disks.

    Returns:
        The result, also where the call was refused or disks did not come up (`failed`).

    Raises:
        ResolveError, PlanError, DiskError, EmptyStoreError, StoreError, XlError: no disk was changed.
    """
    dialect = dialect_of(job.xen, xl)
    result = Result()
    if dialect.note:
        result.warnings.append(dialect.note)
    progress = _Progress()
    try:
        _carry_out(job, store, xl, dialect, result, progress)
    except (ResolveError, PlanError, DiskError, EmptyStoreError, StoreError, XlError) as error:
        if not progress.changed:
            raise
        result.failed = f"stopped half-way: {error}"
        return _ended(result, progress, None)
    if result.failed is not None or job.check:
        return _ended(result, progress, None)
    return _ended(result, progress, _wait(job, progress, store, result))


def _carry_out(job: Job, store: Store, xl: Xl, dialect: Dialect, result: Result, progress: _Progress) -> None:
    """Plan and apply, anew where somebody else was faster."""
    for attempt in range(REPLANS):
        snapshot = survey(
            store,
            lambda domains: _scope(job, domains),
            userdata=job.userdata,
            quotas=True,
            permissions=job.permissions,
        )
        plan = make_plan(job.declarations, snapshot, dialect, Options(job.absent, job.hotplug, xl.present))
        standing = _judge(job, plan, snapshot, dialect, result)
        progress.planned(plan, snapshot)
        if errors(standing):
            result.failed = summary(standing)
            return
        if job.check:
            result.changed = any(guest.changed for guest in plan.guests)
            return
        try:
            result.warnings += apply(plan.steps, snapshot, store, xl, progress.done)
            return
        except Overtaken:
            time.sleep(min(0.2, 0.005 * 2**attempt))
    result.failed = (
        f"the guests' devices kept changing while this call planned ({REPLANS} times); "
        "something else manages the same disks: run one at a time"
    )


def _scope(job: Job, domains: dict[int, Domain]) -> Scope:
    guests = {domain.domid for domain in targets(job.declarations, domains, absent=job.absent)}
    backends: set[int] = set()
    if not job.absent:
        for declaration in job.declarations:
            for disk in declaration.disks or ():
                backends.add(backend_of(disk.spec, domains).domid)
    return Scope(guests - {NOBODY}, backends)


def _judge(job: Job, plan: Plan, snapshot: Snapshot, dialect: Dialect, result: Result) -> list[Finding]:
    """All findings of a plan, sorted into the result."""
    picture = from_plan(plan, snapshot, dialect, _identify, look=_look(), waiting=job.wait)
    found = plan.findings + preflight(picture)
    standing, accepted = sort_out(found, job.accept)
    result.findings = [finding.as_dict() for finding in standing]
    result.accepted = [finding.as_dict() for finding in accepted]
    result.deprecations = list(plan.notes)
    return standing


def _identify(backend_domid: int, target: str) -> frozenset[str]:
    """Names of a target in dom0; where driver domains serve all disks, the code for it is not even read."""
    if backend_domid != 0:
        return _NAMELESS
    from ._storage import identify  # noqa: PLC0415

    return identify(backend_domid, target)


def _look() -> Look:
    """Looks at targets in dom0, over tables that are read once."""
    held: list[Storage] = []

    def look(target: str) -> Target:
        from ._storage import Storage  # noqa: PLC0415

        if not held:
            held.append(Storage())
        return held[0].look(target)

    return look


class _Progress:
    """What a call has done so far, over all the times it had to plan."""

    def __init__(self) -> None:
        self.plan = Plan([], [], [])
        self.snapshot = Snapshot({})
        self.diff: list[dict[str, str]] = []
        self.actions: dict[tuple[int, int], str] = {}
        self.changed = False
        self.written: set[tuple[int, int]] = set()
        self.concerned: set[int] = set()

    def planned(self, plan: Plan, snapshot: Snapshot) -> None:
        """A plan was made; the first one has the difference a person is shown."""
        first = not self.plan.guests
        concerned = _concerned(plan)
        for domid in sorted(self.concerned & concerned):
            _same(snapshot.domain(domid), self.snapshot.domain(domid))
        self.concerned |= concerned
        for guest, earlier in zip(plan.guests, self.plan.guests):
            self._carry_over(guest, earlier)
        self.plan, self.snapshot = plan, snapshot
        if first:
            self.diff = [diff(guest, snapshot) for guest in plan.guests]

    def _carry_over(self, guest: GuestPlan, earlier: GuestPlan) -> None:
        """What was removed before the call had to plan anew is in no new plan; it belongs in the result."""
        known = {disk.devid for disk in guest.disks}
        for disk in earlier.disks:
            removed = self.actions.get((earlier.domain.domid, disk.devid)) == REMOVED
            if removed and disk.action == REMOVED and disk.devid not in known:
                guest.disks.append(replace(disk, steps=[]))

    def done(self, step: Step) -> None:
        """A step was carried out."""
        self.changed = True
        if isinstance(step, Write):
            self.written.add(step.disk.key)
        key, action = _trace(step)
        if self.actions.get(key) not in (ADDED, CHANGED) or action == REMOVED:
            self.actions[key] = action

    def action(self, guest: GuestPlan, disk: DiskPlan) -> str:
        """What happened to a disk in the whole call."""
        if disk.action != UNCHANGED:
            return disk.action
        return self.actions.get((guest.domain.domid, disk.devid), UNCHANGED)


def _trace(step: Step) -> tuple[tuple[int, int], str]:
    if isinstance(step, Write):
        return step.disk.key, ADDED if step.live is None else CHANGED
    if isinstance(step, Repair):
        return step.disk.key, CHANGED
    if isinstance(step, Close):
        return (step.live.domid, step.live.devid), CHANGED
    if isinstance(step, Remove):
        return (step.live.domid, step.live.devid), REMOVED
    if isinstance(step, XlDetach):
        return (step.domid, step.devid), REMOVED
    return (step.domid, step.devid), ADDED


def _same(now: Domain, before: Domain) -> None:
    """Raise DiskError where a domid belongs to another domain than it did when the call began."""
    taken = now.vm_owner == "n0" and (now.vm, now.vm_owner) != (before.vm, before.vm_owner)
    if now.alive and (taken or not before.alive):
        raise DiskError(
            f"domain {now.domid} ended during this call and its id now belongs to another one ({now.label}); "
            "look at it and run again"
        )


def _concerned(plan: Plan) -> set[int]:
    """The guests and backend domains of a plan."""
    return {disk.backend_domid for disk in _wanted(plan)} | {guest.domain.domid for guest in plan.guests}


def _wanted(plan: Plan) -> list[Attachment]:
    return [disk.wanted for guest in plan.guests for disk in guest.disks if disk.wanted is not None]


def _so_far(progress: _Progress) -> dict[tuple[int, int], str | None]:
    """The disks that were written, in the state that we gave them; one that was repaired keeps its own."""
    return dict.fromkeys(progress.written, STATE_INITIALISING)


def _wait(job: Job, progress: _Progress, store: Store, result: Result) -> dict[tuple[int, int], str | None]:
    """Wait for the declared disks; the state in which each was last seen."""
    known = {key: live.state for key, live in progress.snapshot.disks.items()}
    if not job.wait or job.absent:
        return {**known, **_so_far(progress)}  # as read when the call planned, and as it wrote
    wanted = _wanted(progress.plan)
    fresh = [disk for disk in wanted if disk.key in progress.actions]
    try:
        outcomes = settle(store, wanted, fresh, timeout=job.wait_timeout, settling=job.settle)
    except StoreError as error:
        told = "the disks were written" if progress.changed else "the disks were as declared"
        result.failed = f"{told}, but their states could not be read: {error}"
        return {**known, **_so_far(progress)}
    bad = [outcome for outcome in outcomes if not outcome.attached]
    if bad:
        result.failed = _not_attached(bad, len(outcomes), job.wait_timeout, progress.snapshot)
    return {outcome.disk.key: outcome.state for outcome in outcomes}


def _not_attached(bad: list[Outcome], total: int, timeout: float, snapshot: Snapshot) -> str:
    shown = []
    for outcome in bad:
        guest = snapshot.domain(outcome.disk.domid).label
        backend = snapshot.domain(outcome.disk.backend_domid).label
        shown.append(f"{guest} {outcome.disk.vdev} at {backend}: {outcome.words}")
    return (
        f"{len(bad)} of {total} disks not attached within {timeout:g} s: {some(shown, 5, '; ')}. Look at the backend "
        "domain: does virtio-disk run for that device, started after the disk's nodes were written, and can it open "
        "the target? (its log, and drivers/virtio-disk/status in xenstore)"
    )


def _ended(result: Result, progress: _Progress, seen: dict[tuple[int, int], str | None] | None) -> Result:
    """Put the last picture into the result.

    `seen` has the states after the whole plan was carried out. None where it was not: then what was done is
    shown as done and, once anything was, all else as unchanged.
    """
    snapshot = progress.snapshot
    result.changed = result.changed or progress.changed
    result.diff = progress.diff
    for guest in progress.plan.guests:
        disks = []
        for disk in guest.disks:
            key = guest.domain.domid, disk.devid
            action = progress.action(guest, disk)
            if seen is not None:
                shown = finished_disk(guest, disk, snapshot, seen.get(key))
            elif key in progress.actions:
                action = progress.actions[key]
                left = None if action == REMOVED else STATE_INITIALISING
                shown = finished_disk(guest, disk, snapshot, left)
            else:
                shown = planned_disk(guest, disk, snapshot)
                action = UNCHANGED if progress.changed else action
            shown["action"] = action
            disks.append(shown)
        domid = guest.domain.domid if guest.domain.domid != NOBODY else None
        result.guests.append({"domain": guest.reference, "domid": domid, "disks": disks})
    if result.failed is None:
        found = counts(result.guests)
        total = sum(len(guest.disks) for guest in progress.plan.guests)
        told = ", ".join(f"{number} {action}" for action, number in found.items()) or "nothing to change"
        verb = " (not carried out: check mode)" if seen is None and result.changed else ""
        result.msg = f"{total} disks of {len(progress.plan.guests)} guests: {told}{verb}"
    return result
