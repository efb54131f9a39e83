# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/releases.md and the README's table: what each Xen release accepts, from the tables that the code goes by."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from ansible_collections.xen.virtio.plugins.module_utils._dialect import (
    DIALECTS,
    OPTIONS,
    RELEASES,
    Dialect,
    since,
)
from ansible_collections.xen.virtio.plugins.module_utils._guestoptions import SINCE
from ansible_collections.xen.virtio.plugins.module_utils._plan import schema_for
from lab.roots import SUITES

from pages.collect import ROOT
from pages.messages import HEAD

PAGE = ROOT / "docs/releases.md"
README = ROOT / "README.md"

#: What an option of the code is to a reader.
TOLD = {
    "virtio": "the flag `virtio` in a disk string",
    "specification": "`specification=` of a disk",
    "standalone": "`backendtype=standalone` of a disk",
    "virtio_devices": "`virtio = [...]`, virtio devices other than disks",
    "trusted": "`trusted`, `untrusted` of a disk",
    "grant_usage": "`grant_usage` of a disk, and its node in xenstore",
    "nr_spis": "`nr_spis` of a guest",
    "trap_unmapped_accesses": "`trap_unmapped_accesses` of a guest",
    "xenstore_quota": "`xenstore_quota` of a guest",
}

INTRODUCTION = f"""\
# Xen releases

What each release accepts in a disk or a guest, and version 6 of the virtio disk patches before they were merged
(`v6`). The modules go by the same tables: an option that the host's Xen does not know is refused by name
(`release`), a string in an older spelling is read, and what is written is in the host's own.

The release is asked of the host. `xen: "4.20"`, or `xen_release` in the inventory, says it where the host does
not tell; in quotes, or YAML reads 4.2. Version 6 is never found out: say `xen: v6`. A release newer than
{RELEASES[-1]} is read as {RELEASES[-1]}, with a warning. Before {RELEASES[0]} Xen has no virtio disks.
"""

NOTE = """\
`trusted` stands in the manual of 4.17 and 4.18, but the scanner that these releases shipped ends with a syntax
error. Without `grant_usage`, grants are used where the backend is not dom0.
"""


NONE = "\N{EN DASH}"
NAMES = [("V6 patches" if name == "v6" else name) for name in DIALECTS]

#: The README's rows: what it is, and what stands for a release. The notes that numbers point to are written by hand.
ROWS: dict[str, Callable[[Dialect], str]] = {
    "virtio disks, as this release writes them": lambda one: _yes(
        one.accepts("virtio") or one.accepts("specification")
    ),
    "in a disk string": lambda one: "`virtio`" if one.accepts("virtio") else "`specification=virtio`",
    "`type` node": lambda one: f"`{schema_for(one).backend_type}`",
    "`trusted`, `untrusted`": lambda one: _yes(
        one.accepts("trusted"), "no ¹" if one.accepts("specification") else "no"
    ),
    "`grant_usage` of a disk, and its node": lambda one: _yes(one.accepts("grant_usage"), "no ²"),
    "other virtio devices (`virtio=[]`), counted and planned around": lambda one: _yes(
        one.accepts("virtio_devices"), NONE
    ),
    # the parsers of tests/oracle come out of the same packages as the lab's daemons
    "held against the real parser": lambda one: _yes(one.name in SUITES, NONE),
    "run against the real daemons and toolstack": lambda one: _yes(one.name in SUITES, NONE),
}


def _yes(known: bool, otherwise: str = "no") -> str:
    return "yes" if known else otherwise


def table() -> str:
    """The README's table."""
    rows = [_row_of("", NAMES), _row_of("---", ["---"] * len(NAMES))]
    for what, of in ROWS.items():
        cells = [of(dialect) for dialect in DIALECTS.values()]
        words = cells[0].startswith("`")  # a spelling stands once, where it begins
        shown = ["←" if words and before == cell else cell for before, cell in zip(["", *cells], cells)]
        rows.append(_row_of(what, shown))
    return "\n".join(rows)


def readme() -> str:
    """The README with the table as it has to be."""
    text = README.read_text(encoding="utf-8")
    head = "## Xen releases\n\n"
    assert head in text
    return re.sub(rf"(?<={head})(?:\|.*\n)*", lambda _table: f"{table()}\n", text, count=1)


def page() -> str:
    """The page as it has to be."""
    disks = [*TOLD, *sorted(OPTIONS - set(TOLD))]
    rows = [
        _row(TOLD.get(option, f"`{option}`"), [dialect.accepts(option) for dialect in DIALECTS.values()])
        for option in disks
    ]
    return "\n".join(
        [
            HEAD,
            INTRODUCTION,
            "## Disks and devices",
            "",
            _row_of("", NAMES),
            _row_of("---", ["---"] * len(NAMES)),
            *rows,
            "",
            NOTE,
            "## Options of guests",
            "",
            "Known to all releases, but for these:",
            "",
            "| option | since |",
            "|---|---|",
            *(f"| `{option}` | {release} |" for option, release in sorted(options().items())),
            "",
        ]
    )


def options() -> dict[str, str]:
    """Options of a guest, by the first release that has them."""
    found = dict(SINCE)
    found.update({name: str(since(name)) for name in ("nr_spis", "trap_unmapped_accesses", "xenstore_quota")})
    return found


def _row(what: str, known: list[bool]) -> str:
    return _row_of(what, ["yes" if one else "no" for one in known])


def _row_of(first: str, others: list[str]) -> str:
    return f"| {' | '.join([first, *others])} |" if first != "---" else f"|{'|'.join([first, *others])}|"


def pages() -> dict[Path, str]:
    """By the path it is written to."""
    return {PAGE: page(), README: readme()}
