# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Desired disks and what a snapshot shows → steps, findings and the picture before and after.

The one plan that check mode prints and a real run carries out. Pure: nothing here reads or writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Union

from ._declaration import GuestDeclaration
from ._dialect import Dialect
from ._diskspec import Declared, DiskSpec, DiskSpecError, render
from ._findings import ERROR, Finding
from ._layout import (
    RECORD,
    STATE_CLOSED,
    STATE_CLOSING,
    STATE_INIT_WAIT,
    Attachment,
    Difference,
    Schema,
    attachment,
    backend_path,
    differences,
    schema_of,
)
from ._mmio import BASE, SLOT, SPI_FIRST, Place
from ._snapshot import (
    Domain,
    LiveDisk,
    ResolveError,
    Snapshot,
    UnknownDomainError,
    XenDisk,
    is_domid,
    resolve,
)
from ._vdev import canonical, devid

ADDED, CHANGED, REMOVED, UNCHANGED = "added", "changed", "removed", "unchanged"


@dataclass(frozen=True)
class Write:
    """Write a disk's three trees in one transaction; whatever stood there goes in the same one."""

    disk: Attachment
    schema: Schema
    live: LiveDisk | None
    parents: tuple[
        str, ...
    ] = ()  #: backend directories to open to a backend domain that cannot read its own tree


@dataclass(frozen=True)
class Repair:
    """Put single nodes right; the record says that the disk itself is the declared one, so it stays in use."""

    disk: Attachment
    schema: Schema
    live: LiveDisk
    nodes: tuple[Difference, ...]


@dataclass(frozen=True)
class Close:
    """Ask the backends of a disk in use to let go of it; a `Remove` of the same disk follows."""

    live: LiveDisk


@dataclass(frozen=True)
class Remove:
    """Take a disk away: all its trees and the directories that stay empty."""

    live: LiveDisk
    closed: bool = False  #: a `Close` came before: its backends have moved on


@dataclass(frozen=True)
class XlAttach:
    """``xl block-attach`` for a xen disk."""

    domid: int
    devid: int
    spec: str


@dataclass(frozen=True)
class XlDetach:
    """``xl block-detach`` for a xen disk."""

    domid: int
    devid: int


Step = Union[Write, Repair, Close, Remove, XlAttach, XlDetach]


@dataclass
class DiskPlan:
    """What becomes of one disk."""

    vdev: str
    devid: int
    action: str
    specification: str = "virtio"
    wanted: Attachment | None = None  #: how it shall be; None where it goes
    live: LiveDisk | None = None
    xen_live: XenDisk | None = None
    spec: DiskSpec | None = None
    shared: bool = False
    declared: bool = True
    differences: tuple[Difference, ...] = ()
    steps: list[Step] = field(default_factory=list)


@dataclass
class GuestPlan:
    """What becomes of one guest's disks."""

    reference: str
    domain: Domain
    disks: list[DiskPlan] = field(default_factory=list)
    kept: list[LiveDisk] = field(default_factory=list)  #: not declared, left alone

    @property
    def changed(self) -> bool:
        """Whether anything would be done."""
        return any(disk.action != UNCHANGED for disk in self.disks)


@dataclass
class Plan:
    """What a call does to a host."""

    guests: list[GuestPlan]
    findings: list[Finding]
    notes: list[str]

    @property
    def steps(self) -> list[Step]:
        """All steps in the order in which they are carried out.

        What is to close comes first, so that all backends are waited for together.
        """
        steps = [step for guest in self.guests for disk in _ordered(guest.disks) for step in disk.steps]
        closing = [step for step in steps if isinstance(step, Close)]
        return [*closing, *(step for step in steps if not isinstance(step, Close))]


def _ordered(disks: Iterable[DiskPlan]) -> list[DiskPlan]:
    """Removals first: they free places and targets for what comes."""
    listed = list(disks)
    return [d for d in listed if d.action == REMOVED] + [d for d in listed if d.action != REMOVED]


