# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lab hosts for system tests (tests/lab/README.md)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from backends import controller, dom0, driver_domain, machine, machines, make_driver_domain, make_machine
from lab import LabError, LabHost, LabUnavailable
from machine import old_python
from oracle.fixtures import truth

#: Fixtures of the tests in this folder.
__all__ = [
    "controller",
    "dom0",
    "domd",
    "domu",
    "driver_domain",
    "lab",
    "lab_any",
    "lab_factory",
    "machine",
    "machines",
    "make_driver_domain",
    "make_machine",
    "old_python",
    "truth",
]

LabFactory = Callable[..., LabHost]
LINES = 200  # of a journal, shown where a test fails


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """A test that fails shows the journals of its machines, which say why."""
    report = (yield).get_result()
    machines = getattr(item, "funcargs", {}).get("machines")
    if not report.failed or machines is None:
        return
    for name, one in machines.machines.items():
        with suppress(LabError):  # it is off
            report.sections.append((f"journal of {name}", "\n".join(one.journal().splitlines()[-LINES:])))


@pytest.fixture
def lab_factory(tmp_path: Path) -> Iterator[LabFactory]:
    """Start any number of lab hosts: ``lab_factory(daemon="o", release="4.20")``; all end with the test."""
    with ExitStack() as hosts:
        count = 0

        def start(**options: Any) -> LabHost:
            nonlocal count
            count += 1
            try:
                return hosts.enter_context(LabHost(tmp_path / f"host{count}", **options))
            except LabUnavailable as reason:
                pytest.skip(f"{reason}")

        yield start


@pytest.fixture
def lab(lab_factory: LabFactory) -> LabHost:
    """A lab host with the C xenstored of Xen 4.17."""
    return lab_factory()


@pytest.fixture(params=["c", "o"], ids=["xenstored", "oxenstored"])
def lab_any(request: pytest.FixtureRequest, lab_factory: LabFactory) -> LabHost:
    """A lab host of Xen 4.17, once with the C xenstored and once with oxenstored."""
    return lab_factory(daemon=request.param)


@pytest.fixture
def domd(lab_any: LabHost) -> int:
    """A driver domain on the host ``lab_any``."""
    return lab_any.add_domain("DomD", kind="toolstack")


@pytest.fixture
def domu(lab_any: LabHost) -> int:
    """A dom0less guest on the host ``lab_any``."""
    return lab_any.add_domain(kind="dom0less")
