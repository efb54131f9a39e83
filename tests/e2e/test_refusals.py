# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What xl would fail at is refused before it is asked; and asked all the same, the real xl agrees."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._dialect import parse_dialect
from ansible_collections.xen.virtio.plugins.module_utils._guestconfig import declare_guest, render_guest

from e2e.site import DOMD, Site
from e2e.trees import domids

CONFIG = "/root/wrong.cfg"


class Refused(NamedTuple):
    """A guest's disks, the code of what is wrong with them, and xl's words for it."""

    code: str
    disks: list[dict[str, Any]]
    words: str


def twelve() -> list[dict[str, Any]]:
    return [{"vdev": f"d{number}p0", "target": "/srv/q.img", "access": "ro"} for number in range(40, 52)]


CASES = [
    Refused("devices-limit", twelve(), "Ran out of reserved range for Virtio MMIO IRQ"),
    Refused(
        "devid-duplicate",
        [{"vdev": "xvdx", "target": "/srv/q.img"}, {"vdev": "d23p0", "target": "/srv/r.img"}],
        "device already exists in xenstore",
    ),
    Refused("target-missing", [{"vdev": "xvdx", "target": "/srv/nobody.img"}], "failed to stat"),
    Refused(
        "virtio-rules",
        [{"vdev": "xvdx", "target": "/srv/q.img", "format": "qcow2"}],
        "no suitable backend for disk xvdx",
    ),
]

MIXED = [
    {"vdev": "xvdx", "target": "/srv/q.img"},
    {"vdev": "xvdy", "target": "/dev/loop0", "specification": "xen", "backendtype": "phy"},
]


#: The real xl, which keeps what it was asked.
XL, ASKED = "/root/xl", "/root/xl.asked"
KEEPING = f"""\
#!/bin/sh
echo "$@" >>{ASKED}
exec xl "$@"
"""


@pytest.fixture(scope="module", autouse=True)
def prepared(site: Site) -> None:
    site.board.run(
        "truncate -s 16M /srv/q.img /srv/r.img; losetup /dev/loop0 || losetup /dev/loop0 /srv/r.img"
    )
    site.board.run(f"cat >{XL}; chmod 755 {XL}", stdin=KEEPING)


def wrong(disks: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": "wrong",
        "memory": 64,
        "kernel": DOMD["kernel"],
        "ramdisk": "/root/guest/ramdisk",
        "disks": disks,
    }


def codes(result: dict[str, Any]) -> set[str]:
    return {finding["code"] for finding in result["findings"] if finding["severity"] == "error"}


def by_hand(site: Site, disks: list[dict[str, Any]]) -> tuple[int, str]:
    """What the real xl says to such a guest."""
    text = render_guest(declare_guest(wrong(disks)), parse_dialect("4.17"))
    site.board.run(f"cat >{CONFIG}", stdin=text)
    done = site.board.run(f"xl create -p -q {CONFIG}", check=False, timeout=300)
    return done.returncode, done.stderr


@pytest.mark.parametrize("case", CASES, ids=[case.code for case in CASES])
def test_refused_before_xl_is_asked_and_xl_agrees(site: Site, case: Refused) -> None:
    site.board.run(f": >{ASKED}")
    result = site.module("xen.virtio.guest", {**wrong(case.disks), "xl_path": XL})
    assert result["failed"]
    assert case.code in codes(result)
    asked = site.board.run(f"cat {ASKED}").stdout.splitlines()
    assert "list" in asked
    assert not [words for words in asked if "create" in words and " -n" not in words]

    status, said = by_hand(site, case.disks)
    assert status != 0
    assert case.words in said
    assert "wrong" not in domids(site.board)


def test_both_kinds_of_disk_are_refused_where_xl_goes_into_a_dead_end(site: Site) -> None:
    """xl creates that guest, and cannot list its disks, nor detach one, ever after."""
    result = site.module("xen.virtio.guest", wrong(MIXED))
    assert result["failed"]
    assert "mixed-specification" in codes(result)
    assert "wrong" not in domids(site.board)

    status, said = by_hand(site, MIXED)
    try:
        assert status == 0, said
        listed = site.board.run("xl block-list wrong", check=False).stderr
        assert "both xen and virtio paths are present" in listed
    finally:
        site.board.run("xl destroy wrong", check=False)
    assert "wrong" not in domids(site.board)


def test_a_target_of_two_writers_is_refused(site: Site) -> None:
    """xl has no such rule: it would hand the image of guest one to another guest."""
    result = site.module("xen.virtio.guest", wrong([{"vdev": "xvdx", "target": "/srv/one.img"}]))
    assert result["failed"]
    assert "target-shared" in codes(result)
    assert "wrong" not in domids(site.board)


def test_hotplug_is_refused_as_xl_refuses_it(site: Site) -> None:
    result = site.module(
        "xen.virtio.disk", {"domain": "two", "disks": [{"vdev": "xvdz", "target": "/srv/q.img"}]}
    )
    assert result["failed"]
    assert "made-by-xl" in codes(result)
    attach = "xl block-attach two vdev=xvdz,specification=virtio,target=/srv/q.img"
    done = site.board.run(attach, check=False)
    assert done.returncode != 0
    assert "Hotplug isn't supported for specification virtio" in done.stderr
