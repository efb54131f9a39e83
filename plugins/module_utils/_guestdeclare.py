# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest as an inventory declares it, in one form; and that form as short as an inventory says it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from ._diskspec import Declared, DiskSpec, DiskSpecError, declare, from_mapping, to_mapping
from ._guestkinds import OptionError, digest
from ._guestoptions import KINDS, OPTIONS, OTHERS, STOOD_FOR
from ._virtio import VirtioDevice, VirtioError, parse_virtio
from ._xlcfg import ConfigError, Value, render_config, value_of

#: Keys of a guest in an inventory that are no configuration of xl's.
OURS: tuple[str, ...] = (
    "state",
    "autostart",
    "path",
    "content",
    "recreate",
    "force_destroy",
    "allow_reorder",
)


class GuestError(ValueError):
    """A guest that cannot be declared, read or written; names the guest and, in ``option``, what to blame."""

    def __init__(self, text: str, *, option: str | None = None) -> None:
        super().__init__(text)
        self.option = option


@dataclass(frozen=True)
class GuestSpec:
    """A guest's configuration in one form, with what was said and nothing else.

    ``options`` holds the named options but ``name``, in their normal form (_guestoptions). A disk's
    specification is said ("xen", not None).
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    disks: tuple[Declared, ...] = ()
    virtio: tuple[VirtioDevice, ...] = ()
    extra_config: Mapping[str, Value] = field(default_factory=dict)


def split_guest(mapping: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A guest of an inventory as its configuration and as what is ours (OURS)."""
    config = {key: value for key, value in mapping.items() if key not in OURS}
    return config, {key: mapping[key] for key in OURS if key in mapping}


def stored_name(source: str, checksum: str) -> str:
    """The file name under which a file with this content is stored: a part of its own name, of its checksum.

    ``checksum`` is the SHA-256 of its content in hexadecimal, with or without "sha256:". Raises GuestError.
    """
    try:
        part = digest(checksum)[:12]
    except OptionError as error:
        raise GuestError(f"checksum {error}") from None
    base = re.sub(r"[^A-Za-z0-9._+-]", "_", source.rstrip("/").rpartition("/")[2]).lstrip(".-") or "file"
    return f"{base[:200]}-{part}"


class Blame:
    """Raises GuestError with the guest's name before each sentence."""

    def __init__(self, name: object) -> None:
        self._guest = f"guest {name}" if isinstance(name, str) and name else "a guest"

    def refuse(self, option: str, sentence: object) -> NoReturn:
        raise GuestError(f"{self._guest}: {option}: {sentence}", option=option) from None


def _unknown(blame: Blame, key: object) -> NoReturn:
    if not isinstance(key, str):
        blame.refuse(str(key), "the name of an option is text")
    if key == "disk":
        blame.refuse(key, "is called disks here")
    if key == "builder":
        blame.refuse(key, "is an old name; write type: hvm, or type: pv for generic")
    near = difflib.get_close_matches(key.lower().replace("-", "_"), [*OPTIONS, *OURS], 1, 0.75)
    hint = f"did you mean {near[0]}?" if near else "what has no option of its own goes into extra_config"
    blame.refuse(key, f"no such option of a guest; {hint}")


def one_disk(disk: Declared) -> Declared:
    """``disk`` in its normal form: its specification said, nothing noted about its spelling."""
    spec = disk.spec if disk.spec.specification else replace(disk.spec, specification="xen")
    return replace(disk, spec=spec, notes=())


def _declared_disks(blame: Blame, disks: object) -> tuple[Declared, ...]:
    if isinstance(disks, (str, Mapping)) or not isinstance(disks, Sequence):
        blame.refuse("disks", f"must be a list, not {disks!r}")
    declared = []
    for disk in disks:
        try:
            one = declare(disk)
        except DiskSpecError as error:
            blame.refuse("disks", error)
        for key in ("base", "irq"):
            if getattr(one, key) is not None:
                blame.refuse("disks", f"disk {one.spec.vdev}: {key} is given out by xl, leave it out")
        declared.append(one_disk(one))
    return tuple(declared)


def _declared_virtio(blame: Blame, entries: object) -> tuple[VirtioDevice, ...]:
    if isinstance(entries, (str, Mapping)) or not isinstance(entries, Sequence):
        blame.refuse("virtio", f"must be a list, not {entries!r}")
    devices = []
    for entry in entries:
        if isinstance(entry, str) and re.match(r"(?:virtio,)?device[0-9a-f]*\Z", entry, re.ASCII):
            entry = {"type": entry}  # noqa: PLW2901
        if isinstance(entry, Mapping) and str(entry.get("type")).startswith("device"):
            entry = {**entry, "type": f"virtio,{entry['type']}"}  # noqa: PLW2901
        try:
            device = parse_virtio(entry)
            value_of("backend", device.backend or "")
        except (VirtioError, ConfigError) as error:
            blame.refuse("virtio", error)
        if device.backend is not None and "," in device.backend:
            blame.refuse("virtio", f"backend {device.backend!r} holds a comma, which xl cannot read")
        devices.append(device)
    return tuple(devices)


