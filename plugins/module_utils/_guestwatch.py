# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether guests stay up: what is wrong with one at a moment, against how it stood when the watching began. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ._diskstatus import FAILED, LOST
from ._layout import STATE_CLOSED, STATE_CLOSING, STATE_INIT_WAIT, STATE_INITIALISING

#: Run states (`_xloutput.RunState`) of a domain that is there for its guest.
UP = ("running", "paused")

#: No domain of that name.
ABSENT = "absent"


@dataclass(frozen=True)
class DiskSeen:
    """A virtio disk at a moment.

    Attributes:
        vdev, devid: which one.
        state: of its backend, None where there is no node.
        health: as module disk_info has it.
        launcher: what the launcher of its backend domain calls it, None where none says anything.
        reason: why, in the launcher's words.
    """

    vdev: str
    devid: int
    state: str | None
    health: str
    launcher: str | None = None
    reason: str = ""

    @property
    def served(self) -> bool:
        """A daemon has it, as far as anybody says."""
        return self.state == STATE_INIT_WAIT and self.launcher not in (LOST, FAILED)

    @property
    def lost(self) -> str | None:
        """Why it will not be served any more, None where it may."""
        if self.launcher in (LOST, FAILED):
            return f"is {self.launcher}, as its launcher says ({self.reason or 'without a reason'})"
        return _LOST.get(self.state)

    @property
    def pending(self) -> str:
        """Why it is not served yet."""
        if self.state == STATE_INITIALISING:
            return "was not taken up by any daemon (state 1)"
        return f"is in state {self.state}, in which no virtio-disk stays"


_LOST: dict[str | None, str] = {
    None: "is lost: its backend gave it up (its nodes are gone)",
    STATE_CLOSING: "is lost: its backend is closing it (state 5)",
    STATE_CLOSED: "is lost: its backend closed it (state 6)",
}


@dataclass(frozen=True)
class Seen:
    """A guest at a moment.

    Attributes:
        name: the guest.
        domid: of its domain, None where it has none.
        run_state: a word of `_xloutput.RunState.run_state`, or `ABSENT`.
        disks: its virtio disks.
        trouble: why nothing is known of a domain of that name, such as that several have it.
    """

    name: str
    domid: int | None = None
    run_state: str = ABSENT
    disks: tuple[DiskSeen, ...] = ()
    trouble: str | None = None


@dataclass
class Guest:
    """A guest that is watched.

    Attributes:
        name: the guest.
        domid: that it is to have; the one it had first where none was said.
        disks: devid → vdev of all disks that were ever seen of it.
        served: devids of disks that were seen served.
        now: how it stood last.
        why: what is wrong with it, None where nothing is.
    """

    name: str
    domid: int | None = None
    disks: dict[int, str] = field(default_factory=dict)
    served: set[int] = field(default_factory=set)
    now: Seen | None = None
    why: str | None = None

    def saw(self, now: Seen, *, last: bool) -> str | None:
        """Take in how it stands.

        Args:
            now: how.
            last: nothing is waited for any more, so a disk that is still coming up is a failure, too.

        Returns:
            What is wrong, None where nothing is.
        """
        self.now = now
        self.why = self._domain(now) or self._lost(now) or (self._pending(now) if last else None)
        if now.domid is not None:
            self.domid = now.domid if self.domid is None else self.domid
        self.disks.update({disk.devid: disk.vdev for disk in now.disks})
        self.served |= {disk.devid for disk in now.disks if disk.served}
        return self.why

    def _domain(self, now: Seen) -> str | None:
        if now.trouble is not None:
            return now.trouble
        if now.domid is None or now.run_state == ABSENT:
            was = f" (it was domain {self.domid})" if self.domid is not None else ""
            return f"{self.name} has no domain{was}: look at its console's log, and at xl's in /var/log/xen"
        if self.domid is not None and now.domid != self.domid:
            return (
                f"{self.name} is domain {now.domid} and no longer domain {self.domid}: it crashed or was restarted; "
                "look at its console's log"
            )
        if now.run_state not in UP:
            return f"{self.name} (domain {now.domid}) is {now.run_state}: look at its console's log"
        return None

    def _lost(self, now: Seen) -> str | None:
        here = {disk.devid for disk in now.disks}
        told = [f"{disk.vdev} {disk.lost}" for disk in now.disks if disk.lost is not None]
        told += [
            f"{vdev} is lost: its nodes are gone" for devid, vdev in self.disks.items() if devid not in here
        ]
        told += [
            f"{disk.vdev} was attached and is so no longer (state {disk.state})"
            for disk in now.disks
            if disk.devid in self.served and disk.lost is None and not disk.served
        ]
        return self._of_disks(now, told)

    def _pending(self, now: Seen) -> str | None:
        return self._of_disks(now, [f"{disk.vdev} {disk.pending}" for disk in now.disks if not disk.served])

    def _of_disks(self, now: Seen, told: list[str]) -> str | None:
        if not told:
            return None
        return (
            f"{self.name} (domain {now.domid}): {'; '.join(told)}. Look at virtio-disk in the backend domain, and at "
            "drivers/virtio-disk/status there"
        )

    def as_dict(self) -> dict[str, Any]:
        """As results carry it."""
        now = self.now or Seen(self.name)
        return {
            "name": self.name,
            "domid": now.domid,
            "run_state": now.run_state,
            "disks": [{"vdev": disk.vdev, "health": _health(disk)} for disk in now.disks],
            "healthy": self.why is None,
            "why": self.why,
        }


def _health(disk: DiskSeen) -> str:
    return "lost" if disk.launcher in (LOST, FAILED) else disk.health


def look_at(guests: Iterable[Guest], seen: Mapping[str, Seen], *, last: bool) -> list[str]:
    """What is wrong with guests as they stand now, a sentence each.

    Args:
        guests: that are watched.
        seen: how each of them stands, by name.
        last: nothing is waited for any more.
    """
    told = [guest.saw(seen.get(guest.name, Seen(guest.name)), last=last) for guest in guests]
    return [why for why in told if why is not None]
