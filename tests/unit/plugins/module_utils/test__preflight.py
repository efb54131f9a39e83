# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every rule over a whole plan: when it speaks, of whom, and when it is silent."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._dialect import DIALECTS
from ansible_collections.xen.virtio.plugins.module_utils._layout import Branch
from ansible_collections.xen.virtio.plugins.module_utils._picture import from_plan
from ansible_collections.xen.virtio.plugins.module_utils._preflight import preflight
from ansible_collections.xen.virtio.plugins.module_utils._snapshot import Domain, LiveDisk, Quota, Snapshot
from unit.plugins.module_utils.hosts import DOMAINS, all_findings, attached, codes, disk, guest, host, planned


def found(
    snapshot: Snapshot, *guests: dict[str, Any], xen: str = "4.20", **options: Any
) -> list[tuple[str, str | None]]:
    """(code, guest) of everything found."""
    plan = planned(snapshot, *guests, xen=xen, **options)
    return [(one.code, one.domain) for one in all_findings(plan, snapshot, xen)]


A, B = "/dev/vg/a", "/dev/vg/b"
READER = attached(4, 51728, target=A, readonly=True)
WRITER = attached(4, 51728, target=A)


# --- one disk ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "xen", "expected"),
    [
        ({}, "4.20", []),
        ({"target": "relative"}, "4.20", ["virtio-rules"]),
        ({"format": "qcow2"}, "4.20", ["virtio-rules"]),
        ({"script": "block-x", "backendtype": "phy"}, "4.20", ["virtio-rules", "virtio-rules"]),
        ({"target": "/dev/disk/by-path/a:0"}, "4.20", ["colon-in-target"]),
        ({"grant_usage": False}, "4.20", ["foreign-mapping"]),
        ({"grant_usage": False, "backend": "0"}, "4.20", []),
        ({"grant_usage": True}, "4.18", ["release"]),
        ({"trusted": True}, "4.18", ["release"]),
        ({"trusted": False, "grant_usage": True}, "4.19", []),
    ],
)
def test_one_disk(wish: dict[str, Any], xen: str, expected: list[str]) -> None:
    assert [code for code, _guest in found(host(), guest("domu1", disk(**wish)), xen=xen)] == expected


# --- one guest -----------------------------------------------------------------------------------------


def eleven() -> list[LiveDisk]:
    return [attached(devid=51712 + 16 * slot, slot=slot) for slot in range(11)]


JUNK = [LiveDisk(3, number, None, None, Branch((), {}, {}), {}) for number in range(900)]


@pytest.mark.parametrize(
    ("snapshot", "declared", "limit"),
    [
        (host(*eleven()), guest("domu1", disk("xvda", "/dev/vg/3-51712")), False),
        (host(*eleven()), guest("domu1", disk("xvdl")), True),
        (host(*eleven()), guest("domu1", disk("xvdl"), exclusive=True), False),
        (host(*eleven()[:10], generic={3: {0: (0, 99)}}), guest("domu1", disk("xvdl")), True),
        (host(*eleven()[:9], generic={3: {0: (0, 99)}}), guest("domu1", disk("xvdl")), False),
        (host(*JUNK), guest("domu1", disk("xvdl")), False),
        (host(*eleven(), generic={3: {0: (0, 99)}}), {"domain": "domu1"}, False),  # nobody asked for anything
    ],
)
def test_eleven_devices(snapshot: Snapshot, declared: dict[str, Any], limit: bool) -> None:
    assert (("devices-limit", "domu1") in found(snapshot, declared)) == limit


@pytest.mark.parametrize(
    ("live", "base", "irq", "overlap"),
    [
        (attached(), 0x2000000, 33, True),
        (attached(), 0x2000200, 33, True),
        (attached(), 0x20001FF, 34, True),
        (attached(), 0x2000200, 34, False),
        (attached(4), 0x2000000, 33, False),
    ],
)
def test_places_by_hand(live: LiveDisk, base: int, irq: int, overlap: bool) -> None:
    declared = guest("domu1", disk("xvdb", base=base, irq=irq))
    assert (("irq-overlap", "domu1") in found(host(live), declared)) == overlap


# --- across guests -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("live", "wish", "launcher", "shared"),
    [
        (attached(4), disk(), False, True),
        (attached(4), disk(), True, False),
        (attached(4), disk(backend="DomE"), False, False),
        (attached(4), disk("xvdb"), False, False),
        (attached(4, vdev="d0p0"), disk("51712"), False, True),
        (attached(9), disk(), False, False),  # a dead domain serves nothing
    ],
)
def test_one_devid_in_two_guests(live: LiveDisk, wish: dict[str, Any], launcher: bool, shared: bool) -> None:
    snapshot = host(live, launchers={1: "1.0"} if launcher else {})
    assert (("devid-shared", "domu1") in found(snapshot, guest("domu1", wish))) == shared


