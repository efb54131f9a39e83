# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two ways to ask systemd for something while going on with other work: a message of ours, and systemctl.

A systemctl that starts a unit takes ten times as long as systemd does. For root it is nothing but messages of D-Bus to
systemd's own socket; `Jobs` sends the same ones. Only where that does not work is systemctl needed, and for questions.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import subprocess
from collections.abc import Iterable, Sequence
from typing import NamedTuple

#: Where systemd listens for root, with no bus between (systemd, src/core/dbus.c, bus_init_private).
PRIVATE = "/run/systemd/private"
#: Units of one connection: what is asked of all of them fits into a socket's buffer.
MOST = 256

_OBJECT = "/org/freedesktop/systemd1"
_NAME = "org.freedesktop.systemd1"
#: Milliseconds that systemd is waited for to take up a connection; it needs two or three with nothing else to do.
_GREETING = 20
#: Bytes that one message may have (D-Bus Specification, "Message Format", has 128 MiB; systemd's here are below 8 KiB).
_LIMIT = 1 << 20
_OUTPUT_LIMIT = 1 << 22

# Types of messages, and codes and types of header fields (D-Bus Specification, "Message Format").
_CALL, _RETURN, _ERROR = 1, 2, 3
_PATH, _INTERFACE, _MEMBER, _ERROR_NAME, _REPLY_SERIAL, _DESTINATION, _SIGNATURE = 1, 2, 3, 4, 5, 6, 8


class DirectError(Exception):
    """systemd cannot be asked in this way; nothing is known of what it was asked for."""


class Outcome(NamedTuple):
    """What came of it: the exit status, and all that was said."""

    code: int
    text: str


# -- messages (D-Bus Specification, "Marshaling") -----------------------------------------------------------------


def _pad(to: bytearray, size: int) -> None:
    to.extend(bytes(-len(to) % size))


def _put_string(to: bytearray, text: str) -> None:
    data = text.encode()
    _pad(to, 4)
    to += struct.pack("<I", len(data)) + data + b"\0"


def call_message(serial: int, member: str, arguments: Sequence[str]) -> bytes:
    """A call of a method of systemd's manager whose arguments are strings."""
    body, fields = bytearray(), bytearray()
    for argument in arguments:
        _put_string(body, argument)
    for code, kind, text in (
        (_PATH, b"o", _OBJECT),
        (_INTERFACE, b"s", f"{_NAME}.Manager"),
        (_MEMBER, b"s", member),
        (_DESTINATION, b"s", _NAME),
    ):
        _pad(fields, 8)
        fields += bytes((code, 1)) + kind + b"\0"
        _put_string(fields, text)
    _pad(fields, 8)
    signature = b"s" * len(arguments)
    fields += bytes((_SIGNATURE, 1)) + b"g\0" + bytes((len(signature),)) + signature + b"\0"
    head = bytearray(struct.pack("<cBBBIII", b"l", _CALL, 0, 1, len(body), serial, len(fields))) + fields
    _pad(head, 8)
    return bytes(head + body)


class Reply(NamedTuple):
    """An answer: to which call, and what went wrong where something did."""

    serial: int
    error: str


def take_replies(buffer: bytearray) -> list[Reply]:
    """The answers among the whole messages of a buffer, which are taken out of it. Raises DirectError."""
    found = []
    while len(buffer) >= 16:
        order = {0x6C: "<", 0x42: ">"}.get(buffer[0])
        if order is None:
            raise DirectError("systemd sent something that is no message of D-Bus")
        body, _serial, fields = struct.unpack_from(f"{order}III", buffer, 4)
        start = 16 + fields + -fields % 8
        if start + body > _LIMIT:
            raise DirectError(f"systemd sent a message of {start + body} bytes")
        if len(buffer) < start + body:
            break
        if buffer[1] in (_RETURN, _ERROR):
            try:
                found.append(_reply(bytes(buffer[: start + body]), order, 16 + fields, start))
            except (struct.error, IndexError, UnicodeDecodeError) as error:
                raise DirectError(f"systemd sent an answer that cannot be read: {error}") from error
        del buffer[: start + body]
    return found


def _reply(message: bytes, order: str, end: int, start: int) -> Reply:
    fields: dict[int, str | int] = {}
    at = 16
    while at < end:
        at += -at % 8
        code, size = message[at], message[at + 1]
        kind = message[at + 2 : at + 2 + size]
        at += 3 + size
        if kind in (b"s", b"o"):
            text, at = _take_string(message, order, at)
            fields[code] = text
        elif kind == b"u":
            at += -at % 4
            fields[code] = struct.unpack_from(f"{order}I", message, at)[0]
            at += 4
        elif kind == b"g":
            fields[code] = message[at + 1 : at + 1 + message[at]].decode()
            at += message[at] + 2
        else:
            raise DirectError(f"systemd sent a header field of type {kind!r}")
    words = ""
    if message[1] == _ERROR:
        words = str(fields.get(_ERROR_NAME, "an error without a name"))
        if str(fields.get(_SIGNATURE, "")).startswith("s"):
            words = _take_string(message, order, start)[0]
    return Reply(int(fields.get(_REPLY_SERIAL, 0)), words)


