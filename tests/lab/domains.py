# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Domains of a lab host: the hypervisor's record of them, and the nodes a toolstack writes for them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import struct
import time
import uuid as uuids
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from . import wire
from .errors import LabError

PORT_VIRQ = 1  # LAB_PORT_VIRQ of shim/hypervisor.h
FIRST_RESERVED = 0x7FF0  # DOMID_FIRST_RESERVED, xen/include/public/xen.h

# GUEST_MAGIC_BASE (xen/include/public/arch-arm.h), second page: where init-dom0less puts the ring.
DOM0LESS_RING = (0x39000000 >> 12) + 1
DOM0LESS_MEMORY_KIB = 262144


DOM0_MEMORY_KIB = 1024 << 10
XEN_MEMORY_KIB = 64 << 10  # what the hypervisor keeps for itself
TOTAL_KIB = 32 << 20  # LAB_TOTAL_KIB of shim/hypervisor.h
CPUS = 4  # of shim/toolstack.c

# SHUTDOWN_* of xen/include/public/sched.h
REASONS = {"poweroff": 0, "reboot": 1, "suspend": 2, "crash": 3, "watchdog": 4, "soft_reset": 5}


class Domain(NamedTuple):
    domid: int
    uuid: uuids.UUID
    flags: str  # of h hvm or pvh, p paused, s shut down, k stays dying when destroyed, d dying
    mem: int = DOM0LESS_MEMORY_KIB  # KiB it has
    max: int = DOM0LESS_MEMORY_KIB  # KiB it may have
    vcpus: int = 1
    online: int = 1
    reason: int = 0  # of a shutdown, see REASONS

    @property
    def paused(self) -> bool:
        return "p" in self.flags

    @property
    def shutdown(self) -> str | None:
        """Why it shut down, None while it did not."""
        names = {number: name for name, number in REASONS.items()}
        return names[self.reason] if "s" in self.flags else None

    @property
    def dying(self) -> bool:
        return "d" in self.flags


NUMBERS = ("mem", "max", "vcpus", "online", "reason")
# With dom0_mem= xl leaves dom0's memory alone (auto_autoballoon(), tools/xl/xl.c).
COMMANDLINE = f"placeholder dom0_mem={DOM0_MEMORY_KIB >> 10}M,max:{DOM0_MEMORY_KIB >> 10}M"


