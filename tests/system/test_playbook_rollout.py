# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook rollout over lab hosts: who is changed when, what stops it, who goes back, and what it says of it."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._launcher import VERSION
from boards import prepared
from guests import create, domid_of, virtio_disk
from lab import LabHost
from role_runs import Fleet, changed, told

ROLLOUT = "xen.virtio.rollout"
Json = dict[str, Any]


class Rollout:
    """The playbook over a fleet of boards b01, b02, …, each with a guest linux1 of one disk, and what it wrote."""

    def __init__(self, folder: Path, hosts: list[LabHost]) -> None:
        self.boards = {f"b{number:02}": host for number, host in enumerate(hosts, 1)}
        self.fleet = Fleet(folder / "controller", **self.boards)
        self.fleet.apart = True
        self.out = folder / "report"
        self.fleet.variables |= {
            "xen_driver_domains": {"DomD": None},
            "xen_guest_defaults": {"type": "pvh", "kernel": "{{ the_kernel }}", "memory": 64},
            "xen_rollout_soak": 0.2,
            "guest_recreate": "allowed",
        }
        for name, host in self.boards.items():
            self.fleet.of_host[name]["the_kernel"] = host.kernel
        self.declare()

    def declare(self, **more: Any) -> None:
        """The guest linux1 of all boards."""
        disk = {"vdev": "xvda", "target": "/dev/vg/linux1-a", "backend": "DomD"}
        self.fleet.variables["xen_guests"] = {"linux1": {"disks": [disk], **more}}

    def differs(self, *names: str, **more: Any) -> None:
        """On these boards alone."""
        for name in names:
            self.fleet.of_host[name]["xen_guest_overrides"] = {"linux1": more or {"cmdline": "quiet"}}

    def kernel(self, content: bytes) -> Json:
        """A kernel of the controller's, as a declaration names it."""
        (self.fleet.inventory / "Image").write_bytes(content)
        return {"src": "Image", "checksum": f"sha256:{hashlib.sha256(content).hexdigest()}"}

    def health(self, command: str) -> None:
        """The user's own tasks: a line for each guest that they are asked of, then a command, with the board's name."""
        tasks = [
            {
                "ansible.builtin.shell": f"echo {{{{ inventory_hostname }}}} {{{{ xen_rollout_guest.name }}}} "
                f"{{{{ xen_rollout_guest.domid }}}} {{{{ xen_rollout_guest.run_state }}}} >>{self._asked}; {command}",
                "delegate_to": "localhost",
                "environment": {"XEN_BOARD": "{{ inventory_hostname }}"},
            }
        ]
        self._say(tasks)

    def loses(self, name: str, *, back: bool) -> None:
        """The board goes out of reach in the health tasks, for one attempt or for ever."""
        lost = self._lost(name)
        self._enters(name, f'exec {self.boards[name].folder}/enter "$@"', f"rm {lost}; " if back else "")
        self._say(
            [
                {"ansible.builtin.file": {"path": str(lost), "state": "touch"}, "delegate_to": "localhost"},
                {"ansible.builtin.ping": None},
                {"ansible.builtin.fail": {"msg": "this is never reached"}},
            ]
        )

    def away_once(self, name: str) -> None:
        """The board cannot be reached the first time that anybody tries."""
        self._enters(name, f'exec {self.boards[name].folder}/enter "$@"', f"rm {self._lost(name)}; ")
        self._lost(name).touch()

    def leaves(self, name: str) -> None:
        """The board goes out of reach as soon as it was read."""
        lost = self._lost(name)
        self._enters(name, f'{self.boards[name].folder}/enter "$@"\ncode=$?; touch {lost}; exit $code', "")

    def hangs(self, name: str) -> None:
        """The board says nothing, whoever asks."""
        self._enters(name, "exec sleep 600", "")

    def cut_off(self, name: str) -> None:
        """The link breaks while the module guest waits for its guest, which goes on, and is back at once."""
        lost, out = self._lost(name), self.fleet.folder / "out"
        real = f"{self.boards[name].folder}/enter"
        self._enters(
            name,
            f"""exec 3<&0
            {real} "$@" <&3 >{out} &
            while kill -0 $! 2>/dev/null; do
                if test -e {lost}; then rm {lost}; echo is down >&2; exit 127; fi
                sleep 0.05
            done
            wait $!; code=$?; cat {out}; exit $code""",
            "",
        )

    @contextmanager
    def breaking(self, name: str) -> Iterator[None]:
        """The link of the board breaks once its guest has its lock, after what it runs was kept."""
        host, over = self.boards[name], threading.Event()
        kept, lock = (
            host.root / "var/lib/xen-virtio/checkpoints",
            host.root / "run/xen-virtio/guest-linux1.lock",
        )

        def look() -> None:
            while not over.wait(0.05):
                if any(kept.glob("*/checkpoint.json")) and held(lock):
                    self._lost(name).touch()
                    return

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _enters(self, name: str, command: str, again: str) -> None:
        """How the board is entered where it is not lost, and what comes before it says that it is."""
        fake = self.fleet.folder / "fake"
        fake.mkdir(exist_ok=True)
        lost = self._lost(name)
        (fake / "enter").write_text(
            f"#!/bin/sh\nif test -e {lost}; then {again}echo is down >&2; exit 127; fi\n{command}\n"
        )
        (fake / "enter").chmod(0o755)
        self.fleet.of_host[name]["lab_enter"] = str(fake / "enter")

    def found(self, name: str) -> None:
        """It is back."""
        self._lost(name).unlink()

    def _lost(self, name: str) -> Path:
        return self.fleet.folder / f"lost-{name}"

    def _say(self, tasks: list[Json]) -> None:
        (self.fleet.inventory / "health.yml").write_text(json.dumps(tasks))
        self.fleet.variables["xen_rollout_health_tasks"] = "health.yml"

    @property
    def _asked(self) -> Path:
        return self.fleet.folder / "asked"

    @property
    def asked(self) -> list[str]:
        """Of whom the health tasks were asked: board, guest, domid, run state."""
        return self._asked.read_text().splitlines() if self._asked.exists() else []

    def run(self, *flags: str, check: bool = True, **more: Any) -> subprocess.CompletedProcess[str]:
        done = self.fleet.play(ROLLOUT, *flags, check=check, **{"xen_rollout_dest": str(self.out), **more})
        print(done.stdout)  # which pytest shows where a test fails
        return done

    def report(self) -> Json:
        return dict(json.loads((self.out / "rollout.json").read_text()))

    def rows(self) -> dict[str, str]:
        return {row["name"]: row["status"] for row in self.report()["hosts"]}

    def reason(self, name: str) -> str:
        (found,) = [row["reason"] for row in self.report()["hosts"] if row["name"] == name]
        return str(found)

    def domids(self) -> dict[str, int | None]:
        return {name: domid_of(host, "linux1") for name, host in self.boards.items()}

    def config(self, name: str) -> str:
        return (self.boards[name].root / "etc/xen/linux1.cfg").read_text()


