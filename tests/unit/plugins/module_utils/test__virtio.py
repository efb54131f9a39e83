# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest's virtio devices, disks and others."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._dialect import DIALECTS
from ansible_collections.xen.virtio.plugins.module_utils._diskspec import declare
from ansible_collections.xen.virtio.plugins.module_utils._mmio import MmioError, Place, place
from ansible_collections.xen.virtio.plugins.module_utils._virtio import (
    VirtioDevice,
    VirtioError,
    backend_domid,
    parse_virtio,
    plan_guest,
)


@pytest.mark.parametrize(
    ("entry", "device"),
    [
        (
            "backend=DomD,type=virtio,device22,transport=mmio,grant_usage=1",
            VirtioDevice("virtio,device22", "DomD", True, True),
        ),
        ("type=virtio,device1a,transport=MMIO", VirtioDevice("virtio,device1a")),
        ("type=virtio,device29", VirtioDevice("virtio,device29", mmio=False)),
        ("type=virtio,device,transport=mmio", VirtioDevice("virtio,device")),
        (
            " backend=1,,  type=virtio,device5,transport=unknown",
            VirtioDevice("virtio,device5", "1", mmio=False),
        ),
        ("type=virtio,device5,grant_usage=0", VirtioDevice("virtio,device5", None, False, False)),
        ("type=virtio,device5,grant_usage=yes", VirtioDevice("virtio,device5", None, False, False)),
        ("type=virtio,device5,grant_usage= 0x10", VirtioDevice("virtio,device5", None, False, True)),
        ("type=virtio,device5,backend=a,backend=b", VirtioDevice("virtio,device5", "b", False)),
        ({"type": "virtio,device22"}, VirtioDevice("virtio,device22")),
        (
            {"type": "virtio,device22", "backend": 1, "grant_usage": False, "transport": None},
            VirtioDevice("virtio,device22", "1", True, False),
        ),
    ],
)
def test_parse(entry: object, device: VirtioDevice) -> None:
    assert parse_virtio(entry) == device


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("type=virtio", "Invalid type for virtio device: virtio,"),  # xl crashes over this one
        ("backend=DomD,transport=mmio", "Invalid type for virtio device: None"),
        ("type=virtio, device22", "Invalid type"),
        ("type=virtio,device2G", "Invalid type"),
        ("type=net", "Invalid type for virtio device: net"),
        ("type=virtio,device22,foo=1", 'Unknown string "foo=1" in virtio spec'),
        ("type=virtio,device22,\ttransport=mmio", "Unknown string"),
        ("device22", 'Unknown string "device22"'),
        ("type=virtio,device22,transport=pci", "transport 'pci' of a virtio device is not mmio"),
        ({"type": "virtio,device22", "foo": 1}, "unknown key 'foo'"),
        ({"type": 22}, "Invalid type"),
        ({"type": "virtio,device22", "backend": True}, "backend must be"),
        ({"type": "virtio,device22", "grant_usage": 2}, "grant_usage must be"),
        (["type"], "a string or a mapping, not list"),
    ],
)
def test_refused(entry: object, reason: str) -> None:
    with pytest.raises(VirtioError, match=reason):
        parse_virtio(entry)


@pytest.mark.parametrize(
    ("backend", "domid"),
    [(None, 0), ("", 0), ("0", 0), ("Domain-0", 0), ("7", 7), ("DomD", 3), ("DomE", None), ("٣", None)],
)
def test_backend_domid(backend: str | None, domid: int | None) -> None:
    assert backend_domid(backend, {"DomD": 3}) == domid


def vdisk(vdev: str, **said: Any) -> Any:
    return declare({"vdev": vdev, "target": "/a", **said})


I2C = VirtioDevice("virtio,device22", "DomD")


def test_disks_first_then_the_others_in_order() -> None:
    plan = plan_guest(
        [vdisk("xvdb", backend="DomD"), declare("/pv,,xvdz"), vdisk("xvda")],
        [VirtioDevice("virtio,device5", mmio=False), I2C],
        domids={"DomD": 3},
    )
    rows = [(d.kind, d.index, d.vdev, d.devid, d.backend_domid, d.grant_usage, d.place) for d in plan.devices]
    assert rows == [
        ("disk", 0, "xvdb", 51728, 3, True, place(0)),
        ("disk", 2, "xvda", 51712, 0, False, place(1)),
        ("virtio", 1, None, 1, 3, True, place(2)),
    ]
    assert plan.nr_spis == 4


def test_those_that_stay_keep_their_places() -> None:
    existing = {("disk", 51712): place(2), ("virtio", 0): place(0), ("disk", 51760): place(1)}
    disks = [vdisk("xvdb"), vdisk("d0p0"), vdisk("xvdc", base="0x2001400"), vdisk("xvde")]
    plan = plan_guest(disks, [I2C], existing=existing)
    assert [device.place for device in plan.devices] == [place(1), place(2), place(10), place(3), place(0)]
    assert plan.nr_spis == 12


def test_twelve_devices_are_too_many() -> None:
    disks = [vdisk(f"d{index}p0") for index in range(10)]
    assert len(plan_guest(disks, [I2C]).devices) == 11
    with pytest.raises(MmioError, match="Virtio MMIO IRQ 44"):
        plan_guest(disks, [I2C, I2C])


def test_passed_through_interrupts_and_nr_spis() -> None:
    with pytest.raises(MmioError, match="Physical IRQ 33 conflicting"):
        plan_guest([vdisk("xvda")], irqs=[33])
    with pytest.raises(MmioError, match="minimum required 2"):
        plan_guest([vdisk("xvda")], nr_spis=1)
    assert plan_guest([], irqs=[33], nr_spis=2).nr_spis == 2


@pytest.mark.parametrize(
    ("release", "said", "grants"),
    [
        ("4.17", {"backend": "DomD", "grant_usage": False}, True),  # not up to the user before 4.19
        ("4.19", {"backend": "DomD", "grant_usage": False}, False),
        ("4.19", {"backend": "DomD"}, True),
        ("4.19", {"grant_usage": True}, True),
        ("4.19", {}, False),
    ],
)
def test_grants(release: str, said: dict[str, Any], grants: bool) -> None:
    plan = plan_guest([vdisk("xvda", **said)], domids={"DomD": 1}, dialect=DIALECTS[release])
    assert plan.devices[0].grant_usage is grants
    assert ("xen_iommu" in (plan.device_tree() or "")) is grants


def test_no_device_tree_without_the_number_of_a_backend_that_it_names() -> None:
    plan = plan_guest([vdisk("xvda", backend="DomD"), vdisk("xvdb", backend="DomE", grant_usage=False)])
    assert plan.unknown_backends == ("DomD",)
    assert plan.dt_nodes() is plan.device_tree() is None
    assert plan.devices[0].place == Place(0x2000000, 33)


def test_nothing_of_the_user_enters_the_device_tree_but_numbers() -> None:
    evil = 'x"; }; evil { a = "'
    plan = plan_guest([vdisk("xvda", backend=evil, target=f"/{evil}")], domids={evil: 5})
    assert "evil" not in (plan.device_tree() or "evil")
    assert "iommus = <65001 5>;" in (plan.dt_nodes() or "")


def test_i2c_hangs_below_its_device() -> None:
    assert '\ti2c {\n\t\tcompatible = "virtio,device22";\n\t};\n' in (
        plan_guest([], [I2C], domids={"DomD": 1}).dt_nodes() or ""
    )
