# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The session against peers that do what no real xenstored does (those are in tests/system/test_store.py)."""

from __future__ import annotations

import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from ansible_collections.xen.virtio.plugins.module_utils import _channel, _wire
from ansible_collections.xen.virtio.plugins.module_utils import _store as s
from store_peer import HEADER, Line, peer

BOUND = 10.0  # seconds; far above every limit that is to run out here
OK = b"OK\0"
ERROR, EVENT = 16, 15

pytestmark = pytest.mark.parametrize(
    "wire", [pytest.param(_wire.OWN, id="own"), pytest.param(_wire.PYXS, id="pyxs")]
)


def answer_all(line: Line) -> None:
    """A store in which every value is its path and every write works."""
    while True:
        kind, rid, tx, payload = line.take()
        line.give(kind, rid, payload.rstrip(b"\0") if kind == 2 else b"7\0" if kind == 6 else OK, tx)


def void(_result: object) -> None:
    """For what a lambda shall not return."""


def submit(requests: list[s.Request], tx: s.Transaction) -> str:
    tx.submit(requests)
    return "done"


def expect(error: type[BaseException], act: Callable[[], object], match: str | None = None) -> None:
    began = time.monotonic()
    with pytest.raises(error, match=match):
        act()
    assert time.monotonic() - began < BOUND


# -- order and size --------------------------------------------------------------------------------------


def test_request_ids_wrap(wire: _wire.Wire, tmp_path: Path) -> None:
    with peer(tmp_path, answer_all) as path, s.Store(path, wire=wire) as store:
        store._channel._rid = 0xFFFFFFFD
        for _round in range(3):
            paths = [f"/n{i}" for i in range(5)]
            assert store.call([s.read(p) for p in paths]) == [p.encode() for p in paths]
        assert store._channel._rid == 12


def test_answers_may_overtake_each_other(wire: _wire.Wire, tmp_path: Path) -> None:
    def backwards(line: Line) -> None:
        taken = [line.take() for _round in range(5)]
        for kind, rid, tx, payload in reversed(taken):
            line.give(kind, rid, payload.rstrip(b"\0"), tx)

    with peer(tmp_path, backwards) as path, s.Store(path, wire=wire) as store:
        assert store.call([s.read(f"/{i}") for i in range(5)]) == [f"/{i}".encode() for i in range(5)]


@pytest.mark.parametrize("pieces", [1, 3, 7, 1000])
def test_answers_may_come_in_any_pieces(wire: _wire.Wire, tmp_path: Path, pieces: int) -> None:
    def crumbs(line: Line) -> None:
        taken = [line.take() for _round in range(6)]
        data = HEADER.pack(EVENT, 0, 0, 5) + b"/w\0t\0"
        for kind, rid, tx, payload in taken:
            data += HEADER.pack(kind, rid, tx, len(payload)) + payload
        for start in range(0, len(data), pieces):
            line.socket.sendall(data[start : start + pieces])

    with peer(tmp_path, crumbs) as path, s.Store(path, wire=wire) as store:
        paths = [f"/{'x' * 50}{i}" for i in range(6)]
        assert store.call([s.read(p) for p in paths]) == [p.encode() + b"\0" for p in paths]
        assert store.wait_event(0) == ("/w", "t")


def test_events_between_answers_are_kept(wire: _wire.Wire, tmp_path: Path) -> None:
    def chatty(line: Line) -> None:
        for _round in range(10):
            kind, rid, _tx, payload = line.take()
            line.give(EVENT, 0, b"/w/" + payload + b"token\0")
            line.give(kind, rid, b"")
            line.give(EVENT, 0, b"/w\0token\0")

    with peer(tmp_path, chatty) as path, s.Store(path, wire=wire) as store:
        assert store.call([s.read(f"/{i}") for i in range(10)]) == [b""] * 10
        events = [store.wait_event(5) for _round in range(20)]
        assert events[:4] == [("/w//0", "token"), ("/w", "token"), ("/w//1", "token"), ("/w", "token")]
        with pytest.raises(s.StoreLost):
            store.wait_event(5)  # the script ended


