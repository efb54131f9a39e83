# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules of this collection say about themselves."""

from __future__ import annotations


class ModuleDocFragment:
    """``xen.virtio.attributes``; ``….info`` for modules that only read; beside either ``….group``."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and say what would change without changing it.
  diff_mode:
    description: Will return details on what has changed, or would in C(check_mode), when in diff mode.
  idempotent:
    description: When run twice in a row outside check mode with the same arguments, the second run changes nothing.
    details: Unless somebody else changes in between what it looks after.
  platform:
    description: Target operating systems.
    support: full
    platforms: Linux with Xen
"""

    INFO = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and say what would change without changing it.
    support: full
    details: This module only reads.
  diff_mode:
    description: Will return details on what has changed, or would in C(check_mode), when in diff mode.
    support: N/A
    details: This module only reads.
  idempotent:
    description: When run twice in a row outside check mode with the same arguments, the second run changes nothing.
    support: full
    details: This module only reads.
  platform:
    description: Target operating systems.
    support: full
    platforms: Linux with Xen
"""

    #: For the members of the action group in meta/runtime.yml.
    GROUP = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/xen.virtio.all) in C(module_defaults) to set defaults for this module.
    support: full
    membership: [xen.virtio.all]
"""
