# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host that serves virtio disks has for it, what it lacks, and what that means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ._findings import ERROR, WARNING, Finding
from ._preflight import headroom
from ._served import Daemon, ServedDisk, Service, services
from ._snapshot import DEFAULT_NODES, DEFAULT_WATCHES_OCAML, Quota

#: Every code a finding of a backend host can carry, with one line on the rule behind it.
CODES: dict[str, str] = {
    "daemon-missing": "the daemon that the launcher is to start is not there",
    "device-missing": "a device of Xen's that the daemon opens is not there",
    "foreign-daemon": "a virtio-disk daemon runs that the launcher knows nothing of",
    "kernel-option": "the kernel was built without something that a backend needs",
    "launcher-down": "the launcher is installed and does not say that it is ready",
    "no-systemd": "the launcher's units need systemd",
    "pending-restart": "a disk is served by what was installed before",
    "privcmd-restricted": "the kernel lets this domain's daemons do nothing with their guests",
    "quota": "xenstore's quota for this domain has room for no more disks",
    "store": "the store does not answer, or does not know this domain",
}

#: Codes that nobody can accept away: nothing works with them, or disks get lost.
BINDING = frozenset({"daemon-missing", "foreign-daemon", "no-systemd", "store"})


@dataclass(frozen=True)
class Device:
    """A device that the daemon opens.

    Attributes:
        path: where the daemon looks for it.
        option: the kernel's option, empty where there is none of its own.
        module: what to load where that option is ``m``.
        use: what the daemon does with it.
    """

    path: str
    option: str
    module: str
    use: str


#: drivers/xen/Kconfig and drivers/xen/Makefile of Linux.
DEVICES = (
    Device("/dev/xen/xenbus", "", "", "reads and writes the store"),
    Device("/dev/xen/evtchn", "CONFIG_XEN_DEV_EVTCHN", "xen-evtchn", "is told of the guest's requests"),
    Device("/dev/xen/privcmd", "CONFIG_XEN_PRIVCMD", "xen-privcmd", "asks Xen for its I/O request server"),
    Device("/dev/xen/gntdev", "CONFIG_XEN_GNTDEV", "xen-gntdev", "maps the memory that the guest grants it"),
)

#: Wanted beside those of the devices.
OPTIONS = (*(device.option for device in DEVICES if device.option), "CONFIG_XEN_GRANT_DEV_ALLOC")


#: A process's start is known to a clock tick (USER_HZ, 10 ms), a file's to the kernel's own tick.
_TICK = 0.05


@dataclass(frozen=True)
class Unit:
    """A disk's unit that runs: what the view wrote of itself in ``/run/virtio-disk``."""

    domid: int
    devid: int
    version: str | None = None
    daemon: str | None = None
    pid: int | None = None
    view_pid: int | None = None
    target: str | None = None
    mode: str | None = None
    size: int | None = None
    view: bool | None = None  #: it has a view of the store
    arguments: str | None = None  #: more options of its daemon
    since: float | None = None  #: seconds since the epoch, by the clock as it is now


