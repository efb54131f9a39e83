# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``disk`` on domains of the board that xl did not make: one that Xen made at boot, one of another toolstack."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._layout import paths

from e2e.site import Site
from e2e.trees import above, assert_as_planned, domids, planned, recorded, store

#: What init-dom0less calls the domain that Xen made at boot: it is the first one.
DOM0LESS = "dom0less-1"

#: A domain made paused, whose toolstack keeps no records in libxl's way: those of xl are taken away.
PAUSED = """\
set -e
cat >/root/paused.cfg <<'END'
name = "paused"
kernel = "/root/guest/kernel"
ramdisk = "/root/guest/ramdisk"
memory = 64
END
xl create -p -q /root/paused.cfg
domid=$(xl domid paused)
rm -f /var/lib/xen/userdata-?.$domid.*
"""


@pytest.fixture(scope="module")
def paused(site: Site) -> Iterator[str]:
    site.board.run(PAUSED)
    yield "paused"
    site.board.run("xl destroy paused")


@pytest.fixture(params=[DOM0LESS, "paused"])
def domain(request: pytest.FixtureRequest, site: Site) -> str:
    name: str = request.param
    if name == "paused":
        request.getfixturevalue("paused")
    assert name in domids(site.board)
    return name


def disks() -> list[dict[str, Any]]:
    return [
        {"vdev": "xvdm", "target": "/srv/m.img"},
        {"vdev": "xvdn", "target": "/srv/n.img", "backend": "DomD", "access": "ro"},
    ]


def test_disks_come_and_go(site: Site, domain: str) -> None:
    site.board.run("truncate -s 16M /srv/m.img")
    before = recorded(site.board)
    wish = {"domain": domain, "disks": disks(), "wait_timeout": 60}

    seen = site.module("xen.virtio.disk", wish, "--check", "--diff")
    assert (seen["failed"], seen["changed"]) == (False, True), seen
    assert [disk["action"] for disk in seen["guests"][0]["disks"]] == ["added", "added"]
    for disk in planned(site.board, domain, disks()):
        assert store(site.board, *paths(disk).values()) == {}

    made = site.module("xen.virtio.disk", wish)
    assert not made["failed"], made["msg"]
    assert [(disk["action"], disk["health"]) for disk in made["guests"][0]["disks"]] == [
        ("added", "attached")
    ] * 2
    expected = planned(site.board, domain, disks())
    assert_as_planned(expected, store(site.board, *above(expected)))
    assert [(disk["base"], disk["irq"]) for disk in made["guests"][0]["disks"]] == [
        (disk.base, disk.irq) for disk in expected
    ]

    again = site.module("xen.virtio.disk", wish)
    assert (again["failed"], again["changed"]) == (False, False), again
    told = site.module("xen.virtio.disk_info", {"domains": [domain]})["guests"][0]["disks"]
    assert [disk["health"] for disk in told] == ["attached", "attached"]

    gone = site.module("xen.virtio.disk", {**wish, "state": "absent", "hotplug": True})
    assert not gone["failed"], gone["msg"]
    for disk in expected:
        assert store(site.board, *paths(disk).values()) == {}
    assert recorded(site.board) == before
