# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong with guests, with the real xl: the message, what is left behind, and how the guest stands."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from boards import prepared
from guest_calls import actions, call, disk, guest, start
from guests import domid_of, until, xls_daemons
from lab import LabHost
from test_guest import TWO, LabFactory, config_of, only, steady

#: Seconds: short, so that a test need not wait for what will not come.
SOON = {"shutdown_timeout": 2, "wait_timeout": 2}


@pytest.fixture
def board(lab: LabHost) -> LabHost:
    return prepared(lab)


def nothing_left(host: LabHost, domid: int) -> None:
    """No domain, no node, no process, no file of a guest that could not be created."""
    assert domid_of(host, "linux1") is None
    assert host.hypervisor.get(domid) is None
    assert not [path for path in host.ls("/") if f"/{domid}/" in path or path.endswith(f"/{domid}")]
    assert xls_daemons(host) == {}


@contextlib.contextmanager
def writer(host: LabHost, path: Path) -> Iterator[int]:
    """A process on the host that has a file open for writing; its pid."""
    code = "import sys; f = open(sys.argv[1], 'r+b'); print('open', flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [str(host.folder / "enter"), sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    try:
        yield process.pid
    finally:
        process.communicate("")


# --- a create that fails ---------------------------------------------------------------------------------


@pytest.mark.parametrize("daemon", ["c", "o"])
def test_no_backend_answers(lab_factory: LabFactory, daemon: str) -> None:
    board = prepared(lab_factory(daemon=daemon))
    board.backend_behaves("never", devid=51728)
    result = call(board, guests=[TWO])
    assert result["failed"]
    for word in ("xvdb", "/dev/vg/b", "DomD", "drivers/virtio-disk/status", "linux1"):
        assert word in result["msg"], result["msg"]
    assert "xvda" not in result["msg"]
    nothing_left(board, 2)
    assert not config_of(board).exists()
    assert list((board.root / "var/lib/xen-virtio/guests").iterdir()) == []
    board.backend_behaves("answer")
    assert actions(call(board, guests=[TWO])) == {"linux1": "created"}


def test_a_backend_that_gives_up_after_it_said_yes(board: LabHost) -> None:
    board.backend_behaves("give-up", devid=51728, after=0.1)
    result = call(board, guests=[TWO], **SOON)
    assert result["failed"]
    assert "xvdb" in result["msg"]
    assert "never ran" in result["msg"]
    assert domid_of(board, "linux1") is None
    assert xls_daemons(board) == {}
    assert not config_of(board).exists()


@pytest.mark.parametrize("autoballoon", [False, True])
def test_dom0_is_short_of_memory(board: LabHost, autoballoon: bool) -> None:
    board.set_free_memory(16, autoballoon=autoballoon)
    result = call(board, guests=[TWO])
    assert result["failed"]
    assert "linux1" in result["msg"]
    assert "memory: declare less, or end another guest" in result["msg"]
    nothing_left(board, 2)
    assert not config_of(board).exists()


def test_a_kernel_that_is_not_there(board: LabHost) -> None:
    result = call(board, guests=[{**TWO, "kernel": "/boot/none"}])
    assert result["failed"]
    assert "/boot/none" in result["msg"]
    assert domid_of(board, "linux1") is None


def test_the_old_guest_comes_back_where_the_new_one_fails(board: LabHost) -> None:
    call(board, guests=[TWO])
    before, text = domid_of(board, "linux1"), config_of(board).read_text()
    board.backend_behaves("never", devid=51744)
    wider = {**TWO, "disks": [*TWO["disks"], disk("xvdc", "/dev/vg/c")]}
    result = call(board, guests=[wider], recreate="allowed")
    assert result["failed"]
    assert "xvdc" in result["msg"]
    assert "runs again from its old configuration" in result["msg"]
    assert config_of(board).read_text() == text
    now = domid_of(board, "linux1")
    assert now not in (None, before)
    assert only(result)["domid"] == now
    steady(board, TWO)
    assert len(xls_daemons(board)) == 1


