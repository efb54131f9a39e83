# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands in the board's store, against what the planner lays out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.xen.virtio.plugins.module_utils._layout import (
    BACKEND,
    TREES,
    Attachment,
    Schema,
    nodes,
    paths,
    permissions,
)
from ansible_collections.xen.virtio.plugins.module_utils._mmio import Place, place
from ansible_collections.xen.virtio.plugins.module_utils._vdev import devid

from .board import Board

#: Of Debian 12's Xen, 4.17.
SCHEMA = Schema(grant_usage=False)

#: Path → value and permissions.
Listing = dict[str, tuple[str, tuple[str, ...]]]


def domids(board: Board) -> dict[str, int]:
    """Every domain by name, as xl has them."""
    listed = board.run("xl list").stdout.splitlines()[1:]
    return {line.split()[0]: int(line.split()[1]) for line in listed}


def planned(
    board: Board, name: str, disks: Iterable[Mapping[str, Any]], places: Sequence[Place] | None = None
) -> list[Attachment]:
    """The disks of a guest as the planner lays them out, in places that were told before, or one after the other."""
    known = domids(board)
    found = []
    for index, disk in enumerate(disks):
        backend = known[disk["backend"]] if "backend" in disk else 0
        readonly = disk.get("access") == "ro"
        base, irq = place(index) if places is None else places[index]
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


def store(board: Board, *tops: str) -> Listing:
    """Subtrees of the store by xenstore-ls. All of it with permissions would take a minute here."""
    listing = "; ".join(f"xenstore-ls -fp {top} 2>/dev/null" for top in tops)
    found = {}
    for line in board.run(listing, check=False, timeout=300).stdout.splitlines():
        match = re.match(r'(\S+) = "(.*)"   \((.*)\)$', line)
        if match:
            found[match[1]] = match[2], tuple(match[3].split(","))
    return found


def every_node(board: Board) -> dict[str, str]:
    """The whole store, path → value."""
    lines = board.run("xenstore-ls -f /", timeout=600).stdout.splitlines()
    return {path: value for path, equals, value in (line.partition(" = ") for line in lines) if equals}


def recorded(board: Board) -> list[str]:
    """The domains that libxl has records of."""
    return sorted(board.run("xenstore-list /libxl").stdout.split(), key=int)


def above(disks: Iterable[Attachment]) -> list[str]:
    """The directories that hold these disks' directories."""
    return sorted({top.rpartition("/")[0] for disk in disks for top in paths(disk).values()})


def assert_as_planned(disks: list[Attachment], there: Listing) -> None:
    """Nodes, values and permissions of these disks, and that their backends took them up."""
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
