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
from collections.abc import Callable, Iterable
from typing import Any

from ._layout import (
    BACKEND,
    DEVICE_KIND,
    FRONTEND,
    RECORD,
    STATE_CLOSED,
    STATE_CLOSING,
    backend_path,
    frontend_path,
    nodes,
    paths,
    permissions,
    record_path,
)
from ._plan import Remove, Repair, Step, Write, XlAttach, XlDetach
from ._snapshot import LiveDisk, Snapshot
from ._store import Request, Store, StoreError, Transaction, directory, mkdir, read, rm, set_perms, write
from ._xl import Xl

#: How long a backend may take to let go of a disk that is taken away: as long as libxl gives it
#: (LIBXL_DESTROY_TIMEOUT, tools/libs/light/libxl_internal.h).
CLOSE_TIMEOUT = 10.0
_POLL = 0.05


class Overtaken(Exception):  # noqa: N818 - not an error: the plan is made again
    """Somebody else changed what a step was planned on; nothing of the step was written."""


class Guests:
    """What the guests' device directories should look like by now: the snapshot plus our own steps."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._records: dict[int, dict[int, str]] = {}
        self._frontends: dict[int, set[int]] = {}
        for (domid, number), live in snapshot.disks.items():
            if live.record is not None:
                self._records.setdefault(domid, {})[number] = live.record.nodes.get("irq", "")
            if live.frontend is not None:
                self._frontends.setdefault(domid, set()).add(number)

    def records(self, domid: int) -> dict[int, str]:
        """Device number → irq node of the guest's records."""
        return self._records.setdefault(domid, {})

    def frontends(self, domid: int) -> set[int]:
        """Device numbers with a frontend."""
        return self._frontends.setdefault(domid, set())

    def generic(self, domid: int) -> set[int]:
        """Indexes of the guest's other virtio devices."""
        return set(self._snapshot.generic.get(domid, {}))

    def vm(self, domid: int) -> str | None:
        """The guest's ``vm`` node: another one means that the domid has been given to another domain."""
        return self._snapshot.domain(domid).vm

    def written(self, domid: int, number: int, irq: int) -> None:
        """A disk has been written."""
        self.records(domid)[number] = str(irq)
        self.frontends(domid).add(number)

    def removed(self, domid: int, number: int) -> None:
        """A disk has been removed."""
        self.records(domid).pop(number, None)
        self.frontends(domid).discard(number)


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
    for step in steps:
        if isinstance(step, Write):
            _write(step, guests, store)
        elif isinstance(step, Repair):
            _repair(step, guests, store)
        elif isinstance(step, Remove):
            warnings += _remove(step, guests, store)
        elif isinstance(step, XlAttach):
            xl.block_attach(step.domid, step.spec)
        elif isinstance(step, XlDetach):
            xl.block_detach(step.domid, step.devid)
        done(step)
    return warnings


# --- the ground a step stands on -----------------------------------------------------------------------


def _ground(
    domid: int, number: int, live: LiveDisk | None, guests: Guests
) -> tuple[list[Request], list[Any]]:
    """Reads that tell whether a guest is still as the plan saw it, and what they should answer."""
    others = guests.records(domid)
    requests = [
        read(f"/local/domain/{domid}/vm"),
        directory(f"/libxl/{domid}/device/{DEVICE_KIND}"),
        directory(f"/local/domain/{domid}/device/{DEVICE_KIND}"),
        directory(f"/libxl/{domid}/device/virtio"),
    ]
    answers: list[Any] = [guests.vm(domid), set(others), guests.frontends(domid), guests.generic(domid)]
    for other, irq in others.items():
        requests.append(read(f"/libxl/{domid}/device/{DEVICE_KIND}/{other}/irq"))
        answers.append(irq)
    for backend, branch in (live.backends if live else {}).items():
        requests.append(read(f"{backend_path(backend, domid, number)}/state"))
        answers.append(branch.nodes.get("state"))
    return requests, answers


def _stands(replies: list[bytes | StoreError], answers: list[Any]) -> bool:
    for reply, wanted in zip(replies, answers):
        if isinstance(reply, StoreError):
            if reply.code != "ENOENT":
                raise reply
            if wanted not in (None, "") and wanted != set():
                return False
        elif isinstance(wanted, set):
            if {int(name) for name in reply.decode("latin-1").split("\0") if name.isdigit()} != wanted:
                return False
        elif reply.decode("utf-8", "surrogateescape") != (wanted or ""):
            return False
    return True


def _transact(store: Store, ground: tuple[list[Request], list[Any]], changes: list[Request]) -> None:
    """Look and write in one transaction: one send, one look at all answers, then the commit."""
    looks, answers = ground
    batch = looks + changes
    count = len(looks)

    def work(transaction: Transaction) -> None:
        replies = transaction.call(batch)
        if not _stands(replies[:count], answers):
            raise Overtaken
        _check(replies[count:], changes)

    store.transaction(work)


