# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest out of an xl configuration as people write it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from ._dialect import Dialect
from ._diskspec import Declared, DiskSpecError, parse_with_notes
from ._guestdeclare import Blame, GuestError, GuestSpec, command_line, in_order, one_disk
from ._guestdevices import Vif
from ._guestkinds import IgnoredError, OptionError
from ._guestoptions import KINDS, STOOD_FOR
from ._virtio import VirtioDevice, VirtioError, parse_virtio
from ._xlcfg import ConfigError, Setting, number_of, parse_settings


class _Reader:
    """One configuration on its way to a GuestSpec."""

    def __init__(self, settings: dict[str, Setting], dialect: Dialect | None) -> None:
        self.settings = settings
        self.dialect = dialect
        self.notes: list[str] = []
        name = settings.get("name")
        self.blame = Blame(name.value if name else None)

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
        options["cmdline"] = command_line(lines)
        if "cmdline" in lines and len(lines) > 1:
            self.notes.append("cmdline: xl ignores root and extra beside it")
        for key in ("tsc_mode", "bootloader_args", "vif"):
            self._deprecated(key, options[key])
        return GuestSpec(
            name,
            in_order({key: value for key, value in options.items() if value is not None}),
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
            yield one_disk(Declared(spec))

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
