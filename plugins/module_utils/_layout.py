# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A virtio disk and the three xenstore trees that describe it, both ways.

libxl describes one disk of guest D (devid N), served by domain B, in three places
(``libxl__device_generic_add`` in tools/libs/light/libxl_device.c, ``device_disk_add`` in libxl_disk.c):

* the record    ``/libxl/D/device/virtio_disk/N``               dom0 only; what the toolstack believes
* the frontend  ``/local/domain/D/device/virtio_disk/N``        owned by the guest, readable by the backend
* the backend   ``/local/domain/B/backend/virtio_disk/D/N``     owned by the backend, readable by the guest

A guest owns its frontend and a driver domain its backend: of the three only the record can be trusted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from ._perms import same_perms

RECORD, FRONTEND, BACKEND = "record", "frontend", "backend"
#: The three trees, in the order in which libxl begins them.
TREES = (RECORD, FRONTEND, BACKEND)

#: XenbusState values (xen/include/public/io/xenbus.h).
STATE_INITIALISING, STATE_INIT_WAIT = "1", "2"
STATE_CLOSING, STATE_CLOSED = "5", "6"

#: Nodes that their owners move on by themselves; a difference there is a state, not drift.
MOVING = {RECORD: frozenset({"state"}), FRONTEND: frozenset({"state"}), BACKEND: frozenset({"state"})}

#: What a node of the record must be for libxl to list the disk (``libxl__disk_from_xenstore``).
DEVICE_KIND = "virtio_disk"


class Branch(NamedTuple):
    """One directory of a disk: its permissions and its nodes, in order."""

    perms: tuple[str, ...] | None  #: owner first, e.g. ``("n5", "r0")``; None where they were not read
    nodes: dict[str, str]  #: name → value
    node_perms: dict[str, tuple[str, ...]]  #: name → permissions; empty where they were not read


@dataclass(frozen=True)
class Attachment:
    """A disk as libxl would write it: every name resolved, every default decided.

    ``base`` is the guest physical address of the virtio-mmio slot in bytes, ``irq`` the SPI's number
    (33…43 where libxl allocates it; 0 for both on x86).
    """

    domid: int
    backend_domid: int
    devid: int
    vdev: str
    target: str
    readonly: bool
    base: int
    irq: int
    cdrom: bool = False
    removable: bool = False
    discard: bool = True
    direct_io_safe: bool = False
    trusted: bool = True
    grant_usage: bool = False

    @property
    def key(self) -> tuple[int, int]:
        """What names a disk on a host: guest and devid."""
        return self.domid, self.devid


@dataclass(frozen=True)
class Schema:
    """Which nodes a Xen release writes for a virtio disk."""

    backend_type: str = "standalone"  #: the ``type`` node; ``virtio_disk`` in the series' sixth version
    specification: bool = True  #: writes ``specification`` and ``transport`` (Xen 4.17)
    grant_usage: bool = True  #: writes ``grant_usage`` (Xen 4.19)


def record_path(domid: int, devid: int) -> str:
    """The record's directory."""
    return f"/libxl/{domid}/device/{DEVICE_KIND}/{devid}"


def frontend_path(domid: int, devid: int) -> str:
    """The frontend's directory."""
    return f"/local/domain/{domid}/device/{DEVICE_KIND}/{devid}"


def backend_path(backend_domid: int, domid: int, devid: int) -> str:
    """The backend's directory."""
    return f"/local/domain/{backend_domid}/backend/{DEVICE_KIND}/{domid}/{devid}"


def paths(disk: Attachment) -> dict[str, str]:
    """The three directories of a disk."""
    return {
        RECORD: record_path(disk.domid, disk.devid),
        FRONTEND: frontend_path(disk.domid, disk.devid),
        BACKEND: backend_path(disk.backend_domid, disk.domid, disk.devid),
    }


_BACKEND_PATH = re.compile(r"/local/domain/(\d{1,5})/backend/" + DEVICE_KIND + r"/(\d{1,5})/(\d{1,10})\Z")


def backend_domid(path: str, domid: int, devid: int) -> int | None:
    """The backend domain that a record's ``backend`` node names, or None where it is not this disk's.

    The path is only taken apart, never followed.
    """
    match = _BACKEND_PATH.match(path)
    if match is None or (int(match[2]), int(match[3])) != (domid, devid):
        return None
    return int(match[1])


def _flag(value: bool) -> str:
    return "1" if value else "0"


