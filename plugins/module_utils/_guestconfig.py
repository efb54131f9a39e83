# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest as declared: an inventory's mapping and an xl configuration, both ways, compared by meaning."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, NoReturn

from ._dialect import RELEASES, Dialect
from ._diskspec import (
    Declared,
    DiskSpec,
    DiskSpecError,
    declare,
    from_mapping,
    parse_with_notes,
    release_violations,
    render,
    to_mapping,
)
from ._guestdevices import Vif
from ._guestkinds import IgnoredError, OptionError, digest
from ._guestoptions import (
    DEFAULTS,
    FILES,
    KINDS,
    OPTIONS,
    OTHERS,
    SINCE,
    STOOD_FOR,
    VALUES_SINCE,
)
from ._vdev import VdevError, devid
from ._virtio import VirtioDevice, VirtioError, backend_domid, parse_virtio
from ._xlcfg import ConfigError, Setting, Value, number_of, parse_settings, render_config, value_of

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


class OptionChange(NamedTuple):
    """One difference between two guests."""

    option: str  #: a named option, "disks.<vdev>", "disks order", or "extra_config.<key>"
    before: Any  #: as in an inventory; None is "not said"
    after: Any


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


# --- from an inventory -----------------------------------------------------------------------------------


class _Blame:
    """Raises GuestError with the guest's name before each sentence."""

    def __init__(self, name: object) -> None:
        self._guest = f"guest {name}" if isinstance(name, str) and name else "a guest"

    def refuse(self, option: str, sentence: object) -> NoReturn:
        raise GuestError(f"{self._guest}: {option}: {sentence}", option=option) from None


def _unknown(blame: _Blame, key: object) -> NoReturn:
    if not isinstance(key, str):
        blame.refuse(str(key), "the name of an option is text")
    if key == "disk":
        blame.refuse(key, "is called disks here")
    if key == "builder":
        blame.refuse(key, "is an old name; write type: hvm, or type: pv for generic")
    near = difflib.get_close_matches(key.lower().replace("-", "_"), [*OPTIONS, *OURS], 1, 0.75)
    hint = f"did you mean {near[0]}?" if near else "what has no option of its own goes into extra_config"
    blame.refuse(key, f"no such option of a guest; {hint}")


def _one_disk(disk: Declared) -> Declared:
    """``disk`` in its normal form: its specification said, nothing noted about its spelling."""
    spec = disk.spec if disk.spec.specification else replace(disk.spec, specification="xen")
    return replace(disk, spec=spec, notes=())


def _declared_disks(blame: _Blame, disks: object) -> tuple[Declared, ...]:
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
        declared.append(_one_disk(one))
    return tuple(declared)


def _declared_virtio(blame: _Blame, entries: object) -> tuple[VirtioDevice, ...]:
    if isinstance(entries, (str, Mapping)) or not isinstance(entries, Sequence):
        blame.refuse("virtio", f"must be a list, not {entries!r}")
    devices = []
    for entry in entries:
        if isinstance(entry, str) and re.match(r"device[0-9a-f]+\Z", entry, re.ASCII):
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


def _declared_extra(blame: _Blame, extra: object) -> dict[str, Value]:
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


def _command_line(said: Mapping[str, str]) -> str | None:
    """What xl makes of cmdline, root and extra (parse_cmdline)."""
    if "cmdline" in said:
        return said["cmdline"]
    if "root" in said:
        root = f"root={said['root']}"
        return f"{root} {said['extra']}" if "extra" in said else root
    return said.get("extra")


def _in_order(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: options[key] for key in KINDS if key in options}


def declare_guest(mapping: Mapping[str, Any]) -> GuestSpec:
    """A guest from its form in an inventory, without the keys in OURS (split_guest takes those away).

    An option that is missing or null is not said. ``root`` and ``extra`` become ``cmdline`` as xl joins
    them. Raises GuestError.
    """
    if not isinstance(mapping, Mapping):
        raise GuestError(f"a guest is a mapping, not {type(mapping).__name__}: {mapping!r}")
    blame = _Blame(mapping.get("name"))
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
    cmdline = _command_line(lines)
    if cmdline is not None:
        options["cmdline"] = cmdline
    if "name" not in options:
        raise GuestError(f"a guest without a name: {dict(mapping)!r}", option="name")
    name = options.pop("name")
    return GuestSpec(
        name,
        _in_order(options),
        _declared_disks(blame, _said(mapping, "disks", ())),
        _declared_virtio(blame, _said(mapping, "virtio", ())),
        _declared_extra(blame, _said(mapping, "extra_config", {})),
    )


def _said(mapping: Mapping[str, Any], key: str, otherwise: Any) -> Any:
    return otherwise if mapping.get(key) is None else mapping[key]


_PLAIN_DISK: dict[str, Any] = to_mapping(DiskSpec(vdev=""))


def _short_disk(disk: Declared) -> dict[str, Any]:
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


def _short_device(device: VirtioDevice) -> dict[str, Any]:
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
        mapping["disks"] = [_short_disk(disk) for disk in spec.disks]
    if spec.virtio:
        mapping["virtio"] = [_short_device(device) for device in spec.virtio]
    if spec.extra_config:
        mapping["extra_config"] = dict(spec.extra_config)
    return mapping


# --- to xl -----------------------------------------------------------------------------------------------


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
    blame = _Blame(spec.name)
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


def _disk_text(blame: _Blame, disk: Declared, dialect: Dialect) -> str:
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


# --- from xl ---------------------------------------------------------------------------------------------


