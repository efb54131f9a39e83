# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A peer that answers as a test tells it to, for what no real xenstored does."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

HEADER = struct.Struct("=IIII")
Message = tuple[int, int, int, bytes]  # type, request id, transaction, payload


class Line:
    """The peer's end of one connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._buffer = b""

    def take(self) -> Message:
        """The next message; ConnectionError where the client is gone."""
        kind, rid, tx, size = HEADER.unpack(self._exactly(HEADER.size))
        return kind, rid, tx, self._exactly(size)

    def _exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            data = self.socket.recv(1 << 20)
            if not data:
                raise ConnectionResetError
            self._buffer += data
        found, self._buffer = self._buffer[:count], self._buffer[count:]
        return found

    def give(self, kind: int, rid: int, payload: bytes, tx: int = 0) -> None:
        """Send one message."""
        self.socket.sendall(HEADER.pack(kind, rid, tx, len(payload)) + payload)


@contextlib.contextmanager
def peer(folder: Path, script: Callable[[Line], None]) -> Iterator[str]:
    """A socket at which ``script`` runs for each connection; it ends when the script returns."""
    path = str(folder / "peer")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(8)
    connections: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                connection, _address = listener.accept()
            except OSError:
                return
            connections.append(connection)
            with contextlib.suppress(OSError):
                script(Line(connection))
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in connections:
            connection.close()
