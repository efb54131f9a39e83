# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The launcher's side of the store: the backend's own tree as it is, and what the launcher says of itself there.

Two watches, whatever the number of disks. An event says where to look, never what is there.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from . import _sysfiles
from ._diskstatus import (
    DEAD,
    DISKS_NODE,
    FAILED,
    LAUNCHER_NODE,
    LOST,
    READY,
    REASON_NODE,
    STATUS_NODE,
    VIEW_NODE,
    DiskStatus,
    key_of,
    node_name,
    parse,
    render,
)
from ._launch import FREE, Disk, Key, Memory, Track
from ._storage import identify
from ._store import Answer, Request, Store, StoreError, StoreLost, directory, read, rm, write

#: The backend's own tree, relative to ``/local/domain/B``.
TREE = "backend/virtio_disk"
#: A text of ours that tells this store from one that came back empty.
MARK_NODE = "drivers/virtio-disk/store"

#: Seconds without an answer after which the store counts as unreachable.
TIMEOUT = 5.0

#: The host's file systems as its first process has them: proc_pid_root(5).
_HOST = "/proc/1/root"
#: What ProtectSystem=full makes read-only to a unit: systemd.exec(5).
_SYSTEM = ("/usr/", "/boot/", "/efi/", "/etc/")

_DOMID_LIMIT = 0x7FF0  # DOMID_FIRST_RESERVED, xen/include/public/xen.h
_MARK = re.compile(rb"[0-9a-f]{16}")
#: Answers that say that there is no such node: C xenstored keeps it from those who may not read its parent.
_NOT_THERE = frozenset({"ENOENT", "EACCES"})
_TREE_TOKEN, _STATUS_TOKEN = "tree", "status"

#: What the daemon reads of a disk when it takes it up (FRONTEND: of its other end).
_NODES = ("state", "params", "mode", "base", "irq")


class Nodes(NamedTuple):
    """A disk's nodes, None for those that are not there."""

    state: str | None
    params: str | None
    mode: str | None
    base: str | None
    irq: str | None
    frontend: str | None


class Storage(NamedTuple):
    """What is known of a target."""

    identity: frozenset[str] = frozenset()
    size: int | None = None
    unfit: str = ""


def disk_of(nodes: Nodes, births: int, storage: Storage) -> Disk:
    """A disk out of its nodes."""
    return Disk(
        state=nodes.state,
        frontend=nodes.frontend,
        target=nodes.params or "",
        writable=nodes.mode != "r",
        identity=storage.identity,
        size=storage.size,
        unfit=unfit(nodes) or storage.unfit,
        births=births,
    )


def unfit(nodes: Nodes) -> str:
    """Why no daemon can be started for a disk with these nodes; empty where one can."""
    missing = [name for name, value in zip(_NODES, nodes) if value is None]
    if missing:
        return f"nodes are missing: {', '.join(missing)}"
    if nodes.frontend is None:
        return "its frontend is missing: its guest is gone, or yet to come"
    if nodes.frontend != FREE:
        # the daemon aborts at any other (BUG_ON in its xs_dev.c)
        return f"its frontend is in state {nodes.frontend[:8]!r}: its guest is no virtio guest"
    target = nodes.params or ""
    if not target.startswith("/"):
        return "its target is no absolute path"
    if not target.isprintable() or len(target) > 1024:
        return "its target is a path that no unit can be told: use one of printable characters"
    return "" if nodes.mode in ("r", "w") else f"its mode is {(nodes.mode or '')[:8]!r}"


def storage_of(target: str, *, writable: bool) -> Storage:
    """What this host knows of a target now."""
    try:
        status = os.stat(target)
    except (OSError, ValueError) as error:
        return Storage(unfit=f"{target}: {getattr(error, 'strerror', None) or error}")
    names = frozenset(name.replace(" ", "_") for name in identify(0, target))
    size = size_of(status)
    if stat.S_ISREG(status.st_mode):
        readonly = _is_read_only(os.path.realpath(target))
    elif stat.S_ISBLK(status.st_mode):
        readonly = _sysfiles.line(f"{_sysfs(status)}/ro") == "1"
    else:
        return Storage(unfit=f"{target}: neither a block device nor a regular file")
    if readonly and writable:
        return Storage(names, size, f"{target}: read-only, and it is to be written to")
    return Storage(names, size)


