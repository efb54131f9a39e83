# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Provision disks on a lab host with the modules' own code, without Ansible around it."""

from __future__ import annotations

from typing import Any

from ansible_collections.xen.virtio.plugins.module_utils._disk import run
from ansible_collections.xen.virtio.plugins.module_utils._disk_info import gather
from ansible_collections.xen.virtio.plugins.module_utils._disk_module import ARGUMENT_SPEC, job_of
from ansible_collections.xen.virtio.plugins.module_utils._report import Result
from ansible_collections.xen.virtio.plugins.module_utils._store import Store
from ansible_collections.xen.virtio.plugins.module_utils._xl import Xl
from lab import LabHost

DEFAULTS: dict[str, Any] = {
    name: option.get("default") for name, option in ARGUMENT_SPEC.items() if name != "guests"
} | {"guests": None}


class NoXl(Xl):
    """A host without a toolstack."""

    def __init__(self) -> None:
        super().__init__("/nonexistent/xl")


def userdata(host: LabHost) -> str:
    """The host's /var/lib/xen as seen from outside."""
    return str(host.root / "var/lib/xen")


def provision(
    host: LabHost, *guests: dict[str, Any], socket: str | None = None, check: bool = False, **options: Any
) -> Result:
    """One call of the disk module's code; `wait` is off unless asked for."""
    params = {**DEFAULTS, "wait": False, "xen": "4.20", "userdata_dir": userdata(host), **options}
    params["guests"] = [{"disks": None, "exclusive": False, **guest} for guest in guests]
    for entry in params["accept"]:
        entry.setdefault("domain", None)
    job = job_of(params, check=check)
    with Store(socket or host.socket, timeout=params["timeout"] or 10) as store:
        return run(job, store, NoXl())


def info(host: LabHost, *domains: str, settle: float = 0.0) -> dict[str, dict[str, Any]]:
    """What disk_info says, by domain."""
    with Store(host.socket, timeout=10) as store:
        guests = gather(store, list(domains) or None, settle=settle, userdata=userdata(host))
    return {guest["domain"]: guest for guest in guests}


def disk(
    vdev: str = "xvda", target: str = "/dev/vg/a", backend: str | int = "DomD", **more: Any
) -> dict[str, Any]:
    """A declared disk."""
    return {"vdev": vdev, "target": target, "backend": backend, **more}


def guest(domain: str | int, *disks: object, **more: Any) -> dict[str, Any]:
    """A declared guest."""
    return {"domain": domain, "disks": list(disks), **more}


def actions(result: Result) -> dict[str, str]:
    """vdev → action over all guests."""
    return {f"{g['domain']}/{d['vdev']}": d["action"] for g in result.guests for d in g["disks"]}


def places(result: Result) -> dict[str, int]:
    """vdev → irq over all guests."""
    return {f"{g['domain']}/{d['vdev']}": d["irq"] for g in result.guests for d in g["disks"]}


def codes(result: Result) -> list[str]:
    """The codes of all findings."""
    return [finding["code"] for finding in result.findings]
