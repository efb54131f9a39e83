# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host as it will be once a call is through: what the rules of `_preflight` look at. Pure.

One neutral picture, whoever draws it: `from_plan` for the disks of running domains, `from_guests` (in
`_guestpicture`) for guests of xl and for inventory data alone. The boot archive needs the former only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Union

from ._dialect import Dialect
from ._diskspec import DiskSpec
from ._diskstatus import DiskStatus
from ._layout import STATE_INIT_WAIT, attachment
from ._mmio import Place
from ._plan import REMOVED, UNCHANGED, DiskPlan, GuestPlan, Plan, backend_of
from ._snapshot import LiveDisk, Quota, ResolveError, Snapshot, XenDisk
from ._target import Target
from ._vdev import canonical

#: A domain: its domid, or its name where the host was not looked at or has no such domain.
Key = Union[int, str]

#: From a backend's domid and a target to names under which the same storage is known (device number, inode …),
#: where the host can be asked; a target that it cannot tell about gives nothing.
Identify = Callable[[int, str], "frozenset[str]"]

#: From a target in dom0 to what is known of it.
Look = Callable[[str], Target]


class PicturedDisk(NamedTuple):
    """A disk in some guest's hands once the call is through."""

    guest: str  #: whose, as the user named it
    holder: Key
    vdev: str
    devid: int | None  #: None where the vdev is none
    backend: Key
    target: str | None  #: None where nothing says so any more
    writable: bool
    declared: bool  #: a user said so in this call; else it is just there
    virtio: bool = True
    shared: bool = False
    spec: DiskSpec | None = None  #: of a declared one
    foreign: bool = False  #: a driver domain serves it, and not by grants
    place: Place | None = None  #: None where libxl gives it out
    pending: bool = False  #: a daemon has yet to take it up
    served: bool = False  #: the guest has this target at this backend already
    names: frozenset[str] = frozenset()
    facts: Target | None = None  #: None where nobody looked
    size: int | None = None  #: of the target in bytes when the guest got it, None where unknown
    bad: str | None = None  #: what is wrong with the vdev
    told: DiskStatus | None = None  #: what the launcher of its backend says of it, where it has it already


class PicturedGuest(NamedTuple):
    """A guest that was declared."""

    reference: str
    key: Key
    disks: list[PicturedDisk]  #: declared ones in the user's order, then what stays beside them
    devices: list[tuple[str, Place | None]]  #: virtio devices that are no disks
    touched: bool = True  #: something is asked for, other than to take away
    allocated: bool = False  #: libxl gives out places and interrupts
    earlier: tuple[int, ...] | None = None  #: devids of its virtio disks as it runs, in order
    irqs: tuple[int, ...] = ()  #: passed through
    nr_spis: int | None = None
    vuart: bool = False
    bootloader: bool = False  #: a program of dom0 looks for the kernel on the first disk
    release: tuple[tuple[str, str], ...] = ()  #: option, and why this Xen does not take it
    lost: tuple[tuple[str | None, str], ...] = ()  #: vdev, and why no domain is its backend
    new: int = 0  #: virtio disks that it does not have yet
    quota: Quota | None = None


@dataclass
class Backend:
    """A backend domain.

    Attributes:
        label: what to call it.
        launcher: whether our launcher runs its daemons, each behind a view; None where nobody knows.
        status: what its daemon says of itself; None where it says nothing.
        reason: why its launcher says that there is none; None where it does not say.
        asked: its silence says something: the store was read, and nothing but the daemon's word tells.
        quota: its limits.
        new: virtio disks that it does not have yet.
        after: virtio disks that it will have.
    """

    label: str
    launcher: bool | None = None
    status: str | None = None
    reason: str | None = None
    asked: bool = True
    quota: Quota | None = None
    new: int = 0
    after: int = 0


@dataclass
class Picture:
    """A host once a call is through.

    Attributes:
        guests: what was declared.
        others: disks of guests that nobody declared.
        backends: the domains behind all these disks.
        dialect: the host's.
        waiting: the call ends only when its disks are attached.
        seen: a host was looked at; else this is inventory data alone.
    """

    guests: list[PicturedGuest]
    others: list[PicturedDisk]
    backends: dict[Key, Backend]
    dialect: Dialect
    waiting: bool = True
    seen: bool = True

    @property
    def disks(self) -> list[PicturedDisk]:
        """All disks, declared ones first."""
        listed = [disk for guest in self.guests for disk in guest.disks]
        listed.sort(key=_declared_first)
        return listed + self.others

    def label(self, backend: Key) -> str:
        """What to call a backend domain."""
        found = self.backends.get(backend)
        return str(backend) if found is None else found.label