def test_the_old_guest_stays_down_where_nobody_wants_it_back(board: LabHost) -> None:
    call(board, guests=[TWO])
    board.backend_behaves("never", devid=51744)
    wider = {**TWO, "disks": [*TWO["disks"], disk("xvdc", "/dev/vg/c")]}
    result = call(board, guests=[wider], recreate="allowed", rollback=False)
    assert result["failed"]
    assert domid_of(board, "linux1") is None
    assert "xvdc" in config_of(board).read_text()


def test_the_old_guest_does_not_come_back_to_a_disk_that_the_new_one_may_still_have(board: LabHost) -> None:
    call(board, guests=[TWO])
    before = domid_of(board, "linux1") or 0
    board.backend_behaves("refuse", guest=before + 1, devid=51712)
    board.backend_behaves("never", devid=51744)
    wider = {**TWO, "disks": [*TWO["disks"], disk("xvdc", "/dev/vg/c")]}
    result = call(board, guests=[wider], recreate="allowed")
    assert result["failed"]
    assert "xvdc" in result["msg"]
    assert "xvda (/dev/vg/a at DomD) was not let go of" in result["msg"]
    assert domid_of(board, "linux1") is None
    board.backend_behaves("answer")
    again = call(board, guests=[TWO])
    assert again["failed"]
    assert "No second writer was let in" in again["msg"]


def test_both_stories_where_the_old_guest_fails_too(board: LabHost) -> None:
    call(board, guests=[TWO])
    text = config_of(board).read_text()
    board.backend_behaves("give-up", devid=51712, after=0.0)
    result = call(board, guests=[{**TWO, "cmdline": "quiet"}], recreate="allowed", **SOON)
    assert result["failed"]
    assert "holds its old configuration again" in result["msg"]
    assert "failed as well" in result["msg"]
    assert result["msg"].count("xvda") >= 2, result["msg"]
    assert config_of(board).read_text() == text
    assert domid_of(board, "linux1") is None


def test_a_file_that_is_not_there_is_noticed_before_the_guest_goes_down(board: LabHost) -> None:
    call(board, guests=[TWO])
    before = domid_of(board, "linux1")
    told = call(board, guests=[{**TWO, "kernel": "/boot/none"}], recreate="allowed")
    assert told["failed"]
    assert "kernel: /boot/none is not on this host" in told["msg"]
    assert domid_of(board, "linux1") == before


def test_what_a_killed_create_left_is_known_and_can_be_cleaned_away(board: LabHost) -> None:
    board.backend_behaves("never", devid=51728)
    process = start(board, guests=[TWO])
    assert until(lambda: board.read("/local/domain/1/backend/virtio_disk/2/51728/state") == b"1")
    for pid in [pid for pid, command in board.processes().items() if "create" in command]:
        os.kill(pid, signal.SIGKILL)
    process.kill()
    process.wait()
    for pid, command in board.processes().items():
        if "xl" in command.split()[0] or "python" in command.split()[0]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    assert until(lambda: not [c for c in board.processes().values() if "create" in c])
    board.backend_behaves("answer")
    told = call(board, guests=[TWO])
    assert told["failed"]
    assert "is what a create of ours left behind" in told["msg"]
    assert "force_destroy" in told["msg"]
    result = call(board, guests=[TWO], force_destroy=True)
    assert not result["failed"], result["msg"]
    assert only(result)["run_state"] == "running"
    assert board.hypervisor.get(2) is None
    steady(board, TWO)


