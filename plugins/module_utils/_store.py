# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A session with xenstored: nodes, whole subtrees, transactions and watches, none of which waits for ever.

Many requests travel at once (one send a batch on a socket, one write a message on the xenbus device).
Not for use from several threads at once.
"""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Callable, TypeVar

from ._channel import Channel
from ._request import (
    DIRECTORY,
    DIRECTORY_PART,
    GET_PERMS,
    READ,
    RM,
    TRANSACTION_END,
    TRANSACTION_START,
    UNWATCH,
    WATCH,
    Abort,
    Answer,
    Node,
    Request,
    StoreConflict,
    StoreError,
    StoreLost,
    StoreTimeout,
    check_path,
    check_perms,
    directory,
    get_perms,
    mkdir,
    read,
    read_children,
    rm,
    set_perms,
    watch,
    write,
    write_children,
)
from ._wire import Wire

__all__ = [
    "Abort",
    "Answer",
    "Node",
    "Request",
    "Store",
    "StoreConflict",
    "StoreError",
    "StoreLost",
    "StoreTimeout",
    "Transaction",
    "check_path",
    "check_perms",
    "directory",
    "get_perms",
    "mkdir",
    "read",
    "read_children",
    "rm",
    "set_perms",
    "write",
    "write_children",
]

T = TypeVar("T")
Names = list[str]

_BULK = 2048  # requests a batch in walks of whole subtrees
_MAX_RESTARTS = 32
_MAX_TRANSACTION = 0xFFFFFFFF


def _names(payload: bytes) -> list[str]:
    text = payload.decode("latin-1")
    return text[:-1].split("\0") if text else []


def _perms(payload: bytes) -> tuple[str, ...]:
    return tuple(_names(payload))


def _tolerated(request: Request, answer: StoreError) -> bool:
    """Removing what is not there is no failure: C xenstored says OK where oxenstored says ENOENT."""
    return request.op == RM and answer.code == "ENOENT"


class _Access(ABC):
    """What can be done inside and outside of a transaction."""

    @abstractmethod
    def call(self, requests: Sequence[Request]) -> list[Answer]:
        """The answers to many requests, in order; refusals come back in place."""

    @abstractmethod
    def explain(self, error: StoreError) -> StoreError:
        """The same error with what this connection knows about it."""

    def _one(self, request: Request) -> bytes:
        answer = self.call((request,))[0]
        if isinstance(answer, StoreError):
            raise self.explain(answer)
        return answer

    def _maybe(self, request: Request) -> bytes | None:
        answer = self.call((request,))[0]
        if isinstance(answer, StoreError):
            if answer.code == "ENOENT":
                return None
            raise self.explain(answer)
        return answer

    def read(self, path: str) -> bytes | None:
        """The value of a node, None where there is no such node."""
        return self._maybe(read(path))

    def get_perms(self, path: str) -> tuple[str, ...] | None:
        """The permissions of a node, owner first, None where there is no such node."""
        payload = self._maybe(get_perms(path))
        return None if payload is None else _perms(payload)

    def list(self, path: str) -> Names | None:
        """The names of a node's children in the store's order, however many; None where there is no node."""
        answer = self.call((directory(path),))[0]
        if isinstance(answer, StoreError):
            if answer.code == "ENOENT":
                return None
            if answer.code != "E2BIG":
                raise self.explain(answer)
            return self._list_in_parts(path)
        return _names(answer)

    def _list_in_parts(self, path: str) -> Names | None:
        """A directory that does not fit in one message: piece by piece, anew when it changes meanwhile."""
        raw = check_path(path, "DIRECTORY_PART") + b"\0"
        for _attempt in range(_MAX_RESTARTS):
            names = b""
            generation = None
            while True:
                part = self.call((Request(DIRECTORY_PART, raw + b"%d\0" % len(names), path),))[0]
                if isinstance(part, StoreError):
                    if part.code == "ENOENT":
                        return None
                    raise _too_large(path) if part.code == "ENOSYS" else self.explain(part)
                now, _nul, piece = part.partition(b"\0")
                if generation not in (None, now):
                    break
                generation = now
                if not piece or piece == b"\0":  # the closing empty name stands alone
                    return _names(names)
                if piece.endswith(b"\0\0"):
                    return _names(names + piece[:-1])
                names += piece
        raise StoreConflict(
            "DIRECTORY_PART", path, "EAGAIN", f"the directory changed during each of {_MAX_RESTARTS} readings"
        )

    def write(self, path: str, value: bytes) -> None:
        """Set a value, creating the node and its parents."""
        self._one(write(path, value))

    def mkdir(self, path: str) -> None:
        """Create a node, and its parents, unless it is there."""
        self._one(mkdir(path))

    def rm(self, path: str) -> None:
        """Remove a node and all below it; what is not there is no error."""
        self._maybe(rm(path))

    def set_perms(self, path: str, perms: Sequence[str]) -> None:
        """Set the permissions of a node, owner first."""
        self._one(set_perms(path, perms))

    def read_trees(
        self,
        roots: Iterable[str],
        *,
        perms: bool = False,
        depth: int | None = None,
        denied: dict[str, StoreError] | None = None,
    ) -> dict[str, Node]:
        """Whole subtrees, level by level, many requests at once.

        The result has absolute paths in the store's own order (a node, then all below it, root by root);
        a root that is not there is not in it. ``depth`` is how many levels below each root to read, None for
        all. A node that vanishes meanwhile is left out: outside of a transaction this is no snapshot.
        Raises the first StoreError otherwise; with ``denied`` given, nodes that may not be read (EACCES) are
        put there and left out with all below them.
        """
        tops = list(dict.fromkeys(roots))
        found: dict[str, Node] = {}
        children: dict[str, list[str]] = {}
        level = tops
        remaining = depth
        width = 3 if perms else 2
        while level:
            below: list[str] = []
            for start in range(0, len(level), _BULK // width):
                part = level[start : start + _BULK // width]
                requests: list[Request] = []
                for path in part:
                    raw = check_path(path, "DIRECTORY", absolute=True) + b"\0"
                    requests.append(Request(READ, raw, path))
                    requests.append(Request(DIRECTORY, raw, path))
                    if perms:
                        requests.append(Request(GET_PERMS, raw, path))
                answers = iter(self.call(requests))
                for path in part:
                    value, listing = next(answers), next(answers)
                    owners = next(answers) if perms else None
                    names = self._judge(path, (value, listing, owners), denied)
                    if names is None:
                        continue
                    found[path] = Node(value, None if owners is None else _perms(owners))  # type: ignore[arg-type]
                    if names and remaining != 0:
                        prefix = path if path != "/" else ""
                        paths = [f"{prefix}/{name}" for name in names]
                        children[path] = paths
                        below += [p for p in paths if p not in found]
            level = below
            if remaining is not None:
                remaining -= 1
        return dict(_in_order(tops, found, children)) if children else found

    def _judge(
        self,
        path: str,
        answers: tuple[Answer, Answer, Answer | None],
        denied: dict[str, StoreError] | None,
    ) -> Names | None:
        """The children of a node that was read in full, None for one to leave out."""
        listing = answers[1]
        if not any(isinstance(answer, StoreError) for answer in answers):
            return _names(listing)  # type: ignore[arg-type]
        for answer in answers:
            if not isinstance(answer, StoreError):
                continue
            if answer.code == "ENOENT":
                return None
            if answer.code == "EACCES" and denied is not None:
                denied[path] = answer
                return None
            if answer is not listing or answer.code != "E2BIG":
                raise self.explain(answer)
        return self._list_in_parts(path)


def _too_large(path: str) -> StoreError:
    """oxenstored answers a domain's ring neither at once nor in parts."""
    why = "the directory does not fit in one message, and this xenstored does not send it in parts"
    return StoreError("DIRECTORY", path, "E2BIG", why, "ask through the unix socket, in dom0")


