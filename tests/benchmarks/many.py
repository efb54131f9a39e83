# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many hosts over SSH: so many names over a few machines, each with a connection that nobody has opened yet."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from ansible_runs import environment
from guests import create
from lab import LabHost
from lab.machines import Machines
from lab.machines_pair import Dom0

HERE = Path(__file__).resolve().parent
FORKS = 5  # Ansible's own default
GUESTS, DISKS = 3, 3


class Many:
    """So many names of hosts over so many machines, each name with a connection of its own."""

    def __init__(self, folder: Path, machines: Machines, dom0s: list[Dom0], hosts: int) -> None:
        self.folder = folder
        self.hosts = hosts
        self.forks = FORKS
        self.variables: dict[str, Any] = {}
        self._machines = machines
        self._dom0s = dom0s
        self._turns = count()

    def inventory(self) -> Path:
        """With paths of connections that nobody has opened yet."""
        turn = next(self._turns, 0)
        hosts: dict[str, dict[str, Any]] = {}
        for number in range(self.hosts):
            name = self._dom0s[number % len(self._dom0s)].machine.name
            control = f"{self._machines.control_path(name)}-{turn}-{number}"
            hosts[f"b{number:02}"] = {
                **self._machines.connection(name),
                "ansible_control_path": control,
                "kernel": self._dom0s[number % len(self._dom0s)].host.kernel,
            }
        path = self.folder / "hosts.json"
        group = {"hosts": hosts, "vars": self.variables}
        path.write_text(json.dumps({"all": {"children": {"xen_dom0": group}}}))
        return path

    def run(self, program: str, *arguments: str, **more: str) -> tuple[float, str]:
        """Seconds that one of Ansible's programs took, and what it printed."""
        begin = time.perf_counter()
        done = subprocess.run(
            [str(Path(sys.executable).with_name(program)), *arguments],
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            cwd=self.folder,
            env={**environment(self.folder), "ANSIBLE_FORKS": f"{self.forks}", **more},
        )
        seconds = time.perf_counter() - begin
        if done.returncode or "cannot be read" in done.stderr:
            raise RuntimeError(f"{program}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return seconds, done.stdout

    def play(self, playbook: str, *arguments: str) -> tuple[list[Mapping[str, Any]], str]:
        """What the stopwatch noted of a playbook over cold connections, and what Ansible printed."""
        record = self.folder / "times"
        record.unlink(missing_ok=True)
        _seconds, said = self.run(
            "ansible-playbook",
            *("-i", str(self.inventory()), playbook, *arguments),
            ANSIBLE_CALLBACK_PLUGINS=str(HERE / "callback"),
            ANSIBLE_CALLBACKS_ENABLED="stopwatch",
            STOPWATCH=str(record),
        )
        return [json.loads(line) for line in record.read_text().splitlines()], said

    def tasks(self, tasks: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """The same of a play with these tasks."""
        play = self.folder / "play.json"
        play.write_text(json.dumps([{"hosts": "xen_dom0", "gather_facts": False, "tasks": list(tasks)}]))
        return self.play(str(play))[0]

    def pings(self, tasks: int = 1) -> float:
        """Seconds from the begin of so many tasks that do nothing to the last host's last answer."""
        task = {"name": "ping", "ansible.builtin.ping": {}}
        noted = self.tasks([task] * tasks)
        if sum("task" in one for one in noted) != self.hosts * tasks:
            raise RuntimeError(f"not all of {self.hosts} hosts answered: {noted}")
        return whole(noted)


def whole(noted: Sequence[Mapping[str, Any]]) -> float:
    """Seconds from the first task's begin to the end of all plays."""
    (seconds,) = [one["whole"] for one in noted if "whole" in one]
    return float(seconds)


@contextmanager
def many(hosts: int, machines: int) -> Iterator[Many]:
    """So many hosts, which are so many machines under several names; each machine has guests with disks."""
    with ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory(prefix="xen-bench-"))
        network = stack.enter_context(Machines(Path(name) / "machines"))
        dom0s = []
        for number in range(machines):
            host = stack.enter_context(LabHost(Path(name) / f"host{number}"))
            host.answer_backends()
            domid = host.add_domain("DomD", kind="toolstack", ready=["virtio-disk"])
            host.write(f"/local/domain/{domid}/drivers/virtio-disk/launcher", "0.1.0")
            for guest in range(GUESTS):
                create(host, f"linux{guest}", DISKS)
            dom0s.append(Dom0(host, network, f"dom0-{number}").start())
            stack.callback(dom0s[-1].end)
        yield Many(Path(name), network, dom0s, hosts)
