# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Code of ours as one file that Python runs, for what a host does at boot with no controller.

A zip of the very modules that a task runs from: so boot and controller cannot plan differently.
"""

from __future__ import annotations

import importlib
import io
import re
import zipfile

#: A module of ours that another one takes in, at once or when it needs it.
_IMPORT = re.compile(r"(?m)^ *from \.(_[a-z_]+) import|^from \. import ([_a-z, ]+)$")


class ArchiveError(RuntimeError):
    """The code cannot be put together."""


def archive_bytes(first: str) -> bytes:
    """A zip that Python runs: a module of ours (its ``main``) and every one that it needs, always the same bytes.

    Args:
        first: the module, such as ``_boot``.

    Raises:
        ArchiveError: a source cannot be read.
    """
    package = (__package__ or "").rsplit(".", 1)
    sources = _closure(".".join(package), first)
    entries = {f"xen_virtio/{name}.py": source for name, source in sources.items()}
    entries["xen_virtio/__init__.py"] = ""
    entries["__main__.py"] = (
        f"import sys\n\nfrom xen_virtio.{first} import main\n\nsys.exit(main(sys.argv[1:]))\n"
    )
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(entries):
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.external_attr = 0o644 << 16
            archive.writestr(info, entries[name].encode())
    return held.getvalue()


def source_bytes(name: str) -> bytes:
    """One module of ours as the file that it is.

    Args:
        name: the module, such as ``_view``.

    Raises:
        ArchiveError: its source cannot be read.
    """
    return _source(f"{(__package__ or '')}.{name}").encode()


def _closure(package: str, first: str) -> dict[str, str]:
    sources: dict[str, str] = {}
    wanted_names = [first]
    while wanted_names:
        name = wanted_names.pop()
        if name in sources:
            continue
        sources[name] = _source(f"{package}.{name}")
        for one, several in _IMPORT.findall(sources[name]):
            wanted_names += [one] if one else [named.split()[0] for named in several.split(",")]
    return sources


def _source(name: str) -> str:
    """A module's source, also where it was loaded from the zip in which Ansible ships modules."""
    spec = importlib.import_module(name).__spec__
    loader = getattr(spec, "loader", None)
    source = loader.get_source(name) if loader is not None and hasattr(loader, "get_source") else None
    if source is None:
        raise ArchiveError(f"the source of {name} cannot be read, so nothing can be kept on the host")
    # Ansible's own loader of collections gives bytes
    return source.decode() if isinstance(source, bytes) else str(source)
