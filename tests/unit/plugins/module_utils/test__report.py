# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks and plans as results and differences carry them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._layout import Branch
from ansible_collections.xen.virtio.plugins.module_utils._report import (
    _safe,
    counts,
    diff,
    finished_disk,
    live_attachment,
    planned_disk,
    xen_live,
)
from ansible_collections.xen.virtio.plugins.module_utils._snapshot import LiveDisk, Snapshot, XenDisk
from unit.plugins.module_utils.hosts import DOMAINS, attached, disk, guest, host, planned

KEYS = {
    "vdev", "devid", "target", "access", "format", "backend", "backend_domid", "backendtype", "specification",
    "transport", "base", "irq", "grant_usage", "backend_path", "frontend_path", "action", "state", "health",
}  # fmt: skip
XEN = {"vdev": "xvdb", "target": "/dev/x", "specification": "xen"}
XEN_LIVE = XenDisk(
    3, 51728, 0, {"params": "/dev/x", "type": "phy", "mode": "w", "dev": "xvdb", "device-type": "disk"}
)
WITH_XEN = host(xen_disks={3: {51728: XEN_LIVE}})
SAME = disk(target="/dev/vg/3-51712")
TORN = LiveDisk(3, 51712, None, None, Branch((), {}, {}), {1: Branch((), {}, {}), 2: Branch((), {}, {})})


@pytest.mark.parametrize(
    ("snapshot", "wish", "absent", "action", "before", "after"),
    [
        (host(), disk(), False, "added", (None, "missing"), ("1", "pending")),
        (host(attached()), "xvda", True, "removed", ("1", "pending"), (None, "missing")),
        (host(attached(state="2")), SAME, False, "unchanged", ("2", "attached"), ("2", "attached")),
        (host(attached()), disk(), False, "changed", ("1", "drifted"), ("5", "closing")),
        (host(attached()), disk(backend="DomE"), False, "changed", ("1", "drifted"), ("6", "closed")),
        (host(TORN), disk(), False, "changed", (None, "missing"), (None, "missing")),
        (host(TORN), "xvda", True, "removed", (None, "missing"), (None, "missing")),
        (host(), XEN, False, "added", (None, "unknown"), (None, "unknown")),
        (WITH_XEN, "xvdb", True, "removed", (None, "unknown"), (None, "unknown")),
        (WITH_XEN, {**XEN, "access": "ro"}, False, "changed", (None, "unknown"), (None, "unknown")),
    ],
)  # fmt: skip
def test_every_disk_has_one_shape(
    snapshot: Snapshot,
    wish: Any,
    absent: bool,
    action: str,
    before: tuple[str | None, str],
    after: tuple[str | None, str],
) -> None:
    plan = planned(snapshot, guest("domu1", wish), absent=absent, hotplug=True)
    (one,) = plan.guests[0].disks
    then = planned_disk(plan.guests[0], one, snapshot)
    now = finished_disk(plan.guests[0], one, snapshot, after[0])
    assert set(now) == KEYS
    assert set(then) - {"drift"} == KEYS
    assert ("drift" in then) == (action == "changed" and then["specification"] == "virtio")
    assert (then["action"], then["state"], then["health"]) == (action, *before)
    assert (now["action"], now["state"], now["health"]) == (action, *after)
    assert then["devid"] == (51728 if then["specification"] == "xen" else 51712)
    json.dumps([then, now])


@pytest.mark.parametrize(
    ("snapshot", "wish", "lines"),
    [
        (host(attached(state="2")), SAME, ([], [])),
        (host(), disk(access="ro"), ([], ["xvda (51712):", "  access: ro", "  backend: DomD (1)"])),
        (host(attached()), disk(), (["  target: /dev/vg/3-51712"], ["  target: /dev/vg/a"])),
        (
            host(replace(attached(), record=None)),
            SAME,
            ([], ["  /libxl/3/device/virtio_disk/51712: present"]),
        ),
        (host(attached(target="/a\x1b[31m\udcff")), disk(), (["  target: '/a\\x1b[31m\\udcff'"], [])),
        (host(attached(vdev="xvda\n+evil")), disk(), (["'xvda\\n+evil' (51712):"], ["xvda (51712):"])),
        (
            host(),
            disk(trusted=False, direct_io_safe=True, devtype="cdrom"),
            ([], ["  devtype: cdrom", "  direct_io_safe: true", "  trusted: false"]),
        ),
    ],
)  # fmt: skip
def test_the_difference_a_person_sees(
    snapshot: Snapshot, wish: Any, lines: tuple[list[str], list[str]]
) -> None:
    plan = planned(snapshot, guest("domu1", wish))
    found = diff(plan.guests[0], snapshot)
    for side, expected in zip(("before", "after"), lines):
        shown = found[side].splitlines()
        assert [line for line in expected if line not in shown] == []
        assert bool(shown) or not expected
    assert found["before_header"] == "domu1 (domain 3)"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/dev/sda", "/dev/sda"),
        ("/dev/grün", "/dev/grün"),
        (" x", "' x'"),
        ("a\nb", "'a\\nb'"),
        ("\x1b[2J", "'\\x1b[2J'"),
        ("\udcff", "'\\udcff'"),
        ("\u202e", "'\\u202e'"),
        ("", ""),
    ],
)
def test_what_a_guest_wrote_is_fit_for_a_terminal(text: str, shown: str) -> None:
    assert _safe(text) == shown


@pytest.mark.parametrize(
    ("nodes", "target", "form", "kind"),
    [
        ({"type": "phy", "params": "/dev/a:b"}, "/dev/a:b", "raw", "phy"),
        ({"type": "qdisk", "params": "qcow2:/a:b"}, "/a:b", "qcow2", "qdisk"),
        ({"type": "qdisk", "params": "raw:"}, "", "raw", "qdisk"),
        ({}, "", "", None),
    ],
)
def test_xen_disks_are_read_from_their_record(
    nodes: dict[str, str], target: str, form: str, kind: str | None
) -> None:
    shown = xen_live(XenDisk(3, 51712, 7, nodes), DOMAINS, "unchanged")
    assert (shown["target"], shown["format"], shown["backendtype"], shown["backend"]) == (
        target,
        form,
        kind,
        None,
    )


def test_a_disk_of_which_nothing_can_be_read() -> None:
    assert live_attachment(TORN).vdev == "xvda"
    assert live_attachment(TORN).target == ""


def test_counts() -> None:
    disks = [{"action": action} for action in ("added", "unchanged", "added", "removed")]
    assert counts([{"disks": disks}, {"disks": disks[:1]}]) == {"added": 3, "removed": 1}
