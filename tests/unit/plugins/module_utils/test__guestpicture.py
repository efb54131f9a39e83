# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules over guests of xl, on a host that was looked at and from an inventory alone."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._dialect import DIALECTS
from ansible_collections.xen.virtio.plugins.module_utils._findings import CODES, Finding
from ansible_collections.xen.virtio.plugins.module_utils._guestconfig import declare_guest
from ansible_collections.xen.virtio.plugins.module_utils._guestpicture import (
    DriverDomainsError,
    from_guests,
    read_driver_domains,
)
from ansible_collections.xen.virtio.plugins.module_utils._layout import RECORD
from ansible_collections.xen.virtio.plugins.module_utils._preflight import preflight
from ansible_collections.xen.virtio.plugins.module_utils._snapshot import LiveDisk, Quota, Snapshot, XenDisk
from ansible_collections.xen.virtio.plugins.module_utils._target import Target, Use
from hypothesis import given
from hypothesis import strategies as st
from unit.plugins.module_utils.hosts import all_findings, attached, codes, disk, guest, host, planned

A, B, C = "/dev/vg/a", "/dev/vg/b", "/dev/vg/c"


def declared(name: str = "domu1", *disks: object, **options: Any) -> dict[str, Any]:
    """A guest of an inventory."""
    return {"name": name, "kernel": "/boot/Image", "disks": list(disks), **options}


def findings(
    *guests: dict[str, Any], snapshot: Snapshot | None = None, xen: str = "4.20", **more: Any
) -> list[Finding]:
    """What preflight says of guests."""
    specs = [declare_guest(guest) for guest in guests]
    before = {guest["name"]: declare_guest(guest) for guest in more.pop("before", ())}
    domains = read_driver_domains(more.pop("driver_domains", None))
    return preflight(
        from_guests(specs, DIALECTS[xen], snapshot=snapshot, before=before, driver_domains=domains, **more)
    )


def told(*guests: dict[str, Any], **more: Any) -> list[tuple[str, str, str | None, str | None]]:
    """(code, severity, domain, vdev) of each."""
    return [(one.code, one.severity, one.domain, one.vdev) for one in findings(*guests, **more)]


def test_a_sound_host_has_nothing_to_tell() -> None:
    guests = declared("domu1", disk(), disk("xvdb", B)), declared("domu2", disk("xvdc", C))
    assert told(*guests) == told(*guests, snapshot=host()) == []


# --- one disk, one guest -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("guest", "xen", "expected"),
    [
        (declared("domu1", disk(target="relative")), "4.20", [("virtio-rules", "error", "domu1", "xvda")]),
        (declared("domu1", disk("xvd")), "4.20", [("virtio-rules", "error", "domu1", "xvd")]),
        (declared("domu1", disk(target="/a:b")), "4.20", [("colon-in-target", "warning", "domu1", "xvda")]),
        (
            declared("domu1", disk(grant_usage=False)),
            "4.20",
            [("foreign-mapping", "warning", "domu1", "xvda")],
        ),
        (declared("domu1", disk(grant_usage=False, backend="0")), "4.20", []),
        (declared("domu1", disk(grant_usage=True)), "4.18", [("release", "error", "domu1", "xvda")]),
        (declared("domu1", nr_spis=64), "4.18", [("release", "error", "domu1", None)]),
        (
            declared("domu1", disk("d0p0"), disk("51712", B)),
            "4.20",
            [("devid-duplicate", "error", "domu1", "51712")],
        ),
        (
            declared("domu1", disk(), f"{B},,xvdb"),
            "4.20",
            [("mixed-specification", "error", "domu1", None)],
        ),
        (declared("domu1", f"{A},,xvda", f"{B},,xvdb"), "4.20", []),
        (
            declared("domu1", *(disk(f"d{n}p0", f"/{n}") for n in range(12))),
            "4.20",
            [("devices-limit", "error", "domu1", None)],
        ),
        (
            declared(
                "domu1",
                *(disk(f"d{n}p0", f"/{n}") for n in range(10)),
                virtio=[{"type": "virtio,device22", "backend": "DomD"}] * 2,
            ),
            "4.20",
            [("devices-limit", "error", "domu1", None)],
        ),
        (declared("domu1", disk(), irqs=[40]), "4.20", []),
        (declared("domu1", disk(), irqs=[33]), "4.20", [("irq-overlap", "error", "domu1", None)]),
        (declared("domu1", f"{A},,xvda", irqs=[33]), "4.20", []),
        (
            declared("domu1", virtio=[{"type": "virtio,device22"}], irqs=[33]),
            "4.20",
            [("irq-overlap", "error", "domu1", None)],
        ),
        (
            declared("domu1", irqs=[32], vuart="sbsa_uart"),
            "4.20",
            [("irq-overlap", "error", "domu1", None)],
        ),
        (declared("domu1", disk(), nr_spis=2), "4.21", []),
        # dom0 has no virtio disks, and would need one for a bootloader
        (
            declared("domu1", disk(), bootloader="pygrub"),
            "4.20",
            [("virtio-rules", "error", "domu1", "xvda")],
        ),
        (declared("domu1", disk(), bootloader="pygrub", type="hvm"), "4.20", []),
        (declared("domu1", bootloader="pygrub"), "4.20", []),
        (declared("domu1", disk(), nr_spis=1), "4.21", [("nr-spis", "error", "domu1", None)]),
        (declared("domu1", disk(), nr_spis=1), "4.20", [("nr-spis", "warning", "domu1", None)]),
        (declared("domu1", irqs=[100], nr_spis=68), "4.22", [("nr-spis", "error", "domu1", None)]),
        (
            declared("domu1", disk(), xenstore_quota={"nodes": 6}),
            "4.22",
            [("quota", "error", "domu1", None)],
        ),
    ],
)
def test_one_guest(guest: dict[str, Any], xen: str, expected: list[Any]) -> None:
    assert told(guest, xen=xen) == expected


