# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that holds machines: the lab's own network, its mounts, and the end of all that runs there.

It is process 1 of a process namespace, so whatever becomes of it, the kernel ends every machine, every
connection to one and every mount with it. Only files and empty control groups could stay behind; where it
is told to end, or its owner dies, it removes those too.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .holder import Holder, do_nothing, end_by_signal

CGROUPS = Path("/sys/fs/cgroup")
#: Seconds in which what was killed is gone.
END_TIMEOUT = 10.0
BRIDGE = "lab0"
ADDRESS = "02:00:00:00:00:fe"
OPERATIONS = {"connects", "forget", "knock", "leader", "link", "stop_machine"}


class MachinesHolder(Holder):
    """A holder of machines, each started as a program named ``machine-<name>``."""

    def mount(self) -> None:
        overlay = self.folder / "overlay"
        overlay.mkdir(exist_ok=True)
        self.run("mount", "-t", "tmpfs", "-o", "mode=0755,size=75%", "lab", str(overlay))
        # systemd-nspawn keeps records and locks there, by a machine's name
        self.run("mount", "-t", "tmpfs", "-o", "mode=0755", "lab", "/run")
        # Machines see nothing of this machine's control groups, whichever kind those are.
        subprocess.run(["umount", "--recursive", "--lazy", str(CGROUPS)], check=False, capture_output=True)
        self.run("mount", "-t", "cgroup2", "cgroup2", str(CGROUPS))
        self.remove_stale_cgroups()
        self.enter_cgroup(Path(self.config["cgroup"]) / "holder")
        self.run("ip", "link", "set", "lo", "up")
        # An address of its own: else it takes a machine's, and changes it when that one goes.
        bridge = ["ip", "link", "add", BRIDGE, "address", ADDRESS, "type", "bridge"]
        self.run(*bridge, "stp_state", "0", "forward_delay", "0")
        self.run("ip", "address", "add", f"{self.config['gateway']}/24", "dev", BRIDGE)
        self.run("ip", "link", "set", BRIDGE, "up")

    def run(self, *command: str) -> None:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")

    def enter_cgroup(self, folder: Path) -> None:
        """Be in it ourselves, so that others see that this one is in use."""
        deadline = time.monotonic() + 10
        while True:
            folder.mkdir(parents=True, exist_ok=True)
            try:
                (folder / "cgroup.procs").write_text(f"{os.getpid()}")
                return
            except FileNotFoundError:  # taken for stale before anybody was in it
                if time.monotonic() > deadline:
                    raise

    def remove_stale_cgroups(self) -> None:
        """Those of holders that were killed: nobody is in any of them."""
        for top in CGROUPS.glob("xen-lab-*"):
            with contextlib.suppress(OSError):
                if "populated 0" in (top / "cgroup.events").read_text(encoding="ascii"):
                    remove_empty(top)

    def remove_own_cgroup(self) -> None:
        with contextlib.suppress(OSError):
            (CGROUPS / "cgroup.procs").write_text(f"{os.getpid()}")
        remove_empty(Path(self.config["cgroup"]))

    # -- requests --

    def answer(self, request: dict[str, Any]) -> Any:
        self.reap()
        if request["do"] in OPERATIONS:
            return getattr(self, request["do"])(**request.get("with", {}))
        return super().answer(request)

    def reap(self) -> None:
        """Orphans of the whole namespace are process 1's to wait for; its own programs it waits for by name."""
        own = {child.pid for child in self.children.values()}
        for entry in os.listdir("/proc"):
            if entry.isdigit() and int(entry) not in own and status(entry).get("State", " ")[0] == "Z":
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(int(entry), os.WNOHANG)

    def leader(self, name: str) -> int | None:
        """A machine's process 1 as this namespace counts, None while there is none."""
        child = self.children.get(f"machine-{name}")
        if child is None or child.poll() is not None:
            return None
        facts = {int(entry): status(entry) for entry in os.listdir("/proc") if entry.isdigit()}
        for pid, fact in facts.items():
            inner = fact.get("NSpid", "").split()
            if len(inner) > 1 and inner[-1] == "1" and descends(pid, child.pid, facts):
                return pid
        return None

    def knock(self, address: str, port: int) -> bool:
        """Whether somebody answers there."""
        with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=2) as connection:
            return bool(connection.recv(1))
        return False

    def connects(self, address: str, port: int) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=2):
            return True
        return False

    def link(self, name: str, up: bool) -> None:
        """Plug a machine's network cable in, or pull it."""
        self.run("ip", "link", "set", f"vb-{name}", "up" if up else "down")

    def stop_machine(self, name: str) -> None:
        """The power is gone."""
        pid = self.leader(name)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            # the first process of a namespace is there until all others are gone: none goes on without power
            until(lambda: not alive(f"{pid}"))
        self.stop(f"machine-{name}")
        # The kernel would take it away a little later, and until then its name is taken.
        subprocess.run(["ip", "link", "delete", f"vb-{name}"], check=False, capture_output=True)

    def forget(self, name: str) -> None:
        """A machine's files and control groups."""
        shutil.rmtree(self.folder / "overlay" / name, ignore_errors=True)
        remove_empty(Path(self.config["cgroup"]) / name)

    # -- the end --

    def end(self) -> None:
        for name in list(self.children):
            if name.startswith("machine-"):
                self.stop_machine(name.removeprefix("machine-"))
        for pid in sorted(int(entry) for entry in os.listdir("/proc") if entry.isdigit()):
            if pid != os.getpid():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        until(lambda: [entry for entry in os.listdir("/proc") if entry.isdigit() and alive(entry)] == ["1"])
        self.remove_own_cgroup()
        super().end()

    def remove_folder(self) -> None:
        subprocess.run(
            ["umount", "--recursive", "--lazy", str(self.folder / "overlay")],
            check=False,
            capture_output=True,
        )
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
        if f" {self.folder}/" not in mounts:
            shutil.rmtree(self.folder, ignore_errors=True)


def remove_empty(top: Path) -> None:
    """Folders that can go; a control group is no more than that once its processes have ended."""
    for folder, _folders, _files in os.walk(top, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def status(pid: int | str) -> dict[str, str]:
    """/proc/<pid>/status, empty where the process is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    return {key: value.strip() for key, _colon, value in (line.partition(":") for line in text.splitlines())}


def until(condition: Callable[[], bool]) -> None:
    """Wait for it, but not for ever."""
    deadline = time.monotonic() + END_TIMEOUT
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)


def alive(pid: str) -> bool:
    return status(pid).get("State", "Z")[0] != "Z"


def descends(pid: int, ancestor: int, facts: dict[int, dict[str, str]]) -> bool:
    while pid in facts and pid > 1:
        pid = int(facts[pid].get("PPid", "0"))
        if pid == ancestor:
            return True
    return False


def main() -> None:
    config = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, do_nothing)
    holder = MachinesHolder(config)
    holder.mount()
    signal.signal(signal.SIGTERM, end_by_signal)
    try:
        holder.serve()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        holder.end()
