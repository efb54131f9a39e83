# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One daemon, one disk: runs virtio-disk behind a store in which its guest is the only one.

    python3 -I -S virtio-disk-view DOMID-DEVID

is what a unit runs for a disk; or `start` out of the same file as a module, whose compiled form Python keeps: a
third less memory, and half the time to start.

The daemon looks at all guests of its backend domain and takes the one with the highest domid; behind this it sees
one. It ends the disk when a read of a state fails, for whatever reason; behind this a store that is gone, silent
or empty is no reason. One file, nothing but the standard library, small: there is one process of it for every
disk.

Sources: xen/include/public/io/xs_wire.h and docs/misc/xenstore.txt of Xen; drivers/xen/xenbus of Linux for the
device /dev/xen/xenbus.
"""

from __future__ import annotations

# _signal and _socket are what the modules without the underscore wrap: a tenth less memory, and a third less time
import _socket
import errno
import fcntl
import os
import select
import stat
import struct
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable, Mapping
else:
    import _signal

# enum xsd_sockmsg_type
DIRECTORY, READ, WATCH, UNWATCH, TRANSACTION_START, TRANSACTION_END = 1, 2, 4, 5, 6, 7
WRITE, MKDIR, RM, SET_PERMS, WATCH_EVENT, ERROR = 11, 12, 13, 14, 15, 16
RESET_WATCHES, DIRECTORY_PART = 21, 22
CHANGES = (WRITE, MKDIR, RM, SET_PERMS)
LISTING = (DIRECTORY, DIRECTORY_PART)
HEADER = struct.Struct("=IIII")  # struct xsd_sockmsg: type, req_id, tx_id, len; native byte order
PAYLOAD_MAX = 4096  # XENSTORE_PAYLOAD_MAX
ANSWER_MAX = 1 << 24  # bytes; oxenstored answers a directory of any size in one message
CHUNK = 16384  # bytes of one read
OK = b"OK\0"

RUN = "/run/virtio-disk"
KIND = b"backend/virtio_disk"

# seconds
BACKOFF = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)  # between attempts to reach the store again
SILENCE = 3.0  # a store that did not answer for so long is taken for hung
SILENCE_AT_END = 0.3  # the same once the daemon was told to end: all of its end has to fit into GRACE
AGAIN = 1.0  # between attempts to have a watch again that the store refused
DEVICE_PAUSE = 0.02  # /dev/xen/xenbus never reports that it can be written to
ANSWER_LIMIT = 5.0  # for the questions before the daemon starts
NODES_LIMIT = 1.0  # for a disk whose nodes are still being written
GONE_CHECK = 5.0  # after the guest's nodes changed: whether they are still there
QUIET = 0.05  # without a request of the daemon's, before it is sent SIGTERM
QUIET_TRIES = 10  # and if there is no such while in as many, it is sent all the same
GRACE = 2.0  # between SIGTERM and SIGKILL; systemd itself kills 3 after it told to end (TimeoutStopSec)
LOCK_LIMIT = 2.0  # somebody may try the lock just to see who lives

NEVER = float("inf")

# bytes and messages
OUTPUT_MOST = 65536  # waiting for the daemon before the store is left unread
REQUESTS_MOST = 64  # of one connection under way before the daemon is left unread

# exit codes, beside the daemon's own (128 + N where signal N killed it); the numbers are sysexits.h's and sh's
USAGE, UNAVAILABLE, CANT_CREATE, LIVES_ALREADY, NOT_NEW, NOT_RUN, NOT_FOUND = 64, 69, 73, 75, 76, 126, 127

# of the environment, what is for the view alone
OWN_VARIABLES = {"DAEMON", "ARGUMENTS", "VIEW", "VERSION", "TARGET", "MODE", "IDENTITY", "SIZE"}
OWN_VARIABLES |= {"VIRTIO_DISK_RUN", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"}

# what becomes of an answer
PASS, LIST, PART, CHILD, PARENT, PROBE, CHECK, REWATCH = range(8)
ASKED_OTHERWISE = (PART, CHILD, PARENT)


class RefusalError(Exception):
    """Why no daemon runs: ``code`` to exit with, and a sentence."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code


# ---- pure: messages, paths, settings ----


def pack(kind: int, rid: int, tx: int, payload: bytes) -> bytes:
    """A message."""
    return HEADER.pack(kind, rid, tx, len(payload)) + payload


class Framer:
    """Cuts a stream of bytes into messages.

    ``most`` is the longest payload, in bytes; of a longer one the payload is skipped and given as None.
    """

    __slots__ = ("buffer", "most", "skip")

    def __init__(self, most: int) -> None:
        self.buffer = b""
        self.most = most
        self.skip = 0

    def feed(self, data: bytes) -> list[tuple[int, int, int, bytes | None]]:
        """The messages that ``data`` completes: (kind, request id, transaction id, payload)."""
        if not self.skip and not self.buffer and len(data) >= 16:  # one whole message, as nearly always
            kind, rid, tx, size = HEADER.unpack_from(data)
            if size + 16 == len(data) and size <= self.most:
                return [(kind, rid, tx, data[16:])]
        if self.skip:
            skipped = min(self.skip, len(data))
            self.skip -= skipped
            data = data[skipped:]
        if self.buffer:
            data = self.buffer + data
        found: list[tuple[int, int, int, bytes | None]] = []
        start, end = 0, len(data)
        while end - start >= 16:
            kind, rid, tx, size = HEADER.unpack_from(data, start)
            start += 16
            if size > self.most:
                found.append((kind, rid, tx, None))
                here = min(size, end - start)
                self.skip = size - here
                start += here
                continue
            if end - start < size:
                start -= 16
                break
            found.append((kind, rid, tx, data[start : start + size]))
            start += size
        self.buffer = data[start:]
        return found


def first(payload: bytes) -> bytes:
    """The path a payload begins with."""
    return payload.partition(b"\0")[0]


def path_and_token(payload: bytes) -> list[bytes]:
    """Path and token of a watch, which together name it; a third part is the depth, which Xen 4.22 brought."""
    return payload.split(b"\0")[:2]


