# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host is: its Xen, its toolstack, its xenstored, and the domains that serve disks. Never changes a thing.

Each part is asked for by itself, so that a host without xl, or with a xenstored that is down, still gives the rest.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ._dialect import OPTIONS, DialectError, parse_dialect
from ._diskstatus import DEAD, LAUNCHER_NODE, REASON_NODE, STATUS_NODE, plain
from ._layout import STATE_INIT_WAIT
from ._preflight import headroom
from ._protocol import OPS
from ._snapshot import Quota, Snapshot
from ._store import Answer, Request, Store, StoreError, read
from ._survey import USERDATA_DIR, EmptyStoreError, Scope, survey
from ._xl import Xl, XlError

#: What Linux tells of the hypervisor (Documentation/ABI/stable/sysfs-hypervisor-xen).
_SYSFS = "/sys/hypervisor"

#: Seconds for xenhypfs, a handful of hypercalls.
_HYPFS_TIMEOUT = 10.0

#: An xl is well below that many bytes; more is not read.
_PROGRAM_LIMIT = 8 << 20


def gather(
    xl: Xl,
    open_store: Callable[[], Store],
    *,
    userdata: str = USERDATA_DIR,
    sysfs: str = _SYSFS,
    hypfs: str = "xenhypfs",
) -> dict[str, Any]:
    """Everything about the host, as module host_info returns it.

    Args:
        xl: the host's toolstack, present or not.
        open_store: opens a session; may raise StoreError.
        userdata: libxl's folder of domain records.
        sysfs: the kernel's folder about the hypervisor.
        hypfs: the command that reads the hypervisor's own file system.
    """
    told, trouble = _xl_info(xl)
    version = _sysfs_version(sysfs) or _told_version(told)
    store = _read_store(open_store, userdata)
    arch = platform.machine()
    arm = is_arm(arch)
    serving = store.serving() if arm else None
    ioreq = ioreq_support(arch, told.get("xen_caps"), _hypfs_config(hypfs) if arm else None, serving)
    release = None if version is None else version.release
    return {
        "xen": {
            "release": release,
            "version": None if version is None else version.text,
            "arch": arch,
            "toolstack": {
                "name": "xl",
                "present": xl.present,
                "path": xl.command,
                "version": _linked_release(xl.command, release),
                "error": trouble,
            },
            **accepted(release),
            "ioreq": ioreq,
        },
        "memory": {"total": _mebibytes(told, "total_memory"), "free": _mebibytes(told, "free_memory")},
        "daemons": {
            "xenstored": {"reachable": store.error is None, "kind": store.kind, "error": store.error}
        },
        "backends": store.backends(),
    }


# --- the hypervisor and its toolstack ------------------------------------------------------------------


@dataclass(frozen=True)
class _Version:
    release: str  #: MAJOR.MINOR
    text: str  #: with what follows, such as 4.17.6-pre


def _sysfs_version(sysfs: str) -> _Version | None:
    lines = []
    for part in ("major", "minor", "extra"):
        try:
            with open(f"{sysfs}/version/{part}", encoding="utf-8", errors="replace") as file:
                lines.append(file.read(256).strip())
        except OSError:
            lines.append("")
    major, minor, extra = lines
    if not (major.isdigit() and minor.isdigit()):
        return None
    return _Version(f"{int(major)}.{int(minor)}", f"{int(major)}.{int(minor)}{extra}")


def _told_version(told: Mapping[str, str]) -> _Version | None:
    major, minor = told.get("xen_major", ""), told.get("xen_minor", "")
    if not (major.isdigit() and minor.isdigit()):
        return None
    return _Version(f"{major}.{minor}", told.get("xen_version") or f"{major}.{minor}")


def _xl_info(xl: Xl) -> tuple[dict[str, str], str | None]:
    """What ``xl info`` says, and why it says nothing."""
    if not xl.present:
        return {}, None
    try:
        return dict(xl.info()), None
    except XlError as error:
        return {}, str(error)


