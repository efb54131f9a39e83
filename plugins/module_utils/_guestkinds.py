# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of options a guest has: how each is declared in an inventory, read from xl's settings, and written.

Source: parse_config_data and what it calls in Xen's tools/xl/xl_parse.c, and the enumerations of
tools/libs/light/libxl_types.idl. Each option has one normal form, in which two spellings of one meaning are
equal.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from ._xlcfg import ConfigError, Setting, Value, number_of, value_of


class OptionError(ValueError):
    """A value that an option does not take, or over which xl refuses a configuration."""


class IgnoredError(ValueError):
    """A setting that xl warns of and goes on without."""


_TRUE = frozenset(("yes", "on", "true", "1", "y", "t"))
_FALSE = frozenset(("no", "off", "false", "0", "n", "f"))


def refuse(value: object, wanted: str) -> NoReturn:
    """Raise OptionError."""
    raise OptionError(f"must be {wanted}, not {value!r}")


def _atom(setting: Setting) -> str:
    if not isinstance(setting.value, str):
        raise IgnoredError("is a list where xl wants a single value, and xl goes on without it")
    return setting.value


def items_of(setting: Setting) -> list[str]:
    """The items of a setting that is a list of atoms."""
    if isinstance(setting.value, str):
        raise IgnoredError("is a single value where xl wants a list, and xl goes on without it")
    items = []
    for item in setting.value:
        if not isinstance(item, str):
            raise OptionError("holds a list in a list, which xl does not read")
        items.append(item)
    return items


def _number(setting: Setting) -> int:
    text = _atom(setting)
    number = None if setting.added else number_of(text)
    if number is None:
        how = "is added to with += " if setting.added else f"{text!r} is no number to xl, "
        raise IgnoredError(f"{how}and xl goes on without it")
    return number


def as_text(value: object) -> str:
    """``value`` of an inventory as text that a configuration can carry; numbers may be numbers."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        refuse(value, "text (quote it)")
    try:
        return str(value_of("it", value))
    except ConfigError as error:
        raise OptionError(str(error)[len("it: ") :]) from None


def as_list(value: object) -> Sequence[Any]:
    """``value`` of an inventory as a sequence that is no text."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        refuse(value, "a list")
    return value


def as_boolean(value: object) -> bool:
    """``value`` of an inventory in one of the ways in which Ansible writes booleans."""
    word = str(value).strip().lower() if isinstance(value, (bool, int, str)) else ""
    if word not in _TRUE and word not in _FALSE:
        refuse(value, "true or false")
    return word in _TRUE


def as_number(value: object, low: int, high: int) -> int:
    """``value`` of an inventory as a whole number in ``low``…``high``, also from text."""
    number = number_of(value.strip()) if isinstance(value, str) else value
    if not isinstance(number, int) or isinstance(number, bool) or not low <= number <= high:
        refuse(value, f"a whole number from {low} to {high}")
    return int(number)


# --- kinds of options ------------------------------------------------------------------------------------


class Kind:
    """How the options of one kind are declared, read and written; this one is plain text.

    ``declare`` takes an inventory's value, ``read`` a setting of xl's; both return the normal form and raise
    OptionError, ``read`` also IgnoredError. ``render`` takes a normal form.
    """

    #: How Ansible is to take it (argument spec).
    spec: Mapping[str, Any] = {"type": "str"}

    def declare(self, value: object) -> Any:
        return as_text(value)

    def read(self, setting: Setting) -> Any:
        return _atom(setting)

    def render(self, value: Any) -> Value:
        return value_of("it", value)


class Text(Kind):
    """Text that says something only where it is not empty."""

    def declare(self, value: object) -> str:
        return as_text(value) or refuse(value, "text that is not empty")

    def read(self, setting: Setting) -> str:
        return _atom(setting) or refuse("", "text that is not empty")


