# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The session against the real xenstored and oxenstored, over both wires, in health and in every fault."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

import pytest
from ansible_collections.xen.virtio.plugins.module_utils import _store as s
from ansible_collections.xen.virtio.plugins.module_utils import _wire
from lab import LabHost, LabUnavailable

BOUND = 20.0  # seconds; far above what a store that answers needs, whatever else the machine does
BRIEF = 0.5  # seconds: a time limit that is to run out
BINARY = bytes(range(256))
WIRES = {"own": _wire.OWN, "pyxs": _wire.PYXS}


@pytest.fixture(params=list(WIRES))
def wire(request: pytest.FixtureRequest) -> _wire.Wire:
    found = WIRES[request.param]
    assert found is not None
    return found


@pytest.fixture(scope="module", params=["c", "o"], ids=["xenstored", "oxenstored"])
def shared_host(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LabHost]:
    """One host of each kind for all tests that break nothing."""
    host = LabHost(tmp_path_factory.mktemp("lab") / "host", daemon=request.param)
    try:
        host.start()
    except LabUnavailable as reason:
        pytest.skip(f"{reason}")
    yield host
    host.stop()


@pytest.fixture
def host(shared_host: LabHost) -> Iterator[LabHost]:
    yield shared_host
    for path in ("/t", "/u"):
        shared_host.rm(path)


@pytest.fixture
def store(host: LabHost, wire: _wire.Wire) -> Iterator[s.Store]:
    with s.Store(host.socket, wire=wire) as session:
        yield session


def expect(error: type[s.StoreError], act: Callable[[], object], match: str | None = None) -> s.StoreError:
    began = time.monotonic()
    with pytest.raises(error, match=match) as caught:
        act()
    assert time.monotonic() - began < BOUND
    return caught.value


def submit(requests: list[s.Request], tx: s.Transaction) -> None:
    tx.submit(requests)


# -- in health -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [b"", b"1", b"\0", b"a\0", b"\t\n", "grün €".encode(), BINARY, b"x" * 2048])
def test_values_of_any_bytes(store: s.Store, host: LabHost, value: bytes) -> None:
    store.write("/t/value", value)
    assert store.read("/t/value") == value == host.read("/t/value")
    assert store.transaction(lambda tx: tx.read("/t/value")) == value
    assert store.read_trees(["/t"])["/t/value"] == s.Node(value)


def test_every_operation(store: s.Store) -> None:
    assert store.read("/t") is None
    assert store.list("/t") is None
    assert store.get_perms("/t") is None
    store.mkdir("/t/a/b")
    assert store.read("/t/a/b") == b""
    assert store.list("/t") == ["a"]
    assert store.list("/t/a/b") == []
    assert store.get_perms("/t/a") == ("n0",)
    store.set_perms("/t/a", ["b0", "r5", "w7"])
    assert store.get_perms("/t/a") == ("b0", "r5", "w7")
    store.rm("/t/a")
    store.rm("/t/a")
    store.rm("/never/was/there")
    assert store.list("/t") == []
    assert store.read("/") == b""


def test_errors_come_in_place(store: s.Store) -> None:
    answers = store.call(
        [s.write("/t", b"1"), s.read("/no"), s.read("/t"), s.mkdir("/t/x"), s.rm("/no/such")]
    )
    assert [a if isinstance(a, bytes) else a.code for a in answers] == [
        b"OK\0",
        "ENOENT",
        b"1",
        b"OK\0",
        "ENOENT",
    ]
    assert store.call([]) == []


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 200, 5000])
def test_batches_of_any_length(store: s.Store, count: int) -> None:
    assert store.call([s.write(f"/t/{i}", b"v%d" % i) for i in range(count)]) == [b"OK\0"] * count
    assert store.call([s.read(f"/t/{i}") for i in range(count)]) == [b"v%d" % i for i in range(count)]


