# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a configuration is kept out of results: passwords, and options that a user names. Pure.

A difference is shown to everybody who reads a play's output, and kept by whatever collects it. Passwords
(``vncpasswd``, ``spicepasswd``, those inside ``vfb``) are told by their names; of all else only the user knows.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ._guestoptions import OPTIONS, STOOD_FOR

HIDDEN = "********"

#: A setting of xl's, or a word inside one, whose name says that it holds a password.
_NAME = re.compile(r"passw", re.IGNORECASE)
_SETTING = re.compile(
    r"""(?P<name>[\w.]*passw\w*["']?\s*(?:\+?=|:)\s*)(?P<value>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[^,\s"'\]}]+)""",
    re.IGNORECASE,
)


def masked(text: str) -> str:
    """A text with every password in it hidden."""
    return _SETTING.sub(_hide, text)


def _hide(match: re.Match[str]) -> str:
    value = match["value"]
    quote = value[0] if value[0] in "\"'" else ""
    return f"{match['name']}{quote}{HIDDEN}{quote}"


def without_secrets(name: str, value: Any) -> Any:
    """A setting's value with every password in it hidden.

    Args:
        name: of the setting.
        value: text, or lists and mappings of it.
    """
    if value is None:
        return None
    if _NAME.search(name):
        return HIDDEN
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, Mapping):
        return {key: without_secrets(str(key), one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_secrets("", one) for one in value]
    return value


# --- options that a user names ---------------------------------------------------------------------------

EXTRA = "extra_config"

#: Options that say which guest it is, or that have parts of their own; those of disks are shown.
_NEVER = ("name", "disks")

#: A setting's name where a statement of xl's begins, also one that is commented out.
_STATEMENT = re.compile(r"(?:^|(?<=;))[ \t#]*(?P<key>[a-z][a-z0-9_.]*)\s*\+?=[ \t]*", re.MULTILINE)
_QUOTED = r"\"(?:\\.|[^\"\\])*\"?|'(?:\\.|[^'\\])*'?"
_TOKEN = re.compile(rf"{_QUOTED}|#[^\n]*|[\[\]]|[^\[\]\"'#]+", re.DOTALL)
_PLAIN = re.compile(rf"(?:{_QUOTED}|[^;\n])*", re.DOTALL)


class HiddenError(ValueError):
    """A name of ``hidden`` that is no option; the text says which, and what is near it."""


@dataclass(frozen=True)
class Hidden:
    """What a user wants to be shown to nobody.

    Attributes:
        names: options of a guest, ``extra_config.KEY`` for one key of that option.
    """

    names: frozenset[str] = frozenset()

    @classmethod
    def of(cls, names: Iterable[Any]) -> Hidden:
        """Out of the option ``hidden``. Raises HiddenError: a misspelt name would hide nothing."""
        listed = [str(name) for name in names]
        known = [name for name in OPTIONS if name not in _NEVER]
        for name in listed:
            top, dot, key = name.partition(".")
            if name not in known and not (top == EXTRA and dot and key):
                near = [] if name in _NEVER else difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {near[0]}?" if near else f"keys of {EXTRA} are named {EXTRA}.KEY"
                raise HiddenError(f"hidden: {name!r} is no option of a guest that can be hidden; {hint}")
        # what xl puts together into one command line is one secret
        both = {"cmdline", "root", "extra"} if {"cmdline", "root", "extra"} & set(listed) else set()
        return cls(frozenset({*listed, *both}))

    def covers(self, option: str) -> bool:
        """Whether an option is hidden, by its name or as a key of ``extra_config``."""
        top = option.partition(".")[0]
        return (
            option in self.names
            or f"{EXTRA}.{option}" in self.names
            or (top == EXTRA and EXTRA in self.names)
        )

    def covers_setting(self, key: str) -> bool:
        """Whether a setting of xl's is hidden, which an option may stand for."""
        named = key in OPTIONS or key in STOOD_FOR
        return self.covers(STOOD_FOR.get(key, key)) or (not named and EXTRA in self.names)

    def covers_record(self, option: str, said: frozenset[str]) -> bool:
        """Whether what libxl's record says is hidden.

        Args:
            option: the record's word for it.
            said: options that the record calls as xl does. Any other word may stand for any other option.
        """
        return self.covers(option) or (option not in said and bool(self.names - said))

    def text(self, text: str) -> str:
        """A configuration with what is hidden, and every password, hidden."""
        if not self.names:
            return masked(text)
        parts, position = [], 0
        for match in _STATEMENT.finditer(text):
            if match.start() < position or not self.covers_setting(match["key"]):
                continue
            parts += [text[position : match.end()], f'"{HIDDEN}"']
            position = _end_of_value(text, match.end())
        return masked("".join([*parts, text[position:]]))

    def values(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """A guest as declared, with what is hidden, and every password, hidden."""
        return {name: self._value(name, value) for name, value in options.items()}

    def _value(self, name: str, value: Any) -> Any:
        if value is not None and self.covers(name):
            return HIDDEN
        if name == EXTRA and isinstance(value, Mapping):
            return {
                key: HIDDEN if self.covers(f"{EXTRA}.{key}") else without_secrets(str(key), one)
                for key, one in value.items()
            }
        return without_secrets(name, value)


NOTHING = Hidden()


def _end_of_value(text: str, start: int) -> int:
    """Where a setting's value ends: a list with its bracket, all else with the line or a semicolon."""
    if text[start : start + 1] != "[":
        found = _PLAIN.match(text, start)
        return found.end() if found else start
    depth = 0
    for token in _TOKEN.finditer(text, start):
        depth += {"[": 1, "]": -1}.get(token[0], 0)
        if depth == 0:
            return token.end()
    return len(text)
