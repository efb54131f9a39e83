# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A restore on a real systemd machine over SSH: one unit, whatever becomes of the link, the unit and the power."""

from __future__ import annotations

import json
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from backends import Controller
from checkpoint_calls import rows
from guests import domid_of, until, write_config
from lab.machines_pair import Dom0

STATE = "/var/lib/xen-virtio/checkpoints/before/restore.json"
BOUND = 120.0  # seconds: generous, only to end a test that would hang
NAMES = ("linux1", "linux2", "idle")


class Board:
    """A dom0 over SSH with a checkpoint, after which linux1 and linux2 were made to run from something else."""

    def __init__(self, dom0: Dom0, controller: Controller) -> None:
        self.dom0, self.host, self.controller = dom0, dom0.host, controller

    def checkpoint(self, state: str = "restored", *flags: str, **options: Any) -> dict[str, Any]:
        options = {"name": "before", "settle": 0.1, "shutdown_timeout": 600, **options}
        return self.controller.module("dom0", "xen.virtio.checkpoint", *flags, state=state, **options)

    def create(self, name: str, **options: Any) -> None:
        self.dom0.machine.ssh(["xl", "create", write_config(self.host, name, 0, **options)])

    def anew(self, name: str, **options: Any) -> None:
        """Somebody makes a guest run from something else."""
        path = write_config(self.host, name, 0, **options)
        self.dom0.machine.ssh(["sh", "-ec", f"xl destroy {name}; xl create {path}"])

    def domids(self) -> dict[str, int | None]:
        return {name: domid_of(self.host, name) for name in NAMES}

    @property
    def state(self) -> dict[str, Any]:
        """How the restore stands; empty before there is one. Past SSH, so also with the link down."""
        done = self.dom0.machine.run(["cat", STATE], check=False)
        return dict(json.loads(done.stdout)) if done.returncode == 0 else {}

    def actions(self) -> list[str]:
        return [one["action"] for one in self.state.get("guests", [])]

    def ended(self) -> None:
        assert until(lambda: self.state.get("outcome") is not None, BOUND), self.state


@pytest.fixture
def board(dom0: Dom0, controller: Controller) -> Board:
    board = Board(dom0, controller)
    board.host.answer_backends()
    board.host.guest_answers()
    for name in NAMES:
        board.create(name)
    assert board.checkpoint("present", guests=[*NAMES])["changed"]
    board.anew("linux1", cmdline="quiet")
    board.anew("linux2", cmdline="quiet")
    return board


def test_a_unit_brings_them_back_and_the_task_waits_for_it(board: Board) -> None:
    before = board.domids()
    planned = board.checkpoint("restored", "--check", "--diff")
    assert rows(planned) == {"linux1": "restored", "linux2": "restored", "idle": "unchanged"}
    assert board.state == {}
    done = board.checkpoint()
    assert not done["failed"], done
    assert done["changed"]
    assert rows(done) == rows(planned)
    assert done["unit"].startswith("xen-virtio-restore-before-")
    assert (done["restore"]["outcome"], done["restore"]["running"]) == ("done", False)
    after = board.domids()
    assert after["idle"] == before["idle"]
    assert None not in after.values()
    assert set(after.values()) & set(before.values()) == {before["idle"]}
    # whoever looks after the new guests outlived the unit that made them
    assert int(board.dom0.machine.run(["pgrep", "-fc", "xl create"]).stdout.strip()) == 3
    again = board.checkpoint()
    assert (again["changed"], again["unit"], board.domids()) == (False, None, after)


def test_what_comes_up_with_the_host_comes_up_with_it_again(board: Board) -> None:
    """The unit has all at hand that this takes."""
    link = "/etc/systemd/system/multi-user.target.wants/xen-virtio-guest@idle.service"
    for autostart in (True, False):
        if not autostart:
            board.checkpoint("present", name="auto", guests=["idle"])
        told = board.controller.module("dom0", "xen.virtio.guest", name="idle", autostart=autostart)
        assert (told["failed"], board.dom0.machine.exists(link)) == (False, autostart), told
    domid = board.domids()["idle"]
    done = board.checkpoint(name="auto")
    assert not done["failed"], done
    assert done["lines"] == [f"idle: restored (running, domain {domid}): autostart off -> on"]
    assert board.dom0.machine.exists(link)


def test_the_link_drops_in_the_middle(board: Board) -> None:
    board.host.guest_answers("answer", "linux2", after=15.0)
    with ThreadPoolExecutor(1) as pool:
        task: Future[dict[str, Any]] = pool.submit(board.checkpoint)
        assert until(lambda: "restored" in board.actions(), BOUND), board.state
        board.dom0.machine.unplug()
        board.ended()
        assert not task.done()
        board.dom0.machine.plug()
        done = task.result(BOUND)
    assert not done["failed"], done
    assert rows(done) == {"linux1": "restored", "linux2": "restored", "idle": "unchanged"}


def test_a_unit_that_was_cut_off_goes_on_with_the_next_call(board: Board) -> None:
    board.host.guest_answers("answer", "linux2", after=600.0)  # not before it is cut off
    started = board.checkpoint(wait=False)
    assert started["restore"]["running"]
    assert "whatever becomes of this connection" in started["msg"]
    assert until(lambda: "restored" in board.actions(), BOUND), board.state
    linux1 = board.domids()["linux1"]
    # a second task finds it, and begins no other
    assert board.checkpoint(wait=False)["unit"] == started["unit"]
    board.dom0.machine.run(["systemctl", "kill", "--signal=KILL", "--kill-whom=main", started["unit"]])
    cut_off = board.checkpoint(unit=started["unit"])
    assert cut_off["failed"]
    assert "run the same again to go on" in cut_off["msg"]
    board.host.guest_answers("answer", "linux2")
    done = board.checkpoint()
    assert not done["failed"], done
    assert rows(done) == {"linux1": "unchanged", "linux2": "restored", "idle": "unchanged"}
    assert board.domids()["linux1"] == linux1
    assert board.checkpoint(unit=started["unit"])["failed"]  # of that nothing is kept any more


def test_after_a_power_cut_in_the_middle_all_are_brought_back(board: Board) -> None:
    board.host.guest_answers("answer", "linux2", after=600.0)  # not before it is cut off
    started = board.checkpoint(wait=False)
    assert until(lambda: "restored" in board.actions(), BOUND), board.state
    board.dom0.reboot()
    assert set(board.domids().values()) == {None}
    board.host.guest_answers("answer", "linux2")
    assert "was cut off" in board.checkpoint(unit=started["unit"])["msg"]
    done = board.checkpoint()
    assert not done["failed"], done
    assert set(rows(done).values()) == {"restored"}
    assert None not in board.domids().values()


def test_told_to_stop_it_ends_between_two_guests(board: Board) -> None:
    board.host.guest_answers("answer", "linux1", after=12.0)
    started = board.checkpoint(wait=False)
    held = "! flock --nonblock /run/xen-virtio/guest-linux1.lock true"
    assert until(
        lambda: board.dom0.machine.run(["sh", "-c", held], check=False).returncode == 0, BOUND
    )  # it began
    board.dom0.machine.run(["systemctl", "stop", started["unit"]])
    assert board.state["outcome"] == "stopped"
    assert "not reached: linux2, idle" in board.state["message"]
    assert None not in board.domids().values()
    assert rows(board.checkpoint()) == {"linux1": "unchanged", "linux2": "restored", "idle": "unchanged"}
