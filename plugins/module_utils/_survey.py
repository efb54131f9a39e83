# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read a host into a `Snapshot`: a handful of bulk calls, however many disks there are."""

from __future__ import annotations

import json
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property, lru_cache
from itertools import chain, zip_longest
from typing import Union

from ._diskstatus import (
    DISKS_NODE,
    LAUNCHER_NODE,
    REASON_NODE,
    STATUS_NODE,
    VIEW_NODE,
    DiskStatus,
    node_name,
    parse,
    plain,
)
from ._layout import DEVICE_KIND, Branch, backend_domid, number
from ._protocol import OPS
from ._snapshot import (
    DEFAULT_NODES,
    DEFAULT_WATCHES_C,
    DEFAULT_WATCHES_OCAML,
    DOMID_LIMIT,
    MADE_BY_XL,
    MADE_ELSEWHERE,
    MAKER_UNKNOWN,
    Domain,
    LiveDisk,
    Quota,
    Snapshot,
    XenDisk,
)
from ._store import Answer, Request, Store, StoreError, directory, get_perms, read, read_children

#: Where libxl keeps a domain's record (``libxl__userdata_path``, tools/libs/light/libxl_dom.c).
USERDATA_DIR = "/var/lib/xen"
_USERDATA = re.compile(r"userdata-d\.(\d{1,5})\.([0-9a-f-]{36})\.libxl-json\Z")

_CONTROL, _IS_DOMAIN_INTRODUCED = OPS["CONTROL"], OPS["IS_DOMAIN_INTRODUCED"]

Wanted = Callable[[dict[int, Domain]], "Scope"]


class Scope:
    """What of a host to read: all disks of `guests` (None: of every guest), and what touches `backends`."""

    def __init__(self, guests: Iterable[int] | None, backends: Iterable[int] = ()) -> None:
        self.guests = None if guests is None else frozenset(guests)
        self.backends = frozenset(backends)

    def covers(self, domid: int) -> bool:
        """Whether every node of this guest's disks is wanted."""
        return self.guests is None or domid in self.guests


class EmptyStoreError(RuntimeError):
    """The store does not hold dom0 itself: freshly started, or not this host's."""


def survey(
    store: Store,
    wanted: Wanted,
    *,
    userdata: str = USERDATA_DIR,
    quotas: bool = False,
    permissions: bool = True,
) -> Snapshot:
    """Read domains first, ask `wanted` what else matters, read that.

    Args:
        store: a session as dom0.
        wanted: from the domains to the scope; may raise what it likes (an unknown name).
        userdata: libxl's folder of domain records.
        quotas: also ask the daemon for the limits of the scope's backends and guests.
        permissions: also read those of all disks in scope, which takes about as long as all the rest.

    Raises:
        EmptyStoreError: dom0's own tree is missing: what is not there says nothing about guests.
        StoreError: the store refused, was lost or did not answer in time.
    """
    domids, recorded = _domids(store)
    domains, served = _domains(store, domids, Makers(userdata))
    scope = wanted(domains)
    domains = _with_leftovers(domains, recorded, served)
    bulk = _Bulk(store)
    backends_then = _backend_directories(bulk, served)
    devices_then = _devices(bulk, domains, scope, served)
    daemons = scope.backends | set(served)
    launchers_then = _said(bulk, daemons, LAUNCHER_NODE)
    statuses_then = _said(bulk, daemons, STATUS_NODE)
    reasons_then = _said(bulk, daemons, REASON_NODE)
    views_then = _said(bulk, daemons, VIEW_NODE)
    asked = (scope.backends | (scope.guests or frozenset(domains))) - {0} if quotas else frozenset()
    quotas_then = _quotas(bulk, asked)
    bulk.send()
    devices = devices_then()
    disks = _disks(store, scope, backends_then(), devices, permissions=permissions)
    launchers = launchers_then()
    return Snapshot(
        domains=domains,
        disks=disks,
        generic=_generic(store, devices),
        xen_disks=_xen_disks(store, devices),
        launchers=launchers,
        statuses=statuses_then(),
        reasons={domid: plain(reason) for domid, reason in reasons_then().items()},
        viewless=frozenset(views_then()),
        told=_told(store, disks, launchers),
        quotas=quotas_then(),
    )


