# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The units of a backend host as texts. Pure.

What they are confined to is what a daemon can bear that is root's, speaks to Xen through /dev/xen, and opens storage
that lies anywhere; each line of the texts says why, or why not more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

LAUNCHER_UNIT = "virtio-disk-launcher.service"
DISK_UNIT = "virtio-disk@.service"
SLICE = "virtio-disk.slice"
ARCHIVE = "launcher.pyz"
VIEW = "virtio_disk_view.py"


class UnitError(ValueError):
    """An option that no unit can have; the text names it."""


# --- options ---------------------------------------------------------------------------------------------

_SIZE = re.compile(r"infinity|[1-9][0-9]{0,14}[KMGT]?|[1-9][0-9]?%")


def _size(value: Any) -> str:
    text = str(value)
    if isinstance(value, bool) or not _SIZE.fullmatch(text):
        raise ValueError("bytes, such as 64M, a share of the memory, such as 10%, or infinity")
    return text


def _between(lowest: int, highest: int) -> Callable[[Any], str]:
    def checked(value: Any) -> str:
        text = str(value)
        if isinstance(value, bool) or not re.fullmatch(r"-?[0-9]{1,6}", text):
            raise ValueError(f"a number from {lowest} to {highest}")
        if not lowest <= int(text) <= highest:
            raise ValueError(f"a number from {lowest} to {highest}")
        return str(int(text))

    return checked


def _quota(value: Any) -> str:
    text = str(value)
    if not re.fullmatch(r"[1-9][0-9]{0,4}%", text):
        raise ValueError("a share of one CPU, such as 50% or 200%")
    return text


#: Option → where it goes (a disk's unit, all disks together, the launcher), the directive, what it takes.
#: Ranges: systemd.resource-control(5), systemd.exec(5).
OPTIONS: dict[str, tuple[str, str, Callable[[Any], str]]] = {
    "memory_max": ("disk", "MemoryMax", _size),
    "memory_high": ("disk", "MemoryHigh", _size),
    "cpu_weight": ("disk", "CPUWeight", _between(1, 10000)),
    "cpu_quota": ("disk", "CPUQuota", _quota),
    "io_weight": ("disk", "IOWeight", _between(1, 10000)),
    "nice": ("disk", "Nice", _between(-20, 19)),
    "oom_score_adjust": ("disk", "OOMScoreAdjust", _between(-1000, 1000)),
    "tasks_max": ("disk", "TasksMax", _between(8, 100000)),
    "slice_memory_max": ("slice", "MemoryMax", _size),
    "slice_cpu_weight": ("slice", "CPUWeight", _between(1, 10000)),
    "slice_cpu_quota": ("slice", "CPUQuota", _quota),
    "slice_io_weight": ("slice", "IOWeight", _between(1, 10000)),
    "launcher_memory_max": ("launcher", "MemoryMax", _size),
    "launcher_nice": ("launcher", "Nice", _between(-20, 19)),
}

#: A daemon that the kernel chooses when memory is short takes a guest's disk with it.
_DEFAULTS = {"oom_score_adjust": -500}


def resources(options: Mapping[str, Any], where: str) -> str:
    """The lines of a unit's resource settings.

    Raises:
        UnitError: an option that there is not, or a value that it does not take.
    """
    lines = []
    wanted = {**_DEFAULTS, **{name: value for name, value in options.items() if value is not None}}
    for name, value in wanted.items():
        if name == "sandbox":
            continue
        if name not in OPTIONS:
            raise UnitError(f"unit_options: no option {name!r}; there are {', '.join([*OPTIONS, 'sandbox'])}")
        place, directive, check = OPTIONS[name]
        try:
            told = check(value)
        except ValueError as error:
            raise UnitError(f"unit_options: {name}: {value!r} is not {error}") from error
        if place == where:
            lines.append(f"{directive}={told}\n")
    return "".join(sorted(lines))


def sandboxed(options: Mapping[str, Any]) -> bool:
    """Whether units are confined. Raises UnitError."""
    value = options.get("sandbox")
    if value not in (None, True, False):
        raise UnitError(f"unit_options: sandbox: {value!r} is neither true nor false")
    return value is not False


# --- texts -----------------------------------------------------------------------------------------------

_HEAD = "# Written by xen.virtio.backend_launcher; changes are overwritten.\n"

_DISK = """\
[Unit]
Description=Disk %i (guest, device number) of a Xen guest, served by virtio-disk
# a guest may come and go as often as it likes
StartLimitIntervalSec=0
CollectMode=inactive-or-failed

[Service]
Type=notify
NotifyAccess=main
# what the launcher has decided for this disk; without it the view refuses
EnvironmentFile=/run/virtio-disk/%i.env
ExecStart={python} {options} -c "{start}" %i
# view and daemon live and die together; a daemon that is started again deletes its disk
KillMode=mixed
Restart=no
TimeoutStartSec=30
# libxl waits ten seconds for a backend to close
TimeoutStopSec=3
Slice={slice}
{resources}"""

#: A module, so that Python keeps its compiled form: a third less memory for each disk, and half the time to start.
LOAD_VIEW = "import sys; sys.path.append('{library}'); import virtio_disk_view"
_START = f"{LOAD_VIEW}; virtio_disk_view.start()"

#: What neither the disks' units nor the launcher may do.
_RESTRICTED = """\
RestrictAddressFamilies=AF_UNIX
IPAddressDeny=any
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native"""