@pytest.mark.parametrize(
    ("earlier", "now", "moved"),
    [
        ((disk(), disk("xvdb", B)), (disk(), disk("xvdb", B)), None),
        ((disk(), disk("xvdb", B)), (disk(), disk("xvdb", B), disk("xvdc", C)), None),
        ((disk(), disk("xvdb", B)), (disk(),), None),
        ((disk(), disk("xvdb", B)), (disk("d0p0"), disk("51728", B)), None),
        ((disk(), f"{B},,xvdb"), (f"{B},,xvdb", disk()), None),  # a xen disk goes by its vdev
        ((), (disk("xvdb", B), disk()), None),
        ((disk(), disk("xvdb", B)), (disk("xvdb", B), disk()), "xvda from vda to vdb, xvdb from vdb to vda"),
        ((disk(), disk("xvdb", B)), (disk("xvdb", B),), "xvdb from vdb to vda"),
        ((disk("xvdb", B),), (disk(), disk("xvdb", B)), "xvdb from vda to vdb"),
    ],
)
def test_order_of_disks(earlier: tuple[Any, ...], now: tuple[Any, ...], moved: str | None) -> None:
    found = findings(declared("domu1", *now), before=[declared("domu1", *earlier)])
    found = [one for one in found if one.code == "reorder"]
    assert codes(found) == ["reorder"] * (moved is not None)
    assert moved is None or moved in found[0].message


# --- across guests -------------------------------------------------------------------------------------

SHARED = [("devid-shared", "error", "domu1", "xvda"), ("devid-shared", "error", "domu2", "xvda")]


@pytest.mark.parametrize(
    ("driver_domains", "severity"),
    [
        (None, "error"),
        ({"DomD": None}, "error"),
        ({"DomD": {"launcher": False, "host": "h"}}, "error"),
        ({"DomD": {"host": "h"}}, "warning"),
        ({"DomD": {"launcher": True}}, None),
        (["DomD"], "error"),
    ],
)
def test_one_devid_in_two_guests_of_an_inventory(driver_domains: Any, severity: str | None) -> None:
    found = told(declared("domu1", disk()), declared("domu2", disk(target=B)), driver_domains=driver_domains)
    assert [one[1] for one in found if one[0] == "devid-shared"] == ([severity] * 2 if severity else [])


@pytest.mark.parametrize(
    ("snapshot", "expected"),
    [
        (host(), SHARED),
        (host(launchers={1: "1.0"}), []),
        (host(launchers={2: "1.0"}), SHARED),
    ],
)
def test_one_devid_in_two_guests_of_a_host(snapshot: Snapshot, expected: list[Any]) -> None:
    assert told(declared("domu1", disk()), declared("domu2", disk(target=B)), snapshot=snapshot) == expected