def test_what_somebody_elses_killed_create_left_is_named_and_left_alone(board: LabHost) -> None:
    call(board, guests=[TWO], state="configured")
    board.backend_behaves("never", devid=51728)
    process = subprocess.Popen(
        [str(board.folder / "enter"), "xl", "create", "/etc/xen/linux1.cfg"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert until(lambda: board.read("/local/domain/1/backend/virtio_disk/2/51728/state") == b"1")
    for pid, command in board.processes().items():
        if " create " in command:
            os.kill(pid, signal.SIGKILL)
    process.wait()
    for force in (False, True):
        told = call(board, guests=[TWO], force_destroy=force)
        assert told["failed"]
        assert "xl destroy 2" in told["msg"]
    assert board.hypervisor.known(2).paused


# --- an end that fails -----------------------------------------------------------------------------------


def test_a_guest_that_does_not_listen(board: LabHost) -> None:
    call(board, guests=[TWO])
    before, text = domid_of(board, "linux1"), config_of(board).read_text()
    board.guest_answers("ignore", "linux1")
    other = {**TWO, "cmdline": "quiet"}
    for state in ("running", "shutdown", "absent"):
        told = call(board, guests=[other], state=state, recreate="allowed", **SOON)
        assert told["failed"]
        assert "force_destroy: true" in told["msg"]
        assert "nothing else was changed" in told["msg"]
        assert (domid_of(board, "linux1"), config_of(board).read_text()) == (before, text)
    result = call(board, guests=[other], recreate="allowed", force_destroy=True, **SOON)
    assert only(result)["action"] == "recreated", result["msg"]
    steady(board, other)


def test_a_guest_that_hangs_while_it_shuts_down(board: LabHost) -> None:
    call(board, guests=[TWO])
    board.guest_answers("hang", "linux1")
    told = call(board, guests=[TWO], state="restarted", **SOON)
    assert told["failed"]
    assert "did not power off within 2 s" in told["msg"]
    result = call(board, guests=[TWO], state="restarted", force_destroy=True, **SOON)
    assert only(result)["action"] == "restarted", result["msg"]


def test_no_second_writer_where_a_driver_domain_did_not_let_go(board: LabHost) -> None:
    call(board, guests=[TWO])
    board.backend_behaves("refuse", devid=51712)
    changed = {**TWO, "cmdline": "quiet"}
    told = call(board, guests=[changed], recreate="allowed", force_destroy=True, **SOON)
    assert told["failed"]
    for word in ("xvda", "/dev/vg/a", "DomD", "no second writer was let in"):
        assert word in told["msg"], told["msg"]
    assert domid_of(board, "linux1") is None
    board.backend_behaves("answer")
    again = call(board, guests=[changed], recreate="allowed")
    assert again["failed"]
    assert "was not let go of" in again["msg"]
    assert domid_of(board, "linux1") is None
    (kept,) = (board.root / "var/lib/xen-virtio/guests").iterdir()
    assert str(kept.name) in again["msg"]
    kept.unlink()  # as the message says, once somebody looked
    result = call(board, guests=[changed])
    assert not result["failed"], result["msg"]
    steady(board, changed)


def test_a_driver_domain_that_was_made_anew_holds_nothing(board: LabHost) -> None:
    call(board, guests=[TWO])
    board.backend_behaves("refuse", devid=51712)
    assert call(board, guests=[TWO], state="restarted", force_destroy=True, **SOON)["failed"]
    board.backend_behaves("answer")
    board.kill_domain(1)
    board.rm("/local/domain/1")
    board.add_domain(name="DomD", kind="toolstack", ready=["virtio-disk"])
    result = call(board, guests=[TWO])
    assert not result["failed"], result["msg"]


def test_a_disk_that_is_only_read_holds_up_nobody(board: LabHost) -> None:
    call(board, guests=[TWO])
    board.backend_behaves("refuse", devid=51728)
    result = call(board, guests=[TWO], state="restarted", force_destroy=True, **SOON)
    assert not result["failed"], result["msg"]


def test_no_second_writer_where_a_process_of_dom0_did_not_let_go(board: LabHost, tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(1 << 20))
    local = guest("linux1", disk("xvda", str(image), "0"))
    call(board, guests=[local])
    with writer(board, image) as pid:
        told = call(board, guests=[local], state="restarted", **SOON)
        assert told["failed"]
        assert f"process {pid} " in told["msg"], told["msg"]
        assert str(image) in told["msg"]
        assert domid_of(board, "linux1") is None
        again = call(board, guests=[local], **SOON)
        assert again["failed"]
        assert domid_of(board, "linux1") is None
    result = call(board, guests=[local])
    assert not result["failed"], result["msg"]
    steady(board, local)


def test_a_domain_that_is_dying_is_named(board: LabHost) -> None:
    domid = only(call(board, guests=[TWO]))["domid"]
    board.hold_domain(domid)
    board.xl("destroy", "linux1", check=False)
    told = call(board, guests=[TWO])
    assert told["failed"]
    assert f"domain {domid}" in told["msg"]
    assert "dying" in told["msg"]
    board.release_domain(domid)
    assert actions(call(board, guests=[TWO])) == {"linux1": "started"}


def test_a_guest_that_crashed_and_was_kept(board: LabHost) -> None:
    kept = {**TWO, "on_crash": "preserve"}
    domid = only(call(board, guests=[kept]))["domid"]
    board.guest_crashes(domid)
    told = call(board, guests=[kept])
    assert told["failed"]
    assert "crashed and was kept" in told["msg"]
    assert only(told)["run_state"] == "crashed"
    result = call(board, guests=[kept], force_destroy=True)
    assert only(result)["action"] == "started", result["msg"]


# --- the host --------------------------------------------------------------------------------------------


def test_a_restarted_xenstored_says_nothing_about_guests(board: LabHost) -> None:
    domid = only(call(board, guests=[TWO]))["domid"]
    board.xenstored.restart()
    board.add_domain(name="DomD", kind="toolstack", ready=["virtio-disk"])
    for options in (
        {},
        {"state": "absent", "force_destroy": True},
        {"state": "restarted", "force_destroy": True},
    ):
        told = call(board, guests=[TWO], **options)
        assert told["failed"]
        assert not told["changed"]
        assert f"domain {domid}" in told["msg"] or "xenstore" in told["msg"], told["msg"]
    assert [one.domid for one in board.hypervisor.domains() if one.domid == domid] == [domid]


def test_a_stopped_xenstored_is_an_error_in_time(board: LabHost) -> None:
    board.xenstored.stop()
    try:
        told = call(board, guests=[TWO], timeout=2)
    finally:
        board.xenstored.cont()
    assert told["failed"]
    assert not told["changed"]


def test_a_configuration_that_cannot_be_written_leaves_the_guest_running(board: LabHost) -> None:
    call(board, guests=[TWO])
    before = domid_of(board, "linux1")
    board.run(["mount", "--bind", "/etc/xen", "/etc/xen"])
    board.run(["mount", "-o", "remount,ro,bind", "/etc/xen"])
    told = call(board, guests=[{**TWO, "cmdline": "quiet"}], recreate="allowed")
    assert told["failed"]
    assert "/etc/xen/linux1.cfg" in told["msg"]
    assert "nothing of the guest was changed" in told["msg"]
    assert not told["changed"]
    assert domid_of(board, "linux1") == before
    told = call(board, guests=[TWO], state="absent")
    assert told["failed"]
    assert domid_of(board, "linux1") == before
    steady(board, TWO)
    board.run(["umount", "/etc/xen"])
    assert actions(call(board, guests=[TWO], state="absent")) == {"linux1": "removed"}


# --- two at once -----------------------------------------------------------------------------------------


def test_two_calls_at_once_make_one_guest(board: LabHost) -> None:
    results: list[dict[str, Any]] = []
    threads = [
        threading.Thread(target=lambda: results.append(call(board, guests=[TWO]))) for _one in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(actions(one)["linux1"] for one in results) == ["created", "unchanged"], results
    assert len([one for one in board.hypervisor.domains() if one.domid > 1]) == 1


def test_the_loser_does_not_wait_for_ever(board: LabHost) -> None:
    board.backend_behaves("never")
    first = start(board, guests=[TWO])
    assert until(lambda: board.read("/local/domain/1/backend/virtio_disk/2/51712/state") == b"1")
    told = call(board, guests=[TWO], lock_timeout=0.2)
    assert told["failed"]
    assert "linux1 is being changed by another run" in told["msg"]
    assert not told["changed"]
    out, _err = first.communicate(timeout=120)
    assert json.loads(out)["failed"]


def test_guests_of_a_driver_domain_that_came_back_are_made_anew(board: LabHost) -> None:
    call(board, guests=[TWO])
    before = domid_of(board, "linux1")
    board.kill_domain(1)
    board.rm("/local/domain/1")
    assert board.add_domain(name="DomD", kind="toolstack", ready=["virtio-disk"]) != 1
    told = call(board, guests=[TWO])
    assert told["failed"]
    assert {one["vdev"] for one in only(told)["differences"]["store"]} == {"xvda", "xvdb"}
    result = call(board, guests=[TWO], recreate="unhealthy", force_destroy=True)
    assert only(result)["action"] == "recreated", result["msg"]
    assert only(result)["domid"] != before
    steady(board, TWO)
