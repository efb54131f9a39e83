# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the launcher of a backend domain says of its disks, in xenstore: one line a disk. Pure.

The line stands in the backend domain's own tree, so dom0 takes it for what it is: text of another domain, of which
nothing is believed but its form.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

#: Below ``/local/domain/B``: ``ready`` or ``dead``, and why dead; the launcher's version; a node for each disk.
#: A daemon's unit that nobody's launcher starts may say the first too.
STATUS_NODE = "drivers/virtio-disk/status"
REASON_NODE = "drivers/virtio-disk/reason"
LAUNCHER_NODE = "drivers/virtio-disk/launcher"
DISKS_NODE = "drivers/virtio-disk/disks"
#: ``off`` where daemons run without views; else it is not there.
VIEW_NODE = "drivers/virtio-disk/view"

READY, DEAD = "ready", "dead"

#: A daemon has it, and still had it after a while.
SERVED = "served"
#: A daemon was started for it.
STARTING = "starting"
#: No daemon took it up, and none will be started any more.
FAILED = "failed"
#: It was served, and its daemon is gone: the guest needs to be re-created.
LOST = "lost"
#: No daemon can be started for it yet.
WAITING = "waiting"
STATUSES = (SERVED, STARTING, FAILED, LOST, WAITING)

#: Characters of a reason; a node holds 2048 bytes (quota of xenstored).
REASON_LIMIT = 400

_NUMBER = r"(?:0|[1-9][0-9]{0,19})"
_LINE = re.compile(
    rf"(?P<status>{'|'.join(STATUSES)})"
    rf"(?: size=(?P<size>{_NUMBER}))?"
    rf"(?: size-now=(?P<size_now>{_NUMBER}))?"
    r"(?: version=(?P<version>[A-Za-z0-9._+~:-]{1,64}))?"
    r"(?: reason=(?P<reason>.*))?"
)
_NAME = re.compile(r"(0|[1-9][0-9]{0,4})-(0|[1-9][0-9]{0,9})")
_UNFIT = re.compile(r"[^\x20-\x7e]+")
_UNFIT_VERSION = re.compile(r"[^A-Za-z0-9._+~:-]+")


@dataclass(frozen=True)
class DiskStatus:
    """How a disk is, as its launcher sees it.

    Attributes:
        status: one of `STATUSES`.
        size: of the target in bytes when its daemon was started, None where unknown.
        size_now: of the target in bytes, None where unknown.
        version: of its daemon, empty where unknown.
        reason: why it is so, for people; empty where there is nothing to say.
    """

    status: str
    size: int | None = None
    size_now: int | None = None
    version: str = ""
    reason: str = ""

    @property
    def size_changed(self) -> bool:
        """Whether the target has another size than its guest knows."""
        return self.size is not None and self.size_now is not None and self.size != self.size_now


def render(told: DiskStatus) -> str:
    """The line of a disk: printable ASCII, whatever the reason holds."""
    version = _UNFIT_VERSION.sub("-", told.version)[:64]
    reason = plain(told.reason)
    parts = [
        told.status,
        f"size={told.size}" if told.size is not None else "",
        f"size-now={told.size_now}" if told.size_now is not None else "",
        f"version={version}" if version else "",
        f"reason={reason}" if reason else "",
    ]
    return " ".join(part for part in parts if part)


def parse(line: str) -> DiskStatus | None:
    """A disk's line, None where it is none: nothing else in it is believed."""
    found = _LINE.fullmatch(line)
    if found is None:
        return None
    size, size_now = (int(found[name]) if found[name] else None for name in ("size", "size_now"))
    reason = _UNFIT.sub("?", found["reason"] or "")[:REASON_LIMIT]
    return DiskStatus(found["status"], size, size_now, found["version"] or "", reason)


def plain(text: str) -> str:
    """A text of another domain as it can be shown: printable ASCII, and not too long."""
    return _UNFIT.sub("?", text).strip()[:REASON_LIMIT]


def node_name(domid: int, devid: int) -> str:
    """The name of a disk's node, and of its unit's instance."""
    return f"{domid}-{devid}"


def key_of(name: str) -> tuple[int, int] | None:
    """The guest and the device number that a name means, None where it is no such name."""
    found = _NAME.fullmatch(name)
    return None if found is None else (int(found[1]), int(found[2]))
