# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading a host: who made a domain, what counts as a device, what limits a daemon tells."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._snapshot import Snapshot
from ansible_collections.xen.virtio.plugins.module_utils._store import StoreError
from ansible_collections.xen.virtio.plugins.module_utils._survey import (
    EmptyStoreError,
    Makers,
    Scope,
    _figures,
    _numbered,
    _text,
    survey,
)
from unit.plugins.module_utils.memory import MemoryStore

UUID, OTHER = "42b9bba0-2793-49bb-b2c6-276fb79a83ca", "11111111-2222-3333-4444-555555555555"
NAMED = json.dumps({"c_info": {"name": "domu", "uuid": UUID}})
STUB = json.dumps({"c_info": {"type": "pvh", "uuid": UUID}})


@pytest.mark.parametrize(
    ("files", "uuid", "maker", "confirmed"),
    [
        ({}, UUID, "other", False),
        ({f"3.{UUID}": NAMED}, UUID, "xl", True),
        ({f"3.{UUID}": NAMED + "\0"}, UUID, "xl", True),
        ({f"3.{UUID}": STUB + "\n\0"}, UUID, "other", True),
        ({f"3.{UUID}": "{"}, UUID, "unknown", True),
        ({f"3.{UUID}": "[]"}, UUID, "unknown", True),
        ({f"3.{UUID}": "{}"}, UUID, "other", True),
        ({f"3.{UUID}": '{"c_info": 7}'}, UUID, "other", True),
        ({f"3.{UUID}": ""}, UUID, "unknown", True),
        ({f"3.{OTHER}": NAMED}, UUID, "other", False),  # of an earlier domain with this id
        ({f"3.{OTHER}": NAMED}, None, "xl", False),  # nothing says that it is not about this one
        ({f"3.{UUID}": STUB, f"3.{OTHER}": NAMED}, UUID, "other", True),
        ({f"4.{UUID}": NAMED}, UUID, "other", False),
        ({f"3.{UUID}x": NAMED, f"x3.{UUID}": NAMED}, UUID, "other", False),
    ],
)
def test_who_made_a_domain(
    tmp_path: Path, files: dict[str, str], uuid: str | None, maker: str, confirmed: bool
) -> None:
    for name, text in files.items():
        (tmp_path / f"userdata-d.{name}.libxl-json").write_text(text)
    makers = Makers(str(tmp_path))
    assert (makers.of(3, uuid), makers.confirms(3, uuid)) == (maker, confirmed)


def test_a_folder_that_cannot_be_read_leaves_every_domain_to_xl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: str) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "listdir", refuse)
    assert Makers(str(tmp_path)).of(3, UUID) == "unknown"


@pytest.mark.parametrize(
    ("names", "numbers"),
    [
        (["0", "51712", "4294967296"], [0, 51712, 4294967296]),
        (["007", "-1", "+1", " 1", "1_0", "0x1", "", "abc", "²", "٣"], []),
        (["9" * 2000], [int("9" * 2000)]),
    ],
)
def test_what_counts_as_a_number(names: list[str], numbers: list[int]) -> None:
    assert _numbered(names) == numbers


def test_any_byte_is_text() -> None:
    assert _text(b"\xff\x00a") == "\udcff\x00a"
    assert _text(StoreError("READ", "/", "ENOENT")) is None
    with pytest.raises(StoreError, match="EACCES"):
        _text(StoreError("READ", "/", "EACCES"))


def test_what_a_daemon_tells_of_its_quotas() -> None:
    told = "nodes               :    1000\n  watches:128 (max)\nweird\nmemory-quota-soft: 2097152\n"
    assert _figures(told) == {"nodes": 1000, "watches": 128, "memory-quota-soft": 2097152}
    assert _figures("") == {}


def look(store: MemoryStore, guests: list[int] | None = None, *backends: int) -> Snapshot:
    return survey(store, lambda _domains: Scope(guests, backends), userdata="/nonexistent")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "value", "perms"),
    [
        ("/local/domain/3/name", b"DomD", ("n3", "r0")),
        ("/local/domain/3/name", b"\xff\x00", ("n3", "r0")),
        ("/local/domain/3/vm", b"\xff\x00/../" + b"x" * 2000, ("n3", "r0")),
        ("/local/domain/3/device/virtio_disk/007/state", b"2", None),
        ("/local/domain/3/device/virtio_disk/" + "9" * 1000 + "/state", b"2", None),
        ("/local/domain/3/device/virtio_disk", b"51712", None),
        ("/libxl/3/device/virtio/0/base", b"\xff", None),
        ("/libxl/3/device/vbd/0/backend", b"\xff/../..", None),
        ("/local/domain/40000/name", b"reserved", None),
        ("/local/domain/abc/name", b"none", None),
        ("/libxl/abc/device", b"none", None),
    ],
)
def test_odd_nodes_end_no_survey(path: str, value: bytes, perms: tuple[str, ...] | None) -> None:
    store = MemoryStore()
    for domid in (0, 1, 3):
        store.add(domid, f"dom{domid}")
    store.put(path, value, perms)
    snapshot = look(store)
    assert sorted(snapshot.domains) == [0, 1, 3]
    assert snapshot.domains[3].name_trusted == (perms is None or "vm" in path)
    assert all(live.invented for live in snapshot.disks.values())


def test_an_empty_store() -> None:
    with pytest.raises(EmptyStoreError, match="no /local/domain/0"):
        look(MemoryStore())


def test_the_dead_are_found_by_what_they_left() -> None:
    store = MemoryStore()
    for domid in (0, 1):
        store.add(domid, f"dom{domid}")
    store.put("/libxl/7/device/virtio_disk/51712/params", b"/x")
    store.put("/local/domain/1/backend/virtio_disk/8/51712/params", b"/x")
    store.put("/local/domain/9/name", b"ghost")
    snapshot = look(store)
    assert [domid for domid, domain in sorted(snapshot.domains.items()) if not domain.alive] == [7, 8, 9]
    assert sorted(snapshot.disks) == [(7, 51712), (8, 51712)]
