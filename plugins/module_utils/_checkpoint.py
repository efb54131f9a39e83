# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the guests of a host run from, kept under a name, against what they run from now: what is to be done. Pure.

Nothing of a restore is kept but how it stands: what is still to be done follows from the checkpoint and the host, so a
restore that was cut off goes on by being planned again. What is done to the host is behind `Hands`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ._guestconfig import GuestError, compare, read_guest
from ._guestplan import CONFIGURED, GONE, PAUSED, RESTARTED, RUNNING, SHUTDOWN

#: What becomes of a guest: it is as kept; it was brought back; it did not exist then and went; neither.
UNCHANGED, RESTORED, REMOVED, FAILED = "unchanged", "restored", "removed", "failed"
#: Nobody has looked at it yet.
WAITING = "waiting"
ACTIONS = (WAITING, UNCHANGED, RESTORED, REMOVED, FAILED)

#: How a restore ended: all guests are as kept; some are not; it was told to stop, or its time was over.
DONE, INCOMPLETE, STOPPED = "done", "incomplete", "stopped"
OUTCOMES = (DONE, INCOMPLETE, STOPPED)

#: No domain, as a run state beside those of `_xloutput.RunState`.
ABSENT = "absent"

#: How the names of checkpoints begin that the playbook rollout takes.
ROLLOUT = "rollout-"

#: A checkpoint's name is the name of a folder.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z", re.ASCII)

#: Lines of the log that are kept.
_LOG = 400


class CheckpointError(RuntimeError):
    """A checkpoint cannot be taken, found, read or restored; the text names it and the remedy."""


class StepError(RuntimeError):
    """A guest was not brought back; the text names it and the remedy."""


class StoppedError(RuntimeError):
    """No further guest is to be begun; the text says why."""


def check_name(name: str) -> str:
    """A checkpoint's name. Raises CheckpointError for what could be none."""
    if not _NAME.match(name):
        raise CheckpointError(
            f"{name!r} is no name of a checkpoint: letters, digits, dots, dashes and underscores, at most 64, the "
            "first a letter or a digit"
        )
    return name


@dataclass
class Standing:
    """How a guest stands, now or when a checkpoint was taken.

    Attributes:
        name: the guest.
        path: where its configuration lies, or would.
        config: that, as it is written (a byte that is no UTF-8 as a surrogate); None where there is none.
        run_state: a word of `_xloutput.RunState.run_state`, or `ABSENT`.
        domid, uuid: of its domain; None and "" without one.
        autostart: it comes up with the host.
        made_from: the configuration that its domain was created from, None where nobody knows.
        images: option (kernel, ramdisk, device_tree) → path, sha256 and stat of it as its domain was created.
        lost: virtio disks of its domain that nobody serves.
        unfinished: its domain is paused and libxl has no record of it: a create did not end.
        asked: a request to shut down lies there for its domain, which has taken no note of it.
        leaving: its domain was asked to shut down, did not within its time, and may yet.
    """

    name: str
    path: str = ""
    config: str | None = None
    run_state: str = ABSENT
    domid: int | None = None
    uuid: str = ""
    autostart: bool = False
    made_from: str | None = None
    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    unfinished: bool = False
    asked: bool = False
    leaving: bool = False

    @property
    def exists(self) -> bool:
        """There is anything of it."""
        return self.config is not None or self.domid is not None or self.autostart

    @property
    def up(self) -> bool:
        """Its domain runs or is paused."""
        return self.run_state in (RUNNING, PAUSED) and not self.unfinished

    @property
    def source(self) -> str | None:
        """What its domain was created from, as far as can be told."""
        return self.config if self.made_from is None else self.made_from

    def shown(self) -> dict[str, Any]:
        """As results carry it."""
        return {
            "name": self.name,
            "run_state": self.run_state,
            "domid": self.domid,
            "autostart": self.autostart,
            "path": self.path,
            "config_sha": None if self.config is None else _sha256(self.config),
            "images": {
                option: {key: one.get(key) for key in ("path", "sha256")}
                for option, one in self.images.items()
            },
        }

    def brief(self) -> dict[str, Any]:
        """The same in what a restore may change."""
        return {key: value for key, value in self.shown().items() if key not in ("name", "path", "images")}