def _in_order(
    roots: Sequence[str], found: Mapping[str, Node], children: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, Node]]:
    for root in roots:
        stack = [root]
        while stack:
            path = stack.pop()
            if path in found:
                yield path, found[path]
                stack += reversed(children.get(path, ()))


class Transaction(_Access):
    """The store as one transaction sees it; made by ``Store.transaction``."""

    def __init__(self, store: Store, number: int) -> None:
        self._store = store
        self.number = number
        self._queued: list[Request] = []

    def call(self, requests: Sequence[Request], *, meanwhile: Iterator[object] | None = None) -> list[Answer]:
        """As ``Store.call``; what was submitted before goes first."""
        self.flush()
        return self._store.call(requests, self.number, meanwhile=meanwhile)

    def explain(self, error: StoreError) -> StoreError:
        """As ``Store.explain``."""
        return self._store.explain(error)

    def submit(self, requests: Iterable[Request]) -> None:
        """Queue operations whose only answer of interest is that they worked.

        They travel together in one send before the transaction ends; if any of them fails the transaction
        ends without effect and the error is raised by ``Store.transaction``. RM of what is not there is no
        failure.
        """
        self._queued += requests

    def flush(self) -> None:
        """Send what was submitted now; raises the first StoreError among the answers."""
        if not self._queued:
            return
        queued, self._queued = self._queued, []
        for request, answer in zip(queued, self._store.call(queued, self.number)):
            if isinstance(answer, StoreError) and not _tolerated(request, answer):
                raise self.explain(answer)


