# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host as guests of xl are to leave it, for the rules of `_preflight`; also drawn from an inventory alone. Pure.

Without a snapshot nobody knows domids, quotas or other guests: backend domains then go by their names, quotas by
the defaults of the stricter daemon, and targets by their paths where no facts about them are given.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from ._dialect import Dialect
from ._diskspec import Declared
from ._diskstatus import DiskStatus
from ._guestconfig import GuestSpec, option_release_violations
from ._layout import STATE_INIT_WAIT
from ._picture import Backend, Identify, Key, Look, Picture, PicturedDisk, PicturedGuest, Scene
from ._snapshot import LiveDisk, Quota, ResolveError, Snapshot, UnknownDomainError, resolve
from ._target import Target, TargetFacts
from ._vdev import VdevError, devid

#: Limits of an unprivileged domain where no daemon was asked: oxenstored's, which allows fewer watches
#: (tools/ocaml/xenstored/oxenstored.conf.in).
ASSUMED = Quota(nodes=1000, watches=100, assumed="oxenstored's defaults")

#: Ways to name dom0 as a backend domain.
DOM0 = ("", "0", "Domain-0")


class DriverDomainsError(ValueError):
    """What is said of driver domains is of another shape than `xen_driver_domains`."""


def read_driver_domains(given: object) -> dict[str, Mapping[str, Any]]:
    """The driver domains of an inventory: a mapping by name (`host`, `launcher`), or a list of names.

    Raises:
        DriverDomainsError: another shape.
    """
    if given is None:
        return {}
    if isinstance(given, (list, tuple)):
        given = dict.fromkeys(given)
    if not isinstance(given, Mapping):
        raise DriverDomainsError(f"driver_domains is a mapping by name, or a list of names, not {given!r}")
    found: dict[str, Mapping[str, Any]] = {}
    for name, said in given.items():
        if said is not None and not isinstance(said, Mapping):
            raise DriverDomainsError(f"driver_domains: {name}: a mapping with host is expected, not {said!r}")
        launcher = (said or {}).get("launcher")
        if launcher is not None and not isinstance(launcher, bool):
            raise DriverDomainsError(f"driver_domains: {name}: launcher is true or false, not {launcher!r}")
        found[str(name)] = said or {}
    return found


def from_guests(
    guests: Sequence[GuestSpec],
    dialect: Dialect,
    *,
    snapshot: Snapshot | None = None,
    targets: TargetFacts | None = None,
    look: Look | None = None,
    identify: Identify | None = None,
    before: Mapping[str, GuestSpec] | None = None,
    sizes: Mapping[str, Mapping[int, int]] | None = None,
    gone: Iterable[str] = (),
    created: Collection[str] | None = None,
    driver_domains: Mapping[str, Mapping[str, Any]] | None = None,
    waiting: bool = True,
) -> Picture:
    """The host once these guests are as declared.

    Args:
        guests: the declared guests of the host, all of them: rules across guests see only what they are shown.
        dialect: the host's.
        snapshot: of the host, with the guests and their backend domains in its scope; None where there is
            inventory data alone.
        targets: what is known of targets, by backend domain as disks name it (`read_targets`).
        look: tells of a target in dom0.
        identify: tells under which names a target in dom0 is known, for disks of guests that nobody declared;
            `look` does where it is left out.
        before: what the existing guests run from, by name.
        sizes: bytes of the targets when the guest got them, by guest and device number.
        gone: guests that will have no domain any more.
        created: the guests that get a new domain, whose disks some daemon has to take up; None: those whose
            disks are not attached as declared.
        driver_domains: of an inventory (`read_driver_domains`); asked only where there is no snapshot.
        waiting: the call ends only when disks are attached.
    """
    host = _Host(guests, snapshot, targets or {}, look, identify, frozenset(gone), driver_domains or {})
    pictured = [
        host.guest(spec, dialect, (before or {}).get(spec.name), (sizes or {}).get(spec.name, {}), created)
        for spec in guests
    ]
    others = host.scene.bystanders(host.concerned)
    return Picture(pictured, others, host.scene.backends, dialect, waiting, seen=snapshot is not None)