@pytest.mark.parametrize(
    ("live", "guests", "more", "clashes"),
    [
        # another guest of the host, which nobody declared
        ([attached(4, 51728, target=A)], [declared("domu1", disk())], {}, ["domu1"]),
        ([attached(4, 51728, target=A, readonly=True)], [declared("domu1", disk(access="ro"))], {}, []),
        ([attached(4, 51728, target=A)], [declared("domu1", disk(backend="DomE"))], {}, []),
        ([attached(9, 51728, target=A)], [declared("domu1", disk())], {}, []),
        # one that is about to go, or is declared without it
        ([attached(4, 51728, target=A)], [declared("domu1", disk())], {"gone": ["domu2"]}, []),
        ([attached(4, 51728, target=A)], [declared("domu1", disk()), declared("domu2")], {}, []),
        # its own disk
        ([attached(3, target=A)], [declared("domu1", disk())], {}, []),
        # two declared ones
        ([], [declared("domu1", disk()), declared("domu2", disk("xvdb"))], {}, ["domu1"]),
        ([], [declared("domu1", disk(shared=True)), declared("domu2", disk("xvdb", shared=True))], {}, []),
        ([], [declared("domu1", disk()), declared("domu2", f"{A},,xvdb,backend=DomD")], {}, ["domu1"]),
        ([], [declared("domu1", disk(), disk("xvdb"))], {}, ["domu1"]),
    ],
)
def test_one_target_in_two_guests(
    live: list[LiveDisk], guests: list[dict[str, Any]], more: dict[str, Any], clashes: list[str]
) -> None:
    found = told(*guests, snapshot=host(*live), **more)
    assert [domain for code, _severity, domain, _vdev in found if code == "target-shared"] == clashes


def test_a_xen_disk_of_another_guest_holds_its_target() -> None:
    record = {"params": A, "mode": "w", "type": "phy", "dev": "xvda"}
    snapshot = host(xen_disks={4: {51712: XenDisk(4, 51712, 1, record)}})
    assert told(declared("domu1", disk()), snapshot=snapshot) == [("target-shared", "error", "domu1", "xvda")]


def test_targets_are_compared_by_what_they_are_where_somebody_looked() -> None:
    facts = {"DomD": {A: Target("block", names=frozenset({"n"})), B: Target("block", names=frozenset({"n"}))}}
    guests = declared("domu1", disk()), declared("domu2", disk("xvdb", B))
    (by_name,) = findings(*guests, targets=facts)
    assert "the same storage: n" in by_name.message
    assert findings(*guests) == []
    (by_path,) = findings(guests[0], declared("domu2", disk("xvdb")))
    assert "compared by path" in by_path.message


# --- storage -------------------------------------------------------------------------------------------

MOUNTED = Target("block", uses=(Use("mount", "/srv", A),))
HELD = Target("block", uses=(Use("held", "virtio-disk (7)", A),))
HELD_ELSEWHERE = Target("block", uses=(Use("held", "dd (7)", A),))
LIVE = [attached(target=A, state="2")]


@pytest.mark.parametrize(
    ("facts", "live", "wish", "expected"),
    [
        (Target("block"), [], {}, []),
        (Target("file"), [], {}, []),
        (Target("unknown"), [], {}, []),
        (Target("missing"), [], {}, [("target-missing", "error", "domu1", "xvda")]),
        (Target("other"), [], {}, [("target-missing", "error", "domu1", "xvda")]),
        (MOUNTED, [], {}, [("target-in-use", "error", "domu1", "xvda")]),
        (MOUNTED, LIVE, {}, [("target-in-use", "error", "domu1", "xvda")]),
        (HELD, [], {}, [("target-in-use", "error", "domu1", "xvda")]),
        (HELD, LIVE, {}, []),
        (HELD_ELSEWHERE, LIVE, {}, [("target-in-use", "error", "domu1", "xvda")]),
        (HELD, [attached(4, target=A)], {"shared": True}, [("target-in-use", "error", "domu1", "xvda")]),
        (Target("block", readonly=True), [], {}, [("target-readonly", "warning", "domu1", "xvda")]),
        (Target("block", readonly=True), [], {"access": "ro"}, []),
        (Target("block", size=10), LIVE, {}, [("size-changed", "warning", "domu1", "xvda")]),
        (Target("block", size=9), LIVE, {}, []),
        (Target("block", size=10), [], {}, []),
    ],
)
@pytest.mark.parametrize("key", ["DomD", "1"])
def test_what_lies_behind_a_target(
    facts: Target, live: list[LiveDisk], wish: dict[str, Any], expected: list[Any], key: str
) -> None:
    snapshot = host(*live, launchers={1: "1.0"})
    found = told(
        declared("domu1", disk(**wish)),
        snapshot=snapshot,
        targets={key: {A: facts}},
        sizes={"domu1": {51712: 9}},
    )
    assert found == expected


