# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What disks a host's guests have, from all three trees, and how they are. Never changes a thing."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ._layout import BACKEND, STATE_INIT_WAIT, Attachment, Difference, backend_path, differences, schema_of
from ._plan import health
from ._report import disk_result, drift, live_attachment, xen_live
from ._settle import states
from ._snapshot import Domain, LiveDisk, Snapshot, is_domid, resolve
from ._store import Store
from ._survey import USERDATA_DIR, Scope, survey


def gather(
    store: Store, references: Iterable[str] | None, *, settle: float = 0.0, userdata: str = USERDATA_DIR
) -> list[dict[str, Any]]:
    """The disks of some or of all domains.

    Args:
        store: a session.
        references: names, domids or UUIDs; None for all domains, and what dead ones left behind.
        settle: seconds after which a disk in state 2 must still be; 0 reads once.
        userdata: libxl's folder of domain records.

    Returns:
        One entry a guest, in the order asked for, else by domid; guests without disks only where asked for.

    Raises:
        ResolveError: a domain nobody answers to.
        EmptyStoreError, StoreError: the store says nothing.
    """
    asked = None if references is None else [str(reference) for reference in references]
    resolved: list[tuple[str, Domain]] = []

    def scope(domains: dict[int, Domain]) -> Scope:
        if asked is None:
            return Scope(None)
        resolved.extend((reference, find(reference, domains)) for reference in asked)
        return Scope({domain.domid for _reference, domain in resolved})

    snapshot = survey(store, scope, userdata=userdata)
    if asked is None:
        busy = {domid for domid, _devid in snapshot.disks} | {
            d for d, xen in snapshot.xen_disks.items() if xen
        }
        chosen = [(snapshot.domain(domid).label, snapshot.domain(domid)) for domid in sorted(busy)]
    else:
        chosen = [(reference, snapshot.domain(domain.domid)) for reference, domain in resolved]
    if settle > 0:
        snapshot = settled(store, snapshot, settle)
    return [_guest(label, domain, snapshot) for label, domain in chosen]


def find(reference: str, domains: dict[int, Domain]) -> Domain:
    """A domain as named; a bare domid also where the domain is gone, for what it left behind."""
    if is_domid(reference) and int(reference) not in domains:
        return Domain(int(reference), alive=False)
    return resolve(domains, reference)


def settled(store: Store, snapshot: Snapshot, settle: float) -> Snapshot:
    """The snapshot with the states of disks in state 2 read again after a while."""
    serving = {key: live for key, live in snapshot.disks.items() if live.state == STATE_INIT_WAIT}
    if not serving:
        return snapshot
    time.sleep(settle)
    later = states(store, [live_attachment(live) for live in serving.values()])
    disks = dict(snapshot.disks)
    for (key, live), state in zip(serving.items(), later):
        if state != live.state:
            disks[key] = _in_state(live, state)
    return replace(snapshot, disks=disks)


def _in_state(live: LiveDisk, state: str | None) -> LiveDisk:
    backends = dict(live.backends)
    branch = live.backend
    if branch is None or live.backend_domid is None:
        return live
    if state is None:
        del backends[live.backend_domid]
    else:
        backends[live.backend_domid] = branch._replace(nodes={**branch.nodes, "state": state})
    return replace(live, backends=backends)


def disks_of(domain: Domain, snapshot: Snapshot) -> list[dict[str, Any]]:
    """A domain's disks with their health as results carry them: virtio disks by device number, then xen disks."""
    disks = [
        _disk(live, domain, snapshot) for _devid, live in sorted(snapshot.disks_of(domain.domid).items())
    ]
    xen = snapshot.xen_disks.get(domain.domid, {})
    return disks + [xen_live(disk, snapshot.domains, None) for _devid, disk in sorted(xen.items())]


def _guest(label: str, domain: Domain, snapshot: Snapshot) -> dict[str, Any]:
    return {
        "domain": label,
        "domid": domain.domid,
        "uuid": domain.uuid,
        "alive": domain.alive,
        "made_by": domain.maker,
        "disks": disks_of(domain, snapshot),
    }


def _disk(live: LiveDisk, domain: Domain, snapshot: Snapshot) -> dict[str, Any]:
    shown = live_attachment(live)
    found = compare(live, shown)
    healthy = health(live, domain.alive, found)
    result = disk_result(shown, snapshot.domains, action=None, state=live.state, healthy=healthy)
    result["drift"] = drift(shown, found)
    told = snapshot.told.get((shown.backend_domid, shown.domid, shown.devid))
    result["launcher"] = (
        None
        if told is None
        else {"status": told.status, "reason": told.reason, "version": told.version or None}
    )
    result["size_at_attach"] = None if told is None else told.size
    result["size_now"] = None if told is None else told.size_now
    return result


def compare(live: LiveDisk, shown: Attachment) -> list[Difference]:
    """Where the three trees do not agree, taking the record (else the backend) for true."""
    if live.source is None:
        return [Difference("record", "", "missing", "present", None)]
    found = differences(shown, schema_of(live.source), live.trees)
    for other in sorted(set(live.backends) - {live.backend_domid}):
        path = backend_path(other, live.domid, live.devid)
        found.append(Difference(BACKEND, path, "value", "absent", "present"))
    return found
