# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Passwords in configurations are not shown; tables."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._guestrecord import Change, hide, hide_record
from ansible_collections.xen.virtio.plugins.module_utils._guestsecrets import (
    HIDDEN,
    Hidden,
    HiddenError,
    masked,
    without_secrets,
)

TEXTS = [
    ('vncpasswd = "s3cret"\nmemory = 64\n', 'vncpasswd = "********"\nmemory = 64\n'),
    ("vncpasswd='it\\'s3cret' # mine\n", "vncpasswd='********' # mine\n"),
    ('spicepasswd = "a,b\\"s3cret"\n', 'spicepasswd = "********"\n'),
    (
        'vfb = ["type=vnc,vncpasswd=s3cret,vncunused=1"]\n',
        'vfb = ["type=vnc,vncpasswd=********,vncunused=1"]\n',
    ),
    ("vfb=['vncpasswd=s3cret']", "vfb=['vncpasswd=********']"),
    ("vncpasswd=12345\n", "vncpasswd=********\n"),
    ("devid=0, vnc.passwd=s3cret", "devid=0, vnc.passwd=********"),
    ('cmdline = "root=/dev/vda"\n', 'cmdline = "root=/dev/vda"\n'),
]


@pytest.mark.parametrize(("text", "shown"), TEXTS)
def test_texts(text: str, shown: str) -> None:
    assert masked(text) == shown


VALUES: list[tuple[str, Any, Any]] = [
    ("extra_config.vncpasswd", "s3cret", "********"),
    ("extra_config.vncpasswd", None, None),
    ("extra_config.vfb", ["type=vnc,vncpasswd=s3cret"], ["type=vnc,vncpasswd=********"]),
    ("extra_config.x", {"spicepasswd": "s3cret", "y": 1}, {"spicepasswd": "********", "y": 1}),
    ("memory", 64, 64),
]


@pytest.mark.parametrize(("name", "value", "shown"), VALUES)
def test_values(name: str, value: Any, shown: Any) -> None:
    assert without_secrets(name, value) == shown


def test_a_change_of_a_password_is_told_without_it() -> None:
    change = Change("vfbs", None, "devid=0, vnc.passwd=s3cret")
    assert "s3cret" not in change.words
    assert "s3cret" not in str(change.as_dict())


HIDDEN_TEXTS: list[tuple[list[str], str, str]] = [
    ([], 'cmdline = "a"\nvncpasswd = "b"\n', 'cmdline = "a"\nvncpasswd = "********"\n'),
    (["cmdline"], 'cmdline = "key=s3cret quiet"\nmemory = 64\n', 'cmdline = "********"\nmemory = 64\n'),
    (["cmdline"], "cmdline='it\\'s3cret; x' # mine\n", 'cmdline="********"\n'),
    (["cmdline"], 'extra="s3cret"\nroot = "s3cret"', 'extra="********"\nroot = "********"'),
    (["cmdline"], 'memory=1; cmdline="s3cret;s3cret" ; vcpus=2', 'memory=1; cmdline="********"; vcpus=2'),
    (["cmdline"], 'cmdline += "s3cret"\n', 'cmdline += "********"\n'),
    (["cmdline"], '# cmdline = "s3cret"\nname = "a"\n', '# cmdline = "********"\nname = "a"\n'),
    (["cmdline"], 'cmdline = "s3cret and no end', 'cmdline = "********"'),
    (["cmdline"], 'vncpasswd = "b"\n', 'vncpasswd = "********"\n'),
    (["memory"], "memory = 64\nmaxmem = 128\n", 'memory = "********"\nmaxmem = 128\n'),
    (["vif"], 'vif = [ "mac=s3cret]", # ]\n "x" ]\nname = "a"\n', 'vif = "********"\nname = "a"\n'),
    (["extra_config.usb"], "usb = [['s3cret'], 's3cret']\nusbx = 1\n", 'usb = "********"\nusbx = 1\n'),
    (
        ["extra_config"],
        'bios = "s3cret"\nname = "a"\ndisk = ["b"]\n',
        'bios = "********"\nname = "a"\ndisk = ["b"]\n',
    ),
    (["extra_config"], 'root = "a"\ncmdline = "b"\n', 'root = "a"\ncmdline = "b"\n'),
]


@pytest.mark.parametrize(("names", "text", "shown"), HIDDEN_TEXTS)
def test_texts_with_something_hidden(names: list[str], text: str, shown: str) -> None:
    assert Hidden.of(names).text(text) == shown


RECORDS: list[tuple[list[str], str, bool]] = [
    ([], "cmdline", False),
    (["cmdline"], "cmdline", True),
    (["cmdline"], "kernel", False),
    (["cmdline"], "b_info.type.hvm.serial_list", False),
    (["vif"], "vif", True),
    (["serial"], "serial_list", True),
    (["serial"], "cmdline", False),
    (["extra_config.usbdevice"], "usbdevice_list", True),
    (["extra_config"], "b_info.type.hvm.bios", True),
    (["extra_config"], "memory", False),
]


@pytest.mark.parametrize(("names", "option", "hidden"), RECORDS)
def test_changes_of_a_record(names: list[str], option: str, hidden: bool) -> None:
    (change,) = hide_record([Change(option, "s3cret-1", None)], Hidden.of(names))
    assert change.told == (HIDDEN if hidden else "s3cret-1", None)
    assert ("s3cret" not in change.words) == hidden


CONFIGS: list[tuple[list[str], str, bool]] = [
    (["cmdline"], "cmdline", True),
    (["cmdline"], "extra_config.bios", False),
    (["extra_config.bios"], "extra_config.bios", True),
    (["extra_config"], "extra_config.bios", True),
    (["extra_config"], "cmdline", False),
    (["extra_config"], "disks.xvda", False),
]


@pytest.mark.parametrize(("names", "option", "hidden"), CONFIGS)
def test_changes_of_a_configuration(names: list[str], option: str, hidden: bool) -> None:
    (change,) = hide([Change(option, "s3cret-1", "s3cret-2")], Hidden.of(names))
    assert ("s3cret" not in str(change.as_dict())) == hidden


def test_a_guest_as_declared() -> None:
    guest = {"name": "a", "cmdline": "s3cret", "memory": 64, "extra_config": {"bios": "s3cret", "usb": 1}}
    shown = {"name": "a", "cmdline": HIDDEN, "memory": 64, "extra_config": {"bios": HIDDEN, "usb": 1}}
    assert Hidden.of(["cmdline", "extra_config.bios"]).values(guest) == shown
    assert Hidden.of(["extra_config"]).values(guest)["extra_config"] == HIDDEN


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("cmdlin", "did you mean cmdline?"),
        ("bios", "keys of extra_config are named extra_config.KEY"),
        ("extra_config.", "did you mean extra_config?"),
        ("name", "keys of extra_config are named extra_config.KEY"),
        ("disks", "keys of extra_config are named extra_config.KEY"),
    ],
)
def test_a_name_that_would_hide_nothing_is_refused(name: str, hint: str) -> None:
    with pytest.raises(HiddenError) as refused:
        Hidden.of([name])
    assert str(refused.value) == f"hidden: {name!r} is no option of a guest that can be hidden; {hint}"
