# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What guests run from, kept and brought back, with the real xl on lab hosts (which run no systemd)."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_runs import run_module
from boards import BOARDS, prepared
from checkpoint_calls import CHECKPOINT, checkpoint, rows, start
from guest_calls import call, disk, guest
from guests import create, domid_of, until, write_config
from lab import LabHost
from test_guest import LabFactory


@pytest.fixture
def board(lab: LabHost) -> LabHost:
    """A host of Xen 4.17 with the C xenstored; linux1 and linux2 are module guest's, by_hand is xl's alone."""
    return with_guests(prepared(lab))


LINUX1 = guest("linux1", disk("xvda", "/dev/vg/a"))
LINUX2 = guest("linux2", disk("xvdb", "/dev/vg/b"))


def with_guests(host: LabHost) -> LabHost:
    done = call(host, guests=[LINUX1, LINUX2])
    assert not done["failed"], done["msg"]
    create(host, "by_hand", 0)
    return host


def domids(host: LabHost, *names: str) -> dict[str, int | None]:
    return {name: domid_of(host, name) for name in names or ("linux1", "linux2", "by_hand")}


def config_of(host: LabHost, name: str) -> Path:
    return host.root / f"etc/xen/{name}.cfg"


def restored(host: LabHost, **options: Any) -> dict[str, Any]:
    """A restore that went well, and after which a second one finds nothing to do."""
    done = checkpoint(host, "restored", **options)
    assert not done["failed"], done["msg"]
    before = domids(host)
    again = checkpoint(host, "restored", **options)
    assert not again["changed"], again["lines"]
    assert set(rows(again).values()) == {"unchanged"}
    assert domids(host) == before
    return done


def test_what_is_kept(board: LabHost) -> None:
    done = checkpoint(board, guests=["linux1", "by_hand", "nobody"])
    assert done["changed"], done["msg"]
    text = config_of(board, "by_hand").read_bytes()
    kept = {one["name"]: one for one in done["checkpoint"]["guests"]}
    assert list(kept) == ["linux1", "by_hand", "nobody"]
    assert kept["by_hand"]["config_sha"] == hashlib.sha256(text).hexdigest()
    assert (kept["by_hand"]["run_state"], kept["by_hand"]["domid"]) == ("running", domid_of(board, "by_hand"))
    assert set(kept["linux1"]["images"]["kernel"]) == {"path", "sha256"}
    assert (kept["nobody"]["run_state"], kept["nobody"]["config_sha"]) == ("absent", None)
    folder = board.root / "var/lib/xen-virtio/checkpoints"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "before/checkpoint.json").stat().st_mode & 0o777 == 0o600
    again = checkpoint(board)
    assert not again["changed"]
    assert again["checkpoint"] == done["checkpoint"]


def test_without_names_it_is_about_all_guests(board: LabHost) -> None:
    board.add_domain()  # dom0less
    write_config(board, "later")
    done = checkpoint(board)
    names = {one["name"] for one in done["checkpoint"]["guests"]}
    assert names - {"DomD"} == {"linux1", "linux2", "by_hand", "later"}
    assert not checkpoint(board, "restored")["changed"]


def brought_back(host: LabHost) -> None:
    checkpoint(host)
    before, text = domids(host), config_of(host, "linux1").read_bytes()
    changed = call(host, guests=[{**LINUX1, "cmdline": "quiet"}], recreate="allowed")
    assert changed["changed"], changed["msg"]
    planned = checkpoint(host, "restored", check=True)
    wanted = {"linux1": "restored", "linux2": "unchanged", "by_hand": "unchanged"}
    assert {name: action for name, action in rows(planned).items() if name in wanted} == wanted
    assert "-cmdline" in diff_of(planned)
    done = restored(host)
    assert rows(done) == rows(planned)
    assert any("does not run systemd" in one for one in done["warnings"])
    after = domids(host)
    assert (after["linux2"], after["by_hand"]) == (before["linux2"], before["by_hand"])
    assert after["linux1"] not in (None, before["linux1"], changed["guests"][0]["domid"])
    assert config_of(host, "linux1").read_bytes() == text
    assert not call(host, guests=[LINUX1, LINUX2])["changed"]


def diff_of(result: dict[str, Any]) -> str:
    """The differences as lines with a sign."""
    lines = []
    for one in result["diff"]:
        before, after = one["before"].splitlines(), one["after"].splitlines()
        lines += [f"-{line}" for line in before if line not in after]
        lines += [f"+{line}" for line in after if line not in before]
    return "\n".join(lines)


