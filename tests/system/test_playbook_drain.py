# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook drain: a driver domain is restarted with all its guests, by dom0 alone, whatever becomes of the link."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import standin
from backends import Controller
from guests import domid_of, until, virtio_disk, write_config
from lab import LabError, LabHost
from lab.machines import Machine
from lab.machines_pair import Dom0, DriverDomain
from launching import SERVICE, A, Backend
from role_runs import changed, told

DRAIN = "xen.virtio.drain"
STATE = "/var/lib/xen-virtio/drain/DomD.json"
BOUND = 120.0  # seconds: generous, only to end a test that would hang


class Board:
    """A dom0 over SSH with a driver domain DomD and guests that hang on it; the limits are a lab's, not a board's."""

    def __init__(self, dom0: Dom0, controller: Controller) -> None:
        self.dom0, self.host, self.controller = dom0, dom0.host, controller
        controller.group(
            "xen_dom0",
            "dom0",
            xen_driver_domains={"DomD": None},
            xen_drain_ready_timeout=1,
            xen_drain_shutdown_timeout=15,
            xen_drain_settle=0.1,
        )

    def create(self, name: str, disks: int | list[str] = 1, **options: Any) -> int:
        """A guest made in dom0."""
        self.dom0.machine.ssh(["xl", "create", write_config(self.host, name, disks, **options)])
        return self.domid(name)

    def domid(self, name: str) -> int:
        domid = domid_of(self.host, name)
        assert domid is not None, name
        return domid

    def domids(self, *names: str) -> dict[str, int | None]:
        return {name: domid_of(self.host, name) for name in names}

    def drain(self, *flags: str, check: bool = True, **more: Any) -> subprocess.CompletedProcess[str]:
        """With consent, unless told otherwise."""
        return self.controller.play(DRAIN, *flags, check=check, **{"xen_drain_consent": True, **more})

    @property
    def state(self) -> dict[str, Any]:
        """What dom0 keeps of the drain; empty before there is one. Past SSH, so also with the link down."""
        done = self.dom0.machine.run(["cat", STATE], check=False)
        return dict(json.loads(done.stdout)) if done.returncode == 0 else {}

    def reaches(self, *phases: str) -> None:
        assert until(lambda: self.state.get("phase") in phases, BOUND), self.state

    def ended(self) -> None:
        assert until(lambda: self.state.get("outcome") is not None, BOUND), self.state


@pytest.fixture
def board(dom0: Dom0, controller: Controller) -> Board:
    """DomD is a domain of xl's; linux1 and linux2 hang on it, idle does not."""
    board = Board(dom0, controller)
    board.host.answer_backends()
    board.host.guest_answers()
    board.create("DomD", 0, driver_domain=1)
    board.create("linux1", 2)
    board.create("linux2", 1)
    board.create("idle", 0)
    return board


ALL = ("DomD", "linux1", "linux2", "idle")


def test_without_consent_the_guests_are_only_listed(board: Board) -> None:
    before = board.domids(*ALL)
    done = board.drain(xen_drain_consent=False)
    assert "linux1 (domain 2): xvda (/dev/vg/linux1-a), xvdb (/dev/vg/linux1-b)" in told(done)
    assert "linux2 (domain 3): xvda (/dev/vg/linux2-a)" in told(done)
    assert "idle" not in told(done)
    assert changed(done) == 0
    planned = board.drain("--check", "--diff")
    assert "2 guests would be restarted" in told(planned)
    assert "-domain 2 +a new domain" in told(planned)
    assert (board.domids(*ALL), board.state) == (before, {})


def test_all_come_back_and_a_second_run_reads_the_outcome(board: Board) -> None:
    before = board.domids(*ALL)
    done = board.drain("--diff", xen_guests={"linux2": {}, "linux1": {}})
    after = board.domids(*ALL)
    assert (after.pop("idle"), before["idle"]) == (4, 4)
    assert after == {"DomD": 5, "linux2": 6, "linux1": 7}  # in the inventory's order
    for line in (
        "DomD: restarted, now domain 5 (was domain 1)",
        "linux1: back as domain 7 (was domain 2)",
        "DomD was restarted (domain 1 -> 5), 2 guests re-created",
    ):
        assert line in told(done)
    state = board.state
    assert (state["outcome"], state["phase"], state["new_domid"]) == ("done", "ended", 5)
    # whoever looks after the new guests outlived the unit that made them
    daemons = board.dom0.machine.run(["pgrep", "-fc", "xl create"]).stdout.strip()
    assert int(daemons) == 4
    again = board.drain("--diff")
    assert "nothing to do: DomD is domain 5" in told(again)
    assert changed(again) == 0
    assert board.state == state
    board.drain(xen_drain_again=True)
    assert board.domids("DomD", "linux1", "linux2") == {"DomD": 8, "linux2": 9, "linux1": 10}


