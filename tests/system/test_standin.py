# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in for the virtio-disk daemon behaves as that daemon was seen to, its faults included.

With VIRTIO_DISK_SOURCE all but the last part is asked of the real one.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import standin
from guests import create, until, virtio_disk
from lab import LabHost, LabUnavailable, faults, wire
from standin.bench import Bench, Daemon

A, B, C = 51712, 51728, 51744  # xvda, xvdb, xvdc
WATCHED = "backend/virtio_disk"
ENDING = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGABRT]
ours = pytest.mark.skipif(
    standin.REAL is not None, reason="a fact of this machine: its daemon is the real one"
)


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return standin.build(tmp_path_factory.mktemp("standin") / "build", "1.0")


@pytest.fixture(scope="module", params=["c", "o"], ids=["xenstored", "oxenstored"])
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabHost]:
    """One for all: each test has domains of its own."""
    try:
        with LabHost(tmp_path_factory.mktemp("lab") / "host", request.param) as made:
            yield made
    except LabUnavailable as reason:
        pytest.skip(f"{reason}")


@pytest.fixture
def bench(host: LabHost, program: Path, tmp_path: Path) -> Iterator[Bench]:
    with Bench(host, program, tmp_path / "log") as made:
        yield made
    program.with_name(f"{program.name}.faults").unlink(missing_ok=True)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return make_image(tmp_path / "a.img")


def make_image(path: Path) -> Path:
    path.write_bytes(bytes(65536))
    return path


def served(bench: Bench, guest: int, devid: int, daemon: Daemon, image: Path) -> bool:
    return bench.state(guest, devid) == 2 and daemon.holds(image) != []


def serving(bench: Bench, image: Path, devid: int = A) -> tuple[Daemon, int]:
    """A daemon that serves a guest's disk."""
    guest = bench.guest()
    bench.plug(guest, devid, image)
    daemon = bench.start("-d", str(devid))
    assert until(lambda: served(bench, guest, devid, daemon, image))
    assert until(daemon.rests)  # a signal in the middle of a request is another story
    return daemon, guest


def misbehaving(bench: Bench, image: Path, fault: str) -> tuple[Daemon, int]:
    """A daemon that does this wrong, before a guest's first disk."""
    standin.misbehave(bench.program, fault)
    guest = bench.guest()
    bench.plug(guest, A, image)
    return bench.start("-d", str(A)), guest


def prove_alert(bench: Bench, daemon: Daemon, devid: int, image: Path) -> None:
    """All that was there before is behind this daemon: it now serves a guest with a higher domid."""
    guest = bench.guest()
    bench.plug(guest, devid, image)
    bench.touch()
    assert until(lambda: served(bench, guest, devid, daemon, image))


# ---- a guest of xl ----


@pytest.mark.parametrize(("access", "mode"), [("rw", os.O_RDWR), ("ro", os.O_RDONLY)])
def test_a_guest_of_xl_from_create_to_destroy(bench: Bench, image: Path, access: str, mode: int) -> None:
    bench.host.answer_backends()  # only for the console's tty:
    bench.host.backend_behaves("never")
    daemon = bench.start("-d", str(A))
    guest = create(bench.host, "guest", [f"access={access},{virtio_disk('xvda', str(image))}"])
    assert bench.state(guest, A) == 2
    assert until(lambda: daemon.holds(image) == [mode])
    bench.host.xl("destroy", "guest")
    assert until(lambda: bench.directory(guest) is None)
    assert until(lambda: "disconnected" in daemon.said())
    assert daemon.holds(image) == ([mode] if access == "ro" else [])  # an image that is only read stays open
    assert daemon.running


# ---- the command line ----