@dataclass(frozen=True)
class Options:
    """How far a plan may go."""

    absent: bool = False
    hotplug: bool = False
    xl: bool = True  #: xl is there to attach and detach xen disks


class PlanError(ValueError):
    """A declaration that makes no sense on this host; the text names the guest and the remedy."""


def targets(
    declarations: Iterable[GuestDeclaration], domains: dict[int, Domain], *, absent: bool
) -> list[Domain]:
    """The guests that declarations are about, in order.

    Raises:
        ResolveError: an unknown, ambiguous or unbelieved name.
        PlanError: one guest declared twice.
    """
    found: list[Domain] = []
    seen: dict[int, str] = {}
    for declaration in declarations:
        domain = find_guest(declaration.domain, domains, absent=absent)
        if domain.domid in seen and domain.domid >= 0:
            raise PlanError(
                f"guests: {declaration.domain!r} and {seen[domain.domid]!r} are the same domain "
                f"({domain.domid}); declare a guest once"
            )
        seen[domain.domid] = declaration.domain
        found.append(domain)
    return found


#: Stands for a guest that is not there at all: nothing to remove from it.
NOBODY = -1


def find_guest(reference: str, domains: dict[int, Domain], *, absent: bool) -> Domain:
    """The guest a declaration is about; a domain that is gone is one too if its disks are to go."""
    try:
        return resolve(domains, reference)
    except UnknownDomainError:
        if not absent:
            raise
        return Domain(int(reference) if is_domid(reference) else NOBODY, name=reference, alive=False)


def backend_of(spec: DiskSpec, domains: dict[int, Domain]) -> Domain:
    """The domain that serves a disk; dom0 where none is named.

    Raises:
        ResolveError: as `resolve`; also where the domain is gone.
    """
    if spec.backend is None or spec.backend == "":
        return domains.get(0) or Domain(0, name="Domain-0", name_trusted=True)
    try:
        found = resolve(domains, spec.backend)
    except ResolveError as error:
        raise type(error)(f"backend of {spec.vdev}: {error}") from error
    if not found.alive:
        raise UnknownDomainError(f"backend of {spec.vdev}: domain {spec.backend!r} ({found.domid}) is gone")
    return found


def make_plan(
    declarations: Iterable[GuestDeclaration], snapshot: Snapshot, dialect: Dialect, options: Options
) -> Plan:
    """Plan a call.

    Args:
        declarations: as read by `parse_guests`.
        snapshot: of the host, with every declared guest in its scope.
        dialect: the host's.
        options: state and guards.

    Raises:
        ResolveError: a domain nobody, or more than one, answers to.
        PlanError: a declaration that cannot be meant.
    """
    plan = Plan([], [], [])
    schema = schema_for(dialect)
    listed = list(declarations)
    guests = targets(listed, snapshot.domains, absent=options.absent)
    for declaration, domain in zip(listed, guests):
        plan.notes += declaration.notes
        guest = GuestPlan(declaration.domain, domain)
        plan.guests.append(guest)
        if not domain.alive:
            _plan_gone(guest, declaration, snapshot, options)
        else:
            _Guest(guest, declaration, snapshot, dialect, schema, options, plan.findings).plan()
    return plan


def schema_for(dialect: Dialect) -> Schema:
    """The nodes that a release writes."""
    if dialect.name == "v6":
        return Schema("virtio_disk", specification=False, grant_usage=False)
    return Schema(grant_usage=dialect.accepts("grant_usage"))


def _number(vdev: str | None) -> int:
    return devid(vdev or "")


def _plan_gone(guest: GuestPlan, declaration: GuestDeclaration, snapshot: Snapshot, options: Options) -> None:
    """A dead domain's leftovers: nothing can be in use by it, nothing can be given to it."""
    removing_all = declaration.exclusive and not declaration.disks
    if not options.absent and not removing_all:
        raise UnknownDomainError(
            f"domain {declaration.domain!r} ({guest.domain.domid}) is gone; what it left behind is removed "
            "with state: absent"
        )
    wanted = None if declaration.disks is None else {_number(disk.spec.vdev) for disk in declaration.disks}
    if declaration.exclusive:
        wanted = None
    for number, live in sorted(snapshot.disks_of(guest.domain.domid).items()):
        if wanted is None or number in wanted:
            _remove(guest, live, declared=False, in_use=False)


