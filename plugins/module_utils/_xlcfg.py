# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The grammar of an xl configuration, both ways: text and settings.

Read as the real scanner and parser do (libxlu_cfg_l.l, libxlu_cfg_y.y and libxlu_cfg.c in Xen's
tools/libs/util; the same from 4.17 to 4.22), quirks included. Refused although xl reads it: a NUL anywhere,
over which xl ends itself, and lists nested deeper than MAX_DEPTH.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn, Union

#: An atom is text, also where it is a number; lists nest.
Value = Union[str, list["Value"]]

#: Lists in lists; xl itself looks no deeper than two.
MAX_DEPTH = 64

#: Longest line a list is written on; a longer one gets a line for each item.
_WIDTH = 100


class ConfigError(ValueError):
    """A text that xl would refuse, or settings that no text can carry.

    ``line`` counts from 1 and is None where there is no text; ``key`` names the setting to blame.
    """

    def __init__(self, text: str, *, line: int | None = None, key: str | None = None) -> None:
        super().__init__(text)
        self.line = line
        self.key = key


class Setting(NamedTuple):
    """The last word of a text on one key."""

    value: Value
    added: bool  #: said with "+=": xl then takes it for no number, whatever it holds
    line: int


# --- text, read ------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"""[ \t]*(?:
    (?P<newline>\n|\#[^\n]*\n)
    | (?P<ident>[a-z][._0-9a-z]*)
    | (?P<atom>[0-9][0-9a-fx]*)
    | (?P<string>'(?:[^'\\\n]|\\[^\n])*' | "(?:[^"\\\n]|\\[^\n])*")
    | (?P<sign>\+=|[][=,;])
    | (?P<end>\Z)
    )""",
    re.VERBOSE,
)
_LETTERS = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_PLAIN = "\"'\\"


class _Token(NamedTuple):
    kind: str  #: "newline", "ident", "atom", "end", or the sign itself
    text: str
    line: int


def _unescaped(quoted: str, line: int) -> str:
    """What xl reads between quotes (xlu__cfgl_dequote).

    A numerical escape is refused in hexadecimal; in "octal" it takes up to three more characters that must
    be a decimal number of two or more, and stands for nothing.
    """
    inner = quoted[1:-1]
    if "\\" not in inner:
        return inner
    pieces = []
    position = 0
    while True:
        slash = inner.find("\\", position)
        if slash < 0:
            pieces.append(inner[position:])
            return "".join(pieces)
        pieces.append(inner[position:slash])
        letter = inner[slash + 1]
        position = slash + 2
        if letter in _PLAIN:
            pieces.append(letter)
        elif letter in _LETTERS:
            pieces.append(_LETTERS[letter])
        elif "0" <= letter <= "7":
            number = re.match(r"[ \t\v\f\r]*[+-]?[0-9]+", inner[position : position + 3])
            if number is None or number.end() < 2:
                raise ConfigError(f"line {line}: \\{letter} in {quoted}: xl has no such escape", line=line)
            position += number.end()
        else:
            raise ConfigError(f"line {line}: \\{letter} in {quoted}: xl has no such escape", line=line)


def _stray(text: str, position: int, line: int) -> NoReturn:
    """Refuse what no token begins with."""
    rest = text[position:].lstrip(" \t")
    word = re.split(r"[ \t\n]", rest, maxsplit=1)[0]
    hint = ""
    if rest.startswith("\r"):
        hint = " (lines must end in a newline alone, without carriage return)"
    elif rest.startswith("#"):
        hint = " (a comment must end with a newline, also on the last line)"
    elif rest[0] in "'\"":
        hint = " (a quote that is not closed on its line)"
    elif rest[0] in "+-.():" or word in ("True", "False", "None"):
        hint = " (a configuration is no Python; negative numbers need quotes)"
    elif re.match("[A-Z_]", rest):
        hint = " (a key is in lower case, text needs quotes)"
    raise ConfigError(f"line {line}: {word[:40]!r} is nothing that xl reads{hint}", line=line)


def _tokens(text: str) -> Iterator[_Token]:
    position, line = 0, 1
    while True:
        match = _TOKEN.match(text, position)
        if match is None:
            if re.match(r"[ \t]*[\x00-\x7f\udc80-\udcff]\Z", text[position:]):
                yield _Token("end", "", line)  # the scanner never reports a last byte
                return
            _stray(text, position, line)
        kind = str(match.lastgroup)
        found = match[kind]
        if kind == "string":
            yield _Token("atom", _unescaped(found, line), line)
        else:
            yield _Token(found if kind == "sign" else kind, found, line)
        if kind == "end":
            return
        position = match.end()
        line += kind == "newline"


def _unexpected(token: _Token, wanted: str) -> NoReturn:
    shown = {"newline": "the end of the line", "end": "the end of the text"}.get(token.kind)
    what = shown or (repr(token.text[:40]) if token.kind in ("ident", "atom") else repr(token.kind))
    hint = " (text needs quotes)" if token.kind == "ident" and "value" in wanted else ""
    raise ConfigError(f"line {token.line}: {what} where xl wants {wanted}{hint}", line=token.line)


class _Parser:
    """The grammar, one token ahead."""

    def __init__(self, text: str) -> None:
        self._rest = _tokens(text)
        self.token = next(self._rest)

    def step(self) -> _Token:
        """The token at hand, and on to the next."""
        token = self.token
        if token.kind != "end":
            self.token = next(self._rest)
        return token

    def blank_lines(self) -> None:
        while self.token.kind == "newline":
            self.step()

    def value(self) -> Value:
        if self.token.kind == "atom":
            return self.step().text
        if self.token.kind != "[":
            _unexpected(self.token, "a value: a number, text in quotes, or a list")
        return self.list()

    def list(self) -> list[Value]:
        """A list whose bracket is at hand; without recursion, since depth is the text's choice."""
        opened: list[list[Value]] = []
        while True:
            # Here a value may begin: an atom, a list, or the end of the innermost list.
            if self.token.kind == "[":
                if len(opened) >= MAX_DEPTH:
                    raise ConfigError(
                        f"line {self.token.line}: lists nested deeper than {MAX_DEPTH}", line=self.token.line
                    )
                opened.append([])
                self.step()
                self.blank_lines()
                continue
            if self.token.kind == "atom":
                opened[-1].append(self.step().text)
                self.blank_lines()
            elif self.token.kind != "]":
                _unexpected(self.token, "a value or ']'")
            while True:
                if self.token.kind == ",":
                    if not opened[-1]:
                        _unexpected(self.token, "a value or ']'")
                    self.step()
                    self.blank_lines()
                    break
                if self.token.kind != "]":
                    _unexpected(self.token, "',' or ']'")
                self.step()
                done = opened.pop()
                if not opened:
                    return done
                opened[-1].append(done)
                self.blank_lines()


