# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fake: what xl waits for and nothing in the lab does.

For every backend directory ``/local/domain/B/backend/KIND/D/N`` it answers state 1 with 2 and 5 with 6
(as the standalone virtio-disk daemon does; drivers of Xen's own devices go further than 2), and removes
the directory of a device whose backend is another domain after state 6, as that domain would.  It does so
a moment later than the daemon, which removes it at once and so often robs xl of the sight of the 6.  It
also plays xenconsoled: a guest's console gets a tty node.  No I/O is served by anything.

``backends.json`` (`LabHost.backend_behaves`) holds what single ones do instead.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import wire

BACKEND = re.compile(r"(/local/domain/(\d+)/backend/[^/]+/(\d+)/(\d+))(/.*)?")
CONSOLE = re.compile(r"(/local/domain/[1-9]\d*/console)(/.*)?")

LINGER = 0.2  # seconds a closed backend's directory stays
FOREVER = 86400.0


class Answerer:
    def __init__(self, client: wire.Client, rules: list[dict[str, Any]]) -> None:
        self._client = client
        self._rules = rules
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def look(self, path: str) -> None:
        if found := BACKEND.fullmatch(path):
            self._backend(found[1], int(found[2]), int(found[3]), int(found[4]))
        elif found := CONSOLE.fullmatch(path):
            self._console(found[1])

    def _backend(self, directory: str, backend: int, guest: int, devid: int) -> None:
        state = self._client.read(f"{directory}/state")
        if state not in {b"1", b"5"}:
            return
        rule = self._rule(guest, devid)
        how = rule.get("how", "answer")
        if how == "never" or (how == "refuse" and state == b"5"):
            return
        if how == "late":
            self._later(rule["after"], lambda: self._answer(directory, backend, state))
            return
        self._answer(directory, backend, state)
        if how == "give-up" and state == b"1":
            self._later(rule["after"], lambda: self._remove(directory))

    def _answer(self, directory: str, backend: int, state: bytes) -> None:
        if self._client.read(f"{directory}/state") != state:
            return
        self._client.write(f"{directory}/state", {b"1": b"2", b"5": b"6"}[state])
        if state == b"5" and backend:
            self._later(LINGER, lambda: self._remove_closed(directory))

    def _remove_closed(self, directory: str) -> None:
        """Another disk may have taken its place meanwhile, which the daemon, being faster, does not meet."""
        if self._client.read(f"{directory}/state") == b"6":
            self._remove(directory)

    def _remove(self, directory: str) -> None:
        self._client.remove(directory)

    def _rule(self, guest: int, devid: int) -> dict[str, Any]:
        """The last one that is meant for this device."""
        found: dict[str, Any] = {}
        for rule in self._rules:
            if rule["devid"] in {None, devid} and rule["guest"] in {None, guest, self._name(guest)}:
                found = rule
        return found

    def _name(self, guest: int) -> str:
        return (self._client.read(f"/local/domain/{guest}/name") or b"").decode("utf-8", "replace")

    def _console(self, directory: str) -> None:
        if self._client.read(f"{directory}/port") is not None and not self._client.read(f"{directory}/tty"):
            self._client.write(f"{directory}/tty", "/dev/null")

    # -- what comes later --

    def _later(self, seconds: float, work: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._due, (time.monotonic() + seconds, self._count, work))

    def pause(self) -> float:
        return max(0.0, self._due[0][0] - time.monotonic()) if self._due else FOREVER

    def work(self) -> None:
        while self._due and self._due[0][0] <= time.monotonic():
            with contextlib.suppress(wire.WireError):
                heapq.heappop(self._due)[2]()


def main() -> None:
    socket, rules = sys.argv[1:]
    with wire.Client(socket) as watcher, wire.Client(socket) as client:
        answerer = Answerer(client, json.loads(Path(rules).read_text()))
        watcher.watch("/local/domain", "lab")
        os.write(int(os.environ["LAB_READY"]), b"!")
        for path in client.tree("/local/domain"):  # what was there before
            answerer.look(path)
        while True:
            event = watcher.event(answerer.pause())
            answerer.work()
            if event is not None:
                with contextlib.suppress(wire.WireError):  # removed between two looks
                    answerer.look(event[0])
