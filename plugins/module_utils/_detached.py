# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Work that goes on when the connection to its host is gone: a transient unit of systemd's, started and found again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

#: Seconds for systemd to answer.
_SYSTEMD = 30.0

#: The xl processes that look after new guests stay when the unit ends; told to stop, it ends after its step.
_PROPERTIES = ("Type=exec", "KillMode=process", "TimeoutStopSec=600", "Restart=no")


class DetachedError(RuntimeError):
    """systemd refused, failed, or did not answer in time; nothing was started."""


def available() -> bool:
    """Whether this host runs systemd (sd_booted(3))."""
    return os.path.isdir("/run/systemd/system")


def unit_name(kind: str, what: str) -> str:
    """A name of its own for every run: the xl processes that a run leaves behind keep the name of its unit taken.

    Args:
        kind: of work, of letters and dashes.
        what: it is about; any text.
    """
    return f"xen-virtio-{kind}-{re.sub(r'[^A-Za-z0-9]', '_', what)[:64]}-{time.time_ns() // 1000:x}.service"


def start(unit: str, description: str, archive: str, path: str) -> None:
    """Run an archive of ours (`_archive`) as a unit.

    Args:
        unit: its name.
        description: for people, without anything that anybody else wrote.
        archive, path: the archive, and the one argument of its ``main``.

    Raises:
        DetachedError: it was not started.
    """
    argv = ["systemd-run", "--quiet", "--collect", f"--unit={unit}"]
    argv += [f"--property={one}" for one in _PROPERTIES]
    argv += [f"--description={description}", "--", sys.executable, "-I", archive, path]
    done = _asked(argv)
    if done.returncode:
        raise DetachedError(f"systemd-run: {done.stderr.strip() or 'failed'}; nothing was changed")


def under_way(unit: str) -> bool:
    """Whether a unit runs; one of an earlier boot does not.

    A systemd that does not tell is no "no": whoever took it for one would start a second. So then it runs.
    """
    try:
        done = _asked(["systemctl", "show", "--property=ActiveState", "--value", unit])
    except DetachedError:
        return True
    return done.returncode != 0 or done.stdout.strip() in (
        "active",
        "activating",
        "deactivating",
        "reloading",
    )


def _asked(argv: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        # run_command has no deadline, and the core no AnsibleModule
        return subprocess.run(  # pylint: disable=unknown-option-value,ansible-bad-function
            argv,
            check=False,
            capture_output=True,
            text=True,
            timeout=_SYSTEMD,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DetachedError(f"{argv[0]}: {error}; nothing was changed") from error


def moment() -> str:
    """Now, ISO 8601 in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def run_unit(
    archive: str,
    arguments: list[str],
    work: Callable[[str, threading.Event], bool],
    expected: tuple[type[Exception], ...],
) -> int:
    """What a unit's ``main`` does: work over a state file, the one argument; its exit status.

    Args:
        archive: the name of the archive.
        arguments: of the command line.
        work: is given the file's path, and what is set once somebody told the unit to stop; whether all is well.
        expected: what ends it with a sentence.
    """
    if len(arguments) != 1:
        say(f"usage: {archive} STATE")
        return 2
    endings: tuple[type[Exception], ...] = (*expected, OSError, KeyError)
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: stopping.set())
    try:
        return 0 if work(arguments[0], stopping) else 1
    except endings as error:
        say(f"FAILED {error}")
        return 1


def say(text: str) -> None:
    """A line to the unit's journal."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
