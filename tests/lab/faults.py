# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults on the way to the store: a socket in front of xenstored (or of a domain's view) that misbehaves.

    with host.mute(after=3) as proxy:
        connect(proxy.socket)

``in_place=True`` puts the proxy at /run/xenstored/socket of the host, so that programs inside which look
for the store by themselves meet it; ``upstream=host.domain_view(5)`` puts it in front of another socket.
"""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from . import wire

if TYPE_CHECKING:
    from .host import LabHost


class Fault:
    """What to do with a message; the default is to pass everything on at once."""

    def request(self, kind: int, payload: bytes) -> None:
        """Seen before a request goes to xenstored."""

    def reply(self, kind: int, payload: bytes) -> bool:
        """Whether the reply (or event) goes on to the client; HangUpError ends the connection."""
        return True


class HangUpError(Exception):
    """The proxy closes both ends."""


class Counting(Fault):
    """Counts replies over all connections of the proxy."""

    def __init__(self, after: int) -> None:
        self._left = after
        self._lock = threading.Lock()

    @property
    def began(self) -> bool:
        """Whether a reply fared worse than those that were let pass."""
        return self._left < 0

    def spent(self) -> bool:
        with self._lock:
            self._left -= 1
            return self._left < 0


class Mute(Counting):
    def reply(self, kind: int, payload: bytes) -> bool:
        return not self.spent()


class HangUp(Counting):
    def reply(self, kind: int, payload: bytes) -> bool:
        if self.spent():
            raise HangUpError
        return True


class Delay(Fault):
    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def reply(self, kind: int, payload: bytes) -> bool:
        time.sleep(self._seconds)
        return True


class Conflict(Fault):
    """Another client changes a node between a transaction's start and its commit.

    Changed, not only touched: C xenstored refuses the commit of whoever looked at a node that was written
    since, but oxenstored replays the transaction and refuses only where an answer would be another one.
    Without a ``value`` to leave behind the node is as before once the commit is refused.
    """

    def __init__(self, host: LabHost, path: str, times: int, value: str | None) -> None:
        self._host = host
        self._path = path
        self._times = times
        self._value = value
        self._restore: list[bytes | None] = []
        self.done = 0
        self._lock = threading.Lock()

    def request(self, kind: int, payload: bytes) -> None:
        if kind != wire.TRANSACTION_END or payload != b"T\0":
            return
        with self._lock:
            if self.done >= self._times:
                return
            self.done += 1
        with wire.Client(self._host.real_socket) as client:
            before = client.read(self._path)
            if self._value is None:
                self._restore.append(before)
                client.write(self._path, (before or b"") + b"'")
            else:
                client.write(self._path, self._value)

    def reply(self, kind: int, payload: bytes) -> bool:
        if kind == wire.ERROR and self._restore and payload == b"EAGAIN\0":
            before = self._restore.pop()
            with wire.Client(self._host.real_socket) as client:
                if before is None:
                    client.remove(self._path)
                else:
                    client.write(self._path, before)
        return True


class Proxy:
    """The misbehaving socket, a context manager; its threads live in this process."""

    def __init__(
        self, host: LabHost, fault: Fault, *, upstream: str | None = None, in_place: bool = False
    ) -> None:
        self.fault = fault
        self._host = host
        self._upstream = upstream
        self._in_place = in_place
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._listener: socket.socket | None = None
        self._open: list[socket.socket] = []
        self._ending = False
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self.socket = ""

    def __enter__(self) -> Proxy:
        self._folder = tempfile.TemporaryDirectory(prefix="xen-lab-proxy-")
        if self._in_place:
            self._upstream = self._host.set_aside_socket()
            self.socket = self._host.socket
        else:
            self._upstream = self._upstream or self._host.real_socket
            self.socket = str(Path(self._folder.name) / "socket")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.socket)
        os.chmod(self.socket, 0o666)
        self._listener.listen(64)
        self._thread(self._accept)
        return self

    def __exit__(self, *_error: object) -> None:
        assert self._listener is not None
        assert self._folder is not None
        with self._lock:
            self._ending = True
            for item in (self._listener, *self._open):
                with contextlib.suppress(OSError):
                    item.shutdown(socket.SHUT_RDWR)
            threads = list(self._threads)
        for thread in threads:
            thread.join()
        for item in (self._listener, *self._open):
            item.close()
        if self._in_place:
            self._host.put_socket_back()
        self._folder.cleanup()

    def _thread(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        assert self._listener is not None
        while True:
            try:
                client, _unused = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(self._upstream or "")
            except OSError:
                client.close()
                server.close()
                continue
            with self._lock:
                if self._ending:
                    client.close()
                    server.close()
                    return
                self._open += [client, server]
                self._thread(self._pass, client, server, False)
                self._thread(self._pass, server, client, True)

    def _pass(self, source: socket.socket, target: socket.socket, replies: bool) -> None:
        buffer = bytearray()
        with contextlib.suppress(OSError, HangUpError):
            while data := source.recv(65536):
                buffer += data
                for kind, request, tx, payload in wire.take_messages(buffer):
                    if replies and not self.fault.reply(kind, payload):
                        continue
                    if not replies:
                        self.fault.request(kind, payload)
                    target.sendall(wire.pack(kind, request, tx, payload))
        for item in (source, target):
            with contextlib.suppress(OSError):
                item.shutdown(socket.SHUT_RDWR)
