# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which skip ``make test`` lets pass: one whose reason begins with these words."""

from __future__ import annotations

#: What no installation could change: root, loop devices, swap, another release's packages.
FACT = "a fact of this machine:"
