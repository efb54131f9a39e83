# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rollout has to do on a board, or why it may not."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._findings import Finding, summary
from ansible_collections.xen.virtio.plugins.plugin_utils._rollout_boards import RolloutError, board_of

Json = dict[str, Any]


def finding(code: str = "target-shared", severity: str = "error") -> Finding:
    return Finding(code, severity, "linux1", "xvda", f"it is {code}", "So it goes.", "Say another.")


def guest(action: str = "unchanged", *reasons: str, name: str = "linux1") -> Json:
    return {"name": name, "action": action, "domid": 7, "recreate_reasons": list(reasons), "state": "running"}


def read(*guests: Json, **more: Any) -> Json:
    listed = list(guests) or [guest()]
    changed = any(one["action"] != "unchanged" for one in listed)
    return {"changed": changed, "guests": listed, "findings": [], "msg": "", **more}


def refused(*findings: Finding, beyond: str = "") -> Json:
    told = ". ".join(filter(None, [beyond, summary(findings) if findings else ""]))
    return read(failed=True, findings=[one.as_dict() for one in findings], msg=told)


def driver(domain: str = "DomD", **result: Any) -> Json:
    return {"item": {"key": domain, "value": {"host": f"b01-{domain.lower()}"}}, **result}


READY = {
    "launcher": {"installed": True, "version": "0.1.0", "status": "ready", "reason": None},
    "daemon": {
        "real_path": "/usr/local/lib/virtio-disk/v1-0123456789ab/virtio-disk",
        "version": "v1-0123456789ab",
    },
    "findings": [],
}
WANTED = {"install": "binary", "version": "v1", "checksum": "sha256:0123456789abcdef", "launcher": "0.1.0"}


def backend(**more: Any) -> Json:
    return driver(backend={**READY, **more})