class Name(Text):
    """A domain's name, which is also a file name, and an argument of xl that must not look like another."""

    def declare(self, value: object) -> str:
        name = as_text(value)
        if not name or len(name.encode("utf-8", "surrogateescape")) > 200:
            raise OptionError(f"must be 1 to 200 bytes long, not {name!r}")
        if not name.isprintable() or "/" in name or name != name.strip() or name[0] in "-.":
            raise OptionError(
                f"{name!r} is no name to use: it must not hold slashes or control characters, begin with a "
                "dash or a dot, or begin or end with a blank"
            )
        if name.isascii() and name.isdigit():
            raise OptionError(f"{name!r} is a number, which xl takes for a domid")
        if name == "Domain-0":
            raise OptionError("'Domain-0' is the name of dom0")
        return name

    def read(self, setting: Setting) -> str:
        return self.declare(_atom(setting))


class Uuid(Kind):
    _FORM = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z", re.ASCII)

    def declare(self, value: object) -> str:
        text = as_text(value).strip().lower()
        return text if self._FORM.match(text) else refuse(value, "a UUID")

    def read(self, setting: Setting) -> str:
        return self.declare(_atom(setting))


class Number(Kind):
    spec: Mapping[str, Any] = {"type": "int"}

    def __init__(self, low: int = 0, high: int = 2**31 - 1) -> None:
        self.low = low
        self.high = high

    def declare(self, value: object) -> int:
        return as_number(value, self.low, self.high)

    def read(self, setting: Setting) -> int:
        return self.declare(_number(setting))


class Vcpus(Number):
    """xl takes none for one."""

    def read(self, setting: Setting) -> int:
        return self.declare(_number(setting) or 1)


class Maxvcpus(Number):
    """xl takes none for nothing said."""

    def read(self, setting: Setting) -> int | None:  # type: ignore[override]
        return super().read(setting) if _number(setting) else None


class Bounded(Number):
    """A number without which xl does not go on (xlu_cfg_get_bounded_long)."""

    def read(self, setting: Setting) -> int:
        try:
            return super().read(setting)
        except IgnoredError:
            raise OptionError(f"{setting.value!r} is no number to xl") from None


class Boolean(Kind):
    spec: Mapping[str, Any] = {"type": "bool"}

    def declare(self, value: object) -> bool:
        return as_boolean(value)

    def read(self, setting: Setting) -> bool:
        return _number(setting) != 0


class Choice(Kind):
    """One of some words. xl takes those of libxl in any case."""

    def __init__(self, *choices: str, caseless: bool = True) -> None:
        self.choices = choices
        self.caseless = caseless
        self.spec = {"type": "str", "choices": list(choices)}

    def declare(self, value: object) -> str:
        word = as_text(value)
        return word if word in self.choices else refuse(value, f"one of {', '.join(self.choices)}")

    def read(self, setting: Setting) -> str:
        word = _atom(setting)
        return self.declare(word.lower() if self.caseless else word)


class Type(Choice):
    """xl takes any beginning of a word: "p" is pv, and nothing at all is hvm."""

    def __init__(self) -> None:
        super().__init__("pv", "pvh", "hvm")

    def read(self, setting: Setting) -> str:
        word = _atom(setting)
        for choice in ("hvm", "pv", "pvh"):
            if choice.startswith(word):
                return choice
        return str(refuse(word, "one of pv, pvh, hvm"))


class TscMode(Choice):
    """Also as a number, which is deprecated."""

    def __init__(self) -> None:
        super().__init__("default", "always_emulate", "native", "native_paravirt")

    def read(self, setting: Setting) -> str:
        try:
            number = _number(setting)
        except IgnoredError:
            return super().read(setting)
        return self.choices[number] if 0 <= number < 4 else str(refuse(number, "a mode from 0 to 3"))


