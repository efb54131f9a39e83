# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests on real Xen for Arm, created by the real xl: what stands there was planned, and what is told is true."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._layout import (
    BACKEND,
    TREES,
    Attachment,
    Schema,
    nodes,
    paths,
    permissions,
)
from ansible_collections.xen.virtio.plugins.module_utils._mmio import place
from ansible_collections.xen.virtio.plugins.module_utils._vdev import devid

from e2e.site import DEVICE_TREE, DOMD, Site, guests

#: Debian 12's Xen.
RELEASE, SCHEMA = "4.17", Schema(grant_usage=False)


def domids(site: Site) -> dict[str, int]:
    """Every domain by name, as xl has them."""
    listed = site.board.run("xl list").stdout.splitlines()[1:]
    return {line.split()[0]: int(line.split()[1]) for line in listed}


def planned(site: Site, name: str) -> list[Attachment]:
    """The disks of a guest as the planner lays them out."""
    known = domids(site)
    found = []
    for index, disk in enumerate(guests()[name]["disks"]):
        backend = known[disk["backend"]] if "backend" in disk else 0
        readonly = disk.get("access") == "ro"
        base, irq = place(index)
        found.append(
            Attachment(
                known[name],
                backend,
                devid(disk["vdev"]),
                disk["vdev"],
                disk["target"],
                readonly,
                base,
                irq,
                discard=disk.get("discard", not readonly),
                grant_usage=backend != 0,
            )
        )
    return found


