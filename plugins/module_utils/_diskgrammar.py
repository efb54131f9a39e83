# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scanner behind xl's disk strings, release by release.

The grammar is that of Xen's tools/libs/util/libxlu_disk_l.l and libxlu_disk.c, quirks included, as each
release shipped it. Text in, plain values and xl's own messages out; what they mean is _diskspec's.
"""

from __future__ import annotations

import difflib
import re
from typing import Any, Callable, NamedTuple

from ._dialect import DIALECTS, V6, Dialect, since

FORMATS = ("raw", "qcow", "qcow2", "vhd", "qed", "empty")
BACKENDTYPES = ("phy", "tap", "qdisk", "standalone")
SPECIFICATIONS = ("xen", "virtio")
ACCESS = {"r": "ro", "ro": "ro", "rw": "rw", "w": "rw", "": "rw"}

# Keys whose value is kept as it is: the key as written → the field.
STRINGS = {
    "backend": "backend",
    "vdev": "vdev",
    "script": "script",
    "colo-host": "colo_host",
    "colo-export": "colo_export",
    "active-disk": "active_disk",
    "hidden-disk": "hidden_disk",
}
FLAGS: dict[str, tuple[str, Any]] = {
    "cdrom": ("cdrom", True),
    "direct-io-safe": ("direct_io_safe", True),
    "discard": ("discard", True),
    "no-discard": ("discard", False),
    "colo": ("colo", True),
    "no-colo": ("colo", False),
    "trusted": ("trusted", True),
    "untrusted": ("trusted", False),
    "virtio": ("specification", "virtio"),
}
# Deprecated prefixes: what each sets, if anything.
_PREFIXES: dict[str, tuple[str, str] | None] = {
    **{name: ("format", name) for name in ("raw", "qcow", "qcow2", "vhd")},
    **{name: ("script", f"block-{name}") for name in ("iscsi", "nbd", "enbd", "drbd")},
    **dict.fromkeys(("tapdisk", "tap", "tap2", "aio", "ioemu", "file", "phy")),
}
_DEVTYPES = {"cdrom": True, "disk": False}

#: Every field of a disk, unset; the order is that of the mappings users see.
UNSET: dict[str, Any] = {
    **dict.fromkeys(("vdev", "target", "format", "access", "backend", "backendtype", "specification")),
    **dict.fromkeys(("devtype", "script", "discard")),
    "direct_io_safe": False,
    **dict.fromkeys(("trusted", "grant_usage")),
    "cdrom": False,
    "removable": False,
    **dict.fromkeys(("colo", "colo_host", "colo_port", "colo_export", "active_disk", "hidden_disk")),
}

_PREFIX = re.compile(r"([a-z][a-z0-9]*):(.?)", re.ASCII | re.DOTALL)
_PARAMETER = re.compile(r"[a-z][-a-z0-9]*\Z", re.ASCII)
_ALNUM = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_ATOI = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]+)", re.ASCII)


class Note(NamedTuple):
    """Something to tell about a string that was read: ``code`` for programs, ``message`` for people."""

    code: str  #: deprecated-prefix, deprecated-devtype or v6-flag
    message: str


class Scan(NamedTuple):
    """What a string says: ``values`` by field, unless there are ``errors`` (message, what it is near)."""

    values: dict[str, Any]
    errors: list[tuple[str, str | None]]
    notes: list[Note]


class _Grammar(NamedTuple):
    """What a dialect's scanner knows beyond the common part."""

    named: frozenset[str]
    flags: dict[str, tuple[str, Any]]
    backendtypes: frozenset[str]
    grant_usage: bool


def _grammar(dialect: Dialect) -> _Grammar:
    return _Grammar(
        named=frozenset(key for key in _NAMED if dialect.accepts(key)),
        flags={
            flag: what
            for flag, what in FLAGS.items()
            if dialect.accepts("trusted" if "trust" in flag else flag)
        },
        backendtypes=frozenset(kind for kind in BACKENDTYPES if dialect.accepts(kind)),
        grant_usage=dialect.accepts("grant_usage"),
    )


def _atoi(text: str) -> int:
    """C's atoi where a long has 64 bits and an int 32: saturates, then keeps the low half."""
    found = _ATOI.match(text)
    if not found:
        return 0
    number = int(found[1][:40])  # past 2**63 already, and cheap
    number = max(-(2**63), min(2**63 - 1, number)) & 0xFFFFFFFF
    return number - 2**32 if number & 0x80000000 else number


