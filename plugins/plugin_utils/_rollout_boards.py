# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rollout has to do on one board, or why it may not: out of what was read there in check mode. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..module_utils._findings import ERROR, Finding, summary
from ._backend_versions import outdated

#: What a row of the report says of a host.
OK, CHANGED, REFUSED, FAILED = "ok", "changed", "refused", "failed"
ROLLED_BACK, OFFLINE, NOT_REACHED, UNDER_WAY = "rolled back", "offline", "not reached", "under way"

#: A target that is not there yet is what storage tasks are for.
_STORAGE = "target-missing"

#: What is done with a guest that has no domain yet, or gets another.
_COMING = ("created", "started", "recreated", "restarted")

#: Characters of a reason that somebody else's message is.
_LIMIT = 400


class RolloutError(ValueError):
    """What a rollout is to be planned from makes no sense."""


@dataclass(frozen=True)
class Board:
    """One board as it stands before the first change.

    Attributes:
        name: of the inventory's host.
        status: `OK`, `CHANGED` (something is to be done), `REFUSED`, `FAILED` (reached, and not readable) or `OFFLINE`.
        reason: why, as sentences; empty where there is nothing to say.
        work: what is to be done, a line each.
        guests: the declared guests: ``name``, ``action``, ``domid``, ``reasons``.
        fatal: whether one that is off, or cannot be read, ends the rollout (``xen_offline: fail``).
        places: options of modules that say where things are on it, of those that the inventory has.
    """

    name: str
    status: str
    reason: str = ""
    work: tuple[str, ...] = ()
    guests: tuple[Mapping[str, Any], ...] = ()
    fatal: bool = False
    places: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class _Judged:
    """What was found wrong, and what is to be done."""

    wrong: list[str] = field(default_factory=list)
    work: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Driver:
    """A driver domain that can be looked into, and what was seen there.

    Attributes:
        domain: its name.
        host: through which it is reached.
        read: the result of module fleet_info, or whatever came in its place.
        planned: it is a guest of the board that comes up only with the rollout.
    """

    domain: str
    host: str
    read: Mapping[str, Any]
    planned: bool = False


def board_of(entry: object, files: Mapping[str, str | None], *, everything: bool = False) -> Board:
    """A board out of what the plan of role guest left of it.

    Args:
        entry: ``name`` and: ``read`` (the result of module guest in check mode), ``drivers`` (results of module
            fleet_info, with the ``item`` of their loop: ``key``, the domain, and ``value.host``), ``served_here``
            (driver domains that are guests of the board), ``images`` (of filter guest_images), ``sources`` (where),
            ``errors`` (of filter preflight), ``storage`` (there are storage tasks), ``backend`` (what is declared of
            daemons), ``offline`` (``skip`` or ``fail``), ``places`` (options of modules that say where things are),
            ``problem`` (why nothing could be put together).
        files: SHA-256 of files on the controller by their paths, None where there is none.
        everything: boards without work go through as well.

    Raises:
        RolloutError: the entry is of another shape.
    """
    if not isinstance(entry, Mapping) or not entry.get("name"):
        raise RolloutError(f"a board is a mapping with name and read, not {entry!r:.80}")
    name = str(entry["name"])
    fatal = entry.get("offline") == "fail"
    read = _mapping(entry.get("read"))
    guests = tuple(_guest(one) for one in read.get("guests") or ())
    drivers = _drivers(entry, guests)
    away = _away(read, drivers)
    if away is not None:
        return Board(name, OFFLINE, away, guests=guests, fatal=fatal)
    if entry.get("problem"):
        return Board(name, REFUSED, said(entry["problem"]))
    unread = _unread(read, drivers)
    if unread is not None:
        return Board(name, FAILED, unread, fatal=fatal)
    judged = _Judged()
    _judge_guests(judged, read, entry)
    _judge_images(judged, entry, files)
    if judged.wrong:
        return Board(name, REFUSED, " ".join(judged.wrong), guests=guests)
    _judge_backends(judged, _mapping(entry.get("backend")), drivers)
    if everything and not judged.work:
        judged.work.append("nothing is known to differ; all boards were asked for")
    status = CHANGED if judged.work else OK
    places = _mapping(entry.get("places"))
    return Board(name, status, work=tuple(judged.work), guests=guests, fatal=fatal, places=places)


def said(text: object) -> str:
    """A message as one line that is not endless."""
    line = " ".join(str(text).split())
    return line if len(line) <= _LIMIT else f"{line[: _LIMIT - 1]}…"


def why(read: Mapping[str, Any]) -> str:
    """What a task that failed says of itself; of a loop, what the first item that failed says."""
    for one in read.get("results") or ():
        if isinstance(one, Mapping) and (one.get("failed") or one.get("unreachable")):
            return why(one)
    return said(read.get("msg") or read.get("module_stderr") or "it gave no answer")


def _mapping(given: object) -> Mapping[str, Any]:
    return given if isinstance(given, Mapping) else {}


def _guest(one: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": str(one["name"]),
        "action": str(one.get("action", "unchanged")),
        "domid": one.get("domid"),
        "reasons": [str(reason) for reason in one.get("recreate_reasons") or ()],
    }


