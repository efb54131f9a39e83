# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet as one neutral document: what `_fleet_rules` finds on each host, and what each host is. Pure.

Everything else that an audit shows, a table or a page, is drawn from this document alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..module_utils._findings import (
    AUDIT_CODES,
    CODES,
    ERROR,
    WARNING,
    Acceptance,
    AcceptanceError,
    Finding,
    parse_acceptances,
)
from ._document import checked
from ._fleet_rules import Driver, Host, examine

#: What the document is, and which shape it has: a reader refuses another number.
FORMAT, VERSION = "xen.virtio/fleet-report", 1

OK, UNKNOWN = "ok", "unknown"

#: From good to bad; a limit names the worst that is let pass.
SEVERITIES = ("none", WARNING, ERROR)

#: The worst first, as reports list hosts.
_ORDER = {ERROR: 0, WARNING: 1, UNKNOWN: 2, OK: 3}

_DISK_KEYS = (
    "vdev",
    "devid",
    "target",
    "access",
    "backend",
    "backend_domid",
    "specification",
    "grant_usage",
    "state",
    "health",
)


class FleetError(ValueError):
    """What is to be reported on is of another shape."""


def fleet_report(hosts: object, generated: str, title: str = "Xen fleet") -> dict[str, Any]:
    """The report.

    Args:
        hosts: one mapping a host: ``name``, ``read`` (a result of module fleet_info, with ``msg`` where it is none),
            ``declared`` (guests or their names), ``driver_domains`` (as ``xen_driver_domains``), ``drivers`` (by
            driver domain, a result of fleet_info in it), ``backend`` (what is declared of daemons: ``install``,
            ``version``, ``checksum``), ``accept`` and ``offline`` (``skip`` or ``fail``: whether one
            that cannot be reached is a warning or an error), and ``problems`` (what of its variables made no sense,
            as sentences). What makes no sense here is such a problem as well, and leaves everything else as it is.
        generated: when, as text.
        title: what the fleet is called.

    Raises:
        FleetError: another shape.
    """
    if not isinstance(hosts, (list, tuple)):
        raise FleetError(f"a list of hosts is expected, not {type(hosts).__name__}")
    read = [_entry(entry) for entry in hosts]
    newest = _newest(one.host for one in read)
    listed = [
        _shown(one.host, [*examine(one.host), *_outdated(one.host, newest), *_senseless(one)], one.accepted)
        for one in read
    ]
    listed.sort(key=lambda one: (_ORDER[one["status"]], one["name"]))
    return {
        "format": FORMAT,
        "version": VERSION,
        "title": title,
        "generated": generated,
        "summary": _summary(listed),
        "codes": dict(sorted({**AUDIT_CODES, **CODES}.items())),
        "hosts": listed,
    }


def check_report(report: object) -> Mapping[str, Any]:
    """A report that this version can draw. Raises FleetError."""
    return checked(report, FORMAT, VERSION, "xen.virtio.fleet_report", FleetError)


def exceeding(report: Mapping[str, Any], limit: str) -> list[dict[str, Any]]:
    """The findings that are worse than a limit, accepted ones apart. Raises FleetError."""
    if limit not in SEVERITIES:
        raise FleetError(f"a limit is one of {', '.join(SEVERITIES)}, not {limit!r}")
    return [
        one
        for host in report["hosts"]
        for one in host["findings"]
        if one["accepted"] is None and SEVERITIES.index(one["severity"]) > SEVERITIES.index(limit)
    ]


# --- what was read ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Entry:
    """A host, what of its findings is accepted, and what of its variables makes no sense."""

    host: Host
    accepted: tuple[Acceptance, ...]
    problems: tuple[str, ...]


def _entry(entry: object) -> _Entry:
    if not isinstance(entry, Mapping) or not entry.get("name"):
        raise FleetError(f"a host is a mapping with name and read, not {entry!r:.80}")
    problems = [str(one) for one in entry.get("problems") or ()]
    links = _links(entry.get("driver_domains"), problems)
    accepted = _acceptances(entry.get("accept"), problems)
    host = _host(entry, links)
    if host.error is not None and not _said(entry) and problems:
        host = replace(host, error=problems.pop(0))
    elif host.error is not None and not _result(entry.get("read")).get("unreachable"):
        problems = []  # what kept it from being read, most likely, and told with that
    return _Entry(host, accepted, tuple(problems))


