# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carry a plan's steps out: one transaction a disk, and what the plan was made on looked at again inside it.

Whoever else changed the guest's devices between the snapshot and the transaction ends it: nothing is
written, and the caller plans anew. So a disk appears whole or not at all, nothing in use is overrun, and
no interrupt is given out twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from typing import NamedTuple

from ._layout import (
    BACKEND,
    DEVICE_KIND,
    FRONTEND,
    RECORD,
    STATE_CLOSED,
    STATE_CLOSING,
    Attachment,
    backend_path,
    frontend_path,
    nodes,
    paths,
    permissions,
    record_path,
)
from ._plan import Close, Remove, Repair, Step, Write, XlAttach, XlDetach
from ._protocol import OPS
from ._snapshot import Domain, LiveDisk, Snapshot
from ._store import (
    Request,
    Store,
    StoreError,
    Transaction,
    directory,
    get_perms,
    mkdir,
    read,
    rm,
    set_perms,
    write,
    write_children,
)
from ._xl import Xl

#: How long a backend may take to let go of a disk that is taken away: as long as libxl gives it
#: (LIBXL_DESTROY_TIMEOUT, tools/libs/light/libxl_internal.h).
CLOSE_TIMEOUT = 10.0
_POLL = 0.05
#: How often a transaction runs again when others wrote to the same nodes: a guest that keeps writing to its own
#: frontend collides with us again and again, but not every time.
_RETRIES = 40
_IS_DOMAIN_INTRODUCED = OPS["IS_DOMAIN_INTRODUCED"]


class Overtaken(Exception):  # noqa: N818 - not an error: the plan is made again
    """Somebody else changed what a step was planned on; nothing of the step was written."""


class Ground(NamedTuple):
    """Reads that tell whether a guest is still as the plan saw it, and what they should answer.

    An expected value is that of a READ (empty: also where there is no node), an expected set are the numbered
    names of a DIRECTORY (empty: also where there is no directory), an expected tuple holds how an answer may
    begin.

    Nothing that a guest can change at will is looked at: it could hold up every call for ever.
    """

    looks: list[Request]
    expected: list[bytes | set[bytes] | tuple[bytes, ...]]


#: Any answer will do: the node is there.
_THERE = (b"",)


def _same_domain(domain: Domain) -> Ground:
    """Whether a domid still belongs to the domain that the plan saw there, and it lives as it did."""
    top = f"/local/domain/{domain.domid}"
    if domain.vm_owner in (None, "n0"):
        ground = Ground([read(f"{top}/vm")], [_bytes(domain.vm or "")])
    else:  # init-dom0less gives it to the guest, which cannot hand it on to another
        ground = Ground([get_perms(f"{top}/vm")], [(_bytes(domain.vm_owner) + b"\0",)])
    if domain.domid != 0:
        ground.looks.append(Request(_IS_DOMAIN_INTRODUCED, b"%d\0" % domain.domid, top))
        ground.expected.append((b"T",) if domain.alive else (b"F",))
    return ground


class _Guest:
    """What one guest's device directories should look like by now."""

    def __init__(self, snapshot: Snapshot, domid: int) -> None:
        self.domid = domid
        self.records: dict[int, bytes] = {}  #: device number → irq node
        self.frontends: set[int] = set()
        self._irqs: dict[int, Request] = {}
        self.same = _same_domain(snapshot.domain(domid))
        self._generic = {b"%d" % index for index in snapshot.generic.get(domid, {})}
        self._looks = (
            *self.same.looks,
            directory(f"/libxl/{domid}/device/virtio"),
            directory(f"/libxl/{domid}/device/{DEVICE_KIND}"),
        )

    def record(self, number: int, irq: str) -> None:
        """The guest has a record of this device."""
        self.records[number] = _bytes(irq)
        if number not in self._irqs:
            self._irqs[number] = read(f"{record_path(self.domid, number)}/irq")

    def ground(self) -> Ground:
        """All of it."""
        return Ground(
            [*self._looks, *(self._irqs[number] for number in self.records)],
            [
                *self.same.expected,
                self._generic,
                {b"%d" % number for number in self.records},
                *self.records.values(),
            ],
        )


