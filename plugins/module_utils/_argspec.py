# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that modules share, each in a doc fragment of ours, and the session they name."""

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
    "lib_dir": {"type": "path", "default": "/usr/local/lib/xen-virtio"},
    "unit_dir": {"type": "path", "default": "/etc/systemd/system"},
    "xen": {"type": "raw"},
    "hidden": {"type": "list", "elements": "str", "default": []},
}


def host_argument_spec(*names: str) -> dict[str, Any]:
    """Those of the options that say what a host is and where it keeps things; a new dict each time."""
    return {name: dict(_HOST[name]) for name in names}


#: Seconds for what is done to a guest, where a task says nothing else.
LIMITS: Mapping[str, float] = {
    "shutdown_timeout": 60,
    "create_timeout": 180,
    "wait_timeout": 10,
    "settle": 0.5,
    "lock_timeout": 60,
}
#: The same for a whole restore, and for following the restart of a driver domain.
RESTORE_TIMEOUT, FOLLOW = 1800, 3600


def limits_argument_spec() -> dict[str, Any]:
    """The options that say how long what is done to a guest may take; a new dict each time."""
    return {name: {"type": "float", "default": default} for name, default in LIMITS.items()}


def accept_argument_spec() -> dict[str, Any]:
    """The option that names findings which are known and wanted; a new dict each time."""
    acceptance = {
        "code": {"type": "str", "required": True},
        "domain": {"type": "str"},
        "vdev": {"type": "str"},
        "reason": {"type": "str", "required": True},
    }
    return {"accept": {"type": "list", "elements": "dict", "default": [], "options": acceptance}}


def domains_argument_spec() -> dict[str, Any]:
    """The options that say whose disks to read, and how; a new dict each time."""
    return {
        "domains": {"type": "list", "elements": "raw", "aliases": ["domain"]},
        "settle": {"type": "float", "default": 0},
    }


def wanted_domains(params: Mapping[str, Any]) -> list[str] | None:
    """The domains that a task asks for, None for all of them."""
    return None if params["domains"] is None else [str(domain) for domain in params["domains"]]


def open_store(params: Mapping[str, Any]) -> Store:
    """A session with the store that a task's options name. Raises StoreError."""
    return Store(params["socket"] or params["xenbus"], timeout=params["timeout"])