class File(Text):
    """A file on dom0: a path, or where it comes from with what it must be (``src``, ``checksum``)."""

    spec: Mapping[str, Any] = {"type": "raw"}

    def declare(self, value: object) -> Any:
        if not isinstance(value, Mapping):
            return super().declare(value)
        for key in value:
            if key not in ("src", "checksum"):
                raise OptionError(f"unknown key {key!r}; known are src and checksum")
        if value.get("src") is None:
            raise OptionError("src is missing")
        source = {"src": super().declare(value["src"])}
        if value.get("checksum") is not None:
            source["checksum"] = "sha256:" + digest(value["checksum"])
        return source


_SHA256 = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})\Z", re.ASCII)


def digest(checksum: object) -> str:
    """The 64 hexadecimal digits of a ``sha256:`` checksum, in lower case. Raises OptionError."""
    match = _SHA256.match(checksum.strip()) if isinstance(checksum, str) else None
    if match is None:
        refuse(checksum, "'sha256:' and 64 hexadecimal digits")
    return match[1].lower()


class Texts(Kind):
    """A list of texts."""

    spec: Mapping[str, Any] = {"type": "list", "elements": "str"}

    def item(self, value: object) -> Any:
        """The normal form of one item."""
        return as_text(value)

    def written(self, value: Any) -> str:
        """One item, from its normal form, as xl reads it."""
        return str(value)

    def declare(self, value: object) -> list[Any]:
        return [self.item(item) for item in as_list(value)]

    def read(self, setting: Setting) -> list[Any]:
        return [self.item(item) for item in items_of(setting)]

    def render(self, value: Any) -> Value:
        return [self.written(item) for item in value]


class Arguments(Texts):
    """A list of words; one text with blanks between them is deprecated."""

    def read(self, setting: Setting) -> list[str]:
        if isinstance(setting.value, str):
            return [word for word in re.split("[ \t\n]+", setting.value) if word]
        return super().read(setting)


class Serial(Texts):
    """One text, or a list of them. xl asks for it in hvm guests alone."""

    spec: Mapping[str, Any] = {"type": "raw"}

    def declare(self, value: object) -> list[str]:
        return [as_text(value)] if isinstance(value, str) else super().declare(value)

    def read(self, setting: Setting) -> list[str]:
        return [setting.value] if isinstance(setting.value, str) else super().read(setting)

    def render(self, value: Any) -> Value:
        return str(value[0]) if len(value) == 1 else super().render(value)


class Paths(Texts):
    """Absolute paths, of a device tree."""

    def item(self, value: object) -> str:
        text = as_text(value)
        return text if text.startswith("/") else refuse(value, "an absolute path in the device tree")


class Irqs(Texts):
    spec: Mapping[str, Any] = {"type": "list", "elements": "int"}

    def item(self, value: object) -> int:
        number = value
        if isinstance(value, str):  # decimal, whatever it begins with
            match = re.match(r"[ \t\n\v\f\r]*\+?([0-9]{1,18})\Z", value, re.ASCII)
            number = int(match[1]) if match else refuse(value, "a whole number")
        return as_number(number, 0, 2**32 - 2)


def hexadecimal(text: str, bits: int) -> int:
    """A number of at most ``bits`` bits, with or without 0x."""
    match = re.match(r"\s*\+?(?:0[xX])?([0-9a-fA-F]{1,16})\Z", text, re.ASCII)
    number = int(match[1], 16) if match else -1
    if not 0 <= number < 2**bits:
        raise OptionError(f"{text!r} is no hexadecimal number of {bits} bits")
    return number


class Iomem(Texts):
    """``START,NUMBER[@GFN]``, pages in hexadecimal; GFN is START where it is left out."""

    def item(self, value: object) -> str:
        text = as_text(value)
        start, comma, rest = text.partition(",")
        number, at, guest = rest.partition("@")
        if not comma:
            refuse(value, "START,NUMBER[@GFN] in hexadecimal")
        first, count = hexadecimal(start, 64), hexadecimal(number, 64)
        frame = hexadecimal(guest, 64) if at else first
        return f"{first:x},{count:x}" + ("" if frame == first else f"@{frame:x}")


