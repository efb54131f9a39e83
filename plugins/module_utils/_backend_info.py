# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at a host that serves virtio disks. Never changes a thing.

Each part is looked at by itself, so that a host without a store, or without /proc/config.gz, still gives the rest.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from . import _daemons, _sysfiles
from ._backend_rules import DEVICES, OPTIONS, Facts, Unit
from ._kernel import kernel_options, privcmd_restricted
from ._served import ServedDisk
from ._store import Node, Store, StoreError

BACKEND = "backend/virtio_disk"
STATUS = "drivers/virtio-disk"

#: What a disk's unit is started from.
VIEW, DISK_UNIT = "virtio_disk_view.py", "virtio-disk@.service"

#: What a unit's own file may hold.
_RECORD_LIMIT = 64 << 10


def gather(
    open_store: Callable[[], Store],
    *,
    names: Iterable[str] = (),
    run_dir: str = "/run/virtio-disk",
    config_dir: str = "/etc/xen-virtio",
    lib_dir: str = "/usr/local/lib/xen-virtio",
    unit_dir: str = "/etc/systemd/system",
    root: str = "",
) -> Facts:
    """Look at this host.

    Args:
        open_store: opens a session; may raise StoreError.
        names: what daemons are called beside virtio-disk.
        run_dir: where units say what they are.
        config_dir: where the launcher's settings lie.
        lib_dir: where the view lies.
        unit_dir: where the units lie.
        root: before every other path of the host's, for another root than ``/``.
    """
    kernel = os.uname().release
    config, options = kernel_options(kernel, OPTIONS, root)
    told = read_store(open_store)
    settings, trouble = _settings(f"{config_dir}/backend.json")
    restricted, why = privcmd_restricted(told.get("domid"), kernel, root)
    proc = f"{root}/proc"
    return Facts(
        init=init_system(root),
        devices=_devices_found(root),
        kernel=kernel,
        config=config,
        options=options,
        restricted=restricted,
        restricted_why=why,
        daemons=_daemons.find(names, proc),
        units=running_units(run_dir, proc),
        launcher_pid=_launcher_pid(proc),
        unit_processes=_unit_processes(proc),
        settings=settings,
        settings_error=trouble,
        current=_program(settings),
        written=_written([f"{lib_dir}/{VIEW}", f"{unit_dir}/{DISK_UNIT}"]),
        now=time.time(),
        **told,
    )


def init_system(root: str = "") -> str:
    """What runs this host's services: ``systemd``, ``openrc``, ``sysvinit``, ``unknown``."""
    if os.path.isdir(f"{root}/run/systemd/system"):  # sd_booted(3)
        return "systemd"
    if os.path.isdir(f"{root}/run/openrc"):
        return "openrc"
    if os.path.exists(f"{root}/etc/inittab") or os.path.isdir(f"{root}/etc/rcS.d"):
        return "sysvinit"
    return "unknown"


def _devices_found(root: str) -> dict[str, str]:
    found = {}
    for device in DEVICES:
        with contextlib.suppress(OSError):
            mode = os.stat(f"{root}{device.path}").st_mode
            found[device.path] = (
                "device" if stat.S_ISCHR(mode) else "socket" if stat.S_ISSOCK(mode) else "other"
            )
    return found


# --- the store -------------------------------------------------------------------------------------------


def read_store(open_store: Callable[[], Store]) -> dict[str, Any]:
    """What the store says of this domain, as keywords of `Facts`."""
    try:
        with open_store() as store:
            own = store.read("domid")
            if own is None or not own.isdigit():
                return {
                    "store": store.path,
                    "store_error": f"{store.path} answers, and does not know this domain",
                }
            domid = int(own)
            home = f"/local/domain/{domid}"
            denied: dict[str, StoreError] = {}
            tree = store.read_trees([home], perms=True, denied=denied)
            names = _guest_names(store, {guest for guest, _devid in _addresses(tree, home)})
            return {
                "store": store.path,
                "domid": domid,
                "disks": _disks(tree, home, names),
                "used_nodes": sum(
                    1 for node in tree.values() if node.perms and node.perms[0][1:] == str(domid)
                ),
                "launcher": {
                    name: _value(tree.get(f"{home}/{STATUS}/{name}"))
                    for name in ("status", "launcher", "reason")
                    if f"{home}/{STATUS}/{name}" in tree
                },
            }
    except StoreError as error:
        return {"store_error": str(error)}


def _addresses(tree: Mapping[str, Node], home: str) -> list[tuple[int, int]]:
    shape = re.compile(re.escape(f"{home}/{BACKEND}") + r"/(\d{1,5})/(\d{1,10})")
    found = (shape.fullmatch(path) for path in tree)
    return [(int(match[1]), int(match[2])) for match in found if match]


