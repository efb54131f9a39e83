# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab host with guests that wait for disks, and the declaration of those disks."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from lab import LabHost

DISKS_A_GUEST = 10  # a guest has room for 11 virtio devices
BACKEND = "DomD"


class Scene(NamedTuple):
    """A host whose store holds a driver domain and guests without disks."""

    host: LabHost
    guests: list[int]


def declared(guests: list[int], disks: int) -> list[dict[str, Any]]:
    """The option ``guests``: so many disks, ten a guest, no device number twice at the backend."""
    found = []
    for index, domid in enumerate(guests):
        numbers = range(index * DISKS_A_GUEST, min(disks, (index + 1) * DISKS_A_GUEST))
        found.append(
            {
                "domain": str(domid),
                "disks": [
                    {"vdev": f"d{number}p0", "target": f"/dev/vg0/disk{number}", "backend": BACKEND}
                    for number in numbers
                ],
            }
        )
    return found


def accepted(guests: list[int]) -> list[dict[str, str]]:
    """More disks than the quotas that xenstored ships with have room for, so somebody raised them."""
    return [
        {"code": "quota", "domain": name, "reason": "raised at boot"} for name in (BACKEND, *map(str, guests))
    ]


@contextmanager
def scene(daemon: Literal["c", "o"], disks: int) -> Iterator[Scene]:
    """A fresh host with guests for so many disks; the same domids each time."""
    with (
        tempfile.TemporaryDirectory(prefix="xen-bench-") as folder,
        LabHost(Path(folder) / "host", daemon=daemon) as host,
    ):
        host.add_domain(BACKEND, kind="toolstack")
        count = -(-disks // DISKS_A_GUEST)
        yield Scene(host, [host.add_domain(kind="dom0less") for _guest in range(count)])
