# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tour looks like: headings, text, commands; colours on a terminal only."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap

RESET, BOLD, DIM, CYAN, GREEN = "\033[0m", "\033[1m", "\033[2m", "\033[36m", "\033[32m"


class Screen:
    """Standard output as a place for a story."""

    def __init__(self) -> None:
        self.colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self.width = max(60, min(88, shutil.get_terminal_size((80, 24)).columns - 1))
        self._chapter = 0

    def paint(self, text: str, *colours: str) -> str:
        return f"{''.join(colours)}{text}{RESET}" if self.colours else text

    def line(self, text: str = "") -> None:
        print(text, flush=True)

    def title(self, text: str) -> str:
        return self.paint(text, BOLD)

    def chapter(self, title: str) -> None:
        self._chapter += 1
        text = f"== {self._chapter}. {title} "
        self.line()
        self.line(self.paint(text.ljust(self.width, "="), BOLD, CYAN))

    def say(self, text: str) -> None:
        """A paragraph."""
        self.line()
        self.line(textwrap.fill(" ".join(text.split()), self.width, break_long_words=False))

    def command(self, text: str) -> None:
        """A command that is about to run."""
        self.line()
        self.line(self.paint("$ ", DIM) + self.paint(text, BOLD))

    def output(self, text: str) -> None:
        """What a command printed."""
        for row in text.rstrip("\n").splitlines():
            self.line(row)

    def listing(self, text: str) -> None:
        """A file's text, set off from the rest."""
        self.line()
        for row in text.strip("\n").splitlines():
            self.line(self.paint(row, GREEN))
