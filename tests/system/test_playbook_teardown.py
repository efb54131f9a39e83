# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook teardown: what is named goes, in the order that loses nothing, and nothing else does."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import standin
from ansible_collections.xen.virtio.plugins.module_utils._launcher import VERSION
from backends import Controller
from boards import prepared
from guests import create, domid_of, virtio_disk, write_config
from lab import LabHost
from lab.machines_pair import DriverDomain
from launching import SERVICE, A, Backend
from role_runs import Fleet, changed, told

TEARDOWN = "xen.virtio.teardown"
NAMES = ("linux1", "linux2", "linux3")


def teardown(
    fleet: Fleet, names: Any, *flags: str, check: bool = True, **more: Any
) -> subprocess.CompletedProcess[str]:
    """With consent, unless told otherwise."""
    return fleet.play(
        TEARDOWN, *flags, check=check, **{"xen_teardown_guests": names, "xen_teardown_consent": True, **more}
    )


def domids(host: LabHost) -> list[int | None]:
    return [domid_of(host, name) for name in NAMES]


def configs(host: LabHost) -> list[str]:
    """What is left in /etc/xen of guests, without what was kept of them."""
    return sorted(path.name for path in (host.root / "etc/xen").glob("*.cfg"))


def nodes(host: LabHost) -> list[str]:
    """Every node of a disk."""
    return sorted(path for path in host.ls("/") if "/virtio_disk" in path)


@pytest.fixture
def host(lab: LabHost) -> LabHost:
    """Three guests (2, 3, 4) with disks of DomD (1)."""
    prepared(lab)
    lab.write("/local/domain/1/drivers/virtio-disk/launcher", VERSION)
    for name in NAMES:
        create(lab, name, 1)
    return lab


@pytest.fixture
def fleet(host: LabHost, tmp_path: Path) -> Fleet:
    return Fleet(tmp_path / "controller", b01=host)


def test_what_is_named_goes_and_nothing_else(host: LabHost, fleet: Fleet) -> None:
    before = nodes(host)
    listed = teardown(fleet, "linux1, linux3", xen_teardown_consent=False)
    for line in (
        "linux1 (domain 2): ended, with xvda (/dev/vg/linux1-a of DomD); /etc/xen/linux1.cfg removed",
        "not named, so left alone: DomD (domain 1), linux2 (domain 3)",
        "nothing was changed: say xen_teardown_consent=true",
    ):
        assert line in told(listed)
    assert changed(listed) == 0
    assert changed(teardown(fleet, ["linux1", "linux3"], "--check", "--diff")) > 0
    assert (domids(host), nodes(host)) == ([2, 3, 4], before)
    teardown(fleet, ["linux1", "linux3"], "--diff")
    assert domids(host) == [None, 3, None]
    assert configs(host) == ["linux2.cfg"]
    assert {
        path.split("virtio_disk/")[-1].split("/")[0]
        for path in nodes(host)
        if "/1/backend/virtio_disk/" in path
    } == {"3"}
    again = teardown(fleet, ["linux1", "linux3"], "--diff")
    assert "linux1: nothing of it is here" in told(again)
    assert changed(again) == 0
    assert changed(teardown(fleet, [], xen_teardown_leftovers=True)) == 0


def test_what_cannot_go_is_refused_before_anything_does(host: LabHost, fleet: Fleet) -> None:
    host.rm("/local/domain/1/backend/virtio_disk/2/51712")  # linux1 lost its disk
    done = teardown(fleet, "linux2,linux1,DomD", check=False)
    assert done.returncode != 0
    for words in (
        "DomD (domain 1): was not made by xl, so it stays",
        "linux1 (domain 2) cannot be shut down cleanly: it lost xvda",
        "b01: nothing was changed:",
        "(force_destroy is xen_teardown_force_destroy here",
    ):
        assert words in told(done)
    assert (domids(host), changed(done)) == ([2, 3, 4], 0)
    none = teardown(fleet, "", check=False)
    assert "say what of b01 is to go" in told(none)
    teardown(fleet, "linux1", xen_teardown_force_destroy=True)
    assert domids(host) == [None, 3, 4]


def test_a_driver_domain_that_cannot_be_looked_into_keeps_its_backend_and_all_else(
    host: LabHost, fleet: Fleet
) -> None:
    """Nobody knows whom the daemons in it serve; without them the guests can go."""
    fleet.more["b01-domd"] = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    fleet.variables["xen_driver_domains"] = {"DomD": {"host": "b01-domd"}}
    before = domids(host)
    refused = teardown(fleet, "linux1", check=False, xen_teardown_backends=True)
    assert refused.returncode != 0
    assert "b01: nothing was changed: " in told(refused)
    assert "DomD cannot be looked into: bring its host back, or leave its backend" in told(refused)
    assert domids(host) == before
    teardown(fleet, "linux1")
    assert domids(host) == [None, *before[1:]]


