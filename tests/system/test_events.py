# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The event source xenstore on lab hosts: by itself, and under the real ansible-rulebook."""

from __future__ import annotations

import asyncio
import json
import os
import runpy
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from ansible_runs import ROOT, environment, run_module
from lab import LabHost

SOURCE = ROOT / "extensions/eda/plugins/event_source/xenstore.py"
BOUND = 30.0
DISK = {"vdev": "xvda", "target": "/dev/vg/a", "backend": "DomD"}
Event = dict[str, Any]


class Told:
    """The source at work in a thread, as ansible-rulebook runs it, and what it told."""

    def __init__(self, host: LabHost, **options: Any) -> None:
        self._arguments = {
            "socket": host.socket,
            "userdata_dir": str(host.root / "var/lib/xen"),
            "delay": 0.1,
            "settle": 0,
            "retry": 0.1,
            **options,
        }
        self.events: list[Event] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        async def both() -> None:
            queue: asyncio.Queue[Event] = asyncio.Queue()
            source = asyncio.ensure_future(runpy.run_path(str(SOURCE))["main"](queue, self._arguments))
            taking = asyncio.ensure_future(self._take(queue))
            self._all = asyncio.gather(source, taking)
            with suppress(asyncio.CancelledError):
                await self._all

        self._loop.run_until_complete(both())
        self._loop.close()

    async def _take(self, queue: asyncio.Queue[Event]) -> None:
        while True:
            self.events.append((await queue.get())["xenstore"])

    def cancel(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._all.cancel)
        ours = [self._thread, *(one for one in threading.enumerate() if one.name.startswith("xenstore"))]
        for thread in ours:
            thread.join(BOUND)
            assert not thread.is_alive()

    def wait(self, **wanted: Any) -> Event:
        """The first event with these words that nobody waited for yet; those before it are past."""
        deadline = time.monotonic() + BOUND
        while time.monotonic() < deadline:
            for number, event in enumerate(self.events):
                if wanted.items() <= event.items():
                    del self.events[: number + 1]
                    return event
            time.sleep(0.02)
        raise AssertionError(f"no event {wanted}: {self.events}")


Watch = Callable[..., Told]


@pytest.fixture
def watch() -> Iterator[Watch]:
    begun: list[Told] = []

    def begin(host: LabHost, **options: Any) -> Told:
        begun.append(Told(host, **options))
        return begun[-1]

    yield begin
    for told in begun:
        told.cancel()


def provision(host: LabHost, folder: Path, guest: int, **options: Any) -> dict[str, Any]:
    done = run_module(
        folder, host.python, "xen.virtio.disk", {"domain": str(guest), "disks": [DISK], **options}
    )
    assert not done["failed"], done["stdout"]
    return done


def populated(host: LabHost) -> tuple[int, int]:
    """A driver domain that answers, and a guest."""
    host.answer_backends()
    return host.add_domain("DomD", kind="toolstack"), host.add_domain()


# ---- by itself ----


def test_domains_and_disks_come_and_go(lab_any: LabHost, tmp_path: Path, watch: Watch) -> None:
    domd, guest = populated(lab_any)
    told = watch(lab_any)
    assert told.wait(kind="domain", event="found", domid=0)["domain"] == "Domain-0"
    assert told.wait(kind="domain", event="found", domid=domd)["domain"] == "DomD"
    provision(lab_any, tmp_path, guest)
    added = told.wait(kind="disk", domid=guest, health="attached")
    assert (added["vdev"], added["devid"], added["target"], added["backend"], added["state"]) == (
        *("xvda", 51712, "/dev/vg/a", "DomD"),
        "2",
    )
    provision(lab_any, tmp_path, guest, state="absent", hotplug=True)
    assert told.wait(kind="disk", event="removed", domid=guest)["vdev"] == "xvda"
    lab_any.kill_domain(guest)
    assert told.wait(kind="domain", event="removed", domid=guest)["uuid"]


def test_drift_and_a_disk_that_is_lost(lab_any: LabHost, tmp_path: Path, watch: Watch) -> None:
    domd, guest = populated(lab_any)
    provision(lab_any, tmp_path, guest)
    told = watch(lab_any, domains=False)
    assert told.wait(kind="disk", event="found")["health"] == "attached"
    backend = f"/local/domain/{domd}/backend/virtio_disk/{guest}/51712"
    lab_any.write(f"{backend}/params", "/dev/vg/b")
    drifted = told.wait(kind="disk", event="changed")
    assert (drifted["health"], drifted["changed"], drifted["before"]["health"]) == (
        *("drifted", ["drift", "health"]),
        "attached",
    )
    assert drifted["drift"] == [
        {"node": f"{backend}/params", "what": "value", "expected": "/dev/vg/a", "found": "/dev/vg/b"}
    ]
    lab_any.write(f"{backend}/params", "/dev/vg/a")
    assert told.wait(kind="disk", event="changed")["health"] == "attached"
    lab_any.rm(backend)
    assert told.wait(kind="disk", event="changed")["health"] == "missing"


def test_chosen_nodes(lab_any: LabHost, watch: Watch) -> None:
    lab_any.write("/tool/board/firmware", "7")
    told = watch(lab_any, disks=False, domains=False, paths=["/tool/board"])
    assert told.wait(kind="node", event="found", path="/tool/board/firmware")["value"] == "7"
    lab_any.write("/tool/board/firmware", "8")
    changed = told.wait(kind="node", event="changed")
    assert (changed["value"], changed["before"]) == ("8", {"value": "7"})
    lab_any.write("/tool/elsewhere", "1")
    lab_any.rm("/tool/board/firmware")
    assert told.wait(kind="node")["event"] == "removed"


