# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at a host's guests as a checkpoint keeps them, and keep checkpoints on it. Changes no guest."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ._checkpoint import (
    Checkpoint,
    CheckpointError,
    Restore,
    Standing,
    outdated,
    parse_checkpoint,
    parse_restore,
    render,
)
from ._configs import best_of, find_configs
from ._detached import moment
from ._files import content_of
from ._guest import Autostart, Job
from ._guest_info import autostarted
from ._guest_watch import virtio_disks
from ._guestconfig import GuestError, read_guest
from ._guestfiles import Checksums, Records, stage
from ._guestkept import file_name
from ._guestplan import order_of
from ._guestrun import Settings
from ._guestwish import IMAGES, Wish
from ._snapshot import Domain, Snapshot
from ._store import Store, read
from ._survey import Scope, survey
from ._vdev import canonical
from ._xl import Xl
from ._xloutput import RunState


@dataclass(frozen=True)
class Place:
    """Where things are on a host, and limits in seconds: what a checkpoint takes from its task."""

    options: Mapping[str, Any]

    def text(self, option: str) -> str:
        return str(self.options[option])

    def number(self, option: str) -> float:
        return float(self.options[option])

    def job(self, wish: Wish, autostart: Autostart | None = None) -> Job:
        """A call of module guest's about one guest as it is kept."""
        return Job(
            wishes=(wish,),
            settings=Settings(
                backup=False,  # what is overwritten is in the inventory, and in the checkpoint that follows
                shutdown_timeout=self.number("shutdown_timeout"),
                create_timeout=self.number("create_timeout"),
                wait_timeout=self.number("wait_timeout"),
                settle=self.number("settle"),
                lock_timeout=self.number("lock_timeout"),
                userdata=self.text("userdata_dir"),
                lock_dir=self.text("lock_dir"),
            ),
            xen=self.options["xen"],
            state_dir=self.text("state_dir"),
            images_dir=os.path.join(self.text("state_dir"), "images"),
            autostart=autostart,
            judged=False,
        )

    def store(self) -> Store:
        """A session as dom0. Raises StoreError."""
        return Store(self.options["store"], timeout=self.number("timeout"))

    def xl(self) -> Xl:
        return Xl(self.text("xl_path"))


# --- guests ----------------------------------------------------------------------------------------------


def look(
    place: Place, store: Store, xl: Xl, checksums: Checksums, wanted: Mapping[str, str | None] | None = None
) -> dict[str, Standing]:
    """How guests stand, by name.

    Args:
        place: where things are on the host.
        store: a session as dom0.
        xl: the host's toolstack.
        checksums: of files that were read already.
        wanted: guests, and where the configuration of each lies as far as that is known; None for all that xl made or
            that have a configuration.

    Raises:
        CheckpointError: a guest that xl did not make, or a name that several domains have.
        EmptyStoreError, StoreError, XlError: the host could not be read, and nothing is known.
        OSError: the folder of configurations, or one in it, cannot be read.
    """
    snapshot = survey(
        store, lambda _domains: Scope(None), userdata=place.text("userdata_dir"), permissions=False
    )
    asked = _asked(store, snapshot)
    runs = {run.domid: run for run in xl.list()}  # after the store: what dies in between is then gone
    found = find_configs(place.text("config_dir"))
    auto = autostarted(place.text("state_dir"))
    domains = _by_name(snapshot, runs, None if wanted is None else set(wanted))
    if wanted is None:
        named = [one.name for one in found if one.name is not None]
        wanted = dict.fromkeys([*domains, *(name for name in named if name not in domains)])
    records = Records(place.text("state_dir"))
    standing = {}
    for name, path in wanted.items():
        guest = Standing(name, autostart=name in auto)
        best = best_of(found, name)
        guest.path = path or (
            best.path
            if best is not None
            else os.path.join(place.text("config_dir"), f"{file_name(name)}.cfg")
        )
        if best is not None and (path is None or best.path == path):
            guest.config = best.text
        else:
            content = content_of(guest.path)
            guest.config = None if content is None else content.decode("utf-8", "surrogateescape")
            if guest.config is None and best is not None:
                guest.path, guest.config = best.path, best.text
        if name in domains:
            _see_domain(guest, domains[name], runs, snapshot, records, checksums)
            guest.asked = domains[name].domid in asked
        standing[name] = guest
    return standing


def request_path(domid: int) -> str:
    """Where a guest finds what it is asked to do; it empties the node as it takes note (xenstore-paths.pandoc)."""
    return f"/local/domain/{domid}/control/shutdown"


def _asked(store: Store, snapshot: Snapshot) -> set[int]:
    """The domains for which a request to shut down lies there, of which they have taken no note."""
    domids = [domid for domid in snapshot.domains if domid]
    replies = store.call([read(request_path(domid)) for domid in domids])
    return {domid for domid, reply in zip(domids, replies) if isinstance(reply, bytes) and reply}


