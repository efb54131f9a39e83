# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fake: what xl waits for and nothing in the lab does.

For every backend directory ``/local/domain/B/backend/KIND/D/N`` it answers state 1 with 2 and 5 with 6
(as the standalone virtio-disk daemon does; drivers of Xen's own devices go further than 2), and removes
the directory of a device whose backend is another domain after state 6, as that domain would.  It does so
a moment later than the daemon, which removes it at once and so often robs xl of the sight of the 6.  It
also plays xenconsoled: a guest's console gets a tty node.  No I/O is served by anything.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys

from . import wire

BACKEND = re.compile(r"(/local/domain/(\d+)/backend/[^/]+/\d+/\d+)(/.*)?")
CONSOLE = re.compile(r"(/local/domain/[1-9]\d*/console)(/.*)?")
ANSWERS = {b"1": b"2", b"5": b"6"}


LINGER = 0.2  # seconds a closed backend's directory stays
FOREVER = 86400.0


class Answerer:
    def __init__(self, client: wire.Client) -> None:
        self._client = client
        self.closed: set[str] = set()  # directories to remove

    def look(self, path: str) -> None:
        if found := BACKEND.fullmatch(path):
            self._backend(found[1], found[2])
        elif found := CONSOLE.fullmatch(path):
            self._console(found[1])

    def _backend(self, directory: str, domid: str) -> None:
        answer = ANSWERS.get(self._client.read(f"{directory}/state") or b"")
        if answer is None:
            return
        self._client.write(f"{directory}/state", answer)
        if answer == b"6" and domid != "0":
            self.closed.add(directory)

    def _console(self, directory: str) -> None:
        if self._client.read(f"{directory}/port") is not None and not self._client.read(f"{directory}/tty"):
            self._client.write(f"{directory}/tty", "/dev/null")

    def sweep(self) -> None:
        for directory in self.closed:
            self._client.remove(directory)
        self.closed.clear()


def main() -> None:
    socket = sys.argv[1]
    with wire.Client(socket) as watcher, wire.Client(socket) as client:
        answerer = Answerer(client)
        watcher.watch("/local/domain", "lab")
        os.write(int(os.environ["LAB_READY"]), b"!")
        for path in client.tree("/local/domain"):  # what was there before
            answerer.look(path)
        while True:
            event = watcher.event(LINGER if answerer.closed else FOREVER)
            if event is None:
                answerer.sweep()
                continue
            with contextlib.suppress(wire.WireError):  # removed between two looks
                answerer.look(event[0])
