# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each Xen release, and version 6 of the virtio disk patches before them, accepts."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace


class DialectError(ValueError):
    """A Xen release that is not one, or not one with virtio disks."""


@dataclass(frozen=True)
class Dialect:
    """One release's disk language.

    ``name`` is "v6" or a release ("4.17"); ``options`` holds what it accepts beyond what all of them do;
    ``note`` tells what was assumed when the release asked for is not the one described.
    """

    name: str
    options: frozenset[str]
    note: str | None = field(default=None, compare=False)

    def accepts(self, option: str) -> bool:
        """Whether a disk (or guest) option is known: every option outside OPTIONS is known to all."""
        return option in self.options or option not in OPTIONS

    def __str__(self) -> str:
        return "the V6 patches" if self.name == "v6" else f"Xen {self.name}"


# Options that not every dialect has, by the first release that takes them in a configuration file.
#   virtio                  the flag of V6: today specification=virtio
#   specification, standalone (as a backendtype)    libxlu_disk_l.l, Xen commit 66dd1c62b2
#   trusted                 in libxlu_disk_l.l of 4.17 and 4.18 too, but their shipped scanner was not
#                           generated again: a syntax error there until 4.19
#   grant_usage             Xen commit 1eb013ef97; also the xenstore node of that name
#   virtio_devices          virtio = [ ... ] in xl.cfg
#   nr_spis, trap_unmapped_accesses, xenstore_quota   of a guest
_SINCE = {
    "specification": "4.17",
    "standalone": "4.17",
    "virtio_devices": "4.18",
    "trusted": "4.19",
    "grant_usage": "4.19",
    "nr_spis": "4.19",
    "trap_unmapped_accesses": "4.21",
    "xenstore_quota": "4.22",
}
OPTIONS: frozenset[str] = frozenset(_SINCE) | {"virtio"}

RELEASES: tuple[str, ...] = ("4.17", "4.18", "4.19", "4.20", "4.21", "4.22")


def _number(release: str) -> tuple[int, int]:
    major, minor = release.split(".")
    return int(major), int(minor)


def _release(name: str) -> Dialect:
    return Dialect(name, frozenset(o for o, since in _SINCE.items() if _number(since) <= _number(name)))


DIALECTS = {"v6": Dialect("v6", frozenset({"virtio"})), **{name: _release(name) for name in RELEASES}}
V6 = DIALECTS["v6"]
NEWEST = DIALECTS[RELEASES[-1]]

_VERSION = re.compile(r"\s*(\d{1,4})\.(\d{1,4})(?![\d])(?:[.+~_-].*)?\s*\Z", re.ASCII)
_KNOWN = f"known are {', '.join(RELEASES)} and v6"


def since(option: str) -> str | None:
    """The first release that accepts ``option`` ("4.19"), None where every one does or none (V6's flag)."""
    return _SINCE.get(option)


def parse_dialect(value: object) -> Dialect:
    """The dialect of a release as a user or ``xl info`` writes it: "4.17", "4.17.7", "4.20-rc", "v6".

    A release newer than the newest known is read as that one, which ``note`` then says. Raises DialectError
    for anything else; numbers are refused, since YAML reads an unquoted 4.20 as 4.2.
    """
    if isinstance(value, Dialect):
        return value
    if isinstance(value, (int, float)):
        raise DialectError(f'Xen release {value!r} is a number: quote it, as in xen: "4.20" ({_KNOWN})')
    if not isinstance(value, str):
        raise DialectError(f"a Xen release is text, not {type(value).__name__} ({_KNOWN})")
    name = value.strip().lower()
    if name in DIALECTS:
        return DIALECTS[name]
    if re.match(r"v\d+(\.\d+)?\Z", name, re.ASCII):
        raise DialectError(
            f"{value!r}: of the patch series only v6 is known; V11 was merged as Xen 4.17, "
            f"the others never shipped ({_KNOWN})"
        )
    version = _VERSION.match(value)
    if not version:
        raise DialectError(f"{value!r} is not a Xen release ({_KNOWN})")
    number = int(version[1]), int(version[2])
    known = f"{number[0]}.{number[1]}"
    if known in DIALECTS:
        return DIALECTS[known]
    if number > _number(NEWEST.name):
        return replace(
            NEWEST, note=f"Xen {known} is newer than {NEWEST.name}, the newest known: read as that"
        )
    hint = "; for Xen 4.20 write the zero, in quotes" if number == (4, 2) else ""
    raise DialectError(f"Xen {known} has no virtio disks ({_KNOWN}){hint}")
