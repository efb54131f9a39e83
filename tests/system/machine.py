# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests need of the machine beside the lab, and what it may be without."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from lab import LabUnavailable
from lab.roots import unpack
from skips import FACT

needs_loops = pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/dev/loop-control").exists(),
    reason=f"{FACT} no root, or no loop devices",
)

#: Debian 11, the release whose Python is the oldest that boards may have.
_SUITE, _VERSION = "bullseye", "3.9"


@pytest.fixture(scope="session")
def old_python() -> str:
    """Python 3.9 with its standard library and nothing else: no pip, no pyxs."""
    try:
        root = unpack(
            f"python{_VERSION}", _SUITE, [f"python{_VERSION}-minimal", f"libpython{_VERSION}-stdlib"]
        )
    except LabUnavailable as reason:
        fact = f"{FACT} " if shutil.which("mmdebstrap") else ""
        pytest.skip(f"{fact}no Python {_VERSION}: {reason}")
    folders = [folder for part in ("lib", "usr/lib") for folder in (root / part).glob("*-linux-gnu*")]
    loader = next(found for folder in folders for found in folder.glob("ld-linux*.so.*"))
    program = root / "python"
    libraries = ":".join(map(str, folders))
    lines = [
        "#!/bin/sh",
        f"export PYTHONHOME={root}/usr",
        f'exec {loader} --library-path {libraries} {root}/usr/bin/python{_VERSION} "$@"',
    ]
    if not program.exists():
        fresh = program.with_name(f"python.{os.getpid()}")
        fresh.write_text("\n".join(lines) + "\n")
        fresh.chmod(0o755)
        fresh.replace(program)
    told = subprocess.run(
        [program, "-c", "import sys; print(sys.version)"], capture_output=True, text=True, check=True
    )
    assert told.stdout.startswith(f"{_VERSION}.")
    return str(program)
