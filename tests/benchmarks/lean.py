# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The leanest client there can be: bytes that were made beforehand, one send a disk, answers only counted.

It sends what our code sent, byte by byte, reads included, but for each disk's transaction it waits once
(its operations, its end and the start of the next one travel together), where our code has to look at
the answers before it commits. It knows the numbers of its transactions beforehand: both daemons count them
for each connection.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Sequence

from ansible_collections.xen.virtio.plugins.module_utils._request import (
    ERROR,
    TRANSACTION_END,
    TRANSACTION_START,
    Answer,
    Request,
)
from ansible_collections.xen.virtio.plugins.module_utils._store import Store

_HEADER = struct.Struct("=IIII")


class Recorder(Store):
    """A session that keeps what it sends."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.sent: list[list[tuple[int, bytes, int]]] = []

    def call(
        self, requests: Sequence[Request], tx: int = 0, *, meanwhile: Iterator[object] | None = None
    ) -> list[Answer]:
        if requests:
            self.sent.append(
                [(one.op, one.payload, 0 if one.op == TRANSACTION_START else tx) for one in requests]
            )
        return super().call(requests, tx, meanwhile=meanwhile)


class Script:
    """What to send, and how many answers to wait for after each send."""

    def __init__(self, sent: Sequence[Sequence[tuple[int, bytes, int]]]) -> None:
        self.steps: list[tuple[bytes, int]] = []
        self.first = 0  #: the first step that is no mere reading
        self.operations = sum(len(messages) for messages in sent)
        for messages in _steps(sent):
            data = b"".join(
                _HEADER.pack(op, number & 0xFFFF, tx, len(payload)) + payload
                for number, (op, payload, tx) in enumerate(messages)
            )
            self.steps.append((data, len(messages)))
            if not self.first and any(op == TRANSACTION_START for op, _payload, _tx in messages):
                self.first = len(self.steps) - 1

    def look(self, path: str) -> int:
        """Send only what is asked before anything is written."""
        return self.replay(path, self.first)

    def replay(self, path: str, stop: int | None = None) -> int:
        """Send it all (or the steps before `stop`) to a store; how many answers were errors."""
        errors = 0
        buffer = bytearray(1 << 20)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.connect(path)
            for data, answers in self.steps[:stop]:
                link.sendall(data)
                errors += _await(link, buffer, answers)
        return errors


def _await(link: socket.socket, buffer: bytearray, answers: int) -> int:
    """Wait for so many answers; how many of them were errors.

    The kernel is asked for as many bytes as these answers have at least: xenstored writes each by itself,
    and waking up for every one of them is what a careless client spends most of its time on.
    """
    view = memoryview(buffer)
    unpack = _HEADER.unpack_from
    errors = start = end = 0
    missing = 16
    while answers:
        count = link.recv_into(view[end:], missing + 16 * (answers - 1), socket.MSG_WAITALL)
        if not count:
            raise ConnectionError("xenstored ended the connection")
        end += count
        while True:
            missing = start + 16 - end
            if missing > 0:
                break
            op, _rid, _tx, size = unpack(buffer, start)
            missing += size
            if missing > 0:
                break
            start += 16 + size
            answers -= 1
            errors += op == ERROR
    return errors


def _steps(
    sent: Sequence[Sequence[tuple[int, bytes, int]]],
) -> list[list[tuple[int, bytes, int]]]:
    """The sends of the lean client: a transaction's operations go with its end and the next one's start."""
    steps: list[list[tuple[int, bytes, int]]] = []
    joining = False
    for messages in sent:
        if not joining:
            steps.append([])
        steps[-1] += messages
        last = messages[-1]
        joining = last[2] != 0 and last[0] != TRANSACTION_END
    return _with_starts(steps)


def _with_starts(steps: list[list[tuple[int, bytes, int]]]) -> list[list[tuple[int, bytes, int]]]:
    """Begin each transaction but the first in the send that ends the one before.

    The first has to wait: what there is to write is known only once all has been read.
    """
    found: list[list[tuple[int, bytes, int]]] = []
    for step in steps:
        alone = len(step) == 1 and step[0][0] == TRANSACTION_START
        if alone and found and found[-1][-1][0] == TRANSACTION_END:
            found[-1] += step
        else:
            found.append(step)
    return found