_DISK_SANDBOX = f"""\

# Confined to what the daemon does. It stays root, to whom /dev/xen and the storage belong, with no more of root's
# rights than opening storage of any owner and locking the buffers of hypercalls in memory.
CapabilityBoundingSet=CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_IPC_LOCK
NoNewPrivileges=yes
# Xen's devices, and any block device: which one is served only the store tells. PrivateDevices would hide them all.
DevicePolicy=closed
DeviceAllow=/dev/xen/xenbus rw
DeviceAllow=/dev/xen/evtchn rw
DeviceAllow=/dev/xen/privcmd rw
DeviceAllow=/dev/xen/gntdev rw
DeviceAllow=/dev/xen/gntalloc rw
DeviceAllow=/dev/xen/hypercall rw
DeviceAllow=block-* rw
# Images lie anywhere, in /home, /tmp or /var too: so only the system's own files are read-only.
ProtectSystem=full
# As ProtectKernelTunables and ProtectControlGroups have it, in a third of the time that systemd takes to set these up.
# For modules and the kernel's log the rights are missing, and the device.
ReadOnlyPaths=/sys -/proc/sys -/proc/sysrq-trigger -/proc/irq -/proc/bus
# The store is a socket or a device. No network; a network namespace for each disk would cost more than it gives.
{_RESTRICTED}
# What @system-service leaves out, and more. Said as what is refused the list has a third of its length, and systemd and
# the kernel read it before each start: with systemd 257 the other way took 14 of 57 ms.
SystemCallFilter=~@clock @cpu-emulation @debug @keyring @module @mount @obsolete @pkey @privileged @raw-io @reboot
SystemCallFilter=~@resources @swap syslog
SystemCallFilter=mlock mlockall munlock munlockall mlock2 setpriority sched_setscheduler sched_setaffinity
SystemCallErrorNumber=EPERM
UMask=0077
"""

_LAUNCHER = """\
[Unit]
Description=Launcher of virtio-disk daemons for Xen guests
# whichever of these the distribution has
After=xenstored.service xen-init-dom0.service proc-xen.mount local-fs.target
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={python} -I -S {archive}
# says in the store that nobody starts daemons, also when it was killed; the daemons go on
ExecStopPost=-{python} -I -S {archive} --stopped
Restart=always
RestartSec=100ms
TimeoutStopSec=10
# the disks' units say here what they are: it outlives the launcher
RuntimeDirectory=virtio-disk
RuntimeDirectoryMode=0755
RuntimeDirectoryPreserve=yes
{resources}"""

_LAUNCHER_SANDBOX = f"""\

# Confined to the store, to systemd, and to looking at storage and processes. CAP_SYS_ADMIN is what systemd asks of
# those who start and stop units; CAP_SYS_PTRACE is for seeing the programs of processes, to find daemons of others.
CapabilityBoundingSet=CAP_SYS_ADMIN CAP_SYS_PTRACE CAP_DAC_READ_SEARCH CAP_DAC_OVERRIDE
NoNewPrivileges=yes
DevicePolicy=closed
DeviceAllow=/dev/xen/xenbus rw
# As the disks' units, so that what is read-only to a daemon is so to the launcher, which looks first.
ProtectSystem=full
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
{_RESTRICTED}
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
UMask=0022
"""

_INSTALL = """\

[Install]
WantedBy=multi-user.target
"""

_SLICE = """\
[Unit]
Description=Daemons that serve disks of Xen guests

[Slice]
{resources}"""

_COMMAND = """\
#!/bin/sh
# Written by xen.virtio.backend_launcher; changes are overwritten.
exec {python} -I -S {archive} "$@"
"""


def view_options(run_dir: str) -> list[str]:
    """Python's options for the view: alone, and with compiled forms kept where units say what they are."""
    return ["-I", "-S", "-X", f"pycache_prefix={run_dir}/code"]


def disk_unit(*, python: str, library: str, options: Mapping[str, Any]) -> str:
    """The template of a disk's unit. Raises UnitError."""
    text = _DISK.format(
        python=_path("python", python),
        options=" ".join(view_options("/run/virtio-disk")),
        start=_START.format(library=_path("lib_dir", library)),
        slice=SLICE,
        resources=resources(options, "disk"),
    )
    return _HEAD + text + (_DISK_SANDBOX if sandboxed(options) else "")


def launcher_unit(*, python: str, library: str, options: Mapping[str, Any]) -> str:
    """The launcher's unit. Raises UnitError."""
    archive = f"{_path('lib_dir', library)}/{ARCHIVE}"
    text = _LAUNCHER.format(
        python=_path("python", python), archive=archive, resources=resources(options, "launcher")
    )
    return _HEAD + text + (_LAUNCHER_SANDBOX if sandboxed(options) else "") + _INSTALL


def slice_unit(options: Mapping[str, Any]) -> str:
    """The slice of all disks' units. Raises UnitError."""
    return _HEAD + _SLICE.format(resources=resources(options, "slice"))


def command(*, python: str, library: str) -> str:
    """The command for people. Raises UnitError."""
    archive = f"{_path('lib_dir', library)}/{ARCHIVE}"
    return _COMMAND.format(python=_path("python", python), archive=archive)


def _path(name: str, value: str) -> str:
    if not re.fullmatch(r"/[A-Za-z0-9._/+@-]+", value):
        raise UnitError(
            f"{name}: {value!r}: a path named in a systemd unit is absolute, of letters, digits and ._/+@-"
        )
    return value.rstrip("/")
