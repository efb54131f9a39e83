# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook site: a whole host from nothing to running guests; one as boards are; and back after a power cut."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from boards import prepared
from guests import BOUND, domid_of, until
from lab import LabHost
from role_runs import Fleet, changed, told

SITE = "xen.virtio.site"
KERNEL = b"a kernel"
SHA = hashlib.sha256(KERNEL).hexdigest()


def fleet_of(folder: Path, **hosts: LabHost) -> Fleet:
    """Two guests with disks of a driver domain, one of them to come up with its host."""
    fleet = Fleet(folder / "controller", **hosts)
    (fleet.inventory / "Image").write_bytes(KERNEL)
    fleet.variables |= {
        "xen_driver_domains": {"DomD": None},
        "xen_guest_defaults": {
            "memory": 64, "type": "pvh", "kernel": {"src": "Image", "checksum": f"sha256:{SHA}"}, "autostart": True,
        },
        "xen_guests": {
            "linux1": {"disks": ["backend=DomD, phy:/dev/mmcblk1p3, xvda1, rw, virtio"]},
            "linux2": {"disks": [{"vdev": "xvdb", "target": "/dev/vg/b", "backend": "DomD"}], "vcpus": 2},
        },
    }  # fmt: skip
    return fleet


def prepare(host: LabHost) -> LabHost:
    host.answer_backends()
    host.guest_answers()
    host.add_domain(ready=["virtio-disk"])  # a driver domain that Xen itself starts
    return host


def running(host: LabHost) -> list[bool]:
    return [domid_of(host, name) is not None for name in ("linux1", "linux2")]


def test_from_nothing_to_running_guests(lab_any: LabHost, tmp_path: Path) -> None:
    host = prepared(lab_any)
    fleet = fleet_of(tmp_path, b01=host)
    assert changed(fleet.play(SITE, "--check", "--diff")) > 0
    assert running(host) == [False, False]
    fleet.play(SITE)
    assert running(host) == [True, True]
    assert changed(fleet.play(SITE, "--diff")) == 0


def test_an_empty_inventory_is_no_error(lab: LabHost, tmp_path: Path) -> None:
    assert changed(Fleet(tmp_path / "controller", b01=lab).play(SITE)) == 0


def test_one_bad_host_does_not_keep_the_others(lab_factory: Any, tmp_path: Path) -> None:
    good, bad = prepared(lab_factory()), prepared(lab_factory())
    fleet = fleet_of(tmp_path, b01=good, b02=bad)
    bad.xenstored.kill()
    done = fleet.play(SITE, check=False)
    assert done.returncode != 0
    assert "b02" in told(done)
    assert "xenstore cannot be used" in told(done)
    assert running(good) == [True, True]


@pytest.fixture
def board(lab_factory: Any) -> LabHost:
    """A host whose root cannot be written: all that can is below /run, libxl's own folder, and xl's logs."""
    host: LabHost = prepare(lab_factory())
    host.run(
        [
            "sh",
            "-ec",
            "mkdir -p /run/data; mount --bind /var/lib/xen /var/lib/xen;"
            "for place in /etc /usr/local /var/lib; do mount -o remount,bind,ro $place; done;"
            "mount --bind /var/lib/xen /var/lib/xen -o rw; mount -o remount,bind,rw /var/lib/xen;"
            "! touch /etc/x 2>/dev/null && touch /var/lib/xen/x && rm /var/lib/xen/x",
        ]
    )
    return host


def test_a_board_with_a_root_that_cannot_be_written(board: LabHost, tmp_path: Path, old_python: str) -> None:
    fleet = fleet_of(tmp_path, b01=board)
    fleet.python = old_python
    del fleet.variables["dom0_packages"], fleet.variables["dom0_services"]
    fleet.variables |= {
        "dom0_packages": [],
        "dom0_services": [],
        "xen_driver_domains": {"dom0less-1": None},
        "xen_config_dir": "/run/data/xen",
        "xen_state_dir": "/run/data/state",
        "xen_lib_dir": "/run/data/lib",
        "xen_unit_dir": "/run/systemd/system",
    }
    for one in fleet.variables["xen_guests"].values():
        one["disks"] = [
            disk.replace("DomD", "dom0less-1") if isinstance(disk, str) else {**disk, "backend": "dom0less-1"}
            for disk in one["disks"]
        ]
    planned = fleet.play(SITE, "--check", "--diff")
    assert changed(planned) > 0
    fleet.play(SITE)
    assert running(board) == [True, True]
    data = board.root / "run/data"
    assert sorted(path.name for path in (data / "xen").iterdir()) == ["linux1.cfg", "linux2.cfg"]
    assert [path.read_bytes() for path in (data / "state/images").iterdir()] == [KERNEL]
    assert (board.root / "run/systemd/system/multi-user.target.wants").is_dir()
    assert changed(fleet.play(SITE, "--diff")) == 0
    host_info = fleet.ask("guest_info", config_dir="/run/data/xen", state_dir="/run/data/state")
    assert [(one["name"], one["run_state"], one["autostart"]) for one in host_info["guests"][1:]] == [
        ("linux1", "running", True),
        ("linux2", "running", True),
    ]


def test_after_a_power_cut_all_guests_are_back_with_no_controller(lab: LabHost, tmp_path: Path) -> None:
    host = prepare(lab)
    fleet = fleet_of(tmp_path, b01=host)
    fleet.variables["xen_driver_domains"] = {"dom0less-1": None}
    fleet.variables["xen_guests"] = {
        "linux1": {"disks": [{"vdev": "xvda", "target": "/dev/vg/a", "backend": "dom0less-1"}]}
    }
    fleet.play(SITE)
    before = domid_of(host, "linux1")
    host.power_off()
    host.power_on()
    host.answer_backends()
    assert until(lambda: domid_of(host, "linux1") is not None, BOUND), before
    assert changed(fleet.play(SITE, "--diff")) == 0
