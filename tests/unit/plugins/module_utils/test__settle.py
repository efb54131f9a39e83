# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for disks, with a store that answers by the book."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from ansible_collections.xen.virtio.plugins.module_utils import _settle
from ansible_collections.xen.virtio.plugins.module_utils._layout import Attachment
from ansible_collections.xen.virtio.plugins.module_utils._settle import settle, states
from ansible_collections.xen.virtio.plugins.module_utils._store import Request, StoreError

A, B = (Attachment(3, 1, devid, "xvd", "/dev/x", readonly=False, base=0, irq=0) for devid in (51712, 51728))


class Clock:
    """Time that passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Script:
    """A store whose disks go through states: (second, state) …; None is a node that is gone."""

    def __init__(self, clock: Clock, *scripts: list[tuple[float, str | None]]) -> None:
        self._clock = clock
        self._scripts = scripts
        self.calls = 0

    def call(self, requests: Sequence[Request]) -> list[bytes | StoreError]:
        self.calls += 1
        return [self._state(script) for script, _request in zip(self._scripts, requests)]

    def _state(self, script: list[tuple[float, str | None]]) -> bytes | StoreError:
        state = [value for second, value in script if second <= self._clock.now][-1]
        if state is None:
            return StoreError("READ", "/state", "ENOENT")
        return StoreError("READ", "/state", state) if state.isupper() else state.encode()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(_settle, "time", found)
    return found


SERVED = [(0.0, "2")]


@pytest.mark.parametrize(
    ("script", "fresh", "timeout", "settling", "state", "took", "words"),
    [
        (SERVED, False, 10, 0.5, "2", 0, None),  # served before: one look
        (SERVED, True, 10, 0.5, "2", 0.5, None),
        (SERVED, True, 10, 0, "2", 0, None),
        ([(0, "1")], True, 0, 0.5, "1", 0, "not taken up by any daemon"),
        ([(0, "1")], True, 3, 0.5, "1", 3, "not taken up by any daemon"),
        ([(0, "1"), (1, "2")], True, 10, 0.5, "2", 1.7, None),
        ([(0, "1"), (1, "2")], False, 10, 0.5, "2", 1.7, None),  # pending from an earlier run: it came up now
        ([(0, "1"), (1, "2"), (1.4, None)], True, 10, 0.5, None, 1.7, "given up again"),
        ([(0, "1"), (1, None)], True, 10, 0.5, None, 1.2, r"^given up \("),
        ([(0, "1"), (1, "6")], True, 10, 0.5, "6", 1.2, "closed"),
        ([(0, "5")], True, 1, 0.5, "5", 1, "closing"),
        ([(0, "4")], True, 1, 0.5, "4", 1, "not a state virtio-disk stays in"),
        ([(0, "1"), (1, "2"), (1.4, "1")], True, 10, 0.5, "1", 1.7, "not taken up"),
    ],
)
def test_one_disk(
    clock: Clock,
    script: list[tuple[float, str | None]],
    fresh: bool,
    timeout: float,
    settling: float,
    state: str | None,
    took: float,
    words: str | None,
) -> None:
    store = Script(clock, script)
    (one,) = settle(store, [A], [A] if fresh else [], timeout=timeout, settling=settling)  # type: ignore[arg-type]
    assert (one.state, one.attached) == (state, state == "2")
    assert clock.now <= took + 0.3
    assert clock.now >= took - 0.3
    if words is not None:
        assert re.search(words, one.words)


def test_one_that_was_given_up_does_not_end_the_waiting_for_the_others(clock: Clock) -> None:
    store = Script(clock, [(0, None)], [(0, "1"), (3, "2")])
    outcomes = settle(store, [A, B], [A, B], timeout=10, settling=0)  # type: ignore[arg-type]
    assert [one.state for one in outcomes] == [None, "2"]


def test_nothing_to_wait_for(clock: Clock) -> None:
    assert settle(Script(clock), [], [], timeout=10, settling=1) == []  # type: ignore[arg-type]
    assert clock.now == 0


def test_a_store_that_refuses_is_not_a_disk_that_is_gone(clock: Clock) -> None:
    with pytest.raises(StoreError, match="EACCES"):
        states(Script(clock, [(0, "EACCES")]), [A])  # type: ignore[arg-type]
