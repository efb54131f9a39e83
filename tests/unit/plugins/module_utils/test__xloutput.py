# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""xl's output taken apart, names of every kind included."""

from __future__ import annotations

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._xloutput import (
    RunState,
    XlOutputError,
    parse_check,
    parse_info,
    parse_list,
    parse_records,
    words_of,
)
from hypothesis import given
from hypothesis import strategies as st

HEAD = "Name                                        ID   Mem VCPUs\tState\tTime(s)\n"


def line(name: str, domid: int, memory: int = 256, vcpus: int = 1, state: str = "r-----") -> str:
    """As printf prints it in list_domains() of tools/xl/xl_info.c."""
    return f"{name:<40} {domid:5d} {memory:5d} {vcpus:5d}     {state}  {0.3:8.1f}\n"


@pytest.mark.parametrize(
    ("letters", "flags", "reason", "run_state"),
    [
        ("r-----", {"running"}, None, "running"),
        ("-b----", {"blocked"}, None, "running"),
        ("------", set(), None, "running"),
        ("--p---", {"paused"}, None, "paused"),
        ("---s--", {"shutdown"}, "poweroff", "shutdown"),
        ("---sr-", {"shutdown"}, "reboot", "shutdown"),
        ("---ss-", {"shutdown"}, "suspend", "shutdown"),
        ("---sc-", {"shutdown", "crashed"}, "crash", "crashed"),
        ("--psc-", {"paused", "shutdown", "crashed"}, "crash", "crashed"),
        ("---sw-", {"shutdown"}, "watchdog", "shutdown"),
        ("---sS-", {"shutdown"}, "soft_reset", "shutdown"),
        ("---s?-", {"shutdown"}, "unknown", "shutdown"),
        ("-----d", {"dying"}, None, "dying"),
        ("--ps-d", {"paused", "shutdown", "dying"}, "poweroff", "dying"),
    ],
)
def test_states(letters: str, flags: set[str], reason: str | None, run_state: str) -> None:
    (domain,) = parse_list(HEAD + line("guest", 3, 511, 4, letters))
    names = ("running", "blocked", "paused", "shutdown", "crashed", "dying")
    assert {name for name in names if getattr(domain, name)} == flags
    assert (domain.reason, domain.run_state) == (reason, run_state)
    assert (domain.domid, domain.name, domain.memory, domain.vcpus) == (3, "guest", 511, 4)


@pytest.mark.parametrize(
    "name",
    [
        "guest",
        "x" * 60,
        "two words",
        " leading",
        "7 256 1",
        "g 7   256     1     r-----       0.0",
        "a\tb",
        "nächster",
        "two\nlines",
        "\n\nlate",
        "Name   ID   Mem VCPUs\tState\tTime(s)",
        "",
    ],
)
def test_names(name: str) -> None:
    listed = parse_list(HEAD + line("Domain-0", 0) + line(name, 7, 123, 2) + line("next", 8))
    assert [(d.domid, d.name, d.memory) for d in listed] == [
        (0, "Domain-0", 256),
        (7, name, 123),
        (8, "next", 256),
    ]


@given(st.lists(st.text("ab 019-r.\t:(){}[]\"'\\$%\n", max_size=50), max_size=4))
def test_any_name_costs_nobody_else_its_line(names: list[str]) -> None:
    """A name without a whole line of xl's in it leaves all other domains as they are."""
    text = HEAD + "".join(line(name, number * 2 + 1) for number, name in enumerate(names)) + line("last", 99)
    listed = parse_list(text)
    assert [d.domid for d in listed] == [*range(1, len(names) * 2, 2), 99]
    assert [d.name for d in listed] == [*(name.rstrip(" ") for name in names), "last"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no list"),
        ("xl: something else\n", "no list"),
        (HEAD + "nonsense\n", "cannot read 'nonsense'"),
        (HEAD + line("a", 3) + line("b", 3), "domain 3 is there twice"),
        (HEAD + line(f"x {3:5d}   256     1     r-----       0.0\ny", 3), "domain 3 is there twice"),
    ],
)
def test_a_list_that_cannot_be_trusted(text: str, message: str) -> None:
    with pytest.raises(XlOutputError, match=message):
        parse_list(text)


def test_a_name_that_is_not_there_and_words_before_the_list() -> None:
    assert parse_list("WARNING: wrapper\n" + HEAD + line("(null)", 4)) == [
        RunState(4, "", 256, 1, running=True)
    ]


@pytest.mark.parametrize(
    ("text", "records"),
    [
        ("", {}),
        ("[]", {}),
        ('[{"domid": 3, "config": {"c_info": {"name": "a\\nb"}}}]', {3: {"c_info": {"name": "a\nb"}}}),
        ('{"domid": 3, "config": {}}', {3: {}}),
        ('[{"domid": 3, "config": null}]', {3: {}}),
    ],
)
def test_records(text: str, records: dict[int, object]) -> None:
    assert parse_records(text) == records


@pytest.mark.parametrize("text", ["[{]", "3", "[3]", '[{"config": {}}]', '[{"domid": "3"}]'])
def test_records_that_are_none(text: str) -> None:
    with pytest.raises(XlOutputError, match="xl list -l"):
        parse_records(text)


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_a_configuration_that_is_none(text: str) -> None:
    with pytest.raises(XlOutputError, match="xl create -n"):
        parse_check(text)


def test_info() -> None:
    lines = ["host                   : board", "xen_commandline        : a=b : c"]
    lines += ["free_memory            : 1024", "build_id               : ", "odd line", ""]
    assert parse_info("\n".join(lines)) == {
        "host": "board",
        "xen_commandline": "a=b : c",
        "free_memory": "1024",
        "build_id": "",
    }


@pytest.mark.parametrize(
    ("stderr", "words"),
    [
        ("", ()),
        ("Parsing config from /etc/xen/g.cfg\n", ()),
        ("Parsing config from g.cfg\nWARNING: ignored.\n\n", ("WARNING: ignored.",)),
        ("Shutting down domain 3\n", ()),
        ("libxl: error: one\n  libxl: error: two\n", ("libxl: error: one", "libxl: error: two")),
    ],
)  # fmt: skip
def test_words(stderr: str, words: tuple[str, ...]) -> None:
    assert words_of(stderr) == words
