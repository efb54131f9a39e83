# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines and driver domains for system tests, and Ansible that reaches them over SSH (tests/lab/README.md)."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_runs import environment
from lab import LabHost, LabUnavailable
from lab.machines import Machine, Machines
from lab.machines_pair import Dom0, DriverDomain
from lab.machines_tools import facts_against
from role_runs import CONNECTIONS
from skips import FACT

MakeDriverDomain = Callable[..., DriverDomain]


@pytest.fixture(scope="session")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """The lab's network for machines, without any; what a test adds to it, it removes."""
    fact = facts_against()
    if fact:
        pytest.skip(f"{FACT} {fact}")
    here = Machines(tmp_path_factory.mktemp("machines") / "lab")
    try:
        here.start()
    except LabUnavailable as reason:
        pytest.skip(f"{reason}")
    yield here
    here.stop()


@pytest.fixture
def make_machine(machines: Machines) -> Iterator[Callable[..., Machine]]:
    """New machines, by name: ``make_machine("host", files={"/etc/motd": "…"})``; they go with the test."""
    names: list[str] = []

    def make(name: str, **options: Any) -> Machine:
        names.append(name)
        return machines.add(name, **options)

    yield make
    for name in names:
        if name in machines.machines:
            machines.remove(name)


@pytest.fixture
def machine(make_machine: Callable[..., Machine]) -> Machine:
    """A fresh machine that is nobody's domain."""
    return make_machine("host")


@pytest.fixture
def make_driver_domain(machines: Machines) -> Iterator[MakeDriverDomain]:
    """New driver domains: ``make_driver_domain(host, "DomD")``, the machine named in lower case."""
    made: list[DriverDomain] = []

    def make(host: LabHost, name: str = "DomD", **options: Any) -> DriverDomain:
        made.append(DriverDomain(host, machines, name, name.lower()))
        return made[-1].start(**options)

    yield make
    for domain in made:
        domain.end()


@pytest.fixture
def driver_domain(lab: LabHost, make_driver_domain: MakeDriverDomain) -> DriverDomain:
    """A fresh machine that is the domain DomD of the host ``lab``; ``driver_domain.host`` is that."""
    return make_driver_domain(lab)


@pytest.fixture
def dom0(lab: LabHost, machines: Machines) -> Iterator[Dom0]:
    """A fresh machine that is dom0 of the host ``lab``; name it before ``driver_domain``, which it outlives."""
    it = Dom0(lab, machines)
    yield it.start()
    it.end()


class Controller:
    """A controller's folder, with an inventory of machines over SSH and of lab hosts.

    ``variables`` are all hosts'. Groups are set by `group`; every machine and lab host is in ``all``.
    """

    def __init__(self, folder: Path, machines: Machines, **hosts: LabHost) -> None:
        self.folder = folder
        self.machines = machines
        self.hosts = hosts
        self.variables: dict[str, Any] = {}
        self.groups: dict[str, Sequence[str]] = {}
        folder.mkdir(exist_ok=True)

    def group(self, name: str, *hosts: str, **variables: Any) -> None:
        """A group of the inventory, with its variables."""
        self.groups[name] = hosts
        (self.folder / "group_vars").mkdir(exist_ok=True)
        (self.folder / f"group_vars/{name}.json").write_text(json.dumps(variables))

    def write(self) -> Path:
        """The inventory as a file; its name."""
        tree = self.machines.inventory()
        for name, host in self.hosts.items():
            tree["all"]["hosts"][name] = {
                "ansible_connection": "lab",
                "lab_enter": str(host.folder / "enter"),
                "ansible_python_interpreter": sys.executable,
                "ansible_remote_tmp": "/run/ansible",
            }
        tree["all"]["children"] = {
            name: {"hosts": {host: {} for host in hosts}} for name, hosts in self.groups.items()
        }
        tree["all"]["vars"] = self.variables
        path = self.folder / "hosts.json"
        path.write_text(json.dumps(tree, indent=1))
        return path

    def play(
        self,
        playbook: str | Sequence[dict[str, Any]],
        *arguments: str,
        check: bool = True,
        timeout: float = 600,
        **extra: Any,
    ) -> subprocess.CompletedProcess[str]:
        """``ansible-playbook`` with a playbook's name, or with plays; ``extra`` are extra variables."""
        if not isinstance(playbook, str):
            path = self.folder / "plays.json"
            path.write_text(json.dumps(playbook))
            playbook = str(path)
        done = self._run("ansible-playbook", [playbook, "-e", json.dumps(extra), *arguments], timeout)
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    def role(self, role: str, host: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """One role of the collection on a host or group."""
        play = {"hosts": host, "gather_facts": False, "roles": [f"xen.virtio.{role}"]}
        return self.play([play], *arguments, **options)

    def module(
        self, host: str, module: str, *flags: str, timeout: float = 300, **options: Any
    ) -> dict[str, Any]:
        """What a module says of one host; ``failed`` says whether it failed."""
        given = ["-m", module, *(["-a", json.dumps(options)] if options else []), *flags]
        done = self._run("ansible", [host, *given], timeout)
        found = re.search(rf"^{re.escape(host)} \| [^\n]*?(\{{)", done.stdout, re.MULTILINE)
        assert found, done.stdout + done.stderr
        result: dict[str, Any] = json.JSONDecoder().raw_decode(done.stdout[found.start(1) :])[0]
        result["failed"] = done.returncode != 0
        return result

    def _run(
        self, program: str, arguments: Sequence[str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(Path(sys.executable).with_name(program)), "-i", str(self.write()), *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=self.folder,
            env={
                **environment(self.folder),
                "ANSIBLE_INJECT_FACT_VARS": "false",
                "ANSIBLE_CONNECTION_PLUGINS": str(CONNECTIONS),
            },
            stdin=subprocess.DEVNULL,
        )


@pytest.fixture
def controller(tmp_path: Path, machines: Machines) -> Controller:
    """Ansible with the machines of the test in its inventory; lab hosts are added to ``controller.hosts``."""
    return Controller(tmp_path / "controller", machines)
