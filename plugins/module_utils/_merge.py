# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guests of a host out of an inventory: defaults under each, overrides of the host over them. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from ._diskspec import DiskSpecError, parse, to_mapping
from ._guestdeclare import OURS
from ._vdev import VdevError, devid
from ._words import some


class MergeError(ValueError):
    """Guests, defaults, overrides or a limit that make no sense; the text names the place."""


def entries(guests: object, place: str = "xen_guests") -> list[dict[str, Any]]:
    """Guests as a list of mappings with their names, out of such a list or a mapping by name; None is none.

    Raises:
        MergeError: another shape, a guest without a name or with two, a name twice.
    """
    listed: list[dict[str, Any]] = []
    if isinstance(guests, Mapping):
        for name, guest in guests.items():
            if guest is not None and not isinstance(guest, Mapping):
                raise MergeError(f"{place}: {name}: a guest is a mapping of its options, not {guest!r}")
            said = dict(guest or {})
            if said.get("name", name) != name:
                raise MergeError(f"{place}: {name} calls itself {said['name']!r}; a guest's key is its name")
            listed.append({"name": name, **said})
    elif isinstance(guests, (list, tuple)):
        for index, guest in enumerate(guests):
            if not isinstance(guest, Mapping):
                raise MergeError(f"{place}[{index}]: a guest is a mapping of its options, not {guest!r}")
            listed.append(dict(guest))
    elif guests is not None:
        raise MergeError(f"{place} is a mapping of guests by name, or a list of guests, not {guests!r}")
    seen: set[str] = set()
    for index, said in enumerate(listed):
        name = said.get("name")
        if not isinstance(name, str) or not name.strip():
            raise MergeError(f"{place}[{index}]: a guest needs a name, which is text, not {name!r}")
        if name in seen:
            raise MergeError(f"{place}: two guests are called {name}")
        seen.add(name)
    return listed


def merge_guests(
    xen_guests: object, defaults: object = None, overrides: object = None, limit: object = None
) -> list[dict[str, Any]]:
    """The guests of one host, in their order.

    Args:
        xen_guests: a mapping by name, or a list.
        defaults: options that hold for every guest which does not say otherwise.
        overrides: options by guest that hold whatever the guest says; of ``disks`` those of one device number.
        limit: names of the guests that are meant, as a list or with commas between them; None or empty is all.

    A guest with ``content`` takes of the defaults only what is no option of a configuration. Mappings are merged,
    lists replaced; null takes a default away. What has ``src`` is one thing and replaced.

    Raises:
        MergeError: another shape, or a name that no guest has; the text names the place.
    """
    guests = entries(xen_guests)
    names = [guest["name"] for guest in guests]
    below = _mapping(defaults, "xen_guest_defaults")
    if "name" in below:
        raise MergeError("xen_guest_defaults: a name is no default")
    above = _mapping(overrides, "xen_guest_overrides")
    for name, said in above.items():
        _known(name, names, "xen_guest_overrides")
        if "name" in _mapping(said, f"xen_guest_overrides: {name}"):
            raise MergeError(f"xen_guest_overrides: {name}: a guest keeps its name")
    chosen = _limit(limit)
    for name in chosen:
        _known(name, names, "xen_guest_limit")
    merged = []
    for guest in guests:
        name = guest["name"]
        if chosen and name not in chosen:
            continue
        said = dict(_mapping(above.get(name), f"xen_guest_overrides: {name}"))
        under = _beside_content(below) if _has_content(guest, said) else below
        whole = _over({"name": name, **under}, guest)
        if said.get("disks") is not None:
            place = f"xen_guest_overrides: {name}"
            said["disks"] = _disks(whole.get("disks"), said["disks"], name, place)
        whole = _over(whole, said)
        merged.append({key: value for key, value in whole.items() if value is not None})
    return merged


def _has_content(guest: Mapping[str, Any], said: Mapping[str, Any]) -> bool:
    """Whether a guest has a whole configuration of its own, in which the options of one have no place."""
    return said.get("content", guest.get("content")) is not None


def _beside_content(below: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in below.items() if key in OURS}


def _mapping(given: object, place: str) -> Mapping[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise MergeError(f"{place} is a mapping, not {given!r}")
    return given


def _limit(given: object) -> list[str]:
    names = given.split(",") if isinstance(given, str) else given
    if names is None:
        return []
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise MergeError(f"xen_guest_limit is a list of names of guests, not {given!r}")
    return [name.strip() for name in names if name.strip()]


def _known(name: object, names: list[str], place: str) -> None:
    if name not in names:
        close = difflib.get_close_matches(str(name), names, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {some(names, 12) or 'none'}"
        raise MergeError(f"{place}: no guest is called {name!r}; {hint}")


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both, where they differ the latter; mappings within likewise."""
    whole = dict(below)
    for key, value in above.items():
        under = whole.get(key)
        both = isinstance(under, Mapping) and isinstance(value, Mapping) and "src" not in value
        whole[key] = _over(under, value) if both else value  # type: ignore[arg-type]
    return whole


def _disks(under: object, over: object, name: str, place: str) -> list[Any]:
    """Disks with those of an override put over the ones of the same device number, new ones at the end."""
    if not isinstance(over, (list, tuple)):
        raise MergeError(f"{place}: disks is a list of disk strings or mappings, not {over!r}")
    if under is not None and not isinstance(under, (list, tuple)):
        raise MergeError(f"guest {name}: disks is a list of disk strings or mappings, not {under!r}")
    whole = list(under or ())
    numbers = [_number(disk, f"guest {name}: disks[{index}]") for index, disk in enumerate(whole)]
    given: set[int] = set()
    for index, disk in enumerate(over):
        where = f"{place}: disks[{index}]"
        number = _number(disk, where)
        if number in given:
            raise MergeError(f"{where}: a second override of one disk (device {number})")
        given.add(number)
        if number not in numbers:
            whole.append(disk)
            numbers.append(number)
            continue
        at = numbers.index(number)
        if isinstance(disk, Mapping):
            said = {key: value for key, value in disk.items() if key != "vdev"}
            whole[at] = {**_as_mapping(whole[at]), **said}
        else:
            whole[at] = disk
    return whole


def _as_mapping(disk: object) -> dict[str, Any]:
    """A disk as a mapping with what it says; a string without a specification means xen."""
    if isinstance(disk, Mapping):
        return dict(disk)
    spec = to_mapping(parse(str(disk)))
    said = {key: value for key, value in spec.items() if value is not None and value is not False}
    said.setdefault("specification", "xen")
    return said


def _number(disk: object, place: str) -> int:
    """The device number of a disk."""
    try:
        if isinstance(disk, Mapping):
            vdev = disk.get("vdev")
            if vdev is None or isinstance(vdev, (bool, Mapping, list)):
                raise MergeError(f"{place}: a disk needs its vdev")
            return devid(str(vdev))
        if isinstance(disk, str):
            return devid(parse(disk).vdev)
    except (DiskSpecError, VdevError) as error:
        raise MergeError(f"{place}: {error}") from error
    raise MergeError(f"{place}: a disk is a string or a mapping, not {disk!r}")
