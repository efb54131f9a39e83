# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests where a mistake costs somebody else: files of others, names that are none, passwords, first disks."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from boards import prepared
from guest_calls import actions, call, disk, guest
from guests import create, domid_of, write_config
from lab import LabHost


@pytest.fixture
def board(lab: LabHost) -> LabHost:
    """A host with backends and guests that answer, and a driver domain DomD that says it is ready."""
    return prepared(lab)


@pytest.mark.parametrize("state", ["running", "paused", "restarted", "absent"])
def test_the_configuration_of_another_guest_is_neither_used_nor_removed(board: LabHost, state: str) -> None:
    path = board.root / "etc/xen/linux1.cfg"
    write_config(board, "other", path=path)
    told = call(board, name="linux1", state=state)
    assert told["failed"]
    assert "is the configuration of guest other" in told["msg"]
    assert path.exists()
    assert domid_of(board, "other") is None


@pytest.mark.parametrize("state", ["shutdown", "absent", "paused", "restarted"])
def test_a_guest_is_found_by_its_name_alone(board: LabHost, state: str) -> None:
    domid = create(board, "mine")
    uuid = call(board, name="mine")["guests"][0]["uuid"]
    for name in (str(domid), uuid, uuid.upper()):
        told = call(board, name=name, state=state, force_destroy=True)
        assert told["failed"], name
    assert domid_of(board, "mine") == domid
    assert call(board, name="mine")["guests"][0]["run_state"] == "running"


def test_no_guest_takes_the_uuid_of_another(board: LabHost) -> None:
    create(board, "mine")
    uuid = call(board, name="mine")["guests"][0]["uuid"]
    told = call(board, guests=[guest("linux1", uuid=uuid)])
    assert told["failed"]
    assert f"uuid {uuid} is that of mine" in told["msg"]
    assert domid_of(board, "linux1") is None


def test_a_file_keeps_its_owner_its_permissions_and_the_link_to_it(board: LabHost) -> None:
    first = guest("linux1", on_crash="destroy")
    call(board, guests=[first])
    folder = board.root / "etc/xen"
    kept = folder / "kept"
    kept.mkdir()
    (folder / "linux1.cfg").rename(kept / "config")
    (folder / "linux1.cfg").symlink_to("kept/config")
    os.chown(kept / "config", 1234, 1235)
    (kept / "config").chmod(0o640)

    told = call(board, guests=[guest("linux1", on_crash="preserve")], recreate="report")
    assert not told["failed"], told["msg"]
    assert (folder / "linux1.cfg").is_symlink()
    now = (kept / "config").stat()
    assert (now.st_uid, now.st_gid, now.st_mode & 0o777) == (1234, 1235, 0o640)
    assert "preserve" in (kept / "config").read_text()
    (backup,) = folder.glob("linux1.cfg.*~")
    then = backup.stat()
    assert (then.st_uid, then.st_gid, then.st_mode & 0o777) == (1234, 1235, 0o640)


def test_passwords_are_not_shown(board: LabHost) -> None:
    shown = []
    for password in ("s3cret-1", "s3cret-2"):
        secret = guest("linux1", extra_config={"vncpasswd": password})
        for check in (True, False):
            told = call(board, guests=[secret], recreate="report", check=check)
            assert not told["failed"], told["msg"]
            shown.append(json.dumps(told))
    assert "s3cret-2" in (board.root / "etc/xen/linux1.cfg").read_text()
    assert all("vncpasswd" in one and "s3cret" not in one for one in shown)


def test_the_first_disk_of_a_guest_is_new_and_not_lost(board: LabHost) -> None:
    bare, one = guest("linux1"), guest("linux1", disk())
    call(board, guests=[bare])
    told = call(board, guests=[one], recreate="unhealthy", check=True)
    assert told["guests"][0]["differences"]["store"] == []
    assert told["guests"][0]["differences"]["domain"][0]["option"] == "disk xvda"
    assert actions(told) == {"linux1": "changed"}
    assert actions(call(board, guests=[one], recreate="allowed")) == {"linux1": "recreated"}


def test_a_disk_whose_nodes_are_all_gone_is_lost(board: LabHost) -> None:
    two = guest("linux1", disk(), disk("xvdb", "/dev/vg/b"))
    domid = call(board, guests=[two])["guests"][0]["domid"]
    for path in (
        f"/libxl/{domid}/device/virtio_disk/51728",
        f"/local/domain/{domid}/device/virtio_disk/51728",
        f"/local/domain/1/backend/virtio_disk/{domid}/51728",
    ):
        board.rm(path)
    told = call(board, guests=[two])
    assert [(one["vdev"], one["what"]) for one in told["guests"][0]["differences"]["store"]] == [
        ("xvdb", "lost")
    ]


@pytest.mark.parametrize(("state", "action"), [("shutdown", "stopped"), ("absent", "removed")])
def test_a_guest_ends_although_its_driver_domain_is_gone(board: LabHost, state: str, action: str) -> None:
    one = guest("linux1", disk())
    call(board, guests=[one])
    board.kill_domain(1)
    told = call(board, guests=[one])
    assert told["failed"]
    assert "backend-down" in [finding["code"] for finding in told["findings"]]
    told = call(board, guests=[one], state=state, force_destroy=True)
    assert not told["failed"], told["msg"]
    assert actions(told) == {"linux1": action}
    assert domid_of(board, "linux1") is None


