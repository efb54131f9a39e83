# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the pages that are written from the code: ``python tests/pages``.

``python tests/pages AREA FILE…`` first gives files to an area of the messages, at its end.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

importlib.import_module("conftest")  # makes the collection importable
from pages import collect, findings, messages, releases  # noqa: E402


def main(arguments: list[str]) -> int:
    """Write what is not as it should be; 1 where something has to be written by hand."""
    written = messages.areas()
    for area in written:
        if area.name in arguments[:1]:
            area.sources.update(
                {name: messages.Source(Path(name).stem.lstrip("_")) for name in arguments[1:]}
            )
    homeless = messages.renew(written, collect.texts())
    for area in written:
        _put(messages.WRITTEN / f"{area.name}.yml", messages.dump(area))
    for path, text in {**messages.pages(written), **findings.pages(), **releases.pages()}.items():
        _put(path, text)
    new = [
        f"{name}: {entry.text}"
        for area in written
        for name, source in area.sources.items()
        for entry in source.entries
        if entry.kind == "new"
    ]
    for name in homeless:
        print(f"{name}: its texts belong to no area: python tests/pages AREA {name}")
    for text in new:
        print(f"new: {text}")
    return 1 if new or homeless else 0


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