def held(lock: Path) -> bool:
    """Whether somebody has a lock."""
    if not lock.exists():
        return False
    return subprocess.run(["flock", "--nonblock", str(lock), "true"], check=False).returncode != 0


@contextmanager
def panicking(host: LabHost, before: int | None) -> Iterator[None]:
    """The next domain of linux1 crashes as soon as it runs."""
    over = threading.Event()

    def crash() -> None:
        while not over.wait(0.02):
            domid = domid_of(host, "linux1")
            domain = None if domid is None else host.hypervisor.get(domid)
            if domid != before and domain is not None and not domain.paused and not domain.dying:
                host.guest_crashes(domain.domid)
                return

    thread = threading.Thread(target=crash)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.fixture
def boards(lab_factory: Callable[..., LabHost], tmp_path: Path) -> Callable[[int], Rollout]:
    """So many boards whose guest is as declared."""

    def make(number: int) -> Rollout:
        hosts = [prepared(lab_factory()) for _board in range(number)]
        for host in hosts:
            create(host, "linux1", 1)
        return Rollout(tmp_path, hosts)

    return make


def test_a_kernel_goes_out_in_batches_and_then_there_is_nothing_to_do(
    boards: Callable[[int], Rollout],
) -> None:
    rollout = boards(3)
    rollout.declare(kernel=rollout.kernel(b"a newer kernel"))
    rollout.health("true")
    before = rollout.domids()
    planned = rollout.run("--check", "--diff")
    assert set(rollout.rows().values()) == {"changed"}
    assert "would be changed: linux1 recreated" in rollout.reason("b03")
    assert planned.stdout.count("+kernel = ") == 3
    assert (rollout.domids(), rollout.asked) == (before, [])

    (rollout.fleet.folder / "ansible.cfg").write_text("[defaults]\nshow_custom_stats = true\n")
    done = rollout.run(xen_rollout_canary="b02")
    report = rollout.report()
    assert report["batches"] == [["b02"], ["b01"], ["b03"]]
    assert [line.split()[0] for line in rollout.asked] == [
        "b02",
        "b01",
        "b03",
    ]  # of their health, in this order
    assert rollout.rows() == {"b01": "changed", "b02": "changed", "b03": "changed"}
    after = rollout.domids()
    assert rollout.asked[0] == f"b02 linux1 {after['b02']} running"
    for name, host in rollout.boards.items():
        assert after[name] not in (None, before[name])
        assert "/var/lib/xen-virtio/images/Image-" in rollout.config(name)
        assert len(list((host.root / "var/lib/xen-virtio/images").iterdir())) == 1
    stats = re.search(r"CUSTOM STATS.*?RUN: (\{.*\})", told(done))
    assert stats is not None
    keys = ("name", "status", "batch", "reason")
    rows = [{key: row[key] for key in keys} for row in report["hosts"]]
    assert json.loads(stats[1])["xen_rollout"] == {**report["summary"], "rows": rows}
    assert [row["status"] for row in rows] == ["changed"] * 3
    assert report["resume"] is None

    again = rollout.run("--diff")
    assert changed(again) == 0
    assert "3 hosts, 0 batches: 3 ok" in told(again)
    assert (set(rollout.rows().values()), rollout.domids(), len(rollout.asked)) == ({"ok"}, after, 3)