@dataclass
class Checkpoint:
    """Guests of a host as they stood.

    Attributes:
        name: of the checkpoint.
        taken: when, ISO 8601 in UTC.
        guests: those that it is about; one that did not exist has neither domain nor configuration.
    """

    name: str
    taken: str
    guests: list[Standing] = field(default_factory=list)

    def shown(self) -> dict[str, Any]:
        """As results carry it."""
        return {"name": self.name, "taken": self.taken, "guests": [guest.shown() for guest in self.guests]}


# --- what is to be done with one guest -------------------------------------------------------------------


@dataclass
class Step:
    """What is to be done with one guest, in the order of the attributes.

    Attributes:
        action: `UNCHANGED`, `RESTORED`, `REMOVED`, or `FAILED` where nothing can be done.
        state: what is asked of module guest, a word of `_guestplan.STATES`; `CONFIGURED` asks nothing.
        text: what its domain is to be created from; None as its configuration has it then.
        recreate: ``allowed``, or ``unhealthy`` where the domain is the one that is kept: it changes in place.
        force: its domain cannot be shut down cleanly.
        withdraw: the request to shut down that lies there for its domain is to be taken back.
        stray: a second configuration of the guest's, which was not there.
        why: what differs, in a few words each.
        error: why nothing can be done, with the remedy.
    """

    action: str
    state: str = CONFIGURED
    text: str | None = None
    recreate: str = "unhealthy"
    force: bool = False
    withdraw: bool = False
    stray: str | None = None
    why: list[str] = field(default_factory=list)
    error: str | None = None


def plan(kept: Standing, live: Standing, files: Mapping[str, str | None]) -> Step:
    """What brings a guest back.

    Args:
        kept: how it stood.
        live: how it stands.
        files: sha256 of what lies at the paths of the kept images now, None where nothing does.
    """
    if not kept.exists:
        why = ["did not exist"] if live.exists else []
        return Step(
            REMOVED if why else UNCHANGED, GONE if why else CONFIGURED, force=_hopeless(live), why=why
        )
    same = bool(kept.up and live.up and kept.uuid and live.uuid == kept.uuid)
    lost = [vdev for vdev in live.lost if not (same and vdev in kept.lost)] if live.up else []
    step = Step(RESTORED, why=_differences(kept, live, lost, same=same), force=_hopeless(live))
    if live.config is not None and live.path != kept.path:
        step.stray = live.path
    if not step.why:
        return Step(UNCHANGED)
    if not kept.up:
        step.state = SHUTDOWN if live.up or live.unfinished else CONFIGURED
        return step
    going = same and live.leaving and not (kept.leaving or live.asked)
    step.state = RESTARTED if going and kept.run_state == RUNNING else kept.run_state
    step.withdraw = same and live.asked and not kept.asked
    step.recreate = "unhealthy" if same and not going else "allowed"
    anew = not same or bool(lost) or going
    if anew or kept.source == kept.config:
        step.text = kept.source
    if anew:
        step.error = _impossible(kept, files)
    if step.error is not None:
        step.action = FAILED
    return step


def _hopeless(live: Standing) -> bool:
    """There is nothing of a domain that could be shut down: it crashed, lost a disk, or was never complete."""
    return live.run_state in ("crashed", "dying") or live.unfinished or bool(live.up and live.lost)


