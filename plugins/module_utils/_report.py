# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a call says at its end, and disks in it: one shape for one disk and for a thousand. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ._layout import (
    BACKEND,
    FRONTEND,
    RECORD,
    Attachment,
    Difference,
    attachment,
    backend_path,
    frontend_path,
    record_path,
)
from ._plan import REMOVED, UNCHANGED, DiskPlan, GuestPlan, health, vdev_of
from ._snapshot import Domain, LiveDisk, Snapshot, XenDisk


@dataclass
class Result:
    """What a call found, did and left.

    `failed` holds the sentence for a person where it did not end as declared.
    """

    changed: bool = False
    guests: list[dict[str, Any]] = field(default_factory=list)
    findings: list[dict[str, Any]] = field(default_factory=list)
    accepted: list[dict[str, Any]] = field(default_factory=list)
    diff: list[dict[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    deprecations: list[str] = field(default_factory=list)
    failed: str | None = None
    msg: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The keys of the module's result."""
        return {
            "changed": self.changed,
            "guests": self.guests,
            "findings": self.findings,
            "accepted": self.accepted,
            "diff": self.diff,
            "msg": self.failed or self.msg,
        }


def disk_result(
    disk: Attachment, domains: dict[int, Domain], *, action: str | None, state: str | None, healthy: str
) -> dict[str, Any]:
    """A virtio disk as `guests[].disks[]` has it."""
    backend = domains.get(disk.backend_domid)
    result = {
        "vdev": disk.vdev,
        "devid": disk.devid,
        "target": disk.target,
        "access": "ro" if disk.readonly else "rw",
        "format": "raw",
        "backend": backend.label if backend else str(disk.backend_domid),
        "backend_domid": disk.backend_domid,
        "backendtype": "standalone",
        "specification": "virtio",
        "transport": "mmio",
        "base": disk.base,
        "irq": disk.irq,
        "grant_usage": disk.grant_usage,
        "backend_path": backend_path(disk.backend_domid, disk.domid, disk.devid),
        "frontend_path": frontend_path(disk.domid, disk.devid),
        "state": state,
        "health": healthy,
    }
    if action is not None:
        result["action"] = action
    return result


def xen_result(
    domid: int,
    devid: int,
    spec: dict[str, Any],
    backend: int | None,
    *,
    action: str | None,
    state: str | None,
) -> dict[str, Any]:
    """A xen disk in the same shape; what only virtio disks have is null."""
    result = {
        "vdev": spec["vdev"],
        "devid": devid,
        "target": spec["target"],
        "access": spec["access"],
        "format": spec["format"],
        "backend": spec["backend"],
        "backend_domid": backend,
        "backendtype": spec["backendtype"],
        "specification": "xen",
        "transport": None,
        "base": None,
        "irq": None,
        "grant_usage": None,
        "backend_path": None if backend is None else f"/local/domain/{backend}/backend/vbd/{domid}/{devid}",
        "frontend_path": f"/local/domain/{domid}/device/vbd/{devid}",
        "state": state,
        "health": "unknown",
    }
    if action is not None:
        result["action"] = action
    return result


def xen_live(disk: XenDisk, domains: dict[int, Domain], action: str | None) -> dict[str, Any]:
    """A xen disk as its record has it."""
    nodes = disk.nodes
    kind = nodes.get("type")
    form, _colon, target = nodes.get("params", "").partition(":") if kind != "phy" else ("raw", "", "")
    backend = None if disk.backend_domid is None else domains.get(disk.backend_domid)
    spec = {
        "vdev": nodes.get("dev", str(disk.devid)),
        "target": nodes.get("params") if kind == "phy" else target,
        "access": "rw" if nodes.get("mode") == "w" else "ro",
        "format": "raw" if kind == "phy" else form,
        "backend": backend.label if backend else None,
        "backendtype": kind,
    }
    return xen_result(disk.domid, disk.devid, spec, disk.backend_domid, action=action, state=None)


def live_attachment(live: LiveDisk) -> Attachment:
    """The disk that a live one's record (else its backend) describes; bare where neither can be read."""
    backend = live.backend_domid if live.backend_domid is not None else 0
    trusted = live.frontend.nodes.get("trusted") if live.frontend else None
    if live.source is not None:
        return attachment(live.domid, live.devid, backend, live.source, trusted)
    return Attachment(live.domid, backend, live.devid, vdev_of(live), "", readonly=False, base=0, irq=0)


def drift(disk: Attachment, found: Iterable[Difference]) -> list[dict[str, Any]]:
    """Differences as results carry them, by full path."""
    tops = {
        RECORD: record_path(disk.domid, disk.devid),
        FRONTEND: frontend_path(disk.domid, disk.devid),
        BACKEND: backend_path(disk.backend_domid, disk.domid, disk.devid),
    }
    listed = []
    for one in found:
        path = one.node if one.node.startswith("/") else "/".join(filter(None, (tops[one.tree], one.node)))
        listed.append({"node": path, "what": one.what, "expected": one.wanted, "found": one.found})
    return listed


def planned_disk(guest: GuestPlan, disk: DiskPlan, snapshot: Snapshot) -> dict[str, Any]:
    """A disk as it stood when the plan was made, with what would become of it."""
    if disk.specification == "xen":
        return _xen_disk(guest, disk, snapshot)
    shown = _shown(guest, disk)
    healthy = health(disk.live, guest.domain.alive, disk.differences)
    state = None if disk.live is None else disk.live.state
    result = disk_result(shown, snapshot.domains, action=disk.action, state=state, healthy=healthy)
    if disk.differences:
        result["drift"] = drift(shown, disk.differences)
    return result


#: A disk's health after a run, by the state it was last seen in.
_HEALTH = {"1": "pending", "2": "attached", "5": "closing", "6": "closed", None: "missing"}


def finished_disk(guest: GuestPlan, disk: DiskPlan, snapshot: Snapshot, state: str | None) -> dict[str, Any]:
    """A disk after the plan was carried out; `state` is what its backend was in when last read."""
    if disk.specification == "xen":
        return _xen_disk(guest, disk, snapshot)
    if disk.action == REMOVED:
        state = None
    healthy = _HEALTH.get(state, "pending")
    return disk_result(
        _shown(guest, disk), snapshot.domains, action=disk.action, state=state, healthy=healthy
    )


def _shown(guest: GuestPlan, disk: DiskPlan) -> Attachment:
    if disk.wanted is not None:
        return disk.wanted
    if disk.live is not None:
        return live_attachment(disk.live)
    return Attachment(guest.domain.domid, 0, disk.devid, disk.vdev, "", readonly=False, base=0, irq=0)


def _xen_disk(guest: GuestPlan, disk: DiskPlan, snapshot: Snapshot) -> dict[str, Any]:
    live = disk.xen_live
    if live is not None and (disk.spec is None or disk.action == REMOVED):
        return xen_live(live, snapshot.domains, disk.action)
    wanted = ("vdev", "target", "access", "format", "backendtype", "backend")
    spec = {name: getattr(disk.spec, name, None) for name in wanted}
    spec["backend"] = spec["backend"] or "Domain-0"
    backend = next((int(one.wanted) for one in disk.differences if one.node == "backend-id"), None)
    if backend is None and live is not None:
        backend = live.backend_domid
    return xen_result(guest.domain.domid, disk.devid, spec, backend, action=disk.action, state=None)


def diff(guest: GuestPlan, snapshot: Snapshot) -> dict[str, str]:
    """What becomes of a guest's disks, as text for ``--diff``; disks that stay as they are, are left out."""
    before: list[str] = []
    after: list[str] = []
    for disk in guest.disks:
        if disk.action == UNCHANGED:
            continue
        then, later = _both_sides(disk, snapshot.domains)
        before += then
        after += later
    head = f"{guest.reference} (domain {guest.domain.domid})" if guest.domain.domid >= 0 else guest.reference
    return {
        "before_header": head,
        "after_header": head,
        "before": "".join(f"{line}\n" for line in before),
        "after": "".join(f"{line}\n" for line in after),
    }


def _both_sides(disk: DiskPlan, domains: dict[int, Domain]) -> tuple[list[str], list[str]]:
    if disk.specification == "xen":
        return _xen_sides(disk, domains)
    live = live_attachment(disk.live) if disk.live is not None else None
    before = [] if live is None else _block(live, domains)
    after = [] if disk.wanted is None else _block(disk.wanted, domains)
    if disk.wanted is None or before != after:
        return before, after
    # the disk itself is the declared one: only what drifted is worth a line
    before, after = before[:1], after[:1]
    for one in drift(disk.wanted, disk.differences):
        what = " (permissions)" if one["what"] == "permissions" else ""
        found = "missing" if one["found"] is None else _safe(one["found"])
        before.append(f"  {one['node']}{what}: {found}")
        after.append(f"  {one['node']}{what}: {_safe(one['expected'])}")
    return before, after


def _block(disk: Attachment, domains: dict[int, Domain]) -> list[str]:
    backend = domains.get(disk.backend_domid)
    label = backend.label if backend else "domain"
    lines = [
        f"{_safe(disk.vdev)} ({disk.devid}):",
        f"  target: {_safe(disk.target)}",
        f"  access: {'ro' if disk.readonly else 'rw'}",
        f"  backend: {_safe(label)} ({disk.backend_domid})",
        f"  base: {disk.base:#x}",
        f"  irq: {disk.irq}",
        f"  grant_usage: {_yes(disk.grant_usage)}",
        f"  discard: {_yes(disk.discard)}",
    ]
    if disk.cdrom:
        lines.append("  devtype: cdrom")
    if disk.direct_io_safe:
        lines.append("  direct_io_safe: true")
    if not disk.trusted:
        lines.append("  trusted: false")
    return lines


def _xen_sides(disk: DiskPlan, domains: dict[int, Domain]) -> tuple[list[str], list[str]]:
    before: list[str] = []
    after: list[str] = []
    head = f"{_safe(disk.vdev)} ({disk.devid}): xen"
    if disk.xen_live is not None:
        shown = xen_live(disk.xen_live, domains, None)
        before = [
            head,
            f"  target: {_safe(str(shown['target']))}",
            f"  access: {shown['access']}",
            f"  backend: {shown['backend']}",
        ]
    if disk.spec is not None and disk.action != REMOVED:
        after = [
            head,
            f"  target: {_safe(disk.spec.target or '')}",
            f"  access: {disk.spec.access}",
            f"  backend: {disk.spec.backend or 'Domain-0'}",
        ]
    return before, after


def _yes(value: bool) -> str:
    return "true" if value else "false"


def _safe(text: str) -> str:
    """Text that a guest may have written, fit for a terminal: control characters and stray bytes escaped."""
    if text.isprintable() and text == text.strip():
        return text
    return ascii(text)


def counts(guests: Iterable[dict[str, Any]]) -> dict[str, int]:
    """How many disks of a result each action concerns."""
    found: dict[str, int] = {}
    for guest in guests:
        for disk in guest["disks"]:
            if disk["action"] != UNCHANGED:
                found[disk["action"]] = found.get(disk["action"], 0) + 1
    return found