def test_a_canary_that_is_not_well_goes_back_and_stops_the_others(boards: Callable[[int], Rollout]) -> None:
    rollout = boards(2)
    rollout.differs("b01", "b02")
    sick = rollout.fleet.folder / "sick"
    sick.touch()
    rollout.health(f"test ! -e {sick}")
    before = rollout.domids()
    done = rollout.run(check=False)
    assert done.returncode != 0
    assert rollout.rows() == {"b01": "rolled back", "b02": "not reached"}
    assert "rolled back: " in rollout.reason("b01")
    assert "b01 failed in batch 1 of 2" in told(done)
    assert "quiet" not in rollout.config("b01")
    after = rollout.domids()
    assert after["b01"] not in (None, before["b01"])
    assert after["b02"] == before["b02"]
    assert rollout.report()["left"] == ["b01", "b02"]
    # what it says is typed as it stands
    sick.unlink()
    words = shlex.split(rollout.report()["resume"])
    assert words[-2:] == ["--limit", "b01,b02"]
    rollout.fleet.command(*words)
    assert rollout.rows() == {"b01": "changed", "b02": "changed"}
    assert "quiet" in rollout.config("b01")


def test_a_kernel_that_panics_goes_back(boards: Callable[[int], Rollout]) -> None:
    """Its disk is attached and its domain runs, for a moment."""
    rollout = boards(2)
    old = rollout.boards["b01"].kernel
    rollout.declare(kernel=rollout.kernel(b"a kernel that panics"))
    before = rollout.domids()
    with panicking(rollout.boards["b01"], before["b01"]):
        done = rollout.run(check=False, xen_rollout_soak=20)
    assert done.returncode != 0
    assert rollout.rows() == {"b01": "rolled back", "b02": "not reached"}
    assert "linux1" in rollout.reason("b01")
    assert f"kernel = {old!r}" in rollout.config("b01").replace('"', "'")
    after = rollout.domids()
    assert after["b01"] not in (None, before["b01"])
    assert after["b02"] == before["b02"]


