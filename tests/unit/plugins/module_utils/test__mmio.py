# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where virtio-mmio devices lie."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._mmio import (
    BASE,
    LIMIT,
    REGION,
    SLOT,
    DtDevice,
    MmioError,
    Place,
    allocate,
    dt_nodes,
    enough_spis,
    partial_device_tree,
    place,
    place_of,
    spis_needed,
)

A, B, C, D = (place(index) for index in range(4))


def test_the_slots() -> None:
    assert Place(0x2000000, 33) == A
    assert Place(0x2000200, 34) == B
    assert place(LIMIT - 1) == (0x2001400, 43)
    assert LIMIT * SLOT <= REGION


@pytest.mark.parametrize(
    ("wanted", "taken", "places"),
    [
        ([], [], []),
        ([None, None, None], [], [A, B, C]),
        ([None] * LIMIT, [], [place(index) for index in range(LIMIT)]),
        # one that stays keeps its place, new ones fill the gaps
        ([None, B, None], [], [A, B, C]),
        ([B, None, A, None], [], [B, C, A, D]),
        ([None, None], [A, C], [B, D]),
        # by hand, off the grid: neither its interrupt nor its addresses are given out again
        ([Place(0x2000100, 40), None], [], [Place(0x2000100, 40), C]),
        ([Place(0x10000000, 33), None], [], [Place(0x10000000, 33), B]),
    ],
)
def test_allocate(wanted: Sequence[Place | None], taken: list[Place], places: list[Place]) -> None:
    assert allocate(wanted, taken) == places


@pytest.mark.parametrize(
    ("wanted", "taken", "reason"),
    [
        (
            [None] * (LIMIT + 1),
            [],
            "Ran out of reserved range for Virtio MMIO IRQ 44: a guest has room for 11",
        ),
        ([None], [place(index) for index in range(LIMIT)], "Ran out"),
        ([A, A], [], "interrupt 33 is given to two"),
        ([A], [A], "interrupt 33 is given to two"),
        ([A, Place(BASE + 0x100, 40)], [], "0x2000100 and 0x2000000 overlap"),
    ],
)
def test_no_place(wanted: Sequence[Place | None], taken: list[Place], reason: str) -> None:
    with pytest.raises(MmioError, match=reason):
        allocate(wanted, taken)


@pytest.mark.parametrize(
    ("base", "irq", "expected"),
    [
        (None, None, None),
        (0x2000200, None, B),
        (None, 34, B),
        (0x10000000, 99, Place(0x10000000, 99)),
        (0x10000000, None, "needs its irq"),
        (0x2000100, None, "needs its irq"),
        (None, 44, "needs its base"),
        (None, 32, "needs its base"),
    ],
)
def test_place_given_by_hand(base: int | None, irq: int | None, expected: Place | str | None) -> None:
    if isinstance(expected, str):
        with pytest.raises(MmioError, match=expected):
            place_of(base, irq)
    else:
        assert place_of(base, irq) == expected


@pytest.mark.parametrize(
    ("count", "irqs", "vuart", "needed"),
    [
        (0, [], False, 0),
        (0, [], True, 1),
        (1, [], False, 2),
        (11, [], False, 12),
        (2, [16, 31], False, 3),
        (2, [32], False, 3),
        (2, [35], False, 4),
        (2, [112], True, 81),
        (0, [33], False, 2),
    ],
)
def test_spis_needed(count: int, irqs: list[int], vuart: bool, needed: int) -> None:
    assert spis_needed([place(index) for index in range(count)], irqs, vuart=vuart) == needed


@pytest.mark.parametrize(
    ("places", "irqs", "vuart", "reason"),
    [
        ([A], [33], False, "Physical IRQ 33 conflicting with Virtio MMIO IRQ range"),
        ([A, B, C], [100, 35], False, "Physical IRQ 35 conflicting"),
        ([C], [34], False, "Physical IRQ 34 conflicting"),
        ([], [32], True, "Physical IRQ 32 conflicting with pl011 SPI"),
    ],
)
def test_interrupts_that_overlap(places: list[Place], irqs: list[int], vuart: bool, reason: str) -> None:
    with pytest.raises(MmioError, match=reason):
        spis_needed(places, irqs, vuart=vuart)


def test_too_few_spis() -> None:
    enough_spis(12, 12)
    with pytest.raises(MmioError, match=re.escape("nr_spis value is too small (minimum required 12)")):
        enough_spis(11, 12)


def test_node_of_a_disk_of_dom0() -> None:
    assert dt_nodes([DtDevice(A)]).split("\n") == [
        "virtio@2000000 {",
        '\tcompatible = "virtio,mmio";',
        "\treg = <0x0 0x2000000 0x0 0x200>;",
        "\tinterrupts = <0 1 0xf01>;",
        "\tinterrupt-parent = <65000>;",
        "\tdma-coherent;",
        "};",
        "",
    ]


def test_node_of_a_disk_with_grants() -> None:
    text = dt_nodes([DtDevice(A), DtDevice(B, 11), DtDevice(C, 0)])
    assert "\tiommus = <65001 11>;\n" in text
    assert "\tiommus = <65001 0>;\n" in text
    assert text.count("iommus") == 2
    assert text.endswith(
        'xen_iommu {\n\tcompatible = "xen,grant-dma";\n\t#iommu-cells = <1>;\n\tphandle = <65001>;\n};\n'
    )
    assert text.count("xen_iommu") == 1


def test_address_beyond_32_bits() -> None:
    assert "virtio@123456000 {\n" in dt_nodes([DtDevice(Place(0x123456000, 40))])
    assert "reg = <0x1 0x23456000 0x0 0x200>;" in dt_nodes([DtDevice(Place(0x123456000, 40))])


def test_no_spi() -> None:
    with pytest.raises(MmioError, match="interrupt 31 is no SPI"):
        dt_nodes([DtDevice(Place(BASE, 31))])


@pytest.mark.skipif(not shutil.which("dtc"), reason="dtc is not installed")
def test_the_device_tree_compiles() -> None:
    tree = partial_device_tree([DtDevice(A, 1), DtDevice(B), DtDevice(C, 1, "virtio,device22")])
    command = ["dtc", "-q", "-I", "dts", "-O", "dts"]
    text = subprocess.run(command, input=tree, capture_output=True, text=True, check=True).stdout
    assert "virtio@2000400" in text


def test_the_device_tree_is_whole() -> None:
    tree = partial_device_tree([DtDevice(A, 1), DtDevice(B, None, "virtio,device29")])
    assert tree.startswith("/dts-v1/;\n/ {\n")
    assert tree.count("{") == tree.count("};") == 7
    for name in ("gic", "passthrough", "virtio@2000000", "virtio@2000200", "gpio", "xen_iommu"):
        assert f"{name} {{\n" in tree