def _prefixed(token: str) -> tuple[str, bool] | None:
    """The deprecated prefix at the head of ``token``, and whether xl knows it.

    None for text that only looks like one: an unknown name counts as a prefix only where no letter or
    digit follows.
    """
    found = _PREFIX.match(token)
    if not found:
        return None
    known = found[1] in _PREFIXES
    return (found[1], known) if known or found[2] not in _ALNUM else None


def is_bare(token: str) -> bool:
    """Whether ``token`` is a positional parameter in every dialect, exactly as it stands."""
    return not (
        "=" in token
        or "," in token
        or token[:1] in (" ", "\t")
        or token in FLAGS
        or _prefixed(token) is not None
    )


class _Reader:
    """One pass of the scanner over one string, token by token, as flex's longest match takes them."""

    def __init__(self, text: str, grammar: _Grammar) -> None:
        self.text = text
        self.grammar = grammar
        self.values = dict(UNSET)
        self.errors: list[tuple[str, str | None]] = []
        self.notes: list[Note] = []
        self.comma = ""  # what ended the last named parameter
        self.access_set = False
        self.had_prefix = False

    def read(self) -> None:
        text = self.text
        size, pos = len(text), 0
        while 0 <= pos < size:
            if text[pos] in " \t":
                pos += 1
                continue
            end = text.find(",", pos)
            token = text[pos:] if end < 0 else text[pos:end]
            prefix = _prefixed(token) if ":" in token else None
            if prefix:
                pos = self.prefix(*prefix, pos)
            elif "=" in token:
                pos = self.parameter(token, pos)
            elif self.word(token):
                pos += len(token) + 1
            else:
                return

    def error(self, message: str, near: str | None) -> None:
        self.errors.append((message, near))

    def past_comma(self, pos: int) -> int:
        return pos + 1 if self.text.startswith(",", pos) else pos

    def parameter(self, token: str, pos: int) -> int:
        """A token with "=" at ``pos``; returns where the next begins, -1 to stop."""
        text = self.text
        key, _unused, value = token.partition("=")
        equals = pos + len(key)
        if key == "target":  # takes all that is left
            rest = text[equals + 1 :]
            self.save("target", "target", rest[:-1] if rest.endswith(",") else rest)
            return -1
        if key in self.grammar.named:
            after = pos + len(token)
            self.comma = text[after : after + 1]
            _NAMED[key](self, key, value)
            return after + 1
        if key == "grant_usage" and self.grammar.grant_usage and value[:1] in ("0", "1"):
            # Two words to the scanner, not a key and its value: what follows them is the next token.
            self.values["grant_usage"] = value[0] == "1"
            return self.past_comma(equals + 2)
        if value and _PARAMETER.match(key):
            after = self.past_comma(equals + 2)
            self.error("unknown parameter", text[pos:after])
            return after
        if key:  # a word ends before its "=", which then is a token that no rule matches
            return equals if self.word(key) else -1
        # Alone at the very end it goes unnoticed: the scanner meets the end of its input first.
        if pos + 1 < len(text):
            self.error("bad disk syntax", text[pos:])
        return -1

    def save(self, field: str, what: str, value: str) -> None:
        if self.values[field]:
            self.error(f"{what} respecified", value)
        else:
            self.values[field] = value

    def choose(self, field: str, what: str, value: str, shown: str) -> None:
        if self.values[field] in (None, value):
            self.values[field] = value
        else:
            self.error(f"{what} respecified", shown)

    def prefix(self, name: str, known: bool, pos: int) -> int:
        if not known:
            self.error("unknown deprecated disk prefix", f"{name}:")
            return -1
        self.had_prefix = True
        what = _PREFIXES[name]
        today = "leave it out"
        if what is not None:
            today = f"write {what[0]}={what[1]}"
            if what[0] == "format":
                self.format("format", name)
            else:
                self.save("script", "script", what[1])
        self.notes.append(Note("deprecated-prefix", f"`{name}:' is a deprecated prefix: {today}"))
        return pos + len(name) + 1

    def string(self, key: str, value: str) -> None:
        self.save(STRINGS[key], key, value)

    def format(self, _key: str, value: str) -> None:
        if value and value not in FORMATS:
            self.error("unknown value for format", value)
        else:
            self.choose("format", "format", value or "raw", value)

    def access(self, _key: str, value: str) -> None:
        if value in ACCESS:
            self.values["access"] = ACCESS[value]
        else:
            self.error("unknown value for access", value)

    def backendtype(self, _key: str, value: str) -> None:
        if value in self.grammar.backendtypes:
            self.choose("backendtype", "backend", value, value)
        else:
            self.error("unknown value for backendtype", value)

    def specification(self, _key: str, value: str) -> None:
        if value in SPECIFICATIONS:
            self.choose("specification", "specification", value, value)
        else:
            self.error("unknown value for specification", value)

    def devtype(self, key: str, value: str) -> None:
        if value in _DEVTYPES:
            self.values["cdrom"] = _DEVTYPES[value]
            return
        self.error("unknown value for type", f"{key}={value}{self.comma}")

    def colo_port(self, _key: str, value: str) -> None:
        port = _atoi(value)
        if port:
            self.values["colo_port"] = port
        else:
            self.error("unknown value for colo_port", value)

    def word(self, token: str) -> bool:
        """A flag, else the next positional parameter; False stops the scanner."""
        flag = self.grammar.flags.get(token)
        if flag is not None:
            self.values[flag[0]] = flag[1]
            if token == "virtio":
                self.notes.append(
                    Note("v6-flag", f"`{token}' is the V6 patches' flag: write specification=virtio")
                )
            return True
        values = self.values
        if self.errors:
            return True  # one mistake shifts all that follows, so xl reports no more of these
        if values["target"] is None:
            values["target"] = token
        elif values["format"] is None and not self.had_prefix:
            if not values["target"] and self.vdev_and_devtype(token):
                values["format"] = "empty"
            else:
                self.format("format", token)
        elif values["vdev"] is None:
            if not self.vdev_and_devtype(token):
                values["vdev"] = token
        elif not self.access_set:
            self.access_set = True
            self.access("access", token)
        else:
            self.error("too many positional parameters", token)
            return False
        return True

    def vdev_and_devtype(self, token: str) -> bool:
        """xend's ``hdc:cdrom``; False, and nothing done, without a colon."""
        vdev, colon, devtype = token.rpartition(":")
        if not colon:
            return False
        self.save("vdev", "vdev", vdev)
        if devtype in _DEVTYPES:
            self.values["cdrom"] = _DEVTYPES[devtype]
            today = f"write vdev={vdev},devtype={devtype}"
            self.notes.append(Note("deprecated-devtype", f"`{token}' is deprecated: {today}"))
        else:
            self.error("unknown deprecated type", devtype)
        return True

    def finish(self) -> None:
        """What xlu_disk_parse does after the scanner."""
        complete(self.values)
        if self.values["vdev"] is None:
            self.error("no vdev specified", None)
        elif self.values["target"] is None and not self.values["removable"]:
            self.error("no target specified (and device not removable)", None)


