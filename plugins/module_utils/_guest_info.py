# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What guests a host has: their run state, configuration, memory, vCPUs and disks. Never changes a thing.

One snapshot of the store, one ``xl list`` and one ``xl list -l`` a call, however many guests there are. Without xl, or
where it fails, what the store says is told, and the run state is unknown.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Optional

from ._configs import CONFIG_DIR, LONGEST, FoundConfig, best_of, find_configs
from ._dialect import Dialect, DialectError, parse_dialect
from ._disk_info import disks_of, settled
from ._guestconfig import GuestError, as_mapping, read_guest
from ._guestfiles import STATE_DIR, Records
from ._guestsecrets import NOTHING, Hidden
from ._snapshot import Domain, Snapshot, UnknownDomainError, is_domid, resolve
from ._store import Answer, Store, directory, read
from ._survey import USERDATA_DIR, Scope, survey
from ._xl import RunState, Xl, XlError, host_release
from ._xlcfg import ConfigError

#: Beside the words of `RunState.run_state`.
UNKNOWN, ABSENT = "unknown", "absent"

#: Run states of a domain that is not on its way out; where xl does not tell, a domain that the store knows is alive.
ALIVE = ("running", "paused", UNKNOWN)

#: Why a domain is no guest that anybody could use.
DYING, STALE, UNFINISHED = "dying", "stale", "unfinished"

KIB = 1024

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


class HostGuests(NamedTuple):
    """What a host has: the module's results."""

    guests: list[dict[str, Any]]
    configs: list[dict[str, Any]]
    unreadable: list[dict[str, Any]]
    warnings: list[str]


class Sizes(NamedTuple):
    """Memory in MiB and vCPUs: as they are now, and at most; None where unknown."""

    memory: int | None = None
    maxmem: int | None = None
    vcpus: int | None = None
    maxvcpus: int | None = None


