# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The launcher's settings: what is taken, what is refused and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._launchsettings import Settings, SettingsError

TAKEN: list[tuple[dict[str, Any], Settings]] = [
    ({"daemon": "/usr/bin/virtio-disk"}, Settings("/usr/bin/virtio-disk")),
    (
        {"daemon": "/x", "version": "1.2", "view": False, "arguments": ["-l"], "shared_targets": ["/dev/a"]},
        Settings("/x", "1.2", view=False, arguments=("-l",), shared_targets=("/dev/a",)),
    ),
    ({"daemon": "/x", "served_within": 5, "later": "option"}, Settings("/x", served_within=5.0)),
]


@pytest.mark.parametrize(("document", "settings"), TAKEN)
def test_settings_both_ways(document: dict[str, Any], settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "backend.json"
    path.write_text(json.dumps(document))
    assert Settings.read(str(path)) == settings
    path.write_bytes(settings.text())
    assert Settings.read(str(path)) == settings


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, "daemon: None is no absolute path"),
    ({"daemon": "virtio-disk"}, "daemon: 'virtio-disk' is no absolute path"),
    ({"daemon": "/a\nb"}, "no absolute path of printable characters"),
    ({"daemon": "/x", "arguments": ["-d", "5"]}, "arguments: '-d' is not one of -l"),
    ({"daemon": "/x", "arguments": "-l"}, "arguments: not a list of texts"),
    ({"daemon": "/x", "view": "no"}, "view: neither true nor false"),
    ({"daemon": "/x", "version": 1.2}, "version: not a text"),
    ({"daemon": "/x", "shared_targets": ["a"]}, "shared_targets: 'a' is no absolute path"),
    ({"daemon": "/x", "served_within": 0}, "served_within: 0 is not between 0 and 600 seconds"),
    ({"daemon": "/x", "settle": True}, "settle: True is not between"),
]


@pytest.mark.parametrize(("document", "why"), REFUSED)
def test_what_is_refused_is_named_with_its_file(document: dict[str, Any], why: str, tmp_path: Path) -> None:
    path = tmp_path / "backend.json"
    path.write_text(json.dumps(document))
    with pytest.raises(SettingsError) as caught:
        Settings.read(str(path))
    assert str(caught.value).startswith(f"{path}: ")
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("text", "why"), [("{", "not JSON"), ("[]", "not an object"), (None, "No such file")]
)
def test_files_that_are_none(text: str | None, why: str, tmp_path: Path) -> None:
    path = tmp_path / "backend.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SettingsError, match=why):
        Settings.read(str(path))
