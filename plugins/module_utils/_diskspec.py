# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk as declared: xl's strings and our mappings, read and written.

Strings mean what the real parser of each Xen release makes of them (_diskgrammar). Refused although xl reads
it: a newline or NUL anywhere, since the scanner's rules disagree on what a line is.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Callable, NoReturn

from . import _diskgrammar as grammar
from ._dialect import NEWEST, V6, Dialect, since
from ._diskgrammar import BACKENDTYPES, FORMATS, SPECIFICATIONS, Note

FIELDS: tuple[str, ...] = tuple(grammar.UNSET)


class DiskSpecError(ValueError):
    """A disk that cannot be read or written.

    ``messages`` holds what xl itself prints, all of it, without the "SOURCE: config parsing error in disk
    specification: " before each; empty where the objection is ours. ``key`` names the option to blame.
    """

    def __init__(self, text: str, *, messages: tuple[str, ...] = (), key: str | None = None) -> None:
        super().__init__(text)
        self.messages = messages
        self.key = key


@dataclass(frozen=True)
class DiskSpec:
    """One disk, as xl's parser leaves it: nothing is resolved, None is "not said" (libxl decides).

    An empty string is not None: ``target=""`` is what an empty positional parameter leaves.
    """

    vdev: str
    target: str | None = None
    format: str = "raw"  #: one of FORMATS
    access: str = "rw"  #: "rw" or "ro"
    backend: str | None = None  #: domain name or domid; None is dom0
    backendtype: str | None = None  #: one of BACKENDTYPES; None lets libxl choose
    specification: str | None = None  #: one of SPECIFICATIONS; None is xen
    devtype: str | None = None  #: "cdrom", or None for a disk: xl keeps no more than that
    script: str | None = None
    discard: bool | None = None  #: None is true for rw, false for ro
    direct_io_safe: bool = False
    trusted: bool | None = None  #: None is true
    grant_usage: bool | None = None  #: of virtio; None is true unless the backend is dom0
    cdrom: bool = False
    removable: bool = False
    colo: bool | None = None
    colo_host: str | None = None
    colo_port: int | None = None
    colo_export: str | None = None
    active_disk: str | None = None
    hidden_disk: str | None = None

    @property
    def is_virtio(self) -> bool:
        """Whether the guest sees a virtio disk rather than a Xen PV one."""
        return self.specification == "virtio"


@dataclass(frozen=True)
class Declared:
    """A disk as a user declares it: xl's part, and the keys of ours."""

    spec: DiskSpec
    shared: bool = False  #: the target may be written by several guests
    base: int | None = None  #: guest physical address in bytes, where given by hand
    irq: int | None = None  #: interrupt number (SPIs start at 32), where given by hand
    notes: tuple[Note, ...] = ()  #: what is deprecated about its spelling


def _build(values: dict[str, Any]) -> DiskSpec:
    """A DiskSpec of exactly FIELDS, without the cost of 21 checked assignments."""
    spec = object.__new__(DiskSpec)
    spec.__dict__.update(values)
    return spec


# --- strings, read ---------------------------------------------------------------------------------------


def parse_with_notes(text: str, dialect: Dialect | None = None) -> tuple[DiskSpec, tuple[Note, ...]]:
    """Read a disk string as ``dialect``'s xl does; beside the disk, what is deprecated about its spelling.

    Without a dialect: as the newest release reads it, else as V6 did. Raises DiskSpecError with xl's own
    messages, and today's spelling where an old or foreign one is recognised.
    """
    if not isinstance(text, str):
        raise DiskSpecError(f"a disk specification is text, not {type(text).__name__}: {text!r}")
    bad = _UNCARRIED.search(text)
    if bad:
        raise DiskSpecError(
            f"disk specification {text!r} holds {_UNCARRIED_NAME[bad[0]]}: it must be one line"
        )
    try:
        scan = grammar.scan(text, dialect or NEWEST)
    except UnicodeEncodeError:
        raise DiskSpecError(f"disk specification {text!r} is not text that UTF-8 can carry") from None
    reader = dialect or NEWEST
    if scan.errors and dialect is None and "virtio" in text:
        older = grammar.scan(text, V6)
        if any(note.code == "v6-flag" for note in older.notes) and len(older.errors) <= len(scan.errors):
            scan, reader = older, V6
    if scan.errors:
        raise _refusal(text, reader, scan.errors)
    return _build(scan.values), tuple(scan.notes)


def parse(text: str, dialect: Dialect | None = None) -> DiskSpec:
    """As parse_with_notes(), the disk alone."""
    return parse_with_notes(text, dialect)[0]