def _take_string(message: bytes, order: str, at: int) -> tuple[str, int]:
    at += -at % 4
    (size,) = struct.unpack_from(f"{order}I", message, at)
    return message[at + 4 : at + 4 + size].decode("utf-8", "replace"), at + 5 + size


# -- the two ways --------------------------------------------------------------------------------------------------


class Jobs:
    """Units started or stopped by messages to systemd; it says when each job is queued, not when it is done.

    Args:
        member: ``StartUnit`` or ``StopUnit``.
        units: their names, at most `MOST`.
        path: systemd's socket.

    Raises:
        DirectError: nobody listens there.
    """

    def __init__(self, member: str, units: Iterable[str], path: str = PRIVATE) -> None:
        self._calls = dict(enumerate(units, 1))
        self._message = b"".join(
            call_message(serial, member, (name, "replace")) for serial, name in self._calls.items()
        )
        self._asked = False
        self._buffer = bytearray()
        self._errors: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        try:
            self._socket.connect(path)
            user = str(os.geteuid()).encode().hex()
            # BEGIN goes ahead: what follows it in one piece systemd leaves lying until more comes
            self._send(f"\0AUTH EXTERNAL {user}\r\nBEGIN\r\n".encode())
            self._greeted()
        except (OSError, DirectError) as error:
            self._socket.close()
            raise DirectError(f"{path}: {getattr(error, 'strerror', None) or error}") from error

    def _greeted(self) -> None:
        """Wait for it a moment, so that the calls are on their way before anybody does other work."""
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        if poller.poll(_GREETING):
            self._buffer += self._socket.recv(4096)
            self._take()

    @property
    def handle(self) -> int:
        """A descriptor that can be read from when there is something to take in."""
        return self._socket.fileno()

    def poll(self) -> Outcome | None:
        """What came of it, None while that is open. Raises DirectError."""
        try:
            while self._calls and (data := self._socket.recv(65536)):
                self._buffer += data
                self._take()
            if self._calls:
                raise DirectError("systemd closed the connection")
        except BlockingIOError:
            return None
        except OSError as error:
            raise DirectError(f"systemd's socket: {error.strerror}") from error
        return Outcome(1 if self._errors else 0, "; ".join(self._errors))

    def _take(self) -> None:
        if not self._asked:
            line, end, _rest = bytes(self._buffer).partition(b"\r\n")
            if not end:
                return
            if not line.startswith(b"OK "):
                raise DirectError(f"systemd refused: {line[:80].decode('ascii', 'replace')}")
            del self._buffer[: len(line) + 2]
            self._asked = True
            self._send(self._message)
        for reply in take_replies(self._buffer):
            name = self._calls.pop(reply.serial, None)
            if reply.error and name is not None:
                self._errors.append(f"{name}: {reply.error}")

    def _send(self, data: bytes) -> None:
        """All of it, or nothing that counts."""
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        if sent != len(data):
            raise DirectError("systemd does not take in what it is asked for")

    def close(self) -> None:
        """Give up, or be done."""
        self._socket.close()


class Systemctl:
    """A systemctl under way. Raises OSError."""

    def __init__(self, program: str, arguments: Sequence[str]) -> None:
        self._output = os.memfd_create("systemctl", os.MFD_CLOEXEC)
        #: ends with the process, which alone has its other end; a pidfd needs Linux 5.3
        self.handle, others = os.pipe2(os.O_CLOEXEC)
        try:
            # in the launcher there is no AnsibleModule
            self._process = subprocess.Popen(  # pylint: disable=unknown-option-value,ansible-bad-function
                [program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                close_fds=True,
                pass_fds=(others,),
            )
        except OSError:
            os.close(self._output)
            os.close(self.handle)
            raise
        finally:
            os.close(others)

    def poll(self) -> Outcome | None:
        """What came of it, None while that is open."""
        poller = select.poll()
        poller.register(self.handle, select.POLLIN)
        if not poller.poll(0):
            return None
        code = self._process.wait()
        size = os.fstat(self._output).st_size
        text = os.pread(self._output, min(size, _OUTPUT_LIMIT), 0).decode("utf-8", "replace")
        return Outcome(code, text)

    def close(self) -> None:
        """Give up, or be done."""
        if self._process.returncode is None:
            self._process.kill()
            self._process.wait()
        os.close(self.handle)
        os.close(self._output)
