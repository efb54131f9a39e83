# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command line of the benchmarks."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lab import LabError

from benchmarks import audit, disks, guests, inventory, launcher, memory, page, playbook, rollout, scale, view
from benchmarks.figures import Figure, table

ROOT = Path(__file__).resolve().parents[2]


def benchmarks(quick: bool) -> dict[str, Callable[[], Iterator[Figure]]]:
    """All of them by name."""
    sizes = (1, 10) if quick else (1, 10, 100, 1000)
    repetitions = 3 if quick else 5
    most = 100 if quick else 1000
    return {
        "provision": lambda: disks.provisioning("c", sizes, repetitions),
        "provision-o": lambda: disks.provisioning("o", sizes, repetitions),
        "unchanged": lambda: disks.unchanged(most, repetitions),
        "task": lambda: playbook.tasks(min(most, 100), 3 if quick else 7),
        "loops": lambda: playbook.loops(10 if quick else 100),
        "guests": lambda: guests.guests(10 if quick else 50, 3, 3 if quick else 7),
        "inventory": lambda: inventory.inventory(5 if quick else 25, 2 if quick else 5, 3 if quick else 5),
        "audit": lambda: audit.audit(5 if quick else 25, 2 if quick else 5, 3 if quick else 5),
        "scale": lambda: scale.scale(
            (10, 50) if quick else (100, 1000), (100, 500) if quick else (1000, 10000)
        ),
        "page": lambda: page.page(20 if quick else 200, 10, 3, 3 if quick else 7),
        "rollout": lambda: rollout.rollout(5 if quick else 25, 2 if quick else 5, 3 if quick else 5),
        "memory": lambda: memory.memory(most),
        "view": lambda: view.view(7 if quick else 31),
        "launcher": lambda: launcher.launcher(5 if quick else 30, 10 if quick else 100, 3 if quick else 15),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print, store; 1 where a limit was missed and ``--check`` was given."""
    parser = argparse.ArgumentParser(prog="tests/benchmarks", description=__doc__)
    names = list(benchmarks(quick=True))
    parser.add_argument("--quick", action="store_true", help="fewer disks, fewer repetitions")
    parser.add_argument("--json", type=Path, default=ROOT / ".cache/bench.json", metavar="FILE")
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--check", action="store_true", help="exit 1 where a limit is missed")
    options = parser.parse_args(argv)
    figures: list[Figure] = []
    try:
        for name, work in benchmarks(options.quick).items():
            if options.only and name not in options.only:
                continue
            for figure in work():
                figures.append(figure)
                print(f"{name}: {figure.name}: {figure.ratio:.2f}", file=sys.stderr, flush=True)
    except LabError as error:
        print(f"the lab does not run here: {error}", file=sys.stderr)
        return 2
    print(table(figures))
    store(options.json, figures, quick=options.quick)
    over = [figure for figure in figures if figure.verdict == "over"]
    return 1 if options.check and over else 0


def store(path: Path, figures: Sequence[Figure], *, quick: bool) -> None:
    """Keep the figures with what they were measured on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "quick": quick,
        "figures": [figure.as_dict() for figure in figures],
    }
    path.write_text(json.dumps(record, indent=2) + "\n")