class Guests:
    """What the guests' device directories should look like by now: the snapshot plus our own steps."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._guests: dict[int, _Guest] = {}
        for (domid, number), live in snapshot.disks.items():
            if live.record is not None:
                self.guest(domid).record(number, live.record.nodes.get("irq", ""))
            if live.frontend is not None:
                self.guest(domid).frontends.add(number)

    def guest(self, domid: int) -> _Guest:
        """One of them."""
        found = self._guests.get(domid)
        if found is None:
            found = self._guests[domid] = _Guest(self._snapshot, domid)
        return found

    def ground(self, domid: int, number: int, live: LiveDisk | None) -> Ground:
        """What a step for one disk stands on: its guest's devices, and how far its backends have it in use."""
        ground = self.guest(domid).ground()
        for backend, branch in (live.backends if live else {}).items():
            ground.looks.append(read(f"{backend_path(backend, domid, number)}/state"))
            ground.expected.append(_bytes(branch.nodes.get("state") or ""))
        return ground

    def served(self, disk: Attachment, ground: Ground) -> Ground:
        """The same ground, and that the domain which is to serve the disk is still the one that was found."""
        backend = self.guest(disk.backend_domid).same
        return Ground(ground.looks + backend.looks, ground.expected + backend.expected)

    def has(self, domid: int, number: int) -> bool:
        """Whether the guest has a record or a frontend of this device."""
        guest = self.guest(domid)
        return number in guest.records or number in guest.frontends

    def written(self, domid: int, number: int, irq: int) -> None:
        """A disk has been written."""
        guest = self.guest(domid)
        guest.record(number, str(irq))
        guest.frontends.add(number)

    def closed(self, domid: int, number: int) -> None:
        """A disk's frontend has been removed."""
        self.guest(domid).frontends.discard(number)

    def removed(self, domid: int, number: int) -> None:
        """A disk has been removed."""
        self.guest(domid).records.pop(number, None)
        self.closed(domid, number)


def apply(
    steps: Iterable[Step], snapshot: Snapshot, store: Store, xl: Xl, done: Callable[[Step], None]
) -> list[str]:
    """Carry steps out in order.

    Args:
        steps: of one plan.
        snapshot: what it was made on.
        store: a session as dom0.
        xl: for xen disks.
        done: told of each step once it cannot be lost any more.

    Returns:
        Warnings for a person: what was forced.

    Raises:
        Overtaken: a step's ground has changed; earlier steps are done, this one is not.
        StoreError, XlError: as they are; earlier steps are done, this one is not.
    """
    guests = Guests(snapshot)
    warnings: list[str] = []
    closing: list[LiveDisk] = []
    listed = list(steps)
    writes = _Writes(listed)
    with store.series() if _swift(listed) else nullcontext():
        for step in listed:
            if closing and not isinstance(step, Close):
                warnings += _let_go(closing, store)
                closing = []
            _carry_out(step, guests, writes, store, xl)
            if isinstance(step, Close):
                closing.append(step.live)
            done(step)
    return warnings


def _swift(steps: list[Step]) -> bool:
    """Whether no step makes the next one wait: its transaction may then be begun ahead."""
    return len(steps) > 1 and all(isinstance(step, (Write, Repair)) for step in steps)


class _Writes:
    """What each disk's transaction writes, made while xenstored is at work on something else."""

    def __init__(self, steps: Iterable[Step]) -> None:
        self._coming = [step for step in steps if isinstance(step, Write)]
        self._coming.reverse()
        self._made: dict[int, list[Request]] = {}

    def ahead(self) -> Iterator[None]:
        """The next disk's, as work to be done during a wait; one at a time keeps memory flat."""
        if self._coming and not self._made:
            step = self._coming.pop()
            self._made[id(step)] = written(step)
            yield

    def of(self, step: Write) -> list[Request]:
        """One disk's, made now if there was no time before; disks are asked for in order, each once."""
        made = self._made.pop(id(step), None)
        if made is not None:
            return made
        self._coming.pop()
        return written(step)


def _carry_out(step: Step, guests: Guests, writes: _Writes, store: Store, xl: Xl) -> None:
    if isinstance(step, Write):
        _write(step, guests, writes, store)
    elif isinstance(step, Repair):
        _repair(step, guests, store)
    elif isinstance(step, Close):
        _close(step.live, guests, store)
    elif isinstance(step, Remove):
        _remove(step, guests, store)
    elif isinstance(step, XlAttach):
        xl.block_attach(step.domid, step.spec)
    elif isinstance(step, XlDetach):
        xl.block_detach(step.domid, step.devid)


# --- the ground a step stands on -----------------------------------------------------------------------


