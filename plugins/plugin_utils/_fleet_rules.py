# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an audit finds on one host, out of what its modules read. Pure.

Rules that modules have already looked at (`_preflight`, `_backend_rules`) are taken over as they are; here is what
nobody can say before there are domains: drift, leftovers, and what daemons there are for what disks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..module_utils._findings import ERROR, WARNING, Finding
from ..module_utils._words import some
from ._backend_versions import outdated

#: What a disk's health says that its guest has lost it.
LOST = ("missing", "closed", "closing")

#: Backend state 2, InitWait: served (xen/include/public/io/xenbus.h).
SERVED = "2"

#: Differences that are told in one message.
_SHOWN = 3

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Driver:
    """A driver domain as the inventory links it: the host in it, what was read there, or why nothing was.

    ``severity`` is how bad it is that nothing was.
    """

    name: str
    host: str | None = None
    backend: Json | None = None
    error: str | None = None
    severity: str = ERROR


@dataclass(frozen=True)
class Host:
    """What is known of one host.

    Attributes:
        name: the inventory's.
        read: the result of module fleet_info; None where there is none.
        error: why there is none.
        declared: names of the guests that the inventory declares.
        drivers: the driver domains, by name.
        severity: how bad it is that it could not be read.
        wanted: what is declared of daemons in its driver domains, as `_backend_versions.outdated` takes it.
    """

    name: str
    read: Json | None = None
    error: str | None = None
    declared: frozenset[str] = frozenset()
    drivers: Mapping[str, Driver] = field(default_factory=dict)
    severity: str = ERROR
    wanted: Json = field(default_factory=dict)

    @property
    def guests(self) -> list[Json]:
        """Its domains but dom0."""
        return list((self.read or {}).get("guests") or ())

    @property
    def backends(self) -> list[Json]:
        """Domains that serve disks, as dom0 sees them."""
        return list(((self.read or {}).get("host") or {}).get("backends") or ())

    @property
    def compared(self) -> Json:
        """What module guest says in check mode."""
        return (self.read or {}).get("compared") or {}

    @property
    def alive(self) -> list[Json]:
        """Domains that somebody could use."""
        return [guest for guest in self.guests if guest["domid"] is not None and not guest["leftover"]]

    def serving(self) -> dict[str, Json]:
        """What was read in the domains that serve disks, by their name: dom0 where it serves, and driver domains."""
        found = {name: one.backend for name, one in self.drivers.items() if one.backend is not None}
        own = (self.read or {}).get("backend")
        busy = any(one["domid"] == 0 and one["disks"] for one in self.backends)
        if own and (busy or own["launcher"]["installed"] or own["foreign"]):
            found["Domain-0"] = own
        return found


def examine(host: Host) -> list[Finding]:
    """All that there is to say of a host; nothing is said twice."""
    if host.read is None:
        return [_unknown(host)]
    found: dict[tuple[Any, ...], Finding] = {}
    for rule in (
        _host,
        _judged,
        _states,
        _drift,
        _configs,
        _disks,
        _leftovers,
        _shared,
        _daemons,
        _unmanaged,
    ):
        for one in rule(host):
            found.setdefault(_key(one), one)
    return list(found.values())


def _key(one: Finding) -> tuple[Any, ...]:
    # two messages about one disk's sharing are two; two words on a disk that is lost are one
    several = one.vdev is None or one.code in ("target-shared", "devid-shared")
    return one.code, one.domain, one.vdev, one.message if several else None


def _unknown(host: Host) -> Finding:
    return Finding(
        "host-unknown",
        host.severity,
        None,
        None,
        f"{host.name} could not be read: {host.error or 'nobody said why'}",
        "Nothing is known of its guests; nothing said about this host before holds for now.",
        "See that the host is up and reached over SSH, that Ansible becomes root there, and run the audit again with "
        f"--limit {host.name}.",
    )


# --- the host itself -------------------------------------------------------------------------------------