def test_a_batch_beyond_all_buffers(store: s.Store) -> None:
    """2 MB out and 8 MB in; xenstored stops reading while its answers are not taken."""
    value = b"x" * 2000
    writes = [s.write(f"/t/{i % 50}", value) for i in range(1000)]
    reads = [s.read(f"/t/{i % 50}") for i in range(4000)]
    answers = store.call(writes + reads)
    assert answers == [b"OK\0"] * 1000 + [value] * 4000


@pytest.mark.parametrize("count", [300, 330, 341, 342, 400, 3000])
def test_directories_of_any_size(store: s.Store, count: int) -> None:
    """341 names of 12 bytes fill a message of 4096 bytes."""
    names = [f"child-{i:05}" for i in range(count)]
    store.transaction(partial(submit, [s.write(f"/t/{name}", b"") for name in names]))
    assert sorted(store.list("/t") or []) == names
    within: list[str] = []
    store.transaction(lambda tx: within.extend(tx.list("/t") or []))
    assert sorted(within) == names
    assert len(store.read_trees(["/t"], perms=True)) == count + 1


def test_a_directory_that_changes_while_it_is_read(lab: LabHost) -> None:
    """C xenstored sends it in parts; a change between them starts over."""
    with s.Store(lab.socket) as store, s.Store(lab.socket) as other:
        for i in range(1000):
            store.write(f"/t/child-{i:05}", b"")
        asked = store._channel.call
        seen = 0

        def meddle(requests: list[s.Request], tx: int = 0, meanwhile: object = None) -> list[s.Answer]:
            nonlocal seen
            seen += 1
            if seen == 3:
                other.rm("/t/child-00000")
            return asked(requests, tx)

        store._channel.call = meddle  # type: ignore[method-assign,assignment]
        assert sorted(store.list("/t") or []) == [f"child-{i:05}" for i in range(1, 1000)]


def test_other_work_while_answers_come(store: s.Store) -> None:
    store.write("/t", b"x")
    taken: list[int] = []

    def steps(trouble: Exception | None) -> Iterator[None]:
        for step in range(3):
            taken.append(step)
            if trouble is not None and step == 1:
                raise trouble
            yield

    work = steps(None)
    assert store.call([s.read("/t")] * 1000, meanwhile=work) == [b"x"] * 1000
    assert taken == [0, 1, 2]
    with pytest.raises(ZeroDivisionError):  # told in the end: no answer is left for the next call
        store.call([s.read("/t")] * 1000, meanwhile=steps(ZeroDivisionError()))
    assert store.read("/t") == b"x"
    taken.clear()
    work = steps(None)
    store.call([s.read("/t")], meanwhile=work)
    assert taken == [0]  # what there was no time for is left
    assert len(list(work)) == 2


def test_subtrees_in_the_stores_own_order(store: s.Store, host: LabHost) -> None:
    for path in ("/t/b/1", "/t/b/2/x", "/t/a", "/u/z", "/u/y"):
        store.write(path, path.encode())
    store.set_perms("/t/b", ["n0", "r3"])
    found = store.read_trees(["/u", "/none", "/t", "/t"], perms=True)
    plain = {**host.ls("/u"), **host.ls("/t")}
    assert list(found.items()) == [(path, s.Node(value, perms)) for path, (value, perms) in plain.items()]
    assert set(store.read_trees(["/t"], depth=0)) == {"/t"}
    assert set(store.read_trees(["/t"], depth=1)) == {"/t", "/t/a", "/t/b"}
    assert store.read_trees([]) == {}
    whole = store.read_trees(["/"])
    assert {"/", "/t/b/2/x", "/local/domain"} <= set(whole)
    assert store.read_trees(["/t", "/t/b"]) == store.read_trees(["/t"])


def test_paths_that_xenstored_refuses(store: s.Store) -> None:
    """What passes here and is too long for oxenstored is refused by it, with the path in the error."""
    for length in (1024, 2048):
        path = "/" + "a" * (length - 1)
        answer = store.call([s.write(path, b"")])[0]
        assert isinstance(answer, bytes) or (answer.code, answer.path) == ("EINVAL", path)
    expect(s.StoreError, lambda: store.write("/a//b", b""), "EINVAL")
    assert store.is_open


