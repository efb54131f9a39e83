# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two looks at a host, and the events between them."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.plugin_utils._events import Look, connection, event, happened

DISK = {"domain": "linux1", "domid": 3, "devid": 51712, "state": "2", "health": "attached"}
LOST = {**DISK, "state": None, "health": "missing"}
GUEST = {"domain": "linux1", "domid": 3, "uuid": "one"}
NODE = {"path": "/tool/x", "value": "1"}


def told(kind: str, what: str, **thing: Any) -> dict[str, Any]:
    return {"xenstore": {"kind": kind, "event": what, **thing}}


@pytest.mark.parametrize(
    ("before", "now", "events"),
    [
        pytest.param(None, Look(), [], id="nothing there"),
        pytest.param(
            None,
            Look({3: GUEST}, {(3, 51712): DISK}, {"/tool/x": NODE}),
            [told("domain", "found", **GUEST), told("disk", "found", **DISK), told("node", "found", **NODE)],
            id="the first look",
        ),
        pytest.param(
            Look({3: GUEST}, {(3, 51712): DISK}), Look({3: GUEST}, {(3, 51712): DISK}), [], id="no change"
        ),
        pytest.param(
            Look(disks={(3, 51712): DISK}),
            Look(disks={(3, 51712): LOST}),
            [
                told(
                    "disk",
                    "changed",
                    **LOST,
                    changed=["health", "state"],
                    before={"health": "attached", "state": "2"},
                )
            ],
            id="a disk is lost",
        ),
        pytest.param(
            Look({3: GUEST}, {(3, 51712): DISK}),
            Look({4: {**GUEST, "domid": 4}}, {(4, 51712): {**DISK, "domid": 4}}),
            [
                told("disk", "removed", **DISK),
                told("domain", "removed", **GUEST),
                told("domain", "added", **{**GUEST, "domid": 4}),
                told("disk", "added", **{**DISK, "domid": 4}),
            ],
            id="a guest is made anew",
        ),
        pytest.param(
            Look(nodes={"/tool/x": NODE}),
            Look(nodes={"/tool/x": {**NODE, "value": "2"}, "/tool/y": {"path": "/tool/y", "value": ""}}),
            [
                told("node", "changed", path="/tool/x", value="2", changed=["value"], before={"value": "1"}),
                told("node", "added", path="/tool/y", value=""),
            ],
            id="nodes",
        ),
    ],
)
def test_what_happened(before: Look | None, now: Look, events: list[dict[str, Any]]) -> None:
    assert happened(before, now) == events


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("{{ lookup('pipe', 'id') }}", "\\x7b{ lookup('pipe', 'id') }}"),
        ("{% raw %}", "\\x7b% raw %}"),
        ("{# note #}", "\\x7b# note #}"),
        ("{{{ x }}}", "\\x7b\\x7b{ x }}}"),
        ("{a} {", "{a} {"),
    ],
)
def test_no_text_is_a_template(text: str, shown: str) -> None:
    thing = {"value": text, "drift": [{"found": text}], text: (text,)}
    assert event("node", "changed", thing)["xenstore"] == {
        "kind": "node",
        "event": "changed",
        "value": shown,
        "drift": [{"found": shown}],
        shown: [shown],
    }


def test_the_connection() -> None:
    assert connection("lost", "gone {{ x }}") == told("connection", "lost", reason="gone \\x7b{ x }}")
    assert connection("back") == told("connection", "back")
