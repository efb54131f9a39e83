# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for what runs in the guests: the little of a kernel that a toolstack notices.

For every domain that is not paused it boots (once): says that it can be powered off, brings up the vCPUs
it was given, takes the memory it was told to.  Then it follows ``memory/target`` and
``cpu/N/availability``, and ``control/shutdown``: it takes note by emptying the node and, as its kernel
would at the end of a shutdown, tells Xen that it is off (`Hypervisor.shut_down`).  All it reads and
writes goes over the domain's own ring, so with the domain's own permissions; only the last step, a
hypercall, does not.

A guest with a virtio disk that no backend serves any more (no directory, or a state that is not 2 or 4)
takes note and then hangs, as a kernel that cannot write its file system back.

How a guest takes a request is in ``guests.json`` (`LabHost.guest_answers`).
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import select
import selectors
import socket
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from . import wire
from .domains import Domain, Hypervisor
from .ring import View

POLL = 0.05  # seconds between two looks at guests that are paused: nothing tells us of an unpause
SERVED = {b"2", b"4"}
REASONS = {b"poweroff": "poweroff", b"halt": "poweroff", b"reboot": "reboot"}


class Views(threading.Thread):
    """Serves the views of all domains, so that a test and the guest itself share one ring."""

    def __init__(self, hypervisor: Path, folder: Path) -> None:
        super().__init__(daemon=True)
        self._hypervisor = hypervisor
        self._folder = folder
        self._selector = selectors.DefaultSelector()
        self._views: dict[int, View] = {}
        self._asked: queue.Queue[tuple[str, int, threading.Event]] = queue.Queue()
        self._bell, bell = os.pipe()
        self._ring_bell = bell
        self._selector.register(self._bell, selectors.EVENT_READ, self._serve_asked)

    def add(self, domid: int) -> None:
        self._ask("add", domid)

    def drop(self, domid: int) -> None:
        self._ask("drop", domid)

    def _ask(self, what: str, domid: int) -> None:
        done = threading.Event()
        self._asked.put((what, domid, done))
        os.write(self._ring_bell, b"!")
        done.wait(30)

    def _serve_asked(self, _mask: int) -> None:
        os.read(self._bell, 1)
        what, domid, done = self._asked.get()
        if what == "add" and domid not in self._views:
            path = str(self._folder / f"{domid}.sock")
            with contextlib.suppress(OSError):  # the domain is gone again
                self._views[domid] = View(str(self._hypervisor), domid, path, self._selector)
        elif what == "drop" and domid in self._views:
            self._views.pop(domid).end()
        done.set()

    def run(self) -> None:
        try:
            while True:
                for key, mask in self._selector.select():
                    key.data(mask)
        except BaseException:  # guests that nobody answers would only seem to hang
            traceback.print_exc()
            os._exit(1)


class Guest:
    """One domain's kernel."""

    def __init__(self, domid: int, path: Path) -> None:
        self.domid = domid
        self._path = path
        self._client: wire.Client | None = None
        self.booted = False
        self.off_at: float | None = None  # when what was asked for is done
        self.off_how = ""
        self.missed = False  # told of something while it could not run

    @property
    def client(self) -> wire.Client:
        if self._client is None:
            # a short name: the folder's may exceed a socket address (the process stands in it)
            self._client = wire.Client(self._path.name)
        return self._client

    @property
    def stream(self) -> socket.socket | None:
        return None if self._client is None else self._client.stream

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def name(self) -> str:
        return (self.client.read("name") or b"").decode("utf-8", "replace")

    def boot(self) -> None:
        for feature in ("poweroff", "reboot"):
            with contextlib.suppress(wire.WireError):
                self.client.write(f"control/feature-{feature}", "1")
        for path in ("control/shutdown", "memory/target", "cpu"):
            self.client.watch(path, path)
        self.booted = True

    def loses_a_disk(self) -> bool:
        """Whether one of its virtio disks has no backend that serves it."""
        devids = self.client.directory("device/virtio_disk") or []
        for devid in devids:
            backend = (self.client.read(f"device/virtio_disk/{devid}/backend") or b"").decode()
            try:
                state = self.client.read(f"{backend}/state") if backend else None
            except wire.WireError:
                state = None
            if state not in SERVED:
                return True
        return False


