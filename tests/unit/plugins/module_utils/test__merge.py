# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guests of a host out of an inventory: defaults, overrides, limits."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._guestconfig import GuestError
from ansible_collections.xen.virtio.plugins.module_utils._guestspecs import (
    may_reorder,
    read_specs,
    targets_of,
)
from ansible_collections.xen.virtio.plugins.module_utils._guestwish import WishError
from ansible_collections.xen.virtio.plugins.module_utils._merge import MergeError, merge_guests

XVDA = {"vdev": "xvda", "target": "/a", "backend": "DomD"}
XVDB = {"vdev": "xvdb", "target": "/b", "backend": "DomD"}


@pytest.mark.parametrize(
    ("guests", "defaults", "overrides", "expected"),
    [
        # both shapes, in their order
        ({"b": {"memory": 1}, "a": None}, None, None, [{"name": "b", "memory": 1}, {"name": "a"}]),
        ([{"name": "b"}, {"name": "a"}], {}, {}, [{"name": "b"}, {"name": "a"}]),
        (None, None, None, []),
        # a whole configuration has no place for default options
        (
            {"a": {"content": "name='a'"}, "b": {}},
            {"memory": 1, "autostart": True},
            {"b": {"content": "name='b'", "memory": None}},
            [
                {"name": "a", "content": "name='a'", "autostart": True},
                {"name": "b", "content": "name='b'", "autostart": True},
            ],
        ),
        ({"a": {"content": None}}, {"memory": 1}, {}, [{"name": "a", "memory": 1}]),
        # who is stronger
        (
            {"a": {"memory": 2}, "b": {}, "c": {"memory": 2}},
            {"memory": 1, "vcpus": 1},
            {"c": {"memory": 3}},
            [
                {"name": "a", "memory": 2, "vcpus": 1},
                {"name": "b", "memory": 1, "vcpus": 1},
                {"name": "c", "memory": 3, "vcpus": 1},
            ],
        ),
        # mappings are merged, lists replaced
        (
            {"a": {"extra_config": {"y": 1}, "vif": ["mac=1"]}},
            {"extra_config": {"x": 1, "y": 0}, "vif": ["mac=0", "mac=2"]},
            {"a": {"extra_config": {"z": 2}}},
            [{"name": "a", "extra_config": {"x": 1, "y": 1, "z": 2}, "vif": ["mac=1"]}],
        ),
        # an image is one thing
        (
            {"a": {"kernel": {"src": "k2"}}, "b": {"kernel": {"checksum": "sha256:c"}}},
            {"kernel": {"src": "k1", "checksum": "sha256:d"}},
            {},
            [
                {"name": "a", "kernel": {"src": "k2"}},
                {"name": "b", "kernel": {"src": "k1", "checksum": "sha256:c"}},
            ],
        ),
        # null takes away
        ({"a": {"memory": None}}, {"memory": 1}, {}, [{"name": "a"}]),
        ({"a": {"memory": 1, "disks": [XVDA]}}, {}, {"a": {"memory": None, "disks": None}}, [{"name": "a"}]),
        ({"a": {}}, {}, {"a": None}, [{"name": "a"}]),
    ],
)
def test_options(guests: Any, defaults: Any, overrides: Any, expected: list[Any]) -> None:
    given = copy.deepcopy((guests, defaults, overrides))
    merged = merge_guests(guests, defaults, overrides)
    assert merged == expected
    assert [next(iter(guest)) for guest in merged] == ["name"] * len(merged)
    assert (guests, defaults, overrides) == given  # left as they were


