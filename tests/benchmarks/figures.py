# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was measured: times, their ratio, the limit it has to keep; as a table and as JSON."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes:
        group: which benchmark it belongs to.
        name: what was measured.
        ours: seconds (or `unit`).
        other: the same unit; what it is held against, None where there is nothing.
        against: what `other` is.
        limit: the highest ratio (without `other`: the highest value) that is good, None for a mere remark.
        unit: ``s`` or ``MB``.
    """

    group: str
    name: str
    ours: float
    other: float | None = None
    against: str = ""
    limit: float | None = None
    unit: str = "s"

    @property
    def ratio(self) -> float:
        """What the limit is about."""
        return self.ours if self.other is None else self.ours / self.other

    @property
    def verdict(self) -> str:
        """``ok``, ``over``, or nothing where there is no limit."""
        if self.limit is None:
            return ""
        return "ok" if self.ratio <= self.limit else "over"

    def as_dict(self) -> dict[str, Any]:
        """For the JSON."""
        return {**asdict(self), "ratio": round(self.ratio, 4), "verdict": self.verdict}


def interleaved(repetitions: int, *ways: Callable[[], float]) -> list[float]:
    """The median seconds of each way, measured in turns (A B A B …) so that a busy moment meets all of them."""
    times: list[list[float]] = [[] for _way in ways]
    for _repetition in range(repetitions):
        for way, found in zip(ways, times):
            found.append(way())
    return [statistics.median(found) for found in times]


def timed(work: Callable[[], object]) -> float:
    """Seconds of one call, begun with few objects for the collector to look at."""
    gc.freeze()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def table(figures: Iterable[Figure]) -> str:
    """All figures for a person."""
    rows: list[Sequence[str]] = [("", "measured", "against", "", "factor", "limit", "")]
    group = ""
    for figure in figures:
        if figure.group != group:
            group = figure.group
            rows.append(("",) * 7)
            rows.append((group, *("",) * 6))
        rows.append(
            (
                f"  {figure.name}",
                _amount(figure.ours, figure.unit),
                "" if figure.other is None else _amount(figure.other, figure.unit),
                figure.against,
                "" if figure.other is None else f"{figure.ratio:.2f}x",
                _limit(figure),
                figure.verdict,
            )
        )
    widths = [max(len(row[column]) for row in rows if any(row[1:])) for column in range(7)]
    return "\n".join(_line(row, widths).rstrip() for row in rows)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    left = {0, 3, 6}
    return "  ".join(
        text.ljust(width) if column in left else text.rjust(width)
        for column, (text, width) in enumerate(zip(row, widths))
    )


def _limit(figure: Figure) -> str:
    if figure.limit is None:
        return ""
    return f"{figure.limit:g}x" if figure.other is not None else f"{figure.limit:g} {figure.unit}"


def _amount(value: float, unit: str) -> str:
    if unit != "s":
        return f"{value:.1f} {unit}"
    return f"{value * 1000:.1f} ms" if value < 10 else f"{value:.1f} s"
