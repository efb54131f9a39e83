# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module backend_launcher puts on a host, and takes away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils import _view
from ansible_collections.xen.virtio.plugins.module_utils._backend_launcher_module import (
    ARGUMENT_SPEC,
    carry_out,
    launcher_archive,
    plan,
    result,
)
from ansible_collections.xen.virtio.plugins.module_utils._backendunits import UnitError
from ansible_collections.xen.virtio.plugins.module_utils._launchsettings import SettingsError

ALL = {
    "lib_dir": {"launcher.pyz", "virtio_disk_view.py"},
    "unit_dir": {"virtio-disk-launcher.service", "virtio-disk@.service", "virtio-disk.slice"},
    "config_dir": {"backend.json"},
    "command_dir": {"virtio-disk-launcher"},
}


class Host:
    """A host's folders, and calls of the module."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.last: dict[str, Any] = {}

    def call(self, *, check: bool = False, **options: Any) -> dict[str, Any]:
        given = {name: spec.get("default") for name, spec in ARGUMENT_SPEC.items()}
        given |= {name: str(self.folder / name) for name in ALL}
        given |= {"daemon": "/usr/bin/virtio-disk", **options}
        files = plan(given)
        if not check:
            carry_out(files, given)
        self.last = result(files)
        self.last["files"] = [os.path.basename(path) for path in self.last["files"]]
        return self.last

    def there(self) -> dict[str, set[str]]:
        folders = {name: self.folder / name for name in ALL}
        return {name: set(os.listdir(folder)) for name, folder in folders.items() if folder.exists()}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def told(host: Host) -> tuple[bool, bool, bool]:
    return host.last["changed"], host.last["launcher_changed"], host.last["units_changed"]


def test_all_of_it_once(host: Host) -> None:
    host.call(check=True)
    assert told(host) == (True, True, True)
    assert host.there() == {}
    host.call()
    assert host.there() == ALL
    assert (host.folder / "command_dir/virtio-disk-launcher").stat().st_mode & 0o777 == 0o755
    host.call()
    assert told(host) == (False, False, False)


CHANGES: list[tuple[dict[str, Any], list[str], tuple[bool, bool, bool]]] = [
    ({"version": "2.0"}, ["backend.json"], (True, False, False)),
    ({"view": False}, ["backend.json"], (True, False, False)),
    ({"unit_options": {"nice": -5}}, ["virtio-disk@.service"], (True, False, True)),
    ({"unit_options": {"slice_cpu_weight": 5}}, ["virtio-disk.slice"], (True, False, True)),
    ({"unit_options": {"launcher_nice": 5}}, ["virtio-disk-launcher.service"], (True, True, True)),
]


@pytest.mark.parametrize(("options", "files", "expected"), CHANGES)
def test_what_has_to_follow_a_change(
    host: Host, options: dict[str, Any], files: list[str], expected: tuple[bool, bool, bool]
) -> None:
    host.call()
    host.call(check=True, **options)
    assert (host.last["files"], told(host)) == (files, expected)
    diff = host.last["diff"]
    assert all(one["before"] != one["after"] for one in diff)


def test_another_archive_wants_the_launcher_restarted_and_nothing_else(host: Host) -> None:
    host.call()
    (host.folder / "lib_dir/launcher.pyz").write_bytes(b"older")
    host.call()
    assert (host.last["files"], told(host)) == (["launcher.pyz"], (True, True, False))


def test_nothing_of_it_is_left(host: Host) -> None:
    host.call()
    (host.folder / "unit_dir/multi-user.target.wants").mkdir()
    link = host.folder / "unit_dir/multi-user.target.wants/virtio-disk-launcher.service"
    link.symlink_to("/x")
    host.call(state="absent")
    assert host.there() == {"unit_dir": {"multi-user.target.wants"}, "command_dir": set()}
    assert not link.is_symlink()
    host.call(state="absent")
    assert told(host) == (False, False, False)


def test_files_of_others_stay(host: Host) -> None:
    host.call()
    (host.folder / "lib_dir/guests.pyz").touch()
    host.call(state="absent")
    assert host.there()["lib_dir"] == {"guests.pyz"}


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"daemon": "virtio-disk"}, SettingsError),
        ({"arguments": ["-d"]}, SettingsError),
        ({"unit_options": {"nice": 99}}, UnitError),
        ({"lib_dir": "/a b"}, UnitError),
    ],
)
def test_what_is_refused_changes_nothing(host: Host, options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        host.call(**options)
    assert host.there() == {}


def test_the_archive_is_the_launcher_and_what_it_needs_always_the_same_bytes(tmp_path: Path) -> None:
    first, second = launcher_archive(), launcher_archive()
    assert first == second
    path = tmp_path / "launcher.pyz"
    path.write_bytes(first)
    names = set(zipfile.ZipFile(path).namelist())
    assert {
        "__main__.py",
        "xen_virtio/_launcher.py",
        "xen_virtio/_launch.py",
        "xen_virtio/_daemons.py",
    } <= names
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(path), "--help"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.partition(":")[0]) == (2, "usage")


def test_the_view_is_its_source(host: Host) -> None:
    host.call()
    assert _view.__file__ is not None
    assert (host.folder / "lib_dir/virtio_disk_view.py").read_bytes() == Path(_view.__file__).read_bytes()


def test_settings_are_what_was_said(host: Host) -> None:
    host.call(version="1.2", arguments=["-l"], shared_targets=["/dev/vg/shared"])
    written = json.loads((host.folder / "config_dir/backend.json").read_text())
    assert written == {
        "arguments": ["-l"],
        "daemon": "/usr/bin/virtio-disk",
        "shared_targets": ["/dev/vg/shared"],
        "version": "1.2",
        "view": True,
    }