def test_a_batch_beyond_all_buffers_with_a_peer_that_reads_only_what_it_answers(
    wire: _wire.Wire, tmp_path: Path
) -> None:
    """xenstored stops reading while its answers are not taken."""
    requests = [s.write(f"/{i}", b"x" * 4000) for i in range(1000)] + [
        s.read(f"/{i:04000}"[:2000]) for i in range(1000)
    ]

    def shy(line: Line) -> None:
        line.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        for kind, rid, tx, payload in iter(line.take, None):
            line.give(kind, rid, payload.rstrip(b"\0") if kind == 2 else OK, tx)

    with peer(tmp_path, shy) as path, s.Store(path, wire=wire, timeout=BOUND) as store:
        answers = store.call(requests)
        assert answers[:1000] == [OK] * 1000
        assert [len(a) for a in answers[1000:] if isinstance(a, bytes)] == [2000] * 1000


def test_a_directory_of_any_size_in_one_answer(wire: _wire.Wire, tmp_path: Path) -> None:
    names = [f"child-{i:06}" for i in range(50_000)]

    def large(line: Line) -> None:
        kind, rid, _tx, _payload = line.take()
        line.give(kind, rid, "".join(f"{n}\0" for n in names).encode())

    with peer(tmp_path, large) as path, s.Store(path, wire=wire) as store:
        assert store.list("/a") == names


def parts(*pieces: bytes) -> Callable[[Line], None]:
    def script(line: Line) -> None:
        kind, rid, _tx, _payload = line.take()
        line.give(ERROR, rid, b"E2BIG\0")
        for piece in pieces:
            kind, rid, _tx, _payload = line.take()
            line.give(ERROR if piece.startswith(b"E") else kind, rid, piece)

    return script


@pytest.mark.parametrize(
    ("pieces", "names"),
    [
        ([b"1\0a\0b\0\0"], ["a", "b"]),
        ([b"1\0a\0", b"1\0b\0\0"], ["a", "b"]),
        ([b"1\0a\0b\0", b"1\0\0"], ["a", "b"]),
        ([b"1\0\0"], []),
        ([b"1\0a\0", b"2\0zz\0", b"2\0a\0", b"2\0b\0\0"], ["a", "b"]),
        ([b"1\0a\0", b"2\0b\0\0", b"2\0b\0\0"], ["b"]),
        ([b"ENOENT\0"], None),
    ],
    ids=["one", "two", "end alone", "empty", "changed meanwhile", "changed at the end", "gone"],
)
def test_directories_in_parts(
    wire: _wire.Wire, tmp_path: Path, pieces: list[bytes], names: list[str] | None
) -> None:
    with peer(tmp_path, parts(*pieces)) as path, s.Store(path, wire=wire) as store:
        assert store.list("/a") == names


def test_directories_in_parts_are_bounded(wire: _wire.Wire, tmp_path: Path) -> None:
    restless = [b"%d\0a\0" % i for i in range(200)]
    with peer(tmp_path, parts(*restless)) as path, s.Store(path, wire=wire) as store:
        expect(s.StoreConflict, lambda: store.list("/a"), "changed during each")
    (tmp_path / "peer").unlink()
    with peer(tmp_path, parts(b"ENOSYS\0")) as path, s.Store(path, wire=wire) as store:
        expect(s.StoreError, lambda: store.list("/a"), "E2BIG.*unix socket, in dom0")


# -- garbage ---------------------------------------------------------------------------------------------