def _links(given: object, problems: list[str]) -> dict[str, Mapping[str, Any]]:
    """Driver domains as the inventory links them to hosts."""
    if isinstance(given, (list, tuple)):
        given = {str(name): None for name in given}
    if not given:
        return {}
    if not isinstance(given, Mapping):
        problems.append(f"xen_driver_domains is a mapping of driver domains by name, not {given!r:.80}")
        return {}
    links: dict[str, Mapping[str, Any]] = {}
    for name, said in given.items():
        links[str(name)] = said if isinstance(said, Mapping) else {}
        if said is not None and not isinstance(said, Mapping):
            problems.append(
                f"xen_driver_domains: {name}: a mapping with its host is expected, not {said!r:.80}"
            )
    return links


def _said(entry: Mapping[str, Any]) -> bool:
    read = _result(entry.get("read"))
    return bool(read.get("msg") or read.get("module_stderr"))


def _senseless(one: _Entry) -> Iterable[Finding]:
    for problem in one.problems:
        yield Finding(
            "inventory",
            ERROR,
            None,
            None,
            f"what the inventory says of {one.host.name} makes no sense: {' '.join(problem.split())}",
            "What it was to say is not looked at: nothing of it is compared, linked or accepted.",
            "Put the variable right in host_vars or group_vars; ansible-inventory --host shows what holds there.",
        )


def _host(entry: Mapping[str, Any], links: Mapping[str, Mapping[str, Any]]) -> Host:
    read = _result(entry.get("read"))
    usable = read if "host" in read else None
    results = _result(entry.get("drivers"))
    offline = ERROR if entry.get("offline") == "fail" else WARNING
    return Host(
        name=str(entry["name"]),
        read=usable,
        error=None if usable is not None else _why(read),
        declared=frozenset(
            str(one["name"] if isinstance(one, Mapping) else one) for one in entry.get("declared") or ()
        ),
        drivers={
            name: _driver(name, said.get("host"), results.get(name), offline) for name, said in links.items()
        },
        severity=_severity(read, offline),
        wanted=_result(entry.get("backend")),
    )


def _severity(read: Mapping[str, Any], offline: str) -> str:
    """How bad it is that nothing was read: a host that is off may be meant to be, one that was reached may not fail."""
    return offline if read.get("unreachable") else ERROR


def _driver(name: str, host: object, result: object, offline: str) -> Driver:
    read = _result(result)
    backend = read.get("backend")
    linked = None if host is None else str(host)
    if backend is not None or linked is None or result is None:
        return Driver(name, linked, backend)
    return Driver(name, linked, None, _why(read), _severity(read, offline))


def _result(given: object) -> Mapping[str, Any]:
    return given if isinstance(given, Mapping) else {}


def _why(read: Mapping[str, Any]) -> str:
    text = " ".join(str(read.get("msg") or read.get("module_stderr") or "it gave no answer").split())
    return text if len(text) <= 300 else f"{text[:299]}…"


def _acceptances(given: object, problems: list[str]) -> tuple[Acceptance, ...]:
    """What is accepted, each by itself: one with a mistake in it keeps no other from being accepted."""
    if given and not isinstance(given, (list, tuple)):
        problems.append(f"xen_accept: a list is expected, not {given!r:.80}")
        return ()
    accepted: list[Acceptance] = []
    for one in given or ():  # type: ignore[attr-defined]  # a list by now
        try:
            accepted += parse_acceptances([one])
        except AcceptanceError as error:
            problems.append(f"xen_accept: {str(error).removeprefix('accept: ')}")
    return tuple(accepted)


# --- over the fleet --------------------------------------------------------------------------------------


def _number(version: object) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d{1,9}", str(version))[:4])


def _newest(hosts: Iterable[Host]) -> tuple[tuple[int, ...], str]:
    """The newest launcher of the fleet. Any driver domain may write there: what is no version counts for nothing."""
    found = [
        str(one["launcher"])
        for host in hosts
        for one in host.backends
        if re.fullmatch(r"\d{1,4}\.\d{1,4}\.\d{1,4}", str(one["launcher"] or ""))
    ]
    return max(((_number(one), one) for one in found), default=((), ""))


def _outdated(host: Host, newest: tuple[tuple[int, ...], str]) -> Iterable[Finding]:
    for one in host.backends:
        if one["launcher"] and _number(one["launcher"]) < newest[0]:
            yield Finding(
                "daemon-outdated",
                WARNING,
                one["domain"],
                None,
                f"the launcher in {one['domain']} is {one['launcher']}, and {newest[1]} runs elsewhere in the fleet",
                "What was put right since then is missing there.",
                "Run the role virtio_disk_backend; it restarts the launcher and no daemon.",
            )


