# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role dom0 on lab hosts: what is up to the inventory passes unchanged, the rest is refused in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lab import LabHost
from role_runs import Fleet, changed, told

GUEST = {"type": "pvh", "memory": 64, "kernel": "/boot/Image"}
DISK = {"vdev": "xvda", "target": "/dev/vg/a", "backend": "DomD"}


@pytest.fixture
def fleet(lab: LabHost, tmp_path: Path) -> Fleet:
    return Fleet(tmp_path / "controller", b01=lab)


@pytest.mark.parametrize("flags", [(), ("--check", "--diff")], ids=["run", "check"])
def test_a_host_that_is_up_to_its_guests_is_left_as_it_is(fleet: Fleet, flags: tuple[str, ...]) -> None:
    fleet.variables["xen_guests"] = {"linux1": {**GUEST, "disks": [DISK]}}
    before = fleet.hosts["b01"].ls()
    done = fleet.role("dom0", *flags)
    assert changed(done) == 0
    assert fleet.hosts["b01"].ls() == before


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        (
            {"xen_guests": {"linux1": {**GUEST, "disks": [{**DISK, "grant_usage": True}]}}},
            ["b01 runs Xen 4.17", "linux1", "grant_usage"],
        ),
        ({"xen_guests": {"linux1": {**GUEST, "nr_spis": 64}}}, ["too old", "linux1", "nr_spis"]),
        ({"xen_release": "4.16"}, ["b01 runs Xen 4.16", "at least 4.17", "v6"]),
        ({"dom0_minimum_release": "4.19"}, ["b01 runs Xen 4.17", "at least 4.19"]),
        (
            {"xen_guests": {"linux1": GUEST}, "xen_xl_path": "/nonexistent/xl", "xen_release": "4.17"},
            ["no working xl"],
        ),
        ({"xen_socket": "/nonexistent/socket"}, ["xenstore cannot be used", "become"]),
        ({"xen_guests": {"linux1": {"memorry": 64}}}, ["linux1", "memory"]),
        ({"dom0_ioreq": "perhaps"}, ["dom0_ioreq"]),
    ],
    ids=["disk option", "guest option", "release", "minimum", "no xl", "no store", "typo", "bad option"],
)
def test_what_a_host_is_refused_for(fleet: Fleet, variables: dict[str, Any], words: list[str]) -> None:
    fleet.variables.update(variables)
    done = fleet.role("dom0", check=False)
    assert done.returncode != 0
    for word in words:
        assert word in told(done)
    assert "Traceback" not in told(done)


def test_a_host_without_xl_and_without_guests_passes(fleet: Fleet) -> None:
    fleet.variables.update(xen_xl_path="/nonexistent/xl", xen_release="4.17")
    fleet.role("dom0")


def test_a_toolstack_with_the_old_patches(fleet: Fleet) -> None:
    fleet.variables["xen_release"] = "v6"
    fleet.variables["xen_guests"] = {
        "linux1": {**GUEST, "disks": ["backend=DomD, phy:/dev/vg/a, xvda, rw, virtio"]}
    }
    fleet.role("dom0")


def test_packages_that_are_there_are_left_as_they_are(fleet: Fleet) -> None:
    fleet.variables["dom0_packages"] = ["xenstore-utils"]
    assert changed(fleet.role("dom0")) == 0


def test_what_is_there_already_is_not_installed_again(fleet: Fleet) -> None:
    """Its Xen may be of its own making, and no package of the system's."""
    del fleet.variables["dom0_packages"], fleet.variables["dom0_services"]
    done = fleet.role("dom0")
    assert changed(done) == 0
    assert "Have Xen and its tools" not in done.stdout


def test_where_there_is_no_xen_it_is_planned_with_the_systems_own_packages(fleet: Fleet) -> None:
    fleet.variables["xen_xl_path"] = "/nonexistent/xl"
    fleet.variables["xen_release"] = "4.17"
    del fleet.variables["dom0_packages"]
    planned = fleet.role("dom0", "--check", "-v")
    assert changed(planned) == 1
    assert "xen-system-" in planned.stdout


def test_a_system_that_is_not_known_is_only_checked(fleet: Fleet) -> None:
    fleet.variables["xen_xl_path"] = "/nonexistent/xl"
    fleet.variables["xen_release"] = "4.17"
    root = fleet.hosts["b01"].root / "etc"
    for name in ("os-release", "debian_version", "issue", "lsb-release"):
        (root / name).unlink(missing_ok=True)
    (root / "os-release").write_text(
        'ID=poky\nNAME="Poky (Yocto Project Reference Distro)"\nVERSION_ID=5.0\n'
    )
    del fleet.variables["dom0_packages"], fleet.variables["dom0_services"]
    done = fleet.role("dom0")
    assert changed(done) == 0
    assert "Have Xen and its tools" not in done.stdout


def test_tags_select_parts(fleet: Fleet) -> None:
    fleet.variables["dom0_minimum_release"] = "4.19"
    fleet.role("dom0", "--tags", "packages")
    assert fleet.role("dom0", "--tags", "check", check=False).returncode != 0