@dataclass(frozen=True)
class Facts:
    """What was seen of a host; everything that is derived comes from here.

    Attributes:
        init: ``systemd``, ``openrc``, ``sysvinit`` or ``unknown``.
        domid: its own, None where the store does not tell.
        store: the socket or device by which the store was asked, None where there is none.
        store_error: why the store says nothing.
        devices: path → ``device``, ``socket``, ``other``; missing ones are left out.
        kernel: its release.
        config: where the kernel's options were read, None where nowhere.
        options: option → ``y``, ``m``, ``n``; empty where they cannot be read.
        restricted: whether the kernel confines /dev/xen/privcmd, None where that cannot be told.
        restricted_why: from what that is known.
        disks: the backend's own tree.
        used_nodes: how many nodes this domain owns there, None where that cannot be counted.
        daemons: all daemons of the host, ours and others.
        units: disks' units that run.
        unit_processes: disks' units in which a process is, also those that start or end.
        launcher: nodes below ``drivers/virtio-disk``.
        launcher_pid: its process, None where there is none.
        settings: of the launcher, None where it is not installed.
        settings_error: why those cannot be read.
        current: the file that the daemon of the settings is, links followed; None where it is not there.
        written: what units are started from → when it was written, in seconds since the epoch.
        now: by the same clock.
    """

    init: str = "systemd"
    domid: int | None = None
    store: str | None = None
    store_error: str | None = None
    devices: Mapping[str, str] = field(default_factory=dict)
    kernel: str = ""
    config: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    restricted: bool | None = None
    restricted_why: str = ""
    disks: Sequence[ServedDisk] = ()
    used_nodes: int | None = None
    daemons: Sequence[Daemon] = ()
    units: Sequence[Unit] = ()
    unit_processes: frozenset[tuple[int, int]] = frozenset()
    launcher: Mapping[str, str] = field(default_factory=dict)
    launcher_pid: int | None = None
    settings: Mapping[str, Any] | None = None
    settings_error: str | None = None
    current: str | None = None
    written: Mapping[str, float] = field(default_factory=dict)
    now: float = 0.0

    @property
    def foreign(self) -> list[Service]:
        """Daemons that are not the launcher's, and what they do."""
        found = services(self.daemons, self.disks)
        return [one for one in found if one.daemon.ours is None]

    @property
    def quota(self) -> Quota | None:
        """The domain's limits: an unprivileged domain cannot ask for them, so those that xenstored has by itself."""
        if not self.domid:
            return None
        return Quota(
            DEFAULT_NODES,
            DEFAULT_WATCHES_OCAML,
            used_nodes=self.used_nodes,
            assumed="the defaults of xenstored and oxenstored, the lower of both",
        )

    @property
    def headroom(self) -> int | None:
        """How many more disks it has room for by these limits; None for dom0, which has none."""
        quota = self.quota
        if quota is None:
            return None
        return headroom(quota, len(self.disks), launcher=self.settings is not None or bool(self.launcher))

    def pending(self, unit: Unit) -> str | None:
        """Why a unit does not run what is installed now; None where it does."""
        if self.settings is None:
            return None
        wanted = self.settings.get("version")
        if wanted and unit.version and wanted != unit.version:
            return f"it runs version {unit.version}, and {wanted} is installed"
        if self.current and unit.daemon and self.current != unit.daemon:
            return f"it runs {unit.daemon}, and {self.current} is installed"
        for daemon in self.daemons:
            if daemon.ours == (unit.domid, unit.devid) and (daemon.exe or "").endswith(" (deleted)"):
                return "the file of its daemon was replaced"
        return self._unlike_settings(unit, self.settings) or self._older(unit)

    @staticmethod
    def _unlike_settings(unit: Unit, settings: Mapping[str, Any]) -> str | None:
        if unit.view is not None and unit.view != bool(settings.get("view", True)):
            return f"it runs {'with' if unit.view else 'without'} a view, and the settings say otherwise"
        wanted = " ".join(map(str, settings.get("arguments") or ()))
        if unit.arguments is not None and unit.arguments != wanted:
            return f"its daemon has the arguments {unit.arguments!r}, and the settings say {wanted!r}"
        return None

    def _older(self, unit: Unit) -> str | None:
        """Of a file that seems to be written later than now nothing can be said: the clock was set back."""
        for path, written in sorted(self.written.items()):
            if unit.since is not None and unit.since + _TICK < written <= self.now:
                return f"it was started before {path} was written"
        return None


# --- what is wrong (pure) --------------------------------------------------------------------------------


def findings(facts: Facts) -> list[Finding]:
    """All that keeps a host from serving disks, or will."""
    found: list[Finding] = []
    for rule in (_init, _store, _devices, _options, _privcmd, _foreign, _installed, _pending, _room):
        found += rule(facts)
    return found


def _finding(code: str, severity: str, message: str, why: str, remedy: str) -> Finding:
    return Finding(code, severity, None, None, message, why, remedy)


def _init(facts: Facts) -> Iterable[Finding]:
    if facts.init != "systemd":
        yield _finding(
            "no-systemd",
            ERROR,
            f"this host is run by {facts.init if facts.init != 'unknown' else 'something else than systemd'}.",
            "The launcher keeps each disk's daemon in a systemd unit of its own, so that nothing restarts it.",
            "Boot the host with systemd, or start the daemons by hand, one for each disk and after its guest's nodes"
            " are there.",
        )


def _store(facts: Facts) -> Iterable[Finding]:
    if facts.store_error is not None:
        yield _finding(
            "store",
            ERROR,
            f"The store cannot be used: {facts.store_error}.",
            "Daemons learn from it which disks there are.",
            "See that this is a Xen domain, that /dev/xen/xenbus is there (in dom0, that xenstored runs), and that the"
            " task runs as root.",
        )


def _devices(facts: Facts) -> Iterable[Finding]:
    for device in DEVICES:
        # dom0's daemons speak with xenstored through its socket
        if device.path in facts.devices or (device.path == "/dev/xen/xenbus" and facts.domid == 0):
            continue
        yield _finding(
            "device-missing",
            ERROR,
            f"{device.path} is not there.",
            f"With it the daemon {device.use}.",
            _device_remedy(device, facts),
        )


