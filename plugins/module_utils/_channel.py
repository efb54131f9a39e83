# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Batches of requests over one connection to xenstored, and a deadline on every wait.

Whatever leaves doubt about which answer belongs to which request (a time-out, an unexpected message, an
interrupted wait) ends the connection: a late answer is never taken for another's, and xenstored drops the
transactions of a connection that closes.
"""

from __future__ import annotations

import errno
import os
import re
import select
import socket
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ._protocol import OPS, PAYLOAD_MAX, REL_PATH_MAX
from ._request import (
    DIRECTORY,
    ERROR,
    NAMES,
    TRANSACTION_START,
    WATCH_EVENT,
    Answer,
    Request,
    StoreError,
    StoreLost,
    StoreTimeout,
)
from ._wire import (
    Candidate,
    Link,
    Wire,
    candidates,
    default_wire,
    is_socket,
    set_time_limit,
)

_HEADER = 16  # bytes of struct xsd_sockmsg
# bytes that any answer has at least, an error too: a header, and behind it "OK" with its NUL or one permission
_SHORTEST: Mapping[str, int] = {
    **dict.fromkeys(("WRITE", "MKDIR", "RM", "SET_PERMS", "TRANSACTION_END"), 3),
    **{"GET_PERMS": 2, "TRANSACTION_START": 1, "IS_DOMAIN_INTRODUCED": 1},
}
_LEAST = [_HEADER + _SHORTEST.get(NAMES.get(op, ""), 0) for op in range(max(OPS.values()) + 1)]
_RID_MASK = 0xFFFFFFFF
_CHUNK = 32 * 1024  # bytes of answers asked of the kernel in one wait
_FEW = 3  # answers for which waiting for all of them at once gains nothing
_MANY = 64  # answers that are better fetched than waited for, and how many seconds apart
_NAP = 0.0001
_MAX_DIRECTORY = 16 * 1024 * 1024  # oxenstored answers a directory of any size in one message
_MAX_EVENTS = 65536
_LIMITS = {DIRECTORY: _MAX_DIRECTORY, WATCH_EVENT: PAYLOAD_MAX + REL_PATH_MAX}
_DEVICE_PAYLOAD_MAX = PAYLOAD_MAX - _HEADER  # the driver's buffer holds the header too
_DEVICE_RETRY = 0.05  # seconds; the xenbus device never reports that it can be written to

_error_code = re.compile(rb"E[A-Z0-9]{1,30}")


class _Batch:
    """Requests under way: their answers, by position, and how many are still due."""

    __slots__ = ("answers", "base", "least", "left", "requests")

    def __init__(self, requests: Sequence[Request], base: int) -> None:
        self.requests = requests
        self.base = base
        self.answers: list[Any] = [None] * len(requests)
        self.left = len(requests)
        self.least = sum([_LEAST[request[0]] for request in requests])  #: bytes that are due at least

    def waiting(self) -> tuple[str, str]:
        """Operation and path of the first request without an answer."""
        for request, answer in zip(self.requests, self.answers):
            if answer is None:
                return NAMES[request.op], request.path
        return NAMES[self.requests[0].op], self.requests[0].path


class Channel:
    """A connection and the request loop on it.

    ``path`` is a unix socket or a xenbus device, told apart by what it is; None looks where libxenstore does.
    ``timeout`` is the longest wait, in seconds, for the next answer (in bulk: the next 32 KiB of answers).
    Raises StoreLost where nothing answers, StoreTimeout where it does not do so in time.
    """

    def __init__(self, path: str | None, timeout: float, wire: Wire | None = None) -> None:
        if not 0 < timeout < 86400:
            why = f"a time limit of {timeout:g} s is not between 0 and 86400"
            raise StoreError("CONNECT", path or "xenstored", "EINVAL", why, "give another")
        self.timeout = timeout
        self.events: deque[tuple[str, str]] = deque()
        self._wire = wire or default_wire()
        self._pack = self._wire.header.pack
        self._unpack = self._wire.header.unpack_from
        self._rid = 0
        self._buffer = bytearray(_CHUNK)
        self._view = memoryview(self._buffer)
        self._start = 0  # the first byte in the buffer not yet understood
        self._end = 0  # behind the last byte received
        self._missing = _HEADER  # bytes until the next step in understanding
        self._why_gone = ""
        self._steps: Iterator[object] = iter(())
        self._trouble: Exception | None = None
        self._pid = os.getpid()
        self._sock: socket.socket | None = None
        self._fd = -1
        self.path, self._link, self._device = self._connect(path)
        self._fd = self._link.fileno()
        self._patient = False  # whether the kernel keeps the deadline of a receive
        if self._device:
            os.set_blocking(self._fd, False)
        else:
            # another handle to the link's descriptor, which stays the link's to close
            self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=self._fd)
            self._sock.setblocking(True)
            self._patient = set_time_limit(self._sock, socket.SO_RCVTIMEO, timeout)

    def _connect(self, path: str | None) -> tuple[str, Link, bool]:
        places = [Candidate(path, "given")] if path is not None else candidates()
        failures: list[tuple[Candidate, OSError]] = []
        for place in places:
            try:
                if is_socket(place.path):
                    return place.path, self._wire.open_socket(place.path, self.timeout), False
                return place.path, self._wire.open_device(place.path), True
            except OSError as failure:
                failures.append((place, failure))
                if failure.errno == errno.ETIMEDOUT:  # it is there, and does not answer
                    break
        # the one that is there says more than those that are not
        there = [f for f in failures if f[1].errno not in {errno.ENOENT, errno.ENOTDIR}]
        place, cause = (there or failures)[0]
        raise _connect_error(place, cause, [f[0].path for f in failures], self.timeout) from cause

    # -- the end ---------------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        return self._fd >= 0

    def fileno(self) -> int:
        """The open descriptor, for poll; -1 once the connection has ended."""
        return self._fd

    def close(self, why: str = "it was closed") -> None:
        """End the connection; ``why`` is what later calls are told."""
        if self._fd < 0:
            return
        self._fd = -1
        self._why_gone = why
        if self._sock is not None:
            self._sock.detach()
            self._sock = None
        self._link.close()

    def lost(self, where: tuple[str, str], code: str, why: str) -> StoreLost:
        """The error for a connection that is of no more use; closes it."""
        self.close(why)
        return StoreLost(*where, code, why, f"see whether xenstored runs behind {self.path}")

    def _late(self, where: tuple[str, str]) -> StoreTimeout:
        why = f"no answer from {self.path} within {self.timeout:g} s"
        self.close(why)
        return StoreTimeout(*where, "ETIMEDOUT", why, "see whether xenstored is stopped or overloaded")

    def _ended(self, where: tuple[str, str], cause: OSError) -> StoreLost:
        return self.lost(
            where,
            errno.errorcode.get(cause.errno or 0, "EIO"),
            f"xenstored ended the connection to {self.path}",
        )

    def _check_usable(self, operation: str, path: str) -> None:
        if self._fd < 0:
            why = f"the connection is gone: {self._why_gone}"
        elif self._pid != os.getpid():
            why = "the connection belongs to another process"
        else:
            return
        raise StoreLost(operation, path, "ENOTCONN", why, "open a new one")

    # -- requests and answers --------------------------------------------------------------------------------

    def call(
        self, requests: Sequence[Request], tx: int = 0, meanwhile: Iterator[object] | None = None
    ) -> list[Answer]:
        """Send requests together and return their answers in the same order.

        ``tx`` is the transaction they belong to, 0 for none; TRANSACTION_START never belongs to one. An answer
        is the raw payload, or the StoreError that xenstored gave in its place. Raises StoreTimeout and StoreLost,
        after which the channel is unusable, and E2BIG for what the device would not take, before sending.

        ``meanwhile`` is other work in small steps that make no calls: the first is taken once all is sent, more
        in place of naps. Those that there was no time for are left; what a step raises is raised in the end.
        """
        if not requests:
            return []
        self._steps = iter(()) if meanwhile is None else meanwhile
        self._trouble = None
        first = requests[0]
        self._check_usable(NAMES[first.op], first.path)
        pack = self._pack
        rid = self._rid
        batch = _Batch(requests, rid)
        messages: list[bytes] = []
        if self._device or rid + len(requests) > _RID_MASK:
            for op, payload, path in requests:
                if self._device and len(payload) > _DEVICE_PAYLOAD_MAX:
                    why = (
                        f"the message would have {len(payload)} bytes, the device takes {_DEVICE_PAYLOAD_MAX}"
                    )
                    raise StoreError(NAMES[op], path, "E2BIG", why, "shorten the value")
                within = tx if op != TRANSACTION_START else 0
                messages.append(pack(op, rid, within, len(payload)) + payload)
                rid = (rid + 1) & _RID_MASK
        else:
            messages = [
                pack(op, number, tx if op != TRANSACTION_START else 0, len(payload)) + payload
                for number, (op, payload, _path) in enumerate(requests, rid)
            ]
            rid += len(messages)
        self._rid = rid
        try:
            if self._device:
                self._send_in_turn(batch, messages)
            else:
                self._send_together(batch, b"".join(messages))
            self._step()
            self._await(batch, 0)
        except StoreError:
            raise
        except OSError as error:
            raise self._ended(batch.waiting(), error) from error
        except BaseException:
            self.close("a wait was interrupted")
            raise
        if self._trouble is not None:
            raise self._trouble
        return batch.answers

    def _step(self) -> bool:
        """Take a step of the other work, if there is one left."""
        try:
            next(self._steps)
        except StopIteration:
            return False
        except Exception as trouble:  # answers are still due, and nobody else may get them
            self._trouble = trouble
            self._steps = iter(())
        return True

    def _await(self, batch: _Batch, left: int) -> None:
        """Take in answers until only so many are due."""
        deadline = time.monotonic() + self.timeout
        while batch.left > left:
            self._receive(batch)
            if self._understand(batch):
                deadline = time.monotonic() + self.timeout
            elif time.monotonic() > deadline:  # bytes or events came, an answer did not
                raise self._late(batch.waiting())

    def _send_in_turn(self, batch: _Batch, messages: Sequence[bytes]) -> None:
        """To the device: each message in a write of its own, and after the answer to the one before.

        drivers/xen/xenbus/xenbus_dev_frontend.c has one buffer for whoever has it open. What follows a message in the
        same write is dropped; and a message is copied out of the buffer some time after the write (xenbus_xs.c), so
        another one that is written before the answer takes its place there: the store then gets the kind of the one
        with the path and value of the other.
        """
        for due, message in zip(range(len(messages) - 1, -1, -1), messages):
            self._write_all(batch, (message,))
            self._await(batch, due)

    def _send_together(self, batch: _Batch, data: bytes) -> None:
        try:
            sent = self._sock.send(data, socket.MSG_DONTWAIT) if self._sock is not None else 0
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self._write_all(batch, (memoryview(data)[sent:],))

    def _write_all(self, batch: _Batch, pieces: Sequence[bytes | memoryview]) -> None:
        """Write each piece, taking in answers whenever there is no room to write.

        xenstored stops reading from a connection that does not read, so doing one after the other could
        leave both sides waiting.
        """
        poller = select.poll()
        poller.register(self._fd, select.POLLIN | select.POLLOUT)
        deadline = time.monotonic() + self.timeout
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                count = self._write_some(rest)
                if count:
                    rest = rest[count:]
                    deadline = time.monotonic() + self.timeout
                    continue
                if not self._device:
                    if not self._step():
                        time.sleep(_NAP)  # as in _receive
                    if self._take() and self._understand(batch):
                        deadline = time.monotonic() + self.timeout
                        continue
                waiting = deadline - time.monotonic()
                if waiting <= 0:
                    raise self._late(batch.waiting())
                ready = poller.poll(1000 * (min(waiting, _DEVICE_RETRY) if self._device else waiting))
                if ready and ready[0][1] & ~select.POLLOUT and self._take() and self._understand(batch):
                    deadline = time.monotonic() + self.timeout

    def _write_some(self, data: memoryview) -> int:
        try:
            if self._sock is not None:
                return self._sock.send(data, socket.MSG_DONTWAIT)
            return os.write(self._fd, data)
        except BlockingIOError:
            return 0

    def _receive(self, batch: _Batch) -> None:
        """Wait for more bytes, until the deadline.

        On a socket the kernel is asked for as many bytes as the answers still due must have at least: a few
        wake-ups a batch instead of one an answer. Where many are due they are fetched after a nap: whoever
        waits is woken for each of xenstored's small writes, two an answer, which costs it more than the
        answer itself.
        """
        if batch.left > _MANY and not self._device:
            if not self._step():
                time.sleep(_NAP)
            if self._take():
                return
        if self._sock is None or not self._patient or batch.left > _MANY:
            self._receive_some(batch)
            return
        if batch.left > _FEW:
            wanted = min(max(self._missing, batch.least - (self._end - self._start)), _CHUNK)
            flags = int(socket.MSG_WAITALL)
        else:
            wanted = max(self._missing, _CHUNK)
            flags = 0
        self._make_room(wanted)
        before = time.monotonic()
        try:
            count = self._sock.recv_into(self._view[self._end :], wanted, flags)
        except BlockingIOError:
            raise self._late(batch.waiting()) from None
        if count == 0:
            raise ConnectionResetError(errno.ECONNRESET, "end of file")
        self._end += count
        if count < wanted and flags and time.monotonic() - before >= self.timeout * 0.99:
            raise self._late(batch.waiting())

    def _receive_some(self, batch: _Batch) -> None:
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        deadline = time.monotonic() + self.timeout
        while not self._take():
            waiting = deadline - time.monotonic()
            if waiting <= 0:
                raise self._late(batch.waiting())
            poller.poll(waiting * 1000)

    def _make_room(self, count: int) -> None:
        if self._start == self._end:
            self._start = self._end = 0
        if self._end + count > len(self._buffer):
            rest = self._buffer[self._start : self._end]
            self._buffer = rest + bytearray(max(_CHUNK, count))
            self._view = memoryview(self._buffer)
            self._start, self._end = 0, len(rest)

    def _take(self) -> bool:
        """Take in what has arrived, without waiting; false where nothing has. End of file raises OSError."""
        self._make_room(max(_CHUNK, self._missing))
        room = self._view[self._end :]
        try:
            if self._sock is not None:
                count = self._sock.recv_into(room, 0, socket.MSG_DONTWAIT)
            else:
                count = os.readv(self._fd, [room])
        except BlockingIOError:
            return False
        if count == 0:
            raise ConnectionResetError(errno.ECONNRESET, "end of file")
        self._end += count
        return True

    def _understand(self, batch: _Batch) -> bool:
        """Put the complete messages of the buffer where they belong; whether an answer was among them."""
        unpack = self._unpack
        buffer = self._buffer
        requests, answers, base = batch.requests, batch.answers, batch.base
        due = len(answers)
        start, end = self._start, self._end
        answered, least = 0, batch.least
        self._missing = _HEADER
        while end - start >= _HEADER:
            op, rid, _tx, size = unpack(buffer, start)
            asked = -1
            if op != WATCH_EVENT:
                # answers may overtake each other, where an error is found before what came earlier is done
                index = (rid - base) & _RID_MASK
                if index >= due or answers[index] is not None:
                    raise self._astray(batch, f"an answer to a request that was not made (id {rid})")
                asked = requests[index][0]
                if op != asked and op != ERROR:  # noqa: PLR1714 - thousands of times
                    raise self._astray(batch, f"an answer of type {op} to {NAMES[asked]}")
            if size > PAYLOAD_MAX and size > _LIMITS.get(op, PAYLOAD_MAX):
                raise self._astray(batch, f"a message of {size} bytes")
            body = start + _HEADER
            stop = body + size
            if stop > end:
                self._missing = stop - end
                break
            payload = bytes(buffer[body:stop])
            start = stop
            if asked < 0:
                self._keep_event(batch, payload)
                continue
            answers[index] = payload if op == asked else self._refusal(batch, requests[index], payload)
            answered += 1
            least -= _LEAST[asked]
        else:
            self._missing = _HEADER - (end - start)
        self._start = start
        batch.left -= answered
        batch.least = least
        return answered > 0

    def _refusal(self, batch: _Batch, request: Request, payload: bytes) -> StoreError:
        if payload == b"ENOENT\0":  # what nearly every refusal is
            return StoreError(NAMES[request.op], request.path, "ENOENT")
        code = payload.rstrip(b"\0")
        if not _error_code.fullmatch(code):
            raise self._astray(batch, "an error that cannot be read")
        return StoreError(NAMES[request.op], request.path, code.decode("ascii"))

    def _keep_event(self, batch: _Batch, payload: bytes) -> None:
        parts = payload.split(b"\0")
        if len(parts) < 3:
            raise self._astray(batch, "a torn watch event")
        if len(self.events) >= _MAX_EVENTS:
            raise self._astray(batch, f"more than {_MAX_EVENTS} watch events that nobody took")
        path, token = (part.decode("utf-8", "surrogateescape") for part in parts[:2])
        self.events.append((path, token))

    def _astray(self, batch: _Batch, what: str) -> StoreLost:
        return self.lost(batch.waiting(), "EPROTO", f"{self.path} sent {what}")

    # -- events ----------------------------------------------------------------------------------------------

    def wait_event(self, timeout: float) -> tuple[str, str] | None:
        """The next watch event as (path, token), or None after ``timeout`` seconds (0: only look)."""
        where = ("WATCH_EVENT", self.path)
        if not self.events:
            self._check_usable(*where)
            poller = select.poll()
            poller.register(self._fd, select.POLLIN)
            deadline = time.monotonic() + max(timeout, 0)
            nothing = _Batch((Request(WATCH_EVENT, b"", self.path),), self._rid)
            nothing.answers = [b""]  # no answer is due
            try:
                while not self.events:
                    if self._take():
                        self._understand(nothing)
                        continue
                    waiting = deadline - time.monotonic()
                    if waiting <= 0:
                        return None
                    poller.poll(waiting * 1000)
            except StoreError:
                raise
            except OSError as error:
                raise self._ended(where, error) from error
            except BaseException:
                self.close("a wait was interrupted")
                raise
        return self.events.popleft()


def _connect_error(place: Candidate, cause: OSError, tried: Sequence[str], timeout: float) -> StoreError:
    code = errno.errorcode.get(cause.errno or 0, "EIO")
    where = place.path if place.source in {"given", "default"} else f"{place.path} (from {place.source})"
    if code == "ETIMEDOUT":
        why = f"nobody accepted the connection within {timeout:g} s"
        return StoreTimeout("CONNECT", where, code, why, "see whether xenstored is stopped or overloaded")
    remedies = {
        "EACCES": "run as root (become: true)",
        "EPERM": "run as root (become: true)",
        "ENOENT": "start xenstored, or name its socket or xenbus device",
        "ECONNREFUSED": "nobody listens there any more: start xenstored",
    }
    remedy = remedies.get(code, "name the socket of xenstored or the xenbus device")
    if len(tried) > 1:
        remedy += f"; looked at {', '.join(tried)}"
    return StoreLost("CONNECT", where, code, cause.strerror or str(cause), remedy)
