# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests of an inventory as specifications, for rules that need no host. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from ._guestconfig import GuestError, GuestSpec, declare_guest, read_guest, split_guest
from ._guestwish import check_ours
from ._merge import MergeError, entries

#: What dom0 is called where a disk names no backend domain.
DOM0 = "Domain-0"


def read_specs(guests: object, place: str) -> list[GuestSpec]:
    """The guests of a mapping by name or a list; those that are to be absent are left out.

    Args:
        guests: as an inventory has them, merged.
        place: what to call that in an error.

    Raises:
        MergeError, GuestError, WishError: a guest that cannot be read; the text names it.
    """
    specs = []
    for guest in entries(guests, place):
        config, ours = split_guest(guest)
        check_ours(guest)
        if ours.get("state") == "absent":
            continue
        content = ours.get("content")
        if content is None:
            specs.append(declare_guest(config))
            continue
        if not isinstance(content, str):
            raise MergeError(
                f"{place}: {guest['name']}: content is the text of a configuration, not {content!r}"
            )
        try:
            spec, _notes = read_guest(content)
        except GuestError as error:
            raise MergeError(f"{place}: {guest['name']}: content: {error}") from error
        if spec.name != guest["name"]:
            raise MergeError(f"{place}: {guest['name']}: its content is of a guest called {spec.name}")
        specs.append(spec)
    return specs


def may_reorder(guests: object, place: str) -> frozenset[str]:
    """The guests that say ``allow_reorder``."""
    return frozenset(guest["name"] for guest in entries(guests, place) if check_ours(guest)["allow_reorder"])


def targets_of(specs: Iterable[GuestSpec]) -> dict[str, list[str]]:
    """The targets of all disks by backend domain, each once and in order; what a script takes is none."""
    found: dict[str, dict[str, None]] = {}
    for spec in specs:
        for disk in spec.disks:
            backend = disk.spec.backend
            if disk.spec.target and disk.spec.script is None:
                name = DOM0 if backend is None or backend in ("", "0") else backend
                found.setdefault(name, {})[disk.spec.target] = None
    return {backend: list(targets) for backend, targets in found.items()}