def _host(host: Host) -> Iterable[Finding]:
    read = host.read or {}
    about = read.get("host") or {}
    xen = about.get("xen") or {}
    store = (about.get("daemons") or {}).get("xenstored") or {}
    if store.get("reachable") is False:
        yield Finding(
            "store",
            ERROR,
            None,
            None,
            f"xenstored cannot be asked: {store.get('error')}",
            "Nothing can be said of guests and disks, and none can be made.",
            "See that xenstored runs in dom0 and that the task runs as root; a xenstored that died needs a reboot.",
        )
    elif read.get("error"):
        yield Finding(
            "host-unknown",
            ERROR,
            None,
            None,
            f"the guests of {host.name} could not be read: {read['error']}",
            "Nothing can be said of them.",
            "Put right what the message names, and run the audit again.",
        )
    toolstack = xen.get("toolstack") or {}
    if toolstack.get("error") and store.get("reachable") is not False:  # xl asks xenstored, too
        yield Finding(
            "toolstack",
            ERROR,
            None,
            None,
            f"xl does not answer: {toolstack['error']}",
            "Run states of guests are unknown, and no guest can be created.",
            "Run xl list on the host and see what it says.",
        )
    built, release = toolstack.get("version"), xen.get("release")
    if built and release and built != release:
        yield Finding(
            "toolstack",
            WARNING,
            None,
            None,
            f"xl is that of Xen {built}, and the hypervisor is {release}",
            "Hypercalls of the toolstack differ between releases; xl may fail at any of them.",
            "Boot the hypervisor that belongs to the installed tools, or install the tools of the hypervisor.",
        )
    if xen.get("note") and (release or not toolstack.get("error")):
        yield Finding(
            "release",
            WARNING,
            None,
            None,
            f"Xen {release or 'of an unknown release'}: {xen['note']}",
            "Options may be written in a way that this release does not take.",
            "Say the release with xen_release, or bring the host to one that is known.",
        )


# --- what modules judged already -------------------------------------------------------------------------


def _judged(host: Host) -> Iterable[Finding]:
    for one in host.compared.get("findings") or ():
        yield (
            _lost(one["domain"], one["vdev"], one["message"])
            if one["code"] == "disk-lost"
            else Finding(**one)
        )
    for one in host.compared.get("problems") or ():
        yield Finding(
            "not-compared",
            ERROR,
            one["domain"],
            None,
            f"what is declared cannot be compared: {one['error']}",
            "Nobody knows whether it runs as declared, and applying the inventory would fail in the same way.",
            "Put right what the message names.",
        )
    if host.compared.get("refused"):
        yield Finding(
            "not-compared",
            WARNING,
            None,
            None,
            f"applying the inventory would be refused: {host.compared['refused']}",
            "The inventory says something that this host does not let happen.",
            "Decide as the message says, or declare what runs.",
        )


def _lost(domain: str | None, vdev: str | None, message: str) -> Finding:
    """Worse here than before a change: there it stops nothing, here a guest is without its disk."""
    return Finding(
        "disk-lost",
        ERROR,
        domain,
        vdev,
        message,
        "The guest runs without it, and hangs when it uses it. Only a new domain gets it back.",
        "Run the playbook xen.virtio.repair for this host; a dom0less guest needs a reboot of the host, or its disk "
        "removed and added by xen.virtio.disk.",
    )


# --- drift -----------------------------------------------------------------------------------------------