def _refusal(text: str, dialect: Dialect, errors: list[tuple[str, str | None]]) -> DiskSpecError:
    spec = grammar.shown(text)
    messages = tuple(
        f"{message} in `{spec}'" if near is None else f"{message}: near `{near}' in `{spec}'"
        for message, near in errors
    )
    sentence = f"config parsing error in disk specification: {messages[0]}"
    hint = grammar.hint(text, dialect)
    if hint is None and errors[0][0] == "bad disk syntax":
        hint = 'a target that holds "=" or "," must be given last, as target=...'
    return DiskSpecError(f"{sentence} ({hint})" if hint else sentence, messages=messages)


# --- strings, written ------------------------------------------------------------------------------------

_UNCARRIED = re.compile(r"[\n\0]")
_UNCARRIED_NAME = {"\n": "a newline", "\0": "a NUL"}

# How options are written after the positional parameters, in this order.
_BOOLEANS = {
    "discard": ("discard", "no-discard"),
    "trusted": ("trusted", "untrusted"),
    "grant_usage": ("grant_usage=1", "grant_usage=0"),
    "colo": ("colo", "no-colo"),
}
_VALUES = ("script", "colo_host", "colo_port", "colo_export", "active_disk", "hidden_disk")


def _unsayable(spec: DiskSpec, dialect: Dialect) -> Iterator[tuple[str, str]]:
    """The keys for whose value ``dialect`` has no words, each with a sentence."""
    for key in ("trusted", "grant_usage"):
        if getattr(spec, key) is not None and not dialect.accepts(key):
            yield key, f"{key} is accepted by Xen {since(key)} and newer, not by {dialect}"
    if spec.backendtype == "standalone" and not spec.is_virtio and not dialect.accepts("standalone"):
        yield "backendtype", f"backendtype standalone is accepted by Xen 4.17 and newer, not by {dialect}"


def release_violations(spec: DiskSpec, dialect: Dialect) -> list[str]:
    """What ``spec`` says and ``dialect`` has no words for: one sentence an option, its name first."""
    return [message for _unused, message in _unsayable(spec, dialect)]


def _in_words_of(spec: DiskSpec, dialect: Dialect) -> dict[str, Any]:
    """``spec`` less what ``dialect`` has no word for but does anyway.

    V6 has no backendtype standalone, which its flag implies, and no specification xen, its default.
    """
    values = to_mapping(spec)
    if not dialect.accepts("specification"):
        if spec.is_virtio and spec.backendtype == "standalone":
            values["backendtype"] = None
        if spec.specification == "xen":
            values["specification"] = None
    return values


def _words(values: dict[str, Any], dialect: Dialect) -> list[str]:
    """Everything but target, format, vdev and access."""
    words = [f"{key}={values[key]}" for key in ("backend", "backendtype") if values[key] is not None]
    if values["specification"] == "virtio" and not dialect.accepts("specification"):
        words.append("virtio")
    elif values["specification"] is not None:
        words.append(f"specification={values['specification']}")
    if values["cdrom"]:
        words.append("cdrom")
    if values["direct_io_safe"]:
        words.append("direct-io-safe")
    for key, (yes, no) in _BOOLEANS.items():
        if values[key] is not None:
            words.append(yes if values[key] else no)
    for key in _VALUES:
        if values[key] is not None:
            words.append(f"{key.replace('_', '-')}={values[key]}")
    return words


def _positional(values: dict[str, Any], bare_target: bool) -> list[str]:
    """Target, format, vdev and access, as short as they go; a target that is not bare is left to target=."""
    target, vdev = values["target"], values["vdev"]
    empty = values["cdrom"] and not target  # its format follows by itself
    slots = [target if bare_target else "", "" if empty or values["format"] == "raw" else values["format"]]
    access = ["r"] if values["access"] == "ro" and not values["cdrom"] else []
    if target is not None and ":" not in vdev and grammar.is_bare(vdev):
        return [*slots, vdev, *access]
    slots += access
    while slots and not slots[-1] and (len(slots) > 1 or not bare_target):
        slots.pop()  # an empty place at the end says nothing
    return [f"vdev={vdev}", *(slots if target is not None else [])]