@pytest.mark.parametrize("up", [False, True])
def test_a_driver_domain_that_is_not_there_is_a_finding(board: LabHost, up: bool) -> None:
    if up:
        call(board, guests=[guest("linux1", disk())])
    told = call(board, guests=[guest("linux1", disk(backend="DomX"))], recreate="allowed")
    assert told["failed"]
    assert [one["code"] for one in told["findings"] if one["severity"] == "error"] == ["backend-down"]
    assert not told["changed"]


XEN = {"vdev": "xvdp", "target": "/dev/vg/p", "backend": "DomD", "specification": "xen"}
VIRTIO = disk("xvdp", "/dev/vg/p")
OTHER = disk("xvdq", "/dev/vg/q")
KINDS = [
    pytest.param([XEN], [VIRTIO], id="xen to virtio"),
    pytest.param([VIRTIO], [XEN], id="virtio to xen"),
    pytest.param([XEN], [OTHER], id="another instead of a xen disk"),
    pytest.param([OTHER], [XEN], id="a xen disk instead of another"),
]


@pytest.mark.parametrize(("before", "after"), KINDS)
def test_another_kind_of_disk_needs_a_new_domain(
    board: LabHost, before: list[dict[str, Any]], after: list[dict[str, Any]]
) -> None:
    domid = call(board, guests=[guest("linux1", *before)])["guests"][0]["domid"]
    old, new = ("vbd", "virtio_disk") if before[0].get("specification") else ("virtio_disk", "vbd")
    told = call(board, guests=[guest("linux1", *after)])
    assert told["failed"]
    assert "would have to be re-created: disk xvd" in told["msg"]
    # told, and nothing of it done in the running guest: it keeps what it has until there is a new domain
    told = call(board, guests=[guest("linux1", *after)], recreate="report")
    assert not told["failed"], told["msg"]
    assert told["guests"][0]["recreate_reasons"]
    assert board.read(f"/local/domain/{domid}/device/{old}") is not None
    assert board.read(f"/local/domain/{domid}/device/{new}") is None
    told = call(board, guests=[guest("linux1", *after)], recreate="allowed")
    assert actions(told) == {"linux1": "recreated"}, told["msg"]
    fresh = told["guests"][0]["domid"]
    assert board.read(f"/local/domain/{fresh}/device/{new}") is not None
    assert board.read(f"/local/domain/{fresh}/device/{old}") is None
    again = call(board, guests=[guest("linux1", *after)])
    assert not again["failed"], again["msg"]
    assert not again["changed"]


def test_a_guest_that_ends_needs_no_new_domain(board: LabHost) -> None:
    call(board, guests=[guest("linux1", disk())])
    told = call(board, guests=[guest("linux1", disk(), cmdline="quiet")], state="shutdown")
    assert told["guests"][0]["recreate_reasons"] == []
    assert told["msg"] == "1 guest: 1 stopped"


def test_what_is_no_file_holds_nobody_up(board: LabHost) -> None:
    pipe = board.root / "etc/xen/pipe.cfg"
    os.mkfifo(pipe)
    for one in (guest("linux1", path="/etc/xen/pipe.cfg"), {"name": "linux1", "path": "/etc/xen/pipe.cfg"}):
        for state in ("running", "absent"):
            told = call(board, guests=[one], state=state)
            assert told["failed"]
            assert "is no regular file" in told["msg"]
    for path in ("/etc/xen/pipe.cfg", "/dev/zero", "/etc"):
        told = call(board, guests=[guest("linux1", kernel=path)])
        assert told["failed"]
        assert f"kernel: {path} is no regular file" in told["msg"]
        told = call(board, guests=[guest("linux1", kernel={"src": path, "checksum": "sha256:" + "0" * 64})])
        assert f"{path} is no file that can be read" in told["msg"]


def test_pinning_that_xl_forgets_is_told(board: LabHost) -> None:
    told = call(board, guests=[guest("linux1", cpus="1")], check=True)
    assert any("cpus has no effect without vcpus" in warning for warning in told["warnings"])
    told = call(board, guests=[guest("linux1", cpus="1", vcpus=1)], check=True)
    assert told["warnings"] == []


def test_a_bootloader_for_a_virtio_disk_is_refused_before_it_leaves_nodes_behind(board: LabHost) -> None:
    one = {**guest("linux1", disk(), bootloader="/bin/true"), "kernel": None}
    told = call(board, guests=[one])
    assert [finding["code"] for finding in told["findings"]] == ["virtio-rules"]
    assert "/local/domain/1/backend/virtio_disk" not in board.ls("/")


@pytest.mark.parametrize("state", ["running", "absent"])
def test_two_domains_of_one_name_are_named_and_left_alone(board: LabHost, state: str) -> None:
    first = call(board, guests=[guest("linux1")])["guests"][0]["domid"]
    second = board.add_domain("linux1", kind="toolstack")
    told = call(board, name="linux1", state=state, force_destroy=True)
    assert told["failed"]
    assert f"domains {first}, {second} have that name" in told["msg"]
    assert {one.domid for one in board.hypervisor.domains()} >= {first, second}
