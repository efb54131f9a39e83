# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Daemons behind their views, on real xenstoreds.

With VIRTIO_DISK_SOURCE it is the real daemon, but for what only the stand-in can be told to do wrong.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import standin
from ansible_collections.xen.virtio.plugins.module_utils import _view
from guests import until
from lab import LabHost, faults, wire
from standin.bench import Bench, Daemon

from conftest import LabFactory

A, B = 51712, 51728  # xvda, xvdb
SOURCE = _view.__file__
LISTING = "backend/virtio_disk"
ours = pytest.mark.skipif(standin.REAL is not None, reason="this is asked of the stand-in alone")


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return standin.build(tmp_path_factory.mktemp("standin") / "build", "1.0")


class Dom0(Bench):
    """The backend is dom0, on xenstored's own socket."""

    def __init__(self, host: LabHost, program: Path, log: Path | None = None) -> None:
        super().__init__(host, program, log)
        self.domid = 0
        self.top = "/local/domain/0/backend/virtio_disk"

    @property
    def view(self) -> str:
        return self.host.socket


class Unit:
    """A view with its daemon, as a unit runs them; without the unit."""

    def __init__(self, bench: Bench, folder: Path, guest: int, devid: int, settings: dict[str, str]) -> None:
        self.bench, self.guest, self.devid = bench, guest, devid
        self.folder = folder
        self.image = folder / f"{guest}-{devid}.img"
        self.name = f"{guest}-{devid}"
        command = settings.pop("COMMAND", f"{sys.executable} -I -S {SOURCE}").split(" ")
        self.view = Daemon([*command, self.name], settings)
        self.daemon_pid = 0

    def path(self, suffix: str) -> Path:
        return self.folder / f"{self.name}.{suffix}"

    @property
    def facts(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.path("json").read_text())
        return found

    @property
    def held(self) -> bool:
        """Whether view or daemon live, as everybody else sees it."""
        try:
            with open(self.path("lock"), "rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    @property
    def served(self) -> bool:
        """State 2, and the target open."""
        if self.bench.state(self.guest, self.devid) != 2 or not self.path("json").exists():
            return False
        self.daemon_pid = int(self.facts["daemon_pid"])
        wanted = self.image.stat()
        with contextlib.suppress(OSError):
            for entry in os.listdir(f"/proc/{self.daemon_pid}/fd"):
                with contextlib.suppress(OSError):
                    if os.path.samestat(os.stat(f"/proc/{self.daemon_pid}/fd/{entry}"), wanted):
                        return True
        return False

    @property
    def left(self) -> list[str]:
        return [suffix for suffix in ("json", "json.new", "lock", "sock") if self.path(suffix).exists()]

    def close(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self.daemon_pid = int(self.facts["daemon_pid"])
        self.view.close()
        if self.daemon_pid and self.held:
            os.kill(self.daemon_pid, signal.SIGKILL)


class Units:
    """Units of one backend domain."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self.bench, self.folder = bench, folder
        self._units: list[Unit] = []
        folder.mkdir()

    def disk(self, devid: int = A, guest: int | None = None, **nodes: str) -> tuple[int, int]:
        """A new disk, of a new guest if of none."""
        guest = self.bench.guest() if guest is None else guest
        image = self.folder / f"{guest}-{devid}.img"
        image.write_bytes(bytes(65536))
        self.bench.plug(guest, devid, image, **nodes)
        return guest, devid

    def start(self, disk: tuple[int, int], store: str | None = None, **settings: str) -> Unit:
        log = {"VIRTIO_DISK_STANDIN_LOG": str(self.bench.log)}
        own = {"XENSTORED_PATH": store or self.bench.view, "VIRTIO_DISK_RUN": str(self.folder)}
        given = {"DAEMON": str(self.bench.program), **log, **own, **standin.environment(self.bench.program)}
        environ = {key: value for key, value in (os.environ | given | settings).items() if value}
        unit = Unit(self.bench, self.folder, *disk, environ)
        self._units.append(unit)
        return unit

    def serving(self, devid: int = A, **settings: Any) -> Unit:
        unit = self.start(self.disk(devid), **settings)
        assert until(lambda: unit.served), unit.view.said()
        return unit

    def close(self) -> None:
        for unit in self._units:
            unit.close()


@pytest.fixture
def units(lab_any: LabHost, program: Path, tmp_path: Path) -> Iterator[Units]:
    with Bench(lab_any, program, tmp_path / "log") as bench:
        made = Units(bench, tmp_path / "run")
        yield made
        made.close()
        assert standin.clashes(tmp_path / "log", served=False) == []
    program.with_name(f"{program.name}.faults").unlink(missing_ok=True)


@pytest.fixture(params=["c", "o"], ids=["xenstored", "oxenstored"])
def dom0_units(
    request: pytest.FixtureRequest, lab_factory: LabFactory, program: Path, tmp_path: Path
) -> Iterator[Units]:
    with Dom0(lab_factory(daemon=request.param), program, tmp_path / "log") as bench:
        made = Units(bench, tmp_path / "run")
        yield made
        made.close()
    program.with_name(f"{program.name}.faults").unlink(missing_ok=True)


def still_alert(unit: Unit) -> None:
    """All that happened before is behind this daemon, and it serves: it now follows its guest's end."""
    assert unit.served
    unit.bench.unplug(unit.guest, unit.devid)
    assert unit.view.wait() == 0
    assert unit.bench.state(unit.guest, unit.devid) is None
    assert unit.left == []


# ---- one daemon, one guest ----


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (2, 1, 0)])
def test_three_guests_at_once_with_the_same_devid(units: Units, order: tuple[int, int, int]) -> None:
    disks = [units.disk() for _number in range(3)]
    started = [units.start(disks[number]) for number in order]
    assert until(lambda: all(unit.served for unit in started))
    for unit in started:
        still_alert(unit)


