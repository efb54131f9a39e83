# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of an audit in a real Chromium, from its address to what a person sees."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ansible_collections.xen.virtio.plugins.plugin_utils._fleet_page import fleet_page
from ansible_collections.xen.virtio.plugins.plugin_utils._fleet_report import fleet_report
from browser import Browser, find
from fleets import large
from lab import LabError

from benchmarks.figures import Figure, interleaved

#: Seconds in which it is open.
LIMIT = 2.0

#: Two frames: what was drawn before the first of them is on the screen.
_SEEN = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


def page(hosts: int, guests: int, disks: int, repetitions: int) -> Iterator[Figure]:
    """So many hosts with so many guests of so many disks each; beside it, a page with nothing in it."""
    program = find()
    if program is None:
        raise LabError("there is no Chromium; sh tests/setup.sh test installs it")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours, empty = folder / "audit.html", folder / "empty.html"
        ours.write_text(fleet_page(fleet_report(large(hosts, guests, disks), "now")))
        empty.write_text("<!DOCTYPE html><title>empty</title><p>nothing")
        with Browser(folder, program) as browser:
            browser.size(1280, 900)
            opened(browser, empty)
            measured, nothing = interleaved(
                repetitions, lambda: opened(browser, ours), lambda: opened(browser, empty)
            )
    group = f"{hosts} hosts x {guests} guests x {disks} disks in Chromium"
    yield Figure(group, "until it is seen", measured, limit=LIMIT)
    yield Figure(group, "until it is seen", measured, nothing, "an empty page")


def opened(browser: Browser, path: Path) -> float:
    """Seconds from an address to the page on the screen."""
    start = time.perf_counter()
    browser.open(path)
    browser.js(_SEEN)
    return time.perf_counter() - start
