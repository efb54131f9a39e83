# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the main of a detached unit does with what becomes of its work; a table."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._detached import run_unit


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
