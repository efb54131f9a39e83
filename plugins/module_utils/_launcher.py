# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gives every disk of every guest its daemon: what ``virtio-disk-launcher.service`` runs in a backend domain.

    launcher.pyz                    the service
    launcher.pyz --status [--json]  how things are, for people and programs
    launcher.pyz --stopped          what its unit says in the store once the service is gone

It looks (`_launchstore`, `_launchunits`), decides (`_launch`) and acts; it holds nothing that its end would take with
it, and sleeps in poll when nothing happens.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from . import _daemons
from ._backendunits import LOAD_VIEW, view_options
from ._diskstatus import (
    DEAD,
    DISKS_NODE,
    FAILED,
    LAUNCHER_NODE,
    LOST,
    REASON_NODE,
    STATUS_NODE,
    WAITING,
    DiskStatus,
    key_of,
    parse,
)
from ._launch import FREE, IN_USE, Decision, Key, Memory, Observation, Rules, Start, not_started, step
from ._launchsettings import RUN_DIR, SETTINGS, Settings, SettingsError
from ._launchstore import TREE, StoreSide, numbers
from ._launchunits import UnfitValueError, UnitSide
from ._store import Store, StoreError, StoreLost, StoreTimeout, directory, read, write

#: Of this collection, as galaxy.yml has it.
VERSION = "0.1.0"

#: What a unit runs.
VIEW = "/usr/local/lib/xen-virtio/virtio_disk_view.py"

