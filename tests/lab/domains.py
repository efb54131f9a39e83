# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Domains of a lab host: the hypervisor's record of them, and the nodes a toolstack writes for them."""

from __future__ import annotations

import fcntl
import json
import os
import struct
import time
import uuid as uuids
from pathlib import Path
from typing import NamedTuple

from . import wire
from .errors import LabError

PORT_VIRQ = 1  # LAB_PORT_VIRQ of shim/hypervisor.h
FIRST_RESERVED = 0x7FF0  # DOMID_FIRST_RESERVED, xen/include/public/xen.h

# GUEST_MAGIC_BASE (xen/include/public/arch-arm.h), second page: where init-dom0less puts the ring.
DOM0LESS_RING = (0x39000000 >> 12) + 1
DOM0LESS_MEMORY_KIB = 262144


class Domain(NamedTuple):
    domid: int
    uuid: uuids.UUID
    flags: str  # of h hvm or pvh, p paused, s shut down, c crashed, d dying

    @property
    def paused(self) -> bool:
        return "p" in self.flags


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
        self.store(Domain(0, uuids.UUID(int=0), ""))

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
        fresh.write_text(f"{domain.uuid.hex} {domain.flags or '-'}\n")
        fresh.rename(self.folder / f"domains/{domain.domid}")

    def get(self, domid: int) -> Domain | None:
        try:
            text = (self.folder / f"domains/{domid}").read_text()
        except FileNotFoundError:
            return None
        uuid, _unused, flags = text.strip().partition(" ")
        return Domain(domid, uuids.UUID(uuid), flags.replace("-", ""))

    def known(self, domid: int) -> Domain:
        domain = self.get(domid) if domid else None
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

    def set_flag(self, domid: int, flag: str, on: bool) -> None:
        domain = self.known(domid)
        flags = domain.flags.replace(flag, "") + (flag if on else "")
        self.store(domain._replace(flags=flags))

    def destroy(self, domid: int) -> None:
        self.known(domid)
        (self.folder / f"domains/{domid}").unlink()
        self.raise_virq()

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