def test_hosts_that_are_off_hang_or_are_slow(boards: Callable[[int], Rollout]) -> None:
    """None of them keeps the others from being changed, and each has its row."""
    rollout = boards(3)
    nowhere = {
        "ansible_connection": "ssh",
        "ansible_host": "127.0.0.1",
        "ansible_port": 1,
        "the_kernel": "/x",
    }
    rollout.fleet.add_hosts(a00=nowhere)
    rollout.differs("b01", "b02", "b03")
    before = rollout.domids()
    off = rollout.run("--limit", "a00,b01", check=False, xen_offline="fail")
    assert "did not begin: a00 cannot be reached or read, and xen_offline is fail" in told(off)
    assert (rollout.rows(), rollout.domids()) == ({"a00": "offline", "b01": "not reached"}, before)
    rollout.boards["b02"].xenstored.stop()
    with rollout.boards["b03"].delay(0.01, in_place=True):
        done = rollout.run(check=False)
    rollout.boards["b02"].xenstored.cont()
    assert done.returncode != 0
    assert rollout.rows() == {"a00": "offline", "b01": "changed", "b02": "failed", "b03": "changed"}
    assert "port 1" in rollout.reason("a00")
    assert "xenstore" in rollout.reason("b02")
    assert rollout.report()["left"] == ["a00", "b02"]
    assert rollout.domids()["b02"] == before["b02"]


def test_nothing_begins_while_something_is_refused(boards: Callable[[int], Rollout]) -> None:
    rollout = boards(2)
    rollout.differs("b01")
    rollout.differs("b02", kernel="/nowhere/Image")
    before = rollout.domids()
    done = rollout.run(check=False)
    assert done.returncode != 0
    assert rollout.rows() == {"b01": "not reached", "b02": "refused"}
    assert "/nowhere/Image is not on this host" in rollout.reason("b02")
    assert rollout.domids() == before
    (without,) = re.findall(r"--limit '(all:!b02)'", rollout.report()["stopped"])
    rollout.run("--limit", without)
    assert rollout.rows() == {"b01": "changed"}
    # guests are created anew only where that is allowed
    rollout.differs("b01", cmdline="debug")
    done = rollout.run("--limit", "b01", check=False, guest_recreate="never")
    assert rollout.rows() == {"b01": "refused"}
    assert "recreate" in rollout.reason("b01")
    # what is given to the rollout itself is looked at before, too
    for wrong, words in (
        ({"xen_rollout_serial": "some"}, "xen_rollout_serial"),
        ({"xen_rollout_health_tasks": "nowhere.yml"}, "nowhere.yml: no such file"),
    ):
        done = rollout.run("--limit", "b01", check=False, **wrong)
        assert words in told(done)


