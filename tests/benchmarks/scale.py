# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a controller spends on very many hosts: Ansible itself over recorded answers, and our own parts alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ansible_runs import environment, run_module
from guests import create
from lab import LabHost

from benchmarks.audit import AUDIT, guest
from benchmarks.figures import Figure

HERE = Path(__file__).resolve().parent
FORKS = 50
GUESTS, DISKS = 3, 3
STRATEGIES = ("linear", "free", "host_pinned")


class Spent(NamedTuple):
    """Of a command with all that it started: seconds, seconds of all processors, MB of its largest process."""

    wall: float
    cpu: float
    memory: float


class Recorded:
    """An inventory of so many hosts that are all answered for as one host once answered."""

    def __init__(self, folder: Path, hosts: int, host: LabHost) -> None:
        self.folder = folder / f"{hosts}"
        self.hosts = hosts
        self.answers = folder / "answers"
        (self.folder / "group_vars").mkdir(parents=True)
        tree: dict[str, Any] = {
            "all": {"children": {"xen_dom0": {"hosts": {f"b{number:05}": {} for number in range(hosts)}}}}
        }
        (self.folder / "hosts.json").write_text(json.dumps(tree))
        variables = {
            "ansible_connection": "recorded",
            "ansible_python_interpreter": "/usr/bin/python3",
            "recorded_folder": str(self.answers),
            "kernel": host.kernel,
            "xen_guests": [guest(f"linux{number}") for number in range(GUESTS)],
            "xen_driver_domains": {"DomD": {}},
        }
        (self.folder / "group_vars/xen_dom0.json").write_text(json.dumps(variables))

    def run(self, program: str, *arguments: str, **more: str) -> Spent:
        """One of Ansible's programs over this inventory."""
        with open(self.folder / "said", "w+") as said:
            begin = time.perf_counter()
            child = subprocess.Popen(
                [
                    str(Path(sys.executable).with_name(program)),
                    "-i",
                    str(self.folder / "hosts.json"),
                    *arguments,
                ],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                cwd=self.folder,
                env={
                    **environment(self.folder),
                    "ANSIBLE_FORKS": f"{FORKS}",
                    "ANSIBLE_INJECT_FACT_VARS": "false",
                    "ANSIBLE_CONNECTION_PLUGINS": str(HERE / "connection"),
                    **more,
                },
            )
            _pid, status, used = os.wait4(child.pid, 0)
            wall = time.perf_counter() - begin
            child.returncode = os.waitstatus_to_exitcode(status)
            if child.returncode:
                said.seek(0)
                raise RuntimeError(f"{program}: {said.read()[-3000:]}")
        return Spent(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)

    def tasks(self, count: int, strategy: str = "linear") -> Spent:
        """So many tasks that do nothing."""
        play = self.folder / "play.json"
        task = {"name": "ping", "ansible.builtin.ping": {}}
        plays = [{"hosts": "xen_dom0", "gather_facts": False, "strategy": strategy, "tasks": [task] * count}]
        play.write_text(json.dumps(plays))
        return self.run("ansible-playbook", str(play))

    def batches(self, count: int) -> Spent:
        """So many batches of a rollout in which no host is: what the playbook has each host look at in each of them."""
        play, board = self.folder / "batches.json", self.folder / "board.json"
        board.write_text(json.dumps([{"name": "never", "ansible.builtin.ping": {}}]))
        batch = self.folder / "batch.json"
        include = {"name": "board", "ansible.builtin.include_tasks": str(board), "when": "number == 0"}
        batch.write_text(json.dumps([include]))
        task = {
            "name": "batches",
            "ansible.builtin.include_tasks": str(batch),
            "loop": list(range(1, count + 1)),
            "loop_control": {"loop_var": "number"},
        }
        play.write_text(json.dumps([{"hosts": "xen_dom0", "gather_facts": False, "tasks": [task]}]))
        return self.run("ansible-playbook", str(play))

    def audit(self) -> Spent:
        """The playbook, with its files written."""
        out = self.folder / "report"
        extra = {"xen_audit_dest": str(out), "xen_audit_max_severity": "error"}
        spent = self.run("ansible-playbook", AUDIT, "-e", json.dumps(extra))
        summary = json.loads((out / "audit.json").read_text())["summary"]
        if summary["domains"] != self.hosts * (GUESTS + 1):
            raise RuntimeError(f"another fleet was expected: {summary}")
        return spent

    def declared(self) -> tuple[Spent, Spent]:
        """The inventory of declared guests, and this inventory alone."""
        source = self.folder / "zz.xen.yml"
        source.write_text(json.dumps({"plugin": "xen.virtio.domains", "source": "declared"}))
        return self.run("ansible-inventory", "-i", str(source), "--list"), self.run(
            "ansible-inventory", "--list"
        )


