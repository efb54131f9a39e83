# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carry out what was decided for a guest: end its domain, write its configuration, create it, put it back.

The order is what makes it safe. All that can fail without harm fails first (the new file is written beside the
old one before anything ends); the old domain's storage is proven free before a new one may have it; a new domain
is made paused and runs only once its disks are served.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ._declaration import GuestDeclaration
from ._disk import DiskError
from ._disk import Job as DisksJob
from ._disk import run as run_disks
from ._files import FileChange
from ._guestconfig import GuestError, GuestSpec, read_guest
from ._guestfiles import (
    Checksums,
    Made,
    Records,
    Staged,
    back_up,
    boot_id,
    stage,
    store_image,
)
from ._guesthold import Departure, writers
from ._guestkept import GuestFileError, Image
from ._guestlock import CREATE, locked
from ._guestplan import STOPPED, Decision, order_of
from ._layout import backend_path
from ._plan import PlanError, XlAttach, XlDetach
from ._report import live_attachment
from ._settle import Outcome, settle
from ._snapshot import ResolveError, Snapshot
from ._store import Store, StoreError
from ._survey import EmptyStoreError, Scope, survey
from ._vdev import VdevError, devid
from ._xl import Xl, XlError
from ._xloutput import RunState

#: libxl's two limits for a backend to close and then to vanish (LIBXL_DESTROY_TIMEOUT), and a little.
_DESTROY = 25.0
#: Seconds after a guest powered off in which its xl daemon begins to clean up; after that there is none.
_GRACE = 3.0
_PAUSE = 0.05
_LIST_EVERY = 0.5


class RunError(RuntimeError):
    """A guest could not be brought to where it should be; the text says how it stands now."""


class CreateError(RunError):
    """A create failed and nothing of it is left."""


class HeldError(RunError):
    """Storage of a domain that ended may still be written to, so no other domain may have it."""


@dataclass(frozen=True)
class Settings:
    """Limits in seconds, and places."""

    backup: bool = True
    rollback: bool = True
    shutdown_timeout: float = 60.0
    create_timeout: float = 180.0
    wait_timeout: float = 10.0
    settle: float = 0.5
    lock_timeout: float = 60.0
    userdata: str = "/var/lib/xen"
    lock_dir: str = "/run/xen-virtio"


@dataclass
class Task:
    """One guest and what was decided for it.

    Attributes:
        name, path: the guest and its configuration.
        decision: what to do.
        standing, domid: how it stands.
        before: what its configuration holds now, None where there is none.
        text: what it is to be created from; None where nothing is known.
        spec: the same, read.
        parsed: what xl makes of it.
        made: the record of what its domain was made from.
        old_text: what its present domain was made from, as far as known.
        images: files to be stored first.
        autostart: files of ours that are to change.
        sizes: of its targets, by device number.
        unserved: device numbers of disks that nobody serves, whatever their state says.
        written: its configuration holds something else now.
        down: its domain has ended, and there is no new one yet.
        backup, changed, warnings: what was done, for the result.
    """

    name: str
    path: str
    decision: Decision
    standing: str
    domid: int | None
    before: bytes | None
    text: str | None
    spec: GuestSpec | None
    parsed: dict[str, Any] | None
    release: str
    made: Made | None
    old_text: str | None = None
    images: list[Image] = field(default_factory=list)
    autostart: list[FileChange] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    unserved: frozenset[int] = frozenset()
    written: bool = False
    down: bool = False
    backup: str | None = None
    changed: bool = False
    warnings: list[str] = field(default_factory=list)


