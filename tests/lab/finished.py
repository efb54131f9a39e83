# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A command that is run to its end, whatever it leaves behind."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping


def finished(
    command: list[str],
    *,
    timeout: float,
    input: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """How it ended and what it said; ``env`` comes on top of the environment that there is.

    Output goes to files: a daemon left behind by the command may keep its descriptors for ever.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        done = subprocess.run(
            command,
            check=False,
            timeout=timeout,
            input=input if input is not None else "",
            stdout=out,
            stderr=err,
            text=True,
            cwd=cwd,
            env={**os.environ, **(env or {})},
        )
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(command, done.returncode, out.read(), err.read())
