# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Have no virtio-disk daemons beside the launcher's: idle ones ended, their units masked, all of it undone later.

Planned first; one daemon that serves a guest stops the whole plan, unless that was asked for.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import _daemons
from ._backend_rules import serving
from ._files import FileChange
from ._served import Daemon, Service

#: Where systemd looks for units, first come first (systemd.unit(5)).
FOLDERS = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
TRANSIENT = "/run/systemd/transient"

#: Units of this collection; the template's name is that of a foreign one where somebody has one.
OURS = frozenset({"virtio-disk@.service", "virtio-disk-launcher.service"})

UNIT_NAME = re.compile(r"[A-Za-z0-9:_.\\-]+(?:@[A-Za-z0-9:_.\\-]*)?\.service")

_EXEC = re.compile(r"(?m)^\s*ExecStart\s*=\s*[@:+!|-]*(.*)$")
_WORDS = re.compile(r"[\s;&|\"'()]+")
_SHELL = re.compile(r"(?:ba|da|a)?sh")

#: Seconds for what systemctl answers by itself, and for a stop that was made to end.
_ASK_TIMEOUT = 20.0
_STOP_TIMEOUT = 15.0

#: A unit file is far smaller.
_UNIT_LIMIT = 256 << 10

MASK = "/dev/null"


class ForeignError(RuntimeError):
    """Something could not be done."""


class _NoAnswerError(ForeignError):
    """systemctl was not done in time."""


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    Attributes:
        refusals: why nothing may be done, a sentence each; the rest counts only where there are none.
        stops: units to stop.
        masks: units to mask.
        ends: processes to end that are in no unit of their own.
    """

    refusals: Sequence[str] = ()
    stops: Sequence[str] = ()
    masks: Sequence[str] = ()
    ends: Sequence[Daemon] = field(default=())

    @property
    def empty(self) -> bool:
        """Whether all is as it should be."""
        return not (self.stops or self.masks or self.ends)

    def as_diff(self) -> dict[str, str]:
        """For ``--diff``."""
        before = [f"{unit}: may run" for unit in self.masks]
        before += [f"{unit}: runs" for unit in self.stops if unit not in self.masks]
        after = [f"{unit}: masked" for unit in self.masks]
        after += [f"{unit}: stopped" for unit in self.stops if unit not in self.masks]
        before += [f"{daemon.label}: runs" for daemon in self.ends]
        after += [f"{daemon.label}: ended" for daemon in self.ends]
        return {
            "before_header": "virtio-disk daemons that are not the launcher's",
            "after_header": "virtio-disk daemons that are not the launcher's",
            "before": "".join(f"{line}\n" for line in before),
            "after": "".join(f"{line}\n" for line in after),
        }


def plan(
    services: Iterable[Service],
    *,
    owners: Mapping[str, bool],
    listed: Collection[str],
    masked: Collection[str],
    transient: Collection[str] = (),
    disrupt: bool = False,
) -> Plan:
    """What is to be done with foreign daemons and their units.

    Args:
        services: what foreign daemons do.
        owners: unit of a daemon → whether its main process is the daemon, so that the unit exists for it. A daemon
            that was started by hand may be in the unit of a login or of cron, which is none of ours to stop.
        listed: units whose own files start a daemon, and those that are to be masked in any case.
        masked: units that are masked already.
        transient: units that have no file, and are gone once they are stopped.
        disrupt: end also what serves a guest.
    """
    refusals, stops, ends, masks = [], set(), [], set(listed)
    for one in services:
        daemon, unit = one.daemon, one.daemon.unit
        if not one.idle and not disrupt:
            refusals.append(
                f"{daemon.label} is a virtio-disk daemon that is not the launcher's, and {serving(one)};"
                " to end it takes the disk from the guest for good. Shut the guest down and run this again, or say"
                " disrupt (virtio_disk_backend_disrupt)"
            )
        if unit is not None and (unit in listed or template_of(unit) in listed or owners.get(unit)):
            stops.add(unit)
            if unit not in transient and template_of(unit) not in listed:
                masks.add(unit)
        else:
            ends.append(daemon)
    masks -= OURS | set(masked)
    return Plan(refusals, sorted(stops), sorted(masks), ends)


def template_of(unit: str) -> str:
    """The template that a unit is an instance of; the unit itself where it is none."""
    name, at, _instance = unit.partition("@")
    return f"{name}@.service" if at else unit


def starts_daemon(text: str, names: Collection[str]) -> bool:
    """Whether a unit's file starts a daemon: as its program, or by its path in the line of a shell."""
    for line in _EXEC.findall(text):
        words = [word for word in _WORDS.split(line) if word]
        if not words:
            continue
        if os.path.basename(words[0]) in names:
            return True
        if _SHELL.fullmatch(os.path.basename(words[0])) and any(
            os.path.isabs(word) and os.path.basename(word) in names for word in words[1:]
        ):
            return True
    return False