class Worker:
    """Carries out tasks on one host.

    Args:
        store: a session as dom0.
        xl: the host's toolstack.
        records: what guests were made from.
        settings: limits and places.
    """

    def __init__(self, store: Store, xl: Xl, records: Records, settings: Settings) -> None:
        self.store = store
        self.xl = xl
        self.records = records
        self.settings = settings
        self.checksums = Checksums()

    def carry_out(self, task: Task) -> None:
        """Do what was decided for a guest.

        Raises:
            RunError: it failed; the text says how the guest stands.
            LockError: another guest is being created, for too long; nothing was changed.
        """
        with contextlib.ExitStack() as held:
            if (
                task.decision.create
            ):  # before the old domain ends: nobody may have to wait with the guest down
                settings = self.settings
                longest = settings.lock_timeout + settings.create_timeout + settings.shutdown_timeout
                held.enter_context(locked(settings.lock_dir, CREATE, "the creation of guests", longest))
            try:
                self._carry_out(task)
            except (GuestFileError, OSError) as error:
                reason = f"{task.path}: {error.strerror}" if isinstance(error, OSError) else str(error)
                so_far = "" if task.changed else "; nothing of the guest was changed"
                raise RunError(f"{task.name}: {reason}{so_far}{_down(task)}") from error
            except (XlError, StoreError, ResolveError, EmptyStoreError, DiskError, PlanError) as error:
                raise RunError(f"{task.name}: {error}{_down(task)}") from error

    def _carry_out(self, task: Task) -> None:
        """What may fail without harm comes first: files beside their places."""
        staged: Staged | None = None
        try:
            if task.decision.write and task.text is not None:
                staged = beside(task.path, _encoded(task.text))
            elif task.decision.remove:
                _writable(task.path)
            if self.settings.backup and (staged is not None or task.decision.remove):
                task.backup = back_up(task.path)
            for image in task.images:
                store_image(image)
                task.changed = True
            self._steps(task, staged)
        finally:
            if staged is not None:
                staged.discard()
            if task.backup is not None and not task.written:
                with contextlib.suppress(OSError):
                    os.unlink(task.backup)
                task.backup = None

    def _steps(self, task: Task, staged: Staged | None) -> None:
        decision = task.decision
        if decision.create and task.spec is not None:
            self._unheld(task)
        if decision.end is not None and task.domid is not None:
            self._end(task, task.domid, decision.end)
        if staged is not None:
            staged.commit()
            task.changed = task.written = True
        self._live(task)
        if decision.create:
            self._create(task)
        elif decision.paused is not None and task.domid is not None:
            (self.xl.pause if decision.paused else self.xl.unpause)(task.domid)
            task.changed = True
        if decision.remove:
            self._remove(task)
        for change in task.autostart:
            change.carry_out()
            task.changed = True

    def _remove(self, task: Task) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(task.path)
            task.changed = task.written = True
        if task.made is not None and not task.made.held:
            self.records.remove(task.name)

    # --- a running guest ----------------------------------------------------------------------------------

    def _live(self, task: Task) -> None:
        decision, domid = task.decision, task.domid
        if domid is None:
            return
        for change in decision.live:
            (self.xl.mem_set if change.option == "memory" else self.xl.vcpu_set)(domid, int(change.after))
            task.changed = True
        for step in decision.steps:
            if isinstance(step, XlDetach):
                self.xl.block_detach(domid, step.devid)
            elif isinstance(step, XlAttach):
                self.xl.block_attach(domid, step.spec)
            task.changed = True

    # --- the end of a domain ------------------------------------------------------------------------------

    def _end(self, task: Task, domid: int, how: str) -> None:
        snapshot = self._scope(domid)
        shared = _shared(task.spec)
        departure = Departure(self.store, task.name, domid, snapshot, shared, unserved=task.unserved)
        complaints = ""
        if how != "destroy" and not self._shut_down(
            task, domid, departure, force=how == "clean then destroy"
        ):
            how = "destroy"
        if self._listed(domid) is not None:
            task.changed = True
            complaints = self._destroy(task, domid)
        task.changed = True
        departure.wait(_DESTROY, lambda: self._listed(domid) is None)
        still = self._listed(domid)
        if still is not None:
            raise RunError(
                f"{task.name}: domain {domid} was ended and is still there ({still.run_state}): something holds its "
                "memory, mostly a backend that did not let go of a disk; look at the daemons of its disks, then run "
                "again"
            )
        task.down = True
        unreleased = departure.unreleased(complaints, self.settings.wait_timeout)
        if unreleased:
            made = task.made or Made(task.name)
            made.held = [disk.as_held() for disk, _why in unreleased]
            self.records.write(made)
            task.made = made
            told = "; ".join(
                f"{disk.vdev} ({disk.target} at {disk.label}): {why}" for disk, why in unreleased
            )
            text = (
                f"{task.name}: its domain {domid} has ended, but whoever served its disks may still write to them: "
                f"{told}. Look there for a virtio-disk process of that disk and end it; then remove "
                f"{self.records.path_of(task.name)} and run again"
            )
            if task.decision.create:
                raise HeldError(f"{text}. The guest is down: no second writer was let in")
            task.warnings.append(text)

    def _shut_down(self, task: Task, domid: int, departure: Departure, *, force: bool) -> bool:
        """Ask the guest to power off; whether it did."""
        limit = self.settings.shutdown_timeout
        deadline = time.monotonic() + limit
        if task.standing == STOPPED:
            self.xl.unpause(domid)
        refused = None
        try:
            self.xl.shutdown(domid, timeout=max(1.0, limit))
        except XlError as error:
            if self._listed(domid) is None:
                return True  # it was on its way already
            refused = error
        if refused is None and self._powered_off(domid, departure, deadline):
            return True
        if force:
            return False
        made = task.made or Made(task.name)
        made.asked = self._uuid(domid)
        with contextlib.suppress(GuestFileError):  # the failure to tell of is the guest's
            self.records.write(made)
        why = (
            f"it takes no note of the request ({refused})"
            if refused
            else f"it did not power off within {limit:g} s"
        )
        raise RunError(
            f"{task.name} (domain {domid}) was asked to shut down and {why}; nothing else was changed, and the request "
            "stands: it may still follow. Look at its console, or say force_destroy: true"
        )

    def _powered_off(self, domid: int, departure: Departure, deadline: float) -> bool:
        listed_at = -_LIST_EVERY
        off_since: float | None = None
        while True:
            departure.look()
            now = time.monotonic()
            if now - listed_at >= _LIST_EVERY:
                listed_at = now
                run = self._listed(domid)
                if run is None:
                    return True
                if run.shutdown and off_since is None:
                    off_since = now
                if run.dying:
                    off_since, deadline = off_since or now, max(deadline, now + _PAUSE)
            if off_since is not None and now - off_since >= _GRACE:
                return True  # powered off, and nobody cleans up after it: kept, or its xl daemon is gone
            if off_since is None and now >= deadline:
                return False
            time.sleep(_PAUSE)

    def _destroy(self, task: Task, domid: int) -> str:
        """Destroy a domain; what xl said of its devices."""
        try:
            return self.xl.destroy(domid)
        except XlError as error:
            if self._listed(domid) is not None:
                raise RunError(f"{task.name}: {error}") from error
            return "\n".join(error.words)  # xl fails where somebody was faster, and where devices did

    def _scope(self, domid: int) -> Snapshot:
        """The store's side of one domain."""
        return survey(self.store, lambda _domains: Scope({domid}), userdata=self.settings.userdata)

    def _listed(self, domid: int) -> RunState | None:
        return next((run for run in self.xl.list() if run.domid == domid), None)

    # --- a new domain -------------------------------------------------------------------------------------

    def _unheld(self, task: Task) -> None:
        """Refuse to give anybody storage that an earlier domain's backend was not seen to let go of."""
        if task.made is None or not task.made.held:
            return
        path = self.records.path_of(task.name)
        for held in task.made.held:
            if not self._may_be_held(held):
                continue
            raise HeldError(
                f"{task.name}: {held.get('vdev')} ({held.get('target')} at {held.get('backend')}) was not let go of "
                "when its last domain ended; look there for a virtio-disk process of that disk and end it, then remove "
                f"{path} and run again. No second writer was let in"
            )
        task.made.held = []

    def still_held(self, made: Made | None) -> list[dict[str, Any]]:
        """Disks of a guest's last domain that may still be written to, as far as can be told from here."""
        return [held for held in (made.held if made is not None else ()) if self._may_be_held(held)]

    def _may_be_held(self, held: Mapping[str, Any]) -> bool:
        """Whether storage that was not let go of may still be written to, as far as can be told from here."""
        backend = held.get("backend_domid")
        if backend == 0:
            return bool(writers([str(held.get("target"))]))
        snapshot = survey(self.store, lambda _domains: Scope(()), userdata=self.settings.userdata)
        domain = snapshot.domains.get(backend) if isinstance(backend, int) else None
        # a driver domain that is gone or another one took its daemons with it
        return domain is not None and domain.alive and domain.uuid == held.get("backend_uuid")

    def _create(self, task: Task) -> None:
        paused = bool(task.decision.paused)
        if task.text is None:
            raise RunError(f"{task.name}: there is no configuration to create it from")
        try:
            self._new_domain(task, task.path, task.text, task.spec, task.parsed, paused=paused)
        except CreateError as error:
            raise RunError(self._put_back(task, error)) from error
        task.changed = True

    def _put_back(self, task: Task, failure: CreateError) -> str:
        """After a create that failed: the old configuration, and the guest as it was; both stories."""
        if not self.settings.rollback or (not task.decision.write and task.decision.end is None):
            return str(failure)
        story = [str(failure)]
        if task.decision.write:
            self._restore(task, story)
        old = task.old_text
        if task.decision.end is None or task.standing not in ("up", "stopped"):
            return ". ".join(story)
        if old is None or old == task.text:
            why = "what it ran from is not known" if old is None else "it ran from the same configuration"
            return ". ".join([*story, f"The guest is down: {why}"])
        parsed = task.made.parsed if task.made is not None and task.made.text == old else None
        try:
            self._unheld(task)
            spec = read_guest(old)[0]
            with _as_file(task.path, old) as path:
                self._new_domain(task, path, old, spec, parsed, paused=task.standing == STOPPED)
        except (RunError, GuestError, XlError, StoreError, GuestFileError, OSError) as error:
            return ". ".join(
                [*story, f"Creating it again from its old configuration failed as well: {error}. It is down"]
            )
        return ". ".join([*story, "It runs again from its old configuration"])

    def _restore(self, task: Task, story: list[str]) -> None:
        try:
            if task.before is None:
                os.unlink(task.path)
                story.append(f"{task.path} was removed again")
            else:
                beside(task.path, task.before).commit()
                story.append(f"{task.path} holds its old configuration again")
        except OSError as error:
            story.append(
                f"{task.path} could not be put back ({error.strerror}); see {task.backup or 'its backup'}"
            )

    def _new_domain(
        self,
        task: Task,
        path: str,
        text: str,
        spec: GuestSpec | None,
        parsed: Mapping[str, Any] | None,
        *,
        paused: bool,
    ) -> None:
        """One create, until its disks are served and it runs; the caller sees to it that no other is under way."""
        self._no_writer(task.name, spec)
        before = {run.domid for run in self.xl.list()}
        kept = task.made or Made(task.name)
        kept.creating = {"domids": sorted(before), "boot": boot_id()}
        self.records.write(kept)
        try:
            self.xl.create(path, paused=True, timeout=self.settings.create_timeout)
            domid = self._find_new(task.name, before)
        except XlError as error:
            self._clean(task, before, kept, "\n".join(error.words), spec)
            raise CreateError(f"{task.name}: {explained(error, spec)}") from error
        self._serve(task, spec, domid, before, kept)
        made = Made(
            name=task.name,
            uuid=self._uuid(domid),
            domid=domid,
            text=text,
            parsed=dict(parsed or {}),
            release=task.release if parsed else "",
            files=self.files_of(spec),
            sizes=task.sizes,
        )
        self.records.write(made)
        task.made, task.domid, task.down = made, domid, False
        if not paused:
            self.xl.unpause(domid)

    def files_of(self, spec: GuestSpec | None) -> dict[str, dict[str, Any]]:
        """The files that a guest is created from, with their checksums."""
        found = {}
        for option in ("kernel", "ramdisk", "device_tree"):
            path = spec.options.get(option) if spec is not None else None
            if isinstance(path, str):
                found[option] = self.checksums.facts(path)
        return found

    def _uuid(self, domid: int) -> str:
        snapshot = survey(self.store, lambda _domains: Scope(()), userdata=self.settings.userdata)
        return snapshot.domain(domid).uuid or ""

    def _no_writer(self, name: str, spec: GuestSpec | None) -> None:
        """The kernel's word that nobody on this host writes to what a new domain is about to have."""
        local = {
            disk.spec.target or "": disk.spec.vdev
            for disk in (spec.disks if spec is not None else ())
            if disk.spec.access == "rw"
            and not disk.shared
            and disk.spec.backend in (None, "", "0", "Domain-0")
        }
        for target, holders in writers(local).items():
            raise CreateError(
                f"{name}: {local[target]}: {holders[0]} on this host has {target} open for writing; end it, or give "
                "the guest another target"
            )

    def _find_new(self, name: str, before: set[int]) -> int:
        for run in self.xl.list():
            if run.name == name and run.domid not in before and not run.dying:
                return run.domid
        raise XlError("xl create ended well, but no domain of that name is there")

    def _serve(self, task: Task, spec: GuestSpec | None, domid: int, before: set[int], kept: Made) -> None:
        """Wait until the new domain's disks work; take the domain away again where they do not."""
        settings = self.settings
        snapshot = self._scope(domid)
        disks = [live_attachment(live) for live in snapshot.disks_of(domid).values()]
        outcomes = settle(self.store, disks, disks, timeout=settings.wait_timeout, settling=settings.settle)
        bad = [outcome for outcome in outcomes if not outcome.attached]
        missing = [
            disk.spec.vdev or ""
            for disk in (spec.disks if spec is not None else ())
            if disk.spec.is_virtio and _number(disk.spec.vdev) not in {found.devid for found in disks}
        ]
        if bad or missing:
            self._clean(task, before, kept)
            raise CreateError(f"{task.name}: {_unserved(bad, missing, snapshot, settings)}")

    def _clean(
        self, task: Task, before: set[int], kept: Made, complaints: str = "", spec: GuestSpec | None = None
    ) -> None:
        """Leave nothing of a create that failed: neither its domain nor what that had in xenstore.

        What xl had to tear down by itself was only held by a backend which had taken it up and did not close.
        """
        kept.held += self._not_closed(complaints, spec)
        left = [run for run in self.xl.list() if run.name == task.name and run.domid not in before]
        for run in left:
            snapshot = self._scope(run.domid)
            departure = Departure(self.store, task.name, run.domid, snapshot, _shared(task.spec))
            said = self._destroy(task, run.domid)
            departure.wait(_DESTROY)
            kept.held += [disk.as_held() for disk, _why in departure.unreleased(said, 1.0)]
            self._sweep(run.domid)
        kept.creating = None
        task.made = kept
        if kept.uuid or kept.held:
            self.records.write(kept)
        else:
            self.records.remove(task.name)

    def _not_closed(self, complaints: str, spec: GuestSpec | None) -> list[dict[str, Any]]:
        """Disks that a backend domain took up and did not close when xl took a failed guest down again."""
        stuck = set(_STUCK.findall(complaints)) - set(_FAILED.findall(complaints))
        disks = {_number(disk.spec.vdev): disk for disk in (spec.disks if spec is not None else ())}
        found = []
        for backend, number in sorted(stuck):
            disk = disks.get(int(number))
            if disk is None or disk.shared or disk.spec.access != "rw" or backend == "0":
                continue  # in dom0 the kernel tells before anybody else may have it
            domain = survey(self.store, lambda _domains: Scope(()), userdata=self.settings.userdata).domain(
                int(backend)
            )
            found.append(
                {
                    "vdev": disk.spec.vdev,
                    "target": disk.spec.target,
                    "backend": domain.label,
                    "backend_domid": domain.domid,
                    "backend_uuid": domain.uuid,
                }
            )
        return found

    def _sweep(self, domid: int) -> None:
        """Remove what a dead domain has left in the backends' trees."""
        everything = GuestDeclaration(str(domid), (), exclusive=True)
        job = DisksJob((everything,), absent=True, wait=False, userdata=self.settings.userdata)
        with contextlib.suppress(ResolveError, PlanError, DiskError, StoreError, XlError):
            run_disks(job, self.store, self.xl)


