# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Network and PCI devices of a guest, as options: declared, read and written (see _guestkinds)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ._guestkinds import OptionError, Texts, as_boolean, as_number, as_text, hexadecimal, items_of, refuse
from ._xlcfg import Setting

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
            refuse(value, "a MAC address, 00:16:3e:xx:xx:xx")
        return ":".join([f"{int(part, 16):02x}" for part in re.split("[:-]", text)])
    if key == "type" and text not in _VIF_TYPES:
        refuse(value, "vif or ioemu")
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
        return [self.item(self.words(text)[0]) for text in items_of(setting)]

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
                refuse(text, "a PCI device: [DOMAIN:]BUS:DEVICE.FUNCTION[@VSLOT][,KEY=VALUE...]")
        return said

    def item(self, value: object) -> str:
        said = dict(value) if isinstance(value, Mapping) else self._words(as_text(value))
        bdf, slot, name = said.pop("bdf", None), said.pop("vslot", None), said.pop("name", None)
        if (bdf is None) == (name is None):
            refuse(value, "a PCI device by its address or by its name")
        words = []
        if bdf is not None:
            match = _BDF.match(as_text(bdf))
            if match is None:
                refuse(value, "a PCI device: [DOMAIN:]BUS:DEVICE.FUNCTION[@VSLOT]")
            domain, bus, device, function, at = match.groups()
            place = f"{int(domain or '0', 16):04x}:{int(bus, 16):02x}:{int(device, 16):02x}.{function}"
            slot = at if slot is None else slot
            words.append(place if slot is None else f"{place}@{hexadecimal(as_text(slot), 5):x}")
        else:
            words.append(f"name={_vif_value('name', name)}")
            if slot is not None:
                words.append(f"vslot={hexadecimal(as_text(slot), 5):x}")
        for key in _PCI_FLAGS:
            if said.get(key) is not None:
                words.append(f"{key}={int(as_boolean(said.pop(key)))}")
        policy = said.pop("rdm_policy", None)
        if policy is not None:
            policy = as_text(policy).lower()
            if policy not in ("strict", "relaxed"):
                refuse(policy, "strict or relaxed")
            words.append(f"rdm_policy={policy}")
        said = {key: left for key, left in said.items() if left is not None}
        if said:
            raise OptionError(f"unknown word {next(iter(said))!r} of a PCI device")
        return ",".join(words)
