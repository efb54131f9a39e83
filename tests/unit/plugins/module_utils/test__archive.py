# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives of our own modules have all that they need in them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._archive import archive_bytes

#: Imports every module of an archive, with Python's own library and nothing else.
IMPORT_ALL = """
import importlib, sys, zipfile
sys.path.insert(0, sys.argv[1])
for name in zipfile.ZipFile(sys.argv[1]).namelist():
    if name.startswith("xen_virtio/_") and "__init__" not in name:
        importlib.import_module(name[: -len(".py")].replace("/", "."))
"""


@pytest.mark.parametrize("first", ["_boot", "_checkpointrun", "_drainrun", "_guestboot"])
def test_every_module_of_an_archive_finds_all_others_in_it(tmp_path: Path, first: str) -> None:
    path = tmp_path / "archive.pyz"
    path.write_bytes(archive_bytes(first))
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", IMPORT_ALL, str(path)],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
