# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The view between a daemon and a store that does all that stores do not do."""

from __future__ import annotations

import ast
import contextlib
import fcntl
import json
import os
import queue
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.xen.virtio.plugins.module_utils import _view as v
from hypothesis import given
from hypothesis import strategies as st

SOURCE = Path(v.__file__)
BOUND = 20.0  # seconds, only to end a test that would hang
DISK = v.Disk(5, 51712, 2)
BACKEND = b"backend/virtio_disk/5/51712"
FRONTEND = b"/local/domain/5/device/virtio_disk/51712"
LISTING = b"backend/virtio_disk"
STATE = BACKEND + b"/state"


# ---- messages ----

MESSAGES = [
    (v.READ, 1, 0, b"a\0"),
    (v.WATCH_EVENT, 0, 0, b""),
    (v.WRITE, 0xFFFFFFFF, 7, bytes(range(256)) * 16),
]


@given(cuts=st.lists(st.integers(0, 4500), max_size=12))
def test_messages_in_whatever_pieces(cuts: list[int]) -> None:
    stream = b"".join(v.pack(*message) for message in MESSAGES)
    framer, found, before = v.Framer(v.PAYLOAD_MAX), [], 0
    for cut in [*sorted(cuts), len(stream)]:
        found += framer.feed(stream[before:cut])
        before = max(before, cut)
    assert found == MESSAGES


@pytest.mark.parametrize("size", [4097, 5000, 100_000])
@pytest.mark.parametrize("chunk", [1, 16, 17, 4096, 200_000])
def test_an_oversized_message_is_skipped(size: int, chunk: int) -> None:
    stream = v.pack(v.WRITE, 1, 2, b"x" * size) + v.pack(*MESSAGES[0])
    framer, found = v.Framer(v.PAYLOAD_MAX), []
    for start in range(0, len(stream), chunk):
        found += framer.feed(stream[start : start + chunk])
    assert found == [(v.WRITE, 1, 2, None), MESSAGES[0]]


# ---- paths ----


@pytest.mark.parametrize(
    ("path", "foreign", "part", "may_end"),
    [
        (LISTING, False, False, True),
        (b"backend", False, False, True),
        (b"/local/domain/2/backend/virtio_disk", False, False, True),
        (b"backend/virtio_disk/5", False, False, True),
        (b"backend/virtio_disk/5/51728", False, False, False),
        (b"backend/virtio_disk/5/51728/state", False, False, False),
        (b"backend/virtio_disk/5/517120", False, False, False),
        (BACKEND, False, True, True),
        (STATE, False, True, True),
        (b"/local/domain/2/" + STATE, False, True, True),
        (b"/local/domain/3/" + STATE, False, False, False),
        (b"backend/virtio_disk/55", True, False, False),
        (b"backend/virtio_disk/4/51712/state", True, False, False),
        (b"/local/domain/2/backend/virtio_disk/4/51712", True, False, False),
        (FRONTEND, False, True, True),
        (FRONTEND + b"/state", False, True, True),
        (b"/local/domain/5", False, False, True),
        (b"/local/domain/5/device/virtio_disk/51728", False, False, False),
        (b"backend/vbd/4/1", False, False, False),
        (b"domid", False, False, False),
    ],
)
def test_whose_a_path_is(path: bytes, foreign: bool, part: bool, may_end: bool) -> None:
    assert (DISK.is_foreign(path), DISK.is_part(path), DISK.may_end(path)) == (foreign, part, may_end)


@pytest.mark.parametrize(
    ("names", "left"),
    [(b"", b""), (b"5\0", b"5\0"), (b"4\x005\x006\0", b"5\0"), (b"4\x0055\0", b""), (b"51712\0", b"")],
)
def test_a_listing_has_one_guest_or_none(names: bytes, left: bytes) -> None:
    assert DISK.only(names) == left


@pytest.mark.parametrize(
    ("name", "offset", "part"),
    [
        (b"5", b"0", b"0\x005\0\0"),
        (b"5", b"2", b"0\0\0"),
        (b"5", b"99", b"0\0\0"),
        (b"5", b"", b"0\x005\0\0"),
        (b"5", b"x", b"0\x005\0\0"),
        (b"", b"0", b"0\0\0"),
    ],
)
def test_part_of_a_listing(name: bytes, offset: bytes, part: bytes) -> None:
    assert v.listing_part(name, offset) == part


# ---- settings ----

GIVEN = {"DAEMON": "/usr/bin/virtio-disk"}


@pytest.mark.parametrize(
    "name",
    [
        *["", "5", "5-", "-51712", "5-51712-1", "0-51712", "32752-51712", "5-2147483648", "05-51712"],
        *["5-+1", "5-1 ", "5-²", "../5-1", "5-x", "5--1", "99999999999-1"],
    ],
)
def test_a_unit_of_no_disk(name: str) -> None:
    with pytest.raises(v.RefusalError) as refused:
        v.Settings(["view", name], GIVEN)
    assert refused.value.code == v.USAGE


@pytest.mark.parametrize("argv", [["view"], ["view", "5-51712", "-l"], []])
def test_too_few_arguments_or_too_many(argv: list[str]) -> None:
    with pytest.raises(v.RefusalError, match="usage"):
        v.Settings(argv, GIVEN)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({}, "DAEMON='' is not the absolute path"),
        ({"DAEMON": "virtio-disk"}, "DAEMON='virtio-disk'"),
        ({**GIVEN, "ARGUMENTS": "-l -d 51728"}, "the only argument there is"),
        ({**GIVEN, "ARGUMENTS": "-d"}, "the only argument there is"),
    ],
)
def test_an_environment_that_gives_no_command(given: dict[str, str], why: str) -> None:
    with pytest.raises(v.RefusalError, match=why) as refused:
        v.Settings(["view", "5-51712"], given)
    assert refused.value.code == v.USAGE


