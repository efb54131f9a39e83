# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual device names, with no Xen at hand; tests/system/test_oracle_vdev.py asks libxl itself."""

from __future__ import annotations

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._vdev import VdevError, canonical, devid


@pytest.mark.parametrize(
    ("vdev", "number"),
    [
        ("xvda", 51712),
        ("xvda1", 51713),
        ("xvda15", 51727),
        ("xvdb", 51728),
        ("xvdo", 51936),
        ("xvdp", 51952),
        ("xvdp15", 51967),
        ("xvda16", 268435472),
        ("xvda255", 268435711),
        ("xvdq", 268439552),
        ("xvdaa", 268442112),
        ("hda", 768),
        ("hdb", 832),
        ("hdc", 5632),
        ("hdd63", 5759),
        ("sda", 2048),
        ("sdb", 2064),
        ("sdp15", 2303),
        ("d0p0", 51712),
        ("d0x1p0x2", 51730),
        ("d010p00", 51840),
        ("d16p0", 268439552),
        ("51712", 51712),
        ("0xca00", 51712),
        ("0145000", 51712),
        (" +51712", 51712),
        ("0", 0),
        ("2147483647", 2147483647),
    ],
)
def test_devid(vdev: str, number: int) -> None:
    assert devid(vdev) == number


@pytest.mark.parametrize(
    ("vdev", "reason"),
    [
        ("", "empty"),
        ("xvd", "no drive letter"),
        ("xvd1", "no drive letter"),
        ("hd", "no drive letter"),
        ("sd3", "no drive letter"),
        ("xvda 1", "not a virtual device name"),
        ("xvda+1", "not a virtual device name"),
        ("xvda1 ", "not a virtual device name"),
        ("xvdA", "not a virtual device name"),
        ("vda", "not a virtual device name"),
        ("nvme0n1", "not a virtual device name"),
        ("xvdé", "not a virtual device name"),
        ("/dev/xvda", "not a virtual device name"),
        ("-1", "not a virtual device name"),
        ("08", "not a virtual device name"),
        ("0x", "not a virtual device name"),
        ("d-1p0", "not a virtual device name"),
        ("d0p0x", "not a virtual device name"),
        ("٣", "not a virtual device name"),
        ("xvda01", "no leading zero"),
        ("xvda0", "no leading zero"),
        ("xvda256", "outside"),
        ("xvda18446744073709551617", "outside"),
        ("xvdzzzzz", "outside"),
        ("hde", "hda-hdd"),
        ("hda64", "hda-hdd"),
        ("sdq", "sda-sdp"),
        ("sda16", "sda-sdp"),
        ("d1048576p0", "out of range"),
        ("d4294967296p0", "out of range"),
        ("d0p256", "out of range"),
        ("2147483648", "out of range"),
        pytest.param("9" * 5000, "out of range", id="5000 digits"),
    ],
)
def test_refused_by_name(vdev: str, reason: str) -> None:
    with pytest.raises(VdevError, match=reason) as refusal:
        devid(vdev)
    assert repr(vdev) in str(refusal.value) or not vdev


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (51712, "xvda"),
        (51713, "xvda1"),
        (51967, "xvdp15"),
        (268435472, "xvda16"),
        (268439552, "xvdq"),
        (268442112, "xvdaa"),
        (768, "hda"),
        (832, "hdb"),
        (5759, "hdd63"),
        (2303, "sdp15"),
        (0, None),
        (896, None),
        (268435457, None),
        (2147483647, None),
    ],
)
def test_canonical(number: int, name: str | None) -> None:
    assert canonical(number) == name


def test_every_canonical_name_reads_back() -> None:
    for number in [*range(60000), *range(2**28, 2**28 + 20000)]:
        name = canonical(number)
        assert name is None or devid(name) == number