def render(spec: DiskSpec, dialect: Dialect | None = None) -> str:
    """The shortest string, deprecated spellings apart, that ``dialect`` reads as ``spec``.

    Without a dialect: the newest release's. Raises DiskSpecError, naming the option, for what no string of
    that dialect can carry: newlines and NULs, commas anywhere but in the target, options of newer releases.
    For V6 ``backendtype=standalone`` beside its flag, and ``specification=xen``, are left out: it does
    these, and has no word for them.
    """
    dialect = dialect or NEWEST
    for key in FIELDS:
        value = getattr(spec, key)
        bad = _UNCARRIED.search(value) if isinstance(value, str) else None
        if bad:
            raise DiskSpecError(
                f"{key} {value!r} holds {_UNCARRIED_NAME[bad[0]]}: a disk string is one line", key=key
            )
        if isinstance(value, str) and "," in value and key != "target":
            raise DiskSpecError(f"{key} {value!r} holds a comma: in a disk string only a target can", key=key)
    for key, message in _unsayable(spec, dialect):
        raise DiskSpecError(message, key=key)
    values = _in_words_of(spec, dialect)
    _check_complete(values)
    target = values["target"]
    bare = target is not None and grammar.is_bare(target)
    words = _positional(values, bare) + _words(values, dialect)
    if target is not None and not bare:
        words.append(f"target={target}," if target.endswith(",") else f"target={target}")
    text = ",".join(words) + ("" if words[-1] else ",")
    try:
        same = to_mapping(parse(text, dialect)) == values
    except DiskSpecError as error:
        raise DiskSpecError(f"no disk string of {dialect} can say this: {error}") from None
    if not same:
        raise DiskSpecError(f"no disk string of {dialect} reads back to {values!r}: {text!r} does not")
    return text


# --- mappings --------------------------------------------------------------------------------------------

_TRUE = frozenset(("yes", "on", "true", "1", "y", "t"))
_FALSE = frozenset(("no", "off", "false", "0", "n", "f"))


def _refuse(key: str, value: object, wanted: str) -> NoReturn:
    raise DiskSpecError(f"{key} must be {wanted}, not {value!r}", key=key)


def _boolean(key: str, value: object) -> bool:
    if value is True or value is False:
        return value is True
    word = str(value).strip().lower() if isinstance(value, (str, int)) else ""
    if word not in _TRUE and word not in _FALSE:
        _refuse(key, value, "true or false")
    return word in _TRUE


def _text(key: str, value: object) -> str:
    if not isinstance(value, str):
        _refuse(key, value, "text (quote it)")
    bad = _UNCARRIED.search(value)
    if bad:
        raise DiskSpecError(
            f"{key} {value!r} holds {_UNCARRIED_NAME[bad[0]]}, which no disk can carry", key=key
        )
    return str(value)


