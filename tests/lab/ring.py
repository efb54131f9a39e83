# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Domain N's own view of the store: a socket in front of the ring page N shares with xenstored.

What a client sends goes over the ring as domain N's, so xenstored applies N's permissions and quotas.
Between clients and ring this process does what Linux's /dev/xen/xenbus driver
(drivers/xen/xenbus/xenbus_dev_frontend.c) does: each client has its own request ids, watches and
transactions; a message larger than a page is refused; a transaction id that is not the client's is
answered ENOENT without asking xenstored; a client that goes away loses its watches, and its open
transactions are aborted.  Where the driver's write() would fail, the socket answers with that error.
The driver has one buffer for each client, out of which a request goes onto the ring later (xenbus_xs.c):
one that is written before the answer to the last takes that one's place there.  A client that says it is
behind the disguise of a device (shim/device.c) gets EINVAL for it, which is what mostly comes of it, every time.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import selectors
import socket
import struct
import sys
from collections.abc import Callable
from typing import NamedTuple

from . import wire

# struct xenstore_domain_interface, xen/include/public/io/xs_wire.h
SIZE = 1024
REQUESTS, RESPONSES = 0, 1024
REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD = 2048, 2052, 2056, 2060
PORT_DOMAIN = 100  # LAB_PORT_DOMAIN of shim/hypervisor.h
PAGE = 4096
MESSAGE_MAX = wire.PAYLOAD_MAX  # the driver's buffer: header included
U32 = struct.Struct("=I")
MASK = 0xFFFFFFFF
HELLO = 0xFFFF  # of shim/device.c


