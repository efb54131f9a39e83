# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The launcher's units: started and stopped in bulk, and known for gone only where systemd says so.

A unit says what it is in two files: ``D-N.env``, which the launcher writes before it starts the unit, and
``D-N.json``, which the unit's view writes once its daemon runs. Both hold the lock ``D-N.lock`` for as long as
either lives.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import re
import select
import signal
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ._diskstatus import key_of, node_name
from ._launch import UNIT_RUNNING, UNIT_STARTING, UNIT_STOPPING, Disk, Key, Unit
from ._launchsettings import Settings
from ._systemd import MOST, PRIVATE, DirectError, Jobs, Outcome, Systemctl

#: Seconds that systemd has for one answer; it only queues jobs, or tells.
COMMAND_TIMEOUT = 10.0
#: Seconds between looks at units that come up or end.
TICK = 0.05
#: Seconds after which systemd is asked about units that do not come up, or do not end.
ASK_AFTER = 0.5
#: The same, once its view has ended: systemd only has to notice.
ASK_AFTER_END = 0.1
#: Seconds until a command that failed is tried again.
RETRY = 1.0
#: Bytes of a unit's own file; its text is a path and some names.
_FILE_LIMIT = 65536

_GONE = ("inactive", "failed")
_UNIT = re.compile(r"virtio-disk@([0-9]+-[0-9]+)\.service")


def unit_name(key: Key) -> str:
    """The unit of a disk."""
    return f"virtio-disk@{node_name(*key)}.service"


class UnfitValueError(ValueError):
    """A value that no environment file can carry."""


def environment(values: Mapping[str, str]) -> str:
    """The text of a unit's environment file (systemd.exec(5), EnvironmentFile).

    Raises:
        UnfitValueError: a value is not of printable characters.
    """
    lines = []
    for name, value in values.items():
        if not value.isprintable():
            raise UnfitValueError(f"{name}: {value!r} is not of printable characters")
        quoted = re.sub(r'(["\\`$])', r"\\\1", value)
        lines.append(f'{name}="{quoted}"\n')
    return "".join(lines)


def parse_environment(text: str) -> dict[str, str]:
    """The values of an environment file that `environment` wrote."""
    found = {}
    for line in text.splitlines():
        name, _equals, value = line.partition("=")
        if len(value) >= 2 and value[0] == value[-1] == '"':
            found[name] = re.sub(r'\\(["\\`$])', r"\1", value[1:-1])
    return found


@dataclass
class Known:
    """What is known of a unit.

    Attributes:
        unit: as decisions see it.
        since: when it was asked for, or found.
        pid: of its view, None until that is known.
        handle: a pidfd of it, -1 where there is none.
        declines: its view knows how to end unless its daemon has taken the disk up.
        ended: its view ended, and systemd has yet to say so.
        asked: when systemd was last asked about it.
    """

    unit: Unit
    since: float
    pid: int | None = None
    handle: int = -1
    declines: bool = False
    ended: bool = False
    asked: float = 0.0

    @property
    def patience(self) -> float:
        """Seconds between questions about it."""
        return ASK_AFTER_END if self.ended else ASK_AFTER


@dataclass
class Command:
    """What systemd is asked for just now."""

    kind: str
    keys: tuple[Key, ...]
    call: Jobs | Systemctl
    deadline: float