def recorded(folder: Path) -> LabHost:
    """A host, and what its modules answer as files."""
    host = LabHost(folder / "host").start()
    host.answer_backends()
    domid = host.add_domain("DomD", kind="toolstack", ready=["virtio-disk"])
    host.write(f"/local/domain/{domid}/drivers/virtio-disk/launcher", "0.1.0")
    for number in range(GUESTS):
        create(host, f"linux{number}", DISKS)
    declared = [{**guest(f"linux{number}"), "kernel": host.kernel} for number in range(GUESTS)]
    answer = run_module(folder, str(host.python), "xen.virtio.fleet_info", {"guests": declared})
    if answer.pop("failed"):
        raise RuntimeError(answer["stdout"])
    del answer["stdout"]
    (folder / "answers").mkdir()
    (folder / "answers/fleet_info.json").write_text(json.dumps(answer))
    (folder / "answers/ping.json").write_text(json.dumps({"ping": "pong", "changed": False}))
    return host


def controller(sizes: Sequence[int]) -> Iterator[Figure]:
    """Ansible over so many hosts: seconds of processors, which hardly depend on what else the machine does."""
    with tempfile.TemporaryDirectory(prefix="xen-bench-") as name:
        folder = Path(name)
        host = recorded(folder)
        try:
            for hosts in sizes:
                fleet = Recorded(folder, hosts, host)
                group = f"{hosts} hosts of recorded answers, {FORKS} forks, CPU of the controller"
                nothing = fleet.run("ansible-playbook", str(_empty(folder)))
                four, two = fleet.batches(4), fleet.batches(2)
                yield Figure(
                    group, "a batch of a rollout, for those who are not in it", (four.cpu - two.cpu) / 2
                )
                for strategy in STRATEGIES:
                    spent = fleet.tasks(1, strategy)
                    yield Figure(group, f"a task that does nothing, {strategy}", spent.cpu - nothing.cpu)
                yield Figure(group, "its largest process", spent.memory, unit="MB")
                ping = fleet.tasks(1)
                audit = fleet.audit()
                yield Figure(group, "an audit", audit.cpu, ping.cpu, "a task that does nothing")
                yield Figure(
                    group, "an audit, by the clock", audit.wall, ping.wall, "a task that does nothing"
                )
                yield Figure(group, "its largest process", audit.memory, unit="MB")
                with_it, without = fleet.declared()
                yield Figure(group, "the inventory plugin, declared", with_it.cpu, without.cpu, "without it")
                yield Figure(group, "its largest process", with_it.memory, unit="MB")
        finally:
            host.stop()


def _empty(folder: Path) -> Path:
    play = folder / "empty.json"
    play.write_text(json.dumps([{"hosts": "xen_dom0", "gather_facts": False, "tasks": []}]))
    return play


#: In a process of its own for each: memory that was used once stays with a process.
_PART = """
import gc, json, resource, sys, time
hosts, part = int(sys.argv[1]), sys.argv[2]
from fleets import large
from ansible_collections.xen.virtio.plugins.plugin_utils._fleet_report import fleet_report
from ansible_collections.xen.virtio.plugins.plugin_utils._fleet_page import fleet_page
from ansible_collections.xen.virtio.plugins.plugin_utils._fleet_table import fleet_table
entries = large(hosts, 3, 3)
parts = {"table": fleet_table, "page": fleet_page, "json": json.dumps}
report = fleet_report(entries, "now") if part != "report" else None
gc.collect()
gc.freeze()
begin = time.process_time()
out = fleet_report(entries, "now") if part == "report" else parts[part](report)
spent = time.process_time() - begin
size = len(out) if isinstance(out, str) else 0
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([spent, memory, size / 1e6]))
"""


def parts(sizes: Sequence[int]) -> Iterator[Figure]:
    """Our own parts over a whole fleet: each size against the one before, a host."""
    before: dict[str, float] = {}
    for hosts in sizes:
        group = f"a report of {hosts} hosts with {GUESTS} guests of {DISKS} disks"
        for part in ("report", "table", "json", "page"):
            done = subprocess.run(
                [sys.executable, "-c", _SETUP + _PART, str(hosts), part],
                check=True,
                capture_output=True,
                text=True,
            )
            spent, memory, size = json.loads(done.stdout)
            each = spent / hosts
            if part in before:
                yield Figure(group, f"{part}, for each host", each, before[part], "with fewer hosts", 2.0)
            yield Figure(group, f"{part}", spent)
            if size:
                yield Figure(group, f"{part}, its size", size, unit="MB")
            yield Figure(group, f"{part}, memory of the process", memory, unit="MB")
            before[part] = each


_SETUP = f"""
import sys
sys.path[:0] = {[str(HERE.parents[1]), str(HERE.parent), str(HERE.parent / "system")]!r}
import conftest
"""


def scale(sizes: Sequence[int], wholes: Sequence[int]) -> Iterator[Figure]:
    """Both."""
    yield from parts(wholes)
    yield from controller(sizes)
