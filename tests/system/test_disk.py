# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The disk module's code against real xenstored and oxenstored."""

from __future__ import annotations

import threading
import uuid as uuids
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils import _settle
from ansible_collections.xen.virtio.plugins.module_utils._declaration import DeclarationError
from ansible_collections.xen.virtio.plugins.module_utils._plan import PlanError
from ansible_collections.xen.virtio.plugins.module_utils._snapshot import ResolveError, UnknownDomainError
from ansible_collections.xen.virtio.plugins.module_utils._store import StoreError
from ansible_collections.xen.virtio.plugins.module_utils._survey import EmptyStoreError
from lab import LabHost
from provisioning import actions, codes, disk, guest, info, places, provision


def test_a_disk_appears_whole_in_all_three_trees(lab_any: LabHost, domd: int, domu: int) -> None:
    result = provision(lab_any, guest(domu, disk()))
    assert actions(result) == {f"{domu}/xvda": "added"}
    assert result.changed
    nodes = lab_any.ls(f"/local/domain/{domd}/backend/virtio_disk/{domu}/51712")
    assert len(nodes) == 18  # with the directory
    assert {perms for _value, perms in nodes.values()} == {(f"n{domd}", f"r{domu}")}
    front = lab_any.ls(f"/local/domain/{domu}/device/virtio_disk/51712")
    assert {perms for _value, perms in front.values()} == {(f"n{domu}", f"r{domd}")}
    record = lab_any.ls(f"/libxl/{domu}/device/virtio_disk/51712")
    assert {perms for _value, perms in record.values()} == {("n0",)}
    assert nodes[f"/local/domain/{domd}/backend/virtio_disk/{domu}/51712/base"][0] == b"33554432"


def test_second_run_and_check_mode_change_nothing(lab_any: LabHost, domd: int, domu: int) -> None:
    declared = guest(domu, disk(), disk("xvdb", "/dev/vg/b", access="ro"))
    before = lab_any.ls("/")
    planned = provision(lab_any, declared, check=True)
    assert planned.changed
    assert lab_any.ls("/") == before
    done = provision(lab_any, declared)
    assert actions(done) == actions(planned)
    assert places(done) == places(planned) == {f"{domu}/xvda": 33, f"{domu}/xvdb": 34}
    assert done.diff == planned.diff
    after = lab_any.ls("/")
    again = provision(lab_any, declared)
    assert not again.changed
    assert lab_any.ls("/") == after


def test_removing_all_disks_leaves_the_store_as_it_was(lab_any: LabHost, domd: int, domu: int) -> None:
    before = lab_any.ls("/")
    provision(lab_any, guest(domu, disk(), disk("xvdb", "/dev/vg/b")))
    gone = provision(lab_any, guest(domu, "xvda", "xvdb"), state="absent")
    assert actions(gone) == {f"{domu}/xvda": "removed", f"{domu}/xvdb": "removed"}
    assert lab_any.ls("/") == before
    assert not provision(lab_any, guest(domu, "xvda", "xvdb"), state="absent").changed


def test_exclusive_removes_what_is_not_listed_and_only_then(lab_any: LabHost, domd: int, domu: int) -> None:
    provision(lab_any, guest(domu, disk(), disk("xvdb", "/dev/vg/b")))
    kept = provision(lab_any, guest(domu, disk("xvdb", "/dev/vg/b")))
    assert actions(kept) == {f"{domu}/xvdb": "unchanged"}
    removed = provision(lab_any, guest(domu, disk("xvdb", "/dev/vg/b"), exclusive=True))
    assert actions(removed) == {f"{domu}/xvda": "removed", f"{domu}/xvdb": "unchanged"}
    none = provision(lab_any, guest(domu, exclusive=True))
    assert actions(none) == {f"{domu}/xvdb": "removed"}


