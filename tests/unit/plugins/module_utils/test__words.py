# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists in messages; a table."""

from __future__ import annotations

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._words import some


@pytest.mark.parametrize(
    ("items", "most", "glue", "told"),
    [
        ([], 2, ", ", ""),
        (["a"], 2, ", ", "a"),
        (["a", "b"], 2, ", ", "a, b"),
        (["a", "b", "c"], 2, ", ", "a, b, and 1 more"),
        (["a", "b", "c", "d"], 1, "; ", "a; and 3 more"),
    ],
)
def test_the_first_of_some(items: list[str], most: int, glue: str, told: str) -> None:
    assert some(items, most, glue) == told
