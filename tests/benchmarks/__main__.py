# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``python tests/benchmarks``: measure, show a table, keep it as JSON."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# The folder was put first on the path as a place of scripts; its modules belong to the package `benchmarks`.
sys.path[:] = [
    str(ROOT),
    str(HERE.parent),
    str(HERE.parent / "system"),
    *(path for path in sys.path if Path(path or ".").resolve() != HERE),
]

import_module("conftest")  # makes the checkout importable as a collection
sys.exit(import_module("benchmarks.cli").main())