def test_a_disk_that_stays_keeps_its_place_and_a_new_one_takes_the_lowest_free(
    lab_any: LabHost, domd: int, domu: int
) -> None:
    provision(lab_any, guest(domu, *(disk(f"xvd{x}", f"/dev/vg/{x}") for x in "abc")))
    provision(lab_any, guest(domu, "xvda"), state="absent")
    more = provision(
        lab_any, guest(domu, disk("xvdc", "/dev/vg/c"), disk("xvde", "/dev/vg/e"), disk("xvdb", "/dev/vg/b"))
    )
    assert places(more) == {f"{domu}/xvdc": 35, f"{domu}/xvde": 33, f"{domu}/xvdb": 34}
    assert actions(more)[f"{domu}/xvdc"] == "unchanged"


def test_places_of_other_virtio_devices_are_left_alone(lab_any: LabHost, domd: int, domu: int) -> None:
    lab_any.write(f"/libxl/{domu}/device/virtio/0/base", "0x2000000")
    lab_any.write(f"/libxl/{domu}/device/virtio/0/irq", "33")
    assert places(provision(lab_any, guest(domu, disk()))) == {f"{domu}/xvda": 34}


def test_base_and_irq_by_hand(lab_any: LabHost, domd: int, domu: int) -> None:
    given = disk(base=0x2000400, irq=35)
    assert places(provision(lab_any, guest(domu, given))) == {f"{domu}/xvda": 35}
    assert not provision(lab_any, guest(domu, given)).changed
    assert not provision(lab_any, guest(domu, disk())).changed  # left out: the disk keeps its own
    clash = provision(lab_any, guest(domu, given, disk("xvdb", "/dev/vg/b", base=0x2000400, irq=36)))
    assert codes(clash) == ["irq-overlap"]
    with pytest.raises(PlanError, match="together"):
        provision(lab_any, guest(domu, disk("xvdb", "/dev/vg/b", irq=36)))


# --- drift ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "value"),
    [
        ("/local/domain/{b}/backend/virtio_disk/{d}/51712/params", "/dev/other"),
        ("/local/domain/{b}/backend/virtio_disk/{d}/51712/irq", "40"),
        ("/libxl/{d}/device/virtio_disk/51712/params", "/dev/other"),
        ("/local/domain/{d}/device/virtio_disk/51712/backend-id", "0"),
        ("/local/domain/{b}/backend/virtio_disk/{d}/51712/specification", None),
        ("/libxl/{d}/device/virtio_disk/51712", None),
    ],
)
@pytest.mark.parametrize("state", ["1", "2"])
def test_drift_is_named_and_mended_with_the_disk_in_use(
    lab_any: LabHost, domd: int, domu: int, node: str, value: str | None, state: str
) -> None:
    declared = guest(domu, disk())
    provision(lab_any, declared)
    healthy = lab_any.ls("/")
    path = node.format(b=domd, d=domu)
    lab_any.write(f"/local/domain/{domd}/backend/virtio_disk/{domu}/51712/state", state)
    if value is None:
        lab_any.rm(path)
    else:
        lab_any.write(path, value)
    assert info(lab_any)[f"dom0less-{domu}"]["disks"][0]["health"] == "drifted"
    found = provision(lab_any, declared, check=True)
    assert found.guests[0]["disks"][0]["action"] == "changed"
    assert found.guests[0]["disks"][0]["drift"][0]["node"] == path
    mended = provision(lab_any, declared)
    assert mended.failed is None
    assert not provision(lab_any, declared).changed
    lab_any.write(f"/local/domain/{domd}/backend/virtio_disk/{domu}/51712/state", "1")
    assert lab_any.ls("/") == healthy


def test_wrong_permissions_are_drift(lab_any: LabHost, domd: int, domu: int) -> None:
    declared = guest(domu, disk())
    provision(lab_any, declared)
    healthy = lab_any.ls("/")
    path = f"/local/domain/{domd}/backend/virtio_disk/{domu}/51712/params"
    with lab_any.store() as client:
        client.set_permissions(path, [f"b{domd}"])
    found = provision(lab_any, declared, check=True)
    drifted = found.guests[0]["disks"][0]["drift"]
    assert [(one["node"], one["what"]) for one in drifted] == [(path, "permissions")]
    provision(lab_any, declared)
    assert lab_any.ls("/") == healthy


