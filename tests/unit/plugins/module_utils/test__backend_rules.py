# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a backend host lacks, as tables."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._backend_rules import (
    BINDING,
    CODES,
    DEVICES,
    AcceptError,
    Facts,
    Unit,
    as_result,
    findings,
    part,
)
from ansible_collections.xen.virtio.plugins.module_utils._served import Daemon, ServedDisk

ALL = {device.path: "device" for device in DEVICES}
GOOD = Facts(domid=1, store="/dev/xen/xenbus", devices=ALL, kernel="6.1.0", restricted=False, used_nodes=30)
DISK = ServedDisk(3, 51712, "2", ("block", 1, 0), None, "/dev/a")
IDLE = Daemon(pid=10, started=1, command="virtio-disk", unit="virtio-disk.service")
BUSY = replace(IDLE, storage=frozenset({("block", 1, 0)}), devices=True)
SETTINGS = {"daemon": "/d/current/virtio-disk", "version": "2"}
INSTALLED = replace(
    GOOD, settings=SETTINGS, current="/d/2/virtio-disk", launcher={"status": "ready"}, launcher_pid=5
)
UNIT = Unit(3, 51712, version="2", daemon="/d/2/virtio-disk", pid=11, view_pid=12)


def without(path: str) -> dict[str, str]:
    return {name: kind for name, kind in ALL.items() if name != path}


@pytest.mark.parametrize(
    ("facts", "found", "words"),
    [
        (GOOD, [], []),
        (INSTALLED, [], []),
        (replace(GOOD, init="openrc"), [("no-systemd", "error")], ["openrc", "by hand"]),
        (replace(GOOD, init="sysvinit"), [("no-systemd", "error")], ["sysvinit"]),
        (replace(GOOD, init="unknown"), [("no-systemd", "error")], ["something else"]),
        (replace(GOOD, store_error="no such file", domid=None), [("store", "error")], ["no such file", "root"]),
        (replace(GOOD, devices=without("/dev/xen/gntdev")), [("device-missing", "error")],
         ["/dev/xen/gntdev", "CONFIG_XEN_GNTDEV", "modprobe xen-gntdev"]),
        (replace(GOOD, devices=without("/dev/xen/evtchn"), options={"CONFIG_XEN_DEV_EVTCHN": "n"}, config="/c"),
         [("device-missing", "error")], ["/c says that this one is not"]),
        (replace(GOOD, devices=without("/dev/xen/evtchn"), options={"CONFIG_XEN_DEV_EVTCHN": "m"}),
         [("device-missing", "error")], ["Load the module (modprobe xen-evtchn)"]),
        (replace(GOOD, devices=without("/dev/xen/privcmd"), options={"CONFIG_XEN_PRIVCMD": "y"}),
         [("device-missing", "error")], ["devtmpfs"]),
        (replace(GOOD, devices=without("/dev/xen/xenbus")), [("device-missing", "error")], ["CONFIG_XEN "]),
        (replace(GOOD, devices=without("/dev/xen/xenbus"), domid=0), [], []),
        (replace(GOOD, options={"CONFIG_XEN_GRANT_DEV_ALLOC": "n"}, config="/c"), [("kernel-option", "warning")],
         ["CONFIG_XEN_GRANT_DEV_ALLOC"]),
        (replace(GOOD, restricted=True, restricted_why="so"), [("privcmd-restricted", "error")],
         ["so", "xen_privcmd.unrestricted=1"]),
        (replace(GOOD, restricted=None), [], []),
        (replace(GOOD, daemons=[IDLE]), [("foreign-daemon", "warning")], ["Process 10 of virtio-disk.service"]),
        (replace(GOOD, daemons=[BUSY], disks=[DISK]), [("foreign-daemon", "error")],
         ["Process 10", "serves disk 51712 of guest 3", "virtio_disk_backend_disrupt"]),
        (replace(GOOD, daemons=[replace(BUSY, ours=(3, 51712))], disks=[DISK]), [], []),
        (replace(INSTALLED, current=None), [("daemon-missing", "error")], ["/d/current/virtio-disk"]),
        (replace(INSTALLED, launcher={"status": "dead", "reason": "why"}), [("launcher-down", "warning")], ["why"]),
        (replace(INSTALLED, launcher_pid=None), [("launcher-down", "warning")], ["journalctl"]),
        (replace(GOOD, settings_error="/x: bad"), [("launcher-down", "error")], ["/x: bad"]),
        (replace(INSTALLED, units=[UNIT]), [], []),
        (replace(INSTALLED, units=[replace(UNIT, version="1")]), [("pending-restart", "warning")],
         ["Disk 51712 of guest 3", "version 1, and 2"]),
        (replace(INSTALLED, units=[replace(UNIT, daemon="/d/1/virtio-disk")]), [("pending-restart", "warning")],
         ["/d/1/virtio-disk"]),
        (replace(INSTALLED, units=[UNIT], daemons=[replace(IDLE, ours=(3, 51712), exe="/x (deleted)")]),
         [("pending-restart", "warning")], ["was replaced"]),
        (replace(INSTALLED, units=[replace(UNIT, view=True, arguments="")]), [], []),
        (replace(INSTALLED, units=[replace(UNIT, view=False)]), [("pending-restart", "warning")], ["without a view"]),
        (replace(INSTALLED, units=[replace(UNIT, arguments="-l")]), [("pending-restart", "warning")], ["'-l'"]),
        (replace(INSTALLED, units=[replace(UNIT, since=100.0)], written={"/u": 101.0}, now=200.0),
         [("pending-restart", "warning")], ["before /u was written"]),
        (replace(INSTALLED, units=[replace(UNIT, since=100.0)], written={"/u": 99.0}, now=200.0), [], []),
        (replace(INSTALLED, units=[replace(UNIT, since=100.0)], written={"/u": 201.0}, now=200.0), [], []),
        (replace(GOOD, used_nodes=990), [("quota", "warning")], ["990 nodes"]),
        (replace(GOOD, disks=[replace(DISK, devid=n) for n in range(49)]), [("quota", "warning")], ["49 disks"]),
        (replace(GOOD, used_nodes=990, domid=0), [], []),
    ],
)  # fmt: skip
def test_findings(facts: Facts, found: list[tuple[str, str]], words: list[str]) -> None:
    told = findings(facts)
    assert [(one.code, one.severity) for one in told] == found
    text = " ".join(f"{one.message} {one.why} {one.remedy}" for one in told)
    assert [word for word in words if word not in text] == []
    assert {one.code for one in told} <= set(CODES)


