# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the launcher makes of nodes and targets; its session with a real xenstored is in tests/system."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._launchstore import (
    Nodes,
    Storage,
    disk_of,
    numbers,
    storage_of,
    unfit,
)

WHOLE = Nodes(state="1", params="/dev/a", mode="w", base="33554432", irq="33", frontend="1")

UNFIT = [
    (WHOLE, ""),
    (WHOLE._replace(mode="r"), ""),
    (WHOLE._replace(base=None, irq=None), "nodes are missing: base, irq"),
    (WHOLE._replace(state=None), "nodes are missing: state"),
    (WHOLE._replace(frontend=None), "its frontend is missing: its guest is gone, or yet to come"),
    (WHOLE._replace(frontend="3"), "its frontend is in state '3': its guest is no virtio guest"),
    (WHOLE._replace(params="a"), "its target is no absolute path"),
    (WHOLE._replace(params=""), "its target is no absolute path"),
    (WHOLE._replace(params="/a\nDAEMON=/bin/sh"), "its target is a path that no unit can be told"),
    (WHOLE._replace(params="/\udcff"), "its target is a path that no unit can be told"),
    (WHOLE._replace(params="/" + "a" * 2000), "its target is a path that no unit can be told"),
    (WHOLE._replace(mode="x"), "its mode is 'x'"),
]


@pytest.mark.parametrize(("nodes", "why"), UNFIT)
def test_nodes_that_no_daemon_can_be_started_for(nodes: Nodes, why: str) -> None:
    assert unfit(nodes).startswith(why)
    assert bool(unfit(nodes)) == bool(why)


def test_a_disk_out_of_its_nodes() -> None:
    disk = disk_of(WHOLE, 3, Storage(frozenset({"x"}), 512, ""))
    assert (disk.state, disk.frontend, disk.target, disk.writable) == ("1", "1", "/dev/a", True)
    assert (disk.identity, disk.size, disk.unfit, disk.births) == (frozenset({"x"}), 512, "", 3)
    assert not disk_of(WHOLE._replace(mode="r"), 1, Storage()).writable


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["5", "51712", "0"], [0, 5, 51712]),
        (["05", "-1", "a", "", "\uff15", "1 ", "99999999999"], []),
        (["32752"], [32752]),
    ],
)
def test_names_of_guests_and_disks(names: list[str], found: list[int]) -> None:
    assert numbers(names, 1 << 31) == found


def test_storage_is_looked_at(tmp_path: Path) -> None:
    image = tmp_path / "a.img"
    image.write_bytes(bytes(1024))
    link = tmp_path / "link"
    link.symlink_to(image)
    one, other = storage_of(str(image), writable=True), storage_of(str(link), writable=True)
    assert (one.size, one.unfit) == (1024, "")
    assert one.identity == other.identity != frozenset()
    assert not any(" " in name for name in one.identity)
    assert storage_of(str(tmp_path / "none"), writable=True).unfit.endswith("No such file or directory")
    assert storage_of(str(tmp_path), writable=True).unfit.endswith(
        "neither a block device nor a regular file"
    )
    assert storage_of("/dev/null", writable=False).unfit.endswith("neither a block device nor a regular file")
