# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that say whose disks are read, and how."""

from __future__ import annotations


class ModuleDocFragment:
    """Used as ``xen.virtio.domains``."""

    DOCUMENTATION = r"""
options:
  domains:
    description:
      - Names, domids or UUIDs of the guests to read.
      - Left out, all are read, and what dead domains left behind.
    type: list
    elements: raw
    aliases: [domain]
  settle:
    description: Seconds after which a disk in state 2 must still be in it to count as attached. 0 reads once.
    type: float
    default: 0
"""
