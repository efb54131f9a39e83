# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the boot service does with the files it finds; on a host with domains it is in tests/system."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils import _boot
from ansible_collections.xen.virtio.plugins.module_utils._boot import KeptError, job_of, load, main
from ansible_collections.xen.virtio.plugins.module_utils._disk import Job
from ansible_collections.xen.virtio.plugins.module_utils._plan import PlanError
from ansible_collections.xen.virtio.plugins.module_utils._report import Result
from ansible_collections.xen.virtio.plugins.module_utils._snapshot import UnknownDomainError
from unit.plugins.module_utils.hosts import disk, guest


def keep(folder: Path, name: str, **more: Any) -> Path:
    """A kept declaration."""
    path = folder / f"guest-{name}.json"
    path.write_text(json.dumps({"version": 1, "guest": guest(name, disk()), **more}))
    return path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not JSON"),
        ("[]", "not a declaration of xen.virtio"),
        ('{"version": 2, "guest": {}}', "or one of a later release"),
        ('{"version": 1, "guest": []}', "not a declaration"),
    ],
)
def test_what_is_no_declaration(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "guest-a.json"
    path.write_text(text)
    with pytest.raises(KeptError, match=said):
        load(str(path))
    assert main([str(tmp_path), "0"]) == 1


def test_options_are_those_of_the_task(tmp_path: Path) -> None:
    path = keep(tmp_path, "a", hotplug=True, wait=False, wait_timeout=3, xen="4.17", userdata_dir="/x")
    job = job_of(load(str(path)))
    assert (job.hotplug, job.wait, job.wait_timeout, job.xen, job.userdata) == (True, False, 3, "4.17", "/x")
    assert (job.settle, job.accept, job.check, job.absent) == (0.5, (), False, False)


class Runs:
    """Stands in for a host: what each guest's call ends in, one entry a try; a call that waits is a capital."""

    def __init__(self, **outcomes: list[Result | Exception]) -> None:
        self.outcomes = outcomes
        self.waits: dict[str, Result] = {}
        self.order: list[str] = []

    def __call__(self, job: Job, _store: object, _xl: object) -> Result:
        name = job.declarations[0].domain
        if job.wait:
            self.order.append(name.upper())
            return self.waits.get(name, Result(msg="attached"))
        self.order.append(name)
        outcome = self.outcomes[name].pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


class NoStore:
    """A store that nobody asks."""

    def __init__(self, *_arguments: object, **_options: object) -> None:
        pass

    def __enter__(self) -> NoStore:
        return self

    def __exit__(self, *_error: object) -> None:
        pass


LATE = UnknownDomainError("not yet")
DONE = Result(changed=True, msg="1 disks")


@pytest.mark.parametrize(
    ("outcomes", "order", "code", "said"),
    [
        ({"a": [DONE], "b": [DONE]}, "abAB", 0, "a: 1 disks\nb: 1 disks\n"),
        ({"a": [LATE, LATE, DONE], "b": [DONE]}, "abaaBA", 0, "b: 1 disks\na: 1 disks\n"),
        ({"a": [PlanError("no")], "b": [DONE]}, "abB", 1, "FAILED a: no\nb: 1 disks\n"),
        ({"a": [Result(failed="refused")], "b": [DONE]}, "abB", 1, "FAILED a: refused\n"),
        ({"a": [LATE, PlanError("no")], "b": [LATE, DONE]}, "ababB", 1, "FAILED a: no\nb: 1 disks\n"),
    ],
)
def test_late_guests_keep_no_other_waiting(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    outcomes: dict[str, list[Result | Exception]],
    order: str,
    code: int,
    said: str,
) -> None:
    for name in outcomes:
        keep(tmp_path, name)
    runs = Runs(**{name: list(listed) for name, listed in outcomes.items()})
    monkeypatch.setattr(_boot, "run", runs)
    monkeypatch.setattr(_boot, "Store", NoStore)
    monkeypatch.setattr(_boot, "_PAUSE", 0)
    assert main([str(tmp_path), "60"]) == code
    assert "".join(runs.order) == order
    assert said in capsys.readouterr().out


def test_every_disk_is_written_before_one_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "abc":
        keep(tmp_path, name)
    runs = Runs(a=[DONE], b=[DONE], c=[DONE])
    runs.waits["b"] = Result(failed="not attached")
    monkeypatch.setattr(_boot, "run", runs)
    monkeypatch.setattr(_boot, "Store", NoStore)
    assert main([str(tmp_path), "60"]) == 1
    assert "".join(runs.order) == "abcABC"
    assert "FAILED b: not attached" in capsys.readouterr().out


def test_one_that_never_comes_fails_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(tmp_path, "a")
    monkeypatch.setattr(_boot, "run", Runs(a=[LATE] * 1000))
    monkeypatch.setattr(_boot, "Store", NoStore)
    assert main([str(tmp_path), "0"]) == 1
    assert "FAILED a: not yet" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "code"), [([], 2), (["/no/such/folder"], 0)])
def test_command_line(arguments: list[str], code: int) -> None:
    assert main(arguments) == code
