# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests against the oracle share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from lab.errors import LabUnavailable
from lab.roots import locate

from . import Oracle

RELEASES = ["4.17", pytest.param("4.20", marks=pytest.mark.trixie)]

#: Many strings a run: the same ones wherever CI is set, new ones elsewhere.
MANY = settings(
    max_examples=2500,
    deadline=None,
    database=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.fixture(scope="module", params=RELEASES)
def truth(request: pytest.FixtureRequest) -> Iterator[Oracle]:
    """The real parser of Xen 4.17, and that of 4.20."""
    if not shutil.which("gcc"):
        pytest.skip("gcc is not installed: the oracle cannot be built")
    try:
        xen = locate(request.param)
    except LabUnavailable as reason:
        pytest.skip(f"{reason}")
    with Oracle(xen) as oracle:
        yield oracle