def _add(before: Value, more: Value, key: str, line: int) -> Value:
    if isinstance(before, str) and isinstance(more, str):
        return before + more
    if isinstance(before, list) and isinstance(more, list):
        return before + more
    raise ConfigError(f"line {line}: {key} += joins a list with what is none", line=line, key=key)


def parse_settings(text: str) -> dict[str, Setting]:
    """What xl sees of a configuration, by key in order of first appearance. Raises ConfigError."""
    nul = text.find("\0")
    if nul >= 0:
        line = text.count("\n", 0, nul) + 1
        raise ConfigError(f"line {line}: a NUL, over which xl would end itself", line=line)
    parser = _Parser(text)
    settings: dict[str, Setting] = {}
    while parser.token.kind != "end":
        if parser.token.kind in ("newline", ";"):
            parser.step()
            continue
        name = parser.step()
        if name.kind != "ident":
            _unexpected(name, "the key of a setting")
        sign = parser.step()
        if sign.kind not in ("=", "+="):
            _unexpected(sign, f"'=' after {name.text}")
        line = parser.token.line
        value = parser.value()
        added = sign.kind == "+="
        if added and name.text in settings:
            value = _add(settings[name.text].value, value, name.text, line)
        settings[name.text] = Setting(value, added, line)
        if parser.token.kind not in ("newline", ";", "end"):
            _unexpected(parser.token, "the end of the line")
    return settings