def _shared(spec: GuestSpec | None) -> list[int]:
    return order_of(disk for disk in (spec.disks if spec is not None else ()) if disk.shared)


def _number(vdev: str | None) -> int | None:
    try:
        return devid(vdev or "")
    except VdevError:
        return None


def _down(task: Task) -> str:
    return ". The guest is down" if task.down and task.decision.create else ""


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def beside(path: str, content: bytes) -> Staged:
    """A configuration ready to take its place, which may be behind a link.

    It keeps its permissions and owner; a new one is for root alone: a configuration may hold a password.
    """
    path = os.path.realpath(path)
    try:
        now = os.stat(path)
    except OSError:
        return stage(path, content, 0o600)
    return stage(path, content, now.st_mode & 0o777, (now.st_uid, now.st_gid))


def _writable(path: str) -> None:
    """Raise OSError where a file could not be removed."""
    if os.path.lexists(path):
        handle, fresh = tempfile.mkstemp(dir=os.path.dirname(path), prefix=f".{os.path.basename(path)}.")
        os.close(handle)
        os.unlink(fresh)


@contextlib.contextmanager
def _as_file(path: str, text: str) -> Iterator[str]:
    """A file with this text: the guest's own where it has it, else one that goes again."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        if file.read() == _encoded(text):
            yield path
            return
    handle, fresh = tempfile.mkstemp(prefix="xen-virtio.", suffix=".cfg")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(_encoded(text))
        yield fresh
    finally:
        os.unlink(fresh)


_STUCK = re.compile(r"unable to remove device with path /local/domain/(\d+)/backend/virtio_disk/\d+/(\d+)")
_FAILED = re.compile(r"unable to add device with path /local/domain/(\d+)/backend/virtio_disk/\d+/(\d+)")

#: xl's own words, and what a person makes of them.
_REMEDIES = (
    ("failed to free memory", "dom0 cannot free enough memory: declare less, or end another guest"),
    ("Out of memory", "the host has not enough free memory: declare less, or end another guest"),
    ("Cannot allocate memory", "the host has not enough free memory: declare less, or end another guest"),
    ("device already exists", "two disks of the guest are one device: give each a vdev of its own"),
    ("Ran out of reserved range", "a guest has room for 11 virtio devices"),
    ("already exists", "another domain has that name"),
)


def explained(error: XlError, spec: GuestSpec | None) -> str:
    """What a failed create means: which disk, at which backend, and what to look at; else xl's own words."""
    words = "\n".join(error.words)
    failed = list(dict.fromkeys(_FAILED.findall(words)))
    if failed:
        named = {_number(disk.spec.vdev): disk.spec for disk in (spec.disks if spec is not None else ())}
        told = []
        for backend, number in failed:
            disk = named.get(int(number))
            place = (disk.backend or "Domain-0") if disk is not None else f"domain {backend}"
            what = f"{disk.vdev} ({disk.target})" if disk is not None else f"device {number}"
            told.append(f"{what} at {place} (domain {backend})")
        return (
            f"xl gave up waiting for {' and '.join(told)}: no daemon took the disk up within libxl's 10 s. {_LOOK} "
            "Nothing of the guest is left"
        )
    for said, remedy in _REMEDIES:
        if said in words:
            return f"{error} ({remedy})"
    if error.timed_out:
        return f"{error}; it was ended and what it had made removed. See create_timeout"
    return str(error)


_LOOK = (
    "Look at the backend domain: does virtio-disk run for that device, started after the disk's nodes were written, "
    "and can it open the target? (its log, and drivers/virtio-disk/status in xenstore)"
)


def _unserved(bad: list[Outcome], missing: list[str], snapshot: Snapshot, settings: Settings) -> str:
    told = [
        f"{outcome.disk.vdev} ({outcome.disk.target}) at {snapshot.domain(outcome.disk.backend_domid).label}, "
        f"{backend_path(outcome.disk.backend_domid, outcome.disk.domid, outcome.disk.devid)}: {outcome.words}"
        for outcome in bad
    ]
    told += [f"{vdev}: its nodes are gone" for vdev in missing]
    return (
        f"created, but not all of its disks were served within {settings.wait_timeout:g} s and {settings.settle:g} s "
        f"later: {'; '.join(told)}. {_LOOK} The guest never ran and was removed again"
    )