@pytest.mark.parametrize("lost", ["record", "frontend", "backend"])
def test_a_torn_disk_is_written_whole_again(lab_any: LabHost, domd: int, domu: int, lost: str) -> None:
    declared = guest(domu, disk())
    provision(lab_any, declared)
    healthy = lab_any.ls("/")
    lab_any.rm(
        {
            "record": f"/libxl/{domu}/device/virtio_disk/51712",
            "frontend": f"/local/domain/{domu}/device/virtio_disk/51712",
            "backend": f"/local/domain/{domd}/backend/virtio_disk/{domu}/51712",
        }[lost]
    )
    shown = info(lab_any)[f"dom0less-{domu}"]["disks"][0]
    assert shown["health"] == ("missing" if lost == "backend" else "drifted")
    assert provision(lab_any, declared).changed
    assert lab_any.ls("/") == healthy


def test_nodes_of_a_later_release_are_left_alone(lab_any: LabHost, domd: int, domu: int) -> None:
    declared = guest(domu, disk())
    provision(lab_any, declared)
    extra = f"/local/domain/{domd}/backend/virtio_disk/{domu}/51712/queues"
    lab_any.write(extra, "4")
    assert not provision(lab_any, declared).changed
    assert lab_any.read(extra) == b"4"
    assert info(lab_any)[f"dom0less-{domu}"]["disks"][0]["health"] == "pending"


# --- guards --------------------------------------------------------------------------------------------


def test_a_disk_in_use_is_changed_and_removed_only_with_hotplug(
    lab_any: LabHost, domd: int, domu: int
) -> None:
    provision(lab_any, guest(domu, disk()))
    lab_any.write(f"/local/domain/{domd}/backend/virtio_disk/{domu}/51712/state", "2")
    before = lab_any.ls("/")
    other = guest(domu, disk(target="/dev/vg/other"))
    for refused in (
        provision(lab_any, other),
        provision(lab_any, guest(domu, "xvda"), state="absent"),
        provision(lab_any, guest(domu, exclusive=True)),
    ):
        assert codes(refused) == ["in-use"]
        assert "hotplug" in str(refused.failed)
        assert not refused.changed
    assert lab_any.ls("/") == before
    added = provision(lab_any, guest(domu, disk(), disk("xvdb", "/dev/vg/b")))  # adding needs no word
    assert added.failed is None
    lab_any.answer_backends()
    assert actions(provision(lab_any, other, hotplug=True)) == {f"{domu}/xvda": "changed"}
    assert lab_any.read(f"/local/domain/{domd}/backend/virtio_disk/{domu}/51712/params") == b"/dev/vg/other"


def test_moving_a_disk_to_another_backend_removes_the_old_one(lab_any: LabHost, domd: int, domu: int) -> None:
    other = lab_any.add_domain("DomE", kind="toolstack")
    provision(lab_any, guest(domu, disk()))
    moved = provision(lab_any, guest(domu, disk(backend="DomE")))
    assert actions(moved) == {f"{domu}/xvda": "changed"}
    assert lab_any.read(f"/local/domain/{domd}/backend/virtio_disk/{domu}/51712") is None
    assert lab_any.read(f"/local/domain/{other}/backend/virtio_disk/{domu}/51712/params") == b"/dev/vg/a"


# --- whom to believe -----------------------------------------------------------------------------------


def test_a_guest_that_calls_itself_domd_gets_nothing(lab_any: LabHost) -> None:
    liar = lab_any.add_domain(kind="dom0less")
    victim = lab_any.add_domain(kind="dom0less")
    lab_any.write(f"/local/domain/{liar}/name", "DomD")
    with pytest.raises(ResolveError, match=f"not believed: domain {liar}"):
        provision(lab_any, guest(victim, disk()))
    with pytest.raises(ResolveError, match="not believed"):
        provision(lab_any, guest("DomD", disk(backend=0)))
    lab_any.add_domain("DomD", kind="toolstack")
    assert provision(lab_any, guest(victim, disk())).guests[0]["disks"][0]["backend_domid"] != liar
    # its own id still counts
    assert provision(lab_any, guest(f"dom0less-{liar}", disk("xvdb", "/dev/vg/b"))).failed is None


