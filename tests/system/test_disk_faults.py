# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Provisioning while things go wrong: the store dies, people lose patience, domains vanish, guests lie."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils import _disk
from ansible_collections.xen.virtio.plugins.module_utils._apply import apply
from ansible_collections.xen.virtio.plugins.module_utils._disk import DiskError
from ansible_collections.xen.virtio.plugins.module_utils._report import Result
from ansible_collections.xen.virtio.plugins.module_utils._snapshot import ResolveError
from ansible_collections.xen.virtio.plugins.module_utils._store import Store, StoreError, write
from ansible_runs import run_module
from lab import LabHost, faults, wire
from provisioning import actions, codes, disk, guest, info, provision

BOUND = 60.0  # seconds: no call may hang, however busy the machine
TESTS = Path(__file__).resolve().parents[1]


def twenty(*domids: int) -> list[dict[str, Any]]:
    """Ten disks for each of two guests."""
    return [
        guest(domid, *(disk(f"xvd{chr(97 + 10 * position + x)}", f"/dev/vg/{domid}-{x}") for x in range(10)))
        for position, domid in enumerate(domids)
    ]


def whole_disks(host: LabHost) -> int:
    """How many disks there are; each of them must be whole, in every tree and with every permission."""
    found = [one for entry in info(host).values() for one in entry["disks"]]
    assert [one["drift"] for one in found] == [[]] * len(found)
    assert not [one for one in found if one["health"] not in ("pending", "attached")]
    return len(found)


class Moment(faults.Fault):
    """Do something just before one commit of a transaction (counted from 0) reaches the store."""

    def __init__(self, commit: int, act: Callable[[], object]) -> None:
        self._left = commit
        self._act = act

    def request(self, kind: int, payload: bytes) -> None:
        if kind == wire.TRANSACTION_END and payload == b"T\0":
            self._left -= 1
            if self._left == -1:
                self._act()


def outcome(call: Callable[[], Result]) -> str:
    """What a call that the store left alone says: as an error, or in its result after the first change."""
    begun = time.monotonic()
    try:
        said = str(call().failed)
    except StoreError as error:
        said = str(error)
    assert time.monotonic() - begun < BOUND
    return said


# --- xenstored -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("commit", [0, 1, 7, 19])
@pytest.mark.parametrize("fault", ["kill", "restart"])
def test_a_store_that_is_lost_ends_the_call_and_the_next_one_completes(
    lab_any: LabHost, domd: int, domu: int, fault: str, commit: int
) -> None:
    other = lab_any.add_domain()
    act = getattr(lab_any.xenstored, fault)
    with faults.Proxy(lab_any, Moment(commit, act)) as proxy:
        said = outcome(lambda: provision(lab_any, *twenty(domu, other), socket=proxy.socket, timeout=5))
    assert "xenstore" in said
    assert ("stopped half-way" in said) == (commit > 0)
    lab_any.xenstored.restart()
    lab_any.add_domain("DomD", kind="toolstack")
    fresh = [lab_any.add_domain(), lab_any.add_domain()]
    assert provision(lab_any, *twenty(*fresh)).failed is None
    assert whole_disks(lab_any) == 20


@pytest.mark.parametrize("commit", [0, 1, 7, 19])
def test_a_store_that_stops_ends_the_call_and_what_it_has_is_whole(
    lab_any: LabHost, domd: int, domu: int, commit: int
) -> None:
    declared = twenty(domu, lab_any.add_domain())
    with faults.Proxy(lab_any, Moment(commit, lab_any.xenstored.stop)) as proxy:
        said = outcome(lambda: provision(lab_any, *declared, socket=proxy.socket, timeout=2))
        lab_any.xenstored.cont()
    assert "xenstore" in said
    assert commit <= whole_disks(lab_any) <= commit + 1  # the last commit may have arrived
    done = provision(lab_any, *declared)
    assert done.failed is None
    assert whole_disks(lab_any) == 20
    assert not provision(lab_any, *declared).changed


