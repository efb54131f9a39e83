# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watch guests for a while: look at all of them again and again, and end at the first that is not as it should be."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from ._disk_info import disks_of
from ._guestwatch import DiskSeen, Guest, Seen, look_at
from ._snapshot import Domain, ResolveError, Snapshot, UnknownDomainError, resolve
from ._store import Store
from ._survey import USERDATA_DIR, Scope, survey
from ._xl import Xl


def watch(
    store: Store,
    xl: Xl,
    names: Iterable[str],
    expect: Mapping[str, int | None],
    *,
    soak: float,
    interval: float,
    userdata: str = USERDATA_DIR,
) -> list[Guest]:
    """Look at guests until something is wrong with one, or for a while.

    Args:
        store: a session as dom0.
        xl: the host's toolstack.
        names: of the guests.
        expect: the domid that a guest is to have; the one it has first where none is said.
        soak: seconds to watch; 0 is one look.
        interval: seconds between two looks.
        userdata: libxl's folder of domain records.

    Returns:
        The guests in order; ``why`` of each says what is wrong.

    Raises:
        EmptyStoreError, StoreError, XlError: the host cannot be read, so nothing is known of its guests.
    """
    guests = [Guest(name, expect.get(name)) for name in dict.fromkeys(names)]
    deadline = time.monotonic() + soak
    while guests:
        begun = time.monotonic()
        last = begun >= deadline or soak <= 0
        if look_at(guests, see(store, xl, [guest.name for guest in guests], userdata), last=last) or last:
            break
        time.sleep(max(0.0, min(begun + interval, deadline) - time.monotonic()))
    return guests


def see(store: Store, xl: Xl, names: list[str], userdata: str = USERDATA_DIR) -> dict[str, Seen]:
    """How guests stand now, by name.

    Raises:
        EmptyStoreError, StoreError, XlError: the host cannot be read.
    """
    found: dict[str, Domain] = {}
    trouble: dict[str, str] = {}

    def scope(domains: dict[int, Domain]) -> Scope:
        alive = {domid: domain for domid, domain in domains.items() if domain.alive}
        for name in names:
            try:
                found[name] = resolve(alive, name)
            except UnknownDomainError:
                continue
            except ResolveError as error:
                trouble[name] = f"{name}: {error}"
        return Scope({domain.domid for domain in found.values()})

    snapshot = survey(store, scope, userdata=userdata, permissions=False)
    states = {
        run.domid: run.run_state for run in xl.list()
    }  # after the store: what dies in between is then gone
    seen = {}
    for name in names:
        domain = found.get(name)
        if domain is None or domain.domid not in states:
            seen[name] = Seen(name, trouble=trouble.get(name))
        else:
            seen[name] = Seen(name, domain.domid, states[domain.domid], virtio_disks(domain, snapshot))
    return seen


def virtio_disks(domain: Domain, snapshot: Snapshot) -> tuple[DiskSeen, ...]:
    """A domain's virtio disks; of xen disks nobody tells whether they work, and what only the guest wrote is none."""
    found = []
    for disk in disks_of(domain, snapshot):
        live = snapshot.disks.get((domain.domid, disk["devid"]))
        if disk["specification"] != "virtio" or live is None or live.invented:
            continue
        told = disk["launcher"] or {}
        found.append(
            DiskSeen(
                vdev=disk["vdev"],
                devid=disk["devid"],
                state=disk["state"],
                health=disk["health"],
                launcher=told.get("status"),
                reason=told.get("reason") or "",
            )
        )
    return tuple(found)