def _differences(kept: Standing, live: Standing, lost: Sequence[str], *, same: bool) -> list[str]:
    found = []
    if kept.config != live.config or (live.config is not None and live.path != kept.path):
        found.append("its configuration")
    if kept.autostart != live.autostart:
        found.append(f"autostart {_word(live.autostart)} -> {_word(kept.autostart)}")
    if kept.up != live.up or (kept.up and kept.run_state != live.run_state):
        found.append(f"{live.run_state} -> {kept.run_state}")
    elif kept.up and not same:
        found += _made_differently(kept, live)
    elif kept.up and (live.asked, live.leaving) > (kept.asked, kept.leaving):
        found.append("was asked to shut down")
    found += [f"{vdev} is not served" for vdev in lost]
    return found


def _word(flag: bool) -> str:
    return "on" if flag else "off"


def _made_differently(kept: Standing, live: Standing) -> list[str]:
    """Why a domain that was created since is another one; nothing where it runs from the same."""
    if live.made_from is None or not same_meaning(live.made_from, kept.source):
        return ["runs from another configuration"]
    found = []
    for option, then in kept.images.items():
        now = live.images.get(option, {})
        if then.get("sha256") and (now.get("path"), now.get("sha256")) != (then.get("path"), then["sha256"]):
            found.append(f"runs from another {option}")
    return found


def same_meaning(one: str, other: str | None) -> bool:
    """Whether two configurations are the same guest to xl."""
    if one == other:
        return True
    try:
        return other is not None and not compare(read_guest(one)[0], read_guest(other)[0])
    except GuestError:
        return False


def _impossible(kept: Standing, files: Mapping[str, str | None]) -> str | None:
    """Why a guest cannot be created as it was, with the remedy; None where it can."""
    if kept.source is None:
        return (
            f"{kept.name}: what it ran from is not known (it had no configuration, and another toolstack or an earlier "
            "release created it); create it by hand"
        )
    for option, image in kept.images.items():
        path, then = str(image.get("path")), image.get("sha256")
        now = files.get(path)
        if not then or now == then:
            continue
        if now is None:
            return (
                f"{kept.name}: {option}: {path} is gone; put the file with sha256:{then} back, then run again"
            )
        return (
            f"{kept.name}: {option}: {path} holds another file now (sha256:{now}); put the one with sha256:{then} "
            "back, then run again. A file given as src and checksum is kept under a name of its own, and never "
            "overwritten"
        )
    return None


# --- a restore -------------------------------------------------------------------------------------------


@dataclass
class Row:
    """A guest in a restore.

    Attributes:
        name: the guest.
        action: one of `ACTIONS`.
        before, after: how it stood and stands, as `Standing.brief` has it; `after` is None while it waits.
        why: what differed.
        error: why it is not back, with the remedy.
    """

    name: str
    action: str = WAITING
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] | None = None
    why: list[str] = field(default_factory=list)
    error: str | None = None

    def line(self) -> str:
        """How it stands, for people."""
        if self.action == FAILED:
            return f"{self.name}: NOT restored: {self.error}"
        after = self.after or self.before
        told = str(after.get("run_state", ABSENT))
        if after.get("domid") is not None:
            told += f", domain {after['domid']}"
            before = self.before.get("domid")
            if self.action == RESTORED and before not in (None, after["domid"]):
                told += f" (was domain {before})"
        why = f": {', '.join(self.why)}" if self.why else ""
        return f"{self.name}: {self.action} ({told}){why}"