@pytest.mark.parametrize(
    ("given", "command", "through"),
    [
        ({}, ["/usr/bin/virtio-disk", "-d", "51712"], True),
        ({"ARGUMENTS": "-l", "VIEW": "1"}, ["/usr/bin/virtio-disk", "-d", "51712", "-l"], True),
        ({"VIEW": "0", "TARGET": "-x; /a b"}, ["/usr/bin/virtio-disk", "-d", "51712"], False),
    ],
)
def test_the_command(given: dict[str, str], command: list[str], through: bool) -> None:
    settings = v.Settings(["view", "5-51712"], {**GIVEN, **given, "LANG": "C", "NOTIFY_SOCKET": "/n"})
    assert (settings.command, settings.through) == (command, through)
    assert settings.environ == {"LANG": "C"}
    assert settings.path("lock") == "/run/virtio-disk/5-51712.lock"


def test_the_facts() -> None:
    given = {"TARGET": "/dev/a b", "MODE": "w", "IDENTITY": "dev 8:1", "SIZE": "4096", "VERSION": "2.0"}
    assert v.Settings(["view", "5-51712"], {**GIVEN, **given}).facts == {
        "domid": 5,
        "devid": 51712,
        "target": "/dev/a b",
        "mode": "w",
        "identity": ["dev", "8:1"],
        "daemon": "/usr/bin/virtio-disk",
        "version": "2.0",
        "view": True,
        "size": 4096,
    }
    assert v.Settings(["view", "5-51712"], {**GIVEN, "VIEW": "0"}).facts["view"] is False
    assert v.Settings(["view", "5-51712"], {**GIVEN, "SIZE": "4 GB"}).facts["size"] is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=9,
)


@given(value=json_values)
def test_json(value: object) -> None:
    text = v.as_json(value)
    assert json.loads(text) == value
    assert text.isascii()
    assert text.isprintable()


def test_json_of_a_name_that_is_no_text() -> None:
    assert json.loads(v.as_json(os.fsdecode(b"/dev/\xff"))) == os.fsdecode(b"/dev/\xff")


def test_nothing_but_small_parts_of_the_standard_library() -> None:
    imported = {
        name.name
        for node in ast.walk(ast.parse(SOURCE.read_text()))
        if isinstance(node, ast.Import)
        for name in node.names
    }
    assert imported - {"errno", "fcntl", "os", "select", "stat", "struct", "sys", "time"} == {
        "_signal",
        "_socket",
        "signal",  # for mypy alone
    }


# ---- between a daemon and a store ----


class End:
    """One end of a connection, spoken to in messages."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.socket.settimeout(BOUND)
        self._framer = v.Framer(v.ANSWER_MAX)
        self._inbox: list[tuple[int, int, int, bytes | None]] = []

    def give(self, kind: int, rid: int, payload: bytes, tx: int = 0) -> None:
        self.socket.sendall(v.pack(kind, rid, tx, payload))

    def take(self) -> tuple[int, int, int, bytes]:
        while not self._inbox:
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionResetError
            self._inbox += self._framer.feed(data)
        kind, rid, tx, payload = self._inbox.pop(0)
        assert payload is not None
        return kind, rid, tx, payload

    def close(self) -> None:
        self.socket.close()


class Store(End):
    """The store's end; it answers what comes with what a test says."""

    def expect(self, kind: int, payload: bytes, answer: bytes, tx: int = 0) -> int:
        """The next request is this one; ``answer`` beginning with ``!`` is an error. Its request id."""
        got, rid, got_tx, got_payload = self.take()
        assert (got, got_payload, got_tx) == (kind, payload, tx)
        self.answer(kind, rid, answer, tx)
        return rid

    def answer(self, kind: int, rid: int, answer: bytes, tx: int = 0) -> None:
        if answer.startswith(b"!"):
            self.give(v.ERROR, rid, answer[1:] + b"\0", tx)
        else:
            self.give(kind, rid, answer, tx)

    def event(self, path: bytes, token: bytes) -> None:
        self.give(v.WATCH_EVENT, 0, path + b"\0" + token + b"\0")


class Bench:
    """A relay that runs, a place for stores, and daemons' connections."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "store")
        self._door = str(folder / "door")
        self.said: list[str] = []
        self.done: list[str] = []
        self._listener: socket.socket | None = None
        self.accept_from_now_on()
        self.loop = v.Loop()
        self.relay = v.Relay(self.loop, DISK, [self.path], self.done.append, self.said.append)
        self.relay.listen(self._door)
        self._calls: list[Callable[[], None]] = []
        self._heard, self._woken = os.pipe()
        self._stopped = False
        self.loop.attend(self._heard, 1, self._called)
        self._ends: list[End] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped:
            self.loop.turn()
        self.relay.close()

    def _called(self, _mask: int) -> None:
        os.read(self._heard, 1)
        self._calls.pop(0)()

    def call(self, what: Callable[[], None]) -> None:
        """In the relay's own thread."""
        self._calls.append(what)
        os.write(self._woken, b"!")

    def links(self) -> list[v.Link]:
        """The relay's connections, as they are between two turns of its loop."""
        found: queue.SimpleQueue[list[v.Link]] = queue.SimpleQueue()
        self.call(lambda: found.put(list(self.relay.links)))
        return found.get(timeout=BOUND)

    def accept_from_now_on(self) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.settimeout(BOUND)
        self._listener.bind(self.path)
        self._listener.listen(8)

    def accept_no_more(self) -> None:
        assert self._listener is not None
        self._listener.close()
        os.unlink(self.path)

    def daemon(self) -> End:
        """A new connection of the daemon's."""
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(self._door)
        end = End(sock)
        self._ends.append(end)
        return end

    def store(self) -> Store:
        """The next connection that the relay opens."""
        assert self._listener is not None
        store = Store(self._listener.accept()[0])
        self._ends.append(store)
        return store

    def close(self) -> None:
        def stop() -> None:
            self._stopped = True

        self.call(stop)
        self._thread.join(BOUND)
        for end in self._ends:
            end.close()
        if self._listener is not None:
            self._listener.close()
        for fd in (self._heard, self._woken):
            os.close(fd)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(v, "SILENCE", 0.05)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


