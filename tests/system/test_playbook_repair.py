# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook repair: guests that lost a disk are created anew, and no others."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import standin
from ansible_collections.xen.virtio.plugins.module_utils._launcher import VERSION
from boards import prepared
from guests import create, domid_of, state_letters, virtio_disk
from lab import LabHost
from lab.machines_pair import DriverDomain
from launching import A, Backend
from role_runs import Fleet, changed, told

REPAIR = "xen.virtio.repair"
DRIVERS = "/local/domain/1/drivers/virtio-disk"
NAMES = ("linux1", "linux2", "linux3")


def lose(host: LabHost, name: str, vdev: int = 51712) -> None:
    """The daemon of a disk gives it up: it removes the backend's directory."""
    host.rm(f"/local/domain/1/backend/virtio_disk/{domid_of(host, name)}/{vdev}")


def domids(host: LabHost) -> list[int | None]:
    return [domid_of(host, name) for name in NAMES]


def repair(fleet: Fleet, *flags: str, check: bool = True, **more: Any) -> subprocess.CompletedProcess[str]:
    return fleet.play(REPAIR, *flags, check=check, xen_repair_settle=0.1, **more)


@pytest.fixture
def host(lab: LabHost) -> LabHost:
    """Three guests (2, 3, 4) with disks of DomD (1), and one that xl did not make."""
    prepared(lab)
    lab.write(f"{DRIVERS}/launcher", VERSION)  # or they could not have one device number
    create(lab, "linux1", 1)
    create(lab, "linux2", 2)
    create(lab, "linux3", 1)
    lab.add_domain()
    return lab


@pytest.fixture
def fleet(host: LabHost, tmp_path: Path) -> Fleet:
    return Fleet(tmp_path / "controller", b01=host)


def test_only_a_guest_that_lost_a_disk_is_created_anew(host: LabHost, fleet: Fleet) -> None:
    assert changed(repair(fleet)) == 0
    lose(host, "linux2")
    (host.root / "etc/xen/linux1.cfg").write_text(
        (host.root / "etc/xen/linux1.cfg").read_text() + "vcpus=2\n"
    )
    planned = repair(fleet, "--check", "--diff")
    assert "linux2: would be created anew: xvda: its backend gave it up" in told(planned)
    assert domids(host) == [2, 3, 4]
    done = repair(fleet, "--diff")
    assert domids(host) == [2, 6, 4]
    for line in (
        "linux1: has all its disks",
        "linux2: created anew (domain 3 -> 6): xvda: its backend gave it up",
        "linux3: has all its disks",
    ):
        assert line in told(done)
    assert changed(repair(fleet)) == 0


def test_over_many_hosts(lab_factory: Any, tmp_path: Path) -> None:
    good, bad = prepared(lab_factory()), prepared(lab_factory())
    for one in (good, bad):
        create(one, "linux1", 1)
    lose(good, "linux1")
    bad.xenstored.kill()
    done = repair(Fleet(tmp_path / "controller", b01=good, b02=bad), check=False)
    assert done.returncode != 0
    assert "linux1: created anew (domain 2 -> 3)" in told(done)
    assert domid_of(good, "linux1") == 3


def test_one_that_cannot_be_keeps_no_other_from_it(host: LabHost, fleet: Fleet) -> None:
    for name in ("linux1", "linux2", "linux3"):
        lose(host, name)
    host.backend_behaves("never", "linux1")
    (host.root / "etc/xen/linux2.cfg").unlink()
    done = repair(fleet, check=False)
    assert done.returncode != 0
    assert "linux1: NOT repaired: linux1: xl gave up waiting for xvda (/dev/vg/linux1-a) at DomD" in told(
        done
    )
    assert "linux2: NOT repaired: linux2 has no configuration to be created from again" in told(done)
    assert "linux3: created anew" in told(done)
    assert domids(host)[:2] == [None, 3]
    assert state_letters(host, "linux3") == "-b----"


def test_a_paused_guest_stays_paused_and_a_limit_holds(host: LabHost, fleet: Fleet) -> None:
    host.xl("pause", "linux2")
    for name in NAMES:
        lose(host, name)
    repair(fleet, xen_guest_limit="linux2, x")
    assert (domids(host)[0], domids(host)[2]) == (2, 4)
    assert state_letters(host, "linux2") == "--p---"


def test_a_configuration_of_another_name(host: LabHost, fleet: Fleet) -> None:
    (host.root / "etc/xen/linux2.cfg").rename(host.root / "etc/xen/other")
    lose(host, "linux2", 51728)
    assert "linux2: created anew" in told(repair(fleet))


def test_one_that_serves_others_is_left_to_drain(host: LabHost, fleet: Fleet) -> None:
    create(host, "DomE", 1, driver_domain=1)
    create(host, "far", [virtio_disk("xvda", "/dev/x", "DomE")])
    before = domid_of(host, "DomE")
    lose(host, "DomE")
    done = repair(fleet, check=False)
    assert done.returncode != 0
    assert "DomE: lost a disk and serves other guests" in told(done)
    assert domid_of(host, "DomE") == before


def test_the_word_of_a_launcher_counts(host: LabHost, fleet: Fleet) -> None:
    """A daemon that was killed leaves state 2 behind, and nobody closes it when the guest ends."""
    host.backend_behaves("refuse", "linux2", 51712)
    host.write(f"{DRIVERS}/disks/3-51712", "lost size=1 size-now=1 version=1 reason=killed by signal 9")
    host.write(f"{DRIVERS}/disks/4-51712", "served size=1 size-now=2 version=1")
    found = fleet.ask("guest", guests=[{"name": name, "recreate": "report"} for name in NAMES])
    (finding,) = [one for one in found["findings"] if one["code"] == "disk-lost"]
    assert (finding["domain"], finding["vdev"]) == ("linux2", "xvda")
    assert REPAIR in finding["remedy"]
    host.backend_behaves("answer", "linux2", 51728)
    done = repair(fleet)
    assert "linux2: created anew (domain 3 -> 6): xvda: its daemon is gone (killed by signal 9)" in told(done)
    assert domids(host) == [2, 6, 4]


def test_a_daemon_that_was_killed(lab: LabHost, driver_domain: DriverDomain, tmp_path: Path) -> None:
    """With daemons and their launcher in a driver domain; the other guest notices nothing."""
    lab.guest_answers()
    backend = Backend(driver_domain, standin.build(tmp_path / "build", "1.0"), tmp_path / "root")
    backend.install()
    backend.start_launcher()
    one, two = (create(lab, name, [virtio_disk("xvda", backend.image(name))]) for name in NAMES[:2])
    assert backend.becomes("served", (one, A), (two, A))
    backend.kill(backend.pids()[f"{one}-{A}"])
    assert backend.becomes("lost", (one, A))
    done = repair(Fleet(tmp_path / "controller", b01=lab))
    again = domid_of(lab, "linux1")
    assert again is not None
    assert f"linux1: created anew (domain {one} -> {again}): xvda: its daemon is gone" in told(done)
    assert backend.becomes("served", (again, A), (two, A))
    assert backend.clashes() == []
