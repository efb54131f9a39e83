# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring guests back to a checkpoint: what the detached unit runs, with no controller.

Each guest goes the way of module guest: its old domain ends, its disks are proven free, the new one is created paused
and runs once they are served. Then its configuration is put back to the letter.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from ._archive import ArchiveError
from ._checkpoint import (
    REMOVED,
    Checkpoint,
    CheckpointError,
    Hands,
    Restore,
    Standing,
    Step,
    StepError,
    StoppedError,
    carry_out,
)
from ._checkpointlook import Checkpoints, Place, load_restore, look, paths_of, request_path, save_restore
from ._detached import run_unit, say
from ._files import content_of
from ._guest import EXPECTED, run
from ._guestfiles import Checksums, Records
from ._guestkeep import Keeper
from ._guestkept import GuestFileError
from ._guestlock import LockError, locked, locked_guests
from ._guestplan import CONFIGURED, GONE
from ._guestrun import beside
from ._guestwish import Wish
from ._store import StoreError, Transaction

#: Of the unit that restores: one at a time on a host.
LOCK = "restore"


class HostHands(Hands):
    """The host's own store and xl, through what module guest does.

    Args:
        options: limits, places and the guard of the task.
        path: of the state file.
        stopping: set where somebody told us to stop.
        tell: what is to become of lines for people.
    """

    def __init__(
        self, options: dict[str, Any], path: str, stopping: threading.Event, tell: Callable[[str], None]
    ) -> None:
        self._options = options
        self._place = Place(options)
        self._path = path
        self._stopping = stopping
        self._tell = tell
        self._told = 0
        self._checksums = Checksums()
        self._limit = float(options["restore_timeout"])
        self._deadline = time.monotonic() + self._limit

    def save(self, restore: Restore) -> None:
        for line in restore.log[self._told :]:
            self._tell(line)
        self._told = len(restore.log)
        try:
            save_restore(restore, self._path)
        except OSError as error:  # a full disk must not keep guests from coming back
            self._tell(f"{self._path} cannot be written: {error.strerror}")

    def check(self) -> None:
        if self._stopping.is_set():
            raise StoppedError("stopped between two guests, as it was told to")
        if time.monotonic() >= self._deadline:
            raise StoppedError(f"its restore_timeout of {self._limit:g} s is over")

    @contextlib.contextmanager
    def alone(self, kept: Standing) -> Iterator[None]:
        place = self._place
        try:
            with locked_guests(place.text("lock_dir"), [kept.name], place.number("lock_timeout")):
                yield
        except LockError as error:
            raise StepError(_about(kept.name, str(error))) from error

    def look(self, kept: Sequence[Standing]) -> dict[str, Standing]:
        try:
            with self._place.store() as store:
                return look(self._place, store, self._place.xl(), self._checksums, paths_of(kept))
        except (CheckpointError, *EXPECTED, OSError) as error:
            names = ", ".join(guest.name for guest in kept)
            raise StepError(f"{names}: the host could not be looked at: {error}") from error

    def files(self, kept: Standing) -> dict[str, str | None]:
        found = {}
        for image in kept.images.values():
            path = str(image.get("path"))
            found[path] = self._checksums.facts(path, image)["sha256"]
        return found

    def carry_out(self, kept: Standing, live: Standing, step: Step) -> bool:
        changed = step.withdraw and self._withdraw(live)
        gone = step.action == REMOVED
        if step.state != CONFIGURED:
            path = live.path if gone else kept.path
            wish = Wish(
                kept.name,
                step.state,
                path,
                content=step.text,
                recreate=step.recreate,
                force_destroy=step.force or bool(self._options["force_destroy"]),
                allow_reorder=True,
            )
            changed = self._guest(wish) or changed
        if not gone:
            changed = self._put_back(kept, step) or changed
        return changed

    def _withdraw(self, live: Standing) -> bool:
        """Take back a request to shut down, as long as the guest has taken no note of it."""
        path = request_path(live.domid or 0)

        def work(transaction: Transaction) -> bool:
            if not transaction.read(path):
                return False
            transaction.write(path, b"")
            return True

        try:
            with self._place.store() as store:
                withdrawn = store.transaction(work)
        except StoreError as error:
            raise StepError(_about(live.name, str(error))) from error
        if not withdrawn:
            raise StepError(
                f"{live.name}: its domain {live.domid} was asked to shut down and has just taken note of that; run the "
                "same again"
            )
        records = Records(self._place.text("state_dir"))
        made = records.read(live.name)
        if made is not None and made.asked:
            records.write(replace(made, asked=""))
        return True

    def _guest(self, wish: Wish) -> bool:
        """One call of module guest's for one guest; whether it changed anything."""
        autostart = Keeper(self._options).changes if wish.state == GONE else None
        try:
            with self._place.store() as store:
                result = run(self._place.job(wish, autostart), store, self._place.xl())
        except (*EXPECTED, OSError) as error:
            raise StepError(_about(wish.name, str(error))) from error
        for warning in result.warnings:
            self._tell(warning)
        if result.failed is not None:
            raise StepError(_about(wish.name, result.failed))
        return result.changed

    def _put_back(self, kept: Standing, step: Step) -> bool:
        """The guest's files as they were: its configuration to the letter, and whether it comes up with the host."""
        place = self._place
        try:
            with locked_guests(place.text("lock_dir"), [kept.name], place.number("lock_timeout")):
                changed = _write(kept.path, kept.config)
                if step.stray is not None:
                    changed = _write(step.stray, None) or changed
                wish = Wish(kept.name, CONFIGURED, kept.path, autostart=kept.autostart)
                for change in Keeper(self._options).changes(wish) if _autostart_differs(step) else ():
                    change.carry_out()
                    changed = True
                return changed
        except (LockError, GuestFileError, ArchiveError) as error:
            raise StepError(_about(kept.name, str(error))) from error
        except OSError as error:
            raise StepError(f"{kept.name}: {error.filename}: {error.strerror}") from error


