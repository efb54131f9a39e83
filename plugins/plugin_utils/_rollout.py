# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rollout as one document: who goes in which batch, what became of whom, when it stops, how it goes on. Pure.

The playbook asks three things of it: `planned` before the first change, `advanced` around each batch, `ended` at the
end. Each takes the document as it is and gives a new one.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..module_utils._words import some
from ._document import checked
from ._rollout_boards import (
    CHANGED,
    FAILED,
    NOT_REACHED,
    OFFLINE,
    OK,
    REFUSED,
    ROLLED_BACK,
    UNDER_WAY,
    Board,
    RolloutError,
    said,
    why,
)

#: What the document is, and which shape it has: a reader refuses another number.
FORMAT, VERSION = "xen.virtio/rollout-report", 1

#: One board first, then more and more of those with something to do.
SERIAL: tuple[int | str, ...] = (1, "10%", "30%", "100%")

#: Rows after which a board needs no further run.
_SETTLED = (OK, CHANGED)

#: All that a row may say, in the order in which they are counted.
STATUSES = (OK, CHANGED, REFUSED, FAILED, ROLLED_BACK, OFFLINE, NOT_REACHED, UNDER_WAY)

#: Names in a sentence; the report has all of them. And on a command line: more of them are a file's.
_NAMED, _LIMITED = 10, 25

Json = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """What was asked of a rollout.

    Attributes:
        started: when, as text.
        checkpoint: the name under which boards keep what they ran before.
        named: somebody gave that name, and boards may have it of an earlier rollout.
        since: when the first of the rollouts began that this one goes on with, ISO 8601 in UTC.
        serial: sizes of batches, as numbers or percentages of the boards with work; the last holds for all that follow.
        canary: names of boards that go first, in a batch of their own.
        known: all hosts of the inventory, of which this run may have a part.
        max_fail: the share of a batch, in percent, above which no other batch begins.
        check: nothing is to be changed.
        command: the command line that is to be given again, without a limit.
        subset: the ``--limit`` of this run, empty where it had none.
        by_hand: words of the command line that a command on one board by hand needs as well.
    """

    started: str
    checkpoint: str
    named: bool = False
    since: str = ""
    serial: tuple[int | str, ...] = SERIAL
    canary: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    max_fail: float = 0.0
    check: bool = False
    command: tuple[str, ...] = ("ansible-playbook", "xen.virtio.rollout")
    subset: str = ""
    by_hand: tuple[str, ...] = ()


# --- batches ---------------------------------------------------------------------------------------------


def serial_of(given: object) -> tuple[int | str, ...]:
    """Sizes of batches as a user says them: a number, a percentage, or a list of them. Raises RolloutError."""
    if given is None or given in ("", []):
        return SERIAL
    listed: Sequence[object] = given if isinstance(given, (list, tuple)) else [given]
    return tuple(_size_said(one) for one in listed)


def _size_said(one: object) -> int | str:
    text = str(one).strip()
    number = text[:-1].strip() if text.endswith("%") else text
    if isinstance(one, bool) or not number.isdecimal() or int(number) < 1 or len(number) > 9:
        raise RolloutError(f"xen_rollout_serial: a number of boards or a percentage, above 0, not {one!r}")
    return f"{int(number)}%" if text.endswith("%") else int(number)