@dataclass
class Restore:
    """A restore as it is kept in its state file.

    Attributes:
        checkpoint: its name.
        unit, unit_boot: the transient unit that carries it out, and the boot that it is of; "" without one.
        options: limits, places and the guard, as `_checkpointrun` reads them.
        guests: in the order in which they are brought back.
        outcome: one of `OUTCOMES`; None while it runs, or where it was cut off.
        begun, changed, ended: moments, ISO 8601 in UTC; `ended` is None while `outcome` is.
        message: how it ended, in a sentence.
        log: what was done, a line each.
    """

    checkpoint: str
    unit: str = ""
    unit_boot: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    guests: list[Row] = field(default_factory=list)
    outcome: str | None = None
    begun: str = ""
    changed: str = ""
    ended: str | None = None
    message: str = ""
    log: list[str] = field(default_factory=list)

    def note(self, line: str) -> None:
        """Keep a line of what was done."""
        self.log = [*self.log, line][-_LOG:]

    def lines(self) -> list[str]:
        """How each guest stands."""
        return [row.line() for row in self.guests]

    @property
    def touched(self) -> bool:
        """Whether anything was done to any guest."""
        return any(
            row.action in (RESTORED, REMOVED) or row.before != (row.after or row.before)
            for row in self.guests
        )


class Hands(ABC):
    """What is done to the host; `_checkpointrun` has the real ones."""

    @abstractmethod
    def save(self, restore: Restore) -> None:
        """Keep the state, whole or not at all."""

    def alone(self, kept: Standing) -> contextlib.AbstractContextManager[None]:
        """Nobody else is changing the guest, nor begins to before this ends.

        Raises:
            StepError: somebody is, for too long.
        """
        del kept
        return contextlib.nullcontext()

    @abstractmethod
    def look(self, kept: Sequence[Standing]) -> dict[str, Standing]:
        """How guests stand now, by name.

        Raises:
            StepError: the host could not be looked at.
        """

    @abstractmethod
    def files(self, kept: Standing) -> dict[str, str | None]:
        """The sha256 of what lies at the paths of its images, None where nothing does."""

    @abstractmethod
    def carry_out(self, kept: Standing, live: Standing, step: Step) -> bool:
        """Bring a guest back; whether anything had to be changed.

        Raises:
            StepError: it failed.
        """

    @abstractmethod
    def check(self) -> None:
        """Raise StoppedError where no further guest is to be begun."""


def in_order(kept: Iterable[Standing]) -> list[Standing]:
    """Guests in the order in which they are brought back.

    First those that have to go, which may hold what others need; then as they were created, so that a driver domain
    comes before its guests.
    """
    return sorted(kept, key=_place)


def _place(guest: Standing) -> tuple[bool, int]:
    return guest.up, guest.domid if guest.up and guest.domid is not None else 0


def begin(checkpoint: Checkpoint, live: Mapping[str, Standing]) -> list[Row]:
    """The guests of a checkpoint as rows, nothing done yet."""
    return [Row(guest.name, before=live[guest.name].brief()) for guest in in_order(checkpoint.guests)]


def planned(checkpoint: Checkpoint, live: Mapping[str, Standing], hands: Hands) -> list[Row]:
    """What a restore would do, a row a guest; `after` is how it would stand, a new domain's domid unknown."""
    rows = begin(checkpoint, live)
    kept = {guest.name: guest for guest in checkpoint.guests}
    for row in rows:
        guest = kept[row.name]
        step = plan(guest, live[row.name], hands.files(guest))
        row.action, row.why, row.error = step.action, step.why, step.error
        row.after = row.before
        if step.action in (RESTORED, REMOVED):
            same = guest.up and live[row.name].uuid == guest.uuid and step.recreate == "unhealthy"
            row.after = {**guest.brief(), "domid": live[row.name].domid if same else None}
    return rows


def carry_out(restore: Restore, checkpoint: Checkpoint, hands: Hands) -> None:
    """Bring all guests back; `restore` says how it ended.

    A guest that cannot be brought back keeps no other from it.
    """
    restore.outcome = restore.ended = None
    kept = {guest.name: guest for guest in checkpoint.guests}
    try:
        for row in restore.guests:
            hands.check()
            _restore_one(row, kept[row.name], hands)
            restore.note(row.line())
            hands.save(restore)
    except StoppedError as stop:
        left = [row.name for row in restore.guests if row.action == WAITING]
        restore.outcome = STOPPED
        restore.message = (
            f"checkpoint {restore.checkpoint}: {stop}; not reached: {', '.join(left)}. Run the same again to "
            "go on"
        )
    else:
        _conclude(restore)
    restore.note(restore.message)
    hands.save(restore)