def _is_read_only(path: str) -> bool:
    """Whether a file lies where daemons that are started now cannot write; the path is free of links.

    Of the host's file systems the launcher's unit has mounts of its own, made when it started: one that was read-only
    then stays so there, whatever the host does since (mount_namespaces(7): a remount is not propagated). A daemon's
    unit makes its own anew. So the host is asked, but for what is read-only to units alone.
    """
    here = bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    if here and path.startswith(_SYSTEM):
        return True
    try:
        return bool(os.statvfs(f"{_HOST}{path}").f_flag & os.ST_RDONLY)
    except OSError:  # nobody but root may look there
        return here


def size_of(status: os.stat_result) -> int | None:
    """Of a file or block device, in bytes; None where it cannot be told."""
    if stat.S_ISREG(status.st_mode):
        return status.st_size
    sectors = _sysfiles.line(f"{_sysfs(status)}/size") if stat.S_ISBLK(status.st_mode) else None
    return (
        int(sectors) * 512 if sectors is not None and sectors.isdigit() else None
    )  # sectors of 512, whatever the disk's are


def _sysfs(status: os.stat_result) -> str:
    return f"/sys/dev/block/{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"


def numbers(names: Iterable[str], limit: int) -> list[int]:
    """Names that are plain decimal numbers below a limit, as libxl writes domids and devids."""
    plain = (int(name) for name in names if re.fullmatch(r"0|[1-9][0-9]{0,9}", name))
    return sorted(number for number in plain if number < limit)