def test_too_big_is_refused_before_or_after_sending(store: s.Store, host: LabHost) -> None:
    expect(s.StoreError, lambda: store.write("/t", b"x" * 4094), "E2BIG")
    answer = store.call([s.write("/t", b"x" * 4093)])[0]
    assert isinstance(answer, bytes) or answer.code == "E2BIG"
    assert store.is_open


def test_watches(store: s.Store) -> None:
    store.watch("/t", "mine")
    assert store.wait_event(5) == ("/t", "mine")
    assert store.wait_event(0) is None
    expect(s.StoreError, lambda: store.watch("/t", "mine"), "EEXIST")
    store.write("/t/a", b"1")
    assert store.read("/t/a") == b"1"
    assert store.wait_event(5) == ("/t/a", "mine")
    store.unwatch("/t", "mine")
    store.write("/t/a", b"2")
    assert store.read("/t/a") == b"2"
    assert store.wait_event(0.1) is None
    expect(s.StoreError, lambda: store.unwatch("/t", "mine"), "ENOENT")


def test_a_special_watch(store: s.Store, host: LabHost) -> None:
    store.watch("@introduceDomain", "new")
    assert store.wait_event(5) == ("@introduceDomain", "new")
    host.add_domain()
    assert store.wait_event(5) == ("@introduceDomain", "new")


# -- transactions ----------------------------------------------------------------------------------------

DISK = [s.write(f"/t/disk/{name}", b"1") for name in "abcdefgh"]


def test_a_commit_appears_at_once(store: s.Store, host: LabHost) -> None:
    def work(tx: s.Transaction) -> str:
        tx.submit(DISK)
        assert tx.read("/t/disk/a") == b"1"  # what was submitted goes first
        assert host.read("/t/disk/a") is None
        return "done"

    assert store.transaction(work) == "done"
    assert len(host.ls("/t/disk")) == len(DISK) + 1


@pytest.mark.parametrize(
    "bad",
    [
        s.set_perms("/t/absent", ["n0"]),
        s.read("/t/absent"),
        s.Request(DISK[0].op, b"/a//b\0", "/a//b"),
    ],
    ids=["perms of nothing", "reading nothing", "a path that is none"],
)
def test_one_failure_and_nothing_is_written(store: s.Store, host: LabHost, bad: s.Request) -> None:
    batch = [*DISK, bad, s.write("/t/last", b"")]
    error = expect(s.StoreError, lambda: store.transaction(partial(submit, batch)))
    assert error.path == bad.path
    assert host.ls("/t") == {}
    store.transaction(partial(submit, DISK))
    assert len(host.ls("/t/disk")) == len(DISK) + 1


def test_an_aborted_transaction_leaves_nothing(store: s.Store, host: LabHost) -> None:
    def work(tx: s.Transaction) -> None:
        tx.write("/t/a", b"")
        raise s.Abort("not today")

    for _round in range(25):  # more than a domain may have open
        with pytest.raises(s.Abort, match="not today"):
            store.transaction(work)
    assert host.ls("/t") == {}


@pytest.mark.parametrize("times", [1, 3])
def test_conflicts_are_tried_again_on_the_new_state(host: LabHost, wire: _wire.Wire, times: int) -> None:
    host.write("/t/count", "0")
    runs: list[bytes | None] = []

    def work(tx: s.Transaction) -> None:
        runs.append(tx.read("/t/count"))
        tx.submit([s.write("/t/mine", b"%d" % len(runs))])

    with (
        host.conflict("/t/count", times=times, value="meanwhile") as proxy,
        s.Store(proxy.socket, wire=wire) as store,
    ):
        store.transaction(work)
    # to oxenstored a value that is written again with the same bytes is no conflict
    assert len(runs) == (2 if host.daemon == "o" else times + 1)
    assert runs == [b"0"] + [b"meanwhile"] * (len(runs) - 1)
    assert host.read("/t/mine") == b"%d" % len(runs)