GARBAGE: dict[str, Callable[[Line, int, int], None]] = {
    "wrong id": lambda line, kind, rid: line.give(kind, rid + 5, OK),
    "earlier id": lambda line, kind, rid: line.give(kind, (rid - 1) & 0xFFFFFFFF, OK),
    "wrong type": lambda line, kind, rid: line.give(kind + 1, rid, OK),
    "unknown type": lambda line, kind, rid: line.give(999, rid, OK),
    "torn event": lambda line, kind, rid: line.give(EVENT, 0, b"torn"),
    "unreadable error": lambda line, kind, rid: line.give(ERROR, rid, b"\xff\xfe"),
    "empty error": lambda line, kind, rid: line.give(ERROR, rid, b""),
    "huge length": lambda line, kind, rid: line.socket.sendall(HEADER.pack(kind, rid, 0, 0x7FFFFFFF)),
    "longest length": lambda line, kind, rid: line.socket.sendall(HEADER.pack(kind, rid, 0, 0xFFFFFFFF)),
    "huge event": lambda line, kind, rid: line.socket.sendall(HEADER.pack(EVENT, 0, 0, 1 << 20)),
    "text": lambda line, kind, rid: line.socket.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 4),
    "zeros": lambda line, kind, rid: line.socket.sendall(bytes(64)),
    "truncated header": lambda line, kind, rid: line.socket.sendall(HEADER.pack(kind, rid, 0, 3)[:9]),
    "truncated payload": lambda line, kind, rid: line.socket.sendall(HEADER.pack(kind, rid, 0, 8) + b"OK"),
    "nothing": lambda line, kind, rid: None,
}
OPERATIONS: dict[str, Callable[[s.Store], object]] = {
    "read": lambda store: store.read("/a"),
    "list": lambda store: store.list("/a"),
    "get_perms": lambda store: store.get_perms("/a"),
    "write": lambda store: store.write("/a", b"1"),
    "mkdir": lambda store: store.mkdir("/a"),
    "rm": lambda store: store.rm("/a"),
    "set_perms": lambda store: store.set_perms("/a", ["n0"]),
    "read_trees": lambda store: store.read_trees(["/a", "/b"], perms=True),
    "call": lambda store: store.call([s.read("/a")] * 20),
    "transaction": lambda store: store.transaction(lambda tx: tx.submit([s.write("/a", b"")] * 20)),
    "watch": lambda store: store.watch("/a", "t"),
    "unwatch": lambda store: store.unwatch("/a", "t"),
}


@pytest.mark.parametrize("act", OPERATIONS.values(), ids=OPERATIONS)
@pytest.mark.parametrize("say", GARBAGE.values(), ids=GARBAGE)
def test_garbage_ends_the_session(
    wire: _wire.Wire, tmp_path: Path, say: Callable[[Line, int, int], None], act: Callable[[s.Store], object]
) -> None:
    def script(line: Line) -> None:  # and then closes in the middle of whatever it began
        kind, rid, _tx, _payload = line.take()
        say(line, kind, rid)

    with peer(tmp_path, script) as path, s.Store(path, wire=wire, timeout=BOUND) as store:
        expect(s.StoreLost, lambda: act(store))
        assert not store.is_open
        expect(s.StoreLost, lambda: store.read("/a"), "the connection is gone")
        expect(s.StoreLost, lambda: store.wait_event(5), "the connection is gone")


@pytest.mark.parametrize("act", OPERATIONS.values(), ids=OPERATIONS)
@pytest.mark.parametrize("before", [b"", HEADER.pack(EVENT, 0, 0, 5) + b"/w\0t\0", b"\0" * 5])
def test_silence_ends_the_session(
    wire: _wire.Wire, tmp_path: Path, before: bytes, act: Callable[[s.Store], object]
) -> None:
    over = threading.Event()

    def silent(line: Line) -> None:
        line.socket.sendall(before)
        over.wait(BOUND * 2)

    with peer(tmp_path, silent) as path:
        with s.Store(path, wire=wire, timeout=0.1) as store:
            expect(s.StoreTimeout, lambda: act(store), "within 0.1 s")
            expect(s.StoreLost, lambda: act(store), "the connection is gone")
        over.set()


def test_a_peer_that_takes_nothing_in(wire: _wire.Wire, tmp_path: Path) -> None:
    over = threading.Event()
    with peer(tmp_path, lambda _line: void(over.wait(BOUND * 2))) as path:
        with s.Store(path, wire=wire, timeout=0.2) as store:
            expect(s.StoreTimeout, lambda: store.call([s.write("/a", b"x" * 4000)] * 1000))
        over.set()


@pytest.mark.parametrize("count", [1, 20])
@pytest.mark.parametrize(
    ("first", "drop"),
    [(b"", HEADER.pack(EVENT, 0, 0, 5) + b"/w\0t\0"), (HEADER.pack(2, 0, 0, 4096), b"x")],
    ids=["events", "an answer, slowly"],
)
def test_what_drips_is_no_answer(
    wire: _wire.Wire, tmp_path: Path, first: bytes, drop: bytes, count: int
) -> None:
    """Bytes that come in time do not make the wait for an answer endless."""
    over = threading.Event()

    def drip(line: Line) -> None:
        line.take()
        line.socket.sendall(first)
        while not over.wait(0.02):
            line.socket.sendall(drop)

    with peer(tmp_path, drip) as path:
        with s.Store(path, wire=wire, timeout=0.3) as store:
            expect(s.StoreTimeout, lambda: store.call([s.read("/a")] * count))
        over.set()


