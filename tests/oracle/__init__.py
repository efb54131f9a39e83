# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The truth about configurations, disk strings and vdevs: the real parsers and libxl's own function, asked.

Small C programs beside this file are built against a Xen release's libraries, into .cache/oracle.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from lab.roots import CHECKOUT, Xen

SOURCES = Path(__file__).parent
CACHE = CHECKOUT / ".cache" / "oracle"

_TOOLSTACK = "ctrl guest store toollog toolcore evtchn foreignmemory devicemodel gnttab call hypfs"
LIBRARIES = {
    "config": ["-lxlutil", "-lxenlight"],
    "disk": ["-lxlutil", "-lxenlight"],
    # libxenlight.a needs the rest of the toolstack; the last two may be there without their -dev packages.
    "vdev": [
        "-l:libxenlight.a",
        *(f"-lxen{name}" for name in _TOOLSTACK.split()),
        "-l:libyajl.so.2",
        "-l:libuuid.so.1",
    ],
}
_HEADERS = ("xen*", "libxl*", "_libxl*", "_xen*")
_REPORT = "oracle: config parsing error in disk specification: "


class Answer(NamedTuple):
    """What the real parser says: the disk's fields, or its messages (xl prints each with a head before it)."""

    disk: dict[str, Any] | None
    messages: tuple[str, ...]


class Config(NamedTuple):
    """What the real parser makes of a configuration: its settings, and those of them that are numbers to xl."""

    settings: dict[str, Any] | None  # None: refused
    numbers: dict[str, int]
    report: str


class Oracle:
    """One Xen release's truth: a context manager, whose programs answer one question at a time."""

    def __init__(self, xen: Xen) -> None:
        self.xen = xen
        self.release = xen.release
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Oracle:
        return self

    def __exit__(self, *_exception: object) -> None:
        for program in self._running.values():
            program.communicate()  # the end of its input ends it

    def disk(self, text: str) -> Answer:
        """What xlu_disk_parse makes of a disk string (without NUL; its messages, if it holds no newline)."""
        return _answer(self._ask("disk", text))

    def config(self, text: str) -> Config:
        """What xlu_cfg_readdata makes of a configuration (without NUL)."""
        return _config(self._ask("config", text))

    def devid(self, vdev: str) -> int:
        """What libxl__device_disk_dev_number makes of a vdev; -1 is its refusal."""
        return int(self._ask("vdev", vdev))

    def _ask(self, name: str, question: str) -> str:
        program = self._running.get(name)
        if program is None:
            environment, argv = self.xen.command(self.build(name), None)
            program = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **environment}
            )
            self._running[name] = program
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.write(question.encode("utf-8", "surrogateescape") + b"\0")
        program.stdin.flush()
        answer = program.stdout.readline().decode("ascii")
        assert answer.endswith("\n"), f"the oracle ended (status {program.poll()}) over {question!r}"
        return answer[:-1]

    def build(self, name: str) -> Path:
        """The program ``name``, built if it is not there yet for these libraries and this source."""
        source = SOURCES / f"{name}.c"
        library = self.xen.libraries / f"libxenlight.so.{self.release}"
        key = hashlib.sha256(source.read_bytes() + library.read_bytes() + Path(__file__).read_bytes())
        folder = CACHE / key.hexdigest()[:16]
        program = folder / name
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not program.exists():
                fresh = program.with_suffix(".new")
                self._compile(source, folder, fresh, LIBRARIES[name])
                fresh.replace(program)
        return program

    def _compile(self, source: Path, folder: Path, program: Path, libraries: list[str]) -> None:
        command = ["gcc", "-O1", "-Wall", "-Werror", "-o", str(program)]
        if self.xen.native:
            command += [str(source), *libraries]
        else:
            # Xen's headers and all libraries of the other release, this machine's C headers and compiler.
            headers = folder / "include"
            headers.mkdir(exist_ok=True)
            for pattern in _HEADERS:
                for header in self.xen.include.glob(pattern):
                    link = headers / header.name
                    link.unlink(missing_ok=True)
                    link.symlink_to(header)
            command += [f"-I{headers}", str(source), f"-L{self.xen.libraries}", *libraries, "-l:libc.so.6"]
            command += ["-Wl,--allow-shlib-undefined"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"the oracle for Xen {self.release} does not build:\n{done.stderr}")


def _value(text: str) -> Any:
    if text == "-":
        return None
    if text.startswith("s"):
        return bytes.fromhex(text[1:]).decode("utf-8", "surrogateescape")
    return int(text)


def _nested(text: str) -> Any:
    """A value of config.c: "s" and hexadecimal, or values between brackets, each followed by a comma."""
    lists: list[list[Any]] = [[]]
    for token in re.findall(r"s[0-9a-f]*|\[|\]|,", text):
        if token == "[":
            lists.append([])
        elif token == "]":
            done = lists.pop()
            lists[-1].append(done)
        elif token != ",":
            lists[-1].append(_value(token))
    return lists[0][0]


def _config(line: str) -> Config:
    kind, _unused, rest = line.partition(" ")
    if kind == "err":
        return Config(None, {}, bytes.fromhex(rest).decode("utf-8", "replace"))
    settings, numbers = {}, {}
    for pair in rest.split():
        key, _unused, value = pair.partition("=")
        value, _unused, number = value.partition("@")
        settings[key] = _nested(value)
        if number != "-":
            numbers[key] = int(number)
    return Config(settings, numbers, "")


def _answer(line: str) -> Answer:
    kind, _unused, rest = line.partition(" ")
    if kind == "err":
        report = bytes.fromhex(rest).decode("utf-8", "replace")
        # Each message is one line, since no question holds a newline.
        return Answer(None, tuple(message.removeprefix(_REPORT) for message in report.split("\n")[:-1]))
    disk = {key: _value(value) for key, _unused, value in (pair.partition("=") for pair in rest.split(" "))}
    for key in ("backendtype", "specification"):
        disk[key] = None if disk[key] == "unknown" else disk[key]
    disk["access"] = "rw" if disk.pop("readwrite") else "ro"
    for key in ("discard", "trusted", "grant_usage", "colo"):
        value = disk.get(key)
        disk[key] = None if value is None else bool(value)
    for key in ("cdrom", "removable", "direct_io_safe"):
        disk[key] = bool(disk[key])
    disk["devtype"] = "cdrom" if disk["cdrom"] else None
    disk["colo_port"] = disk["colo_port"] or None
    return Answer(disk, ())
