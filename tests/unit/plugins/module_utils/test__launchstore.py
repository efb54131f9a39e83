# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the launcher makes of nodes, targets and answers; its session with a real xenstored is in tests/system."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.xen.virtio.plugins.module_utils import _launchstore
from ansible_collections.xen.virtio.plugins.module_utils._diskstatus import DISKS_NODE, FAILED, LOST
from ansible_collections.xen.virtio.plugins.module_utils._launchstore import (
    MARK_NODE,
    TREE,
    Nodes,
    Storage,
    StoreSide,
    disk_of,
    numbers,
    storage_of,
    unfit,
)
from ansible_collections.xen.virtio.plugins.module_utils._store import StoreError, StoreLost
from unit.plugins.module_utils.domain import Domain

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


@pytest.mark.parametrize(
    ("folder", "here", "host", "readonly"),
    [
        ("srv", False, False, False),
        ("srv", True, True, True),
        ("srv", True, False, False),  # remounted since the launcher has its own mounts
        ("srv", False, True, True),
        ("srv", True, None, True),  # nobody may look
        ("srv", False, None, False),
        ("usr", True, False, True),  # to units alone
        ("usr", True, None, True),
    ],
)
def test_read_only_is_what_a_daemon_would_find(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    folder: str,
    here: bool,
    host: bool | None,
    readonly: bool,
) -> None:
    image = tmp_path / folder / "a.img"
    image.parent.mkdir()
    image.write_bytes(b"")
    (tmp_path / "link").symlink_to(image)
    flags = {str(image): here, f"/host{image}": host}

    def statvfs(path: str) -> SimpleNamespace:
        flag = flags[path]
        if flag is None:
            raise PermissionError(path)
        return SimpleNamespace(f_flag=os.ST_RDONLY if flag else 0)

    monkeypatch.setattr(os, "statvfs", statvfs)
    monkeypatch.setattr(_launchstore, "_HOST", "/host")
    monkeypatch.setattr(_launchstore, "_SYSTEM", (f"{tmp_path}/usr/",))
    assert ("read-only" in storage_of(str(tmp_path / "link"), writable=True).unfit) == readonly
    assert storage_of(str(tmp_path / "link"), writable=False).unfit == ""


# --- a session --------------------------------------------------------------------------------------------

A, B = (5, 51712), (6, 51712)


@pytest.fixture
def domain(monkeypatch: pytest.MonkeyPatch) -> Domain:
    return Domain.put_in_place(monkeypatch)


def look(side: StoreSide, *remembered: tuple[int, int]) -> list[tuple[int, int]]:
    """The disks that there are, after all events were heard."""
    side.take_events()
    found = side.look(remembered)
    assert found is not None
    return sorted(found)


@pytest.mark.parametrize("code", ["EIO", "ENOMEM", "EBUSY", "EINVAL", "EAGAIN"])
@pytest.mark.parametrize("path", [TREE, f"{TREE}/5", f"{TREE}/5/51712"])
def test_a_listing_that_fails_says_nothing_of_disks(domain: Domain, path: str, code: str) -> None:
    domain.disk(*A)
    domain.disk(*B)
    side = StoreSide()
    assert look(side) == [A, B]
    domain.refused[path] = code
    side.look_everywhere()
    with pytest.raises(StoreError, match=code):
        side.look(())


@pytest.mark.parametrize("code", ["ENOENT", "EACCES"])
def test_a_guest_whose_directory_is_gone_has_no_disks(domain: Domain, code: str) -> None:
    domain.disk(*A)
    domain.disk(*B)
    domain.refused[f"{TREE}/5"] = code
    assert look(StoreSide()) == [B]


def test_a_new_session_takes_disks_for_what_they_were(domain: Domain) -> None:
    domain.disk(*A)
    first = StoreSide()
    look(first)
    births = first.disks[A].births
    second = StoreSide(first)
    assert look(second) == [A]
    assert second.disks[A].births == births
    never_looked = StoreSide(second)
    never_looked.close()
    third = StoreSide(never_looked)
    assert look(third) == [A]
    assert third.disks[A].births == births


def test_a_new_session_knows_a_directory_that_was_gone_for_another_one(domain: Domain) -> None:
    domain.disk(*A)
    first = StoreSide()
    look(first)
    births = first.disks[A].births
    domain.remove(f"{TREE}/5")
    second = StoreSide(first)
    assert look(second) == []
    domain.disk(*A)
    domain.events.append((f"{TREE}/5/51712", "tree"))
    look(second)
    assert second.disks[A].births > births


def test_a_tree_that_was_removed_and_is_back_may_be_another_one(domain: Domain) -> None:
    domain.disk(*A)
    side = StoreSide()
    look(side)
    births = side.disks[A].births
    domain.events.append((TREE, "tree"))
    look(side)
    assert side.disks[A].births > births


def test_a_store_that_came_back_without_the_mark_is_another_one(domain: Domain) -> None:
    """A device tells nobody that it leads to another store, in which nothing is watched."""
    domain.disk(*A)
    side = StoreSide()
    look(side)
    side.look_for_the_mark()
    domain.remove(MARK_NODE)
    with pytest.raises(StoreLost, match="came back"):
        side.look_for_the_mark()
    with pytest.raises(StoreLost, match="came back"):
        side.look(())
    assert look(StoreSide(side)) == [A]


@pytest.mark.parametrize("status", [FAILED, LOST])
def test_what_the_launcher_before_it_gave_up_is_remembered(domain: Domain, status: str) -> None:
    domain.disk(*A)
    domain.put(f"{DISKS_NODE}/5-51712", f"{status} version=1.0 reason=started 2 times".encode())
    domain.put(f"{DISKS_NODE}/6-51712", b"served version=1.0")
    side = StoreSide()
    tracks = side.remembered().tracks
    assert list(tracks) == [A]
    track = tracks[A]
    assert (track.ended, track.why, track.version) == (status, "started 2 times", "1.0")
    look(side, A)
    assert side.disks[A].births == track.births
    domain.remove(f"{TREE}/5")
    domain.events.append((f"{TREE}/5", "tree"))
    look(side, A)
    domain.disk(*A)
    domain.events.append((f"{TREE}/5/51712", "tree"))
    look(side, A)
    assert side.disks[A].births > track.births


def test_what_was_given_up_and_cannot_be_read_is_not_forgotten(domain: Domain) -> None:
    domain.put(f"{DISKS_NODE}/5-51712", b"lost")
    domain.refused[f"{DISKS_NODE}/5-51712"] = "EIO"
    with pytest.raises(StoreError, match="EIO"):
        StoreSide().remembered()