def _drivers(entry: Mapping[str, Any], guests: Iterable[Mapping[str, Any]]) -> list[Driver]:
    coming = {one["name"] for one in guests if one["action"] in _COMING}
    coming &= set(entry.get("served_here") or ())
    found = []
    for read in entry.get("drivers") or ():
        item = _mapping(_mapping(read).get("item"))
        if "key" in item:
            domain = str(item["key"])
            host = str(_mapping(item.get("value")).get("host"))
            found.append(Driver(domain, host, read, domain in coming))
    return found


# --- reached, and read -----------------------------------------------------------------------------------


def _away(read: Mapping[str, Any], drivers: Iterable[Driver]) -> str | None:
    """Why the board, or what serves its disks, cannot be reached; None where it was."""
    if read.get("unreachable"):
        return why(read)
    for one in drivers:
        if one.read.get("unreachable") and not one.planned:
            return f"its driver domain {one.domain} ({one.host}) cannot be reached: {why(one.read)}"
    return None


def _unread(read: Mapping[str, Any], drivers: Iterable[Driver]) -> str | None:
    """Why nothing can be said of the board although it was reached."""
    if read.get("failed") and (read.get("unread") or "guests" not in read):
        return why(read)
    for one in drivers:
        if one.read.get("failed"):
            return f"its driver domain {one.domain} ({one.host}) cannot be read: {why(one.read)}"
    return None


# --- what is wrong, what is to be done -------------------------------------------------------------------


def _judge_guests(judged: _Judged, read: Mapping[str, Any], entry: Mapping[str, Any]) -> None:
    findings = [Finding(**one) for one in read.get("findings") or ()]
    wrong = [one for one in findings if one.severity == ERROR]
    wrong += [one for one in _declared(entry) if not any(_same(one, other) for other in wrong)]
    missing = [one for one in wrong if one.code == _STORAGE] if entry.get("storage") else []
    judged.wrong += [f"{_told(one)} [{one.code}]. {one.remedy}" for one in wrong if one not in missing]
    if read.get("failed"):
        refusal = _beyond(str(read.get("msg") or ""), findings)
        if refusal:
            judged.wrong.insert(0, said(refusal if refusal.endswith(".") else f"{refusal}."))
        elif not wrong:
            judged.wrong.append(why(read))
    for one in read.get("guests") or ():
        if one.get("action", "unchanged") != "unchanged":
            reasons = "; ".join(map(str, one.get("recreate_reasons") or ()))
            judged.work.append(f"{one['name']} {one['action']}{f' ({said(reasons)})' if reasons else ''}")
    if read.get("changed") and not judged.work:
        judged.work.append("what is kept of guests on the host")
    judged.work += [f"storage: {_told(one)}" for one in missing]


def _told(one: Finding) -> str:
    return f"{one.domain}: {one.message}" if one.domain else one.message


def _declared(entry: Mapping[str, Any]) -> list[Finding]:
    found = [Finding(**one) for one in entry.get("errors") or ()]
    return [one for one in found if one.severity == ERROR]


def _same(one: Finding, other: Finding) -> bool:
    return (one.code, one.domain, one.vdev) == (other.code, other.domain, other.vdev)


def _beyond(message: str, findings: Sequence[Finding]) -> str:
    """What a refusal says beside its findings."""
    if any(one.severity == ERROR for one in findings):
        message = message.removesuffix(summary(list(findings))).strip().removesuffix(".")
    return message


def _judge_images(judged: _Judged, entry: Mapping[str, Any], files: Mapping[str, str | None]) -> None:
    """Files that guests are made from lie on the controller, and are those that were declared."""
    sources = _mapping(entry.get("sources"))
    for one in entry.get("images") or ():
        path = str(sources.get(one["src"], one["src"]))
        users = ", ".join(one["guests"])
        if path not in files:
            continue
        found = files[path]
        if found is None:
            judged.wrong.append(f"{users}: {path} is not on the controller; bring it there.")
        elif found != one["sha256"]:
            judged.wrong.append(
                f"{users}: {path} on the controller has the checksum sha256:{found}, and "
                f"sha256:{one['sha256']} was declared; bring the right file, or declare the checksum that it has."
            )


def _judge_backends(judged: _Judged, wanted: Mapping[str, Any], drivers: Iterable[Driver]) -> None:
    """Driver domains whose daemon or launcher is not what is declared of it, as far as one look tells."""
    for one in drivers if wanted else ():
        differs = _backend_differs(wanted, _mapping(one.read.get("backend")))
        if differs is not None:
            judged.work.append(f"{one.domain} ({one.host}): {differs}")


def _backend_differs(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> str | None:
    """In what the daemons of a driver domain differ from what is declared; None where no difference is seen."""
    launcher, daemon = _mapping(found.get("launcher")), _mapping(found.get("daemon"))
    status, ours = launcher.get("status"), str(wanted.get("launcher") or "")
    old = outdated(wanted, daemon.get("version"))
    foreign = any(one.get("code") == "foreign-daemon" for one in found.get("findings") or ())
    seen = [
        (not launcher.get("installed"), "the launcher is not installed"),
        (
            status != "ready",
            f"the launcher is not ready ({launcher.get('reason') or status or 'it said nothing'})",
        ),
        (ours and launcher.get("version") != ours, f"launcher {launcher.get('version')} -> {ours}"),
        (not daemon.get("real_path"), "the daemon is not installed"),
        (old, f"daemon {' -> '.join(old or ())}"),
        (foreign, "a daemon runs there that is not the launcher's"),
    ]
    return next((told for differs, told in seen if differs), None)
