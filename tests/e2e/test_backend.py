# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role ``virtio_disk_backend`` and its launcher in dom0 and in a driver domain, on a real Xen.

Daemons come and go with their guests.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import Any

import pytest
import standin

from e2e.daemons import Daemons, role, until, wish
from e2e.site import Site
from e2e.trees import above, assert_as_planned, domids, planned, store

#: Guests and who serves their disks.
BACKENDS = {"near": "Domain-0", "left": "DomD", "right": "DomD"}
#: The launcher goes and takes its word back, and the stand-in that answers for other tests is there again. (The role
#: can take all of it away; here that would cost minutes.)
AWAY = """\
systemctl disable --now virtio-disk-launcher.service
xenstore-rm drivers/virtio-disk
systemctl reset-failed
systemd-run --unit=standin python3 /opt/standin/standin.py /opt/standin
"""


def disks(name: str) -> list[dict[str, Any]]:
    """One each, of the same device number: plain daemons would destroy each other's."""
    backend = {"backend": BACKENDS[name]} if BACKENDS[name] != "Domain-0" else {}
    return [{"vdev": "xvda", "target": f"/srv/{name}.img", **backend}]


@pytest.fixture(scope="module")
def variables(site: Site) -> dict[str, Any]:
    """What the role is told: the stand-in's sources as a tarball, since Debian's Xen has no IOREQ server."""
    folder = site.folder / "virtio-disk-1.0"
    standin.copy_sources(folder)
    packed = site.folder / "virtio-disk.tar.gz"
    with tarfile.open(packed, "w:gz") as archive:
        archive.add(folder, folder.name)
    return {
        "virtio_disk_backend_install": "tarball",
        "virtio_disk_backend_src": str(packed),
        "virtio_disk_backend_build_packages": [],  # the image brings a compiler
    }


@pytest.fixture(scope="module")
def daemons(site: Site, variables: dict[str, Any]) -> Iterator[Daemons]:
    """The role ran, and guests were made in one call; the stand-in that answers for other tests is away meanwhile."""
    made = Daemons(site, BACKENDS)
    made.everywhere(
        f"systemctl stop standin; truncate -s 16M {' '.join(f'/srv/{name}.img' for name in made.names)}"
    )
    try:
        role(site, "all", **variables)
        made.make(wish(name, disks(name)) for name in made.names)
        yield made
    finally:
        made.remove()
        made.everywhere(AWAY)


def test_each_guest_has_a_daemon_of_its_own(site: Site, daemons: Daemons) -> None:
    for name in daemons.names:
        expected = planned(site.board, name, disks(name))
        assert_as_planned(expected, store(site.board, *above(expected)))
        assert "ActiveState=active" in daemons.pids(name)
    health = site.module("xen.virtio.disk_info", {"domains": daemons.names})["guests"]
    assert [disk["health"] for guest in health for disk in guest["disks"]] == ["attached"] * len(BACKENDS)


def test_a_new_launcher_leaves_the_daemons_alone(
    site: Site, variables: dict[str, Any], daemons: Daemons
) -> None:
    """One that is killed and comes back, and one that the role restarts, since its unit is another."""
    before = daemons.all_pids(daemons.names)
    daemons.kill_launchers()
    daemons.new_launchers("all", variables)
    assert daemons.all_pids(daemons.names) == before
    guests = sorted(domid for name, domid in domids(site.board).items() if name in BACKENDS)
    until("the disks are told as served", lambda: daemons.served() == guests)


def test_a_guest_that_reboots_by_itself_gets_its_disk_back(site: Site, daemons: Daemons) -> None:
    others = [name for name in daemons.names if name != "left"]
    before = daemons.all_pids(others)
    last = max(domids(site.board).values())
    site.board.run("xl reboot left")
    until("left is back", lambda: domids(site.board).get("left", 0) > last)

    def attached() -> bool:
        found = site.module("xen.virtio.disk_info", {"domains": ["left"]})["guests"]
        return [disk["health"] for guest in found for disk in guest["disks"]] == ["attached"]

    until("left has its disk", attached)
    assert daemons.all_pids(others) == before
