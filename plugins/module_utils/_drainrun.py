# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restart a driver domain with all guests that hang on it: what the detached unit runs, with no controller.

The driver domain may own the network card, so nobody may be needed who is reached through it. What is to be done and
how far it is stands in the state file, and nowhere else.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from ._detached import moment, run_unit, say
from ._drain import (
    BROKEN,
    DONE,
    Drain,
    DrainError,
    Guest,
    Hands,
    Plan,
    StateError,
    StoppedError,
    carry_out,
    make_plan,
    parse,
    render,
)
from ._drainlook import Place, see
from ._files import content_of
from ._guest import EXPECTED, Job, run
from ._guestboot import SILENCE, late
from ._guestfiles import boot_id, stage
from ._guestlock import LockError, locked
from ._guestplan import PAUSED, RESTARTED, RUNNING, SHUTDOWN
from ._snapshot import Snapshot
from ._store import Store, StoreError
from ._survey import EmptyStoreError, Scope, survey

#: Guests that are shut down side by side: they mostly wait.
_TOGETHER = 8
_PAUSE = 0.5


def load(path: str) -> Drain | None:
    """What is kept of a driver domain's last restart; None where nothing is.

    Raises:
        StateError: it cannot be read, or is nothing of ours.
    """
    try:
        content = content_of(path)
    except OSError as error:
        raise StateError(f"{path}: {error.strerror}") from error
    return None if content is None else parse(content, path)


def save(drain: Drain, path: str) -> None:
    """Keep the state, whole or not at all. Raises OSError."""
    drain.changed = moment()
    if drain.outcome is not None and drain.ended is None:
        drain.ended = drain.changed
    stage(path, render(drain), 0o600).commit()


