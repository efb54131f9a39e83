# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processors are taken from a command, and its end is told: tests/stalls.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def stalls(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tests/stalls.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "arguments", [(), ("1", "2"), ("1", "2", "3"), ("a", "2", "3", "true"), ("2", "1", "3", "true")]
)
def test_stalls_that_make_no_sense_are_refused(arguments: tuple[str, ...]) -> None:
    done = stalls(*arguments)
    assert done.returncode == 64
    assert "SECONDS LEAST MOST COMMAND" in done.stderr


LONGEST_PAUSE = """
import time
longest = 0
begin = last = time.monotonic()
while last < begin + 1.5:
    now = time.monotonic()
    longest = max(longest, now - last)
    last = now
print(longest)
raise SystemExit(7)
"""


def test_processors_are_taken_from_a_command_and_its_end_is_told() -> None:
    done = stalls("0.3", "0.4", "0.5", sys.executable, "-c", LONGEST_PAUSE)
    if done.returncode == 77:
        pytest.skip("a fact of this machine: nobody may come before all others here")
    assert done.returncode == 7, done.stderr
    assert float(done.stdout) > 0.2