@pytest.mark.parametrize("kind", BOARDS, ids="-".join)
def test_only_the_guest_that_differs_is_created_again(lab_factory: LabFactory, kind: tuple[str, str]) -> None:
    release, daemon = kind
    brought_back(with_guests(prepared(lab_factory(release=release, daemon=daemon))))


# --- what a guest may have become ------------------------------------------------------------------------


def other_config(host: LabHost) -> None:
    call(host, guests=[{**LINUX1, "cmdline": "quiet"}], recreate="allowed")


def more_memory(host: LabHost) -> None:
    """What a running guest can be given back is given back in it."""
    call(host, guests=[{**LINUX1, "memory": 96}], recreate="allowed")


def in_other_words(host: LabHost) -> None:
    path = config_of(host, "linux1")
    path.write_text(f"# by hand\n{path.read_text()}")


def pending(host: LabHost) -> None:
    call(host, guests=[{**LINUX1, "cmdline": "quiet"}], recreate="report")


def less_memory(host: LabHost) -> None:
    done = call(host, guests=[{**LINUX1, "memory": 32, "maxmem": 64}], recreate="report")
    assert done["changed"], done["msg"]


def restarted(host: LabHost) -> None:
    call(host, name="linux1", state="restarted")


def paused(host: LabHost) -> None:
    host.xl("pause", "linux1")


def down(host: LabHost) -> None:
    call(host, name="linux1", state="shutdown")


def removed(host: LabHost) -> None:
    call(host, name="linux1", state="absent")


def removed_with_its_record(host: LabHost) -> None:
    removed(host)
    assert not list((host.root / "var/lib/xen-virtio/guests").glob("linux1*"))


def crashed(host: LabHost) -> None:
    call(host, guests=[{**LINUX1, "on_crash": "preserve"}], recreate="allowed")
    host.guest_crashes(domid_of(host, "linux1") or 0)


def lost_a_disk(host: LabHost) -> None:
    host.rm(f"/local/domain/1/backend/virtio_disk/{domid_of(host, 'linux1')}/51712")


def another_disk(host: LabHost) -> None:
    call(host, guests=[guest("linux1", disk("xvda", "/dev/vg/other"))], recreate="allowed")


def comes_up_with_the_host(host: LabHost) -> None:
    call(host, guests=[{**LINUX1, "autostart": True}])


def elsewhere(host: LabHost) -> None:
    """The configuration under another name, and the guest from that."""
    old = config_of(host, "linux1")
    text = old.read_text()
    old.unlink()
    host.xl("destroy", "linux1")
    (host.root / "etc/xen/renamed").write_text(text + "cmdline = 'quiet'\n")
    host.xl("create", "/etc/xen/renamed")


#: What was done to linux1, whether its domain stays, and why it is brought back.
BECAME: list[tuple[Callable[[LabHost], None], bool, str]] = [
    (other_config, False, "its configuration, runs from another configuration"),
    (more_memory, True, "its configuration, runs from another configuration"),
    (in_other_words, True, "its configuration"),
    (pending, True, "its configuration"),
    (less_memory, True, "its configuration"),
    (paused, True, "paused -> running"),
    (down, False, "absent -> running"),
    (removed, False, "its configuration, absent -> running"),
    (removed_with_its_record, False, "its configuration, absent -> running"),
    (crashed, False, "its configuration, crashed -> running"),
    (lost_a_disk, False, "xvda is not served"),
    (another_disk, False, "its configuration, runs from another configuration"),
    (comes_up_with_the_host, True, "autostart on -> off"),
    (elsewhere, False, "its configuration, runs from another configuration"),
]


def test_whatever_a_guest_has_become(board: LabHost) -> None:
    for number, (became, stays, why) in enumerate(BECAME):
        name, what = f"before{number}", became.__name__
        checkpoint(board, name=name)
        before, text = domids(board), config_of(board, "linux1").read_bytes()
        became(board)
        changed = domid_of(board, "linux1")
        done = restored(board, name=name)
        (row,) = [one for one in done["guests"] if one["name"] == "linux1"]
        assert (row["action"], ", ".join(row["why"])) == ("restored", why), what
        after = domids(board)
        assert (after.pop("linux1") == changed) == stays, what
        assert after == {one: domid for one, domid in before.items() if one != "linux1"}, what
        assert row["after"]["run_state"] == "running", what
        assert config_of(board, "linux1").read_bytes() == text, what
        left = {one.name for one in (board.root / "etc/xen").iterdir() if one.suffix in (".cfg", "")}
        assert "renamed" not in left, what
        assert {"by_hand.cfg", "linux1.cfg", "linux2.cfg"} <= left, what
        assert not list((board.root / "etc/systemd/system").glob("xen-virtio-guest*")), what
    assert not call(board, guests=[LINUX1, LINUX2])["changed"]