def _name(key: str, value: object) -> str:
    """Text, or a number where one is natural: a domid, a device number."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return str(value)
    if not isinstance(value, str):
        _refuse(key, value, "a name or a number")
    return _text(key, value)


def _one_of(*choices: str) -> Callable[[str, object], str]:
    def check(key: str, value: object) -> str:
        if isinstance(value, str) and value in choices:
            return str(value)
        today = grammar.foreign(key, value) if isinstance(value, str) else None
        return _refuse(key, value, f"one of {', '.join(choices)}" + (f" ({today})" if today else ""))

    return check


def _format(key: str, value: object) -> str:
    return "raw" if value == "" else _one_of(*FORMATS)(key, value)


def _access(key: str, value: object) -> str:
    if not isinstance(value, str) or value not in grammar.ACCESS:
        _refuse(key, value, "rw (or w) or ro (or r)")
    return grammar.ACCESS[value]


def _whole(low: int, high: int) -> Callable[[str, object], int]:
    """A whole number in low…high, also as text, decimal or with 0x."""

    def check(key: str, value: object) -> int:
        number = value
        if isinstance(value, str):
            try:
                number = int(value, 16 if value[:2].lower() == "0x" else 10)
            except ValueError:
                number = None
        if not isinstance(number, int) or isinstance(number, bool) or not low <= number <= high:
            _refuse(key, value, f"a whole number from {low} to {high}")
        return number

    return check


_SETTERS: dict[str, Callable[[str, object], Any]] = {
    **dict.fromkeys(("vdev", "backend"), _name),
    **dict.fromkeys(("target", "script", "colo_host", "colo_export", "active_disk", "hidden_disk"), _text),
    **dict.fromkeys(("discard", "direct_io_safe", "trusted", "grant_usage"), _boolean),
    **dict.fromkeys(("cdrom", "removable", "colo", "shared"), _boolean),
    "format": _format,
    "access": _access,
    "backendtype": _one_of(*BACKENDTYPES),
    "specification": _one_of(*SPECIFICATIONS),
    "devtype": _one_of("disk", "cdrom"),
    "colo_port": _whole(-(2**31), 2**31 - 1),
    "base": _whole(1, 2**48 - 1),
    "irq": _whole(32, 1019),  # the SPIs of a GIC
}


def _unknown_key(key: object) -> NoReturn:
    name = str(key)
    near = difflib.get_close_matches(name.lower().replace("-", "_"), list(_SETTERS), 1, 0.5)
    known = f"known are {', '.join(_SETTERS)}"
    hint = grammar.foreign(name) or (f"did you mean {near[0]}?" if near else known)
    raise DiskSpecError(f"unknown key {name!r} ({hint})", key=name)


def _check_complete(values: dict[str, Any]) -> None:
    if values["vdev"] is None:
        raise DiskSpecError("no vdev specified", key="vdev")
    if values["target"] is None and not values["cdrom"]:
        raise DiskSpecError("no target specified (and device not removable)", key="target")


def _settle_cdrom(values: dict[str, Any], said: Mapping[str, Any]) -> None:
    """Make devtype, cdrom and removable, three names of one thing, agree."""
    devtype = values["devtype"]
    cdrom = devtype == "cdrom" if devtype is not None else values["cdrom"]
    for key in ("cdrom", "removable"):
        if said.get(key) is not None and values[key] != cdrom:
            raise DiskSpecError(f"{key} {str(values[key]).lower()} contradicts devtype", key=key)
    values["cdrom"] = values["removable"] = cdrom
    values["devtype"] = None


def from_mapping(mapping: Mapping[str, Any]) -> Declared:
    """A disk from a mapping of FIELDS and of the keys of ours: shared, base, irq.

    A key that is missing or null is not said; only, a missing ``specification`` is virtio, where null is
    what xl makes of its absence, xen (so that the result of to_mapping() reads back unchanged). Booleans may
    be written in the ways Ansible knows, backend and vdev also as numbers, base and irq also as text
    ("0x2000000"). Neither a release nor the sense of a vdev is asked for here. Raises DiskSpecError naming
    the disk and the key.
    """
    values = dict(grammar.UNSET)
    try:
        for key, value in mapping.items():
            setter = _SETTERS.get(key)
            if setter is None:
                _unknown_key(key)
            if value is not None:
                values[key] = setter(key, value)
        shared, base, irq = values.pop("shared", False), values.pop("base", None), values.pop("irq", None)
        if "specification" not in mapping:
            values["specification"] = "virtio"
        if values["devtype"] is not None or values["cdrom"] or values["removable"]:
            _settle_cdrom(values, mapping)
        _check_complete(values)
        grammar.complete(values)
    except DiskSpecError as error:
        vdev = mapping.get("vdev")
        name = str(vdev) if isinstance(vdev, (str, int)) and vdev != "" else repr(dict(mapping))
        raise DiskSpecError(f"disk {name}: {error}", key=error.key) from None
    return Declared(_build(values), shared, base, irq)


def to_mapping(spec: DiskSpec) -> dict[str, Any]:
    """All FIELDS of ``spec``, in order; from_mapping(to_mapping(spec)).spec == spec."""
    return dict(spec.__dict__)


def declare(disk: object, dialect: Dialect | None = None) -> Declared:
    """A disk as users write it: a string of xl's, read in ``dialect`` (None: any), or a mapping of ours."""
    if isinstance(disk, str):
        spec, notes = parse_with_notes(disk, dialect)
        return Declared(spec, notes=notes)
    if isinstance(disk, Mapping):
        return from_mapping(disk)
    raise DiskSpecError(f"a disk is a string or a mapping, not {type(disk).__name__}: {disk!r}")


# --- libxl's rules for virtio ----------------------------------------------------------------------------

#: Bytes of a target that one xenstore message carries (XENSTORE_PAYLOAD_MAX in Xen's public/io/xs_wire.h,
#: less the longest path of a ``params`` node with its NUL).
MAX_TARGET = 4096 - len("/local/domain/32751/backend/virtio_disk/32751/2147483647/params") - 1


def virtio_violations(spec: DiskSpec) -> list[str]:
    """Why libxl, or the backend behind it, would not take ``spec``: one sentence a rule, [] where it would.

    Source: disk_try_backend and libxl__device_disk_set_backend in Xen's tools/libs/light/libxl_device.c. Of
    a PV disk only this is asked: no backendtype standalone.
    """
    if not spec.is_virtio:
        return ["backendtype standalone needs specification virtio"] * (spec.backendtype == "standalone")
    found = []
    if spec.format != "raw":
        found.append(f"format {spec.format}: a virtio disk is raw")
    if spec.backendtype not in (None, "standalone"):
        found.append(f"backendtype {spec.backendtype}: a virtio disk's is standalone, or left out")
    if spec.script is not None:
        found.append(f"script {spec.script}: a virtio disk takes none")
    if spec.colo:
        found.append("colo: a virtio disk cannot be replicated")
    if not spec.target:
        found.append("target is missing: a virtio disk needs one")
    elif not spec.target.startswith("/"):
        found.append(f"target {spec.target}: must be an absolute path, nothing is put before it")
    elif len(spec.target.encode("utf-8", "surrogateescape")) > MAX_TARGET:
        found.append(f"target of {len(spec.target)} characters: xenstore carries {MAX_TARGET} bytes at most")
    return found
