# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One machine: what runs inside, its power and its network cable."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .errors import LabError
from .finished import finished
from .machines_tools import colons

if TYPE_CHECKING:
    from .machines import Machines

START_TIMEOUT = 120.0  # seconds; a boot takes one or two, unless the machine below is busy
NETWORK = "10.77.0"  # of a network namespace of our own: it meets no other
REBOOT = 133  # systemd-nspawn's exit status where the machine asks for one
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_START = """\
# Holds the machine {name}; run inside the lab's namespaces.
set -e
mkdir -p {overlay}/upper {overlay}/scratch {overlay}/root {cgroup}
mount -t overlay overlay -o lowerdir={base},upperdir={overlay}/upper,workdir={overlay}/scratch {overlay}/root
[ -e {overlay}/seeded ] || {{ cp -a {seed}/. {overlay}/root/ && touch {overlay}/seeded; }}
export SYSTEMD_NSPAWN_API_VFS_WRITABLE=network
echo "!" >&"$LAB_READY"
while :; do
    code=0
    sh -c 'echo $$ >{cgroup}/cgroup.procs; exec "$@"' sh {nspawn} || code=$?
    echo "$code" >{ended}
    [ "$code" -eq 133 ] || exit "$code" # it asks to be booted again
    [ ! -e {somebody_boots} ] || exit "$code"
done
"""


