# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines that are a dom0 and driver domains: insides of what a lab host is the outside of."""

from __future__ import annotations

import os
import shutil
import stat
import threading
from pathlib import Path

from . import build, namespace
from .domains import Domain
from .errors import LabError
from .host import LabHost
from .machines import Machine, Machines

#: Devices of Xen beside the store that a daemon opens; nothing is behind them here.
PLACEHOLDERS = ("evtchn", "gntdev", "privcmd")
STORE = ".store"  # below /dev/xen of the machine: the folder of the host's views
SHIM = "/usr/local/lib/lab/device.so"
LOOK = 0.05  # seconds between two looks at what became of a domain


def devices(machines: Machines, machine: str) -> Path:
    """A folder to be a machine's /dev/xen, with character devices that swallow all and answer nothing."""
    folder = machines.folder / f"{machine}.dev"
    (folder / STORE).mkdir(parents=True, exist_ok=True)
    null = os.stat("/dev/null").st_rdev
    for name in PLACEHOLDERS:
        if not (folder / name).exists():
            os.mknod(folder / name, stat.S_IFCHR | 0o600, null)
    return folder


class DriverDomain:
    """A domain of a lab host, and the machine that is its inside.

    In the machine /dev/xen/xenbus is the domain's own view of the store (a socket: `device` makes it look
    like the character device), so permissions and quotas are those of the domain.
    """

    def __init__(self, host: LabHost, machines: Machines, name: str, machine: str) -> None:
        self.host = host
        self.machines = machines
        self.name = name
        self.domid = 0
        self._machine = machine
        self._follower: threading.Thread | None = None
        self._unfollow = threading.Event()
        self._trouble: Exception | None = None

    @property
    def machine(self) -> Machine:
        return self.machines[self._machine]

    @property
    def path(self) -> str:
        """Of the domain in the store."""
        return f"/local/domain/{self.domid}"

    @property
    def device(self) -> dict[str, str]:
        """Environment for a program in the machine: its /dev/xen/xenbus is opened, one message a write."""
        return {"LD_PRELOAD": SHIM, "XEN_LAB_XENBUS": "/dev/xen/xenbus"}

    # ---- the machine ----

    def start(self, *, wait: bool = True, files: dict[str, str] | None = None) -> DriverDomain:
        """Create the domain with xl and boot the machine.

        The host's fake backends play xenconsoled for it, and serve no disk unless told (`backend_behaves`).
        """
        self.host.backend_behaves("never")
        self.host.answer_backends()
        (self.host.folder / "views").mkdir(exist_ok=True)
        machine = self.machines.add(
            self._machine,
            binds={
                "/dev/xen": devices(self.machines, self._machine),
                f"/dev/xen/{STORE}": self.host.folder / "views",
                SHIM: build.shims(self.host.xen).device,
            },
            files=files,
            boot=False,
        )
        self.create()
        machine.boot(wait=wait)
        return self

    def end(self) -> None:
        """The machine is gone; the domain goes with its host."""
        try:
            self.unfollow()
        finally:
            if self._machine in self.machines.machines:
                self.machines.remove(self._machine)
            shutil.rmtree(self.machines.folder / f"{self._machine}.dev", ignore_errors=True)

    # ---- the domain ----

    @property
    def config(self) -> str:
        """xl's configuration of the domain, as dom0 has it."""
        return f"/etc/xen/{self.name}.cfg"

    def create(self) -> None:
        """``xl create``: a domain of this name with the next domid; its view is the machine's from now on."""
        settings = {"name": self.name, "type": "pvh", "kernel": self.host.kernel, "memory": 256}
        text = "".join(f"{key} = {value!r}\n" for key, value in settings.items())
        (self.host.root / self.config.lstrip("/")).write_text(text + "driver_domain = 1\n")
        self.host.xl("create", self.config)
        self.attach()

    def attach(self) -> None:
        """Give the machine the view of the domain that has the name now, or again after xenstored restarted.

        Raises:
            LabError: no domain has it.
        """
        domain = self._domain()
        if domain is None:
            raise LabError(f"no domain of the lab host is named {self.name}")
        self.domid = domain.domid
        for feature in ("poweroff", "reboot"):  # its kernel would say so
            self.host.write(f"{self.path}/control/feature-{feature}", "1")
        view = Path(self.host.domain_view(self.domid)).name
        link = devices(self.machines, self._machine) / "xenbus"
        fresh = link.with_name(".xenbus")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(f"{STORE}/{view}")
        fresh.replace(link)

    def _domain(self) -> Domain | None:
        """The domain that lives under the name."""
        for domain in self.host.hypervisor.domains()[1:]:
            name = self.host.read(f"/local/domain/{domain.domid}/name")
            if not domain.dying and name == self.name.encode():
                return domain
        return None

    def destroy(self) -> None:
        """``xl destroy``: the machine's power is gone at that moment."""
        self.machine.power_off()
        self.host.xl("destroy", f"{self.domid}")

    def restart(self, *, wait: bool = True) -> None:
        """Destroyed and created anew: it has another domid, and none of its guests is attached to it."""
        self.destroy()
        self.create()
        self.machine.boot(wait=wait)

    # ---- both ----

    def follow(self) -> None:
        """From now on machine and domain are one, whoever does something to either.

        A domain that is destroyed takes the machine's power, ``xl shutdown`` and ``xl reboot`` are passed
        on, a new domain of the name boots the machine; a machine that powers off or reboots shuts the
        domain down, so that xl's daemon destroys it, or creates it anew with another domid.
        """
        if self._follower is not None:
            return
        self.machine.reboots_itself(False)
        if "guests" in self.host.ask("pids"):
            self.host.guest_answers("ignore", self.name)  # the machine takes note, not the stand-in
        self._unfollow.clear()
        self._follower = threading.Thread(target=self._follow, name=f"follow {self.name}", daemon=True)
        self._follower.start()

    def unfollow(self) -> None:
        if self._follower is None:
            return
        self._unfollow.set()
        self._follower.join()
        self._follower = None
        self.machine.reboots_itself(True)
        if self._trouble is not None:
            raise self._trouble

    def _follow(self) -> None:
        try:
            while not self._unfollow.wait(LOOK):
                try:
                    self._look()
                except (ConnectionError, FileNotFoundError):
                    continue  # xenstored, or the domain, is gone this very moment
        except Exception as error:
            self._trouble = error

    def _look(self) -> None:
        domain = self._domain()
        on = f"machine-{self._machine}" in self.machines.ask("pids")
        if domain is None or domain.domid != self.domid:
            if on:
                self.machine.power_off()
            if domain is not None and not domain.paused and domain.shutdown is None:
                self.attach()
                self.machine.boot(wait=False)
            return
        if domain.shutdown is not None:
            if on:
                self.machine.power_off()
            return
        ended = self.machine.ended
        if ended is not None:
            self.host.hypervisor.shut_down(self.domid, ended)
            return
        asked = self.host.read(f"{self.path}/control/shutdown")
        if asked in {b"poweroff", b"halt", b"reboot"} and self.machine.running:
            self.host.write(f"{self.path}/control/shutdown", "")
            self.machine.run(["systemctl", "reboot" if asked == b"reboot" else "poweroff"], check=False)