@dataclass
class _Toolstack:
    """What xl says: of which domains Xen knows (None where xl does not tell), and libxl's records."""

    states: dict[int, RunState] | None = None
    records: dict[int, dict[str, Any]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


_Chosen = tuple[str, Optional[Domain]]


def gather(
    store: Store,
    xl: Xl,
    references: Iterable[str] | None = None,
    *,
    configs: bool = False,
    texts: bool = False,
    settle: float = 0.0,
    userdata: str = USERDATA_DIR,
    config_dir: str = CONFIG_DIR,
    state_dir: str = STATE_DIR,
    xen: object = None,
    hidden: Hidden = NOTHING,
) -> HostGuests:
    """Some or all guests of a host.

    Args:
        store: a session.
        xl: the host's toolstack, present or not.
        references: names, domids or UUIDs; None for all domains but dom0.
        configs: also give every configuration in the folder, those that no domain has among them.
        texts: also give configurations as they are written.
        settle: seconds after which a disk in state 2 must still be; 0 reads once.
        userdata: libxl's folder of domain records.
        config_dir: the folder of configurations.
        state_dir: the folder of what module guest keeps.
        xen: the host's release; None asks the host.
        hidden: options whose values are not told, unless `texts` are.

    Raises:
        ResolveError: a name that several domains have, or that is not believed.
        EmptyStoreError, StoreError: the store says nothing.
        DialectError: `xen` is no release.
        OSError: the folder of configurations cannot be read.
    """
    asked = None if references is None else [str(reference) for reference in references]
    snapshot = survey(store, lambda _domains: Scope(None), userdata=userdata)
    # after the store: what dies in between is then a domain that is gone, and not one that Xen never had
    toolstack = _ask(xl)
    chosen = _all(snapshot, toolstack) if asked is None else _named(asked, snapshot, toolstack)
    if settle > 0:
        snapshot = settled(store, snapshot, settle)
    reader = _Reader(
        dialect=_dialect(xen, xl),
        found=find_configs(config_dir),
        userdata=userdata,
        records=Records(state_dir),
        texts=texts,
        autostart=autostarted(state_dir),
        hidden=hidden,
    )
    sizes = _sizes(store, chosen, toolstack)
    guests = [_guest(one, snapshot, toolstack, sizes, reader) for one in chosen]
    listed = [reader.file(one, guests) for one in reader.found if configs and one.error is None]
    unreadable = [{"path": one.path, "error": one.error} for one in reader.found if configs and one.error]
    return HostGuests(guests, listed, unreadable, toolstack.warnings)


# --- which domains -------------------------------------------------------------------------------------


def _ask(xl: Xl) -> _Toolstack:
    if not xl.present:
        return _Toolstack()
    told = _Toolstack()
    try:
        told.states = {state.domid: state for state in xl.list()}
        told.records = xl.records()
    except XlError as error:
        told.warnings.append(f"what xl knows is missing: {error}")
    return told


def _all(snapshot: Snapshot, toolstack: _Toolstack) -> list[_Chosen]:
    """All domains but dom0, also what is left of dead ones, and what only xl knows (one that is just being made)."""
    domids = (set(snapshot.domains) | set(toolstack.states or ())) - {0}
    return [(_label(domid, snapshot, toolstack), snapshot.domain(domid)) for domid in sorted(domids)]


def _label(domid: int, snapshot: Snapshot, toolstack: _Toolstack) -> str:
    if domid not in snapshot.domains and toolstack.states and toolstack.states[domid].name:
        return toolstack.states[domid].name
    return snapshot.domain(domid).label


def _named(references: list[str], snapshot: Snapshot, toolstack: _Toolstack) -> list[_Chosen]:
    chosen: list[_Chosen] = []
    for reference in references:
        try:
            domain = resolve(snapshot.domains, reference)
        except UnknownDomainError:
            left = snapshot.domains.get(int(reference)) if is_domid(reference) else None
            chosen.append((reference, left))
        else:
            chosen.append((_label(domain.domid, snapshot, toolstack), domain))
    return chosen


# --- one guest -----------------------------------------------------------------------------------------


def _guest(
    chosen: _Chosen, snapshot: Snapshot, toolstack: _Toolstack, sizes: Mapping[int, Sizes], reader: _Reader
) -> dict[str, Any]:
    name, domain = chosen
    found = best_of(reader.found, name)
    result: dict[str, Any] = {
        "name": name,
        "domid": None,
        "uuid": None,
        "made_by": None,
        "run_state": run_state(domain, toolstack.states),
        "reason": None,
        "leftover": None,
        "type": None,
        **Sizes()._asdict(),
        "autostart": name in reader.autostart or (found is not None and found.auto),
        "config": None if found is None else reader.config(found),
        "created_from": None,
        "disks": [],
    }
    if domain is None:
        return result
    state = (toolstack.states or {}).get(domain.domid)
    record = toolstack.records.get(domain.domid)
    result.update(
        domid=domain.domid,
        uuid=domain.uuid,
        made_by=domain.maker,
        reason=None if state is None else state.reason,
        leftover=leftover(result["run_state"], recorded=reader.recorded(domain)),
        type=_section(record, "c_info").get("type"),
        **sizes.get(domain.domid, Sizes())._asdict(),
        created_from=reader.created_from(name, domain),
        disks=disks_of(domain, snapshot),
    )
    return result


def run_state(domain: Domain | None, states: Mapping[int, RunState] | None) -> str:
    """A guest's state in one word.

    Args:
        domain: None where the host has none.
        states: what ``xl list`` says, None where it says nothing.

    Returns:
        ``absent``, a word of `RunState.run_state`, ``stale`` (only the store still knows the domain) or ``unknown``.
    """
    if domain is None:
        return ABSENT
    if states is None:
        return UNKNOWN if domain.alive else STALE
    state = states.get(domain.domid)
    return STALE if state is None else state.run_state


def leftover(state: str, *, recorded: bool) -> str | None:
    """Why a domain is no guest that anybody could use.

    Args:
        state: of a domain that is in the store or known to xl, as `run_state` has it.
        recorded: libxl has a record of it.

    Returns:
        ``dying`` (Xen waits for somebody to give its memory back), ``stale`` (gone, but the store has not forgotten
        it), ``unfinished`` (paused, and libxl, which writes its record when a domain is complete, has none: a create
        that was ended half-way, or is not over yet), else None.
    """
    if state in (DYING, STALE):
        return state
    return UNFINISHED if state == "paused" and not recorded else None


def _section(record: Mapping[str, Any] | None, name: str) -> Mapping[str, Any]:
    found = (record or {}).get(name)
    return found if isinstance(found, dict) else {}


# --- configurations ------------------------------------------------------------------------------------


@dataclass
class _Reader:
    """Configurations and what a domain was made from, as declarations."""

    dialect: Dialect | None
    found: list[FoundConfig]
    userdata: str
    records: Records
    texts: bool
    autostart: frozenset[str] = frozenset()
    hidden: Hidden = NOTHING

    def config(self, found: FoundConfig) -> dict[str, Any]:
        """A configuration as results have it."""
        others = [one.path for one in self.found if one.name == found.name and one.path != found.path]
        return {"path": found.path, "others": others, **self._declared(found.text)}

    def file(self, found: FoundConfig, guests: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        """A configuration in a list of its own, with what is known of the domain of its name."""
        named = [one for one in guests if one["name"] == found.name and one["domid"] is not None]
        running = any(one["leftover"] is None and one["run_state"] in ALIVE for one in named)
        return {
            "name": found.name,
            "domid": named[0]["domid"] if named else None,
            "running": running,
            "autostart": found.auto or found.name in self.autostart,
            **self.config(found),
        }

    def created_from(self, name: str, domain: Domain) -> dict[str, Any] | None:
        """What a domain was made from: as module guest kept it, else as ``xl config-update`` did; None where unknown.

        libxl keeps its own record alone, which has its defaults filled in.
        """
        made = self.records.read(name)
        if made is not None and made.text and domain.uuid is not None and made.uuid == domain.uuid:
            return {"kept_in": self.records.path_of(name), **self._declared(made.text)}
        path = self._userdata(domain, "xl")
        if path is None:
            return None
        try:
            with open(path, "rb") as file:
                text = file.read(LONGEST).decode("utf-8", "surrogateescape").rstrip("\0")
        except OSError:
            return None
        return {"kept_in": path, **self._declared(text)}

    def recorded(self, domain: Domain) -> bool:
        """Whether libxl has a record of a domain; in doubt it has."""
        path = self._userdata(domain, "libxl-json")
        return path is None or os.path.exists(path) or not os.access(self.userdata, os.R_OK | os.X_OK)

    def _userdata(self, domain: Domain, kind: str) -> str | None:
        """The path of a file of libxl's about a domain (libxl__userdata_path, tools/libs/light/libxl_dom.c)."""
        if domain.uuid is None or not _UUID.match(domain.uuid):
            return None
        return os.path.join(self.userdata, f"userdata-d.{domain.domid}.{domain.uuid}.{kind}")

    def _declared(self, text: str) -> dict[str, Any]:
        shown = {"text": text} if self.texts else {}
        try:
            spec, notes = read_guest(text, self.dialect)
        except (ConfigError, GuestError) as error:
            return {"declaration": None, "notes": [], "error": str(error), **shown}
        meant = as_mapping(spec)
        declaration = meant if self.texts else self.hidden.values(meant)
        return {"declaration": declaration, "notes": notes, "error": None, **shown}


def autostarted(state_dir: str) -> frozenset[str]:
    """The guests that module guest has come up with the host: a file for each, with its name in it."""
    folder = os.path.join(state_dir, "autostart")
    names = set()
    try:
        kept = [entry for entry in os.listdir(folder) if entry.endswith(".json")]
    except OSError:
        return frozenset()
    for entry in kept:
        try:
            with open(os.path.join(folder, entry), "rb") as file:
                told = json.loads(file.read(LONGEST))
        except (OSError, ValueError):
            continue
        if isinstance(told, dict) and isinstance(told.get("name"), str):
            names.add(told["name"])
    return frozenset(names)


def _dialect(xen: object, xl: Xl) -> Dialect | None:
    """The release whose language configurations are in; None where nobody tells, and any is read.

    Raises:
        DialectError: a user named one that is none.
    """
    if xen is not None:
        return parse_dialect(xen)
    release = host_release(xl)
    try:
        return None if release is None else parse_dialect(release)
    except DialectError:
        return None  # a Xen without virtio disks has guests too


# --- memory and vCPUs ----------------------------------------------------------------------------------


def _sizes(store: Store, chosen: Iterable[_Chosen], toolstack: _Toolstack) -> dict[int, Sizes]:
    """What xl says counts, and libxl's record; the store fills in what they leave open."""
    domids = [domain.domid for _name, domain in chosen if domain is not None]
    stored = _stored_sizes(store, domids)
    sizes = {}
    for domid in domids:
        size = stored[domid]
        build = _section(toolstack.records.get(domid), "b_info")
        most, cpus = build.get("max_memkb"), build.get("max_vcpus", 1 if build else None)
        state = (toolstack.states or {}).get(domid)
        sizes[domid] = Sizes(
            size.memory if state is None else state.memory,
            most // KIB if isinstance(most, int) else size.maxmem,
            size.vcpus if state is None else state.vcpus,
            max(cpus, size.maxvcpus or 0) if isinstance(cpus, int) else size.maxvcpus,
        )
    return sizes


def _stored_sizes(store: Store, domids: list[int]) -> dict[int, Sizes]:
    """As libxl wrote them below ``/local/domain/D`` (libxl__build_post, tools/libs/light/libxl_dom.c)."""
    tops = [f"/local/domain/{domid}" for domid in domids]
    memory = store.call([read(f"{top}/memory/{node}") for top in tops for node in ("target", "static-max")])
    cpus = [_names(answer) for answer in store.call([directory(f"{top}/cpu") for top in tops])]
    paths = [f"{top}/cpu/{cpu}/availability" for top, listed in zip(tops, cpus) for cpu in listed]
    online = iter(store.call([read(path) for path in paths]))
    sizes = {}
    for index, domid in enumerate(domids):
        now, most = (_kib(answer) for answer in memory[2 * index : 2 * index + 2])
        up = [next(online) == b"online" for _cpu in cpus[index]]
        sizes[domid] = Sizes(now, most, sum(up) or None, len(up) or None)
    return sizes


def _names(answer: Answer) -> list[str]:
    text = answer.decode("latin-1") if isinstance(answer, bytes) else ""
    return [name for name in text.split("\0") if name.isdigit()]


def _kib(answer: Answer) -> int | None:
    """KiB, as MiB; a guest may have written anything."""
    return int(answer) // KIB if isinstance(answer, bytes) and answer.isdigit() and len(answer) < 16 else None
