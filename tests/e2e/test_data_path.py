# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests read and write their disks: with a Xen that has the IOREQ server, and the real daemon under the launcher.

Neither is in Debian, so whoever runs this brings them: ``XEN_IMAGE`` names a Xen 4.17 for arm64 built with
``CONFIG_IOREQ_SERVER=y``, ``VIRTIO_DISK_BINARY`` a virtio-disk for Debian 12 on arm64. ``docs/boards.md`` tells more.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.board import CMDLINE, Board
from e2e.conftest import up
from e2e.daemons import Daemons, role, until, wish
from e2e.site import Site
from e2e.trees import domids

XEN, DAEMON = (os.environ.get(name, "") for name in ("XEN_IMAGE", "VIRTIO_DISK_BINARY"))
pytestmark = pytest.mark.skipif(
    not (XEN and DAEMON), reason="XEN_IMAGE and VIRTIO_DISK_BINARY name the Xen and the daemon of this test"
)

#: Guests with the processor that each has for itself; all their first disks have the same device number.
GUESTS = {"left": "3", "right": "2"}
#: Seconds for a guest to boot and to go through its disks.
PATIENCE = 300.0

IMAGES = """\
set -e
mkdir -p /srv/in
for name in left right shared; do
  echo "hello from $name" >/srv/in/hello
  truncate -s 16M /srv/$name.img
  mkfs.ext4 -q -F -d /srv/in /srv/$name.img
done
sha256sum /srv/shared.img >/srv/shared.sum
"""


def declared(name: str, run: int) -> dict[str, Any]:
    """A guest that tells what it finds on its disks, and then writes without end."""
    disks = [{"vdev": "xvda", "target": f"/srv/{name}.img"}]
    if name == "left":
        disks.append({"vdev": "xvdb", "target": "/srv/shared.img", "access": "ro"})
    return wish(name, disks, cmdline=f"{CMDLINE} disks beat run={run}", cpus=GUESTS[name])


@pytest.fixture(scope="module")
def ioreq_board(say: Callable[[str], None]) -> Iterator[Board]:
    with up(say, Path(XEN)) as board:
        yield board


@pytest.fixture(scope="module")
def variables() -> dict[str, Any]:
    return {"virtio_disk_backend_install": "binary", "virtio_disk_backend_src": str(Path(DAEMON).resolve())}


@pytest.fixture(scope="module")
def daemons(ioreq_board: Board, variables: dict[str, Any]) -> Iterator[Daemons]:
    """The role ran in dom0, and both guests were made in one call."""
    ioreq_board.run(IMAGES)
    site = Site(ioreq_board, ioreq_board.folder / "site")
    role(site, "board", **variables)
    made = Daemons(site, dict.fromkeys(GUESTS, "Domain-0"))
    made.make(declared(name, 1) for name in GUESTS)
    yield made
    made.remove()


def read(daemons: Daemons, name: str, path: str) -> str:
    """A file on a guest's first disk, read in dom0 without mounting it."""
    return daemons.on(name, f"debugfs -c -R 'cat {path}' /srv/{name}.img 2>/dev/null || :")


def report(daemons: Daemons, name: str, run: int) -> str:
    """What a guest wrote of its disks in this run."""
    until(
        f"{name} reports",
        lambda: bool(re.search(rf"\brun={run}\b", read(daemons, name, "/report"))),
        PATIENCE,
    )
    return read(daemons, name, "/report")


def beats(daemons: Daemons, name: str) -> int:
    return read(daemons, name, "/beat").count("\n")


def still_writing(daemons: Daemons, name: str) -> None:
    before = beats(daemons, name)
    until(f"{name} writes", lambda: beats(daemons, name) > before, PATIENCE)


def test_xen_says_that_it_has_the_server(daemons: Daemons) -> None:
    assert daemons.site.module("xen.virtio.host_info")["xen"]["ioreq"]["support"] != "no"


def test_each_of_two_guests_reads_and_writes_its_own(daemons: Daemons) -> None:
    told = {name: report(daemons, name, 1) for name in GUESTS}
    assert re.search(r"vda size=32768 ro=0 reads hello from left", told["left"])
    assert re.search(r"vdb size=32768 ro=1 reads hello from shared", told["left"])
    assert re.search(r"vda size=32768 ro=0 reads hello from right", told["right"])
    assert "vdb" not in told["right"]


def test_a_new_launcher_leaves_guests_writing(daemons: Daemons, variables: dict[str, Any]) -> None:
    before = daemons.all_pids(GUESTS)
    for name in GUESTS:
        still_writing(daemons, name)
    daemons.kill_launchers()
    daemons.new_launchers("board", variables)
    for name in GUESTS:
        still_writing(daemons, name)
    assert daemons.all_pids(GUESTS) == before


def test_a_guest_that_reboots_by_itself_goes_on(daemons: Daemons) -> None:
    other = daemons.pids("right")
    last = max(domids(daemons.site.board).values())
    daemons.site.board.run("xl reboot left")
    until("left is back", lambda: domids(daemons.site.board).get("left", 0) > last)
    until("left writes again", lambda: read(daemons, "left", "/beat").count("boot") == 2, PATIENCE)
    still_writing(daemons, "left")
    still_writing(daemons, "right")
    assert daemons.pids("right") == other


def test_a_guest_that_is_made_anew_finds_its_data(daemons: Daemons) -> None:
    before = domids(daemons.site.board)["left"]
    daemons.make([declared("left", 2)], recreate="allowed", force_destroy=True)
    assert domids(daemons.site.board)["left"] > before
    told = report(daemons, "left", 2)
    assert re.search(r"vda size=32768 ro=0 reads hello from left", told)
    assert not re.search(r"\brun=1\b", told)
    still_writing(daemons, "left")


def test_guests_that_are_destroyed_leave_all_that_they_wrote(daemons: Daemons) -> None:
    """Whole file systems, no gap in what was written, and nothing on what is read-only."""
    daemons.remove()
    assert not GUESTS.keys() & domids(daemons.site.board).keys()
    for name in GUESTS:
        # 1: it was not unmounted, and its journal is played back; more would be damage
        daemons.on(name, f"e2fsck -p /srv/{name}.img || [ $? -eq 1 ] && e2fsck -f -n /srv/{name}.img")
        runs = read(daemons, name, "/beat").split("boot\n")[1:]
        assert len(runs) == (3 if name == "left" else 1)
        for run in runs:
            numbers = [int(line) for line in run.split()]
            assert numbers
            assert numbers == list(range(1, len(numbers) + 1))
    daemons.on("left", "sha256sum -c /srv/shared.sum")
