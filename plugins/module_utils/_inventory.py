# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Domains of Xen hosts as hosts and groups of an inventory. Pure.

What a dom0 tells may be what a guest wrote, or a dom0 that is no longer ours: so every value is looked at before it is
used, names are made harmless, and two that would become one are told apart.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ._diskspec import DiskSpecError, parse
from ._guestpicture import read_driver_domains
from ._guestsecrets import without_secrets

GUEST, DRIVER_DOMAIN, DOM0 = "guest", "driver_domain", "dom0"

#: What dom0 is called where disks name their backend; as xen-init-dom0 names it (tools/helpers/xen-init-dom0.c).
DOM0_LABEL = "Domain-0"
_DOM0_NAMES = ("", "0", "dom0", DOM0_LABEL)

#: How long a host's name may become before it is cut.
LONGEST = 200
_DIGITS = 6

_UNFIT_HOST = re.compile(r"[^A-Za-z0-9_.-]")
_UNFIT_GROUP = re.compile(r"[^A-Za-z0-9_]")

#: Names that mean something else to Ansible.
RESERVED = frozenset({"all", "ungrouped", "localhost", "127.0.0.1"})


@dataclass(frozen=True)
class Placed:
    """A domain and the host that it is in the inventory.

    Attributes:
        board: the inventory's name of its dom0.
        host: its own.
        domain: the variable ``xen_domain``.
        mapped: ``xen_driver_domains`` says so.
    """

    board: str
    host: str
    domain: Mapping[str, Any]
    mapped: bool = False


@dataclass(frozen=True)
class Placement:
    """Where all domains of a fleet go."""

    placed: list[Placed] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


# --- what a domain is ----------------------------------------------------------------------------------


def declared_domains(
    board: str, guests: Iterable[Mapping[str, Any]], drivers: object
) -> list[dict[str, Any]]:
    """The domains that an inventory declares for one host, as `xen_domain` has them.

    Args:
        board: the inventory's name of the host.
        guests: as `merge_guests` gives them.
        drivers: ``xen_driver_domains``.

    Raises:
        DriverDomainsError: `drivers` has another shape.
    """
    known = read_driver_domains(drivers)
    found = []
    for guest in guests:
        name = str(guest["name"])
        state = str(guest.get("state") or "running")
        if state == "absent":
            continue
        driving = name in known or guest.get("driver_domain") is True
        found.append(
            {
                "name": name,
                "kind": DRIVER_DOMAIN if driving else GUEST,
                "dom0": board,
                "state": state,
                "source": "declared",
                "autostart": guest.get("autostart") is True,
                "backends": backends_declared(guest.get("disks")),
                "config": without_secrets("", guest),
            }
        )
    # Xen itself starts some, so that nobody declares them as guests
    for name in known:
        if name not in _DOM0_NAMES and all(one["name"] != name for one in found):
            found.append(_bare(name, DRIVER_DOMAIN, board, "unknown", "declared"))
    return found


def _bare(name: str, kind: str, board: str, state: str, source: str) -> dict[str, Any]:
    return {
        "name": name,
        "kind": kind,
        "dom0": board,
        "state": state,
        "source": source,
        "autostart": False,
        "backends": [],
        "config": None,
    }


def backends_declared(disks: object) -> list[str]:
    """The backend domains that declared disks name, each once, in their order; a disk that cannot be read has none."""
    found: list[str] = []
    for disk in disks if isinstance(disks, (list, tuple)) else ():
        try:
            named = disk.get("backend") if isinstance(disk, Mapping) else parse(str(disk)).backend
        except DiskSpecError:
            continue
        name = "" if named is None else str(named)
        found.append(DOM0_LABEL if name in _DOM0_NAMES else name)
    return list(dict.fromkeys(found))


def live_domains(
    board: str, told: Mapping[str, Any], drivers: object, *, absent: bool = False
) -> list[dict[str, Any]]:
    """The domains that a host told of, as `xen_domain` has them.

    A domain is a driver domain where ``xen_driver_domains`` or its configuration says so, or where dom0's record of
    somebody's disk does; never because of what stands in its own part of the store.

    Args:
        board: the inventory's name of the host.
        told: what `_inventory_read.read_host` gave there.
        drivers: ``xen_driver_domains``.
        absent: also guests that have a configuration and no domain.

    Raises:
        DriverDomainsError: `drivers` has another shape.
    """
    known = read_driver_domains(drivers)
    guests = [guest for guest in _mappings(told.get("guests")) if not guest.get("leftover")]
    serving = {
        disk.get("backend_domid")
        for guest in guests
        for disk in _mappings(guest.get("disks"))
        if disk.get("recorded") is True
    }
    found = []
    for guest in guests:
        name, domid = _text(guest.get("name")), guest.get("domid")
        if name is None or not isinstance(domid, int) or isinstance(domid, bool):
            continue
        driving = name in known or guest.get("driver_domain") is True or domid in serving
        found.append(
            {**_live(guest), "name": name, "kind": DRIVER_DOMAIN if driving else GUEST, "dom0": board}
        )
    names = {one["name"] for one in found}
    for config in _mappings(told.get("configs")) if absent else ():
        name = _text(config.get("name"))
        if name is None or config.get("domid") is not None or name in names:
            continue
        names.add(name)
        said = config.get("config")
        driving = name in known or (isinstance(said, Mapping) and said.get("driver_domain") is True)
        one = _bare(name, DRIVER_DOMAIN if driving else GUEST, board, "absent", "live")
        disks = said.get("disks") if isinstance(said, Mapping) else None
        found.append(
            {
                **one,
                "autostart": config.get("autostart") is True,
                "backends": backends_declared(disks),
                "config": _clean(said),
            }
        )
    return found