class Ioports(Texts):
    """``FIRST[-LAST]`` in hexadecimal."""

    def item(self, value: object) -> str:
        first, dash, last = as_text(value).partition("-")
        low = hexadecimal(first, 32)
        high = hexadecimal(last, 32) if dash else low
        if low > high or high == 2**32 - 1:
            refuse(value, "FIRST[-LAST] in hexadecimal")
        return f"{low:x}" if low == high else f"{low:x}-{high:x}"


class Colors(Texts):
    """A number or a range ``FIRST-LAST`` each."""

    def item(self, value: object) -> str:
        text = as_text(value)
        match = _RANGE.match(text)
        if match is None or int(match[1]) > int(match[2] or match[1]):
            refuse(value, "a number or a range FIRST-LAST")
        return text

    def read(self, setting: Setting) -> list[str]:
        items = []
        for text in items_of(setting):  # whatever follows the numbers is not read
            match = re.match(r"\s*\+?([0-9]+(?:-\s*\+?[0-9]+)?)", text, re.ASCII)
            items.append(self.item(re.sub(r"[\s+]", "", match[1]) if match else text))
        return items


_RANGE = re.compile(r"([0-9]{1,6})(?:-([0-9]{1,6}))?\Z", re.ASCII)


def _ranges(text: str) -> str:
    """Numbers and ranges between commas, in order and joined; ``^`` takes away. Other words stay."""
    words = [word.strip(" \t") for word in text.split(",") if word]
    chosen: set[int] = set()
    for word in words:
        match = _RANGE.match(word[1:] if word.startswith("^") else word)
        if match is None:
            return ",".join(words)
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last or last - first > 65535:
            refuse(text, "numbers and ranges FIRST-LAST")
        if word.startswith("^"):
            chosen.difference_update(range(first, last + 1))
        else:
            chosen.update(range(first, last + 1))
    runs: list[list[int]] = []
    for number in sorted(chosen):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join([f"{a}" if a == b else f"{a}-{b}" for a, b in runs])


_CPULIST = re.compile(
    r"(\^?(nodes?:)?[0-9]+(-[0-9]+)?|(nodes?:)?all)(,(\^?(nodes?:)?[0-9]+(-[0-9]+)?|(nodes?:)?all))*\Z"
)


class Cpus(Kind):
    """For all vCPUs one text (``0-3,^1``), or a list with one for each."""

    spec: Mapping[str, Any] = {"type": "raw"}

    def _one(self, value: object) -> str:
        text = _ranges(as_text(value))
        return (
            text if _CPULIST.match(text) else refuse(value, "a list of CPUs such as 0-3,^1 or nodes:0 or all")
        )

    def declare(self, value: object) -> Any:
        if isinstance(value, (str, int)):
            return self._one(value)
        return [self._one(item) for item in as_list(value)]

    def read(self, setting: Setting) -> Any:
        if isinstance(setting.value, str):
            return self._one(setting.value)
        return [self._one(item) for item in items_of(setting)]


class Quota(Kind):
    """Quotas of xenstore by name."""

    spec: Mapping[str, Any] = {"type": "dict"}

    def declare(self, value: object) -> dict[str, int]:
        pairs = dict(value) if isinstance(value, Mapping) else {}
        if not isinstance(value, Mapping):
            for item in as_list(value):
                name, equals, number = as_text(item).partition("=")
                pairs[name] = number if equals else refuse(item, "NAME=NUMBER")
        for name in pairs:
            if not isinstance(name, str) or not re.match(r"[A-Za-z0-9_.-]+\Z", name):
                refuse(name, "the name of a quota")
        return {name: as_number(pairs[name], 0, 2**32 - 1) for name in sorted(pairs)}

    def read(self, setting: Setting) -> dict[str, int]:
        return self.declare(items_of(setting))

    def render(self, value: Any) -> Value:
        return [f"{name}={number}" for name, number in value.items()]
