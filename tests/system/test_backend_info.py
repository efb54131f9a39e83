# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules backend_info and backend_foreign on real hosts: dom0, and a driver domain with daemons of others."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import guests
import pytest
import standin
from ansible_runs import run_module
from backends import Controller
from lab import LabHost
from lab.machines import Machine
from lab.machines_pair import DriverDomain

INFO, FOREIGN = "xen.virtio.backend_info", "xen.virtio.backend_foreign"


def test_dom0_has_no_quota_and_needs_no_xenbus(lab: LabHost, tmp_path: Path) -> None:
    (lab.root / "run/systemd/system").mkdir(parents=True)
    told = run_module(tmp_path, lab.python, INFO, {})
    assert not told["failed"]
    assert not told["changed"]
    assert (told["domid"], told["quota"], told["headroom"], told["init"]) == (0, None, None, "systemd")
    assert told["store"]["reachable"]
    missing = [one["message"] for one in told["findings"] if one["code"] == "device-missing"]
    assert [message for message in missing if "xenbus" in message] == []


def test_a_host_whose_store_is_down_tells_the_rest(lab: LabHost, tmp_path: Path) -> None:
    lab.xenstored.kill()
    told = run_module(tmp_path, lab.python, INFO, {"timeout": 2})
    assert not told["failed"]
    assert (told["domid"], told["store"]["reachable"], told["disks"]) == (None, False, 0)
    assert "store" in {one["code"] for one in told["findings"]}


@pytest.mark.parametrize(
    ("accept", "words"),
    [
        ([{"code": "foreign-daemon", "reason": "x"}], "cannot be accepted"),
        ([{"code": "nonsense", "reason": "x"}], "unknown code 'nonsense'"),
        ([{"code": "quota"}], "a mapping with code and reason"),
    ],
)
def test_what_cannot_be_accepted(lab: LabHost, tmp_path: Path, accept: list[Any], words: str) -> None:
    told = run_module(tmp_path, lab.python, INFO, {"accept": accept})
    assert told["failed"]
    assert words in told["msg"]


def daemon(machine: Machine, program: Path, *arguments: str) -> None:
    """A daemon in a unit of its own, as somebody else would run it."""
    shutil.copy(program, machine.share / "virtio-disk")
    machine.run(["install", "-m", "755", "/lab/share/virtio-disk", "/usr/bin/virtio-disk"])
    machine.run(["systemd-run", "--quiet", "--unit=somebodys", "virtio-disk", *arguments])
    assert guests.until(lambda: machine.run(["pgrep", "-x", "virtio-disk"], check=False).returncode == 0)


def test_a_driver_domain_with_somebody_elses_daemon(
    driver_domain: DriverDomain, controller: Controller, tmp_path: Path
) -> None:
    machine = driver_domain.machine
    told = controller.module("domd", INFO)
    assert (told["domid"], told["init"], told["foreign"]) == (driver_domain.domid, "systemd", [])
    assert all(device["present"] for device in told["devices"])
    assert told["quota"]["used_nodes"] > 0
    assert told["headroom"] > 0
    assert [one["code"] for one in told["findings"] if one["severity"] == "error"] == []
    daemon(machine, standin.build(tmp_path / "build"), "-d", "51712")
    (idle,) = controller.module("domd", INFO)["foreign"]
    assert (idle["idle"], idle["unit"], idle["devid"], idle["serves"]) == (
        True,
        "somebodys.service",
        51712,
        [],
    )
    (machine.share / "a.img").write_bytes(bytes(4096))
    domid = guests.create(driver_domain.host, "web", [guests.virtio_disk("xvda", "/lab/share/a.img")])
    (busy,) = controller.module("domd", INFO)["foreign"]
    assert busy["serves"] == [{"domid": domid, "domain": None, "devid": 51712, "target": "/lab/share/a.img"}]
    refused = controller.module("domd", FOREIGN)
    assert refused["failed"]
    assert f"process {busy['pid']} of somebodys.service" in refused["msg"]
    assert (refused["stopped"], refused["masked"]) == ([], [])
    driver_domain.host.xl("destroy", "web")
    assert guests.until(lambda: controller.module("domd", INFO)["foreign"][0]["idle"])
    planned = controller.module("domd", FOREIGN, "--check")
    assert (planned["changed"], planned["stopped"]) == (True, ["somebodys.service"])
    ended = controller.module("domd", FOREIGN)
    assert ended["stopped"] == ["somebodys.service"]  # it was made without a file: nothing to mask
    assert controller.module("domd", INFO)["foreign"] == []
    assert not controller.module("domd", FOREIGN)["changed"]