@contextmanager
def held(machine: Machine, guest: str) -> Iterator[None]:
    """Somebody is at a guest, so that whoever wants to change it waits."""
    lock = f"/run/xen-virtio/guest-{guest}.lock"
    hold = f"mkdir -p /run/xen-virtio; echo $$ >/run/held; exec flock -F {lock} sleep 3600"
    with subprocess.Popen(machine.command(["sh", "-ec", hold])):
        assert until(lambda: machine.run(["flock", "-n", lock, "true"], check=False).returncode == 1, BOUND)
        try:
            yield
        finally:
            machine.run(["sh", "-c", "kill $(cat /run/held)"])


def written(machine: Machine, path: str) -> bool:
    """Whether there is such a file now in a machine that may be about to boot."""
    try:
        machine.write(path, "")
    except LabError:
        return False
    return True


def test_the_link_drops_in_the_middle(
    lab: LabHost, dom0: Dom0, driver_domain: DriverDomain, controller: Controller, tmp_path: Path
) -> None:
    """The driver domain is a machine of its own, with daemons in it, and its end takes the network of dom0 with it."""
    lab.guest_answers()
    backend = Backend(driver_domain, standin.build(tmp_path / "build", "1.0"), tmp_path / "root")
    backend.install()
    backend.systemctl("enable", SERVICE)
    backend.start_launcher()
    # that of the next boot waits for a word, so that the lock is there before the driver domain is
    waits = "[Service]\nExecStartPre=sh -c 'until [ -e /etc/go ]; do sleep 0.1; done'\n"
    driver_domain.machine.write(f"/etc/systemd/system/{SERVICE}.d/waits.conf", waits)
    driver_domain.follow()
    board = Board(dom0, controller)
    before = board.create("linux1", [virtio_disk("xvda", backend.image("a"))])
    with ThreadPoolExecutor(1) as pool:
        play: Future[subprocess.CompletedProcess[str]] = pool.submit(
            board.drain,
            xen_drain_ready_timeout=100,
            xen_drain_shutdown_timeout=100,
            xen_drain_lock_timeout=600,
        )
        assert until(lambda: [one["status"] for one in board.state.get("guests", [])] == ["down"], BOUND)
        with held(dom0.machine, "linux1"):
            board.reaches("ready")
            assert until(lambda: written(driver_domain.machine, "/etc/go"))
            board.reaches("up")
            dom0.machine.unplug()
            state = board.state
            running = dom0.machine.run(["systemctl", "is-active", state["unit"]], check=False).stdout
            assert (state["phase"], state.get("outcome"), running) == ("up", None, "active\n")
        board.ended()
        assert not play.done()
        dom0.machine.plug()
        done = play.result(BOUND)
    after = board.domid("linux1")
    assert f"linux1: back as domain {after} (was domain {before})" in told(done)
    assert board.state["outcome"] == "done"
    assert backend.becomes("served", (after, A))  # half a second after libxl is content
    assert backend.clashes() == []


def test_a_guest_that_does_not_go_means_no_restart(board: Board) -> None:
    board.host.guest_answers("ignore", "linux2")
    before = board.domids(*ALL)
    done = board.drain(check=False)
    assert done.returncode != 0
    assert "DomD was not restarted" in told(done)
    assert "say force_destroy: true" in told(done)
    after = board.domids(*ALL)
    assert after["DomD"] == before["DomD"]
    assert after["linux2"] == before["linux2"]
    assert after["linux1"] == 5  # it had gone, and is back
    assert board.state["outcome"] == "abandoned"
    board.drain(xen_drain_force_destroy=True)
    assert board.state["outcome"] == "done"


def test_one_that_does_not_come_back_keeps_no_other_from_it(board: Board) -> None:
    board.host.backend_behaves("never", "linux1")
    done = board.drain(check=False)
    assert done.returncode != 0
    for words in (
        "linux1: NOT back (was domain 2)",
        "xvda (/dev/vg/linux1-a) at DomD",
        "linux2: back as domain",
    ):
        assert words in told(done)
    assert domid_of(board.host, "linux1") is None
    assert board.state["outcome"] == "incomplete"
    driver, other = board.domid("DomD"), board.domid("linux2")
    board.host.backend_behaves("answer", "linux1")
    assert changed(board.drain()) == 1  # it goes on from there
    assert board.domids("DomD", "linux2") == {"DomD": driver, "linux2": other}
    board.domid("linux1")
    assert board.state["outcome"] == "done"


