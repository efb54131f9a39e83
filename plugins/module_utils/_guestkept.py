# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The names under which a host keeps a guest's files, and the files that are declared with a checksum. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

_SHA256 = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})\Z")


class GuestFileError(RuntimeError):
    """A file of a guest's cannot be read, written or believed; the text names it and the remedy."""


def file_name(guest: str) -> str:
    """A guest's name as one file name, never a path."""
    return quote(guest, safe="") if guest not in (".", "..") else guest.replace(".", "%2E")


@dataclass(frozen=True)
class Image:
    """A file given as ``{src, checksum}``: kept under a name with its checksum, never overwritten."""

    option: str
    src: str
    sha256: str
    path: str


def read_image(guest: str, option: str, given: Mapping[str, Any], images_dir: str, name: str) -> Image:
    """An image as declared.

    Args:
        guest, option: whose and which.
        given: ``src`` and ``checksum``.
        images_dir: where images are kept.
        name: under which this one is.

    Raises:
        GuestFileError: unknown keys, no src, a checksum that is none.
    """
    where = f"{guest}: {option}"
    unknown = sorted(set(given) - {"src", "checksum"})
    if unknown:
        raise GuestFileError(f"{where}: unknown key {unknown[0]!r}; known are src and checksum")
    src, checksum = given.get("src"), given.get("checksum")
    if not isinstance(src, str) or not src.startswith("/"):
        raise GuestFileError(f"{where}: src is an absolute path on the host, not {src!r}")
    match = _SHA256.match(str(checksum))
    if match is None:
        raise GuestFileError(f"{where}: checksum is sha256: and 64 hexadecimal digits, not {checksum!r}")
    return Image(option, src, match[1].lower(), posixpath.join(images_dir, name))
