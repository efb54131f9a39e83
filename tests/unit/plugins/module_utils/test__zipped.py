# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules in a zip, as Ansible sends them, are compiled once."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

PARTS = Path(__file__).resolve().parents[4] / "plugins" / "module_utils"
PACKAGE = "ansible_collections.xen.virtio.plugins.module_utils"

CHILD = f"""
import collections, sys
counted = collections.Counter()
sys.addaudithook(lambda event, args: event == "compile" and counted.update([str(args[1])]))
sys.path.insert(0, sys.argv[1])
import {PACKAGE}._disk_module as module
module.job_of
for name, count in counted.items():
    if "module_utils/_" in name and "__init__" not in name:
        print(count, name.rsplit("/", 1)[1])
try:
    import {PACKAGE}._nothing
except ModuleNotFoundError:
    print("refused")
"""


def test_each_part_is_compiled_once(tmp_path: Path) -> None:
    archive = tmp_path / "module.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        folder = ""
        for name in PACKAGE.split("."):
            folder += f"{name}/"
            file.writestr(f"{folder}__init__.py", "")
        for source in PARTS.glob("*.py"):
            file.write(source, folder + source.name)
    done = subprocess.run(
        [sys.executable, "-I", "-c", CHILD, str(archive)], capture_output=True, text=True, check=True
    )
    *compiled, last = done.stdout.splitlines()
    assert last == "refused"
    counts = {name: int(count) for count, name in (line.split() for line in compiled)}
    # these two are loaded before there is a finder
    early = {name: counts.pop(name) for name in ("_disk_module.py", "_zipped.py")}
    assert set(early.values()) <= {1, 2}
    assert len(counts) > 20
    assert [name for name, count in counts.items() if count != 1] == []
