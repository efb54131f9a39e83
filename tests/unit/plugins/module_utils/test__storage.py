# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Other names of one storage: files here, block devices through a made-up /sys."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils import _storage, _sysfiles
from ansible_collections.xen.virtio.plugins.module_utils._archive import archive_bytes
from ansible_collections.xen.virtio.plugins.module_utils._storage import (
    Mount,
    Storage,
    identify,
    parse_mounts,
    parse_swaps,
)


def test_a_file_and_its_links_are_one(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"")
    (tmp_path / "soft").symlink_to("image")
    os.link(tmp_path / "image", tmp_path / "hard")
    (tmp_path / "other").write_bytes(b"")
    names = {name: identify(0, str(tmp_path / name)) for name in ("image", "soft", "hard", "other")}
    assert names["image"] == names["soft"] == names["hard"] != names["other"]
    assert len(names["image"]) == 1


@pytest.mark.parametrize(
    ("backend", "target"),
    [
        (1, "/etc/hostname"),
        (0, "/no/such/file"),
        (0, "relative"),
        (0, ""),
        (0, "/a\0b"),
        (0, "/dev/null"),
        (0, "/"),
    ],
)
def test_of_these_nothing_can_be_told(backend: int, target: str) -> None:
    assert identify(backend, target) == frozenset()


#: device → (major:minor, files below its /sys/dev/block entry)
DEVICES: dict[str, tuple[int, int, dict[str, str]]] = {
    "/dev/sda": (8, 0, {"sda1/dev": "8:1", "sda1/partition": "1", "sda2/dev": "8:2", "sda2/partition": "2"}),
    "/dev/sda1": (8, 1, {"partition": "1", "../dev": "8:0", "uevent": "MAJOR=8\nDEVNAME=sda1"}),
    "/dev/sda2": (8, 2, {"partition": "2", "../dev": "8:0", "holders/dm-0": "", "holders/md7": ""}),
    "/dev/sdb": (8, 16, {"size": "2048", "ro": "1"}),
    "/dev/dm-0": (253, 0, {"size": "1024", "ro": "0"}),
    "/dev/disk/by-id/x": (8, 1, {"partition": "1", "../dev": "8:0"}),
    "/dev/loop0": (7, 0, {"loop/backing_file": "/image"}),
    "/dev/loop1": (7, 1, {"loop/backing_file": "/image (deleted)"}),
    "/dev/loop2": (7, 2, {"loop/backing_file": "/dev/loop2"}),
    "/dev/loop3": (7, 3, {"loop/backing_file": "/dev/sda"}),
}


MOUNTS = r"""22 28 0:20 / /proc rw,nosuid shared:5 - proc proc rw
30 28 253:0 / /a\040b rw,relatime shared:1 master:2 - ext4 /dev/mapper/vg-root rw
31 28 0:40 /sub /pool rw - btrfs /dev/sda1 rw,subvol=/sub
32 28 0:41 / /gone rw - btrfs /dev/gone rw
half a line
"""
SWAPS = "Filename\tType\tSize\tUsed\tPriority\n/dev/sdb partition 1 0 -2\n/no\\040file file 1 0 -3\n\n"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with these devices and one image file."""
    files = {
        f"/sys/dev/block/{major}:{minor}/{name}": text
        for major, minor, entries in DEVICES.values()
        for name, text in entries.items()
    }

    files["/sys/class/block/dm-0/dm/name"] = "vg-root"
    files["/proc/self/mountinfo"] = MOUNTS
    files["/proc/swaps"] = SWAPS

    def status(path: str) -> Any:
        if path == "/image":
            return SimpleNamespace(st_mode=stat.S_IFREG, st_dev=1, st_ino=5, st_rdev=0)
        if path not in DEVICES:
            raise FileNotFoundError(path)
        major, minor, _files = DEVICES[path]
        return SimpleNamespace(st_mode=stat.S_IFBLK, st_rdev=os.makedev(major, minor), st_dev=0, st_ino=0)

    monkeypatch.setattr(os, "stat", status)
    monkeypatch.setattr(os.path, "exists", lambda path: path in files)
    monkeypatch.setattr(_sysfiles, "line", files.get)
    monkeypatch.setattr(_sysfiles, "text", lambda path: files.get(path, ""))
    monkeypatch.setattr(os.path, "realpath", lambda path: path)
    monkeypatch.setattr(_storage, "_held", lambda _path, _device: ((), None))
    monkeypatch.setattr(
        _sysfiles,
        "entries",
        lambda top: sorted(
            {path[len(top) + 1 :].split("/")[0] for path in files if path.startswith(f"{top}/")}
        ),
    )


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ("/dev/sda", "/dev/sda1", True),
        ("/dev/sda1", "/dev/sda2", False),
        ("/dev/sda1", "/dev/disk/by-id/x", True),
        ("/dev/sda", "/dev/sda", True),
        ("/dev/loop0", "/image", True),
        ("/dev/loop1", "/image", False),
        ("/dev/loop2", "/dev/loop2", True),
        ("/dev/loop0", "/dev/sda", False),
    ],
)
@pytest.mark.usefixtures("machine")
def test_block_devices(one: str, other: str, meet: bool) -> None:
    assert bool(identify(0, one) & identify(0, other)) == meet


def test_the_tables_of_the_kernel() -> None:
    assert parse_mounts(MOUNTS) == [
        Mount("0:20", "/proc", "proc"),
        Mount("253:0", "/a b", "/dev/mapper/vg-root"),
        Mount("0:40", "/pool", "/dev/sda1"),
        Mount("0:41", "/gone", "/dev/gone"),
    ]
    assert parse_swaps(SWAPS) == ["/dev/sdb", "/no file"]
    assert parse_mounts("") == []
    assert parse_swaps("") == []


BTRFS = ("mount", "/pool", "/dev/sda1")
VOLUMES = [("holder", "/dev/dm-0 (vg-root)", "/dev/sda2"), ("holder", "/dev/md7", "/dev/sda2")]


@pytest.mark.parametrize(
    ("target", "size", "readonly", "uses"),
    [
        ("/dev/sda1", None, None, [BTRFS]),
        ("/dev/sda2", None, None, VOLUMES),
        ("/dev/sda", None, None, [BTRFS, *((by, what, "device 8:2") for by, what, _on in VOLUMES)]),
        ("/dev/sdb", 2048 * 512, True, [("swap", "/dev/sdb", "/dev/sdb")]),
        ("/dev/dm-0", 1024 * 512, False, [("mount", "/a b", "/dev/dm-0")]),
        ("/dev/loop0", None, None, []),
        ("/dev/loop2", None, None, []),
        ("/dev/loop3", None, None, [BTRFS, *((by, what, "device 8:2") for by, what, _on in VOLUMES)]),
    ],
)
@pytest.mark.usefixtures("machine")
def test_who_uses_a_device(target: str, size: int | None, readonly: bool | None, uses: list[Any]) -> None:
    facts = Storage().look(target)
    assert (facts.kind, facts.size, facts.readonly) == ("block", size, readonly)
    assert [tuple(use) for use in facts.uses] == uses


def test_it_goes_with_what_is_applied_at_boot() -> None:
    """Although it is taken in only where dom0 serves a disk."""
    with zipfile.ZipFile(io.BytesIO(archive_bytes("_boot"))) as archive:
        assert "xen_virtio/_storage.py" in archive.namelist()
