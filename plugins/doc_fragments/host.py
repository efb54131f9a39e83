# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that say what a host is and where it keeps things."""

from __future__ import annotations


class ModuleDocFragment:
    """``xen.virtio.host`` for libxl's records; beside it ``….release``, ``….xl``, ``….config``, and so on."""

    DOCUMENTATION = r"""
options:
  userdata_dir:
    description: Where libxl keeps its records of domains, by which one that xl made is told from others.
    type: path
    default: /var/lib/xen
"""

    RELEASE = r"""
options:
  xen:
    description:
      - The host's Xen release, such as V("4.20"), quoted, or V(v6) for a toolstack that carries the patch series' sixth
        version.
      - Asked of the host where left out.
    type: raw
"""

    XL = r"""
options:
  xl_path:
    description: The xl command, found on the usual paths where it has no slash.
    type: str
    default: xl
"""

    CONFIG = r"""
options:
  config_dir:
    description:
      - Where the guests' configurations lie on the host.
      - A configuration is a guest's by the C(name) that stands in it, whatever its file is called.
    type: path
    default: /etc/xen
"""

    STATE = r"""
options:
  state_dir:
    description:
      - Where M(xen.virtio.guest) keeps what a guest was made from, and the kernels and other files that it copied.
    type: path
    default: /var/lib/xen-virtio
"""

    HIDDEN = r"""
options:
  hidden:
    description:
      - Options of guests whose values are shown to nobody in results, reasons and differences, such as V(cmdline).
      - Of C(extra_config) a key is named as in V(extra_config.bios), and V(extra_config) means all of them.
      - The same options are hidden in the text of a configuration, and in libxl's record of a domain, where whatever
        may stand for one of them is hidden as well.
      - That something differs is told all the same. V(name) and V(disks) cannot be hidden. Passwords are hidden
        without this, by their names.
      - Errors may quote the line or the value that is wrong.
    type: list
    elements: str
    default: []
"""

    BOOT = r"""
options:
  lib_dir:
    description: Where the code that runs at boot is kept on the host.
    type: path
    default: /usr/local/lib/xen-virtio
  unit_dir:
    description: Where the systemd units that run it are put.
    type: path
    default: /etc/systemd/system
"""
