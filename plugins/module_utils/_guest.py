# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring a host's guests to where they should be: read → plan → check with xl → preflight → apply → result.

The one way in for the module, for check mode and for what starts guests at boot. A call reads the host once,
however many guests it is about: one snapshot of the store, one ``xl list``, at most one ``xl list -l``.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from ._declaration import GuestDeclaration
from ._dialect import Dialect
from ._disk import DiskError, dialect_of
from ._diskstatus import LOST
from ._files import FileChange, content_of
from ._findings import WARNING, Acceptance, Finding, errors, sort_out, summary
from ._guestconfig import (
    GuestError,
    GuestSpec,
    compare,
    option_release_violations,
    read_guest,
    render_guest,
)
from ._guestfiles import IMAGES_DIR, STATE_DIR, Made, Records, boot_id, image_missing
from ._guestkept import GuestFileError, Image
from ._guestlock import LockError, locked_guests
from ._guestpicture import from_guests
from ._guestplan import (
    CONFIGURED,
    DOM0LESS,
    GONE,
    NONE,
    PAUSED,
    RESTARTED,
    RUNNING,
    SHUTDOWN,
    STOPPED,
    UP,
    Decision,
    DiskSight,
    Options,
    Sight,
    decide,
    lost_findings,
    order_of,
    see_disks,
    standing_of,
)
from ._guestrecord import Change, disk_order, hide, hide_record, record_changes, shown
from ._guestrun import RunError, Settings, Task, Worker
from ._guestsecrets import NOTHING, Hidden
from ._guestwish import IMAGES, Wish
from ._picture import Picture
from ._plan import UNCHANGED, PlanError, backend_of, make_plan
from ._plan import GuestPlan as DisksPlan
from ._plan import Options as DiskOptions
from ._preflight import preflight
from ._report import Result, disk_result, live_attachment, planned_disk
from ._settle import settle
from ._snapshot import MADE_ELSEWHERE, Domain, ResolveError, Snapshot, UnknownDomainError, resolve
from ._storage import Storage, identify
from ._store import Store, StoreError
from ._survey import EmptyStoreError, Scope, survey
from ._target import TargetFacts
from ._xl import Xl, XlError
from ._xloutput import RunState

#: Files of a guest's that are to come up or stay away with the host, as changes to files.
Autostart = Callable[[Wish], "list[FileChange]"]


@dataclass(frozen=True)
class Job:
    """One call: what shall be, and how far it may go.

    Attributes:
        wishes: the guests.
        check: plan only.
        settings: limits and places.
        xen: the host's release, None to ask the host.
        accept: findings that are known and wanted.
        targets: what is known of storage in driver domains.
        state_dir, images_dir: where records and images are kept.
        autostart: what has to change for a guest to come up with the host, or not.
        hidden: options whose values are shown to nobody.
        judged: preflight looks at the guests (not at boot, where nobody could react).
    """

    wishes: tuple[Wish, ...]
    check: bool = False
    settings: Settings = field(default_factory=Settings)
    xen: str | None = None
    accept: tuple[Acceptance, ...] = ()
    targets: TargetFacts = field(default_factory=dict)
    state_dir: str = STATE_DIR
    images_dir: str = IMAGES_DIR
    autostart: Autostart | None = None
    hidden: Hidden = NOTHING
    judged: bool = True


#: What ends a call with a sentence.
EXPECTED = (
    DiskError,
    EmptyStoreError,
    GuestError,
    GuestFileError,
    LockError,
    PlanError,
    ResolveError,
    RunError,
    StoreError,
    XlError,
)


def run(job: Job, store: Store, xl: Xl) -> Result:
    """Carry a call out.

    Args:
        job: the call.
        store: a session as dom0.
        xl: the host's toolstack.

    Returns:
        The result, also where the call was refused or a guest did not come up (`failed`).

    Raises:
        one of `EXPECTED`: nothing was changed.
    """
    if not xl.present:
        raise XlError(
            "this host has no xl, so its guests cannot be created here; manage their disks with xen.virtio.disk"
        )
    if job.check:
        return _Call(job, store, xl).run()
    with locked_guests(job.settings.lock_dir, (wish.name for wish in job.wishes), job.settings.lock_timeout):
        return _Call(job, store, xl).run()