# What to do with a named parameter, by key.
_NAMED: dict[str, Callable[[_Reader, str, str], None]] = {
    **dict.fromkeys(STRINGS, _Reader.string),
    "format": _Reader.format,
    "access": _Reader.access,
    "backendtype": _Reader.backendtype,
    "specification": _Reader.specification,
    "devtype": _Reader.devtype,
    "colo-port": _Reader.colo_port,
}
_GRAMMARS = {name: _grammar(dialect) for name, dialect in DIALECTS.items()}


def complete(values: dict[str, Any]) -> None:
    """The parser's defaults: raw, rw; a cdrom is removable and read-only, and empty without a target."""
    values["format"] = values["format"] or "raw"
    values["access"] = values["access"] or "rw"
    if values["cdrom"]:
        values["devtype"] = "cdrom"
        values["removable"] = True
        values["access"] = "ro"
        if not values["target"]:
            values["format"] = "empty"


def shown(text: str) -> str:
    """``text`` fit for a message: bytes that are not UTF-8 are replaced."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _characters(value: str) -> str:
    return value.encode("latin-1").decode("utf-8", "surrogateescape")


def scan(text: str, dialect: Dialect) -> Scan:
    """Read ``text``, one line without NUL, as ``dialect``'s xl does.

    Raises UnicodeEncodeError for text that has no bytes (a lone surrogate).
    """
    plain = text.isascii()
    # The scanner works on bytes: one character each here.
    reader = _Reader(
        text if plain else text.encode("utf-8", "surrogateescape").decode("latin-1"), _GRAMMARS[dialect.name]
    )
    reader.read()
    if not reader.errors:
        reader.finish()
    if plain:
        return Scan(reader.values, reader.errors, reader.notes)
    return Scan(
        {
            key: _characters(value) if isinstance(value, str) else value
            for key, value in reader.values.items()
        },
        [(message, near and shown(_characters(near))) for message, near in reader.errors],
        [Note(note.code, shown(_characters(note.message))) for note in reader.notes],
    )


# Spellings of other times and trees: key and value (None: any) → what to write today.
_NO_KEY = "is no disk option of xl, leave it out"
_FOREIGN: dict[tuple[str, str | None], str] = {
    (
        "backendtype",
        "other",
    ): "V7 to V10's backendtype=other is today backendtype=standalone,specification=virtio",
    ("backendtype", "virtio"): "backendtype=virtio is today specification=virtio",
    ("backendtype", "virtio_disk"): "backendtype=virtio_disk is today specification=virtio",
    ("protocol", "virtio-mmio"): "V7's protocol=virtio-mmio is today specification=virtio",
    ("protocol", None): "V7's protocol= is today specification=",
    ("vdisk", None): "vdisk= of the first versions is today a disk with specification=virtio",
    ("virtio", None): "V6's flag virtio is today specification=virtio",
    (
        "transport",
        "pci",
    ): f"transport {_NO_KEY}: downstream only, a virtio disk (specification=virtio) uses mmio",
    ("transport", None): f"transport {_NO_KEY}: specification=virtio always uses mmio",
    ("bdf", None): f"bdf {_NO_KEY}: downstream only, for virtio over PCI; today's is specification=virtio",
    (
        "backend_type",
        "qemu",
    ): "backend_type=qemu is downstream only; today's is backendtype=standalone,specification=virtio",
    ("backend_type", None): "backend_type= is downstream only; today's is backendtype=",
    ("base", None): f"base {_NO_KEY}: only a disk written as a mapping carries it",
    ("irq", None): f"irq {_NO_KEY}: only a disk written as a mapping carries it",
}


def foreign(key: str, value: str | None = None) -> str | None:
    """Today's spelling for a key (or a value of it) of an older or a downstream xl, as a clause."""
    return _FOREIGN.get((key, value)) or _FOREIGN.get((key, None))