def _states(host: Host) -> Iterable[Finding]:
    for guest in host.compared.get("guests") or ():
        name, wanted, now = guest["name"], guest["state"], guest["run_state"]
        if name not in host.declared:
            continue
        if wanted in ("running", "restarted", "paused"):
            expected = "paused" if wanted == "paused" else "running"
            if now != expected:
                down = now not in ("running", "paused")
                told = "has no domain" if now == "absent" else f"is {now}"
                yield Finding(
                    "drift-state",
                    ERROR if down else WARNING,
                    name,
                    None,
                    f"is declared {expected} and {told}",
                    "Nobody gets what the guest is there for."
                    if down
                    else "Somebody paused or resumed it by hand.",
                    "Apply the inventory: ansible-playbook xen.virtio.site --limit HOST. Where it went down by "
                    "itself, see /var/log/xen on the host first.",
                )
        elif wanted in ("shutdown", "absent") and now not in ("absent", "shutdown"):
            yield Finding(
                "drift-state",
                WARNING,
                name,
                None,
                f"is declared {wanted} and is {now}",
                "It has memory and disks that others may be declared to have.",
                "Apply the inventory, or declare it running.",
            )


def _drift(host: Host) -> Iterable[Finding]:
    for guest in host.compared.get("guests") or ():
        name = guest["name"]
        found = guest["differences"]
        declared = name in host.declared
        config = found["config"]
        if declared and config and not (guest["run_state"] == "absent" and config[0]["before"] is None):
            yield Finding(
                "drift-config",
                WARNING,
                name,
                None,
                f"{guest['path']} is not what the inventory declares: {_changes(config)}",
                "The guest comes up with the file's words at its next creation.",
                "Apply the inventory (xen.virtio.site), or take the change over into it (xen.virtio.import_guests).",
            )
        if found["domain"]:
            source = "the inventory declares" if declared else f"{guest['path']} says"
            anew = " It has to be created anew for that." if guest["recreate_reasons"] else ""
            yield Finding(
                "drift-domain",
                WARNING,
                name,
                None,
                f"runs with something else than {source}: {_changes(found['domain'])}",
                f"The guest is another one after its next creation.{anew}",
                "Apply the inventory; guest_recreate: allowed lets guests be created anew."
                if declared
                else "Shut it down and create it again when that suits, or put its file right.",
            )
        for one in found["store"]:
            if one["what"] == "drifted":
                yield _store_drift(name, one["vdev"], str(one["found"]))
            else:
                yield _lost(name, one["vdev"], f"{one['vdev']} is lost: {one['found'] or one['what']}")


def _changes(changes: Iterable[Json]) -> str:
    listed = [f"{one['option']}: {_value(one['before'])} → {_value(one['after'])}" for one in changes]
    return some(listed, _SHOWN, "; ")


def _value(value: object) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def _store_drift(domain: str, vdev: str | None, words: str) -> Finding:
    return Finding(
        "drift-store",
        WARNING,
        domain,
        vdev,
        f"{vdev}: nodes in xenstore are not what libxl's record says: {words}",
        "Somebody changed them behind the toolstack's back; the daemon may serve something else after a restart.",
        "xen.virtio.disk puts nodes right in place for guests that xl did not make; else create the guest anew "
        "(xen.virtio.repair).",
    )


def _configs(host: Host) -> Iterable[Finding]:
    read = host.read or {}
    for one in read.get("unreadable") or ():
        yield _unreadable(None, one["path"], one["error"])
    doubled: set[str] = set()
    for one in read.get("configs") or ():
        name = one["name"]
        if one.get("error"):
            yield _unreadable(name, one["path"], one["error"])
        if one.get("others") and name not in doubled:
            doubled.add(name)
            yield Finding(
                "config-doubled",
                WARNING,
                name,
                None,
                f"{', '.join(sorted([one['path'], *one['others']]))} all call their guest {name}",
                "Which of them it comes from depends on who creates it.",
                "Keep one, and move the others out of the folder.",
            )
        if one.get("autostart") and not one.get("running") and name not in host.declared:
            yield Finding(
                "drift-state",
                WARNING,
                name,
                None,
                f"comes up with the host by {one['path']}, and does not run",
                "It failed at boot, or ended since.",
                f"xl create {one['path']}, or take it out of the guests that come up with the host.",
            )