@dataclass
class _Guest:
    """One guest of a call, from what was wished to what was decided."""

    wish: Wish
    before: bytes | None = None
    config: list[Change] | None = None
    text: str | None = None
    spec: GuestSpec | None = None
    domain: Domain | None = None
    run: RunState | None = None
    standing: str = NONE
    made: Made | None = None
    about: bool = False
    unresolved: bool = False
    parsed: dict[str, Any] | None = None
    disks: DisksPlan | None = None
    seen: DiskSight = field(default_factory=DiskSight)
    sight: Sight = field(default_factory=lambda: Sight(NONE))
    decision: Decision = field(default_factory=Decision)
    autostart: list[FileChange] = field(default_factory=list)
    images: list[Image] = field(default_factory=list)
    held: list[dict[str, Any]] = field(default_factory=list)
    backup: str | None = None
    after: RunState | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def domid(self) -> int | None:
        return None if self.run is None else self.run.domid

    @property
    def lives(self) -> bool:
        """It has a domain that can be compared with what is declared."""
        return self.standing in (UP, STOPPED)


#: States in which a domain that is up is compared with its configuration.
_COMPARED = (RUNNING, PAUSED)

#: States that a guest is created for from the file that is there, or that take the file away.
_TOUCHING = (RUNNING, PAUSED, RESTARTED, GONE)


class _Aside:
    """A question to xl that is asked while other things are read: both mostly wait."""

    def __init__(self, ask: Callable[[], dict[int, dict[str, Any]]] | None) -> None:
        self._ask = ask
        self._answer: dict[int, dict[str, Any]] = {}
        self._failure: XlError | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> _Aside:
        if self._ask is not None:
            self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        if self._ask is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            self._answer = self._ask() if self._ask is not None else {}
        except XlError as error:
            self._failure = error

    def result(self) -> dict[int, dict[str, Any]]:
        """The answer; raises what the question did."""
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        return self._answer