def test_a_lower_domid(units: Units) -> None:
    low, high = units.bench.guest(), units.bench.guest()
    first = units.start(units.disk(guest=high))
    assert until(lambda: first.served)
    second = units.start(units.disk(guest=low))
    assert until(lambda: second.served)
    still_alert(second)
    still_alert(first)


def test_two_disks_of_a_guest(units: Units) -> None:
    guest = units.bench.guest()
    both = [units.start(units.disk(devid, guest)) for devid in (A, B)]
    assert until(lambda: all(unit.served for unit in both))
    still_alert(both[0])
    still_alert(both[1])


def test_a_guest_that_comes_back_leaves_the_others_alone(units: Units) -> None:
    others = [units.serving(), units.serving()]
    for _round in range(3):
        one = units.serving()
        guest = one.guest
        units.bench.unplug(guest, A)
        assert one.view.wait() == 0
        units.bench.host.rm(f"{units.bench.top}/{guest}")
        units.bench.host.kill_domain(guest)
        assert [unit.served for unit in others] == [True, True]
    for unit in others:
        still_alert(unit)


def test_the_same_disk_again(units: Units) -> None:
    """Taken from a guest that goes on, and given back to it."""
    one = units.serving()
    still_alert(one)
    again = units.start(units.disk(guest=one.guest))
    assert until(lambda: again.served)
    still_alert(again)


def test_more_guests_than_a_listing_holds(units: Units) -> None:
    """4096 bytes of names: the answer of the C xenstored to DIRECTORY is E2BIG."""
    unit_disk = units.disk()
    with units.bench.host.store() as client:
        for domid in range(1000, 2000):
            client.write(f"{units.bench.top}/{domid}", "")
    unit = units.start(unit_disk)
    assert until(lambda: unit.served)
    still_alert(unit)


# ---- what is seen through a view ----


def test_other_programs_see_the_same(units: Units) -> None:
    """libxenstore's own tools, with several connections beside the daemon's."""
    other, one = units.serving(), units.serving()
    view = {**os.environ, "XENSTORED_PATH": str(one.path("sock"))}
    domd = units.bench.domid

    def tool(*command: str) -> list[str]:
        done = subprocess.run(command, env=view, capture_output=True, text=True, check=True, timeout=30)
        return done.stdout.split()

    for path in (LISTING, f"/local/domain/{domd}/{LISTING}"):
        assert tool("xenstore-list", path) == [str(one.guest)]
    assert tool("xenstore-list", f"{LISTING}/{other.guest}") == [str(A)]
    assert tool("xenstore-read", f"{LISTING}/{one.guest}/{A}/state", "domid") == ["2", str(domd)]
    assert str(other.guest) not in [line.partition(" ")[0] for line in tool("xenstore-ls", LISTING)]
    with wire.Client(str(one.path("sock"))) as client, wire.Client(units.bench.view) as direct:
        assert client.directory("data") == direct.directory("data")
        assert direct.directory("data") is not None

        def work(tx: int) -> None:
            assert client.directory(LISTING, tx) == [str(one.guest)]
            client.write("data/seen", "yes", tx)

        client.transaction(work)
        assert client._directory_in_parts(LISTING, 0) == f"{one.guest}\0".encode()
        with pytest.raises(wire.WireError, match="ENOENT"):
            client.call(wire.DIRECTORY, b"nothing\0")
    assert units.bench.host.read(f"/local/domain/{domd}/data/seen") == b"yes"
    still_alert(one)
    still_alert(other)