@pytest.mark.parametrize(
    ("live", "guests", "clashes"),
    [
        ([WRITER], [guest("domu1", disk())], ["domu1"]),
        ([WRITER], [guest("domu1", disk(access="ro"))], ["domu1"]),
        ([READER], [guest("domu1", disk())], ["domu1"]),
        ([READER], [guest("domu1", disk(access="ro"))], []),
        ([WRITER], [guest("domu1", disk(backend="DomE"))], []),
        ([WRITER], [guest("domu1", disk(shared=True))], []),
        ([attached(9, 51728, target=A)], [guest("domu1", disk())], []),
        ([WRITER], [guest("domu1", disk()), guest("domu2", exclusive=True)], []),
        ([], [guest("domu1", disk()), guest("domu2", disk("xvdb"))], ["domu1"]),
        ([], [guest("domu1", disk(shared=True)), guest("domu2", disk("xvdb"))], ["domu1"]),
        ([], [guest("domu1", disk()), guest("domu2", disk("xvdb", shared=True))], ["domu1"]),
        ([], [guest("domu1", disk(shared=True)), guest("domu2", disk("xvdb", shared=True))], []),
        ([], [guest("domu1", disk(), disk("xvdb"))], ["domu1"]),
        ([], [guest("domu1", disk(access="ro"), disk("xvdb", access="ro"))], []),
    ],
)
def test_one_target_in_two_guests(
    live: list[LiveDisk], guests: list[dict[str, Any]], clashes: list[str]
) -> None:
    listed = found(host(*live), *guests)
    assert [domain for code, domain in listed if code == "target-shared"] == clashes


def test_two_names_of_one_device() -> None:
    snapshot = host(attached(4, 51728, target=B))
    plan = planned(snapshot, guest("domu1", disk()))
    picture = from_plan(plan, snapshot, DIALECTS["4.20"], lambda backend, target: frozenset({"device 7:0"}))
    one = preflight(picture)
    assert codes(one) == ["target-shared"]
    assert "the same storage: device 7:0" in one[0].message


def test_a_thousand_readers_of_one_file_system_are_no_trouble() -> None:
    domains = {**DOMAINS, **{n: Domain(n) for n in range(100, 2100)}}
    crowd = [attached(n, n, target=A, readonly=True) for n in range(100, 2100)]
    begun = time.monotonic()
    assert found(host(*crowd, domains=domains), guest("domu1", disk(access="ro"))) == []
    assert time.monotonic() - begun < 5  # pair by pair it takes far longer


# --- quotas --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quotas", "live", "wish", "expected"),
    [
        ({}, [], disk(), []),
        ({1: Quota(1000, 128, 0, 0)}, [], disk(), []),
        ({1: Quota(1000, 128, 983, 0)}, [], disk(), [("quota", "DomD")]),
        ({1: Quota(1000, 128, 982, 0)}, [], disk(), []),
        ({1: Quota(1000, 3)}, [], disk(), [("quota", "DomD")]),
        ({1: Quota(17, 128, assumed="x")}, [], disk(), [("quota", "DomD")]),
        ({3: Quota(1000, 128, 994, 0)}, [], disk(), [("quota", "domu1")]),
        # a disk that is there already, or comes from elsewhere, costs nothing new or only at its new backend
        ({1: Quota(1000, 128, 1000), 3: Quota(1000, 128, 1000)}, [attached(target=A)], disk(), []),
        ({1: Quota(1000, 128, 1000), 3: Quota(1000, 128, 1000)}, [attached(target=A)], disk(access="ro"), []),
        ({2: Quota(1000, 128, 1000)}, [attached(target=A)], disk(backend="DomE"), [("quota", "DomE")]),
        ({1: Quota(1000, 3), 2: Quota(1000, 128)}, [attached(target=A)], disk(backend="DomE"), []),
    ],
)
def test_quotas(
    quotas: dict[int, Quota], live: list[LiveDisk], wish: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    assert found(replace(host(*live), quotas=quotas), guest("domu1", wish)) == expected


MANY = [disk(f"xvd{letter}", target=f"/dev/{letter}") for letter in "abcdefghij"]
FIT = [
    # by nodes, of which the launcher takes one more a disk
    (Quota(1000, 128, 900, 0), {}, "10 new disks bring DomD to 1080 nodes of 1000; 5 of them fit"),
    (Quota(1000, 128, 905, 0), {1: "0.1.0"}, "10 new disks bring DomD to 1095 nodes of 1000; 5 of them fit"),
    (Quota(1000, 128, 910, 0), {1: "0.1.0"}, "10 new disks bring DomD to 1100 nodes of 1000; 4 of them fit"),
    (Quota(100, 128), {1: "0.1.0"}, "10 new disks bring DomD to 196 nodes of 100; 4 of them fit"),
    # by watches
    (Quota(1000, 12), {}, "10 disks need 22 watches of 12; 5 of the 10 new ones fit"),
]


@pytest.mark.parametrize(("quota", "launchers", "message"), FIT)
def test_how_many_fit_is_told(quota: Quota, launchers: dict[int, str], message: str) -> None:
    snapshot = replace(host(), quotas={1: quota}, launchers=launchers)
    findings = all_findings(planned(snapshot, guest("domu1", *MANY)), snapshot)
    assert [one.message for one in findings if one.code == "quota"] == [message]


def test_assumed_limits_are_named() -> None:
    snapshot = replace(host(), quotas={1: Quota(17, 100, assumed="oxenstored's defaults")})
    (one,) = all_findings(planned(snapshot, guest("domu1", disk())), snapshot)
    assert "assumed: oxenstored's defaults" in one.message
    assert "accept" in one.remedy