class _Call:
    """One call on one host."""

    def __init__(self, job: Job, store: Store, xl: Xl) -> None:
        self.job, self.store, self.xl = job, store, xl
        self.records = Records(job.state_dir)
        self.worker = Worker(store, xl, self.records, job.settings)
        self.result = Result()
        self.dialect: Dialect = dialect_of(job.xen, xl)
        self.snapshot = Snapshot({})
        self.runs: list[RunState] = []
        self.libxl: dict[int, dict[str, Any]] | None = None
        self.sizes: dict[str, dict[str, int]] = {}
        self.guests = [_Guest(wish) for wish in job.wishes]
        self.unserved: dict[tuple[int, int], str] = {}

    def run(self) -> Result:
        if self.dialect.note:
            self.result.warnings.append(self.dialect.note)
        for guest in self.guests:
            self._read_config(guest)
        self._look()
        for guest in self.guests:
            self._compare(guest)
            self._decide(guest)
        findings = self._judge()
        self._tell()
        refusals = [guest.decision.refusal for guest in self.guests if guest.decision.refusal]
        if refusals or errors(findings):
            told = [*refusals, *([summary(findings)] if errors(findings) else [])]
            self.result.failed = ". ".join(told)
            return self._ended(carried_out=False)
        for guest in self.guests:
            self._validate(guest)
        if self.job.check:
            self.result.changed = any(_changes(guest) for guest in self.guests)
            return self._ended(carried_out=False)
        self._apply()
        return self._ended(carried_out=True)

    # --- read ---------------------------------------------------------------------------------------------

    def _read_config(self, guest: _Guest) -> None:
        """The guest's configuration as it lies there, and as it is wished for."""
        wish = guest.wish
        guest.before = _content(wish)
        if not wish.said:
            guest.spec, unreadable = self._parse(guest.before)
            guest.text = None if guest.before is None else _decoded(guest.before)
            if unreadable is not None and wish.state not in (GONE, CONFIGURED):
                guest.warnings.append(f"{wish.path}: {unreadable}")
            if guest.spec is not None and wish.state in _TOUCHING:
                _own(wish, guest.spec)
            return
        guest.spec = wanted = self._wanted(wish)
        guest.warnings += _without_effect(wanted)
        guest.text = wish.content
        if wish.content is None and not option_release_violations(wanted, self.dialect):
            guest.text = render_guest(wanted, self.dialect)
        if guest.before is None:
            guest.config = [Change("configuration", None, wish.path)]
            return
        now = _decoded(guest.before)
        if now == guest.text:
            return
        found, unreadable = self._parse(guest.before)
        if found is None:
            guest.config = [Change("configuration", unreadable, "as declared")]
            return
        _own(wish, found)
        changes = [Change(*one) for one in compare(found, wanted, default_type=_default_type())]
        if changes:
            guest.config = hide(changes, self.job.hidden)
        else:
            guest.text = now  # the same in other words

    def _wanted(self, wish: Wish) -> GuestSpec:
        if wish.spec is not None:
            return wish.spec
        try:
            spec, notes = read_guest(wish.content or "", self.dialect)
        except GuestError as error:
            raise GuestError(f"guest {wish.name}: content: {error}") from error
        self.result.deprecations += [f"guest {wish.name}: content: {note}" for note in notes]
        if spec.name != wish.name:
            raise GuestError(f"guest {wish.name}: its content calls it {spec.name!r}; both are one name")
        return spec

    def _parse(self, content: bytes | None) -> tuple[GuestSpec | None, str | None]:
        if content is None:
            return None, None
        try:
            return read_guest(_decoded(content))[0], None
        except GuestError as error:
            return None, str(error)

    def _look(self) -> None:
        """One snapshot, one list, and libxl's records where there may be a domain to compare."""
        compared = any(wish.said and wish.state in _COMPARED for wish in self.job.wishes)
        with _Aside(self.xl.records if compared else None) as records:
            self.snapshot = self._survey()
            self.runs = self.xl.list()  # after the store: what dies in between is then gone
            by_domid = {run.domid: run for run in self.runs}
            for guest in self.guests:
                guest.domain = self._find(guest.wish.name)
                guest.made = self.records.read(guest.wish.name)
                domid = guest.domain.domid if guest.domain is not None else self._unrecorded(guest)
                guest.run = by_domid.get(domid) if domid is not None else None
                self._stand(guest)
                self._alone_with_its_uuid(guest)
            if any(guest.lives for guest in self.guests):
                self.libxl = records.result() if compared else self.xl.records()
        self._patience()
        self.unserved = self._unserved()

    def _unserved(self) -> dict[tuple[int, int], str]:
        """Disks whose daemon is gone, as the launcher of their backend domain says: their state does not tell."""
        return {
            (domid, number): f"its daemon is gone ({told.reason or 'its launcher calls it lost'})"
            for (backend, domid, number), told in self.snapshot.told.items()
            if told.status == LOST and self._serves(backend, domid, number)
        }

    def _serves(self, backend: int, domid: int, number: int) -> bool:
        """Whether it is that domain which has the disk, by dom0's own record."""
        live = self.snapshot.disks.get((domid, number))
        return live is not None and live.backend_domid == backend

    def _survey(self) -> Snapshot:
        """The store's side of the host. Who may read a guest's nodes is libxl's affair: it wrote them."""
        userdata = self.job.settings.userdata
        return survey(self.store, self._scope, userdata=userdata, quotas=True, permissions=False)

    def _scope(self, domains: dict[int, Domain]) -> Scope:
        guests: set[int] = set()
        backends: set[int] = set()
        for guest in self.guests:
            domain = _named(guest.wish.name, domains)
            if domain is not None:
                guests.add(domain.domid)
            for disk in guest.spec.disks if guest.spec is not None else ():
                with contextlib.suppress(ResolveError):
                    backends.add(backend_of(disk.spec, domains).domid)
        return Scope(guests, backends)

    def _find(self, name: str) -> Domain | None:
        return _named(name, self.snapshot.domains)

    def _alone_with_its_uuid(self, guest: _Guest) -> None:
        """Refuse a uuid that another domain has: neither Xen nor xl would, and both would answer to it.

        Raises:
            GuestError: one has it.
        """
        uuid = guest.spec.options.get("uuid") if guest.spec is not None else None
        if uuid is None or guest.wish.state in (SHUTDOWN, GONE):
            return
        for domain in self.snapshot.domains.values():
            if domain.alive and domain.uuid == uuid and domain.domid != guest.domid:
                raise GuestError(
                    f"guest {guest.wish.name}: its uuid {uuid} is that of {domain.label} (domain {domain.domid}); give "
                    "each guest its own, or leave it out"
                )

    def _unrecorded(self, guest: _Guest) -> int | None:
        """The guest's domain where Xen has it and the store has not.

        Raises:
            RunError: the store has forgotten a domain that lives.
        """
        name, made = guest.wish.name, guest.made
        unknown = [run for run in self.runs if run.domid not in self.snapshot.domains]
        for run in unknown:
            mine = made is not None and made.domid == run.domid
            if run.name == name or (run.dying and mine):
                return run.domid
            if not run.dying and (mine or named_by_libxl(self.job.settings.userdata, run.domid) == name):
                raise RunError(
                    f"{name}: Xen has its domain {run.domid}, and xenstore knows nothing of it (was xenstored "
                    "restarted?): neither can it be managed, nor another one be given its disks; nothing was changed. "
                    f"Reboot the host, or end the domain with: xl destroy {run.domid}"
                )
        return None

    def _stand(self, guest: _Guest) -> None:
        domain, run, made = guest.domain, guest.run, guest.made
        recorded = domain is not None and domain.made_by_xl
        begun = made.creating if made is not None else None
        ours = bool(
            begun
            and begun.get("boot") == boot_id()
            and run is not None
            and run.paused
            and not recorded
            and run.domid not in begun.get("domids", ())
        )
        guest.standing = standing_of(
            run,
            dom0less=domain is not None and domain.maker == MADE_ELSEWHERE and not domain.name_trusted,
            by_xl=recorded,
            ours=ours,
        )
        guest.about = bool(domain is not None and made is not None and made.uuid and made.uuid == domain.uuid)

    def _patience(self) -> None:
        """Give disks that are just coming up the time they have, before anybody calls them lost."""
        waiting = [
            live_attachment(live)
            for guest in self.guests
            if guest.standing == UP and guest.domid is not None
            for live in self.snapshot.disks_of(guest.domid).values()
            if live.state == "1"
        ]
        if waiting:
            settle(self.store, waiting, (), timeout=self.job.settings.wait_timeout, settling=0)
            self.snapshot = self._survey()

    # --- plan ---------------------------------------------------------------------------------------------

    def _compare(self, guest: _Guest) -> None:
        """What the guest's domain would have to change."""
        wish = guest.wish
        sight = Sight(guest.standing, guest.domid, config=guest.config, has_config=guest.spec is not None)
        if wish.state == GONE:
            sight.has_config = guest.before is not None
        guest.sight = sight
        if not guest.lives or guest.domid is None:
            return
        record = (self.libxl or {}).get(guest.domid) or {}
        named = record.get("c_info") or {}
        if guest.domain is not None and named.get("uuid") not in (None, guest.domain.uuid):
            record = {}  # of a domain that had this id a moment before
        sight.unknown = not record.get("b_info")
        if sight.unknown and wish.said:
            guest.warnings.append(
                f"guest {wish.name}: xl list -l tells nothing of domain {guest.domid}, whose record was not compared"
            )
        sight.on_poweroff = record.get("on_poweroff")
        guest.disks = self._disks(guest)
        if guest.disks is not None:
            order = self._disk_order(guest, record)
            compared = wish.said and not guest.unresolved
            guest.seen = see_disks(guest.disks, order, self.unserved, declared=compared)
            sight.lost, sight.drift = guest.seen.lost, guest.seen.drift
            sight.live = guest.seen.steps if compared else []
            sight.domain += guest.seen.changes if compared else []
        if not wish.said or guest.text is None or guest.spec is None:
            return
        self._check_with_xl(guest)
        if not sight.unknown and guest.parsed is not None:
            said = guest.spec.options
            before = guest.made.parsed if guest.made is not None and guest.about else None
            recorded = record_changes(
                guest.parsed,
                record,
                before or None,
                uuid="uuid" in said,
                maxmem="maxmem" in said,
                maxvcpus="maxvcpus" in said,
            )
            sight.domain = [
                *hide_record(recorded, self.job.hidden),
                *hide(self._files(guest), self.job.hidden),
                *sight.domain,
            ]

    def _disk_order(self, guest: _Guest, record: dict[str, Any]) -> list[int]:
        """The device numbers that the domain was created with.

        libxl's list leaves out what it does not find in xenstore any more, so what the domain is known to be made
        from counts, unless libxl knows of more.
        """
        listed = disk_order(record)
        if guest.made is None or not guest.about or not guest.made.text:
            return listed
        made = self._runs_from(guest)
        known = order_of(made.disks) if made is not None else []
        return known if set(listed) <= set(known) else listed

    def _disks(self, guest: _Guest, *, declared: bool = True) -> DisksPlan | None:
        """The store's side of a running guest's disks."""
        disks = guest.spec.disks if declared and guest.wish.said and guest.spec is not None else None
        declaration = GuestDeclaration(str(guest.domid), disks, exclusive=disks is not None)
        options = DiskOptions(hotplug=True, xl=True)
        try:
            plan = make_plan([declaration], self.snapshot, self.dialect, options)
        except ResolveError as error:
            if disks is not None:
                # the rules say it with a remedy, and a backend that is gone keeps nobody from ending a guest
                if not guest.unresolved:
                    guest.warnings.append(f"guest {guest.wish.name}: its disks were not compared: {error}")
                guest.unresolved = True
                return self._disks(guest, declared=False)
            return None
        plan.guests[0].reference = guest.wish.name
        return plan.guests[0]

    def _files(self, guest: _Guest) -> list[Change]:
        """New content at an old path."""
        if guest.made is None or not guest.about or guest.spec is None:
            return []
        found = []
        for option, then in guest.made.files.items():
            path = guest.spec.options.get(option)
            if path is None or path != then.get("path") or not then.get("sha256"):
                continue
            now = self.worker.checksums.facts(path, then)["sha256"]
            if now is not None and now != then["sha256"]:
                found.append(Change(option, f"{path} sha256:{then['sha256']}", f"{path} sha256:{now}"))
        return found

    def _check_with_xl(self, guest: _Guest) -> None:
        """What this host's xl makes of the guest's configuration; asked only where nobody knows yet."""
        if guest.parsed is not None or guest.text is None:
            return
        known = guest.made.parsed_for(guest.text, self.dialect.name) if guest.made is not None else None
        guest.parsed = known if known is not None else self._dry_run(guest, guest.text)

    def _dry_run(self, guest: _Guest, text: str) -> dict[str, Any]:
        """``xl create -n`` on a file that goes again. Raises XlError with xl's words."""
        handle, path = tempfile.mkstemp(prefix="xen-virtio.", suffix=".cfg")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(text.encode("utf-8", "surrogateescape"))
            return self.xl.check(path)
        except XlError as error:
            words = str(error).replace(path, guest.wish.path)
            raise XlError(
                f"guest {guest.wish.name}: xl refuses its configuration, nothing was changed: {words}",
                words=error.words,
                timed_out=error.timed_out,
            ) from error
        finally:
            os.unlink(path)

    def _decide(self, guest: _Guest) -> None:
        wish = guest.wish
        options = Options(wish.recreate, wish.force_destroy)
        guest.decision = decide(wish.name, wish.state, guest.sight, options)
        guest.images = [image for image in wish.images if image_missing(image, self.worker.checksums)]
        guest.held = self.worker.still_held(guest.made)
        if self.job.autostart is not None and (wish.autostart is not None or wish.state == GONE):
            guest.autostart = self.job.autostart(wish)
        if guest.decision.action == UNCHANGED and (guest.autostart or guest.images):
            guest.decision.action = "removed" if wish.state == GONE else "changed"

    def _judge(self) -> list[Finding]:
        """All findings over the host as it will be, sorted into the result."""
        if not self.job.judged:
            return []
        present = [guest for guest in self.guests if guest.spec is not None and _stays(guest)]
        before = {guest.wish.name: self._runs_from(guest) for guest in self.guests}
        reordering = {guest.wish.name for guest in self.guests if guest.wish.allow_reorder}
        sizes = {
            guest.wish.name: {int(number): size for number, size in guest.made.sizes.items()}
            for guest in self.guests
            if guest.made is not None and guest.about
        }
        storage = Storage()
        up = [guest for guest in present if guest.wish.state != CONFIGURED or guest.domain is not None]

        def examine(guests: list[_Guest]) -> list[Finding]:
            picture = from_guests(
                [guest.spec for guest in guests if guest.spec is not None],
                self.dialect,
                snapshot=self.snapshot,
                targets=self.job.targets,
                look=storage.look,
                identify=identify,
                before={name: spec for name, spec in before.items() if spec is not None},
                sizes=sizes,
                gone=[guest.wish.name for guest in self.guests if guest.wish.state in (GONE, SHUTDOWN)],
                created={guest.wish.name for guest in guests if guest.decision.create},
            )
            self.sizes.update(_sizes(picture))
            return preflight(picture)

        found = examine(up)
        if len(up) < len(present):
            # a configuration alone hurts nobody; what it would do is worth a word
            found += [replace(one, severity=WARNING) for one in examine(present) if one not in found]
        found = [one for one in found if not (one.code == "reorder" and one.domain in reordering)]
        for guest in self.guests:
            found += lost_findings(guest.wish.name, guest.wish.state, guest.sight, guest.decision)
        standing, accepted = sort_out(found, self.job.accept)
        self.result.findings = [finding.as_dict() for finding in standing]
        self.result.accepted = [finding.as_dict() for finding in accepted]
        return standing

    def _runs_from(self, guest: _Guest) -> GuestSpec | None:
        """What the guest had until now: what its domain was made from, else its configuration."""
        made = guest.made.text if guest.made is not None and guest.about else None
        if guest.text is not None and guest.text == (made or _decoded(guest.before or b"")):
            return guest.spec
        content = guest.before if made is None else made.encode("utf-8", "surrogateescape")
        return self._parse(content)[0]

    def _validate(self, guest: _Guest) -> None:
        """Nothing changes before xl itself has read what it is to be created from."""
        if guest.decision.write or guest.decision.create:
            if guest.text is None and guest.spec is not None:
                guest.text = render_guest(guest.spec, self.dialect)  # says why not
            self._check_with_xl(guest)
        if guest.decision.create and guest.spec is not None:
            self._files_there(guest, guest.spec)

    def _files_there(self, guest: _Guest, spec: GuestSpec) -> None:
        """xl would notice only after the old domain is gone."""
        coming = {image.path for image in guest.images}
        for option in IMAGES:
            path = spec.options.get(option)
            if self.job.check and os.path.dirname(str(path)) == os.path.normpath(self.job.images_dir):
                continue  # what copies images there only said so, too
            if (
                isinstance(path, str)
                and path.startswith("/")
                and path not in coming
                and not os.path.isfile(path)
            ):
                why = "is no regular file" if os.path.exists(path) else "is not on this host"
                raise GuestFileError(f"guest {guest.wish.name}: {option}: {path} {why}; nothing was changed")

    # --- apply --------------------------------------------------------------------------------------------

    def _apply(self) -> None:
        pending = list(self.guests)
        while pending:
            guest = pending.pop(0)
            if not _changes(guest):
                self._remember(guest)
                continue
            task = self._task(guest)
            try:
                self.worker.carry_out(task)
            except (RunError, LockError) as error:
                left = [one.wish.name for one in pending if _changes(one)]
                after = f". Not attempted: {', '.join(left)}" if left else ""
                self.result.failed = f"{error}{after}"
                guest.decision.action = "failed"
                for one in pending:
                    one.decision.action = UNCHANGED
                pending = []
            self.result.changed = self.result.changed or task.changed
            guest.backup = task.backup
            guest.held = self.worker.still_held(task.made)
            self.result.warnings += task.warnings
            if self.result.failed is None:
                self._remember(guest, task.made)

    def _task(self, guest: _Guest) -> Task:
        old = None
        if guest.made is not None and guest.about and guest.made.text:
            old = guest.made.text
        elif guest.before is not None:
            old = _decoded(guest.before)
        return Task(
            name=guest.wish.name,
            path=guest.wish.path,
            decision=guest.decision,
            standing=guest.standing,
            domid=guest.domid,
            before=guest.before,
            text=guest.text,
            spec=guest.spec,
            parsed=guest.parsed,
            release=self.dialect.name,
            made=guest.made,
            old_text=old,
            images=guest.images,
            autostart=guest.autostart,
            sizes=self.sizes.get(guest.wish.name, {}),
            unserved=frozenset(number for domid, number in self.unserved if domid == guest.domid),
        )

    def _remember(self, guest: _Guest, made: Made | None = None) -> None:
        """Keep what a domain was found to run from, so that no later call has to ask xl again."""
        if guest.decision.create or not guest.lives or guest.domain is None or guest.decision.end:
            return
        pending = [change for change in guest.sight.domain if not change.live]
        if guest.parsed is None or guest.text is None or pending or guest.sight.unknown:
            return
        kept = made or guest.made
        if kept is not None and guest.about and kept.parsed_for(guest.text, self.dialect.name) is not None:
            return
        fresh = Made(
            name=guest.wish.name,
            uuid=guest.domain.uuid or "",
            text=guest.text,
            parsed=guest.parsed,
            release=self.dialect.name,
            files=kept.files if kept is not None and guest.about else self.worker.files_of(guest.spec),
            held=kept.held if kept is not None else [],
            asked=kept.asked if kept is not None else "",
        )
        with contextlib.suppress(GuestFileError):  # it only saves time
            self.records.write(fresh)

    # --- result -------------------------------------------------------------------------------------------

    def _ended(self, *, carried_out: bool) -> Result:
        """Put the last picture into the result."""
        result = self.result
        after = carried_out and result.changed
        if after:
            self._look_again()
        for guest in self.guests:
            result.guests.append(self._shown(guest, after=after))
            result.warnings += guest.warnings
        if result.failed is None:
            result.msg = self._told(carried_out=carried_out)
        return result

    def _tell(self) -> None:
        """The difference a person is shown, before anything becomes different."""
        for guest in self.guests:
            if _changes(guest) or guest.decision.reasons or guest.decision.refusal:
                self.result.diff.append(_diff(guest, self.job.hidden))
            self.result.diff += [change.as_diff() for change in guest.autostart]

    def _look_again(self) -> None:
        try:
            self.snapshot = self._survey()
            self.runs = self.xl.list()
        except (StoreError, EmptyStoreError, XlError) as error:
            told = f"how the guests stand now could not be read: {error}"
            self.result.failed = f"{self.result.failed}; {told}" if self.result.failed else told
            return
        by_domid = {run.domid: run for run in self.runs}
        for guest in self.guests:
            with contextlib.suppress(ResolveError):
                guest.domain = self._find(guest.wish.name)
            guest.run = by_domid.get(guest.domain.domid) if guest.domain is not None else None

    def _shown(self, guest: _Guest, *, after: bool) -> dict[str, Any]:
        sight, decision, run = guest.sight, guest.decision, guest.run
        return {
            "name": guest.wish.name,
            "domid": guest.domid,
            "uuid": guest.domain.uuid if guest.domain is not None and run is not None else None,
            "run_state": "absent" if run is None else run.run_state,
            "state": guest.wish.state,
            "path": guest.wish.path,
            "action": decision.action,
            "differences": {
                "config": [change.as_dict() for change in sight.config or ()],
                "domain": [change.as_dict() for change in sight.domain],
                "store": [
                    *(lost.as_dict() for lost in sight.lost),
                    *({"vdev": vdev, "what": "drifted", "found": words} for vdev, words in sight.drift),
                ],
            },
            "recreate_reasons": list(decision.reasons),
            "backup": guest.backup,
            "held": guest.held,
            "disks": self._disks_shown(guest, after=after),
        }

    def _disks_shown(self, guest: _Guest, *, after: bool) -> list[dict[str, Any]]:
        """The guest's disks in the shape of module disk's."""
        created = guest.decision.action in ("created", "started", "recreated", "restarted")
        if after and guest.domid is not None:
            try:
                guest.disks = self._disks(guest)
            except (ResolveError, PlanError):
                guest.disks = None
        if guest.disks is None or guest.domid is None:
            return []
        shown = [planned_disk(guest.disks, disk, self.snapshot) for disk in guest.disks.disks]
        for live in guest.disks.kept:
            shown.append(
                disk_result(
                    live_attachment(live),
                    self.snapshot.domains,
                    action=UNCHANGED,
                    state=live.state,
                    healthy="attached"
                    if live.state == "2"
                    else "pending"
                    if live.state == "1"
                    else "missing",
                )
            )
        if after and created:
            for disk in shown:
                disk["action"] = "added" if disk["action"] == UNCHANGED else disk["action"]
        return shown

    def _told(self, *, carried_out: bool) -> str:
        counted: dict[str, int] = {}
        for guest in self.guests:
            action = guest.decision.action
            if action != UNCHANGED:
                counted[action] = counted.get(action, 0) + 1
        told = ", ".join(f"{number} {action}" for action, number in counted.items()) or "nothing to change"
        pending = [
            guest.wish.name for guest in self.guests if guest.decision.reasons and not guest.decision.create
        ]
        pending = [name for name in pending if name]
        more = f"; to be re-created to be as declared: {', '.join(pending)}" if pending else ""
        verb = " (not carried out: check mode)" if not carried_out and self.result.changed else ""
        many = "1 guest" if len(self.guests) == 1 else f"{len(self.guests)} guests"
        return f"{many}: {told}{verb}{more}"