def test_a_transaction_that_conflicts(units: Units) -> None:
    one = units.serving()
    node = f"/local/domain/{units.bench.domid}/data/count"
    units.bench.host.write(node, "1")
    with units.bench.host.store() as dom0:
        dom0.set_permissions(node, [f"n{units.bench.domid}"])
    with wire.Client(str(one.path("sock"))) as client:
        tx = client.start()
        assert client.read(node, tx) == b"1"
        client.write(node, "2", tx)
        units.bench.host.write(node, "5")
        with pytest.raises(wire.WireError, match="EAGAIN"):
            client.end(tx)
    assert units.bench.host.read(node) == b"5"


@ours  # the real one would need a second library preloaded
def test_the_device(units: Units) -> None:
    """As a character device: whole messages in a write."""
    python = units.bench.host.domain_python(units.bench.domid, device=True)
    given = {"COMMAND": f"{python} -I -S {SOURCE}", "XENSTORED_PATH": ""}
    unit = units.start(units.disk(), **given)
    assert until(lambda: unit.served), unit.view.said()
    other = units.start(units.disk(), **given)
    assert until(lambda: other.served), other.view.said()
    with wire.Client(str(unit.path("sock"))) as client:
        assert client.directory(LISTING) == [str(unit.guest)]
        client.watch(LISTING, "t")
        assert client.event(30) == (LISTING, "t")
        with pytest.raises(wire.WireError, match="ENOENT"):
            client.call(wire.READ, b"domid\0", 4711)  # the driver's own answer
    still_alert(unit)
    still_alert(other)


# ---- a store that fails ----


class Once(faults.Fault):
    """Hangs up once, in the place of a certain reply; or something else happens then."""

    def __init__(self, after: int) -> None:
        self._left = after
        self._lock = threading.Lock()
        self.done = self._over = False

    def reply(self, kind: int, payload: bytes) -> bool:
        with self._lock:
            self._left -= 1
            if self._left < 0 and not self._over:
                self.done = self._over = True
                self.happen()
        return True

    def happen(self) -> None:
        raise faults.HangUpError

    def end(self) -> bool:
        """No more of it; whether it happened."""
        with self._lock:
            self._over = True
            return self.done


def test_a_connection_that_breaks_at_whatever_reply(dom0_units: Units) -> None:
    for after in range(27):
        fault = Once(after)
        with faults.Proxy(dom0_units.bench.host, fault) as proxy:
            unit = dom0_units.start(dom0_units.disk(), store=proxy.socket)
            assert until(lambda unit=unit: unit.served), (after, unit.view.said())  # type: ignore[misc]
            if fault.end() and after >= 3:  # three questions before the daemon starts
                assert until(lambda unit=unit: "the store is back" in unit.view.said())  # type: ignore[misc]
            still_alert(unit)


class End(Once):
    """The unit is told to end, just when the store answers."""

    unit: Unit

    def happen(self) -> None:
        self.unit.view.signal(signal.SIGTERM)


def test_told_to_end_at_whatever_moment(dom0_units: Units) -> None:
    """Within a request SIGTERM hangs the daemon for ever, and no unit may need as long as systemd waits."""
    for after in range(3, 27):
        fault = End(after)
        with faults.Proxy(dom0_units.bench.host, fault) as proxy:
            disk = dom0_units.disk()
            with fault._lock:
                fault.unit = unit = dom0_units.start(disk, store=proxy.socket)
            assert until(lambda fault=fault, unit=unit: fault.done or unit.served)  # type: ignore[misc]
            if not fault.end():
                unit.view.signal(signal.SIGTERM)
            assert unit.view.wait() in {0, 128 + signal.SIGKILL}, (after, unit.view.said())
            assert unit.left == []
            assert not unit.held


