# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters, called as templates call them."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.xen.virtio.plugins.filter import diskspec, mmio_plan, parse_diskspec, vdev_to_devid

FILTERS = {
    name: function
    for module in (diskspec, mmio_plan, parse_diskspec, vdev_to_devid)
    for name, function in module.FilterModule().filters().items()
}
SEED = "backend=DomD, phy:/dev/mmcblk1p3, xvda1, rw, virtio"
TODAY = "/dev/mmcblk1p3,,xvda1,backend=DomD,specification=virtio"


def test_names() -> None:
    assert sorted(FILTERS) == ["diskspec", "mmio_plan", "parse_diskspec", "vdev_to_devid"]


def test_parse_diskspec_gives_exactly_these_keys() -> None:
    assert FILTERS["parse_diskspec"]("/a,,xvda,rw,discard", xen="4.17") == {
        "vdev": "xvda",
        "target": "/a",
        "format": "raw",
        "access": "rw",
        "backend": None,
        "backendtype": None,
        "specification": None,
        "devtype": None,
        "script": None,
        "discard": True,
        "direct_io_safe": False,
        "trusted": None,
        "grant_usage": None,
        "cdrom": False,
        "removable": False,
        "colo": None,
        "colo_host": None,
        "colo_port": None,
        "colo_export": None,
        "active_disk": None,
        "hidden_disk": None,
    }


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("diskspec", (SEED,), TODAY),
        ("diskspec", (SEED, "v6"), "/dev/mmcblk1p3,,xvda1,backend=DomD,virtio"),
        ("diskspec", ({"vdev": "xvda", "target": "/a", "shared": True},), "/a,,xvda,specification=virtio"),
        ("vdev_to_devid", ("xvda1",), 51713),
        ("vdev_to_devid", (51712,), 51712),
    ],
)
def test_results(name: str, arguments: tuple[Any, ...], expected: Any) -> None:
    assert FILTERS[name](*arguments) == expected


def test_old_and_new_spellings_give_one_disk() -> None:
    parse = FILTERS["parse_diskspec"]
    assert parse(SEED) == parse(SEED, "v6") == parse(TODAY, "4.17") == parse(TODAY, "4.22")


@pytest.mark.parametrize("text", [SEED, TODAY, "/a,qcow2,xvda,r", ",,hdc,cdrom", "vdev=xvda,target=/a,b,"])
def test_a_mapping_read_from_a_string_is_written_as_the_same_disk(text: str) -> None:
    mapping = FILTERS["parse_diskspec"](text)
    assert FILTERS["parse_diskspec"](FILTERS["diskspec"](mapping)) == mapping


def test_mmio_plan() -> None:
    plan = FILTERS["mmio_plan"](
        [{"vdev": "xvdb", "target": "/b", "backend": "DomD"}, "/pv,,xvdz", "/a,,xvda,specification=virtio"],
        virtio=["type=virtio,device22,transport=mmio,backend=DomD"],
        existing=[
            {"vdev": "xvda", "base": "33554432", "irq": "33"},
            {"vdev": "xvdz", "base": None, "irq": None},
            {"kind": "virtio", "index": 0, "base": "0x2000400", "irq": 35},
        ],
        domids={"DomD": 2},
        nr_spis="4",
    )
    assert [(d["kind"], d["vdev"], d["base"], d["irq"], d["grant_usage"]) for d in plan["devices"]] == [
        ("disk", "xvdb", 0x2000200, 34, True),
        ("disk", "xvda", 0x2000000, 33, False),
        ("virtio", None, 0x2000400, 35, True),
    ]
    assert plan["nr_spis"] == 4
    assert plan["unknown_backends"] == []
    assert plan["nodes"].count("iommus = <65001 2>;") == 2
    assert plan["device_tree"].startswith("/dts-v1/;")


def test_mmio_plan_of_a_backend_without_a_number() -> None:
    plan = FILTERS["mmio_plan"]([{"vdev": "xvdb", "target": "/b", "backend": "DomD"}])
    assert plan["nodes"] is plan["device_tree"] is None
    assert plan["unknown_backends"] == ["DomD"]
    assert plan["devices"][0]["base"] == 0x2000000


DISK = {"vdev": "xvda", "target": "/a"}


@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [
        ("parse_diskspec", ("/a,,xvda,rw,trusted", "4.17"), "too many positional parameters: near `trusted'"),
        ("parse_diskspec", ("/a,,xvda", 4.2), "quote it"),
        ("parse_diskspec", ("/a,,xvda", "4.16"), "has no virtio disks"),
        ("parse_diskspec", (DISK,), "a disk specification is text"),
        ("diskspec", ({**DISK, "formt": "raw"},), "disk xvda: unknown key 'formt' .did you mean format?"),
        (
            "diskspec",
            ({**DISK, "grant_usage": True}, "4.17"),
            "grant_usage is accepted by Xen 4.19 and newer",
        ),
        ("diskspec", ({**DISK, "base": 1},), "disk xvda: no disk string can carry base"),
        ("diskspec", ({**DISK, "target": "/a\n"},), "holds a newline"),
        ("diskspec", (5,), "a string or a mapping, not int"),
        ("vdev_to_devid", ("xvd",), "no drive letter"),
        ("vdev_to_devid", ("xvda 1",), "not a virtual device name"),
        ("vdev_to_devid", (-1,), "not a virtual device name"),
        ("vdev_to_devid", (True,), "a name or a number, not True"),
        ("vdev_to_devid", (None,), "a name or a number, not None"),
        ("mmio_plan", ([{**DISK, "vdev": f"d{disk}p0"} for disk in range(12)],), "Virtio MMIO IRQ 44"),
        ("mmio_plan", ("/a,,xvda",), "the input must be a list, not str"),
        ("mmio_plan", ([DISK], ["type=virtio"]), "Invalid type for virtio device"),
        ("mmio_plan", ([DISK], [], [5]), "an existing device is a mapping"),
        ("mmio_plan", ([DISK], [], [{"vdev": "x", "base": 1, "irq": 33}]), "not a virtual device name"),
        ("mmio_plan", ([DISK], [], [{**DISK, "base": "x", "irq": 33}]), "base must be a whole number"),
        ("mmio_plan", ([DISK], [], [], ["DomD"]), "domids must be a mapping"),
        ("mmio_plan", ([DISK], [], [], {"DomD": "one"}), "the domid of DomD must be a whole number"),
        ("mmio_plan", ([DISK], [], [], {}, [33]), "Physical IRQ 33 conflicting"),
        ("mmio_plan", ([DISK], [], [], {}, [], 1), "minimum required 2"),
        ("mmio_plan", ([{**DISK, "vdev": "xvd"}],), "no drive letter"),
    ],
)
def test_errors(name: str, arguments: tuple[Any, ...], reason: str) -> None:
    with pytest.raises(AnsibleFilterError, match=reason):
        FILTERS[name](*arguments)