class Dom0:
    """A machine that is dom0 of a lab host: its xl, its store, /etc/xen, /var/lib/xen and /var/log/xen.

    What runs in the machine is dom0's as much as what `LabHost.run` runs; guests that are created in the
    machine have their xl daemons there, and lose them when it reboots.
    """

    domid = 0
    path = "/local/domain/0"  # in the store

    def __init__(self, host: LabHost, machines: Machines, machine: str = "dom0") -> None:
        self.host = host
        self.machines = machines
        self._machine = machine

    @property
    def machine(self) -> Machine:
        return self.machines[self._machine]

    def start(self, *, wait: bool = True, files: dict[str, str] | None = None) -> Dom0:
        """Boot the machine; the host runs already."""
        host = self.host
        toolstack = build.shims(host.xen).toolstack
        same = [host.hypervisor.folder, toolstack.parent, Path(host.kernel)]
        same += [] if host.xen.native else [host.xen.prefix]
        own = ("run/xenstored", "run/xen", "etc/xen", "var/lib/xen", "var/log/xen")
        machine = self.machines.add(
            self._machine,
            binds={
                "/dev/xen": devices(self.machines, self._machine),
                **{f"/{name}": host.root / name for name in own},
                **{str(path): path for path in same},
            },
            files=files,
            boot=False,
        )
        seed = machine.folder / "seed"
        script = namespace.tool_script(host.xen, toolstack, host.hypervisor.folder)
        namespace.install_tools(seed, script)
        namespace.write_script(seed / "usr/lib/xen-common/bin/xen-utils-wrapper", script)
        machine.boot(wait=wait)
        return self

    def end(self) -> None:
        if self._machine in self.machines.machines:
            self.machines.remove(self._machine)
        shutil.rmtree(self.machines.folder / f"{self._machine}.dev", ignore_errors=True)

    def reboot(self, *, wait: bool = True) -> None:
        """A power cycle of the whole host: the store is empty, no domain is there, domids count from 1 again."""
        self.machine.power_off()
        self.host.power_off()
        self.host.power_on()
        self.machine.boot(wait=wait)
