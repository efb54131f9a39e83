# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The grammar of an xl configuration (what is right is held against the real parser elsewhere)."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._xlcfg import (
    ConfigError,
    number_of,
    parse_config,
    parse_settings,
    render_config,
    value_of,
)

READ = {
    "": {},
    'name = "a"\nmemory = 512 # MiB\n': {"name": "a", "memory": "512"},
    "disk = [ 'a', \"b\", # first\n  'c',\n]\n": {"disk": ["a", "b", "c"]},
    "vcpus=1; memory=2": {"vcpus": "1", "memory": "2"},
    "vcpus=1\nvcpus=2\n": {"vcpus": "2"},
    "extra='a'\nextra += ' b'\n": {"extra": "a b"},
    "vnuma = [ [ 'pnode=0', 'size=1' ], [] ]": {"vnuma": [["pnode=0", "size=1"], []]},
    "a = 'tab\\tquote\\'new\\nline'": {"a": "tab\tquote'new\nline"},
}

REFUSED = [
    ("a = 1\nb = True\n", 2, "Python"),
    ("a = -1\n", 1, "negative numbers need quotes"),
    ("a = 1\r\n", 1, "carriage return"),
    ("a = 1\n# the end", 2, "comment must end with a newline"),
    ("a = 'x\n", 1, "quote that is not closed"),
    ("Memory = 1\n", 1, "lower case"),
    ("a = word\n", 1, "text needs quotes"),
    ("a = 1 b = 2\n", 1, "'b' where xl wants the end of the line"),
    ("a = [ 1 2 ]", 1, "'2' where xl wants ',' or '\\]'"),
    ("a = [\n1,\n", 3, "the end of the text where xl wants a value or '\\]'"),
    ("\n\na = '\\x41'", 3, "no such escape"),
    ("a = 1\n= 2\n", 2, "wants the key of a setting"),
    ("a = [1]\na += 'x'\n", 2, "a \\+= joins"),
    ("a = 'x\0'", 1, "NUL"),
]

WRITTEN: list[tuple[dict[str, Any], str]] = [
    ({"memory": 512, "localtime": True, "acpi": False}, "memory = 512\nlocaltime = 1\nacpi = 0\n"),
    ({"memory": "512", "tsc": "0x1f", "pad": "007"}, 'memory = 512\ntsc = 0x1f\npad = "007"\n'),
    ({"n": -1}, 'n = "-1"\n'),
    ({"extra": 'a "b" \\c'}, 'extra = "a \\"b\\" \\\\c"\n'),
    ({"extra": "x\nmemory = 9"}, 'extra = "x\\nmemory = 9"\n'),
    ({"irqs": [88, 90], "vif": [], "a": [[1], []]}, "irqs = [88, 90]\nvif = []\na = [[1], []]\n"),
    (
        {"disk": ["/dev/mapper/vg-a" * 4, "/dev/mapper/vg-b" * 4]},
        f'disk = [\n    "{"/dev/mapper/vg-a" * 4}",\n    "{"/dev/mapper/vg-b" * 4}",\n]\n',
    ),
]

NOT_CARRIED: list[tuple[dict[Any, Any], str]] = [
    ({"extra": "a\0"}, "NUL"),
    ({"extra": "\ud800"}, "not UTF-8"),
    ({"extra": "\udcff"}, "not UTF-8"),
    ({"extra": None}, "NoneType"),
    ({"extra": 1.5}, "float"),
    ({"extra": {"a": 1}}, "dict"),
    ({"extra": ["a", ["b\0"]]}, "NUL"),
    ({"Extra": 1}, "no key of xl"),
    ({"a\nb": 1}, "no key of xl"),
    ({"a = 1\nb": 1}, "no key of xl"),
    ({"": 1}, "no key of xl"),
    ({1: 1}, "no key of xl"),
]


@pytest.mark.parametrize(("text", "settings"), READ.items())
def test_read(text: str, settings: dict[str, Any]) -> None:
    assert parse_config(text) == settings


@pytest.mark.parametrize(("text", "line", "reason"), REFUSED)
def test_refused_with_the_line_and_the_reason(text: str, line: int, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as refusal:
        parse_config(text)
    assert refusal.value.line == line
    assert str(refusal.value).startswith(f"line {line}: ")


def test_a_setting_says_where_it_stands_and_how_it_was_said() -> None:
    settings = parse_settings("a = [\n1 ]\n\nb += 2\na += [3]\n")
    assert settings["a"] == (["1", "3"], True, 5)
    assert settings["b"] == ("2", True, 4)


@pytest.mark.parametrize(("settings", "text"), WRITTEN)
def test_written(settings: dict[str, Any], text: str) -> None:
    assert render_config(settings) == text
    assert parse_config(text) == {key: value_of(key, value) for key, value in settings.items()}


@pytest.mark.parametrize(("settings", "reason"), NOT_CARRIED)
def test_what_xl_cannot_carry_is_refused_by_name(settings: dict[Any, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as refusal:
        render_config(settings)
    assert refusal.value.key == str(next(iter(settings)))


def test_a_list_in_itself_ends() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ConfigError, match="nested deeper"):
        render_config({"a": endless})


@pytest.mark.parametrize(
    ("atom", "number"),
    [("512", 512), ("0x10", 16), ("010", 8), ("08", None), (" -7", -7), ("7 ", None), ("", None)],
)
def test_number(atom: str, number: int | None) -> None:
    assert number_of(atom) == number
