# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait until disks work, not until they were written.

A daemon says 2 *before* it opens the image and the ioreq server, and removes the directory where that
fails. So a disk counts as attached only if it is in state 2 and still is after a settling time.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from ._layout import (
    STATE_CLOSED,
    STATE_CLOSING,
    STATE_INIT_WAIT,
    STATE_INITIALISING,
    Attachment,
    backend_path,
)
from ._store import Store, StoreError, read

_POLL_FIRST, _POLL_LAST = 0.02, 0.25

#: No node at all: what a daemon leaves that gave the disk up.
GONE = None


@dataclass(frozen=True)
class Outcome:
    """Where a disk stood when the waiting ended."""

    disk: Attachment
    state: str | None
    seen: bool = False  #: it was in state 2 at some moment

    @property
    def attached(self) -> bool:
        """Served, and still so after the settling time."""
        return self.state == STATE_INIT_WAIT

    @property
    def words(self) -> str:
        """What happened, for a person."""
        if self.state == GONE:
            return (
                "attached and given up again (its nodes are gone)"
                if self.seen
                else "given up (its nodes are gone)"
            )
        if self.state == STATE_INITIALISING:
            return "not taken up by any daemon (state 1)"
        names = {STATE_CLOSING: "closing", STATE_CLOSED: "closed"}
        return f"in state {self.state} ({names.get(self.state or '', 'not a state virtio-disk stays in')})"


def states(store: Store, disks: Iterable[Attachment]) -> list[str | None]:
    """The backend states of many disks in one bulk call; None where there is no node."""
    listed = list(disks)
    replies = store.call([read(f"{backend_path(d.backend_domid, d.domid, d.devid)}/state") for d in listed])
    found: list[str | None] = []
    for reply in replies:
        if isinstance(reply, StoreError):
            if reply.code != "ENOENT":
                raise reply
            found.append(GONE)
        else:
            found.append(reply.decode("latin-1"))
    return found


def settle(
    store: Store, disks: Iterable[Attachment], fresh: Iterable[Attachment], *, timeout: float, settling: float
) -> list[Outcome]:
    """Wait for disks to be served.

    Args:
        store: a session.
        disks: all that shall be attached in the end.
        fresh: those among them that this run wrote.
        timeout: seconds for all of them together.
        settling: seconds after which one that came to state 2 in this run must still be in it; where none
            did, there is nothing to wait for.

    Returns:
        One outcome a disk, in order; never waits longer than timeout + settling.
    """
    listed = list(disks)
    new = {disk.key for disk in fresh}
    now = states(store, listed)
    seen = {disk.key for disk, state in zip(listed, now) if state == STATE_INIT_WAIT}
    proven = seen - new  # served before this run, and not touched by it
    deadline = time.monotonic() + timeout
    pause = _POLL_FIRST
    while _unfinished(now) and time.monotonic() < deadline:
        time.sleep(min(pause, max(0.0, deadline - time.monotonic())))
        pause = min(pause * 1.5, _POLL_LAST)
        now = states(store, listed)
        seen |= {disk.key for disk, state in zip(listed, now) if state == STATE_INIT_WAIT}
    if settling > 0 and seen - proven:
        time.sleep(settling)
        now = states(store, listed)
    return [Outcome(disk, state, disk.key in seen) for disk, state in zip(listed, now)]


def _unfinished(now: list[str | None]) -> bool:
    """Whether waiting can still change anything: a disk that was given up or closed stays so."""
    return any(state not in (STATE_INIT_WAIT, GONE, STATE_CLOSED) for state in now)
