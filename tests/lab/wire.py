# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The xenstore wire protocol (xen/include/public/io/xs_wire.h) and a small dom0 client on it.

The lab and its tests look at the store with this client, never with the product's own code: what the
product wrote is then read by somebody else.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable, Iterable

CONTROL, DIRECTORY, READ, GET_PERMS, WATCH, UNWATCH = 0, 1, 2, 3, 4, 5
TRANSACTION_START, TRANSACTION_END, INTRODUCE, RELEASE, GET_DOMAIN_PATH = 6, 7, 8, 9, 10
WRITE, MKDIR, RM, SET_PERMS, WATCH_EVENT, ERROR, IS_DOMAIN_INTRODUCED = 11, 12, 13, 14, 15, 16, 17
RESUME, SET_TARGET, RESET_WATCHES, DIRECTORY_PART = 18, 19, 21, 22

PAYLOAD_MAX = 4096  # XENSTORE_PAYLOAD_MAX
HEADER = struct.Struct("=IIII")  # type, request id, transaction id, payload length

NAMES = {
    value: name
    for name, value in list(globals().items())
    if name.isupper() and isinstance(value, int) and value < 32
}


class WireError(Exception):
    """xenstored answered with an error: ``code`` is its name ("EACCES"), ``path`` what it was about."""

    def __init__(self, code: str, operation: str, path: str) -> None:
        super().__init__(f"{operation} {path}: {code}")
        self.code = code
        self.operation = operation
        self.path = path


def pack(kind: int, request: int, tx: int, payload: bytes) -> bytes:
    return HEADER.pack(kind, request, tx, len(payload)) + payload


def as_bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def take_messages(buffer: bytearray) -> Iterable[tuple[int, int, int, bytes]]:
    """Cut whole messages off the front of ``buffer``."""
    while len(buffer) >= HEADER.size:
        kind, request, tx, length = HEADER.unpack_from(buffer)
        end = HEADER.size + length
        if len(buffer) < end:
            return
        payload = bytes(buffer[HEADER.size : end])
        del buffer[:end]
        yield kind, request, tx, payload


