# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plugin of pytest: lets code stand still between two of its lines, at random, while all else goes on.

    make test ARGS="-p tests.pauses --pauses tests/system"         the tests themselves come late
    make test ARGS="-p tests.pauses --pauses plugins tests/unit"   the product does, in its threads and in a test's own

What fails only then counted on who comes first. `--pauses` names folders of this repository.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARE = 0.2  # of the lines before which there is a pause, until a test has had all of its own
LONGEST = 1.0  # seconds
EACH = 8  # pauses of one test


class Pauses:
    """Of all threads that are begun while it traces, and of the one that begins it."""

    def __init__(self, folders: list[str]) -> None:
        #: The collection's own folder is a link to the repository's.
        self._parts = tuple(f"/{folder.strip('/')}/" for folder in folders)
        self.left = 0

    def trace(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        """For `sys.settrace`."""
        if self.left > 0 and any(part in frame.f_code.co_filename for part in self._parts):
            return self._line
        return None

    def _line(self, _frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "line" and self.left > 0 and random.random() < SHARE:
            self.left -= 1
            time.sleep(random.uniform(0, LONGEST))
        return self._line

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_call(self) -> Iterator[None]:
        self.left = EACH
        sys.settrace(self.trace)
        try:
            yield
        finally:
            sys.settrace(None)
            self.left = 0


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--pauses", action="append", default=[], metavar="FOLDER", help="whose code stands still"
    )


def pytest_configure(config: pytest.Config) -> None:
    folders = config.getoption("--pauses")
    for folder in folders:
        if not (ROOT / folder).is_dir():
            raise pytest.UsageError(f"--pauses: there is no folder {folder} in {ROOT}")
    if folders:
        pauses = Pauses(folders)
        threading.settrace(pauses.trace)  # also of threads that a fixture begins
        config.pluginmanager.register(pauses, "pauses-of-lines")