def _stands(
    replies: list[bytes | StoreError], expected: list[bytes | set[bytes] | tuple[bytes, ...]]
) -> bool:
    for reply, wanted in zip(replies, expected):
        if isinstance(reply, StoreError):
            if reply.code != "ENOENT":
                raise reply
            if wanted:
                return False
        elif isinstance(wanted, tuple):
            if not reply.startswith(wanted):
                return False
        elif isinstance(wanted, set):
            if {name for name in reply.split(b"\0") if _is_number(name)} != wanted:
                return False
        elif reply != wanted:
            return False
    return True


def _is_number(name: bytes) -> bool:
    """As the survey reads names: plain decimal, no leading zeros."""
    return name.isdigit() and (name[:1] != b"0" or name == b"0")


def _transact(store: Store, ground: Ground, changes: list[Request]) -> None:
    """Look and write in one transaction: one send, one look at all answers, then the commit."""
    store.transaction(lambda transaction: _look_and_write(transaction, ground, changes), retries=_RETRIES)


def _look_and_write(
    transaction: Transaction,
    ground: Ground,
    changes: list[Request],
    meanwhile: Iterator[object] | None = None,
) -> None:
    count = len(ground.looks)
    replies = transaction.call(ground.looks + changes, meanwhile=meanwhile)
    if not _stands(replies[:count], ground.expected):
        raise Overtaken
    _check(replies[count:], changes)


_RM = rm("/").op


def _check(replies: list[bytes | StoreError], requests: list[Request]) -> None:
    for reply, request in zip(replies, requests):
        # removing what is not there is what was wanted
        if isinstance(reply, StoreError) and not (reply.code == "ENOENT" and request.op == _RM):
            raise reply


# --- steps ---------------------------------------------------------------------------------------------


def _write(step: Write, guests: Guests, writes: _Writes, store: Store) -> None:
    disk = step.disk
    live = step.live
    first = [
        rm(backend_path(backend, disk.domid, disk.devid))
        for backend in (live.backends if live else ())
        if backend != disk.backend_domid
    ]
    first += _open_parents(step, store)
    batch: list[tuple[Ground, list[Request]]] = []

    def prepare() -> Iterator[None]:
        if not batch:
            ground = guests.ground(disk.domid, disk.devid, _as_left(step, guests))
            batch.append((guests.served(disk, ground), first + writes.of(step)))
        yield

    def work(transaction: Transaction) -> None:
        list(prepare())
        _look_and_write(transaction, *batch[0], writes.ahead())

    store.transaction(work, retries=_RETRIES, meanwhile=prepare())
    guests.written(disk.domid, disk.devid, disk.irq)


def _as_left(step: Write, guests: Guests) -> LiveDisk | None:
    """The live disk to look at again, or None where an earlier step of ours has removed it."""
    gone = not guests.has(step.disk.domid, step.disk.devid)
    return None if gone and step.live is not None and step.live.record is not None else step.live


def _open_parents(step: Write, store: Store) -> list[Request]:
    if not step.parents:
        return []
    reader = step.disk.backend_domid
    missing = [
        path
        for path, reply in zip(step.parents, store.call([directory(path) for path in step.parents]))
        if isinstance(reply, StoreError)
    ]
    found: list[Request] = []
    for path in missing:
        found += [mkdir(path), set_perms(path, ("n0", f"r{reader}"))]
    return found


def written(step: Write) -> list[Request]:
    """The writes that make one disk, in the order of libxl (``libxl__device_generic_add``)."""
    disk = step.disk
    at = paths(disk)
    perms = permissions(disk)
    wanted = nodes(disk, step.schema)
    record, frontend, backend = at[RECORD], at[FRONTEND], at[BACKEND]
    values = {name: _bytes(value) for name, value in wanted[RECORD].items()}
    links = {name: values.pop(name) for name in ("frontend", "backend")}
    return [
        rm(record),
        *write_children(record, links),
        *_directory(frontend, perms[FRONTEND]),
        *write_children(frontend, {name: _bytes(value) for name, value in wanted[FRONTEND].items()}),
        *_directory(backend, perms[BACKEND]),
        *write_children(backend, {name: _bytes(value) for name, value in wanted[BACKEND].items()}),
        *write_children(record, values),
    ]


def _directory(path: str, perms: tuple[str, ...]) -> tuple[Request, ...]:
    """An empty directory of its own permissions, which all nodes made in it get too."""
    return rm(path), mkdir(path), set_perms(path, perms)


