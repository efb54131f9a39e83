# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be taken away from a host, in which order, and why not. Pure.

A guest goes before the domain that serves its disks, and nothing goes that was not named: a driver domain, or the
daemons in it, stay where anybody else still uses them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

#: Words of module guest_info (``made_by``, ``run_state``).
_OTHER, _ABSENT, _STALE = "other", "absent", "stale"

DOM0 = "Domain-0"


class TeardownError(ValueError):
    """What was named cannot be meant."""


@dataclass
class Batch:
    """Guests of xl that go together.

    Attributes:
        going: as module guest takes them, in the order in which they go.
        disks: what module disk is to remove once they are down: what their domains left, disks of guests that xl did
            not make, and declarations that are applied at boot.
        files: further configurations of theirs, and links that have them started at boot.
    """

    going: list[dict[str, Any]] = field(default_factory=list)
    disks: list[dict[str, Any]] = field(default_factory=list)
    files: list[str] = field(default_factory=list)


@dataclass
class Teardown:
    """What is to be done on one host.

    Attributes:
        guests: those that go first.
        drivers: those that serve others, and go last.
        now: those disks of `guests` that can be asked about, and removed, while guests are still up.
        backends: driver domains whose daemon and launcher go, with the hosts through which they are reached.
        hanging: driver domains of which it has to be asked who else hangs on them.
        lines: all of that, for people.
        refusals: why nothing may be done, each with its remedy.
    """

    guests: Batch = field(default_factory=Batch)
    drivers: Batch = field(default_factory=Batch)
    now: list[dict[str, Any]] = field(default_factory=list)
    backends: list[dict[str, str]] = field(default_factory=list)
    hanging: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """As a template has it."""
        return asdict(self)


def named(given: object) -> list[str]:
    """Names as a list, or as text with commas between them; each once, in their order.

    Raises:
        TeardownError: no name, or a domid, which is another domain's tomorrow.
    """
    listed = given.split(",") if isinstance(given, str) else given
    if listed is None or listed is False:
        return []
    if not isinstance(listed, Sequence) or isinstance(listed, bytes):
        raise TeardownError(f"names are a list, or text with commas between them, not {given!r}")
    names = [str(one).strip() for one in listed]
    for name in names:
        if name.isdigit() or not name.isprintable():
            raise TeardownError(f"{name!r}: say the guest's name; a domid changes with each creation")
    return list(dict.fromkeys(name for name in names if name))


def plan_teardown(
    host: Mapping[str, Any],
    names: Sequence[str],
    *,
    paths: Mapping[str, str] | None = None,
    drivers: Mapping[str, str | None] | None = None,
    backends: Sequence[str] | None = (),
    inside: Mapping[str, Mapping[str, Any]] | None = None,
    leftovers: bool = False,
) -> Teardown:
    """Plan what goes from one host.

    Args:
        host: what module guest_info says of it, with ``configs``; also of guests that have no domain.
        names: of the guests that go.
        paths: where configurations lie that were declared to lie elsewhere, by guest.
        drivers: the inventory's driver domains, each with the host through which it is reached, if any.
        backends: the domains whose daemon and launcher go; None for all of `drivers` that can be reached.
        inside: what module backend_info says of those that were looked at, by domain.
        leftovers: also remove what domains left behind that are gone.
    """
    plan = _Planner(host, names, paths or {}, drivers or {}, inside or {})
    plan.sort_guests()
    if leftovers:
        plan.add_leftovers()
    plan.add_backends(backends)
    plan.say_what_stays()
    return plan.made