def _device_remedy(device: Device, facts: Facts) -> str:
    load = f"load the module (modprobe {device.module}) and have it loaded at boot (/etc/modules-load.d)"
    value = facts.options.get(device.option)
    if not device.option:
        return "Run a kernel with CONFIG_XEN in a Xen domain, with devtmpfs on /dev."
    if value == "n":
        return f"Run a kernel that is built with {device.option}; {facts.config} says that this one is not."
    if value == "m":
        return f"{load[0].upper()}{load[1:]}."
    if value == "y":
        return f"See that this is a Xen domain with devtmpfs on /dev: the kernel has {device.option}."
    return f"Run a kernel that is built with {device.option}, or {load}."


def _options(facts: Facts) -> Iterable[Finding]:
    name = "CONFIG_XEN_GRANT_DEV_ALLOC"
    if facts.options.get(name) == "n":
        yield _finding(
            "kernel-option",
            WARNING,
            f"The kernel was built without {name} ({facts.config}).",
            "Backends hand memory of their own to guests with it.",
            f"Run a kernel that is built with {name}.",
        )


def _privcmd(facts: Facts) -> Iterable[Finding]:
    if facts.restricted:
        yield _finding(
            "privcmd-restricted",
            ERROR,
            f"The kernel confines /dev/xen/privcmd in this domain: {facts.restricted_why}.",
            "The daemon's hypercalls for its guests are refused then, and each disk's directory goes at once.",
            "Boot this domain with xen_privcmd.unrestricted=1 on its kernel's command line (for a module: options"
            " xen-privcmd unrestricted=1 in /etc/modprobe.d), without lockdown.",
        )


def _foreign(facts: Facts) -> Iterable[Finding]:
    for one in facts.foreign:
        label = one.daemon.label
        label = label[0].upper() + label[1:]
        if one.idle:
            yield _finding(
                "foreign-daemon",
                WARNING,
                f"{label} is a virtio-disk daemon that is not the launcher's; it serves no disk.",
                "It would take up disks and destroy those that others have; so the launcher starts nothing beside it.",
                "The role virtio_disk_backend stops it and masks its unit (module xen.virtio.backend_foreign).",
            )
        else:
            yield _finding(
                "foreign-daemon",
                ERROR,
                f"{label} is a virtio-disk daemon that is not the launcher's, and {serving(one)}.",
                "The launcher starts nothing beside it, and whoever stops it takes the disk from the guest for good.",
                "Shut the guest down and run this again; or with virtio_disk_backend_disrupt, which ends the daemon now"
                " and costs the guest its disk until it is created anew.",
            )


def serving(one: Service) -> str:
    """What a daemon that is not idle does, in words."""
    if not one.disks:
        return "has Xen's devices open, so that it must be taken to serve a guest"
    return "serves " + " and ".join(disk.label for disk in one.disks)


def _installed(facts: Facts) -> Iterable[Finding]:
    if facts.settings_error is not None:
        yield _finding(
            "launcher-down",
            ERROR,
            f"The launcher's settings cannot be used: {facts.settings_error}.",
            "It starts nothing without them.",
            "Run the role virtio_disk_backend, which writes them anew.",
        )
    if facts.settings is None:
        return
    if facts.current is None:
        yield _finding(
            "daemon-missing",
            ERROR,
            f"The daemon {facts.settings.get('daemon')} is not there, or is no program.",
            "No disk that comes up from now on is served.",
            "Run the role virtio_disk_backend, or put the daemon where its variables say.",
        )
    if facts.store_error is None and (facts.launcher.get("status") != "ready" or facts.launcher_pid is None):
        told = facts.launcher.get("reason") or (
            "its process is not there" if facts.launcher_pid is None else "it does not say why"
        )
        yield _finding(
            "launcher-down",
            WARNING,
            f"The launcher is not ready: {told}.",
            "Disks that are served stay so; no disk that comes up now is served.",
            "See journalctl -u virtio-disk-launcher.",
        )


def _pending(facts: Facts) -> Iterable[Finding]:
    for unit in facts.units:
        why = facts.pending(unit)
        if why is not None:
            yield _finding(
                "pending-restart",
                WARNING,
                f"Disk {unit.devid} of guest {unit.domid}: {why}.",
                "A daemon that serves a guest is never restarted: that would take the disk from the guest.",
                "It follows when the guest is created anew; at once with virtio_disk_backend_disrupt, at that price.",
            )