def test_a_unit_that_was_cut_off_is_taken_up_again(board: Board) -> None:
    board.host.guest_answers("ignore", "linux2")
    started = board.drain(xen_drain_follow=0, xen_drain_shutdown_timeout=60)
    assert "whatever becomes of this connection" in told(started)
    assert until(lambda: any(one["status"] == "down" for one in board.state["guests"]), BOUND)
    board.dom0.machine.run(["systemctl", "kill", "--signal=KILL", "--kill-whom=main", board.state["unit"]])
    board.host.guest_answers("answer", "linux2")
    done = board.drain()
    assert "2 guests re-created" in told(done)
    assert None not in board.domids(*ALL).values()
    assert board.domid("DomD") != 1


def test_after_a_power_cut_in_the_middle_all_are_brought_back(board: Board) -> None:
    board.host.guest_answers("ignore", "linux2")
    board.drain(xen_drain_follow=0, xen_drain_shutdown_timeout=60)
    assert until(lambda: any(one["status"] == "down" for one in board.state["guests"]), BOUND)
    board.dom0.reboot()
    assert set(board.domids(*ALL).values()) == {None}
    board.host.guest_answers("answer", "linux2")
    done = board.drain()
    assert "2 guests re-created" in told(done)
    assert board.domids(*ALL) == {"DomD": 1, "linux1": 2, "linux2": 3, "idle": None}
    assert "nothing to do" in told(board.drain())


def test_a_unit_that_was_told_to_stop_ends_between_two_steps(board: Board) -> None:
    board.host.guest_answers("answer", "linux2", after=12.0)
    board.drain(xen_drain_follow=0, xen_drain_shutdown_timeout=60)
    assert until(lambda: domid_of(board.host, "linux1") is None, BOUND)  # so it has begun
    board.dom0.machine.run(["systemctl", "stop", board.state["unit"]])
    assert board.state["outcome"] == "stopped"
    assert board.domid("DomD") == 1
    board.drain()
    assert None not in board.domids(*ALL).values()


def test_two_runs_at_once_are_one_drain(board: Board) -> None:
    machine = board.dom0.machine
    with held(machine, "linux1"):
        board.drain(xen_drain_follow=0, xen_drain_lock_timeout=3000)
        unit = board.state["unit"]
        second = board.drain(xen_drain_follow=1, check=False)
        assert "was not seen to end within 1 s, and goes on by itself" in told(second)
    board.ended()
    done = board.drain()
    assert "nothing to do" in told(done)
    assert (board.state["unit"], board.state["outcome"]) == (unit, "done")
    assert board.domid("DomD") == 5


def test_a_guest_that_hangs_on_a_guest_goes_first_and_comes_last(board: Board) -> None:
    board.create("DomE", 1, driver_domain=1)
    board.create("far", [virtio_disk("xvda", "/dev/x", "DomE")])
    board.dom0.machine.ssh(["xl", "pause", "far"])
    board.drain()
    domids = board.domids("DomD", "linux1", "linux2", "DomE", "far")
    assert None not in domids.values()
    assert max(domids.values(), key=lambda domid: domid or 0) == domids["far"]
    log = " ".join(board.state["log"])
    assert log.index("far: shut down") < log.index("DomE: shut down")
    listed = board.dom0.machine.ssh(["xl", "list", "far"]).stdout.splitlines()[-1].split()
    assert "p" in listed[4]


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        ("rm /etc/xen/linux2.cfg", "linux2 (domain 3) has no configuration on this host"),
        ("rm /etc/xen/DomD.cfg", "DomD (domain 1) has no configuration on this host"),
        ("sed -i s,^kernel.*,kernel=\\'/none\\', /etc/xen/linux1.cfg", "/none is not on this host"),
        ("rm -rf /run/systemd/system", "does not run systemd"),
    ],
)
def test_what_could_not_come_back_is_not_taken_down(board: Board, prepare: str, words: str) -> None:
    before = board.domids(*ALL)
    board.dom0.machine.run(["sh", "-ec", prepare])
    done = board.drain(check=False)
    assert done.returncode != 0
    assert words in told(done)
    assert (board.domids(*ALL), board.state) == (before, {})


@pytest.mark.parametrize(
    ("domain", "words"),
    [
        ("Domain-0", "reboot the host"),
        ("nobody", "is not on this host"),
        ("dom0less-5", "Xen itself started it"),
        ("", "say which driver domain of dom0"),
    ],
)
def test_what_is_no_driver_domain_of_xls(board: Board, domain: str, words: str) -> None:
    board.host.add_domain()
    known = {"DomD": None} if domain else {"DomD": None, "DomE": None}
    done = board.drain(check=False, xen_drain_domain=domain, xen_driver_domains=known)
    assert done.returncode != 0
    assert words in told(done)
    assert board.domid("DomD") == 1
