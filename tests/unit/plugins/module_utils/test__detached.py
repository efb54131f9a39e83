# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Work under a unit of its own: its main, whether it runs, and that nobody does it twice."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils import _detached, _drainrun
from ansible_collections.xen.virtio.plugins.module_utils._detached import run_unit
from ansible_collections.xen.virtio.plugins.module_utils._drain import DONE, STOPPED, Drain


@pytest.mark.parametrize(
    ("answer", "runs"),
    [
        ("echo active", True),
        ("echo activating", True),
        ("echo deactivating", True),
        ("echo inactive", False),
        ("echo failed", False),
        # who does not say no may run
        ("exec sleep 60", True),
        ("echo 'Failed to connect to bus' >&2; exit 1", True),
    ],
)
def test_whether_a_unit_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, runs: bool
) -> None:
    program = tmp_path / "systemctl"
    program.write_text(f"#!/bin/sh\n{answer}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(_detached, "_SYSTEMD", 0.5 if "sleep" in answer else 30.0)
    assert _detached.under_way("a.service") == runs


def kept(folder: Path, **options: Any) -> Drain:
    return Drain(
        domain="DomD",
        path="/etc/xen/DomD.cfg",
        domid=1,
        boot="a",
        unit="a.service",
        unit_boot="a",
        options={"lock_dir": str(folder)},
        guests=[],
        begun="2026-01-01T00:00:00Z",
        **options,
    )


@pytest.mark.parametrize(("outcome", "code"), [(DONE, 0), (STOPPED, 1)])
def test_what_another_one_did_meanwhile_is_not_done_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    outcome: str,
    code: int,
) -> None:
    path = tmp_path / "DomD.json"
    _drainrun.save(kept(tmp_path), str(path))

    @contextmanager
    def waited(*_what: object) -> Iterator[None]:
        """While the lock is waited for, its holder comes to an end."""
        _drainrun.save(kept(tmp_path, outcome=outcome, message="all is back"), str(path))
        yield

    def twice(*_what: object) -> None:
        raise AssertionError("carried out twice")

    monkeypatch.setattr(_drainrun, "locked", waited)
    monkeypatch.setattr(_drainrun, "carry_out", twice)
    assert _drainrun.main([str(path)]) == code
    assert capsys.readouterr().out == "DomD: all is back\n"


# ---- its main ----


@pytest.fixture(autouse=True)
def terminated_as_before() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("arguments", "outcome", "status", "told"),
    [
        ([], True, 2, "usage: a.pyz STATE"),
        (["/s", "/t"], True, 2, "usage: a.pyz STATE"),
        (["/s"], True, 0, ""),
        (["/s"], False, 1, ""),
        (["/s"], LookupError("nobody is there"), 1, "FAILED nobody is there"),
        (["/s"], OSError(2, "No such file", "/s"), 1, "FAILED [Errno 2] No such file: '/s'"),
    ],
)
def test_how_it_ends(
    arguments: list[str],
    outcome: bool | Exception,
    status: int,
    told: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def work(path: str, stopping: threading.Event) -> bool:
        assert path == "/s"
        assert not stopping.is_set()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    assert run_unit("a.pyz", arguments, work, (LookupError,)) == status
    out, err = capsys.readouterr()
    assert (out + err).strip() == told


def test_what_nobody_expects_is_not_hidden() -> None:
    def work(_path: str, _stopping: threading.Event) -> bool:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_unit("a.pyz", ["/s"], work, (LookupError,))


def test_one_that_is_told_to_stop_is_told() -> None:
    def work(_path: str, stopping: threading.Event) -> bool:
        os.kill(os.getpid(), signal.SIGTERM)
        return stopping.wait(60)

    assert run_unit("a.pyz", ["/s"], work, ()) == 0
