# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two looks at a host, and what happened between them, as events for rulebooks. Pure."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

#: Who an event is about.
DOMAIN, DISK, NODE, CONNECTION = "domain", "disk", "node", "connection"
#: What happened to it: it was there when the first look was taken; since then; differs; is gone.
FOUND, ADDED, CHANGED, REMOVED = "found", "added", "changed", "removed"
#: What happened to the connection.
LOST, BACK = "lost", "back"

Thing = Mapping[str, Any]

#: What makes a text a template to Ansible (jinja2's defaults): ansible-rulebook hands events to playbooks as extra
#: variables, and those are templates.
_TEMPLATE = re.compile(r"\{(?=[{%#])")


@dataclass(frozen=True)
class Look:
    """What one look at a host found, each thing by what makes it the same one in the next look."""

    domains: Mapping[Hashable, Thing] = field(default_factory=dict)
    disks: Mapping[Hashable, Thing] = field(default_factory=dict)
    nodes: Mapping[Hashable, Thing] = field(default_factory=dict)


def happened(before: Look | None, now: Look) -> list[dict[str, Any]]:
    """The events between two looks; without the first one, all that there is.

    Disks go before their domains, and come after them.
    """
    first = before is None
    old = Look() if before is None else before
    return [
        *_gone(DISK, old.disks, now.disks),
        *_gone(DOMAIN, old.domains, now.domains),
        *_there(DOMAIN, old.domains, now.domains, first),
        *_there(DISK, old.disks, now.disks, first),
        *_gone(NODE, old.nodes, now.nodes),
        *_there(NODE, old.nodes, now.nodes, first),
    ]


def connection(what: str, reason: str | None = None) -> dict[str, Any]:
    """That the store was lost, or is back."""
    return event(CONNECTION, what, {} if reason is None else {"reason": reason})


def event(kind: str, what: str, thing: Thing) -> dict[str, Any]:
    """One event, of which nothing is a template."""
    told: dict[str, Any] = {"kind": kind, "event": what, **harmless(thing)}
    return {"xenstore": told}


def harmless(value: Any) -> Any:
    """A copy whose texts nobody takes for a template: ``{{`` is written ``\\x7b{``."""
    if isinstance(value, str):
        return _TEMPLATE.sub(r"\\x7b", value)
    if isinstance(value, Mapping):
        return {harmless(str(key)): harmless(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [harmless(inner) for inner in value]
    return value


def _gone(
    kind: str, old: Mapping[Hashable, Thing], new: Mapping[Hashable, Thing]
) -> Iterable[dict[str, Any]]:
    return (event(kind, REMOVED, thing) for key, thing in old.items() if key not in new)


def _there(
    kind: str, old: Mapping[Hashable, Thing], new: Mapping[Hashable, Thing], first: bool
) -> Iterable[dict[str, Any]]:
    for key, thing in new.items():
        if key not in old:
            yield event(kind, FOUND if first else ADDED, thing)
        elif (was := old[key]) != thing:
            differing = sorted(name for name in {*was, *thing} if was.get(name) != thing.get(name))
            before = {name: was.get(name) for name in differing}
            yield event(kind, CHANGED, {**thing, "changed": differing, "before": before})
