# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters over the guests of an inventory, called as templates call them."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.xen.virtio.plugins.filter import merge_guests, preflight, storage_targets

FILTERS = {
    name: function
    for module in (merge_guests, preflight, storage_targets)
    for name, function in module.FilterModule().filters().items()
}
DISK = {"vdev": "xvda", "target": "/a", "backend": "DomD"}
TWO = {"a": {"kernel": "/k", "disks": [DISK]}, "b": {"kernel": "/k", "disks": [{**DISK, "vdev": "xvdb"}]}}


def codes(*arguments: Any, **named: Any) -> list[str]:
    """The codes that preflight finds."""
    return [finding["code"] for finding in FILTERS["preflight"](*arguments, **named)]


def test_names() -> None:
    assert sorted(FILTERS) == ["merge_guests", "preflight", "storage_targets"]


def test_merge_guests() -> None:
    merged = FILTERS["merge_guests"](TWO, {"memory": 64}, {"b": {"memory": 128}}, ["b"])
    assert merged == [{"name": "b", "memory": 128, **TWO["b"]}]


def test_storage_targets() -> None:
    assert FILTERS["storage_targets"](TWO) == {"DomD": ["/a"]}


def test_a_finding_has_exactly_these_keys() -> None:
    (finding,) = FILTERS["preflight"](TWO)
    assert finding == {
        "code": "target-shared",
        "severity": "error",
        "domain": "a",
        "vdev": "xvda",
        "message": "xvda (/a) is also xvdb of b (/a); compared by path",
        "why": finding["why"],
        "remedy": finding["remedy"],
    }


@pytest.mark.parametrize(
    ("guests", "named", "expected"),
    [
        ({}, {}, []),
        (None, {}, []),
        ([{"name": "a", **TWO["a"]}], {}, []),
        ({**TWO, "b": {"state": "absent"}}, {}, []),
        ({"a": {"content": "name='a'\ndisk=['/a,,xvda,w,backend=X,specification=virtio']"}}, {}, []),
        ({"a": {"trap_unmapped_accesses": False}}, {"xen": "4.20"}, ["release"]),
        ({"a": {"trap_unmapped_accesses": False}}, {}, []),
        ({"a": TWO["a"]}, {"driver_domains": {"DomX": {}}}, ["backend-down"]),
        ({"a": TWO["a"]}, {"targets": {"DomD": {"/a": {"kind": "missing"}}}}, ["target-missing"]),
        (
            {"a": TWO["a"]},
            {
                "targets": {"DomD": {"targets": {"/a": {"kind": "missing"}}}},
                "accept": [{"code": "target-missing", "reason": "made later", "vdev": "xvda"}],
            },
            [],
        ),
    ],
)
def test_preflight(guests: Any, named: dict[str, Any], expected: list[str]) -> None:
    assert codes(guests, **named) == expected


@pytest.mark.parametrize(("word", "expected"), [({}, ["reorder"]), ({"allow_reorder": True}, [])])
def test_an_order_that_changes(word: dict[str, Any], expected: list[str]) -> None:
    before = {"a": {"disks": [DISK, {**DISK, "vdev": "xvdb", "target": "/b"}]}}
    assert codes({"a": {"disks": before["a"]["disks"][::-1], **word}}, before=before) == expected


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("merge_guests", (5,), "xen_guests is a mapping of guests by name"),
        ("merge_guests", (TWO, {}, {"c": {}}), "no guest is called 'c'"),
        ("storage_targets", ([{}],), "a guest needs a name"),
        ("storage_targets", ({"a": {"disks": ["x"]}},), "guest a: disks: .*no vdev"),
        ("preflight", ("x",), "guests is a mapping of guests by name"),
        ("preflight", ({"a": {"memry": 1}},), "guest a: memry"),
        ("preflight", (TWO, 4.2), "quote it"),
        ("preflight", (TWO, "4.16"), "has no virtio disks"),
        ("preflight", (TWO, None, 5), "driver_domains is a mapping by name"),
        ("preflight", (TWO, None, None, 5), "targets: a mapping of backend domains"),
        ("preflight", (TWO, None, None, None, 5), "before is a mapping of guests by name"),
        ("preflight", (TWO, None, None, None, None, 5), "accept is a list of mappings"),
        ("preflight", (TWO, None, None, None, None, [5]), "accept: a mapping with code and reason"),
        (
            "preflight",
            (TWO, None, None, None, None, [{"code": "target-shared", "reason": "x"}]),
            "target-shared cannot be accepted",
        ),
    ],
)
def test_errors(name: str, arguments: tuple[Any, ...], said: str) -> None:
    with pytest.raises(AnsibleFilterError, match=said):
        FILTERS[name](*arguments)