def _bytes(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")


def _repair(step: Repair, guests: Guests, store: Store) -> None:
    disk = step.disk
    at = paths(disk)
    perms = permissions(disk)
    wanted = nodes(disk, step.schema)
    changes: list[Request] = []
    for tree, node, what, _value, _found in step.nodes:
        if what == "permissions":
            changes.append(set_perms(f"{at[tree]}/{node}" if node else at[tree], perms[tree]))
        elif node == "":  # the record is lost as a whole
            changes += write_children(at[tree], {name: _bytes(value) for name, value in wanted[tree].items()})
        else:
            path = f"{at[tree]}/{node}"
            changes += [write(path, _bytes(wanted[tree][node])), set_perms(path, perms[tree])]
    ground = guests.ground(disk.domid, disk.devid, step.live)
    ground.looks.append(directory(at[FRONTEND]))  # the guest may remove it: half of one must not come back
    ground.expected.append(_THERE)
    _transact(store, ground, changes)
    guests.written(disk.domid, disk.devid, disk.irq)


def _close(live: LiveDisk, guests: Guests, store: Store) -> None:
    """Ask the backends to let go, as libxl does: no frontend, online 0, state closing."""
    changes = [rm(frontend_path(live.domid, live.devid))]
    for backend, branch in live.backends.items():
        if branch.nodes.get("state") != STATE_CLOSED:
            at = backend_path(backend, live.domid, live.devid)
            changes += [write(f"{at}/online", b"0"), write(f"{at}/state", STATE_CLOSING.encode())]
    _transact(store, guests.ground(live.domid, live.devid, live), changes)
    guests.closed(live.domid, live.devid)


def _let_go(closing: list[LiveDisk], store: Store) -> list[str]:
    """Wait until all backends have closed their disks or removed the directories; a warning for each that did not."""
    keys = [(live, backend) for live in closing for backend in live.backends]
    requests = [read(f"{backend_path(backend, live.domid, live.devid)}/state") for live, backend in keys]
    deadline = time.monotonic() + CLOSE_TIMEOUT
    while True:
        replies = store.call(requests)
        held = [
            key
            for key, reply in zip(keys, replies)
            if not isinstance(reply, StoreError) and reply != STATE_CLOSED.encode()
        ]
        if not held or time.monotonic() >= deadline:
            return [
                f"disk {live.devid} of domain {live.domid}: its backend, domain {backend}, did not close it within "
                f"{CLOSE_TIMEOUT:g} s; its nodes were removed all the same, as libxl does"
                for live, backend in held
            ]
        time.sleep(_POLL)


def _remove(step: Remove, guests: Guests, store: Store) -> None:
    live = step.live
    _clear(live, guests.ground(live.domid, live.devid, None if step.closed else live), store)
    guests.removed(live.domid, live.devid)


def _clear(live: LiveDisk, ground: Ground, store: Store) -> None:
    """Remove what is left of a disk and the directories that stay empty, in one transaction."""
    looks, expected = ground
    domid, number = live.domid, live.devid
    removals = [rm(record_path(domid, number)), rm(frontend_path(domid, number))]
    chains = [
        (f"/libxl/{domid}/device/{DEVICE_KIND}", f"/libxl/{domid}/device", f"/libxl/{domid}"),
        (f"/local/domain/{domid}/device/{DEVICE_KIND}",),
    ]
    for backend in live.backends:
        removals.append(rm(backend_path(backend, domid, number)))
        top = f"/local/domain/{backend}/backend"
        chains.append((f"{top}/{DEVICE_KIND}/{domid}", f"{top}/{DEVICE_KIND}", top))
    listings = [directory(path) for chain in chains for path in chain]
    batch = looks + removals + listings

    def work(transaction: Transaction) -> None:
        replies = transaction.call(batch)
        if not _stands(replies[: len(looks)], expected):
            raise Overtaken
        _check(replies[len(looks) : len(looks) + len(removals)], removals)
        listed = iter(replies[len(looks) + len(removals) :])
        empty: list[Request] = []
        for chain in chains:
            goes: str | None = ""  # the child that goes, "" at first
            for path in chain:
                reply = next(listed)
                names = (
                    set()
                    if isinstance(reply, StoreError)
                    else set(reply.decode("latin-1").split("\0")) - {""}
                )
                if goes is None or names - {goes} or isinstance(reply, StoreError):
                    goes = None
                    continue
                empty.append(rm(path))
                goes = path.rsplit("/", 1)[1]
        if empty:
            _check(transaction.call(empty), empty)

    store.transaction(work, retries=_RETRIES)
