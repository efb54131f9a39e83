# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module checkpoint: options in, result out; keeps checkpoints, starts the unit that restores, and follows it."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ._zipped import compile_once

compile_once()

from ._archive import ArchiveError, archive_bytes
from ._argspec import (
    LIMITS,
    RESTORE_TIMEOUT,
    STORE_MUTUALLY_EXCLUSIVE,
    host_argument_spec,
    limits_argument_spec,
    store_argument_spec,
)
from ._checkpoint import (
    DONE,
    FAILED,
    REMOVED,
    RESTORED,
    Checkpoint,
    CheckpointError,
    Restore,
    Row,
    Standing,
    StepError,
    begin,
    check_name,
    counted,
    planned,
)
from ._checkpointlook import Checkpoints, Place, look, paths_of, save_restore
from ._checkpointrun import HostHands, carry_out_here
from ._declaration import DeclarationError
from ._detached import DetachedError, available, moment, start, under_way, unit_name
from ._disk_module import as_text, seconds
from ._files import wanted
from ._guest import EXPECTED
from ._guestfiles import Checksums, boot_id
from ._guestlock import LOCK_DIR, LockError, locked, locked_guests
from ._guestsecrets import Hidden, HiddenError

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

PRESENT, RESTORE, GONE = "present", "restored", "absent"

#: Options in seconds.
_LIMITS = (*LIMITS, "restore_timeout")

CHECKPOINT_ARGUMENT_SPEC: dict[str, Any] = {
    **store_argument_spec(),
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": [PRESENT, RESTORE, GONE], "default": PRESENT},
    "guests": {"type": "list", "elements": "raw"},
    "keep": {"type": "int", "default": 5},
    "wait": {"type": "bool", "default": True},
    "unit": {"type": "str"},
    "force_destroy": {"type": "bool", "default": False},
    "restore_timeout": {"type": "float", "default": RESTORE_TIMEOUT},
    **limits_argument_spec(),
    "lock_dir": {"type": "path", "default": LOCK_DIR},
    **host_argument_spec(
        "xen", "xl_path", "userdata_dir", "config_dir", "state_dir", "lib_dir", "unit_dir", "hidden"
    ),
}
CHECKPOINT_CONSTRAINTS: dict[str, Any] = {"mutually_exclusive": [*STORE_MUTUALLY_EXCLUSIVE]}

#: Options that the unit needs as well.
_PLACES = ("lock_dir", "xen", "xl_path", "userdata_dir", "config_dir", "state_dir", "lib_dir", "unit_dir")
_KEPT = (*_LIMITS, *_PLACES, "timeout", "force_destroy", "socket", "xenbus")

#: Seconds between two looks at what the unit did.
_PAUSE = 0.25

#: Seconds for which it waits for whoever may just be looking at a guest.
_BRIEFLY = 1.0

#: Seconds that the module itself follows at most: over a connection that may be lost, calls are better short.
LONGEST_CALL = 15.0

ENDINGS = (CheckpointError, DeclarationError, HiddenError, StepError, *EXPECTED, OSError)


