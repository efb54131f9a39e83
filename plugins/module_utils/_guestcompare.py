# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two guests compared by what they mean to xl and libxl."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ._diskspec import DiskSpec, to_mapping
from ._guestdeclare import GuestSpec, short_device, short_disk
from ._guestoptions import DEFAULTS, KINDS
from ._vdev import VdevError, devid
from ._virtio import VirtioDevice, backend_domid
from ._xlcfg import Value, number_of


class OptionChange(NamedTuple):
    """One difference between two guests."""

    option: str  #: a named option, "disks.<vdev>", "disks order", or "extra_config.<key>"
    before: Any  #: as in an inventory; None is "not said"
    after: Any


def _meant(spec: GuestSpec, default_type: str | None) -> dict[str, Any]:
    """The options of ``spec`` with what xl takes where nothing is said."""
    options = {**DEFAULTS, **spec.options}
    if default_type is not None:
        options.setdefault("type", default_type)
    if "memory" in options or "maxmem" in options:
        options.setdefault("memory", options.get("maxmem"))
        options.setdefault("maxmem", options["memory"])
    options.setdefault("vcpus", 1)
    options.setdefault("maxvcpus", options["vcpus"])
    if isinstance(options.get("cpus"), str) and options["cpus"].endswith("all"):
        options["cpus"] = "all"
    options["vif"] = [_meant_vif(index, vif) for index, vif in enumerate(options["vif"])]
    return options


def _meant_vif(index: int, vif: Mapping[str, Any]) -> dict[str, Any]:
    said = {"devid": index, "trusted": True, "backend": "0", **vif}
    said["backend"] = _backend(said["backend"])
    return said


def _backend(backend: str | None) -> str | int:
    return 0 if backend_domid(backend, {}) == 0 else str(backend)


def _meant_disk(spec: DiskSpec) -> dict[str, Any]:
    """A disk as libxl takes it, but for what it looks up on the host."""
    values = to_mapping(spec)
    values["vdev"] = _devid(spec.vdev)
    values["backend"] = _backend(spec.backend)
    values["discard"] = spec.access == "rw" if spec.discard is None else spec.discard
    values["trusted"] = spec.trusted is not False
    values["colo"] = bool(spec.colo)
    if spec.is_virtio:
        values["backendtype"] = "standalone"
        values["grant_usage"] = values["backend"] != 0 if spec.grant_usage is None else spec.grant_usage
    else:
        values["grant_usage"] = None
    return values


def _devid(vdev: str) -> int | str:
    try:
        return devid(vdev)
    except VdevError:
        return vdev


def _meant_device(device: VirtioDevice) -> tuple[Any, ...]:
    backend = _backend(device.backend)
    grants = backend != 0 if device.grant_usage is None else device.grant_usage
    return device.type, backend, device.mmio, grants


def _disk_changes(before: GuestSpec, after: GuestSpec) -> Iterator[OptionChange]:
    old = {_devid(disk.spec.vdev): disk for disk in before.disks}
    new = {_devid(disk.spec.vdev): disk for disk in after.disks}
    for key in dict.fromkeys([*old, *new]):
        ours, theirs = old.get(key), new.get(key)
        if ours and theirs and _meant_disk(ours.spec) == _meant_disk(theirs.spec):
            continue
        named = theirs or ours
        if named:
            yield OptionChange(
                f"disks.{named.spec.vdev}",
                short_disk(ours) if ours else None,
                short_disk(theirs) if theirs else None,
            )
    if [key for key in old if key in new] != [key for key in new if key in old]:
        yield OptionChange(
            "disks order",
            [disk.spec.vdev for disk in before.disks],
            [disk.spec.vdev for disk in after.disks],
        )


def _same_value(one: Value | None, other: Value | None) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(_same_value(a, b) for a, b in zip(one, other))
    if isinstance(one, str) and isinstance(other, str) and one != other:
        return number_of(one) is not None and number_of(one) == number_of(other)
    return one == other


def compare(before: GuestSpec, after: GuestSpec, *, default_type: str | None = None) -> list[OptionChange]:
    """What differs between two guests to xl: not spelling, order of settings, or defaults that were said.

    The order of disks counts. ``default_type`` is what xl takes where ``type`` is left out: "pvh" on Arm,
    "pv" on x86; without it, said and left out differ. ``shared`` is none of xl's business.
    """
    changes = []
    if before.name != after.name:
        changes.append(OptionChange("name", before.name, after.name))
    old, new = _meant(before, default_type), _meant(after, default_type)
    for key in KINDS:
        if old.get(key) != new.get(key):
            if before.options.get(key) == after.options.get(key):
                continue  # it follows from another that differs
            changes.append(OptionChange(key, before.options.get(key), after.options.get(key)))
    changes += _disk_changes(before, after)
    if [_meant_device(device) for device in before.virtio] != [
        _meant_device(device) for device in after.virtio
    ]:
        changes.append(
            OptionChange(
                "virtio",
                [short_device(device) for device in before.virtio],
                [short_device(device) for device in after.virtio],
            )
        )
    for key in dict.fromkeys([*before.extra_config, *after.extra_config]):
        ours, theirs = before.extra_config.get(key), after.extra_config.get(key)
        if not _same_value(ours, theirs):
            changes.append(OptionChange(f"extra_config.{key}", ours, theirs))
    return changes