class Client:
    """One connection to a xenstored socket (or a domain's view), one request at a time.

    Every wait ends after ``timeout`` seconds with TimeoutError; a lost connection is ConnectionError.
    """

    def __init__(self, path: str, *, timeout: float = 20.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # A blocking connect with a limit in the kernel: xenstored's backlog is 1, and Python's own limit makes
            # the connect a non-blocking one, which a full backlog refuses at once.
            seconds, rest = divmod(max(timeout, 0.001), 1)
            limit = struct.pack("ll", int(seconds), int(rest * 1_000_000))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            self._socket.connect(path)
        except BlockingIOError:
            self._socket.close()
            raise TimeoutError(f"nobody accepts connections on {path}") from None
        except OSError:
            self._socket.close()
            raise
        self._timeout = timeout
        self._buffer = bytearray()
        self._request = 0
        self._inbox: list[tuple[int, int, int, bytes]] = []
        self.events: list[tuple[str, str]] = []

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    @property
    def stream(self) -> socket.socket:
        """To wait on together with others; it stays silent about what was ``told`` already."""
        return self._socket

    @property
    def told(self) -> bool:
        """Whether a watch event is here already: it came before an answer, or in one piece with it."""
        return bool(self.events) or any(kind == WATCH_EVENT for kind, *_rest in self._inbox)

    def send(self, kind: int, payload: bytes = b"", tx: int = 0) -> int:
        """Send one request without waiting; returns its request id."""
        self._request += 1
        self._socket.sendall(pack(kind, self._request, tx, payload))
        return self._request

    def receive(self, deadline: float | None = None) -> tuple[int, int, int, bytes]:
        """The next message of any kind, watch events included."""
        deadline = time.monotonic() + self._timeout if deadline is None else deadline
        while not self._inbox:
            self._socket.settimeout(max(deadline - time.monotonic(), 1e-6))
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionError("xenstored closed the connection")
            self._buffer += data
            self._inbox.extend(take_messages(self._buffer))
        return self._inbox.pop(0)

    def call(self, kind: int, payload: bytes = b"", tx: int = 0) -> bytes:
        """One request and its answer's payload; WireError where xenstored refuses."""
        wanted = self.send(kind, payload, tx)
        got, request, _tx, data = self.answer()
        if request != wanted:
            raise ConnectionError(f"answer to request {request} while waiting for {wanted}")
        if got == ERROR:
            path = payload.split(b"\0")[0].decode("utf-8", "replace")
            raise WireError(data.rstrip(b"\0").decode(), NAMES.get(kind, str(kind)), path)
        return data

    def answer(self) -> tuple[int, int, int, bytes]:
        """The next message that is no watch event; events are kept for ``event``."""
        while True:
            message = self.receive()
            if message[0] != WATCH_EVENT:
                return message
            self._event(message[3])

    def _event(self, data: bytes) -> None:
        path, token = data.split(b"\0")[:2]
        self.events.append((path.decode("utf-8", "replace"), token.decode("utf-8", "replace")))

    def event(self, timeout: float) -> tuple[str, str] | None:
        """The next watch event (path, token), or None after ``timeout`` seconds without one."""
        deadline = time.monotonic() + timeout
        while not self.events:
            try:
                kind, _request, _tx, data = self.receive(deadline)
            except TimeoutError:
                return None
            if kind == WATCH_EVENT:
                self._event(data)
        return self.events.pop(0)

    def read(self, path: str, tx: int = 0) -> bytes | None:
        """The node's value; None where there is none."""
        return self._or_none(READ, path, tx)

    def directory(self, path: str, tx: int = 0) -> list[str] | None:
        """The node's children; None where there is no such node.  Listings of any size."""
        try:
            data = self._or_none(DIRECTORY, path, tx)
        except WireError as error:
            if error.code != "E2BIG":
                raise
            data = self._directory_in_parts(path, tx)
        return None if data is None else [name.decode() for name in data.split(b"\0") if name]

    def _directory_in_parts(self, path: str, tx: int) -> bytes:
        while True:
            generation, parts, offset = None, b"", 0
            while True:
                part = self.call(DIRECTORY_PART, f"{path}\0{offset}\0".encode(), tx)
                current, _unused, names = part.partition(b"\0")
                if generation not in {None, current}:
                    break  # it changed under our hands: once more from the start
                generation = current
                if names.endswith(b"\0\0") or names == b"\0":
                    return parts + names[:-1]
                parts += names
                offset = len(parts)

    def permissions(self, path: str, tx: int = 0) -> tuple[str, ...] | None:
        data = self._or_none(GET_PERMS, path, tx)
        return None if data is None else tuple(item.decode() for item in data.split(b"\0") if item)

    def write(self, path: str, value: str | bytes, tx: int = 0) -> None:
        self.call(WRITE, path.encode() + b"\0" + as_bytes(value), tx)

    def mkdir(self, path: str, tx: int = 0) -> None:
        self.call(MKDIR, path.encode() + b"\0", tx)

    def remove(self, path: str, tx: int = 0) -> bool:
        """Remove a subtree; False where there was none."""
        return self._or_none(RM, path, tx) is not None

    def set_permissions(self, path: str, permissions: Iterable[str], tx: int = 0) -> None:
        self.call(SET_PERMS, "\0".join([path, *permissions, ""]).encode(), tx)

    def watch(self, path: str, token: str) -> None:
        self.call(WATCH, f"{path}\0{token}\0".encode())

    def unwatch(self, path: str, token: str) -> None:
        self.call(UNWATCH, f"{path}\0{token}\0".encode())

    def tree(self, path: str, tx: int = 0) -> dict[str, tuple[bytes, tuple[str, ...]]]:
        """The whole subtree, depth first: path -> (value, permissions).  Empty where there is none."""
        found: dict[str, tuple[bytes, tuple[str, ...]]] = {}
        waiting = [path]
        while waiting:
            here = waiting.pop()
            value, permissions = self.read(here, tx), self.permissions(here, tx)
            if value is None or permissions is None:
                continue
            found[here] = (value, permissions)
            base = "" if here == "/" else here
            waiting.extend(f"{base}/{name}" for name in reversed(self.directory(here, tx) or []))
        return found

    def start(self) -> int:
        """Start a transaction; returns its id."""
        return int(self.call(TRANSACTION_START, b"\0").rstrip(b"\0"))

    def end(self, tx: int, *, commit: bool = True) -> None:
        self.call(TRANSACTION_END, b"T\0" if commit else b"F\0", tx)

    def transaction(self, work: Callable[[int], None], *, tries: int = 50) -> None:
        """Run ``work(tx)`` until its transaction commits."""
        for attempt in range(tries):
            tx = self.start()
            try:
                work(tx)
            except BaseException:
                self.end(tx, commit=False)
                raise
            try:
                self.end(tx)
            except WireError as error:
                if error.code != "EAGAIN" or attempt == tries - 1:
                    raise
            else:
                return

    def _or_none(self, kind: int, path: str, tx: int) -> bytes | None:
        try:
            return self.call(kind, path.encode() + b"\0", tx)
        except WireError as error:
            if error.code == "ENOENT":
                return None
            raise


def wait_for_store(path: str, timeout: float, alive: Callable[[], bool]) -> None:
    """Until a xenstored answers on ``path``; TimeoutError after ``timeout`` seconds or when it is dead."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            with Client(path, timeout=max(deadline - time.monotonic(), 0.1)) as client:
                client.directory("/")
                return
        except (FileNotFoundError, ConnectionError):
            if time.monotonic() > deadline or not alive():
                raise TimeoutError(f"no xenstored answers on {os.fspath(path)}") from None
            time.sleep(0.005)
