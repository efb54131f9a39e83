# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet report as a table for a terminal. Pure.

Hosts without a finding are counted, not listed: what is short enough is read.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

from ..module_utils._findings import ERROR, WARNING
from ._fleet_report import OK, check_report

_HEADINGS = ("HOST", "STATE", "XEN", "DOMAINS", "DISKS", "ERRORS", "WARNINGS", "ACCEPTED", "FIRST")

#: Characters of the last column, and of any other.
_LAST, _OTHERS = 70, 32


def plain(text: object, limit: int) -> str:
    """A text that changes nothing on a terminal: no control, no change of direction, no line's end.

    Guests may write most of what is shown here.
    """
    shown = "".join(
        f"\\u{{{ord(one):x}}}" if unicodedata.category(one) in ("Cc", "Cf", "Cs", "Zl", "Zp") else one
        for one in str(text)[: limit + 1]
    )
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"


def fleet_table(report: object) -> str:
    """The table.

    Args:
        report: of `fleet_report`.

    Raises:
        FleetError: it is none.
    """
    whole = check_report(report)
    rows = [_row(host) for host in whole["hosts"] if host["status"] != OK or host["findings"]]
    lines = []
    if rows:
        table = [_HEADINGS, *rows]
        widths = [max(len(row[column]) for row in table) for column in range(len(_HEADINGS) - 1)]
        for row in table:
            cells = [cell.ljust(width) for cell, width in zip(row, widths)]
            lines.append("  ".join([*cells, row[-1]]).rstrip())
    return "\n".join([*lines, *([""] if lines else []), _total(whole["summary"])])


def _row(host: Mapping[str, Any]) -> tuple[str, ...]:
    standing = [one for one in host["findings"] if one["accepted"] is None]
    known = host["error"] is None
    first = standing[0] if standing else None
    where = (
        " ".join(plain(part, _OTHERS) for part in (first["domain"], first["vdev"]) if part) if first else ""
    )
    return (
        plain(host["name"], _OTHERS),
        host["status"],
        plain(host["xen"]["release"] or "?", _OTHERS),
        str(len(host["domains"])) if known else "?",
        str(sum(len(one["disks"]) for one in host["domains"])) if known else "?",
        str(sum(one["severity"] == ERROR for one in standing)),
        str(sum(one["severity"] == WARNING for one in standing)),
        str(len(host["findings"]) - len(standing)),
        plain(" ".join(filter(None, (first["code"], where))), _LAST) if first else "",
    )


def _total(summary: Mapping[str, Any]) -> str:
    hosts, findings = summary["hosts"], summary["findings"]
    states = ", ".join(f"{hosts[state]} {state}" for state in (ERROR, WARNING, "unknown", OK) if hosts[state])
    accepted = f", {summary['accepted']} accepted" if summary["accepted"] else ""
    return (
        f"{_many(hosts['total'], 'host')} ({states or 'none'}), {_many(summary['domains'], 'domain')}, "
        f"{_many(summary['disks'], 'disk')}: {_many(findings[ERROR], 'error')}, "
        f"{_many(findings[WARNING], 'warning')}{accepted}"
    )


def _many(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
