# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep declarations on a host, with the code and the service that apply them at boot.

One JSON file a guest; the code is a zip of this collection's own modules, so that boot and controller plan
alike; the service is a systemd oneshot. All of it goes when the last declaration goes.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from . import _archive, _boot
from ._declaration import GuestDeclaration
from ._disk import Job
from ._files import FileChange, gone, linked, wanted
from ._vdev import devid

UNIT = "xen-virtio-disks.service"
ARCHIVE = "disks.pyz"

#: The options of a task that shape what happens at boot.
_OPTIONS = (
    "hotplug",
    "wait",
    "wait_timeout",
    "settle",
    "xen",
    "accept",
    "timeout",
    "xl_path",
    "userdata_dir",
)

_UNIT_TEXT = """\
# Written by xen.virtio.disk (persistent: true); changes are overwritten.
[Unit]
Description=Virtio disks of Xen guests as declared in {folder}
# whichever of these the distribution has
After=xenstored.service xen-init-dom0.service xen-dom0less.service xen.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={python} {archive} {folder}
TimeoutStartSec=300

[Install]
WantedBy=multi-user.target
"""


class PersistError(RuntimeError):
    """A declaration cannot be kept on the host."""


class Persistence:
    """Where a host keeps declarations.

    Args:
        folder: of the declarations.
        library: of the code.
        units: of systemd's units.
    """

    def __init__(self, *, folder: str, library: str, units: str) -> None:
        for path in (folder, library, units):
            if not re.fullmatch(r"/[A-Za-z0-9._/+@-]+", path):
                raise PersistError(
                    f"{path!r}: a folder named in a systemd unit is absolute, of letters, digits and ._/+@-"
                )
        self.folder = folder
        self.library = library
        self.units = units

    def path_of(self, domain: str) -> str:
        """The file of a guest; any name makes one file name, never a path."""
        return os.path.join(self.folder, f"guest-{quote(domain, safe='')}.json")

    def keep(self, job: Job, params: Mapping[str, Any]) -> list[FileChange]:
        """The changes that keep a job's declarations; none where they are kept already."""
        guests = _raw_guests(params)
        changes = []
        for declaration in job.declarations:
            if declaration.disks is None:
                continue  # nothing was said of its disks
            guest = dict(guests[declaration.domain])
            guest["disks"] = self._merged(declaration, guest)
            changes.append(wanted(self.path_of(declaration.domain), _document(guest, params)))
        return _made(changes + self._service())

    def forget(self, job: Job, params: Mapping[str, Any]) -> list[FileChange]:
        """The changes that take a job's disks out of what is kept."""
        changes = []
        kept_files = set(self._files())
        for declaration in job.declarations:
            path = self.path_of(declaration.domain)
            if path not in kept_files:
                continue
            left = [] if not declaration.disks else self._without(path, declaration)
            if left:
                kept = _boot.load(path)
                kept["guest"]["disks"] = left
                changes.append(wanted(path, _json(kept)))
            else:
                kept_files.discard(path)
                changes.append(gone(path))
        if not kept_files:
            changes += [
                gone(os.path.join(self.units, "multi-user.target.wants", UNIT)),
                gone(os.path.join(self.units, UNIT)),
                gone(os.path.join(self.library, ARCHIVE)),
            ]
        return _made(changes)

    def _files(self) -> list[str]:
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise PersistError(f"{self.folder}: {error.strerror}") from error
        return [os.path.join(self.folder, name) for name in names if name.endswith(".json")]

    def _merged(self, declaration: GuestDeclaration, guest: Mapping[str, Any]) -> list[Any]:
        """The declared disks, behind those that are kept already and not spoken of."""
        declared = list(guest.get("disks") or [])
        path = self.path_of(declaration.domain)
        if declaration.exclusive or path not in self._files():
            return declared
        return self._without(path, declaration) + declared

    def _without(self, path: str, declaration: GuestDeclaration) -> list[Any]:
        try:
            kept = _boot.load(path)
            job = _boot.job_of(kept)
        except (OSError, ValueError) as error:
            raise PersistError(f"{error}; remove the file to start anew") from error
        spoken = {devid(disk.spec.vdev) for disk in declaration.disks or ()}
        disks = job.declarations[0].disks or ()
        raw = kept["guest"].get("disks") or []
        return [one for one, disk in zip(raw, disks) if devid(disk.spec.vdev) not in spoken]

    def _service(self) -> list[FileChange | None]:
        archive = os.path.join(self.library, ARCHIVE)
        text = _UNIT_TEXT.format(folder=self.folder, archive=archive, python=sys.executable)
        return [
            wanted(archive, archive_bytes()),
            wanted(os.path.join(self.units, UNIT), text.encode()),
            linked(os.path.join(self.units, "multi-user.target.wants", UNIT), f"../{UNIT}"),
        ]


def _made(changes: list[FileChange | None]) -> list[FileChange]:
    return [change for change in changes if change is not None]


def _raw_guests(params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The guests as the task wrote them, by name."""
    listed = params.get("guests")
    if listed is None:
        listed = [{key: params.get(key) for key in ("domain", "disks", "exclusive")}]
    return {
        str(guest["domain"]).strip(): {**guest, "domain": str(guest["domain"]).strip()} for guest in listed
    }


def _document(guest: Mapping[str, Any], params: Mapping[str, Any]) -> bytes:
    options = {name: params[name] for name in _OPTIONS if params.get(name) not in (None, [])}
    store = params.get("socket") or params.get("xenbus")
    if store:
        options["store"] = store
    return _json({"version": 1, "guest": dict(guest), **options})


def _json(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=2, sort_keys=True) + "\n").encode()


def archive_bytes() -> bytes:
    """The code that applies declarations at boot."""
    try:
        return _archive.archive_bytes("_boot")
    except _archive.ArchiveError as error:
        raise PersistError(str(error)) from error
