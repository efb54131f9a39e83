# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest ↔ its xl configuration: all of it in one place, and the writing.

Declared by an inventory in _guestdeclare, read in _guestread, compared in _guestcompare.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ._dialect import RELEASES, Dialect
from ._diskspec import Declared, DiskSpecError, release_violations, render
from ._guestcompare import OptionChange, compare
from ._guestdeclare import (
    OURS,
    Blame,
    GuestError,
    GuestSpec,
    as_mapping,
    declare_guest,
    split_guest,
    stored_name,
)
from ._guestoptions import FILES, KINDS, SINCE, VALUES_SINCE
from ._guestread import read_guest
from ._virtio import VirtioDevice
from ._xlcfg import ConfigError, render_config

__all__ = [
    "OURS",
    "GuestError",
    "GuestSpec",
    "OptionChange",
    "as_mapping",
    "compare",
    "config_violations",
    "declare_guest",
    "option_release_violations",
    "read_guest",
    "render_guest",
    "split_guest",
    "stored_name",
]


def _device_text(device: VirtioDevice) -> str:
    words = [f"type={device.type}"]
    if device.mmio:
        words.append("transport=mmio")
    if device.backend is not None:
        words.append(f"backend={device.backend}")
    if device.grant_usage is not None:
        words.append(f"grant_usage={int(device.grant_usage)}")
    return ",".join(words)


def render_guest(spec: GuestSpec, dialect: Dialect) -> str:
    """The text of the configuration that ``dialect``'s xl reads as ``spec``.

    Raises GuestError for what that release has no words for, and where a file of FILES is no path yet.
    """
    blame = Blame(spec.name)
    for option, sentence in option_release_violations(spec, dialect):
        raise GuestError(f"guest {spec.name}: {sentence}", option=option)
    settings: dict[str, Any] = {"name": spec.name}
    for key, value in spec.options.items():
        if isinstance(value, Mapping) and key in FILES:
            blame.refuse(key, f"{value['src']} is not stored on the host yet: a configuration needs its path")
        settings[key] = KINDS[key].render(value)
    if spec.disks:
        settings["disk"] = [_disk_text(blame, disk, dialect) for disk in spec.disks]
    if spec.virtio:
        settings["virtio"] = [_device_text(device) for device in spec.virtio]
    try:
        return render_config({**settings, **spec.extra_config})
    except ConfigError as error:
        blame.refuse(error.key or "extra_config", error)


def _disk_text(blame: Blame, disk: Declared, dialect: Dialect) -> str:
    spec = disk.spec if disk.spec.is_virtio else replace(disk.spec, specification=None)
    try:
        return render(spec, dialect)
    except DiskSpecError as error:
        blame.refuse("disks", f"disk {disk.spec.vdev}: {error}")


def _knows(dialect: Dialect, release: str) -> bool:
    return dialect.name in RELEASES and RELEASES.index(dialect.name) >= RELEASES.index(release)


def option_release_violations(spec: GuestSpec, dialect: Dialect) -> list[tuple[str, str]]:
    """What ``spec`` says and ``dialect``'s xl does not know: the option, and a sentence with its name.

    xl would not complain: it reads past a setting it does not know, and the guest would run without it.
    """
    said: dict[str, Any] = {**spec.options, **({"virtio": True} if spec.virtio else {})}
    found = [
        (key, f"{key} is accepted by Xen {SINCE[key]} and newer, not by {dialect}")
        for key in [*said, *spec.extra_config]
        if key in SINCE and not _knows(dialect, SINCE[key])
    ]
    for (key, value), release in VALUES_SINCE.items():
        if said.get(key) == value and not _knows(dialect, release):
            found.append((key, f"{key} {value} is accepted by Xen {release} and newer, not by {dialect}"))
    for disk in spec.disks:
        for sentence in release_violations(disk.spec, dialect):
            found.append(("disks", f"disk {disk.spec.vdev}: {sentence}"))
    return found


def config_violations(spec: GuestSpec) -> list[tuple[str, str]]:
    """Why xl would refuse a configuration of ``spec``, or do what nobody means: the option, and a sentence."""
    said = spec.options
    found = []
    if said.get("type") != "hvm":
        if not any(key in said for key in ("kernel", "bootloader", "firmware")):
            found.append(("kernel", "neither kernel nor bootloader nor firmware is given"))
        if "kernel" in said and "firmware" in said:
            found.append(("firmware", "kernel and firmware exclude each other"))
        if said.get("firmware", "pvgrub64") not in ("pvgrub32", "pvgrub64"):
            found.append(("firmware", f"firmware {said['firmware']} is for hvm guests alone"))
    if said.get("maxvcpus", said.get("vcpus", 1)) < said.get("vcpus", 1):
        found.append(("maxvcpus", f"maxvcpus {said['maxvcpus']} is less than vcpus {said.get('vcpus', 1)}"))
    if said.get("maxmem", said.get("memory", 0)) < said.get("memory", 0):
        found.append(("maxmem", f"maxmem {said['maxmem']} is less than memory {said['memory']}"))
    for key in FILES:
        if isinstance(said.get(key), str) and not said[key].startswith("/"):
            found.append((key, f"{key} {said[key]} is relative to wherever xl is run"))
    return found
