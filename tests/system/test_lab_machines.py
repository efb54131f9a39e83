# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines are real systemd hosts over SSH; a driver domain has the store as its domain has it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

import guests
import pytest
from ansible_runs import ROOT
from backends import Controller, MakeDriverDomain
from guests import until
from lab import LabError, LabHost
from lab.machines import Machine, Machines
from lab.machines_apt import offer
from lab.machines_pair import Dom0, DriverDomain


def test_a_machine_is_a_host_with_systemd(machine: Machine) -> None:
    assert machine.ssh(["hostname"]).stdout == "host\n"
    assert machine.run(["ps", "-o", "comm=", "1"]).stdout == "systemd\n"
    assert machine.run(["systemctl", "is-system-running"]).stdout == "running\n"


def test_a_reboot_keeps_files_and_ends_processes(machine: Machine) -> None:
    machine.write("/etc/kept", "as it was\n")
    machine.write("/run/volatile", "")
    machine.run(["systemd-run", "--unit=sleeper", "sleep", "infinity"])
    machine.reboot()
    assert machine.read("/etc/kept") == "as it was\n"
    assert not machine.exists("/run/volatile")
    assert machine.run(["systemctl", "is-active", "sleeper"], check=False).stdout == "inactive\n"


def test_the_plug_can_be_pulled(machine: Machine) -> None:
    machine.write("/root/kept", "x")
    machine.power_off()
    assert not machine.running
    with pytest.raises(LabError, match="the machine host is off"):
        machine.run(["true"])
    machine.boot()
    assert machine.read("/root/kept") == "x"


def test_ansible_reaches_a_machine_over_ssh(machine: Machine, controller: Controller) -> None:
    assert controller.module("host", "ansible.builtin.ping")["ping"] == "pong"
    copied = controller.module(
        "host", "ansible.builtin.copy", content="by Ansible\n", dest="/etc/x", mode="0600"
    )
    assert copied["changed"]
    assert machine.read("/etc/x") == "by Ansible\n"


def test_a_driver_domain_has_the_store_as_its_domain_has_it(driver_domain: DriverDomain) -> None:
    machine = driver_domain.machine
    assert machine.run(["xenstore-read", "domid", "name"]).stdout.split() == [
        f"{driver_domain.domid}",
        "DomD",
    ]
    machine.run(["xenstore-write", "drivers/virtio-disk/status", "ready"])
    assert driver_domain.host.read(f"{driver_domain.path}/drivers/virtio-disk/status") == b"ready"
    denied = machine.run(["xenstore-read", "/libxl/1/type"], check=False)
    assert denied.returncode
    assert driver_domain.host.run(["xenstore-read", "/libxl/1/type"]).stdout == "pvh\n"


def test_its_quota_is_a_domains(driver_domain: DriverDomain) -> None:
    script = (
        'i=0; while [ $i -lt 1100 ]; do echo "data/$i"; echo x; i=$((i + 1)); done | xargs xenstore-write'
    )
    done = driver_domain.machine.run(["sh", "-c", script], check=False)
    assert done.returncode
    assert len(driver_domain.host.ls(f"{driver_domain.path}/data")) < 1000


def test_the_store_as_a_device(driver_domain: DriverDomain) -> None:
    told = driver_domain.machine.run(["xenstore-read", "domid"], env=driver_domain.device).stdout
    assert told == f"{driver_domain.domid}\n"


def test_a_guest_of_xl_is_seen_in_the_driver_domain(driver_domain: DriverDomain) -> None:
    host = driver_domain.host
    host.backend_behaves("answer")
    guest = guests.create(host, "web", ["backend=DomD,specification=virtio,vdev=xvda,target=/dev/vg/web"])
    told = driver_domain.machine.run(["xenstore-read", f"backend/virtio_disk/{guest}/51712/params"]).stdout
    assert told == "/dev/vg/web\n"