#: Seconds between attempts to reach the store again.
BACKOFF = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
#: Seconds between looks at what no event tells of (storage or a frontend that comes late, a program that is missing).
LOOKS = (0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
#: Looks through all processes for daemons of others: seconds between two at least, and in terms of what one took.
#: Before a start it is once what that took: a daemon that came just now counts.
SCAN, SCAN_SHARE = 0.05, 10
#: Seconds until a start that this host refused is tried again.
RETRY = 1.0
#: Seconds that somebody else's word in our status node stands, lest two of us write for ever.
PEACE = 1.0

#: Seconds that Python has to compile the view; a slow board takes one.
COMPILING = 5.0

#: Priorities of the journal (syslog(3)).
ERROR, WARNING, NOTICE, INFO = 3, 4, 5, 6


class Launcher:
    """The service.

    Args:
        settings: the path of its settings.
        run_dir: where units say what they are.
        view: the program that units run.
        systemctl: the program that starts them.
        store: the path of the store; None looks where libxenstore does.
    """

    def __init__(
        self,
        *,
        settings: str = SETTINGS,
        run_dir: str = RUN_DIR,
        view: str = VIEW,
        systemctl: str = "systemctl",
        store: str | None = None,
    ) -> None:
        self._settings_path = settings
        self._view = view
        self._store_path = store
        self._settings: Settings | None = None
        self._settings_read: tuple[int, int] | None = None
        self._settings_trouble = ""
        self._trouble = ""
        self._refused = ""  #: why the last start could not be carried out
        self._retry_at = 0.0
        self.units = UnitSide(say, run_dir, systemctl)
        self.side: StoreSide | None = None
        self._before: StoreSide | None = None
        self._memory: Memory | None = None
        self._told: Mapping[Key, DiskStatus] = {}
        self._dead = ""
        self._shown = ""
        self._store_trouble = ""
        self._unwritten = ""
        self._foreign: dict[int, tuple[str, int]] = {}  #: pid → in words, pidfd
        self._scan_at = self._scan_again = 0.0  #: the next look by itself; the earliest one before a start
        self._attempt = 0
        self._looks = 0
        self._connect_at: float | None = 0.0
        self._look_at: float | None = None
        self._wake: float | None = None
        self._measure_at: float | None = None
        self._say_at: float | None = None
        self._peace = 0.0
        self._ending = False
        self._lock = self._alone(run_dir)
        self._heard, self._woken = socket.socketpair()

    def _alone(self, run_dir: str) -> int:
        """There is one launcher. Raises SystemExit."""
        handle = os.open(
            f"{run_dir}/launcher.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            say(ERROR, f"another launcher runs already: it holds {run_dir}/launcher.lock")
            raise SystemExit(75) from None  # EX_TEMPFAIL
        return handle

    # -- the loop ----------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Until told to end; the exit status."""
        self._hear_signals()
        self._compile_view()
        notify("READY=1")
        say(INFO, f"launcher of xen.virtio {VERSION}")
        try:
            while not self._ending:
                self._turn()
        finally:
            self._end()
        return 0

    def _compile_view(self) -> None:
        """Have Python keep the view's compiled form where units look for it, or the first disk waits for that."""
        load = LOAD_VIEW.format(library=os.path.dirname(self._view))
        command = [sys.executable, *view_options(self.units.run_dir), "-c", load]
        with contextlib.suppress(
            OSError, subprocess.SubprocessError
        ):  # then a unit does it, or tells why not
            # in the launcher there is no AnsibleModule
            subprocess.run(  # pylint: disable=unknown-option-value,ansible-bad-function
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=COMPILING,
                check=False,
            )

    def _turn(self) -> None:
        self._wait()
        now = time.monotonic()
        self.units.turn(now)
        changed = self.units.news
        if self.side is None and self._connect_at is not None and now >= self._connect_at:
            changed = self._connect(now) or changed
        changed = self._hear_store(now) or changed
        if self._due(self._look_at, now):
            self._look_at = None
            if self.side is not None:
                self.side.look_everywhere()
            changed = True
        if self._due(self._measure_at, now):
            changed = self._measure(now) or changed
        if self._due(self._say_at, now):
            self._say_at = None
            changed = True
        if changed or self._due(self._wake, now):
            self._decide(now)
        self.units.turn(time.monotonic())

    @staticmethod
    def _due(moment: float | None, now: float) -> bool:
        return moment is not None and now >= moment

    def _wait(self) -> None:
        poller = select.poll()
        poller.register(self._heard, select.POLLIN)
        if self.side is not None:
            poller.register(self.side.fileno(), select.POLLIN)
        for handle in self.units.handles():
            poller.register(handle, select.POLLIN)
        for _words, handle in self._foreign.values():
            if handle >= 0:
                poller.register(handle, select.POLLIN)
        now = time.monotonic()
        moments = [
            moment
            for moment in (
                self.units.wake(now),
                self._connect_at if self.side is None else None,
                self._look_at,
                self._wake,
                self._measure_at,
                self._say_at,
            )
            if moment is not None
        ]
        # what came in while a decision was made and carried out
        if self.side is not None and (self.side.store.has_events or self.units.news):
            moments.append(now)
        limit = None if not moments else max(0.0, min(moments) - now) * 1000
        ready = {handle for handle, _what in poller.poll(limit if limit is None else math.ceil(limit))}
        if self._heard.fileno() in ready:
            self._take_signals()
        for pid, (words, handle) in self._foreign.items():
            if handle in ready:  # it ended
                os.close(handle)
                self._foreign[pid] = (words, -1)
                self._scan_at = self._scan_again = 0.0
                self._wake = now

    def _hear_signals(self) -> None:
        for end in (self._heard, self._woken):
            end.setblocking(False)
        signal.set_wakeup_fd(self._woken.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, _heard)

    def _take_signals(self) -> None:
        with contextlib.suppress(BlockingIOError):
            numbers_heard = self._heard.recv(256)
            if signal.SIGTERM in numbers_heard or signal.SIGINT in numbers_heard:
                self._ending = True
            if signal.SIGHUP in numbers_heard:
                self._settings_read = None
                self._scan_at = self._scan_again = 0.0
                self._look_at = time.monotonic()

    def _end(self) -> None:
        """Nobody gives new disks a daemon from now on; those that have one keep it."""
        signal.set_wakeup_fd(-1)
        notify("STOPPING=1")
        if self.side is not None:
            with contextlib.suppress(StoreError):
                self.side.say(VERSION, "the launcher was stopped", None, view=self._rules().view)
            self.side.close()
            self.side = None
        os.close(self._lock)

    # -- the store ---------------------------------------------------------------------------------------------

    def _connect(self, now: float) -> bool:
        try:
            self.side = StoreSide(self._before, self._store_path)
            remembered = self.side.remembered()
        except StoreError as error:
            if self.side is not None:
                self.side.close()
                self.side = None
            self._unreachable(error, now)
            return False
        if self._memory is None:
            self._memory = remembered
        self._connect_at = None
        return True

    def _unreachable(self, error: StoreError, now: float) -> None:
        if not self._store_trouble:
            say(WARNING, f"the store cannot be reached; disks that are served stay so: {error}")
        self._store_trouble = str(error)
        self._connect_at = now + BACKOFF[min(self._attempt, len(BACKOFF) - 1)]
        self._attempt += 1
        self._show("the store cannot be reached")

    def _lost(self, error: StoreError, now: float) -> None:
        if self.side is not None:
            self.side.close()
            self._before, self.side = self.side, None
        if self._memory is not None:  # times of waiting begin anew
            self._memory = step(self._memory, Observation(None, None), now, Rules()).memory
        self._wake = self._look_at = None
        self._unreachable(error, now)

    def _hear_store(self, now: float) -> bool:
        if self.side is None:
            return False
        try:
            return self.side.take_events()
        except StoreError as error:
            self._lost(error, now)
            return False

    # -- deciding ----------------------------------------------------------------------------------------------

    def _decide(self, now: float) -> None:
        if self.side is None or self._memory is None:
            return
        self._wake = None
        try:
            disks = self.side.look(self._memory.tracks)
            units = self.units.units()
            alone = {disk.state for key, disk in (disks or {}).items() if key not in (units or {})}
            if FREE in alone:
                self._scan_at = min(self._scan_at, self._scan_again)
            if not alone.isdisjoint((FREE, *IN_USE)) or self._dead or not self._scan_at:
                self._trouble = self._find_trouble(now)
            seen = Observation(
                disks,
                units,
                self.side.frontends,
                self.side.mark,
                tuple(words for words, _handle in self._foreign.values()),
                self._trouble,
            )
            decision = step(self._memory, seen, now, self._rules())
            unstarted = self._act(decision, now)
            if unstarted:
                # as if it had been known before; what was done is no more to be done
                self._trouble = self._refused
                seen = replace(seen, units=self.units.units(), trouble=self._trouble)
                decision = step(not_started(decision.memory, unstarted), seen, now, self._rules())
            self._memory = decision.memory
            self._wake = decision.wake
            self._plan_a_look(decision, now)
            self._say(decision, disks is None, now)
        except StoreError as error:
            if not isinstance(
                error, (StoreLost, StoreTimeout)
            ):  # it is there, and refuses to tell what there is
                with contextlib.suppress(StoreError):
                    self.side.say(VERSION, str(error), None, view=self._rules().view)
            self._lost(error, now)
            return
        if self._store_trouble:
            say(NOTICE, "the store is back")
        self._store_trouble = ""
        self._attempt = 0

    def _rules(self) -> Rules:
        settings = self._settings
        if settings is None:
            return Rules()
        return Rules(
            view=settings.view,
            served_within=settings.served_within,
            settle=settings.settle,
            runs_within=settings.runs_within,
            closes_within=settings.closes_within,
            shared=frozenset(settings.shared_targets),
        )

    def _find_trouble(self, now: float) -> str:
        """Why no daemon can be started; looked at where one is to be, or could not be before."""
        self._read_settings()
        if now >= self._scan_at:
            self._scan()
        if self._settings is None:
            return self._settings_trouble
        daemon = os.path.realpath(self._settings.daemon)
        if not os.path.isfile(daemon) or not os.access(daemon, os.X_OK):
            return f"{self._settings.daemon}: no program to be run there; install the daemon"
        if not os.path.isfile(self._view):
            return f"{self._view}: the view is not there; have it installed by xen.virtio.backend_launcher"
        return self.units.trouble or (self._refused if now < self._retry_at else "")

    def _read_settings(self) -> None:
        """Anew where the file is another one."""
        try:
            told = os.stat(self._settings_path)
            version = (told.st_mtime_ns, told.st_ino)
        except OSError:
            version = (0, 0)
        if version == self._settings_read:
            return
        self._settings_read = version
        try:
            self._settings = Settings.read(self._settings_path)
        except SettingsError as error:
            # what was read before holds
            self._settings_trouble = str(error)
            say(ERROR, self._settings_trouble)
        else:
            self._settings_trouble = ""
            self._measure_at = time.monotonic() + self._settings.size_interval

    def _scan(self) -> None:
        """Look for daemons of others; be told when one ends."""
        begun = time.monotonic()
        names = () if self._settings is None else (os.path.basename(self._settings.daemon),)
        found = {daemon.pid: daemon.label for daemon in _daemons.foreign(names)}
        for pid in set(self._foreign) - set(found):
            handle = self._foreign.pop(pid)[1]
            if handle >= 0:
                os.close(handle)
        for pid, words in found.items():
            if pid not in self._foreign:
                handle = -1
                with contextlib.suppress(OSError):
                    handle = os.pidfd_open(pid)
                self._foreign[pid] = (words, handle)
        took = time.monotonic() - begun
        self._scan_at = begun + took + max(SCAN, SCAN_SHARE * took)
        self._scan_again = begun + took + max(SCAN, took)

    def _act(self, decision: Decision, now: float) -> list[Key]:
        """Carry it out; the disks whose units this host could not start, for the reason that is in `_refused`."""
        settings = self._settings
        unstarted = []
        for action in decision.actions:
            domid, devid = action.key
            if not isinstance(action, Start):
                say(NOTICE, f"disk {devid} of guest {domid}: its unit is stopped: {action.why}")
                self.units.stop(action.key, unless_taken=action.unless_taken)
            elif settings is not None and self.side is not None:
                try:
                    daemon = os.path.realpath(settings.daemon)
                    self.units.start(action.key, action.disk, settings, daemon, self.side.mark, now)
                except OSError as error:  # a file system that is full or read-only: no fault of the disk's
                    self._refused = f"no unit can be started: {error.filename or ''}: {error.strerror}"
                    self._retry_at = now + RETRY
                    unstarted.append(action.key)
                except UnfitValueError as error:
                    say(ERROR, f"disk {devid} of guest {domid}: its unit cannot be started: {error}")
        self.units.turn(now)  # on their way before anything is said of them
        return unstarted

    def _plan_a_look(self, decision: Decision, now: float) -> None:
        self._look_at = None
        if decision.look or decision.statuses is None:
            self._look_at = now + LOOKS[min(self._looks, len(LOOKS) - 1)]
            self._looks += 1
        else:
            self._looks = 0

    def _say(self, decision: Decision, unknown: bool, now: float) -> None:
        """Tell the journal and the store."""
        if self.side is None:
            return
        if decision.statuses is not None:
            if any(self._told.get(key) != told for key, told in decision.statuses.items()):
                self._looks = min(self._looks, 1)
            self._log(decision.statuses)
            self._told = dict(decision.statuses)
        dead = "the store does not know this domain" if unknown else decision.dead
        if decision.statuses is None and not unknown:
            dead = self.units.trouble
            if not dead:
                return  # systemd has yet to tell of the units that there are
        if dead != self._dead:
            say(WARNING if dead else INFO, f"dead: {dead}" if dead else "ready")
        self._dead = dead
        self._show(dead or f"{len(self._told)} disks")
        if unknown:
            return
        if self.side.contested:
            if now < self._peace:
                self._say_at = self._peace
                return
            self._peace = now + PEACE
            say(NOTICE, "somebody else wrote the launcher's nodes in the store; they are written again")
        self.side.say(VERSION, dead, decision.statuses, view=self._rules().view)
        if self.side.unwritten != self._unwritten:
            self._unwritten = self.side.unwritten
            if self._unwritten:
                say(WARNING, f"the store does not take all that there is to say: {self._unwritten}")
        if self._unwritten and self._look_at is None:
            self._look_at = now + LOOKS[-1]

    def _log(self, statuses: Mapping[Key, DiskStatus]) -> None:
        for (domid, devid), told in statuses.items():
            before = self._told.get((domid, devid))
            if before is not None and (before.status, before.reason) == (told.status, told.reason):
                continue
            level = ERROR if told.status in (LOST, FAILED) else NOTICE if told.status == WAITING else INFO
            why = f": {told.reason}" if told.reason else ""
            say(level, f"disk {devid} of guest {domid}: {told.status}{why}")
        for domid, devid in set(self._told) - set(statuses):
            say(INFO, f"disk {devid} of guest {domid}: gone")

    def _measure(self, now: float) -> bool:
        """Now and then, look at what no event tells of: sizes, daemons of others, a store that is another one."""
        settings = self._settings
        self._measure_at = now + (settings.size_interval if settings is not None else 60.0)
        if self.side is None:
            return False
        before = set(self._foreign)
        if now >= self._scan_at:
            self._scan()
        changed = set(self._foreign) != before
        try:
            self.side.look_for_the_mark()
        except StoreError as error:
            self._lost(error, now)
            return changed
        return self.side.measure() or changed

    def _show(self, text: str) -> None:
        if text != self._shown:
            notify(f"STATUS={text}")
            self._shown = text


def say(level: int, text: str) -> None:
    """A line for the journal, with its priority (sd-daemon(3))."""
    with contextlib.suppress(OSError):
        prefix = f"<{level}>" if "JOURNAL_STREAM" in os.environ else ""
        line = text.replace("\n", " ")
        os.write(2, f"{prefix}{line}\n".encode("utf-8", "backslashreplace"))


def notify(text: str) -> None:
    """Tell systemd (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(text.encode(), "\0" + address[1:] if address[0] == "@" else address)


def _heard(_number: int, _frame: object) -> None:
    """The wake-up descriptor tells; a handler has to be there for that."""


# --- for people and programs -----------------------------------------------------------------------------


def status(run_dir: str = RUN_DIR, path: str | None = None) -> dict[str, Any]:
    """How things are: the launcher's own words, the tree, and the units that say that they run. Raises StoreError."""
    with Store(path, timeout=10.0) as store:
        own, word, reason, version = store.call(
            [read("domid"), read(STATUS_NODE), read(REASON_NODE), read(LAUNCHER_NODE)]
        )
        names = store.list(DISKS_NODE) or []
        lines = dict(zip(names, store.call([read(f"{DISKS_NODE}/{name}") for name in names])))
        guests = numbers(store.list(TREE) or (), 0x7FF0)
        listings = store.call([directory(f"{TREE}/{guest}") for guest in guests])
        keys = [
            (guest, devid)
            for guest, listing in zip(guests, listings)
            if isinstance(listing, bytes)
            for devid in numbers(listing.decode("latin-1").split("\0"), 1 << 31)
        ]
        told = {key: parse(_shown(line)) for name, line in lines.items() if (key := key_of(name)) is not None}
        keys = sorted({*keys, *told})
        nodes = store.call(
            [read(f"{TREE}/{domid}/{devid}/{name}") for domid, devid in keys for name in ("state", "params")]
        )
    disks = []
    for index, key in enumerate(keys):
        found = told.get(key)
        record = _record(run_dir, key)
        disks.append(
            {
                "domid": key[0],
                "devid": key[1],
                "status": None if found is None else found.status,
                "reason": "" if found is None else found.reason,
                "state": _shown(nodes[2 * index]) or None,
                "target": _shown(nodes[2 * index + 1]) or None,
                "size": None if found is None else found.size,
                "size_now": None if found is None else found.size_now,
                "size_changed": found is not None and found.size_changed,
                "version": None if found is None else found.version or None,
                "pid": record.get("daemon_pid"),
            }
        )
    return {
        "domid": int(_shown(own)) if _shown(own).isdigit() else None,
        "status": _shown(word) or None,
        "reason": _shown(reason) if _shown(word) == DEAD else "",
        "launcher": _shown(version) or None,
        "disks": disks,
    }


def _record(run_dir: str, key: Key) -> dict[str, Any]:
    try:
        with open(f"{run_dir}/{key[0]}-{key[1]}.json", encoding="utf-8") as file:
            found = json.loads(file.read(65536))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _shown(answer: Any) -> str:
    return answer.decode("utf-8", "backslashreplace") if isinstance(answer, bytes) else ""


_COLUMNS = ("GUEST", "DEVID", "STATUS", "STATE", "SIZE", "VERSION", "PID", "TARGET", "REASON")


def table(told: Mapping[str, Any]) -> str:
    """The same for people."""
    head = f"launcher {told['launcher'] or 'unknown'}: {told['status'] or 'says nothing of itself'}"
    if told["reason"]:
        head += f": {told['reason']}"
    rows = [_COLUMNS]
    for disk in told["disks"]:
        size = "-" if disk["size"] is None else str(disk["size"])
        if disk["size_changed"]:
            size += f" (now {disk['size_now']})"
        rows.append(
            (
                str(disk["domid"]),
                str(disk["devid"]),
                disk["status"] or "-",
                disk["state"] or "-",
                size,
                disk["version"] or "-",
                str(disk["pid"] or "-"),
                disk["target"] or "-",
                disk["reason"],
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip() for row in rows]
    return "\n".join([head, *(lines if told["disks"] else [])]) + "\n"


def stopped(path: str | None = None) -> None:
    """Say in the store that nobody gives disks their daemons. Raises StoreError."""
    with Store(path, timeout=3.0) as store:
        if store.read("domid") is None or store.read(LAUNCHER_NODE) is None:
            return
        if store.read(STATUS_NODE) != DEAD.encode():
            store.call([write(REASON_NODE, b"the launcher ended"), write(STATUS_NODE, DEAD.encode())])


_USAGE = "usage: virtio-disk-launcher [--status [--json] | --stopped]\n"


def main(arguments: list[str]) -> int:
    """The command; its exit status."""
    environ = os.environ
    run_dir = environ.get("VIRTIO_DISK_RUN") or RUN_DIR
    try:
        if not arguments:
            return Launcher(
                settings=environ.get("VIRTIO_DISK_SETTINGS") or SETTINGS,
                run_dir=run_dir,
                view=environ.get("VIRTIO_DISK_VIEW") or VIEW,
            ).run()
        if arguments == ["--stopped"]:
            stopped()
            return 0
        if arguments[0] == "--status" and set(arguments[1:]) <= {"--json"}:
            told = status(run_dir)
            sys.stdout.write(
                json.dumps(told, indent=2, sort_keys=True) + "\n" if arguments[1:] else table(told)
            )
            return 0
    except StoreError as error:
        sys.stderr.write(f"virtio-disk-launcher: {error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"virtio-disk-launcher: {error.filename or ''}: {error.strerror}\n")
        return 1
    sys.stderr.write(_USAGE)
    return 2
