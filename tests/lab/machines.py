# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines: real systemd hosts reached over real SSH, in a network of their own, all on this machine."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import machines_base, namespace
from .errors import LabError
from .held import Held, Words
from .machines_machine import NETWORK, START_TIMEOUT, Machine
from .machines_tools import HOLDER, child_of, keygen, namespaces, raise_inotify_limit, refuse_without

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Machine", "Machines"]

GATEWAY = f"{NETWORK}.254"
LAST_NUMBER = 253
HTTP_PORT = 8080


class Machines(Held):
    """A context manager; ``start`` and ``stop`` do the same by hand.

    ``folder`` must be empty or not there; it is removed at the end.  ``suite`` is the Debian release of the
    machines.  With ``lifeline=False`` they outlive their owner and are stopped by
    ``Machines.attach(folder).stop()``.
    """

    WORDS = Words(
        start="machines start",
        none="no machines",
        down="the machines in {folder} are not held any more",
        holder="the holder of {folder}",
        refused="hold machines",
    )

    def __init__(
        self, folder: str | os.PathLike[str], *, suite: str = "bookworm", lifeline: bool = True
    ) -> None:
        super().__init__(folder, lifeline=lifeline)
        self.suite = suite
        self.machines: dict[str, Machine] = {}
        self.bridge = "lab0"
        self._base: Path | None = None
        self._number = 0

    # ---- start and stop ----

    def start(self) -> Self:
        refuse_without()
        self._take_folder()
        self._base = machines_base.base(self.suite)
        raise_inotify_limit()
        with self._whole_or_not():
            self._shorten()
            (self.folder / "log").mkdir()
            (self.folder / "bin").mkdir()
            keygen(self.folder / "id")
            self._holder = child_of(self._hold())
            self._write_programs()
            self._save()
        return self

    def stop(self) -> None:
        """End all machines and everything that belongs to them.  Stopping twice does nothing."""
        super().stop()
        self.machines.clear()

    @classmethod
    def attach(cls, folder: str | os.PathLike[str]) -> Machines:
        """The machines that another process started in ``folder``."""
        path = Path(folder).resolve()
        state = cls._state(path)
        machines = cls(path, suite=state["suite"])
        machines._base = Path(state["base"])
        machines._short = Path(state["short"])
        machines._holder = state["holder"]
        machines._number = state["number"]
        for name, (number, binds) in state["machines"].items():
            machines.machines[name] = Machine(machines, name, number, binds)
        return machines

    def _hold(self) -> int:
        return self._start_holder(
            "machines_holder",
            [*HOLDER, "--propagation", "slave"],
            gateway=GATEWAY,
            cgroup=str(self.cgroup),
            originals=[],
            binds=[],
        )

    def _end_strangers(self) -> None:
        """There are none: the machines' process namespace ends with its holder (``machines_tools.HOLDER``)."""

    def _write_programs(self) -> None:
        """Programs in whose place Ansible finds these: they run inside the lab's network, and end with it."""
        expected = namespaces(f"{self._holder}")
        for name in ("ssh", "sftp", "scp"):
            program = shutil.which(name)
            lines = [
                f'if [ "$(readlink /proc/{self._holder}/ns/pid)" != "{expected}" ]; then',
                f"    echo {shlex.quote(f'the machines in {self.folder} are down')} >&2",
                "    exit 255",
                "fi",
                f'exec {shlex.join(self.enter("--net", "--pid"))} {program} "$@"',
                "",
            ]
            namespace.write_script(self.folder / "bin" / name, "\n".join(lines))

    def enter(self, *kinds: str) -> list[str]:
        """The beginning of a command line that runs in the lab's own namespaces of these kinds."""
        return ["nsenter", "--target", f"{self._holder}", *kinds, "--"]

    def _save(self) -> None:
        state = {
            "suite": self.suite,
            "base": str(self.base),
            "short": str(self._short),
            "holder": self._holder,
            "number": self._number,
            "machines": {name: (machine.number, machine.binds) for name, machine in self.machines.items()},
        }
        self._write_state(state)

    @property
    def base(self) -> Path:
        if self._base is None:
            raise LabError("the machines are not started")
        return self._base

    @property
    def cgroup(self) -> Path:
        """Where control groups lie as the holder sees them; the name is nobody else's."""
        assert self._short is not None
        return Path("/sys/fs/cgroup") / f"xen-lab-{self._short.name.removeprefix('xen-lab-')}"

    # ---- machines ----

    def add(
        self,
        name: str,
        *,
        binds: Mapping[str, str | os.PathLike[str]] | None = None,
        files: Mapping[str, str] | None = None,
        boot: bool = True,
        wait: bool = True,
    ) -> Machine:
        """A new machine.

        Args:
            name: at most 11 lower case letters, digits and dashes; the host's name.
            binds: path in the machine -> folder or file of ours that it has there.
            files: path in the machine -> text, there before it boots for the first time.
            boot: whether it is powered on at once.
            wait: whether to wait until it is up (several boot faster side by side: `wait` for each).
        """
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,10}", name) or name in {
            "log",
            "bin",
            "overlay",
            "id",
            "control",
        }:
            raise LabError(f"{name!r} is no name for a machine: at most 11 of a-z, 0-9 and -, a letter first")
        if name in self.machines:
            raise LabError(f"there is a machine {name} already")
        number = self._next_number()
        machine = Machine(
            self, name, number, {there: os.fspath(here) for there, here in (binds or {}).items()}
        )
        machine.share.mkdir(parents=True)
        self._seed(machine, files or {})
        self.machines[name] = machine
        self._save()
        if boot:
            machine.boot(wait=wait)
        return machine

    def _next_number(self) -> int:
        """Not one that another machine had a moment ago: its neighbours remember whose the address was."""
        taken = {machine.number for machine in self.machines.values()}
        for _unused in range(LAST_NUMBER):
            self._number = self._number % LAST_NUMBER + 1
            if self._number not in taken:
                return self._number
        raise LabError(f"a lab has room for {LAST_NUMBER} machines")

    def _seed(self, machine: Machine, files: Mapping[str, str]) -> None:
        seed = machine.folder / "seed"
        key = seed / "etc/ssh/ssh_host_ed25519_key"
        key.parent.mkdir(parents=True)
        keygen(key)
        texts = {
            "/etc/hostname": f"{machine.name}\n",
            "/etc/hosts": f"127.0.0.1 localhost\n127.0.1.1 {machine.name}\n{GATEWAY} lab\n",
            "/etc/lab-network": f"ADDRESS={machine.address}\nGATEWAY={GATEWAY}\n",
            "/root/.ssh/authorized_keys": (self.folder / "id.pub").read_text(),
            **files,
        }
        for path, text in texts.items():
            place = seed / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        (seed / "root").chmod(0o700)
        (seed / "root/.ssh").chmod(0o700)
        public = key.with_name(key.name + ".pub").read_text().split()[:2]
        with open(self.folder / "known_hosts", "a", encoding="ascii") as known:
            known.write(f"{machine.address} {' '.join(public)}\n")

    def remove(self, name: str) -> None:
        """The machine is off, and its files are gone; so is its name, for another one."""
        machine = self.machines.pop(name)
        machine.power_off()
        self.ask("forget", name=name)
        shutil.rmtree(machine.folder, ignore_errors=True)
        lines = (self.folder / "known_hosts").read_text().splitlines(keepends=True)
        kept = [line for line in lines if not line.startswith(f"{machine.address} ")]
        (self.folder / "known_hosts").write_text("".join(kept))
        self._save()

    def __getitem__(self, name: str) -> Machine:
        return self.machines[name]

    # ---- Ansible ----

    @property
    def ssh_options(self) -> list[str]:
        """Strict host keys, and nothing of the user's own."""
        settings = {
            "UserKnownHostsFile": f'"{self.folder / "known_hosts"}"',
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "IdentitiesOnly": "yes",
            "BatchMode": "yes",
            "LogLevel": "ERROR",
            "ConnectTimeout": "30",
        }
        options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        return ["-F", "/dev/null", "-i", str(self.folder / "id"), *options]

    def connection(self, name: str) -> dict[str, Any]:
        """The variables of one host of an inventory."""
        return {
            "ansible_connection": "ssh",
            "ansible_host": self.machines[name].address,
            "ansible_user": "root",
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_ssh_executable": str(self.folder / "bin/ssh"),
            "ansible_sftp_executable": str(self.folder / "bin/sftp"),
            "ansible_scp_executable": str(self.folder / "bin/scp"),
            "ansible_ssh_common_args": shlex.join(self.ssh_options),
            "ansible_control_path": str(self.control_path(name)),
        }

    def control_path(self, name: str) -> Path:
        """Where Ansible's open connection to a machine is: another one's for another machine of the same name."""
        assert self._short is not None
        return self._short / self.machines[name].address

    def inventory(self, **groups: Sequence[str]) -> dict[str, Any]:
        """An inventory of all machines, and of groups of them (``xen_dom0=["dom0"]``)."""
        children = {
            group: {"hosts": {name: self.connection(name) for name in names}}
            for group, names in groups.items()
        }
        hosts = {name: self.connection(name) for name in self.machines}
        return {"all": {"hosts": hosts, "children": children}}

    # ---- the network ----

    def serve(self, folder: str | os.PathLike[str]) -> str:
        """Files over HTTP for the machines; the URL of the folder. There is one server: the last folder counts."""
        argv = [sys.executable, "-I", "-S", "-m", "http.server", "--bind", GATEWAY, f"{HTTP_PORT}"]
        self.ask(
            "spawn",
            name="http",
            argv=[*argv, "--directory", os.fspath(folder)],
            env={},
            log=str(self.folder / "log" / "http.log"),
            ready=False,
        )
        deadline = time.monotonic() + START_TIMEOUT
        while not self.ask("connects", address=GATEWAY, port=HTTP_PORT):
            if time.monotonic() > deadline:
                raise LabError("the lab's HTTP server does not answer")
            time.sleep(0.02)
        return f"http://{GATEWAY}:{HTTP_PORT}"
