# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Import the parts of a module out of Ansible's zip in a fraction of the time.

Ansible sends a module and its parts as source in a zip, so every task compiles them anew; and Python does that
twice for each: its zip importer compiles a module once only to learn the name of its file
(``zipimporter.get_filename``, called for every spec that has no origin yet). Here the origin is given, and what was
compiled is kept for the next task, below /run, where it is gone with the next boot.

Kept code is found by the checksum of its source, and is used only where nobody but root could have written it.
"""

from __future__ import annotations

import contextlib
import hashlib
import marshal
import os
import stat
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
from typing import Any
from zipimport import zipimporter

_PACKAGE = __name__.rpartition(".")[0]

#: Where compiled parts are kept; tasks of other users than root keep none.
KEPT = "/run/xen-virtio/code"


class _Part:
    """Loads one part: as the zip's importer does, but for compiling."""

    def __init__(self, importer: zipimporter, origin: str, source: bytes) -> None:
        self._importer = importer
        self._origin = origin
        self._source = source

    def __getattr__(self, name: str) -> Any:
        return getattr(self._importer, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Leaves it to Python."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Run the part's code."""
        exec(self._code(), module.__dict__)

    def _code(self) -> CodeType:
        if os.geteuid() != 0:
            return compile(self._source, self._origin, "exec", dont_inherit=True)
        digest = hashlib.sha256(self._origin.rpartition("/")[2].encode() + b"\0" + self._source).hexdigest()
        path = f"{KEPT}/{sys.implementation.cache_tag}-{digest[:40]}"
        code = _read(path)
        if code is None:
            code = compile(self._source, self._origin, "exec", dont_inherit=True)
            _keep(path, code)
        return code


def _ours(told: os.stat_result, kind: int) -> bool:
    """Whether only this user can have written there."""
    return stat.S_IFMT(told.st_mode) == kind and told.st_uid == os.geteuid() and not told.st_mode & 0o022


def _folders_are_ours() -> bool:
    parent = os.path.dirname(KEPT)
    return all(_ours(os.lstat(folder), stat.S_IFDIR) for folder in (os.path.dirname(parent), parent, KEPT))


def _read(path: str) -> CodeType | None:
    """Code that was kept; None where there is none, or none to rely on."""
    try:
        if not _folders_are_ours():
            return None
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            if not _ours(os.fstat(file.fileno()), stat.S_IFREG):
                return None
            found = marshal.loads(file.read())
    except (OSError, ValueError, EOFError, TypeError):
        return None
    return found if isinstance(found, CodeType) else None


def _keep(path: str, code: CodeType) -> None:
    """Keep code for the next task, whole or not at all; that it cannot be kept matters to nobody."""
    with contextlib.suppress(OSError, ValueError):
        os.makedirs(KEPT, mode=0o755, exist_ok=True)
        if not _folders_are_ours():
            return
        fresh = f"{path}.{os.getpid()}"
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(marshal.dumps(code))
            os.replace(fresh, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(fresh)
            raise


class ZippedFinder:
    """Finds our own parts, where they lie in a zip; leaves everything else to Python."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        """As ``importlib.abc.MetaPathFinder.find_spec``."""
        package, _dot, leaf = name.rpartition(".")
        if package != _PACKAGE:
            return None
        for folder in path or ():
            importer = sys.path_importer_cache.get(folder)
            if not isinstance(importer, zipimporter):
                continue
            origin = f"{folder}/{leaf}.py"
            try:
                source = importer.get_data(origin)
            except OSError:
                continue
            return ModuleSpec(name, _Part(importer, origin, source), origin=origin)  # type: ignore[arg-type]
        return None


def compile_once() -> None:
    """Use the finder from now on; called before all other imports of ours. Does nothing outside a zip."""
    if isinstance(globals().get("__loader__"), zipimporter) and ZippedFinder not in sys.meta_path:
        sys.meta_path.insert(0, ZippedFinder)