class Machine:
    """One host of `Machines`; made by `Machines.add`."""

    def __init__(self, machines: Machines, name: str, number: int, binds: Mapping[str, str]) -> None:
        self.machines = machines
        self.name = name
        self.number = number
        self.binds = dict(binds)
        self.folder = machines.folder / name

    @property
    def address(self) -> str:
        return f"{NETWORK}.{self.number}"

    @property
    def share(self) -> Path:
        """A folder of ours that the machine has as /lab/share, to hand files in and out."""
        return self.folder / "share"

    @property
    def console(self) -> str:
        """What the machine said since its first boot."""
        return (self.machines.folder / "log" / f"machine-{self.name}.log").read_text(errors="replace")

    @property
    def running(self) -> bool:
        return self.machines.ask("leader", name=self.name) is not None

    @property
    def ended(self) -> Literal["poweroff", "reboot"] | None:
        """How the machine ended itself, None while it is on, or where its power was taken."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            if f"machine-{self.name}" not in self.machines.ask("pids"):
                return "reboot" if int((self.folder / "ended").read_text()) == REBOOT else "poweroff"
        return None

    def reboots_itself(self, yes: bool) -> None:
        """Whether a reboot from inside boots it again (as at first), or somebody else sees to that (`ended`)."""
        flag = self.folder / "somebody-boots"
        if yes:
            flag.unlink(missing_ok=True)
        else:
            flag.touch()

    # ---- running things inside ----

    def run(
        self,
        argv: Sequence[str | os.PathLike[str]],
        *,
        check: bool = True,
        timeout: float = 60.0,
        input: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """A command inside the machine, as root and past SSH: it works with the network down, too.

        It is in no unit of the machine's systemd; for a process that is, use ``systemd-run`` or `ssh`.
        """
        return self._finished(self.command(argv, env), argv, check, timeout, input)

    def command(
        self, argv: Sequence[str | os.PathLike[str]], env: Mapping[str, str] | None = None
    ) -> list[str]:
        """The command on this machine that runs ``argv`` inside, for a `subprocess.Popen` of one's own."""
        leader = self.machines.ask("leader", name=self.name)
        if leader is None:
            raise LabError(f"the machine {self.name} is off")
        settings = {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", **(env or {})}
        return [
            *self.machines.enter("--mount", "--pid"),
            *("nsenter", "--target", f"{leader}", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"),
            *("--root", "--wd", "env", "-i", *(f"{name}={value}" for name, value in settings.items())),
            *(os.fspath(item) for item in argv),
        ]

    def ssh(
        self,
        argv: Sequence[str],
        *,
        check: bool = True,
        timeout: float = 60.0,
        input: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """A command over SSH, as Ansible would run it."""
        command = [str(self.machines.folder / "bin/ssh"), *self.machines.ssh_options, f"root@{self.address}"]
        return self._finished([*command, shlex.join(argv)], argv, check, timeout, input)

    def _finished(
        self,
        command: list[str],
        argv: Sequence[str | os.PathLike[str]],
        check: bool,
        timeout: float,
        input: str | None,
    ) -> subprocess.CompletedProcess[str]:
        done = finished(command, timeout=timeout, input=input, cwd="/")
        if check and done.returncode:
            shown = f"{self.name}: {shlex.join(os.fspath(item) for item in argv)}"
            said = (done.stderr.strip() or done.stdout.strip())[-2000:]
            raise LabError(f"{shown} ended with {done.returncode}: {said}")
        return done

    def read(self, path: str) -> str:
        return self.run(["cat", path]).stdout

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """A file inside, and the folders it lies in."""
        script = 'mkdir -p "${0%/*}" && cat >"$0" && chmod "$1" "$0"'
        self.run(["sh", "-c", script, path, f"{mode:o}"], input=text)

    def exists(self, path: str) -> bool:
        return self.run(["test", "-e", path], check=False).returncode == 0

    def journal(self, unit: str | None = None) -> str:
        """What was logged since the boot, of one unit or of all."""
        only = [f"--unit={unit}"] if unit else []
        return self.journalctl("--boot", "--output=short-monotonic", *only)

    def journalctl(self, *arguments: str) -> str:
        """What journalctl says, once all that was logged until now has arrived."""
        self.run(["journalctl", "--sync"])
        return self.run(["journalctl", "--no-pager", *arguments]).stdout

    # ---- power and network ----

    def boot(self, *, wait: bool = True) -> None:
        """Power on; with ``wait`` until SSH answers and all units of the boot are done."""
        if self.running:
            raise LabError(f"the machine {self.name} is on")
        self._start()
        if wait:
            self.wait()

    def _start(self) -> None:
        script = self.folder / "start"
        self.folder.mkdir(exist_ok=True)
        script.write_text(self._script())
        (self.folder / "ended").unlink(missing_ok=True)
        # a connection that was open when the plug was pulled would keep Ansible waiting
        self.machines.control_path(self.name).unlink(missing_ok=True)
        self.machines.ask(
            "spawn",
            name=f"machine-{self.name}",
            argv=["unshare", "--mount", "--propagation", "slave", "sh", str(script)],
            env={},
            log=str(self.machines.folder / "log" / f"machine-{self.name}.log"),
            ready=True,
        )

    def _script(self) -> str:
        nspawn = [
            *("systemd-nspawn", "--quiet", f"--directory={self._overlay}/root"),
            *(f"--machine={self.name}", f"--hostname={self.name}", "--register=no", "--keep-unit"),
            *(f"--network-bridge={self.machines.bridge}", "--capability=CAP_NET_ADMIN", "--link-journal=no"),
            *("--resolv-conf=off", "--timezone=off", "--console=pipe"),
            *(f"--bind={colons(here)}:{there}" for there, here in self._binds()),
            *("--boot", "systemd.log_target=journal", "systemd.show_status=0"),
        ]
        return _START.format(
            name=self.name,
            base=shlex.quote(str(self.machines.base)),
            overlay=shlex.quote(str(self._overlay)),
            seed=shlex.quote(str(self.folder / "seed")),
            ended=shlex.quote(str(self.folder / "ended")),
            somebody_boots=shlex.quote(str(self.folder / "somebody-boots")),
            cgroup=f"{self.machines.cgroup}/{self.name}",
            nspawn=shlex.join(nspawn),
        )

    @property
    def _overlay(self) -> Path:
        """Where the machine's files lie, over the root that all share."""
        return self.machines.folder / "overlay" / self.name

    def _binds(self) -> list[tuple[str, str]]:
        """Path inside and path of ours; outer mount points come before those inside them."""
        return sorted({"/lab/share": str(self.share), **self.binds}.items())

    def wait(self, timeout: float = START_TIMEOUT) -> None:
        """Until SSH answers and the boot has come to its end, well or not.

        Raises:
            LabError: it did not within ``timeout`` seconds; the message has the console's last words.
        """
        deadline = time.monotonic() + timeout
        while not self.machines.ask("knock", address=self.address, port=22):
            if time.monotonic() > deadline or not self.machines.ask("pids").get(f"machine-{self.name}"):
                raise LabError(f"the machine {self.name} does not come up: {self.console[-600:]}")
            time.sleep(0.02)
        left = max(5.0, deadline - time.monotonic())
        self.run(["systemctl", "is-system-running", "--wait"], check=False, timeout=left)

    def reboot(self, *, wait: bool = True) -> None:
        """An orderly reboot, as by its root."""
        before = self.machines.ask("leader", name=self.name)
        self.run(["systemctl", "reboot"], check=False)
        self._until(lambda: self.machines.ask("leader", name=self.name) not in (before, None), "reboot")
        if wait:
            self.wait()

    def shutdown(self) -> None:
        """An orderly end, as by its root; `boot` brings it back with its files."""
        self.run(["systemctl", "poweroff"], check=False)
        self._until(lambda: not self.machines.ask("pids").get(f"machine-{self.name}"), "power off")
        self.machines.ask("stop_machine", name=self.name)

    def power_off(self) -> None:
        """The plug is pulled: every process ends at once; `boot` brings it back with its files."""
        self.machines.ask("stop_machine", name=self.name)

    def unplug(self) -> None:
        """The network cable is pulled: packets are lost, connections stay open and say nothing."""
        self.machines.ask("link", name=self.name, up=False)

    def plug(self) -> None:
        self.machines.ask("link", name=self.name, up=True)

    def _until(self, condition: Any, what: str) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while not condition():
            if time.monotonic() > deadline:
                raise LabError(f"the machine {self.name} does not {what}: {self.console[-600:]}")
            time.sleep(0.02)