@pytest.mark.parametrize(
    ("arguments", "devid"),
    [
        (["-d", f"{B}"], B),
        ([f"-d{B}"], B),
        ([f"--devid={B}"], B),
        (["-l", "-d", f"{B}"], B),
        (["--legacy", f"--devid={B}"], B),
        (["--devid", f"{B}"], A),  # no devid at all: the first one
        ([], A),
        (["-l"], A),
        ([f"{B}"], A),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else f"serves {value}",
)
def test_which_disk_is_served(bench: Bench, image: Path, arguments: list[str], devid: int) -> None:
    guest = bench.guest()
    for one in (A, B):
        bench.plug(guest, one, image)
    daemon = bench.start(*arguments)
    assert until(lambda: served(bench, guest, devid, daemon, image))
    assert [bench.state(guest, one) for one in (A, B)] == [2 if one == devid else 1 for one in (A, B)]
    assert bench.state(guest, A + B - devid) == 1  # one daemon, one disk


@pytest.mark.parametrize("arguments", [["-h"], ["--help"], ["-x"], ["--domid=3"], ["-d"]], ids=" ".join)
def test_usage_and_nothing_else_ends_well(program: Path, arguments: list[str]) -> None:
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: ")


def test_without_a_store_it_ends(bench: Bench, tmp_path: Path) -> None:
    assert bench.start(store=str(tmp_path / "nothing")).wait() == 1


# ---- finding a guest ----


def test_an_idle_daemon_finds_a_first_guest_and_not_a_second(bench: Bench, image: Path) -> None:
    first, second = bench.start("-d", str(A)), bench.start("-d", str(B))
    with wire.Client(bench.view) as witness:
        witness.watch(WATCHED, "witness")
        one = bench.guest()
        bench.plug(one, A, image)  # the directory is made by this: the watch set anew finds it
        assert until(lambda: served(bench, one, A, first, image))
        other = bench.guest()
        bench.plug(other, B, image)
        bench.host.write(f"{bench.top}/{other}/{B}/state", "1")
        seen = []
        while (event := witness.event(30.0)) and event[0] != f"{WATCHED}/{other}/{B}/state":
            seen.append(event[0])
    assert event is not None
    assert WATCHED not in seen[1:]  # the first is what every new watch gets
    assert bench.state(other, B) == 1
    bench.touch()  # now there is such an event
    assert until(lambda: served(bench, other, B, second, image))


def test_a_fresh_daemon_finds_a_guest_beside_others(bench: Bench, image: Path) -> None:
    daemon, guest = serving(bench, image)
    fresh, other = serving(bench, image, B)
    assert served(bench, guest, A, daemon, image)
    assert served(bench, other, B, fresh, image)


def test_of_guests_that_are_there_only_the_highest_is_served(bench: Bench, image: Path) -> None:
    low, high = bench.guest(), bench.guest()
    for guest in (low, high):
        bench.plug(guest, A, image)
    daemon = bench.start("-d", str(A))
    assert until(lambda: served(bench, high, A, daemon, image))
    bench.unplug(high, A)
    assert until(lambda: bench.directory(high) == [])
    prove_alert(bench, daemon, A, image)
    assert bench.state(low, A) == 1


@pytest.mark.parametrize("wanted", [A, B], ids=["that it served", "that it only saw"])
def test_a_domid_below_one_is_never_served(bench: Bench, image: Path, wanted: int) -> None:
    low, high = bench.guest(), bench.guest()
    bench.plug(high, A, image)
    daemon = bench.start("-d", str(wanted))
    if wanted == A:
        assert until(lambda: served(bench, high, A, daemon, image))
        bench.unplug(high, A)
        assert until(lambda: bench.directory(high) == [])
    else:
        assert until(lambda: f"devid {wanted}" in daemon.said())
    bench.plug(low, wanted, image)
    bench.touch()
    prove_alert(bench, daemon, wanted, image)
    assert bench.state(low, wanted) == 1


def test_a_disk_that_comes_after_the_look_is_never_served(bench: Bench, image: Path) -> None:
    guest = bench.guest()
    bench.plug(guest, A, image)
    daemon = bench.start("-d", str(B))
    assert until(lambda: f"devid {B}" in daemon.said())
    bench.plug(guest, B, image)
    bench.touch()
    prove_alert(bench, daemon, B, image)
    assert bench.state(guest, B) == 1


# ---- attaching ----


def test_state_2_comes_before_the_target_is_open(bench: Bench, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)  # opening it waits for who writes there
    guest = bench.guest()
    bench.plug(guest, A, pipe, "r")
    daemon = bench.start("-d", str(A))
    assert until(lambda: bench.state(guest, A) == 2)
    assert daemon.holds(pipe) == []
    writer = os.open(pipe, os.O_RDWR)
    assert until(lambda: daemon.holds(pipe) == [os.O_RDONLY])
    os.close(writer)


@pytest.mark.parametrize("target", ["missing.img", "."])
def test_what_cannot_be_opened_goes_away_after_state_2(bench: Bench, tmp_path: Path, target: str) -> None:
    guest = bench.guest()
    states = []
    with bench.host.store() as witness:
        witness.watch(bench.top, "witness")
        bench.plug(guest, A, tmp_path / target)
        daemon = bench.start("-d", str(A))
        state = f"{bench.backend(guest, A)}/state"
        assert until(lambda: bench.directory(guest) == [])  # which itself is not the daemon's to remove
        witness.read(state)  # what was fired comes before the answer
        while event := witness.event(0):
            states.append(event[0])
    assert states.count(state) >= 2  # plugged, and 2 or 6
    assert daemon.running


@pytest.mark.parametrize("missing", ["params", "mode", "base", "irq", "frontend", "state"])
def test_an_incomplete_disk_is_removed(bench: Bench, image: Path, missing: str) -> None:
    guest = bench.guest()
    bench.plug(guest, A, image)
    bench.host.rm(f"{bench.backend(guest, A)}/{missing}")
    daemon = bench.start("-d", str(A))
    assert until(lambda: bench.directory(guest) == [])
    assert daemon.running


@pytest.mark.parametrize("whose", ["backend", "frontend"])
@pytest.mark.parametrize("state", ["0", "2", "4", "5", "6"])
def test_a_disk_not_in_state_1_is_removed(bench: Bench, image: Path, whose: str, state: str) -> None:
    guest = bench.guest()
    bench.plug(guest, A, image)
    path = bench.backend(guest, A) if whose == "backend" else bench.frontend(guest, A)
    bench.host.write(f"{path}/state", state)
    daemon = bench.start("-d", str(A))
    assert until(lambda: bench.directory(guest) == [])
    assert daemon.running


def test_an_address_in_hexadecimal_is_taken_for_zero(bench: Bench, image: Path) -> None:
    guest = bench.guest()
    bench.plug(guest, A, image, base="0x2000000")
    daemon = bench.start("-d", str(A))
    assert until(lambda: served(bench, guest, A, daemon, image))
    assert standin.REAL or "at 0x0 " in daemon.said()


# ---- serving ----


def test_it_ignores_state_5_and_follows_the_frontend(bench: Bench, image: Path) -> None:
    daemon, guest = serving(bench, image)
    bench.host.write(f"{bench.backend(guest, A)}/state", "5")
    bench.host.write(f"{bench.frontend(guest, A)}/state", "1")
    serving(bench, image, B)
    assert bench.state(guest, A) == 5
    assert daemon.holds(image) == [os.O_RDWR]
    bench.host.rm(bench.frontend(guest, A))
    assert until(lambda: bench.directory(guest) == [])
    assert daemon.holds(image) == []
    prove_alert(bench, daemon, A, image)


@pytest.mark.parametrize("what", ["frontend", "frontend/state", "backend/state", "backend"])
def test_it_gives_up_when_one_of_these_is_gone(bench: Bench, image: Path, what: str) -> None:
    daemon, guest = serving(bench, image)
    whose, _unused, node = what.partition("/")
    path = bench.backend(guest, A) if whose == "backend" else bench.frontend(guest, A)
    bench.host.rm(f"{path}/{node}".rstrip("/"))
    assert until(lambda: daemon.holds(image) == [])
    assert until(lambda: not bench.directory(guest))
    assert daemon.running


def test_a_guest_that_dies_is_noticed_where_xenstored_tells(bench: Bench, image: Path) -> None:
    daemon, guest = serving(bench, image)
    bench.host.kill_domain(guest)
    assert until(lambda: bench.host.read(bench.frontend(guest, A)) is None)
    if bench.host.daemon == "o":  # it removes the nodes of a dead domain, and fires no watch
        serving(bench, image, B)
        assert served(bench, guest, A, daemon, image)
        bench.host.rm(bench.backend(guest, A))  # as the toolstack does in the end
    assert until(lambda: daemon.holds(image) == [])
    assert until(lambda: bench.directory(guest) == [])


@pytest.mark.parametrize("state", ["2", "3", "4", "6"])
def test_a_frontend_that_knows_xenbus_ends_it(bench: Bench, image: Path, state: str) -> None:
    daemon, guest = serving(bench, image)
    bench.host.write(f"{bench.frontend(guest, A)}/state", state)
    assert daemon.wait() == 0
    assert bench.directory(guest) == []


def test_two_with_one_devid_lose_the_disk(bench: Bench, image: Path) -> None:
    daemon, guest = serving(bench, image)
    other = bench.start("-d", str(A))
    assert until(lambda: daemon.holds(image) == [])
    assert until(lambda: bench.directory(guest) == [])
    assert daemon.running
    assert other.running


# ---- its end ----


@pytest.mark.parametrize("number", ENDING, ids=lambda number: number.name)
def test_a_signal_takes_the_disk_with_it(bench: Bench, image: Path, number: signal.Signals) -> None:
    daemon, guest = serving(bench, image)
    daemon.signal(number)
    assert daemon.wait() == 0
    assert bench.directory(guest) == []


@pytest.mark.parametrize("number", ENDING, ids=lambda number: number.name)
def test_an_idle_one_ends_well(bench: Bench, image: Path, number: signal.Signals) -> None:
    _unused, guest = serving(bench, image)
    idle = bench.start("-d", str(B))
    assert until(lambda: f"devid {B}" in idle.said() and idle.rests())
    idle.signal(number)
    assert idle.wait() == 0
    assert bench.state(guest, A) == 2


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGUSR1, signal.SIGALRM, signal.SIGPIPE])
def test_other_signals_wait(bench: Bench, image: Path, number: signal.Signals) -> None:
    daemon, guest = serving(bench, image)
    daemon.signal(number)
    status = Path(f"/proc/{daemon.pid}/status").read_text()
    masks = dict(line.split(":\t") for line in status.splitlines() if line.startswith(("SigBlk", "ShdPnd")))
    assert all(int(mask, 16) & 1 << number - 1 for mask in masks.values()), masks
    assert served(bench, guest, A, daemon, image)