def _room(facts: Facts) -> Iterable[Finding]:
    quota = facts.quota
    if quota is None or facts.store_error is not None or (facts.headroom or 0) > 0:
        return
    yield _finding(
        "quota",
        WARNING,
        f"This domain owns {quota.used_nodes} nodes in the store and serves {len(facts.disks)} disks, and by"
        f" {quota.assumed} there is room for no more.",
        "A daemon that gets no watch tries for ever without a word, and one that may write no node fails.",
        "Raise the limits in dom0 (xenstored -E and -W, or xenstore-control quota set; oxenstored.conf; from Xen"
        " 4.22 on xenstore_quota of the domain); xen.virtio.host_info there tells what they are.",
    )


class AcceptError(ValueError):
    """An ``accept`` entry that is not one, or names what nobody may accept."""


def part(found: Iterable[Finding], accept: Iterable[Any]) -> tuple[list[Finding], list[Finding]]:
    """Part findings into those that stand and those that a user accepted by code, with a reason.

    Raises:
        AcceptError: an entry that is no mapping of ``code`` and ``reason``, an unknown code, or one in `BINDING`.
    """
    codes = set()
    for entry in accept:
        if not isinstance(entry, Mapping) or set(entry) - {"code", "reason"} or not entry.get("reason"):
            raise AcceptError(f"accept: a mapping with code and reason is expected, not {entry!r}")
        code = entry.get("code")
        if code not in CODES:
            raise AcceptError(f"accept: unknown code {code!r}; known are {', '.join(sorted(CODES))}")
        if code in BINDING:
            raise AcceptError(f"accept: {code} cannot be accepted: {CODES[str(code)]}")
        codes.add(code)
    listed = list(found)
    return (
        [one for one in listed if one.code not in codes],
        [one for one in listed if one.code in codes],
    )


# --- the result (pure) -----------------------------------------------------------------------------------


def as_result(facts: Facts) -> dict[str, Any]:
    """The facts as the module returns them."""
    quota = facts.quota
    return {
        "domid": facts.domid,
        "init": facts.init,
        "store": {
            "reachable": facts.store_error is None,
            "path": facts.store,
            "error": facts.store_error,
        },
        "devices": [
            {
                "path": device.path,
                "present": device.path in facts.devices,
                "kind": facts.devices.get(device.path),
            }
            for device in DEVICES
        ],
        "kernel": {
            "release": facts.kernel,
            "source": facts.config,
            "options": {name: facts.options.get(name) for name in OPTIONS},
            "privcmd_restricted": facts.restricted,
            "privcmd_why": facts.restricted_why,
        },
        "quota": None
        if quota is None
        else {
            "nodes": quota.nodes,
            "used_nodes": quota.used_nodes,
            "watches": quota.watches,
            "used_watches": quota.used_watches,
            "assumed": quota.assumed,
        },
        "disks": len(facts.disks),
        "headroom": facts.headroom,
        "foreign": [service_as_dict(one) for one in facts.foreign],
        "units": [_unit(facts, unit) for unit in facts.units],
        "unsettled": [
            f"{domid}-{devid}"
            for domid, devid in sorted(facts.unit_processes)
            if not any((unit.domid, unit.devid) == (domid, devid) for unit in facts.units)
        ],
        "pending_restart": [
            f"{unit.domid}-{unit.devid}" for unit in facts.units if facts.pending(unit) is not None
        ],
        "launcher": {
            "installed": facts.settings is not None or facts.settings_error is not None,
            "version": facts.launcher.get("launcher"),
            "status": facts.launcher.get("status"),
            "reason": facts.launcher.get("reason"),
            "pid": facts.launcher_pid,
        },
        "daemon": {
            "path": None if facts.settings is None else facts.settings.get("daemon"),
            "real_path": facts.current,
            "version": None if facts.settings is None else facts.settings.get("version"),
        },
    }


def service_as_dict(one: Service) -> dict[str, Any]:
    """A foreign daemon as modules return it."""
    daemon = one.daemon
    return {
        "pid": daemon.pid,
        "unit": daemon.unit,
        "command": daemon.command,
        "devid": daemon.devid,
        "idle": one.idle,
        "serves": [
            {"domid": disk.domid, "domain": disk.domain, "devid": disk.devid, "target": disk.target}
            for disk in one.disks
        ],
    }


def _unit(facts: Facts, unit: Unit) -> dict[str, Any]:
    why = facts.pending(unit)
    return {
        "unit": f"virtio-disk@{unit.domid}-{unit.devid}.service",
        "domid": unit.domid,
        "devid": unit.devid,
        "version": unit.version,
        "daemon": unit.daemon,
        "pid": unit.pid,
        "view_pid": unit.view_pid,
        "target": unit.target,
        "mode": unit.mode,
        "size": unit.size,
        "pending_restart": why is not None,
        "why": why,
    }
