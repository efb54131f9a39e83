# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Permissions that mean the same, and those that do not."""

from __future__ import annotations

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._perms import same_perms


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (["n0"], ["n0"], True),
        (["n0"], ["n0", "r0"], True),
        (["n0", "b0"], ["n0"], True),
        (["n0", "r1", "w2"], ["n0", "w2", "r1"], True),
        (["n0", "r1", "w1"], ["n0", "r1"], True),
        (["n0"], ["r0"], False),
        (["n0"], ["n1"], False),
        (["n0", "r1"], ["n0", "w1"], False),
        (["n0", "r1"], ["n0"], False),
        (["n0"], [], False),
    ],
)
def test_same_perms(left: list[str], right: list[str], same: bool) -> None:
    assert same_perms(left, right) is same
    assert same_perms(tuple(right), tuple(left)) is same