def test_endless_conflicts_end(store: s.Store, host: LabHost) -> None:
    runs: list[int] = []

    def work(tx: s.Transaction) -> None:
        tx.read("/t/count")
        runs.append(tx.number)
        host.write("/t/count", str(len(runs)))
        tx.submit([s.write("/t/mine", b"")])

    expect(s.StoreConflict, lambda: store.transaction(work, retries=3), "during each of 4 attempts")
    assert len(runs) == 4
    assert store.read("/t/mine") is None


def test_two_at_once_lose_nothing(host: LabHost, wire: _wire.Wire) -> None:
    host.write("/t/count", "0")
    with s.Store(host.socket, wire=wire) as one, s.Store(host.socket, wire=wire) as two:

        def add(tx: s.Transaction) -> None:
            tx.submit([s.write("/t/count", b"%d" % (int(tx.read("/t/count") or b"0") + 1))])

        met = False

        def add_while_the_other_does(tx: s.Transaction) -> None:
            nonlocal met
            add(tx)
            tx.flush()
            if not met:
                met = True
                two.transaction(add)

        one.transaction(add_while_the_other_does)
    assert host.read("/t/count") == b"2"


def test_a_series(store: s.Store, host: LabHost) -> None:
    with store.series():
        for i in range(50):
            store.transaction(partial(submit, [s.write(f"/t/{i}/a", b""), s.write(f"/t/{i}/b", b"")]))
    assert len(host.ls("/t")) == 151
    for _round in range(12):  # what a series leaves behind would be too many by now
        with store.series():
            store.transaction(partial(submit, DISK))
    assert store._next is None


# -- as another domain -----------------------------------------------------------------------------------


@pytest.fixture
def domain(lab_any: LabHost) -> int:
    return lab_any.add_domain("domu1", kind="toolstack")


@pytest.fixture
def view(lab_any: LabHost, wire: _wire.Wire, domain: int) -> Iterator[s.Store]:
    with s.Store(lab_any.domain_view(domain), wire=wire) as session:
        yield session


FORBIDDEN: dict[str, Callable[[s.Store], object]] = {
    "WRITE": lambda store: store.write("/local/domain/0/mine", b""),
    "READ": lambda store: store.read("/libxl"),
    "MKDIR": lambda store: store.mkdir("/mine"),
    "RM": lambda store: store.rm("/tool"),
    "SET_PERMS": lambda store: store.set_perms("/local", ["n0"]),
    "DIRECTORY": lambda store: store.list("/vm"),
    "GET_PERMS": lambda store: store.get_perms("/libxl"),
}


@pytest.mark.parametrize("operation", FORBIDDEN)
def test_what_a_domain_may_not(view: s.Store, domain: int, operation: str, lab_any: LabHost) -> None:
    before = lab_any.ls("/")
    error = expect(s.StoreError, lambda: FORBIDDEN[operation](view), f"speaks for domain {domain}")
    assert (error.operation, error.code) in {(operation, "EACCES"), (operation, "EPERM")}
    expect(
        s.StoreError,
        lambda: view.transaction(lambda _tx: FORBIDDEN[operation](view)),
    )
    assert lab_any.ls("/") == before


def test_what_a_domain_may(view: s.Store, domain: int) -> None:
    data = f"/local/domain/{domain}/data"
    view.transaction(partial(submit, [s.write(f"{data}/{i}", BINARY) for i in range(50)]))
    assert len(view.read_trees([data], perms=True)) == 51
    assert view.read("name") == b"domu1"  # relative to its own directory


def test_many_requests_through_a_ring(view: s.Store) -> None:
    """C xenstored keeps at most 20 answers for a domain, and a ring has 1024 bytes."""
    assert view.call([s.read("name")] * 2000) == [b"domu1"] * 2000