class Hypervisor:
    """The folder that shim/hypervisor.h describes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create(self) -> None:
        for name in ("domains", "ring", "kick"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "dom0_port").write_text("1")
        (self.folder / "dom0_ring").write_bytes(bytes(4096))
        os.mkfifo(self.folder / "evtchn", 0o600)
        (self.folder / "taken").write_text(f"{XEN_MEMORY_KIB}\n")
        self.set_commandline(COMMANDLINE)
        self.store(Domain(0, uuids.UUID(int=0), "", DOM0_MEMORY_KIB, DOM0_MEMORY_KIB, CPUS, CPUS))

    def reset(self) -> None:
        """All domains but dom0 end at once, as at a power cut; ids count from 1 again."""
        (self.folder / "next_domid").unlink(missing_ok=True)
        for domain in self.domains()[1:]:
            (self.folder / f"domains/{domain.domid}").unlink(missing_ok=True)
        self.forget_rings()

    def forget_rings(self) -> None:
        for name in ("ring", "kick"):
            for path in (self.folder / name).iterdir():
                path.unlink()
        with open(self.folder / "evtchn", "rb+", buffering=0) as channel:
            os.set_blocking(channel.fileno(), False)
            while channel.read(65536):
                pass
        (self.folder / "dom0_ring").write_bytes(bytes(4096))

    def store(self, domain: Domain) -> None:
        fresh = self.folder / f"domains/.{domain.domid}.py{os.getpid()}"
        numbers = " ".join(f"{name}={getattr(domain, name)}" for name in NUMBERS)
        fresh.write_text(f"{domain.uuid.hex} {domain.flags or '-'} {numbers}\n")
        fresh.rename(self.folder / f"domains/{domain.domid}")

    def get(self, domid: int) -> Domain | None:
        try:
            text = (self.folder / f"domains/{domid}").read_text()
        except FileNotFoundError:
            return None
        uuid, flags, *numbers = text.split()
        values = {name: int(value) for name, _unused, value in (item.partition("=") for item in numbers)}
        return Domain(domid, uuids.UUID(uuid), flags.replace("-", ""), **values)

    def known(self, domid: int, *, of_dom0: bool = False) -> Domain:
        domain = self.get(domid) if domid or of_dom0 else None
        if domain is None:
            raise LabError(f"no domain {domid} here; there are {[d.domid for d in self.domains()[1:]]}")
        return domain

    def domains(self) -> list[Domain]:
        """All that live, dom0 first."""
        names = (path.name for path in (self.folder / "domains").iterdir())
        found = (self.get(domid) for domid in sorted(int(name) for name in names if name.isdigit()))
        return [domain for domain in found if domain is not None]

    def next_domid(self, wanted: int | None = None) -> int:
        """A domid never used before since this host's boot; ``wanted`` is refused where it was."""
        with open(self.folder / "next_domid", "a+", encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            lowest = int(file.read() or 1)
            domid = lowest if wanted is None else wanted
            if not lowest <= domid < FIRST_RESERVED:
                raise LabError(
                    f"domid {domid} cannot be had: ids below {lowest} were used, {FIRST_RESERVED} is the end"
                )
            file.truncate(0)
            file.write(f"{domid + 1}\n")
            return domid

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """While a domain's record is read, changed and written: the shims do so too."""
        with open(self.folder / "lock", "a", encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def change(self, domid: int, **values: int | str) -> None:
        with self.locked():
            self.store(self.known(domid, of_dom0=True)._replace(**values))  # type: ignore[arg-type]

    def set_flag(self, domid: int, flag: str, on: bool) -> None:
        with self.locked():
            domain = self.known(domid)
            flags = domain.flags.replace(flag, "") + (flag if on else "")
            self.store(domain._replace(flags=flags))

    def shut_down(self, domid: int, reason: str) -> None:
        """The guest told Xen that it is off, or crashed: its vCPUs stop, its memory stays."""
        with self.locked():
            domain = self.known(domid)
            flags = domain.flags.replace("s", "") + "s"
            self.store(domain._replace(flags=flags, reason=REASONS[reason]))
        self.raise_virq()

    def destroy(self, domid: int) -> None:
        self.known(domid)
        (self.folder / f"domains/{domid}").unlink()
        self.raise_virq()

    def free_kib(self) -> int:
        taken = int((self.folder / "taken").read_text())
        return max(0, TOTAL_KIB - taken - sum(domain.mem for domain in self.domains()))

    def set_free_kib(self, kib: int) -> None:
        """So much is free now; what no domain has belongs to nobody."""
        used = sum(domain.mem for domain in self.domains())
        (self.folder / "taken").write_text(f"{TOTAL_KIB - used - kib}\n")

    def set_commandline(self, text: str) -> None:
        (self.folder / "commandline").write_text(f"{text}\n")

    def raise_virq(self) -> None:
        """VIRQ_DOM_EXC: xenstored looks which domains are still there."""
        with open(self.folder / "evtchn", "rb+", buffering=0) as channel:
            channel.write(struct.pack("=I", PORT_VIRQ))


# ---- what init-dom0less of Xen 4.17 and later does (tools/helpers/init-dom0less.c) ----


def dom0less_nodes(domid: int, uuid: uuids.UUID, name: str) -> list[tuple[str, str, bool]]:
    """(path, value, whether it is given ``n<domid>,r0``) in init-dom0less's order, for a guest of one vCPU.

    Guests of several vCPUs are not modelled: init-dom0less writes ``cpu/0/availability/`` for them, a
    path with a trailing slash, which xenstored refuses.
    """
    now = time.time()
    vm = f"/vm/{uuid}"
    here = f"/local/domain/{domid}"
    own = {
        "vm": vm.lstrip("/"),
        "name": name,
        "cpu": "",
        "memory": "",
        "memory/static-max": f"{DOM0LESS_MEMORY_KIB}",
        "memory/target": f"{DOM0LESS_MEMORY_KIB}",
        "memory/videoram": "-1",
        "device": "",
        "device/suspend": "",
        "device/suspend/event-channel": "",
        "control": "",
        "control/shutdown": "",
        "control/feature-poweroff": "1",
        "control/feature-reboot": "1",
        "control/feature-suspend": "",
        "control/sysrq": "",
        "control/platform-feature-multiprocessor-suspend": "1",
        "control/platform-feature-xs_reset_watches": "1",
        "domid": f"{domid}",
        "data": "",
        "drivers": "",
        "feature": "",
        "attr": "",
        "store/port": "1",
        "store/ring-ref": f"{DOM0LESS_RING}",
    }
    return [
        (f"{vm}/name", name, False),
        (f"{vm}/uuid", f"{uuid}", False),
        (f"{vm}/start_time", f"{int(now)}.{int(now * 100) % 100:02d}", False),
        *((f"{here}/{path}", value, True) for path, value in own.items()),
        (f"/libxl/{domid}/type", "pvh", False),
        (f"/libxl/{domid}/dm-version", "qemu_xen", False),
    ]


def write_dom0less(client: wire.Client, domid: int, uuid: uuids.UUID, name: str) -> None:
    def work(tx: int) -> None:
        for path, value, owned in dom0less_nodes(domid, uuid, name):
            client.write(path, value, tx)
            if owned:
                client.set_permissions(path, [f"n{domid}", "r0"], tx)

    client.transaction(work)
    introduce(client, domid, DOM0LESS_RING)


def dom0less_userdata(uuid: uuids.UUID) -> bytes:
    """The stub record init-dom0less stores (tools/helpers/init-dom-json.c): a type and a uuid, no name.

    The text is what libxl's generator prints for a configuration with nothing else set, the NUL included.
    """
    empty: dict[str, object] = {}
    stub = {
        "c_info": {"type": "pvh", "uuid": f"{uuid}"},
        "b_info": {"sched_params": empty, "type.pvh": empty, "arch_arm": empty, "arch_x86": empty},
    }
    text = json.dumps(stub, indent=4).replace("{}", "{\n\n        }")  # as yajl prints an empty map
    return text.encode() + b"\n\0"


# ---- another toolstack's domain: nodes as libxl's domain creation leaves them, but no record of libxl's ----


def toolstack_nodes(domid: int, uuid: uuids.UUID, name: str) -> list[tuple[str, str, tuple[str, ...]]]:
    """(path, value, permissions) as libxl__domain_make writes them (tools/libs/light/libxl_create.c)."""
    readable, writable, private = ("n0", f"r{domid}"), (f"n{domid}",), ("n0",)
    here, vm = f"/local/domain/{domid}", f"/vm/{uuid}"
    own = [
        ("", "", readable),
        ("/vm", vm, readable),
        ("/name", name, readable),
        ("/cpu", "", readable),
        ("/memory", "", readable),
        ("/device", "", readable),
        ("/device/suspend", "", readable),
        ("/device/suspend/event-channel", "", writable),
        ("/control", "", readable),
        ("/control/shutdown", "", writable),
        ("/control/feature-poweroff", "", writable),
        ("/control/feature-reboot", "", writable),
        ("/control/feature-suspend", "", writable),
        ("/control/sysrq", "", writable),
        ("/control/platform-feature-multiprocessor-suspend", "1", readable),
        ("/control/platform-feature-xs_reset_watches", "1", readable),
        ("/data", "", writable),
        ("/drivers", "", writable),
        ("/feature", "", writable),
        ("/attr", "", writable),
        ("/error", "", writable),
        ("/domid", f"{domid}", readable),
        ("/store", "", readable),
        ("/store/port", "1", readable),
        ("/store/ring-ref", f"{0xFEFFC}", readable),
    ]
    return [
        (vm, "", readable),
        (f"{vm}/name", name, readable),
        (f"{vm}/uuid", f"{uuid}", readable),
        *((f"{here}{path}", value, perms) for path, value, perms in own),
        (f"/libxl/{domid}", "", private),
        (f"/libxl/{domid}/device", "", private),
        (f"/libxl/{domid}/type", "pvh", private),
    ]


def write_toolstack(client: wire.Client, domid: int, uuid: uuids.UUID, name: str) -> None:
    def work(tx: int) -> None:
        for path, value, permissions in toolstack_nodes(domid, uuid, name):
            client.write(path, value, tx)
            client.set_permissions(path, permissions, tx)

    client.transaction(work)
    introduce(client, domid, 0xFEFFC)


def introduce(client: wire.Client, domid: int, frame: int) -> None:
    client.call(wire.INTRODUCE, f"{domid}\0{frame}\0{1}\0".encode())