def test_of_dom0_its_storage_is_asked() -> None:
    looked: list[str] = []

    def look(target: str) -> Target:
        looked.append(target)
        return Target("missing")

    guest = declared("domu1", disk(backend="0"), disk("xvdb", B, backend="DomD"), f"{C},,xvdc")
    assert ("target-missing", "error", "domu1", "xvda") in told(guest, snapshot=host(), look=look)
    assert looked == [A, C]
    told(declared("domu1", "script=block-iscsi,vdev=xvda,target=/iqn"), snapshot=host(), look=look)
    assert looked == [A, C]  # what a script takes is no path
    assert told(declared("domu1", disk(backend="0")), targets={"Domain-0": {A: Target("missing")}}) == [
        ("target-missing", "error", "domu1", "xvda")
    ]


# --- backend domains -----------------------------------------------------------------------------------

DOWN = ("backend-down", "error", "domu1", "xvda")


@pytest.mark.parametrize(
    ("backend", "more", "expected", "said"),
    [
        ("DomX", {"snapshot": host()}, [DOWN], "'DomX' is not on this host"),
        ("9", {"snapshot": host()}, [DOWN], "is gone"),
        ("DomD", {"snapshot": host(), "gone": ["DomD"]}, [DOWN], "is to be taken away in the same go"),
        ("DomX", {}, [], ""),
        ("DomX", {"driver_domains": {"DomD": {}}}, [DOWN], "did you mean 'DomD'?"),
        ("7", {"driver_domains": {"DomD": {}}}, [], ""),
        ("DomD", {"driver_domains": {"DomD": {}}}, [], ""),
    ],
)
def test_names_of_backends(backend: str, more: dict[str, Any], expected: list[Any], said: str) -> None:
    found = findings(declared("domu1", disk(backend=backend)), **more)
    assert [(one.code, one.severity, one.domain, one.vdev) for one in found] == expected
    assert said in " ".join(one.message for one in found)


@pytest.mark.parametrize("snapshot", [None, host()])
def test_a_driver_domain_may_be_one_of_the_guests(snapshot: Snapshot | None) -> None:
    found = told(
        declared("DomN", driver_domain=True),
        declared("domu1", disk(backend="DomN"), virtio=[{"type": "virtio,device22", "backend": "DomN"}]),
        snapshot=snapshot,
        driver_domains={"DomD": {}},
    )
    assert found == []


def test_a_virtio_device_needs_its_backend_too() -> None:
    guest = declared("domu1", virtio=[{"type": "virtio,device22", "backend": "DomX"}])
    assert told(guest, snapshot=host()) == [("backend-down", "error", "domu1", None)]


@pytest.mark.parametrize(
    ("statuses", "live", "more", "expected"),
    [
        ({1: "ready"}, [], {}, []),
        ({1: "dead"}, [], {}, [("backend-down", "error", "DomD", None)]),
        ({}, [], {}, [("backend-down", "warning", "DomD", None)]),
        ({1: "dead"}, [], {"waiting": False}, [("backend-down", "warning", "DomD", None)]),
        ({1: "dead"}, LIVE, {}, []),
        ({1: "dead"}, LIVE, {"created": {"domu1"}}, [("backend-down", "error", "DomD", None)]),
        ({1: "dead"}, [], {"created": set()}, []),
    ],
)
def test_daemons_that_are_not_ready(
    statuses: dict[int, str], live: list[LiveDisk], more: dict[str, Any], expected: list[Any]
) -> None:
    assert told(declared("domu1", disk()), snapshot=host(*live, statuses=statuses), **more) == expected


def many(count: int) -> list[dict[str, Any]]:
    """Guests with ten disks each."""
    return [
        declared(f"g{first}", *(disk(f"d{n}p0", f"/dev/{n}") for n in range(first, min(first + 10, count))))
        for first in range(0, count, 10)
    ]


@pytest.mark.parametrize(
    ("count", "more", "expected"),
    [
        (49, {}, 0),
        (50, {}, 1),  # watches
        (56, {}, 2),  # nodes as well
        (56, {"snapshot": host(quotas={1: Quota(2000, 128, 0)})}, 0),
        (56, {"snapshot": host(quotas={1: Quota(1000, 128, 0)})}, 1),
        (1, {"snapshot": host(quotas={1: Quota(1000, 128, 983)})}, 1),
    ],
)
def test_quotas(count: int, more: dict[str, Any], expected: int) -> None:
    found = findings(*many(count), **more)
    assert [(one.code, one.domain) for one in found] == [("quota", "DomD")] * expected
    assert all(("assumed: oxenstored's defaults" in one.message) == ("snapshot" not in more) for one in found)


