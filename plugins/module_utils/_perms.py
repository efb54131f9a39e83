# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node's permissions mean, whichever way they are written."""

from __future__ import annotations

from collections.abc import Sequence


def same_perms(left: Sequence[str], right: Sequence[str]) -> bool:
    """Whether two lists of permissions mean the same.

    The first entry is the owner's and the default; of the others only the first of a domain counts, in any
    order, and none of the owner's own, who may do everything.
    """
    return _meaning(left) == _meaning(right)


def _meaning(perms: Sequence[str]) -> tuple[str, dict[str, str]]:
    if not perms:
        return "", {}
    others: dict[str, str] = {}
    for perm in perms[1:]:
        if perm[1:] != perms[0][1:]:
            others.setdefault(perm[1:], perm[0])
    return perms[0], others