def _live(guest: Mapping[str, Any]) -> dict[str, Any]:
    disks = [_clean(disk) for disk in _mappings(guest.get("disks"))]
    backends = [_text(disk.get("backend")) for disk in disks if disk.get("recorded") is True]
    nodes = {
        str(name): node for name, node in _mapping(guest.get("nodes")).items() if isinstance(node, Mapping)
    }
    return {
        "source": "live",
        "state": _text(guest.get("run_state")) or "unknown",
        **{key: _scalar(guest.get(key)) for key in _KEPT},
        "autostart": guest.get("autostart") is True,
        "backends": list(dict.fromkeys(name for name in backends if name)),
        "disks": disks,
        "vifs": [_clean(vif) for vif in _mappings(guest.get("vifs"))],
        "config": _clean(guest.get("config")),
        "created_from": _clean(guest.get("created_from")),
        "xenstore": {
            as_text(name): _text(node.get("value"))
            for name, node in nodes.items()
            if node.get("trusted") is True
        },
        "xenstore_untrusted": {
            as_text(name): _text(node.get("value"))
            for name, node in nodes.items()
            if node.get("trusted") is not True
        },
    }


_KEPT = ("domid", "uuid", "made_by", "reason", "type", "memory", "maxmem", "vcpus", "maxvcpus")


def host_facts(told: Mapping[str, Any]) -> dict[str, Any]:
    """What a dom0 told of itself, as the variable ``xen_host``."""
    host = _mapping(told.get("host"))
    names = ("release", "version", "arch", "toolstack", "cpus", "memory", "memory_free")
    return {name: _scalar(host.get(name)) for name in names}


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _mappings(value: object) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, (list, tuple)) else []


def _text(value: object) -> str | None:
    return as_text(value) if isinstance(value, str) and value else None


def _scalar(value: object) -> Any:
    if isinstance(value, str):
        return as_text(value)
    return value if value is None or isinstance(value, (bool, int, float)) else None


def _clean(value: Any) -> Any:
    """A value of JSON without passwords, every text in it one that can be written anywhere."""
    return _as_text_all(without_secrets("", value))


def _as_text_all(value: Any) -> Any:
    if isinstance(value, str):
        return as_text(value)
    if isinstance(value, Mapping):
        return {as_text(str(key)): _as_text_all(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_text_all(one) for one in value]
    return value


def as_text(text: str) -> str:
    """Text that is text: bytes that are none, which any domain may write, as ``\\xff``."""
    if text.isascii():
        return text
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode("utf-8")


# --- names ---------------------------------------------------------------------------------------------


def safe_host(text: str) -> str:
    """A text as a host's name that no pattern, no command line and no file name takes for more than that."""
    name = _UNFIT_HOST.sub("_", text)[:LONGEST]
    if not name or name[0] in "-.":
        name = f"_{name[1:]}"
    return name


def safe_group(text: str) -> str:
    """A text as a part of a group's name."""
    return _UNFIT_GROUP.sub("_", text)[:LONGEST]


def _digest(*parts: object, digits: int = _DIGITS) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode("utf-8", "backslashreplace")).hexdigest()[:digits]


def distinct(names: Iterable[str], safe: Callable[[str], str]) -> dict[str, str]:
    """Harmless forms of names, as many as there are names.

    A name that is harmless already stays what it is. Of those that are changed, one whose form somebody else has
    too gets a checksum of the name itself to its end: so it does not depend on the order in which they come.
    """
    forms = {name: safe(name) for name in dict.fromkeys(names)}
    shared = Counter(forms.values())
    found = {name: form for name, form in forms.items() if form == name or shared[form] == 1}
    used = set(found.values())
    for name in sorted(set(forms) - set(found)):
        digits = _DIGITS
        while (form := f"{forms[name]}_{_digest(name, digits=digits)}") in used:
            digits += 1  # somebody knows how this is done
        found[name] = form
        used.add(form)
    return {name: found[name] for name in forms}


@dataclass(frozen=True)
class Wish:
    """A domain, and how it would be called.

    Attributes:
        board: the inventory's name of its dom0.
        domain: the variable ``xen_domain``.
        name: of the host, composed by the user; None for the usual one.
    """

    board: str
    domain: Mapping[str, Any]
    name: str | None = None

    @property
    def usual(self) -> str:
        """``<dom0>-<domain>``; the board's name is the inventory's own, and stays as it is."""
        return f"{self.board}-{safe_host('x' + self.domain['name'])[1:]}"