def _disks(tree: Mapping[str, Node], home: str, names: Mapping[int, str]) -> list[ServedDisk]:
    found = []
    for domid, devid in _addresses(tree, home):
        path = f"{home}/{BACKEND}/{domid}/{devid}"
        target = _value(tree.get(f"{path}/params"))
        found.append(
            ServedDisk(
                domid=domid,
                devid=devid,
                state=_value(tree.get(f"{path}/state")),
                storage=_daemons.identity_of(target) if os.path.isabs(target) else None,
                domain=names.get(domid),
                target=target,
            )
        )
    return found


def _guest_names(store: Store, domids: Iterable[int]) -> dict[int, str]:
    """Names of guests, where this domain may read them and dom0 owns the node."""
    found = {}
    for domid in sorted(domids):
        path = f"/local/domain/{domid}/name"
        with contextlib.suppress(StoreError):
            perms, name = store.get_perms(path), store.read(path)
            if perms and perms[0][1:] == "0" and name:
                found[domid] = name.decode("utf-8", "backslashreplace")
    return found


def _value(node: Node | None) -> str:
    return "" if node is None else node.value.decode("utf-8", "backslashreplace")


# --- what is installed, and what runs --------------------------------------------------------------------


def _settings(path: str) -> tuple[dict[str, Any] | None, str | None]:
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except FileNotFoundError:
        return None, None
    except (OSError, ValueError) as error:
        return None, f"{path}: {error}"
    if not isinstance(found, dict) or not isinstance(found.get("daemon"), str):
        return None, f"{path} names no daemon"
    return found, None


def _program(settings: Mapping[str, Any] | None) -> str | None:
    if settings is None:
        return None
    path = os.path.realpath(settings["daemon"])
    return path if os.path.isfile(path) and os.access(path, os.X_OK) else None


def running_units(folder: str, proc: str = "/proc") -> list[Unit]:
    """The units that run, by what they say of themselves.

    One that ended without removing its file is told by its process: that is not in the unit any more. The lock
    beside the file is not tried, which could keep a unit from starting in that very moment.
    """
    found = []
    for name in _sysfiles.entries(folder):
        match = re.fullmatch(r"(\d{1,5})-(\d{1,10})\.json", name)
        if match is None:
            continue
        record = _record(f"{folder}/{name}")
        key = int(match[1]), int(match[2])
        view = _number(record.get("view_pid"))
        if view is not None and _in_unit(proc, view, key):
            found.append(
                Unit(
                    *key,
                    version=_words(record.get("version")),
                    daemon=_words(record.get("daemon")),
                    pid=_number(record.get("daemon_pid")),
                    view_pid=view,
                    target=_words(record.get("target")),
                    mode=_words(record.get("mode")),
                    size=_number(record.get("size")),
                    since=_started(proc, view),
                    **_decided(f"{folder}/{key[0]}-{key[1]}.env"),
                )
            )
    return sorted(found, key=_address)


def _decided(path: str) -> dict[str, Any]:
    """What the launcher decided for a unit: lines of ``NAME="value"``."""
    said = dict(re.findall(r'(?m)^([A-Z_]+)="(.*)"$', _sysfiles.text(path)))
    view, arguments = said.get("VIEW"), said.get("ARGUMENTS")
    return {"view": None if view is None else view == "1", "arguments": arguments}


def _started(proc: str, pid: int) -> float | None:
    """When a process was started, by the clock as it is now; that may have been set since."""
    try:
        ticks = int(_sysfiles.text(f"{proc}/{pid}/stat").rpartition(")")[2].split()[19])
    except (ValueError, IndexError):
        return None
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return booted + ticks / os.sysconf("SC_CLK_TCK")


def _written(paths: Iterable[str]) -> dict[str, float]:
    """When files were put where they are."""
    found = {}
    for path in paths:
        with contextlib.suppress(OSError):
            found[path] = os.stat(path).st_ctime
    return found


def _address(unit: Unit) -> tuple[int, int]:
    return unit.domid, unit.devid


def _record(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            found = json.loads(file.read(_RECORD_LIMIT))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _in_unit(proc: str, pid: int, key: tuple[int, int]) -> bool:
    match = _daemons.UNIT.fullmatch(_daemons.unit_of(_sysfiles.text(f"{proc}/{pid}/cgroup")) or "")
    return match is not None and (int(match[1]), int(match[2])) == key


def _launcher_pid(proc: str) -> int | None:
    for name in sorted((entry for entry in _sysfiles.entries(proc) if entry.isdigit()), key=int):
        if _daemons.unit_of(_sysfiles.text(f"{proc}/{name}/cgroup")) == "virtio-disk-launcher.service":
            return int(name)
    return None


def _unit_processes(proc: str) -> frozenset[tuple[int, int]]:
    """The disks' units in which any process is, whether or not it has said what it is yet, or still."""
    found = set()
    for name in _sysfiles.entries(proc):
        if name.isdigit():
            unit = _daemons.unit_of(_sysfiles.text(f"{proc}/{name}/cgroup"))
            match = _daemons.UNIT.fullmatch(unit or "")
            if match is not None:
                found.add((int(match[1]), int(match[2])))
    return frozenset(found)


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _words(value: Any) -> str | None:
    return value if isinstance(value, str) else None