def test_events_nobody_takes_are_bounded(
    wire: _wire.Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_channel, "_MAX_EVENTS", 100)

    def flood(line: Line) -> None:
        while True:
            line.give(EVENT, 0, b"/w\0t\0")

    with peer(tmp_path, flood) as path, s.Store(path, wire=wire, timeout=BOUND) as store:
        expect(s.StoreLost, lambda: store.read("/a"), "watch events that nobody took")


# -- transactions and interruptions ----------------------------------------------------------------------


def recorded(log: list[tuple[int, int, bytes]], *ends: bytes) -> Callable[[Line], None]:
    """A store that writes down what is asked, and answers each END with the next of ``ends``."""
    verdicts = iter(ends)

    def script(line: Line) -> None:
        number = 0
        while True:
            kind, rid, tx, payload = line.take()
            log.append((kind, tx, payload))
            if kind == 6:
                number += 1
                line.give(kind, rid, b"%d\0" % number)
            elif kind == 7 and payload == b"T\0":
                verdict = next(verdicts, OK)
                line.give(kind if verdict == OK else ERROR, rid, verdict, tx)
            elif payload.startswith(b"/forbidden"):
                line.give(ERROR, rid, b"EACCES\0", tx)
            elif payload.startswith((b"/absent", b"domid")):
                line.give(ERROR, rid, b"ENOENT\0", tx)
            else:
                line.give(kind, rid, OK, tx)

    return script


START, WRITE, RM = (6, 0, b"\0"), 11, 13


@pytest.mark.parametrize(
    ("submitted", "ends", "wanted"),
    [
        ([s.write("/a", b"1")], [OK], [START, (WRITE, 1, b"/a\x001"), (7, 1, b"T\0")]),
        ([s.rm("/absent")], [OK], [START, (RM, 1, b"/absent\0"), (7, 1, b"T\0")]),
        ([], [OK], [START, (7, 1, b"T\0")]),
        (
            [s.write("/a", b"1")],
            [b"EAGAIN\0", OK],
            [START, (WRITE, 1, b"/a\x001"), (7, 1, b"T\0"), START, (WRITE, 2, b"/a\x001"), (7, 2, b"T\0")],
        ),
    ],
    ids=["commit", "removing nothing is no failure", "nothing", "again"],
)
def test_what_a_transaction_sends(
    wire: _wire.Wire,
    tmp_path: Path,
    submitted: list[s.Request],
    ends: list[bytes],
    wanted: list[tuple[int, int, bytes]],
) -> None:
    log: list[tuple[int, int, bytes]] = []
    with peer(tmp_path, recorded(log, *ends)) as path, s.Store(path, wire=wire) as store:
        assert store.transaction(partial(submit, submitted)) == "done"
    assert log == wanted


def fail(error: BaseException) -> Callable[[s.Transaction], None]:
    def work(tx: s.Transaction) -> None:
        tx.submit([s.write("/never", b"sent")])
        raise error

    return work


@pytest.mark.parametrize(
    ("work", "error"),
    [
        (fail(s.Abort("no")), s.Abort),
        (fail(KeyboardInterrupt()), KeyboardInterrupt),
        (fail(ZeroDivisionError()), ZeroDivisionError),
        (
            lambda tx: tx.submit([s.write("/a", b""), s.write("/forbidden", b""), s.write("/b", b"")]),
            s.StoreError,
        ),
        (lambda tx: tx.write("/forbidden", b""), s.StoreError),
        (lambda tx: tx.submit([s.set_perms("/absent", ["n0"])]), s.StoreError),
        (lambda tx: tx.write("/bad path", b""), s.StoreError),
    ],
    ids=["abort", "interrupt", "fault", "submitted", "called", "absent", "never sent"],
)
def test_what_fails_is_never_committed(
    wire: _wire.Wire, tmp_path: Path, work: Callable[[s.Transaction], None], error: type[BaseException]
) -> None:
    log: list[tuple[int, int, bytes]] = []
    with peer(tmp_path, recorded(log)) as path, s.Store(path, wire=wire) as store:
        with pytest.raises(error):
            store.transaction(work)
        assert (7, 1, b"F\0") in log
        assert (7, 1, b"T\0") not in log
        assert not any(payload.startswith(b"/never") for _kind, _tx, payload in log)
        assert store.transaction(lambda tx: tx.read("/a")) == OK  # and the session lives on