class StoreSide:
    """A session, and what of the tree is known; a new one after every loss of the store."""

    def __init__(self, before: StoreSide | None = None, path: str | None = None) -> None:
        """Connect. Raises StoreError.

        Args:
            before: the one that was lost. A disk that it knew, and that is there at the first look, counts as the
                same: what was made anew in between cannot be told from what somebody repaired.
            path: of the store; None looks where libxenstore does.
        """
        self.store = Store(path, timeout=TIMEOUT)
        self.disks: dict[Key, Disk] = {}
        self.births: dict[Key, int] = dict(before.births) if before else {}
        self._from_before: set[Key] = set() if before is None else {*before.disks, *before._from_before}
        self.mark: str = "" if before is None else before.mark
        self.own: str | None = None  #: our domid, None while the store does not know us
        self.frontends: frozenset[Key] = frozenset()
        self.unwritten = ""  #: why not all is said in the store
        self._all = True
        self._touched: set[Key] = set()
        self._said: dict[str, str] = {}
        self._first = before is None
        self._greeted = False  #: a new watch tells of itself once
        self.contested = False  #: somebody else wrote over what we had said of ourselves
        try:
            self.store.watch(TREE, _TREE_TOKEN)
            self.store.watch(STATUS_NODE, _STATUS_TOKEN)
            self._begin()
        except StoreError as error:  # a quota that is used up, say: the store can be told that much
            with contextlib.suppress(StoreError):
                self._say({REASON_NODE: str(error)[:400], STATUS_NODE: DEAD})
            self.store.close()
            raise
        except BaseException:
            self.store.close()
            raise

    def close(self) -> None:
        """End the session."""
        self.store.close()

    def fileno(self) -> int:
        """For poll."""
        return self.store.fileno()

    def _begin(self) -> None:
        """Know whether it is the store that it was."""
        mark = self.store.read(MARK_NODE)
        if mark is not None and _MARK.fullmatch(mark):
            self.mark = self._said[MARK_NODE] = mark.decode("ascii")
            return
        self.mark = os.urandom(8).hex()
        self._say({MARK_NODE: self.mark})

    # -- looking ---------------------------------------------------------------------------------------------

    def take_events(self) -> bool:
        """Note where to look; whether there was an event. Raises StoreError."""
        found = False
        while True:
            event = self.store.wait_event(0)
            if event is None:
                return found
            found = True
            path, token = event
            if token != _TREE_TOKEN:  # the next look sees what became of our own words
                continue
            if path == TREE and not self._greeted:
                self._greeted = True
            else:
                self._note(path)

    def _note(self, path: str) -> None:
        parts = path.split("/")[2:]  # behind the tree's own path
        if len(parts) < 2:
            # a guest's directory, or all of them
            for key in self.births:
                if not parts or parts[0] == str(key[0]):
                    self.births[key] += 1
            self._all = True
            return
        found = key_of(f"{parts[0]}-{parts[1]}")
        if found is not None:
            self._touched.add(found)
            if len(parts) == 2:
                self.births[found] = self.births.get(found, 0) + 1

    def look_everywhere(self) -> None:
        """At the next look."""
        self._all = True

    def look(self, remembered: Iterable[Key]) -> dict[Key, Disk] | None:
        """The disks as they are; None where the store does not know our own domain. Raises StoreError.

        Args:
            remembered: disks whose frontends matter where they have no directory.
        """
        everything, self._all = self._all, False
        touched, self._touched = self._touched, set()
        keys = self._listed() if everything else sorted(touched)
        without = [key for key in remembered if key not in self.disks and key not in keys]
        ours = (MARK_NODE, STATUS_NODE)
        requests = [read("domid"), *map(read, ours)]
        first = len(requests)
        for domid, devid in keys:
            top = f"{TREE}/{domid}/{devid}"
            requests += [read(f"{top}/{name}") for name in _NODES]
            requests.append(directory(top))
            requests.append(read(_frontend(domid, devid)))
        requests += [read(_frontend(*key)) for key in without]
        answers = self.store.call(requests)
        own = _text(answers[0])
        if own is None or not own.isdigit():
            self.own = None
            self._all = True
            return None
        if self.own is None:
            self.own = own
        self._be_sure(answers[1])
        self.contested = any(
            path in self._said and _text(answer) != self._said[path]
            for path, answer in zip(ours, answers[1:])
        )
        if everything:
            for key in set(self.disks) - set(keys):
                del self.disks[key]
            self._from_before &= set(keys)
        width = len(_NODES) + 2
        for index, key in enumerate(keys):
            self._take(key, answers[first + index * width : first + (index + 1) * width])
        rest = answers[first + len(keys) * width :]
        told = _there(zip(without, rest))
        gone = [key for key in remembered if key not in self.disks and key not in without]
        if gone:  # their directories went just now
            replies = self.store.call([read(_frontend(*key)) for key in gone])
            told |= _there(zip(gone, replies))
        self.frontends = frozenset(told)
        return dict(self.disks)

    def _take(self, key: Key, answers: list[Answer]) -> None:
        *values, listing, frontend = answers
        for answer in answers:  # what cannot be known for another reason is not gone
            if isinstance(answer, StoreError) and answer.code not in _NOT_THERE:
                raise answer
        if isinstance(listing, StoreError):
            self.disks.pop(key, None)
            return
        if key in self._from_before:
            self._from_before.discard(key)
            self.births.setdefault(key, 0)
        elif key not in self.disks:
            self.births[key] = self.births.get(key, 0) + 1
        nodes = Nodes(*[_text(value) for value in (*values, frontend)])
        before = self.disks.get(key)
        storage = Storage() if before is None else Storage(before.identity, before.size)
        if nodes.state == FREE and not unfit(nodes):
            storage = storage_of(nodes.params or "", writable=nodes.mode != "r")
        self.disks[key] = disk_of(nodes, self.births[key], storage)

    def _listed(self) -> list[Key]:
        guests = numbers(self.store.list(TREE) or (), _DOMID_LIMIT)
        replies = self.store.call([directory(f"{TREE}/{guest}") for guest in guests])
        found = []
        for guest, reply in zip(guests, replies):
            names: list[str]
            if isinstance(reply, StoreError):
                if reply.code not in (*_NOT_THERE, "E2BIG"):  # it says nothing of what is there
                    raise reply
                names = (self.store.list(f"{TREE}/{guest}") or []) if reply.code == "E2BIG" else []
            else:
                names = reply.decode("latin-1").split("\0")
            found += [(guest, devid) for devid in numbers(names, 1 << 31)]
        return found

    def _be_sure(self, mark: Answer) -> None:
        """It is the store in which our watches are; a device tells of no end of a session. Raises StoreLost."""
        if isinstance(mark, StoreError) and mark.code in _NOT_THERE and MARK_NODE in self._said:
            raise StoreLost("READ", MARK_NODE, "ENOENT", "the store came back without it")

    def look_for_the_mark(self) -> None:
        """Whether it still is the store that it was. Raises StoreError where it is not, or cannot be asked."""
        self._be_sure(self.store.call([read(MARK_NODE)])[0])

    def measure(self) -> bool:
        """Look at the sizes of what is served; whether one changed."""
        changed = False
        for key, disk in self.disks.items():
            if disk.target.startswith("/") and "\0" not in disk.target:
                try:
                    size = size_of(os.stat(disk.target))
                except (OSError, ValueError):
                    continue
                if size != disk.size:
                    self.disks[key] = Disk(**{**vars(disk), "size": size})
                    changed = True
        return changed

    # -- saying ------------------------------------------------------------------------------------------------

    def remembered(self) -> Memory:
        """What the launcher before this one said of disks that get no daemon any more. Raises StoreError."""
        tracks = {}
        names = self.store.list(DISKS_NODE) or []
        for name, answer in zip(names, self.store.call([read(f"{DISKS_NODE}/{name}") for name in names])):
            if isinstance(answer, StoreError) and answer.code not in _NOT_THERE:
                raise answer
            key, text = key_of(name), _text(answer)
            told = parse(text) if text is not None else None
            if text is not None:
                self._said[f"{DISKS_NODE}/{name}"] = text
            if key is not None and told is not None and told.status in (LOST, FAILED):
                if self._first:
                    self._from_before.add(key)
                tracks[key] = Track(
                    past=told.status == LOST,
                    ended=told.status,
                    why=told.reason,
                    births=self.births.setdefault(key, 0),
                    store=self.mark,
                    size=told.size,
                    version=told.version,
                )
        return Memory(tracks)

    def say(
        self, version: str, dead: str, statuses: Mapping[Key, DiskStatus] | None, *, view: bool = True
    ) -> None:
        """Have the store say how things are. Raises StoreError where the session is lost."""
        if self.contested:
            self.contested = False
            self._said = {path: text for path, text in self._said.items() if path.startswith(DISKS_NODE)}
        wanted = {MARK_NODE: self.mark, LAUNCHER_NODE: version}
        if not view:
            wanted[VIEW_NODE] = "off"
        if dead:
            wanted[REASON_NODE] = dead[:400]
        wanted[STATUS_NODE] = DEAD if dead else READY
        if statuses is not None:
            wanted.update({f"{DISKS_NODE}/{node_name(*key)}": render(told) for key, told in statuses.items()})
        self._say(wanted, keep=statuses is None)

    def _say(self, wanted: Mapping[str, str], *, keep: bool = True) -> None:
        new = {path: text for path, text in wanted.items() if self._said.get(path) != text}
        old = [
            path
            for path in self._said
            if path not in wanted
            and (not keep or not path.startswith((DISKS_NODE, MARK_NODE, LAUNCHER_NODE)))
        ]
        requests: list[Request] = [rm(path) for path in old]
        requests += [write(path, text.encode("ascii", "replace")) for path, text in new.items()]
        self.unwritten = ""
        for request, answer in zip(requests, self.store.call(requests)):
            if isinstance(answer, StoreError) and not (request.path in old and answer.code == "ENOENT"):
                self._said.pop(request.path, None)
                self.unwritten = self.unwritten or str(answer)
            elif request.path in old:
                self._said.pop(request.path, None)
            else:
                self._said[request.path] = new[request.path]


def _frontend(domid: int, devid: int) -> str:
    return f"/local/domain/{domid}/device/virtio_disk/{devid}/state"


def _there(answers: Iterable[tuple[Key, Answer]]) -> set[Key]:
    """The disks whose frontends are there. Raises StoreError where that cannot be known."""
    found = set()
    for key, answer in answers:
        if not isinstance(answer, StoreError):
            found.add(key)
        elif answer.code not in _NOT_THERE:
            raise answer
    return found


def _text(answer: Answer) -> str | None:
    """A value as text; None where there is none, or where we may not see it."""
    return answer.decode("utf-8", "surrogateescape") if isinstance(answer, bytes) else None
