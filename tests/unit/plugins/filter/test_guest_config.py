# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter guest_config, called as templates call it."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.xen.virtio.plugins.filter.guest_config import FilterModule

guest_config = FilterModule().filters()["guest_config"]


@pytest.mark.parametrize(
    ("guest", "xen", "text"),
    [
        ({"name": "a", "memory": 1}, None, 'name = "a"\nmemory = 1\n'),
        ({"name": "a", "state": "running", "path": "/etc/xen/a.cfg", "content": "b"}, "4.17", 'name = "a"\n'),
        ({"name": "a", "disks": ["/a,,xvda,virtio"]}, "v6", 'name = "a"\ndisk = ["/a,,xvda,virtio"]\n'),
        ({"name": "a", "extra": 'b"\ndisk = []'}, None, 'name = "a"\ncmdline = "b\\"\\ndisk = []"\n'),
    ],
)
def test_written(guest: dict[str, Any], xen: str | None, text: str) -> None:
    assert guest_config(guest, xen=xen) == text


@pytest.mark.parametrize(
    ("guest", "xen", "reason"),
    [
        ({"name": "a", "memroy": 1}, None, "guest a: memroy: .* did you mean memory"),
        ({"name": "a", "nr_spis": 9}, "4.17", "guest a: nr_spis is accepted by Xen 4.19 and newer"),
        ({"name": "a", "kernel": {"src": "Image"}}, None, "Image is not stored on the host yet"),
        ({"name": "a"}, 4.2, "is a number: quote it"),
        ("a", None, "a guest is a mapping, not str"),
        ({}, None, "without a name"),
    ],
)
def test_refused(guest: Any, xen: Any, reason: str) -> None:
    with pytest.raises(AnsibleFilterError, match=reason):
        guest_config(guest, xen)
