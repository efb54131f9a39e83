# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules in a zip, as Ansible sends them, are compiled once, and not again by root's next task."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PARTS = Path(__file__).resolve().parents[4] / "plugins" / "module_utils"
PACKAGE = "ansible_collections.xen.virtio.plugins.module_utils"

CHILD = f"""
import collections, sys
counted = collections.Counter()
sys.addaudithook(lambda event, args: event == "compile" and counted.update([str(args[1])]))
sys.path.insert(0, sys.argv[1])
import {PACKAGE}._zipped as zipped
zipped.KEPT = sys.argv[2]
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


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A zip as Ansible makes it."""
    path = tmp_path / "module.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        folder = ""
        for name in PACKAGE.split("."):
            folder += f"{name}/"
            file.writestr(f"{folder}__init__.py", "")
        for source in PARTS.glob("*.py"):
            file.write(source, folder + source.name)
    return path


def compiled(archive: Path, kept: Path) -> dict[str, int]:
    """How often each part was compiled in a task, without the two that are loaded before there is a finder."""
    command = [sys.executable, "-I", "-c", CHILD, str(archive), str(kept)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    *lines, last = done.stdout.splitlines()
    assert last == "refused"
    counts = {name: int(count) for count, name in (line.split() for line in lines)}
    early = {name: counts.pop(name) for name in ("_disk_module.py", "_zipped.py")}
    assert set(early.values()) <= {1, 2}
    return counts


def test_each_part_is_compiled_once(archive: Path, tmp_path: Path) -> None:
    counts = compiled(archive, tmp_path / "run/code")
    assert len(counts) > 20
    assert set(counts.values()) == {1}


@pytest.fixture
def kept(archive: Path) -> Path:
    """What a first task kept, in a folder that nobody else can write to."""
    folder = archive.parent / "run/xen-virtio/code"
    compiled(archive, folder)
    return folder


def test_the_next_task_of_root_compiles_nothing(archive: Path, kept: Path) -> None:
    again = compiled(archive, kept)
    assert again == {} if os.geteuid() == 0 else len(again) > 20


def test_a_part_that_changed_is_compiled(archive: Path, kept: Path) -> None:
    text = (PARTS / "_vdev.py").read_text()
    with zipfile.ZipFile(archive, "a") as file, pytest.warns(UserWarning, match="Duplicate name"):
        file.writestr(f"{PACKAGE.replace('.', '/')}/_vdev.py", f"{text}\n# another release")
    assert compiled(archive, kept).get("_vdev.py") == 1


@pytest.mark.parametrize("spoil", ["folder", "parent", "file", "link", "rubbish"])
def test_what_others_could_have_written_is_not_run(archive: Path, kept: Path, spoil: str) -> None:
    files = sorted(kept.glob("*"))
    for file in files:
        if spoil == "file":
            file.chmod(0o666)
        elif spoil == "link":
            file.rename(archive.parent / file.name)
            file.symlink_to(archive.parent / file.name)
        elif spoil == "rubbish":
            file.write_bytes(b"rubbish")
    if spoil == "folder":
        kept.chmod(0o777)
    elif spoil == "parent":
        kept.parent.chmod(0o777)
    assert len(compiled(archive, kept)) > 20
