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
from dataclasses import dataclass
from typing import Any

from ._guestconfig import GuestError, GuestSpec, as_mapping, compare, read_guest
from ._guestoptions import KINDS
from ._vdev import VdevError, devid

#: Options worth a default where all guests of all hosts agree: none that is a guest's own, no lists.
_DEFAULTABLE = frozenset(KINDS) - {
    *("name", "uuid", "cmdline", "cpus", "cpus_soft", "device_tree", "seclabel", "init_seclabel"),
    *(
        "bootloader_args",
        "dtdev",
        "iomem",
        "ioports",
        "irqs",
        "llc_colors",
        "pci",
        "vif",
        "channel",
        "serial",
    ),
    *("xenstore_quota", "driver_domain", "rtc_timeoffset"),
}

#: Where a host has guests that others have not, the two mappings are put together by the inventory itself.
TOGETHER = "{{ xen_guests_common | combine(xen_guests_local | default({})) }}"


@dataclass(frozen=True)
class _Found:
    """A guest on a host: what an inventory is to say of it, and what its configuration means."""

    mapping: dict[str, Any]
    spec: GuestSpec
    path: str | None


class _Collector:
    """Notes and refusals by host."""

    def __init__(self) -> None:
        self.notes: list[dict[str, Any]] = []
        self.refused: list[dict[str, Any]] = []

    def tell(
        self, into: list[dict[str, Any]], host: str, path: str | None, name: str | None, text: str
    ) -> None:
        into.append({"host": host, "path": path, "name": name, "message": text})

    def read(self, host: str, entry: Mapping[str, Any]) -> tuple[GuestSpec, list[str]] | None:
        """One configuration; None where it is refused."""
        path, text = entry.get("path") or None, entry.get("text")
        if not isinstance(text, str):
            self.tell(self.refused, host, path, None, "the text of the configuration is missing")
            return None
        try:
            spec, notes = read_guest(text)
        except GuestError as error:
            self.tell(self.refused, host, path, None, str(error))
            return None
        if not _is_utf8(as_mapping(spec)):
            self.tell(
                self.refused, host, path, spec.name, "holds bytes that are not UTF-8: write it as UTF-8"
            )
            return None
        if _TEMPLATE.search(spec.name):
            self.tell(self.refused, host, path, spec.name, "its name looks like a template: rename it")
            return None
        return spec, notes


def _is_utf8(value: object) -> bool:
    if isinstance(value, Mapping):
        return all(_is_utf8(key) and _is_utf8(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return all(_is_utf8(item) for item in value)
    return not isinstance(value, str) or not re.search("[\ud800-\udfff]", value)


def _guests_of(host: str, entries: Iterable[Mapping[str, Any]], told: _Collector) -> dict[str, _Found]:
    """The guests of one host by name."""
    files: dict[str, list[tuple[Mapping[str, Any], GuestSpec, list[str]]]] = {}
    running: dict[str, tuple[GuestSpec, list[str]]] = {}
    alive: dict[str, bool] = {}
    for entry in entries:
        read = told.read(host, entry)
        if read is None:
            continue
        spec, notes = read
        alive[spec.name] = alive.get(spec.name, False) or bool(entry.get("running"))
        if entry.get("path"):
            files.setdefault(spec.name, []).append((entry, spec, notes))
        else:
            running[spec.name] = read
    found: dict[str, _Found] = {}
    for name in dict.fromkeys([*files, *running]):
        made_of = running.get(name)
        path = None
        if name in files:
            chosen = _chosen(host, name, files[name], made_of, told)
            if chosen is None:
                continue
            path, spec, notes = chosen
            if made_of is not None and compare(spec, made_of[0]):
                changed = ", ".join([change.option for change in compare(made_of[0], spec)])
                told.tell(told.notes, host, path, name, f"runs as its file does not say it: {changed}")
        elif made_of is not None:
            spec, notes = made_of
            told.tell(told.notes, host, None, name, "runs without a configuration file of its name")
        for note in notes:
            told.tell(told.notes, host, path, name, note)
        mapping = as_mapping(spec)
        del mapping["name"]
        if not alive[name]:
            mapping = {"state": "configured", **mapping}
        if path is not None:
            mapping = {"path": path, **mapping}
        found[name] = _Found(mapping, spec, path)
    return found


def _chosen(
    host: str,
    name: str,
    files: Sequence[tuple[Mapping[str, Any], GuestSpec, list[str]]],
    made_of: tuple[GuestSpec, list[str]] | None,
    told: _Collector,
) -> tuple[str, GuestSpec, list[str]] | None:
    """Which of the files of one name is the guest's: the only one, the one it runs as, one of many alike."""
    # links for xendomains last
    files = sorted(files, key=_in_auto)
    specs = [spec for _entry, spec, _notes in files]
    at = 0
    if any(compare(specs[0], spec) for spec in specs[1:]):
        alike = (
            [] if made_of is None else [n for n, spec in enumerate(specs) if not compare(spec, made_of[0])]
        )
        if not alike:
            others = ", ".join([str(entry["path"]) for entry, _spec, _notes in files])
            for entry, _spec, _notes in files:
                told.tell(
                    told.refused,
                    host,
                    str(entry["path"]),
                    name,
                    f"{len(files)} different configurations are called {name} ({others}): rename or remove all but one",
                )
            return None
        at = alike[0]
    path = str(files[at][0]["path"])
    for entry, _spec, _notes in files:
        if entry["path"] != path:
            told.tell(
                told.notes, host, str(entry["path"]), name, f"is left alone: {name} is taken from {path}"
            )
    return path, files[at][1], files[at][2]


def _in_auto(file: tuple[Mapping[str, Any], GuestSpec, list[str]]) -> bool:
    return "/auto/" in str(file[0]["path"])


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


def _defaults(guests: Mapping[str, Mapping[str, _Found]]) -> dict[str, Any]:
    """What all guests of all hosts say alike, where there are at least two of different names."""
    names = {name for found in guests.values() for name in found}
    if len(names) < 2:
        return {}
    mappings = [guest.mapping for found in guests.values() for guest in found.values()]
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
    told = _Collector()
    guests = {host: _guests_of(host, entries, told) for host, entries in hosts.items()}
    group: dict[str, Any] = {}
    apart: dict[str, dict[str, Any]] = {host: {} for host in guests}
    defaults = _defaults(guests)
    if defaults:
        group["xen_guest_defaults"] = defaults
    said = {
        host: {name: _without(guest.mapping, defaults) for name, guest in found.items()}
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
    return {"group_vars": group, "host_vars": apart, "notes": told.notes, "refused": told.refused}


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