@pytest.mark.parametrize("took_note", [False, True])
def test_a_guest_that_was_asked_to_shut_down_is_not_as_it_was(board: LabHost, took_note: bool) -> None:
    """The request is taken back; a guest that took note of it is made anew, since it may follow it at any time."""
    checkpoint(board)
    before = domids(board)
    board.guest_answers("hang" if took_note else "ignore", "linux1")
    told = call(board, guests=[{**LINUX1, "cmdline": "quiet"}], recreate="allowed", shutdown_timeout=1)
    assert "was asked to shut down" in told["msg"]
    assert domids(board) == before
    if took_note:
        board.guest_answers("answer", "linux1")
    done = restored(board)
    assert rows(done)["linux1"] == "restored"
    assert "was asked to shut down" in next(line for line in done["lines"] if line.startswith("linux1"))
    assert (domids(board)["linux1"] == before["linux1"]) != took_note
    board.guest_answers("answer", "linux1")
    assert domids(board)["linux1"] is not None
    assert not board.read(f"/local/domain/{domids(board)['linux1']}/control/shutdown")


def test_one_that_was_only_restarted_is_as_it_was(board: LabHost) -> None:
    checkpoint(board)
    restarted(board)
    domid = domid_of(board, "linux1")
    done = checkpoint(board, "restored")
    assert (done["changed"], domid_of(board, "linux1")) == (False, domid)


def test_how_a_guest_stood_is_how_it_stands_again(board: LabHost) -> None:
    """Paused, down, not there at all, with a change that waits for its next creation, and coming up with the host."""
    call(board, guests=[{**LINUX2, "cmdline": "later"}], recreate="report")
    board.xl("pause", "by_hand")
    call(board, guests=[guest("idle", autostart=True)], state="shutdown")
    call(board, guests=[guest("idle", autostart=True)], state="configured")
    kept = checkpoint(board, guests=["linux1", "linux2", "by_hand", "idle", "new"])
    pending_text = config_of(board, "linux2").read_bytes()
    ran_from = board.xl("list", "-l", "linux2").stdout
    call(board, guests=[{**LINUX2, "cmdline": "now"}], recreate="allowed")
    board.xl("destroy", "by_hand")
    call(board, guests=[guest("idle", autostart=False), guest("new")])
    done = restored(board)
    assert rows(done) == {
        "linux1": "unchanged",
        "linux2": "restored",
        "by_hand": "restored",
        "idle": "restored",
        "new": "removed",
    }
    assert [one["run_state"] for one in kept["checkpoint"]["guests"]] == [
        one["after"]["run_state"] for name in ("linux1", "linux2", "by_hand", "idle", "new")
        for one in done["guests"] if one["name"] == name
    ]  # fmt: skip
    assert config_of(board, "linux2").read_bytes() == pending_text
    assert "later" not in ran_from
    assert "later" not in board.xl("list", "-l", "linux2").stdout
    assert not config_of(board, "new").exists()
    assert (
        board.root / "etc/systemd/system/multi-user.target.wants/xen-virtio-guest@idle.service"
    ).is_symlink()


# --- kernels ---------------------------------------------------------------------------------------------