class _Call:
    """One call of the module."""

    def __init__(self, params: dict[str, Any], *, check: bool) -> None:
        self.params, self.check = params, check
        self.name = check_name(str(params["name"]))
        for option in _LIMITS:
            seconds(option, params[option])
        if params["keep"] < 1:
            raise CheckpointError(f"keep is a number of checkpoints, 1 or more, not {params['keep']}")
        self.options = {key: params[key] for key in _KEPT} | {"store": params["socket"] or params["xenbus"]}
        self.place = Place(self.options)
        self.kept = Checkpoints(str(params["state_dir"]))
        self.hidden = Hidden.of(params["hidden"])
        self.warnings: list[str] = []
        self.diff: list[dict[str, str]] = []

    def run(self) -> dict[str, Any]:
        """The module's result.

        Raises:
            one of `ENDINGS`: it cannot be done; the text says what was changed.
        """
        state = self.params["state"]
        return self._take() if state == PRESENT else self._forget() if state == GONE else self._restore()

    def _guests(self) -> dict[str, str | None] | None:
        """The guests that the task names, and where the configuration of each lies where it says so."""
        if self.params["guests"] is None:
            return None
        found: dict[str, str | None] = {}
        for entry in self.params["guests"]:
            said = entry if isinstance(entry, dict) else {"name": entry}
            name, path = said.get("name"), said.get("path")
            unknown = sorted(set(said) - {"name", "path"})
            if unknown or not isinstance(name, (str, int)) or isinstance(name, bool) or not str(name).strip():
                raise CheckpointError(
                    f"guests: a guest is its name, or a mapping of name and path, not {entry!r}"
                )
            if path is not None and not (isinstance(path, str) and path.startswith("/") and "\0" not in path):
                raise CheckpointError(
                    f"guests: {name}: path is the absolute path of its configuration, not {path!r}"
                )
            found[str(name)] = path
        return found

    # --- take, forget ---------------------------------------------------------------------------------------

    def _take(self) -> dict[str, Any]:
        there = self.kept.read(self.name)
        if there is not None:
            return self._told(there, changed=False, msg=f"checkpoint {self.name} is there, of {there.taken}")
        with self.place.store() as store:
            found = look(self.place, store, self.place.xl(), Checksums(), self._guests())
        taken = Checkpoint(self.name, moment(), list(found.values()))
        old = self.kept.too_many(self.params["keep"], self.name)
        old = [name for name in old if not self._runs(self.kept.restore_of(name))]
        if not self.check:
            self.kept.write(taken)
            for name in old:
                self.kept.remove(name)
        many = "1 guest" if len(taken.guests) == 1 else f"{len(taken.guests)} guests"
        more = f"; forgotten: {', '.join(old)}" if old else ""
        told = " (not carried out: check mode)" if self.check else ""
        result = self._told(taken, changed=True, msg=f"checkpoint {self.name}: {many} kept{more}{told}")
        head = {"before_header": self.kept.path_of(self.name), "after_header": self.kept.path_of(self.name)}
        result["diff"] = [
            {**head, "before": "", "after": "".join(f"{_line(guest)}\n" for guest in taken.guests)}
        ]
        return result

    def _forget(self) -> dict[str, Any]:
        if not self.kept.exists(self.name):
            return self._told(None, changed=False, msg=f"there is no checkpoint {self.name}")
        try:
            last = self.kept.restore_of(self.name)
        except CheckpointError:
            last = None  # nobody can read it, so nobody runs from it
        if last is not None and self._runs(last):
            raise CheckpointError(
                f"checkpoint {self.name} is being restored ({last.unit}); wait for it, then forget it"
            )
        if not self.check:
            self.kept.remove(self.name)
        told = " (not carried out: check mode)" if self.check else ""
        return self._told(None, changed=True, msg=f"checkpoint {self.name}: forgotten{told}")

    # --- restore --------------------------------------------------------------------------------------------

    def _restore(self) -> dict[str, Any]:
        checkpoint = self.kept.read(self.name)
        if checkpoint is None:
            known = ", ".join(self.kept.names()) or "none"
            raise CheckpointError(
                f"there is no checkpoint {self.name} on this host (known: {known}); nothing was changed"
            )
        last = self.kept.restore_of(self.name)
        unit = self.params["unit"]
        if unit is not None and (last is None or last.unit != unit):
            raise CheckpointError(
                f"checkpoint {self.name}: nothing is kept of the unit {unit}; another restore came after it, or none "
                "ever ran"
            )
        if last is not None and (unit is not None or self._runs(last)):
            return self._follow(checkpoint, last)
        begun = self._begin(checkpoint)
        return begun if isinstance(begun, dict) else self._follow(checkpoint, begun)

    def _runs(self, restore: Restore | None) -> bool:
        if restore is None or restore.outcome is not None or restore.unit_boot != boot_id():
            return False
        return bool(restore.unit) and under_way(restore.unit)

    def _begin(self, checkpoint: Checkpoint) -> Restore | dict[str, Any]:
        """Start the unit; or the module's result, where there is nothing to start."""
        chosen = self._chosen(checkpoint)
        path = self.kept.state_of(self.name)
        hands = HostHands(self.options, path, threading.Event(), self.warnings.append)
        # one that is still being changed would be found as it was before: then the unit waits, and looks
        with self._still(chosen) as still, self.place.store() as store:
            live = look(self.place, store, self.place.xl(), Checksums(), paths_of(chosen.guests))
            rows = planned(chosen, live, hands)
        diff = [
            _diff(guest, live[guest.name], row, self.hidden)
            for row, guest in _pairs(rows, chosen)
            if _acts(row)
        ]
        failed = [row.error for row in rows if row.action == FAILED]
        if self.check or (still and not diff):
            told = " (not carried out: check mode)" if self.check and diff else ""
            result = self._told(
                checkpoint, changed=bool(diff), msg=f"checkpoint {self.name}: {counted(rows)}{told}"
            )
            result.update(guests=[_row(row) for row in rows], lines=[row.line() for row in rows], diff=diff)
            if failed:
                result.update(failed=True, msg=". ".join(str(why) for why in failed))
            return result
        restore = Restore(
            checkpoint=self.name,
            options=self.options,
            guests=begin(chosen, live),
            begun=moment(),
        )
        lock_dir, limit = str(self.params["lock_dir"]), float(self.params["lock_timeout"])
        with locked(lock_dir, "checkpoint", "a restore", limit):
            there = self.kept.restore_of(self.name)
            if there is not None and self._runs(there):
                return there  # somebody was faster
            self._alone()
            self._start(restore, checkpoint, path)
        self.diff = diff
        return restore

    @contextlib.contextmanager
    def _still(self, chosen: Checkpoint) -> Iterator[bool]:
        """Whether nobody changes any of these guests for as long as this lasts; check mode does not ask."""
        with contextlib.ExitStack() as held:
            try:
                if not self.check:
                    limit = min(_BRIEFLY, float(self.params["lock_timeout"]))
                    names = [guest.name for guest in chosen.guests]
                    held.enter_context(locked_guests(str(self.params["lock_dir"]), names, limit))
            except LockError:
                still = False
            else:
                still = True
            yield still

    def _chosen(self, checkpoint: Checkpoint) -> Checkpoint:
        """The checkpoint with the guests that the task names, all where it names none."""
        names = self._guests()
        if names is None:
            return checkpoint
        known = {guest.name: guest for guest in checkpoint.guests}
        for name in names:
            if name not in known:
                raise CheckpointError(
                    f"checkpoint {self.name} holds no guest {name} (it holds {', '.join(known) or 'none'}); nothing "
                    "was changed"
                )
        return Checkpoint(checkpoint.name, checkpoint.taken, [known[name] for name in names])

    def _alone(self) -> None:
        """Refuse to start beside a restore that runs, of whatever checkpoint."""
        for name in self.kept.names():
            try:
                other = self.kept.restore_of(name)
            except CheckpointError:
                continue
            if other is not None and self._runs(other):
                raise CheckpointError(
                    f"checkpoint {name} is being restored on this host ({other.unit}); wait for it, then run again"
                )

    def _start(self, restore: Restore, checkpoint: Checkpoint, path: str) -> None:
        if not available():
            self.warnings.append(
                "this host does not run systemd: the guests are restored by this very task, and no further after the "
                "end of its connection"
            )
            save_restore(restore, path)
            carry_out_here(restore, checkpoint, path, self.warnings.append, threading.Event())
            return
        restore.unit, restore.unit_boot = unit_name("restore", self.name), boot_id()
        archive = self.kept.path_of(self.name, "restore.pyz")
        try:
            fresh = wanted(archive, archive_bytes("_checkpointrun"))
            if fresh is not None:
                fresh.carry_out()
            save_restore(restore, path)
        except (OSError, ArchiveError) as error:
            raise CheckpointError(
                f"{os.path.dirname(path)}: cannot be written: {error}; see state_dir; nothing was changed"
            ) from error
        try:
            start(restore.unit, "Guests brought back to a checkpoint (xen.virtio.checkpoint)", archive, path)
        except DetachedError as error:
            os.unlink(path)
            raise CheckpointError(str(error)) from error

    def _follow(self, checkpoint: Checkpoint, restore: Restore) -> dict[str, Any]:
        """The result of a restore that was started, or as it stands."""
        limit = time.monotonic() + (LONGEST_CALL if self.params["wait"] and not self.check else 0.0)
        running = self._runs(restore)
        while running and time.monotonic() < limit:
            time.sleep(_PAUSE)
            running = self._runs(self.kept.restore_of(self.name))
        restore = self.kept.restore_of(self.name) or restore
        outcome = restore.outcome or ("running" if running else "interrupted")
        result = self._told(checkpoint, changed=running or restore.touched, msg=self._words(restore, outcome))
        result.update(
            guests=[_row(row) for row in restore.guests],
            lines=restore.lines(),
            unit=restore.unit or None,
            restore={
                "running": running,
                "outcome": outcome,
                "begun": restore.begun,
                "ended": restore.ended,
                "state_file": self.kept.state_of(self.name),
            },
            diff=self.diff,
        )
        if outcome not in (DONE, "running"):
            result["failed"] = True
        return result

    def _words(self, restore: Restore, outcome: str) -> str:
        if outcome == "running":
            return (
                f"checkpoint {self.name} is being restored on this host ({restore.unit}), whatever becomes of this "
                "connection"
            )
        if outcome == "interrupted":
            return f"checkpoint {self.name}: its restore was cut off ({restore.unit}); run the same again to go on"
        return restore.message

    # --- result ---------------------------------------------------------------------------------------------

    def _told(self, checkpoint: Checkpoint | None, *, changed: bool, msg: str) -> dict[str, Any]:
        return {
            "changed": changed,
            "checkpoint": None if checkpoint is None else checkpoint.shown(),
            "guests": [],
            "lines": [] if checkpoint is None else [_line(guest) for guest in checkpoint.guests],
            "unit": None,
            "restore": None,
            "diff": [],
            "msg": msg,
        }


