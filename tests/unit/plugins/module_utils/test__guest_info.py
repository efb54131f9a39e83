# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest's state in one word, as tables; whole hosts are in tests/system."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._dialect import parse_dialect
from ansible_collections.xen.virtio.plugins.module_utils._guest_info import (
    _kib,
    _Reader,
    autostarted,
    leftover,
    run_state,
)
from ansible_collections.xen.virtio.plugins.module_utils._guestfiles import Records
from ansible_collections.xen.virtio.plugins.module_utils._snapshot import Domain
from ansible_collections.xen.virtio.plugins.module_utils._store import StoreError
from ansible_collections.xen.virtio.plugins.module_utils._xl import RunState

UUID = "42b9bba0-2793-49bb-b2c6-276fb79a83ca"
ALIVE = Domain(3, "domu1", name_trusted=True, uuid=UUID, maker="xl")
GONE = Domain(3, alive=False)
LISTED = {3: RunState(3, "domu1", 64, 1, paused=True)}


@pytest.mark.parametrize(
    ("domain", "states", "word"),
    [
        (None, {}, "absent"),
        (None, None, "absent"),
        (ALIVE, LISTED, "paused"),
        (ALIVE, {3: RunState(3, "domu1", 64, 1, blocked=True)}, "running"),
        (ALIVE, {3: RunState(3, "domu1", 64, 1, paused=True, dying=True)}, "dying"),
        (ALIVE, {}, "stale"),
        (ALIVE, None, "unknown"),
        (GONE, None, "stale"),
        (GONE, {}, "stale"),
        (GONE, LISTED, "paused"),  # one that is just being made
    ],
)
def test_run_state(domain: Domain | None, states: dict[int, RunState] | None, word: str) -> None:
    assert run_state(domain, states) == word


@pytest.mark.parametrize(
    ("state", "recorded", "why"),
    [
        ("running", True, None),
        ("running", False, None),
        ("paused", True, None),
        ("paused", False, "unfinished"),
        ("dying", True, "dying"),
        ("stale", False, "stale"),
        ("unknown", False, None),
    ],
)
def test_leftovers(state: str, recorded: bool, why: str | None) -> None:
    assert leftover(state, recorded=recorded) == why


@pytest.mark.parametrize(
    ("answer", "mib"),
    [
        (b"262144", 256),
        (b"262143", 255),
        (b"", None),
        (b"-1", None),
        (b"lots", None),
        (b"9" * 400, None),
        (StoreError("READ", "/x", "ENOENT", "no"), None),
    ],
)
def test_what_a_guest_may_have_written_for_its_memory(answer: bytes | StoreError, mib: int | None) -> None:
    assert _kib(answer) == mib


def reader(folder: Path) -> _Reader:
    return _Reader(parse_dialect("4.20"), [], str(folder), Records(str(folder)), texts=False)


@pytest.mark.parametrize(
    ("kept", "memory"),
    [
        ({"version": 1, "uuid": UUID, "text": 'name = "domu1"\nmemory = 96\n'}, 96),
        ({"version": 1, "uuid": UUID.replace("4", "5"), "text": 'name = "domu1"\nmemory = 96\n'}, None),
        ({"version": 1, "uuid": "", "text": 'name = "domu1"\nmemory = 96\n', "creating": {}}, None),
    ],
    ids=["of this domain", "of an earlier one", "of a create that has not ended"],
)
def test_what_the_module_guest_made_a_domain_from(
    tmp_path: Path, kept: dict[str, object], memory: int | None
) -> None:
    path = Path(Records(str(tmp_path)).path_of("domu1"))
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(kept))
    found = reader(tmp_path).created_from("domu1", ALIVE)
    assert (None if found is None else found["declaration"]["memory"]) == memory


@pytest.mark.parametrize("uuid", [None, "../../etc/passwd", "x" * 36])
def test_a_uuid_that_a_guest_made_up_names_no_file(tmp_path: Path, uuid: str | None) -> None:
    assert reader(tmp_path)._userdata(Domain(3, uuid=uuid), "xl") is None


def test_which_guests_come_up_with_the_host(tmp_path: Path) -> None:
    assert autostarted(str(tmp_path)) == frozenset()
    folder = tmp_path / "autostart"
    folder.mkdir()
    for file, text in (
        ("linux1.json", '{"version": 1, "name": "linux1"}'),
        ("other", '{"version": 1, "name": "no"}'),
        ("x.json", "["),
        ("list.json", "[]"),
    ):
        (folder / file).write_text(text)
    assert autostarted(str(tmp_path)) == {"linux1"}
