# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The README's playbook and output are the tour's own: put there by this, and held there by a test.

A block of the README belongs to the tour where such a comment stands before it::

    <!-- tour: file disks.yml -->
    <!-- tour: run N COMMAND -->               output of the Nth run of a command
    <!-- tour: run N COMMAND | FROM | TO -->   of it the lines from one with FROM up to one with TO
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
README = HERE.parents[1] / "README.md"

_BLOCK = re.compile(r"(<!-- tour: ([^\n]+?) -->\n```\w+\n)(.*?)(```\n)", re.DOTALL)
_CHAPTER = re.compile(r"== \d+\. ")


def record() -> str:
    """What the tour prints where nobody watches."""
    command = [sys.executable, str(HERE)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the tour ended with {done.returncode}: {done.stderr}\n{done.stdout[-2000:]}")
    return done.stdout


def render(readme: str, output: str) -> str:
    """The README's text with its blocks as ``output``, the tour's, has them."""
    runs = commands(output)

    def block(match: re.Match[str]) -> str:
        head, what, _old, tail = match.groups()
        return f"{head}{content(what, runs)}\n{tail}"

    return _BLOCK.sub(block, readme)


def commands(output: str) -> list[tuple[str, list[str]]]:
    """The tour's commands, each with the lines that it printed."""
    found: list[tuple[str, list[str]]] = []
    inside = False
    for line in output.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
            inside = True
        elif _CHAPTER.match(line):
            inside = False
        elif inside:
            found[-1][1].append(line.rstrip())
    return found


def content(what: str, runs: list[tuple[str, list[str]]]) -> str:
    kind, rest = what.split(" ", 1)
    if kind == "file":
        return playbook(rest)
    words, *limits = (part.strip() for part in rest.split(" | "))
    number, command = words.split(" ", 1)
    lines = [lines for name, lines in runs if name == command][int(number) - 1]
    if limits:
        first, last = limits
        start = next(index for index, line in enumerate(lines) if first in line)
        end = next(index for index, line in enumerate(lines) if last in line and index > start)
        return "\n".join(lines[start:end]).rstrip()
    # the tour's own words follow a playbook's recap after an empty line
    if command.startswith("ansible-playbook"):
        end = next(index for index, line in enumerate(lines) if line.startswith("PLAY RECAP"))
        lines = lines[: end + 2]
    return "\n".join([f"$ {command}", *lines]).rstrip()


def playbook(name: str) -> str:
    """A playbook of the tour without its licence lines."""
    rows = [row for row in (HERE / name).read_text().splitlines() if not row.startswith(("#", "---"))]
    return "\n".join(rows).strip("\n")


def update() -> None:
    README.write_text(render(README.read_text(), record()))
