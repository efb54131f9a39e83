# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The session over a character device: a terminal in raw mode, its other end passed on to a real xenstored.

It stands in for /dev/xen/xenbus: opened, polled, read and written with the same calls, and like the device it
takes a message only whole and alone in a write. Unlike the device it reports that it can be written to.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
import time
import tty
from collections.abc import Iterator
from functools import partial

import pytest
from ansible_collections.xen.virtio.plugins.module_utils import _channel, _wire
from ansible_collections.xen.virtio.plugins.module_utils import _store as s
from lab import LabHost

BOUND = 20.0  # seconds; far above every limit that is to run out here
WIRES = {"own": _wire.OWN, "pyxs": _wire.PYXS}


class Device:
    """A terminal whose other end is xenstored, or, while ``muted``, nobody."""

    def __init__(self, upstream: str) -> None:
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.path = os.ttyname(self._slave)
        self.muted = False
        self._store = socket.socket(socket.AF_UNIX)
        self._store.connect(upstream)
        self._stop, self._stopped = os.pipe()
        self._thread = threading.Thread(target=self._forward, daemon=True)
        self._thread.start()

    def _forward(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                ready, _unused, _unused = select.select(
                    [self._master, self._store.fileno(), self._stop], [], []
                )
                if self._stop in ready:
                    return
                if self._master in ready:
                    self._store.sendall(os.read(self._master, 4096))
                if self._store.fileno() in ready:
                    data = self._store.recv(4096)
                    if not data:
                        return
                    while data and not self.muted:
                        data = data[os.write(self._master, data) :]

    def close(self) -> None:
        os.close(self._stopped)
        self._thread.join()
        self._store.close()
        for fd in (self._master, self._slave, self._stop):
            os.close(fd)


@pytest.fixture
def device(lab_any: LabHost) -> Iterator[Device]:
    made = Device(lab_any.socket)
    yield made
    made.close()


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every write(2) of the session, as long as it was taken."""
    found: list[bytes] = []
    real = os.write

    class Recording:
        """``os``, with a write that is written down."""

        def __getattr__(self, name: str) -> object:
            return getattr(os, name)

        @staticmethod
        def write(fd: int, data: bytes) -> int:
            count = real(fd, data)
            found.append(bytes(data[:count]))
            return count

    monkeypatch.setattr(_channel, "os", Recording())
    return found


@pytest.fixture(params=list(WIRES))
def store(request: pytest.FixtureRequest, device: Device) -> Iterator[s.Store]:
    with s.Store(device.path, timeout=BOUND, wire=WIRES[request.param]) as session:
        yield session


def submit(requests: list[s.Request], tx: s.Transaction) -> None:
    tx.submit(requests)


def test_one_write_a_message(writes: list[bytes], store: s.Store) -> None:
    store.transaction(partial(submit, [s.write(f"/t/{i}", bytes(range(256))) for i in range(20)]))
    assert len(writes) == 22
    for message in writes:
        _op, _rid, _tx, size = struct.unpack_from("=IIII", message)
        assert len(message) == 16 + size
    assert store.read("/t/7") == bytes(range(256))
    assert len(store.read_trees(["/t"], perms=True)) == 21


def test_more_than_the_device_takes_at_once(store: s.Store) -> None:
    """Answers are taken in whenever there is no room to write."""
    value = b"x" * 2000
    answers = store.call([s.write("/t/a", value)] * 200 + [s.read("/t/a")] * 400)
    assert answers == [b"OK\0"] * 200 + [value] * 400


def test_a_device_that_is_never_reported_writable(monkeypatch: pytest.MonkeyPatch, store: s.Store) -> None:
    """/dev/xen/xenbus reports only that it can be read."""
    real = select.poll

    class ReadOnlyPoll:
        def __init__(self) -> None:
            self._poll = real()

        def register(self, fd: int, events: int) -> None:
            self._poll.register(fd, events & ~select.POLLOUT)

        def poll(self, timeout: float) -> list[tuple[int, int]]:
            return self._poll.poll(timeout)

    monkeypatch.setattr(select, "poll", ReadOnlyPoll)
    assert store.call([s.write("/t/a", b"x" * 2000)] * 100) == [b"OK\0"] * 100


def test_a_message_beyond_the_devices_buffer(store: s.Store) -> None:
    """The driver's buffer of 4096 bytes holds the header too."""
    with pytest.raises(
        s.StoreError, match="WRITE /t: the message would have 4096 bytes, the device takes 4080"
    ):
        store.write("/t", b"x" * 4093)
    assert store.is_open
    assert store.read("/") == b""


def test_watches(store: s.Store) -> None:
    store.watch("/t", "mine")
    assert store.wait_event(5) == ("/t", "mine")
    assert store.wait_event(0.05) is None
    store.write("/t/a", b"")
    assert store.wait_event(5) == ("/t/a", "mine")


@pytest.mark.parametrize("count", [1, 500])
def test_silence(device: Device, store: s.Store, count: int) -> None:
    device.muted = True
    store._channel.timeout = 0.2
    began = time.monotonic()
    with pytest.raises(s.StoreTimeout, match=r"within 0.2 s"):
        store.call([s.read("/")] * count)
    assert time.monotonic() - began < BOUND
    with pytest.raises(s.StoreLost, match="the connection is gone"):
        store.read("/")


def test_killed(lab_any: LabHost, store: s.Store) -> None:
    """The device stays when xenstored is gone, as it does in a domain; nothing is answered."""
    store._channel.timeout = 0.2
    lab_any.xenstored.kill()
    began = time.monotonic()
    with pytest.raises((s.StoreTimeout, s.StoreLost)):
        store.read("/")
    assert time.monotonic() - began < BOUND
