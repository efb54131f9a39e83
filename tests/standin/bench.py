# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A driver domain of a lab host with virtio-disk daemons in it, and guests whose disks are written by hand."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from pathlib import Path

from lab import LabError, LabHost, wire

from . import environment

KIND = "virtio_disk"


class Daemon:
    """One that runs; ended with the bench it belongs to."""

    def __init__(self, command: list[str], settings: dict[str, str]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self.process = subprocess.Popen(
            command, env=settings, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._errors
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, timeout: float = 30.0) -> int:
        return self.process.wait(timeout)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def said(self) -> str:
        """All of its standard error so far."""
        size = os.fstat(self._errors.fileno()).st_size
        return os.pread(self._errors.fileno(), size, 0).decode()

    def holds(self, target: Path) -> list[int]:
        """How it has the target open: the access modes (os.O_RDWR, …) of its descriptors."""
        wanted, modes = target.stat(), []
        for entry in os.listdir(f"/proc/{self.pid}/fd"):
            try:
                status = os.stat(f"/proc/{self.pid}/fd/{entry}")
                facts = Path(f"/proc/{self.pid}/fdinfo/{entry}").read_text()
            except OSError:  # closed since
                continue
            if os.path.samestat(status, wanted):
                flags = next(line for line in facts.splitlines() if line.startswith("flags:"))
                modes.append(int(flags.split()[1], 8) & os.O_ACCMODE)
        return modes

    def rests(self) -> bool:
        """Whether it waits for something to happen, and there is nothing that did."""
        for _again in range(3):
            if "poll_schedule_timeout" not in Path(f"/proc/{self.pid}/wchan").read_text():
                return False
            time.sleep(0.01)
        return True

    def ticks(self) -> int:
        """The CPU time it used, in clock ticks."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    def close(self) -> None:
        if self.running:
            self.kill()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._errors.close()


class Bench:
    """A context manager: the driver domain DomD of a lab host, and what runs in it."""

    def __init__(self, host: LabHost, program: Path, log: Path | None = None) -> None:
        self.host = host
        self.program = program
        self.log = log
        self.domid = host.add_domain(name="DomD", kind="toolstack")
        self.top = f"/local/domain/{self.domid}/backend/{KIND}"
        self._daemons: list[Daemon] = []
        self._guests: list[int] = []

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_error: object) -> None:
        for daemon in self._daemons:
            daemon.close()
        for domid in filter(None, (*self._guests, self.domid)):
            with contextlib.suppress(LabError):  # gone already
                self.host.kill_domain(domid)

    @property
    def view(self) -> str:
        """The driver domain's own view of the store."""
        return self.host.domain_view(self.domid)

    def start(self, *arguments: str, store: str | None = None, **settings: str) -> Daemon:
        """A daemon with this command line; ``store``: another socket than the domain's own view."""
        log = {} if self.log is None else {"VIRTIO_DISK_STANDIN_LOG": str(self.log)}
        own = {"XENSTORED_PATH": store or self.view, **log, **environment(self.program)}
        daemon = Daemon([str(self.program), *arguments], {**os.environ, **own, **settings})
        self._daemons.append(daemon)
        return daemon

    # ---- guests ----

    def guest(self, domid: int | None = None) -> int:
        """A domain without disks; its domid."""
        self._guests.append(self.host.add_domain(kind="toolstack", domid=domid))
        return self._guests[-1]

    def plug(self, guest: int, devid: int, target: Path | str, mode: str = "w", **other: str) -> None:
        """A disk as libxl writes it (libxl_device.c, libxl_disk.c), in one transaction.

        ``other``: values of the backend's nodes that shall be different.
        """
        back, front = self.backend(guest, devid), self.frontend(guest, devid)
        nodes = {
            "frontend": front,
            "params": str(target),
            "frontend-id": str(guest),
            "online": "1",
            "removable": "0",
            "bootable": "1",
            "state": "1",
            "dev": "xvda",
            "type": "standalone",
            "mode": mode,
            "device-type": "disk",
            "discard-enable": "0",
            "specification": "virtio",
            "transport": "mmio",
            "base": "33554432",
            "irq": "33",
        } | other
        with self.host.store() as client:

            def work(tx: int) -> None:
                self._directory(client, tx, front, (f"n{guest}", f"r{self.domid}"))
                for name, value in (("backend", back), ("backend-id", str(self.domid)), ("state", "1")):
                    client.write(f"{front}/{name}", value, tx)
                self._directory(client, tx, back, (f"n{self.domid}", f"r{guest}"))
                for name, value in nodes.items():
                    client.write(f"{back}/{name}", value, tx)

            client.transaction(work)

    @staticmethod
    def _directory(client: wire.Client, tx: int, path: str, permissions: tuple[str, str]) -> None:
        client.remove(path, tx)
        client.mkdir(path, tx)
        client.set_permissions(path, permissions, tx)

    def unplug(self, guest: int, devid: int) -> None:
        """As libxl begins with the end of a disk, in one transaction: the frontend goes, the backend's state is 5."""
        back = self.backend(guest, devid)
        with self.host.store() as client:

            def work(tx: int) -> None:
                client.remove(self.frontend(guest, devid), tx)
                if client.read(f"{back}/state", tx) is not None:
                    client.write(f"{back}/online", "0", tx)
                    client.write(f"{back}/state", "5", tx)

            client.transaction(work)

    def touch(self) -> None:
        """A write to the directory of all guests itself, which nobody but a test ever does."""
        self.host.write(self.top, "")

    # ---- the store ----

    def backend(self, guest: int, devid: int) -> str:
        return f"{self.top}/{guest}/{devid}"

    def frontend(self, guest: int, devid: int) -> str:
        return f"/local/domain/{guest}/device/{KIND}/{devid}"

    def state(self, guest: int, devid: int) -> int | None:
        """The backend's state; None where there is none."""
        text = self.host.read(f"{self.backend(guest, devid)}/state")
        return None if text is None else int(text)

    def directory(self, guest: int) -> list[str] | None:
        """The devids of a guest's disks; None where it has no directory."""
        with self.host.store() as client:
            return client.directory(f"{self.top}/{guest}")
