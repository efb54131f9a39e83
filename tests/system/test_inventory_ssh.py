# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory plugin domains over SSH: real logins, sudo, machines that are off or cut off."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest
from backends import Controller
from inventories import Listed, listed, source
from lab.machines import Machine
from lab.machines_pair import Dom0, DriverDomain

PASSWORD = "s3cr3t for sudo"


@pytest.fixture
def fleet(dom0: Dom0, controller: Controller) -> Controller:
    """A dom0 with one dom0less domain, which root and, by sudo with a password, the user op can ask."""
    dom0.host.add_domain()
    dom0.machine.run(
        [
            "sh",
            "-ec",
            "useradd --create-home op && install -d -o op /home/op/.ssh"
            f" && echo 'op:{PASSWORD}' | chpasswd"
            " && install -o op /root/.ssh/authorized_keys /home/op/.ssh/authorized_keys"
            " && echo 'op ALL=(ALL) ALL' > /etc/sudoers.d/op"
            " && echo 'echo greetings; echo xen.virtio.domains:none of it' > /home/op/.profile",
        ]
    )
    controller.group("xen_dom0", "dom0")
    return controller


def inventory(fleet: Controller, **options: Any) -> Listed:
    path = source(fleet.folder, source="live", **options)
    return listed(fleet.folder, fleet.write(), path)


def connections(machine: Machine) -> int:
    """How often somebody logged in so far."""
    return machine.journal().count("Accepted publickey")


def test_a_host_is_asked_over_one_connection(dom0: Dom0, fleet: Controller) -> None:
    before = connections(dom0.machine)
    found = inventory(fleet)
    assert found.stderr == ""
    assert found.group("xen_guest") == ["dom0-dom0less-1"]
    assert connections(dom0.machine) == before + 1
    leftovers = dom0.machine.run(["sh", "-c", "ls -A /root/.ansible /tmp | grep -i ansible"], check=False)
    assert leftovers.stdout == ""


@pytest.mark.parametrize(
    ("become", "words"),
    [
        ({}, "ermission denied"),
        ({"ansible_become": "yes", "ansible_become_password": f"{{{{ '{PASSWORD}' }}}}"}, None),
        ({"ansible_become": "yes", "ansible_become_password": "wrong"}, "ncorrect"),
        ({"ansible_become": "yes"}, "assword"),
    ],
    ids=["without", "with", "wrong password", "no password"],
)
def test_become(fleet: Controller, become: dict[str, str], words: str | None) -> None:
    (fleet.folder / "host_vars").mkdir()
    (fleet.folder / "host_vars/dom0.json").write_text(json.dumps({"ansible_user": "op", **become}))
    found = inventory(fleet)
    if words is None:
        assert found.stderr == ""
        assert found.group("xen_guest") == ["dom0-dom0less-1"]
    else:
        assert "dom0: its domains cannot be read: " in found.stderr
        assert words in found.stderr
        assert PASSWORD not in found.stderr


def test_machines_that_are_off_or_cut_off(
    dom0: Dom0, make_machine: Callable[..., Machine], fleet: Controller
) -> None:
    off, cut = make_machine("off"), make_machine("cut")
    fleet.group("xen_dom0", "dom0", "off", "cut")
    off.power_off()
    cut.unplug()
    began = time.monotonic()
    found = inventory(fleet, timeout=20)
    assert time.monotonic() - began < 120
    assert found.group("xen_unread") == ["cut", "off"]
    assert found.group("xen_guest") == ["dom0-dom0less-1"]
    for name in ("off", "cut"):
        assert f"{name}: its domains cannot be read: " in found.stderr
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert not [line for line in processes.splitlines() if "ssh" in line and cut.address in line]


def test_a_guest_is_reached_with_variables_composed_from_its_configuration(
    dom0: Dom0, driver_domain: DriverDomain, fleet: Controller
) -> None:
    """The driver domain is a machine of its own, so Ansible can really get in."""
    host = driver_domain.host
    connection = fleet.machines.connection(driver_domain.machine.name)
    host.write(f"{driver_domain.path}/address", driver_domain.machine.address)
    compose = {
        "ansible_host": "xen_domain.xenstore['address']",
        **{
            key: repr(value)
            for key, value in connection.items()
            if key not in ("ansible_host", "ansible_user")
        },
        "ansible_user": "dom0.ansible_user",
    }
    path = source(fleet.folder, source="live", xenstore=["address"], compose=compose)
    task = {"ansible.builtin.command": "hostname"}
    play = {"hosts": "xen_driver_domain", "gather_facts": False, "tasks": [task]}
    done = fleet.play([play], "-v", "-i", str(path))
    assert "changed: [dom0-DomD]" in done.stdout
    assert f'"stdout": "{driver_domain.machine.name}"' in done.stdout
