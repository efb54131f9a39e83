# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/messages: every text that somebody may be told, with what to do where it does not say so itself.

The texts are the code's own (`collect`); what is written by hand stands in ``tests/pages/areas/AREA.yml``::

    title: Disks                        # of the page, docs/messages/AREA.md
    about: |                            # what holds for all of it
      …
    files:
      plugins/module_utils/_vdev.py:
        title: Names of disks
        about: …                        # what holds for these; may be left out
        messages:
          - text: it does not say what to do
            do: so this does
          - says: it says by itself what to do, or what would be right
          - news: it tells what was done or found, and nothing is to be done
          - part: stands inside of others
          - none: is shown to nobody    # code, a file's content, a word for a program

``python tests/pages`` adds what is new as ``new``, takes away what is gone, and writes the pages; a test fails as long
as anything is ``new``, or a ``text`` has no ``do``.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pages.collect import ROOT, Text

WRITTEN = Path(__file__).resolve().parent / "areas"
PAGES = ROOT / "docs/messages"
WIDTH = 120
KINDS = ("text", "says", "news", "part", "none", "new")
#: Of these, what stands by itself.
WHOLE = ("text", "says", "news", "new")

LICENCE = """\
# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""
HEAD = """\
<!--
Copyright (c) xen.virtio contributors
GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
SPDX-License-Identifier: GPL-3.0-or-later

Written by tests/pages.
-->
"""


INDEX = """\
# Messages

Every text that the collection can tell somebody, by where it comes from, and what to do where the text does not say so
itself; one that has nothing behind it does, or tells what went well. `<name>` stands for a value. Search for the words
that are not values; a message may be put together of several.

Findings, which have a code, are listed by it in [findings.md](findings.md). The most frequent messages stand in
[troubleshooting.md](../troubleshooting.md).
"""


@dataclass(frozen=True)
class Entry:
    """One text: its kind, one of KINDS, and what to do."""

    kind: str
    text: str
    do: str = ""


@dataclass
class Source:
    """The texts of one file."""

    title: str
    about: str = ""
    entries: list[Entry] = field(default_factory=list)


@dataclass
class Area:
    """One page."""

    name: str
    title: str
    about: str
    sources: dict[str, Source]


def areas() -> list[Area]:
    """What is written by hand, by the names of its files."""
    return [_area(path) for path in sorted(WRITTEN.glob("*.yml"))]


def _area(path: Path) -> Area:
    said = yaml.safe_load(path.read_text(encoding="utf-8"))
    sources = {
        name: Source(one["title"], one.get("about", ""), [_entry(entry) for entry in one["messages"]])
        for name, one in said["files"].items()
    }
    return Area(path.stem, said["title"], said["about"], sources)


def _entry(said: dict[str, str]) -> Entry:
    kind = next(kind for kind in KINDS if kind in said)
    return Entry(kind, said[kind], said.get("do", ""))


def renew(written: Iterable[Area], found: Iterable[Text]) -> list[str]:
    """Bring areas to the texts that there are; returns the files that belong to none."""
    by_file: dict[str, list[str]] = {}
    for text in found:
        by_file.setdefault(text.source, []).append(text.text)
    for area in written:
        for name, source in area.sources.items():
            known = {entry.text: entry for entry in source.entries}
            source.entries = [known.get(text, Entry("new", text)) for text in by_file.pop(name, [])]
    return sorted(by_file)


def dump(area: Area) -> str:
    """An area as its file has it."""
    said: dict[str, Any] = {"title": area.title, "about": area.about, "files": {}}
    for name, source in area.sources.items():
        one: dict[str, Any] = {"title": source.title}
        if source.about:
            one["about"] = source.about
        one["messages"] = [
            {entry.kind: entry.text, **({"do": entry.do} if entry.do else {})} for entry in source.entries
        ]
        said["files"][name] = one
    text = yaml.dump(said, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=WIDTH)
    return f"---\n{LICENCE}\n{text}"


class _Dumper(yaml.SafeDumper):
    """Long texts in blocks, lists set in."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _represent(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent)


# --- pages ---


def pages(written: Iterable[Area]) -> dict[Path, str]:
    """The pages of all areas, and the one that leads to them."""
    listed = list(written)
    found = {PAGES / f"{area.name}.md": page(area) for area in listed}
    found[PAGES / "index.md"] = index(listed)
    return found


def page(area: Area) -> str:
    """One area for readers."""
    parts = [HEAD, f"# {area.title}", area.about.strip()]
    for name, source in area.sources.items():
        entries = [entry for entry in source.entries if entry.kind in WHOLE]
        inside = [entry for entry in source.entries if entry.kind == "part"]
        if not entries and not inside:
            continue
        parts += [f"## {source.title}"]
        parts += [f"From `{name}`."] if not source.about else [f"{source.about.strip()} From `{name}`."]
        parts += ["\n".join(_item(entry) for entry in entries)] if entries else []
        if inside:
            parts.append("Inside of others, or as the reason of one:")
            parts.append("\n".join(_item(entry) for entry in inside))
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _item(entry: Entry) -> str:
    shown = code(entry.text)
    if not entry.do:
        return f"- {shown}"
    said = textwrap.fill(
        entry.do.strip(),
        WIDTH,
        initial_indent="  ",
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return f"- {shown}\n\n{said}\n"


def code(text: str) -> str:
    """A text as Markdown's code, whatever backticks it has."""
    ticks = "``" if "`" in text else "`"
    blank = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{ticks}{blank}{text}{blank}{ticks}"


def index(written: Iterable[Area]) -> str:
    """The page that leads to all."""
    rows = [f"| [{area.title}]({area.name}.md) | {', '.join(_titles(area))} |" for area in written]
    names = [area.name for area in written]
    toctree = ["```{toctree}", ":hidden:", "", "findings", *names, "```"]
    last = "| [Findings by code](findings.md) | what preflight, audits and backend hosts are told |"
    return "\n".join([HEAD, INDEX, "| page | about |", "|---|---|", *rows, last, "", *toctree, ""])


def _titles(area: Area) -> Iterator[str]:
    for source in area.sources.values():
        if any(entry.kind in (*WHOLE, "part") for entry in source.entries):
            yield source.title[0].lower() + source.title[1:]
