# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the inventory plugin runs on each dom0: everything about its domains as one line of JSON. Never changes a thing.

It comes in through standard input, as an archive that is never written to the host, and leaves nothing behind.
"""

from __future__ import annotations

from ._zipped import compile_once

compile_once()

import json
import os
import platform
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from types import FrameType
from typing import Any

from ._dialect import DialectError
from ._guest_info import gather
from ._snapshot import ResolveError
from ._store import Answer, Store, StoreError, directory, get_perms, read
from ._survey import EmptyStoreError
from ._xl import AskedOnce, Xl, XlError, host_release

#: Begins the line; a login's greeting may come before it.
MARK = "xen.virtio.domains:"

#: Of a node's value, which a guest may have written; xenstored takes 4096 bytes.
_VALUE_LIMIT = 1024
_VIFS = 64
_VIF_NODES = ("mac", "ip", "bridge", "script")

#: What the options may name, with what holds where they do not.
_PLACES = {"userdata": "/var/lib/xen", "config_dir": "/etc/xen", "state_dir": "/var/lib/xen-virtio"}


class ReadTimeoutError(RuntimeError):
    """All of it took too long."""


def read_host(options: Mapping[str, Any]) -> dict[str, Any]:
    """All that is told of a host.

    Args:
        options: ``socket``, ``xl_path``, ``xen`` and the places of `gather`, ``timeout`` in seconds for each of store
            and xl, ``xenstore`` (nodes below each domain's own, such as ``attr/vif/0/ipv4/0``), ``configs``.

    Raises:
        StoreError, EmptyStoreError, DialectError, ResolveError, OSError: as `gather`.
    """
    timeout = float(options.get("timeout") or 10)
    xl = AskedOnce(options.get("xl_path") or "xl", timeout=timeout)
    places: dict[str, Any] = {name: options.get(name) or usual for name, usual in _PLACES.items()}
    with Store(options.get("socket"), timeout=timeout) as store:
        found = gather(
            store, xl, configs=bool(options.get("configs")), xen=options.get("xen") or None, **places
        )
        domids = [guest["domid"] for guest in found.guests if guest["domid"] is not None]
        recorded, vifs = _devices(store, domids)
        nodes = _nodes(store, domids, options.get("xenstore") or ())
    drivers = _driver_domains(xl)
    guests = []
    for guest in found.guests:
        domid = guest["domid"]
        guests.append(
            {
                **guest,
                **{key: _declared(guest[key]) for key in ("config", "created_from")},
                "disks": [
                    {**disk, "recorded": disk["specification"] == "xen" or (domid, disk["devid"]) in recorded}
                    for disk in guest["disks"]
                ],
                "vifs": vifs.get(domid, []),
                "nodes": nodes.get(domid, {}),
                "driver_domain": domid in drivers,
            }
        )
    configs = [
        {"name": one["name"], "domid": one["domid"], "autostart": one["autostart"], "config": _declared(one)}
        for one in found.configs
    ]
    return {"host": _host(xl), "guests": guests, "configs": configs, "warnings": found.warnings}


def _declared(config: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if config is None else config["declaration"]


def _host(xl: Xl) -> dict[str, Any]:
    told: dict[str, str] = {}
    if xl.present:
        try:
            told = xl.info()
        except XlError:
            told = {}  # the warnings name xl already
    return {
        "release": host_release(xl),
        "version": told.get("xen_version"),
        "arch": platform.machine(),
        "toolstack": "xl" if xl.present else None,
        "cpus": _number(told.get("nr_cpus")),
        "memory": _number(told.get("total_memory")),
        "memory_free": _number(told.get("free_memory")),
    }


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() and len(text) < 16 else None


def _driver_domains(xl: Xl) -> set[int]:
    """Domains that were created with ``driver_domain = 1``, which libxl's record has in c_info."""
    if not xl.present:
        return set()
    try:
        records = xl.records()
    except XlError:
        return set()
    return {
        domid
        for domid, record in records.items()
        if isinstance(record.get("c_info"), dict) and record["c_info"].get("driver_domain") in (True, "True")
    }


# --- the store -----------------------------------------------------------------------------------------


def _devices(store: Store, domids: list[int]) -> tuple[set[tuple[int, int]], dict[int, list[dict[str, Any]]]]:
    """Which virtio disks dom0 has a record of, and the network interfaces by those records."""
    kinds = ("virtio_disk", "vif")
    tops = [f"/libxl/{domid}/device/{kind}" for domid in domids for kind in kinds]
    listed = [_names(answer) for answer in store.call([directory(top) for top in tops])]
    recorded = {(domid, devid) for domid, devids in zip(domids, listed[::2]) for devid in devids}
    pairs = [(domid, devid) for domid, devids in zip(domids, listed[1::2]) for devid in devids[:_VIFS]]
    paths = [f"/libxl/{domid}/device/vif/{devid}/{node}" for domid, devid in pairs for node in _VIF_NODES]
    answers = iter(store.call([read(path) for path in paths]))
    vifs: dict[int, list[dict[str, Any]]] = {}
    for domid, devid in pairs:
        values = {node: _value(next(answers, b"")) for node in _VIF_NODES}
        vifs.setdefault(domid, []).append({"devid": devid, **values})
    return recorded, vifs


def _names(answer: Answer) -> list[int]:
    text = answer.decode("latin-1") if isinstance(answer, bytes) else ""
    return sorted(int(name) for name in text.split("\0") if name.isascii() and name.isdigit())


def _value(answer: Answer) -> str | None:
    return answer[:_VALUE_LIMIT].decode("utf-8", "surrogateescape") if isinstance(answer, bytes) else None


def _nodes(store: Store, domids: list[int], wanted: Sequence[str]) -> dict[int, dict[str, dict[str, Any]]]:
    """Nodes below each domain's own, each with whether dom0 alone can have written it."""
    asked = [(domid, name) for domid in domids for name in wanted]
    paths = [f"/local/domain/{domid}/{name}" for domid, name in asked]
    answers = store.call([request for path in paths for request in (read(path), get_perms(path))])
    found: dict[int, dict[str, dict[str, Any]]] = {}
    for (domid, name), value, perms in zip(asked, answers[::2], answers[1::2]):
        told = _value(value)
        if told is not None:
            found.setdefault(domid, {})[name] = {"value": told, "trusted": _only_dom0_writes(perms)}
    return found


def _only_dom0_writes(perms: Answer) -> bool:
    """By a node's permissions: the owner first, whose letter is what all others may (docs/misc/xenstore.txt)."""
    entries = perms.decode("latin-1").rstrip("\0").split("\0") if isinstance(perms, bytes) else []
    return bool(entries) and entries[0] in ("n0", "r0") and all(entry[:1] in "nr" for entry in entries[1:])


# --- in and out ----------------------------------------------------------------------------------------


def main(arguments: list[str]) -> int:
    """Read, and print; ``arguments`` is the options as JSON."""
    options = json.loads(arguments[0])
    limit = float(options.get("limit") or 0)
    try:
        if limit > 0:
            signal.signal(signal.SIGALRM, _too_late)
            signal.setitimer(signal.ITIMER_REAL, limit)
        told = read_host(options)
    except (StoreError, EmptyStoreError, DialectError, ResolveError) as error:
        told = {"error": str(error)}
    except ReadTimeoutError:
        told = {"error": f"reading the host took longer than {limit:g} s"}
    except OSError as error:
        told = {"error": f"{error.filename or 'reading the host'}: {error.strerror or error}"}
    signal.setitimer(signal.ITIMER_REAL, 0)
    sys.stdout.write(f"\n{MARK}{json.dumps(told, default=_plain)}\n")
    sys.stdout.flush()
    return 0


def _too_late(_signal: int, _frame: FrameType | None) -> None:
    raise ReadTimeoutError


def _plain(value: object) -> object:
    """What JSON does not know: mappings and lists of other kinds."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Iterable):
        return list(value)
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)
