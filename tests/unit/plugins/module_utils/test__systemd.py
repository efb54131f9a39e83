# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages to systemd, against another implementation of D-Bus (jeepney); the real systemd is in tests/system."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._systemd import (
    DirectError,
    Jobs,
    Outcome,
    Reply,
    Systemctl,
    call_message,
    take_replies,
)
from hypothesis import given
from hypothesis import strategies as st
from jeepney import (
    DBusAddress,
    MessageType,
    Parser,
    new_error,
    new_method_call,
    new_method_return,
    new_signal,
)
from jeepney.low_level import Endianness, Message

BOUND = 20.0  # seconds, only to end a test that would hang
MANAGER = DBusAddress(
    "/org/freedesktop/systemd1", "org.freedesktop.systemd1", "org.freedesktop.systemd1.Manager"
)
A, B = "virtio-disk@5-51712.service", "virtio-disk@6-51712.service"


def asked(data: bytes) -> list[Message]:
    parser = Parser()
    return list(parser.feed(data))


@given(
    st.integers(1, 2**32 - 1),
    st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8")), max_size=4),
)
def test_a_call(serial: int, arguments: list[str]) -> None:
    (message,) = asked(call_message(serial, "StartUnit", arguments))
    wanted = new_method_call(MANAGER, "StartUnit", "s" * len(arguments), tuple(arguments))
    wanted.header.fields = {code: value for code, value in wanted.header.fields.items() if value != ""}
    found = {code: value for code, value in message.header.fields.items() if value != ""}
    assert (message.header.serial, found) == (serial, wanted.header.fields)
    assert message.body == tuple(arguments)


def answers(
    serial: int = 1, endianness: Endianness = Endianness.little
) -> dict[str, tuple[bytes, list[Reply]]]:
    """Messages of systemd by what they are, and the replies among them."""
    call = new_method_call(MANAGER, "StartUnit", "ss", (A, "replace"))
    call.header.serial = serial
    made = {
        "return": (new_method_return(call, "o", ("/org/freedesktop/systemd1/job/1",)), [Reply(serial, "")]),
        "error": (
            new_error(call, "org.x.NoSuchUnit", "s", ("Unit not found.",)),
            [Reply(serial, "Unit not found.")],
        ),
        "error without words": (new_error(call, "org.x.NoSuchUnit"), [Reply(serial, "org.x.NoSuchUnit")]),
        "signal": (new_signal(MANAGER, "JobNew", "uos", (1, "/a", A)), []),
    }
    found = {}
    for name, (message, replies) in made.items():
        message.header.endianness = endianness
        found[name] = (message.serialise(serial=7), replies)
    return found


@pytest.mark.parametrize("endianness", Endianness)
@pytest.mark.parametrize("name", answers())
def test_what_comes_back(name: str, endianness: Endianness) -> None:
    data, replies = answers(3, endianness)[name]
    for size in range(len(data)):
        buffer = bytearray(data[:size])
        assert take_replies(buffer) == []
        assert buffer == data[:size]
    buffer = bytearray(data + data + data[:5])
    assert take_replies(buffer) == replies * 2
    assert buffer == data[:5]


@given(st.binary(max_size=200), st.sampled_from(sorted(answers())), st.integers(0, 200))
def test_whatever_comes_back_ends_well(noise: bytes, name: str, where: int) -> None:
    data = answers()[name][0]
    with contextlib.suppress(DirectError):
        take_replies(bytearray(data[:where] + noise + data[where:]))