def test_conflicts_are_bounded(wire: _wire.Wire, tmp_path: Path) -> None:
    log: list[tuple[int, int, bytes]] = []
    runs: list[int] = []
    with peer(tmp_path, recorded(log, *[b"EAGAIN\0"] * 100)) as path, s.Store(path, wire=wire) as store:
        expect(
            s.StoreConflict,
            lambda: store.transaction(lambda tx: runs.append(tx.number), retries=3),
            "4 attempts",
        )
    assert runs == [1, 2, 3, 4]


def test_a_refused_commit_is_an_error(wire: _wire.Wire, tmp_path: Path) -> None:
    with peer(tmp_path, recorded([], b"ENOSPC\0")) as path, s.Store(path, wire=wire) as store:
        expect(s.StoreError, lambda: store.transaction(lambda tx: None), "ENOSPC")


def test_a_series_begins_ahead_and_leaves_nothing_open(wire: _wire.Wire, tmp_path: Path) -> None:
    log: list[tuple[int, int, bytes]] = []
    with peer(tmp_path, recorded(log, OK, b"EAGAIN\0", OK)) as path, s.Store(path, wire=wire) as store:

        def all_of_them() -> None:
            with store.series():
                for requests in ([s.write("/a", b"")], [s.write("/b", b"")]):
                    store.transaction(partial(submit, requests))
                store.transaction(fail(s.Abort()))

        expect(s.Abort, all_of_them)
    assert log == [
        START,
        (WRITE, 1, b"/a\0"),
        (7, 1, b"T\0"),
        START,
        (WRITE, 2, b"/b\0"),
        (7, 2, b"T\0"),
        START,
        (WRITE, 3, b"/b\0"),
        (7, 3, b"T\0"),
        START,
        (7, 4, b"F\0"),
    ]
    begun = sum(entry == START for entry in log)
    assert begun == sum(kind == 7 for kind, _tx, _payload in log)


def test_an_interrupted_wait_ends_the_session(wire: _wire.Wire, tmp_path: Path) -> None:
    """A late answer is never taken for another's."""
    over = threading.Event()

    def late(line: Line) -> None:
        kind, rid, _tx, _payload = line.take()
        os.kill(os.getpid(), signal.SIGINT)
        over.wait(BOUND)
        line.give(kind, rid, b"late")

    def act() -> None:
        with s.Store(path, wire=wire, timeout=BOUND) as store:
            try:
                store.read("/a")
            finally:
                over.set()
                expect(s.StoreLost, lambda: store.read("/b"), "a wait was interrupted")

    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with peer(tmp_path, late) as path, pytest.raises(KeyboardInterrupt):
            act()
    finally:
        signal.signal(signal.SIGINT, previous)


def test_a_forked_child_cannot_use_it(wire: _wire.Wire, tmp_path: Path) -> None:
    with peer(tmp_path, answer_all) as path, s.Store(path, wire=wire) as store:
        store._channel._pid += 1  # as in a child, where the number is another
        expect(s.StoreLost, lambda: store.read("/a"), "belongs to another process")


@pytest.mark.parametrize("timeout", [0.0, -1.0, 86400.0, float("nan"), float("inf")])
def test_time_limits_are_limits(wire: _wire.Wire, timeout: float) -> None:
    expect(s.StoreError, lambda: s.Store("/nonexistent", wire=wire, timeout=timeout), "time limit")


@pytest.mark.parametrize("fallback", [False, True], ids=["kernel's limit", "poll"])
def test_where_the_platform_has_no_receive_limit(
    wire: _wire.Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fallback: bool
) -> None:
    if fallback:
        monkeypatch.setattr(_channel, "set_time_limit", lambda *_args: False)
    with peer(tmp_path, answer_all) as path, s.Store(path, wire=wire, timeout=BOUND) as store:
        assert store._channel._patient is not fallback
        paths = [f"/{'x' * (i % 900)}{i}" for i in range(3000)]
        assert store.call([s.read(p) for p in paths]) == [p.encode() for p in paths]


def test_both_shapes_of_a_time_limit(wire: _wire.Wire) -> None:
    del wire
    with socket.socket(socket.AF_UNIX) as sock:
        assert _wire.set_time_limit(sock, socket.SO_RCVTIMEO, 1.5)
        assert struct.unpack("ll", sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 16))[0] == 1
