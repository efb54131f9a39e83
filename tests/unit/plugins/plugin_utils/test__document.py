# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documents that one task makes and another goes on with; a table."""

from __future__ import annotations

import pytest
from ansible_collections.xen.virtio.plugins.plugin_utils._document import checked


def test_one_that_is_understood() -> None:
    report = {"format": "x/a", "version": 2, "hosts": []}
    assert checked(report, "x/a", 2, "x.a", ValueError) is report


@pytest.mark.parametrize(
    ("report", "why"),
    [
        (None, "a report of x.a is expected"),
        ([], "a report of x.a is expected"),
        ({}, "a report of x.a is expected"),
        ({"format": "x/b", "version": 2}, "a report of x.a is expected"),
        ({"format": "x/a"}, "the report has version None, and 2 is understood here"),
        ({"format": "x/a", "version": 3}, "the report has version 3, and 2 is understood here"),
    ],
)
def test_one_that_is_not(report: object, why: str) -> None:
    with pytest.raises(ValueError, match="report") as refused:
        checked(report, "x/a", 2, "x.a", ValueError)
    assert str(refused.value) == why