def _mebibytes(told: Mapping[str, str], name: str) -> int | None:
    value = told.get(name, "")
    return int(value) if value.isdigit() else None


def _linked_release(command: str | None, release: str | None) -> str | None:
    """The release of the libxl that xl is linked with, which its file name carries; None where that cannot be seen."""
    if command is None:
        return None
    # Debian's command is a script that starts the xl of the running hypervisor's release
    for path in (command, f"/usr/lib/xen-{release}/bin/xl"):
        try:
            with open(path, "rb") as file:
                if file.read(4) != b"\x7fELF":
                    continue
                found = re.search(rb"libxenlight\.so\.(\d+\.\d+)", file.read(_PROGRAM_LIMIT))
        except OSError:
            continue
        if found:
            return found[1].decode()
    return None


def accepted(release: str | None) -> dict[str, Any]:
    """Which options a release takes, of those that not all do; unknown (None) where the release is.

    Args:
        release: ``MAJOR.MINOR``, None where the host does not tell.
    """
    if release is None:
        return {"accepts": dict.fromkeys(sorted(OPTIONS)), "note": "the host does not tell its Xen release"}
    try:
        dialect = parse_dialect(release)
    except DialectError as error:
        return {"accepts": dict.fromkeys(sorted(OPTIONS), False), "note": str(error)}
    return {"accepts": {name: dialect.accepts(name) for name in sorted(OPTIONS)}, "note": dialect.note}


# --- IOREQ ---------------------------------------------------------------------------------------------

YES, NO, UNKNOWN = "yes", "no", "unknown"


def is_arm(arch: str) -> bool:
    """Whether ``uname -m`` names a kind of Arm."""
    return arch.startswith(("aarch64", "arm"))


def ioreq_support(
    arch: str, xen_caps: str | None, config: str | None, serving: str | None
) -> dict[str, str | None]:
    """Whether a daemon can serve virtio devices, as far as it can be known from outside.

    Args:
        arch: as ``uname -m`` has it.
        xen_caps: of ``xl info``, None where it is unknown.
        config: the hypervisor's build configuration, None where it was built without it (CONFIG_HYPFS_CONFIG).
        serving: a disk that a daemon serves now, in words; None where there is none.

    Returns:
        ``support`` (``yes``, ``no``, ``unknown``) and ``why``.
    """
    if not is_arm(arch):
        if xen_caps is not None and "hvm" not in xen_caps:
            return {"support": NO, "why": "this Xen or processor runs no HVM or PVH guests"}
        return {"support": YES, "why": "part of every Xen for x86 that runs HVM or PVH guests"}
    if config is not None:
        built = re.search(r"(?m)^CONFIG_IOREQ_SERVER=y$", config) is not None
        return {
            "support": YES if built else NO,
            "why": f"the hypervisor was built {'with' if built else 'without'} CONFIG_IOREQ_SERVER",
        }
    if serving is not None:
        return {"support": YES, "why": f"{serving} is attached, which needs it"}
    return {
        "support": UNKNOWN,
        "why": "this hypervisor does not tell its build configuration (xenhypfs cat /buildinfo/config), and no "
        "virtio disk is attached; it needs CONFIG_EXPERT and CONFIG_IOREQ_SERVER",
    }


