# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts about targets on their way through a playbook."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._target import (
    KINDS,
    WAYS,
    Target,
    TargetError,
    Use,
    read_targets,
)

FACTS = [
    Target("block", "/dev/sda1", 4096, False, frozenset({"device 8:1", "b"}), (Use("mount", "/srv", "/dev/sda1"),)),
    Target("file", "/image", 0, True, frozenset({"file 1:2"}), (Use("held", "", "/image"),), "half"),
    Target("missing"),
    Target("unknown", note="Permission denied"),
    Target("other", "/dev/null"),
]  # fmt: skip


@pytest.mark.parametrize("facts", FACTS)
@pytest.mark.parametrize("whole", [False, True])
def test_there_and_back(facts: Target, whole: bool) -> None:
    shown = json.loads(json.dumps({"/t": facts.as_dict()}))
    result = {"targets": shown, "changed": False} if whole else shown
    assert read_targets({"DomD": result}) == {"DomD": {"/t": facts}}


@pytest.mark.parametrize(
    ("kind", "exists"), [("block", True), ("other", True), ("missing", False), ("unknown", None)]
)
def test_whether_it_is_there(kind: str, exists: bool | None) -> None:
    assert kind in KINDS
    assert Target(kind).exists is exists


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (Use("mount", "/srv", "/d"), "/d is mounted at /srv"),
        (Use("swap", "/d", "/d"), "/d is used as swap"),
        (Use("holder", "/dev/dm-0 (a-b)", "/d"), "/d is part of /dev/dm-0 (a-b)"),
        (Use("held", "", "/d"), "/d is held exclusively"),
        (Use("held", "dd (5)", "/d"), "/d is held exclusively, and open in dd (5)"),
    ],
)
def test_uses_in_words(use: Use, words: str) -> None:
    assert use.by in WAYS
    assert str(use) == words


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "targets: a mapping of backend domains"),
        ({"DomD": []}, "targets.DomD: the targets of a result of xen.virtio.storage_info"),
        ({"DomD": {"/a": 5}}, r"targets.DomD\['/a'\]: facts of xen.virtio.storage_info"),
        ({"DomD": {"/a": {"kind": "tape"}}}, "kind is one of block, file"),
        ({"DomD": {"/a": {"kind": "block", "size": "5"}}}, "size is a number of bytes"),
        ({"DomD": {"/a": {"kind": "block", "names": "x"}}}, "names and in_use are lists"),
        ({"DomD": {"/a": {"kind": "block", "in_use": ["x"]}}}, "an entry of in_use has by"),
        ({"DomD": {"/a": {"kind": "block", "in_use": [{"by": "me"}]}}}, "an entry of in_use has by"),
    ],
)
def test_what_is_no_fact(given: Any, said: str) -> None:
    with pytest.raises(TargetError, match=said):
        read_targets(given)


def test_nothing_given_is_nothing_known() -> None:
    assert read_targets(None) == read_targets({}) == {}
    assert read_targets({"DomD": {"/a": {"kind": "block"}}}) == {"DomD": {"/a": Target("block")}}
