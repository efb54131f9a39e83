# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps over a store in memory: what each looks at first, and what it leaves."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from ansible_collections.xen.virtio.plugins.module_utils import _apply
from ansible_collections.xen.virtio.plugins.module_utils._apply import Overtaken, apply, written
from ansible_collections.xen.virtio.plugins.module_utils._layout import (
    Attachment,
    Schema,
    differences,
    nodes,
    paths,
    permissions,
)
from ansible_collections.xen.virtio.plugins.module_utils._plan import Close, Remove, Repair, Step, Write
from ansible_collections.xen.virtio.plugins.module_utils._protocol import OPS
from ansible_collections.xen.virtio.plugins.module_utils._snapshot import Snapshot
from ansible_collections.xen.virtio.plugins.module_utils._survey import Scope, survey
from ansible_collections.xen.virtio.plugins.module_utils._xl import Xl
from unit.plugins.module_utils.hosts import NEWEST_SCHEMA
from unit.plugins.module_utils.memory import MemoryStore, Tree

DISK = Attachment(3, 1, 51712, "xvda", "/dev/a", readonly=False, base=0x2000000, irq=33, grant_usage=True)
NEXT = Attachment(3, 1, 51728, "xvdb", "/dev/b", readonly=True, base=0x2000200, irq=34, grant_usage=True)
AT = paths(DISK)


@pytest.fixture
def store() -> MemoryStore:
    """dom0, a driver domain, a guest."""
    made = MemoryStore()
    for domid in (0, 1, 3):
        made.add(domid, f"dom{domid}")
    return made


def look(store: MemoryStore) -> Snapshot:
    return survey(store, lambda _domains: Scope(None), userdata="/nonexistent")  # type: ignore[arg-type]


def carry_out(store: MemoryStore, *steps: Step, seen: Snapshot | None = None) -> list[str]:
    return apply(steps, seen or look(store), store, Xl("/nonexistent"), lambda _step: None)  # type: ignore[arg-type]


def below(store: MemoryStore, *tops: str) -> Tree:
    return {path: held for path, held in store.tree.items() if path.startswith(tops)}


def test_a_disk_is_written_as_the_layout_has_it(store: MemoryStore) -> None:
    carry_out(store, Write(DISK, NEWEST_SCHEMA, None))
    for tree, wanted in nodes(DISK, NEWEST_SCHEMA).items():
        perms = permissions(DISK)[tree]
        expected = {f"{AT[tree]}/{name}": (value.encode(), perms) for name, value in wanted.items()}
        assert below(store, f"{AT[tree]}/") == expected


def test_in_the_order_of_libxl() -> None:
    requests = [(request.op, request.path) for request in written(Write(DISK, NEWEST_SCHEMA, None))]
    rm, mkdir, perms = OPS["RM"], OPS["MKDIR"], OPS["SET_PERMS"]
    for tree in ("frontend", "backend"):
        at = requests.index((mkdir, AT[tree]))
        assert requests[at - 1 : at + 2] == [(rm, AT[tree]), (mkdir, AT[tree]), (perms, AT[tree])]
    assert [path for _op, path in requests[:3]] == [
        AT["record"],
        f"{AT['record']}/frontend",
        f"{AT['record']}/backend",
    ]
    assert requests[-1][1] == f"{AT['record']}/grant_usage"


# --- the ground ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "act",
    [
        lambda s: s.put("/local/domain/3/vm", b"/vm/other"),
        lambda s: s.put("/local/domain/1/vm", b"/vm/other"),
        lambda s: s.remove("/local/domain/1"),
        lambda s: s.alive.discard(3),
        lambda s: s.alive.discard(1),
        lambda s: s.put("/libxl/3/device/virtio/0/irq", b"35"),
        lambda s: s.put("/libxl/3/device/virtio_disk/51744/irq", b"35"),
        lambda s: s.put("/libxl/3/device/virtio_disk/51728/irq", b"35"),
        lambda s: s.put(f"{paths(NEXT)['backend']}/state", b"2"),
        lambda s: s.remove(paths(NEXT)["backend"]),
        lambda s: s.remove(paths(NEXT)["record"]),
    ],
)
def test_what_ends_a_step(store: MemoryStore, act: Callable[[MemoryStore], None]) -> None:
    carry_out(store, Write(NEXT, NEWEST_SCHEMA, None))
    seen = look(store)
    act(store)
    before = dict(store.tree)
    changed = Write(NEXT, Schema(grant_usage=False), seen.disks[NEXT.key])
    with pytest.raises(Overtaken):
        carry_out(store, changed, seen=seen)
    assert store.tree == before