def nodes(disk: Attachment, schema: Schema) -> dict[str, dict[str, str]]:
    """The nodes of the three trees, in the order in which libxl writes them."""
    at = paths(disk)
    device_type = "cdrom" if disk.cdrom else "disk"
    listed = {
        "params": disk.target,
        "frontend-id": str(disk.domid),
        "online": "1",
        "removable": _flag(disk.removable),
        "bootable": "1",
        "state": STATE_INITIALISING,
        "dev": disk.vdev,
        "type": schema.backend_type,
        "mode": "r" if disk.readonly else "w",
        "device-type": device_type,
    }
    place = {"base": str(disk.base), "irq": str(disk.irq)}
    if schema.specification:
        if disk.direct_io_safe:
            listed["direct-io-safe"] = "1"
        listed["discard-enable"] = _flag(disk.discard)
        listed.update(specification="virtio", transport="mmio", **place)
        if schema.grant_usage:
            listed["grant_usage"] = _flag(disk.grant_usage)
    else:  # the sixth version put the place directly behind params
        params = listed.pop("params")
        listed = {"params": params, **place, **listed}
        if disk.direct_io_safe:
            listed["direct-io-safe"] = "1"
        listed["discard-enable"] = _flag(disk.discard)
    return {
        RECORD: {"frontend": at[FRONTEND], "backend": at[BACKEND], **listed},
        FRONTEND: {
            "backend": at[BACKEND],
            "backend-id": str(disk.backend_domid),
            "state": STATE_INITIALISING,
            "virtual-device": str(disk.devid),
            "device-type": device_type,
            "trusted": _flag(disk.trusted),
        },
        BACKEND: {"frontend": at[FRONTEND], **listed},
    }


def permissions(disk: Attachment) -> dict[str, tuple[str, ...]]:
    """Who owns and who reads the three directories and all their nodes."""
    return {
        RECORD: ("n0",),
        FRONTEND: _pair(disk.domid, disk.backend_domid),
        BACKEND: _pair(disk.backend_domid, disk.domid),
    }


def _pair(owner: int, reader: int) -> tuple[str, ...]:
    return f"n{owner}", f"r{reader}"


def branches(disk: Attachment, schema: Schema) -> dict[str, Branch]:
    """The three trees as they stand in a store right after libxl wrote them."""
    perms = permissions(disk)
    return {
        tree: Branch(perms[tree], wanted, dict.fromkeys(wanted, perms[tree]))
        for tree, wanted in nodes(disk, schema).items()
    }


class Difference(NamedTuple):
    """One node (or, with an empty name, a directory) that is not as it should be."""

    tree: str
    node: str
    what: str  #: ``value``, ``permissions`` or ``missing``
    wanted: str
    found: str | None


def differences(disk: Attachment, schema: Schema, live: dict[str, Branch | None]) -> list[Difference]:
    """What stands otherwise in the store than libxl would have written it.

    Nodes that we do not know are left out: a later Xen release may write more. ``state`` belongs to
    the two ends. Permissions are compared where they were read.
    """
    found: list[Difference] = []
    perms = permissions(disk)
    for tree, wanted in nodes(disk, schema).items():
        branch = live.get(tree)
        if branch is None:
            found.append(Difference(tree, "", "missing", "present", None))
            continue
        expected = perms[tree]
        if branch.perms not in (None, expected) and not same_perms(branch.perms or (), expected):
            found.append(
                Difference(tree, "", "permissions", ",".join(expected), ",".join(branch.perms or ()))
            )
        moving = MOVING[tree]
        for name, value in wanted.items():
            now = branch.nodes.get(name)
            if now is None:
                found.append(Difference(tree, name, "missing", value, None))
                continue
            if now != value and name not in moving:
                found.append(Difference(tree, name, "value", value, now))
            owned = branch.node_perms.get(name)
            if owned is not None and owned != expected and not same_perms(owned, expected):
                found.append(Difference(tree, name, "permissions", ",".join(expected), ",".join(owned)))
    return found


def schema_of(branch: Branch) -> Schema:
    """The release's shape that a record or backend was written in, as far as its nodes tell."""
    specification = "specification" in branch.nodes
    return Schema(
        backend_type=branch.nodes.get("type", "standalone") if not specification else "standalone",
        specification=specification,
        grant_usage="grant_usage" in branch.nodes,
    )


def attachment(domid: int, devid: int, backend: int, branch: Branch, trusted: str | None) -> Attachment:
    """Read a record (or, where it is lost, a backend) back into a disk.

    Args:
        domid: the guest.
        devid: the disk.
        backend: domid of the backend, taken from a path that we built.
        branch: the record's or the backend's nodes.
        trusted: the frontend's ``trusted`` node, None where there is none.

    Unreadable numbers count as 0: they then show as a difference instead of ending the listing.
    """
    node = branch.nodes.get
    return Attachment(
        domid=domid,
        backend_domid=backend,
        devid=devid,
        vdev=node("dev", ""),
        target=node("params", ""),
        readonly=node("mode", "w") != "w",
        base=number(node("base")),
        irq=number(node("irq")),
        cdrom=node("device-type") == "cdrom",
        removable=node("removable") == "1",
        discard=node("discard-enable", "1") == "1",
        direct_io_safe=node("direct-io-safe") == "1",
        trusted=trusted != "0",
        # Before 4.19 there is no node: grants are used iff the backend is not dom0.
        grant_usage=node("grant_usage", _flag(backend != 0)) == "1",
    )


def number(text: str | None) -> int:
    """A decimal or 0x-prefixed node's value (generic virtio devices write base in hex); 0 where unreadable."""
    if text is None or len(text) > 20:
        return 0
    try:
        return int(text, 16 if text[:2] in ("0x", "0X") else 10)
    except ValueError:
        return 0