def size_of(one: int | str, boards: int) -> int:
    """How many of so many boards; a percentage is rounded down, and one at least, as Ansible's serial does."""
    if isinstance(one, int):
        return one
    return max(1, int(one[:-1]) * boards // 100)


def batches_of(
    names: Sequence[str], serial: Sequence[int | str], canary: Sequence[str] = ()
) -> list[list[str]]:
    """Boards in batches.

    Args:
        names: of the boards with work, in the order of the inventory.
        serial: sizes, of which the last holds for all that follow.
        canary: those that go first; they stand in for the first size. Names without work count for nothing.
    """
    first = [name for name in names if name in canary]
    left = [name for name in names if name not in first]
    sizes = list(serial)
    batches = []
    if first:
        batches.append(first)
        sizes = sizes[1:] or sizes
    while left:
        size = size_of(sizes[0], len(names))
        batches.append(left[:size])
        left = left[size:]
        sizes = sizes[1:] or sizes
    return batches


def names_of(given: object) -> tuple[str, ...]:
    """Names of hosts as a list, or with commas between them. Raises RolloutError."""
    if given is None:
        return ()
    if not isinstance(given, (str, list, tuple)):
        raise RolloutError(f"xen_rollout_canary: names of hosts, not {given!r}")
    listed = given.split(",") if isinstance(given, str) else [str(one) for one in given]
    return tuple(one.strip() for one in listed if one.strip())


def checkpoint_of(given: object) -> str:
    """The name of a checkpoint, as module checkpoint takes it. Raises RolloutError."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", str(given)):
        raise RolloutError(
            "xen_rollout_checkpoint: at most 64 letters, digits, dots, dashes and underscores, the first a letter or a "
            f"digit, not {given!r}"
        )
    return str(given)


def since_of(given: object) -> str:
    """A moment as checkpoints have it, empty where none is given. Raises RolloutError."""
    if given and not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", str(given)):
        raise RolloutError(f"xen_rollout_resume: a moment as 2026-05-04T10:11:12Z, not {given!r}")
    return str(given or "")


def percentage_of(given: object) -> float:
    """The share of a batch that may fail, in percent. Raises RolloutError."""
    try:
        number = float(str(given).strip().removesuffix("%"))
    except ValueError:
        number = -1.0
    if isinstance(given, bool) or not 0 <= number <= 100:
        raise RolloutError(f"xen_rollout_max_fail_percentage: a number from 0 to 100, not {given!r}")
    return number


# --- before the first change -----------------------------------------------------------------------------


def planned(boards: Sequence[Board], settings: Settings) -> Json:
    """The document before the first change: rows, batches, and whether it may begin at all.

    Raises:
        RolloutError: a canary that is no host at all; one that is not in this run counts for nothing.
    """
    known = {*settings.known, *(board.name for board in boards)}
    strangers = [name for name in settings.canary if name not in known]
    if strangers:
        raise RolloutError(f"xen_rollout_canary: no host is called {', '.join(map(repr, strangers))}")
    work = [board.name for board in boards if board.status == CHANGED]
    stopped = _kept_from(boards, settings) if work else None
    batches = batches_of(work, settings.serial, settings.canary)
    numbers = {name: number for number, batch in enumerate(batches, 1) for name in batch}
    return _counted(
        {
            "format": FORMAT,
            "version": VERSION,
            "started": settings.started,
            "ended": None,
            "check": settings.check,
            "checkpoint": settings.checkpoint,
            "named": settings.named,
            "since": settings.since,
            "max_fail_percentage": settings.max_fail,
            "command": list(settings.command),
            "by_hand": list(settings.by_hand),
            "stopped": stopped,
            "batches": batches,
            "left": [],
            "resume": None,
            "hosts": [_row(board, numbers.get(board.name), settings, stopped) for board in boards],
        }
    )


def _row(board: Board, batch: int | None, settings: Settings, stopped: str | None) -> Json:
    status, reason = board.status, board.reason
    if board.status == CHANGED:
        reason = f"{'would be changed' if settings.check else 'to be done'}: {', '.join(board.work)}"
        if not settings.check:
            status = NOT_REACHED
            reason = f"the rollout did not begin; {reason}" if stopped else reason
    return {
        "name": board.name,
        "status": status,
        "reason": reason,
        "batch": batch,
        "plan": list(board.work),
        "guests": [dict(guest) for guest in board.guests],
        "fatal": board.fatal,
        "places": dict(board.places),
        "by_hand": None,
    }


def _kept_from(boards: Sequence[Board], settings: Settings) -> str | None:
    """Why a rollout does not begin: what is declared wrong is put right, or left out by whoever runs it."""
    refused = [board.name for board in boards if board.status == REFUSED]
    if refused:
        return (
            f"{_listed(refused)} {_is(refused)} refused, and nothing begins before everything is right; put it right, "
            f"or leave {_it(refused)} out: --limit {_without(refused, settings.subset)}"
        )
    missing = [board.name for board in boards if board.status in (OFFLINE, FAILED) and board.fatal]
    if missing:
        return (
            f"{_listed(missing)} cannot be reached or read, and xen_offline is fail; say skip, or leave {_it(missing)} "
            f"out: --limit {_without(missing, settings.subset)}"
        )
    return None


def _without(names: Sequence[str], subset: str) -> str:
    """A limit that leaves out hosts of those that were meant, as a shell takes it."""
    # Ansible takes commas or colons for what stands between patterns, and no longer colons where there is a comma
    between = "," if "," in subset else ":"
    return shlex.quote(between.join([subset or "all", *(f"!{name}" for name in names)]))


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _was(names: Sequence[str]) -> str:
    return "was" if len(names) == 1 else "were"


def _its(names: Sequence[str]) -> str:
    return "its" if len(names) == 1 else "their"


def _it(names: Sequence[str]) -> str:
    return "it" if len(names) == 1 else "them"


def _listed(names: Sequence[str]) -> str:
    return some(names, _NAMED)


# --- around each batch -----------------------------------------------------------------------------------


def advanced(
    report: Mapping[str, Any], number: int, outcomes: Mapping[str, Mapping[str, Any]] | None = None
) -> Json:
    """The document around a batch.

    Args:
        report: as it was.
        number: of the batch, from 1.
        outcomes: what is known of its boards: ``begun`` (there was a change), ``done`` (all went well), ``changed``,
            ``guests``, ``failed`` (it was reached to the end, and ``task`` failed with ``failure``), ``rollback`` (it
            was to be brought back) and ``restored`` (the result of that). A board that neither was done nor failed was
            lost. None: the batch begins.
    """
    report = check_report(report)
    if report["stopped"]:
        return dict(report)
    batch = report["batches"][number - 1]
    hosts = []
    for row in report["hosts"]:
        if row["name"] not in batch:
            hosts.append(row)
        elif outcomes is None:
            hosts.append({**row, "status": UNDER_WAY, "reason": "being changed"})
        else:
            hosts.append(_became(report, row, outcomes.get(row["name"]) or {}))
    fresh: Json = {**report, "hosts": hosts}
    if outcomes is not None:
        fresh["stopped"] = _stopping(fresh, number)
    return _counted(fresh)


def _became(report: Mapping[str, Any], row: Mapping[str, Any], outcome: Mapping[str, Any]) -> Json:
    """A board's row after its batch."""
    fresh = {**row, "guests": [dict(one) for one in outcome.get("guests") or row["guests"]]}
    if outcome.get("done"):
        told = ", ".join(row["plan"])
        return {**fresh, "status": CHANGED if outcome.get("changed", True) else OK, "reason": told}
    if outcome.get("failed"):
        what = f"{outcome.get('task') or 'a task'}: {why(outcome.get('failure') or {})}"
    else:  # Ansible forgets such a board, we do not
        what = f"lost {'after' if outcome.get('begun') else 'before'} its first change"
        if not outcome.get("begun"):
            return {**fresh, "status": OFFLINE, "reason": what}
    if not outcome.get("begun"):
        return {**fresh, "status": FAILED, "reason": f"nothing was changed: {what}"}
    restored = outcome.get("restored") or {}
    if not outcome.get("rollback", True):
        end = "left as it is (xen_rollout_rollback)"
    elif not restored:
        end = "not rolled back"
    elif restored.get("failed") or restored.get("unreachable"):
        end = f"NOT rolled back: {why(restored)}"
    else:
        end = f"rolled back: {said(restored.get('msg') or 'it runs what it ran before')}"
        return {**fresh, "status": ROLLED_BACK, "reason": f"{what}; {end}"}
    return {**fresh, "status": FAILED, "reason": f"{what}; {end}", "by_hand": _by_hand(report, row["name"])}


def _by_hand(report: Mapping[str, Any], name: str) -> str:
    """The command that brings one board back."""
    row = next(one for one in report["hosts"] if one["name"] == name)
    arguments = {"name": report["checkpoint"], "state": "restored", **row["places"]}
    told = " ".join(f"{option}={shlex.quote(str(value))}" for option, value in arguments.items())
    return shlex.join(["ansible", name, *report["by_hand"], "-m", "xen.virtio.checkpoint", "-a", told])


def _stopping(report: Mapping[str, Any], number: int) -> str | None:
    """Why no other batch begins. A board that was lost after its first change failed, whatever Ansible counts.

    Nor does one begin where none of the first was proven: others would be what it was to be.
    """
    batch, max_fail = report["batches"][number - 1], report["max_fail_percentage"]
    bad = [
        row["name"]
        for row in report["hosts"]
        if row["name"] in batch
        and (row["status"] in (FAILED, ROLLED_BACK) or (row["status"] == OFFLINE and row["fatal"]))
    ]
    share = 100 * len(bad) / len(batch)
    if not bad or share <= max_fail:
        return _unproven(report) if number == 1 and len(report["batches"]) > 1 else None
    of = f"{len(bad)} of {len(batch)}" if len(batch) > 1 else "the only board"
    return (
        f"{_listed(bad)} failed in batch {number} of {len(report['batches'])}: {of} is {share:.0f} %, and "
        f"xen_rollout_max_fail_percentage is {max_fail:g}"
    )


def _unproven(report: Mapping[str, Any]) -> str | None:
    """Why the first batch proves nothing; None where a board came through, or all may fail."""
    batch = report["batches"][0]
    rows = [row for row in report["hosts"] if row["name"] in batch]
    lost = [row["name"] for row in rows if row["status"] == OFFLINE]
    if not lost or any(row["status"] in _SETTLED for row in rows):
        return None
    return (
        f"{_listed(lost)} {_was(lost)} lost before {_its(lost)} first change, and so none of the first batch has shown "
        "that the change is good; run it again, and another board goes first"
    )


# --- at the end ------------------------------------------------------------------------------------------


def ended(report: Mapping[str, Any], when: str, limit_file: str = "") -> Json:
    """The document at the end, with the command that goes on from there.

    Args:
        report: as it was.
        when: the rollout ended, as text.
        limit_file: a file of the controller's that will have the names of boards, where these are many.
    """
    report = check_report(report)
    hosts = []
    for row in report["hosts"]:
        if row["status"] == UNDER_WAY:
            hosts.append({**row, "status": FAILED, "reason": "nobody knows what became of it"})
        elif row["status"] == NOT_REACHED and report["stopped"] and row["reason"].startswith("to be done"):
            hosts.append({**row, "reason": f"the rollout stopped before; {row['reason']}"})
        else:
            hosts.append(row)
    left = [row["name"] for row in hosts if row["status"] not in _SETTLED]
    resume = None
    if left and not report["check"]:
        limit = f"@{limit_file}" if limit_file and len(left) > _LIMITED else ",".join(left)
        resume = shlex.join([*_command(report), "--limit", limit])
    return _counted({**report, "hosts": hosts, "ended": when, "left": left, "resume": resume})


def _command(report: Mapping[str, Any]) -> list[str]:
    """The command line that goes on: what boards kept under a given name since then is what they ran before."""
    since = f"xen_rollout_resume={report['since']}"
    words = list(report["command"])
    return words if not report["named"] or since in words else [*words, "-e", since]


def _counted(report: Json) -> Json:
    """With the figures, and what makes the run fail."""
    statuses = Counter(row["status"] for row in report["hosts"])
    bad = [
        row["name"]
        for row in report["hosts"]
        if row["status"] in (REFUSED, FAILED, ROLLED_BACK) or (row["status"] == OFFLINE and row["fatal"])
    ]
    report["summary"] = {
        "hosts": {"total": len(report["hosts"]), **{name: statuses[name] for name in STATUSES}},
        "batches": len(report["batches"]),
        "stopped": report["stopped"] is not None,
        "failed": bad,
        "resume": report["resume"],
        "message": _message(report, bad),
    }
    return report


def _message(report: Mapping[str, Any], bad: Sequence[str]) -> str | None:
    """Why the run fails, in a line; None where it does not."""
    if not bad and not report["stopped"]:
        return None
    reasons = [f"{row['name']}: {row['reason']}" for row in report["hosts"] if row["name"] in bad]
    return "; ".join([report["stopped"] or "not all hosts are as declared", some(reasons, _NAMED, "; ")])


def check_report(report: object) -> Mapping[str, Any]:
    """A document that this version can go on with. Raises RolloutError."""
    return checked(report, FORMAT, VERSION, "xen.virtio.rollout_plan", RolloutError)
