# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be known of a host, as tables; whole hosts are in tests/system."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._host_info import (
    _hypfs_config,
    _linked_release,
    _sysfs_version,
    accepted,
    daemon_kind,
    ioreq_support,
)
from ansible_collections.xen.virtio.plugins.module_utils._preflight import headroom
from ansible_collections.xen.virtio.plugins.module_utils._snapshot import Quota
from ansible_collections.xen.virtio.plugins.module_utils._store import StoreError

REFUSED = StoreError("CONTROL", "help", "EINVAL", "no")


@pytest.mark.parametrize(
    ("arch", "caps", "config", "serving", "support"),
    [
        ("x86_64", "xen-3.0-x86_64 hvm-3.0-x86_32", None, None, "yes"),
        ("x86_64", None, None, None, "yes"),
        ("x86_64", "xen-3.0-x86_64", None, None, "no"),
        ("aarch64", "xen-3.0-aarch64", None, None, "unknown"),
        ("aarch64", None, None, None, "unknown"),
        ("aarch64", None, "CONFIG_ARM_64=y\nCONFIG_IOREQ_SERVER=y\n", None, "yes"),
        ("aarch64", None, "CONFIG_ARM_64=y\n# CONFIG_IOREQ_SERVER is not set\n", None, "no"),
        ("aarch64", None, None, "disk xvda of domu1", "yes"),
        # what the build says counts more than a state that a daemon is just about to take back
        ("armv7l", None, "CONFIG_ARM_32=y\n", "disk xvda of domu1", "no"),
    ],
)
def test_ioreq(arch: str, caps: str | None, config: str | None, serving: str | None, support: str) -> None:
    found = ioreq_support(arch, caps, config, serving)
    assert found["support"] == support
    assert found["why"]


@pytest.mark.parametrize(
    ("quota", "disks", "room"),
    [
        (Quota(1000, 128, used_nodes=26, used_watches=1), 0, 54),
        (Quota(1000, 128, used_nodes=26 + 36, used_watches=5), 2, 52),
        (Quota(1000, 100, assumed="x"), 0, 49),  # watches run out first
        (Quota(1000, 100, assumed="x"), 40, 9),
        (Quota(1000, 128, used_nodes=10, used_watches=120), 2, 4),  # of other drivers of the domain
        (Quota(1000, 128, used_nodes=990, used_watches=1), 50, 0),
        (Quota(1000, 128, used_nodes=1010, used_watches=1), 54, 0),
    ],
)
def test_headroom(quota: Quota, disks: int, room: int) -> None:
    assert headroom(quota, disks) == room


@pytest.mark.parametrize(
    ("helped", "program", "kind"),
    [
        (b"Command not supported. Valid commands are:\nmemreport\t[<file>]\n", b"", "xenstored"),
        (b"OK\0", b"/usr/lib/xen-4.17/bin/oxenstored", "oxenstored"),
        (b"OK\0", b"", None),
        (REFUSED, REFUSED, None),
    ],
)
def test_which_daemon_answers(
    helped: bytes | StoreError, program: bytes | StoreError, kind: str | None
) -> None:
    assert daemon_kind(helped, program) == kind


@pytest.mark.parametrize(
    ("release", "accepts", "note"),
    [
        ("4.17", {"specification": True, "grant_usage": False, "virtio": False}, None),
        ("4.22", {"specification": True, "xenstore_quota": True, "virtio": False}, None),
        ("4.16", {"specification": False, "grant_usage": False}, "no virtio disks"),
        ("4.30", {"specification": True, "grant_usage": True}, "newer"),
        (None, {"specification": None, "grant_usage": None}, "does not tell"),
    ],
)
def test_what_a_release_accepts(release: str | None, accepts: dict[str, bool], note: str | None) -> None:
    found = accepted(release)
    assert {name: found["accepts"][name] for name in accepts} == accepts
    assert (found["note"] is None) if note is None else (note in found["note"])


@pytest.mark.parametrize(
    ("files", "version"),
    [
        ({"major": "4\n", "minor": "17\n", "extra": ".6-pre\n"}, ("4.17", "4.17.6-pre")),
        ({"major": "4\n", "minor": "20\n"}, ("4.20", "4.20")),
        ({"major": "4\n"}, None),
        ({"major": "four\n", "minor": "17\n"}, None),
        ({}, None),
    ],
)
def test_the_version_that_linux_tells(
    tmp_path: Path, files: dict[str, str], version: tuple[str, str] | None
) -> None:
    (tmp_path / "version").mkdir()
    for name, text in files.items():
        (tmp_path / "version" / name).write_text(text)
    found = _sysfs_version(str(tmp_path))
    assert (None if found is None else (found.release, found.text)) == version


@pytest.mark.parametrize(
    ("content", "release"),
    [
        (b"\x7fELF\2\1\1\0\0libxenlight.so.4.20\0libc.so.6\0", "4.20"),
        (b"\x7fELF\2\1\1\0\0libc.so.6\0", None),
        (b"#!/bin/sh\n# libxenlight.so.4.20\n", None),
        (b"", None),
    ],
)
def test_the_release_of_a_toolstack(tmp_path: Path, content: bytes, release: str | None) -> None:
    command = tmp_path / "xl"
    command.write_bytes(content)
    assert _linked_release(str(command), None) == release
    assert _linked_release(None, "4.17") is None


@pytest.mark.parametrize(
    ("script", "config"),
    [
        ("echo CONFIG_IOREQ_SERVER=y", "CONFIG_IOREQ_SERVER=y\n"),
        ("echo 'no such entry' >&2; exit 1", None),
        ("echo nothing of use", None),
    ],
)
def test_the_hypervisors_own_configuration(tmp_path: Path, script: str, config: str | None) -> None:
    command = tmp_path / "xenhypfs"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    assert _hypfs_config(str(command)) == config
    assert _hypfs_config(str(tmp_path / "missing")) is None
