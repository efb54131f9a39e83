# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Import the parts of a module out of Ansible's zip in half the time.

Ansible sends a module and its parts as source in a zip, so every task compiles them anew; and Python does that
twice for each: its zip importer compiles a module once only to learn the name of its file
(``zipimporter.get_filename``, called for every spec that has no origin yet). Here the origin is given.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from zipimport import zipimporter

_PACKAGE = __name__.rpartition(".")[0]


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
                importer.get_data(origin)
            except OSError:
                continue
            return ModuleSpec(name, importer, origin=origin)  # type: ignore[arg-type]
        return None


def compile_once() -> None:
    """Use the finder from now on; called before all other imports of ours. Does nothing outside a zip."""
    # before Python 3.10 a zip importer loads modules by another way, and compiles them once
    zipped = isinstance(globals().get("__loader__"), zipimporter) and hasattr(zipimporter, "exec_module")
    if zipped and ZippedFinder not in sys.meta_path:
        sys.meta_path.insert(0, ZippedFinder)
