# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user declares about the disks of a host's guests, checked and in one form."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ._diskspec import Declared, DiskSpecError, declare
from ._vdev import VdevError, devid

_GUEST_KEYS = ("domain", "disks", "exclusive")


class DeclarationError(ValueError):
    """A declaration that cannot be read; the text names the guest and the disk."""


@dataclass(frozen=True)
class GuestDeclaration:
    """One guest's disks as declared.

    Attributes:
        domain: name, domid or UUID, as the user wrote it.
        disks: in the user's order; None where the option was left out.
        exclusive: disks that are not listed are to go.
        notes: deprecation remarks on how a disk was written.
    """

    domain: str
    disks: tuple[Declared, ...] | None
    exclusive: bool = False
    notes: tuple[str, ...] = ()


def parse_guests(params: Mapping[str, Any], *, absent: bool = False) -> tuple[GuestDeclaration, ...]:
    """Read ``guests`` or the short form ``domain`` + ``disks`` + ``exclusive``.

    Args:
        params: the task's options.
        absent: the disks are to go: a vdev is all that has to be said of one.

    Raises:
        DeclarationError: unknown keys, wrong types, a disk that cannot be read; the text names the place.
    """
    entries = params.get("guests")
    if entries is None:
        entry = {key: params.get(key) for key in _GUEST_KEYS if params.get(key) is not None}
        return (_guest(entry, "", absent),)
    if params.get("exclusive"):  # not by mutually_exclusive, to which its default would be one that was given
        raise DeclarationError(
            "exclusive beside guests is of no guest: give it to those of guests that are meant"
        )
    return tuple(_guest(entry, f"guests[{index}]", absent) for index, entry in enumerate(entries))


def _guest(entry: object, place: str, absent: bool) -> GuestDeclaration:
    prefix = f"{place}: " if place else ""
    if not isinstance(entry, Mapping):
        raise DeclarationError(f"{prefix}a guest is a mapping with {', '.join(_GUEST_KEYS)}, not {entry!r}")
    for key in entry:
        if key not in _GUEST_KEYS:
            raise DeclarationError(f"{prefix}unknown key {key!r}{nearest(str(key), _GUEST_KEYS)}")
    domain = entry.get("domain")
    if domain is None or isinstance(domain, bool) or not str(domain).strip():
        raise DeclarationError(f"{prefix}domain is required: a name, a domid or a UUID")
    name = str(domain).strip()
    exclusive = entry.get("exclusive", False)
    if not isinstance(exclusive, bool):
        raise DeclarationError(f"{prefix}{name}: exclusive is true or false, not {exclusive!r}")
    disks = entry.get("disks")
    if disks is None:
        return GuestDeclaration(name, None, exclusive)
    if not isinstance(disks, (list, tuple)):
        raise DeclarationError(f"{prefix}{name}: disks is a list of disk strings or mappings, not {disks!r}")
    if not disks and not exclusive:
        raise DeclarationError(
            f"{prefix}{name}: an empty list of disks means that the guest is to have none: "
            "say so with exclusive: true"
        )
    declared = []
    notes: list[str] = []
    for index, disk in enumerate(disks):
        where = f"{place + '.' if place else ''}disks[{index}] ({name})"
        one = _disk(disk, where, absent)
        declared.append(one)
        notes += [f"{where}: {note.message}" for note in one.notes]
    return GuestDeclaration(name, tuple(declared), exclusive, tuple(notes))


def _disk(disk: object, where: str, absent: bool) -> Declared:
    if absent:
        disk = _named_only(disk)
    try:
        declared = declare(disk)
        devid(declared.spec.vdev)
    except (DiskSpecError, VdevError) as error:
        raise DeclarationError(f"{where}: {error}") from error
    return declared


def _named_only(disk: object) -> object:
    """Fill in what a disk that is to go need not say."""
    if isinstance(disk, str) and "," not in disk and "=" not in disk:
        return {"vdev": disk.strip(), "target": "/"}
    if isinstance(disk, Mapping) and disk.get("target") is None:
        return {**disk, "target": "/"}
    return disk


def nearest(key: str, known: tuple[str, ...]) -> str:
    """The end of a sentence about an unknown key: the nearest known one, or all."""
    close = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"
