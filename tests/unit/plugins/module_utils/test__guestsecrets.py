# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Passwords in configurations are not shown; tables."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._guestrecord import Change
from ansible_collections.xen.virtio.plugins.module_utils._guestsecrets import masked, without_secrets

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
