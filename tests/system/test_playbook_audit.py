# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook audit over lab hosts: what it finds, that it changes nothing, what it writes, and how it ends."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._launcher import VERSION
from boards import prepared
from guests import create, domid_of, virtio_disk, write_config
from lab import LabHost
from role_runs import Fleet, changed, told

AUDIT = "xen.virtio.audit"
Json = dict[str, Any]


def declared(host: LabHost, name: str, **more: Any) -> Json:
    """A guest as an inventory declares it: what `create` makes of one disk."""
    return {
        "name": name,
        "type": "pvh",
        "kernel": host.kernel,
        "memory": 64,
        "disks": [{"vdev": "xvda", "target": f"/dev/vg/{name}-a", "backend": "DomD"}],
        **more,
    }


class Audit:
    """The playbook over a fleet, and what it wrote."""

    def __init__(self, folder: Path, **hosts: LabHost) -> None:
        self.fleet = Fleet(folder / "controller", **hosts)
        self.fleet.apart = True
        self.fleet.variables["xen_driver_domains"] = {"DomD": {"launcher": True}}
        self.out = folder / "report"

    def run(self, *flags: str, check: bool = True, **more: Any) -> subprocess.CompletedProcess[str]:
        done = self.fleet.play(AUDIT, *flags, check=check, **{"xen_audit_dest": str(self.out), **more})
        assert changed(done) <= 1, done.stdout  # the folder, the first time
        return done

    def report(self) -> Json:
        return dict(json.loads((self.out / "audit.json").read_text()))

    def host(self, name: str) -> Json:
        (found,) = [one for one in self.report()["hosts"] if one["name"] == name]
        return dict(found)

    def codes(self, name: str, *, accepted: bool = False) -> set[tuple[str, str | None]]:
        """Code and domain of each finding that stands, or of each that was accepted."""
        found = self.host(name)["findings"]
        return {(one["code"], one["domain"]) for one in found if (one["accepted"] is not None) == accepted}


@pytest.fixture
def host(lab: LabHost) -> LabHost:
    """A guest as declared, of a driver domain whose launcher runs."""
    prepared(lab)
    lab.write("/local/domain/1/drivers/virtio-disk/launcher", VERSION)
    create(lab, "linux1", 1)
    lab.xl("list", "-l")  # libxl itself notes dom0's memory the first time
    return lab


def test_a_fleet_in_order(host: LabHost, tmp_path: Path) -> None:
    audit = Audit(tmp_path, b01=host)
    audit.fleet.variables["xen_guests"] = [declared(host, "linux1")]
    host.wait_for_guests()
    before = host.ls()
    done = audit.run(xen_audit_max_severity="none")
    assert host.ls() == before
    assert "1 host (1 ok), 2 domains, 1 disk: 0 errors, 0 warnings" in told(done)
    report = audit.report()
    assert (report["format"], report["version"]) == ("xen.virtio/fleet-report", 1)
    assert audit.host("b01")["findings"] == []
    assert (audit.out / "audit.html").read_text().startswith("<!DOCTYPE html>")


def test_on_a_host_that_keeps_files(host: LabHost, tmp_path: Path) -> None:
    """Also in check mode; the figures go on to whoever comes after."""
    audit = Audit(tmp_path, b01=host)
    audit.fleet.variables["xen_guests"] = [declared(host, "linux1")]
    (audit.fleet.folder / "ansible.cfg").write_text("[defaults]\nshow_custom_stats = true\n")
    done = audit.run("--check", xen_audit_host="b01", xen_audit_dest=str(tmp_path / "kept"))
    report = json.loads((tmp_path / "kept/audit.json").read_text())
    assert [one["name"] for one in report["hosts"]] == ["b01"]
    assert (tmp_path / "kept/audit.html").exists()
    assert not audit.out.exists()
    stats = re.search(r"CUSTOM STATS.*?RUN: (\{.*\})", told(done))
    assert stats is not None
    assert json.loads(stats[1])["xen_audit"] == report["summary"]


