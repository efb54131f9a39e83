# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way in: an inventory out of the xl configurations that hosts have. Pure.

What hosts have in common goes to their group, the rest to each host, such that what _merge makes of both
again means the configurations found.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ._guestconfig import GuestError, GuestSpec, as_mapping, compare, read_guest
from ._guestkinds import Quota, Texts
from ._guestoptions import KINDS
from ._vdev import VdevError, devid

#: Options that are a guest's own, though others may happen to say the same.
_OWN = (
    "name",
    "uuid",
    "cmdline",
    "cpus",
    "cpus_soft",
    "device_tree",
    "seclabel",
    "init_seclabel",
    "driver_domain",
)

#: Options worth a default where all guests of all hosts agree: single values that are not a guest's own.
_DEFAULTABLE = frozenset(
    name for name, kind in KINDS.items() if name not in _OWN and not isinstance(kind, (Texts, Quota))
)

#: Where a host has guests that others have not, the two mappings are put together by the inventory itself.
TOGETHER = "{{ xen_guests_common | combine(xen_guests_local | default({})) }}"


class _Text(NamedTuple):
    """A configuration that was read."""

    path: str | None  #: None where it is what a running domain was made from
    spec: GuestSpec
    notes: list[str]


class _Collector:
    """What is told of one host."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.notes: list[dict[str, Any]] = []
        self.refused: list[dict[str, Any]] = []

    def note(self, path: str | None, name: str | None, message: str) -> None:
        self.notes.append({"host": self.host, "path": path, "name": name, "message": message})

    def refuse(self, path: str | None, name: str | None, message: str) -> None:
        self.refused.append({"host": self.host, "path": path, "name": name, "message": message})

    def read(self, entry: Mapping[str, Any]) -> _Text | None:
        """One configuration; None where it is refused."""
        path, text = entry.get("path") or None, entry.get("text")
        if not isinstance(text, str):
            self.refuse(path, None, "the text of the configuration is missing")
            return None
        try:
            spec, notes = read_guest(text)
        except GuestError as error:
            self.refuse(path, None, str(error))
            return None
        if not _is_utf8(as_mapping(spec)):
            self.refuse(path, spec.name, "holds bytes that are not UTF-8: write it as UTF-8")
            return None
        if _TEMPLATE.search(spec.name):
            self.refuse(path, spec.name, "its name looks like a template: rename it")
            return None
        return _Text(path, spec, notes)


def _is_utf8(value: object) -> bool:
    if isinstance(value, Mapping):
        return all(_is_utf8(key) and _is_utf8(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return all(_is_utf8(item) for item in value)
    return not isinstance(value, str) or not re.search("[\ud800-\udfff]", value)


def _guests_of(entries: Iterable[Mapping[str, Any]], told: _Collector) -> dict[str, dict[str, Any]]:
    """The guests of one host by name, as an inventory is to have them, less their names."""
    files: dict[str, list[_Text]] = {}
    running: dict[str, _Text] = {}
    alive: set[str] = set()
    for entry in entries:
        text = told.read(entry)
        if text is None:
            continue
        if entry.get("running"):
            alive.add(text.spec.name)
        if text.path is None:
            running[text.spec.name] = text
        else:
            files.setdefault(text.spec.name, []).append(text)
    guests = {}
    for name in dict.fromkeys([*files, *running]):
        chosen = _chosen(name, files.get(name, []), running.get(name), told)
        if chosen is None:
            continue
        for note in chosen.notes:
            told.note(chosen.path, name, note)
        mapping = as_mapping(chosen.spec)
        del mapping["name"]
        beside = {} if chosen.path is None else {"path": chosen.path}
        if name not in alive:
            beside["state"] = "configured"
        guests[name] = {**beside, **mapping}
    return guests


def _chosen(name: str, files: list[_Text], made_of: _Text | None, told: _Collector) -> _Text | None:
    """Which of the texts of one name is the guest's: its only file, the one it runs as, one of many alike."""
    if not files:
        told.note(None, name, "runs without a configuration file of its name")
        return made_of
    files = sorted(files, key=_is_link)
    fitting = files
    if any(compare(files[0].spec, file.spec) for file in files[1:]):
        fitting = [file for file in files if made_of is not None and not compare(file.spec, made_of.spec)]
    if not fitting:
        paths = ", ".join([str(file.path) for file in files])
        for file in files:
            message = f"{len(files)} different configurations are called {name} ({paths}): keep or rename all but one"
            told.refuse(file.path, name, message)
        return None
    chosen = fitting[0]
    for file in files:
        if file is not chosen:
            told.note(file.path, name, f"is left alone: {name} is taken from {chosen.path}")
    changes = compare(made_of.spec, chosen.spec) if made_of is not None else []
    if changes:
        options = ", ".join([change.option for change in changes])
        told.note(chosen.path, name, f"runs as its file does not say it: {options}")
    return chosen


def _is_link(file: _Text) -> bool:
    """Whether it lies where xendomains looks for links."""
    return "/auto/" in str(file.path)


# --- common and apart ------------------------------------------------------------------------------------


