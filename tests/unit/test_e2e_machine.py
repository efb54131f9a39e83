# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``make e2e`` on a machine that cannot hold its board: refused at once, with what is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from e2e import board, image

ROOT = Path(__file__).resolve().parents[2]


def test_without_an_emulator_it_names_the_packages(tmp_path: Path) -> None:
    """The command itself, where none of its programs is found."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/e2e")],
        env={"PATH": str(tmp_path), "XEN_VIRTIO_E2E_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 77
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "e2e: cannot run here: the emulated board needs Debian packages that are not installed: "
        "qemu-system-arm device-tree-compiler openssh-client"
    ]
    assert not (tmp_path / "cache").exists()


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """All programs are there; what the machine has of memory and disk is its own."""
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")


@pytest.mark.usefixtures("installed")
def test_without_memory_it_tells_how_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "NEEDED_MEMORY", 1 << 30)
    with pytest.raises(
        image.E2eUnavailable,
        match=r"^the board needs 1073741824 MiB of free memory; this machine has [1-9]\d*$",
    ):
        board.check_machine(tmp_path)


@pytest.mark.usefixtures("installed")
def test_without_room_it_tells_where_and_how_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "NEEDED_MEMORY", 1)
    monkeypatch.setattr(image, "NEEDED_DISK", 1 << 40)
    with pytest.raises(
        image.E2eUnavailable,
        match=rf"^the board needs 1099511627776 MiB of disk at {tmp_path}; there are [1-9]\d*$",
    ):
        board.check_machine(tmp_path)