def _autostart_differs(step: Step) -> bool:
    return any(why.startswith("autostart ") for why in step.why)


def _write(path: str, text: str | None) -> bool:
    """A configuration as it was; whether it was another one."""
    content = None if text is None else text.encode("utf-8", "surrogateescape")
    if content_of(path) == content:
        return False
    if content is None:
        os.unlink(path)
    else:
        beside(path, content).commit()
    return True


def _about(name: str, text: str) -> str:
    """What went wrong, with the name of whom it is about."""
    return text if text.startswith((name, f"guest {name}")) else f"{name}: {text}"


def carry_out_here(
    restore: Restore,
    checkpoint: Checkpoint,
    path: str,
    tell: Callable[[str], None],
    stopping: threading.Event,
) -> None:
    """Bring all guests back in this very process; `restore`, and its state file, say how it ended.

    Raises:
        LockError: another restore runs on this host, for too long; nothing was changed.
    """
    options = restore.options
    with locked(str(options["lock_dir"]), LOCK, "the guests of this host", float(options["lock_timeout"])):
        try:
            carry_out(restore, checkpoint, HostHands(options, path, stopping, tell))
        except Exception as error:  # nobody is there to see it: it has to stand in the state file
            restore.outcome = "incomplete"
            what = f"{type(error).__name__}: {error}"
            where = f"checkpoint {restore.checkpoint}: failed on its way"
            restore.message = f"{where} ({what}); run the same again to go on"
            restore.note(restore.message)
            with contextlib.suppress(OSError):
                save_restore(restore, path)
            raise


def main(arguments: list[str]) -> int:
    """``python3 restore.pyz STATE``: carry out what a state file says; 0 where all guests are as kept."""
    return run_unit("restore.pyz", arguments, _restore, (CheckpointError, LockError))


def _restore(path: str, stopping: threading.Event) -> bool:
    restore = load_restore(path)
    if restore is None:
        raise CheckpointError(f"{path}: there is no such file")
    checkpoint = Checkpoints(str(restore.options["state_dir"])).read(restore.checkpoint)
    if checkpoint is None:
        raise CheckpointError(f"there is no checkpoint {restore.checkpoint} any more")
    carry_out_here(restore, checkpoint, path, say, stopping)
    return restore.outcome == "done"