class _Reader:
    """One configuration on its way to a GuestSpec."""

    def __init__(self, settings: dict[str, Setting], dialect: Dialect | None) -> None:
        self.settings = settings
        self.dialect = dialect
        self.notes: list[str] = []
        name = settings.get("name")
        self.blame = _Blame(name.value if name else None)

    def refuse(self, key: str, sentence: object) -> NoReturn:
        self.blame.refuse(key, f"line {self.settings[key].line}: {sentence}")

    def option(self, key: str, option: str | None = None) -> Any:
        """The normal form of one setting; None where xl goes on without it."""
        setting = self.settings.get(key)
        if setting is None or (key == "ramdisk" and setting.value == ""):  # libxl does without (libxl_dom.c)
            return None
        try:
            return KINDS[option or key].read(setting)
        except IgnoredError as error:
            self.notes.append(f"{key}: {error}")
        except OptionError as error:
            self.refuse(key, error)
        return None

    def read(self) -> GuestSpec:
        options = {key: self.option(key) for key in KINDS if key != "cmdline"}
        if options["name"] is None:
            raise GuestError("a configuration without a name, which xl refuses", option="name")
        name = options.pop("name")
        self._type(options)
        lines = {key: self.option(key, "cmdline") for key in ("cmdline", "root", "extra")}
        lines = {key: value for key, value in lines.items() if value is not None}
        options["cmdline"] = _command_line(lines)
        if "cmdline" in lines and len(lines) > 1:
            self.notes.append("cmdline: xl ignores root and extra beside it")
        for key in ("tsc_mode", "bootloader_args", "vif"):
            self._deprecated(key, options[key])
        return GuestSpec(
            name,
            _in_order({key: value for key, value in options.items() if value is not None}),
            tuple(self._disks()),
            tuple(self._virtio()),
            {
                key: setting.value
                for key, setting in self.settings.items()
                if key not in KINDS and key not in STOOD_FOR and key != "virtio"
            },
        )

    def _type(self, options: dict[str, Any]) -> None:
        builder = self.settings.get("builder")
        if options["type"] is not None and self.settings["type"].value != options["type"]:
            self.notes.append(f"type: {self.settings['type'].value!r} is {options['type']} to xl")
        if builder is None or not isinstance(builder.value, str):
            return
        kind = next((word for word in ("hvm", "generic") if word.startswith(builder.value)), None)
        if kind is None:
            self.refuse("builder", f"must be hvm or generic, not {builder.value!r}")
        kind = "pv" if kind == "generic" else kind
        if options["type"] not in (None, kind):
            self.refuse("builder", f"contradicts type {options['type']}")
        options["type"] = kind
        self.notes.append(f"builder: deprecated, today's spelling is type = {kind!r}")

    def _deprecated(self, key: str, value: Any) -> None:
        setting = self.settings.get(key)
        if setting is None or value is None:
            return
        if key == "tsc_mode" and setting.value != value and number_of(str(setting.value)) is not None:
            self.notes.append(f"tsc_mode: a number is deprecated, today's spelling is {value!r}")
        if key == "bootloader_args" and isinstance(setting.value, str):
            self.notes.append("bootloader_args: one text is deprecated, today's spelling is a list")
        if key == "vif":
            self._vif([item for item in setting.value if isinstance(item, str)])

    def _vif(self, texts: Sequence[str]) -> None:
        for text in texts:
            said, unknown = Vif.words(text)
            self.notes += [f"vif: xl does not know {word!r} and reads past it" for word in unknown]
            if re.search("(?:\\A|,) *netdev=", text):
                self.notes.append(
                    f"vif: netdev is deprecated, today's spelling is gatewaydev={said['gatewaydev']}"
                )

    def _texts(self, key: str) -> Iterator[str]:
        setting = self.settings.get(key)
        if setting is None:
            return
        if isinstance(setting.value, str):
            self.notes.append(f"{key}: is a single value where xl wants a list, and xl goes on without it")
            return
        for item in setting.value:
            if not isinstance(item, str):
                self.refuse(key, "holds a list in a list, which xl does not read")
            yield item

    def _disks(self) -> Iterator[Declared]:
        for text in self._texts("disk"):
            try:
                spec, notes = parse_with_notes(text, self.dialect)
            except DiskSpecError as error:
                self.refuse("disk", error)
            self.notes += [f"disk {spec.vdev}: {note.message}" for note in notes]
            yield _one_disk(Declared(spec))

    def _virtio(self) -> Iterator[VirtioDevice]:
        for text in self._texts("virtio"):
            try:
                yield parse_virtio(text)
            except VirtioError as error:
                self.refuse("virtio", error)


def read_guest(text: str, dialect: Dialect | None = None) -> tuple[GuestSpec, list[str]]:
    """A guest from an xl configuration as people write it; beside it, what is to be said of its spelling.

    Disk strings are read in ``dialect``, in any where it is None. What xl warns of and goes on without is a
    note and nothing more. Settings without a named option are kept in ``extra_config``. Raises GuestError
    where xl would refuse the configuration, and where a name cannot be used.
    """
    try:
        reader = _Reader(parse_settings(text), dialect)
    except ConfigError as error:
        raise GuestError(f"the configuration cannot be read: {error}") from None
    return reader.read(), reader.notes


# --- compared --------------------------------------------------------------------------------------------


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
                _short_disk(ours) if ours else None,
                _short_disk(theirs) if theirs else None,
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
                [_short_device(device) for device in before.virtio],
                [_short_device(device) for device in after.virtio],
            )
        )
    for key in dict.fromkeys([*before.extra_config, *after.extra_config]):
        ours, theirs = before.extra_config.get(key), after.extra_config.get(key)
        if not _same_value(ours, theirs):
            changes.append(OptionChange(f"extra_config.{key}", ours, theirs))
    return changes