def test_killed_and_started_again_the_disk_is_lost(bench: Bench, image: Path) -> None:
    daemon, guest = serving(bench, image)
    daemon.kill()
    assert bench.state(guest, A) == 2
    bench.start("-d", str(A))
    assert until(lambda: bench.directory(guest) == [])


def test_a_signal_in_the_middle_of_a_request_hangs_it(bench: Bench, image: Path) -> None:
    guest = bench.guest()
    bench.plug(guest, A, image)
    silence = faults.Mute(after=0)
    with faults.Proxy(bench.host, silence, upstream=bench.view) as proxy:
        daemon = bench.start("-d", str(A), store=proxy.socket)
        assert until(
            lambda: silence.began and waits_for_a_reply(daemon)
        )  # reading its libraries it waits, too
        daemon.signal(signal.SIGTERM)
        assert until(lambda: not masks_nothing(daemon))
        with pytest.raises(subprocess.TimeoutExpired):
            daemon.wait(1.0)
    assert daemon.running  # not even the end of the connection helps
    daemon.kill()


def waits_for_a_reply(daemon: Daemon) -> bool:
    """Blocked in a read or in a lock, and not in a pause."""
    call = Path(f"/proc/{daemon.pid}/syscall").read_text().split()[0]
    return call in {"0", "202"}  # x86: read, futex


