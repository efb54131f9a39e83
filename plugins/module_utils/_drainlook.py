# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at a host for guests that hang on a driver domain, and ask whether they could come back. Changes nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ._configs import best_of, find_configs
from ._drain import Device, Guest, Plan, Sight, make_plan
from ._guest import EXPECTED, Job, run
from ._guestrun import Settings
from ._guestwish import Wish
from ._report import live_attachment
from ._snapshot import DOMID_LIMIT, Domain, Snapshot, resolve
from ._store import Store
from ._survey import Scope, survey
from ._xl import Xl

#: A device's backend as its record names it: taken apart, never followed.
_BACKEND = re.compile(r"/local/domain/(0|[1-9]\d{0,4})/backend/([^/]+)/(\d+)/(\d+)\Z", re.ASCII)

#: What libxl calls directories of devices that no guest notices the end of.
_OURS = ("console",)


@dataclass(frozen=True)
class Place:
    """Where things are on a host, limits in seconds, and how far a call may go: what a drain takes from its task."""

    options: Mapping[str, Any]

    def wish(self, name: str, state: str, path: str) -> Wish:
        """A guest that is only started or ended: nothing is said of its configuration."""
        return Wish(
            name,
            state,
            path,
            # one that came up meanwhile without its disks is no reason to leave it so
            recreate="unhealthy",
            force_destroy=bool(self.options["force_destroy"]),
        )

    def job(self, *wishes: Wish, check: bool = False) -> Job:
        """A call of module guest's about guests as they are configured."""
        said = self.options
        return Job(
            wishes=wishes,
            check=check,
            settings=Settings(
                shutdown_timeout=float(said["shutdown_timeout"]),
                create_timeout=float(said["create_timeout"]),
                wait_timeout=float(said["wait_timeout"]),
                settle=float(said["settle"]),
                lock_timeout=float(said["lock_timeout"]),
                userdata=str(said["userdata_dir"]),
                lock_dir=str(said["lock_dir"]),
            ),
            xen=said["xen"],
            state_dir=str(said["state_dir"]),
            images_dir=os.path.join(str(said["state_dir"]), "images"),
            judged=False,
        )

    def store(self) -> Store:
        """A session as dom0. Raises StoreError."""
        return Store(self.options["store"], timeout=float(self.options["timeout"]))

    def xl(self) -> Xl:
        return Xl(str(self.options["xl_path"]))


def see(store: Store, xl: Xl, place: Place) -> Sight:
    """The host as it stands.

    Raises:
        EmptyStoreError, StoreError, XlError: it could not be read, and nothing is known.
        OSError: the folder of configurations cannot be read.
    """
    snapshot = survey(
        store, lambda _domains: Scope(None), userdata=str(place.options["userdata_dir"]), permissions=False
    )
    devices = _devices(store, snapshot)
    runs = {run.domid: run for run in xl.list()}  # after the store: what dies in between is then gone
    found = find_configs(str(place.options["config_dir"]))
    alive = [domain for domain in snapshot.domains.values() if domain.alive]
    configs = {domain.label: best_of(found, domain.label) for domain in alive}
    return Sight(
        domains=snapshot.domains,
        devices=devices,
        running={
            domain.domid: runs[domain.domid].paused
            for domain in alive
            if domain.domid in runs and runs[domain.domid].run_state in ("running", "paused")
        },
        configs={name: one.path for name, one in configs.items() if one is not None},
    )


def _devices(store: Store, snapshot: Snapshot) -> dict[int, list[Device]]:
    """All devices of all domains, by libxl's own records: what a guest or a driver domain writes is not asked."""
    listed = [name for name in store.list("/libxl") or () if re.fullmatch(r"[1-9]\d{0,4}", name)]
    tops = {f"/libxl/{name}/device": int(name) for name in listed if int(name) < DOMID_LIMIT}
    found: dict[int, list[Device]] = {}
    for path, node in store.read_trees(tops, depth=3).items():
        top, _slash, rest = path.partition("/device/")
        parts = rest.split("/")
        if len(parts) != 3 or parts[2] != "backend" or parts[0] in _OURS:
            continue
        domid, kind = int(top.rpartition("/")[2]), parts[0]
        named = _BACKEND.match(node.value.decode("latin-1"))
        if named is None or not parts[1].isdigit() or (int(named[3]), named[4]) != (domid, parts[1]):
            continue
        devid = int(parts[1])
        found.setdefault(domid, []).append(
            Device(kind, devid, int(named[1]), _words(snapshot, domid, kind, devid))
        )
    return found


def _words(snapshot: Snapshot, domid: int, kind: str, devid: int) -> str:
    live = snapshot.disks.get((domid, devid)) if kind == "virtio_disk" else None
    if live is None or live.source is None:
        return ""
    disk = live_attachment(live)
    return f"{disk.vdev} ({disk.target})"


def find(reference: str, sight: Sight) -> Domain:
    """The driver domain that is meant. Raises ResolveError."""
    return resolve({domid: one for domid, one in sight.domains.items() if one.alive}, reference)


def plan(
    reference: str, store: Store, xl: Xl, place: Place, order: Iterable[str]
) -> tuple[Domain, Plan, str]:
    """What a restart of a driver domain would mean, and whether all of it can be done.

    Returns:
        The driver domain, the plan, and the path of its configuration.

    Raises:
        ResolveError: there is no such domain.
        EmptyStoreError, StoreError, XlError, OSError: the host could not be read.
    """
    sight = see(store, xl, place)
    domain = find(reference, sight)
    made = make_plan(domain, sight, order)
    path = sight.configs.get(domain.label, "")
    if not made.refusals:
        made = Plan(made.guests, asked(store, xl, place, [(domain.label, path), *map(_named, made.guests)]))
    return domain, made, path


def _named(guest: Guest) -> tuple[str, str]:
    return guest.name, guest.path


def asked(store: Store, xl: Xl, place: Place, guests: Iterable[tuple[str, str]]) -> list[str]:
    """Why guests could not be ended or created again, as far as can be told before it is tried."""
    wishes = [place.wish(name, "restarted", path) for name, path in guests]
    try:
        result = run(place.job(*wishes, check=True), store, xl)
    except EXPECTED as error:
        return [str(error)]
    return [] if result.failed is None else [result.failed]