class Systemd:
    """A socket that is spoken to as systemd's is, and what it was asked; each test says what it answers."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.calls: list[Message] = []
        self.greeting = b""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self._threads: list[threading.Thread] = []

    def serve(self, *answers: Callable[[socket.socket], None]) -> None:
        thread = threading.Thread(target=self._serve, args=(answers,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self, answers: tuple[Callable[[socket.socket], None], ...]) -> None:
        peer, _unused = self._listener.accept()
        with peer:
            self.greeting = peer.recv(65536)
            for answer in answers:
                answer(peer)
            peer.settimeout(BOUND)
            peer.recv(1)  # until it is closed

    def hear(self, count: int) -> Callable[[socket.socket], None]:
        """Wait until so many calls have come."""

        def heard(peer: socket.socket) -> None:
            data = b""
            while len(self.calls) < count:
                data += peer.recv(65536)
                self.calls = asked(data)

        return heard

    def close(self) -> None:
        self._listener.close()
        for thread in self._threads:
            thread.join(BOUND)


def says(*parts: bytes) -> Callable[[socket.socket], None]:
    def said(peer: socket.socket) -> None:
        for part in parts:
            peer.sendall(part)

    return said


def hangs_up(peer: socket.socket) -> None:
    peer.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    made = Systemd(tmp_path / "private")
    yield made
    made.close()


def outcome(call: Jobs | Systemctl) -> Outcome:
    deadline = time.monotonic() + BOUND
    try:
        while time.monotonic() < deadline:
            found = call.poll()
            if found is not None:
                return found
            time.sleep(0.005)
    finally:
        call.close()
    raise AssertionError("it said nothing")


OK = b"OK 0123456789abcdef0123456789abcdef\r\n"


def reply(serial: int, name: str = "return") -> bytes:
    return answers(serial)[name][0]


def test_jobs_are_queued(systemd: Systemd) -> None:
    """The word that all is well, signals and answers come in any parts and order."""
    first, second = reply(1), reply(2)
    systemd.serve(
        says(OK[:7]), says(OK[7:]), systemd.hear(2), says(reply(9, "signal") + second[:9], second[9:] + first)
    )
    assert outcome(Jobs("StartUnit", [A, B], systemd.path)) == (0, "")
    assert (
        systemd.greeting == b"\0AUTH EXTERNAL " + str(os.geteuid()).encode().hex().encode() + b"\r\nBEGIN\r\n"
    )
    assert [(call.header.message_type, call.body) for call in systemd.calls] == [
        (MessageType.method_call, (name, "replace")) for name in (A, B)
    ]


def test_a_job_that_is_refused(systemd: Systemd) -> None:
    systemd.serve(says(OK), systemd.hear(2), says(reply(1), reply(2, "error")))
    assert outcome(Jobs("StopUnit", [A, B], systemd.path)) == (1, f"{B}: Unit not found.")


REFUSALS = [
    ((says(b"REJECTED EXTERNAL\r\n"),), "refused: REJECTED EXTERNAL"),
    ((hangs_up,), "closed the connection"),
    ((says(OK), hangs_up), "closed the connection|Broken pipe|reset by peer"),
    ((says(OK + b"x" * 16),), "no message of D-Bus"),
    ((says(OK + b"l\4\1\1" + b"\xff" * 12),), "a message of [0-9]+ bytes"),
]


@pytest.mark.parametrize(("answers", "words"), REFUSALS)
def test_systemd_that_cannot_be_asked(
    systemd: Systemd, answers: tuple[Callable[..., None], ...], words: str
) -> None:
    systemd.serve(*answers)
    with pytest.raises(DirectError, match=words):
        outcome(Jobs("StartUnit", [A], systemd.path))


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(DirectError, match="No such file"):
        Jobs("StartUnit", [A], str(tmp_path / "private"))


def test_one_that_says_nothing(systemd: Systemd) -> None:
    systemd.serve()
    call = Jobs("StartUnit", [A], systemd.path)
    assert call.poll() is None
    call.close()


@pytest.mark.parametrize(
    ("script", "expected"), [("echo a; echo b >&2; exit 3", (3, "a\nb\n")), ("exit 0", (0, ""))]
)
def test_systemctl(script: str, expected: tuple[int, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open")  # as before Linux 5.3
    assert outcome(Systemctl("sh", ["-c", script])) == expected


def test_a_systemctl_that_takes_too_long() -> None:
    call = Systemctl("sleep", ["1000"])
    assert call.poll() is None
    call.close()