# --- values --------------------------------------------------------------------------------------------


def _text(reply: bytes | StoreError) -> str | None:
    """A READ's answer as text (any byte survives), None where the node is not there."""
    if isinstance(reply, bytes):
        return reply.decode("utf-8", "surrogateescape")
    if reply.code == "ENOENT":
        return None
    raise reply


def _names(reply: bytes | StoreError) -> list[str]:
    """A DIRECTORY's answer, empty where the node is not there."""
    text = _text(reply)
    return [name for name in text.split("\0") if name] if text else []


def _perms(reply: bytes | StoreError) -> tuple[str, ...] | None:
    """A GET_PERMS' answer."""
    if isinstance(reply, bytes):
        return _entries(reply)
    _text(reply)  # raises where it is not just missing
    return None


@lru_cache(maxsize=256)
def _entries(payload: bytes) -> tuple[str, ...]:
    """The entries of a permission list; a disk's nodes have two or three different ones."""
    return tuple(entry for entry in payload.decode("latin-1").split("\0") if entry)


def _numbered(names: Iterable[str]) -> list[int]:
    """Names that are plain decimal numbers without leading zeros, as libxl writes domids and devids."""
    return [int(name) for name in names if name.isascii() and name.isdigit() and str(int(name)) == name]


class _Bulk:
    """Questions of several askers that travel together; each gets a function that has its answers later."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._requests: list[Request] = []
        self._replies: list[Answer] = []

    def ask(self, requests: Iterable[Request]) -> Callable[[], list[Answer]]:
        """Any requests."""
        start = len(self._requests)
        self._requests += requests
        stop = len(self._requests)
        return lambda: self._replies[start:stop]

    def list(self, paths: list[str]) -> Callable[[], list[list[str]]]:
        """The children of many nodes, of any number, empty where there is no node.

        What it returns raises StoreError.
        """
        replies_then = self.ask([directory(path) for path in paths])

        def listed() -> list[list[str]]:
            return [
                (self._store.list(path) or [])  # more than one packet of names
                if isinstance(reply, StoreError) and reply.code == "E2BIG"
                else _names(reply)
                for path, reply in zip(paths, replies_then())
            ]

        return listed

    def send(self, meanwhile: Iterator[object] | None = None) -> None:
        """Ask, and do something else until the answers come."""
        self._replies = self._store.call(self._requests, meanwhile=meanwhile)


# --- domains -------------------------------------------------------------------------------------------


def _domids(store: Store) -> tuple[list[int], list[int]]:
    """The domains that xenstore has, and those that libxl has a record of."""
    bulk = _Bulk(store)
    listed_then = bulk.list(["/local/domain", "/libxl"])
    bulk.send()
    listed, recorded = (_numbered(names) for names in listed_then())
    domids = [domid for domid in listed if domid < DOMID_LIMIT]
    if 0 not in domids:
        raise EmptyStoreError(
            "xenstore has no /local/domain/0: the store is empty (restarted, or not set up by xen-init-dom0), "
            "so it says nothing about guests; nothing was changed"
        )
    return domids, recorded


def _domains(
    store: Store, domids: list[int], makers: Makers
) -> tuple[dict[int, Domain], dict[int, list[int]]]:
    """The domains, and the guests that each of them has disks of."""
    bulk = _Bulk(store)
    described_then = _describe(bulk, domids, makers)
    guests_then = bulk.list([f"/local/domain/{domid}/backend/{DEVICE_KIND}" for domid in domids])
    bulk.send(makers.look())
    served = {backend: _numbered(names) for backend, names in zip(domids, guests_then()) if names}
    return {domain.domid: domain for domain in described_then()}, served


def _describe(bulk: _Bulk, domids: list[int], makers: Makers) -> Callable[[], list[Domain]]:
    requests: list[Request] = []
    for domid in domids:
        top = f"/local/domain/{domid}"
        requests += [
            read(f"{top}/name"),
            get_perms(f"{top}/name"),
            read(f"{top}/vm"),
            get_perms(f"{top}/vm"),
            get_perms(top),
            Request(_IS_DOMAIN_INTRODUCED, b"%d\0" % domid, top),
        ]
    replies_then = bulk.ask(requests)
    return lambda: _described(domids, replies_then(), makers)


def _described(domids: list[int], replies: list[Answer], makers: Makers) -> list[Domain]:
    found = []
    for index, domid in enumerate(domids):
        name, name_perms, vm, vm_perms, top_perms, introduced = replies[index * 6 : index * 6 + 6]
        vm_text = _text(vm)
        uuid = vm_text.rsplit("/", 1)[-1].lower() if vm_text else None
        own = _perms(top_perms) or ()
        found.append(
            Domain(
                domid=domid,
                name=_text(name),
                name_trusted=(_perms(name_perms) or ("",))[0] == "n0",
                uuid=uuid,
                uuid_trusted=(_perms(vm_perms) or ("",))[0] == "n0" or makers.confirms(domid, uuid),
                maker=makers.of(domid, uuid),
                alive=domid == 0 or _text(introduced) in ("T", "T\0"),
                vm=vm_text,
                vm_owner=(_perms(vm_perms) or (None,))[0],
                reads_itself=domid == 0
                or own[:1] == (f"n{domid}",)
                or bool({f"r{domid}", f"b{domid}"} & set(own)),
            )
        )
    return found


class Makers:
    """Who made a domain: libxl's own record of it holds a name only if xl (or libxl) created it.

    init-dom0less writes a stub with type and UUID; other toolstacks write nothing. A record that cannot
    be read counts as xl's: leaving a guest alone is the safe mistake.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._read: dict[tuple[int, str], str] = {}

    @cached_property
    def _files(self) -> dict[int, list[str]] | None:
        """domid → UUIDs that there are records of, None where the folder cannot be read."""
        try:
            entries = os.listdir(self.folder)
        except FileNotFoundError:
            return {}  # no libxl has ever run here
        except OSError:
            return None
        found: dict[int, list[str]] = {}
        for entry in entries:
            match = _USERDATA.match(entry)
            if match:
                found.setdefault(int(match[1]), []).append(match[2])
        return found

    def look(self) -> Iterator[None]:
        """Read the records ahead, a few a step."""
        for index, (domid, uuids) in enumerate((self._files or {}).items()):
            for uuid in uuids:
                self._maker(domid, uuid)
            if index % 3 == 2:
                yield

    def confirms(self, domid: int, uuid: str | None) -> bool:
        """Whether a file of libxl's pairs this domid with this UUID."""
        return uuid is not None and uuid in (self._files or {}).get(domid, ())

    def of(self, domid: int, uuid: str | None) -> str:
        """``xl``, ``other`` or ``unknown``."""
        if self._files is None:
            return MAKER_UNKNOWN
        records = self._files.get(domid, [])
        # a file of an earlier domain with this id is not about this one
        mine = [known for known in records if uuid is None or known == uuid]
        makers = {self._maker(domid, known) for known in mine}
        for maker in (MADE_BY_XL, MAKER_UNKNOWN):
            if maker in makers:
                return maker
        return MADE_ELSEWHERE

    def _maker(self, domid: int, uuid: str) -> str:
        known = self._read.get((domid, uuid))
        if known is None:
            known = self._read[domid, uuid] = self._record(domid, uuid)
        return known

    def _record(self, domid: int, uuid: str) -> str:
        try:
            path = os.path.join(self.folder, f"userdata-d.{domid}.{uuid}.libxl-json")
            with open(path, "rb", buffering=0) as file:
                text = file.readall().decode().rstrip("\0")  # libxl counts the end of the string
            record = json.loads(text)
            named = bool(record["c_info"].get("name")) if isinstance(record.get("c_info"), dict) else False
        except (OSError, ValueError, AttributeError, TypeError):
            return MAKER_UNKNOWN
        return MADE_BY_XL if named else MADE_ELSEWHERE