class Disk:
    """One disk, and which paths are its own.

    Args:
        domid: of the guest.
        devid: decimal, the name of the disk's directory.
        own: domid of the backend domain, which paths that do not begin with ``/`` are relative to.
    """

    def __init__(self, domid: int, devid: int, own: int) -> None:
        self.domid, self.devid = domid, devid
        self.name = b"%d" % domid
        self.home = b"/local/domain/%d/" % own
        self.guest = KIND + b"/" + self.name
        self.backend = b"%s/%d" % (self.guest, devid)
        self.frontend = b"/local/domain/%d/device/virtio_disk/%d" % (domid, devid)
        self.listings = (KIND, self.home + KIND)
        tops = (self.backend, self.home + self.backend, self.frontend)
        self._tops = frozenset(tops)
        self._inside = tuple(top + b"/" for top in tops)
        self.states = (self.backend + b"/state", self.frontend + b"/state")

    def relative(self, path: bytes) -> bytes:
        """One spelling for the paths of the backend domain."""
        return path[len(self.home) :] if path.startswith(self.home) else path

    def is_foreign(self, path: bytes) -> bool:
        """Whether a path is another guest's in the backend's tree."""
        path = self.relative(path)
        return path.startswith(KIND + b"/") and path != self.guest and not path.startswith(self.guest + b"/")

    def is_part(self, path: bytes) -> bool:
        """Whether it is the disk's directory of either side, or a node in one."""
        return path.startswith(self._inside) or path in self._tops

    def is_backend(self, path: bytes) -> bool:
        """Whether it is the backend's directory of this disk, or a node in it."""
        return self.is_part(path) and not path.startswith(self.frontend)

    def may_end(self, path: bytes) -> bool:
        """Whether a change there can mean that the disk's nodes are gone."""
        path = self.relative(path)
        above = path + b"/"
        return self.is_part(path) or self.backend.startswith(above) or self.frontend.startswith(above)

    def only(self, names: bytes) -> bytes:
        """Out of a listing of guests, this one, or nothing."""
        return self.name + b"\0" if self.name in names.split(b"\0") else b""


def listing_part(name: bytes, offset: bytes) -> bytes:
    """The answer to DIRECTORY_PART for a directory that has one child or none.

    The generation count in front never changes: a listing of one name has no second part to be compared with.
    """
    whole = name + b"\0" if name else b""
    begin = int(offset) if offset.isdigit() and len(offset) < 10 else 0
    return b"0\0" + whole[begin:] + b"\0"


class Settings:
    """What the unit's name and its environment say. Raises RefusalError.

    Attributes:
        name: of the unit's files, ``<domid>-<devid>``.
        command: the daemon with its arguments; nothing in it is text of the store's.
    """

    def __init__(self, argv: list[str], environ: Mapping[str, str]) -> None:
        parts = argv[1].split("-") if len(argv) == 2 else []
        fit = len(parts) == 2 and all(part.isascii() and part.isdigit() and len(part) < 11 for part in parts)
        if not fit or any(str(int(part)) != part for part in parts):
            raise RefusalError(USAGE, "usage: virtio-disk-view DOMID-DEVID, both decimal, as in 5-51712")
        self.domid, self.devid = int(parts[0]), int(parts[1])
        if not 0 < self.domid < 0x7FF0 or self.devid >= 1 << 31:  # DOMID_FIRST_RESERVED of xen.h
            raise RefusalError(USAGE, f"{argv[1]}: no guest has this domid, or no disk this device number")
        self.name = f"{self.domid}-{self.devid}"
        self.run = environ.get("VIRTIO_DISK_RUN") or RUN
        daemon = environ.get("DAEMON", "")
        if not daemon.startswith("/"):
            raise RefusalError(USAGE, f"DAEMON={daemon!r} is not the absolute path of a virtio-disk")
        arguments = environ.get("ARGUMENTS", "").split()
        if any(word != "-l" for word in arguments):
            raise RefusalError(USAGE, f"ARGUMENTS={environ['ARGUMENTS']!r}: the only argument there is is -l")
        self.command = [daemon, "-d", str(self.devid), *arguments]
        self.through = environ.get("VIEW", "1") != "0"
        self.facts = {
            "domid": self.domid,
            "devid": self.devid,
            "target": environ.get("TARGET", ""),
            "mode": environ.get("MODE", ""),
            "identity": environ.get("IDENTITY", "").split(),
            "daemon": daemon,
            "version": environ.get("VERSION", ""),
            "view": self.through,
            "size": int(environ["SIZE"]) if environ.get("SIZE", "").isdecimal() else None,
        }
        self.environ = {key: value for key, value in environ.items() if key not in OWN_VARIABLES}

    def path(self, suffix: str) -> str:
        """A file of this unit's."""
        return f"{self.run}/{self.name}.{suffix}"