def _unreadable(domain: str | None, path: str, error: str) -> Finding:
    return Finding(
        "config-unreadable",
        WARNING,
        domain,
        None,
        f"{path}: {error}",
        "Its guest cannot be compared, and xl may refuse to create it.",
        "Put the file right, or move it out of the folder.",
    )


# --- disks as they are -----------------------------------------------------------------------------------


def _disks(host: Host) -> Iterable[Finding]:
    for guest in host.alive:
        name = guest["name"]
        for disk in guest["disks"]:
            if disk["specification"] == "virtio":
                yield from _disk(name, disk)
        kinds = {disk["specification"] for disk in guest["disks"]}
        if len(kinds) > 1:
            xen = sorted(disk["vdev"] for disk in guest["disks"] if disk["specification"] != "virtio")
            yield Finding(
                "mixed-specification",
                ERROR,
                name,
                None,
                f"xen disks ({', '.join(xen)}) and virtio disks in one guest",
                "It runs, but libxl can list and detach neither.",
                "Give all disks of the guest one specification.",
            )


def _disk(name: str, disk: Json) -> Iterable[Finding]:
    vdev, health = disk["vdev"], disk["health"]
    launcher = disk.get("launcher") or {}
    if health in LOST:
        words = {"missing": "its backend's nodes are gone", "closed": "its backend closed it"}
        yield _lost(name, vdev, f"{vdev} is lost: {words.get(health, 'its backend is closing it')}")
    elif launcher.get("status") == "lost":
        yield _lost(name, vdev, f"{vdev} is lost: its daemon is gone ({launcher.get('reason') or 'unknown'})")
    elif health == "pending":
        yield Finding(
            "disk-pending",
            WARNING,
            name,
            vdev,
            f"{vdev} waits for a daemon of {disk['backend']} (state {disk['state']})",
            "The guest has no such disk until one takes it up.",
            f"See that the daemon of {disk['backend']} runs (role virtio_disk_backend).",
        )
    elif health == "drifted":
        found = [
            f"{one['node']}: {one['what']} {_value(one['expected'])} → {_value(one['found'])}"
            for one in disk.get("drift") or ()
        ]
        yield _store_drift(name, vdev, "; ".join(found[:_SHOWN]) or "unknown")
    elif health == "stale":
        yield _stale(name, vdev, f"{vdev}: nodes in xenstore that no record of libxl's stands behind")
    if disk["grant_usage"] is False and disk["backend_domid"] != 0:
        yield Finding(
            "foreign-mapping",
            WARNING,
            name,
            vdev,
            f"{vdev}: grant_usage is off, and {disk['backend']} is a driver domain",
            "It maps all memory of the guest instead of what the guest grants it.",
            "Leave grant_usage out, and create the guest anew.",
        )


def _leftovers(host: Host) -> Iterable[Finding]:
    words = {
        "dying": "Xen waits for somebody to give its memory back",
        "stale": "is gone, and xenstore has not forgotten it",
        "unfinished": "is paused and was never finished: a create that ended half-way, or is not over yet",
    }
    for guest in host.guests:
        if guest["leftover"]:
            count = len(guest["disks"])
            held = f"; {count} disk{'s' if count != 1 else ''} left behind" if count else ""
            yield _stale(
                guest["name"],
                None,
                f"domain {guest['domid']} {words.get(guest['leftover'], guest['leftover'])}{held}",
            )


def _stale(domain: str, vdev: str | None, message: str) -> Finding:
    return Finding(
        "stale",
        WARNING,
        domain,
        vdev,
        message,
        "Nodes count against quotas, and a daemon may hold storage open that others are given.",
        "xen.virtio.disk with state: absent and the domid removes what is left of its disks; xl destroy ends one "
        "that is unfinished.",
    )


