# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Code that stands still loses the race that it counted on: tests/pauses.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RACE = """
import threading, time
from late import answer

def test_race():
    answers = []
    thread = threading.Thread(target=answer, args=(answers,))
    thread.start()
    time.sleep(0.2)
    found = list(answers)
    thread.join()
    assert found == [1]
"""
LATE = "def answer(answers):\n    number = 0\n    number += 1\n    answers.append(number)\n"


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A test of a race that is won unless something stands still, with everything before it paused."""
    (folder / "code").mkdir()
    (folder / "code/late.py").write_text(LATE)
    (folder / "test_race.py").write_text(RACE)
    always = "import tests.pauses as p; p.SHARE = 1; p.random.uniform = lambda low, high: 0.5; p.ROOT = p.Path('.')"
    code = f"{always}; import pytest, sys; sys.exit(pytest.main(sys.argv[1:], plugins=[p]))"
    command = [sys.executable, "-c", code, "-q", "-p", "no:cacheprovider", *arguments, "test_race.py"]
    path = f"{ROOT}:{folder / 'code'}"
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_race_is_lost_by_who_stands_still(tmp_path: Path) -> None:
    done = run(tmp_path, "--pauses", "code")
    assert "assert [] == [1]" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize("arguments", [(), ("--pauses", "docs")], ids=["nowhere", "elsewhere"])
def test_nothing_else_stands_still(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "docs").mkdir()
    done = run(tmp_path, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_folder_that_there_is_not_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path, "--pauses", "plugin")
    assert "--pauses: there is no folder plugin" in done.stderr
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