@pytest.mark.parametrize(
    ("alone", "back"), [(False, True), (True, True), (False, False)], ids=["back", "alone", "away"]
)
def test_a_board_that_is_lost_after_its_first_change(
    boards: Callable[[int], Rollout], alone: bool, back: bool
) -> None:
    rollout = boards(1 if alone else 2)
    rollout.differs(*rollout.boards)
    before = rollout.domids()
    rollout.loses("b01", back=back)
    done = rollout.run(check=False, xen_rollout_reconnect_timeout=60 if back else 1)
    assert done.returncode != 0
    assert rollout.rows()["b01"] == ("rolled back" if back else "failed")
    assert ("quiet" in rollout.config("b01")) == (not back)
    if not alone:
        assert "lost after its first change" in rollout.reason("b01")
        assert (rollout.rows()["b02"], rollout.domids()["b02"]) == ("not reached", before["b02"])
    if not back:
        assert "-m xen.virtio.checkpoint -a" in rollout.report()["hosts"][0]["by_hand"]
        rollout.found("b01")
        words = shlex.split(rollout.report()["hosts"][0]["by_hand"])
        rollout.fleet.command(*words)
        assert "quiet" not in rollout.config("b01")


def test_a_report_that_cannot_be_written(boards: Callable[[int], Rollout]) -> None:
    """Before the first change that is reason enough not to begin; later nothing of it is any board's fault."""
    rollout = boards(3)
    rollout.differs(*rollout.boards)
    before = rollout.domids()
    done = rollout.run(check=False, xen_rollout_dest="/proc/nowhere")
    assert done.returncode != 0
    assert "nothing was changed: the report cannot be written (xen_rollout_dest): " in told(done)
    assert rollout.domids() == before
    (rollout.fleet.folder / "ansible.cfg").write_text("[defaults]\nshow_custom_stats = true\n")
    rollout.health(f"rm -rf {rollout.out}; touch {rollout.out}")
    done = rollout.run(check=False)
    assert done.returncode != 0
    assert "3 hosts, 3 batches: 3 changed" in told(done)
    assert [line.split()[0] for line in rollout.asked] == ["b01", "b02", "b03"]
    assert "the report could not be written (xen_rollout_dest): " in told(done)
    assert "CUSTOM STATS" in told(done)


def test_a_canary_that_is_lost_before_its_first_change(boards: Callable[[int], Rollout]) -> None:
    """It was well when it was read, so it is the canary; the others do not go without one."""
    rollout = boards(3)
    rollout.differs(*rollout.boards)
    before = rollout.domids()
    rollout.leaves("b01")
    done = rollout.run(check=False)
    assert done.returncode != 0
    assert rollout.rows() == {"b01": "offline", "b02": "not reached", "b03": "not reached"}
    assert "stopped: b01 was lost before its first change" in told(done)
    assert rollout.domids() == before
    words = shlex.split(rollout.report()["resume"])
    assert words[-1] == "b01,b02,b03"


def test_a_link_that_is_cut_in_the_middle_of_a_guest(boards: Callable[[int], Rollout]) -> None:
    """What was begun there goes on by itself; the way back waits for that, and does not take it for what was before."""
    rollout = boards(2)
    rollout.differs("b01", "b02")
    rollout.cut_off("b01")
    rollout.boards["b01"].guest_answers("answer", "linux1", after=8.0)
    before = rollout.domids()
    with rollout.breaking("b01"):
        done = rollout.run(check=False)
    assert done.returncode != 0
    assert rollout.rows() == {"b01": "rolled back", "b02": "not reached"}
    assert "1 restored" in rollout.reason("b01")
    assert "quiet" not in rollout.config("b01")
    assert rollout.domids()["b01"] not in (None, before["b01"])
    assert not held(rollout.boards["b01"].root / "run/xen-virtio/guest-linux1.lock")


def test_a_name_of_a_checkpoint_is_used_once(boards: Callable[[int], Rollout]) -> None:
    """One of before would lead back too far; one that this rollout took is what the command to resume goes on with."""
    rollout = boards(1)
    rollout.differs("b01")
    rollout.run(xen_rollout_checkpoint="mine")
    before = rollout.domids()
    rollout.differs("b01", cmdline="debug")
    done = rollout.run(check=False, xen_rollout_checkpoint="mine")
    assert done.returncode != 0
    assert (rollout.rows(), rollout.domids()) == ({"b01": "failed"}, before)
    assert "nothing was changed: " in rollout.reason("b01")
    assert "checkpoint mine is there already" in rollout.reason("b01")
    sick = rollout.fleet.folder / "sick"
    sick.touch()
    rollout.health(f"test ! -e {sick}")
    rollout.run(check=False, xen_rollout_checkpoint="rollout-two")
    assert rollout.rows() == {"b01": "rolled back"}
    sick.unlink()
    rollout.fleet.command(*shlex.split(rollout.report()["resume"]))
    assert rollout.rows() == {"b01": "changed"}
    assert "debug" in rollout.config("b01")