@pytest.mark.parametrize("rounds", [1, 3])
def test_a_connection_that_breaks_while_the_disk_is_served(dom0_units: Units, rounds: int) -> None:
    bench = dom0_units.bench
    with bench.host.mute(after=10**9) as proxy:
        unit = dom0_units.serving(store=proxy.socket)
        for number in range(rounds):
            for connection in list(proxy._open):
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            assert until(lambda number=number: unit.view.said().count("the store is back") > number)  # type: ignore[misc]
        still_alert(unit)


def test_a_guest_that_goes_while_the_connection_is_broken(dom0_units: Units) -> None:
    """The store says nothing about it; whoever knows better stops the unit."""
    bench = dom0_units.bench
    with bench.host.mute(after=10**9) as proxy:
        unit = dom0_units.serving(store=proxy.socket)
        os.rename(proxy.socket, f"{proxy.socket}.away")
        for connection in list(proxy._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        assert until(lambda: "the store is away" in unit.view.said())
        bench.host.rm(f"{bench.top}/{unit.guest}")
        os.rename(f"{proxy.socket}.away", proxy.socket)
        assert until(lambda: "lost them" in unit.view.said())
        assert unit.view.running
        assert unit.held
        unit.view.signal(signal.SIGTERM)
        assert unit.view.wait() == 0
        assert unit.left == []


def test_a_store_that_starts_anew_is_empty(dom0_units: Units) -> None:
    """The disks stay served; once their nodes are there again, their ends are followed again."""
    bench = dom0_units.bench
    some = [dom0_units.serving(), dom0_units.serving(B)]
    for number in range(2):
        bench.host.xenstored.restart()
        assert until(lambda number=number: all(u.view.said().count("lost them") > number for u in some))  # type: ignore[misc]
        assert [unit.view.running for unit in some] == [True, True]
    for unit in some:
        bench.plug(unit.guest, unit.devid, unit.image, state="2")
        assert until(lambda unit=unit: "has the disk's nodes again" in unit.view.said())  # type: ignore[misc]
    for unit in some:
        still_alert(unit)


def test_a_store_that_is_gone_for_good(dom0_units: Units) -> None:
    unit = dom0_units.serving()
    dom0_units.bench.host.xenstored.kill()
    assert until(lambda: "the store is away" in unit.view.said())
    assert unit.view.running
    unit.view.signal(signal.SIGTERM)
    assert unit.view.wait() == 0
    assert unit.left == []


def test_a_store_that_stands_still(dom0_units: Units) -> None:
    """Stopped at the worst moment: just when the daemon is about to look at its states."""
    bench = dom0_units.bench
    unit = dom0_units.serving()
    client = wire.Client(bench.host.socket)
    state = f"{bench.backend(unit.guest, A)}/state"
    client.send(wire.WRITE, state.encode() + b"\0" + b"2")
    bench.host.xenstored.stop()
    bench.host.xenstored.cont()
    client.answer()
    client.close()
    still_alert(unit)


def test_the_end_while_the_store_stands_still(dom0_units: Units) -> None:
    unit = dom0_units.serving()
    dom0_units.bench.host.xenstored.stop()
    unit.view.signal(signal.SIGTERM)
    code = unit.view.wait()
    dom0_units.bench.host.xenstored.cont()
    assert code == 0
    assert unit.left == []


# ---- a unit's beginning ----


def test_ready_with_all_its_files(units: Units) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        address = str(units.folder / "notify")
        systemd.bind(address)
        systemd.settimeout(30)
        given = {"TARGET": '/dev/"é\\', "MODE": "w", "IDENTITY": "8:1", "SIZE": "65536", "VERSION": "1.0"}
        unit = units.start(units.disk(), NOTIFY_SOCKET=address, **given)
        said = systemd.recv(4096).decode()
        assert said.startswith("READY=1\nSTATUS=disk 51712 of domain ")
        facts = unit.facts
        assert facts.pop("started") > 0
        assert facts.pop("view_pid") == unit.view.pid
        daemon = facts.pop("daemon_pid")
        assert facts == {
            "domid": unit.guest,
            "devid": A,
            "target": '/dev/"é\\',
            "mode": "w",
            "identity": ["8:1"],
            "daemon": str(units.bench.program),
            "version": "1.0",
            "size": 65536,
            "view": True,
        }
        assert Path(f"/proc/{daemon}/cmdline").read_bytes().split(b"\0")[1:] == [b"-d", b"51712", b""]
        given_on = Path(f"/proc/{daemon}/environ").read_bytes().split(b"\0")
        assert not [one for one in given_on if one.startswith((b"TARGET=", b"NOTIFY_SOCKET=", b"DAEMON="))]
        assert unit.path("sock").stat().st_mode & 0o777 == 0o600
        assert unit.held
        assert until(lambda: unit.served)
        still_alert(unit)
        assert "STATUS=" in systemd.recv(4096).decode()
        assert not unit.held


@pytest.mark.parametrize(
    ("backend", "frontend"), [("2", "1"), ("6", "1"), ("1", "4"), ("1", None), (None, "1"), (None, None)]
)
def test_a_disk_that_is_not_new_is_left_alone(
    units: Units, backend: str | None, frontend: str | None
) -> None:
    """A daemon started on it would remove its nodes."""
    guest, devid = units.disk()
    bench = units.bench
    for path, state in ((bench.backend(guest, devid), backend), (bench.frontend(guest, devid), frontend)):
        bench.host.rm(f"{path}/state") if state is None else bench.host.write(f"{path}/state", state)
    unit = units.start((guest, devid))
    assert unit.view.wait() == _view.NOT_NEW
    assert "a daemon is started only while both are 1" in unit.view.said()
    assert bench.state(guest, devid) == (int(backend) if backend else None)
    assert bench.directory(guest) == [str(devid)]
    assert unit.left == []


def test_nodes_that_come_late(units: Units) -> None:
    guest, devid = units.disk()
    units.bench.host.rm(f"{units.bench.frontend(guest, devid)}/state")
    unit = units.start((guest, devid))
    units.bench.host.write(f"{units.bench.frontend(guest, devid)}/state", "1")
    assert until(lambda: unit.served)


@pytest.mark.parametrize(
    ("given", "code", "why"),
    [
        ({"DAEMON": "/nonexistent/virtio-disk"}, _view.NOT_FOUND, "No such file or directory"),
        ({"DAEMON": "/etc/passwd"}, _view.NOT_RUN, "Permission denied"),
        ({"DAEMON": "virtio-disk"}, _view.USAGE, "not the absolute path"),
        ({"XENSTORED_PATH": "/nonexistent/socket"}, _view.UNAVAILABLE, "xenstore: No such file"),
        ({"VIRTIO_DISK_RUN": "/proc/run"}, _view.CANT_CREATE, "/proc/run"),
    ],
    ids=["missing", "no program", "relative", "no store", "no place for files"],
)
def test_no_daemon_is_started(units: Units, given: dict[str, str], code: int, why: str) -> None:
    disk = units.disk()
    unit = units.start(disk, **given)
    assert unit.view.wait() == code
    assert why in unit.view.said()
    assert units.bench.state(*disk) == 1
    assert unit.left == []


def test_one_unit_a_disk(units: Units) -> None:
    unit = units.serving()
    second = units.start((unit.guest, A))
    assert second.view.wait() == _view.LIVES_ALREADY
    assert "a unit of this disk lives" in second.view.said()
    still_alert(unit)


# ---- its end ----


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("through", ["1", "0"], ids=["view", "no view"])
def test_told_to_end(units: Units, number: int, through: str) -> None:
    unit = units.serving(VIEW=through)
    assert unit.path("sock").exists() == (through == "1")
    unit.view.signal(number)
    code = unit.view.wait()
    # without a view nobody can tell whether the daemon is in the middle of a request, where SIGTERM hangs it
    assert code == 0 or (through == "0" and code == 128 + signal.SIGKILL)
    assert units.bench.state(unit.guest, A) is None or code
    assert unit.left == []
    assert not os.path.exists(f"/proc/{unit.daemon_pid}")


def test_a_hangup_of_some_terminal_is_nothing(units: Units) -> None:
    unit = units.serving()
    unit.view.signal(signal.SIGHUP)
    still_alert(unit)


@pytest.mark.parametrize("through", ["1", "0"], ids=["view", "no view"])
def test_told_to_end_unless_the_disk_is_taken_up(units: Units, through: str) -> None:
    unit = units.serving(VIEW=through)
    unit.view.signal(signal.SIGUSR1)
    assert until(lambda: "unless the disk is taken up" in unit.view.said())
    assert units.bench.state(unit.guest, A) == 2
    assert os.path.exists(f"/proc/{unit.daemon_pid}")
    if through == "1":  # without one a daemon whose guest went waits for another
        still_alert(unit)


@ours
def test_a_daemon_that_hangs_at_its_end(units: Units) -> None:
    standin.misbehave(units.bench.program, "hang all")
    unit = units.serving()
    unit.view.signal(signal.SIGTERM)
    assert unit.view.wait() == 128 + signal.SIGKILL
    assert "is killed" in unit.view.said()
    assert unit.left == []


@ours
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_told_to_end_before_it_took_the_disk_up(units: Units, number: int) -> None:
    """The disk stays as new as it was, so another daemon may take it up."""
    standin.misbehave(units.bench.program, "late all ms=60000", "hang all")
    disk = units.disk()
    unit = units.start(disk)
    assert until(lambda: unit.path("json").exists())
    unit.view.signal(number)
    assert unit.view.wait() == 0
    assert units.bench.state(unit.guest, A) == 1
    assert unit.left == []
    standin.misbehave(units.bench.program)
    again = units.start(disk)
    assert until(lambda: again.served)
    still_alert(again)


@ours
@pytest.mark.parametrize(
    ("fault", "code", "state"),
    [
        ("crash-early all", 128 + signal.SIGKILL, 1),
        ("crash-attaching all", 128 + signal.SIGKILL, 2),
        ("crash all", 128 + signal.SIGKILL, 2),
        ("exit all", 1, 1),
        ("refuse all", 0, None),
    ],
)
@pytest.mark.parametrize("through", ["1", "0"], ids=["view", "no view"])
def test_a_daemon_that_fails(units: Units, fault: str, code: int, state: int | None, through: str) -> None:
    if fault == "refuse all" and through == "0":
        return  # it waits for the next guest, and the view knows nothing of it
    standin.misbehave(units.bench.program, fault)
    unit = units.start(units.disk(), VIEW=through)
    assert unit.view.wait() == code
    assert units.bench.state(unit.guest, A) == state
    assert ("the disk is lost" in unit.view.said()) == (code != 0)
    assert unit.left == []


def test_a_view_that_is_killed(units: Units) -> None:
    """Its daemon may live a moment longer, and until then this disk has a writer."""
    unit = units.serving()
    unit.view.kill()
    assert os.path.exists(f"/proc/{unit.daemon_pid}")
    assert unit.held
    again = units.start((unit.guest, A))
    assert again.view.wait() == _view.LIVES_ALREADY
    os.kill(unit.daemon_pid, signal.SIGKILL)
    assert until(lambda: not unit.held)
    assert unit.left == ["json", "lock", "sock"]
    third = units.start((unit.guest, A))
    assert third.view.wait() == _view.NOT_NEW
    assert third.left == []


# ---- what it costs ----


def test_how_much_memory(units: Units) -> None:
    """With its code compiled before, as a unit has it; Debian's own Python."""
    library = units.folder / "library"
    library.mkdir()
    shutil.copy(SOURCE, library / "virtio_disk_view.py")
    start = units.folder / "start"
    start.write_text(
        f"#!/bin/sh\nexec /usr/bin/python3 -I -S -X pycache_prefix={units.folder}/code -c 'import sys; "
        f'sys.path.append("{library}"); import virtio_disk_view; virtio_disk_view.start()\' "$@"\n'
    )
    for most in (20, 12):  # MB; the first one compiles
        unit = units.serving(COMMAND=f"sh {start}")
        lines = Path(f"/proc/{unit.view.pid}/status").read_text().splitlines()
        size = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
        assert size < most * 1024
        still_alert(unit)


def test_asleep_while_nothing_happens(units: Units) -> None:
    """In poll without a limit, once the last look at the nodes is done."""
    unit = units.serving()

    def asleep() -> bool:
        words = Path(f"/proc/{unit.view.pid}/syscall").read_text().split()
        timeouts = {"-1", "0xffffffff", "0xffffffffffffffff", "0x0"}
        return words[0] != "running" and (words[3] in timeouts)

    if os.geteuid() != 0:
        pytest.skip("a fact of this machine: only root may see where a process sleeps")
    assert until(asleep)