class Ring:
    """The guest's end of a ring page."""

    def __init__(self, hypervisor: str, domid: int) -> None:
        page = os.open(f"{hypervisor}/ring/{domid}", os.O_RDWR)
        try:
            self._page = mmap.mmap(page, PAGE)
        finally:
            os.close(page)
        self._words = memoryview(self._page).cast("I")
        kick = f"{hypervisor}/kick/{domid}"
        if not os.path.exists(kick):
            os.mkfifo(kick, 0o600)
        self.wakeup = os.open(kick, os.O_RDWR | os.O_NONBLOCK)
        self._channel = os.open(f"{hypervisor}/evtchn", os.O_RDWR | os.O_NONBLOCK)
        self._port = U32.pack(PORT_DOMAIN + domid)
        self.unsent = bytearray()

    def _get(self, offset: int) -> int:
        return self._words[offset // 4]

    def _set(self, offset: int, value: int) -> None:
        # One store of 32 bits: struct.pack_into would write byte by byte, and xenstored, looking at just
        # that moment, would take the torn index for a broken ring and drop the domain.
        self._words[offset // 4] = value & MASK

    def close(self) -> None:
        for fd in (self.wakeup, self._channel):
            os.close(fd)
        self._words.release()
        self._page.close()

    def notify(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full: xenstored will find the earlier ones
            os.write(self._channel, self._port)

    def push(self) -> None:
        """As much of ``unsent`` as fits."""
        producer = self._get(REQ_PROD)
        room = SIZE - ((producer - self._get(REQ_CONS)) & MASK)
        take = min(room, len(self.unsent))
        if take <= 0:
            return
        at = producer % SIZE
        first = min(take, SIZE - at)
        self._page[REQUESTS + at : REQUESTS + at + first] = bytes(self.unsent[:first])
        self._page[REQUESTS : REQUESTS + take - first] = bytes(self.unsent[first:take])
        del self.unsent[:take]
        self._set(REQ_PROD, producer + take)
        self.notify()

    def pull(self) -> bytes:
        """Everything xenstored has answered so far."""
        consumer = self._get(RSP_CONS)
        take = (self._get(RSP_PROD) - consumer) & MASK
        if not take:
            return b""
        at = consumer % SIZE
        first = min(take, SIZE - at)
        data = self._page[RESPONSES + at : RESPONSES + at + first]
        data += self._page[RESPONSES : RESPONSES + take - first]
        self._set(RSP_CONS, consumer + take)
        self.notify()
        return bytes(data)


class Client:
    """One program that has the device open."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.incoming = bytearray()
        self.outgoing = bytearray()
        self.watches: dict[bytes, tuple[bytes, bytes]] = {}  # our token -> (path, the client's token)
        self.transactions: set[int] = set()
        self.device = False  # it is behind the disguise of a device
        self.asked = False  # a request is under way
        self.skip = 0  # bytes still to come of a refused message
        self.gone = False


class Pending(NamedTuple):
    """A request on its way: what to do with its answer."""

    client: Client
    request: int
    tx: int
    kind: int
    token: bytes  # for WATCH: ours


class View:
    """Serves one domain's view; several may share a selector."""

    def __init__(
        self, hypervisor: str, domid: int, path: str, selector: selectors.BaseSelector | None = None
    ) -> None:
        self.ring = Ring(hypervisor, domid)
        self.selector = selector or selectors.DefaultSelector()
        self.clients: set[Client] = set()
        self.pending: dict[int, Pending] = {}
        self.watchers: dict[bytes, Client] = {}
        self.answers = bytearray()
        self.next_request = 0
        self.next_token = 0
        self.ended = False
        self.listener = listener = socket.socket(socket.AF_UNIX)
        os.chdir(os.path.dirname(path))
        fresh = os.path.basename(path)
        if os.path.exists(fresh):
            os.unlink(fresh)
        listener.bind(fresh)
        listener.listen(64)
        self.selector.register(listener, selectors.EVENT_READ, lambda _mask: self.accept(listener))
        self.selector.register(self.ring.wakeup, selectors.EVENT_READ, self.woken)
        self.woken(0)

    def end(self) -> None:
        """The domain is gone: so is its device. What a selector found for it a moment ago is of no account now."""
        self.ended = True
        for thing in (self.listener, self.ring.wakeup):
            self.selector.unregister(thing)
        for client in self.clients:
            client.gone = True
            self.selector.unregister(client.socket)
            client.socket.close()
        self.listener.close()
        self.ring.close()

    def run(self) -> None:
        while True:
            for key, mask in self.selector.select():
                handler: Callable[[int], None] = key.data
                handler(mask)

    def accept(self, listener: socket.socket) -> None:
        if self.ended:
            return
        connection, _unused = listener.accept()
        connection.setblocking(False)
        client = Client(connection)
        self.clients.add(client)
        self.selector.register(connection, selectors.EVENT_READ, lambda mask: self.on_client(client, mask))

    # -- from the ring --

    def woken(self, _mask: int) -> None:
        if self.ended:
            return
        with contextlib.suppress(BlockingIOError):
            os.read(self.ring.wakeup, 65536)
        while data := self.ring.pull():
            self.answers += data
        self.ring.push()
        for kind, request, _tx, payload in wire.take_messages(self.answers):
            if kind == wire.WATCH_EVENT:
                self.on_event(payload)
            elif request in self.pending:
                self.on_answer(self.pending.pop(request), kind, payload)

    def on_event(self, payload: bytes) -> None:
        path, token, rest = (*payload.split(b"\0", 2), b"")[:3]
        client = self.watchers.get(token)
        if client is not None and not client.gone:
            own = client.watches[token][1]
            self.reply(client, wire.WATCH_EVENT, 0, 0, path + b"\0" + own + b"\0" + rest)

    def on_answer(self, pending: Pending, kind: int, payload: bytes) -> None:
        client, failed = pending.client, kind == wire.ERROR
        client.asked = False
        if pending.kind == wire.TRANSACTION_START and not failed:
            started = int(payload.rstrip(b"\0"))
            if client.gone:
                self.forward(None, wire.TRANSACTION_END, 0, started, b"F\0")
            client.transactions.add(started)
        elif pending.kind == wire.TRANSACTION_END:
            client.transactions.discard(pending.tx)
        elif pending.kind == wire.WATCH and failed:
            self.watchers.pop(pending.token, None)
            client.watches.pop(pending.token, None)
        self.reply(client, kind, pending.request, pending.tx, payload)

    # -- from a client --

    def on_client(self, client: Client, mask: int) -> None:
        if mask & selectors.EVENT_WRITE:
            self.flush(client)
        if not mask & selectors.EVENT_READ or client.gone:
            return
        try:
            data = client.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close(client)
            return
        client.incoming += data
        self.take(client)

    def take(self, client: Client) -> None:
        """Every whole message that has come in."""
        buffer = client.incoming
        while not client.gone:
            if client.skip:
                skipped = min(client.skip, len(buffer))
                del buffer[:skipped]
                client.skip -= skipped
            if client.skip or len(buffer) < wire.HEADER.size:
                return
            kind, request, tx, length = wire.HEADER.unpack_from(buffer)
            if wire.HEADER.size + length > MESSAGE_MAX:
                del buffer[: wire.HEADER.size]
                client.skip = length
                self.refuse(client, request, tx, "E2BIG")
                continue
            end = wire.HEADER.size + length
            if len(buffer) < end:
                return
            payload = bytes(buffer[wire.HEADER.size : end])
            del buffer[:end]
            self.on_request(client, kind, request, tx, payload)

    def on_request(self, client: Client, kind: int, request: int, tx: int, payload: bytes) -> None:
        if kind == HELLO:
            client.device = True
        elif client.device and client.asked:
            self.refuse(client, request, tx, "EINVAL")
        elif kind in {wire.WATCH, wire.UNWATCH}:
            self.on_watch(client, kind, request, tx, payload)
        elif kind == wire.TRANSACTION_START:
            self.forward(client, kind, request, 0, payload)
        elif tx and tx not in client.transactions:
            self.refuse(client, request, tx, "ENOENT")
        elif kind == wire.TRANSACTION_END and payload not in {b"T\0", b"F\0"}:
            self.refuse(client, request, tx, "EINVAL")
        else:
            self.forward(client, kind, request, tx, payload)

    def on_watch(self, client: Client, kind: int, request: int, tx: int, payload: bytes) -> None:
        parts = payload.split(b"\0")
        if len(parts) < 3:
            self.refuse(client, request, tx, "EINVAL")
            return
        path, token = parts[0], parts[1]
        if kind == wire.WATCH:
            self.next_token += 1
            own = f"{self.next_token:x}".encode()
            client.watches[own] = (path, token)
            self.watchers[own] = client
            self.forward(client, kind, request, tx, path + b"\0" + own + b"\0", own)
            return
        for own, watch in client.watches.items():
            if watch == (path, token):
                self.unwatch(client, own)
                break
        self.reply(client, kind, request, tx, b"OK\0")  # the driver says so for an unknown watch too

    def unwatch(self, client: Client, own: bytes) -> None:
        path, _token = client.watches.pop(own)
        self.watchers.pop(own, None)
        self.forward(None, wire.UNWATCH, 0, 0, path + b"\0" + own + b"\0")

    def forward(
        self, client: Client | None, kind: int, request: int, tx: int, payload: bytes, token: bytes = b""
    ) -> None:
        self.next_request = (self.next_request + 1) & MASK
        if client is not None:
            client.asked = True
            self.pending[self.next_request] = Pending(client, request, tx, kind, token)
        self.ring.unsent += wire.pack(kind, self.next_request, tx, payload)
        self.ring.push()

    def refuse(self, client: Client, request: int, tx: int, code: str) -> None:
        self.reply(client, wire.ERROR, request, tx, code.encode() + b"\0")

    def reply(self, client: Client, kind: int, request: int, tx: int, payload: bytes) -> None:
        if not client.gone:
            client.outgoing += wire.pack(kind, request, tx, payload)
            self.flush(client)

    def flush(self, client: Client) -> None:
        try:
            while client.outgoing:
                del client.outgoing[: client.socket.send(client.outgoing)]
        except BlockingIOError:
            pass
        except OSError:
            self.close(client)
            return
        if not client.gone:
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.outgoing else 0)
            self.selector.modify(client.socket, wanted, self.selector.get_key(client.socket).data)

    def close(self, client: Client) -> None:
        if client.gone:
            return
        client.gone = True
        self.clients.discard(client)
        self.selector.unregister(client.socket)
        client.socket.close()
        for own in list(client.watches):
            self.unwatch(client, own)
        for tx in client.transactions:
            self.forward(None, wire.TRANSACTION_END, 0, tx, b"F\0")


def main() -> None:
    hypervisor, domid, path = sys.argv[1:]
    view = View(hypervisor, int(domid), path)
    os.write(int(os.environ["LAB_READY"]), b"!")
    view.run()
