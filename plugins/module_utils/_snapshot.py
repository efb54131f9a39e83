# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host's xenstore says at one moment: its domains, their disks, and whom to believe.

A guest owns its frontend tree and, where init-dom0less made it, even the node that holds its name: it
can rename itself. So a name or UUID counts only where dom0 owns the node (or where a file of libxl's
confirms it), and disks are found through ``/libxl`` and through paths that we build ourselves.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ._diskstatus import DiskStatus
from ._layout import BACKEND, FRONTEND, RECORD, STATE_CLOSED, STATE_INITIALISING, Branch
from ._words import some

MADE_BY_XL, MADE_ELSEWHERE, MAKER_UNKNOWN = "xl", "other", "unknown"

#: What init-dom0less calls a domain (tools/helpers/init-dom0less.c).
_DOM0LESS = re.compile(r"dom0less-(\d{1,5})\Z")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
#: Ids from here on are Xen's own (DOMID_FIRST_RESERVED, xen/include/public/xen.h).
DOMID_LIMIT = 0x7FF0


class ResolveError(LookupError):
    """A domain that nobody, or more than one domain, answers to."""


class UnknownDomainError(ResolveError):
    """No domain of this host is called so."""


@dataclass(frozen=True)
class Domain:
    """One domain of the host.

    Attributes:
        domid: 0…0x7fef.
        name: its name node, None where there is none.
        name_trusted: whether dom0 owns that node.
        uuid: lower case with dashes, None where unknown.
        uuid_trusted: whether dom0 owns the node it came from, or libxl's file confirms it.
        maker: ``xl``, ``other`` (dom0less, another toolstack) or ``unknown`` (the record of xl is
            unreadable: treated as xl's).
        alive: xenstored knows the domain; False for what a dead one left behind.
        vm: the raw ``vm`` node, to notice when a domid was taken by another domain.
        vm_owner: who owns that node: what a guest owns it can rewrite, but never give away.
        reads_itself: the domain may read its own ``/local/domain/D``.
    """

    domid: int
    name: str | None = None
    name_trusted: bool = False
    uuid: str | None = None
    uuid_trusted: bool = False
    maker: str = MADE_ELSEWHERE
    alive: bool = True
    vm: str | None = None
    vm_owner: str | None = None
    reads_itself: bool = True

    @property
    def label(self) -> str:
        """What to call the domain in a message."""
        if self.name is not None and self.name_trusted:
            return self.name
        if self.domid == 0:
            return "Domain-0"
        return (
            f"dom0less-{self.domid}"
            if self.maker == MADE_ELSEWHERE and self.alive
            else f"domain {self.domid}"
        )

    @property
    def made_by_xl(self) -> bool:
        """Whether to leave the domain's virtio disks to xl; in doubt, yes."""
        return self.maker != MADE_ELSEWHERE


@dataclass(frozen=True)
class LiveDisk:
    """A virtio disk as it stands in the store, whole or torn.

    Attributes:
        domid: the guest, also where it is gone.
        devid: the device number.
        backend_domid: the backend that the record names; else the only one that has a directory; else None.
        record: the record, None where it is missing.
        frontend: the frontend, None where it is missing.
        backends: every backend domain with a directory for this disk; more than one after a torn move.
    """

    domid: int
    devid: int
    backend_domid: int | None
    record: Branch | None
    frontend: Branch | None
    backends: dict[int, Branch]

    @property
    def backend(self) -> Branch | None:
        """The directory in the backend that counts."""
        return None if self.backend_domid is None else self.backends.get(self.backend_domid)

    @property
    def trees(self) -> dict[str, Branch | None]:
        """The three trees by name."""
        return {RECORD: self.record, FRONTEND: self.frontend, BACKEND: self.backend}

    @property
    def state(self) -> str | None:
        """The backend's XenbusState, None where there is no node."""
        return None if self.backend is None else self.backend.nodes.get("state")

    @property
    def in_use(self) -> bool:
        """Whether any backend has taken the disk up and not closed it again."""
        idle = (None, STATE_INITIALISING, STATE_CLOSED)
        return any(branch.nodes.get("state") not in idle for branch in self.backends.values())

    @property
    def invented(self) -> bool:
        """Whether only the frontend is there: a leftover, or a directory that the guest made itself."""
        return self.record is None and not self.backends

    @property
    def source(self) -> Branch | None:
        """Where to read the disk from: the record, which dom0 alone writes, else the backend."""
        return self.record if self.record is not None and "params" in self.record.nodes else self.backend


@dataclass(frozen=True)
class XenDisk:
    """A disk with ``specification=xen``, as its record has it."""

    domid: int
    devid: int
    backend_domid: int | None
    nodes: dict[str, str]