def test_two_domains_of_one_name_are_an_error(lab_any: LabHost) -> None:
    first = lab_any.add_domain("twin", kind="toolstack")
    second = lab_any.add_domain("twin", kind="toolstack")
    with pytest.raises(ResolveError, match=f"ambiguous: domains {first}, {second}"):
        provision(lab_any, guest("twin", disk(backend=0)))


def test_names_domids_and_uuids(lab_any: LabHost, domd: int) -> None:
    uuid = str(uuids.uuid4())
    domid = lab_any.add_domain("named", kind="toolstack", uuid=uuid)
    stub = str(uuids.uuid4())
    dom0less = lab_any.add_domain(kind="dom0less", uuid=stub)
    provision(lab_any, guest("named", disk()), guest(stub, disk("xvdb", "/dev/vg/b")))
    for reference in (domid, str(domid), uuid, uuid.upper(), "named"):
        assert not provision(lab_any, guest(reference, disk())).changed
    for reference in (dom0less, f"dom0less-{dom0less}", stub):
        assert not provision(lab_any, guest(reference, disk("xvdb", "/dev/vg/b"))).changed
    with pytest.raises(PlanError, match="same domain"):
        provision(lab_any, guest("named", disk()), guest(domid, disk()))


def test_unknown_guest_and_backend_name_what_is_there(lab_any: LabHost, domd: int, domu: int) -> None:
    with pytest.raises(UnknownDomainError, match=r"'nobody' is not on this host; known are .*DomD"):
        provision(lab_any, guest("nobody", disk()))
    with pytest.raises(UnknownDomainError, match="backend of xvda: domain 'DomX'"):
        provision(lab_any, guest(domu, disk(backend="DomX")))
    assert not provision(lab_any, guest("nobody", "xvda"), state="absent").changed


def test_what_a_dead_domain_left_is_stale_and_removed(lab_any: LabHost, domd: int) -> None:
    before = lab_any.ls(f"/local/domain/{domd}")
    dead = lab_any.add_domain("dead", kind="toolstack")
    provision(lab_any, guest("dead", disk()))
    lab_any.kill_domain(dead)
    lab_any.rm(f"/local/domain/{dead}")
    assert info(lab_any)[f"domain {dead}"]["disks"][0]["health"] == "stale"
    with pytest.raises(UnknownDomainError, match="no domain with that id"):
        provision(lab_any, guest(dead, disk()))
    assert actions(provision(lab_any, guest(dead, exclusive=True), state="absent")) == {
        f"{dead}/xvda": "removed"
    }
    assert lab_any.ls(f"/local/domain/{domd}") == before
    assert info(lab_any) == {}


def test_a_backend_that_cannot_read_its_own_tree_is_let_in(lab_any: LabHost, domu: int) -> None:
    backend = lab_any.add_domain(kind="dom0less")
    provision(lab_any, guest(domu, disk(backend=backend)))
    path = f"/local/domain/{backend}/backend/virtio_disk"
    tree = lab_any.ls(path)
    assert tree[path][1] == ("n0", f"r{backend}")
    assert tree[f"{path}/{domu}"][1] == ("n0", f"r{backend}")


# --- waiting -------------------------------------------------------------------------------------------


def test_wait_and_settle(lab_any: LabHost, domd: int, domu: int) -> None:
    lab_any.answer_backends()
    done = provision(lab_any, guest(domu, disk(), disk("xvdb", "/dev/vg/b")), wait=True, settle=0.1)
    assert done.failed is None
    assert [d["health"] for d in done.guests[0]["disks"]] == ["attached", "attached"]
    shown = info(lab_any, str(domu), settle=0.1)[str(domu)]["disks"]
    assert [(d["health"], d["state"], d["drift"]) for d in shown] == [("attached", "2", [])] * 2


def test_no_daemon_is_told_with_disk_and_state(lab_any: LabHost, domd: int, domu: int) -> None:
    done = provision(lab_any, guest(domu, disk()), wait=True, wait_timeout=0.3)
    assert done.changed
    assert f"dom0less-{domu} xvda at DomD: not taken up by any daemon (state 1)" in str(done.failed)
    assert "virtio-disk" in str(done.failed)