@pytest.mark.parametrize(
    ("disks", "override", "expected"),
    [
        ([XVDA, XVDB], [{"vdev": "xvdb", "access": "ro"}], [XVDA, {**XVDB, "access": "ro"}]),
        ([XVDA], [{"vdev": "d0p0", "target": "/c"}], [{**XVDA, "target": "/c"}]),
        ([XVDA], [{"vdev": 51712, "target": "/c"}], [{**XVDA, "target": "/c"}]),
        ([XVDA], [XVDB], [XVDA, XVDB]),
        ([XVDA], ["/c,,xvda,r"], ["/c,,xvda,r"]),
        ([XVDA], [], [XVDA]),
        (None, [XVDA], [XVDA]),
        (
            ["/a,,xvda,r,backend=DomD,specification=virtio"],
            [{"vdev": "xvda", "target": "/c"}],
            [
                {
                    "vdev": "xvda",
                    "target": "/c",
                    "format": "raw",
                    "access": "ro",
                    "backend": "DomD",
                    "specification": "virtio",
                }
            ],
        ),
        (
            ["/a,,xvda"],
            [{"vdev": "xvda", "access": "ro"}],
            [{"vdev": "xvda", "target": "/a", "format": "raw", "access": "ro", "specification": "xen"}],
        ),
    ],
)
def test_disks_go_by_device_number(disks: Any, override: Any, expected: list[Any]) -> None:
    (guest,) = merge_guests({"a": {"disks": disks}}, None, {"a": {"disks": override}})
    assert guest["disks"] == expected


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (None, "abc"),
        ([], "abc"),
        ("", "abc"),
        (["c", "a"], "ac"),
        ("c, a", "ac"),
        ("b", "b"),
    ],
)
def test_a_limit_keeps_the_order(limit: Any, expected: str) -> None:
    guests = merge_guests({"a": {}, "b": {}, "c": {}}, {"memory": 1}, {"a": {"vcpus": 2}}, limit)
    assert "".join(guest["name"] for guest in guests) == expected


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("a",), "xen_guests is a mapping of guests by name, or a list of guests"),
        (({"a": 5},), "xen_guests: a: a guest is a mapping of its options, not 5"),
        (({"a": {"name": "b"}},), "xen_guests: a calls itself 'b'"),
        (([5],), r"xen_guests\[0\]: a guest is a mapping"),
        (([{"memory": 1}],), r"xen_guests\[0\]: a guest needs a name"),
        (([{"name": ""}],), "needs a name, which is text, not ''"),
        (({5: {}},), "needs a name, which is text, not 5"),
        (([{"name": "a"}, {"name": "a"}],), "two guests are called a"),
        (({"a": {}}, [1]), "xen_guest_defaults is a mapping"),
        (({"a": {}}, {"name": "b"}), "a name is no default"),
        (({"a": {}}, {}, ["b"]), "xen_guest_overrides is a mapping"),
        (({"linux1": {}}, {}, {"linux": {}}), "no guest is called 'linux'; did you mean 'linux1'?"),
        (({"linux1": {}}, {}, {"x": {}}), "no guest is called 'x'; known are linux1"),
        (({"a": {}}, {}, {"a": 5}), "xen_guest_overrides: a is a mapping, not 5"),
        (({"a": {}}, {}, {"a": {"name": "b"}}), "a guest keeps its name"),
        (({"a": {}}, {}, {"a": {"disks": "x"}}), "disks is a list"),
        (({"a": {"disks": "x"}}, {}, {"a": {"disks": []}}), "guest a: disks is a list"),
        (({"a": {}}, {}, {"a": {"disks": [{"target": "/a"}]}}), r"disks\[0\]: a disk needs its vdev"),
        (
            ({"a": {}}, {}, {"a": {"disks": [{"vdev": "xvd"}]}}),
            r"overrides: a: disks\[0\]: .*no drive letter",
        ),
        (({"a": {}}, {}, {"a": {"disks": ["/a"]}}), r"disks\[0\]: .*no vdev specified"),
        (({"a": {}}, {}, {"a": {"disks": [5]}}), "a disk is a string or a mapping, not 5"),
        (({"a": {}}, {}, {"a": {"disks": [XVDA, "/b,,d0p0"]}}), r"disks\[1\]: a second override of one disk"),
        (({}, {}, {}, ["a"]), "xen_guest_limit: no guest is called 'a'; known are none"),
        (({}, {}, {}, 5), "xen_guest_limit is a list of names"),
        (({}, {}, {}, [5]), "xen_guest_limit is a list of names"),
    ],
)
def test_what_makes_no_sense(arguments: tuple[Any, ...], said: str) -> None:
    with pytest.raises(MergeError, match=said.replace("?", r"\?")):
        merge_guests(*arguments)


# --- as specifications ---------------------------------------------------------------------------------

GUESTS = {
    "a": {"disks": [XVDA, "/c,,xvdc", XVDB], "kernel": "/k", "state": "running", "allow_reorder": True},
    "b": {
        "content": "name='b'\ndisk=['/a,,xvda,backend=DomD', ',,hdc,cdrom', 'iscsi:/i,xvde']\n",
        "force_destroy": True,
    },
    "gone": {"state": "absent", "disks": ["nonsense"]},
}


def test_guests_of_an_inventory_as_specifications() -> None:
    specs = read_specs(GUESTS, "guests")
    assert [(spec.name, [disk.spec.vdev for disk in spec.disks]) for spec in specs] == [
        ("a", ["xvda", "xvdc", "xvdb"]),
        ("b", ["xvda", "hdc", "xvde"]),
    ]
    assert targets_of(specs) == {"DomD": ["/a", "/b"], "Domain-0": ["/c"]}
    assert may_reorder(GUESTS, "guests") == {"a"}


@pytest.mark.parametrize(
    ("guest", "error", "said"),
    [
        ({"memry": 5}, GuestError, "guest a: .*memry"),
        ({"content": 5}, MergeError, "guests: a: content is the text of a configuration"),
        ({"content": "name='b'"}, MergeError, "its content is of a guest called b"),
        ({"content": "name='a"}, MergeError, "guests: a: content: .*line 1"),
        ({"state": "runing"}, WishError, "did you mean 'running'"),
        ({"recreate": True}, WishError, "recreate is one of"),
        ({"autostart": "maybe"}, WishError, "autostart is true or false"),
        ({"path": "x.cfg"}, WishError, "absolute path"),
        ({"disks": [{"vdev": "xvda"}]}, GuestError, "no target"),
    ],
)
def test_guests_that_cannot_be_read(guest: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        read_specs({"a": guest}, "guests")