def _remove(guest: GuestPlan, live: LiveDisk, *, declared: bool, in_use: bool) -> DiskPlan:
    disk = DiskPlan(vdev_of(live), live.devid, REMOVED, live=live, declared=declared)
    disk.steps += [Close(live), Remove(live, closed=True)] if in_use else [Remove(live)]
    guest.disks.append(disk)
    return disk


def vdev_of(live: LiveDisk) -> str:
    """What a disk in the store is called."""
    named = live.source.nodes.get("dev") if live.source else None
    return named or canonical(live.devid) or str(live.devid)


class _Guest:
    """Plans the disks of one living guest."""

    def __init__(
        self,
        guest: GuestPlan,
        declaration: GuestDeclaration,
        snapshot: Snapshot,
        dialect: Dialect,
        schema: Schema,
        options: Options,
        findings: list[Finding],
    ) -> None:
        self.guest = guest
        self.domain = guest.domain
        self.declaration = declaration
        self.snapshot = snapshot
        self.dialect = dialect
        self.schema = schema
        self.options = options
        self.findings = findings
        self.live = dict(sorted(snapshot.disks_of(self.domain.domid).items()))
        self.xen = snapshot.xen_disks.get(self.domain.domid, {})

    def plan(self) -> None:
        declaration = self.declaration
        if self.options.absent:
            self._plan_absent()
            return
        if declaration.disks is None:
            if declaration.exclusive:
                raise PlanError(
                    f"{declaration.domain}: exclusive needs disks (a list; disks: [] where the guest is to have none)"
                )
            self.guest.kept = [live for live in self.live.values() if not live.invented]
            return
        numbers = [_number(disk.spec.vdev) for disk in declaration.disks]
        if declaration.exclusive:
            self._remove_others(set(numbers))
        places = self._places(declaration.disks, numbers)
        seen: set[int] = set()
        for disk, number, place in zip(declaration.disks, numbers, places):
            if number in seen:
                self._duplicate(disk, number)
                continue
            seen.add(number)
            if disk.spec.specification == "virtio":
                self._virtio(disk, number, place)
            else:
                self._xen_disk(disk, number)
        if not declaration.exclusive:
            self.guest.kept = [
                live for number, live in self.live.items() if number not in seen and not live.invented
            ]

    def _plan_absent(self) -> None:
        declaration = self.declaration
        if declaration.exclusive and not declaration.disks:
            self._remove_others(set())
            return
        if declaration.disks is None:
            raise PlanError(
                f"{declaration.domain}: state absent needs the disks to remove; for all of them say "
                "disks: [] with exclusive: true"
            )
        gone: set[int] = set()
        for disk in declaration.disks:
            number = _number(disk.spec.vdev)
            if number in gone:
                continue  # said twice, or by two names
            gone.add(number)
            if number in self.live:
                self._remove(self.live[number], declared=True)
            elif number in self.xen:
                self._detach(self.xen[number], disk.spec.vdev or str(number))
        self.guest.kept = [live for number, live in self.live.items() if number not in gone]

    def _remove_others(self, listed: set[int]) -> None:
        for number, live in sorted(self.live.items()):
            if number not in listed:
                self._remove(live, declared=False)
        for number, xen in sorted(self.xen.items()):
            if number not in listed:
                self._detach(xen, xen.nodes.get("dev") or canonical(number) or str(number))

    # --- virtio ---------------------------------------------------------------------------------------

    def _remove(self, live: LiveDisk, *, declared: bool) -> None:
        disk = _remove(self.guest, live, declared=declared, in_use=live.in_use)
        if self.domain.made_by_xl:
            self._refuse_xl(disk.vdev, "removing")
        elif live.in_use and not self.options.hotplug:
            self._refuse_in_use(disk.vdev, live, "removing it")

    def _virtio(self, declared: Declared, number: int, place: Place) -> None:
        spec = declared.spec
        backend = backend_of(spec, self.snapshot.domains)
        wanted = desired(spec, self.domain.domid, backend.domid, number, place)
        live = self.live.get(number)
        disk = DiskPlan(
            spec.vdev or "", number, UNCHANGED, wanted=wanted, live=live, spec=spec, shared=declared.shared
        )
        self.guest.disks.append(disk)
        if number in self.xen:
            self._refuse_mixed(disk.vdev, "xen")
            return
        if live is None:
            disk.action = ADDED
            disk.steps.append(Write(wanted, self.schema, None, self._parents(backend)))
            if self.domain.made_by_xl:
                self._refuse_xl(disk.vdev, "adding")
            return
        disk.differences = tuple(self._differences(wanted, live))
        if not disk.differences:
            return
        disk.action = CHANGED
        if self.domain.made_by_xl:
            self._refuse_xl(disk.vdev, "changing")
            return
        if self._repairable(wanted, live, disk.differences):
            disk.steps.append(Repair(wanted, self.schema, live, disk.differences))
            return
        if live.in_use:
            disk.steps += [Close(live), Remove(live, closed=True)]
            if not self.options.hotplug:
                self._refuse_in_use(disk.vdev, live, _changes(disk.differences))
        disk.steps.append(Write(wanted, self.schema, live, self._parents(backend)))

    def _differences(self, wanted: Attachment, live: LiveDisk) -> list[Difference]:
        trees = dict(live.trees)
        trees["backend"] = live.backends.get(wanted.backend_domid)
        found = differences(wanted, self.schema, trees)
        for other in sorted(set(live.backends) - {wanted.backend_domid}):
            path = backend_path(other, live.domid, live.devid)
            found.append(Difference("backend", path, "value", "absent", "present"))
        return found

    def _repairable(self, wanted: Attachment, live: LiveDisk, found: tuple[Difference, ...]) -> bool:
        """Whether single nodes can be put right with the disk in use.

        So it is where nothing but permissions or the record (which no daemon reads) differs, and where the
        record, which dom0 alone writes, has this very disk: then what differs elsewhere is drift, not a wish.
        """
        if live.frontend is None or set(live.backends) != {wanted.backend_domid}:
            return False
        if live.state in (None, STATE_CLOSING, STATE_CLOSED):
            return False
        if all(one.tree == RECORD or one.what == "permissions" for one in found):
            return True
        if live.record is None:
            return False
        recorded = attachment(live.domid, live.devid, wanted.backend_domid, live.record, None)
        recorded = replace(recorded, trusted=wanted.trusted)  # the record does not say
        if not self.schema.grant_usage:
            recorded = replace(recorded, grant_usage=wanted.grant_usage)
        return recorded == wanted and schema_of(live.record) == self.schema

    def _parents(self, backend: Domain) -> tuple[str, ...]:
        """Directories of the backend's tree that its daemon could not read otherwise.

        libxl gives ``/local/domain/B`` to B to read and the rest inherits it; init-dom0less does not.
        """
        if backend.reads_itself:
            return ()
        top = f"/local/domain/{backend.domid}/backend"
        return top, f"{top}/virtio_disk", f"{top}/virtio_disk/{self.domain.domid}"

    def _places(self, disks: tuple[Declared, ...], numbers: list[int]) -> list[Place]:
        """A place for every declared disk: its own, the one given by hand, or the lowest free one."""
        domid = self.domain.domid
        own: dict[int, Place] = {}
        leaving = {disk.devid for disk in self.guest.disks if disk.action == REMOVED}
        used: set[Place] = {Place(base, irq) for base, irq in self.snapshot.generic.get(domid, {}).values()}
        for number, live in self.live.items():
            place = recorded_place(live)
            if place is not None:
                own[number] = place
                # a place is free again once its disk is gone; one that is in use may linger
                if number not in leaving or live.in_use:
                    used.add(place)
        given = [self._given(disk) for disk in disks]
        used.update(place for place in given if place is not None)
        places: list[Place] = []
        for disk, number, by_hand in zip(disks, numbers, given):
            if disk.spec.specification != "virtio":
                places.append(Place(0, 0))
                continue
            chosen = by_hand or own.get(number) or _lowest_free(used)
            used.add(chosen)
            places.append(chosen)
        return places

    def _given(self, disk: Declared) -> Place | None:
        if disk.base is None and disk.irq is None:
            return None
        if self.domain.made_by_xl:
            raise PlanError(
                f"{self.declaration.domain}: {disk.spec.vdev}: base and irq are libxl's to give for a guest made by "
                "xl; leave them out"
            )
        if disk.base is None or disk.irq is None:
            raise PlanError(
                f"{self.declaration.domain}: {disk.spec.vdev}: give base and irq together, as the guest's device "
                "tree has them"
            )
        return Place(disk.base, disk.irq)

    # --- xen ------------------------------------------------------------------------------------------

    def _xen_disk(self, declared: Declared, number: int) -> None:
        spec = declared.spec
        backend = backend_of(spec, self.snapshot.domains)
        live = self.xen.get(number)
        disk = DiskPlan(
            spec.vdev or "",
            number,
            UNCHANGED,
            specification="xen",
            xen_live=live,
            spec=spec,
            shared=declared.shared,
        )
        self.guest.disks.append(disk)
        if number in self.live and not self.live[number].invented:
            self._refuse_mixed(disk.vdev, "virtio")
            return
        disk.differences = tuple(_xen_differences(spec, backend.domid, live))
        if live is not None and not disk.differences:
            return
        disk.action = ADDED if live is None else CHANGED
        if live is not None:
            disk.steps.append(XlDetach(self.domain.domid, number))
        try:
            disk.steps.append(XlAttach(self.domain.domid, number, render(spec, self.dialect)))
        except DiskSpecError as error:
            raise PlanError(f"{self.declaration.domain}: {disk.vdev}: {error}") from error
        self._needs_xl(disk.vdev)

    def _refuse_mixed(self, vdev: str, kind: str) -> None:
        self.findings.append(
            Finding(
                "mixed-specification",
                ERROR,
                self.declaration.domain,
                vdev,
                f"{vdev} is a {kind} disk of this guest already",
                "libxl can list neither once a guest has both kinds.",
                f"Remove the {kind} disk first (specification: {kind}, state: absent).",
            )
        )

    def _detach(self, live: XenDisk, vdev: str) -> None:
        disk = DiskPlan(vdev, live.devid, REMOVED, specification="xen", xen_live=live)
        disk.steps.append(XlDetach(self.domain.domid, live.devid))
        self.guest.disks.append(disk)
        self._needs_xl(vdev)

    # --- refusals -------------------------------------------------------------------------------------

    def _needs_xl(self, vdev: str) -> None:
        if not self.options.xl:
            self._find(
                "xl-missing",
                vdev,
                f"{vdev} has specification xen and this host has no xl",
                "Only libxl attaches and detaches such a disk.",
                "Install the Xen tools, or declare the disk with specification: virtio.",
            )

    def _refuse_xl(self, vdev: str, doing: str) -> None:
        self._find(
            "made-by-xl",
            vdev,
            f"{doing} {vdev} of {self.domain.label} (domain {self.domain.domid}) while it is up",
            "The guest was made by xl, and libxl refuses hot-plug for virtio disks.",
            "Declare the disk with xen.virtio.guest and let it re-create the guest (option recreate).",
        )

    def _refuse_in_use(self, vdev: str, live: LiveDisk, doing: str) -> None:
        self._find(
            "in-use",
            vdev,
            f"{vdev} of {self.domain.label} is attached (backend state {live.state}), {doing} takes it away",
            "The guest loses the disk at once and a daemon that gave it up may not take it again.",
            "Shut the guest down first, or say hotplug: true.",
        )

    def _duplicate(self, disk: Declared, number: int) -> None:
        self._find(
            "devid-duplicate",
            disk.spec.vdev,
            f"{disk.spec.vdev} is device {number}, which another disk of this guest is already",
            "libxl ends a create with 'device already exists in xenstore'.",
            "Give every disk of a guest a vdev of its own (xvda, d0p0 and 51712 are one).",
        )

    def _find(self, code: str, vdev: str | None, message: str, why: str, remedy: str) -> None:
        self.findings.append(Finding(code, ERROR, self.declaration.domain, vdev, message, why, remedy))