def test_what_a_stopped_call_says_it_did_is_what_it_did(lab: LabHost) -> None:
    lab.add_domain("DomD", kind="toolstack")
    declared = twenty(lab.add_domain(), lab.add_domain())
    with lab.hang_up(600) as proxy:
        stopped = provision(lab, *declared, socket=proxy.socket, timeout=5)
    assert "stopped half-way" in str(stopped.failed)
    assert stopped.changed
    told = {name for name, action in actions(stopped).items() if action == "added"}
    there = {f"{one['domid']}/{d['vdev']}" for one in info(lab).values() for d in one["disks"]}
    assert told <= there  # the answer to the last commit may be what was lost
    assert len(there - told) <= 1
    assert set(actions(stopped).values()) == {"added", "unchanged"}


_INTERRUPTED = """
import json, sys
sys.path[:0] = json.loads(sys.argv[1])
import conftest
from lab import LabHost
from provisioning import provision
provision(LabHost.attach(sys.argv[2]), *json.loads(sys.argv[4]), socket=sys.argv[3])
"""


@pytest.mark.parametrize("commit", [0, 3, 19])
def test_ctrl_c_leaves_whole_disks_and_no_open_transaction(
    lab_any: LabHost, domd: int, domu: int, commit: int
) -> None:
    declared = twenty(domu, lab_any.add_domain())
    started: list[subprocess.Popen[bytes]] = []
    moment = Moment(commit, lambda: started[0].send_signal(signal.SIGINT))
    paths = json.dumps([str(TESTS.parent), str(TESTS), str(TESTS / "system")])
    with faults.Proxy(lab_any, moment) as proxy:
        arguments = [paths, str(lab_any.folder), proxy.socket, json.dumps(declared)]
        started.append(
            subprocess.Popen([sys.executable, "-c", _INTERRUPTED, *arguments], stderr=subprocess.PIPE)
        )
        _out, said = started[0].communicate(timeout=BOUND)
    assert b"KeyboardInterrupt" in said
    assert whole_disks(lab_any) in (commit, commit + 1)
    assert provision(lab_any, *declared).failed is None
    assert whole_disks(lab_any) == 20


# --- quotas --------------------------------------------------------------------------------------------


def test_a_value_that_one_daemon_refuses(lab_any: LabHost, domd: int, domu: int) -> None:
    before = lab_any.ls("/")
    wish = guest(domu, disk(target="/" + "x" * 2999))
    if lab_any.daemon == "c":
        assert provision(lab_any, wish).failed is None
        assert whole_disks(lab_any) == 1
        return
    with pytest.raises(StoreError, match=rf"backend/virtio_disk/{domu}/51712/params.*\(E2BIG\); .*shorten"):
        provision(lab_any, wish)
    assert lab_any.ls("/") == before


def use_up(host: LabHost, domid: int, name: str) -> str:
    """Let a domain make nodes until it may no more; the code of the refusal."""
    with wire.Client(host.domain_view(domid)) as itself:
        try:
            for number in range(2000):
                itself.mkdir(name.format(*divmod(number, 100)))
        except wire.WireError as refusal:
            return str(refusal.code)
    return "none"


def test_a_guest_that_has_used_up_its_nodes(lab_any: LabHost, domd: int, domu: int) -> None:
    assert use_up(lab_any, domu, "data/{}/{}") in ("ENOSPC", "EQUOTA")
    declared = guest(domu, disk())
    done = provision(lab_any, declared)
    assert codes(done) == ["quota"]
    assert done.findings[0]["domain"] == str(domu)
    assert not done.changed
    done = provision(lab_any, declared, accept=[{"code": "quota", "reason": "it is its own fault"}])
    assert done.failed is None  # dom0 may write all the same
    assert whole_disks(lab_any) == 1


# --- size ----------------------------------------------------------------------------------------------