def _declared_first(disk: PicturedDisk) -> bool:
    return not disk.declared


@dataclass
class Scene:
    """What the makers of pictures have in common: a host that was looked at, and its backend domains."""

    snapshot: Snapshot
    identify: Callable[[Key, str], frozenset[str]]
    patient: bool = False  #: whoever uses the picture sees by itself whether a silent daemon serves
    backends: dict[Key, Backend] = field(default_factory=dict)

    def backend(self, domid: int) -> Backend:
        """The backend domain with this domid, noted on first sight."""
        found = self.backends.get(domid)
        if found is None:
            snapshot = self.snapshot
            status = snapshot.statuses.get(domid)
            found = self.backends[domid] = Backend(
                snapshot.domain(domid).label,
                launcher=domid in snapshot.launchers and domid not in snapshot.viewless,
                status=status,
                reason=snapshot.reasons.get(domid),
                asked=status is not None or not self.patient,
                quota=snapshot.quotas.get(domid),
            )
        return found

    def live(self, live: LiveDisk, guest: str) -> PicturedDisk:
        """A virtio disk that is there and stays."""
        source, backend = live.source, live.backend_domid
        if source is None or backend is None:
            vdev = canonical(live.devid) or str(live.devid)
            return PicturedDisk(guest, live.domid, vdev, live.devid, -1, None, writable=False, declared=False)
        self.backend(backend)
        disk = attachment(live.domid, live.devid, backend, source, None)
        return PicturedDisk(
            guest,
            live.domid,
            disk.vdev,
            live.devid,
            backend,
            disk.target,
            not disk.readonly,
            declared=False,
            place=Place(disk.base, disk.irq),
            names=self.identify(backend, disk.target),
        )

    def live_xen(self, live: XenDisk, guest: str) -> PicturedDisk:
        """A xen disk that is there and stays."""
        params = live.nodes.get("params")
        if params is not None and live.nodes.get("type") not in (None, "phy"):
            params = params.split(":", 1)[-1]  # qdisk and tap: format:target
        backend = live.backend_domid
        known = params is not None and backend is not None
        return PicturedDisk(
            guest,
            live.domid,
            live.nodes.get("dev") or canonical(live.devid) or str(live.devid),
            live.devid,
            -1 if backend is None else backend,
            params if known else None,
            live.nodes.get("mode") == "w",
            declared=False,
            virtio=False,
            names=self.identify(backend, params)
            if params is not None and backend is not None
            else frozenset(),
        )

    def bystanders(self, concerned: Iterable[int]) -> list[PicturedDisk]:
        """The disks of all living guests but the concerned ones."""
        skipped = frozenset(concerned)
        domains = self.snapshot.domains
        found = []
        for (domid, _devid), live in sorted(self.snapshot.disks.items()):
            domain = domains.get(domid)
            # a dead domain holds nothing; what it left behind is stale, not shared
            if domid in skipped or domain is None or not domain.alive:
                continue
            if live.source is not None and live.backend_domid is not None:
                found.append(self.live(live, domain.label))
        for domid, disks in sorted(self.snapshot.xen_disks.items()):
            domain = domains.get(domid)
            if domid not in skipped and domain is not None and domain.alive:
                found += [self.live_xen(disk, domain.label) for _devid, disk in sorted(disks.items())]
        return found

    def count_live(self) -> None:
        """Count what every backend domain serves now."""
        for (domid, _devid), live in self.snapshot.disks.items():
            if self.snapshot.domain(domid).alive:
                for backend in live.backends:
                    self.backend(backend).after += 1