@pytest.mark.parametrize(
    ("entry", "status", "words"),
    [
        ({"read": read()}, "ok", []),
        (
            {"read": read(guest("recreated", "kernel: a -> b"))},
            "changed",
            ["linux1 recreated (kernel: a -> b)"],
        ),
        (
            {"read": read(guest("created"), guest(name="linux2"), guest("changed", name="linux3"))},
            "changed",
            ["linux1 created", "linux3 changed"],
        ),
        ({"read": {**read(), "changed": True}}, "changed", ["what is kept of guests on the host"]),
        # not asked for: guest_recreate is report
        ({"read": read(guest("unchanged", "kernel: a -> b"))}, "ok", []),
        ({"read": {"unreachable": True, "msg": "no route"}}, "offline", ["no route"]),
        (
            {"read": {"failed": True, "unread": True, "msg": "xenstored hangs", "guests": []}},
            "failed",
            ["xenstored hangs"],
        ),
        ({"read": {"failed": True, "module_stderr": "no python", "msg": ""}}, "failed", ["no python"]),
        ({"read": {"failed": True, "msg": "Timed out after 180 second(s)."}}, "failed", ["Timed out"]),
        ({"read": {}, "problem": "xen_guests: no name"}, "refused", ["xen_guests: no name"]),
        (
            {"read": refused(finding())},
            "refused",
            ["linux1: it is target-shared [target-shared]. Say another."],
        ),
        (
            {"read": refused(finding(), finding("quota"), beyond="linux1 would have to be recreated")},
            "refused",
            ["linux1 would have to be recreated.", "[target-shared]", "[quota]"],
        ),
        (
            {"read": {**refused(), "msg": "linux1: kernel: /x is not on this host"}},
            "refused",
            ["/x is not on this host"],
        ),
        ({"read": read(guest("created")), "errors": [finding().as_dict()]}, "refused", ["[target-shared]"]),
        ({"read": read(), "errors": [finding(severity="warning").as_dict()]}, "ok", []),
        # storage tasks make what is missing
        ({"read": refused(finding("target-missing"))}, "refused", ["[target-missing]"]),
        (
            {"read": refused(finding("target-missing")), "storage": True},
            "changed",
            ["storage: linux1: it is target-missing"],
        ),
        (
            {"read": refused(finding("target-missing"), finding()), "storage": True},
            "refused",
            ["linux1: it is target-shared [target-shared]."],
        ),
        # driver domains
        (
            {"read": read(), "drivers": [driver(unreachable=True, msg="no route")]},
            "offline",
            ["DomD (b01-domd) cannot be reached"],
        ),
        (
            {
                "read": read(guest("created", name="DomD")),
                "drivers": [driver(unreachable=True)],
                "served_here": ["DomD"],
            },
            "changed",
            ["DomD created"],
        ),
        (
            {
                "read": read(guest(name="DomD")),
                "drivers": [driver(unreachable=True)],
                "served_here": ["DomD"],
            },
            "offline",
            ["cannot be reached"],
        ),
        (
            {"read": read(), "drivers": [driver(failed=True, msg="no python")]},
            "failed",
            ["cannot be read: no python"],
        ),
        ({"read": read(), "drivers": [{"skipped": True}]}, "ok", []),
        # their daemons
        ({"read": read(), "drivers": [driver(backend={})]}, "ok", []),
        ({"read": read(), "drivers": [backend()], "backend": WANTED}, "ok", []),
        (
            {"read": read(), "drivers": [driver(backend={})], "backend": WANTED},
            "changed",
            ["the launcher is not installed"],
        ),
        (
            {
                "read": read(),
                "drivers": [backend(launcher={"installed": True, "status": "dead", "reason": "no store"})],
                "backend": WANTED,
            },
            "changed",
            ["the launcher is not ready (no store)"],
        ),
        (
            {"read": read(), "drivers": [backend()], "backend": {**WANTED, "launcher": "0.2.0"}},
            "changed",
            ["launcher 0.1.0 -> 0.2.0"],
        ),
        (
            {"read": read(), "drivers": [backend(daemon={})], "backend": WANTED},
            "changed",
            ["the daemon is not installed"],
        ),
        (
            {"read": read(), "drivers": [backend()], "backend": {**WANTED, "version": "v2"}},
            "changed",
            ["v1-0123456789ab -> v2"],
        ),
        (
            {
                "read": read(),
                "drivers": [backend()],
                "backend": {**WANTED, "checksum": "sha256:ffff456789abcdef"},
            },
            "changed",
            ["-> sha256:ffff456789ab"],
        ),
        (
            {"read": read(), "drivers": [backend(findings=[{"code": "foreign-daemon"}])], "backend": WANTED},
            "changed",
            ["a daemon runs there that is not the launcher's"],
        ),
    ],
)
def test_a_board(entry: Json, status: str, words: list[str]) -> None:
    board = board_of({"name": "b01", **entry}, {})
    assert board.status == status
    told = " ".join([board.reason, *board.work])
    for word in words:
        assert word in told
    if not words:
        assert told == ""


@pytest.mark.parametrize(
    ("files", "status", "words"),
    [
        ({}, "changed", ""),
        ({"/c/files/Image": "aa"}, "changed", ""),
        ({"/c/files/Image": None}, "refused", "linux1: /c/files/Image is not on the controller"),
        ({"/c/files/Image": "bb"}, "refused", "has the checksum sha256:bb, and sha256:aa was declared"),
    ],
)
def test_files_of_the_controller(files: dict[str, str | None], status: str, words: str) -> None:
    image = {"src": "files/Image", "sha256": "aa", "path": "/var/lib/x/Image-aa", "guests": ["linux1"]}
    entry = {
        "name": "b01",
        "read": read(guest("recreated")),
        "images": [image],
        "sources": {"files/Image": "/c/files/Image"},
    }
    board = board_of(entry, files)
    assert board.status == status
    assert words in board.reason


def test_all_boards_when_asked_for() -> None:
    for given, status in (
        (read(), "changed"),
        ({"unreachable": True}, "offline"),
        (refused(finding()), "refused"),
    ):
        assert board_of({"name": "b01", "read": given}, {}, everything=True).status == status


def test_an_offline_board_may_be_an_error() -> None:
    entry = {"name": "b01", "read": {"unreachable": True}, "offline": "fail"}
    assert board_of(entry, {}).fatal


@pytest.mark.parametrize("entry", [None, "b01", {}, {"read": {}}])
def test_what_is_no_board(entry: object) -> None:
    with pytest.raises(RolloutError):
        board_of(entry, {})