def image(host: LabHost, text: str) -> dict[str, str]:
    """A kernel with this content as a controller has copied it; its ``src`` is overwritten each time."""
    path = host.root / "etc/boot/Image"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return {"src": "/etc/boot/Image", "checksum": f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"}


def kernel_of(host: LabHost, name: str = "linux1") -> str:
    """The kernel that a guest runs from, by libxl's record."""
    (record,) = json.loads(host.xl("list", "-l", name).stdout)
    return str(record["config"]["b_info"]["kernel"])


def test_a_kernel_rolls_out_and_back(board: LabHost) -> None:
    call(board, guests=[{**LINUX1, "kernel": image(board, "6.6")}], recreate="allowed")
    old = kernel_of(board)
    assert old.startswith("/var/lib/xen-virtio/images/")
    checkpoint(board)
    call(
        board,
        guests=[{**LINUX1, "kernel": image(board, "6.12, which panics"), "on_crash": "preserve"}],
        recreate="allowed",
    )
    assert kernel_of(board) != old
    board.guest_crashes(domid_of(board, "linux1") or 0)
    done = restored(board)
    assert rows(done)["linux1"] == "restored"
    assert kernel_of(board) == old
    assert (board.root / old.lstrip("/")).read_text() == "6.6"


def test_a_kernel_that_is_not_what_it_was(board: LabHost) -> None:
    kernel = board.root / "etc/boot/Image"
    kernel.parent.mkdir(exist_ok=True)
    kernel.write_text("old")
    call(board, guests=[{**LINUX1, "kernel": "/etc/boot/Image"}], recreate="allowed")
    checkpoint(board)
    domid = domid_of(board, "linux1")
    kernel.write_text("new")
    assert not checkpoint(board, "restored")["changed"]  # it runs from what it was, still
    for one in (LINUX1, LINUX2):
        call(board, guests=[{**one, "cmdline": "quiet"}], recreate="allowed")
    kernel.unlink()
    told = checkpoint(board, "restored", check=True)
    assert told["failed"]
    assert "linux1: kernel: /etc/boot/Image is gone; put the file with sha256:" in told["msg"]
    kernel.write_text("new")
    done = checkpoint(board, "restored")
    assert done["failed"]
    assert "linux1: kernel: /etc/boot/Image holds another file now (sha256:" in done["msg"]
    assert rows(done) == {"linux1": "failed", "linux2": "restored", "by_hand": "unchanged"}
    assert domid_of(board, "linux1") not in (None, domid)
    kernel.write_text("old")
    assert rows(restored(board)) == {"linux1": "restored", "linux2": "unchanged", "by_hand": "unchanged"}


# --- a restore that fails, and one that is not the only one ----------------------------------------------


def test_a_guest_that_does_not_come_back_keeps_no_other_from_it(board: LabHost) -> None:
    checkpoint(board)
    for one in (LINUX1, LINUX2):
        call(board, guests=[{**one, "cmdline": "quiet"}], recreate="allowed")
    board.guest_answers("ignore", "linux1")
    done = checkpoint(board, "restored", shutdown_timeout=1)
    assert done["failed"]
    assert "linux1" in done["msg"]
    assert "force_destroy: true" in done["msg"]
    assert rows(done) == {"linux1": "failed", "linux2": "restored", "by_hand": "unchanged"}
    assert any(line.startswith("linux1: NOT restored") for line in done["lines"])
    done = restored(board, shutdown_timeout=1, force_destroy=True)
    assert rows(done)["linux1"] == "restored"


def test_what_a_create_left_that_was_cut_off_is_cleaned_away(board: LabHost) -> None:
    checkpoint(board)
    removed(board)
    board.backend_behaves("never", devid=51712)
    process = start(board, CHECKPOINT, "_checkpoint_module", name="before", state="restored", settle=0.1)
    assert until(lambda: len(xls_creates(board)) > 0 and waits(board))
    for pid in xls_creates(board):
        os.kill(pid, signal.SIGKILL)
    process.kill()
    process.wait()
    for pid, command in board.processes().items():
        if "_checkpoint_module" in command:
            os.kill(pid, signal.SIGKILL)
    board.backend_behaves("answer")
    assert rows(restored(board)) == {"linux1": "restored", "linux2": "unchanged", "by_hand": "unchanged"}


def xls_creates(host: LabHost) -> list[int]:
    return [pid for pid, command in host.processes().items() if "create -p" in command]


def waits(host: LabHost) -> bool:
    """A new domain of linux1 waits for its disk."""
    return any(
        host.read(f"/local/domain/1/backend/virtio_disk/{one.domid}/51712/state") == b"1"
        for one in host.hypervisor.domains()
    )


def test_a_driver_domain_comes_before_those_that_hang_on_it(lab: LabHost) -> None:
    lab.answer_backends()
    lab.guest_answers()
    create(lab, "DomD", 0, driver_domain=1)
    create(lab, "linux1", 1)
    checkpoint(lab)
    lab.xl("destroy", "DomD")
    create(lab, "DomD", 0, driver_domain=1, memory=96)
    done = restored(lab)
    assert [(one["name"], one["action"]) for one in done["guests"]] == [
        ("DomD", "restored"),
        ("linux1", "restored"),
    ]
    driver, guest_domid = domid_of(lab, "DomD"), domid_of(lab, "linux1")
    assert lab.read(f"/local/domain/{driver}/backend/virtio_disk/{guest_domid}/51712/state") == b"2"


def test_one_guest_of_many(board: LabHost) -> None:
    checkpoint(board)
    for one in (LINUX1, LINUX2):
        call(board, guests=[{**one, "cmdline": "quiet"}], recreate="allowed")
    linux2 = domid_of(board, "linux2")
    assert rows(restored(board, guests=["linux1"])) == {"linux1": "restored"}
    assert domid_of(board, "linux2") == linux2
    assert "holds no guest nobody" in checkpoint(board, "restored", guests=["nobody"])["msg"]


def test_a_configuration_outside_of_the_folder(board: LabHost) -> None:
    (board.root / "etc/guests").mkdir()
    path = "/etc/guests/far"
    far = guest("far", path=path)
    call(board, guests=[far])
    checkpoint(board, guests=[{"name": "far", "path": path}])
    call(board, guests=[{**far, "cmdline": "quiet"}], recreate="allowed")
    assert rows(restored(board)) == {"far": "restored"}
    assert "quiet" not in (board.root / path.lstrip("/")).read_text()
    assert not config_of(board, "far").exists()


def test_as_tasks_of_ansible(lab: LabHost, tmp_path: Path) -> None:
    board = prepared(lab)
    create(board, "linux1", 1)

    def task(*flags: str, **arguments: Any) -> dict[str, Any]:
        return run_module(
            tmp_path,
            board.python,
            "xen.virtio.checkpoint",
            {"name": "before", "settle": 0.1, **arguments},
            *flags,
        )

    assert task()["changed"]
    board.xl("destroy", "linux1")
    planned = task("--check", "--diff", state="restored")
    assert rows(planned)["linux1"] == "restored"
    assert "+# running, as it was" in planned["stdout"]
    done = task(state="restored")
    assert done["changed"], done
    assert rows(done)["linux1"] == "restored"
    assert not task(state="restored")["changed"]
    assert task(state="restored", name="none")["failed"]
    assert task(state="absent")["changed"]


# --- checkpoints as such ---------------------------------------------------------------------------------


def test_the_oldest_are_forgotten(board: LabHost) -> None:
    folder = board.root / "var/lib/xen-virtio/checkpoints"
    for number, name in enumerate(["by-hand", "rollout-0", "rollout-1", "c2"]):
        checkpoint(board, name=name)
        file = folder / f"{name}/checkpoint.json"
        file.write_text(file.read_text().replace('"taken": "', f'"taken": "{number}'))
    planned = checkpoint(board, name="rollout-3", keep=1, check=True)
    assert "forgotten: rollout-1, rollout-0" in planned["msg"]
    assert len(list(folder.iterdir())) == 4
    checkpoint(board, name="c3", keep=1)
    checkpoint(board, name="rollout-3", keep=1)
    # what somebody took by hand is somebody's
    assert sorted(one.name for one in folder.iterdir()) == ["by-hand", "c2", "c3", "rollout-3"]
    assert checkpoint(board, "absent", name="c2", check=True)["changed"]
    assert checkpoint(board, "absent", name="c2")["changed"]
    assert not checkpoint(board, "absent", name="c2")["changed"]
    assert "known: by-hand, c3, rollout-3" in checkpoint(board, "restored", name="c2")["msg"]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"name": "../x"}, "is no name of a checkpoint"),
    ({"name": "-x"}, "is no name of a checkpoint"),
    ({"name": "x" * 65}, "is no name of a checkpoint"),
    ({"name": "x\n"}, "is no name of a checkpoint"),
    ({"keep": 0}, "keep is a number of checkpoints"),
    ({"restore_timeout": -1}, "restore_timeout is a number of seconds"),
    ({"guests": [{"nmae": "linux1"}]}, "a guest is its name, or a mapping"),
    ({"guests": [{"name": "linux1", "path": "etc/x"}]}, "path is the absolute path"),
    ({"guests": [["linux1"]]}, "a guest is its name, or a mapping"),
    ({"guests": ["dom0less-9"], "add": True}, "which xl did not make"),
    ({"state": "restored", "unit": "x.service"}, "there is no checkpoint before"),
    ({"state": "restored", "spoil": "{"}, "not what this release keeps"),
    ({"state": "present", "spoil": '{"version": 2}'}, "not what this release keeps"),
]


def test_what_is_refused_in_a_sentence(lab: LabHost) -> None:
    board = prepared(lab)
    for options, words in WRONG:
        said = dict(options)
        if said.pop("add", False):
            said["guests"] = [f"dom0less-{board.add_domain()}"]
        spoil = said.pop("spoil", None)
        if spoil is not None:
            path = board.root / "var/lib/xen-virtio/checkpoints/before/checkpoint.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(spoil)
        told = checkpoint(board, **said)
        assert told["failed"], options
        assert words in told["msg"], (options, told["msg"])
    assert checkpoint(board, "absent")["changed"]  # and with that it is gone