def masks_nothing(daemon: Daemon) -> bool:
    """Whether SIGTERM can reach it: not inside its own handler."""
    status = Path(f"/proc/{daemon.pid}/status").read_text()
    mask = next(line.split()[1] for line in status.splitlines() if line.startswith("SigBlk"))
    return not int(mask, 16) & 1 << signal.SIGTERM - 1


# ---- the store ----


def test_a_lost_connection_is_never_noticed_while_it_serves(bench: Bench, image: Path) -> None:
    guest = bench.guest()
    bench.plug(guest, A, image)
    with bench.host.delay(0.0, upstream=bench.view) as proxy:
        daemon = bench.start("-d", str(A), store=proxy.socket)
        assert until(lambda: served(bench, guest, A, daemon, image))
        assert until(daemon.rests)
    bench.unplug(guest, A)
    serving(bench, image, B)
    assert daemon.holds(image) == [os.O_RDWR]
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0
    assert bench.state(guest, A) == 5  # and nobody hears of its end


def test_a_connection_lost_while_it_waits_never_comes_back(bench: Bench, image: Path) -> None:
    guest = bench.guest()
    bench.plug(guest, B, image)
    with bench.host.delay(0.0, upstream=bench.view) as proxy:
        daemon = bench.start("-d", str(A), store=proxy.socket)
        assert until(lambda: f"devid {A}" in daemon.said())
        assert until(daemon.rests)
    other = bench.guest()
    bench.plug(other, A, image)
    bench.touch()
    serving(bench, image, C)
    assert bench.state(other, A) == 1
    assert daemon.running


