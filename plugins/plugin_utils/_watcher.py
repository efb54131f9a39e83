# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watches a host's xenstore and tells what happens there; what the event source runs."""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from ..module_utils._disk_info import disks_of, settled
from ..module_utils._snapshot import Domain, Snapshot
from ..module_utils._store import Store, StoreError, check_path
from ..module_utils._survey import USERDATA_DIR, EmptyStoreError, Scope, survey
from ._events import BACK, LOST, Look, Thing, connection, happened

#: Special watches of xenstored (docs/misc/xenstore.txt of Xen).
_INTRODUCED, _RELEASED = "@introduceDomain", "@releaseDomain"
_RECORDS = "/libxl"
_TOKEN = "xen.virtio"
#: Seconds: how long one step waits for news, so that whoever wants it to end is heard.
_BREATH = 0.5
#: Of the subtrees in `paths`, together: a source that keeps more than that is not one that anybody reads.
_MAX_NODES = 10_000


class OptionError(ValueError):
    """An option of the event source that cannot be used; the text names it and what it may be."""


@dataclass(frozen=True)
class Options:
    """What a rulebook says of the source.

    Attributes:
        disks: tell of virtio and xen disks, with their health.
        domains: tell of domains.
        paths: subtrees whose nodes to tell of.
        socket: xenstored's socket, or one that leads there; found by itself where neither is said.
        xenbus: the device in its place.
        timeout: seconds to wait for an answer; more than 0, at most 3600.
        delay: seconds from the first news to the look, which tells of all that happened meanwhile; 0 to 60.
        settle: seconds after which a disk in state 2 must still be, to be attached; 0 to 60.
        retry: seconds between attempts to reach a store that is lost; 0.1 to 3600.
        host: the name of the host in the inventory, which then is the event's (``meta.hosts``).
        userdata_dir: libxl's folder of domain records, where this runs on the host itself.
    """

    disks: bool = True
    domains: bool = True
    paths: tuple[str, ...] = ()
    socket: str | None = None
    xenbus: str | None = None
    timeout: float = 10.0
    delay: float = 0.5
    settle: float = 0.5
    retry: float = 5.0
    host: str | None = None
    userdata_dir: str = USERDATA_DIR

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Options:
        """Out of what a rulebook says. Raises OptionError."""
        known = [one.name for one in fields(cls)]
        for name in given:
            if name not in known:
                near = difflib.get_close_matches(str(name), known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
                raise OptionError(f"xen.virtio.xenstore: unknown option {name}; {hint}")
        options = cls(
            **{name: _READ[name](name, value) for name, value in given.items() if value is not None}
        )
        if options.socket and options.xenbus:
            raise OptionError("xen.virtio.xenstore: socket and xenbus exclude each other; leave one out")
        if not (options.disks or options.domains or options.paths):
            raise OptionError("xen.virtio.xenstore: nothing to watch: set disks, domains or paths")
        return options


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise OptionError(f"xen.virtio.xenstore: {name} is true or false, not {value!r}")
    return value


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise OptionError(f"xen.virtio.xenstore: {name} is a text, not {value!r}")
    return value


def _seconds(least: float, most: float) -> Callable[[str, Any], float]:
    def read(name: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
            raise OptionError(
                f"xen.virtio.xenstore: {name} is a number of seconds from {least:g} to {most:g}, not {value!r}"
            )
        return float(value)

    return read


def _paths(name: str, value: Any) -> tuple[str, ...]:
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, (list, tuple)):
        raise OptionError(f"xen.virtio.xenstore: {name} is a list of paths, not {value!r}")
    for path in listed:
        try:
            check_path(path, "WATCH", absolute=True)
        except (StoreError, TypeError, AttributeError) as error:
            raise OptionError(
                f"xen.virtio.xenstore: {name}: {path!r} is no path of xenstore: {error}"
            ) from None
    return tuple(listed)


_READ: dict[str, Callable[[str, Any], Any]] = {
    "disks": _flag,
    "domains": _flag,
    "paths": _paths,
    "socket": _text,
    "xenbus": _text,
    "timeout": _seconds(0.001, 3600),
    "delay": _seconds(0, 60),
    "settle": _seconds(0, 60),
    "retry": _seconds(0.1, 3600),
    "host": _text,
    "userdata_dir": _text,
}


class _Sessions(NamedTuple):
    """With one store: one that has the watches, which a guest may fill with news, and one that looks."""

    bell: Store
    eye: Store


class Watcher:
    """Looks, sleeps until the store tells of news, and looks again; for one thread.

    A store that is lost, or came back without dom0's own tree, says nothing about domains and disks: what was known
    of them is kept, and compared with what is there once the store is back.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._sessions: _Sessions | None = None
        self._watched: set[str] = set()
        self._known: Look | None = None
        self._lost = False
        self._again = 0.0  # when to try to connect
        self._stopped = False

    def stop(self) -> None:
        """From another thread: the step that runs need not wait for more news."""
        self._stopped = True

    def close(self) -> None:
        """End both sessions; the store forgets the watches."""
        for session in self._sessions or ():
            session.close()
        self._sessions = None

    def step(self) -> list[dict[str, Any]]:
        """Wait a moment for news; what happened, which is mostly nothing."""
        try:
            return [self._addressed(one) for one in self._step()]
        except (StoreError, EmptyStoreError) as error:
            self.close()
            self._again = time.monotonic() + self._options.retry
            if self._lost:
                return []
            self._lost = True
            return [self._addressed(connection(LOST, str(error)))]

    def _step(self) -> list[dict[str, Any]]:
        sessions = self._sessions
        if sessions is None:
            wait = self._again - time.monotonic()
            if wait > 0:
                time.sleep(min(wait, _BREATH))
                return []
            sessions = self._connect()
        elif not self._news(sessions.bell):
            return []
        look = self._look(sessions)
        events = happened(self._known, look)
        self._known = look
        if self._lost:
            self._lost = False
            events.insert(0, connection(BACK))
        return events

    def _connect(self) -> _Sessions:
        path = self._options.socket or self._options.xenbus
        bell = Store(path, timeout=self._options.timeout)
        try:
            sessions = _Sessions(bell, Store(path, timeout=self._options.timeout))
        except BaseException:
            bell.close()
            raise
        self._sessions = sessions
        self._watched = set()
        self._watch(bell, {_INTRODUCED, _RELEASED, *self._options.paths})
        return sessions

    def _news(self, bell: Store) -> bool:
        """Whether anything was told within a moment; waits for more of it, for `delay` seconds in all."""
        if bell.wait_event(_BREATH) is None:
            return False
        until = time.monotonic() + self._options.delay
        while (left := until - time.monotonic()) > 0 and not self._stopped:
            bell.wait_event(left)
        while bell.has_events:
            bell.wait_event(0)
        return True

    def _watch(self, bell: Store, wanted: set[str]) -> None:
        """Exactly these paths from now on."""
        for path in wanted - self._watched:
            bell.watch(path, _TOKEN)
        for path in self._watched - wanted:
            with suppress(StoreError):  # the domain is gone, and with it what C xenstored kept of the watch
                bell.unwatch(path, _TOKEN)
        self._watched = wanted

    def _look(self, sessions: _Sessions) -> Look:
        """Domains first: watches stand before what they are for is read, so nothing can happen in between."""
        options = self._options
        wanted = {_INTRODUCED, _RELEASED, *options.paths}
        domains: dict[Hashable, Thing] = {}
        disks: dict[Hashable, Thing] = {}
        if options.disks or options.domains:

            def scope(found: dict[int, Domain]) -> Scope:
                if options.disks:
                    wanted.add(_RECORDS)
                    for domid in found:
                        wanted.update(_device_paths(domid))
                self._watch(sessions.bell, wanted)
                return Scope(None if options.disks else ())

            snapshot = survey(sessions.eye, scope, userdata=options.userdata_dir)
            if options.domains:
                domains = {
                    (one.domid, one.uuid): _domain(one) for one in snapshot.domains.values() if one.alive
                }
            if options.disks:
                disks = _disks(
                    settled(sessions.eye, snapshot, options.settle) if options.settle else snapshot
                )
        return Look(domains, disks, self._nodes(sessions.eye))

    def _nodes(self, eye: Store) -> dict[Hashable, Thing]:
        if not self._options.paths:
            return {}
        found = eye.read_trees(self._options.paths)
        if len(found) > _MAX_NODES:
            raise OptionError(
                f"xen.virtio.xenstore: paths: {len(found)} nodes, which is more than {_MAX_NODES}; name subtrees"
            )
        return {
            path: {"path": path, "value": node.value.decode("utf-8", "backslashreplace")}
            for path, node in found.items()
        }

    def _addressed(self, told: dict[str, Any]) -> dict[str, Any]:
        if self._options.host is not None:
            told["meta"] = {"hosts": self._options.host}
        return told


def _device_paths(domid: int) -> tuple[str, ...]:
    home = f"/local/domain/{domid}"
    return (f"{home}/device/virtio_disk", f"{home}/backend/virtio_disk")


def _domain(domain: Domain) -> dict[str, Any]:
    return {"domain": domain.label, "domid": domain.domid, "uuid": domain.uuid, "made_by": domain.maker}


def _disks(snapshot: Snapshot) -> dict[Hashable, Thing]:
    found: dict[Hashable, Thing] = {}
    for domid in sorted({domid for domid, _devid in snapshot.disks} | set(snapshot.xen_disks)):
        domain = snapshot.domain(domid)
        for disk in disks_of(domain, snapshot):
            key = (domid, disk["specification"], disk["devid"])
            found[key] = {"domain": domain.label, "domid": domid, "alive": domain.alive, **disk}
    return found