@pytest.mark.parametrize(
    ("states", "said"),
    [
        (["2", None], "attached and given up again"),
        (["6"], "in state 6 (closed)"),
        (["4"], "in state 4"),
        (["2", "1"], "not taken up"),
        (["banana"], "in state banana"),
        (["5", None], "its nodes are gone"),
    ],
)
def test_a_daemon_that_answers_out_of_order(
    lab: LabHost, monkeypatch: pytest.MonkeyPatch, states: list[str | None], said: str
) -> None:
    lab.add_domain("DomD", kind="toolstack")
    domu = lab.add_domain("domu", kind="toolstack")
    top = f"/local/domain/1/backend/virtio_disk/{domu}/51712"
    provision(lab, guest("domu", disk()))

    real, left = _settle.states, list(states)

    def look(*given: Any) -> list[str | None]:
        found = real(*given)
        if left:  # one step of the daemon's after each look, so that every one is seen
            state = left.pop(0)
            if state is None:
                lab.rm(top)
            else:
                lab.write(f"{top}/state", state)
        return found

    monkeypatch.setattr(_settle, "states", look)
    done = provision(lab, guest("domu", disk()), wait=True, wait_timeout=2, settle=0.5, hotplug=True)
    assert said in str(done.failed)
    assert left == []


# --- races ---------------------------------------------------------------------------------------------


