# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What preflight learns of a real host: targets in dom0, and what daemons say of themselves."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from lab import LabHost
from machine import needs_loops
from provisioning import codes, disk, guest, provision

STATUS = "drivers/virtio-disk/status"


def findings(result: Any) -> list[tuple[str, str, str | None]]:
    """(code, severity, domain) of each."""
    return [(one["code"], one["severity"], one["domain"]) for one in result.findings]


# --- targets in dom0 -----------------------------------------------------------------------------------


def test_a_target_of_dom0_has_to_be_there(lab_any: LabHost, domu: int, tmp_path: Path) -> None:
    target = tmp_path / "image"
    declared = guest(domu, disk(target=str(target), backend=0))
    before = lab_any.ls("/")
    for check in (False, True):
        refused = provision(lab_any, declared, check=check)
        assert findings(refused) == [("target-missing", "error", str(domu))]
        assert "is not there in Domain-0" in str(refused.failed)
        assert lab_any.ls("/") == before
    target.mkdir()
    assert "neither a block device nor a regular file" in str(provision(lab_any, declared).failed)
    target.rmdir()
    target.write_bytes(b"")
    assert provision(lab_any, declared).failed is None
    target.unlink()  # a disk that nobody took up yet is looked at again, and may be accepted
    accepted = provision(
        lab_any, declared, accept=[{"code": "target-missing", "vdev": "xvda", "reason": "it comes at boot"}]
    )
    assert accepted.failed is None
    assert [one["code"] for one in accepted.accepted] == ["target-missing"]


def test_a_file_by_two_names_in_two_guests(lab_any: LabHost, domu: int, tmp_path: Path) -> None:
    other = lab_any.add_domain(kind="dom0less")
    (tmp_path / "image").write_bytes(b"")
    os.link(tmp_path / "image", tmp_path / "hard")
    refused = provision(
        lab_any,
        guest(domu, disk(target=str(tmp_path / "image"), backend=0)),
        guest(other, disk("xvdb", target=str(tmp_path / "hard"), backend=0)),
    )
    assert findings(refused) == [("target-shared", "error", str(domu))]
    assert "the same storage: file" in str(refused.failed)


@needs_loops
def test_a_target_that_dom0_has_mounted(lab_any: LabHost, domu: int, tmp_path: Path) -> None:
    image, where = tmp_path / "image", tmp_path / "mounted"
    image.write_bytes(b"")
    os.truncate(image, 8 << 20)
    where.mkdir()
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True, timeout=60)
    subprocess.run(["mount", "-o", "loop", str(image), str(where)], check=True, timeout=60)
    try:
        refused = provision(lab_any, guest(domu, disk(target=str(image), backend=0)))
    finally:
        subprocess.run(["umount", str(where)], check=True, timeout=60)
    assert findings(refused) == [("target-in-use", "error", str(domu))]
    assert f"mounted at {where}" in str(refused.failed)
    assert provision(lab_any, guest(domu, disk(target=str(image), backend=0))).failed is None


# --- daemons -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "wait", "expected"),
    [
        (None, False, []),  # whether a silent daemon serves is seen by waiting
        ("ready", False, []),
        ("dead", False, [("backend-down", "warning", "DomD")]),
        ("dead", True, [("backend-down", "error", "DomD")]),
    ],
)
def test_a_daemon_that_is_not_ready(
    lab_any: LabHost, domd: int, domu: int, status: str | None, wait: bool, expected: list[Any]
) -> None:
    if status is not None:
        lab_any.write(f"/local/domain/{domd}/{STATUS}", status)
    before = lab_any.ls("/libxl")
    done = provision(lab_any, guest(domu, disk()), wait=wait, wait_timeout=0.2)
    assert findings(done) == expected
    refused = any(severity == "error" for _code, severity, _domain in expected)
    assert (lab_any.ls("/libxl") == before) == refused
    assert (done.failed is not None) == refused


def test_a_disk_that_is_attached_needs_nobody_to_be_ready(lab_any: LabHost, domd: int, domu: int) -> None:
    assert provision(lab_any, guest(domu, disk())).failed is None
    lab_any.write(f"/local/domain/{domd}/backend/virtio_disk/{domu}/51712/state", "2")
    lab_any.write(f"/local/domain/{domd}/{STATUS}", "dead")
    again = provision(lab_any, guest(domu, disk()), wait=True, settle=0.0)
    assert (again.failed, codes(again), again.changed) == (None, [], False)
