# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run roles and playbooks of the collection on lab hosts, with an inventory as users write one."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from ansible_runs import environment
from lab import LabHost
from lab.namespace import ALONE

CONNECTIONS = Path(__file__).with_name("connection")


class Fleet:
    """A controller's folder with an inventory of lab hosts in the group ``xen_dom0``.

    ``folder / "inventory"`` is what a user keeps in version control; ``variables`` of the group and of hosts are
    written there before each run.
    """

    def __init__(self, folder: Path, **hosts: LabHost) -> None:
        self.folder = folder
        self.hosts = hosts
        self.python: str | None = None  # of the lab hosts; our own where None
        self.apart = (
            False  # whether a module sees no processes but its own: other tests have daemons meanwhile
        )
        self.inventory = folder / "inventory"
        self.variables: dict[str, Any] = {"dom0_packages": [], "dom0_services": []}
        self.of_host: dict[str, dict[str, Any]] = {name: {} for name in hosts}
        self.more: dict[str, dict[str, Any]] = {}  # hosts beside dom0s: their connection variables
        self.others: dict[str, dict[str, Any]] = {}  # dom0s that are no lab hosts: the same
        (self.inventory / "group_vars").mkdir(parents=True)
        (self.inventory / "host_vars").mkdir()

    def connection(self, host: LabHost) -> dict[str, Any]:
        """How Ansible gets into a lab host: as into a machine of its own."""
        return {
            "ansible_connection": "lab",
            "lab_enter": str(host.folder / "enter"),
            "ansible_python_interpreter": self._python(host.folder.name),
            "ansible_remote_tmp": "/run/ansible",
        }

    def _python(self, name: str) -> str:
        python = self.python or sys.executable
        if not self.apart:
            return python
        path = self.folder / f"python-{name}"
        path.write_text(f'#!/bin/sh\nexec {shlex.join([*ALONE, python])} "$@"\n')
        path.chmod(0o755)
        return str(path)

    def add_driver_domain(self, name: str, host: LabHost, domid: int) -> None:
        """An inventory's host that is a driver domain."""
        python = host.domain_python(domid, alone=self.apart)
        self.more[name] = {"ansible_connection": "local", "ansible_python_interpreter": python}

    def add_hosts(self, **hosts: dict[str, Any]) -> None:
        """Hosts of the inventory's group of dom0s that are no lab hosts, with their connection variables."""
        self.others |= hosts

    def write_hosts(self) -> None:
        """Where hosts are, without any variables of the product's."""
        dom0s = {**self.others, **{name: self.connection(host) for name, host in self.hosts.items()}}
        tree = {"all": {"hosts": self.more, "children": {"xen_dom0": {"hosts": dom0s}}}}
        (self.inventory / "hosts.json").write_text(json.dumps(tree))

    def write(self) -> None:
        """The inventory as files."""
        self.write_hosts()
        (self.inventory / "group_vars/xen_dom0.json").write_text(json.dumps(self.variables))
        for name, variables in self.of_host.items():
            (self.inventory / f"host_vars/{name}.json").write_text(json.dumps(variables))

    def play(
        self, playbook: str, *arguments: str, check: bool = True, rewrite: bool = True, **extra: Any
    ) -> subprocess.CompletedProcess[str]:
        """One run of ``ansible-playbook``; ``extra`` are extra variables."""
        if rewrite:
            self.write()
        words = ["-i", str(self.inventory / "hosts.json"), playbook, "-e", json.dumps(extra), *arguments]
        return self.command("ansible-playbook", *words, check=check)

    def command(self, program: str, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """One of Ansible's programs as somebody types it in the controller's folder."""
        done = subprocess.run(
            [str(Path(sys.executable).with_name(program)), *words],
            check=False,
            capture_output=True,
            text=True,
            timeout=300,
            cwd=self.folder,
            env={
                **environment(self.folder),
                "ANSIBLE_INJECT_FACT_VARS": "false",
                "ANSIBLE_CONNECTION_PLUGINS": str(CONNECTIONS),
            },
            stdin=subprocess.DEVNULL,
        )
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    def role(self, role: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """One role in a play of its own."""
        path = self.folder / f"{role}.json"
        play = {"hosts": "xen_dom0", "gather_facts": False, "roles": [f"xen.virtio.{role}"]}
        path.write_text(json.dumps([play]))
        return self.play(str(path), *arguments, **options)

    def ask(self, module: str, **arguments: Any) -> dict[str, Any]:
        """What a module of the collection says of the first host."""
        name = next(iter(self.hosts))
        out = self.folder / "asked"
        path = self.folder / f"{module}.json"
        tasks = [
            {f"xen.virtio.{module}": arguments, "register": "asked"},
            {
                "ansible.builtin.copy": {
                    "content": "{{ asked | to_json }}",
                    "dest": str(out),
                    "mode": "0644",
                },
                "delegate_to": "localhost",
            },
        ]
        path.write_text(json.dumps([{"hosts": name, "gather_facts": False, "tasks": tasks}]))
        self.play(str(path))
        return dict(json.loads(out.read_text()))


def changed(done: subprocess.CompletedProcess[str]) -> int:
    """How many tasks changed something, over all hosts."""
    return sum(int(number) for number in re.findall(r"changed=(\d+)", done.stdout))


def told(done: subprocess.CompletedProcess[str]) -> str:
    """All that Ansible printed, in one line."""
    return " ".join((done.stdout + done.stderr).split())