def test_nodes_it_may_not_read_are_left_out_where_asked(view: s.Store, domain: int, lab_any: LabHost) -> None:
    data = f"/local/domain/{domain}/data"
    lab_any.write(f"{data}/secret/x", "1")
    with s.Store(lab_any.socket) as dom0:
        dom0.set_perms(f"{data}/secret", ["n0"])
        dom0.set_perms(f"{data}/secret/x", ["n0"])
    view.write(f"{data}/open", b"")
    expect(s.StoreError, lambda: view.read_trees([data]), "EACCES")
    denied: dict[str, s.StoreError] = {}
    assert set(view.read_trees([data], denied=denied)) == {data, f"{data}/open"}
    assert set(denied) == {f"{data}/secret"}


def test_quotas(view: s.Store, domain: int) -> None:
    data = f"/local/domain/{domain}/data"

    def fill() -> None:
        for i in range(2000):
            view.write(f"{data}/{i}", b"")

    def look() -> None:
        for i in range(500):
            view.watch(data, f"t{i}")

    assert expect(s.StoreError, fill, "a quota of xenstored is used up").code in {"ENOSPC", "EQUOTA"}
    assert expect(s.StoreError, look, "a quota of xenstored is used up").code in {"E2BIG", "EQUOTA"}
    assert view.is_open


def test_a_large_directory_of_another(view: s.Store, domain: int, lab_any: LabHost) -> None:
    """oxenstored gives a domain no directory beyond one message, and says nothing of parts."""
    with s.Store(lab_any.socket) as dom0:
        dom0.transaction(partial(submit, [s.write(f"/big/child-{i:05}", b"") for i in range(800)]))
        dom0.set_perms("/big", ["n0", f"r{domain}"])
    if lab_any.daemon == "c":
        assert len(view.list("/big") or []) == 800
    else:
        assert expect(s.StoreError, lambda: view.list("/big"), "DIRECTORY /big").code == "E2BIG"
    assert view.is_open


# -- faults ----------------------------------------------------------------------------------------------

OPERATIONS: dict[str, Callable[[s.Store], object]] = {
    "read": lambda store: store.read("/t/a"),
    "list": lambda store: store.list("/t"),
    "get_perms": lambda store: store.get_perms("/t/a"),
    "write": lambda store: store.write("/t/b", b"1"),
    "mkdir": lambda store: store.mkdir("/t/c"),
    "rm": lambda store: store.rm("/t/d"),
    "set_perms": lambda store: store.set_perms("/t/a", ["n0"]),
    "call": lambda store: store.call([s.read("/t/a")] * 500),
    "much": lambda store: store.call([s.write("/t/a", b"x" * 2000)] * 1000),
    "read_trees": lambda store: store.read_trees(["/t"], perms=True),
    "transaction": lambda store: store.transaction(partial(submit, DISK)),
    "watch": lambda store: store.watch("/t", "t"),
    "unwatch": lambda store: store.unwatch("/t", "t"),
}


def test_stopped_then_killed_then_back(lab_any: LabHost, wire: _wire.Wire) -> None:
    """Every operation, each on sessions of its own that were open before; those of the first round soon give up."""
    lab_any.write("/t/a", "1")
    open_store = partial(s.Store, lab_any.socket, wire=wire)
    with ExitStack() as sessions:
        first, second, third = (
            {name: sessions.enter_context(open_store(timeout=limit)) for name in OPERATIONS}
            for limit in (BRIEF, BOUND, BOUND)
        )
        lab_any.xenstored.stop()
        for name, act in OPERATIONS.items():
            expect(s.StoreTimeout, partial(act, first[name]), f"within {BRIEF:g} s")
            expect(s.StoreLost, partial(act, first[name]), "the connection is gone")
        lab_any.xenstored.cont()
        for name, act in OPERATIONS.items():
            expect(s.StoreLost, partial(act, first[name]), "the connection is gone")
            assert second[name].read("/t/a") is not None
        lab_any.xenstored.kill()
        for name, act in OPERATIONS.items():
            expect(s.StoreLost, partial(act, second[name]))
        expect(s.StoreLost, open_store, "ECONNREFUSED|ENOENT")
        lab_any.xenstored.restart()
        for name, act in OPERATIONS.items():
            expect(s.StoreLost, partial(act, third[name]))
    with open_store() as fresh:
        assert fresh.read("/t/a") is None
        fresh.write("/t/a", b"again")


