# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``make demo``: it ends well, leaves nothing behind, and the README shows what it really prints."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from demo import readme

pytestmark = pytest.mark.usefixtures("lab")  # says so where this machine cannot run one


def test_the_readme_shows_what_it_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("TMPDIR", folder)
        output = readme.record()
        assert os.listdir(folder) == []
    text = readme.README.read_text()
    assert readme.render(text, output) == text, (
        "bring it up to date with: .venv/bin/python tests/demo --readme"
    )


@pytest.mark.parametrize("name", ["disks.yml", "mistake.yml"])
def test_a_playbook_fits_into_a_terminal(name: str) -> None:
    assert max(map(len, readme.playbook(name).splitlines())) <= 80


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("chapter", ["1. A board", "3. The first run"])
def test_an_interrupted_one_leaves_nothing_behind(number: signal.Signals, chapter: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tour = subprocess.Popen(
            [sys.executable, str(readme.HERE)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": folder},
            start_new_session=True,
        )
        assert tour.stdout is not None
        assert any(chapter in line for line in tour.stdout)
        os.killpg(tour.pid, number)
        _out, err = tour.communicate(timeout=60)
        assert "demo: interrupted; the lab host is gone" in err
        assert tour.returncode == 130
        left = [str(path) for path in Path(folder).rglob("*")]
        assert left == [], left
        assert not named_in_processes(Path(folder))


def named_in_processes(folder: Path) -> list[str]:
    """Command lines of processes that name the folder."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                line = (
                    Path(f"/proc/{entry}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
            except OSError:
                continue
            if str(folder) in line:
                found.append(line)
    return found
