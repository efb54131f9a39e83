# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Passwords in configurations (``vncpasswd``, ``spicepasswd``, those inside ``vfb``), kept out of results. Pure.

A difference is shown to everybody who reads a play's output, and kept by whatever collects it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

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