def _shared(host: Host) -> Iterable[Finding]:
    """Live disks of guests that no rule has looked at as declared ones: of dom0less guests and other toolstacks."""
    judged = {guest["name"] for guest in host.compared.get("guests") or ()}
    launched = {one["domid"] for one in host.backends if one["launcher"]}
    by_target: dict[tuple[Any, str], list[tuple[str, Json]]] = defaultdict(list)
    by_devid: dict[tuple[Any, int], list[tuple[str, Json]]] = defaultdict(list)
    for guest in host.alive:
        for disk in guest["disks"]:
            if disk["target"]:
                by_target[disk["backend_domid"], disk["target"]].append((guest["name"], disk))
            if disk["specification"] == "virtio" and disk["backend_domid"] not in launched:
                by_devid[disk["backend_domid"], disk["devid"]].append((guest["name"], disk))
    for (_domid, target), sharing in by_target.items():
        for number, (name, disk) in enumerate(sharing):
            clash = _clash(name, disk, sharing[:number], judged)
            if clash is not None:
                first, one = clash
                yield Finding(
                    "target-shared",
                    ERROR,
                    name,
                    disk["vdev"],
                    f"{disk['vdev']} ({target}) is also {one['vdev']} of {first}; compared by path",
                    "A file system that two see while one writes is destroyed.",
                    "Give each guest a target of its own, or make all of them read-only.",
                )
    for (_domid, number), sharing in by_devid.items():
        for position, (name, disk) in enumerate(sharing):
            others = [pair for pair in sharing[:position] if pair[0] != name and pair[0] not in judged]
            if others and name not in judged:
                first, one = others[0]
                yield Finding(
                    "devid-shared",
                    ERROR,
                    name,
                    disk["vdev"],
                    f"{disk['vdev']} is device {number} at {disk['backend']}, and so is {one['vdev']} of {first}",
                    "Two plain virtio-disk daemons with one device number destroy each other's disk within a second.",
                    f"Use vdevs that are unique among all guests of {disk['backend']}, or run the daemons with our "
                    "launcher (role xen.virtio.virtio_disk_backend).",
                )


def _clash(
    name: str, disk: Json, earlier: Iterable[tuple[str, Json]], judged: set[str]
) -> tuple[str, Json] | None:
    """The first disk before this one that has its target, where one of the two writes and nobody looked at either."""
    if name in judged:
        return None
    for other, one in earlier:
        if other not in judged and "rw" in (one["access"], disk["access"]):
            return other, one
    return None


# --- who serves them -------------------------------------------------------------------------------------


def _daemons(host: Host) -> Iterable[Finding]:
    for one in host.backends:
        if not one["alive"] and one["disks"]:
            yield _down(one["domain"], f"is gone, and {one['disks']} disks of it are on record")
        elif one["status"] == "dead":
            reason = f" ({one['reason']})" if one["reason"] else ""
            yield _down(one["domain"], f"says that its daemon is dead{reason}")
        room = one["headroom"]
        if room is not None and one["disks"] and room <= _near(one["disks"] + room):
            yield Finding(
                "quota",
                WARNING,
                one["domain"],
                None,
                f"serves {one['disks']} disks and has room for {room or 'no'} more in xenstore's quota",
                "A disk too many gets no watch or no node; its daemon then tries for ever and without a word.",
                "Raise it: XENSTORED_ARGS (-E nodes, -W watches), xenstore-control quota set, or oxenstored.conf.",
            )
    for name, driver in host.drivers.items():
        if driver.error is not None:
            yield Finding(
                "driver-unknown",
                driver.severity,
                name,
                None,
                f"{driver.host} could not be read: {driver.error}",
                "Nothing is known of the daemons in it, nor of the storage behind its disks.",
                f"See that {driver.host} is up and reached over SSH.",
            )
    for name, backend in host.serving().items():
        served = [one for one in backend["findings"] if not (one["code"] == "quota" and _full(host, name))]
        yield from (Finding(**{**one, "domain": name}) for one in served)
        yield from _binary(host, name, backend)
        yield from _processes(host, name, backend)