def _restore_one(row: Row, kept: Standing, hands: Hands) -> None:
    live = None
    try:
        with hands.alone(kept):  # or one that is still being changed would be found as it was before
            live = hands.look([kept])[kept.name]
            step = plan(kept, live, hands.files(kept))
        row.before = row.before or live.brief()
        row.action, row.why, row.error = step.action, step.why, step.error
        if step.action in (RESTORED, REMOVED) and not hands.carry_out(kept, live, step):
            row.action, row.why = UNCHANGED, []
    except StepError as error:
        row.action, row.error = FAILED, str(error)
    try:
        row.after = hands.look([kept])[kept.name].brief()
    except StepError as error:
        row.after = None if live is None else live.brief()
        row.action, row.error = FAILED, row.error or str(error)


def _conclude(restore: Restore) -> None:
    failed = [row for row in restore.guests if row.action == FAILED]
    restore.outcome = INCOMPLETE if failed else DONE
    told = counted(restore.guests)
    restore.message = f"checkpoint {restore.checkpoint}: {told}"
    if failed:
        restore.message += (
            f". NOT restored: {'; '.join(f'{row.error}' for row in failed)}. Mend that, then run the same again: it "
            "goes on from there"
        )


def counted(rows: Iterable[Row]) -> str:
    """How many guests had which end."""
    listed = list(rows)
    told = []
    for action in (RESTORED, REMOVED, UNCHANGED, FAILED):
        number = sum(row.action == action for row in listed)
        if number:
            told.append(f"{number} {action}")
    return ", ".join(told) or "no guest"


# --- files -----------------------------------------------------------------------------------------------


def render(what: Checkpoint | Restore) -> bytes:
    """A checkpoint, or how a restore stands, as a file: JSON that a person can read."""
    text = json.dumps({"version": 1, **asdict(what)}, indent=1, sort_keys=True) + "\n"
    return text.encode("utf-8", "surrogateescape")


def parse_checkpoint(content: bytes, path: str) -> Checkpoint:
    """A checkpoint's file. Raises CheckpointError where it holds something else."""
    remedy = f"{path}: not what this release keeps of a checkpoint; remove it with state: absent"
    try:
        kept = _document(content)
        kept["guests"] = [Standing(**one) for one in kept["guests"]]
        return Checkpoint(**kept)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(remedy) from error


def parse_restore(content: bytes, path: str) -> Restore:
    """A restore's file. Raises CheckpointError where it holds something else."""
    remedy = f"{path}: not what this release keeps of a restore; remove the file"
    try:
        kept = _document(content)
        kept["guests"] = [Row(**one) for one in kept["guests"]]
        restore = Restore(**kept)
        if restore.outcome not in (None, *OUTCOMES) or any(
            row.action not in ACTIONS for row in restore.guests
        ):
            raise ValueError(remedy)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(remedy) from error
    return restore


def _document(content: bytes) -> dict[str, Any]:
    kept = json.loads(content.decode("utf-8", "surrogateescape"))
    if kept.pop("version") != 1:
        raise ValueError("another version")
    return dict(kept)


def outdated(taken: Iterable[tuple[str, str]], keep: int, fresh: str) -> list[str]:
    """The names of checkpoints that are too many, of those that rollouts take: of others nobody said how long to hold.

    Args:
        taken: of all checkpoints, when each was taken and its name.
        keep: so many stay, the newest.
        fresh: the one that was just taken, which stays in any case.
    """
    if not fresh.startswith(ROLLOUT):
        return []
    others = sorted(
        (pair for pair in taken if pair[1] != fresh and pair[1].startswith(ROLLOUT)), reverse=True
    )
    return [name for _moment, name in others[max(keep - 1, 0) :]]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
