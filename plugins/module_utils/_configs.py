# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configurations that lie on a host, found by the name inside them, whatever their files are called."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from ._xlcfg import ConfigError, parse_config

#: Where xl's configurations lie (XEN_CONFIG_DIR of Xen's build).
CONFIG_DIR = "/etc/xen"

#: What the service xendomains starts at boot: links, in a folder beside the configurations (XENDOMAINS_AUTO).
AUTO = "auto"

#: Bytes; no configuration is as long as that.
LONGEST = 1 << 20

#: Copies that editors and package managers leave, and Xen's own examples (tools/examples).
_NO_CONFIG = re.compile(r"\.|xlexample\.|.*(~|\.(bak|orig|old|swp|dpkg-[a-z]+|rpmsave|rpmnew|rpmorig))\Z")

#: What a text has that means to be a guest's configuration.
_MEANT = re.compile(r"(?m)^[ \t]*name[ \t]*=")


@dataclass(frozen=True)
class FoundConfig:
    """A file that is a guest's configuration, or means to be one.

    Attributes:
        path: where it lies; of several paths to one file the one that is no link.
        name: the guest's, None where the file cannot be read.
        text: as it stands; a byte that is no UTF-8 as a surrogate.
        error: why it cannot be read.
        auto: xendomains starts it at boot.
    """

    path: str
    name: str | None
    text: str
    error: str | None = None
    auto: bool = False


def find_configs(folder: str = CONFIG_DIR) -> list[FoundConfig]:
    """The configurations in a folder, by path; none where there is no such folder.

    Files without a ``name`` are no guest's and left out.

    Raises:
        OSError: the folder is there and cannot be read.
    """
    auto = {os.path.realpath(path) for path in _files(os.path.join(folder, AUTO))}
    paths: dict[str, str] = {}
    for path in _files(folder):
        real = os.path.realpath(path)
        if real not in paths or path == real:
            paths[real] = path
    for real in auto:
        paths.setdefault(real, real)
    found = (_read(path, auto=real in auto) for real, path in paths.items())
    return sorted((one for one in found if one is not None), key=_by_path)


def _by_path(found: FoundConfig) -> str:
    return found.path


def best_of(found: list[FoundConfig], name: str) -> FoundConfig | None:
    """Of all files with a guest's configuration the one that is called after it, else the first."""
    mine = [one for one in found if one.name == name]
    for one in mine:
        if os.path.basename(one.path) in (f"{name}.cfg", name):
            return one
    return mine[0] if mine else None


def _files(folder: str) -> Iterator[str]:
    try:
        entries = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if not _NO_CONFIG.match(entry):
            yield os.path.join(folder, entry)


def _read(path: str, *, auto: bool) -> FoundConfig | None:
    try:
        # a pipe or a device among the files must not hold us up
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode) or status.st_size > LONGEST:
            return None
        with open(path, "rb") as file:
            text = file.read(LONGEST).decode("utf-8", "surrogateescape")
    except OSError as error:
        return FoundConfig(path, None, "", error.strerror, auto)
    try:
        name = parse_config(text).get("name")
    except ConfigError as error:
        return FoundConfig(path, None, text, str(error), auto) if _MEANT.search(text) else None
    return FoundConfig(path, name, text, None, auto) if isinstance(name, str) and name else None
