# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of the lab: each does what it says, and is over afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from guests import until
from lab import LabError, LabHost, domains, wire

BOUND = 30.0


def test_killed_xenstored_breaks_and_refuses_connections(lab_any: LabHost) -> None:
    with lab_any.store() as client:
        lab_any.xenstored.kill()
        assert lab_any.xenstored.pid is None
        with pytest.raises(ConnectionError):
            client.read("/tool")
    with pytest.raises(ConnectionError):
        lab_any.read("/tool")
    lab_any.xenstored.restart()
    assert lab_any.read("/local/domain/0/name") == b"Domain-0"


def test_restarted_xenstored_is_another_with_an_empty_store(lab_any: LabHost) -> None:
    lab_any.write("/tool/x", "1")
    before = lab_any.xenstored.pid
    lab_any.xenstored.restart()
    assert lab_any.xenstored.pid not in {None, before}
    assert lab_any.read("/tool/x") is None
    assert lab_any.add_domain() == 1
    with wire.Client(lab_any.domain_view(1)) as guest:
        assert guest.read("domid") == b"1"


def test_stopped_xenstored_answers_nothing_until_it_goes_on(lab_any: LabHost) -> None:
    with lab_any.store(timeout=0.3) as client:
        lab_any.xenstored.stop()
        with pytest.raises(TimeoutError):
            client.read("/local/domain/0/name")
        lab_any.xenstored.cont()
        assert client.receive()[3] == b"Domain-0"


@pytest.mark.parametrize("release", ["4.17", "4.20"])
@pytest.mark.parametrize("daemon", ["c", "o"])
def test_a_live_update_keeps_all_there_is(
    lab_factory: Callable[..., LabHost], daemon: str, release: str
) -> None:
    lab = lab_factory(daemon=daemon, release=release)
    pid, domid = lab.xenstored.pid, lab.add_domain(kind="toolstack")
    with lab.store() as dom0, wire.Client(lab.domain_view(domid)) as guest:
        for client, path in ((dom0, "/tool/x"), (guest, "data/x")):
            client.write(path, "1")
            client.watch(path, "token")
            assert client.event(BOUND) == (path, "token")
        for _again in range(2):  # the second one of a daemon that was started by the first
            lab.xenstored.live_update()
            assert lab.xenstored.pid == pid
            assert (dom0.read("/tool/x"), guest.read("data/x")) == (b"1", b"1")
            other = lab.add_domain()
            with wire.Client(lab.domain_view(other)) as fresh:
                assert fresh.read("domid") == f"{other}".encode()
        for client, path in ((dom0, "/tool/x"), (guest, "data/x")):
            client.write(path, "2")
            assert client.event(BOUND) == (path, "token")
        lab.kill_domain(domid)  # it is told so by the hypervisor, as before
        assert until(lambda: lab.read(f"/local/domain/{domid}/data/x") is None)


def test_a_live_update_does_not_happen_while_a_transaction_is_open(lab: LabHost) -> None:
    with lab.store() as client:
        tx = client.start()
        client.write("/tool/x", "1", tx)
        with pytest.raises(LabError, match="not updated: Starting live update failed:"):
            lab.xenstored.live_update(within=1)
        client.end(tx)
        lab.xenstored.live_update(within=1)
        assert client.read("/tool/x") == b"1"


@pytest.mark.parametrize("release", ["4.17", "4.20"])
def test_a_live_update_while_a_guest_is_made_is_the_end_of_xenstored(
    lab_factory: Callable[..., LabHost], monkeypatch: pytest.MonkeyPatch, release: str
) -> None:
    """Of C xenstored: nodes belong to a domain that was not introduced yet; tests have to keep the two apart."""
    lab = lab_factory(daemon="c", release=release)
    monkeypatch.setattr(domains, "introduce", lambda *_all: None)
    lab.add_domain(kind="toolstack")
    with pytest.raises(LabError, match="did not survive a live update"):
        lab.xenstored.live_update()
    assert "error restoring node" in (lab.folder / "log/xenstored.log").read_text()


@pytest.mark.parametrize("after", [0, 1, 5])
def test_replies_stop(lab: LabHost, after: int) -> None:
    with lab.mute(after) as proxy, wire.Client(proxy.socket, timeout=0.3) as client:
        for _round in range(after):
            assert client.read("/local/domain/0/domid") == b"0"
        with pytest.raises(TimeoutError):
            client.write("/tool/x", "1")
    assert lab.read("/tool/x") == b"1"  # the request itself went through


def test_connection_is_closed(lab: LabHost) -> None:
    with lab.hang_up(after=2) as proxy, wire.Client(proxy.socket) as client:
        client.read("/tool")
        client.read("/tool")
        with pytest.raises(ConnectionError):
            client.read("/tool")


def test_replies_are_late(lab: LabHost) -> None:
    with lab.delay(0.2) as proxy, wire.Client(proxy.socket) as client:
        start = time.monotonic()
        assert client.read("/local/domain/0/domid") == b"0"
        assert time.monotonic() - start >= 0.2


def test_fault_in_place_of_xenstoreds_own_socket(lab: LabHost) -> None:
    script = "timeout 1 xenstore-read /local/domain/0/domid"
    with lab.mute(in_place=True) as proxy:
        assert proxy.socket == lab.socket
        assert lab.run(["sh", "-c", script], check=False).returncode == 124
        assert lab.read("/local/domain/0/domid") == b"0"  # the tests' own access is not hurt
    assert lab.run(["sh", "-c", script]).stdout == "0\n"


def test_fault_in_front_of_a_domains_view(lab: LabHost) -> None:
    view = lab.domain_view(lab.add_domain())
    with lab.mute(after=1, upstream=view) as proxy, wire.Client(proxy.socket, timeout=0.3) as guest:
        assert guest.read("domid") == b"1"
        with pytest.raises(TimeoutError):
            guest.read("domid")


def commit(client: wire.Client) -> str:
    tx = client.start()
    client.read("/tool/x", tx)
    client.write("/tool/x", "mine", tx)
    try:
        client.end(tx)
    except wire.WireError as error:
        return error.code
    return "OK"


@pytest.mark.parametrize("times", [1, 3])
def test_conflicting_transaction(lab_any: LabHost, times: int) -> None:
    lab_any.write("/tool/x", "kept")
    with lab_any.conflict("/tool/x", times=times) as proxy, wire.Client(proxy.socket) as client:
        results = [commit(client) for _round in range(times + 1)]
    assert results == ["EAGAIN"] * times + ["OK"]
    assert lab_any.read("/tool/x") == b"mine"


def test_conflict_that_changes_the_value(lab: LabHost) -> None:
    with lab.conflict("/tool/x", value="theirs") as proxy, wire.Client(proxy.socket) as client:
        assert commit(client) == "EAGAIN"
        assert lab.read("/tool/x") == b"theirs"
        assert commit(client) == "OK"
    assert lab.read("/tool/x") == b"mine"


def test_nothing_of_a_fault_stays(lab: LabHost) -> None:
    faults: list[Callable[[], object]] = [lab.mute, lab.hang_up, lambda: lab.delay(0.1)]
    for fault in faults:
        with fault() as proxy:  # type: ignore[attr-defined]
            clients = [wire.Client(proxy.socket) for _round in range(3)]
        for client in clients:
            with pytest.raises((ConnectionError, BrokenPipeError)):
                client.read("/tool")
            client.close()
        with pytest.raises(FileNotFoundError):
            wire.Client(proxy.socket)
