# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What users may write about guests; disks themselves are in test__diskspec.py."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._declaration import (
    DeclarationError,
    nearest,
    parse_guests,
)
from unit.plugins.module_utils.hosts import disk, guest


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"domain": "domu1", "disks": [disk()]}, [("domu1", ["xvda"], False)]),
        ({"domain": 3, "disks": [disk()], "exclusive": True}, [("3", ["xvda"], True)]),
        ({"domain": " domu1 ", "disks": None}, [("domu1", None, False)]),
        ({"domain": "domu1", "disks": [], "exclusive": True}, [("domu1", [], True)]),
        ({"guests": []}, []),
        (
            {"guests": [guest("a", disk("xvdb"), "/a,raw,xvda,rw"), {"domain": "b"}]},
            [("a", ["xvdb", "xvda"], False), ("b", None, False)],
        ),
    ],
)
def test_both_forms_read_alike(params: dict[str, Any], expected: list[tuple[str, Any, bool]]) -> None:
    found = parse_guests(params)
    assert [
        (one.domain, None if one.disks is None else [d.spec.vdev for d in one.disks], one.exclusive)
        for one in found
    ] == expected


def test_exclusive_beside_guests_is_refused_not_forgotten() -> None:
    with pytest.raises(DeclarationError, match="exclusive beside guests"):
        parse_guests({"guests": [guest("a", disk())], "exclusive": True})
    assert not parse_guests({"guests": [guest("a", disk())], "exclusive": False})[0].exclusive


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("domu1", r"guests\[1\]: a guest is a mapping"),
        (None, "a guest is a mapping"),
        ({"domain": "d", "disk": []}, r"guests\[1\]: unknown key 'disk'; did you mean 'disks'"),
        ({"domain": "d", 7: []}, "unknown key 7; known are domain, disks, exclusive"),
        ({"disks": []}, "domain is required"),
        ({"domain": " ", "disks": []}, "domain is required"),
        ({"domain": True}, "domain is required"),
        ({"domain": "d", "exclusive": "yes"}, "d: exclusive is true or false"),
        ({"domain": "d", "disks": "xvda"}, "d: disks is a list"),
        ({"domain": "d", "disks": {"xvda": {}}}, "d: disks is a list"),
        ({"domain": "d", "disks": []}, "exclusive: true"),
        ({"domain": "d", "disks": [disk(), None]}, r"guests\[1\]\.disks\[1\] \(d\): "),
        ({"domain": "d", "disks": [disk("xvd")]}, r"disks\[0\] \(d\): vdev 'xvd' has no drive letter"),
    ],
)
def test_the_place_of_a_mistake_is_named(entry: object, said: str) -> None:
    with pytest.raises(DeclarationError, match=said):
        parse_guests({"guests": [guest("fine", disk()), entry]})


@pytest.mark.parametrize(
    ("entry", "vdev"),
    [
        ("xvda", "xvda"),
        (" xvda ", "xvda"),
        ("51712", "51712"),
        ({"vdev": "xvda"}, "xvda"),
        ({"vdev": "xvda", "target": "/dev/x", "backend": "DomD"}, "xvda"),
        ("/dev/x,raw,xvda,rw", "xvda"),
        ("vdev=xvda,target=/dev/x", "xvda"),
    ],
)
def test_a_disk_that_is_to_go_needs_its_vdev_only(entry: object, vdev: str) -> None:
    (found,) = parse_guests({"guests": [guest("d", entry)]}, absent=True)
    assert found.disks is not None
    assert [one.spec.vdev for one in found.disks] == [vdev]


@pytest.mark.parametrize("entry", ["vda", "", {"target": "/dev/x"}, {}, 5, "xvda,xvdb"])
def test_and_that_it_needs(entry: object) -> None:
    with pytest.raises(DeclarationError, match=r"disks\[0\] \(d\)"):
        parse_guests({"guests": [guest("d", entry)]}, absent=True)


def test_old_spellings_are_noted_with_their_place() -> None:
    (found,) = parse_guests({"guests": [guest("d", disk(), "phy:/dev/x,xvdb,rw,virtio")]})
    assert found.notes
    assert all(note.startswith("guests[0].disks[1] (d): ") for note in found.notes)


@pytest.mark.parametrize(
    ("key", "said"), [("disk", "; did you mean 'disks'?"), ("zzz", "; known are domain, disks")]
)
def test_nearest(key: str, said: str) -> None:
    assert nearest(key, ("domain", "disks")) == said