def test_no_watch_to_be_had_is_borne_in_silence(bench: Bench, image: Path) -> None:
    guest = bench.guest()
    bench.plug(guest, A, image)
    with wire.Client(bench.view) as greedy:
        used = use_up_watches(greedy)
        daemon = bench.start("-d", str(A))
        before = daemon.said()
        assert until(lambda: voluntary_switches(daemon) > 20)  # it tries, and waits, and tries
        assert bench.state(guest, A) == 1
        assert daemon.said().startswith(before)
        assert "watch" not in daemon.said()
        for one in range(used):
            greedy.unwatch(f"nothing/{one}", "greedy")
        assert until(lambda: served(bench, guest, A, daemon, image))


def use_up_watches(client: wire.Client) -> int:
    """As many as the quota gives; their number."""
    for count in range(10_000):
        try:
            client.watch(f"nothing/{count}", "greedy")
        except wire.WireError:
            return count
    raise AssertionError("this domain has no quota of watches")


def voluntary_switches(daemon: Daemon) -> int:
    status = Path(f"/proc/{daemon.pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("voluntary")))


# ---- who wrote ----


@ours
def test_a_writer_is_recorded(bench: Bench, image: Path) -> None:
    daemon, guest = serving(bench, image)
    bench.unplug(guest, A)
    assert until(lambda: len(standin.events(log_of(bench))) == 2)
    assert [
        (event.what, event.mode, event.domid, event.devid) for event in standin.events(log_of(bench))
    ] == [
        ("opened", "w", guest, A),
        ("closed", "w", guest, A),
    ]
    first = standin.events(log_of(bench))[0]
    assert (first.pid, first.version, first.target) == (daemon.pid, "1.0", str(image))


def log_of(bench: Bench) -> Path:
    assert bench.log is not None
    return bench.log


@ours
@pytest.mark.parametrize(
    ("modes", "names", "clash"),
    [("ww", "aa", True), ("ww", "al", True), ("ww", "ab", False), ("wr", "aa", False), ("rr", "aa", False)],
)
def test_two_writers_of_a_target_clash(
    bench: Bench, image: Path, tmp_path: Path, modes: str, names: str, clash: bool
) -> None:
    make_image(tmp_path / "b.img")
    (tmp_path / "l.img").hardlink_to(image)
    daemons = []
    for devid, mode, name in zip((A, B), modes, names):
        guest, target = bench.guest(), tmp_path / f"{name}.img"
        bench.plug(guest, devid, target, mode)
        daemons.append(bench.start("-d", str(devid)))
        assert until(lambda: served(bench, guest, devid, daemons[-1], target))  # noqa: B023 - asked at once
    assert until(lambda: sum(event.what == "opened" for event in standin.events(log_of(bench))) == 2)
    others = [(event.pid, event.other) for event in standin.clashes(log_of(bench))]
    assert others == ([(daemons[1].pid, daemons[0].pid)] if clash else [])


@ours
@pytest.mark.parametrize("how", ["unplugged", "killed"])
def test_one_after_the_other_is_no_clash(bench: Bench, image: Path, how: str) -> None:
    daemon, guest = serving(bench, image)
    if how == "killed":
        daemon.kill()
    else:
        bench.unplug(guest, A)
        assert until(lambda: bench.directory(guest) == [])
    serving(bench, image, B)
    assert until(lambda: len(standin.events(log_of(bench))) == (2 if how == "killed" else 3))
    assert standin.clashes(log_of(bench)) == []


# ---- faults on demand ----


@ours
@pytest.mark.parametrize("what", ["all", str(A), "target"])
def test_faults_are_meant_for_some(bench: Bench, image: Path, what: str) -> None:
    daemon, _guest = serving(bench, image)
    other, _guest = serving(bench, make_image(image.with_name("b.img")), B)
    standin.misbehave(bench.program, f"hang {image if what == 'target' else what}")
    for one in (daemon, other):
        one.signal(signal.SIGTERM)
    assert until(lambda: "hang" in daemon.said())
    assert daemon.holds(image) == [os.O_RDWR]
    if what != "all":
        assert other.wait() == 0
    assert daemon.running


@ours
@pytest.mark.parametrize(
    ("fault", "state", "status"),
    [("crash-early", 1, -9), ("crash-attaching", 2, -9), ("crash", 2, -9), ("exit", 1, 1)],
)
def test_a_daemon_that_dies_on_demand(bench: Bench, image: Path, fault: str, state: int, status: int) -> None:
    daemon, guest = misbehaving(bench, image, f"{fault} {A}")
    assert daemon.wait() == status
    assert bench.state(guest, A) == state


@ours
def test_a_hypervisor_that_refuses(bench: Bench, image: Path) -> None:
    daemon, guest = misbehaving(bench, image, f"refuse {image}")
    assert until(lambda: bench.directory(guest) == [])
    assert daemon.running


@ours
def test_a_deaf_one_serves_nobody(bench: Bench, image: Path) -> None:
    daemon, guest = misbehaving(bench, image, f"deaf {A}")
    assert until(lambda: "deaf" in daemon.said())
    serving(bench, image, B)
    assert bench.state(guest, A) == 1
    standin.misbehave(bench.program)
    prove_alert(bench, daemon, A, image)


@ours
def test_a_late_one_comes_late(bench: Bench, image: Path) -> None:
    daemon, guest = misbehaving(bench, image, f"late {A} ms=600000")
    assert until(lambda: "late" in daemon.said())
    serving(bench, image, B)
    assert bench.state(guest, A) == 1


@ours
def test_a_fault_can_happen_once(bench: Bench, image: Path, tmp_path: Path) -> None:
    (tmp_path / "flag").touch()
    daemon, guest = misbehaving(bench, image, f"crash-early {A} flag={tmp_path / 'flag'}")
    assert daemon.wait() == -9
    again = bench.start("-d", str(A))
    assert until(lambda: served(bench, guest, A, again, image))


# ---- how it is had ----


@ours
def test_installed_and_removed(program: Path, tmp_path: Path) -> None:
    source = str(program.parent)
    standin.run(["make", "-C", source, "install", f"DESTDIR={tmp_path}/root", "PREFIX=/opt/it"])
    installed = tmp_path / "root/opt/it/virtio-disk"
    assert installed.read_bytes() == program.read_bytes()
    assert installed.stat().st_mode & 0o777 == 0o755


@ours
def test_a_repository_of_two_versions(tmp_path: Path) -> None:
    repository = standin.repository(tmp_path / "repository", ["1.0", "2.0"])
    for version in ("1.0", "2.0"):
        clone = tmp_path / version
        standin.run(["git", "clone", "--quiet", "--branch", version, str(repository), str(clone)])
        standin.run(["make", "-C", str(clone)])
        assert version.encode() in (clone / "virtio-disk").read_bytes()
