# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All virtio devices of one guest, disks and others: what they are, where they lie, their device tree."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ._dialect import NEWEST, Dialect
from ._diskspec import Declared
from ._mmio import (
    CHILDREN,
    DtDevice,
    Place,
    allocate,
    dt_nodes,
    enough_spis,
    partial_device_tree,
    place_of,
    spis_needed,
)
from ._vdev import devid

_KEYS = ("backend", "type", "transport", "grant_usage")
_TYPE = re.compile(r"virtio,device[0-9a-f]*\Z", re.ASCII)
_NUMBER = re.compile(r"\s*[+-]?(?:0[xX]0*[1-9a-fA-F]|0*[1-9])", re.ASCII)  # one that is not zero
_DOM0 = ("", "0", "Domain-0")


class VirtioError(ValueError):
    """A ``virtio = [ ... ]`` entry that xl does not take, or that would fail at create."""


@dataclass(frozen=True)
class VirtioDevice:
    """One entry of a guest's ``virtio`` list: a virtio device that is no disk."""

    type: str  #: "virtio,device22": the virtio device id, hexadecimal, in lower case; may be left out
    backend: str | None = None  #: domain name or domid; None is dom0
    mmio: bool = True  #: whether its transport is mmio; else nobody gives it an address
    grant_usage: bool | None = None  #: None is true unless the backend is dom0


def parse_virtio(entry: object) -> VirtioDevice:
    """Read an entry of xl.cfg's ``virtio`` list, as text (parse_virtio_list in Xen's xl_parse.c) or mapping.

    In text transport=mmio must be said; in a mapping it is the default. Raises VirtioError, also for what
    only fails at create (no type, a type that is none) or crashes xl (``type=virtio`` at the end).
    """
    if isinstance(entry, str):
        values = _words(entry)
    elif isinstance(entry, Mapping):
        values = {"transport": "mmio", **{key: value for key, value in entry.items() if value is not None}}
        for key in values:
            if key not in _KEYS:
                raise VirtioError(f"unknown key {key!r} of a virtio device; known are {', '.join(_KEYS)}")
    else:
        raise VirtioError(f"a virtio device is a string or a mapping, not {type(entry).__name__}: {entry!r}")
    kind, transport = values.get("type"), str(values.get("transport", "unknown")).lower()
    if not isinstance(kind, str) or not _TYPE.match(kind):
        raise VirtioError(
            f"Invalid type for virtio device: {kind} (virtio,device and a number: virtio,device22)"
        )
    if transport not in ("mmio", "unknown"):
        raise VirtioError(f"transport {transport!r} of a virtio device is not mmio")
    backend, grants = values.get("backend"), values.get("grant_usage")
    if not isinstance(backend, (str, int, type(None))) or isinstance(backend, bool):
        raise VirtioError(f"backend must be a name or a number, not {backend!r}")
    if isinstance(grants, str):
        grants = bool(_NUMBER.match(grants))
    if grants is not None and grants not in (0, 1):
        raise VirtioError(f"grant_usage must be true or false, not {grants!r}")
    return VirtioDevice(
        str(kind),
        None if backend is None else str(backend),
        transport == "mmio",
        None if grants is None else bool(grants),
    )


def _words(entry: str) -> dict[str, Any]:
    values = {}
    pieces = iter([piece for piece in entry.split(",") if piece])
    for piece in pieces:
        key, equals, value = piece.lstrip(" ").partition("=")
        if not equals or key not in _KEYS:
            raise VirtioError(f'Unknown string "{piece.lstrip(" ")}" in virtio spec')
        if key == "type" and value.startswith("virtio"):
            value += "," + next(pieces, "")  # the one value with a comma inside
        values[key] = value
    return values


def backend_domid(backend: str | None, domids: Mapping[str, int]) -> int | None:
    """The domid of a backend as declared; None for a name that ``domids`` does not hold."""
    if backend is None or backend in _DOM0:
        return 0
    return int(backend) if backend.isascii() and backend.isdigit() else domids.get(backend)


@dataclass(frozen=True)
class Planned:
    """A virtio device of the guest and its place."""

    kind: str  #: "disk" or "virtio"
    index: int  #: its position in the list of disks, or in that of virtio devices
    vdev: str | None  #: of a disk
    devid: int  #: of a disk, else the index
    backend: str | None
    backend_domid: int | None  #: None where the name is not known
    grant_usage: bool
    type: str | None  #: of a virtio device that is no disk
    place: Place

    def node(self) -> DtDevice:
        return DtDevice(
            self.place,
            self.backend_domid if self.grant_usage else None,
            self.type if self.type in CHILDREN else None,
        )


@dataclass(frozen=True)
class GuestPlan:
    """The virtio devices of a guest in the order of their allocation, and what follows from them."""

    devices: tuple[Planned, ...]
    nr_spis: int  #: the least the guest needs
    unknown_backends: tuple[str, ...]  #: names without a domid, without which there is no device tree

    def dt_nodes(self) -> str | None:
        return None if self.unknown_backends else dt_nodes(device.node() for device in self.devices)

    def device_tree(self) -> str | None:
        return (
            None if self.unknown_backends else partial_device_tree(device.node() for device in self.devices)
        )


def plan_guest(
    disks: Sequence[Declared],
    virtio: Sequence[VirtioDevice] = (),
    *,
    existing: Mapping[tuple[str, int], Place] | None = None,
    domids: Mapping[str, int] | None = None,
    irqs: Iterable[int] = (),
    nr_spis: int | None = None,
    vuart: bool = False,
    dialect: Dialect = NEWEST,
) -> GuestPlan:
    """Lay out a guest's virtio devices: its virtio disks in order, then its other devices over mmio.

    ``existing`` holds the places of devices the guest has, by ("disk", devid) or ("virtio", index): those
    keep theirs, and new ones take the lowest free. A place given by hand (``base``, ``irq``) goes before.
    ``irqs`` are passed-through interrupts, ``nr_spis`` the guest's own setting.
    Raises VdevError and MmioError.
    """
    existing, domids = existing or {}, domids or {}
    fixed_grants = not dialect.accepts("grant_usage")
    rows: list[tuple[str, int, str | None, int, str | None, bool | None, str | None]] = []
    wanted: list[Place | None] = []
    for index, disk in enumerate(disks):
        spec = disk.spec
        if spec.is_virtio:
            number = devid(spec.vdev)
            grants = None if fixed_grants else spec.grant_usage
            rows.append(("disk", index, spec.vdev, number, spec.backend, grants, None))
            wanted.append(place_of(disk.base, disk.irq) or existing.get(("disk", number)))
    for index, device in enumerate(virtio):
        if device.mmio:
            rows.append(("virtio", index, None, index, device.backend, device.grant_usage, device.type))
            wanted.append(existing.get(("virtio", index)))
    planned = []
    for (kind, index, vdev, number, backend, grants, kind_of), place in zip(rows, allocate(wanted)):
        domid = backend_domid(backend, domids)
        planned.append(
            Planned(
                kind,
                index,
                vdev,
                number,
                backend,
                domid,
                domid != 0 if grants is None else grants,
                kind_of,
                place,
            )
        )
    needed = spis_needed([device.place for device in planned], irqs, vuart=vuart)
    if nr_spis is not None:
        enough_spis(nr_spis, needed)
    unknown = {
        device.backend or "": None
        for device in planned
        if device.grant_usage and device.backend_domid is None
    }
    return GuestPlan(tuple(planned), needed, tuple(unknown))