def store(site: Site, *tops: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Subtrees of the store by xenstore-ls: path → value and permissions. All of it would take a minute here."""
    listing = "; ".join(f"xenstore-ls -fp {top} 2>/dev/null" for top in tops)
    found = {}
    for line in site.board.run(listing, check=False).stdout.splitlines():
        match = re.match(r'(\S+) = "(.*)"   \((.*)\)$', line)
        if match:
            found[match[1]] = match[2], tuple(match[3].split(","))
    return found


def recorded(site: Site) -> list[str]:
    """What libxl has records of."""
    return sorted(site.board.run("xenstore-list /libxl").stdout.split())


@pytest.mark.parametrize("name", list(guests()))
def test_trees_are_those_that_were_planned(site: Site, name: str) -> None:
    disks = planned(site, name)
    there = store(site, *(top.rpartition("/")[0] for disk in disks for top in paths(disk).values()))
    for disk in disks:
        at, perms, wanted = paths(disk), permissions(disk), nodes(disk, SCHEMA)
        for tree in TREES:
            expected = dict(wanted[tree])
            if tree == BACKEND:
                expected["state"] = "2"  # the stand-in's answer
            found = {
                path[len(at[tree]) + 1 :]: entry
                for path, entry in there.items()
                if path.startswith(f"{at[tree]}/")
            }
            assert {node: value for node, (value, _perms) in found.items()} == expected
            assert {entry[1] for entry in found.values()} == {perms[tree]}


def test_the_guest_is_told_of_its_devices_where_they_were_planned(site: Site) -> None:
    """The device tree that libxl made for the last guest, against the plan."""
    text = site.board.run(f"dtc -q -I dtb -O dts {DEVICE_TREE}").stdout
    backends = [domids(site).get(disk.get("backend", "Domain-0"), 0) for disk in guests()["three"]["disks"]]
    found = re.findall(r"virtio@([0-9a-f]+) \{(.*?)\};", text, re.DOTALL)
    assert [int(address, 16) for address, _body in found] == [place(index).base for index in range(3)]
    for index, (_address, body) in enumerate(found):
        assert f"interrupts = <0x00 {place(index).irq - 32:#04x} 0xf01>" in body
        grants = re.search(r"iommus = <0xfde9 (0x[0-9a-f]+)>", body)  # GUEST_PHANDLE_IOMMU is 65001
        assert (int(grants[1], 16) if grants else 0) == backends[index]


def test_disk_info_tells_what_xl_lists(site: Site) -> None:
    told = site.module("xen.virtio.disk_info")["guests"]
    for guest in told:
        if guest["domain"] == "DomD":
            continue
        listed = site.board.run(f"xl block-list {guest['domain']}").stdout.splitlines()[1:]
        by_xl = {(int(line.split()[0]), int(line.split()[1]), line.split()[-1]) for line in listed}
        ours = {(disk["devid"], disk["backend_domid"], disk["backend_path"]) for disk in guest["disks"]}
        assert ours == by_xl, guest["domain"]
        assert {disk["health"] for disk in guest["disks"]} == {"attached"}
    assert {guest["domain"] for guest in told} == {"DomD", *guests()}


def test_guest_info_tells_what_xl_tells(site: Site) -> None:
    told = {guest["name"]: guest for guest in site.module("xen.virtio.guest_info")["guests"]}
    records = {
        record["config"]["c_info"]["name"]: record
        for record in json.loads(site.board.run("xl list -l").stdout)
        if "c_info" in record["config"]
    }
    assert set(told) == {"DomD", *guests()}
    for name, guest in told.items():
        record = records[name]
        info = record["config"]["b_info"]
        assert (guest["domid"], guest["uuid"]) == (record["domid"], record["config"]["c_info"]["uuid"])
        assert (guest["memory"], guest["vcpus"]) == (info["target_memkb"] >> 10, info["max_vcpus"])
        assert (guest["run_state"], guest["made_by"]) == ("running", "xl")
        assert guest["config"]["path"] == f"/etc/xen/{name}.cfg"
        assert [disk["target"] for disk in guest["disks"]] == [
            disk["pdev_path"] for disk in record["config"]["disks"]
        ]


def test_host_info_tells_what_xl_tells(site: Site) -> None:
    told = site.module("xen.virtio.host_info")
    lines = (line.partition(":") for line in site.board.run("xl info").stdout.splitlines())
    info = {key.strip(): value.strip() for key, _colon, value in lines}
    assert told["xen"]["version"] == info["xen_version"]
    assert (told["xen"]["release"], told["xen"]["arch"]) == (RELEASE, info["machine"])
    assert told["memory"]["total"] == int(info["total_memory"])
    assert told["xen"]["ioreq"]["support"] == "no"  # Debian builds its Xen without
    assert {one["domain"]: one["status"] for one in told["backends"]} == {
        "Domain-0": "ready",
        "DomD": "ready",
    }


def test_a_second_run_changes_nothing(site: Site) -> None:
    before = domids(site)
    done, counts = site.site()
    assert (done.returncode, counts["changed"]) == (0, 0), done.stdout
    assert domids(site) == before


REFUSED: list[tuple[str, str, list[dict[str, Any] | str]]] = [
    (
        "devices-limit",
        "",
        [{"vdev": f"d{number}p0", "target": "/srv/one.img", "access": "ro"} for number in range(40, 52)],
    ),
    ("devid-duplicate", "", [{"vdev": "xvdx", "target": "/srv/x"}, {"vdev": "d23p0", "target": "/srv/y"}]),
    (
        "mixed-specification",
        "",
        [{"vdev": "xvdx", "target": "/srv/x"}, {"vdev": "xvdy", "target": "/srv/y", "specification": "xen"}],
    ),
    ("target-missing", "", [{"vdev": "xvdx", "target": "/srv/nobody.img"}]),
    ("virtio-rules", "", [{"vdev": "xvdx", "target": "/srv/one.img", "format": "qcow2"}]),
    ("target-shared", "", [{"vdev": "xvdx", "target": "/srv/one.img"}]),
]


@pytest.mark.parametrize(("code", "_words", "disks"), REFUSED, ids=[code for code, _words, _disks in REFUSED])
def test_refused_before_xl_is_asked(site: Site, code: str, _words: str, disks: list[Any]) -> None:
    before = recorded(site)
    result = site.module(
        "xen.virtio.guest",
        {
            "name": "wrong",
            "memory": 64,
            "kernel": DOMD["kernel"],
            "ramdisk": "/root/guest/ramdisk",
            "disks": disks,
        },
    )
    assert result["failed"]
    assert code in {finding["code"] for finding in result["findings"] if finding["severity"] == "error"}
    assert "wrong" not in domids(site)
    assert recorded(site) == before


def test_hotplug_is_refused_as_xl_refuses_it(site: Site) -> None:
    disk = {"vdev": "xvdz", "target": "/srv/one.img"}
    result = site.module("xen.virtio.disk", {"domain": "two", "disks": [disk]})
    assert result["failed"]
    assert "made-by-xl" in {finding["code"] for finding in result["findings"]}
    by_hand = site.board.run(
        "xl block-attach two vdev=xvdz,specification=virtio,target=/srv/one.img", check=False
    )
    assert by_hand.returncode != 0
    assert "Hotplug isn't supported for specification virtio" in by_hand.stderr


def test_drift_is_found(site: Site) -> None:
    disk = planned(site, "two")[0]
    node = f"{paths(disk)[BACKEND]}/params"
    site.board.run(f"xenstore-write {node} /srv/elsewhere.img")
    try:
        told = site.module("xen.virtio.disk_info", {"domains": ["two"]})["guests"][0]["disks"]
        assert {one["vdev"]: one["health"] for one in told} == {"xvda": "drifted", "xvdb": "attached"}
    finally:
        site.board.run(f"xenstore-write {node} {disk.target}")


def test_a_new_configuration_that_fails_is_taken_back(site: Site) -> None:
    """The kernel of the new configuration is none: xl refuses it, and the old guest comes back."""
    site.board.run("echo none >/root/guest/broken")
    declared = {"name": "one", "memory": 64, "vcpus": 1, "cmdline": "console=hvc0", **guests()["one"]}
    options = {"recreate": "allowed", "shutdown_timeout": 240, "create_timeout": 300, "wait_timeout": 60}
    before = domids(site)["one"]
    result = site.module(
        "xen.virtio.guest",
        {
            "guests": [{**declared, "kernel": "/root/guest/broken", "ramdisk": "/root/guest/ramdisk"}],
            **options,
        },
    )
    assert result["failed"], result
    now = domids(site)
    assert now["one"] > before, result["msg"]
    assert 'kernel = "/root/guest/kernel"' in site.board.run("cat /etc/xen/one.cfg").stdout


def test_all_guests_go_and_leave_nothing(site: Site) -> None:
    gone = {name: {"state": "absent"} for name in guests()}
    result = site.module("xen.virtio.guest", {"guests": gone, "shutdown_timeout": 240})
    assert not result["failed"], result["msg"]
    assert set(domids(site)) == {"Domain-0", "DomD"}
    tops = [f"/local/domain/{backend}/backend/virtio_disk" for backend in domids(site).values()]
    assert store(site, *tops) == {}
    assert [one for one in recorded(site) if one != "0"] == [str(domids(site)["DomD"])]
