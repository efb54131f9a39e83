# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests on real Xen for Arm, created by the real xl: what stands there was planned, and what is told is true."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._layout import BACKEND, paths

from e2e.board import CMDLINE
from e2e.site import Site, guests
from e2e.trees import above, assert_as_planned, domids, every_node, planned, store

#: What has nothing to do with guests, and stays: dom0's memory, which xl writes at its first look, and the stand-in's
#: word that it is ready.
LEFT = {
    *(f"/local/domain/0/memory{rest}" for rest in ("", "/target", "/static-max", "/freemem-slack")),
    *(f"/local/domain/0/drivers{rest}" for rest in ("", "/virtio-disk", "/virtio-disk/status")),
}


@pytest.mark.parametrize("name", list(guests()))
def test_trees_are_those_that_were_planned(site: Site, name: str) -> None:
    disks = planned(site.board, name, guests()[name]["disks"], site.predicted[name])
    assert_as_planned(disks, store(site.board, *above(disks)))


@pytest.mark.parametrize("name", list(guests()))
def test_guests_are_told_of_their_devices_where_they_were_planned(site: Site, name: str) -> None:
    """The device tree that libxl made for a guest (the one with so many devices), against the plan."""
    disks, places = guests()[name]["disks"], site.predicted[name]
    backends = [domids(site.board).get(disk.get("backend", "Domain-0"), 0) for disk in disks]
    trees = [re.findall(r"virtio@([0-9a-f]+) \{(.*?)\};", text, re.DOTALL) for text in site.device_trees()]
    (found,) = (tree for tree in trees if len(tree) == len(disks))
    assert [int(address, 16) for address, _body in found] == [place.base for place in places]
    for index, (_address, body) in enumerate(found):
        assert f"interrupts = <0x00 {places[index].irq - 32:#04x} 0xf01>" in body
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
    assert told.pop("dom0less-1")["made_by"] != "xl"
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
    assert (told["xen"]["release"], told["xen"]["arch"]) == ("4.17", info["machine"])
    assert told["memory"]["total"] == int(info["total_memory"])
    assert told["xen"]["ioreq"]["support"] == "no"  # Debian builds its Xen without
    assert {one["domain"]: one["status"] for one in told["backends"]} == {
        "Domain-0": "ready",
        "DomD": "ready",
    }


def test_a_second_run_changes_nothing(site: Site) -> None:
    before = domids(site.board)
    done, counts = site.site()
    assert (done.returncode, counts["changed"]) == (0, 0), done.stdout
    assert domids(site.board) == before


def test_drift_is_found(site: Site) -> None:
    disk = planned(site.board, "two", guests()["two"]["disks"], site.predicted["two"])[0]
    node = f"{paths(disk)[BACKEND]}/params"
    site.board.run(f"xenstore-write {node} /srv/elsewhere.img")
    try:
        told = site.module("xen.virtio.disk_info", {"domains": ["two"]})["guests"][0]["disks"]
        assert {each["vdev"]: each["health"] for each in told} == {"xvda": "drifted", "xvdb": "attached"}
        report = site.audit()
        found = {(each["code"], each["domain"], each["vdev"]) for each in report["findings"]}
        # the stand-in that answers here is no daemon, and the audit says so of each disk
        found = {each for each in found if each[0] != "daemon-missing"}
        assert {each for each in found if each[1] in guests()} == {("drift-store", "two", "xvda")}
    finally:
        site.board.run(f"xenstore-write {node} {disk.target}")


#: Of calls that may make guests anew.
RECREATE = {"recreate": "allowed", "shutdown_timeout": 240, "create_timeout": 300, "wait_timeout": 60}


def one(**more: str) -> dict[str, Any]:
    """The guest ``one`` as the inventory has it, or with something of its own."""
    declared = {"name": "one", "memory": 64, "vcpus": 1, "cpus": "3", "cmdline": CMDLINE}
    files = {"kernel": "/root/guest/kernel", "ramdisk": "/root/guest/ramdisk"}
    return {**declared, **files, **guests()["one"], **more}


def test_a_new_configuration_that_fails_is_taken_back(site: Site) -> None:
    """The kernel of the new configuration is none: xl refuses it, and the old guest comes back."""
    site.board.run("echo none >/root/guest/broken")
    before = domids(site.board)["one"]
    result = site.module("xen.virtio.guest", {"guests": [one(kernel="/root/guest/broken")], **RECREATE})
    assert result["failed"], result
    now = domids(site.board)
    assert now["one"] > before, result["msg"]
    assert 'kernel = "/root/guest/kernel"' in site.board.run("cat /etc/xen/one.cfg").stdout
    disks = planned(site.board, "one", guests()["one"]["disks"], site.predicted["one"])
    assert_as_planned(disks, store(site.board, *above(disks)))


def test_a_new_configuration_makes_a_new_domain(site: Site) -> None:
    before = domids(site.board)
    wish = {"guests": [one(cmdline=f"{CMDLINE} quiet")]}
    kept = site.module("xen.virtio.guest", {**wish, **RECREATE, "recreate": "never"})
    assert kept["failed"], kept
    assert domids(site.board) == before

    result = site.module("xen.virtio.guest", {**wish, **RECREATE})
    assert not result["failed"], result["msg"]
    now = domids(site.board)
    assert now.pop("one") > before.pop("one")
    assert now == before
    disks = planned(site.board, "one", guests()["one"]["disks"], site.predicted["one"])
    assert_as_planned(disks, store(site.board, *above(disks)))


def test_all_guests_go_and_leave_the_store_as_it_was(site: Site) -> None:
    gone = {name: {"state": "absent"} for name in guests()}
    result = site.module("xen.virtio.guest", {"guests": gone, "shutdown_timeout": 240})
    assert not result["failed"], result["msg"]
    assert set(domids(site.board)) == {"Domain-0", "dom0less-1", "DomD"}
    tops = [f"/local/domain/{backend}/backend/virtio_disk" for backend in domids(site.board).values()]
    assert store(site.board, *tops) == {}

    result = site.module("xen.virtio.guest", {"name": "DomD", "state": "absent", "shutdown_timeout": 240})
    assert not result["failed"], result["msg"]
    assert set(domids(site.board)) == {"Domain-0", "dom0less-1"}
    after = every_node(site.board)
    assert {path: value for path, value in site.before.items() if after.get(path) != value} == {}
    assert sorted(path for path in after if path not in site.before and path not in LEFT) == []