@pytest.mark.parametrize(
    "act",
    [
        lambda s: s.put("/local/domain/3/name", b"other"),
        lambda s: s.put("/local/domain/3/device/virtio_disk/7/state", b"1"),
        lambda s: s.put("/local/domain/3/device/virtio_disk/007", b""),
        lambda s: s.remove(paths(NEXT)["frontend"]),
        lambda s: s.put(f"{paths(NEXT)['backend']}/queues", b"4"),
    ],
)
def test_what_does_not(store: MemoryStore, act: Callable[[MemoryStore], None]) -> None:
    carry_out(store, Write(NEXT, NEWEST_SCHEMA, None))
    seen = look(store)
    act(store)
    carry_out(store, Write(DISK, NEWEST_SCHEMA, None), seen=seen)
    assert DISK.key in look(store).disks


def test_a_repair_makes_no_half_frontend(store: MemoryStore) -> None:
    carry_out(store, Write(DISK, NEWEST_SCHEMA, None))
    store.put(f"{AT['frontend']}/backend", b"/elsewhere")
    seen = look(store)
    live = seen.disks[DISK.key]
    wrong = tuple(differences(DISK, NEWEST_SCHEMA, live.trees))
    store.remove(AT["frontend"])
    with pytest.raises(Overtaken):
        carry_out(store, Repair(DISK, NEWEST_SCHEMA, live, wrong), seen=seen)
    assert below(store, AT["frontend"]) == {}


# --- removal -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "closing", "warned"), [("1", False, 0), ("2", True, 1), ("6", False, 0)])
def test_a_removal_leaves_nothing(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch, state: str, closing: bool, warned: int
) -> None:
    monkeypatch.setattr(_apply, "CLOSE_TIMEOUT", 0)
    before = dict(store.tree)
    carry_out(store, Write(DISK, NEWEST_SCHEMA, None), Write(NEXT, NEWEST_SCHEMA, None))
    store.put(f"{AT['backend']}/state", state.encode())
    live = look(store).disks
    steps = [Close(live[DISK.key])] if closing else []
    warnings = carry_out(store, *steps, Remove(live[DISK.key], closed=closing), Remove(live[NEXT.key]))
    assert len(warnings) == warned
    left = {path for path in store.tree if path not in before}
    assert left <= {"/libxl", "/local/domain/3/device"}


def test_a_removal_spares_other_disks_and_strangers(store: MemoryStore) -> None:
    carry_out(store, Write(DISK, NEWEST_SCHEMA, None), Write(NEXT, NEWEST_SCHEMA, None))
    kept = below(store, *paths(NEXT).values())
    store.put("/local/domain/1/backend/vbd/3/1/state", b"4")
    carry_out(store, Remove(look(store).disks[DISK.key]))
    assert below(store, *paths(NEXT).values()) == kept
    assert below(store, *AT.values()) == {}
    assert store.tree["/local/domain/1/backend/vbd/3/1/state"][0] == b"4"


def test_parents_are_opened_to_a_backend_that_cannot_read_itself(store: MemoryStore) -> None:
    store.tree["/local/domain/1"] = (b"", ("n0",))
    top = "/local/domain/1/backend"
    parents = (top, f"{top}/virtio_disk", f"{top}/virtio_disk/3")
    carry_out(store, Write(DISK, NEWEST_SCHEMA, None, parents))
    assert {store.tree[path][1] for path in parents} == {("n0", "r1")}
