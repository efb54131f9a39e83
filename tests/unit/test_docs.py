# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/ against the tree."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[2]


PLUGINS = ROOT / "plugins"
FOLDERS = ("module_utils", "plugin_utils")

#: Of Python's own, what works on values alone. Of ``os`` that is one function.
VALUES = frozenset(
    {
        *(
            "__future__",
            "abc",
            "base64",
            "binascii",
            "collections",
            "contextlib",
            "dataclasses",
            "difflib",
            "errno",
        ),
        *("functools", "hashlib", "html", "json", "os.strerror", "posixpath", "re", "shlex", "typing"),
        *("unicodedata", "urllib.parse"),
    }
)


def architecture(folder: str) -> dict[str, bool]:
    """The files of a folder that docs/architecture.md lists, and whether it calls them pure."""
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    table = text.partition(f"## Files of `plugins/{folder}`\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`_.*?) \| .*? \|(.*)\|$", table, re.MULTILINE)
    return {name: "✔" in mark for names, mark in rows for name in re.findall(r"`(_[a-z_]+)`", names)}


FILES = {(folder, name): pure for folder in FOLDERS for name, pure in architecture(folder).items()}


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_file_has_its_place_in_the_architecture(folder: str) -> None:
    assert set(architecture(folder)) == {path.stem for path in (PLUGINS / folder).glob("_*.py")} - {
        "__init__"
    }


def imported(folder: str, name: str) -> tuple[set[tuple[str, str]], set[str]]:
    """What a file imports at whatever place: files of ours, and modules of others."""
    own: set[tuple[str, str]] = set()
    others: set[str] = set()
    tree = ast.parse((PLUGINS / folder / f"{name}.py").read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            others.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            where = folder if node.level == 1 else "module_utils"
            module = (node.module or "").removeprefix("module_utils").lstrip(".")
            own.update((where, one) for one in ([module] if module else [alias.name for alias in node.names]))
        elif isinstance(node, ast.ImportFrom):
            known = node.module in VALUES or str(node.module).partition(".")[0] in VALUES
            others.update(
                [str(node.module)] if known else [f"{node.module}.{one.name}" for one in node.names]
            )
    return own, {one for one in others if one not in VALUES and one.partition(".")[0] not in VALUES}


@pytest.mark.parametrize(("folder", "name"), [place for place, pure in FILES.items() if pure])
def test_what_is_called_pure_imports_nothing_that_is_not(folder: str, name: str) -> None:
    own, others = imported(folder, name)
    assert [one for one in sorted(own) if not FILES[one]] == []
    assert others == set()


@pytest.mark.parametrize(("folder", "name"), [place for place, pure in FILES.items() if not pure])
def test_what_is_not_called_pure_has_a_reason(folder: str, name: str) -> None:
    own, others = imported(folder, name)
    assert others or [one for one in own if not FILES[one]]
    told = ast.get_docstring(ast.parse((PLUGINS / folder / f"{name}.py").read_text(encoding="utf-8")))
    assert "Pure." not in (told or "")


def test_purity_sees_what_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("test_docs.PLUGINS", tmp_path)
    (tmp_path / "plugin_utils").mkdir()
    (tmp_path / "plugin_utils/_a.py").write_text(
        "import os\nimport re\nfrom os import strerror\nfrom os import stat\nfrom collections.abc import Mapping\n"
        "from . import _b\nfrom ._c import d\nfrom ..module_utils import _e\nfrom ..module_utils._f import g\n"
        "def late():\n    import socket\n"
    )
    own, others = imported("plugin_utils", "_a")
    assert own == {
        ("plugin_utils", "_b"),
        ("plugin_utils", "_c"),
        ("module_utils", "_e"),
        ("module_utils", "_f"),
    }
    assert others == {"os", "os.stat", "socket"}


PICTURES = sorted((ROOT / "docs/pictures").glob("*.svg"))


@pytest.mark.parametrize("path", PICTURES, ids=[path.name for path in PICTURES])
def test_a_picture_is_for_everybody(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    for what in ("title", "desc"):
        told = root.find(f"{{http://www.w3.org/2000/svg}}{what}")
        assert told is not None
        assert told.text
    assert "prefers-color-scheme: dark" in text
    # no other address than that of SVG itself: a picture loads nothing
    assert re.findall(
        r"https?://[^\"'< ]+", text.replace("https://www.gnu.org/licenses/gpl-3.0.txt", "")
    ) == ["http://www.w3.org/2000/svg"]


def test_every_picture_is_shown_somewhere_and_told_in_words() -> None:
    pages = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md"))
    shown = re.findall(r"!\[([^\]]+)\]\((?:[^()]*/)?pictures/([^()]+)\)", pages)
    assert {name for alternative, name in shown if len(alternative) > 20} == {path.name for path in PICTURES}