def test_all_that_can_be_wrong(host: LabHost, lab_factory: Callable[..., LabHost], tmp_path: Path) -> None:
    down = prepared(lab_factory())
    audit = Audit(tmp_path, b01=host, b02=down)
    audit.fleet.variables["xen_guests"] = [
        declared(host, "linux1", memory=128),
        declared(host, "linux2"),
        declared(host, "linux3"),
    ]
    audit.fleet.of_host["b01"]["xen_accept"] = [
        {"code": "guest-unmanaged", "domain": "known", "reason": "somebody else's"}
    ]
    down.xenstored.kill()
    create(host, "linux2", 1)
    host.rm(f"/local/domain/1/backend/virtio_disk/{domid_of(host, 'linux2')}/51712")
    create(host, "stranger", [virtio_disk("xvda", "/dev/vg/stranger", "DomD")])
    create(host, "known", [virtio_disk("xvda", "/dev/vg/known", "DomD")])
    gone = host.add_domain()
    host.write(f"/local/domain/1/backend/virtio_disk/{gone + 40}/51712/state", "2")
    host.write(
        f"/libxl/{gone + 40}/device/virtio_disk/51712/backend", "/local/domain/1/backend/virtio_disk/60/51712"
    )
    (host.root / "etc/xen/broken.cfg").write_text('name = "broken"\nmemory = [[\n')
    write_config(host, "linux3", 1)
    host.wait_for_guests()
    before = host.ls()
    done = audit.run(check=False)
    assert done.returncode != 0
    assert host.ls() == before
    codes = audit.codes("b01")
    assert {
        ("drift-config", "linux1"),
        ("drift-domain", "linux1"),
        ("disk-lost", "linux2"),
        ("drift-state", "linux3"),
        ("guest-unmanaged", "stranger"),
    } <= codes
    assert ("stale", "domain 46") in codes
    assert ("guest-unmanaged", "known") not in codes
    assert audit.codes("b01", accepted=True) == {("guest-unmanaged", "known")}
    assert "worse than xen_audit_max_severity (warning)" in told(done)
    assert audit.codes("b02") == {("store", None)}
    # a limit that lets all pass
    assert audit.run(xen_audit_max_severity="error").returncode == 0


#: Two daemons of somebody's that have one disk open, beside the module that looks for them.
DAEMONS = """\
import subprocess, sys
for _daemon in range(2):
    words = [sys.executable, {daemon!r}, "-d", "51712"]
    told = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    told.stdout.readline()
import os
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
DAEMON = """\
import time
with open({target!r}, "r+b"):
    print("ready", flush=True)
    time.sleep(600)