def test_a_template_of_ones_own_is_planned_with(boards: Callable[[int], Rollout]) -> None:
    """A board that was away for the first look is none with nothing to do, though it is back for the next."""
    rollout = boards(2)
    rollout.fleet.variables["guest_template"] = "guest.cfg.j2"
    rollout.differs(*rollout.boards)
    rollout.away_once("b02")
    before = rollout.domids()
    done = rollout.run("--check", "--diff")
    assert rollout.rows() == {"b01": "changed", "b02": "offline"}, told(done)
    assert "is down" in rollout.reason("b02")
    rollout.run()
    assert rollout.rows() == {"b01": "changed", "b02": "changed"}
    assert not before.items() & rollout.domids().items()
    assert "quiet" in rollout.config("b02")
    (rollout.fleet.inventory / "broken.cfg.j2").write_text("{{ nobody_knows }}\n")
    rollout.fleet.of_host["b01"]["guest_template"] = "broken.cfg.j2"
    rollout.differs("b02", cmdline="debug")
    before = rollout.domids()
    done = rollout.run(check=False)
    assert (rollout.rows(), rollout.domids()) == ({"b01": "refused", "b02": "not reached"}, before), told(
        done
    )
    assert "broken.cfg.j2: " in rollout.reason("b01")
    assert "nobody_knows" in rollout.reason("b01")


def test_two_rollouts_in_one_run(boards: Callable[[int], Rollout]) -> None:
    """Boards in one building, then in another: the second knows nothing of the first but what it changed."""
    rollout = boards(2)
    rollout.differs(*rollout.boards)
    rollout.health("true")
    before = rollout.domids()
    both = rollout.fleet.folder / "both.yml"
    both.write_text(
        json.dumps(
            [
                {
                    "ansible.builtin.import_playbook": ROLLOUT,
                    "vars": {"xen_dom0": hosts, "xen_rollout_dest": dest},
                }
                for hosts, dest in (
                    ("b01", str(rollout.out / "first")),
                    ("b02", str(rollout.out / "second")),
                    ("b01,b02", str(rollout.out)),
                )
            ]
        )
    )
    done = rollout.fleet.play(str(both))
    reports = [
        json.loads((rollout.out / name / "rollout.json").read_text()) for name in ("first", "second", "")
    ]
    assert [[(row["name"], row["status"]) for row in report["hosts"]] for report in reports] == [
        [("b01", "changed")],
        [("b02", "changed")],
        [("b01", "ok"), ("b02", "ok")],
    ]
    assert [report["batches"] for report in reports] == [[["b01"]], [["b02"]], []]
    assert len({report["checkpoint"] for report in reports[:2]}) == 2
    assert told(done).count("1 host, 1 batch: 1 changed") == 2
    assert [line.split()[0] for line in rollout.asked] == ["b01", "b02"]
    assert not before.items() & rollout.domids().items()


def test_a_folder_for_the_report_keeps_its_permissions(boards: Callable[[int], Rollout]) -> None:
    """One that is there is somebody's; one that is made is for everybody to read."""
    rollout = boards(1)
    rollout.out.mkdir(mode=0o700)
    rollout.run()
    assert rollout.out.stat().st_mode & 0o777 == 0o700
    made = rollout.fleet.folder / "new"
    rollout.run(xen_rollout_dest=str(made))
    assert made.stat().st_mode & 0o777 == 0o755
    assert {path.name: path.stat().st_mode & 0o777 for path in made.iterdir()} == {
        "rollout.json": 0o644,
        "rollout.limit": 0o644,
    }


