# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of the doc fragments ``xen.virtio.store`` and ``xen.virtio.host``, and the session they name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._store import Store

STORE_MUTUALLY_EXCLUSIVE = (("socket", "xenbus"),)


def store_argument_spec() -> dict[str, Any]:
    """The options that say how to reach xenstored; a new dict each time."""
    return {
        "socket": {"type": "path"},
        "xenbus": {"type": "path"},
        "timeout": {"type": "float", "default": 10.0},
    }


_HOST: dict[str, dict[str, Any]] = {
    "userdata_dir": {"type": "path", "default": "/var/lib/xen"},
    "xl_path": {"type": "str", "default": "xl"},
    "config_dir": {"type": "path", "default": "/etc/xen"},
    "state_dir": {"type": "path", "default": "/var/lib/xen-virtio"},
}


def host_argument_spec(*names: str) -> dict[str, Any]:
    """Those of the options that say where a host keeps what is Xen's; a new dict each time."""
    return {name: dict(_HOST[name]) for name in names}


def open_store(params: Mapping[str, Any]) -> Store:
    """A session with the store that a task's options name. Raises StoreError."""
    return Store(params["socket"] or params["xenbus"], timeout=params["timeout"])