class _Planner:
    """One plan in the making."""

    def __init__(
        self,
        host: Mapping[str, Any],
        names: Sequence[str],
        paths: Mapping[str, str],
        drivers: Mapping[str, str | None],
        inside: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self.made = Teardown()
        self.names = list(names)
        self.paths, self.drivers, self.inside = paths, drivers, inside
        self.known = list(host.get("guests") or ())
        self.there = [one for one in self.known if one["run_state"] not in (_ABSENT, _STALE)]
        self.stale = [one for one in self.known if one["run_state"] == _STALE]
        self.configs = list(host.get("configs") or ())
        self.domids = {one["domid"] for one in self.there if one["name"] in set(self.names)}

    # --- guests -------------------------------------------------------------------------------------------

    def sort_guests(self) -> None:
        """Who goes how: guests of xl as a whole, of others their disks."""
        serving: list[str] = []
        for name in self.names:
            found = [one for one in self.there if one["name"] == name]
            guest = found[0] if len(found) == 1 else None
            if len(found) > 1:
                listed = ", ".join(str(one["domid"]) for one in found)
                self.made.refusals.append(f"{name}: domains {listed} have that name; end one with xl destroy")
            elif guest is not None and guest["made_by"] == _OTHER:
                self._not_of_xl(guest)
            elif guest is not None and self._serves(guest):
                serving.append(name)
            else:
                self._guest(name, guest, self.made.guests)
        for name in self._clients_first(serving):
            (guest,) = (one for one in self.there if one["name"] == name)
            self._guest(name, guest, self.made.drivers)
            self.made.hanging.append(name)

    def _not_of_xl(self, guest: Mapping[str, Any]) -> None:
        """It cannot be ended from here; its disks and what is declared of them can go."""
        entry = {"domain": guest["name"], "disks": [], "exclusive": True}
        self.made.guests.disks.append(entry)
        self.made.now.append(entry)
        self.made.lines.append(
            f"{_label(guest)}: was not made by xl, so it stays; removed are {_disks(guest) or 'no disks'}, and what is "
            "kept of them for the next boot"
        )

    def _guest(self, name: str, guest: Mapping[str, Any] | None, batch: Batch) -> None:
        files = self._files(name)
        known = [one for one in [*self.configs, *self.known] if one["name"] == name]
        autostart = any(one.get("autostart") for one in known)
        entry = {"domain": name, "disks": [], "exclusive": True}
        batch.disks.append(entry)
        if guest is None:
            self.made.now.append(entry)
        else:
            batch.disks.append({"domain": str(guest["domid"]), "disks": [], "exclusive": True})
        if guest is not None or files or autostart:
            batch.going.append({"name": name, **({"path": files[0]} if files else {})})
        batch.files += files[1:]
        if autostart:
            batch.files += _started_by_xendomains(name, files)
        told = []
        if guest is not None:
            told.append(f"ended{', with ' + _disks(guest) if guest['disks'] else ''}")
        told += [f"{path} removed" for path in files]
        told += ["comes up with the host no more"] if autostart else []
        self.made.lines.append(
            f"{_label(guest) if guest else name}: {'; '.join(told) or 'nothing of it is here'}"
        )

    def _files(self, name: str) -> list[str]:
        """Its configurations, the one that counts first."""
        found: list[str] = [self.paths[name]] if name in self.paths else []
        for one in self.configs:
            if one["name"] == name:
                found += [one["path"], *one.get("others", ())]
        usual = (f"/{name}.cfg", f"/{name}")
        found.sort(key=lambda path: (path != self.paths.get(name), not path.endswith(usual)))
        return list(dict.fromkeys(found))

    def _serves(self, guest: Mapping[str, Any]) -> bool:
        return guest["name"] in self.drivers or bool(self._clients(guest["domid"]))

    def _clients(self, domid: int) -> list[Mapping[str, Any]]:
        """Domains that are there and have disks of a domain."""
        return [one for one in self.there if any(disk.get("backend_domid") == domid for disk in one["disks"])]

    def _clients_first(self, names: Iterable[str]) -> list[str]:
        """Driver domains of which none serves one that comes after it."""
        left = list(names)
        ordered: list[str] = []
        while left:
            free = [name for name in left if not self._serves_any(name, left)] or left[:1]
            ordered += free
            left = [name for name in left if name not in free]
        return ordered

    def _serves_any(self, name: str, others: Iterable[str]) -> bool:
        listed = set(others) - {name}
        domids = [one["domid"] for one in self.there if one["name"] == name]
        return any(client["name"] in listed for domid in domids for client in self._clients(domid))

    # --- what nobody has any more ---------------------------------------------------------------------------

    def add_leftovers(self) -> None:
        """What stands in the store of domains that are gone."""
        for one in self.stale:
            entry = {"domain": str(one["domid"]), "disks": [], "exclusive": True}
            self.made.guests.disks.append(entry)
            self.made.now.append(entry)
            self.made.lines.append(
                f"domain {one['domid']}, which is gone: what it left of {_disks(one) or 'its disks'} is removed"
            )

    # --- backends ---------------------------------------------------------------------------------------------

    def add_backends(self, backends: Sequence[str] | None) -> None:
        """Daemons and launchers, where nobody uses them who stays."""
        for name in self.drivers if backends is None else backends:
            host = self.drivers.get(name)
            if host is None:
                where = f"the backend of {name} is not reached: say its host in xen_driver_domains"
                (self.made.lines if backends is None else self.made.refusals).append(where)
            elif name != DOM0 and name in self.names and not any(one["name"] == name for one in self.there):
                self.made.lines.append(
                    f"backend of {name}: the domain is not there, so nothing in it is looked at"
                )
            else:
                self._backend(name, host)

    def _backend(self, name: str, host: str) -> None:
        seen = self.inside.get(name, {})
        domids = {seen.get("domid"), *(one["domid"] for one in self.there if one["name"] == name)} - {None}
        clients = {one["domid"]: _label(one) for domid in domids for one in self._clients(domid)}
        for unit in seen.get("units") or ():
            clients.setdefault(unit["domid"], f"domain {unit['domid']}")
        staying = [
            label
            for domid, label in clients.items()
            if domid not in self.domids and not self._is_stale(domid)
        ]
        if staying:
            self.made.refusals.append(
                f"the backend of {name} ({host}) serves {', '.join(staying)}, which nobody named: name them too, or "
                "leave the backend"
            )
        self.made.backends.append({"name": name, "host": host})
        installed = (seen.get("launcher") or {}).get("installed")
        told = (
            "nothing of the launcher is there" if installed is False else "launcher, units and daemon removed"
        )
        self.made.lines.append(f"backend of {name} ({host}): {told}")

    def _is_stale(self, domid: int) -> bool:
        return all(one["domid"] != domid for one in self.there)

    def say_what_stays(self) -> None:
        """Nobody has to wonder about the others."""
        staying = [_label(one) for one in self.there if one["name"] not in self.names]
        if staying:
            self.made.lines.append(f"not named, so left alone: {', '.join(staying)}")


def _started_by_xendomains(name: str, files: Iterable[str]) -> list[str]:
    """Links to configurations, in the folder beside them from which the service xendomains starts guests."""
    found = []
    for path in files:
        folder, _slash, last = path.rpartition("/")
        found += [f"{folder}/auto/{link}" for link in (last, name) if "/" not in link]
    return list(dict.fromkeys(found))


def _label(guest: Mapping[str, Any]) -> str:
    return f"{guest['name']} (domain {guest['domid']})"


def _disks(guest: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{disk['vdev']} ({disk.get('target')} of {disk.get('backend')})" for disk in guest.get("disks") or ()
    )