def _pairs(rows: list[Row], checkpoint: Checkpoint) -> list[tuple[Row, Standing]]:
    kept = {guest.name: guest for guest in checkpoint.guests}
    return [(row, kept[row.name]) for row in rows]


def _acts(row: Row) -> bool:
    return row.action in (RESTORED, REMOVED)


def _row(row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "action": row.action,
        "before": row.before,
        "after": row.after,
        "why": row.why,
        "error": row.error,
    }


def _line(guest: Standing) -> str:
    if not guest.exists:
        return f"{guest.name}: does not exist"
    domain = f", domain {guest.domid}" if guest.domid is not None else ""
    config = guest.path if guest.config is not None else "no configuration"
    return f"{guest.name}: {guest.run_state}{domain} ({config}{', autostart' if guest.autostart else ''})"


def _diff(kept: Standing, live: Standing, row: Row, hidden: Hidden) -> dict[str, str]:
    head = f"{kept.path} and guest {kept.name}"
    told = [f"# {why}\n" for why in row.why]
    return {
        "before_header": head,
        "after_header": head,
        "before": _text(hidden.text(live.config or "")) + "".join(told),
        "after": _text(hidden.text(kept.config or "")) + f"# {kept.run_state}, as it was\n",
    }


def _text(text: str) -> str:
    return text if not text or text.endswith("\n") else f"{text}\n"


def main_checkpoint(module: AnsibleModule) -> None:
    """The module checkpoint."""
    empty: dict[str, Any] = {"changed": False, "checkpoint": None, "guests": [], "lines": [], "unit": None}
    try:
        call = _Call(module.params, check=module.check_mode)
        result = call.run()
    except ENDINGS as error:
        module.fail_json(**as_text({**empty, "msg": str(error)}))
        return
    for warning in call.warnings:
        module.warn(as_text(warning))
    if result.pop("failed", False):
        module.fail_json(**as_text(result))
    module.exit_json(**as_text(result))