def test_waiting_for_events_in_faults(lab_any: LabHost, wire: _wire.Wire) -> None:
    with s.Store(lab_any.socket, wire=wire) as store:
        store.watch("/t", "t")
        assert store.wait_event(5) == ("/t", "t")
        lab_any.xenstored.stop()
        began = time.monotonic()
        assert store.wait_event(0.2) is None
        assert time.monotonic() - began < BOUND
        lab_any.xenstored.kill()
        expect(s.StoreLost, lambda: store.wait_event(BOUND))


def test_connecting_to_a_stopped_store_ends(lab_any: LabHost, wire: _wire.Wire) -> None:
    """Its backlog takes a few connects, then none."""
    lab_any.xenstored.stop()
    sessions: list[s.Store] = []

    def connect_all() -> None:
        for _round in range(50):
            sessions.append(s.Store(lab_any.socket, wire=wire, timeout=BRIEF))

    try:
        expect(s.StoreTimeout, connect_all, f"nobody accepted the connection within {BRIEF:g} s")
    finally:
        lab_any.xenstored.cont()
        for session in sessions:
            session.close()
    with s.Store(lab_any.socket, wire=wire) as store:
        assert store.list("/") is not None


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("fault", ["mute", "hang_up"])
def test_no_answer_and_no_more_answers(host: LabHost, wire: _wire.Wire, fault: str, operation: str) -> None:
    host.write("/t/a", "1")
    act = OPERATIONS[operation]
    for after in (0, 1):
        limit = BRIEF * (1 + after) if fault == "mute" else BOUND
        with getattr(host, fault)(after) as proxy, s.Store(proxy.socket, wire=wire, timeout=limit) as store:
            if after:
                store.read("/t/a")
            expect(s.StoreTimeout if fault == "mute" else s.StoreLost, lambda: act(store))
            assert not store.is_open


@pytest.mark.parametrize("fault", ["mute", "hang_up"])
def test_whole_or_not_at_all_wherever_it_breaks(host: LabHost, wire: _wire.Wire, fault: str) -> None:
    """A transaction cut off after any number of answers: its nodes are all there, or none is."""
    outcomes = set()
    answers = len(DISK) + 2
    for after in range(answers + 1):
        limit = 0.1 if fault == "mute" and after < answers else BOUND  # however early it runs out
        with getattr(host, fault)(after) as proxy, s.Store(proxy.socket, wire=wire, timeout=limit) as store:
            try:
                store.transaction(partial(submit, DISK))
            except (s.StoreTimeout, s.StoreLost):
                assert after < answers
            else:
                assert after == answers
        found = len(host.ls("/t/disk"))
        assert found in {0, len(DISK) + 1}
        outcomes.add(found)
        host.rm("/t/disk")
    assert outcomes == {0, len(DISK) + 1}


def test_found_as_libxenstore_finds_it(lab: LabHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XENSTORED_PATH", raising=False)
    monkeypatch.setenv("XENSTORED_RUNDIR", lab.socket.rpartition("/")[0])
    with s.Store() as store:
        assert store.path == lab.socket
    monkeypatch.setenv("XENSTORED_PATH", "/nonexistent/socket")
    expect(s.StoreLost, s.Store, r"/nonexistent/socket \(from XENSTORED_PATH\).*ENOENT")
    monkeypatch.setenv("XENSTORED_PATH", lab.socket)
    with s.Store() as store:
        assert store.list("/") is not None


@pytest.mark.trixie
@pytest.mark.parametrize("daemon", ["c", "o"])
def test_xen_4_20(lab_factory: Callable[..., LabHost], wire: _wire.Wire, daemon: str) -> None:
    host = lab_factory(daemon=daemon, release="4.20")
    with s.Store(host.socket, wire=wire) as store:
        store.transaction(partial(submit, [s.write(f"/t/{i:04}", BINARY) for i in range(1000)]))
        assert len(store.read_trees(["/t"], perms=True)) == 1001
        assert store.call([s.read("/t/0000")] * 5000) == [BINARY] * 5000
