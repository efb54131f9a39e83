# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Configurations of guests, against the real parser: the same settings, the same refusals."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._dialect import NEWEST
from ansible_collections.xen.virtio.plugins.module_utils._guestconfig import (
    as_mapping,
    compare,
    declare_guest,
    read_guest,
    render_guest,
)
from ansible_collections.xen.virtio.plugins.module_utils._xlcfg import (
    MAX_DEPTH,
    ConfigError,
    number_of,
    parse_config,
    parse_settings,
    render_config,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import Oracle
from oracle.fixtures import MANY
from oracle.strategies import CONFIG_SETTINGS, CONFIG_TEXTS, GUESTS
from test_corpus import CORPUS

# The quirks, each once; the parser itself says what is right.
QUIRKS = [
    # the last byte of a text is never reported, whatever it is
    "a=1 $",
    "a=1 #",
    "a=1\n'",
    "a=1 \x7f",
    "a=1 \udcff",
    "a=1 é",
    "a=1 #c",
    "a=1\n# ",
    "$",
    "a= $",
    "a=[ $",
    # where lines end
    "a=1;b=2",
    "a=1 b=2",
    ";;\n;a=1;",
    "a=\n1",
    "a\n=1",
    "a=[\n#c\n1\n#c\n,\n2\n,\n]\n",
    "a=[1;2]",
    "a=1\r\n",
    "# c\r\na=1",
    "",
    "a",
    "a=",
    # lists
    "a=[]",
    "a=[,]",
    "a=[1,,2]",
    "a=[1 2]",
    "a=[[],[[1]],]",
    "a=[[1],\n[\n2\n]\n]\n",
    "a=]",
    "a=[1",
    # said again
    "a=1\na=2",
    "a=1\na+=2",
    "a+=2",
    "a='x'\na+=' y'",
    "a=[1]\na+=['2',]",
    "a=[1]\na+=2",
    "a=1\na+=[2]",
    "a=1\na+=2\na=3",
    "a=[]\na+=[]",
    # words
    "a.b_c=1",
    ".a=1",
    "_a=1",
    "A=1",
    "aB=1",
    "9a=1",
    "a=9z",
    "a=b",
    "a=True",
    "a=-1",
    "a=(1)",
    "a=0x1F",
    # quotes
    "a='it\\'s \"x\"'",
    'a="\\"\\\'\\\\"',
    "a='\\a\\b\\f\\n\\r\\t\\v'",
    "a='x\\\ny'",
    "a='x\ny'",
    "a='\\x41'",
    "a='\\x'",
    "a='\\012x'",
    "a='\\01'",
    "a='\\0'",
    "a='\\0123'",
    "a='\\8'",
    "a='\\0 12'",
    "a='\\0\t\t1'",
    "a='\\0   1'",
    "a='\\0+12'",
    "a='\\0-1'",
    "a='\\0\\n1'",
    "a='é\\é'",
    "a='\\",
    "a='#;[],='",
    "a='b'c",
]

# What the parser takes and we refuse, with the reason; there is nothing else but NULs, over which it aborts.
REFUSED = {"a=" + "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1): "nested deeper"}

NUMBERS = [
    *(
        "0",
        "512",
        "010",
        "08",
        "0x1f",
        "0X1F",
        "0x",
        "0xg",
        "-5",
        "+5",
        "--5",
        " 7",
        "7 ",
        "\t\v7",
        "1e3",
        "1.5",
    ),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809", "", " "),
    *(
        "0" * 30 + "7",
        "0x" + "0" * 30 + "7",
        "00000000000000000009",
        "٣",
        "\u00a07",
        "1_0",
        "-0x10",
        "-010",
        "-0",
    ),
]


def ours(text: str) -> Any:
    """Settings and, of those that xl sees a number in, the numbers; None and none where refused."""
    try:
        settings = parse_settings(text)
    except ConfigError:
        return None, {}
    numbers = {
        key: number_of(found.value)
        for key, found in settings.items()
        if isinstance(found.value, str) and not found.added
    }
    return (
        {key: found.value for key, found in settings.items()},
        {key: number for key, number in numbers.items() if number is not None},
    )


@MANY
@given(text=CONFIG_TEXTS)
def test_every_text_as_the_real_parser(truth: Oracle, text: str) -> None:
    assert ours(text) == truth.config(text)[:2]


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """A configuration as people write them, cut and patched at some places."""
    text = draw(st.sampled_from(CORPUS)).read_text(encoding="utf-8")
    for _damage in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(text)))
        patch = draw(st.sampled_from(["", *"'\"[],;=#\\\n\r\t +-aA0é", "[[", "\\'", "+=", "# ", "\n\n"]))
        text = text[:at] + patch + text[at + draw(st.integers(0, 3)) :]
    return text


@settings(MANY, max_examples=800)
@given(text=damaged())
def test_every_damaged_text_as_the_real_parser(truth: Oracle, text: str) -> None:
    assert ours(text) == truth.config(text)[:2]


@pytest.mark.parametrize("text", QUIRKS)
def test_quirk(truth: Oracle, text: str) -> None:
    assert ours(text) == truth.config(text)[:2]


@pytest.mark.parametrize(("text", "reason"), REFUSED.items())
def test_documented_refusal(truth: Oracle, text: str, reason: str) -> None:
    assert truth.config(text).settings is not None
    with pytest.raises(ConfigError, match=reason):
        parse_config(text)


@MANY
@given(said=CONFIG_SETTINGS)
def test_what_is_written_is_what_the_real_parser_reads(truth: Oracle, said: dict[str, Any]) -> None:
    assert truth.config(render_config(said)).settings == said


@MANY
@given(value=st.one_of(st.text(max_size=20), st.text(st.characters(exclude_categories=()), max_size=5)))
def test_any_text_is_carried_or_refused_by_name(truth: Oracle, value: str) -> None:
    settings = {"before": "1", "extra": value, "list": [value, [value]], "after": "2"}
    if "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
        with pytest.raises(ConfigError) as refusal:
            render_config(settings)
        assert refusal.value.key == "extra"
        return
    text = render_config(settings)
    assert truth.config(text).settings == settings
    begins = [line.split(" = ")[0] for line in text.split("\n") if line[:1] not in ("", " ", "]")]
    assert begins == list(settings)


@pytest.mark.parametrize("atom", NUMBERS)
def test_number(truth: Oracle, atom: str) -> None:
    said = truth.config(render_config({"memory": atom}))
    assert said.numbers.get("memory") == number_of(atom)


@settings(MANY, max_examples=400)
@given(mapping=GUESTS)
def test_a_guest_is_what_the_real_parser_reads(truth: Oracle, mapping: dict[str, Any]) -> None:
    """Each setting that was meant, no other; and read again it is the same guest."""
    spec = declare_guest(mapping)
    text = render_guest(spec, NEWEST)
    settings = truth.config(text).settings
    assert settings is not None
    named = {"disk": spec.disks, "virtio": spec.virtio}
    assert set(settings) == {"name", *spec.options, *[key for key in named if named[key]], *spec.extra_config}
    assert settings["name"] == mapping["name"]
    for key in ("kernel", "ramdisk", "cmdline"):
        assert settings.get(key) == mapping.get(key)
    for key in ("dtdev", "bootloader_args"):
        assert settings.get(key) == mapping.get(key)
    again, _notes = read_guest(text)
    assert again == spec
    assert compare(spec, again) == []
    assert declare_guest(as_mapping(spec)) == spec
