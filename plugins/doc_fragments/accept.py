# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The option that names findings which are known and wanted."""

from __future__ import annotations


class ModuleDocFragment:
    """Used as ``xen.virtio.accept``."""

    DOCUMENTATION = r"""
options:
  accept:
    description:
      - Findings that are known and wanted, each by its code, with a reason, for one domain and disk or for all.
      - What destroys data or takes a disk from a guest cannot be accepted.
    type: list
    elements: dict
    default: []
    suboptions:
      code:
        description: The finding's code, such as V(quota).
        type: str
        required: true
      domain:
        description: The domain it is about, all where left out.
        type: str
      vdev:
        description: The disk it is about, all where left out.
        type: str
      reason:
        description: Why it is accepted, for whoever reads the report.
        type: str
        required: true
"""