def from_plan(
    plan: Plan,
    snapshot: Snapshot,
    dialect: Dialect,
    identify: Identify,
    *,
    look: Look | None = None,
    waiting: bool = True,
) -> Picture:
    """The host once a plan for disks is carried out.

    Args:
        plan: what is to become of the host.
        snapshot: what the plan was made over.
        dialect: the host's.
        identify: tells under which other names a target is known.
        look: tells of a target in dom0 whether it is there and in use; None where nobody can.
        waiting: the call ends only when its disks are attached.
    """
    known: dict[tuple[Key, str], frozenset[str]] = {}

    def names(backend: Key, target: str) -> frozenset[str]:
        found = known.get((backend, target))
        if found is None:
            found = known[backend, target] = identify(int(backend), target)
        return found

    # settling tells whether disks were taken up, and of which daemon
    scene = Scene(snapshot, names, patient=True)
    scene.count_live()
    guests = [_planned_guest(guest, scene, look) for guest in plan.guests]
    others = scene.bystanders(guest.domain.domid for guest in plan.guests)
    return Picture(guests, others, scene.backends, dialect, waiting)


def _planned_guest(guest: GuestPlan, scene: Scene, look: Look | None) -> PicturedGuest:
    snapshot, domid = scene.snapshot, guest.domain.domid
    disks: list[PicturedDisk] = []
    planned: set[int] = set()
    new = 0
    touched = False
    for disk in guest.disks:
        planned.add(disk.devid)
        new += _count(disk, scene)
        if disk.action == REMOVED:
            continue
        touched = touched or disk.declared
        disks.append(
            _planned_disk(guest, disk, scene, look) if disk.wanted else _planned_xen(guest, disk, scene)
        )
    disks += [scene.live(live, guest.reference) for live in guest.kept]
    for number, xen in sorted(snapshot.xen_disks.get(domid, {}).items()):
        if number not in planned:
            disks.append(scene.live_xen(xen, guest.reference))
    return PicturedGuest(
        guest.reference,
        domid,
        disks,
        [
            (f"virtio device {index}", Place(base, irq))
            for index, (base, irq) in sorted(snapshot.generic.get(domid, {}).items())
        ],
        touched,
        new=new,
        quota=snapshot.quotas.get(domid),
    )


def _count(disk: DiskPlan, scene: Scene) -> int:
    """Note at the backends what a planned disk adds and takes; 1 where it is new in the guest."""
    after = None if disk.wanted is None else disk.wanted.backend_domid
    before: Mapping[int, object] = {} if disk.live is None else disk.live.backends
    if after is not None and after not in before:
        backend = scene.backend(after)
        backend.new += 1
        backend.after += 1
    for domid in before:
        if domid != after:
            scene.backend(domid).after -= 1
    return int(after is not None and (disk.live is None or disk.live.frontend is None))


def _planned_disk(guest: GuestPlan, disk: DiskPlan, scene: Scene, look: Look | None) -> PicturedDisk:
    wanted, live = disk.wanted, disk.live
    if wanted is None:
        raise ValueError(f"{disk.vdev} has no place in the picture")
    backend, target = wanted.backend_domid, wanted.target
    scene.backend(backend)
    pending = live is None or disk.action != UNCHANGED or live.state != STATE_INIT_WAIT
    return PicturedDisk(
        guest.reference,
        wanted.domid,
        disk.vdev,
        disk.devid,
        backend,
        target,
        not wanted.readonly,
        disk.declared,
        shared=disk.shared,
        spec=disk.spec,
        foreign=backend != 0 and not wanted.grant_usage,
        place=Place(wanted.base, wanted.irq),
        pending=pending,
        served=_serves(live, backend, target),
        names=scene.identify(backend, target),
        facts=look(target) if look is not None and backend == 0 and pending else None,
        told=scene.snapshot.told.get((backend, wanted.domid, disk.devid)),
    )


def _serves(live: LiveDisk | None, backend: int, target: str) -> bool:
    """Whether a backend serves this very target to the guest already."""
    branch = None if live is None else live.backends.get(backend)
    return branch is not None and branch.nodes.get("params") == target


def _planned_xen(guest: GuestPlan, disk: DiskPlan, scene: Scene) -> PicturedDisk:
    spec, live = disk.spec, disk.xen_live
    backend: Key = -1
    if spec is not None:
        with contextlib.suppress(ResolveError):  # a plan has found them all
            backend = backend_of(spec, scene.snapshot.domains).domid
    target = None if spec is None or backend == -1 else spec.target
    return PicturedDisk(
        guest.reference,
        guest.domain.domid,
        disk.vdev,
        disk.devid,
        backend,
        target or None,
        spec is not None and spec.access == "rw",
        disk.declared,
        virtio=False,
        shared=disk.shared,
        spec=spec,
        served=live is not None and live.backend_domid == backend,
        names=scene.identify(backend, target) if target else frozenset(),
    )