def parse_config(text: str) -> dict[str, Value]:
    """The settings of a configuration as xl itself sees them. Raises ConfigError where xl refuses it."""
    return {key: setting.value for key, setting in parse_settings(text).items()}


_LONG = re.compile(r"[ \t\n\v\f\r]*([+-]?)(?:0[xX]([0-9a-fA-F]+)|0([0-7]*)|([1-9][0-9]*))\Z", re.ASCII)


def number_of(text: str) -> int | None:
    """The number that xl sees in an atom (strtol with base 0: also 0x10 and 010); None where it sees none."""
    match = _LONG.match(text)
    if match is None:
        return None
    sign, hexadecimal, octal, decimal = match.groups()
    if hexadecimal is not None:
        number = int(hexadecimal, 16)
    elif octal is not None:
        number = int(octal or "0", 8)
    else:
        number = int(decimal) if len(decimal) < 20 else 2**64
    number = -number if sign == "-" else number
    return number if -(2**63) <= number < 2**63 else None


# --- settings, written -----------------------------------------------------------------------------------

_KEY = re.compile(r"[a-z][._0-9a-z]*\Z")
_BARE = re.compile(r"(?:0|[1-9][0-9]*|0x[0-9a-f]+)\Z", re.ASCII)
_SPECIAL = re.compile('["\\\\\a\b\f\n\r\t\v]')
_ESCAPE = {'"': '\\"', "\\": "\\\\", **{control: f"\\{letter}" for letter, control in _LETTERS.items()}}
_SURROGATE = re.compile("[\ud800-\udfff]")


def value_of(key: str, value: object, *, depth: int = 0) -> Value:
    """``value`` as an xl setting holds it: true and false become 1 and 0, numbers text, sequences lists.

    Raises ConfigError for what xl cannot carry: mappings, null, fractions, NULs, and text that is not UTF-8.
    """
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        if "\0" in value:
            raise ConfigError(f"{key}: {value!r} holds a NUL, which no configuration can carry", key=key)
        if _SURROGATE.search(value):
            raise ConfigError(f"{key}: {value!r} holds bytes that are not UTF-8", key=key)
        return str(value)
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        if depth >= MAX_DEPTH:
            raise ConfigError(f"{key}: lists nested deeper than {MAX_DEPTH}", key=key)
        return [value_of(key, item, depth=depth + 1) for item in value]
    raise ConfigError(
        f"{key}: {value!r} is a {type(value).__name__}: a setting of xl is a whole number, text, or a list",
        key=key,
    )


def _atom(text: str) -> str:
    if _BARE.match(text):
        return text
    return '"' + _SPECIAL.sub(_escape, text) + '"'


def _escape(match: re.Match[str]) -> str:
    return _ESCAPE[match[0]]


def _inline(value: Value) -> str:
    if isinstance(value, str):
        return _atom(value)
    return f"[{', '.join([_inline(item) for item in value])}]"


def _rendered(key: str, value: Value) -> str:
    line = f"{key} = {_inline(value)}"
    if isinstance(value, str) or len(value) < 2 or len(line) <= _WIDTH:
        return line + "\n"
    items = "".join([f"    {_inline(item)},\n" for item in value])
    return f"{key} = [\n{items}]\n"


def render_config(settings: Mapping[str, Any]) -> str:
    """A text that xl reads as exactly these settings, in their order, one a line.

    A long list has a line for each item. Numbers are bare, all else is quoted; no value can add a line of
    its own or a setting. Raises ConfigError, naming the key, for what xl cannot carry.
    """
    lines = []
    for key, value in settings.items():
        if not isinstance(key, str) or not _KEY.match(key):
            raise ConfigError(
                f"{key!r} is no key of xl: those begin with a lower-case letter and hold lower-case letters, "
                "digits, dots and underscores",
                key=str(key),
            )
        lines.append(_rendered(key, value_of(key, value)))
    return "".join(lines)
