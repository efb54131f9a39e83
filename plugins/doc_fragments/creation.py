# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that say how long the end and the creation of domains may take, and what keeps others out meanwhile."""

from __future__ import annotations


class ModuleDocFragment:
    """Used as ``xen.virtio.creation``."""

    DOCUMENTATION = r"""
options:
  shutdown_timeout:
    description: Seconds for a domain to power off after it was asked to.
    type: float
    default: 60
  create_timeout:
    description:
      - Seconds for one C(xl create). libxl gives backends 10 s, and the building of large guests takes its time before
        that.
    type: float
    default: 180
  wait_timeout:
    description: Seconds for the disks of a new domain to be served.
    type: float
    default: 10
  settle:
    description: Seconds after which the disks of a new domain must still be served. It runs only after that.
    type: float
    default: 0.5
  lock_timeout:
    description: Seconds to wait for another run that changes the same guests.
    type: float
    default: 60
  lock_dir:
    description: Where runs at the same time keep out of each other's way.
    type: path
    default: /run/xen-virtio
"""
