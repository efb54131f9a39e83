# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists in messages. Pure."""

from __future__ import annotations

from collections.abc import Sequence


def some(items: Sequence[str], most: int, glue: str = ", ") -> str:
    """The first of some texts, and how many more there are."""
    left = len(items) - most
    return glue.join([*items[:most], *([f"and {left} more"] if left > 0 else [])])