def _near(capacity: int) -> int:
    """Room for so many disks is the last that there is: a tenth, and for another guest with its two at least."""
    return max(2, capacity // 10)


def _full(host: Host, name: str) -> bool:
    return any(one["domain"] == name and one["headroom"] == 0 for one in host.backends)


def _down(domain: str, words: str) -> Finding:
    return Finding(
        "backend-down",
        ERROR,
        domain,
        None,
        f"{domain} {words}",
        "Nobody serves disks that come up now; guests that had disks of it have lost them.",
        f"Start {domain}, or the daemon in it (role virtio_disk_backend); then xen.virtio.repair.",
    )


def _binary(host: Host, name: str, backend: Json) -> Iterable[Finding]:
    """The daemon's program, where the inventory says which it is to be and anything is installed."""
    daemon = backend["daemon"]
    old = outdated(host.wanted, daemon["version"]) if name in host.drivers and daemon["real_path"] else None
    if old is not None:
        yield Finding(
            "daemon-outdated",
            WARNING,
            name,
            None,
            f"the daemon in {name} is {old[0]}, and {old[1]} is declared",
            "What was put right since then is missing there.",
            "Run the role virtio_disk_backend; disks that are served go on with the old daemon until their guests are "
            "created anew.",
        )


def _processes(host: Host, name: str, backend: Json) -> Iterable[Finding]:
    """Daemons against disks: none of them, or two, for one disk."""
    if not backend["store"]["reachable"]:
        return
    proven: dict[tuple[int, int], list[str]] = defaultdict(list)
    maybe: set[tuple[int, int]] = set()
    blind = False
    for unit in backend["units"]:
        proven[unit["domid"], unit["devid"]].append(unit["unit"])
    for one in backend["foreign"]:
        if one["idle"]:
            continue
        keys = [(disk["domid"], disk["devid"]) for disk in one["serves"]]
        maybe.update(keys)
        blind = blind or not keys
        if len(keys) == 1:
            proven[keys[0]].append(f"process {one['pid']}")
    for guest in host.alive:
        for disk in guest["disks"]:
            key = guest["domid"], disk["devid"]
            if disk["specification"] != "virtio" or disk["backend_domid"] != backend["domid"]:
                continue
            servers = proven.get(key, [])
            if len(servers) > 1:
                yield Finding(
                    "daemon-doubled",
                    ERROR,
                    guest["name"],
                    disk["vdev"],
                    f"{disk['vdev']} is served by two daemons in {name}: {' and '.join(servers)}",
                    "Two daemons with one device number destroy the disk within a second.",
                    "Shut the guest down, end the daemon that is not the launcher's, and start the guest again.",
                )
            elif not servers and key not in maybe and not blind and disk["state"] == SERVED:
                yield Finding(
                    "daemon-missing",
                    WARNING,
                    guest["name"],
                    disk["vdev"],
                    f"{disk['vdev']} says that it is served, and no virtio-disk daemon runs for it in {name}",
                    "A daemon that was killed leaves state 2 behind; the guest then hangs when it uses the disk.",
                    f"Run virtio_disk_backend for {name}, then xen.virtio.repair. Where another program serves it, "
                    "all is well.",
                )


def _unmanaged(host: Host) -> Iterable[Finding]:
    for guest in host.alive:
        name = guest["name"]
        if name in host.declared or name in host.drivers:
            continue
        makers = {"xl": "xl made it", "other": "xl did not make it"}
        yield Finding(
            "guest-unmanaged",
            WARNING,
            name,
            None,
            f"domain {guest['domid']} is {guest['run_state']} and the inventory does not declare it "
            f"({makers.get(guest['made_by'], 'nobody knows who made it')})",
            "Nobody keeps it as it is, looks whether others are given its disks, or brings it back after a loss.",
            "Take it into xen_guests (playbook xen.virtio.import_guests), shut it down, or accept the finding by its "
            "name with the reason.",
        )
