# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab: real xenstored, oxenstored, xl and libxl on a machine without a hypervisor.

See README.md beside this file for what is real and what is not.
"""

from __future__ import annotations

from .errors import LabError, LabUnavailable
from .host import LabHost

__all__ = ["LabError", "LabHost", "LabUnavailable"]