def test_a_host_without_anything_is_told_of_all_of_it() -> None:
    told = [one.code for one in findings(Facts(init="openrc", store_error="none"))]
    assert told == ["no-systemd", "store", *["device-missing"] * 4]


def test_the_result_has_one_shape() -> None:
    empty, full = as_result(Facts(store_error="x")), as_result(replace(INSTALLED, units=[UNIT], disks=[DISK]))
    assert set(empty) == set(full)
    assert full["units"][0]["pending_restart"] is False
    assert full["pending_restart"] == []
    assert empty["quota"] is None
    assert full["headroom"] == 48  # 100 watches, 2 for each disk and 2 beside


@pytest.mark.parametrize(
    ("accept", "left"),
    [
        ([], ["device-missing", "kernel-option"]),
        ([{"code": "device-missing", "reason": "a lab"}], ["kernel-option"]),
    ],
)
def test_findings_can_be_accepted(accept: list[Any], left: list[str]) -> None:
    facts = replace(
        GOOD, devices=without("/dev/xen/gntdev"), options={"CONFIG_XEN_GRANT_DEV_ALLOC": "n"}, config="/c"
    )
    standing, accepted = part(findings(facts), accept)
    assert [one.code for one in standing] == left
    assert len(standing) + len(accepted) == 2


@pytest.mark.parametrize(
    "entry",
    [
        "device-missing",
        {},
        {"code": "device-missing"},
        {"code": "device-missing", "reason": ""},
        {"code": "nonsense", "reason": "x"},
        {"code": "quota", "reason": "x", "domain": "DomD"},
        *({"code": code, "reason": "x"} for code in sorted(BINDING)),
    ],
)
def test_what_cannot_be_accepted(entry: Any) -> None:
    with pytest.raises(AcceptError, match="accept: "):
        part([], [entry])
