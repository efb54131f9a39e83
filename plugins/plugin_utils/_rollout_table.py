# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rollout as a table for a terminal, one row a host. Pure."""

from __future__ import annotations

from typing import Any

from ._fleet_table import plain
from ._rollout import STATUSES, check_report
from ._rollout_boards import CHANGED

_HEADINGS = ("HOST", "STATUS", "BATCH", "WHAT")

#: Characters of the last column, and of any other.
_LAST, _OTHERS = 200, 40


def rollout_table(report: object) -> str:
    """The table, the figures, why it stopped, and how it goes on.

    Args:
        report: of `_rollout`.

    Raises:
        RolloutError: it is none.
    """
    whole = check_report(report)
    table = [_HEADINGS, *(_row(row) for row in whole["hosts"])]
    widths = [max(len(row[column]) for row in table) for column in range(len(_HEADINGS) - 1)]
    lines = []
    for row in table:
        cells = [cell.ljust(width) for cell, width in zip(row, widths)]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    lines += ["", _total(whole)]
    if whole["stopped"]:
        begun = any(row["status"] not in ("not reached",) and row["batch"] for row in whole["hosts"])
        lines.append(f"{'stopped' if begun and not whole['check'] else 'did not begin'}: {whole['stopped']}")
    by_hand = [row for row in whole["hosts"] if row["by_hand"]]
    lines += [f"{plain(row['name'], _OTHERS)} is brought back with: {row['by_hand']}" for row in by_hand]
    if whole["resume"]:
        lines.append(f"resume with: {whole['resume']}")
    return "\n".join(lines)


def _row(row: Any) -> tuple[str, ...]:
    batch = "-" if row["batch"] is None else str(row["batch"])
    return plain(row["name"], _OTHERS), row["status"], batch, plain(row["reason"], _LAST)


def _total(whole: Any) -> str:
    counts = whole["summary"]["hosts"]
    told = ", ".join(
        f"{counts[status]} {'would be changed' if whole['check'] and status == CHANGED else status}"
        for status in STATUSES
        if counts[status]
    )
    number = counts["total"]
    batches = whole["summary"]["batches"]
    many = f"{number} host{'' if number == 1 else 's'}"
    return f"{many}, {batches} batch{'' if batches == 1 else 'es'}: {told or 'none'}"
