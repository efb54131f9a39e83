# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take all processors away from everybody else for a moment, again and again, as a busy host does to a guest.

    python3 tests/stalls.py 0.5 1 4 make test ARGS=tests/system

runs a command with stalls of half a second, one to four seconds apart. As root. What fails only then depends on how
fast something was, in a test or in what it tests.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

PRIORITY = 50  # of SCHED_FIFO: before every ordinary process, behind the kernel's own threads


def come_first() -> None:
    """Before all others, from now on. Raises PermissionError."""
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))


def stall(processor: int, seconds: float, least: float, most: float, begin: float) -> None:
    """Be the one that takes one processor, as long as whoever began it lives; all of them at the same moments."""
    os.sched_setaffinity(0, {processor})
    come_first()
    moments = random.Random(1)
    due, parent = begin, os.getppid()
    while os.getppid() == parent:
        due += moments.uniform(least, most)
        time.sleep(max(0.0, due - time.monotonic()))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pass


def main(arguments: list[str]) -> int:
    try:
        seconds, least, most = (float(number) for number in arguments[:3])
    except ValueError:
        seconds = least = most = 0.0
    command = arguments[3:]
    if not command or not 0 < seconds < least <= most:
        print("stalls: say SECONDS LEAST MOST COMMAND..., with 0 < SECONDS < LEAST <= MOST", file=sys.stderr)
        return 64
    try:
        come_first()
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    except PermissionError as error:
        print(f"stalls: {error.strerror}: to come before all others takes root", file=sys.stderr)
        return 77
    begin = time.monotonic()
    started = []
    try:
        for processor in sorted(os.sched_getaffinity(0)):
            pid = os.fork()
            if pid == 0:
                try:
                    stall(processor, seconds, least, most, begin)
                finally:
                    os._exit(1)
            started.append(pid)
        return subprocess.run(command, check=False).returncode
    finally:
        for pid in started:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