# --- disks ---------------------------------------------------------------------------------------------


def _backend_directories(
    bulk: _Bulk, served: dict[int, list[int]]
) -> Callable[[], dict[int, dict[int, list[int]]]]:
    """Backend domain → guest → device numbers with a directory there."""
    pairs = [(backend, guest) for backend, guests in served.items() for guest in guests]
    devids_then = bulk.list(
        [f"/local/domain/{backend}/backend/{DEVICE_KIND}/{guest}" for backend, guest in pairs]
    )

    def found() -> dict[int, dict[int, list[int]]]:
        directories: dict[int, dict[int, list[int]]] = {}
        for (backend, guest), names in zip(pairs, devids_then()):
            directories.setdefault(backend, {})[guest] = _numbered(names)
        return directories

    return found


def _with_leftovers(
    domains: dict[int, Domain], recorded: list[int], served: dict[int, list[int]]
) -> dict[int, Domain]:
    """Add domains that are gone but left something in a backend's tree or in ``/libxl``."""
    left = set(recorded).union(*served.values())
    return {**domains, **{domid: Domain(domid, alive=False) for domid in sorted(left - set(domains))}}


class _Devices:
    """The device directories of the guests in scope: listing by kind of tree."""

    def __init__(self) -> None:
        self.records: dict[int, list[int]] = {}
        self.frontends: dict[int, list[int]] = {}
        self.generic: dict[int, list[int]] = {}
        self.xen: dict[int, list[int]] = {}