class UnitSide:
    """The units of this host.

    Args:
        say: tells the journal: priority, text.
        run_dir: where units say what they are.
        systemctl: the program.
        systemd: the socket of systemd.
    """

    def __init__(
        self,
        say: Callable[[int, str], None],
        run_dir: str = "/run/virtio-disk",
        systemctl: str = "systemctl",
        systemd: str = PRIVATE,
    ) -> None:
        self.run_dir = run_dir
        self._say = say
        self._systemctl = systemctl
        self._systemd = systemd
        self._direct = True
        self.known: dict[Key, Known] = {}
        self.asked_once = False  #: systemd has told of all units that there were
        self.trouble = ""  #: why systemd could not be asked
        self.news = False  #: a unit changed since `units` was last asked
        self._starts: dict[Key, None] = {}
        self._stops: dict[Key, None] = {}
        self._ask = True
        self._not_before = 0.0
        self._running: Command | None = None
        os.makedirs(run_dir, 0o755, exist_ok=True)

    # -- for decisions -----------------------------------------------------------------------------------------

    def units(self) -> dict[Key, Unit] | None:
        """The units that are not gone; None until systemd has told of them."""
        self.news = False
        return {key: known.unit for key, known in self.known.items()} if self.asked_once else None

    def handles(self) -> list[int]:
        """Descriptors that can be read from when something ended."""
        found = [known.handle for known in self.known.values() if known.handle >= 0 and not known.ended]
        return [*found, self._running.call.handle] if self._running is not None else found

    def wake(self, now: float) -> float | None:
        """When to call `turn` again though nothing happens; None for never."""
        moments = []
        if self._running is not None:
            moments.append(self._running.deadline)
        elif self._starts or self._stops or self._ask:
            moments.append(max(now, self._not_before))
        for known in self.known.values():
            if known.unit.phase == UNIT_STARTING and known.pid is None:
                moments.append(now + TICK)
            elif known.ended or known.unit.phase == UNIT_STOPPING or known.handle < 0:
                moments.append(max(now + TICK, known.asked + known.patience))
        return min(moments, default=None)

    # -- acting ------------------------------------------------------------------------------------------------

    def start(self, key: Key, disk: Disk, settings: Settings, daemon: str, mark: str, now: float) -> None:
        """Start a unit. Raises OSError, UnfitValueError."""
        values = {
            "DAEMON": daemon,
            "VERSION": settings.version,
            "VIEW": "1" if settings.view else "0",
            "ARGUMENTS": " ".join(settings.arguments),
            "TARGET": disk.target,
            "MODE": "w" if disk.writable else "r",
            "IDENTITY": " ".join(sorted(disk.identity)),
            "SIZE": "" if disk.size is None else str(disk.size),
            "VIRTIO_DISK_STORE": mark,
        }
        self._remove(key, "json", "lock")
        path = self._path(key, "env")
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            file.write(environment(values))
        os.replace(f"{path}.new", path)
        self.known[key] = Known(replace(_unit(values), phase=UNIT_STARTING), now)
        self._starts[key] = None

    def stop(self, key: Key, *, unless_taken: bool = False) -> None:
        """Stop a unit; where it may have taken its disk up meanwhile, have its view decide, which alone knows."""
        known = self.known.get(key)
        if unless_taken and known is not None and known.declines and known.handle >= 0:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(known.handle, signal.SIGUSR1)
                return
        if known is not None:
            known.unit = replace(known.unit, phase=UNIT_STOPPING)
        if self._starts.pop(key, 0) == 0:
            self._stops[key] = None
        elif known is not None:  # never asked for
            self._forget(key)

    # -- looking -----------------------------------------------------------------------------------------------

    def turn(self, now: float) -> None:
        """Take in what happened and go on with what is to be done."""
        changed = self._command_ended(now)
        for key, known in list(self.known.items()):
            changed = self._look(key, known, now) or changed
        self.news = self.news or changed
        self._next_command(now)

    def _look(self, key: Key, known: Known, now: float) -> bool:
        if known.handle >= 0 and not known.ended and _ready(known.handle):
            known.ended = True
            known.unit = replace(known.unit, phase=UNIT_STOPPING)
            self._ask = True
            return True
        if known.pid is None and key not in self._starts:
            facts = self._facts(key)
            if facts is not None and self._hold(key, known, facts):
                return True
        late = known.pid is None or known.ended or known.unit.phase == UNIT_STOPPING
        if (late or known.handle < 0) and now >= max(known.asked, known.since) + known.patience:
            known.asked = now
            self._ask = True
        return False

    def _hold(self, key: Key, known: Known, facts: Mapping[str, Any]) -> bool:
        """Its daemon runs: know when its view ends."""
        pid = facts.get("view_pid")
        if not isinstance(pid, int) or pid <= 0 or not self._locked(key):
            return False
        known.pid = pid
        known.declines = facts.get("view") is True
        try:
            known.handle = os.pidfd_open(pid)
        except ProcessLookupError:
            known.ended = True
            self._ask = True
        except OSError:  # an old kernel: systemd is asked now and then
            known.handle = -1
        if known.unit.phase == UNIT_STARTING and not known.ended:
            known.unit = replace(known.unit, phase=UNIT_RUNNING)
        return True

    def _facts(self, key: Key) -> dict[str, Any] | None:
        try:
            with open(self._path(key, "json"), encoding="utf-8") as file:
                found = json.loads(file.read(_FILE_LIMIT))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def _locked(self, key: Key) -> bool:
        """Whether the view or the daemon of a disk lives, whatever systemd says."""
        try:
            handle = os.open(self._path(key, "lock"), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(handle)
        return False

    def _adopt(self, key: Key, phase: str, now: float) -> None:
        """A unit that somebody else started: the launcher before this one."""
        values: dict[str, str] = {}
        with contextlib.suppress(OSError, ValueError), open(self._path(key, "env"), encoding="utf-8") as file:
            values = parse_environment(file.read(_FILE_LIMIT))
        facts = self._facts(key)
        known = self.known[key] = Known(replace(_unit(values or _values(facts or {})), phase=phase), now)
        if facts is not None:
            self._hold(key, known, facts)

    def _forget(self, key: Key) -> None:
        self._leave(self.known.pop(key))
        self._starts.pop(key, None)
        self._stops.pop(key, None)
        self._remove(key, "json", "env", "sock", "lock")

    def _leave(self, known: Known) -> None:
        if known.handle >= 0:
            os.close(known.handle)

    def _path(self, key: Key, suffix: str) -> str:
        return f"{self.run_dir}/{node_name(*key)}.{suffix}"

    def _remove(self, key: Key, *suffixes: str) -> None:
        for suffix in suffixes:
            with contextlib.suppress(OSError):
                os.unlink(self._path(key, suffix))

    # -- systemd -----------------------------------------------------------------------------------------------

    def _next_command(self, now: float) -> None:
        """One at a time, so that each sees what the one before did."""
        if self._running is not None or now < self._not_before:
            return
        if self._stops:
            self._run("stop", _taken(self._stops), now)
        elif self._starts:
            self._run("start", _taken(self._starts), now)
        elif self._ask:
            self._ask = False
            self._run("show", tuple(self.known), now)

    def _run(self, kind: str, keys: tuple[Key, ...], now: float) -> None:
        try:
            call = self._call(kind, keys)
        except OSError as error:
            self._failed(kind, keys, f"{self._systemctl}: {error.strerror}", now)
            return
        self._running = Command(kind, keys, call, now + COMMAND_TIMEOUT)

    def _call(self, kind: str, keys: tuple[Key, ...]) -> Jobs | Systemctl:
        """The quicker way where there is one. Raises OSError."""
        names = [unit_name(key) for key in keys]
        if kind == "show":
            wanted = ["Id", "ActiveState", "MainPID", "Job"]
            asked = [*(f"--property={name}" for name in wanted), "virtio-disk@*.service"]
            return Systemctl(self._systemctl, ["show", *asked])
        if self._direct:
            try:
                return Jobs("StartUnit" if kind == "start" else "StopUnit", names, self._systemd)
            except DirectError as error:
                self._not_directly(error)
        return Systemctl(self._systemctl, [kind, "--no-block", "--quiet", *names])

    def _not_directly(self, error: DirectError) -> None:
        self._direct = False
        self._say(5, f"systemctl is used from now on: {error}")

    def _command_ended(self, now: float) -> bool:
        command = self._running
        if command is None:
            return False
        try:
            outcome = command.call.poll()
        except DirectError as error:
            self._not_directly(error)
            command.call.close()
            self._running = None
            self._run(command.kind, command.keys, now)  # to ask twice for one job is to ask once
            return False
        if outcome is None and now < command.deadline:
            return False
        self._running = None
        command.call.close()
        return self._answered(command, outcome, now)

    def _answered(self, command: Command, outcome: Outcome | None, now: float) -> bool:
        if outcome is None or outcome.code != 0:
            words = "no answer in time" if outcome is None else outcome.text.strip()[:400]
            self._failed(command.kind, command.keys, f"systemctl {command.kind}: {words}", now)
            return False
        self.trouble = ""
        if command.kind == "show":
            return self._told(outcome.text, command.keys, now)
        for key in command.keys:
            if key in self.known:
                self.known[key].asked = now
        return False

    def _failed(self, kind: str, keys: tuple[Key, ...], why: str, now: float) -> None:
        if self.trouble != why:
            self._say(3, why)
        self.trouble = why
        self._not_before = now + RETRY
        self._ask = True
        if kind == "stop":  # those that are still there are asked again
            self._stops.update(dict.fromkeys(key for key in keys if key in self.known))

    def _told(self, text: str, asked: tuple[Key, ...], now: float) -> bool:
        """What systemd says of all units; one that it does not name is gone, and so is one that ended."""
        listed = parse_show(text)
        changed = first = not self.asked_once
        self.asked_once = True
        for key, phase in listed.items():
            known = self.known.get(key)
            if phase is None or key in self._starts:
                continue
            if known is None:
                self._adopt(key, phase, now)
                changed = True
            elif (
                known.ended
                and phase != UNIT_STOPPING
                and (self._facts(key) or {}).get("view_pid") != known.pid
            ):
                self._leave(known)  # somebody started it again
                self._adopt(key, phase, now)
                changed = True
            elif not known.ended and known.unit.phase not in (phase, UNIT_STOPPING):
                known.unit = replace(known.unit, phase=phase)
                changed = True
        for key in self._held():
            if key not in self.known and listed.get(key) is None:
                self._adopt(key, UNIT_RUNNING, now)  # run by hand
                changed = True
        if first:
            self._sweep()
        for key in asked:
            # a start that was asked for since then is no part of this answer
            gone = key in self.known and key not in self._starts and listed.get(key) is None
            if gone and not self._locked(key):
                self._forget(key)
                changed = True
        return changed

    def _held(self) -> Iterable[Key]:
        return (key for key in self._with("lock") if self._locked(key))

    def _sweep(self) -> None:
        """Units that ended while there was no launcher left what they were to be."""
        for key in list(self._with("env")):
            self._remove(key, "env")

    def _with(self, suffix: str) -> Iterable[Key]:
        """Of which units that are not known there is a file."""
        with contextlib.suppress(OSError):
            for entry in os.scandir(self.run_dir):
                name, _dot, found = entry.name.rpartition(".")
                key = key_of(name) if found == suffix else None
                if key is not None and key not in self.known:
                    yield key


def _taken(waiting: dict[Key, None]) -> tuple[Key, ...]:
    """As many as can be asked for at once, and no longer among those that wait."""
    keys = tuple(itertools.islice(waiting, MOST))
    for key in keys:
        del waiting[key]
    return keys


def parse_show(text: str) -> dict[Key, str | None]:
    """The phases of units as ``systemctl show`` tells; None for one that is gone."""
    found: dict[Key, str | None] = {}
    for block in text.split("\n\n"):
        told = dict(line.partition("=")[::2] for line in block.splitlines() if "=" in line)
        match = _UNIT.fullmatch(told.get("Id", ""))
        key = key_of(match[1]) if match else None
        if key is None:
            continue
        state = told.get("ActiveState", "")
        if state in _GONE:
            found[key] = UNIT_STARTING if told.get("Job", "0") not in ("", "0") else None
        elif state == "deactivating":
            found[key] = UNIT_STOPPING
        else:
            found[key] = UNIT_STARTING if state == "activating" else UNIT_RUNNING
    return found


def _unit(values: Mapping[str, str]) -> Unit:
    """A unit out of its environment file's values."""
    size = values.get("SIZE", "")
    return Unit(
        UNIT_RUNNING,
        target=values.get("TARGET", ""),
        writable=values.get("MODE", "w") != "r",
        identity=frozenset(values.get("IDENTITY", "").split()),
        size=int(size) if size.isdigit() else None,
        version=values.get("VERSION", ""),
        view=values.get("VIEW", "1") != "0",
        store=values.get("VIRTIO_DISK_STORE", ""),
    )


def _values(facts: Mapping[str, Any]) -> dict[str, str]:
    """The same as its view tells it; in which store it was started is not known then."""
    told = {"TARGET": "target", "MODE": "mode", "SIZE": "size", "VERSION": "version"}
    values = {
        name: str(facts[fact]) for name, fact in told.items() if isinstance(facts.get(fact), (str, int))
    }
    identity = facts.get("identity")
    if isinstance(identity, list):
        values["IDENTITY"] = " ".join(map(str, identity))
    values["VIEW"] = "0" if facts.get("view") is False else "1"
    return values


def _ready(handle: int) -> bool:
    poller = select.poll()
    poller.register(handle, select.POLLIN)
    return bool(poller.poll(0))
