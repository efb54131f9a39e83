# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a guest's virtio-mmio devices lie on Arm: addresses, interrupts, device-tree nodes.

The numbers are those of Xen's xen/include/public/arch-arm.h, the order and the messages those of
tools/libs/light/libxl_arm.c; both are the same from 4.17 on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

BASE = 0x02000000  #: GUEST_VIRTIO_MMIO_BASE, a guest physical address
REGION = 0x00100000  #: GUEST_VIRTIO_MMIO_SIZE, bytes
SLOT = 0x200  #: VIRTIO_MMIO_DEV_SIZE, bytes a device
SPI_FIRST = 33  #: GUEST_VIRTIO_MMIO_SPI_FIRST
SPI_LAST = 43  #: GUEST_VIRTIO_MMIO_SPI_LAST
LIMIT = SPI_LAST - SPI_FIRST + 1  #: virtio devices a guest can have; interrupts run out long before addresses
VPL011_SPI = 32  #: GUEST_VPL011_SPI, the emulated UART
PHANDLE_GIC = 65000  #: GUEST_PHANDLE_GIC
PHANDLE_IOMMU = 65001  #: GUEST_PHANDLE_IOMMU


class MmioError(ValueError):
    """Devices that cannot be laid out: too many, or on top of each other."""


class Place(NamedTuple):
    """Where one device lies: ``base`` in bytes, ``irq`` as the interrupt's number (an SPI's plus 32)."""

    base: int
    irq: int


def place(index: int) -> Place:
    """The place of a guest's device number ``index``, from 0. Raises MmioError from LIMIT on."""
    if not 0 <= index < LIMIT:
        raise MmioError(
            f"Ran out of reserved range for Virtio MMIO IRQ {SPI_FIRST + index}: "
            f"a guest has room for {LIMIT} virtio devices, disks and others together"
        )
    return Place(BASE + SLOT * index, SPI_FIRST + index)


def place_of(base: int | None, irq: int | None) -> Place | None:
    """The place given by hand; the half that is missing is that of the same slot. None where nothing is.

    Raises MmioError for a half that libxl would not give out and so tells nothing of the other.
    """
    if base is not None and irq is not None:
        return Place(base, irq)
    if base is None:
        if irq is not None and not SPI_FIRST <= irq <= SPI_LAST:
            raise MmioError(f"irq {irq} needs its base: libxl gives out {SPI_FIRST} to {SPI_LAST}")
        return None if irq is None else place(irq - SPI_FIRST)
    index, rest = divmod(base - BASE, SLOT)
    if rest or not 0 <= index < LIMIT:
        raise MmioError(f"base {base:#x} needs its irq: it is none of the addresses libxl gives out")
    return place(index)


def allocate(wanted: Sequence[Place | None], taken: Iterable[Place] = ()) -> list[Place]:
    """A place for every device in ``wanted``, in order.

    A device that has its place (a Place) keeps it; the others (None) take the lowest slots left free by
    those and by ``taken``, the places of devices not in ``wanted``. With nothing taken and none kept that is
    libxl's own allocation. Raises MmioError where the slots run out, or where two devices share an
    interrupt or overlap.
    """
    held = list(taken)
    for one in wanted:
        if one is not None:
            for other in held:
                if one.irq == other.irq:
                    raise MmioError(f"interrupt {one.irq} is given to two virtio devices")
                if abs(one.base - other.base) < SLOT:
                    both = f"{one.base:#x} and {other.base:#x}"
                    raise MmioError(f"virtio devices at {both} overlap: each takes {SLOT:#x} bytes")
            held.append(one)
    irqs = {one.irq for one in held}
    index = 0
    places = []
    for one in wanted:
        if one is None:
            free = place(index)
            while free.irq in irqs or any(abs(free.base - other.base) < SLOT for other in held):
                index += 1
                free = place(index)
            index += 1
            places.append(free)
        else:
            places.append(one)
    return places