def desired(spec: DiskSpec, domid: int, backend: int, number: int, place: Place) -> Attachment:
    """A declared virtio disk with libxl's defaults filled in (``libxl__device_disk_setdefault``)."""
    readonly = spec.access != "rw"
    return Attachment(
        domid=domid,
        backend_domid=backend,
        devid=number,
        vdev=spec.vdev or "",
        target=spec.target or "",
        readonly=readonly,
        base=place.base,
        irq=place.irq,
        cdrom=spec.cdrom,
        removable=spec.removable,
        discard=(not readonly) if spec.discard is None else spec.discard,
        direct_io_safe=spec.direct_io_safe,
        trusted=True if spec.trusted is None else spec.trusted,
        grant_usage=(backend != 0) if spec.grant_usage is None else spec.grant_usage,
    )


def recorded_place(live: LiveDisk) -> Place | None:
    """Where a disk in the store lies, None where nothing is left that says so."""
    for branch in (live.record, live.backend):
        node = {} if branch is None else branch.nodes
        # a half, or what is no number, would be taken for place 0 and written everywhere
        if all(re.fullmatch("[0-9]{1,10}", node.get(name, "")) for name in ("base", "irq")):
            return Place(int(node["base"]), int(node["irq"]))
    return None


def _lowest_free(used: set[Place]) -> Place:
    """The lowest of libxl's slots that nothing lies in.

    Goes on past the last one that a guest has room for: preflight then says so for all disks at once.
    """
    irqs = {place.irq for place in used}
    slot = 0
    while SPI_FIRST + slot in irqs or any(abs(BASE + SLOT * slot - place.base) < SLOT for place in used):
        slot += 1
    return Place(BASE + SLOT * slot, SPI_FIRST + slot)