#: Defaults per unprivileged domain where the daemon does not tell: tools/xenstored/core.c,
#: tools/ocaml/xenstored/oxenstored.conf.in.
DEFAULT_NODES = 1000
DEFAULT_WATCHES_C, DEFAULT_WATCHES_OCAML = 128, 100


@dataclass(frozen=True)
class Quota:
    """A domain's limits in xenstored and what it uses of them.

    ``assumed`` names the daemon whose defaults stand in where it could not be asked; with ``used_nodes`` beside it
    that is about the watches alone.
    """

    nodes: int
    watches: int
    used_nodes: int | None = None
    used_watches: int | None = None
    assumed: str | None = None


@dataclass(frozen=True)
class Snapshot:
    """One reading of the store.

    ``disks`` holds all disks of the guests that were asked for, and of every other guest those that are
    served by a backend domain which matters to them.
    """

    domains: dict[int, Domain]
    disks: dict[tuple[int, int], LiveDisk] = field(default_factory=dict)
    generic: dict[int, dict[int, tuple[int, int]]] = field(default_factory=dict)  #: domid → index → base, irq
    xen_disks: dict[int, dict[int, XenDisk]] = field(default_factory=dict)  #: domid → devid → disk
    launchers: dict[int, str] = field(default_factory=dict)  #: backend domain → its launcher's version
    statuses: dict[int, str] = field(default_factory=dict)  #: backend domain → what its daemon says of itself
    reasons: dict[int, str] = field(default_factory=dict)  #: backend domain → why its launcher says ``dead``
    viewless: frozenset[int] = frozenset()  #: backend domains whose launcher runs daemons without views
    #: backend domain, guest, device number → what the launcher says of a disk
    told: dict[tuple[int, int, int], DiskStatus] = field(default_factory=dict)
    quotas: dict[int, Quota] = field(default_factory=dict)

    def disks_of(self, domid: int) -> dict[int, LiveDisk]:
        """The virtio disks of one guest by device number."""
        return {devid: disk for (guest, devid), disk in self.disks.items() if guest == domid}

    def domain(self, domid: int) -> Domain:
        """The domain with this id; one that is gone where nobody has it."""
        return self.domains.get(domid) or Domain(domid, alive=False)


def is_domid(text: str) -> bool:
    """Whether a reference to a domain is a domid and no name."""
    return re.fullmatch(r"[0-9]{1,5}", text) is not None


def resolve(domains: dict[int, Domain], reference: str | int) -> Domain:
    """Find a domain by domid, UUID or name, believing only what dom0 vouches for.

    Args:
        domains: the host's domains.
        reference: a domid, also as text; a UUID; a name; ``dom0less-D`` for what init-dom0less made.

    Raises:
        UnknownDomainError: nobody answers to it.
        ResolveError: more than one does, or only a domain that could have chosen the name itself.
    """
    text = str(reference).strip()
    if is_domid(text):
        domid = int(text)
        if domid >= DOMID_LIMIT:
            raise ResolveError(f"domain {text}: a domid is at most {DOMID_LIMIT - 1}")
        if domid in domains:
            return domains[domid]
        raise UnknownDomainError(f"domain {text}: this host has no domain with that id; {_known(domains)}")
    if _UUID.match(text.lower()):
        return _one(text, domains, [d for d in domains.values() if d.uuid == text.lower()], "uuid_trusted")
    named = [d for d in domains.values() if d.name == text]
    stub = _DOM0LESS.match(text)
    if stub and not any(d.name_trusted for d in named):
        # init-dom0less hands the name to the guest: the id in it is what can be trusted
        found = domains.get(int(stub[1]))
        if found is not None and not found.name_trusted and found.domid != 0:
            return found
        named = []
    return _one(text, domains, named, "name_trusted")


def _one(text: str, domains: dict[int, Domain], named: list[Domain], trust: str) -> Domain:
    believed = [d for d in named if getattr(d, trust)]
    # a domain that is gone may have left its name behind; the one that took it over is meant
    believed = [d for d in believed if d.alive] or believed
    if len(believed) == 1:
        return believed[0]
    if len(believed) > 1:
        ids = ", ".join(str(d.domid) for d in believed)
        raise ResolveError(f"domain {text!r} is ambiguous: domains {ids} have it; use the domid")
    if named:
        ids = ", ".join(str(d.domid) for d in named)
        raise ResolveError(
            f"domain {text!r} is not believed: domain {ids} owns the node that says so and may have written it "
            f"itself; use dom0less-{named[0].domid} or the domid {named[0].domid}"
        )
    raise UnknownDomainError(f"domain {text!r} is not on this host; {_known(domains)}")


def _known(domains: dict[int, Domain]) -> str:
    listed = [f"{d.label} ({d.domid})" for d in sorted(domains.values(), key=lambda d: d.domid) if d.alive]
    return f"known are {some(listed, 12)}" if listed else "xenstored knows no domain"