def test_a_store_with_thousands_of_children(lab_any: LabHost, domd: int, domu: int) -> None:
    crowd = range(1000, 4000)
    leaves = [(f"/local/domain/{n}/name", b"n%d" % n) for n in crowd]
    for n in crowd:
        top = f"/local/domain/{domd}/backend/virtio_disk/{n}/51712"
        leaves += [(f"{top}/params", b"/dev/vg/%d" % n), (f"{top}/state", b"1")]
    with Store(lab_any.socket, timeout=BOUND) as store:
        for start in range(0, len(leaves), 500):
            answers = store.call([write(path, value) for path, value in leaves[start : start + 500]])
            assert not [answer for answer in answers if isinstance(answer, StoreError)]
    done = provision(lab_any, guest(domu, disk("xvdb")), timeout=BOUND)
    assert done.failed is None
    shown = info(lab_any)
    assert len(shown) == len(crowd) + 1
    assert {one["disks"][0]["health"] for name, one in shown.items() if name != f"dom0less-{domu}"} == {
        "stale"
    }
    assert not provision(lab_any, guest(domu, disk("xvdb")), timeout=BOUND).changed


# --- domains that change in the middle -----------------------------------------------------------------


@contextlib.contextmanager
def before_the_first_step(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> Iterator[None]:
    """Do something once, between a call's plan and its first write."""
    left = [act]

    def late(*arguments: Any) -> list[str]:
        if left:
            left.pop()()
        return apply(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(_disk, "apply", late)
        yield


@pytest.mark.parametrize("reference", ["name", "domid"])
@pytest.mark.parametrize("whose", ["guest", "backend"])
def test_a_domid_given_to_another_domain(
    lab_any: LabHost, domd: int, monkeypatch: pytest.MonkeyPatch, whose: str, reference: str
) -> None:
    domid = lab_any.add_domain("domu", kind="toolstack")
    taken = domid if whose == "guest" else domd
    names = ("domu", "DomD") if reference == "name" else (domid, domd)

    def act() -> None:
        lab_any.write(f"/local/domain/{taken}/vm", "/vm/another")

    with before_the_first_step(monkeypatch, act), pytest.raises(DiskError, match=rf"domain {taken} ended"):
        provision(lab_any, guest(names[0], disk(backend=names[1])))
    assert info(lab_any) == {}


def test_a_guest_that_came_back_under_another_id_gets_the_disks(
    lab_any: LabHost, domd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = lab_any.add_domain("domu", kind="toolstack")
    back: list[int] = []

    def restart() -> None:
        lab_any.kill_domain(old)
        lab_any.rm(f"/local/domain/{old}")
        back.append(lab_any.add_domain("domu", kind="toolstack"))

    with before_the_first_step(monkeypatch, restart):
        done = provision(lab_any, guest("domu", disk()))
    assert done.failed is None
    assert done.guests[0]["domid"] == back[0]
    assert whole_disks(lab_any) == 1
    assert lab_any.ls(f"/libxl/{old}/device/virtio_disk") == {}


@pytest.mark.parametrize("cleaned_up", [False, True])
@pytest.mark.parametrize("whose", ["guest", "backend"])
def test_a_domain_that_dies_between_plan_and_write_gets_nothing(
    lab_any: LabHost, domd: int, monkeypatch: pytest.MonkeyPatch, whose: str, cleaned_up: bool
) -> None:
    domid = lab_any.add_domain("domu", kind="toolstack")
    victim = domid if whose == "guest" else domd

    def die() -> None:
        lab_any.kill_domain(victim)
        wait_until(lambda: not _introduced(lab_any, victim))
        if cleaned_up:
            lab_any.rm(f"/local/domain/{victim}")

    with before_the_first_step(monkeypatch, die), pytest.raises(ResolveError, match=r"gone|not on this host"):
        provision(lab_any, guest("domu", disk()))
    assert [path for path in lab_any.ls("/") if "virtio_disk" in path] == []


def _introduced(host: LabHost, domid: int) -> bool:
    with host.store() as client:
        return client.call(wire.IS_DOMAIN_INTRODUCED, b"%d\0" % domid).startswith(b"T")


def wait_until(there: Callable[[], bool]) -> None:
    """Until something is so; fails where it never comes."""
    deadline = time.monotonic() + BOUND
    while not there():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


def test_a_driver_domain_that_was_restarted_is_the_one_that_lives(lab_any: LabHost, domd: int) -> None:
    domid = lab_any.add_domain("domu", kind="toolstack")
    lab_any.kill_domain(domd)  # and nobody clears its nodes away
    wait_until(lambda: not _introduced(lab_any, domd))
    again = lab_any.add_domain("DomD", kind="toolstack")
    assert provision(lab_any, guest(domid, disk())).guests[0]["disks"][0]["backend_domid"] == again


def test_one_disk_in_two_backends(lab_any: LabHost, domd: int, domu: int) -> None:
    other = lab_any.add_domain("DomE", kind="toolstack")
    declared = guest(domu, disk())
    provision(lab_any, declared)
    healthy = lab_any.ls("/")
    second = f"/local/domain/{other}/backend/virtio_disk/{domu}/51712"
    lab_any.write(f"{second}/params", "/dev/old")
    drift = info(lab_any)[f"dom0less-{domu}"]["disks"][0]["drift"]
    assert [(one["node"], one["found"]) for one in drift] == [(second, "present")]
    assert actions(provision(lab_any, declared)) == {f"{domu}/xvda": "changed"}
    assert lab_any.ls(second) == {}
    lab_any.rm(f"/local/domain/{other}/backend")
    assert lab_any.ls("/") == healthy
    lab_any.write(f"{second}/params", "/dev/old")  # and with nothing left that says which one counts
    lab_any.rm(f"/libxl/{domu}/device/virtio_disk/51712")
    assert info(lab_any)[f"dom0less-{domu}"]["disks"][0]["health"] == "missing"
    assert provision(lab_any, declared).failed is None
    assert whole_disks(lab_any) == 1


# --- guests that lie -----------------------------------------------------------------------------------

ODD_NAMES = ("007", "0", "99999999999999999999", "4294967296", "abc", "-1", "5" * 1500)


def test_directories_that_a_guest_invents_are_no_disks(lab_any: LabHost, domd: int, domu: int) -> None:
    declared = guest(domu, disk())
    provision(lab_any, declared)
    with wire.Client(lab_any.domain_view(domu)) as itself:
        for name in ODD_NAMES:
            with contextlib.suppress(wire.WireError):  # oxenstored has shorter names
                itself.mkdir(f"device/virtio_disk/{name}")
        itself.write("device/virtio_disk/0/backend", f"/local/domain/{domd}/backend/virtio_disk/9/0")
        itself.write("device/virtio_disk/0/state", b"\xff\x00\x80\n")
        itself.write("device/virtio_disk/0/base", b"\xff" * 2000)
    assert use_up(lab_any, domu, "device/virtio_disk/6{:02}{:02}") in ("ENOSPC", "EQUOTA")
    assert not provision(lab_any, declared).changed
    more = provision(
        lab_any, guest(domu, disk(), disk("xvdb", "/dev/vg/b")), accept=[{"code": "quota", "reason": "test"}]
    )
    assert more.failed is None
    assert actions(more) == {f"{domu}/xvda": "unchanged", f"{domu}/xvdb": "added"}
    shown = info(lab_any)[f"dom0less-{domu}"]["disks"]
    real = {one["vdev"]: one["health"] for one in shown if one["health"] != "stale"}
    assert real == {"xvda": "pending", "xvdb": "pending"}
    assert len(shown) > 5
    json.dumps(shown)


@pytest.mark.parametrize("node", ["name", "vm"])
@pytest.mark.parametrize("value", [b"DomD", b"\xff\x00D\n", b"", b"/vm/../../local/domain/0", b"x" * 2000])
def test_a_guest_that_rewrites_who_it_is(
    lab_any: LabHost, domd: int, domu: int, node: str, value: bytes
) -> None:
    with wire.Client(lab_any.domain_view(domu)) as itself:
        itself.write(node, value)
    done = provision(lab_any, guest(domu, disk()))
    assert done.failed is None
    assert done.guests[0]["disks"][0]["backend_domid"] == domd
    assert not provision(lab_any, guest(f"dom0less-{domu}", disk())).changed
    assert list(info(lab_any)) == [f"dom0less-{domu}"]
    with wire.Client(lab_any.domain_view(domu)) as itself:
        itself.remove(node)
    assert not provision(lab_any, guest(domu, disk())).changed


def test_a_guest_that_never_keeps_still_holds_nobody_up(lab_any: LabHost, domd: int, domu: int) -> None:
    victim = lab_any.add_domain()
    provision(lab_any, guest(domu, disk()))
    over = threading.Event()

    def restless() -> None:
        with wire.Client(lab_any.domain_view(domu)) as itself:
            number = 0
            while not over.wait(0.002):
                number += 1
                itself.write("vm", f"/vm/{number}")
                itself.write("name", "DomD" if number % 2 else f"dom0less-{victim}")
                itself.mkdir(f"device/virtio_disk/{number % 7}")
                itself.remove(f"device/virtio_disk/{(number + 3) % 7}")
                itself.write("device/virtio_disk/51712/backend", "/local/domain/0/backend/virtio_disk/0/0")

    thread = threading.Thread(target=restless)
    thread.start()
    try:
        for letter in "bcdef":
            done = provision(lab_any, guest(victim, disk(f"xvd{letter}", f"/dev/vg/{letter}")))
            assert done.failed is None
            assert done.guests[0]["disks"][0]["backend_domid"] == domd
            info(lab_any)
    finally:
        over.set()
        thread.join()
    mended = provision(lab_any, guest(domu, disk(), exclusive=True))
    assert mended.failed is None
    assert whole_disks(lab_any) == 6


def test_a_frontend_that_points_elsewhere_is_drift_and_never_followed(
    lab_any: LabHost, domd: int, domu: int
) -> None:
    provision(lab_any, guest(domu, disk()))
    front = "device/virtio_disk/51712"
    with wire.Client(lab_any.domain_view(domu)) as itself:
        itself.write(f"{front}/backend", "/local/domain/0/backend/virtio_disk/1/51712")
        itself.write(f"{front}/backend-id", "0")
        itself.write(f"{front}/trusted", b"\xfe")
    shown = info(lab_any)[f"dom0less-{domu}"]["disks"][0]
    assert (shown["backend_domid"], shown["health"]) == (domd, "drifted")
    assert provision(lab_any, guest(domu, "xvda"), state="absent").changed
    assert [path for path in lab_any.ls("/") if "virtio_disk" in path] == []


# --- bytes that are no text ----------------------------------------------------------------------------


def test_bytes_that_are_no_text_come_through_ansible(lab: LabHost, tmp_path: Path) -> None:
    domd = lab.add_domain("DomD", kind="toolstack")
    domu = lab.add_domain("domu", kind="toolstack")
    declared = {"domain": "domu", "disks": [disk(target="/dev/vg/é")], "wait": False}
    assert run_module(tmp_path, lab.python, "xen.virtio.disk", declared)["changed"]
    for path in (
        f"/local/domain/{domd}/backend/virtio_disk/{domu}/51712/params",
        f"/libxl/{domu}/device/virtio_disk/51712/params",
        f"/local/domain/{domu}/device/virtio_disk/51712/backend",
    ):
        lab.write(path, b"/dev/\xff\xfe\x1b[31m\x00\n")
    shown = run_module(tmp_path, lab.python, "xen.virtio.disk_info", {})
    assert not shown["failed"], shown
    assert shown["guests"][0]["disks"][0]["health"] == "drifted"
    planned = run_module(tmp_path, lab.python, "xen.virtio.disk", declared, "--check", "--diff")
    assert planned["changed"], planned
    assert "\x1b" not in planned["stdout"]
    assert not run_module(tmp_path, lab.python, "xen.virtio.disk", declared)["failed"]
    assert not run_module(tmp_path, lab.python, "xen.virtio.disk", declared)["changed"]