def test_two_runs_at_once_lose_nothing_and_never_share_an_irq(lab_any: LabHost, domd: int, domu: int) -> None:
    results: dict[str, Any] = {}

    def go(letter: str) -> None:
        results[letter] = provision(lab_any, guest(domu, disk(f"xvd{letter}", f"/dev/vg/{letter}")))

    threads = [threading.Thread(target=go, args=(letter,)) for letter in "abcdef"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [results[letter].failed for letter in "abcdef"] == [None] * 6
    shown = info(lab_any, str(domu))[str(domu)]["disks"]
    assert len(shown) == 6
    assert sorted(d["irq"] for d in shown) == list(range(33, 39))


def test_a_conflicting_writer_is_met_with_another_try(lab_any: LabHost, domd: int, domu: int) -> None:
    provision(lab_any, guest(domu, disk()))  # the directories are there to conflict over
    with lab_any.conflict(f"/local/domain/{domu}/device/virtio_disk", times=3) as proxy:
        done = provision(lab_any, guest(domu, disk("xvdb", "/dev/vg/b")), socket=proxy.socket)
    assert done.failed is None
    assert actions(done) == {f"{domu}/xvdb": "added"}


# --- refusals before the first change ------------------------------------------------------------------


def test_all_findings_at_once_and_one_line(lab_any: LabHost, domd: int, domu: int) -> None:
    other = lab_any.add_domain("other", kind="toolstack")
    before = lab_any.ls("/")
    refused = provision(
        lab_any,
        guest(
            domu,
            disk(),
            disk("d0p0", "/dev/vg/z"),
            disk("xvdb", "relative"),
            disk("xvdc", "/dev/by:path", grant_usage=False),
        ),
        guest(other, disk(access="ro")),
    )
    assert set(codes(refused)) == {
        "devid-duplicate",
        "virtio-rules",
        "colon-in-target",
        "foreign-mapping",
        "devid-shared",
        "target-shared",
    }
    assert "findings in all" in str(refused.failed)
    assert "\n" not in str(refused.failed)
    assert not refused.changed
    assert lab_any.ls("/") == before


def test_the_twelfth_device(lab_any: LabHost, domd: int, domu: int) -> None:
    names = "abcdefghijkl"
    eleven = [disk(f"xvd{x}", f"/dev/vg/{x}") for x in names[:11]]
    assert provision(lab_any, guest(domu, *eleven)).failed is None
    assert places(provision(lab_any, guest(domu, *eleven)))[f"{domu}/xvdk"] == 43
    refused = provision(lab_any, guest(domu, *eleven, disk("xvdl", "/dev/vg/l")))
    assert codes(refused) == ["devices-limit"]
    assert "IRQ 44" in str(refused.failed)


def test_quota_is_foreseen_and_can_be_accepted(lab_any: LabHost, domd: int) -> None:
    guests = [
        guest(
            lab_any.add_domain(kind="dom0less"),
            *(disk(f"xvd{g}{d}", f"/dev/vg/{g}{d}") for d in "abcdefghij"),
        )
        for g in "abcdef"
    ]
    refused = provision(lab_any, *guests)
    assert set(codes(refused)) == {"quota"}
    text = " ".join(finding["message"] for finding in refused.findings)
    assert ("assumed" in text) == (lab_any.daemon == "o")
    accepted = provision(
        lab_any, *guests, accept=[{"code": "quota", "domain": "DomD", "reason": "raised at boot"}]
    )
    assert accepted.failed is None
    assert accepted.accepted


def test_release_gates(lab_any: LabHost, domd: int, domu: int) -> None:
    wish = guest(domu, disk(grant_usage=True, trusted=False))
    assert codes(provision(lab_any, wish, xen="4.17")) == ["release", "release"]
    done = provision(lab_any, guest(domu, disk()), xen="4.18")
    assert done.failed is None
    path = f"/local/domain/{domd}/backend/virtio_disk/{domu}/51712"
    assert len(lab_any.ls(path)) == 17
    upgraded = provision(lab_any, guest(domu, disk()), xen="4.19")
    assert actions(upgraded) == {f"{domu}/xvda": "changed"}
    assert lab_any.read(f"{path}/grant_usage") == b"1"


def test_the_series_sixth_version(lab_any: LabHost, domd: int, domu: int) -> None:
    seed = "backend=DomD, phy:/dev/mmcblk1p3, xvda1, rw, virtio"
    done = provision(lab_any, guest(domu, seed), xen="v6")
    assert done.deprecations or done.failed is None
    path = f"/local/domain/{domd}/backend/virtio_disk/{domu}/51713"
    nodes = {name.rsplit("/", 1)[1]: value for name, (value, _perms) in lab_any.ls(path).items()}
    assert nodes["type"] == b"virtio_disk"
    assert not {"specification", "transport", "grant_usage"} & set(nodes)
    assert nodes["params"] == b"/dev/mmcblk1p3"
    assert not provision(lab_any, guest(domu, seed), xen="v6").changed
    current = provision(lab_any, guest(domu, seed), xen="4.20")
    assert current.failed is None
    assert lab_any.read(f"{path}/type") == b"standalone"


# --- the store fails us --------------------------------------------------------------------------------


def test_an_empty_store_says_nothing_about_guests(lab: LabHost) -> None:
    lab.rm("/local/domain/0")
    with pytest.raises(EmptyStoreError, match="nothing was changed"):
        provision(lab, guest(1, exclusive=True))


def test_a_store_that_never_answers_ends_the_call(lab: LabHost) -> None:
    lab.add_domain("DomD", kind="toolstack")
    with lab.mute() as proxy, pytest.raises(StoreError):
        provision(lab, guest("DomD", disk(backend=0)), socket=proxy.socket, timeout=0.3)


@pytest.mark.parametrize("after", [5, 40, 60, 90, 120, 150])
def test_a_store_that_stops_in_the_middle_leaves_whole_disks_only(
    lab_any: LabHost, domd: int, domu: int, after: int
) -> None:
    declared = guest(domu, *(disk(f"xvd{x}", f"/dev/vg/{x}") for x in "abcd"))
    with lab_any.hang_up(after) as proxy:
        try:
            provision(lab_any, declared, socket=proxy.socket, timeout=2)
        except StoreError as error:
            assert str(error)  # noqa: PT017 - it may also get through
    for one in info(lab_any, str(domu))[str(domu)]["disks"]:
        assert one["drift"] == []
    provision(lab_any, declared)
    assert len(info(lab_any, str(domu))[str(domu)]["disks"]) == 4


def test_as_a_driver_domain_permission_is_refused_by_name(lab_any: LabHost, domd: int, domu: int) -> None:
    view = lab_any.domain_view(domd)
    before = lab_any.ls("/")
    with pytest.raises(StoreError, match="EACCES"):
        provision(lab_any, guest(domu, disk()), socket=view)
    assert lab_any.ls("/") == before


# --- bad input -----------------------------------------------------------------------------------------

VDEVS = [
    "vda",
    "xvd",
    "xvd1",
    "hd",
    "hde",
    "xvdA",
    "xvda01",
    "xvda256",
    "sda16",
    "sdq",
    "",
    "xvda 1",
    "d0p256",
    "0xzz",
]


@pytest.mark.parametrize("vdev", VDEVS)
def test_wrong_vdevs(lab: LabHost, vdev: str) -> None:
    before = lab.ls("/")
    with pytest.raises(DeclarationError, match=r"guests\[0\].disks\[0\] \(Domain-0\)"):
        provision(lab, guest("Domain-0", disk(vdev, backend=0)))
    assert lab.ls("/") == before


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"vdev": "xvda", "taget": "/x"}, "taget.*did you mean target"),
        ({"vdev": "xvda"}, "no target"),
        ({"target": "/x"}, "no vdev"),
        ({"vdev": "xvda", "target": "/x", "access": "rx"}, "access"),
        ({"vdev": "xvda", "target": "/x", "irq": 5}, "irq"),
        ({"vdev": "xvda", "target": "/x\n"}, "newline"),
        ({"vdev": "xvda", "target": "/x", "shared": "maybe"}, "shared"),
        ("/a,raw,xvda,rw,nonsense", "too many positional"),
        ("/a,raw,xvda,access=zz", "access"),
        ("target=/a", "no vdev"),
        (["xvda"], "mapping|string"),
        (7, "mapping|string"),
    ],
)
def test_disks_that_cannot_be_read(lab: LabHost, entry: object, said: str) -> None:
    before = lab.ls("/")
    with pytest.raises(DeclarationError, match=said):
        provision(lab, guest("Domain-0", entry))
    assert lab.ls("/") == before