@pytest.fixture
def pair(bench: Bench) -> tuple[End, Store]:
    """A daemon's connection and its own one to the store."""
    daemon = bench.daemon()
    return daemon, bench.store()


@pytest.fixture
def serving(pair: tuple[End, Store]) -> tuple[End, Store]:
    """The same of a daemon that serves: it read its states, and watches both directories."""
    daemon, store = pair
    for path, value in ((STATE, b"2"), (FRONTEND + b"/state", b"1")):
        daemon.give(v.READ, 0, path + b"\0")
        store.expect(v.READ, path + b"\0", value)
        daemon.take()
    for path in (BACKEND, FRONTEND):
        daemon.give(v.WATCH, 0, path + b"\0" + path + b"\0")
        store.expect(v.WATCH, path + b"\0" + path + b"\0", v.OK)
        daemon.take()
    return daemon, store


def until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + BOUND
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.005)
    return True


def back_again(store: Store, states: tuple[bytes, bytes] = (b"2", b"1")) -> None:
    """What a store is asked first by the view of a disk that is served."""
    store.expect(v.READ, STATE + b"\0", states[0])
    store.expect(v.READ, FRONTEND + b"/state\0", states[1])
    for path in (BACKEND, FRONTEND):
        store.expect(v.WATCH, path + b"\0" + path + b"\0", v.OK)


@pytest.mark.parametrize(
    ("kind", "payload", "answer"),
    [
        (v.READ, b"domid\0", b"2"),
        (v.READ, b"nothing\0", b"!ENOENT"),
        (v.WRITE, STATE + b"\x002", v.OK),
        (v.DIRECTORY, b"backend/virtio_disk/5\0", b"51712\x0051728\0"),
        (v.DIRECTORY, b"backend/virtio_disk/4\0", b"51712\0"),
        (v.DIRECTORY, b"/local/domain/3/backend/virtio_disk\0", b"1\x002\0"),
        (v.READ, b"backend/virtio_disk\0", b""),
        (99, b"what xenstored does not know\0", b"!ENOSYS"),
        (v.DIRECTORY_PART, b"/tool\x000\0", b"7\0xenstored\0\0"),
        (v.WRITE, b"a\0" + b"x" * 4094, v.OK),
        (v.READ, b"", b"!EINVAL"),
    ],
)
@pytest.mark.parametrize("tx", [0, 9])
def test_passed_on_as_it_is(
    pair: tuple[End, Store], kind: int, payload: bytes, answer: bytes, tx: int
) -> None:
    daemon, store = pair
    daemon.give(kind, 77, payload, tx)
    store.expect(kind, payload, answer, tx)
    if answer.startswith(b"!"):
        assert daemon.take() == (v.ERROR, 77, tx, answer[1:] + b"\0")
    else:
        assert daemon.take() == (kind, 77, tx, answer)


@pytest.mark.parametrize("path", [LISTING, b"/local/domain/2/backend/virtio_disk"])
@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        (b"4\x005\x0016\0", b"5\0"),
        (b"4\x0016\0", b""),
        (b"", b""),
        (b"".join(b"%d\0" % n for n in range(20000)), b"5\0"),
    ],
    ids=["three", "others", "empty", "as long as oxenstored has it"],
)
@pytest.mark.parametrize("tx", [0, 9])
def test_its_guest_is_the_only_one(
    pair: tuple[End, Store], path: bytes, answer: bytes, seen: bytes, tx: int
) -> None:
    daemon, store = pair
    daemon.give(v.DIRECTORY, 1, path + b"\0", tx)
    store.expect(v.DIRECTORY, path + b"\0", answer, tx)
    assert daemon.take() == (v.DIRECTORY, 1, tx, seen)


@pytest.mark.parametrize("code", [b"!ENOENT", b"!EACCES", b"!EIO"])
def test_a_listing_that_fails(pair: tuple[End, Store], code: bytes) -> None:
    daemon, store = pair
    daemon.give(v.DIRECTORY, 1, LISTING + b"\0")
    store.expect(v.DIRECTORY, LISTING + b"\0", code)
    assert daemon.take() == (v.ERROR, 1, 0, code[1:] + b"\0")


GUEST, EXISTS = b"backend/virtio_disk/5\0", b""


@pytest.mark.parametrize(
    ("kind", "payload", "asked", "answer"),
    [
        (v.DIRECTORY, LISTING + b"\0", [b"!E2BIG", EXISTS], b"5\0"),
        (v.DIRECTORY, LISTING + b"\0", [b"!E2BIG", b"!ENOENT", EXISTS], b""),
        (v.DIRECTORY, LISTING + b"\0", [b"!E2BIG", b"!ENOENT", b"!ENOENT"], b"!ENOENT"),
        (v.DIRECTORY, LISTING + b"\0", [b"!E2BIG", b"!EACCES"], b"5\0"),
        (v.DIRECTORY, LISTING + b"\0", [b"!E2BIG", b"!EIO"], b"!EIO"),
        (v.DIRECTORY_PART, LISTING + b"\x000\0", [EXISTS], b"0\x005\0\0"),
        (v.DIRECTORY_PART, LISTING + b"\x002\0", [EXISTS], b"0\0\0"),
        (v.DIRECTORY_PART, LISTING + b"\x000\0", [b"!ENOENT", EXISTS], b"0\0\0"),
        (v.DIRECTORY_PART, LISTING + b"\x000\0", [b"!ENOENT", b"!ENOENT"], b"!ENOENT"),
    ],
)
@pytest.mark.parametrize("tx", [0, 9])
def test_a_listing_too_large_to_be_had_at_once(
    pair: tuple[End, Store], kind: int, payload: bytes, asked: list[bytes], answer: bytes, tx: int
) -> None:
    daemon, store = pair
    daemon.give(kind, 1, payload, tx)
    questions = [(v.READ, GUEST), (v.READ, LISTING + b"\0")]
    if kind == v.DIRECTORY:
        questions.insert(0, (kind, payload))
    for question, reply in zip(questions, asked):
        store.expect(*question, reply, tx)
    if answer.startswith(b"!"):
        assert daemon.take() == (v.ERROR, 1, tx, answer[1:] + b"\0")
    else:
        assert daemon.take() == (kind, 1, tx, answer)