def _changes(found: tuple[Difference, ...]) -> str:
    """What of a disk would be different, in a few words."""
    names = sorted({difference.node for difference in found if difference.tree == RECORD and difference.node})
    return f"changing {', '.join(names[:4])}" if names else "writing it anew"


def _xen_differences(spec: DiskSpec, backend: int, live: XenDisk | None) -> list[Difference]:
    """What a xen disk's record says otherwise than declared."""
    if live is None:
        return []
    params = live.nodes.get("params", "")
    if live.nodes.get("type") not in (None, "phy"):
        params = params.split(":", 1)[-1]  # qdisk and tap: format:target
    wanted = {
        "params": (spec.target or "", params),
        "mode": ("w" if spec.access == "rw" else "r", live.nodes.get("mode", "")),
        "device-type": ("cdrom" if spec.cdrom else "disk", live.nodes.get("device-type", "")),
        "backend-id": (str(backend), str(live.backend_domid)),
    }
    return [
        Difference(RECORD, node, "value", want, have) for node, (want, have) in wanted.items() if want != have
    ]


def health(live: LiveDisk | None, alive: bool, found: Iterable[Difference]) -> str:
    """One word on a disk: attached, pending, closing, closed, missing, stale or drifted.

    ``attached`` is backend state 2 (XenbusStateInitWait): the daemon never goes further. Whether it is
    still there after a settling time is for the caller to look.
    """
    if not alive or (live is not None and live.invented):
        return "stale"
    if live is None or live.backend is None:
        return "missing"
    if live.state == STATE_CLOSING:
        return "closing"
    if live.state == STATE_CLOSED:
        return "closed"
    if any(True for _difference in found):
        return "drifted"
    return "attached" if live.state == STATE_INIT_WAIT else "pending"
