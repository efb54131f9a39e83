# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that guests need on their host."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._guestimages import images_of

ONE, TWO = "1" * 64, "2" * 64
IMAGE = {"src": "files/Image", "checksum": f"sha256:{ONE}"}
PATH = f"/images/Image-{ONE[:12]}"


@pytest.mark.parametrize(
    ("guests", "images", "changed"),
    [
        ([], [], []),
        ([{"name": "a", "kernel": "/boot/Image"}], [], [{"name": "a", "kernel": "/boot/Image"}]),
        (
            [{"name": "a", "kernel": IMAGE, "state": "absent"}],
            [],
            [{"name": "a", "kernel": PATH, "state": "absent"}],
        ),
        (
            {"a": {"kernel": IMAGE, "memory": 64}},
            [("files/Image", ONE, PATH, ["a"])],
            [{"name": "a", "kernel": PATH, "memory": 64}],
        ),
        (
            [{"name": "a", "kernel": IMAGE}, {"name": "b", "kernel": IMAGE}],
            [("files/Image", ONE, PATH, ["a", "b"])],
            [{"name": "a", "kernel": PATH}, {"name": "b", "kernel": PATH}],
        ),
        (
            [{"name": "a", "kernel": IMAGE, "ramdisk": {"src": "/srv/initrd", "checksum": TWO.upper()}}],
            [("files/Image", ONE, PATH, ["a"]), ("/srv/initrd", TWO, f"/images/initrd-{TWO[:12]}", ["a"])],
            [{"name": "a", "kernel": PATH, "ramdisk": f"/images/initrd-{TWO[:12]}"}],
        ),
        (
            [{"name": "a", "kernel": IMAGE}, {"name": "b", "kernel": {**IMAGE, "checksum": TWO}}],
            [("files/Image", ONE, PATH, ["a"]), ("files/Image", TWO, f"/images/Image-{TWO[:12]}", ["b"])],
            [{"name": "a", "kernel": PATH}, {"name": "b", "kernel": f"/images/Image-{TWO[:12]}"}],
        ),
    ],
)
def test_images(guests: object, images: list[tuple[Any, ...]], changed: list[dict[str, Any]]) -> None:
    found = images_of(guests, "/images")
    assert [(one["src"], one["sha256"], one["path"], one["guests"]) for one in found["images"]] == images
    assert found["guests"] == changed


@pytest.mark.parametrize(
    ("given", "folder", "words"),
    [
        ({"src": "Image"}, "/images", "checksum"),
        ({"checksum": ONE}, "/images", "src"),
        ({"src": "Image", "checksum": "md5:1"}, "/images", "sha256"),
        ({"src": "Image", "checksum": ONE, "mode": "0644"}, "/images", "mode"),
        (IMAGE, "images", "absolute"),
        ({"src": "other/Image", "checksum": ONE[:12] + "9" * 52}, "/images", "two different files"),
    ],
)
def test_what_cannot_be_had(given: dict[str, str], folder: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        images_of([{"name": "z", "kernel": IMAGE}, {"name": "a", "kernel": given}], folder)