def test_a_driver_domain_that_restarts_is_another_domain(driver_domain: DriverDomain) -> None:
    before = driver_domain.domid
    driver_domain.machine.write("/etc/kept", "x")
    driver_domain.restart()
    assert driver_domain.domid != before
    assert driver_domain.machine.run(["xenstore-read", "domid"]).stdout == f"{driver_domain.domid}\n"
    assert driver_domain.machine.read("/etc/kept") == "x"


def test_two_driver_domains_of_one_host(lab: LabHost, make_driver_domain: MakeDriverDomain) -> None:
    one, other = make_driver_domain(lab, "DomD"), make_driver_domain(lab, "DomE")
    one.machine.run(["xenstore-write", "data/mine", "x"])
    denied = other.machine.run(["xenstore-write", f"{one.path}/data/mine", "y"], check=False)
    assert denied.returncode


def test_a_removed_machine_leaves_its_name(machines: Machines) -> None:
    machines.add("once").write("/etc/left", "x")
    machines.remove("once")
    again = machines.add("once")
    assert not again.exists("/etc/left")
    machines.remove("once")


# ---- what a role is tested with ----


def test_a_package_from_a_repository_of_the_machines(machine: Machine, controller: Controller) -> None:
    offer(machine, "greeter", "1.0", {"/usr/bin/greeter": "#!/bin/sh\necho 1\n"})
    offer(machine, "greeter", "1.1", {"/usr/bin/greeter": "#!/bin/sh\necho 1.1\n"})
    done = controller.module("host", "ansible.builtin.apt", name="greeter", update_cache=True)
    assert not done["failed"], done
    assert machine.run(["greeter"]).stdout == "1.1\n"


def test_a_file_over_http(machine: Machine, machines: Machines, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("over HTTP\n")
    url = machines.serve(tmp_path)
    assert urllib.parse.urlsplit(url).hostname == "10.77.0.254"
    fetch = f"import urllib.request; print(urllib.request.urlopen('{url}/file').read().decode(), end='')"
    assert machine.run(["python3", "-c", fetch]).stdout == "over HTTP\n"


# ---- a network that fails ----


def test_a_pulled_cable_loses_ssh_and_nothing_else(machine: Machine) -> None:
    machine.ssh(["true"])
    machine.unplug()
    with pytest.raises(subprocess.TimeoutExpired):
        machine.ssh(["true"], timeout=2)
    assert machine.run(["hostname"]).stdout == "host\n"
    machine.plug()
    machine.wait()
    assert machine.ssh(["hostname"]).stdout == "host\n"


# ---- dom0 as a machine ----


def test_xl_works_in_dom0_over_ssh(dom0: Dom0, driver_domain: DriverDomain) -> None:
    host, machine = dom0.host, dom0.machine
    host.backend_behaves("answer")
    guests.write_config(host, "web", 1)
    machine.ssh(["xl", "create", "/etc/xen/web.cfg"])
    guest = guests.domid_of(host, "web")
    assert f"web {guest} " in " ".join(machine.ssh(["xl", "list"]).stdout.split())
    assert driver_domain.machine.run(["xenstore-exists", f"backend/virtio_disk/{guest}/51712"])
    machine.ssh(["xl", "destroy", "web"])
    assert guests.domid_of(host, "web") is None


def test_a_dom0_that_reboots_has_no_domains(dom0: Dom0) -> None:
    dom0.host.answer_backends()
    dom0.host.add_domain("DomX", "toolstack")
    dom0.machine.write("/etc/kept", "x")
    dom0.reboot()
    assert dom0.machine.read("/etc/kept") == "x"
    assert "DomX" not in dom0.machine.ssh(["xl", "list"]).stdout


def again(domain: DriverDomain, before: int) -> None:
    """Wait until the driver domain is back under another domid."""
    assert until(lambda: domain.domid != before)
    assert until(lambda: domain.machine.running)
    domain.machine.wait()
    assert domain.machine.run(["xenstore-read", "domid"]).stdout == f"{domain.domid}\n"


def test_xl_reboots_a_driver_domain(dom0: Dom0, driver_domain: DriverDomain) -> None:
    driver_domain.follow()
    before = driver_domain.domid
    driver_domain.machine.write("/run/volatile", "")
    dom0.machine.ssh(["xl", "reboot", "DomD"])
    again(driver_domain, before)
    assert not driver_domain.machine.exists("/run/volatile")


def test_xl_shuts_a_driver_domain_down_and_creates_it(dom0: Dom0, driver_domain: DriverDomain) -> None:
    driver_domain.follow()
    before = driver_domain.domid
    dom0.machine.ssh(["xl", "shutdown", "-w", "DomD"])
    assert not driver_domain.machine.running
    assert until(lambda: guests.domid_of(dom0.host, "DomD") is None)
    dom0.machine.ssh(["xl", "create", driver_domain.config])
    again(driver_domain, before)


def test_a_driver_domain_reboots_itself(driver_domain: DriverDomain) -> None:
    driver_domain.follow()
    before = driver_domain.domid
    driver_domain.machine.run(["systemctl", "reboot"])
    again(driver_domain, before)


# ---- the end ----

OWNER = """\
import sys, time
from lab.machines import Machines
machines = Machines(sys.argv[1]).start()
machines.add("host")
print("up", flush=True)
time.sleep(600)
"""


def test_nothing_is_left_of_a_killed_owner(machines: Machines, tmp_path: Path) -> None:
    assert machines  # or this machine cannot hold any
    folder = tmp_path / "lab"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(folder)], env=environment, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "up\n"
        state = json.loads((folder / "state.json").read_text())
        inside = os.readlink(f"/proc/{state['holder']}/ns/pid")
        assert processes(inside)
        owner.send_signal(signal.SIGKILL)
    assert until(lambda: not processes(inside))
    assert until(lambda: not folder.exists())
    assert not Path(state["short"]).exists()