def _devices(
    bulk: _Bulk, domains: dict[int, Domain], scope: Scope, served: dict[int, list[int]]
) -> Callable[[], _Devices]:
    neighbours = {guest for backend in scope.backends for guest in served.get(backend, ())}
    guests = [domid for domid in domains if scope.covers(domid) or domid in neighbours]
    paths = []
    for domid in guests:
        record = f"/libxl/{domid}/device"
        paths += [
            f"{record}/{DEVICE_KIND}",
            f"/local/domain/{domid}/device/{DEVICE_KIND}",
            f"{record}/virtio",
            f"{record}/vbd",
        ]
    names_then = bulk.list(paths)

    def found() -> _Devices:
        devices = _Devices()
        kinds = (devices.records, devices.frontends, devices.generic, devices.xen)
        names = names_then()
        for index, domid in enumerate(guests):
            for kind, listed in zip(kinds, names[index * 4 : index * 4 + 4]):
                kind[domid] = _numbered(listed)
        return devices

    return found


def _disks(
    store: Store,
    scope: Scope,
    backends: dict[int, dict[int, list[int]]],
    devices: _Devices,
    *,
    permissions: bool,
) -> dict[tuple[int, int], LiveDisk]:
    served: dict[tuple[int, int], list[int]] = {}
    for backend, guests in backends.items():
        for guest, devids in guests.items():
            if guest in devices.records:
                for devid in devids:
                    served.setdefault((guest, devid), []).append(backend)
    keys = {(domid, devid) for domid, devids in devices.records.items() for devid in devids}
    keys |= {(domid, devid) for domid, devids in devices.frontends.items() for devid in devids}
    keys |= set(served)
    ordered = sorted(keys)

    wanted: list[tuple[str, bool]] = []  # directory, whether permissions matter
    for domid, devid in ordered:
        whole = permissions and scope.covers(domid)
        if devid in devices.records[domid]:
            wanted.append((f"/libxl/{domid}/device/{DEVICE_KIND}/{devid}", whole))
        if devid in devices.frontends[domid]:
            wanted.append((f"/local/domain/{domid}/device/{DEVICE_KIND}/{devid}", whole))
        for backend in served.get((domid, devid), ()):
            wanted.append((f"/local/domain/{backend}/backend/{DEVICE_KIND}/{domid}/{devid}", whole))
    read_branches = iter(branches(store, wanted))

    disks = {}
    for domid, devid in ordered:
        record = next(read_branches) if devid in devices.records[domid] else None
        frontend = next(read_branches) if devid in devices.frontends[domid] else None
        sides = {}
        for backend in served.get((domid, devid), ()):
            branch = next(read_branches)
            if branch is not None:
                sides[backend] = branch
        if record is None and frontend is None and not sides:
            continue  # went away between the listing and the reading
        named = backend_domid(record.nodes.get("backend", ""), domid, devid) if record else None
        if named is None and len(sides) == 1:
            named = next(iter(sides))
        disks[domid, devid] = LiveDisk(domid, devid, named, record, frontend, sides)
    return disks


