# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet report as one HTML page that needs nothing else: no server, no network, no library.

What the page shows may have been written by a guest. So the report goes in as JSON in which no character can end the
element it stands in, the script builds every node with textContent, and the page's own policy lets exactly this style
and this script run, by their checksums, and nothing be loaded from anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from pathlib import Path

from ._fleet_report import check_report

_PARTS = Path(__file__).with_name("fleet_page")

#: In JSON these only stand in strings, where an escape means the same.
_ESCAPED = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "'": "\\u0027"})


def embedded(value: object) -> str:
    """JSON for a script element: ASCII alone, without a character that HTML knows."""
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False).translate(_ESCAPED)


def fleet_page(report: object) -> str:
    """The page.

    Args:
        report: of `fleet_report`.

    Raises:
        FleetError: it is none.
    """
    whole = check_report(report)
    style, script = (_part(name) for name in ("page.css", "page.js"))
    policy = "; ".join(
        [
            "default-src 'none'",
            f"style-src {_checksum(style)}",
            f"script-src {_checksum(script)}",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    parts = {
        "POLICY": html.escape(policy, quote=True),
        "TITLE": html.escape(str(whole["title"]), quote=True),
        "STYLE": style,
        "SCRIPT": script,
        "REPORT": embedded(whole),
    }
    # in one pass: what is put in is never looked at again
    return re.sub("@([A-Z]+)@", lambda found: parts[found[1]], _part("page.html"))


def _part(name: str) -> str:
    return (_PARTS / name).read_text(encoding="utf-8")


def _checksum(text: str) -> str:
    """As a Content-Security-Policy names what may be inline."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
