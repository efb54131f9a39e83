# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in for the virtio-disk daemon: built, told to fail, and asked who wrote (README.md beside this)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

SOURCES = Path(__file__).parent
PROGRAM = "virtio-disk"
#: Names a checkout of the real daemon's source, which is then built in the stand-in's place.
REAL = os.environ.get("VIRTIO_DISK_SOURCE")


class Event(NamedTuple):
    """What a stand-in wrote into its log."""

    time: float  # seconds, of CLOCK_MONOTONIC
    pid: int  # as the daemon's own PID namespace has it
    what: str  # opened, closed, clash
    mode: str  # w, r
    domid: int
    devid: int
    file: str  # device and inode of the target
    other: int  # clash: the writer that was there already, 0 where it is not known
    version: str
    target: str


def build(folder: Path, version: str = "0") -> Path:
    """The program, compiled in ``folder``, which is made."""
    if REAL is None:
        copy_sources(folder)
    else:
        shutil.copytree(REAL, folder, ignore=shutil.ignore_patterns(".git", "*.o", PROGRAM))
    run(["make", "-C", str(folder), f"VERSION={version}"])
    return folder / PROGRAM


def environment(program: Path) -> dict[str, str]:
    """What a program that `build` made needs to run where there is no hypervisor: nothing, but for the real one."""
    if REAL is None:
        return {}
    library = program.with_name("hypervisor.so")
    if not library.exists():
        source = str(SOURCES / "hypervisor.c")
        run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-o", str(library), source])
    return {"LD_PRELOAD": str(library)}


def copy_sources(folder: Path) -> None:
    """The stand-in's own sources, as somebody would publish them."""
    folder.mkdir(parents=True, exist_ok=True)
    for source in [*SOURCES.glob("*.[ch]"), SOURCES / "Makefile", SOURCES / "README.md"]:
        shutil.copy(source, folder)
    (folder / "hypervisor.c").unlink()  # no part of it


def publish(folder: Path, version: str) -> None:
    """A version of the sources in ``folder``: the real one's, where its checkout is named."""
    if REAL is None:
        copy_sources(folder)
        makefile = folder / "Makefile"
        makefile.write_text(makefile.read_text().replace("VERSION = 0\n", f"VERSION = {version}\n"))
    else:
        unbuilt = shutil.ignore_patterns(".git", "*.o", PROGRAM)
        shutil.copytree(REAL, folder, ignore=unbuilt, dirs_exist_ok=True)
    (folder / "RELEASE").write_text(f"{version}\n")


def repository(folder: Path, versions: Sequence[str] = ("1.0", "2.0")) -> Path:
    """A git repository of the sources in ``folder``: a commit and a tag for each version."""
    folder.mkdir(parents=True, exist_ok=True)
    git = ["git", "-C", str(folder), "-c", "user.name=lab", "-c", "user.email=lab@localhost"]
    run([*git, "init", "--quiet", "--initial-branch", "main"])
    for version in versions:
        publish(folder, version)
        run([*git, "add", "."])
        run([*git, "commit", "--quiet", "--message", f"Version {version}"])
        run([*git, "tag", version])
    return folder


def misbehave(program: Path, *lines: str) -> None:
    """From now on the daemons of this program do what the lines say (README.md); no line: nothing."""
    fresh = program.with_name(f"{program.name}.faults.new")
    fresh.write_text("".join(f"{line}\n" for line in lines))
    fresh.replace(program.with_name(f"{program.name}.faults"))


def events(log: Path) -> list[Event]:
    """All of a log, in the order of the file; none where there is none."""
    if not log.exists():
        return []
    return [Event(**json.loads(line)) for line in log.read_text().splitlines()]


def clashes(log: Path, *, served: bool = True) -> list[Event]:
    """Where a target had two writers.

    Raises RuntimeError where nobody wrote into the log: then nobody knows. Not where no daemon need have ``served``.
    """
    if served and REAL is None and not log.exists():
        raise RuntimeError(f"{log}: no stand-in has written into it")
    return [event for event in events(log) if event.what == "clash"]


def run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
