# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that say how to reach xenstored."""

from __future__ import annotations


class ModuleDocFragment:
    """Used as ``xen.virtio.store``."""

    DOCUMENTATION = r"""
options:
  socket:
    description:
      - The unix socket of xenstored, such as V(/run/xenstored/socket) in dom0.
      - If neither this nor O(xenbus) is given, the store is found as libxenstore finds it, that is with the environment
        variables E(XENSTORED_PATH) and E(XENSTORED_RUNDIR), at V(/run/xenstored/socket), at V(/dev/xen/xenbus) and at
        V(/proc/xen/xenbus).
      - Mutually exclusive with O(xenbus).
    type: path
  xenbus:
    description:
      - The xenbus device, V(/dev/xen/xenbus) in a domain other than dom0, such as a driver domain.
      - A socket at that path is used as one.
      - Mutually exclusive with O(socket).
    type: path
  timeout:
    description:
      - Seconds to wait for an answer of xenstored at most, for each answer anew.
      - A xenstored that is stopped, killed or restarted while the module runs is an error within this time.
    type: float
    default: 10.0
requirements:
  - A Xen store that is reached through a unix socket or the xenbus device, which takes root as a rule
  - The Python library pyxs is used where it is installed, and not needed
"""