def _summary(hosts: list[dict[str, Any]]) -> dict[str, Any]:
    statuses = Counter(one["status"] for one in hosts)
    findings = [one for host in hosts for one in host["findings"]]
    standing = [one for one in findings if one["accepted"] is None]
    severities = Counter(one["severity"] for one in standing)
    releases = Counter(host["xen"]["release"] or UNKNOWN for host in hosts if host["status"] != UNKNOWN)
    return {
        "hosts": {"total": len(hosts), **{name: statuses[name] for name in (OK, WARNING, ERROR, UNKNOWN)}},
        "domains": sum(len(host["domains"]) for host in hosts),
        "disks": sum(len(domain["disks"]) for host in hosts for domain in host["domains"]),
        "findings": {ERROR: severities[ERROR], WARNING: severities[WARNING]},
        "accepted": len(findings) - len(standing),
        "codes": dict(sorted(Counter(one["code"] for one in standing).items())),
        "releases": dict(sorted(releases.items())),
        "worst": max((one["severity"] for one in standing), key=SEVERITIES.index, default="none"),
    }


# --- one host --------------------------------------------------------------------------------------------


def _shown(host: Host, found: list[Finding], accepted: tuple[Acceptance, ...]) -> dict[str, Any]:
    findings = [
        {
            **asdict(one),
            "host": host.name,
            "accepted": _reason(one, accepted),
        }
        for one in sorted(found, key=_rank)
    ]
    standing = [one for one in findings if one["accepted"] is None]
    about = (host.read or {}).get("host") or {}
    xen = about.get("xen") or {}
    unchecked = sorted(
        {one["domain"] for one in host.backends if one["domid"] and one["disks"]}
        - {name for name, one in host.drivers.items() if one.backend is not None}
    )
    return {
        "name": host.name,
        "status": UNKNOWN if host.read is None else _worst(standing),
        "error": host.error,
        "xen": {
            "release": xen.get("release"),
            "version": xen.get("version"),
            "arch": xen.get("arch"),
            "xenstored": ((about.get("daemons") or {}).get("xenstored") or {}).get("kind"),
        },
        "memory": about.get("memory") or {"total": None, "free": None},
        "unchecked": unchecked,
        "backends": [_backend(one, host, standing) for one in host.backends if one["domid"] or one["disks"]],
        "domains": [_domain(one, host, standing) for one in host.guests],
        "findings": findings,
    }


def _rank(one: Finding) -> tuple[Any, ...]:
    return one.severity != ERROR, one.code, one.domain or "", one.vdev or "", one.message


def _reason(one: Finding, accepted: Iterable[Acceptance]) -> str | None:
    for acceptance in accepted:
        if acceptance.covers(one):
            return acceptance.reason
    return None


def _worst(findings: Iterable[Mapping[str, Any]]) -> str:
    severities = {one["severity"] for one in findings}
    return ERROR if ERROR in severities else WARNING if WARNING in severities else OK


def _backend(one: Mapping[str, Any], host: Host, standing: list[dict[str, Any]]) -> dict[str, Any]:
    inside = host.serving().get(one["domain"]) or {}
    return {
        "name": one["domain"],
        "domid": one["domid"],
        "alive": one["alive"],
        "status": _worst(each for each in standing if each["domain"] == one["domain"]),
        "daemon": one["status"],
        "launcher": one["launcher"],
        "version": (inside.get("daemon") or {}).get("version"),
        "disks": one["disks"],
        "guests": one["guests"],
        "headroom": one["headroom"],
    }


def _domain(guest: Mapping[str, Any], host: Host, standing: list[dict[str, Any]]) -> dict[str, Any]:
    name = guest["name"]
    mine = [one for one in standing if one["domain"] == name]
    serves = any(one["domain"] == name and one["domid"] == guest["domid"] for one in host.backends)
    return {
        "name": name,
        "domid": guest["domid"],
        "kind": "driver" if serves or name in host.drivers else "guest",
        "made_by": guest["made_by"],
        "declared": name in host.declared or name in host.drivers,
        "run_state": guest["run_state"],
        "leftover": guest["leftover"],
        "memory": guest["memory"],
        "vcpus": guest["vcpus"],
        "status": _worst(mine),
        "disks": [_disk(disk, mine) for disk in guest["disks"]],
    }


def _disk(disk: Mapping[str, Any], findings: list[dict[str, Any]]) -> dict[str, Any]:
    """A disk; one that does not work stands as its domain does where no finding is about the disk itself."""
    shown = {key: disk.get(key) for key in _DISK_KEYS}
    status = _worst(one for one in findings if one["vdev"] == disk["vdev"])
    working = disk["health"] in ("attached", UNKNOWN)
    shown["status"] = _worst(findings) if status == OK and not working else status
    return shown
