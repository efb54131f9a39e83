# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The named options of a guest: what each is in an inventory, in an xl configuration, and since when.

Source: parse_config_data and what it calls in Xen's tools/xl/xl_parse.c, the enumerations of
tools/libs/light/libxl_types.idl, and docs/man/xl.cfg.5. Each option has one normal form, in which two
spellings of one meaning are equal.
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


def _refuse(value: object, wanted: str) -> NoReturn:
    raise OptionError(f"must be {wanted}, not {value!r}")


def _atom(setting: Setting) -> str:
    if not isinstance(setting.value, str):
        raise IgnoredError("is a list where xl wants a single value, and xl goes on without it")
    return setting.value


def _items(setting: Setting) -> list[str]:
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
        _refuse(value, "text (quote it)")
    try:
        return str(value_of("it", value))
    except ConfigError as error:
        raise OptionError(str(error)[len("it: ") :]) from None


def as_list(value: object) -> Sequence[Any]:
    """``value`` of an inventory as a sequence that is no text."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        _refuse(value, "a list")
    return value


def as_boolean(value: object) -> bool:
    """``value`` of an inventory in one of the ways in which Ansible writes booleans."""
    word = str(value).strip().lower() if isinstance(value, (bool, int, str)) else ""
    if word not in _TRUE and word not in _FALSE:
        _refuse(value, "true or false")
    return word in _TRUE


def as_number(value: object, low: int, high: int) -> int:
    """``value`` of an inventory as a whole number in ``low``…``high``, also from text."""
    number = number_of(value.strip()) if isinstance(value, str) else value
    if not isinstance(number, int) or isinstance(number, bool) or not low <= number <= high:
        _refuse(value, f"a whole number from {low} to {high}")
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
        return as_text(value) or _refuse(value, "text that is not empty")

    def read(self, setting: Setting) -> str:
        return _atom(setting) or _refuse("", "text that is not empty")


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
        return text if self._FORM.match(text) else _refuse(value, "a UUID")

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
        return word if word in self.choices else _refuse(value, f"one of {', '.join(self.choices)}")

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
        return str(_refuse(word, "one of pv, pvh, hvm"))


class TscMode(Choice):
    """Also as a number, which is deprecated."""

    def __init__(self) -> None:
        super().__init__("default", "always_emulate", "native", "native_paravirt")

    def read(self, setting: Setting) -> str:
        try:
            number = _number(setting)
        except IgnoredError:
            return super().read(setting)
        return self.choices[number] if 0 <= number < 4 else str(_refuse(number, "a mode from 0 to 3"))


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
        _refuse(checksum, "'sha256:' and 64 hexadecimal digits")
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
        return [self.item(item) for item in _items(setting)]

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
        return text if text.startswith("/") else _refuse(value, "an absolute path in the device tree")


class Irqs(Texts):
    spec: Mapping[str, Any] = {"type": "list", "elements": "int"}

    def item(self, value: object) -> int:
        number = value
        if isinstance(value, str):  # decimal, whatever it begins with
            match = re.match(r"[ \t\n\v\f\r]*\+?([0-9]{1,18})\Z", value, re.ASCII)
            number = int(match[1]) if match else _refuse(value, "a whole number")
        return as_number(number, 0, 2**32 - 2)


def _hexadecimal(text: str, bits: int) -> int:
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
            _refuse(value, "START,NUMBER[@GFN] in hexadecimal")
        first, count = _hexadecimal(start, 64), _hexadecimal(number, 64)
        frame = _hexadecimal(guest, 64) if at else first
        return f"{first:x},{count:x}" + ("" if frame == first else f"@{frame:x}")


class Ioports(Texts):
    """``FIRST[-LAST]`` in hexadecimal."""

    def item(self, value: object) -> str:
        first, dash, last = as_text(value).partition("-")
        low = _hexadecimal(first, 32)
        high = _hexadecimal(last, 32) if dash else low
        if low > high or high == 2**32 - 1:
            _refuse(value, "FIRST[-LAST] in hexadecimal")
        return f"{low:x}" if low == high else f"{low:x}-{high:x}"


class Colors(Texts):
    """A number or a range ``FIRST-LAST`` each."""

    def item(self, value: object) -> str:
        text = as_text(value)
        match = _RANGE.match(text)
        if match is None or int(match[1]) > int(match[2] or match[1]):
            _refuse(value, "a number or a range FIRST-LAST")
        return text

    def read(self, setting: Setting) -> list[str]:
        items = []
        for text in _items(setting):  # whatever follows the numbers is not read
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
            _refuse(text, "numbers and ranges FIRST-LAST")
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
            text
            if _CPULIST.match(text)
            else _refuse(value, "a list of CPUs such as 0-3,^1 or nodes:0 or all")
        )

    def declare(self, value: object) -> Any:
        if isinstance(value, (str, int)):
            return self._one(value)
        return [self._one(item) for item in as_list(value)]

    def read(self, setting: Setting) -> Any:
        if isinstance(setting.value, str):
            return self._one(setting.value)
        return [self._one(item) for item in _items(setting)]


# --- devices ---------------------------------------------------------------------------------------------

_VIF_TEXTS = ("bridge", "gatewaydev", "ip", "script", "backend", "vifname", "model", "rate", "vlan")
_VIF_KEYS = ("mac", *_VIF_TEXTS, "type", "devid", "mtu", "trusted")
_VIF_TYPES = ("vif", "ioemu")
_MAC = re.compile(r"[0-9a-fA-F]{1,2}([:-][0-9a-fA-F]{1,2}){5}\Z", re.ASCII)


def _is_vif_key(key: object) -> bool:
    return key in _VIF_KEYS or (
        isinstance(key, str) and re.match(r"forwarddev\Z|colo_[a-z0-9_]+\Z", key) is not None
    )


def _vif_word(key: str, text: str) -> str:
    """A value as xl takes it out of a text: of numbers what they begin with, of an address no blanks after it."""
    number = re.match(r"[ \t]*\+?([0-9]+)", text, re.ASCII) if key in ("devid", "mtu") else None
    if number:
        return number[1].lstrip("0") or "0"
    return text.rstrip(" ") if key == "mac" else text


def _vif_value(key: str, value: object) -> Any:
    if key == "trusted":
        return as_boolean(value)
    if key in ("devid", "mtu"):
        return as_number(value, 0, 2**31 - 1)
    text = as_text(value)
    if "," in text:
        raise OptionError(f"{key} {text!r} holds a comma, which no vif can carry")
    if key == "mac":
        if not _MAC.match(text):
            _refuse(value, "a MAC address, 00:16:3e:xx:xx:xx")
        return ":".join([f"{int(part, 16):02x}" for part in re.split("[:-]", text)])
    if key == "type" and text not in _VIF_TYPES:
        _refuse(value, "vif or ioemu")
    return text


class Vif(Texts):
    """A network device: a mapping, or a text as xl reads it (parse_nic_config)."""

    spec: Mapping[str, Any] = {"type": "list", "elements": "raw"}

    @staticmethod
    def words(text: str) -> tuple[dict[str, Any], list[str]]:
        """What a text says by key, and the words in it that xl does not know and reads past."""
        said: dict[str, Any] = {}
        unknown = []
        for word in text.split(","):
            token = word.lstrip(" ")
            key, equals, value = token.partition("=")
            if token in ("trusted", "untrusted"):
                said["trusted"] = token == "trusted"
            elif not token or (equals and key == "accel"):
                continue  # xl says itself that it does nothing with accel
            elif equals and key == "netdev":
                said["gatewaydev"] = value
            elif equals and key == "type" and value not in _VIF_TYPES:
                unknown.append(token)
            elif equals and _is_vif_key(key) and key != "trusted":
                said[key] = _vif_word(key, value)
            else:
                unknown.append(token)
        return said, unknown

    def item(self, value: object) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            value, unknown = self.words(as_text(value))
            if unknown:
                raise OptionError(f"unknown word {unknown[0]!r} of a vif")
        vif = {}
        for key in value:
            if not _is_vif_key(key):
                raise OptionError(f"unknown key {key!r} of a vif; known are {', '.join(_VIF_KEYS)}")
        for key in [*_VIF_KEYS, *sorted(set(value) - set(_VIF_KEYS))]:
            if value.get(key) is not None:
                vif[key] = _vif_value(key, value[key])
        return vif

    def read(self, setting: Setting) -> list[dict[str, Any]]:
        return [self.item(self.words(text)[0]) for text in _items(setting)]

    def written(self, value: Any) -> str:
        words = []
        for key, said in value.items():
            words.append(("trusted" if said else "untrusted") if key == "trusted" else f"{key}={said}")
        return ",".join(words)


_BDF = re.compile(
    r"(?:([0-9a-fA-F]{1,4}):)?([0-9a-fA-F]{1,2}):([01]?[0-9a-fA-F])\.([0-7]|\*)(?:@((?:0[xX])?[0-9a-fA-F]{1,8}))?\Z",
    re.ASCII,
)
_PCI_FLAGS = ("msitranslate", "permissive", "power_mgmt", "seize")


class Pci(Texts):
    """A PCI device: a text as xl reads it (xlu_pci_parse_spec_string), or a mapping of the same words."""

    spec: Mapping[str, Any] = {"type": "list", "elements": "raw"}

    @staticmethod
    def _words(text: str) -> dict[str, Any]:
        said: dict[str, Any] = {}
        for place, word in enumerate(text.split(",")):
            key, equals, value = word.partition("=")
            if not equals and place == 0 and ":" in word:
                said["bdf"] = word
            elif equals:
                said[key] = bool(re.match(r"\s*[+-]?0*[1-9]", value)) if key in _PCI_FLAGS else value
            elif word:
                _refuse(text, "a PCI device: [DOMAIN:]BUS:DEVICE.FUNCTION[@VSLOT][,KEY=VALUE...]")
        return said

    def item(self, value: object) -> str:
        said = dict(value) if isinstance(value, Mapping) else self._words(as_text(value))
        bdf, slot, name = said.pop("bdf", None), said.pop("vslot", None), said.pop("name", None)
        if (bdf is None) == (name is None):
            _refuse(value, "a PCI device by its address or by its name")
        words = []
        if bdf is not None:
            match = _BDF.match(as_text(bdf))
            if match is None:
                _refuse(value, "a PCI device: [DOMAIN:]BUS:DEVICE.FUNCTION[@VSLOT]")
            domain, bus, device, function, at = match.groups()
            place = f"{int(domain or '0', 16):04x}:{int(bus, 16):02x}:{int(device, 16):02x}.{function}"
            slot = at if slot is None else slot
            words.append(place if slot is None else f"{place}@{_hexadecimal(as_text(slot), 5):x}")
        else:
            words.append(f"name={_vif_value('name', name)}")
            if slot is not None:
                words.append(f"vslot={_hexadecimal(as_text(slot), 5):x}")
        for key in _PCI_FLAGS:
            if said.get(key) is not None:
                words.append(f"{key}={int(as_boolean(said.pop(key)))}")
        policy = said.pop("rdm_policy", None)
        if policy is not None:
            policy = as_text(policy).lower()
            if policy not in ("strict", "relaxed"):
                _refuse(policy, "strict or relaxed")
            words.append(f"rdm_policy={policy}")
        said = {key: left for key, left in said.items() if left is not None}
        if said:
            raise OptionError(f"unknown word {next(iter(said))!r} of a PCI device")
        return ",".join(words)


class Quota(Kind):
    """Quotas of xenstore by name."""

    spec: Mapping[str, Any] = {"type": "dict"}

    def declare(self, value: object) -> dict[str, int]:
        pairs = dict(value) if isinstance(value, Mapping) else {}
        if not isinstance(value, Mapping):
            for item in as_list(value):
                name, equals, number = as_text(item).partition("=")
                pairs[name] = number if equals else _refuse(item, "NAME=NUMBER")
        for name in pairs:
            if not isinstance(name, str) or not re.match(r"[A-Za-z0-9_.-]+\Z", name):
                _refuse(name, "the name of a quota")
        return {name: as_number(pairs[name], 0, 2**32 - 1) for name in sorted(pairs)}

    def read(self, setting: Setting) -> dict[str, int]:
        return self.declare(_items(setting))

    def render(self, value: Any) -> Value:
        return [f"{name}={number}" for name, number in value.items()]


# --- the table -------------------------------------------------------------------------------------------

ACTIONS = (
    "destroy",
    "restart",
    "rename-restart",
    "preserve",
    "coredump-destroy",
    "coredump-restart",
    "soft-reset",
)
_ACTION = Choice(*ACTIONS, caseless=False)
_MIB = Number(1, 2**40)
_SVE = Choice("disabled", "hw", *[str(bits) for bits in range(128, 2049, 128)])

#: Options with one setting of xl's each, of that name, in the order in which they are written.
KINDS: dict[str, Kind] = {
    "name": Name(),
    "uuid": Uuid(),
    "type": Type(),
    "memory": _MIB,
    "maxmem": _MIB,
    "vcpus": Vcpus(1, 4096),
    "maxvcpus": Maxvcpus(1, 4096),
    "cpus": Cpus(),
    "cpus_soft": Cpus(),
    "pool": Text(),
    "cpu_weight": Number(1, 65535),
    "cap": Number(),
    "kernel": File(),
    "ramdisk": File(),
    "cmdline": Kind(),
    "firmware": Text(),
    "bootloader": Text(),
    "bootloader_args": Arguments(),
    "bootloader_restrict": Boolean(),
    "bootloader_user": Text(),
    "device_tree": File(),
    "dtdev": Paths(),
    "iomem": Iomem(),
    "ioports": Ioports(),
    "irqs": Irqs(),
    "passthrough": Choice("default", "disabled", "enabled", "sync_pt", "share_pt"),
    "pci": Pci(),
    "pci_msitranslate": Boolean(),
    "pci_permissive": Boolean(),
    "pci_power_mgmt": Boolean(),
    "pci_seize": Boolean(),
    "gic_version": Choice("default", "v2", "v3"),
    "nr_spis": Number(0, 5088),
    "vuart": Choice("unknown", "sbsa_uart"),
    "tee": Choice("none", "optee", "ffa"),
    "sve": _SVE,
    "arm_sci": Text(),
    "llc_colors": Colors(),
    "trap_unmapped_accesses": Boolean(),
    "vif": Vif(),
    "channel": Texts(),
    "serial": Serial(),
    "driver_domain": Boolean(),
    "xenstore_quota": Quota(),
    "xenstore_feature_mask": Number(0, 2**32 - 1),
    "max_grant_frames": Bounded(),
    "max_maptrack_frames": Bounded(),
    "max_grant_version": Bounded(),
    "max_event_channels": Number(),
    "shadow_memory": Number(0, 2**40),
    "seclabel": Text(),
    "init_seclabel": Text(),
    "on_poweroff": _ACTION,
    "on_reboot": _ACTION,
    "on_watchdog": _ACTION,
    "on_crash": _ACTION,
    "on_soft_reset": _ACTION,
    "acpi": Boolean(),
    "hap": Boolean(),
    "e820_host": Boolean(),
    "vpmu": Boolean(),
    "nomigrate": Boolean(),
    "localtime": Boolean(),
    "rtc_timeoffset": Number(-(2**31)),
    "tsc_mode": TscMode(),
}

#: Options with several settings of xl's, or none.
OTHERS: dict[str, Mapping[str, Any]] = {
    "root": {"type": "str"},
    "extra": {"type": "str"},
    "disks": {"type": "list", "elements": "raw"},
    "virtio": {"type": "list", "elements": "raw"},
    "extra_config": {"type": "dict"},
}

#: All named options, as a guest in an inventory has them.
OPTIONS: tuple[str, ...] = (*KINDS, *OTHERS)

#: Settings of xl's that a named option stands for, under another name or only in old configurations.
STOOD_FOR: dict[str, str] = {"disk": "disks", "root": "cmdline", "extra": "cmdline", "builder": "type"}

#: What may be a path on dom0, or ``{src, checksum}``.
FILES: tuple[str, ...] = ("kernel", "ramdisk", "device_tree")

#: What xl and libxl take where nothing is said, as far as it does not depend on the host or other options.
DEFAULTS: dict[str, Any] = {
    "cmdline": "",
    "bootloader_args": [],
    "dtdev": [],
    "iomem": [],
    "ioports": [],
    "irqs": [],
    "passthrough": "default",
    "pci": [],
    "pci_msitranslate": False,
    "pci_permissive": False,
    "pci_power_mgmt": False,
    "pci_seize": False,
    "gic_version": "default",
    "vuart": "unknown",
    "tee": "none",
    "sve": "disabled",
    "arm_sci": "type=none",
    "llc_colors": [],
    "trap_unmapped_accesses": True,
    "vif": [],
    "channel": [],
    "serial": [],
    "driver_domain": False,
    "xenstore_quota": {},
    "on_poweroff": "destroy",
    "on_reboot": "restart",
    "on_watchdog": "destroy",
    "on_crash": "destroy",
    "on_soft_reset": "soft-reset",
    "vpmu": False,
    "nomigrate": False,
    "localtime": False,
    "rtc_timeoffset": 0,
    "tsc_mode": "default",
}

#: Settings that not every release since 4.17 knows, by the first that does (xl_parse.c of each).
SINCE: dict[str, str] = {
    "bootloader_restrict": "4.18",
    "bootloader_user": "4.18",
    "smbios": "4.18",
    "sve": "4.18",
    "virtio": "4.18",
    "hvm_pirq": "4.19",
    "nr_spis": "4.19",
    "llc_colors": "4.20",
    "altp2m_count": "4.21",
    "arm_sci": "4.21",
    "trap_unmapped_accesses": "4.21",
    "xen_platform_pci_bar_uc": "4.21",
    "xenstore_feature_mask": "4.21",
    "xenstore_quota": "4.22",
}

#: The same of single values.
VALUES_SINCE: dict[tuple[str, str], str] = {("tee", "ffa"): "4.18"}

#: The options of one guest as Ansible takes them (the doc fragment ``xen.virtio.guest`` describes them).
GUEST_ARGUMENT_SPEC: dict[str, Any] = {
    name: dict(KINDS[name].spec if name in KINDS else OTHERS[name]) for name in OPTIONS
}