def place(
    wishes: Sequence[Wish], drivers: Mapping[str, object], boards: Collection[str], others: Collection[str]
) -> Placement:
    """Give every domain a host of its own.

    Args:
        wishes: all domains of the fleet.
        drivers: ``xen_driver_domains`` of each board.
        boards: the inventory's names of all dom0s.
        others: hosts and groups that were there before and are none of these domains. The usual name of a domain may
            be one of them, which then is this domain; a composed one, which may come from what a guest wrote, may not.
    """
    mapped: dict[int, str] = {}
    taken: set[str] = set(boards) | RESERVED
    warnings: list[str] = []
    for index, wish in enumerate(wishes):
        host = _mapped_host(drivers.get(wish.board), wish.domain["name"])
        if host is None or wish.domain["kind"] != DRIVER_DOMAIN:
            continue
        if host in taken:
            warnings.append(
                f"{wish.board}: xen_driver_domains says that {wish.domain['name']} is the host {host}, which is a "
                "dom0 or another domain already"
            )
            continue
        mapped[index] = host
        taken.add(host)
    # hosts of driver domains that are not up are theirs all the same
    every = [_mapped_host(said, name) for said in drivers.values() for name in read_driver_domains(said)]
    taken.update(host for host in every if host is not None)
    names = _settled(wishes, mapped, taken, frozenset(others), warnings)
    placed = [
        Placed(wish.board, mapped.get(index) or names[index], wish.domain, index in mapped)
        for index, wish in enumerate(wishes)
    ]
    return Placement(placed, warnings)


def _mapped_host(drivers: object, name: str) -> str | None:
    host = read_driver_domains(drivers).get(name, {}).get("host")
    return host if isinstance(host, str) and host else None


def _settled(
    wishes: Sequence[Wish],
    mapped: Mapping[int, str],
    taken: Collection[str],
    others: frozenset[str],
    warnings: list[str],
) -> dict[int, str]:
    """A name for every domain that no mapping gave one."""
    wanted: dict[str, list[int]] = defaultdict(list)
    for index, wish in enumerate(wishes):
        if index not in mapped:
            wanted[wish.usual if wish.name is None else safe_host(wish.name)].append(index)
    names: dict[int, str] = {}
    used = set(taken)
    for name, indices in wanted.items():
        free = name not in taken and (
            name not in others or all(wishes[index].name is None for index in indices)
        )
        asked_for = [index for index in indices if _said(wishes[index]) == name]
        if free and 1 in (len(asked_for), len(indices)):
            keeps = (asked_for or indices)[0]
            names[keeps] = name
            used.add(name)
    for name, indices in wanted.items():
        for index in indices:
            if index in names:
                continue
            names[index] = _another(name, wishes[index], used | others)
            used.add(names[index])
            warnings.append(
                f"{wishes[index].board}: the domain {wishes[index].domain['name']!r} is the host {names[index]}, "
                f"since {name} is taken"
            )
    return names


def _said(wish: Wish) -> str:
    """The name as it was, before it was made harmless."""
    return f"{wish.board}-{wish.domain['name']}" if wish.name is None else wish.name


def _another(name: str, wish: Wish, used: Collection[str]) -> str:
    """A name of its own that depends on nothing but the domain, as long as that is possible."""
    identity: tuple[object, ...] = (wish.board, wish.domain["name"])
    if (fresh := f"{name}-{_digest(*identity)}") not in used:
        return fresh
    identity += (wish.domain.get("uuid") or wish.domain.get("domid"),)
    digits = _DIGITS
    while (fresh := f"{name}-{_digest(*identity, digits=digits)}") in used:
        digits += 1
        identity += (digits,)
    return fresh


# --- groups --------------------------------------------------------------------------------------------


def groups_of(
    placed: Sequence[Placed], boards: Iterable[str], silent: Collection[str], prefix: str
) -> dict[str, list[str]]:
    """The groups by kind, board, state and backend, each with its hosts in order.

    Args:
        placed: all domains.
        boards: the inventory's names of all dom0s.
        silent: those of them that told nothing.
        prefix: of every group's name.
    """
    groups: dict[str, list[str]] = {f"{prefix}{kind}": [] for kind in (DOM0, DRIVER_DOMAIN, GUEST)}
    board_names = distinct(boards, safe_group)
    groups[f"{prefix}{DOM0}"] += board_names
    for board, name in board_names.items():
        groups[f"{prefix}board_{name}"] = [board]
    states = distinct((one.domain["state"] for one in placed), safe_group)
    backends = distinct((name for one in placed for name in one.domain["backends"]), safe_group)
    for one in placed:
        groups[f"{prefix}{one.domain['kind']}"].append(one.host)
        groups[f"{prefix}board_{board_names[one.board]}"].append(one.host)
        groups.setdefault(f"{prefix}state_{states[one.domain['state']]}", []).append(one.host)
        for name in one.domain["backends"]:
            groups.setdefault(f"{prefix}backend_{backends[name]}", []).append(one.host)
    if silent:
        groups[f"{prefix}unread"] = sorted(silent)
    return groups