def test_no_wait_is_endless(boards: Callable[[int], Rollout]) -> None:
    """A board that says nothing when it is read and one whose task does not end are named, and others are done."""
    rollout = boards(3)
    rollout.differs(*rollout.boards)
    before = rollout.domids()
    rollout.hangs("b02")
    rollout.boards["b01"].guest_answers("hang", "linux1")
    more = {
        "guest_plan_timeout": 30,
        "xen_rollout_task_timeout": 30,
        "guest_shutdown_timeout": 40,  # what was begun there ends by itself, after the task that waited for it
        "xen_rollout_serial": "100%",
    }
    done = rollout.run(check=False, **more)
    assert done.returncode != 0
    assert rollout.rows()["b02"] == "failed"
    assert "30" in rollout.reason("b02")
    assert rollout.rows()["b01"] in ("rolled back", "failed")
    assert "30" in rollout.reason("b01")
    assert rollout.rows()["b03"] == "changed"
    assert rollout.domids()["b02"] == before["b02"]


def test_a_share_may_fail_and_what_failed_may_stay(boards: Callable[[int], Rollout]) -> None:
    rollout = boards(2)
    rollout.differs("b01", "b02")
    rollout.health("test $XEN_BOARD != b01")
    more = {
        "xen_rollout_serial": "100%",
        "xen_rollout_max_fail_percentage": 50,
        "xen_rollout_rollback": False,
    }
    done = rollout.run(check=False, **more)
    assert done.returncode != 0
    assert rollout.report()["stopped"] is None
    assert rollout.rows() == {"b01": "failed", "b02": "changed"}
    assert "left as it is" in rollout.reason("b01")
    assert "quiet" in rollout.config("b01")


def test_storage_is_made_and_a_guest_that_is_new_goes_again(boards: Callable[[int], Rollout]) -> None:
    """The driver domain is looked into; the guest that was there before is not touched by any of it."""
    rollout = boards(1)
    host = rollout.boards["b01"]
    rollout.fleet.add_driver_domain("b01-domd", host, 1)
    rollout.fleet.variables["xen_driver_domains"] = {"DomD": {"host": "b01-domd", "launcher": True}}
    for name in ("linux1", "linux2"):
        disk = {"vdev": "xvda", "target": f"/var/lib/disks/{name}.img", "backend": "DomD"}
        rollout.fleet.variables["xen_guests"][name] = {"disks": [disk]}
    image = host.folder / "domains/1/root/var/lib/disks/linux1.img"
    image.parent.mkdir(parents=True)
    image.touch()
    host.write("/local/domain/1/drivers/virtio-disk/launcher", VERSION)
    host.xl("destroy", "linux1")
    create(host, "linux1", [virtio_disk("xvda", "/var/lib/disks/linux1.img", "DomD")])
    rollout.health("test $XEN_BOARD != b01")
    done = rollout.run(check=False)
    assert rollout.rows() == {"b01": "refused"}
    assert "[target-missing]" in rollout.reason("b01")
    (rollout.fleet.inventory / "storage.yml").write_text(
        json.dumps(
            [
                {
                    "ansible.builtin.copy": {
                        "content": "",
                        "dest": "{{ item }}",
                        "mode": "0600",
                        "force": False,
                    },
                    "loop": "{{ xen_storage_targets }}",
                }
            ]
        )
    )
    before = rollout.domids()
    done = rollout.run(check=False, xen_storage_tasks="storage.yml")
    assert done.returncode != 0
    (row,) = rollout.report()["hosts"]
    assert any(line.startswith("storage: ") for line in row["plan"])
    assert row["status"] == "rolled back"
    assert (image.parent / "linux2.img").exists()
    assert domid_of(host, "linux2") is None
    assert not (host.root / "etc/xen/linux2.cfg").exists()
    assert rollout.domids() == before