def test_disks_that_are_there_cost_nothing_new() -> None:
    live = attached(target=A, state="2")
    snapshot = host(live, quotas={1: Quota(1000, 128, 1000)})
    assert told(declared("domu1", disk()), snapshot=snapshot) == []
    assert live.trees[RECORD] is not None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("DomD", "driver_domains is a mapping by name"),
        ({"DomD": "host"}, "driver_domains: DomD: a mapping with host"),
        ({"DomD": {"launcher": "yes"}}, "launcher is true or false"),
    ],
)
def test_driver_domains_of_another_shape(given: object, said: str) -> None:
    with pytest.raises(DriverDomainsError, match=said):
        read_driver_domains(given)


# --- one set of rules ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("disks", "xen"),
    [
        ([[disk()], [disk("xvdb", B)]], "4.20"),
        ([[disk()], [disk(target=B)]], "4.20"),
        ([[disk()], [disk("xvdb")]], "4.20"),
        ([[disk("xvda"), disk("xvdb", B, grant_usage=False)], [disk("xvdc", C)]], "4.20"),
        ([[disk(target="/a:b", grant_usage=True), disk("xvdb", "relative")], []], "4.18"),
        ([[disk(f"d{n}p0", f"/{n}") for n in range(12)], []], "4.20"),
        ([[disk(), disk("d0p0", B)], [disk("xvdc", C, format="qcow2")]], "4.20"),
    ],
)
def test_disks_of_xl_and_of_others_are_judged_alike(disks: list[list[Any]], xen: str) -> None:
    names = "domu1", "domu2"
    snapshot = host()
    of_xl = [declared(name, *listed) for name, listed in zip(names, disks)]
    others = [guest(name, *listed, exclusive=True) for name, listed in zip(names, disks)]
    by_plan = all_findings(planned(snapshot, *others, xen=xen), snapshot, xen)
    assert sorted((one.code, one.severity, one.domain) for one in by_plan) == sorted(
        (one.code, one.severity, one.domain) for one in findings(*of_xl, snapshot=snapshot, xen=xen)
    )


DISKS = st.fixed_dictionaries(
    {
        "vdev": st.sampled_from(["xvda", "d0p0", "51712", "xvdb", "xvd", "", "hda", "sdz"]),
        "target": st.sampled_from([A, B, "relative", "/a:b", "/" + "x" * 5000]),
        "backend": st.sampled_from(
            [
                None,
                "",
                "0",
                "Domain-0",
                "DomD",
                "1",
                "DomX",
                "9",
                "5",
                "dom0less-5",
                "32752",
                "99999999",
                "domu2",
            ]
        ),
        "specification": st.sampled_from(["virtio", "xen"]),
        "access": st.sampled_from(["rw", "ro"]),
        "shared": st.booleans(),
        "grant_usage": st.sampled_from([None, True, False]),
    }
)
GUESTS = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.sampled_from(["domu1", "domu2", "DomD", "new", "dom0less-5"]),
            "kernel": st.just("/k"),
            "disks": st.lists(DISKS, max_size=13),
        },
        optional={
            "irqs": st.lists(st.integers(0, 1019), max_size=3),
            "nr_spis": st.integers(0, 100),
            "vuart": st.just("sbsa_uart"),
            "xenstore_quota": st.just({"nodes": 5}),
            "virtio": st.lists(st.just({"type": "virtio,device22", "backend": "DomY"}), max_size=2),
        },
    ),
    max_size=4,
    unique_by=lambda one: one["name"],
)
HOSTS = [
    None,
    host(),
    host(attached(3, state="2"), attached(4, target=A), attached(9), launchers={1: "1"}, statuses={}),
    host(quotas={1: Quota(10, 2, 5)}, generic={3: {0: (0, 99)}}, domains={}),
    Snapshot({}),
]


@given(GUESTS, st.sampled_from(HOSTS), st.sampled_from(["v6", "4.17", "4.22"]), st.data())
def test_whatever_is_declared_ends_in_findings(
    guests: list[dict[str, Any]], snapshot: Snapshot | None, xen: str, data: st.DataObject
) -> None:
    before = data.draw(st.lists(st.sampled_from(guests), max_size=2)) if guests else []
    facts = {name: {A: MOUNTED, B: Target("missing")} for name in ("DomD", "1", "nobody", "Domain-0")}
    more: dict[str, Any] = {"snapshot": snapshot, "xen": xen, "before": before, "targets": facts}
    found = findings(*guests, gone=["domu2"], driver_domains={"DomD": {}}, **more)
    names = {one["name"] for one in guests}
    for one in found:
        assert one.code in CODES
        assert one.severity in ("error", "warning")
        assert one.vdev is None or one.domain in names
        assert one.message
        assert one.why
        assert one.remedy
    assert found == findings(*guests, gone=["domu2"], driver_domains={"DomD": {}}, **more)