_RM = rm("/").op


def _check(replies: list[bytes | StoreError], requests: list[Request]) -> None:
    for reply, request in zip(replies, requests):
        # removing what is not there is what was wanted
        if isinstance(reply, StoreError) and not (reply.code == "ENOENT" and request.op == _RM):
            raise reply


# --- steps ---------------------------------------------------------------------------------------------


def _write(step: Write, guests: Guests, store: Store) -> None:
    disk = step.disk
    live = step.live
    ground = _ground(disk.domid, disk.devid, _as_left(step, guests), guests)
    changes: list[Request] = []
    for backend in live.backends if live else ():
        if backend != disk.backend_domid:
            changes.append(rm(backend_path(backend, disk.domid, disk.devid)))
    changes += _open_parents(step, store)
    changes += written(step)
    _transact(store, ground, changes)
    guests.written(disk.domid, disk.devid, disk.irq)


def _as_left(step: Write, guests: Guests) -> LiveDisk | None:
    """The live disk to look at again, or None where an earlier step of ours has removed it."""
    disk = step.disk
    gone = disk.devid not in guests.records(disk.domid) and disk.devid not in guests.frontends(disk.domid)
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
    found = [rm(record)]
    own = ("frontend", "backend")
    found += [write(f"{record}/{name}", _bytes(wanted[RECORD][name])) for name in own]
    found += [rm(frontend), mkdir(frontend), set_perms(frontend, perms[FRONTEND])]
    found += [write(f"{frontend}/{name}", _bytes(value)) for name, value in wanted[FRONTEND].items()]
    found += [rm(backend), mkdir(backend), set_perms(backend, perms[BACKEND])]
    found += [write(f"{backend}/{name}", _bytes(value)) for name, value in wanted[BACKEND].items()]
    found += [
        write(f"{record}/{name}", _bytes(value)) for name, value in wanted[RECORD].items() if name not in own
    ]
    return found


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
            changes += [write(f"{at[tree]}/{name}", _bytes(value)) for name, value in wanted[tree].items()]
        else:
            path = f"{at[tree]}/{node}"
            changes += [write(path, _bytes(wanted[tree][node])), set_perms(path, perms[tree])]
    _transact(store, _ground(disk.domid, disk.devid, step.live, guests), changes)
    guests.written(disk.domid, disk.devid, disk.irq)


def _remove(step: Remove, guests: Guests, store: Store) -> list[str]:
    live = step.live
    warnings: list[str] = []
    ground = _ground(live.domid, live.devid, live, guests)
    if step.orderly:
        _close(live, ground, store)
        if live.frontend is not None:
            guests.frontends(live.domid).discard(live.devid)
        if not _let_go(live, store):
            warnings.append(
                f"disk {live.devid} of domain {live.domid}: its backend did not close it within "
                f"{CLOSE_TIMEOUT:g} s; its nodes were removed all the same, as libxl does"
            )
        looks, answers = _ground(live.domid, live.devid, None, guests)
        ground = looks, answers
    _clear(live, ground, store)
    guests.removed(live.domid, live.devid)
    return warnings


def _close(live: LiveDisk, ground: tuple[list[Request], list[Any]], store: Store) -> None:
    """Ask the backend to let go, as libxl does: no frontend, online 0, state closing."""
    changes = [rm(frontend_path(live.domid, live.devid))]
    for backend in live.backends:
        at = backend_path(backend, live.domid, live.devid)
        changes += [write(f"{at}/online", b"0"), write(f"{at}/state", STATE_CLOSING.encode())]
    _transact(store, ground, changes)


def _let_go(live: LiveDisk, store: Store) -> bool:
    """Wait until every backend has closed the disk or removed its directory."""
    requests = [read(f"{backend_path(backend, live.domid, live.devid)}/state") for backend in live.backends]
    deadline = time.monotonic() + CLOSE_TIMEOUT
    while True:
        replies = store.call(requests)
        if all(isinstance(reply, StoreError) or reply == STATE_CLOSED.encode() for reply in replies):
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL)


def _clear(live: LiveDisk, ground: tuple[list[Request], list[Any]], store: Store) -> None:
    """Remove what is left of a disk and the directories that stay empty, in one transaction."""
    looks, answers = ground
    domid, number = live.domid, live.devid
    removals = [rm(record_path(domid, number)), rm(frontend_path(domid, number))]
    chains = [
        (f"/libxl/{domid}/device/{DEVICE_KIND}", f"/libxl/{domid}/device"),
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
        if not _stands(replies[: len(looks)], answers):
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

    store.transaction(work)