def branches(store: Store, wanted: list[tuple[str, bool]]) -> list[Branch | None]:
    """Read directories one level deep, many at once; with permissions where asked for.

    None stands for a directory that is not there (any more). While xenstored answers for some, what it
    answered for those before is put in order and the next questions are made.
    """
    listed = store.call([directory(path) for path, _perms_too in wanted])
    shapes = [
        (path, perms_too, _children(store, path, reply)) for (path, perms_too), reply in zip(wanted, listed)
    ]
    parts = [shapes[start : start + _PART] for start in range(0, len(shapes), _PART)]
    found: list[Branch | None] = []
    behind: Iterator[None] = iter(())
    requests: list[Request] = []
    nothing: list[_Shape] = []
    for part, following in zip_longest([nothing, *parts], parts, fillvalue=nothing):
        ahead: list[Request] = []
        work = chain(behind, _questions(following, ahead))
        replies = store.call(requests, meanwhile=work)
        deque(work, maxlen=0)  # what there was no time for
        behind = _branches(part, replies, found)
        requests = ahead
    deque(behind, maxlen=0)
    return found


#: Directories to read in one call.
_PART = 90

_Shape = tuple[str, bool, Union[list[str], None]]  # path, permissions too, children


def _children(store: Store, path: str, reply: bytes | StoreError) -> list[str] | None:
    """The children of a directory, None where it is not there."""
    if not isinstance(reply, StoreError):
        return _names(reply)
    return None if reply.code == "ENOENT" else store.list(path) or []


def _questions(shapes: Iterable[_Shape], requests: list[Request]) -> Iterator[None]:
    """Add what is to be asked about directories; one a step."""
    for path, perms_too, children in shapes:
        if children is not None:
            if perms_too:
                requests.append(get_perms(path))
            requests += read_children(path, children, perms=perms_too)
        yield


def _branches(shapes: Iterable[_Shape], replies: list[Answer], found: list[Branch | None]) -> Iterator[None]:
    """Add the directories that the answers are about; one a step."""
    at = 0
    for _path, perms_too, children in shapes:
        if children is None:
            found.append(None)
            continue
        own = _perms(replies[at]) if perms_too else None
        step = 2 if perms_too else 1
        at += step - 1
        end = at + step * len(children)
        values = [_text(reply) for reply in replies[at:end:step]]
        nodes = {name: value for name, value in zip(children, values) if value is not None}
        node_perms: dict[str, tuple[str, ...]] = {}
        if perms_too:
            owners = zip(children, values, map(_perms, replies[at + 1 : end : step]))
            node_perms = {
                name: perms for name, value, perms in owners if value is not None and perms is not None
            }
        at = end
        found.append(Branch(own, nodes, node_perms))
        yield


def _generic(store: Store, devices: _Devices) -> dict[int, dict[int, tuple[int, int]]]:
    """The places of the guests' other virtio-mmio devices (kind ``virtio``)."""
    keys = [(domid, index) for domid, indexes in devices.generic.items() for index in indexes]
    requests: list[Request] = []
    for domid, index in keys:
        path = f"/libxl/{domid}/device/virtio/{index}"
        requests += [read(f"{path}/base"), read(f"{path}/irq")]
    replies = store.call(requests)
    found: dict[int, dict[int, tuple[int, int]]] = {}
    for position, (domid, index) in enumerate(keys):
        base, irq = replies[position * 2 : position * 2 + 2]
        found.setdefault(domid, {})[index] = (number(_text(base)), number(_text(irq)))
    return found


