# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scenarios of extensions/molecule, from machines made anew to none: ``make molecule ARGS="-s guest"``.

Molecule passes over a step whose playbook it does not find and calls that a success, so what it reports is looked at.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from lab.machines_tools import facts_against  # noqa: E402

#: The exit status where this machine cannot hold the machines.
CANNOT = 77
#: Steps that were passed over, in molecule's own words.
PASSED_OVER = re.compile(r"Missing playbook|already (?:created|prepared)")


def molecule(*arguments: str) -> tuple[int, str]:
    """One run of molecule, shown while it goes on; its status and what it said."""
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
            print(line, end="", flush=True)
            said.append(line)
    return process.returncode, "".join(said)


def main(arguments: list[str]) -> int:
    against = facts_against()
    if against:
        print(f"molecule: cannot run here: {against}", file=sys.stderr)  # .ci/run looks for these words
        return CANNOT
    begin = time.monotonic()
    molecule("destroy")  # what a run left that was cut off
    status, said = molecule("test", *(arguments or ["--all"]))
    passed_over = PASSED_OVER.findall(said)
    if passed_over:
        print(f"molecule: passed over steps: {', '.join(sorted(set(passed_over)))}", file=sys.stderr)
    print(f"molecule: {time.monotonic() - begin:.0f} s")
    return status or int(bool(passed_over))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