def test_xenstored_is_restarted(lab: LabHost, tmp_path: Path, watch: Watch) -> None:
    """A store that is lost, or empty, says nothing of guests; one that is back tells what is another."""
    lab.write("/tool/board", "1")
    _domd, guest = populated(lab)
    provision(lab, tmp_path, guest)
    told = watch(lab, paths=["/tool/board"])
    told.wait(kind="node", event="found")
    lab.xenstored.kill()
    assert "xenstore" in told.wait(kind="connection", event="lost")["reason"]
    time.sleep(0.5)
    assert told.events == []
    lab.xenstored.restart()
    told.wait(kind="connection", event="back")
    assert told.wait(kind="disk", domid=guest)["event"] == "removed"
    lab.write("/tool/board", "2")
    assert told.wait(kind="node", event="added")["value"] == "2"


def test_a_live_update_goes_unnoticed(lab: LabHost, watch: Watch) -> None:
    told = watch(lab)
    told.wait(kind="domain", domid=0)
    lab.xenstored.live_update()
    domid = lab.add_domain()
    assert told.wait(kind="domain", event="added")["domid"] == domid
    assert told.events == []


def test_a_store_that_hangs(lab: LabHost, watch: Watch) -> None:
    told = watch(lab, timeout=0.5)
    told.wait(kind="domain", domid=0)
    lab.write("/libxl/1", "")  # something to look at, and then nobody answers
    lab.xenstored.stop()
    assert "no answer" in told.wait(kind="connection", event="lost")["reason"]
    lab.xenstored.cont()
    told.wait(kind="connection", event="back")


def test_a_guest_that_writes_without_end(lab: LabHost, tmp_path: Path, watch: Watch) -> None:
    """It wakes the source, not more; and what it writes is no template."""
    _domd, guest = populated(lab)
    provision(lab, tmp_path, guest)
    told = watch(lab, paths=[f"/local/domain/{guest}/data"], delay=0.5)
    told.wait(kind="disk", event="found")
    script = (
        "import socket, struct, time\n"
        "s = socket.socket(socket.AF_UNIX); s.connect('/dev/xen/xenbus')\n"
        "end = time.monotonic() + 2\n"
        "while time.monotonic() < end:\n"
        "    p = b'device/virtio_disk/junk\\0{{ x }}'\n"
        "    s.sendall(struct.pack('=IIII', 11, 1, 0, len(p)) + p); s.recv(4096)\n"
        "p = b'data/x\\0{{ lookup(1) }}'\n"
        "s.sendall(struct.pack('=IIII', 11, 1, 0, len(p)) + p); s.recv(4096)\n"
    )
    subprocess.run([lab.domain_python(guest), "-c", script], check=True, timeout=BOUND)
    assert told.wait(kind="node", event="added")["value"] == "\\x7b{ lookup(1) }}"
    assert len(told.events) < 20


def test_an_end_while_the_store_is_gone(lab: LabHost, watch: Watch) -> None:
    lab.xenstored.kill()
    told = watch(lab, retry=60)
    told.wait(kind="connection", event="lost")
    begun = time.monotonic()
    told.cancel()
    assert time.monotonic() - begun < BOUND / 2  # a bound, not a speed: retry is a minute


# ---- under ansible-rulebook ----

PLAYBOOK = f"""\
- name: Disks
  hosts: xen_dom0
  gather_facts: false
  tasks:
    - name: As declared
      xen.virtio.disk:
        domain: dom0less-2
        disks:
          - {json.dumps(DISK)}
"""


def test_the_example_mends_drift(lab: LabHost, tmp_path: Path) -> None:
    folder = tmp_path / "controller"  # ansible-rulebook copies all that lies beside a playbook
    folder.mkdir()
    domd, guest = populated(lab)
    (folder / "disks.yml").write_text(PLAYBOOK)
    provision(lab, folder, guest)
    host = {"ansible_connection": "local", "ansible_python_interpreter": lab.python}
    inventory = folder / "hosts.json"
    inventory.write_text(
        json.dumps({"all": {"children": {"xen_dom0": {"hosts": {"b07": host, "b08": host}}}}})
    )
    variables = folder / "vars.json"
    variables.write_text(
        json.dumps({"board": "b07", "board_socket": lab.socket, "board_playbook": str(folder / "disks.yml")})
    )
    programs = Path(sys.executable).parent
    log = folder / "log"
    with log.open("w") as output:
        rulebook = subprocess.Popen(
            [
                *(str(programs / "ansible-rulebook"), "--rulebook", "xen.virtio.mend", "--verbose"),
                *("--inventory", str(inventory), "--vars", str(variables)),
            ],
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**environment(folder), "PATH": f"{programs}:{os.environ['PATH']}"},
        )
    node = f"/local/domain/{domd}/backend/virtio_disk/{guest}/51712/params"
    try:
        deadline = time.monotonic() + 120
        while "Waiting for actions" not in log.read_text() and "Calling main" not in log.read_text():
            assert rulebook.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        lab.write(node, "/dev/vg/other")
        while lab.read(node) != b"/dev/vg/a" or "changed=" not in log.read_text():
            assert rulebook.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
    finally:
        rulebook.terminate()
        try:
            rulebook.wait(30)
        except subprocess.TimeoutExpired:
            rulebook.kill()
            rulebook.wait()
    recap = log.read_text().partition("PLAY RECAP")[2]
    assert "b07" in recap
    assert "b08" not in recap