def processes(namespace: str) -> list[str]:
    """Those of a process namespace, without the ones below it."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and os.readlink(f"/proc/{entry}/ns/pid") == namespace:
                found.append(entry)
        except OSError:
            continue
    return found


# ---- from a shell ----


@pytest.fixture
def shell(machines: Machines, tmp_path: Path) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """``python3 tests/lab machines …``, with labs of its own."""
    assert machines  # or this machine cannot hold any
    environment = {**os.environ, "XEN_LAB_MACHINES": str(tmp_path / "labs")}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(ROOT / "tests/lab"), "machines", *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=200,
            env=environment,
            stdin=subprocess.DEVNULL,
        )

    yield run
    run("down", "--all")


def test_a_lab_from_a_shell(shell: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    up = shell("up", "site", "--dom0", "--driver-domain", "DomD")
    assert up.returncode == 0, up.stderr
    inventory = Path(up.stdout.strip())
    tree = json.loads(inventory.read_text())["all"]
    assert set(tree["hosts"]) == {"dom0", "domd"}
    assert set(tree["children"]["virtio_disk_backends"]["hosts"]) == {"domd"}
    assert "DomD" in shell("ssh", "site", "dom0", "--", "xl", "list").stdout
    assert shell("exec", "site", "domd", "--", "xenstore-read", "name").stdout == "DomD\n"
    assert shell("power", "site", "domd", "reboot").returncode == 0
    assert shell("exec", "site", "domd", "--", "xenstore-read", "name").stdout == "DomD\n"
    refused = shell("up", "site", "--dom0")
    assert (refused.returncode, refused.stderr) == (
        1,
        "lab: there is a lab 'site' already; end it with: machines down site\n",
    )
    assert shell("down", "site").returncode == 0
    assert not inventory.exists()
    assert shell("down", "site").returncode == 0