def test_events(pair: tuple[End, Store]) -> None:
    """Its own, whatever they say; other guests' would only wake it."""
    daemon, store = pair
    others = [b"backend/virtio_disk/4/51712/state", b"/local/domain/2/backend/virtio_disk/44"]
    for path in (LISTING, others[0], STATE, others[1]):
        store.event(path, LISTING)
    store.event(b"@releaseDomain", b"")
    assert [daemon.take()[3] for _number in range(3)] == [
        LISTING + b"\0" + LISTING + b"\0",
        STATE + b"\0" + LISTING + b"\0",
        b"@releaseDomain\0\0",
    ]


def test_many_requests_at_once(pair: tuple[End, Store]) -> None:
    daemon, store = pair
    count, value = 3000, b"x" * 2000

    def send() -> None:
        for number in range(count):
            daemon.give(v.READ, number, b"a\0")

    def answer() -> None:
        for _number in range(count):
            store.expect(v.READ, b"a\0", value)

    threads = [threading.Thread(target=target, daemon=True) for target in (send, answer)]
    for thread in threads:
        thread.start()
    for number in range(count):
        assert daemon.take() == (v.READ, number, 0, value)
    for thread in threads:
        thread.join(BOUND)


def fill(end: End, kind: int, payload: bytes) -> None:
    """Send until nobody takes any more."""
    end.socket.settimeout(0.2)
    with contextlib.suppress(socket.timeout):  # a TimeoutError only since Python 3.10
        while True:
            end.give(kind, 1, payload)
    end.socket.settimeout(BOUND)


def test_a_daemon_that_takes_nothing(bench: Bench) -> None:
    """The store is read no further than the daemon takes."""
    bench.daemon()
    fill(bench.store(), v.WATCH_EVENT, STATE + b"\0" + b"x" * 4000 + b"\0")
    assert len(bench.links()[0]._to_client) < v.OUTPUT_MOST + 2 * v.CHUNK


def test_a_store_that_takes_nothing(bench: Bench) -> None:
    """The daemon is read no further than the store takes."""
    daemon = bench.daemon()
    store = bench.store()
    fill(daemon, v.WRITE, b"a\0" + b"x" * 4000)
    assert len(bench.links()[0].pending) < 2 * v.REQUESTS_MOST
    store.answer(v.WRITE, store.take()[1], v.OK)
    assert daemon.take()[0] == v.WRITE


def test_an_oversized_request_goes_no_further(pair: tuple[End, Store]) -> None:
    """xenstored would end the connection for it."""
    daemon, store = pair
    daemon.give(v.WRITE, 8, b"a\0" + b"x" * 4095)
    assert daemon.take() == (v.ERROR, 8, 0, b"E2BIG\0")
    daemon.give(v.READ, 9, b"a\0")
    store.expect(v.READ, b"a\0", b"1")
    assert daemon.take() == (v.READ, 9, 0, b"1")


def test_each_connection_has_its_own(bench: Bench) -> None:
    pairs = [(bench.daemon(), bench.store()) for _number in range(3)]
    for number, (daemon, _store) in enumerate(pairs):
        daemon.give(v.READ, 1, b"%d\0" % number)
    for number, (daemon, store) in enumerate(pairs):
        store.expect(v.READ, b"%d\0" % number, b"value of %d" % number)
        assert daemon.take() == (v.READ, 1, 0, b"value of %d" % number)
    pairs[1][0].close()
    with pytest.raises(ConnectionResetError):
        pairs[1][1].take()  # the store shall forget its watches
    assert len(bench.links()) == 2


def test_answers_of_the_device_to_watches_have_no_number(pair: tuple[End, Store]) -> None:
    """drivers/xen/xenbus/xenbus_dev_frontend.c"""
    daemon, store = pair
    daemon.give(v.READ, 5, b"a\0")
    daemon.give(v.WATCH, 6, b"a\0t\0", 3)
    read = store.take()[1]
    store.take()
    store.give(v.WATCH, 0, v.OK)
    assert daemon.take() == (v.WATCH, 6, 3, v.OK)
    store.answer(v.READ, read, b"1")
    assert daemon.take() == (v.READ, 5, 0, b"1")


# ---- a store that is lost ----

Breaks = Callable[[Store], None]
garbage = struct.pack("=IIII", v.READ, 1, 0, 1 << 30)
BREAKS: list[tuple[str, Breaks]] = [
    ("closed", lambda store: store.close()),
    ("an answer that nobody asked for", lambda store: store.give(v.READ, 4711, b"")),
    ("no answer at all", lambda store: store.socket.sendall(garbage)),
]


@pytest.fixture(params=[how for _name, how in BREAKS], ids=[name for name, _how in BREAKS])
def breaks(request: pytest.FixtureRequest) -> Breaks:
    how: Breaks = request.param
    return how


