# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scenarios of extensions/molecule, from machines made anew to none: ``make molecule ARGS="-s guest"``.

Molecule passes over a step whose playbook it does not find and calls that a success, so what it reports is looked at.
It can run scenarios side by side, but not say which ones must not be: here those of a lane have machines in common.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from lab.machines_tools import facts_against  # noqa: E402

#: The exit status where this machine cannot hold the machines.
CANNOT = 77
#: Steps that were passed over, in molecule's own words; the machines that a scenario finds were made for all of them.
PASSED_OVER = re.compile(r"Missing playbook|already prepared")
MADE_BEFORE = re.compile(r"already created")
#: Scenarios of a lane run one after the other, lanes side by side: the boards of a fleet, a host with a backend that
#: serves, and one where it is played. After faults that one's store has forgotten its driver domain: so it is the last.
LANES = (("fleet",), ("backend",), ("disk", "guest", "faults"))


def molecule(*arguments: str, title: str = "") -> tuple[int, str]:
    """One run of molecule, shown while it goes on, each line behind a title; its status and what it said."""
    program = Path(sys.executable).with_name("molecule")
    environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"}
    said = []
    with subprocess.Popen(
        [str(program), *arguments],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(f"{title}{line}", end="", flush=True)
            said.append(line)
    return process.returncode, "".join(said)


def lane(scenarios: Sequence[str]) -> int:
    """Scenarios one after the other, up to the first that fails, on machines that are there, and stay."""
    for scenario in scenarios:
        begin = time.monotonic()
        arguments = ("test", "--destroy=never", "--scenario-name", scenario)
        status, said = molecule(*arguments, title=f"{scenario:>8} ")
        passed_over = sorted(set(PASSED_OVER.findall(said)))
        if passed_over:
            print(f"molecule: passed over steps: {', '.join(passed_over)}", file=sys.stderr)
        print(f"molecule: {scenario}: {time.monotonic() - begin:.0f} s", flush=True)
        if status or passed_over:
            return status or 1
    return 0


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="molecule.py", description=__doc__)
    parser.add_argument(
        *("-s", "--scenario-name"),
        dest="chosen",
        action="append",
        choices=[name for names in LANES for name in names],
        help="one of the scenarios; more of them with more of these; without any: all",
    )
    chosen = parser.parse_args(arguments).chosen
    against = facts_against()
    if against:
        print(f"molecule: cannot run here: {against}", file=sys.stderr)  # .ci/run looks for these words
        return CANNOT
    lanes = [[name for name in names if not chosen or name in chosen] for names in LANES]
    lanes = [names for names in lanes if names]
    begin = time.monotonic()
    molecule("destroy")  # what a run left that was cut off
    try:
        status, said = molecule("create")
        if MADE_BEFORE.search(said):
            print("molecule: these machines were made before, and are not as new", file=sys.stderr)
            status = status or 1
        if not status:
            with ThreadPoolExecutor(len(lanes)) as pool:
                status = max(pool.map(lane, lanes))
    finally:
        destroyed, _said = molecule("destroy")
    print(f"molecule: {time.monotonic() - begin:.0f} s")
    return status or destroyed


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
