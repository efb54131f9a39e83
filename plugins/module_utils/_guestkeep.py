# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Have guests come up with their host: a systemd unit for each, with what it needs to run.

The unit starts `_guestboot` out of an archive of this collection's own modules, so that what is created at boot
is created as a task would.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping
from typing import Any

from . import _archive, _guestboot
from ._files import FileChange, gone, linked, wanted
from ._guestkept import GuestFileError
from ._guestplan import GONE
from ._guestwish import Wish

ARCHIVE = "guests.pyz"

#: The options of a task that shape what happens at boot.
_OPTIONS = (
    "create_timeout",
    "images_dir",
    "lock_dir",
    "lock_timeout",
    "settle",
    "state_dir",
    "timeout",
    "userdata_dir",
    "wait_timeout",
    "xen",
    "xl_path",
)

#: `KillMode=process`: the xl that looks after the guest stays in the unit's group, and outlives the unit.
_UNIT_TEXT = """\
# Written by xen.virtio.guest (autostart: true); changes are overwritten.
[Unit]
Description=Xen guest {name}
# whichever of these the distribution has
After=xenstored.service xen-init-dom0.service xenconsoled.service xen-dom0less.service xen.service
After=xen-virtio-disks.service

[Service]
Type=oneshot
RemainAfterExit=yes
KillMode=process
ExecStart={python} {archive} {kept}
TimeoutStartSec=1800

[Install]
WantedBy=multi-user.target
"""


class Keeper:
    """Where a host keeps which guests come up with it.

    Args:
        params: the task's options.

    Raises:
        GuestFileError: a folder that no unit could name.
    """

    def __init__(self, params: Mapping[str, Any]) -> None:
        self._params = params
        self.folder = os.path.join(params["state_dir"], "autostart")
        self.library = params["lib_dir"]
        self.units = params["unit_dir"]
        for path in (self.folder, self.library, self.units):
            if not re.fullmatch(r"/[A-Za-z0-9._/+@-]+", path):
                raise GuestFileError(
                    f"{path!r}: a folder named in a systemd unit is absolute, of letters, digits and ._/+@-"
                )

    def changes(self, wish: Wish) -> list[FileChange]:
        """The changes after which a guest comes up with the host, or does not; none where it is so."""
        try:
            listed = self._keep(wish) if wish.autostart and wish.state != GONE else self._forget(wish.name)
        except OSError as error:
            raise GuestFileError(f"{wish.name}: autostart: {error.filename}: {error.strerror}") from error
        except _archive.ArchiveError as error:
            raise GuestFileError(f"{wish.name}: autostart: {error}") from error
        return [change for change in listed if change is not None]

    def _keep(self, wish: Wish) -> list[FileChange | None]:
        unit, kept = unit_name(wish.name), self._kept(wish.name)
        archive = os.path.join(self.library, ARCHIVE)
        document = {"version": 1, "name": wish.name, "path": wish.path}
        document.update({key: self._params[key] for key in _OPTIONS if self._params.get(key) is not None})
        store = self._params.get("socket") or self._params.get("xenbus")
        if store:
            document["store"] = store
        text = _UNIT_TEXT.format(
            name=wish.name.replace("%", "%%"), python=sys.executable, archive=archive, kept=kept
        )
        return [
            wanted(archive, _archive.archive_bytes(_guestboot.__name__.rpartition(".")[2])),
            wanted(kept, (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()),
            wanted(os.path.join(self.units, unit), text.encode("utf-8", "surrogateescape")),
            linked(os.path.join(self.units, "multi-user.target.wants", unit), f"../{unit}"),
        ]

    def _forget(self, name: str) -> list[FileChange | None]:
        unit, kept = unit_name(name), self._kept(name)
        changes = [
            gone(os.path.join(self.units, "multi-user.target.wants", unit)),
            gone(os.path.join(self.units, unit)),
            gone(kept),
        ]
        if any(changes) and not self._others(kept):
            changes.append(gone(os.path.join(self.library, ARCHIVE)))
        return changes

    def _kept(self, name: str) -> str:
        return os.path.join(self.folder, f"{plain(name)}.json")

    def _others(self, kept: str) -> bool:
        try:
            return bool(set(os.listdir(self.folder)) - {os.path.basename(kept)})
        except FileNotFoundError:
            return False


def plain(name: str) -> str:
    """A guest's name as a file name that a unit can name without any quoting."""
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._+-]*", name):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return re.sub(r"[^A-Za-z0-9_]", "_", name) + f"+{digest}"


def unit_name(name: str) -> str:
    """The unit of a guest, its name escaped as ``systemd-escape`` does (systemd.unit(5))."""
    told = ""
    for index, byte in enumerate(name.encode("utf-8", "surrogateescape")):
        letter = chr(byte)
        keep = letter.isascii() and (letter.isalnum() or letter in ":_" or (letter == "." and index > 0))
        told += letter if keep else f"\\x{byte:02x}"
    return f"xen-virtio-guest@{told}.service"