def test_watches_are_set_again(bench: Bench, pair: tuple[End, Store], breaks: Breaks) -> None:
    daemon, store = pair
    watches = [b"backend/virtio_disk\0t\0", b"@releaseDomain\0u\0", b"a\0v\0", b"a\0w\x003\0"]
    for payload in watches:
        daemon.give(v.WATCH, 1, payload)
        store.expect(v.WATCH, payload, v.OK)
        daemon.take()
    for payload, code in ((b"a\0v\0", v.OK), (b"b\0x\0", b"!ENOENT")):
        daemon.give(v.UNWATCH, 1, payload)
        store.expect(v.UNWATCH, payload, code)
        daemon.take()
    breaks(store)
    for _round in range(3):
        store = bench.store()
        for payload in (watches[0], watches[1], watches[3]):
            store.expect(v.WATCH, payload, v.OK)
        store.event(b"@releaseDomain", b"u")
        assert daemon.take() == (v.WATCH_EVENT, 0, 0, b"@releaseDomain\0u\0")
        store.close()


def test_a_watch_that_the_store_refuses_is_asked_for_again(
    bench: Bench, pair: tuple[End, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(v, "AGAIN", 0.01)
    daemon, store = pair
    daemon.give(v.WATCH, 1, b"a\0t\0")
    store.expect(v.WATCH, b"a\0t\0", v.OK)
    daemon.take()
    store.close()
    store = bench.store()
    for answer in (b"!ENOSPC", b"!EQUOTA", v.OK):
        store.expect(v.WATCH, b"a\0t\0", answer)
    daemon.give(v.READ, 3, b"b\0")
    store.expect(v.READ, b"b\0", b"1")
    assert daemon.take() == (v.READ, 3, 0, b"1")


@pytest.mark.parametrize("path", [BACKEND, FRONTEND, LISTING])
def test_a_watch_that_there_is_no_room_for_is_owed(
    bench: Bench, pair: tuple[End, Store], monkeypatch: pytest.MonkeyPatch, path: bytes
) -> None:
    """The daemon would give its disk up."""
    monkeypatch.setattr(v, "AGAIN", 0.01)
    daemon, store = pair
    payload = path + b"\0t\0"
    daemon.give(v.WATCH, 7, payload)
    store.expect(v.WATCH, payload, b"!EQUOTA")
    assert daemon.take() == (v.WATCH, 7, 0, v.OK)
    assert daemon.take() == (v.WATCH_EVENT, 0, 0, payload)  # as one fires when it is set
    for answer in (b"!EQUOTA", b"!EINVAL", v.OK):
        store.expect(v.WATCH, payload, answer)
    assert any("no room for a watch (EQUOTA)" in line for line in bench.said)
    store.event(path, b"t")
    assert daemon.take() == (v.WATCH_EVENT, 0, 0, payload)


def refuse_until(store: Store, wanted: int, payload: bytes) -> int:
    """There is no room, for whatever comes before this request; the number of this one."""
    while True:
        kind, rid, _tx, told = store.take()
        if (kind, told) == (wanted, payload):
            return rid
        store.answer(kind, rid, b"!ENOSPC")


def test_a_watch_that_is_owed_and_not_wanted_any_more_is_not_asked_for(
    bench: Bench, pair: tuple[End, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(v, "AGAIN", 0.01)
    daemon, store = pair
    payload = BACKEND + b"\0t\0"
    daemon.give(v.WATCH, 1, payload)
    store.expect(v.WATCH, payload, b"!ENOSPC")
    daemon.take(), daemon.take()
    daemon.give(v.UNWATCH, 2, payload)
    unwatch = refuse_until(store, v.UNWATCH, payload)  # it may be asked for once more on the way
    store.answer(v.UNWATCH, unwatch, b"!ENOENT")
    assert daemon.take()[:2] == (v.ERROR, 2)
    daemon.give(v.READ, 3, b"b\0")
    store.expect(v.READ, b"b\0", b"1")


def test_a_watch_that_is_owed_is_not_asked_for_behind_its_end(
    pair: tuple[End, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store would keep it for ever."""
    monkeypatch.setattr(v, "AGAIN", 0.01)
    daemon, store = pair
    owed, going = BACKEND + b"\0t\0", BACKEND + b"\0u\0"
    for number, payload in enumerate((owed, going), 1):
        daemon.give(v.WATCH, number, payload)
        store.answer(v.WATCH, refuse_until(store, v.WATCH, payload), b"!ENOSPC")
        daemon.take(), daemon.take()
    daemon.give(v.UNWATCH, 3, going)
    unwatch = refuse_until(store, v.UNWATCH, going)
    for _again in range(3):  # while it is under way it is long the turn of both
        kind, rid, _tx, payload = store.take()
        assert (kind, payload) == (v.WATCH, owed)
        store.answer(kind, rid, b"!ENOSPC")
    store.answer(v.UNWATCH, unwatch, b"!ENOENT")
    assert daemon.take()[:2] == (v.ERROR, 3)


def test_other_watches_may_be_refused(pair: tuple[End, Store]) -> None:
    daemon, store = pair
    for payload, code in ((b"a\0t\0", b"!EQUOTA"), (BACKEND + b"\0t\0", b"!EEXIST")):
        daemon.give(v.WATCH, 1, payload)
        store.expect(v.WATCH, payload, code)
        assert daemon.take() == (v.ERROR, 1, 0, code[1:] + b"\0")


@pytest.mark.parametrize("when", ["under way", "away"])
@pytest.mark.parametrize(
    ("kind", "payload", "answer", "seen"),
    [
        (v.READ, b"a\0", b"1", b"1"),
        (v.WRITE, b"a\x001", v.OK, v.OK),
        (v.WATCH, b"a\0t\0", v.OK, v.OK),
        (v.DIRECTORY, LISTING + b"\0", b"4\x005\0", b"5\0"),
        (v.TRANSACTION_START, b"\0", b"7\0", b"7\0"),
    ],
)
def test_what_was_asked_is_asked_again(
    bench: Bench, pair: tuple[End, Store], kind: int, payload: bytes, answer: bytes, seen: bytes, when: str
) -> None:
    daemon, store = pair
    if when == "away":
        bench.accept_no_more()
        store.close()
        assert until(lambda: bench.said != [])
        daemon.give(kind, 3, payload)
    else:
        daemon.give(kind, 3, payload)
        store.take()
        bench.accept_no_more()
        store.close()
    bench.accept_from_now_on()
    again = bench.store()
    again.expect(kind, payload, answer)
    assert daemon.take() == (kind, 3, 0, seen)
    assert "away" in bench.said[0]
    assert until(lambda: bench.said[-1] == "the store is back")


@pytest.mark.parametrize(
    ("kind", "payload", "answer"),
    [
        (v.READ, b"a\0", (v.ERROR, b"EIO\0")),
        (v.WRITE, b"a\x001", (v.ERROR, b"EIO\0")),
        (v.TRANSACTION_END, b"T\0", (v.ERROR, b"EAGAIN\0")),
        (v.TRANSACTION_END, b"F\0", (v.TRANSACTION_END, v.OK)),
    ],
)
@pytest.mark.parametrize("when", ["under way", "away", "back"])
def test_transactions_end_with_their_store(
    bench: Bench, pair: tuple[End, Store], kind: int, payload: bytes, answer: tuple[int, bytes], when: str
) -> None:
    daemon, store = pair
    daemon.give(v.TRANSACTION_START, 1, b"\0")
    store.expect(v.TRANSACTION_START, b"\0", b"7\0")
    daemon.take()
    if when == "under way":
        daemon.give(kind, 2, payload, 7)
        store.take()
    if when == "away":
        bench.accept_no_more()
    store.close()
    if when == "away":
        assert until(lambda: bench.said != [])
    if when == "back":
        bench.store()
    if when != "under way":
        daemon.give(kind, 2, payload, 7)
    assert daemon.take() == (answer[0], 2, 7, answer[1])


def test_a_new_transaction_of_an_old_number(bench: Bench, pair: tuple[End, Store]) -> None:
    daemon, store = pair
    for _round in range(2):
        daemon.give(v.TRANSACTION_START, 1, b"\0")
        store.expect(v.TRANSACTION_START, b"\0", b"7\0")
        daemon.take()
        daemon.give(v.READ, 2, b"a\0", 7)
        store.expect(v.READ, b"a\0", b"1", 7)
        assert daemon.take() == (v.READ, 2, 7, b"1")
        store.close()
        store = bench.store()


# ---- a daemon that serves ----


def test_a_state_is_told_while_the_store_is_away(bench: Bench, serving: tuple[End, Store]) -> None:
    """An error, whichever, would end the disk."""
    daemon, store = serving
    daemon.give(v.READ, 4, STATE + b"\0")
    store.take()
    bench.accept_no_more()
    store.close()
    assert daemon.take() == (v.READ, 4, 0, b"2")
    daemon.give(v.READ, 5, FRONTEND + b"/state\0")
    assert daemon.take() == (v.READ, 5, 0, b"1")
    bench.accept_from_now_on()
    again = bench.store()
    back_again(again)
    again.event(BACKEND, BACKEND)
    assert daemon.take() == (v.WATCH_EVENT, 0, 0, BACKEND + b"\0" + BACKEND + b"\0")


@pytest.mark.parametrize(
    "answer", [b"2", b"5", b"!ENOENT"], ids=["nothing new", "another state", "the directory is gone"]
)
@pytest.mark.usefixtures("impatient")
def test_a_store_that_hangs(serving: tuple[End, Store], answer: bytes) -> None:
    """It is told what was read last, and has to look again when the store says something else."""
    daemon, store = serving
    daemon.give(v.READ, 4, STATE + b"\0")
    rid = store.take()[1]
    assert daemon.take() == (v.READ, 4, 0, b"2")
    store.answer(v.READ, rid, answer)
    if answer != b"2":
        for path in (BACKEND, FRONTEND):
            assert daemon.take() == (v.WATCH_EVENT, 0, 0, path + b"\0" + path + b"\0")
    daemon.give(v.READ, 5, b"a\0")
    store.expect(v.READ, b"a\0", b"1")
    assert daemon.take() == (v.READ, 5, 0, b"1")


@pytest.mark.usefixtures("impatient")
def test_what_was_never_read_waits_for_a_store_that_hangs(serving: tuple[End, Store]) -> None:
    daemon, store = serving
    daemon.give(v.READ, 4, BACKEND + b"/params\0")
    daemon.give(v.READ, 5, STATE + b"\0")
    params = store.take()[1]
    store.take()
    assert daemon.take() == (v.READ, 5, 0, b"2")
    store.answer(v.READ, params, b"/dev/a")
    assert daemon.take() == (v.READ, 4, 0, b"/dev/a")


@pytest.mark.parametrize("states", [(b"!ENOENT", b"!ENOENT"), (b"2", b"!ENOENT"), (b"!EACCES", b"1")])
def test_a_store_that_came_back_empty_says_nothing(
    bench: Bench, serving: tuple[End, Store], states: tuple[bytes, bytes]
) -> None:
    daemon, store = serving
    store.close()
    store = bench.store()
    back_again(store, states)
    for path in (BACKEND, FRONTEND):
        store.event(path, path)  # a watch fires when it is set
    for _round in range(2):  # so the view looks again, once more for what came meanwhile
        store.expect(v.READ, STATE + b"\0", states[0])
        store.expect(v.READ, FRONTEND + b"/state\0", states[1])
    daemon.give(v.READ, 3, STATE + b"\0")
    assert daemon.take() == (v.READ, 3, 0, b"2")
    daemon.give(v.WRITE, 4, STATE + b"\x006")
    assert daemon.take() == (v.ERROR, 4, 0, b"ENOENT\0")
    daemon.give(v.READ, 5, b"domid\0")
    store.expect(v.READ, b"domid\0", b"2")
    assert daemon.take() == (v.READ, 5, 0, b"2")
    assert "lost them" in bench.said[-1] or "back" in bench.said[-1]
    store.event(STATE, BACKEND)  # somebody wrote the nodes again
    store.expect(v.READ, STATE + b"\0", b"2")
    store.expect(v.READ, FRONTEND + b"/state\0", b"1")
    for path in (BACKEND, FRONTEND):
        assert daemon.take() == (v.WATCH_EVENT, 0, 0, path + b"\0" + path + b"\0")
    daemon.give(v.READ, 6, STATE + b"\0")
    store.expect(v.READ, STATE + b"\0", b"2")
    assert daemon.take() == (v.READ, 6, 0, b"2")
    assert bench.done == []


@pytest.mark.parametrize("kind", [v.WRITE, v.RM, v.UNWATCH, v.READ])
@pytest.mark.parametrize("hangs", [False, True], ids=["away", "hung"])
def test_nothing_waits_for_the_store_once_the_daemon_is_to_end(
    monkeypatch: pytest.MonkeyPatch, bench: Bench, serving: tuple[End, Store], kind: int, hangs: bool
) -> None:
    monkeypatch.setattr(v, "SILENCE_AT_END", 0.02)
    daemon, store = serving
    if not hangs:
        bench.accept_no_more()
        store.close()
        assert until(lambda: bench.said != [])
    daemon.give(v.WRITE, 1, b"a\x001")
    assert until(lambda: any(link.held or link.pending for link in bench.links()))
    bench.call(bench.relay.end)
    assert daemon.take() == (v.ERROR, 1, 0, b"EIO\0")
    daemon.give(kind, 2, b"b\0t\0")
    assert daemon.take() == (v.ERROR, 2, 0, b"EIO\0")


# ---- a guest that is gone ----


@pytest.mark.parametrize("answer", [v.OK, b"!ENOENT"])
def test_a_daemon_that_removed_its_directory_is_done(
    bench: Bench, serving: tuple[End, Store], answer: bytes
) -> None:
    daemon, store = serving
    for path in (BACKEND + b"/state", b"backend/virtio_disk/5/51728", BACKEND):
        assert bench.done == []
        daemon.give(v.RM, 1, path + b"\0")
        store.expect(v.RM, path + b"\0", answer)
        daemon.take()
    assert until(lambda: bench.done == ["the daemon let go of the disk"])


@pytest.mark.parametrize(("answer", "gone"), [(b"!ENOENT", True), (b"", False), (b"!EACCES", False)])
def test_nodes_that_vanish_under_a_daemon_that_takes_no_note(
    monkeypatch: pytest.MonkeyPatch, bench: Bench, serving: tuple[End, Store], answer: bytes, gone: bool
) -> None:
    monkeypatch.setattr(v, "GONE_CHECK", 0.01)
    daemon, store = serving
    store.event(BACKEND, BACKEND)
    daemon.take()
    store.expect(v.READ, BACKEND + b"\0", answer)
    daemon.give(v.READ, 1, b"a\0")
    store.expect(v.READ, b"a\0", b"1")
    daemon.take()
    assert bench.done == (["the disk's nodes are gone"] if gone else [])


# ---- a device in the store's place ----


class Device:
    """A terminal: opened, polled, read and written as /dev/xen/xenbus is."""

    def __init__(self) -> None:
        self.master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.path = os.ttyname(self._slave)

    def close(self) -> None:
        os.close(self.master)
        os.close(self._slave)


def test_one_write_a_message_on_the_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    writes: list[bytes] = []
    real = os.write
    device = Device()

    class Recording:
        """``os``, with a write that is written down."""

        def __getattr__(self, name: str) -> object:
            return getattr(os, name)

        @staticmethod
        def write(fd: int, data: bytes) -> int:
            with contextlib.suppress(OSError):
                if os.ttyname(fd):
                    writes.append(bytes(data))
            return real(fd, data)

    monkeypatch.setattr(v, "os", Recording())
    loop = v.Loop()
    relay = v.Relay(loop, DISK, [device.path], print, print)
    relay.listen(str(tmp_path / "door"))
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(tmp_path / "door"))
    daemon = End(sock)
    for number in range(3):
        daemon.give(v.READ, number, b"%d\0" % number)
    for number in range(3):  # the next only after the answer, since the driver has one buffer
        while len(writes) <= number:
            loop.turn()
        assert writes[number:] == [v.pack(v.READ, number + 1, 0, b"%d\0" % number)]
        for byte in v.pack(v.READ, number + 1, 0, b"value"):
            real(device.master, bytes([byte]))
            loop.turn()
        assert daemon.take() == (v.READ, number, 0, b"value")
    daemon.close()
    relay.close()
    device.close()


@pytest.mark.parametrize(
    ("number", "code"), [(2, b"ENOENT"), (22, b"EINVAL"), (17, b"EEXIST"), (12, b"ENOMEM")]
)
def test_an_answer_of_the_driver_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int, code: bytes
) -> None:
    """A write to the device fails where the driver, or the store that it asks within, refuses."""
    device = Device()
    loop = v.Loop()
    relay = v.Relay(loop, DISK, [device.path], print, print)
    relay.listen(str(tmp_path / "door"))
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(tmp_path / "door"))
    daemon = End(sock)
    loop.turn()
    real = os.write

    class Refusing:
        def __getattr__(self, name: str) -> object:
            return getattr(os, name)

        @staticmethod
        def write(fd: int, data: bytes) -> int:
            if stat.S_ISCHR(os.fstat(fd).st_mode):
                raise OSError(number, os.strerror(number))
            return real(fd, data)

    monkeypatch.setattr(v, "os", Refusing())
    daemon.give(v.WATCH, 3, b"a\0t\0")
    loop.turn()
    assert daemon.take() == (v.ERROR, 3, 0, code + b"\0")
    daemon.close()
    relay.close()
    device.close()


# ---- a unit's lock ----


class Clock:
    """``time``, in which something happens while one sleeps."""

    def __init__(self, *happens: Callable[[], None]) -> None:
        self._happens = list(happens)

    def __getattr__(self, name: str) -> object:
        return getattr(time, name)

    def sleep(self, _seconds: float) -> None:
        if self._happens:
            self._happens.pop(0)()


@pytest.fixture
def unit(tmp_path: Path) -> Iterator[v.Unit]:
    given = {**GIVEN, "VIRTIO_DISK_RUN": str(tmp_path / "run")}
    made = v.Unit(v.Settings(["view", "5-51712"], given), given)
    yield made
    if made._lock >= 0:
        os.close(made._lock)


def take(path: Path) -> int:
    path.parent.mkdir(exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_SH)
    return handle


def test_who_only_looks_whether_it_lives_is_in_nobodys_way(
    monkeypatch: pytest.MonkeyPatch, unit: v.Unit, tmp_path: Path
) -> None:
    handle = take(tmp_path / "run/5-51712.lock")
    monkeypatch.setattr(v, "time", Clock(lambda: None, lambda: os.close(handle)))
    unit._take_lock()
    assert os.path.samestat(os.fstat(unit._lock), os.stat(tmp_path / "run/5-51712.lock"))


def test_a_lock_that_another_units_end_removes(
    monkeypatch: pytest.MonkeyPatch, unit: v.Unit, tmp_path: Path
) -> None:
    """What is held then is a file that nobody else can find."""
    path = tmp_path / "run/5-51712.lock"
    handle = take(path)
    real = fcntl.flock

    def flock(fd: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", real)
        os.unlink(path)
        os.close(handle)
        real(fd, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    unit._take_lock()
    assert os.path.samestat(os.fstat(unit._lock), os.stat(path))


def test_another_unit_of_the_disk_lives(
    monkeypatch: pytest.MonkeyPatch, unit: v.Unit, tmp_path: Path
) -> None:
    monkeypatch.setattr(v, "LOCK_LIMIT", 0.0)
    handle = take(tmp_path / "run/5-51712.lock")
    with pytest.raises(v.RefusalError, match="a unit of this disk lives") as refused:
        unit._take_lock()
    assert refused.value.code == v.LIVES_ALREADY
    os.close(handle)


@pytest.mark.parametrize("name", ["5-51712.lock", "."])
def test_no_lock_where_somebody_prepared_a_link(unit: v.Unit, tmp_path: Path, name: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    if name == ".":
        (tmp_path / "run").write_text("")
    else:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / name).symlink_to(tmp_path / "elsewhere/file")
    with pytest.raises(v.RefusalError) as refused:
        unit._take_lock()
    assert refused.value.code == v.CANT_CREATE
    assert not list((tmp_path / "elsewhere").iterdir())


# ---- the daemon's end ----


@contextlib.contextmanager
def running(*command: str) -> Iterator[int]:
    """A process, by its id; it ends with the test, well or not."""
    with subprocess.Popen(command) as process:
        try:
            yield process.pid
        finally:
            process.kill()


def test_whether_a_process_is_at_work() -> None:
    with running("sh", "-c", "while :; do :; done") as spins:
        assert until(lambda: v.is_at_work(spins))
    with running("sleep", "600") as sleeps:
        assert until(lambda: not v.is_at_work(sleeps))
    assert not v.is_at_work(sleeps)


def test_a_thread_beside_the_first_one_is_seen_whatever_its_name() -> None:
    program = (
        "import threading, time\n"
        "open('/proc/self/comm', 'w').write('a) S (b')\n"
        "threading.Thread(target=lambda: [0 for _ in iter(int, 1)]).start()\n"
        "time.sleep(600)"
    )
    with running(sys.executable, "-c", program) as spins:
        threads = Path(f"/proc/{spins}/task")
        assert until(lambda: len(list(threads.iterdir())) == 2)
        assert [path.read_text() for path in threads.glob("*/comm")] == ["a) S (b\n"] * 2
        assert until(lambda: v.is_at_work(spins))


def test_what_a_daemon_said_and_nobody_has_read_yet(tmp_path: Path) -> None:
    ours, its = socket.socketpair()
    relay = v.Relay(v.Loop(), DISK, [str(tmp_path / "store")], lambda _why: None, lambda _text: None)
    with ours, its:
        relay.links.append(v.Link(relay, ours.detach()))
        later = relay.heard + 10 * v.QUIET
        assert not relay.is_busy(later)
        its.sendall(b"x")
        assert relay.is_busy(later)
        relay.links[0].close()


@pytest.mark.parametrize(("at_work", "waits"), [(0, 0), (3, 3), (99, v.QUIET_TRIES)])
def test_told_to_end_only_when_it_is_not_in_the_middle_of_something(
    monkeypatch: pytest.MonkeyPatch, unit: v.Unit, tmp_path: Path, at_work: int, waits: int
) -> None:
    """However late the view itself gets a processor: it looks, and does not only wait."""
    looks = [True] * at_work + [False]
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(v, "is_at_work", lambda _pid: looks.pop(0))
    monkeypatch.setattr(os, "kill", lambda *said: told.append(said))
    unit.pid = 4711
    unit.relay = v.Relay(unit.loop, DISK, [str(tmp_path / "store")], lambda _why: None, lambda _text: None)
    unit.relay.taken = True
    unit._end("as a test wants it")
    for _wait in range(waits):
        assert told == []
        assert unit.loop.is_planned(unit._stop_later)
        unit.loop.cancel(unit._stop_later)
        unit._stop_later()
    assert told == [(4711, signal.SIGTERM)]


# ---- as a program ----


def test_as_a_program_it_needs_no_site_and_no_environment() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(SOURCE), "5"], env={}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (v.USAGE, "")
    assert done.stderr.startswith("virtio-disk-view: usage")