def _hypfs_config(command: str) -> str | None:
    """The hypervisor's own .config (docs/misc/hypfs-paths.pandoc), None where it is not there."""
    found = shutil.which(command, path=f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin")
    if found is None:
        return None
    try:
        # run_command has no deadline, and the core no AnsibleModule
        done = subprocess.run(  # pylint: disable=unknown-option-value,ansible-bad-function
            [found, "cat", "/buildinfo/config"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_HYPFS_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    text = done.stdout.decode("utf-8", "replace")
    return text if done.returncode == 0 and "CONFIG_" in text else None


# --- the store and the domains that serve disks --------------------------------------------------------


@dataclass(frozen=True)
class _StoreView:
    """What xenstored said, or why it said nothing."""

    snapshot: Snapshot | None = None
    kind: str | None = None
    status: Mapping[int, str] | None = None
    error: str | None = None

    def serving(self) -> str | None:
        """A disk in use, in words."""
        for (domid, _devid), live in sorted(self.snapshot.disks.items() if self.snapshot else ()):
            if self.snapshot and self.snapshot.domain(domid).alive and live.state == STATE_INIT_WAIT:
                name = live.record.nodes.get("dev", str(live.devid)) if live.record else str(live.devid)
                return f"disk {name} of {self.snapshot.domain(domid).label}"
        return None

    def backends(self) -> list[dict[str, Any]]:
        """dom0, and every domain that serves disks or whose daemon has ever reported."""
        if self.snapshot is None:
            return []
        snapshot, status = self.snapshot, self.status or {}
        disks: dict[int, set[tuple[int, int]]] = defaultdict(set)
        for key, live in snapshot.disks.items():
            for backend in live.backends:
                disks[backend].add(key)
        shown = {0, *disks, *status, *snapshot.launchers}
        found = []
        for domid in sorted(shown & set(snapshot.domains)):
            domain = snapshot.domains[domid]
            held = disks.get(domid, set())
            quota = snapshot.quotas.get(domid)
            found.append(
                {
                    "domain": domain.label,
                    "domid": domid,
                    "alive": domain.alive,
                    "status": status.get(domid),
                    "reason": snapshot.reasons.get(domid) if status.get(domid) == DEAD else None,
                    "launcher": snapshot.launchers.get(domid),
                    "guests": len({guest for guest, _devid in held}),
                    "disks": len(held),
                    "quota": None if quota is None else _quota(quota),
                    "headroom": None
                    if quota is None
                    else headroom(quota, len(held), launcher=domid in snapshot.launchers),
                }
            )
        return found


def _quota(quota: Quota) -> dict[str, Any]:
    return {
        "nodes": quota.nodes,
        "used_nodes": quota.used_nodes,
        "watches": quota.watches,
        "used_watches": quota.used_watches,
        "assumed": quota.assumed,
    }


def _read_store(open_store: Callable[[], Store], userdata: str) -> _StoreView:
    try:
        with open_store() as store:
            kind = daemon_kind(
                *store.call([Request(OPS["CONTROL"], b"help\0", "help"), read("/tool/xenstored")])
            )
            try:
                snapshot = survey(
                    store, lambda _domains: Scope(None), userdata=userdata, quotas=True, permissions=False
                )
            except EmptyStoreError as error:
                return _StoreView(kind=kind, error=str(error))
            domids = sorted(snapshot.domains)
            # launchers again: a survey looks for them only where there are disks
            status, launchers, reasons = (
                _values(store, {domid: f"/local/domain/{domid}/{node}" for domid in domids})
                for node in (STATUS_NODE, LAUNCHER_NODE, REASON_NODE)
            )
    except StoreError as error:
        return _StoreView(error=str(error))
    shown = {domid: plain(reason) for domid, reason in reasons.items()}
    return _StoreView(replace(snapshot, launchers=launchers, reasons=shown), kind, status)


def _values(store: Store, paths: Mapping[int, str]) -> dict[int, str]:
    """What stands in nodes; those that are missing or empty are left out."""
    answers = store.call([read(path) for path in paths.values()])
    return {domid: _value(answer) for domid, answer in zip(paths, answers) if _value(answer)}


def _value(answer: Answer) -> str:
    return answer.decode("utf-8", "surrogateescape") if isinstance(answer, bytes) else ""


def daemon_kind(helped: Answer, program: Answer) -> str | None:
    """Which daemon answers: ``xenstored``, ``oxenstored``, None where it does not show.

    Args:
        helped: the answer to the control message ``help``: C xenstored lists its commands
            (tools/xenstored/control.c), oxenstored knows none (tools/ocaml/xenstored/process.ml).
        program: the node ``/tool/xenstored``, where oxenstored puts its own path.
    """
    if "live-update" in _value(helped) or "memreport" in _value(helped):
        return "xenstored"
    if _value(program).rstrip("\0").endswith("oxenstored"):
        return "oxenstored"
    return None