def test_one_that_does_not_shut_down_or_let_go_is_named(host: LabHost, fleet: Fleet) -> None:
    host.guest_answers("ignore", "linux1")
    done = teardown(fleet, "linux1", check=False, xen_teardown_shutdown_timeout=1)
    assert "linux1 (domain 2) was asked to shut down and it " in told(done)
    assert (done.returncode, domids(host)[0], "linux1.cfg" in configs(host)) == (2, 2, True)
    host.backend_behaves("refuse", "linux3")
    for _run in range(2):  # also where the domain is gone already
        done = teardown(fleet, "linux3", check=False)
        assert done.returncode != 0
        assert "linux3: the domain has ended, and whoever served /dev/vg/linux3-a may still write" in told(
            done
        )
        assert (domids(host)[2], "linux3.cfg" in configs(host)) == (None, True)
    teardown(fleet, "linux3", guest_force_destroy=True)
    assert configs(host) == ["linux1.cfg", "linux2.cfg"]


def test_a_whole_host_with_what_comes_up_at_boot(lab: LabHost, tmp_path: Path) -> None:
    """Declared guests, one with a configuration elsewhere and one of dom0less; leftovers; links of xendomains."""
    prepared(lab)
    assert lab.add_domain(kind="dom0less") == 2
    fleet = Fleet(tmp_path / "controller", b01=lab)
    kernel = {"memory": 64, "type": "pvh", "kernel": lab.kernel}
    fleet.variables |= {
        "xen_driver_domains": {"DomD": None},
        "xen_guests": {
            "linux1": {**kernel, "autostart": True, "path": "/etc/elsewhere.cfg", "disks": []},
            "linux2": kernel,
        },
    }
    fleet.play("xen.virtio.site")
    disks = [{"vdev": "xvda", "target": "/dev/vg/x", "backend": "DomD"}]
    fleet.ask("disk", domain="dom0less-2", disks=disks, persistent=True)
    create(lab, "gone", 1)
    lab.kill_domain(domid_of(lab, "gone") or 0)
    create(lab, "other", 1)
    (lab.root / "etc/xen/auto").mkdir()
    (lab.root / "etc/xen/auto/linux2.cfg").symlink_to("../linux2.cfg")
    write_config(lab, "linux2", path=lab.root / "etc/xen/twin")
    every = {"xen_teardown_declared": True, "xen_teardown_leftovers": True}
    refused = teardown(fleet, "dom0less-2", check=False, **every)
    assert "hotplug" in told(refused)
    assert domid_of(lab, "linux1") is not None
    planned = teardown(fleet, "dom0less-2", "--check", "--diff", xen_teardown_hotplug=True, **every)
    assert "not named, so left alone: DomD (domain 1), other" in told(planned)
    assert changed(planned) > 0
    teardown(fleet, "dom0less-2", "--diff", xen_teardown_hotplug=True, **every)
    kept = [f"{path.relative_to(lab.root)}" for path in (lab.root / "etc").rglob("*")]
    ours = [path for path in kept if re.search("xen-virtio|/guest-|linux[12]|twin", path)]
    assert [path for path in ours if not path.endswith("~")] == []
    assert not (lab.root / "etc/elsewhere.cfg").exists()
    assert domid_of(lab, "other") is not None
    left = {
        path.split("backend/virtio_disk/")[1].split("/")[0]
        for path in nodes(lab)
        if "backend/virtio_disk/" in path
    }
    assert left == {str(domid_of(lab, "other"))}
    assert changed(teardown(fleet, "dom0less-2", "--diff", **every)) == 0


def test_a_backend_goes_last_and_only_where_nobody_uses_it(
    lab: LabHost, driver_domain: DriverDomain, controller: Controller, tmp_path: Path
) -> None:
    lab.guest_answers()
    backend = Backend(driver_domain, standin.build(tmp_path / "build", "1.0"), tmp_path / "root")
    backend.install()
    backend.systemctl("enable", SERVICE)
    backend.start_launcher()
    domids = [create(lab, name, [virtio_disk("xvda", backend.image(name))]) for name in NAMES[:2]]
    assert backend.becomes("served", *((domid, A) for domid in domids))
    controller.hosts["b01"] = lab
    controller.group("xen_dom0", "b01", xen_driver_domains={"DomD": {"host": "domd"}})
    given: dict[str, Any] = {"xen_teardown_consent": True, "xen_teardown_backends": True}
    refused = controller.play(TEARDOWN, check=False, xen_teardown_guests="linux1", **given)
    assert "the backend of DomD (domd) serves linux2 (domain" in told(refused)
    assert domid_of(lab, "linux1") is not None
    given["xen_teardown_guests"] = "linux1,linux2"
    controller.play(TEARDOWN, **given)
    assert [domid_of(lab, name) for name in NAMES[:2]] == [None, None]
    assert backend.systemctl("list-units", "--all", "--no-legend", "virtio-disk*").strip() == ""
    assert lab.read("/local/domain/1/drivers/virtio-disk/status") is None
    assert changed(controller.play(TEARDOWN, "--diff", **given)) == 0
    given["xen_teardown_guests"] = "linux1,DomD"
    controller.play(TEARDOWN, **given)
    assert domid_of(lab, "DomD") is None
    assert configs(lab) == []
