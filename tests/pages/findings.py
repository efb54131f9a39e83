# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/messages/findings.md: every finding by its code, in the code's own words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ansible_collections.xen.virtio.plugins.module_utils import _backend_rules
from ansible_collections.xen.virtio.plugins.module_utils._findings import (
    AUDIT_BINDING,
    AUDIT_CODES,
    BINDING,
    CODES,
)

from pages.collect import Finding, findings
from pages.messages import HEAD, PAGES, code

PAGE = PAGES / "findings.md"

INTRODUCTION = """\
# Findings by code

A finding says what is wrong (`message`), what would happen (`why`) and what to do (`remedy`), with the domain
and the disk it is about. Errors stop a call before its first change. What each rule is about stands in
[preflight](../preflight.md), [backends](../backends.md) and [audit](../audit.md); here are the words. `<name>`
stands for a value, `…` for a text that is put together when it is told. Between bars stand words of which one
is said.

One that is known and wanted is accepted by its code with `accept` (of modules), `xen_accept` (in an inventory,
for plays and audits) or `virtio_disk_backend_accept` (of the role); what is marked ✘ never is.
"""


def page() -> str:
    """The page as it has to be."""
    told = {**CODES, **AUDIT_CODES, **_backend_rules.CODES}
    binding = BINDING | AUDIT_BINDING | _backend_rules.BINDING
    made: dict[str, list[Finding]] = {}
    for finding in findings():
        made.setdefault(finding.code, []).append(finding)
    parts = [HEAD, INTRODUCTION]
    for name in sorted(told):
        mark = " ✘" if name in binding else ""
        parts.append(f"## `{name}`{mark}")
        parts.append(f"{told[name][0].upper()}{told[name][1:]}. {_asked_by(name)}")
        parts.append("\n".join(_items(made.get(name, []))))
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _asked_by(name: str) -> str:
    who = []
    if name in CODES:
        who.append(f"[preflight](../preflight.md#{_anchor(name)})")
    if name in _backend_rules.CODES:
        who.append("[backends](../backends.md#what-a-host-has-to-have)")
    if name in AUDIT_CODES:
        who.append("[audit](../audit.md#what-it-finds)")
    return f"See {', '.join(who)}."


def _anchor(name: str) -> str:
    """The anchor of a code's heading in preflight.md, which has its severity behind the code."""
    text = (PAGES.parent / "preflight.md").read_text(encoding="utf-8")
    heading = re.search(rf"^### (`{name}` .*)$", text, re.MULTILINE)
    words = heading[1].lower() if heading else name
    return re.sub(r"[^\w -]", "", words).replace(" ", "-")


def _items(made: Iterable[Finding]) -> Iterable[str]:
    for finding in made:
        if not (finding.message or finding.why or finding.remedy):
            continue
        yield f"- {code(finding.message) if finding.message else '…'}"
        rest = [("Why", finding.why), ("Remedy", finding.remedy)]
        for title, text in rest:
            if text:
                yield f"\n  {title}: {_plain(text)}"
        yield ""


def _plain(text: str) -> str:
    """A sentence with values in it, as Markdown has to be told."""
    return re.sub(r"([<>*\[\]`|])", r"\\\1", text)


def pages() -> dict[Path, str]:
    """By the path it is written to."""
    return {PAGE: page()}
