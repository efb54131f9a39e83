# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One board for all tests, brought up once from nothing to running guests."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from e2e.board import Board
from e2e.image import obtain
from e2e.site import ROOT, Site
from e2e.trees import every_node

LOGS = ROOT / ".cache/e2e"


@pytest.fixture(scope="session")
def say(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Progress, past pytest's capture: all of this takes minutes."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def tell(text: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"e2e: {text}", file=sys.stderr, flush=True)

    return tell


def keep_logs(folder: Path, name: str) -> None:
    """Xen's and dom0's console at each attempt to boot, the emulator's own, and what Ansible did when."""
    kept = LOGS / name
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    for log in folder.glob("*.log"):
        shutil.copy(log, kept / log.name)


@contextmanager
def up(say: Callable[[str], None], xen: Path | None = None) -> Iterator[Board]:
    """A board that has booted, with Debian's Xen or another one."""
    folder = Path(tempfile.mkdtemp(prefix="xv-e2e-"))
    machine = Board(obtain(say), folder, xen=xen)
    try:
        machine.start(say)
        yield machine
    finally:
        machine.stop()
        keep_logs(folder, "debian" if xen is None else "brought")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def board(say: Callable[[str], None]) -> Iterator[Board]:
    """Xen, dom0 and nothing else."""
    with up(say) as machine:
        yield machine


@pytest.fixture(scope="session")
def site(board: Board, say: Callable[[str], None]) -> Site:
    """The board after xen.virtio.site: a driver domain and guests with 1, 2, 3 and 11 disks."""
    made = Site(board, board.folder / "site")
    made.prepare()
    made.before = every_node(board)
    made.predict()
    say("xen.virtio.site, from nothing to running guests")
    done, counts = made.site()
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert counts["changed"] >= 2, done.stdout
    made.end_of_trees()
    return made
