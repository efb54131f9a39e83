# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is made of a host's answer, whatever it is."""

from __future__ import annotations

import subprocess
import sys

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._inventory_read import MARK
from ansible_collections.xen.virtio.plugins.plugin_utils._reach import Answer, Program, read_answer, shown


@pytest.mark.parametrize(
    ("code", "out", "err", "answer"),
    [
        (0, f'{MARK}{{"guests": []}}\n', "", Answer({"guests": []})),
        (0, f'Welcome!\n\n{MARK}{{"a": 1}}\nBye', "noise", Answer({"a": 1})),
        (0, f'{MARK}broken\n{MARK}[1]\n{MARK}{{"a": 1}}\n', "", Answer({"a": 1})),
        (0, f'{MARK}{{"error": "no store"}}', "", Answer(None, "no store")),
        (0, f'{MARK}{{"a": {"[" * 40}{"]" * 40}}}', "deep", Answer(None, "the command ended with 0: deep")),
        (0, f"{MARK}{'[' * 10**5}", "deeper", Answer(None, "the command ended with 0: deeper")),
        (0, "", "", Answer(None, "the command ended with 0: nothing was said")),
        (
            1,
            "",
            "sudo: a password\n  is required",
            Answer(None, "the command ended with 1: sudo: a password is required"),
        ),
        (127, "no python", "", Answer(None, "the command ended with 127: no python")),
        (None, "", "Failed to connect", Answer(None, "Failed to connect")),
    ],
)
def test_answers(code: int | None, out: str, err: str, answer: Answer) -> None:
    assert read_answer(MARK, code, out, err) == answer


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("  two\n lines ", "two lines"),
        ("\x1b[31mred\x07", "?[31mred?"),
        ("x" * 500, "… " + "x" * 400),
        ("\ud800", "?"),
    ],
)
def test_what_is_shown(text: str, line: str) -> None:
    assert shown(text) == line


def test_the_program_runs_from_memory_and_says_what_is_wrong() -> None:
    program = Program.of("_inventory_read", MARK)
    done = subprocess.run(
        ["/bin/sh", "-c", program.command(sys.executable)],
        input=program.input({"socket": "/no/such/socket", "timeout": 2}),
        capture_output=True,
        check=True,
    )
    answer = read_answer(MARK, done.returncode, done.stdout.decode(), done.stderr.decode())
    assert answer.told is None
    assert "/no/such/socket" in (answer.error or "")