def _by_name(snapshot: Snapshot, runs: Mapping[int, RunState], wanted: set[str] | None) -> dict[str, Domain]:
    """The domains that count, by the names that dom0 vouches for: xl's, or those that were asked for."""
    found: dict[str, Domain] = {}
    for domid, domain in sorted(snapshot.domains.items()):
        if domid == 0 or not domain.alive or domid not in runs:
            continue
        name = domain.label
        if wanted is not None and name in wanted and not domain.made_by_xl and not runs[domid].paused:
            raise CheckpointError(
                f"{name} is domain {domid}, which xl did not make (Xen itself, or another toolstack): it cannot be "
                "created again from here; leave it out of guests"
            )
        if name in (wanted or ()) or (wanted is None and domain.made_by_xl and domain.name_trusted):
            if name in found:
                raise CheckpointError(
                    f"{name}: domains {found[name].domid} and {domid} have that name; end one of them, or xl rename it"
                )
            found[name] = domain
    return found


def _see_domain(
    guest: Standing,
    domain: Domain,
    runs: Mapping[int, RunState],
    snapshot: Snapshot,
    records: Records,
    checksums: Checksums,
) -> None:
    guest.domid, guest.uuid = domain.domid, domain.uuid or ""
    guest.run_state = runs[domain.domid].run_state
    guest.unfinished = guest.run_state == "paused" and not domain.made_by_xl
    made = records.read(guest.name)
    if made is not None and made.uuid and made.uuid == domain.uuid and made.text:
        guest.made_from = made.text
        guest.images = made.files
    elif guest.config is not None:
        guest.images = _images(guest.config, checksums)
    guest.leaving = bool(made is not None and made.asked and made.asked == domain.uuid)
    if guest.up:
        guest.lost = _lost(guest, domain, snapshot)


def _images(text: str, checksums: Checksums) -> dict[str, dict[str, Any]]:
    """The files that a configuration names, as they are."""
    try:
        options = read_guest(text)[0].options
    except GuestError:
        return {}
    paths = {option: options.get(option) for option in IMAGES}
    return {option: checksums.facts(path) for option, path in paths.items() if isinstance(path, str)}


def _lost(guest: Standing, domain: Domain, snapshot: Snapshot) -> list[str]:
    """Its virtio disks that nobody serves."""
    disks = virtio_disks(domain, snapshot)
    lost = [disk.vdev for disk in disks if not disk.served]
    here = {disk.devid for disk in disks}
    try:
        spec = read_guest(guest.source or "")[0]
    except GuestError:
        return lost
    expected = order_of(disk for disk in spec.disks if disk.spec.is_virtio)
    return [*lost, *(canonical(number) or str(number) for number in expected if number not in here)]


# --- checkpoints on the host -----------------------------------------------------------------------------


class Checkpoints:
    """The checkpoints of a host: a folder for each, with the checkpoint and how its last restore stands.

    Args:
        state_dir: of the host.
    """

    def __init__(self, state_dir: str) -> None:
        self.folder = os.path.join(state_dir, "checkpoints")

    def path_of(self, name: str, file: str = "checkpoint.json") -> str:
        """Where a checkpoint, or another file of its, lies."""
        return os.path.join(self.folder, name, file)

    def state_of(self, name: str) -> str:
        """Where its last restore stands."""
        return self.path_of(name, "restore.json")

    def read(self, name: str) -> Checkpoint | None:
        """A checkpoint; None where there is none of that name.

        Raises:
            CheckpointError: it cannot be read, or is nothing of ours.
        """
        path = self.path_of(name)
        content = _read(path)
        return None if content is None else parse_checkpoint(content, path)

    def restore_of(self, name: str) -> Restore | None:
        """How its last restore stands; None where there was none. Raises CheckpointError."""
        return load_restore(self.state_of(name))

    def write(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint, whole or not at all. Raises CheckpointError."""
        path = self.path_of(checkpoint.name)
        try:
            # configurations may hold passwords
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            stage(path, render(checkpoint), 0o600).commit()
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be written: {error.strerror}; see state_dir") from error

    def remove(self, name: str) -> None:
        """Forget a checkpoint, the checkpoint itself first. Raises CheckpointError."""
        path = self.path_of(name)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            if os.path.isdir(os.path.dirname(path)):
                shutil.rmtree(os.path.dirname(path))
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be removed: {error.strerror}; see state_dir") from error

    def exists(self, name: str) -> bool:
        """Whether there is anything of a checkpoint."""
        return os.path.lexists(os.path.join(self.folder, name))

    def names(self) -> list[str]:
        """All of them, by name."""
        try:
            return sorted(os.listdir(self.folder))
        except FileNotFoundError:
            return []

    def too_many(self, keep: int, fresh: str) -> list[str]:
        """Those that are to go where `keep` stay, `fresh` among them; what cannot be read is nobody's to remove."""
        taken = []
        for name in self.names():
            with contextlib.suppress(CheckpointError):
                found = self.read(name)
                if found is not None:
                    taken.append((found.taken, name))
        return outdated(taken, keep, fresh)


def load_restore(path: str) -> Restore | None:
    """How a restore stands; None where there was none. Raises CheckpointError."""
    content = _read(path)
    return None if content is None else parse_restore(content, path)


def save_restore(restore: Restore, path: str) -> None:
    """Keep how a restore stands, whole or not at all. Raises OSError."""
    restore.changed = moment()
    if restore.outcome is not None and restore.ended is None:
        restore.ended = restore.changed
    stage(path, render(restore), 0o600).commit()


def _read(path: str) -> bytes | None:
    try:
        return content_of(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error


def paths_of(guests: Iterable[Standing]) -> dict[str, str | None]:
    """Guests and where the configuration of each lay, as `look` takes them."""
    return {guest.name: guest.path or None for guest in guests}
