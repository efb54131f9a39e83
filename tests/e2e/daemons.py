# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role ``virtio_disk_backend`` on the board, and the daemons that its launchers start for guests."""

from __future__ import annotations

import json
import subprocess
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .board import CMDLINE
from .site import Site
from .trees import domids

#: Where a backend's daemons run: its machine's name for SSH.
MACHINES = {"Domain-0": "dom0", "DomD": "domd"}
#: Seconds for what takes moments on a board.
PATIENCE = 240.0
#: Of guests that are made and taken away while the emulator is busy.
OPTIONS = {"create_timeout": 300, "wait_timeout": 60}
#: libxl waits ten seconds for a backend, which nothing can set (LIBXL_INIT_TIMEOUT, tools/libs/light/libxl_internal.h).
#: A board's daemon starts in a tenth of one. An emulator that has to share its processors needs more, now and then.
TOO_LATE = "no daemon took the disk up within libxl's 10 s"
ATTEMPTS = 3
#: On a machine where daemons run.
_JOURNAL = """\
uptime
timeout 10 sleep 0.1 && echo 'timers work'
virtio-disk-launcher --status
systemctl list-units --all --no-pager 'virtio-disk*'
journalctl --no-pager --output=short-precise --lines=60 --unit='virtio-disk*'
"""


def role(site: Site, hosts: str, *arguments: str, **variables: Any) -> None:
    """A run of the role on some hosts of the inventory; ``arguments`` are more of ansible-playbook's."""
    play = site.folder / "backend.yml"
    play.write_text(
        json.dumps([{"hosts": hosts, "gather_facts": False, "roles": ["xen.virtio.virtio_disk_backend"]}])
    )
    done = site.ansible("ansible-playbook", str(play), "-e", json.dumps(variables), *arguments)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def until(what: str, holds: Callable[[], bool], patience: float = PATIENCE) -> None:
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline, f"not within {patience:.0f} s: {what}"
        time.sleep(1)


class Daemons:
    """What serves some guests' disks; ``backends`` has each guest's backend. All disks here are their first."""

    def __init__(self, site: Site, backends: Mapping[str, str]) -> None:
        self.site = site
        self.backends = dict(backends)

    @property
    def names(self) -> list[str]:
        return list(self.backends)

    def machines(self) -> list[str]:
        """Where daemons run: names for SSH."""
        return sorted({MACHINES[backend] for backend in self.backends.values()})

    def everywhere(self, command: str) -> list[str]:
        """A shell command where daemons run; what it printed there."""
        return [self.site.board.run(command, name=machine).stdout for machine in self.machines()]

    def on(self, name: str, command: str) -> str:
        """A shell command where a guest's daemon runs."""
        ran: subprocess.CompletedProcess[str] = self.site.board.run(
            command, name=MACHINES[self.backends[name]]
        )
        return ran.stdout

    def pids(self, name: str) -> str:
        """Of the view and the daemon of a guest's first disk, and whether they live."""
        unit = f"virtio-disk@{domids(self.site.board)[name]}-51712.service"
        return self.on(name, f"systemctl show --property=MainPID --property=ActiveState {unit}")

    def all_pids(self, names: Iterable[str]) -> dict[str, str]:
        return {name: self.pids(name) for name in names}

    def served(self) -> list[int]:
        """The domids of the guests that the launchers serve, by what they say themselves."""
        found: set[int] = set()
        for text in self.everywhere("virtio-disk-launcher --status --json"):
            found |= {disk["domid"] for disk in json.loads(text)["disks"] if disk["status"] == "served"}
        return sorted(found)

    def kill_launchers(self) -> None:
        self.everywhere("systemctl kill --signal=KILL virtio-disk-launcher.service")

    def new_launchers(self, hosts: str, variables: Mapping[str, Any]) -> None:
        """The role has another unit for them, so it restarts them."""
        parts = ("--tags", "install,launcher")
        role(self.site, hosts, *parts, **variables, virtio_disk_backend_unit_options={"launcher_nice": 5})
        self.everywhere("systemctl show virtio-disk-launcher.service | grep -x Nice=5")

    def make(self, wishes: Iterable[Mapping[str, Any]], **options: Any) -> dict[str, Any]:
        """Guests in one call of ``xen.virtio.guest``; where it was only too slow for libxl, in one more."""
        asked = {"guests": [*wishes], **OPTIONS, **options}
        for attempt in range(1, ATTEMPTS + 1):
            before = self.site.board.waited()
            made = self.site.module("xen.virtio.guest", asked)
            if not made["failed"]:
                break
            told = f"{made['msg']}\n{self.journals()}"
            assert TOO_LATE in made["msg"], told
            assert attempt < ATTEMPTS, told
            waited = self.site.board.waited() - before
            warnings.warn(
                f"Guests are made again. The emulator had waited {waited:.0f} s for processors.\n{told}",
                stacklevel=2,
            )
            until("all launchers are ready", self.ready)
        return made

    def ready(self) -> bool:
        """Whether the launchers would start daemons."""
        return all(": ready" in text for text in self.everywhere("virtio-disk-launcher --status | head -n 1"))

    def journals(self) -> str:
        """What there is to know where daemons run, and how Xen's processors are used."""
        told = [self._told("dom0", "xl vcpu-list; uptime")]
        told += [self._told(machine, _JOURNAL) for machine in self.machines()]
        return "\n".join(told)

    def _told(self, machine: str, command: str) -> str:
        try:
            ran = self.site.board.run(command, name=machine, check=False, timeout=60)
        except subprocess.TimeoutExpired as late:
            return (
                f"--- {machine}: no end of this within {late.timeout:.0f} s: {(late.stdout or b'').decode()}"
            )
        return f"--- {machine}\n{ran.stdout}{ran.stderr}"

    def remove(self) -> None:
        gone = {name: {"state": "absent"} for name in self.names}
        options = {"shutdown_timeout": 240, "force_destroy": True}
        removed = self.site.module("xen.virtio.guest", {"guests": gone, **options})
        assert not removed["failed"], removed["msg"]


def wish(
    name: str, disks: list[dict[str, Any]], *, cmdline: str = CMDLINE, cpus: str = "3"
) -> dict[str, Any]:
    """A small guest as ``xen.virtio.guest`` takes it."""
    return {
        "name": name,
        "memory": 64,
        "vcpus": 1,
        "cpus": cpus,
        "kernel": "/root/guest/kernel",
        "ramdisk": "/root/guest/ramdisk",
        "cmdline": cmdline,
        "disks": disks,
    }
