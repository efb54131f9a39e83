# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module backend_launcher: the launcher's files on a host, as they are to be."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ._zipped import compile_once

compile_once()

from . import _archive, _launcher, _view
from ._argspec import host_argument_spec
from ._backendunits import (
    ARCHIVE,
    DISK_UNIT,
    LAUNCHER_UNIT,
    SLICE,
    VIEW,
    UnitError,
    command,
    disk_unit,
    launcher_unit,
    slice_unit,
)
from ._files import FileChange, gone, wanted
from ._launchsettings import Settings, SettingsError

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

COMMAND = "virtio-disk-launcher"

ARGUMENT_SPEC: dict[str, Any] = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "daemon": {"type": "path"},
    "version": {"type": "str", "default": ""},
    "view": {"type": "bool", "default": True},
    "arguments": {"type": "list", "elements": "str", "default": []},
    "shared_targets": {"type": "list", "elements": "str", "default": []},
    "served_within": {"type": "float"},
    "settle": {"type": "float"},
    "size_interval": {"type": "float"},
    "unit_options": {"type": "dict", "default": {}},
    "python": {"type": "path"},
    **host_argument_spec("lib_dir", "unit_dir"),
    "config_dir": {"type": "path", "default": "/etc/xen-virtio"},
    "command_dir": {"type": "path", "default": "/usr/local/sbin"},
}
CONSTRAINTS: dict[str, Any] = {"required_if": [("state", "present", ["daemon"])]}

#: Options of the launcher's settings, of which those left out keep the launcher's own default.
_SETTINGS = (
    "daemon",
    "version",
    "view",
    "arguments",
    "shared_targets",
    "served_within",
    "settle",
    "size_interval",
)

EXPECTED = (OSError, UnitError, SettingsError, _archive.ArchiveError)


@dataclass(frozen=True)
class Files:
    """What is to change on a host.

    Attributes:
        launcher: what a running launcher goes on without until it is restarted.
        units: what systemd has to read again.
        others: what takes effect by itself.
    """

    launcher: tuple[FileChange, ...]
    units: tuple[FileChange, ...]
    others: tuple[FileChange, ...]

    @property
    def all(self) -> tuple[FileChange, ...]:
        """In the order in which to make them: what is named by others first."""
        return (*self.others, *self.launcher, *self.units)


def launcher_archive() -> bytes:
    """The launcher as one file; its bytes depend on the sources alone. Raises ArchiveError."""
    return _archive.archive_bytes(_launcher.__name__.rpartition(".")[2])


def view_source() -> bytes:
    """The view as one file. Raises ArchiveError."""
    return _archive.source_bytes(_view.__name__.rpartition(".")[2])


def plan(params: Mapping[str, Any]) -> Files:
    """What has to change; raises what `EXPECTED` names."""
    if params["state"] == "absent":
        return _without(params)
    python = params["python"] or _python()
    library, options = params["lib_dir"], params["unit_options"]
    settings = Settings.of({name: params[name] for name in _SETTINGS if params.get(name) is not None})
    told = {"python": python, "library": library}
    launcher = launcher_unit(**told, options=options).encode()
    places = _places(params)
    service = wanted(places[LAUNCHER_UNIT], launcher)
    return Files(
        launcher=_made([wanted(places[ARCHIVE], launcher_archive())]),
        units=_made(
            [
                service,
                wanted(places[DISK_UNIT], disk_unit(**told, options=options).encode()),
                wanted(places[SLICE], slice_unit(options).encode()),
            ]
        ),
        others=_made(
            [
                wanted(places["settings"], settings.text()),
                wanted(places[VIEW], view_source()),
                wanted(places[COMMAND], command(**told).encode(), 0o755),
            ]
        ),
    )


def _without(params: Mapping[str, Any]) -> Files:
    places = _places(params)
    enabled = os.path.join(params["unit_dir"], "multi-user.target.wants", LAUNCHER_UNIT)
    return Files(
        launcher=_made([gone(places[ARCHIVE])]),
        units=_made(
            [gone(enabled), gone(places[LAUNCHER_UNIT]), gone(places[DISK_UNIT]), gone(places[SLICE])]
        ),
        others=_made([gone(places["settings"]), gone(places[VIEW]), gone(places[COMMAND])]),
    )


def _places(params: Mapping[str, Any]) -> dict[str, str]:
    """Where everything lies."""
    return {
        ARCHIVE: os.path.join(params["lib_dir"], ARCHIVE),
        VIEW: os.path.join(params["lib_dir"], VIEW),
        LAUNCHER_UNIT: os.path.join(params["unit_dir"], LAUNCHER_UNIT),
        DISK_UNIT: os.path.join(params["unit_dir"], DISK_UNIT),
        SLICE: os.path.join(params["unit_dir"], SLICE),
        "settings": os.path.join(params["config_dir"], "backend.json"),
        COMMAND: os.path.join(params["command_dir"], COMMAND),
    }


def carry_out(files: Files, params: Mapping[str, Any]) -> None:
    """Make the changes; folders of ours that stay empty go too. Raises OSError."""
    for change in files.all:
        change.carry_out()
    if params["state"] == "absent":
        for folder in (params["lib_dir"], params["config_dir"]):
            with contextlib.suppress(OSError):  # others' files lie there
                os.rmdir(folder)


def result(files: Files) -> dict[str, Any]:
    """As the module returns it."""
    service = [change for change in files.units if change.path.endswith(LAUNCHER_UNIT)]
    return {
        "changed": bool(files.all),
        "launcher_changed": bool(files.launcher or service),
        "units_changed": bool(files.units),
        "files": [change.path for change in files.all],
        "diff": [change.as_diff() for change in files.all],
    }


def main_backend_launcher(module: AnsibleModule) -> None:
    """The module backend_launcher."""
    try:
        files = plan(module.params)
        told = result(files)
        if not module.check_mode:
            carry_out(files, module.params)
    except EXPECTED as error:
        where = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
        module.fail_json(msg=f"{where}{error.strerror if isinstance(error, OSError) else error}")
    module.exit_json(**told)


def _made(changes: Iterable[FileChange | None]) -> tuple[FileChange, ...]:
    return tuple(change for change in changes if change is not None)


def _python() -> str:
    """What runs launcher and views: the system's own rather than one that only Ansible uses."""
    system = "/usr/bin/python3"
    return system if os.access(system, os.X_OK) else sys.executable