class _Host:
    """What is known of the host around the declared guests."""

    def __init__(
        self,
        guests: Sequence[GuestSpec],
        snapshot: Snapshot | None,
        targets: TargetFacts,
        look: Look | None,
        identify: Identify | None,
        gone: frozenset[str],
        driver_domains: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self.snapshot = snapshot
        self.look = look
        self.identify = identify
        self.gone = gone
        self.driver_domains = driver_domains
        self.declared = {spec.name: spec for spec in guests}
        self.scene = Scene(snapshot or Snapshot({}), self._names)
        self.domids = {name: self._domid(name) for name in [*self.declared, *gone]}
        self.concerned = {domid for domid in self.domids.values() if domid is not None}
        self._facts: dict[tuple[Key, str], Target | None] = {}
        self._told: dict[Key, dict[str, Target]] = {}
        for reference, listed in targets.items():
            self._told.setdefault(self._backend_key(reference)[0], {}).update(listed)
        for (domid, _devid), live in self.scene.snapshot.disks.items():
            if domid not in self.concerned and self.scene.snapshot.domain(domid).alive:
                for backend in live.backends:
                    self.scene.backend(backend).after += 1

    def _domid(self, name: str) -> int | None:
        """The domain that a guest is now."""
        try:
            found = resolve(self.scene.snapshot.domains, name)
        except ResolveError:
            return None
        return found.domid if found.alive else None

    # --- storage --------------------------------------------------------------------------------------

    def facts(self, backend: Key, target: str) -> Target | None:
        """What is known of a target, None where nobody looked."""
        key = backend, target
        if key not in self._facts:
            told = self._told.get(backend, {}).get(target)
            if told is None and backend == 0 and self.look is not None:
                told = self.look(target)
            self._facts[key] = told
        return self._facts[key]

    def _names(self, backend: Key, target: str) -> frozenset[str]:
        if backend == 0 and self.identify is not None and (backend, target) not in self._facts:
            return self.identify(0, target)
        facts = self.facts(backend, target)
        return frozenset() if facts is None else facts.names

    # --- backend domains ------------------------------------------------------------------------------

    def _backend_key(self, reference: str | None) -> tuple[Key, str | None]:
        """What a backend domain goes by in the picture, and why there is none."""
        if reference is None or reference in DOM0:
            return 0, None
        if reference in self.gone:
            return reference, f"domain {reference!r} is to be taken away in the same go"
        if self.snapshot is None:
            return reference, self._unlisted(reference)
        try:
            found = resolve(self.snapshot.domains, reference)
            if found.alive:
                return found.domid, None
            raise UnknownDomainError(f"domain {reference!r} ({found.domid}) is gone")
        except ResolveError as error:
            made_here = reference in self.declared and isinstance(error, UnknownDomainError)
            return reference, None if made_here else str(error)

    def _unlisted(self, reference: str) -> str | None:
        """Why no inventory knows such a driver domain; None where it does, or nobody said which there are."""
        known = [*self.driver_domains, *self.declared]
        if not self.driver_domains or reference in known or reference.isdigit():
            return None
        close = difflib.get_close_matches(reference, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known[:12])}"
        return (
            f"domain {reference!r} is neither a driver domain of the inventory nor one of its guests; {hint}"
        )

    def backend(self, key: Key) -> Backend:
        """A backend domain, noted on first sight."""
        if self.snapshot is not None and isinstance(key, int):
            return self.scene.backend(key)
        found = self.scene.backends.get(key)
        if found is None:
            label = "Domain-0" if key == 0 else str(key)
            found = self.scene.backends[key] = Backend(
                label,
                launcher=self._launched(label),
                asked=False,
                quota=None if key == 0 else _quota_of(self.declared.get(label)),
            )
        return found

    def _launched(self, label: str) -> bool | None:
        """Whether our launcher is to run a domain's daemons, as far as an inventory tells."""
        if self.snapshot is not None:
            return None  # a domain that this very call makes: its daemons are not there yet
        said = self.driver_domains.get(label)
        if said is None:
            return False
        launcher = said.get("launcher")
        if launcher is not None:
            return bool(launcher)
        return None if said.get("host") else False

    # --- guests ---------------------------------------------------------------------------------------

    def guest(
        self,
        spec: GuestSpec,
        dialect: Dialect,
        before: GuestSpec | None,
        sizes: Mapping[int, int],
        created: Collection[str] | None,
    ) -> PicturedGuest:
        """One declared guest; its backend domains are noted."""
        lost: list[tuple[str | None, str]] = []
        disks = []
        for disk in spec.disks:
            key, problem = self._backend_key(disk.spec.backend)
            if problem is not None:
                lost.append((disk.spec.vdev, f"backend of {disk.spec.vdev}: {problem}"))
            disks.append(self._disk(spec.name, disk, key, sizes, created))
        devices = []
        for index, device in enumerate(spec.virtio):
            problem = self._backend_key(device.backend)[1]
            if problem is not None:
                lost.append((None, f"backend of virtio device {index} ({device.type}): {problem}"))
            if device.mmio:
                devices.append((f"virtio device {index}", None))
        options = spec.options
        quota = options.get("xenstore_quota") or {}
        return PicturedGuest(
            spec.name,
            spec.name,
            disks,
            list(devices),
            allocated=True,
            earlier=None if before is None else tuple(_order(before)),
            irqs=tuple(options.get("irqs") or ()),
            nr_spis=options.get("nr_spis"),
            vuart=options.get("vuart") == "sbsa_uart",
            bootloader=bool(options.get("bootloader")) and options.get("type") != "hvm",
            release=tuple(
                (option, sentence)
                for option, sentence in option_release_violations(spec, dialect)
                if option != "disks"  # the rules of disks tell
            ),
            lost=tuple(lost),
            new=sum(disk.virtio for disk in disks),
            quota=_quota_of(spec) if "nodes" in quota else None,
        )

    def _disk(
        self,
        guest: str,
        declared: Declared,
        backend: Key,
        sizes: Mapping[int, int],
        created: Collection[str] | None,
    ) -> PicturedDisk:
        spec = declared.spec
        try:
            number: int | None = devid(spec.vdev)
            bad = None
        except VdevError as error:
            number, bad = None, str(error)
        noted = self.backend(backend)
        live = self._live(guest, number)
        branch = None if live is None or not isinstance(backend, int) else live.backends.get(backend)
        served = branch is not None and branch.nodes.get("params") == spec.target
        if spec.is_virtio:
            noted.after += 1
            noted.new += branch is None
        attached = served and branch is not None and branch.nodes.get("state") == STATE_INIT_WAIT
        target = spec.target or None
        # what a script makes a device of is no path
        facts = None if target is None or spec.script is not None else self.facts(backend, target)
        return PicturedDisk(
            guest,
            guest,
            spec.vdev,
            number,
            backend,
            target,
            spec.access == "rw",
            declared=True,
            virtio=spec.is_virtio,
            shared=declared.shared,
            spec=spec,
            foreign=spec.is_virtio and backend != 0 and spec.grant_usage is False,
            pending=not attached if created is None else guest in created,
            served=served,
            names=frozenset() if facts is None else facts.names,
            facts=facts,
            size=sizes.get(number) if served and number is not None else None,
            bad=bad,
            told=self._word_of(backend, live) if served else None,
        )

    def _word_of(self, backend: Key, live: LiveDisk | None) -> DiskStatus | None:
        """What the launcher of a backend domain says of a disk."""
        if live is None or not isinstance(backend, int):
            return None
        return self.scene.snapshot.told.get((backend, live.domid, live.devid))

    def _live(self, guest: str, number: int | None) -> LiveDisk | None:
        domid = self.domids.get(guest)
        return None if domid is None or number is None else self.scene.snapshot.disks.get((domid, number))


def _order(spec: GuestSpec) -> Iterable[int]:
    """The device numbers of a guest's virtio disks, in its order."""
    for disk in spec.disks:
        if disk.spec.is_virtio:
            try:
                yield devid(disk.spec.vdev)
            except VdevError:
                yield -1  # no disk of that name can be found again


def _quota_of(spec: GuestSpec | None) -> Quota:
    """The limits that a guest's own configuration sets, the defaults for the others."""
    said = {} if spec is None else spec.options.get("xenstore_quota") or {}
    if not said:
        return ASSUMED
    assumed = None if {"nodes", "watches"} <= set(said) else ASSUMED.assumed
    return Quota(said.get("nodes", ASSUMED.nodes), said.get("watches", ASSUMED.watches), assumed=assumed)