def _xen_disks(store: Store, devices: _Devices) -> dict[int, dict[int, XenDisk]]:
    keys = [(domid, devid) for domid, devids in devices.xen.items() for devid in devids]
    records = branches(store, [(f"/libxl/{domid}/device/vbd/{devid}", False) for domid, devid in keys])
    found: dict[int, dict[int, XenDisk]] = {}
    for (domid, devid), record in zip(keys, records):
        if record is None:
            continue
        match = re.match(r"/local/domain/(\d{1,5})/backend/", record.nodes.get("backend", ""))
        disk = XenDisk(domid, devid, int(match[1]) if match else None, record.nodes)
        found.setdefault(domid, {})[devid] = disk
    return found


def _said(bulk: _Bulk, backends: Iterable[int], node: str) -> Callable[[], dict[int, str]]:
    """What backend domains say in a node of theirs; of those that say nothing, nothing."""
    domids = sorted(backends)
    replies_then = bulk.ask([read(f"/local/domain/{domid}/{node}") for domid in domids])

    def found() -> dict[int, str]:
        values = ((domid, _text(reply)) for domid, reply in zip(domids, replies_then()))
        return {domid: value for domid, value in values if value}

    return found


def _told(
    store: Store, disks: Mapping[tuple[int, int], LiveDisk], launchers: Mapping[int, str]
) -> dict[tuple[int, int, int], DiskStatus]:
    """What launchers say of their disks."""
    keys = [
        (disk.backend_domid, *key)
        for key, disk in disks.items()
        if disk.backend_domid is not None and disk.backend_domid in launchers
    ]
    paths = [f"/local/domain/{backend}/{DISKS_NODE}/{node_name(*key)}" for backend, *key in keys]
    replies = store.call([read(path) for path in paths])
    lines = ((key, parse(_text(reply) or "")) for key, reply in zip(keys, replies))
    return {key: line for key, line in lines if line is not None}


# --- quotas --------------------------------------------------------------------------------------------


def _quotas(bulk: _Bulk, domids: Iterable[int]) -> Callable[[], dict[int, Quota]]:
    """Ask the daemon; where it does not say, its shipped defaults stand in, named as such.

    C xenstored answers ``quota`` and ``quota DOMID`` to a control message (tools/xenstored/control.c);
    oxenstored the latter alone, with ``domN quota: USED/LIMIT`` of nodes (tools/ocaml/xenstored/quota.ml).
    """
    ordered = sorted(domids)
    requests = [Request(_CONTROL, b"quota\0", "quota")] if ordered else []
    requests += [Request(_CONTROL, b"quota\0%d\0" % domid, f"quota {domid}") for domid in ordered]
    replies_then = bulk.ask(requests)

    def found() -> dict[int, Quota]:
        answers = [_text(reply) or "" if isinstance(reply, bytes) else "" for reply in replies_then()]
        return _limits(ordered, answers) if ordered else {}

    return found


def _limits(domids: list[int], answers: list[str]) -> dict[int, Quota]:
    """The daemon's own limits come first, then what each domain uses."""
    limits = _figures(answers[0])
    if "nodes" not in limits:
        return {domid: _limits_of_oxenstored(answer) for domid, answer in zip(domids, answers[1:])}
    found = {}
    for domid, answer in zip(domids, answers[1:]):
        used = _figures(answer)
        found[domid] = Quota(
            nodes=limits["nodes"],
            watches=limits.get("watches", DEFAULT_WATCHES_C),
            used_nodes=used.get("nodes"),
            used_watches=used.get("watches"),
        )
    return found


_NODES = re.compile(r"dom\d+ quota: (\d+)/(\d+)")


def _limits_of_oxenstored(answer: str) -> Quota:
    """It tells of nodes, never of watches."""
    told = _NODES.match(answer)
    if told is None:
        return Quota(DEFAULT_NODES, DEFAULT_WATCHES_OCAML, assumed="oxenstored's defaults")
    return Quota(
        nodes=int(told[2]),
        watches=DEFAULT_WATCHES_OCAML,
        used_nodes=int(told[1]),
        assumed="oxenstored's default of watches",
    )


_FIGURE = re.compile(r"^ *([a-z-]+) *: *(-?\d+)", re.MULTILINE)


def _figures(table: str) -> dict[str, int]:
    """``name: figure …`` lines of the daemon's answer."""
    return {name: int(figure) for name, figure in _FIGURE.findall(table)}
