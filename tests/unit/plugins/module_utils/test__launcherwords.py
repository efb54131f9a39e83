# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What dom0 makes of a launcher's words: in a snapshot, in rules, in disk_info."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._dialect import DIALECTS
from ansible_collections.xen.virtio.plugins.module_utils._disk_info import disks_of
from ansible_collections.xen.virtio.plugins.module_utils._diskstatus import DiskStatus
from ansible_collections.xen.virtio.plugins.module_utils._findings import Finding
from ansible_collections.xen.virtio.plugins.module_utils._picture import from_plan
from ansible_collections.xen.virtio.plugins.module_utils._preflight import preflight
from ansible_collections.xen.virtio.plugins.module_utils._snapshot import Snapshot
from ansible_collections.xen.virtio.plugins.module_utils._survey import Scope, survey
from unit.plugins.module_utils.hosts import DOMAINS, attached, disk, guest, host, planned
from unit.plugins.module_utils.memory import MemoryStore

KEY = (1, 3, 51712)
WORDS = "/local/domain/1/drivers/virtio-disk"


@pytest.fixture
def store() -> MemoryStore:
    """DomD serves a disk of domu1."""
    made = MemoryStore()
    for domid, name in ((0, "Domain-0"), (1, "DomD"), (3, "domu1")):
        made.add(domid, name)
    for name, value in (("state", b"2"), ("params", b"/dev/a"), ("frontend-id", b"3")):
        made.put(f"/local/domain/1/backend/virtio_disk/3/51712/{name}", value)
    return made


def look(store: MemoryStore) -> Snapshot:
    return survey(store, lambda _domains: Scope(None), userdata="/nonexistent")  # type: ignore[arg-type]


LINES: list[tuple[bytes, DiskStatus | None]] = [
    (b"served size=5 size-now=6 version=1.0", DiskStatus("served", 5, 6, "1.0")),
    (b"lost reason=its daemon ended", DiskStatus("lost", reason="its daemon ended")),
    (b"\xff\xfe", None),
    (b"served " + b"9" * 3000, None),
    (b"", None),
]


@pytest.mark.parametrize(("line", "told"), LINES)
def test_what_is_said_of_a_disk(store: MemoryStore, line: bytes, told: DiskStatus | None) -> None:
    store.put(f"{WORDS}/disks/3-51712", line)
    assert look(store).told == {}  # nobody's word but a launcher's
    store.put(f"{WORDS}/launcher", b"0.1.0")
    assert look(store).told.get(KEY) == told


def test_what_is_said_of_the_launcher_itself(store: MemoryStore) -> None:
    for name, value in (("launcher", b"0.1.0"), ("status", b"dead"), ("reason", b"no\x1b[31m\xff program")):
        store.put(f"{WORDS}/{name}", value)
    snapshot = look(store)
    assert (snapshot.launchers, snapshot.statuses) == ({1: "0.1.0"}, {1: "dead"})
    assert snapshot.reasons == {1: "no?[31m? program"}
    assert snapshot.viewless == frozenset()
    store.put(f"{WORDS}/view", b"off")
    assert look(store).viewless == {1}


def findings(snapshot: Snapshot, *guests: dict[str, Any]) -> list[Finding]:
    plan = planned(snapshot, *guests)
    picture = from_plan(plan, snapshot, DIALECTS["4.20"], lambda _backend, _target: frozenset(), waiting=True)
    return preflight(picture)


@pytest.mark.parametrize(
    ("statuses", "reasons", "says"),
    [
        ({1: "dead"}, {1: "no program"}, "DomD says 'dead' of its daemon (no program) ("),
        ({1: "dead"}, {}, "DomD says 'dead' of its daemon ("),
        ({1: "starting"}, {1: "an old one"}, "DomD says 'starting' of its daemon ("),
    ],
)
def test_why_a_backend_is_down(statuses: dict[int, str], reasons: dict[int, str], says: str) -> None:
    snapshot = host(statuses=statuses, reasons=reasons)
    (found,) = findings(snapshot, guest("domu1", disk()))
    assert found.code == "backend-down"
    assert found.message.startswith(says)


@pytest.mark.parametrize(
    ("launchers", "viewless", "shared"),
    [
        ({}, frozenset(), True),
        ({1: "0.1.0"}, frozenset(), False),
        ({1: "0.1.0"}, frozenset({1}), True),
    ],
)
def test_views_keep_equal_device_numbers_apart(
    launchers: dict[int, str], viewless: frozenset[int], shared: bool
) -> None:
    snapshot = host(attached(4), launchers=launchers, viewless=viewless)
    codes = [found.code for found in findings(snapshot, guest("domu1", disk()))]
    assert ("devid-shared" in codes) == shared


@pytest.mark.parametrize(
    ("told", "target", "grown"),
    [
        (DiskStatus("served", 5, 6), "/dev/a", True),
        (DiskStatus("served", 5, 5), "/dev/a", False),
        (DiskStatus("served", 5, None), "/dev/a", False),
        (DiskStatus("served", 5, 6), "/dev/b", False),  # another target than the one that was measured
        (None, "/dev/a", False),
    ],
)
def test_growth_that_a_launcher_saw(told: DiskStatus | None, target: str, grown: bool) -> None:
    live = attached(target="/dev/a", state="2")
    snapshot = host(live, launchers={1: "0.1.0"}, told={} if told is None else {KEY: told})
    found = [
        one for one in findings(snapshot, guest("domu1", disk(target=target))) if one.code == "size-changed"
    ]
    assert [one.message for one in found] == (
        ["xvda: /dev/a had 5 bytes when the guest got it, and has 6 now"] if grown else []
    )


@pytest.mark.parametrize(
    ("told", "launcher", "sizes"),
    [
        (
            DiskStatus("served", 5, 6, "1.0"),
            {"status": "served", "reason": "", "version": "1.0"},
            (5, 6),
        ),
        (
            DiskStatus("lost", reason="its daemon ended"),
            {"status": "lost", "reason": "its daemon ended", "version": None},
            (None, None),
        ),
        (None, None, (None, None)),
    ],
)
def test_disk_info_shows_it(
    told: DiskStatus | None, launcher: dict[str, Any] | None, sizes: tuple[int | None, int | None]
) -> None:
    snapshot = host(attached(state="2"), told={} if told is None else {KEY: told})
    (shown,) = disks_of(DOMAINS[3], snapshot)
    assert shown["launcher"] == launcher
    assert (shown["size_at_attach"], shown["size_now"]) == sizes