def _apart(mappings: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What all of ``mappings`` say alike, and of each what it says beside."""
    common: dict[str, Any] = {}
    rest: list[dict[str, Any]] = [{} for _mapping in mappings]
    for key in dict.fromkeys([key for mapping in mappings for key in mapping]):
        values = [mapping.get(key) for mapping in mappings]
        if all(key in mapping for mapping in mappings):
            if all(value == values[0] for value in values):
                common[key] = values[0]
                continue
            parted = _parted(key, values)
            if parted is not None:
                common[key] = parted[0]
                for left, value in zip(rest, parted[1]):
                    if value:
                        left[key] = value
                continue
        for left, mapping in zip(rest, mappings):
            if key in mapping:
                left[key] = mapping[key]
    return common, rest


def _parted(key: str, values: Sequence[Any]) -> tuple[Any, list[Any]] | None:
    """The same within a value that is put together again key by key: a mapping, or disks of equal numbers."""
    if all(isinstance(value, Mapping) for value in values):
        common, rest = _apart(values)
        return (common, list(rest)) if common else None
    if key != "disks":
        return None
    numbers = [[_number(disk["vdev"]) for disk in value] for value in values]
    if any(row != numbers[0] or len(set(row)) != len(row) for row in numbers):
        return None
    commons = []
    rests: list[list[dict[str, Any]]] = [[] for _value in values]
    for disks in zip(*values):
        common, rest = _apart([{**disk, "vdev": disks[0]["vdev"]} for disk in disks])
        commons.append(common)
        for left, said in zip(rests, rest):
            if said:
                left.append({"vdev": common["vdev"], **said})
    return commons, list(rests)


def _number(vdev: str) -> int | str:
    try:
        return devid(vdev)
    except VdevError:
        return vdev


def _defaults(guests: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What all guests of all hosts say alike, where there are at least two of different names."""
    names = {name for found in guests.values() for name in found}
    if len(names) < 2:
        return {}
    mappings = [guest for found in guests.values() for guest in found.values()]
    return {
        key: value
        for key, value in mappings[0].items()
        if key in _DEFAULTABLE and all(mapping.get(key) == value for mapping in mappings)
    }


def inventory_of(hosts: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """An inventory out of what hosts have.

    Args:
        hosts: for each host its configurations as mappings of ``path``, ``text`` and ``running`` (whether a
            domain of its name is alive). Without a path it is the text a running domain was made from.

    Returns:
        ``group_vars`` and, by host, ``host_vars``, with xen_guests, xen_guest_defaults and
        xen_guest_overrides as _merge takes them; ``notes`` and ``refused``, each with host, path, name and
        message. Guests that are on all of several hosts are the group's, with overrides where hosts differ;
        others are their host's. Where a group has both, TOGETHER joins xen_guests_common and
        xen_guests_local. A guest that is not running is ``configured``: its run state is left alone.
    """
    told = {host: _Collector(host) for host in hosts}
    guests = {host: _guests_of(entries, told[host]) for host, entries in hosts.items()}
    group: dict[str, Any] = {}
    apart: dict[str, dict[str, Any]] = {host: {} for host in guests}
    defaults = _defaults(guests)
    if defaults:
        group["xen_guest_defaults"] = defaults
    said = {
        host: {name: _without(guest, defaults) for name, guest in found.items()}
        for host, found in guests.items()
    }
    shared = [name for name in next(iter(said.values()), {}) if all(name in found for found in said.values())]
    common: dict[str, Any] = {}
    for name in shared if len(said) > 1 else []:
        common[name], rest = _apart([found.pop(name) for found in said.values()])
        for host, left in zip(said, rest):
            if left:
                apart[host].setdefault("xen_guest_overrides", {})[name] = left
    local = {host: found for host, found in said.items() if found}
    if common and local:
        group.update({"xen_guests_common": common, "xen_guests": TOGETHER})
    elif common:
        group["xen_guests"] = common
    for host, found in local.items():
        apart[host] = {"xen_guests_local" if common else "xen_guests": found, **apart[host]}
    return {
        "group_vars": group,
        "host_vars": apart,
        "notes": [note for one in told.values() for note in one.notes],
        "refused": [refusal for one in told.values() for refusal in one.refused],
    }


def _without(mapping: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if key not in defaults}


# --- written ---------------------------------------------------------------------------------------------

_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*\Z", re.ASCII)
_WORDS = frozenset(("y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"))
_TEMPLATE = re.compile(r"\{[{%#]")
_NAMED = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def _scalar(value: object, *, key: bool = False) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return str(value)
    text = str(value)
    if _PLAIN.match(text) and text.lower() not in _WORDS:
        return text
    quoted = "".join([_NAMED.get(letter) or _letter(letter) for letter in text])
    unsafe = "!unsafe " if _TEMPLATE.search(text) and text != TOGETHER and not key else ""
    return f'{unsafe}"{quoted}"'


def _letter(letter: str) -> str:
    if letter.isprintable():
        return letter
    number = ord(letter)
    return (
        f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}" if number < 65536 else f"\\U{number:08x}"
    )


def _lines(key: object, value: object, indent: str) -> Iterator[str]:
    head = f"{indent}{_scalar(key, key=True)}:"
    if isinstance(value, Mapping) and value:
        yield head
        for inner, item in value.items():
            yield from _lines(inner, item, indent + "  ")
    elif isinstance(value, (list, tuple)) and value:
        yield head
        for item in value:
            yield f"{indent}  - {_flow(item)}"
    else:
        yield f"{head} {_flow(value)}"


def _flow(value: object) -> str:
    if isinstance(value, Mapping):
        return (
            "{" + ", ".join([f"{_scalar(key, key=True)}: {_flow(item)}" for key, item in value.items()]) + "}"
        )
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join([_flow(item) for item in value]) + "]"
    return _scalar(value)


def to_yaml(data: Mapping[str, Any]) -> str:
    """``data`` as a YAML file of variables.

    What a host's configuration says may look like a template; such text is marked ``!unsafe``, so that
    Ansible never evaluates it.
    """
    lines = [line for key, value in data.items() for line in _lines(key, value, "")]
    return "\n".join(["---", *(lines or ["{}"]), ""])
