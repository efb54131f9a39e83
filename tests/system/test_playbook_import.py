# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way in: what hosts have becomes an inventory, and applied right after it changes nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from boards import prepared
from guests import create, domid_of, write_config
from lab import LabHost
from role_runs import Fleet, changed, told

IMPORT, SITE = "xen.virtio.import_guests", "xen.virtio.site"


def empty(folder: Path, **hosts: LabHost) -> Fleet:
    """A controller that knows where its hosts are, and nothing else."""
    fleet = Fleet(folder / "controller", **hosts)
    for name in ("group_vars", "host_vars"):
        shutil.rmtree(fleet.inventory / name)
    return fleet


def run(fleet: Fleet, playbook: str, *flags: str, **more: Any) -> Any:
    """One run that leaves the inventory as it is."""
    return fleet.play(playbook, *flags, rewrite=False, **more)


def import_all(fleet: Fleet, *flags: str, **more: Any) -> Any:
    return run(fleet, IMPORT, *flags, dest=str(fleet.inventory), **more)


def variables(fleet: Fleet, name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((fleet.inventory / f"{name}.yml").read_text()) or {})


EXTRA = {"dom0_packages": [], "dom0_services": [], "xen_driver_domains": {"DomD": None}}


def test_import_one_host_and_apply_it_right_after(lab_any: LabHost, tmp_path: Path) -> None:
    host = prepared(lab_any)
    create(host, "linux1", 2, vcpus=2, cmdline="root=/dev/vda rw # it's", on_crash="destroy")
    create(host, "linux2", ["backend=DomD,/dev/vg/z,raw,xvdz,r,specification=virtio"], extra="quiet")
    write_config(host, "idle", 1)
    (host.root / "etc/xen/linux2.cfg").rename(host.root / "etc/xen/guest-of-another-name")
    fleet = empty(tmp_path, b01=host)
    fleet.write_hosts()
    import_all(fleet)
    guests = variables(fleet, "host_vars/b01")["xen_guests"]
    assert {name: one.get("state", "running") for name, one in guests.items()} == {
        "linux1": "running", "linux2": "running", "idle": "configured",
    }  # fmt: skip
    assert guests["linux2"]["path"] == "/etc/xen/guest-of-another-name"
    before = {name: domid_of(host, name) for name in ("linux1", "linux2")}
    planned = run(fleet, SITE, "--check", "--diff", **EXTRA)
    assert changed(planned) == 0, planned.stdout
    assert changed(run(fleet, SITE, "--diff", **EXTRA)) == 0
    assert {name: domid_of(host, name) for name in before} == before
    assert changed(import_all(fleet)) == 0


def test_what_hosts_have_in_common_goes_to_the_group(lab_factory: Any, tmp_path: Path) -> None:
    one, two = (prepared(lab_factory()) for _host in range(2))
    for host, memory in ((one, 64), (two, 96)):
        create(host, "linux1", 1, memory=memory, kernel="/bin/sh")
    create(two, "linux2", 0, kernel="/bin/sh")
    fleet = empty(tmp_path, b01=one, b02=two)
    fleet.write_hosts()
    import_all(fleet)
    group = variables(fleet, "group_vars/xen_dom0")
    assert "disks" in group["xen_guests_common"]["linux1"]
    assert variables(fleet, "host_vars/b01") == {"xen_guest_overrides": {"linux1": {"memory": 64}}}
    assert set(variables(fleet, "host_vars/b02")["xen_guests_local"]) == {"linux2"}
    planned = run(fleet, SITE, "--check", "--diff", **EXTRA)
    assert changed(planned) == 0, planned.stdout


def test_without_a_destination_it_is_only_shown(lab: LabHost, tmp_path: Path) -> None:
    write_config(lab, "linux1")
    fleet = empty(tmp_path, b01=lab)
    fleet.write_hosts()
    done = run(fleet, IMPORT)
    assert "linux1" in done.stdout
    assert changed(done) == 0
    assert [path.name for path in fleet.inventory.iterdir()] == ["hosts.json"]


def test_check_mode_writes_nothing(lab: LabHost, tmp_path: Path) -> None:
    write_config(lab, "linux1")
    fleet = empty(tmp_path, b01=lab)
    fleet.write_hosts()
    assert "linux1" in import_all(fleet, "--check", "--diff").stdout
    assert [path.name for path in fleet.inventory.iterdir()] == ["hosts.json"]


@pytest.mark.parametrize("there", ["host_vars/b01.yml", "host_vars/b01.json"])
def test_what_a_user_wrote_is_never_lost(lab: LabHost, tmp_path: Path, there: str) -> None:
    write_config(lab, "linux1")
    fleet = empty(tmp_path, b01=lab)
    fleet.write_hosts()
    path = fleet.inventory / there
    path.parent.mkdir()
    path.write_text('{"mine": true}\n')
    refused = import_all(fleet, check=False)
    assert refused.returncode != 0
    assert f"{there} is there already" in told(refused)
    assert path.read_text() == '{"mine": true}\n'
    folder = path.with_suffix("")
    folder.mkdir()
    path.rename(folder / path.name)
    import_all(fleet)
    assert (folder / "guests.yml").exists()


def test_what_is_left_out_is_said(lab: LabHost, tmp_path: Path) -> None:
    host = prepared(lab)
    host.add_domain()
    (host.root / "etc/xen/broken.cfg").write_text('name = "broken\n')
    for name in ("a.cfg", "b.cfg"):
        (host.root / f"etc/xen/{name}").write_text(
            f'name = "twice"\nmemory = 64\ncmdline = "{name}"\nkernel="/k"\n'
        )
    create(host, "linux1")
    (host.root / "etc/xen/linux1.cfg").unlink()
    fleet = empty(tmp_path, b01=host)
    fleet.write_hosts()
    done = told(import_all(fleet))
    for words in (
        "/etc/xen/broken.cfg",
        "2 different configurations are called twice",
        "dom0less-2",
        "linux1",
    ):
        assert words in done