@pytest.mark.parametrize(
    "target",
    ["/dev/it's", '/dev/"quoted"', "/dev/a,b", "/dev/a=b", "/dev/a:b", "/dev/grün-ü", "/dev/a b", "/x" * 900],
)
def test_odd_targets_arrive_byte_for_byte(lab_any: LabHost, domd: int, domu: int, target: str) -> None:
    done = provision(lab_any, guest(domu, disk(target=target)))
    path = f"/local/domain/{domd}/backend/virtio_disk/{domu}/51712/params"
    assert done.failed is None
    assert lab_any.read(path) == target.encode()
    assert not provision(lab_any, guest(domu, disk(target=target))).changed


def test_a_target_that_xenstore_cannot_carry(lab_any: LabHost, domd: int, domu: int) -> None:
    before = lab_any.ls("/")
    refused = provision(lab_any, guest(domu, disk(target="/" + "x" * 4096)))
    assert codes(refused) == ["virtio-rules"]
    assert lab_any.ls("/") == before


@pytest.mark.trixie
@pytest.mark.parametrize("daemon", ["c", "o"])
def test_a_disk_s_life_on_the_daemons_of_4_20(lab_factory: Callable[..., LabHost], daemon: str) -> None:
    host = lab_factory(daemon=daemon, release="4.20")
    host.add_domain("DomD", kind="toolstack")
    domu = host.add_domain(kind="dom0less")
    host.answer_backends()
    before = host.ls("/")
    declared = guest(domu, disk(), disk("xvdb", "/dev/vg/b", access="ro"))
    done = provision(host, declared, wait=True, settle=0.1)
    assert [one["health"] for one in done.guests[0]["disks"]] == ["attached", "attached"]
    assert not provision(host, declared, wait=True).changed
    host.write(f"/libxl/{domu}/device/virtio_disk/51712/params", "/dev/other")
    assert actions(provision(host, declared)) == {f"{domu}/xvda": "changed", f"{domu}/xvdb": "unchanged"}
    assert info(host)[f"dom0less-{domu}"]["disks"][0]["drift"] == []
    assert provision(host, guest(domu, exclusive=True), state="absent", hotplug=True).failed is None
    assert host.ls("/") == before
