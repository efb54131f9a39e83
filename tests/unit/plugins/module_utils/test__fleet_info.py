# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an audit asks of one host: which guests it compares, and what a refusal leaves."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils import _fleet_info
from ansible_collections.xen.virtio.plugins.module_utils._findings import Finding, summary
from ansible_collections.xen.virtio.plugins.module_utils._fleet_info import (
    Places,
    compare,
    refusals,
    undeclared,
)
from ansible_collections.xen.virtio.plugins.module_utils._guest import Job
from ansible_collections.xen.virtio.plugins.module_utils._guestrun import RunError
from ansible_collections.xen.virtio.plugins.module_utils._guestsecrets import Hidden
from ansible_collections.xen.virtio.plugins.module_utils._report import Result
from ansible_collections.xen.virtio.plugins.module_utils._store import Store
from ansible_collections.xen.virtio.plugins.module_utils._xl import Xl

TEXTS = {"a": ("/etc/xen/a.cfg", 'name = "a"\n')}
ERROR = Finding("quota", "error", "a", None, "no room", "It fails.", "Raise it.")


def guest(**more: Any) -> dict[str, Any]:
    return {"name": "a", "made_by": "xl", "leftover": None, "run_state": "running", **more}


@pytest.mark.parametrize(
    ("one", "declared", "compared"),
    [
        (guest(), [], True),
        (guest(run_state="paused"), [], True),
        (guest(), [{"name": "a"}], False),
        (guest(run_state="shutdown"), [], False),
        (guest(run_state="unknown"), [], False),
        (guest(leftover="unfinished", run_state="paused"), [], False),
        (guest(made_by="other"), [], False),
        (guest(name="b"), [], False),
    ],
)
def test_who_is_compared_with_its_own_configuration(
    one: dict[str, Any], declared: list[dict[str, Any]], compared: bool
) -> None:
    found = undeclared(declared, [one], TEXTS)
    expected = {"name": "a", "state": one["run_state"], "path": "/etc/xen/a.cfg", "content": 'name = "a"\n'}
    assert found == ([expected] if compared else [])


@pytest.mark.parametrize(
    ("failed", "findings", "left"),
    [
        (None, [], None),
        ("b is dom0less", [], "b is dom0less"),
        (summary([ERROR]), [ERROR], None),
        (f"b is dom0less. {summary([ERROR])}", [ERROR], "b is dom0less"),
    ],
)
def test_refusals(failed: str | None, findings: list[Finding], left: str | None) -> None:
    result = Result(failed=failed, findings=[one.as_dict() for one in findings])
    assert refusals(result) == left


def test_one_that_cannot_be_compared_keeps_no_other_from_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[list[str]] = []

    def run(wishes: Any, *_more: Any) -> Result:
        asked.append([wish.name for wish in wishes])
        if "b" in asked[-1]:
            raise RunError("b: its kernel is gone")
        return Result(guests=[{"name": name} for name in asked[-1]])

    def no_store() -> Store:
        raise NotImplementedError

    xl = tmp_path / "xl"
    xl.write_text("#!/bin/sh\n")
    xl.chmod(0o755)
    monkeypatch.setattr(_fleet_info, "_run", run)
    found = compare([{"name": one} for one in "abc"], Xl(str(xl)), no_store, {}, Places()).as_dict()
    assert asked == [["a", "b", "c"], ["a"], ["b"], ["c"], ["a", "c"]]
    assert [one["name"] for one in found["guests"]] == ["a", "c"]
    assert found["problems"] == [{"domain": "b", "error": "b: its kernel is gone"}]


def test_what_is_hidden_is_hidden_from_an_audit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Job] = []

    def run(job: Job, *_more: Any) -> Result:
        asked.append(job)
        return Result()

    monkeypatch.setattr(_fleet_info, "run", run)
    hidden = Hidden.of(["cmdline"])
    xl = Xl(str(tmp_path / "xl"))
    compare([{"name": "a"}], xl, nullcontext, {}, Places(hidden=hidden))  # type: ignore[arg-type]
    assert [(job.check, job.hidden) for job in asked] == [(True, hidden)]