def as_json(value: object) -> str:
    """What `json.dumps` would give for text, numbers, truth values, None, and lists and mappings of them."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{as_json(key)}: {as_json(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(as_json(one) for one in value) + "]"
    if not isinstance(value, str):
        words: dict[object, str] = {None: "null", True: "true", False: "false"}
        return words[value] if value is None or isinstance(value, bool) else repr(value)
    units = memoryview(value.encode("utf-16-le", "surrogatepass")).cast("H")
    return '"' + "".join(chr(u) if 31 < u < 127 and u not in {34, 92} else f"\\u{u:04x}" for u in units) + '"'


# ---- the loop ----


class Loop:
    """Waits for descriptors and for points in time; asleep in poll when there is nothing to do."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._masks: dict[int, int] = {}
        self._closed = False
        self._timers: dict[Callable[[], None], float] = {}  # when to call what, by time.monotonic()
        self._due = NEVER  # no later than the earliest of them

    def attend(self, fd: int, mask: int, handler: Callable[[int], None]) -> None:
        """Call ``handler`` with what poll reports."""
        self._handlers[fd] = handler
        if self._masks.get(fd) != mask:
            self._masks[fd] = mask
            self._poll.register(fd, mask)

    def forget(self, fd: int) -> None:
        if self._handlers.pop(fd, None):
            del self._masks[fd]
            self._poll.unregister(fd)
            self._closed = True

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Call once, ``seconds`` from now; what was planned for the same call before is dropped."""
        due = time.monotonic() + seconds
        self._timers[call] = due
        self._due = min(self._due, due)

    def cancel(self, call: Callable[[], None]) -> None:
        self._timers.pop(call, None)

    def is_planned(self, call: Callable[[], None]) -> bool:
        return call in self._timers

    def turn(self) -> None:
        """One wait, and what came of it."""
        timeout = None
        if self._due != NEVER:
            timeout = max(0, int((self._due - time.monotonic()) * 1000) + 1)
        self._closed = False
        for fd, mask in self._poll.poll(timeout):
            self._handlers[fd](mask)
            if self._closed:
                break  # what else was reported may be about a descriptor whose number is another's now
        if timeout is not None and self._due <= time.monotonic():
            self._call_due()

    def _call_due(self) -> None:
        now = time.monotonic()
        for call, due in list(self._timers.items()):
            if due <= now and self._timers.get(call) == due:
                del self._timers[call]
                call()
        self._due = min(self._timers.values(), default=NEVER)


def store_paths(environ: Mapping[str, str]) -> list[str]:
    """Where libxenstore would look for the store, in its order (tools/libs/store/xs.c)."""
    if environ.get("XENSTORED_PATH"):
        return [environ["XENSTORED_PATH"]]
    rundir = environ.get("XENSTORED_RUNDIR") or "/run/xenstored"
    return [f"{rundir}/socket", "/dev/xen/xenbus", "/proc/xen/xenbus"]


def open_store(paths: list[str]) -> tuple[int, bool]:
    """A connection to the store that never blocks, and whether it is the device. Raises OSError."""
    cause = OSError(errno.ENOENT, "no store", "")
    for path in paths:
        try:
            if stat.S_ISSOCK(os.stat(path).st_mode):
                sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)  # closed when nobody holds it
                sock.setblocking(False)
                sock.connect(path)
                return sock.detach(), False
            return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY), True
        except OSError as error:
            if cause.errno in {errno.ENOENT, errno.ENOTDIR}:  # one that is there says more
                cause = error
    raise cause


# ---- one connection of the daemon's ----


class Request:
    """What was asked of the store: by the daemon (``rid`` is its own number), or by the view (None)."""

    __slots__ = ("job", "kind", "payload", "rid", "since", "told", "tx")

    def __init__(self, kind: int, rid: int | None, tx: int, payload: bytes, job: int = PASS) -> None:
        self.kind = kind
        self.rid = rid
        self.tx = tx
        self.payload = payload
        self.job = job
        self.since = 0.0
        self.told: bytes | None = None  #: what was answered in the store's place


class Link:
    """A connection of the daemon's, and its own one to the store.

    While the store is away or hung, what the daemon asks waits; what it read before of its disk's nodes is
    told again. What was lost on the way is asked again once the store is back: everything outside of
    transactions may be asked twice. Transactions are over; their commit is answered EAGAIN, as when
    somebody else was faster.

    A store that came back without the disk's nodes has lost its content, since somebody who removes nodes
    removes them from a store that is there. ``forgotten`` then, the daemon hears nothing of it.
    """

    def __init__(self, relay: Relay, client: int) -> None:
        self.relay = relay
        self.loop = relay.loop
        self.disk = relay.disk
        self.client = client
        self.store = -1
        self.device = False
        self.ready = False  # the store may be asked
        self.forgotten = False
        self.silent = False  # at the daemon's end: the store owes an answer, and is asked no more
        self.attempts = 0
        self.watches: list[bytes] = []  # payloads
        self.unwatched: list[bytes] = []  # of these, which the store does not have again yet
        self.known: dict[bytes, bytes] = {}  # what the daemon read of its disk's nodes
        self.transactions: set[int] = set()
        self.ended_transactions: set[int] = set()  # which ended with an earlier connection
        self.held: list[Request] = []  # until the store is back
        self.pending: dict[int, Request] = {}  # under way, oldest first, by our own request id
        self._rid = 0
        self._probes: list[bool] = []
        self._probing = self._probe_again = False
        self._requests = Framer(PAYLOAD_MAX)
        self._answers = Framer(ANSWER_MAX)
        self._to_client = b""
        self._to_store: list[tuple[int, bytes]] = []
        self._asked = 0  # on the device: the request that it owes an answer to
        self._paused = False
        self._watched = False  # whether somebody looks after a while what became of the requests
        # bound once, being keys of the loop's timers
        self._connect_later = self.connect
        self._silent_later = self._silent
        self._check_later = self._check
        self._rewatch_later = self._rewatch
        self._flush_later = self._flush_store
        self.loop.attend(client, select.POLLIN, self._on_client)
        self.connect()

    def close(self) -> None:
        """The daemon closed it, so the store forgets its watches and transactions."""
        if self.client < 0:
            return
        self.loop.forget(self.client)
        os.close(self.client)
        self.client = -1
        self._drop_store()
        for call in (self._connect_later, self._silent_later, self._check_later, self._rewatch_later):
            self.loop.cancel(call)
        self.relay.links.remove(self)

    # -- the store's side: reach it, lose it --

    def connect(self) -> None:
        """Reach the store, or try again later, for as long as it takes."""
        try:
            self.store, self.device = open_store(self.relay.paths)
        except OSError as error:
            self._retry(f"{error.filename or 'the store'}: {error.strerror}")
            return
        self.loop.attend(self.store, select.POLLIN, self._on_store)
        if self._is_attached():
            self._probe()
        else:
            self._resume()

    def _is_attached(self) -> bool:
        """Whether the daemon watches its disk's nodes: it serves the disk."""
        return any(self.disk.is_backend(first(payload)) for payload in self.watches)

    def _retry(self, why: str) -> None:
        self.relay.store_lost(why)
        self.loop.after(BACKOFF[min(self.attempts, len(BACKOFF) - 1)], self._connect_later)
        self.attempts += 1

    def _drop_store(self) -> None:
        self.ready = self._probing = self._probe_again = False
        self._probes = []
        self._answers = Framer(ANSWER_MAX)
        self._to_store = []
        self._asked = 0
        self.loop.cancel(self._flush_later)
        if self.store >= 0:
            self.loop.forget(self.store)
            os.close(self.store)
            self.store = -1

    def _lost(self, why: str) -> None:
        """The connection to the store is no more; the daemon's stays."""
        self._drop_store()
        self.ended_transactions |= self.transactions
        self.transactions.clear()
        requests = [*self.pending.values(), *self.held]
        self.pending, self.held = {}, []
        self._retry(why)
        for request in requests:
            if request.rid is not None and request.told is None:
                if request.job in {CHILD, PARENT}:
                    request.job = LIST if request.kind == DIRECTORY else PART
                self._hold(request)

    def _hold(self, request: Request) -> None:
        """What becomes of a request while the store is away."""
        value = self.known.get(self._readable(request))
        if request.tx:
            self._end_transaction(request)
        elif self.relay.ending:
            self._refuse(request, "EIO")
        elif value is not None:
            self._answer(request, request.kind, value)
        else:
            self.held.append(request)
            self._pace()

    def _readable(self, request: Request) -> bytes:
        """The path whose value is asked for and may have been asked for before, or none."""
        return first(request.payload) if request.kind == READ and not request.tx else b""

    def _end_transaction(self, request: Request) -> None:
        if request.kind != TRANSACTION_END:
            self._refuse(request, "EIO")
            return
        self.ended_transactions.discard(request.tx)
        if request.payload == b"F\0":
            self._answer(request, request.kind, OK)
        else:
            self._refuse(request, "EAGAIN")

    def _resume(self) -> None:
        """The store is back: the watches first, then what waited."""
        self.ready = True
        self.unwatched = list(self.watches)
        self._rewatch()
        requests, self.held = self.held, []
        for request in requests:
            if not self.forgotten or not self._is_forgotten(request):
                self._send(request)
        self._pace()

    def _rewatch(self) -> None:
        if self.ready:
            payloads, self.unwatched = self.unwatched, []
            going = [path_and_token(one.payload) for one in self.pending.values() if one.kind == UNWATCH]
            for payload in payloads:
                if path_and_token(payload) not in going:  # it would be set behind its end
                    self._send(Request(WATCH, None, 0, payload, REWATCH))

    def _probe(self) -> None:
        """Ask whether the store still knows the disk."""
        if self._probing or self.store < 0:
            self._probe_again = self._probing
            return
        self._probing, self._probe_again, self._probes = True, False, []
        for path in self.disk.states:
            self._send(Request(READ, None, 0, path + b"\0", PROBE))

    def _probed(self, there: bool) -> None:
        self._probes.append(there)
        if len(self._probes) < len(self.disk.states):
            return
        was, self.forgotten = self.forgotten, not all(self._probes)
        again, self._probing = self._probe_again, False
        if self.forgotten and not (was and self.ready):
            self.relay.store_forgot()
        if not self.ready:
            self._resume()
        if was and not self.forgotten:
            self.relay.store_remembers()
            self._fire()
        if again and self.forgotten:
            self._probe()

    # -- the daemon's side --

    def _on_client(self, mask: int) -> None:
        if mask & select.POLLIN:
            try:
                data = os.read(self.client, CHUNK)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self.close()
                return
            for kind, rid, tx, payload in self._requests.feed(data):
                self._on_request(kind, rid, tx, payload)
            if self.client < 0:
                return
        if mask & select.POLLOUT:
            self._flush_client()
        elif mask & (select.POLLHUP | select.POLLERR | select.POLLNVAL) and not mask & select.POLLIN:
            self.close()

    def _on_request(self, kind: int, rid: int, tx: int, payload: bytes | None) -> None:
        if payload is None:
            # xenstored would end the connection, and the driver of the device refuses it
            self._give(ERROR, rid, tx, b"E2BIG\0")
            return
        request = Request(kind, rid, tx, payload)
        if kind in CHANGES and self.disk.is_backend(first(payload)):
            self.relay.taken = True
        if tx and tx in self.ended_transactions:
            self._end_transaction(request)
            return
        if kind in LISTING and first(payload) in self.disk.listings:
            request.job = LIST if kind == DIRECTORY else PART
        if self.forgotten and self._is_forgotten(request):
            return
        if self.silent:
            self._refuse(request, "EIO")
        elif self.ready:
            self._send(request)
        else:
            self._hold(request)

    def _is_forgotten(self, request: Request) -> bool:
        """Answer in the place of a store that lost its content, where it is about the disk's nodes."""
        value = self.known.get(self._readable(request))
        if value is not None:
            self._answer(request, request.kind, value)
            return True
        if request.kind in CHANGES and self.disk.is_backend(first(request.payload)):
            self._refuse(request, "ENOENT")
            self._note_removal(request)
            return True
        return False

    def _note_removal(self, request: Request) -> None:
        if request.kind == RM and self.disk.relative(first(request.payload)) == self.disk.backend:
            self.relay.let_go()

    def _answer(self, request: Request, kind: int, payload: bytes) -> None:
        if request.rid is not None:
            self._give(kind, request.rid, request.tx, payload)

    def _refuse(self, request: Request, code: str) -> None:
        self._answer(request, ERROR, code.encode() + b"\0")

    def _give(self, kind: int, rid: int, tx: int, payload: bytes) -> None:
        if self.client < 0:
            return
        message = HEADER.pack(kind, rid, tx, len(payload)) + payload
        if not self._to_client:
            try:
                sent = os.write(self.client, message)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.close()
                return
            if sent == len(message):
                return
            message = message[sent:]
        self._to_client += message
        self._pace()

    def _flush_client(self) -> None:
        try:
            self._to_client = self._to_client[os.write(self.client, self._to_client) :]
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        self._pace()

    def _fire(self) -> None:
        """Have the daemon look at its disk's nodes again."""
        for payload in self.watches:
            path, token = path_and_token(payload)
            if self.disk.is_part(path):
                self._give(WATCH_EVENT, 0, 0, path + b"\0" + token + b"\0")

    def _pace(self) -> None:
        """Read from either side only what the other one takes."""
        if self.client < 0:
            return
        self._paused = len(self.pending) + len(self.held) >= REQUESTS_MOST
        mask = (0 if self._paused else select.POLLIN) | (select.POLLOUT if self._to_client else 0)
        self.loop.attend(self.client, mask, self._on_client)
        if self.store >= 0:
            mask = 0 if len(self._to_client) > OUTPUT_MOST else select.POLLIN
            if self._to_store and not self.device:
                mask |= select.POLLOUT
            self.loop.attend(self.store, mask, self._on_store)

    # -- the store's side: requests and answers --

    def _send(self, request: Request) -> None:
        if self.store < 0:  # lost just now
            if request.rid is not None:
                self._hold(request)
            return
        self._rid = rid = self._rid % 0xFFFFFFFF + 1  # never 0, which the device answers watches with
        kind, payload = request.kind, request.payload
        if request.job in ASKED_OTHERWISE:
            kind, payload = READ, (KIND if request.job == PARENT else self.disk.guest) + b"\0"
        request.since = time.monotonic()
        self.pending[rid] = request
        if request.rid is not None:
            self.relay.heard = request.since
        if not self._watched:
            self._watched = True
            self.loop.after(self.relay.silence, self._silent_later)
        self._to_store.append((rid, HEADER.pack(kind, rid, request.tx, len(payload)) + payload))
        if len(self._to_store) == 1:
            self._flush_store()
        if len(self.pending) + len(self.held) >= REQUESTS_MOST:
            self._pace()

    def _flush_store(self) -> None:
        """One message a write, which is all that the device takes; and it takes the next only after the answer.

        drivers/xen/xenbus/xenbus_dev_frontend.c has one buffer for whoever has the device open. A message is copied
        out of it some time after the write (xenbus_xs.c), so the next one would overwrite it.
        """
        while self._to_store and not self._asked:
            rid, message = self._to_store[0]
            try:
                sent = os.write(self.store, message)
            except BlockingIOError:
                if self.device:
                    self.loop.after(DEVICE_PAUSE, self._flush_later)
                break
            except OSError as error:
                if self.device and error.errno not in {errno.EIO, errno.ENXIO, errno.ENODEV, errno.EBADF}:
                    # the driver's own answer: it asks the store for watches within the write
                    del self._to_store[0]
                    code = errno.errorcode.get(error.errno or 0, "EIO")
                    self._on_answer(ERROR, rid, code.encode() + b"\0")
                    continue
                self._lost(f"the store's connection broke: {error.strerror}")
                return
            if sent == len(message):
                del self._to_store[0]
                self._asked = rid if self.device else 0
            else:
                self._to_store[0] = (rid, message[sent:])
        else:
            if not self._paused:
                return
        self._pace()

    def _on_store(self, mask: int) -> None:
        if mask & select.POLLOUT:
            self._flush_store()
        if self.store < 0 or not mask & ~select.POLLOUT:
            return
        if not mask & select.POLLIN:
            self._lost("the store's connection broke")
            return
        try:
            data = os.read(self.store, CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(f"the store's connection broke: {error.strerror}")
            return
        if not data:
            self._lost("the store closed the connection")
            return
        connection = self.store
        for kind, rid, _tx, payload in self._answers.feed(data):
            if payload is None:
                self._lost("the store sent what is no answer")
            elif kind == WATCH_EVENT:
                self._on_event(payload)
            else:
                self._on_answer(kind, rid, payload)
            if self.store != connection or self.client < 0:
                return
        if self._to_store and self.device:
            self._flush_store()

    def _on_event(self, payload: bytes) -> None:
        path = first(payload)
        if self.disk.is_foreign(path):
            return  # the daemon reacts to its own paths alone; others would only wake it
        if self.forgotten and self._is_of_disk(payload):
            self._probe()
            return
        if self.disk.may_end(path) and not self.loop.is_planned(self._check_later):
            self.loop.after(GONE_CHECK, self._check_later)
        self._give(WATCH_EVENT, 0, 0, payload)

    def _is_of_disk(self, payload: bytes) -> bool:
        """Whether an event comes of a watch on the disk's nodes."""
        token = payload.split(b"\0")[1:2]
        return any(
            watch.split(b"\0")[1:2] == token and self.disk.is_part(first(watch)) for watch in self.watches
        )

    def _check(self) -> None:
        """Whether the disk's nodes are still there."""
        if self.ready and not self.forgotten:
            self._send(Request(READ, None, 0, self.disk.backend + b"\0", CHECK))

    def _on_answer(self, kind: int, rid: int, payload: bytes) -> None:
        request = self.pending.pop(rid, None)
        if request is None and rid == 0:
            # drivers/xen/xenbus/xenbus_dev_frontend.c answers watches itself, without their request id
            for own, one in self.pending.items():
                if one.kind in {WATCH, UNWATCH}:
                    request = self.pending.pop(own)
                    break
        if request is None:
            self._lost("the store answered what nobody asked")
            return
        if rid in {0, self._asked}:
            self._asked = 0
        self.silent = False
        if self.attempts:
            self.attempts = 0
            self.relay.store_back()
        if request.rid is None:
            self._on_own(request, kind, payload)
        elif request.told is not None:
            if kind == ERROR or payload != request.told:
                self._fire()
        elif request.kind == WATCH and kind == ERROR and self._owe(request, payload):
            pass
        elif request.job == PASS:
            self._note(request, kind, payload)
            self._give(kind, request.rid, request.tx, payload)
            if request.kind == RM:
                self._note_removal(request)
        else:
            self._on_listing(request, kind, payload)
        if self._paused:
            self._pace()

    def _on_own(self, request: Request, kind: int, payload: bytes) -> None:
        if request.job == PROBE:
            self._probed(kind != ERROR)
        elif request.job == CHECK and kind == ERROR and payload == b"ENOENT\0":
            self.relay.guest_gone()
        elif request.job == REWATCH and kind == ERROR:
            self._not_rewatched(request, payload)

    def _not_rewatched(self, request: Request, code: bytes) -> None:
        if code != b"EEXIST\0" and request.payload in self.watches:  # dropped by the daemon meanwhile
            self.unwatched.append(request.payload)
            self.loop.after(AGAIN, self._rewatch_later)

    def _owe(self, request: Request, code: bytes) -> bool:
        """Whether the daemon is given a watch that the store refuses, its quota being used up; it is had later.

        The daemon would give up a disk that it cannot watch, and remove its nodes.
        """
        parts = request.payload.split(b"\0")
        own = parts[0] in self.disk.listings or self.disk.is_part(parts[0])
        if not own or len(parts) < 3 or code == b"EEXIST\0":
            return False
        self.relay.store_full(code)
        self.watches.append(request.payload)
        self._not_rewatched(request, code)
        self._answer(request, request.kind, OK)
        self._give(WATCH_EVENT, 0, 0, parts[0] + b"\0" + parts[1] + b"\0")
        return True

    def _on_listing(self, request: Request, kind: int, payload: bytes) -> None:
        """Answer a listing of guests with the one; the listing itself may be too large to be had at once."""
        there = kind != ERROR
        if request.job == LIST and payload != b"E2BIG\0":
            self._answer(request, kind, self.disk.only(payload) if there else payload)
            return
        if request.job == LIST:
            request.job = CHILD
        elif request.job in {PART, CHILD} and (there or payload == b"EACCES\0"):
            self._answer(request, request.kind, self._listed(request, self.disk.name))
            return
        elif request.job in {PART, CHILD} and payload == b"ENOENT\0":
            request.job = PARENT
        elif request.job == PARENT and there:
            self._answer(request, request.kind, self._listed(request, b""))
            return
        else:
            self._answer(request, kind, payload)
            return
        self._send(request)

    def _listed(self, request: Request, name: bytes) -> bytes:
        if request.kind == DIRECTORY:
            return name + b"\0" if name else b""
        return listing_part(name, request.payload.partition(b"\0")[2].rstrip(b"\0"))

    def _note(self, request: Request, kind: int, payload: bytes) -> None:
        """Keep in mind what a new connection to the store has to know."""
        asked = request.kind
        if asked == READ:
            path = first(request.payload)
            if request.tx == 0 and self.disk.is_part(path):
                if kind == ERROR:
                    self.known.pop(path, None)
                else:
                    self.known[path] = payload
        elif asked == TRANSACTION_END:
            self.transactions.discard(request.tx)
        elif asked == UNWATCH:  # also of one that the store does not have yet
            self._unwatch(request.payload)
        elif kind == ERROR:
            return
        elif asked == WRITE:
            path, _nul, value = request.payload.partition(b"\0")
            if request.tx == 0 and self.disk.is_part(path):
                self.known[path] = value
        elif asked == WATCH:
            self.watches.append(request.payload)
        elif asked == RESET_WATCHES:
            self.watches = []
        elif asked == TRANSACTION_START:
            number = first(payload)
            if number.isdigit():
                self.transactions.add(int(number))
                self.ended_transactions.discard(int(number))

    def _unwatch(self, payload: bytes) -> None:
        wanted = path_and_token(payload)
        for watches in (self.watches, self.unwatched):
            found = [watch for watch in watches if path_and_token(watch) == wanted]
            if found:
                watches.remove(found[0])

    def _silent(self) -> None:
        """The store owes an answer: tell what it said before, and what is new once it speaks again."""
        now = time.monotonic()
        self._watched = False
        due = NEVER
        for request in list(self.pending.values()):
            if request.rid is None or request.told is not None:
                continue
            if request.since + self.relay.silence > now:
                due = min(due, request.since + self.relay.silence)
                continue
            value = self.known.get(self._readable(request))
            if self.relay.ending:
                self.silent = True
                request.told = b""
                self._refuse(request, "EIO")
            elif value is not None:
                request.told = value
                self._answer(request, request.kind, value)
        if due != NEVER:
            self._watched = True
            self.loop.after(due - now, self._silent_later)

    @property
    def is_waiting(self) -> bool:
        """Whether the daemon waits for an answer on this connection."""
        asked = [*self.pending.values(), *self.held]
        return any(request.rid is not None and request.told is None for request in asked)

    @property
    def is_unread(self) -> bool:
        """Whether the daemon said something on this connection that was not read yet."""
        poll = select.poll()
        poll.register(self.client, select.POLLIN)
        return any(mask & select.POLLIN for _fd, mask in poll.poll(0))

    def hurry(self) -> None:
        """The daemon is to end: nothing of it waits for a store that is away."""
        held, self.held = self.held, []
        for request in held:
            self._refuse(request, "EIO")
        self._watched = True
        self.loop.after(self.relay.silence, self._silent_later)


class Relay:
    """The store as one daemon sees it.

    Args:
        loop: to wait in.
        disk: the daemon's.
        paths: where the store may be.
        done: called, with a sentence, once the daemon has nothing left to serve.
        status: called with a sentence for whoever looks at the unit.
    """

    def __init__(
        self,
        loop: Loop,
        disk: Disk,
        paths: list[str],
        done: Callable[[str], None],
        status: Callable[[str], None],
    ) -> None:
        self.loop = loop
        self.disk = disk
        self.paths = paths
        self.links: list[Link] = []
        self.ending = False
        self.taken = (
            False  #: whether the daemon has changed a node of its disk, so that it is no longer a new one
        )
        self.silence = SILENCE
        self.heard = 0.0  #: when the daemon asked something last, by time.monotonic()
        self._done = done
        self._status = status
        self._away = self._empty = False
        self._listener: _socket.socket | None = None

    def listen(self, path: str) -> None:
        """Open the daemon's door to the store. Raises OSError."""
        self._listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        self._listener.setblocking(False)
        self._listener.bind(path)
        self._listener.listen(8)
        self.loop.attend(self._listener.fileno(), select.POLLIN, self._accept)

    def _accept(self, _mask: int) -> None:
        if self._listener is None:
            return
        try:
            client, _address = self._listener._accept()  # type: ignore[attr-defined]
        except OSError:
            return
        os.set_blocking(client, False)
        self.links.append(Link(self, client))

    def close(self) -> None:
        """All connections end."""
        for link in list(self.links):
            link.close()
        if self._listener is not None:
            self.loop.forget(self._listener.fileno())
            self._listener.close()
            self._listener = None

    def end(self) -> None:
        """The daemon is about to be told to end."""
        self.ending = True
        self.silence = SILENCE_AT_END
        for link in list(self.links):
            link.hurry()

    def is_busy(self, now: float) -> bool:
        """Whether the daemon waits for an answer, did so just now, or asked what was not read yet."""
        return now < self.heard + QUIET or any(link.is_waiting or link.is_unread for link in self.links)

    def store_lost(self, why: str) -> None:
        if not self._away:
            self._away = True
            self._status(f"the store is away ({why}); the disk stays served")

    def store_back(self) -> None:
        if self._away:
            self._away = False
            self._status("the store is back")

    def store_full(self, code: bytes) -> None:
        why = first(code).decode("ascii", "replace")
        self._status(f"the store has no room for a watch ({why}); the end of its guest may be noticed late")

    def store_forgot(self) -> None:
        self._status("the store came back without the disk's nodes: it lost them; the disk stays served")

    def store_remembers(self) -> None:
        self._status("the store has the disk's nodes again")

    def let_go(self) -> None:
        self._done("the daemon let go of the disk")

    def guest_gone(self) -> None:
        self._done("the disk's nodes are gone")


# ---- the unit ----


def ask(paths: list[str], questions: list[bytes], limit: float) -> list[bytes | None]:
    """The values of some nodes, None for those that cannot be read.

    Raises OSError where no store answers them all within ``limit`` seconds.
    """
    deadline = time.monotonic() + limit
    while True:
        try:
            fd, _device = open_store(paths)
            try:
                return _answers(fd, questions, deadline)
            finally:
                os.close(fd)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(BACKOFF[0])  # a listener whose backlog of 1 is taken, too


def _answers(fd: int, questions: list[bytes], deadline: float) -> list[bytes | None]:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    framer = Framer(ANSWER_MAX)
    found: list[bytes | None] = []
    for path in questions:
        os.write(fd, pack(READ, len(found) + 1, 0, path + b"\0"))
        due = len(found) + 1
        while len(found) < due:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise OSError(errno.ETIMEDOUT, "nothing is answered")
            data = os.read(fd, CHUNK)
            if not data:
                raise OSError(errno.ECONNRESET, "the connection is closed at once")
            found += [payload if kind == READ else None for kind, _rid, _tx, payload in framer.feed(data)]
    return found


def look(settings: Settings, paths: list[str]) -> Disk:
    """The disk, if a daemon may be started for it: new, with all its nodes there.

    A daemon that starts on any other disk removes its nodes, served or not, and so ends it.
    Raises RefusalError.
    """
    deadline = time.monotonic() + NODES_LIMIT
    what = f"disk {settings.devid} of domain {settings.domid}"
    while True:
        disk = Disk(settings.domid, settings.devid, 0)
        try:
            own, *states = ask(paths, [b"domid", *disk.states], ANSWER_LIMIT)
        except OSError as error:
            raise RefusalError(UNAVAILABLE, f"{what}: xenstore: {error.strerror}") from error
        if states == [b"1", b"1"]:
            return Disk(settings.domid, settings.devid, int(own) if own and own.isdigit() else 0)
        if states[0] not in {None, b"", b"1"} or time.monotonic() > deadline:
            told = [state.decode("ascii", "replace")[:8] if state else "none" for state in states]
            raise RefusalError(
                NOT_NEW,
                f"{what}: backend in state {told[0]}, frontend in state {told[1]}; a daemon is started only while "
                "both are 1, since it removes any other disk: have the guest created again",
            )
        time.sleep(BACKOFF[1])


def is_at_work(pid: int) -> bool:
    """Whether a thread of a process runs, waits for a processor (R) or for a device (D); proc_pid_stat(5).

    On a machine that has no processor for it, one that said nothing for a while was not quiet.
    """
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return False
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/stat", "rb") as stream:
                state = stream.read().rpartition(b") ")[2][:1]  # behind its name, which may hold anything
        except OSError:  # it has ended
            continue
        if state in {b"R", b"D"}:
            return True
    return False


class Unit:
    """The daemon as a child of this process, with its files and what systemd is told."""

    def __init__(self, settings: Settings, environ: Mapping[str, str]) -> None:
        self.settings = settings
        self.loop = Loop()
        self.relay: Relay | None = None
        self.pid = 0
        self.code: int | None = None
        self.ending = ""  # why
        self._unused = False  # ended before it took the disk up
        self._tries = QUIET_TRIES
        self._paths = store_paths(environ)
        self._notify = environ.get("NOTIFY_SOCKET", "")
        self._prefixed = "JOURNAL_STREAM" in environ
        self._lock = -1
        self._what = f"disk {settings.devid} of domain {settings.domid}"
        self._stop_later = self._stop
        self._kill_later = self._kill

    def run(self) -> int:
        """Run the daemon to its end; returns the code to exit with. Raises RefusalError."""
        self._take_lock()
        try:
            disk = look(self.settings, self._paths)
            self._hear_signals()
            if self.settings.through:
                self._listen(disk)
            self._spawn()
            while self.code is None:
                self.loop.turn()
            return self._result()
        finally:
            self._clean()

    # -- files --

    def _take_lock(self) -> None:
        """Held by daemon and view: it is free when both are gone."""
        path = self.settings.path("lock")
        deadline = time.monotonic() + LOCK_LIMIT
        try:
            os.makedirs(self.settings.run, 0o755, exist_ok=True)
            while True:
                handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if os.path.samestat(os.fstat(handle), os.stat(path)):
                        self._lock = handle
                        return
                except (BlockingIOError, FileNotFoundError):
                    pass
                os.close(handle)
                if time.monotonic() > deadline:
                    why = f"{self._what}: {path} is held, so a unit of this disk lives"
                    raise RefusalError(LIVES_ALREADY, why)
                time.sleep(BACKOFF[0])
        except OSError as error:
            raise RefusalError(CANT_CREATE, f"{path}: {error.strerror}") from error

    def _write_facts(self) -> None:
        facts = {
            **self.settings.facts,
            "daemon_pid": self.pid,
            "view_pid": os.getpid(),
            "started": round(time.time(), 3),
        }
        path = self.settings.path("json")
        with open(path + ".new", "w", encoding="ascii") as stream:
            stream.write(as_json(facts) + "\n")
        os.replace(path + ".new", path)

    def _clean(self) -> None:
        if self.relay is not None:
            self.relay.close()
        for suffix in ("sock", "json.new", "json", "lock"):  # the lock last: it says that there are others
            try:
                os.unlink(self.settings.path(suffix))
            except OSError:
                continue

    # -- the daemon --

    def _listen(self, disk: Disk) -> None:
        path = self.settings.path("sock")
        self.relay = Relay(self.loop, disk, self._paths, self._end, self._say)
        before = os.umask(0o177)
        try:
            if os.path.lexists(path):
                os.unlink(path)  # of an earlier unit: the lock is ours
            self.relay.listen(path)
        except OSError as error:
            raise RefusalError(CANT_CREATE, f"{path}: {error.strerror}") from error
        finally:
            os.umask(before)

    def _spawn(self) -> None:
        command = self.settings.command
        environ = dict(self.settings.environ)
        if self.settings.through:
            environ["XENSTORED_PATH"] = self.settings.path("sock")
        os.set_inheritable(self._lock, True)
        heard = (_signal.SIGPIPE, _signal.SIGHUP, _signal.SIGXFSZ)  # what Python or we ignore
        try:
            # a service of the standard library only
            self.pid = os.posix_spawn(command[0], command, environ, setsigmask=(), setsigdef=heard)  # pylint: disable=unknown-option-value,ansible-bad-function
        except OSError as error:
            code = NOT_FOUND if error.errno == errno.ENOENT else NOT_RUN
            raise RefusalError(code, f"{self._what}: {command[0]}: {error.strerror}") from error
        try:
            self._write_facts()
        except OSError as error:
            # a daemon that nobody knows of is worse than none; it has not looked at the store yet
            os.kill(self.pid, _signal.SIGKILL)
            os.waitpid(self.pid, 0)
            raise RefusalError(CANT_CREATE, f"{self.settings.path('json')}: {error.strerror}") from error
        self._tell(f"READY=1\nSTATUS={self._what}: virtio-disk runs as process {self.pid}")

    def _hear_signals(self) -> None:
        heard, woken = _socket.socketpair()
        for end in (heard, woken):
            end.setblocking(False)
        self._wakeup = (heard, woken)
        _signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
        for number in (_signal.SIGTERM, _signal.SIGINT, _signal.SIGUSR1, _signal.SIGCHLD):
            _signal.signal(number, _heard)
        _signal.signal(_signal.SIGHUP, _signal.SIG_IGN)
        self.loop.attend(heard.fileno(), select.POLLIN, self._on_signal)

    def _on_signal(self, _mask: int) -> None:
        try:
            numbers = self._wakeup[0].recv(256)
        except BlockingIOError:
            return
        if _signal.SIGTERM in numbers or _signal.SIGINT in numbers:
            self._end("told to end")
        elif _signal.SIGUSR1 in numbers and not self.ending:
            # the launcher takes the daemon for deaf; it cannot see what is under way here
            if self.relay is None or self.relay.taken:
                self._say("told to end unless the disk is taken up, and it is")
            else:
                self._end("told to end, since the disk was not taken up in time")
        if self.code is None and self.pid:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                self.code = 128 - code if code < 0 else code

    def _end(self, why: str) -> None:
        """Have the daemon end."""
        if not self.ending:
            self.ending = why
            self._say(why)
            if self.relay is not None and not self.relay.taken:
                self._discard(self.relay)
                return
            if self.relay is not None:
                self.relay.end()
            self._stop()

    def _discard(self, relay: Relay) -> None:
        """End a daemon that has not touched its disk, which then is as new as before: another one may take it up.

        Told to end while it is just about to, it would take it up, and then away.
        """
        self._unused = True
        if self.code is None:
            os.kill(self.pid, _signal.SIGKILL)
        relay.close()  # what it said last is not heard

    def _stop(self) -> None:
        """SIGTERM, when the daemon is not in the middle of something.

        Its handler asks the store itself: within a request it would wait for that for ever, and while a disk is
        being attached it ends without giving it back.
        """
        self._tries -= 1
        relay = self.relay
        # asleep first, then nothing of it unread: the other way round it might say something in between
        if (
            relay is not None
            and self._tries >= 0
            and (is_at_work(self.pid) or relay.is_busy(time.monotonic()))
        ):
            self.loop.after(QUIET, self._stop_later)
        elif self.code is None:
            os.kill(self.pid, _signal.SIGTERM)
            self.loop.after(GRACE, self._kill_later)

    def _kill(self) -> None:
        if self.code is None:
            self._say(f"virtio-disk did not end within {GRACE:g} s of SIGTERM, and is killed")
            os.kill(self.pid, _signal.SIGKILL)

    def _result(self) -> int:
        code = self.code or 0
        how = f"killed by signal {code - 128}" if code > 128 else f"ended with status {code}"
        if not self.ending:
            self._say(f"virtio-disk {how}: the disk is lost until its guest is created again", 3)
        elif self._unused or code in {0, 128 + _signal.SIGTERM}:
            return 0
        return code

    # -- who looks at it --

    def _say(self, text: str, level: int = 5) -> None:
        self._tell(f"STATUS={self._what}: {text}")
        prefix = f"<{level}>" if self._prefixed else ""
        try:
            os.write(2, f"{prefix}{self._what}: {text}\n".encode())
        except OSError:
            return

    def _tell(self, text: str) -> None:
        """sd_notify(3)."""
        if self._notify[:1] not in {"/", "@"}:
            return
        address = "\0" + self._notify[1:] if self._notify[0] == "@" else self._notify
        try:
            sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
            sock.sendto(text.encode(), _socket.MSG_DONTWAIT, address)
        except OSError:
            return


def _heard(_number: int, _frame: object) -> None:
    """The wake-up descriptor tells; a handler has to be there for that."""


def main(argv: list[str], environ: Mapping[str, str]) -> int:
    """Returns the code to exit with."""
    try:
        return Unit(Settings(argv, environ), environ).run()
    except RefusalError as refusal:
        prefix = "<3>" if "JOURNAL_STREAM" in environ else ""
        sys.stderr.write(f"{prefix}virtio-disk-view: {refusal}\n")
        return refusal.code


def start() -> None:
    """Run for the disk that the first argument names."""
    raise SystemExit(main(sys.argv, os.environ))


if __name__ == "__main__":
    start()