"""


def two_daemons(host: LabHost, folder: Path, target: str) -> str:
    """The Python of the driver domain (1), where two plain daemons serve a disk on this target."""
    daemon, start, python = folder / "virtio-disk", folder / "start.py", folder / "python-domd"
    daemon.write_text(DAEMON.format(target=target))
    start.write_text(DAEMONS.format(daemon=str(daemon)))
    python.write_text(f'#!/bin/sh\nexec {host.domain_python(1, alone=True)} {start} "$@"\n')
    python.chmod(0o755)
    return str(python)


def test_what_only_a_running_fleet_shows(
    host: LabHost, lab_factory: Callable[..., LabHost], tmp_path: Path
) -> None:
    """Nodes, disks, daemons and quotas of real hosts, each spoiled in one way."""
    full = prepared(lab_factory(daemon_args=["--entry-nb", "100"]))
    full.write("/local/domain/1/drivers/virtio-disk/launcher", "0.0.9")
    create(full, "several", 3)
    audit = Audit(tmp_path, b01=host, b02=full)
    audit.fleet.add_driver_domain("b01-domd", host, 1)
    root = host.folder / "domains/1/root"
    (root / "var/lib/disks").mkdir(parents=True, exist_ok=True)
    image = "/var/lib/disks/doubled.img"
    (root / image[1:]).write_bytes(bytes(4096))
    (root / "etc/xen-virtio").mkdir(parents=True, exist_ok=True)
    settings = {"daemon": "/etc/hostname", "version": "1.4 (0a1b2c3d4e5f)"}
    (root / "etc/xen-virtio/backend.json").write_text(json.dumps(settings))
    audit.fleet.more["b01-domd"]["ansible_python_interpreter"] = two_daemons(host, tmp_path, image)
    audit.fleet.of_host["b01"] = {
        "xen_guests": [declared(host, "linux1")],
        "xen_driver_domains": {"DomD": {"host": "b01-domd", "launcher": True}},
        "virtio_disk_backend_install": "source",
        "virtio_disk_backend_version": "1.5",
    }
    audit.fleet.of_host["b02"]["xen_guests"] = []

    def disk_of(name: str) -> str:
        return f"/local/domain/1/backend/virtio_disk/{domid_of(host, name)}/51712"

    host.write(f"{disk_of('linux1')}/params", "/dev/vg/another")
    (host.root / "etc/xen/copy.cfg").write_bytes((host.root / "etc/xen/linux1.cfg").read_bytes())
    xen = "backend=DomD,backendtype=phy,vdev=xvdb,target=/dev/vg/mixed-b"
    create(host, "mixed", [virtio_disk("xvda", "/dev/vg/mixed-a"), xen])
    create(host, "one", [virtio_disk("xvda", "/dev/vg/shared")])
    create(host, "two", [virtio_disk("xvdb", "/dev/vg/shared")])
    create(host, "mapped", 1)
    host.write(f"/libxl/{domid_of(host, 'mapped')}/device/virtio_disk/51712/grant_usage", "0")
    create(host, "waits", 1)
    create(host, "doubled", [virtio_disk("xvda", image)])
    host.answer_backends(False)  # or it would be taken up at once
    host.write(f"{disk_of('waits')}/state", "1")
    before = host.ls()
    done = audit.run(check=False)
    assert done.returncode != 0
    assert host.ls() == before
    codes = audit.codes("b01")
    assert {
        ("drift-store", "linux1"),
        ("config-doubled", "linux1"),
        ("mixed-specification", "mixed"),
        ("foreign-mapping", "mapped"),
        ("disk-pending", "waits"),
        ("daemon-doubled", "doubled"),
        ("daemon-outdated", "DomD"),
        ("foreign-daemon", "DomD"),
    } <= codes
    assert {domain for code, domain in codes if code == "target-shared"} & {"one", "two"}
    told = {(one["code"], one["domain"]): one["message"] for one in audit.host("b01")["findings"]}
    assert "the daemon in DomD is 1.4 (0a1b2c3d4e5f), and 1.5 is declared" in told["daemon-outdated", "DomD"]
    assert "params" in told["drift-store", "linux1"]
    assert {("quota", "DomD"), ("daemon-outdated", "DomD")} <= audit.codes("b02")
    told = {(one["code"], one["domain"]): one["message"] for one in audit.host("b02")["findings"]}
    assert "serves 3 disks and has room for " in told["quota", "DomD"]
    assert "room for no more" not in told["quota", "DomD"]
    assert f"the launcher in DomD is 0.0.9, and {VERSION} runs elsewhere" in told["daemon-outdated", "DomD"]


def test_hosts_that_do_not_answer(host: LabHost, tmp_path: Path) -> None:
    """They are unknown, the others are looked at all the same, and whoever wants may call that an error."""
    audit = Audit(tmp_path, b01=host)
    nowhere = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    audit.fleet.add_hosts(a00=nowhere)
    audit.fleet.more["domd"] = nowhere
    audit.fleet.variables["xen_driver_domains"] = {"DomD": {"host": "domd", "launcher": True}}
    audit.fleet.variables["xen_guests"] = [declared(host, "linux1")]
    done = audit.run()
    assert "2 hosts (1 warning, 1 unknown)" in told(done)
    assert audit.host("a00")["status"] == "unknown"
    assert "port 1" in audit.host("a00")["error"]
    assert audit.codes("a00") == {("host-unknown", None)}
    assert audit.codes("b01") == {("driver-unknown", "DomD")}
    assert audit.host("b01")["unchecked"] == ["DomD"]
    done = audit.run("--limit", "a00", check=False, xen_offline="fail")
    assert done.returncode != 0
    assert "a00: a00 could not be read" in told(done)


def test_a_host_that_is_reached_and_fails_is_an_error(host: LabHost, tmp_path: Path) -> None:
    audit = Audit(tmp_path, b01=host)
    audit.fleet.of_host["b01"]["ansible_python_interpreter"] = "/nowhere/python3"
    done = audit.run(check=False)
    assert done.returncode != 0
    assert audit.codes("b01") == {("host-unknown", None)}
    assert "/nowhere/python3" in audit.host("b01")["error"]


def test_a_driver_domain_is_looked_into(host: LabHost, tmp_path: Path) -> None:
    audit = Audit(tmp_path, b01=host)
    audit.fleet.add_driver_domain("b01-domd", host, 1)
    audit.fleet.variables["xen_driver_domains"] = {
        "DomD": {"host": "{{ inventory_hostname }}-domd", "launcher": True}
    }
    audit.fleet.variables["xen_guests"] = [declared(host, "linux1")]
    host.wait_for_guests()
    before = host.ls()
    audit.run(xen_audit_max_severity="error")
    assert host.ls() == before
    assert audit.host("b01")["unchecked"] == []
    codes = audit.codes("b01")
    # the lab's driver domain has neither Xen's devices, nor a daemon, nor that target
    assert {("device-missing", "DomD"), ("daemon-missing", "linux1"), ("target-missing", "linux1")} <= codes
    assert not {code for code, _domain in codes} & {"driver-unknown", "not-compared", "host-unknown"}


def test_what_a_guest_is_called_is_text(host: LabHost, tmp_path: Path) -> None:
    """Neither Ansible nor the page reads it as anything else."""
    audit = Audit(tmp_path, b01=host)
    audit.fleet.variables["xen_guests"] = [declared(host, "linux1")]
    name, target = "{{ 7 * 7 }}", "/dev/</script><b>{{ 8 * 8 }}"
    path = host.root / "etc/xen/odd.cfg"
    write_config(host, name, [virtio_disk("xvda", target, "DomD")], path=path)
    host.xl("create", "/etc/xen/odd.cfg")
    audit.run(xen_audit_max_severity="none", check=False)
    assert ("guest-unmanaged", name) in audit.codes("b01")
    assert target in [disk["target"] for one in audit.host("b01")["domains"] for disk in one["disks"]]
    page = (audit.out / "audit.html").read_text()
    assert page.count("</script>") == 2
    assert name in page


def test_an_inventory_that_cannot_be_read(host: LabHost, tmp_path: Path) -> None:
    audit = Audit(tmp_path, b01=host)
    audit.fleet.variables["xen_guests"] = [{"memory": 64}]
    done = audit.run(check=False)  # no host is off: that is never let pass as if it were
    assert done.returncode != 0
    assert audit.host("b01")["status"] == "unknown"
    assert "name" in audit.host("b01")["error"]
    audit.fleet.variables["xen_guests"] = [declared(host, "linux1"), declared(host, "linux2", memory="much")]
    audit.run(check=False)
    assert audit.codes("b01") == {("not-compared", "linux2")}


def test_a_link_that_makes_no_sense_is_that_boards_alone(
    host: LabHost, lab_factory: Callable[..., LabHost], tmp_path: Path
) -> None:
    audit = Audit(tmp_path, b01=host, b02=prepared(lab_factory()))
    audit.fleet.of_host["b02"]["xen_driver_domains"] = {"DomD": {"host": "{{ nothing.like_it }}"}}
    done = audit.run(check=False)
    assert done.returncode != 0
    assert audit.host("b01")["status"] != "unknown"
    assert audit.host("b02")["status"] == "error"
    (senseless,) = [one for one in audit.host("b02")["findings"] if one["code"] == "inventory"]
    assert "nothing" in senseless["message"]
    # what can be made sense of is looked at all the same
    audit.fleet.of_host["b02"] = {
        "xen_driver_domains": {"DomD": "b02-domd", "DomX": 5},
        "xen_accept": [{"code": "guest-unmanaged", "reazon": "a slip of the pen"}],
    }
    done = audit.run(check=False)
    assert done.returncode != 0
    assert audit.host("b01")["status"] != "unknown"
    found = [one for one in audit.host("b02")["findings"] if one["code"] == "inventory"]
    assert [
        words for words in ("DomD", "DomX", "reazon") if any(words in one["message"] for one in found)
    ] == [
        "DomD",
        "DomX",
        "reazon",
    ]
    assert {one["severity"] for one in found} == {"error"}
    assert "DomD" in [domain["name"] for domain in audit.host("b02")["domains"]]