class HostHands(Hands):
    """The host's own store and xl, through what module guest does.

    Args:
        drain: whose options say where everything is.
        path: of the state file.
        stopping: set where somebody told us to stop.
    """

    def __init__(self, drain: Drain, path: str, stopping: threading.Event) -> None:
        self._place = Place(drain.options)
        self._path = path
        self._stopping = stopping
        self._told = len(drain.log)

    def save(self, drain: Drain) -> None:
        for line in drain.log[self._told :]:
            say(line)
        self._told = len(drain.log)
        try:
            save(drain, self._path)
        except OSError as error:  # a full disk must not keep guests from coming back
            say(f"{self._path} cannot be written: {error.strerror}")

    def check(self) -> None:
        if self._stopping.is_set():
            raise StoppedError

    def hanging(self, drain: Drain) -> Plan:
        if drain.boot != boot_id():
            return Plan([], [])
        try:
            with self._place.store() as store:
                sight = see(store, self._place.xl(), self._place)
        except (*EXPECTED, OSError) as error:
            return Plan([], [f"the host could not be looked at: {error}"])
        root = sight.domains.get(drain.domid)
        if root is None or not root.alive or root.label != drain.domain:
            return Plan([], [])
        return make_plan(root, sight, [guest.name for guest in drain.guests])

    def shut_down(self, guests: Sequence[Guest]) -> Iterator[tuple[Guest, str | None]]:
        with ThreadPoolExecutor(max_workers=_TOGETHER) as pool:
            waited = {pool.submit(self._failure, guest): guest for guest in guests}
            for future in as_completed(waited):
                yield waited[future], future.result()

    def _failure(self, guest: Guest) -> str | None:
        try:
            self._do(guest.name, SHUTDOWN, guest.path)
        except DrainError as error:
            return str(error)
        return None

    def restart(self, drain: Drain) -> int:
        state = RESTARTED if self.still_up(drain) else RUNNING
        try:
            domid = self._do(drain.domain, state, drain.path)
        except DrainError as error:
            if self.still_up(drain):
                raise
            say(f"{error}; once more")
            domid = self._do(drain.domain, RUNNING, drain.path)
        if domid is None or (domid == drain.domid and drain.boot == boot_id()):
            raise DrainError(f"{drain.domain}: no new domain of that name came up")
        return domid

    def still_up(self, drain: Drain) -> bool:
        return drain.boot == boot_id() and drain.domid in (self._up(drain) or ())

    def present(self, drain: Drain) -> bool:
        up = self._up(drain)
        return up is None or bool(up)

    def _up(self, drain: Drain) -> list[int] | None:
        """Domains of its name that run or are paused; None where that cannot be told."""
        try:
            with self._place.store() as store:
                domains = self._survey(store).domains
            runs = self._place.xl().list()
        except (*EXPECTED, OSError):
            return None
        named = {one.domid for one in domains.values() if one.alive and one.label == drain.domain}
        return [one.domid for one in runs if one.domid in named and one.run_state in ("running", "paused")]

    def _survey(self, store: Store) -> Snapshot:
        userdata = str(self._place.options["userdata_dir"])
        return survey(store, lambda _domains: Scope(()), userdata=userdata)

    def wait_ready(self, drain: Drain) -> str | None:
        begun = time.monotonic()
        limit = float(drain.options["ready_timeout"])
        told: str | None = None
        while True:
            self.check()
            waited = time.monotonic() - begun
            try:
                with self._place.store() as store:
                    why = late(
                        [drain.domain], store, self._survey(store), patient=waited < min(SILENCE, limit)
                    )
            except (StoreError, EmptyStoreError) as error:
                why = str(error)
            if why is None or waited >= limit:
                return why
            if why != told:
                say(f"waiting: {why}")
                told = why
            self._stopping.wait(_PAUSE)

    def create(self, guest: Guest) -> int | None:
        return self._do(guest.name, PAUSED if guest.paused else RUNNING, guest.path)

    def _do(self, name: str, state: str, path: str) -> int | None:
        """One call of module guest's for one guest; its domid then."""
        try:
            job: Job = self._place.job(self._place.wish(name, state, path))
            with self._place.store() as store:
                result = run(job, store, self._place.xl())
        except (*EXPECTED, OSError) as error:
            raise DrainError(_about(name, str(error))) from error
        for warning in result.warnings:
            say(warning)
        if result.failed is not None:
            raise DrainError(_about(name, result.failed))
        domid = result.guests[0]["domid"]
        return domid if isinstance(domid, int) else None


def _about(name: str, text: str) -> str:
    """What went wrong, with the name of whom it is about."""
    return text if text.startswith((name, f"guest {name}")) else f"{name}: {text}"


def main(arguments: list[str]) -> int:
    """``python3 drain.pyz STATE``: carry out what a state file says; 0 where all is back."""
    return run_unit("drain.pyz", arguments, _drain, (StateError, LockError))


def _drain(path: str, stopping: threading.Event) -> bool:
    drain = load(path)
    if drain is None:
        raise StateError(f"{path}: there is no such file")
    lock = f"drain-{os.path.basename(path)}"
    with locked(str(drain.options["lock_dir"]), lock, f"the driver domain {drain.domain}", 60.0):
        drain = load(path) or drain  # whoever held it may have gone on with it meanwhile
        if drain.outcome is not None:
            say(f"{drain.domain}: {drain.message or drain.outcome}")
            return drain.outcome == DONE
        return _carry_out(drain, path, stopping)


def _carry_out(drain: Drain, path: str, stopping: threading.Event) -> bool:
    try:
        carry_out(drain, HostHands(drain, path, stopping))
    except Exception as error:  # nobody is there to see it: it has to stand in the state file
        drain.outcome = BROKEN
        what = f"{type(error).__name__}: {error}"
        drain.message = f"{drain.domain}: failed on its way ({what}); run the same again to go on from there"
        drain.note(drain.message)
        save(drain, path)
        raise
    say(drain.message)
    for line in drain.lines():
        say(line)
    return drain.outcome == "done"