class Guests:
    def __init__(self, folder: Path) -> None:
        self.hypervisor = Hypervisor(folder / "hv")
        self.config = folder / "guests.json"
        self.views_folder = folder / "views"
        self.views = Views(self.hypervisor.folder, self.views_folder)
        self.guests: dict[int, Guest] = {}

    def how(self, guest: Guest) -> dict[str, Any]:
        config = json.loads(self.config.read_text())
        own = config["guests"]
        found: dict[str, Any] = own.get(f"{guest.domid}") or own.get(guest.name()) or config["default"]
        return found

    # ---- which domains there are ----

    def refresh(self) -> None:
        living = {
            domain.domid: domain for domain in self.hypervisor.domains() if domain.domid and not domain.dying
        }
        for domid in [*self.guests]:
            if domid not in living:
                self.forget(domid)
        for domid, domain in living.items():
            if domid not in self.guests and self.introduced(domid):
                if not served(self.views_folder / f"{domid}.sock"):
                    self.views.add(domid)
                self.guests[domid] = Guest(domid, self.views_folder / f"{domid}.sock")
            guest = self.guests.get(domid)
            if guest is not None and not guest.booted and runs(domain):
                self.carefully(guest, self.start)

    def introduced(self, domid: int) -> bool:
        page = self.hypervisor.folder / f"ring/{domid}"
        return page.exists() and page.stat().st_size > 0

    def start(self, guest: Guest) -> None:
        guest.boot()
        up_mark(self.views_folder, guest.domid).touch()
        self.look(guest)

    def forget(self, domid: int) -> None:
        self.guests.pop(domid).close()
        up_mark(self.views_folder, domid).unlink(missing_ok=True)
        self.views.drop(domid)

    # ---- what a guest is told ----

    def look(self, guest: Guest) -> None:
        """All that a guest is told, looked at afresh."""
        domain = self.hypervisor.get(guest.domid)
        if domain is None or not runs(domain):
            return
        how = self.how(guest)
        if how["follows"]:
            self.balloon(guest, domain)
            self.plug(guest, domain)
        asked = guest.client.read("control/shutdown") or b""
        if asked in REASONS and how["shutdown"] != "ignore":
            guest.client.write("control/shutdown", "")
            if how["shutdown"] == "hang" or (how["shutdown"] == "answer" and guest.loses_a_disk()):
                return
            guest.off_how = {"crash": "crash", "vanish": "vanish"}.get(how["shutdown"], REASONS[asked])
            guest.off_at = time.monotonic() + how["after"]

    def balloon(self, guest: Guest, domain: Domain) -> None:
        target = guest.client.read("memory/target") or b""
        if not target.isdigit():
            return
        wanted = min(int(target), domain.max) if domain.max else int(target)
        if wanted and wanted <= domain.mem + self.hypervisor.free_kib() and wanted != domain.mem:
            self.hypervisor.change(guest.domid, mem=wanted)

    def plug(self, guest: Guest, domain: Domain) -> None:
        paths = [f"cpu/{number}/availability" for number in range(domain.vcpus)]
        online = sum(guest.client.read(path) == b"online" for path in paths)
        if online and online != domain.online:
            self.hypervisor.change(guest.domid, online=online)

    def carefully(self, guest: Guest, work: Any) -> None:
        try:
            work(guest)
        except (OSError, wire.WireError):  # it died under our hands, or its store did
            guest.close()
            if self.guests.get(guest.domid) is guest:
                self.forget(guest.domid)

    # ---- time ----

    def pause(self) -> float | None:
        """How long to wait for an event, None for ever."""
        now = time.monotonic()
        waits = [max(0.0, guest.off_at - now) for guest in self.guests.values() if guest.off_at is not None]
        known = len(self.guests) == len(self.hypervisor.domains()) - 1
        if not known or any(guest.missed or not guest.booted for guest in self.guests.values()):
            waits.append(POLL)
        return min(waits, default=None)

    def end_due(self) -> None:
        for guest in [*self.guests.values()]:
            if guest.off_at is None or guest.off_at > time.monotonic():
                continue
            guest.off_at = None
            if guest.off_how == "vanish":
                self.hypervisor.destroy(guest.domid)
            else:
                self.hypervisor.shut_down(guest.domid, guest.off_how)

    def run(self, store: wire.Client) -> None:
        for name in ("@introduceDomain", "@releaseDomain"):
            store.watch(name, name)
        self.refresh()
        os.write(int(os.environ["LAB_READY"]), b"!")
        while True:
            sockets: dict[Any, Guest | None] = {store.stream: None}
            sockets |= {guest.stream: guest for guest in self.guests.values() if guest.stream is not None}
            pending = [guest for guest in self.guests.values() if guest.booted and guest.client.told]
            ready, _unused, _unused = select.select([*sockets], [], [], 0 if pending else self.pause())
            for one in {guest.domid: guest for guest in pending}.values():
                self.events(one)
            for key in ready:
                guest = sockets[key]
                if guest is not None:
                    self.events(guest)
            if store.stream in ready:
                while store.event(0.0):
                    pass
            self.refresh()
            for guest in [*self.guests.values()]:  # a request that came while it was paused
                if guest.booted and guest.off_at is None:
                    self.late(guest)
            self.end_due()

    def late(self, guest: Guest) -> None:
        domain = self.hypervisor.get(guest.domid)
        if guest.missed and domain is not None and runs(domain):
            guest.missed = False
            self.carefully(guest, self.look)

    def events(self, guest: Guest) -> None:
        def take(one: Guest) -> None:
            told = False
            while one.client.event(0.0):
                told = True
            domain = self.hypervisor.get(one.domid)
            if told and domain is not None and runs(domain):
                self.look(one)
            elif told:
                one.missed = True

        self.carefully(guest, take)


def runs(domain: Domain) -> bool:
    return not domain.paused and domain.shutdown is None and not domain.dying


def up_mark(views: Path, domid: int) -> Path:
    """A file that is there while the stand-in has written what a guest's kernel writes when it comes up."""
    return views / f"{domid}.up"


def served(path: Path) -> bool:
    """Whether somebody serves this view already."""
    here = os.getcwd()
    try:
        os.chdir(path.parent)
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(path.name)
    except OSError:
        return False
    finally:
        os.chdir(here)
    return True


def main() -> None:
    folder, store = Path(sys.argv[1]), sys.argv[2]
    views = folder / "views"
    views.mkdir(exist_ok=True)
    os.chdir(views)
    guests = Guests(folder)
    guests.views.start()
    with wire.Client(store) as client, contextlib.suppress(OSError):  # xenstored ended: so do we
        guests.run(client)
