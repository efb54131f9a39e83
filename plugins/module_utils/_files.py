# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of ours on a host: planned first, written whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from dataclasses import dataclass


@dataclass(frozen=True)
class FileChange:
    """One file (or symbolic link) that is to be different.

    Attributes:
        path: absolute.
        before: its content now, None where there is none.
        after: its content then, None where it is to go.
        mode: permissions of a written file.
        link: where `after` is None, a target to link to instead of removing.
    """

    path: str
    before: bytes | None
    after: bytes | None
    mode: int = 0o644
    link: str | None = None

    def as_diff(self) -> dict[str, str]:
        """The change for ``--diff``; what is not text is shown by its checksum."""
        return {
            "before_header": self.path,
            "after_header": self.path,
            "before": _shown(self.before),
            "after": f"-> {self.link}\n" if self.link is not None else _shown(self.after),
        }

    def carry_out(self) -> None:
        """Make it so.

        Raises:
            OSError: nothing was changed.
        """
        if self.link is not None:
            _ensure_folder(self.path)
            fresh = f"{self.path}.{os.getpid()}"
            os.symlink(self.link, fresh)
            os.replace(fresh, self.path)
        elif self.after is None:
            os.unlink(self.path)
        else:
            _write_atomically(self.path, self.after, self.mode)


def wanted(path: str, content: bytes, mode: int = 0o644) -> FileChange | None:
    """The change that gives a file this content and these permissions; None where it has them."""
    before = content_of(path)
    if before == content and not os.path.islink(path) and (os.stat(path).st_mode & 0o7777) == mode:
        return None
    return FileChange(path, before, content, mode)


def linked(path: str, target: str) -> FileChange | None:
    """The change that makes a path a link to a target; None where it is one."""
    try:
        now: str | None = os.readlink(path)
    except OSError:
        now = None
    if now == target:
        return None
    return FileChange(path, f"-> {now}\n".encode() if now else content_of(path), None, link=target)


def gone(path: str) -> FileChange | None:
    """The change that removes a file; None where there is none."""
    if os.path.islink(path):
        return FileChange(path, f"-> {os.readlink(path)}\n".encode(), None)
    before = content_of(path)
    return None if before is None else FileChange(path, before, None)


def content_of(path: str) -> bytes | None:
    """A file's content, None where there is no such file.

    Raises:
        OSError: it is there and cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _ensure_folder(path: str) -> None:
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)


def _write_atomically(path: str, content: bytes, mode: int) -> None:
    _ensure_folder(path)
    handle, fresh = tempfile.mkstemp(dir=os.path.dirname(path), prefix=f".{os.path.basename(path)}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.replace(fresh, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(fresh)
        raise


def _shown(content: bytes | None) -> str:
    if content is None:
        return ""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        return f"sha256 {hashlib.sha256(content).hexdigest()}\n"
    return text