def _declared_extra(blame: Blame, extra: object) -> dict[str, Value]:
    if not isinstance(extra, Mapping):
        blame.refuse("extra_config", f"must be a mapping, not {extra!r}")
    settings = {}
    for key, value in extra.items():
        named = STOOD_FOR.get(key, key if key in OPTIONS else None)
        if named is not None:
            blame.refuse("extra_config", f"{key} has an option of its own, {named}: use that")
        if value is None:
            continue
        try:
            render_config({key: value})
            settings[key] = value_of(key, value)
        except ConfigError as error:
            blame.refuse("extra_config", error)
    return settings


def command_line(said: Mapping[str, str]) -> str | None:
    """What xl makes of cmdline, root and extra (parse_cmdline)."""
    if "cmdline" in said:
        return said["cmdline"]
    if "root" in said:
        root = f"root={said['root']}"
        return f"{root} {said['extra']}" if "extra" in said else root
    return said.get("extra")


def in_order(options: Mapping[str, Any]) -> dict[str, Any]:
    """Named options in the order in which they are written."""
    return {key: options[key] for key in KINDS if key in options}


def declare_guest(mapping: Mapping[str, Any]) -> GuestSpec:
    """A guest from its form in an inventory, without the keys in OURS (split_guest takes those away).

    An option that is missing or null is not said. ``root`` and ``extra`` become ``cmdline`` as xl joins
    them. Raises GuestError.
    """
    if not isinstance(mapping, Mapping):
        raise GuestError(f"a guest is a mapping, not {type(mapping).__name__}: {mapping!r}")
    blame = Blame(mapping.get("name"))
    options: dict[str, Any] = {}
    lines: dict[str, str] = {}
    for key, value in mapping.items():
        if key not in KINDS and key not in OTHERS:
            _unknown(blame, key)
        if value is None or key in ("disks", "virtio", "extra_config"):
            continue
        try:
            if key in ("cmdline", "root", "extra"):
                lines[key] = KINDS["cmdline"].declare(value)
            else:
                options[key] = KINDS[key].declare(value)
        except OptionError as error:
            blame.refuse(key, error)
    if "cmdline" in lines and len(lines) > 1:
        blame.refuse("cmdline", "says it all: xl would ignore root and extra beside it")
    cmdline = command_line(lines)
    if cmdline is not None:
        options["cmdline"] = cmdline
    if "name" not in options:
        raise GuestError(f"a guest without a name: {dict(mapping)!r}", option="name")
    name = options.pop("name")
    return GuestSpec(
        name,
        in_order(options),
        _declared_disks(blame, _said(mapping, "disks", ())),
        _declared_virtio(blame, _said(mapping, "virtio", ())),
        _declared_extra(blame, _said(mapping, "extra_config", {})),
    )


def _said(mapping: Mapping[str, Any], key: str, otherwise: Any) -> Any:
    return otherwise if mapping.get(key) is None else mapping[key]


_PLAIN_DISK: dict[str, Any] = to_mapping(DiskSpec(vdev=""))


def short_disk(disk: Declared) -> dict[str, Any]:
    """``disk`` as the shortest mapping that means it."""
    said = {key: value for key, value in to_mapping(disk.spec).items() if value != _PLAIN_DISK[key]}
    said["vdev"] = disk.spec.vdev
    if said.get("specification") == "virtio":
        del said["specification"]
    if disk.spec.cdrom:
        said = {key: value for key, value in said.items() if key not in ("cdrom", "removable")}
        said["devtype"] = "cdrom"
    for key, value in (("shared", disk.shared), ("base", disk.base), ("irq", disk.irq)):
        if value:
            said[key] = value
    full = {**to_mapping(disk.spec), "shared": disk.shared, "base": disk.base, "irq": disk.irq}
    for key in ("access", "format"):
        shorter = {word: value for word, value in said.items() if word != key}
        if _same_disk(shorter, disk):
            said = shorter
    return said if _same_disk(said, disk) else full


def _same_disk(mapping: Mapping[str, Any], disk: Declared) -> bool:
    try:
        return from_mapping(mapping) == replace(disk, notes=())
    except DiskSpecError:
        return False


def short_device(device: VirtioDevice) -> dict[str, Any]:
    """``device`` as the shortest mapping that means it."""
    said: dict[str, Any] = {"type": device.type}
    if device.backend is not None:
        said["backend"] = device.backend
    if not device.mmio:
        said["transport"] = "unknown"
    if device.grant_usage is not None:
        said["grant_usage"] = device.grant_usage
    return said


def as_mapping(spec: GuestSpec) -> dict[str, Any]:
    """A guest as an inventory has it, as short as it goes; declare_guest(as_mapping(spec)) == spec."""
    mapping: dict[str, Any] = {"name": spec.name, **spec.options}
    if spec.disks:
        mapping["disks"] = [short_disk(disk) for disk in spec.disks]
    if spec.virtio:
        mapping["virtio"] = [short_device(device) for device in spec.virtio]
    if spec.extra_config:
        mapping["extra_config"] = dict(spec.extra_config)
    return mapping