def spis_needed(places: Iterable[Place], irqs: Iterable[int] = (), *, vuart: bool = False) -> int:
    """The smallest ``nr_spis`` for a guest with these virtio devices and passed-through interrupts.

    ``irqs`` are interrupt numbers (from 0; SPIs start at 32). Raises MmioError, in libxl's words, for one
    that the guest's virtio devices (from SPI_FIRST to the last they use) or its emulated UART take.
    """
    last = max((one.irq for one in places), default=SPI_FIRST - 1)
    needed = last - 31 if last >= SPI_FIRST else 0
    if vuart:
        needed = max(needed, VPL011_SPI - 31)
    for irq in irqs:
        if vuart and irq == VPL011_SPI:
            raise MmioError(f"Physical IRQ {irq} conflicting with pl011 SPI")
        if SPI_FIRST <= irq <= last:
            raise MmioError(f"Physical IRQ {irq} conflicting with Virtio MMIO IRQ range {SPI_FIRST}-{last}")
        needed = max(needed, irq - 31)
    return needed


def enough_spis(given: int, needed: int) -> None:
    """Check a guest's own ``nr_spis``. Raises MmioError, in libxl's words (an error from Xen 4.21 on)."""
    if given < needed:
        raise MmioError(
            f"Provided nr_spis value is too small (minimum required {needed}): {given} were given"
        )


class DtDevice(NamedTuple):
    """A virtio device for the device tree."""

    place: Place
    grant_backend: int | None = None  #: domid of the backend if it maps memory by grants, else None
    child: str | None = None  #: what hangs off a device of class i2c or gpio (CHILDREN)


# Device-tree nodes below a virtio device, by the device's compatible string: name and properties
# (Linux Documentation/devicetree/bindings/i2c/i2c-virtio.yaml and gpio/gpio-virtio.yaml).
CHILDREN: dict[str, tuple[str, tuple[str, ...]]] = {
    "virtio,device22": ("i2c", ('compatible = "virtio,device22";',)),
    "virtio,device29": (
        "gpio",
        (
            'compatible = "virtio,device29";',
            "gpio-controller;",
            "#gpio-cells = <2>;",
            "interrupt-controller;",
            "#interrupt-cells = <2>;",
        ),
    ),
}


def _node(name: str, body: Iterable[str]) -> list[str]:
    return [f"{name} {{", *(f"\t{line}" for line in body), "};"]


def _cells(number: int) -> str:
    return f"{number >> 32:#x} {number & 0xFFFFFFFF:#x}"


def _device_node(device: DtDevice) -> list[str]:
    base, irq = device.place
    if irq < 32:
        raise MmioError(f"interrupt {irq} is no SPI: these start at 32")
    body = [
        'compatible = "virtio,mmio";',
        f"reg = <{_cells(base)} {_cells(SLOT)}>;",
        f"interrupts = <0 {irq - 32} 0xf01>;",
        f"interrupt-parent = <{PHANDLE_GIC}>;",
        "dma-coherent;",
    ]
    if device.grant_backend is not None:
        body.append(f"iommus = <{PHANDLE_IOMMU} {int(device.grant_backend)}>;")
    if device.child is not None:
        name, lines = CHILDREN[device.child]
        body += _node(name, lines)
    return _node(f"virtio@{base:x}", body)


def dt_nodes(devices: Iterable[DtDevice]) -> str:
    """The device-tree source of the nodes libxl makes for ``devices``, for #address-cells and #size-cells 2.

    One grant-dma node (xen,grant-dma.yaml in Linux's bindings) comes with them if any device uses grants.
    Only numbers and names of ours enter the text.
    """
    devices = list(devices)
    lines = [line for device in devices for line in _device_node(device)]
    if any(device.grant_backend is not None for device in devices):
        lines += _node(
            "xen_iommu",
            ['compatible = "xen,grant-dma";', "#iommu-cells = <1>;", f"phandle = <{PHANDLE_IOMMU}>;"],
        )
    return "".join(f"{line}\n" for line in lines)


def partial_device_tree(devices: Iterable[DtDevice]) -> str:
    """A whole partial device tree (source) with dt_nodes(), as a dom0less guest takes it.

    The layout is that of Xen's docs/misc/arm/passthrough.txt: devices below /passthrough, and a placeholder
    for the interrupt controller, whose phandle Xen keeps.
    """
    gic = ["#interrupt-cells = <3>;", "interrupt-controller;", f"phandle = <{PHANDLE_GIC}>;"]
    cells = ["#address-cells = <2>;", "#size-cells = <2>;"]
    bus = [*cells, 'compatible = "simple-bus";', "ranges;", *dt_nodes(devices).splitlines()]
    root = [*cells, *_node("gic", gic), *_node("passthrough", bus)]
    return "".join(f"{line}\n" for line in ["/dts-v1/;", *_node("/", root)])