class Store(_Access):
    """A session with a xenstored.

    ``path`` is a unix socket or a xenbus device, told apart by what it is; None looks where libxenstore does.
    ``timeout`` is the longest wait, in seconds, for the next answer (in bulk: the next 32 KiB of answers).
    Raises StoreLost where no store answers the connect, StoreTimeout where it does not do so in time. After
    either, from whatever operation, the session is closed and every further call raises StoreLost.
    """

    def __init__(self, path: str | None = None, *, timeout: float = 10.0, wire: Wire | None = None) -> None:
        self._channel = Channel(path, timeout, wire)
        self._open: int | None = None  # the transaction that must be ended
        self._next: int | None = None  # one begun ahead of its use
        self._more = False
        self._own_domid: str | None = None

    @property
    def path(self) -> str:
        """The socket or device of this session."""
        return self._channel.path

    @property
    def is_open(self) -> bool:
        """Whether the session can still be used."""
        return self._channel.is_open

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def fileno(self) -> int:
        """The session's descriptor, for poll beside others (events that came with answers do not show there)."""
        return self._channel.fileno()

    @property
    def has_events(self) -> bool:
        """Whether events came already, with answers."""
        return bool(self._channel.events)

    def close(self) -> None:
        """End the session; xenstored forgets its watches and any open transaction."""
        self._channel.close()

    def call(
        self, requests: Sequence[Request], tx: int = 0, *, meanwhile: Iterator[object] | None = None
    ) -> list[Answer]:
        """Send requests together and return their answers in the same order.

        An answer is the raw payload, or the StoreError that xenstored gave in its place. Raises only
        StoreTimeout and StoreLost. ``meanwhile`` is other work to do while answers are on their way, in small
        steps that do not use the store (a generator); those left in it are the caller's to take.
        """
        return self._channel.call(requests, tx, meanwhile)

    def explain(self, error: StoreError) -> StoreError:
        """The same error; where the store forbids something, it says for which domain this session speaks."""
        if error.code not in {"EACCES", "EPERM"}:
            return error
        if self._own_domid is None:
            answer = self.call((read("domid"),))[0]  # relative: /local/domain/<own>/domid
            own = "" if isinstance(answer, StoreError) else answer.decode("latin-1")
            self._own_domid = own if own.isdigit() else ""
        if self._own_domid:
            return error.because(f"this connection speaks for domain {self._own_domid}")
        return error

    # -- transactions ----------------------------------------------------------------------------------------

    def transaction(
        self,
        work: Callable[[Transaction], T],
        *,
        retries: int = 8,
        meanwhile: Iterator[object] | None = None,
    ) -> T:
        """Run ``work`` in a transaction and commit it: all of its writes become visible at once, or none.

        When others changed the nodes it used (EAGAIN) the work runs again on the new state, at most
        ``retries`` times, then StoreConflict is raised. Whatever ``work`` raises (Abort, a StoreError, a
        keyboard interrupt) ends the transaction without effect and goes on to the caller.
        ``meanwhile`` is as in ``call``, for the time until the transaction has begun.
        """
        for attempt in range(retries + 1):
            if attempt:
                # two runs that collided should not do so again in step
                time.sleep(random.random() * min(0.001 * 2**attempt, 0.1))
            try:
                self._open = self._begin(meanwhile)
                transaction = Transaction(self, self._open)
                result = work(transaction)
                transaction.flush()
                if self._finish(b"T\0"):
                    return result
            except StoreError as error:
                if error.code != "EAGAIN" or isinstance(error, StoreConflict):
                    raise
            finally:
                self._roll_back()
        raise StoreConflict(
            "TRANSACTION_END",
            self.path,
            "EAGAIN",
            f"others changed the same nodes during each of {retries + 1} attempts",
            "see who else writes there, and run it again",
        )

    @contextmanager
    def series(self) -> Iterator[None]:
        """For many transactions in a row: each is begun in the send that ends the one before.

        That saves one of three waits of a transaction. None is left open at the end.
        """
        self._more = True
        try:
            yield
        finally:
            self._more = False
            self._open, self._next = self._next, None
            self._roll_back()

    def _begin(self, meanwhile: Iterator[object] | None) -> int:
        number, self._next = self._next, None
        if number is None:
            answer = self.call((self._request(TRANSACTION_START, b"\0"),), meanwhile=meanwhile)[0]
            if isinstance(answer, StoreError):
                raise self.explain(answer)
            number = self._number(answer)
        return number

    def _number(self, payload: bytes) -> int:
        digits = payload.rstrip(b"\0")
        if not digits.isdigit() or not 0 < int(digits) <= _MAX_TRANSACTION:
            raise self._channel.lost(
                ("TRANSACTION_START", self.path), "EPROTO", "xenstored named no transaction"
            )
        return int(digits)

    def _request(self, op: int, payload: bytes) -> Request:
        return Request(op, payload, self.path)

    def _finish(self, how: bytes) -> bool:
        """End the open transaction: ``T`` commits, ``F`` does not; false for a conflict."""
        requests = [self._request(TRANSACTION_END, how)]
        if self._more and how == b"T\0":
            requests.append(self._request(TRANSACTION_START, b"\0"))
        number, self._open = self._open, None
        answer, *begun = self.call(requests, number or 0)
        if begun and isinstance(begun[0], bytes):  # refused: the next transaction asks again, and is told why
            self._next = self._number(begun[0])
        if isinstance(answer, StoreError) and answer.code != "EAGAIN":
            raise answer
        return not isinstance(answer, StoreError)

    def _roll_back(self) -> None:
        """End a transaction left open; a failure must not cover the error that led here."""
        if self._open is None:
            return
        try:
            if self._channel.is_open:
                self._finish(b"F\0")
        except StoreError as error:
            self._channel.close(f"a transaction could not be ended: {error}")
        finally:
            self._open = None

    # -- watches ---------------------------------------------------------------------------------------------

    def watch(self, path: str, token: str) -> None:
        """Be told of changes at or below ``path`` (or of ``@introduceDomain``, ``@releaseDomain``).

        One event comes at once, for the watch itself. EEXIST for a path and token that are watched already.
        """
        self._one(watch(WATCH, path, token))

    def unwatch(self, path: str, token: str) -> None:
        """End a watch; events of it that came before may still be waiting."""
        self._one(watch(UNWATCH, path, token))

    def wait_event(self, timeout: float) -> tuple[str, str] | None:
        """The next watch event as (path, token), or None after ``timeout`` seconds (0: only look)."""
        return self._channel.wait_event(timeout)
