# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A store as a backend domain's launcher sees it, for answers that no real one gives when asked to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils import _launchstore
from ansible_collections.xen.virtio.plugins.module_utils._launchstore import TREE
from ansible_collections.xen.virtio.plugins.module_utils._store import Request, StoreError
from unit.plugins.module_utils.memory import MemoryStore


class Domain(MemoryStore):
    """A store as our own domain sees it, which may refuse an answer and tells what happened."""

    def __init__(self) -> None:
        super().__init__()
        self.tree |= {"domid": (b"3", ()), "backend": (b"", ()), "drivers": (b"", ())}
        self.refused: dict[str, str] = {}  #: path → code
        self.events: list[tuple[str, str]] = []
        self.watched: list[tuple[str, str]] = []
        self.has_events = False

    def disk(self, domid: int, devid: int, state: str = "1", target: str = "/dev/null") -> None:
        """A disk of a guest that is there."""
        top = f"{TREE}/{domid}/{devid}"
        values = {"params": target, "mode": "w", "base": "33554432", "irq": "33", "state": state}
        for name, value in values.items():
            self.put(f"{top}/{name}", value.encode())
        self.put(f"/local/domain/{domid}/device/virtio_disk/{devid}/state", b"1")

    def call(self, requests: Sequence[Request], tx: int = 0, *, meanwhile: object = None) -> list[Any]:
        answers = super().call(requests, tx)
        return [
            StoreError("DIRECTORY", request.path, self.refused[request.path])
            if request.path in self.refused
            else answer
            for request, answer in zip(requests, answers)
        ]

    def list(self, path: str) -> list[str] | None:
        if path in self.refused:
            raise StoreError("DIRECTORY", path, self.refused[path])
        return super().list(path)

    def read(self, path: str) -> bytes | None:
        return self.tree[path][0] if path in self.tree else None

    def watch(self, path: str, token: str) -> None:
        self.watched.append((path, token))
        self.events.append((path, token))

    def wait_event(self, _timeout: float) -> tuple[str, str] | None:
        return self.events.pop(0) if self.events else None

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        self.events.clear()

    @classmethod
    def put_in_place(cls, monkeypatch: pytest.MonkeyPatch) -> Domain:
        """One for every session of a launcher's."""
        made = cls()
        monkeypatch.setattr(_launchstore, "Store", lambda *_path, **_timeout: made)
        return made