# --- systemd ---------------------------------------------------------------------------------------------


class Systemd:
    """The host's service manager.

    Args:
        command: systemctl.
        folders: where units lie, first come first; masks are put into the first.
        transient: where units lie that were made without a file.
        kept: where it is noted which masks are ours, with the files that lay in their place.
    """

    def __init__(
        self,
        command: str = "systemctl",
        folders: Sequence[str] = FOLDERS,
        transient: str = TRANSIENT,
        kept: str = "/etc/xen-virtio/masked",
    ) -> None:
        self._command = command
        self._folders = folders
        self._transient = transient
        self._kept = kept

    # what there is

    def units_of_daemons(self, names: Collection[str]) -> set[str]:
        """Units whose files start a daemon; those that are masked are left out."""
        seen: set[str] = set()
        found = set()
        for folder in self._folders:
            for unit in sorted(_entries(folder)):
                if unit in seen or not UNIT_NAME.fullmatch(unit):
                    continue
                seen.add(unit)
                if starts_daemon(_content(f"{folder}/{unit}"), names):
                    found.add(unit)
        return found - OURS

    def is_masked(self, unit: str) -> bool:
        """Whether nothing starts a unit."""
        with contextlib.suppress(OSError):
            return os.readlink(f"{self._folders[0]}/{unit}") == MASK
        return False

    def is_transient(self, unit: str) -> bool:
        """Whether a unit has no file of its own."""
        return os.path.exists(f"{self._transient}/{unit}")

    def owns(self, unit: str, pid: int, parent: int) -> bool:
        """Whether a process, or the one that started it, is the main process of its unit."""
        if not UNIT_NAME.fullmatch(unit):
            return False
        told = self._run("show", "--property=MainPID", "--value", "--", unit).stdout.strip()
        return told.isdigit() and int(told) > 1 and int(told) in (pid, parent)

    # what is done to it

    def stop(self, unit: str) -> None:
        """Stop a unit; what does not end of it in time is killed."""
        with contextlib.suppress(_NoAnswerError):
            self._checked("stop", "--", unit, timeout=_daemons.END_TIMEOUT)
            return
        self._run("kill", "--kill-who=all", "--signal=KILL", "--", unit)
        try:
            self._checked("stop", "--", unit, timeout=_STOP_TIMEOUT)
        except _NoAnswerError as error:
            raise ForeignError(f"{unit} does not stop, see systemctl status {unit}") from error

    def mask(self, unit: str) -> None:
        """Mask a unit for good. A file that lies in the mask's place is kept, for `unmask`."""
        place, kept = f"{self._folders[0]}/{unit}", f"{self._kept}/{unit}"
        try:
            os.makedirs(self._kept, mode=0o755, exist_ok=True)
            os.makedirs(self._folders[0], mode=0o755, exist_ok=True)
            if os.path.islink(place):
                os.symlink(os.readlink(place), f"{kept}.new")
                os.replace(f"{kept}.new", kept)
            elif os.path.exists(place):
                shutil.copy2(place, f"{kept}.new")
                os.replace(f"{kept}.new", kept)
            else:
                with open(kept, "w", encoding="utf-8"):  # an empty one: nothing lay there
                    pass
            FileChange(place, None, None, link=MASK).carry_out()
        except OSError as error:
            raise ForeignError(f"{unit} cannot be masked: {error.filename}: {error.strerror}") from error

    def ours(self) -> list[str]:
        """Units that we masked."""
        return sorted(name for name in _entries(self._kept) if UNIT_NAME.fullmatch(name))

    def unmask(self, unit: str) -> None:
        """Undo `mask`; what lay in its place is put back, and nothing is started."""
        place, kept = f"{self._folders[0]}/{unit}", f"{self._kept}/{unit}"
        try:
            if not self.is_masked(unit):
                os.unlink(kept)  # somebody took the mask away already
            elif os.path.islink(kept) or os.path.getsize(kept):
                _move(kept, place)
            else:
                os.unlink(place)
                os.unlink(kept)
            if not _entries(self._kept):
                os.rmdir(self._kept)
        except OSError as error:
            raise ForeignError(f"{unit} cannot be unmasked: {error.filename}: {error.strerror}") from error

    def reload(self) -> None:
        """Have systemd read its units again."""
        self._checked("daemon-reload", timeout=_ASK_TIMEOUT * 3)

    def _checked(self, *arguments: str, timeout: float) -> None:
        done = self._run(*arguments, timeout=timeout)
        if done.returncode != 0:
            raise ForeignError(f"systemctl {' '.join(arguments)}: {' '.join(done.stderr.split())}")

    def _run(self, *arguments: str, timeout: float | None = None) -> subprocess.CompletedProcess[str]:
        timeout = _ASK_TIMEOUT if timeout is None else timeout
        try:
            # run_command has no deadline, and the core no AnsibleModule
            return subprocess.run(  # pylint: disable=unknown-option-value,ansible-bad-function
                [self._command, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                check=False,
            )
        except OSError as error:
            raise ForeignError(f"{self._command}: {error.strerror}") from error
        except subprocess.TimeoutExpired as error:
            asked = " ".join(arguments)
            raise _NoAnswerError(f"{self._command} {asked}: no answer within {timeout:g} s") from error


def _move(source: str, target: str) -> None:
    """Atomically as seen at the target, also from another file system."""
    fresh = f"{target}.new"
    if os.path.islink(source):
        os.symlink(os.readlink(source), fresh)
    else:
        shutil.copy2(source, fresh)
    os.replace(fresh, target)
    os.unlink(source)


# --- one call of the module ------------------------------------------------------------------------------


def survey(
    services: Iterable[Service],
    systemd: Systemd,
    *,
    names: Iterable[str] = (),
    always: Iterable[str] = (),
    disrupt: bool = False,
) -> Plan:
    """Look at the units, and plan.

    Args:
        services: what foreign daemons do.
        systemd: the host's.
        names: what daemons are called beside virtio-disk.
        always: units to mask whether they are there or not.
        disrupt: as in `plan`.
    """
    listed = set(systemd.units_of_daemons({_daemons.NAME, *names})) | set(always)
    found = list(services)
    units = {one.daemon.unit: one.daemon for one in found if one.daemon.unit is not None}
    owners = {
        unit: systemd.owns(unit, daemon.pid, _parent(daemon.pid))
        for unit, daemon in units.items()
        if unit.endswith(".service")
    }
    return plan(
        found,
        owners=owners,
        listed=listed,
        masked={unit for unit in listed | set(units) if systemd.is_masked(unit)},
        transient={unit for unit in units if systemd.is_transient(unit)},
        disrupt=disrupt,
    )


def carry_out(made: Plan, systemd: Systemd) -> None:
    """Do what was planned.

    Raises:
        ForeignError: something could not be done; what was done stays.
    """
    for unit in made.stops:
        systemd.stop(unit)
    for unit in made.masks:
        systemd.mask(unit)
    if made.masks:
        systemd.reload()
    for daemon in made.ends:
        trouble = _daemons.end(daemon)
        if trouble is not None:
            raise ForeignError(trouble)


def _parent(pid: int) -> int:
    """The process that started another (field 4 of /proc/PID/stat); 0 where it ended."""
    try:
        return int(_content(f"/proc/{pid}/stat").rpartition(")")[2].split()[1])
    except (ValueError, IndexError):
        return 0


def _entries(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _content(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_UNIT_LIMIT)
    except OSError:
        return ""


def as_result(made: Plan) -> dict[str, Any]:
    """The plan as the module returns it."""
    return {
        "stopped": list(made.stops),
        "masked": list(made.masks),
        "ended": [{"pid": daemon.pid, "command": daemon.command} for daemon in made.ends],
    }