def _changes(guest: _Guest) -> bool:
    return bool(guest.decision.changes or guest.autostart or guest.images)


def named_by_libxl(userdata: str, domid: int) -> str | None:
    """What libxl's record of a domain calls it, also where the store does not know the domain."""
    for path in glob.glob(os.path.join(glob.escape(userdata), f"userdata-d.{domid}.*.libxl-json")):
        try:
            with open(path, "rb") as file:
                record = json.loads(file.read().rstrip(b"\0"))
            return str(record["c_info"]["name"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def _sizes(picture: Picture) -> dict[str, dict[str, int]]:
    """The sizes of all guests' targets in bytes, by device number, as far as they can be told."""
    return {
        guest.reference: {
            str(disk.devid): disk.facts.size
            for disk in guest.disks
            if disk.facts is not None and disk.facts.size is not None
        }
        for guest in picture.guests
    }


def _stays(guest: _Guest) -> bool:
    """Whether the rules about what will be have anything to say of a guest."""
    if guest.wish.state in (GONE, SHUTDOWN) or guest.standing == DOM0LESS:
        return False
    return guest.wish.said or guest.decision.create


def _named(name: str, domains: dict[int, Domain]) -> Domain | None:
    """The domain of that name, of which dom0 says so; None where there is none."""
    several = [one.domid for one in domains.values() if one.alive and one.name_trusted and one.name == name]
    if len(several) > 1:
        listed = ", ".join(map(str, sorted(several)))
        raise ResolveError(f"guest {name}: domains {listed} have that name; end one of them, or xl rename it")
    try:
        domain = resolve({key: one for key, one in domains.items() if one.alive}, name)
    except UnknownDomainError:
        return None
    if domain.domid == 0:
        raise ResolveError(f"guest {name}: that is dom0 itself")
    return domain


def _without_effect(spec: GuestSpec) -> list[str]:
    """What xl reads and forgets: it pins as many vCPUs as it has been told of (parse_vcpu_affinity, xl_parse.c)."""
    said = spec.options
    if "vcpus" in said or "maxvcpus" in said:
        return []
    return [
        f"guest {spec.name}: {option} has no effect without vcpus: xl pins as many vCPUs as vcpus says; say vcpus: 1"
        for option in ("cpus", "cpus_soft")
        if option in said
    ]


def _own(wish: Wish, found: GuestSpec) -> None:
    """Refuse to create a guest from another's configuration, or to take that away."""
    if found.name != wish.name:
        raise GuestError(
            f"guest {wish.name}: {wish.path} is the configuration of guest {found.name}; say another path, or "
            "remove it"
        )


def _content(wish: Wish) -> bytes | None:
    try:
        if os.path.exists(wish.path) and not os.path.isfile(wish.path):
            # a pipe would hold us up, a device has no end
            raise GuestFileError(f"guest {wish.name}: {wish.path} is no regular file; say another path")
        return content_of(wish.path)
    except OSError as error:
        raise GuestFileError(f"guest {wish.name}: {wish.path} cannot be read: {error.strerror}") from error


def _decoded(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")


def _default_type() -> str:
    """What xl makes of a configuration without a type (``parse_config_data``, tools/xl/xl_parse.c)."""
    return "pv" if os.uname().machine in ("x86_64", "i686", "i586") else "pvh"


def _diff(guest: _Guest, hidden: Hidden) -> dict[str, str]:
    """What becomes of a guest, as text for ``--diff``."""
    decision, sight = guest.decision, guest.sight
    before = _decoded(guest.before) if guest.before is not None else ""
    after = before
    if decision.write and guest.text is not None:
        after = guest.text
    elif decision.remove:
        after = ""
    lines = [(_now(guest), _then(guest))] if _now(guest) != _then(guest) else []
    lines += [_sides(change) for change in sight.domain]
    lines += [(f"disk {lost.vdev}: {lost.why}", f"disk {lost.vdev}: attached") for lost in sight.lost]
    lines += [(f"disk {vdev}: {words}", f"disk {vdev}: as declared") for vdev, words in sight.drift]
    veiled = [_sides(change) for change in sight.config or () if _veiled(change)]
    head = f"{guest.wish.path} and guest {guest.wish.name}"
    if before == after:
        before = after = ""
        head = f"guest {guest.wish.name}"
    return {
        "before_header": head,
        "after_header": head,
        "before": _joined(hidden.text(before), (line[0] for line in lines), (line[0] for line in veiled)),
        "after": _joined(hidden.text(after), (line[1] for line in lines), (line[1] for line in veiled)),
    }


def _sides(change: Change) -> tuple[str, str]:
    before, after = change.told
    another = " (another one)" if _veiled(change) else ""
    return f"{change.option}: {shown(before, 200)}", f"{change.option}: {shown(after, 200)}{another}"


def _veiled(change: Change) -> bool:
    """Whether what may be shown of both sides is the same, so that a text with both shows no difference."""
    before, after = change.told
    return bool(before == after)


def _joined(text: str, domain: Iterable[str], veiled: Iterable[str]) -> str:
    listed = [*(f"# file: {line}\n" for line in veiled), *(f"# domain: {line}\n" for line in domain)]
    glue = "" if not text or text.endswith("\n") else "\n"
    return f"{text}{glue}{''.join(listed)}"


def _now(guest: _Guest) -> str:
    return "absent" if guest.run is None else guest.run.run_state


def _then(guest: _Guest) -> str:
    decision = guest.decision
    if decision.create:
        word = "paused" if decision.paused else "running"
        return f"{word} (a new domain)" if decision.end else word
    if decision.end:
        return "absent"
    if decision.paused is not None:
        return "paused" if decision.paused else "running"
    return _now(guest)