def _gated(key: str, value: str, dialect: Dialect) -> str | None:
    """Why ``dialect`` does not read what a newer release does."""
    option = {"untrusted": "trusted", "backendtype": value}.get(key, key)
    first = since(option)
    if first is None or dialect.accepts(option):
        return None
    if dialect == V6 and first == "4.17":
        return "V6 knows the flag virtio instead"
    return f"{key} is accepted by Xen {first} and newer, not by {dialect}"


def hint(text: str, dialect: Dialect) -> str | None:
    """What a refused string seems to mean and how ``dialect`` spells that; None where unrecognised."""
    grammar = _GRAMMARS[dialect.name]
    known = {*grammar.named, *grammar.flags, "target"}
    for piece in text.split(","):
        key, equals, value = piece.strip(" \t").partition("=")
        found = _gated(key, value, dialect)
        if found is None and (equals or key == "virtio") and key not in grammar.flags:
            found = foreign(key, value)
        if found is None and key == "grant_usage" and grammar.grant_usage and value[:1] not in ("0", "1"):
            found = "write grant_usage=1 or grant_usage=0"
        if found is None and equals and key not in known and not key.startswith("/"):
            near = difflib.get_close_matches(key.replace("_", "-"), sorted(known), 1, 0.7)
            found = f"did you mean {near[0]}?" if near else None
        if found:
            return found
    return _misspelt(text, grammar)


def _misspelt(text: str, grammar: _Grammar) -> str | None:
    """A bare word that is nearly a flag, which xl takes for the next positional parameter."""
    words = {flag: flag for flag in grammar.flags}
    words.setdefault("virtio", "specification=virtio")
    for piece in text.split(","):
        word = piece.strip(" \t")
        if _PARAMETER.match(word) and word not in words:
            near = difflib.get_close_matches(word, sorted(words), 1, 0.8)
            if near:
                return f"`{word}': did you mean {words[near[0]]}?"
    return None
