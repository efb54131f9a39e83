# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests as declared, with the real xl: created, compared, changed in place, created anew, and left alone."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from boards import prepared
from guest_calls import BASE, actions, call, disk, guest
from guests import create, domid_of, until, virtio_disk, write_config
from lab import LabHost

LabFactory = Callable[..., LabHost]


@pytest.fixture
def board(lab: LabHost) -> LabHost:
    """A host of Xen 4.17 with the C xenstored."""
    return prepared(lab)


@pytest.fixture(params=[("4.17", "o"), pytest.param(("4.20", "c"), marks=pytest.mark.trixie)], ids="-".join)
def other(request: pytest.FixtureRequest, lab_factory: LabFactory) -> LabHost:
    """The other daemon, and the other toolstack."""
    release, daemon = request.param
    return prepared(lab_factory(release=release, daemon=daemon))


class Counter:
    """An xl that notes what it is asked."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "asked"
        self.path = folder / "counting-xl"
        self.path.write_text(f'#!/bin/sh\necho "$@" >> {self._log}\nexec xl "$@"\n')
        self.path.chmod(0o755)

    def asked(self) -> list[str]:
        """What it was asked since the last time."""
        told = self._log.read_text().splitlines() if self._log.exists() else []
        self._log.unlink(missing_ok=True)
        return told


@pytest.fixture
def counter(tmp_path: Path) -> Counter:
    return Counter(tmp_path)


def config_of(host: LabHost, name: str = "linux1") -> Path:
    return host.root / f"etc/xen/{name}.cfg"


def only(result: dict[str, Any]) -> dict[str, Any]:
    """The one guest of a result."""
    (found,) = result["guests"]
    return dict(found)


def steady(host: LabHost, *guests: dict[str, Any], **options: Any) -> None:
    """The same call again changes nothing."""
    again = call(host, guests=list(guests), **options)
    assert not again["failed"], again["msg"]
    assert not again["changed"]
    assert set(actions(again).values()) == {"unchanged"}
    assert again["diff"] == []


TWO = guest("linux1", disk("xvda", "/dev/vg/a"), disk("xvdb", "/dev/vg/b", access="ro"))


# --- created ---------------------------------------------------------------------------------------------


def created_and_steady(host: LabHost) -> None:
    result = call(host, guests=[TWO])
    assert not result["failed"], result["msg"]
    found = only(result)
    assert found["action"] == "created"
    assert found["run_state"] == "running"
    assert found["domid"] == domid_of(host, "linux1")
    assert [(one["vdev"], one["action"], one["health"]) for one in found["disks"]] == [
        ("xvda", "added", "attached"),
        ("xvdb", "added", "attached"),
    ]
    steady(host, TWO)


def test_created_and_then_nothing_changes(board: LabHost) -> None:
    created_and_steady(board)


def test_the_same_on_the_other_daemon_and_toolstack(other: LabHost) -> None:
    created_and_steady(other)
    changed = dict(TWO, cmdline="quiet")
    assert call(other, guests=[changed])["failed"]
    result = call(other, guests=[changed], recreate="allowed")
    assert only(result)["action"] == "recreated", result["msg"]
    steady(other, changed)
    assert only(call(other, name="linux1", state="absent"))["action"] == "removed"


def test_a_run_that_changes_nothing_asks_xl_for_two_lists_whatever_the_number_of_guests(
    board: LabHost, counter: Counter
) -> None:
    guests = [guest(f"linux{n}", disk(f"xvd{'abc'[n]}", f"/dev/vg/{n}")) for n in range(3)]
    options = {"xl_path": str(counter.path), "xen": "4.17"}
    assert not call(board, guests=guests, **options)["failed"]
    counter.asked()
    steady(board, *guests, **options)
    assert sorted(counter.asked()) == ["list", "list -l"]


def test_the_example_of_the_sixth_patch_version_runs_on_todays_xen(board: LabHost) -> None:
    seed = {"name": "linux1", **BASE, "disks": ["backend=DomD, phy:/dev/mmcblk1p3, xvda1, rw, virtio"]}
    result = call(board, guests=[seed])
    assert only(result)["run_state"] == "running", result["msg"]
    assert only(result)["disks"][0]["health"] == "attached"
    steady(board, seed)


def test_check_mode_tells_the_same_and_does_nothing(board: LabHost) -> None:
    told = call(board, guests=[TWO], check=True)
    assert told["changed"]
    assert actions(told) == {"linux1": "created"}
    assert not config_of(board).exists()
    assert domid_of(board, "linux1") is None
    assert not (board.root / "var/lib/xen-virtio").exists()
    done = call(board, guests=[TWO])
    assert done["diff"] == told["diff"]


def test_guests_may_be_a_mapping_and_one_guest_has_a_short_form(board: LabHost) -> None:
    told = {key: value for key, value in TWO.items() if key != "name"}
    assert actions(call(board, guests={"linux1": told})) == {"linux1": "created"}
    assert actions(call(board, **TWO)) == {"linux1": "unchanged"}


def normal(host: LabHost, domid: int) -> dict[str, tuple[bytes, tuple[str, ...]]]:
    """What a create left in the store, without what is another's each time."""
    found = {}
    own_vm = (host.read(f"/local/domain/{domid}/vm") or b"").decode("latin-1")  # other domains have one, too
    for path, (value, perms) in host.ls("/").items():
        if re.search(rf"/{domid}(/|$)", path) or f"{path}/".startswith(f"{own_vm}/"):
            own = re.compile(rf"(?<![0-9]){domid}(?![0-9])")
            told = own.sub("D", re.sub(r"[0-9a-f-]{36}", "UUID", path))
            if not re.search(r"start_time|ring-ref|/port$|feature-|/vm/UUID/|memory/|control/", told):
                text = re.sub(r"[0-9a-f-]{36}", "UUID", value.decode("latin-1"))
                if "/" in text or path.endswith(("/frontend-id", "/domid")):
                    text = own.sub("D", text)
                found[told] = (text.encode("latin-1"), tuple(own.sub("D", one) for one in perms))
    return found


def test_the_nodes_are_those_of_a_plain_xl_create(lab_any: LabHost) -> None:
    board = prepared(lab_any)
    first = only(call(board, guests=[TWO]))["domid"]
    ours = normal(board, first)
    board.xl("destroy", "linux1")
    board.xl("create", "/etc/xen/linux1.cfg")
    again = domid_of(board, "linux1")
    assert again is not None
    until(lambda: board.read(f"/local/domain/1/backend/virtio_disk/{again}/51728/state") == b"2")
    assert ours == normal(board, again)
    assert len([path for path in ours if path.endswith("/params")]) == 4


# --- compared --------------------------------------------------------------------------------------------


def test_a_file_that_means_the_same_is_left_alone(board: LabHost) -> None:
    call(board, guests=[TWO])
    text = (
        "# by hand\nname='linux1'  ; type=\"pvh\"\nmemory = 0x40\nkernel = '/etc/hostname'\n"
        "disk = [ 'phy:/dev/vg/a,d0p0,w,backend=DomD,specification=virtio',\n"
        "  'vdev=xvdb,access=ro,backend=DomD,backendtype=standalone,specification=virtio,target=/dev/vg/b' ]\n"
        "on_crash = 'destroy'\n"
    )
    config_of(board).write_text(text)
    steady(board, TWO)
    assert config_of(board).read_text() == text


def test_a_guest_that_somebody_made_by_hand_is_compared_by_libxls_record(
    board: LabHost, counter: Counter
) -> None:
    create(board, "linux1", [virtio_disk("xvda", "/dev/vg/a")], cmdline="quiet")
    same = guest("linux1", disk(), kernel=board.kernel, cmdline="quiet")
    options = {"xl_path": str(counter.path), "xen": "4.17"}
    steady(board, same, **options)
    assert len([one for one in counter.asked() if one.startswith("create -n")]) == 1
    steady(board, same, **options)
    assert sorted(counter.asked()) == ["list", "list -l"]  # what it was found to run from is kept
    less = {key: value for key, value in same.items() if key != "cmdline"}
    told = call(board, guests=[less])
    assert told["failed"]
    assert only(told)["recreate_reasons"] == ["cmdline: quiet -> (none)"]


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"cmdline": "quiet"}, "cmdline: (none) -> quiet"),
    ({"memory": 128}, "maxmem: 64 -> 128"),
    ({"vcpus": 2}, "maxvcpus: 1 -> 2"),
    ({"type": "pv"}, "type: pvh -> pv"),
    ({"on_crash": "restart"}, "on_crash: "),
    (
        {"disks": [disk("xvda", "/dev/vg/other"), TWO["disks"][1]]},
        "disk xvda: /dev/vg/a rw at domain 1 -> /dev/vg/other",
    ),
    ({"disks": [TWO["disks"][0]]}, "disk xvdb: /dev/vg/b ro at domain 1 -> (none)"),
    ({"disks": [*TWO["disks"], disk("xvdc", "/dev/vg/c")]}, "disk xvdc: (none) -> /dev/vg/c rw at domain 1"),
    ({"vif": [{"bridge": "xenbr0"}]}, "vif: "),
]


def test_what_needs_a_new_domain_is_named_and_not_done(board: LabHost) -> None:
    call(board, guests=[TWO])
    before, text = domid_of(board, "linux1"), config_of(board).read_text()
    for change, reason in CHANGES:
        for check in (True, False):
            told = call(board, guests=[{**TWO, **change}], check=check)
            assert told["failed"], change
            assert not told["changed"]
            assert any(one.startswith(reason) for one in only(told)["recreate_reasons"]), only(told)
            assert "recreate: allowed" in told["msg"]
            assert reason.partition(":")[0] in told["msg"]
    assert (domid_of(board, "linux1"), config_of(board).read_text()) == (before, text)


def test_report_writes_the_configuration_and_leaves_the_domain(board: LabHost) -> None:
    call(board, guests=[TWO])
    before = domid_of(board, "linux1")
    other = {**TWO, "cmdline": "quiet"}
    told = call(board, guests=[other], recreate="report")
    assert not told["failed"]
    assert only(told)["action"] == "changed"
    assert only(told)["backup"] is not None
    assert "to be re-created to be as declared: linux1" in told["msg"]
    assert 'cmdline = "quiet"' in config_of(board).read_text()
    again = call(board, guests=[other], recreate="report")
    assert not again["changed"]
    assert only(again)["recreate_reasons"] == ["cmdline: (none) -> quiet"]
    assert domid_of(board, "linux1") == before
    assert call(board, guests=[other])["failed"]


def test_created_anew_where_that_is_allowed(board: LabHost) -> None:
    call(board, guests=[TWO])
    before = domid_of(board, "linux1")
    other = {**TWO, "cmdline": "quiet", "disks": [disk("xvda", "/dev/vg/new")]}
    result = call(board, guests=[other], recreate="allowed")
    assert not result["failed"], result["msg"]
    found = only(result)
    assert found["action"] == "recreated"
    assert found["domid"] != before
    assert [(one["vdev"], one["target"], one["health"]) for one in found["disks"]] == [
        ("xvda", "/dev/vg/new", "attached")
    ]
    assert board.hypervisor.get(before or 0) is None
    assert board.ls(f"/local/domain/1/backend/virtio_disk/{before}") == {}
    steady(board, other)


def test_the_order_of_disks_needs_a_word_of_its_own(board: LabHost) -> None:
    call(board, guests=[TWO])
    turned = {**TWO, "disks": list(reversed(TWO["disks"]))}
    told = call(board, guests=[turned], recreate="allowed")
    assert told["failed"]
    assert [one["code"] for one in told["findings"]] == ["reorder"]
    result = call(board, guests=[turned], recreate="allowed", allow_reorder=True)
    assert only(result)["action"] == "recreated", result["msg"]
    assert "disk order: xvda, xvdb -> xvdb, xvda" in only(result)["recreate_reasons"]
    steady(board, turned)


def test_a_configuration_that_xl_refuses_changes_nothing(board: LabHost) -> None:
    call(board, guests=[TWO])
    text = config_of(board).read_text()
    bare = {key: value for key, value in TWO.items() if key != "kernel"}
    for check in (True, False):
        told = call(board, guests=[bare], recreate="allowed", check=check)
        assert told["failed"]
        assert "xl refuses its configuration" in told["msg"]
        assert config_of(board).read_text() == text
    told = call(board, guests=[{"name": "linux1", "content": "name = 'linux1'\nkernel = "}])
    assert told["failed"]
    assert "linux1: content" in told["msg"]


def test_a_text_of_the_users_own(board: LabHost) -> None:
    text = "name='linux1'\ntype='pvh'\nkernel='/etc/hostname'\nmemory=64\nfoo_bar = 1\n"
    own = {"name": "linux1", "content": text}
    assert actions(call(board, guests=[own])) == {"linux1": "created"}
    assert config_of(board).read_text() == text
    steady(board, {"name": "linux1", "content": "# else\n" + text})
    assert config_of(board).read_text() == text


# --- in place --------------------------------------------------------------------------------------------


def test_memory_and_vcpus_change_in_the_running_guest(board: LabHost, counter: Counter) -> None:
    roomy = {**TWO, "memory": 64, "maxmem": 128, "vcpus": 1, "maxvcpus": 4}
    call(board, guests=[roomy])
    before = domid_of(board, "linux1")
    other = {**roomy, "memory": 100, "vcpus": 3}
    options = {"xl_path": str(counter.path), "xen": "4.17"}
    told = call(board, guests=[other], check=True)
    assert actions(told) == {"linux1": "changed"}
    result = call(board, guests=[other], **options)
    assert not result["failed"], result["msg"]
    assert only(result)["action"] == "changed"
    assert [(one["option"], one["live"]) for one in only(result)["differences"]["domain"]] == [
        ("memory", True),
        ("vcpus", True),
    ]
    asked = counter.asked()
    assert [one for one in asked if one.startswith(("mem-set", "vcpu-set"))] == [
        f"mem-set {before} 100m",
        f"vcpu-set {before} 3",
    ]
    assert domid_of(board, "linux1") == before
    assert board.read(f"/local/domain/{before}/memory/target") == b"102400"
    until(lambda: " 3 " in board.xl("list", "linux1").stdout)
    steady(board, other, **options)
    assert sorted(counter.asked()) == ["list", "list -l"]


def test_less_memory_than_a_guest_has_room_for_needs_no_new_domain(board: LabHost) -> None:
    call(board, guests=[{**TWO, "memory": 128}])
    less = {**TWO, "memory": 96}
    result = call(board, guests=[less])
    assert only(result)["action"] == "changed", result["msg"]
    steady(board, less)


def test_xen_disks_come_and_go_in_the_running_guest(board: LabHost) -> None:
    def with_disks(*vdevs: str) -> dict[str, Any]:
        return guest("linux1", *(disk(vdev, f"/dev/vg/{vdev}", specification="xen") for vdev in vdevs))

    call(board, guests=[with_disks("xvda")])
    before = domid_of(board, "linux1")
    for vdevs in (("xvda", "xvdb"), ("xvdb",)):
        wanted = with_disks(*vdevs)
        result = call(board, guests=[wanted])
        assert only(result)["action"] == "changed", result["msg"]
        listed = board.xl("block-list", "linux1").stdout.splitlines()[1:]
        assert len(listed) == len(vdevs)
        assert domid_of(board, "linux1") == before
        steady(board, wanted)


# --- states ----------------------------------------------------------------------------------------------


def test_states_one_after_another(board: LabHost) -> None:
    steps = [
        ("configured", "changed", None),
        ("paused", "started", "paused"),
        ("paused", "unchanged", "paused"),
        ("running", "changed", "running"),
        ("paused", "changed", "paused"),
        ("running", "changed", "running"),
        ("restarted", "restarted", "running"),
        ("restarted", "restarted", "running"),
        ("configured", "unchanged", "running"),
        ("shutdown", "stopped", None),
        ("shutdown", "unchanged", None),
        ("running", "started", "running"),
        ("absent", "removed", None),
        ("absent", "unchanged", None),
    ]
    for state, action, run_state in steps:
        told = call(board, guests=[TWO], state=state, check=True)
        assert actions(told) == {"linux1": action}, state
        assert told["changed"] == (action != "unchanged")
        result = call(board, guests=[TWO], state=state)
        assert not result["failed"], (state, result["msg"])
        assert (actions(result), result["changed"]) == ({"linux1": action}, action != "unchanged"), state
        assert only(result)["run_state"] == (run_state or "absent"), state
        assert config_of(board).exists() == (state != "absent")


def test_a_name_alone_says_nothing_of_the_configuration(board: LabHost) -> None:
    told = call(board, name="linux1")
    assert told["failed"]
    assert "neither a domain nor a configuration" in told["msg"]
    create(board, "linux1", 1)
    text = config_of(board).read_text()
    assert actions(call(board, name="linux1")) == {"linux1": "unchanged"}
    assert actions(call(board, name="linux1", state="restarted")) == {"linux1": "restarted"}
    assert actions(call(board, name="linux1", state="shutdown")) == {"linux1": "stopped"}
    assert actions(call(board, name="linux1")) == {"linux1": "started"}
    assert config_of(board).read_text() == text


def test_a_guest_that_rebooted_by_itself_is_still_the_same(board: LabHost) -> None:
    call(board, guests=[TWO])
    before = domid_of(board, "linux1")
    board.guest_reboots(before or 0)
    assert until(lambda: domid_of(board, "linux1") not in (None, before))
    steady(board, TWO)


def test_a_guest_that_powered_off_and_was_kept_is_started_again(board: LabHost) -> None:
    kept = {**TWO, "on_poweroff": "preserve"}
    first = only(call(board, guests=[kept]))["domid"]
    board.shutdown_domain(first)
    assert until(lambda: "s" in board.xl("list", "linux1").stdout.splitlines()[-1].split()[4])
    result = call(board, guests=[kept])
    assert only(result)["action"] == "started", result["msg"]
    steady(board, kept)


def test_a_guest_that_xl_would_start_anew_has_no_clean_end(board: LabHost) -> None:
    stubborn = {**TWO, "on_poweroff": "restart"}
    call(board, guests=[stubborn])
    told = call(board, name="linux1", state="shutdown")
    assert told["failed"]
    assert "force_destroy" in told["msg"]
    assert actions(call(board, name="linux1", state="shutdown", force_destroy=True)) == {"linux1": "stopped"}
    assert domid_of(board, "linux1") is None


# --- disks that were lost --------------------------------------------------------------------------------


@pytest.fixture
def wounded(board: LabHost) -> LabHost:
    """A guest whose daemon gave up one of two disks."""
    call(board, guests=[TWO])
    domid = domid_of(board, "linux1")
    board.rm(f"/local/domain/1/backend/virtio_disk/{domid}/51728")
    return board


def test_a_lost_disk_is_told(wounded: LabHost) -> None:
    told = call(wounded, guests=[TWO])
    assert told["failed"]
    assert only(told)["recreate_reasons"] == ["xvdb: its backend gave it up"]
    assert only(told)["differences"]["store"] == [
        {"vdev": "xvdb", "devid": 51728, "what": "lost", "found": "its backend gave it up"}
    ]
    reported = call(wounded, guests=[TWO], recreate="report")
    assert not reported["failed"]
    assert not reported["changed"]


def test_a_guest_that_lost_a_disk_is_not_asked_to_shut_down(wounded: LabHost, counter: Counter) -> None:
    options = {"recreate": "unhealthy", "xl_path": str(counter.path)}
    told = call(wounded, guests=[TWO], **options)
    assert told["failed"]
    assert "force_destroy: true" in told["msg"]
    assert not [one for one in counter.asked() if one.startswith("shutdown")]
    result = call(wounded, guests=[TWO], force_destroy=True, **options)
    assert only(result)["action"] == "recreated", result["msg"]
    asked = counter.asked()
    assert not [one for one in asked if one.startswith("shutdown")]
    assert [one for one in asked if one.startswith("destroy")]
    steady(wounded, TWO)


def test_unhealthy_leaves_healthy_guests_alone(board: LabHost) -> None:
    call(board, guests=[TWO])
    before = domid_of(board, "linux1")
    result = call(board, guests=[{**TWO, "cmdline": "quiet"}], recreate="unhealthy", force_destroy=True)
    assert not result["failed"]
    assert only(result)["recreate_reasons"]
    assert domid_of(board, "linux1") == before


# --- not ours to touch -----------------------------------------------------------------------------------


def test_guests_of_others_are_refused(board: LabHost) -> None:
    number = board.add_domain()
    board.add_domain(name="theirs", kind="toolstack")
    for name, words in ((f"dom0less-{number}", "xen.virtio.disk"), ("theirs", "xl did not make")):
        for state in ("running", "restarted", "absent", "shutdown"):
            told = call(board, guests=[guest(name)], state=state, force_destroy=True, recreate="allowed")
            assert told["failed"]
            assert words in told["msg"], told["msg"]
            assert not config_of(board, name).exists()
    assert "the name of dom0" in call(board, name="Domain-0", state="absent")["msg"]


def test_another_guests_configuration_is_not_overwritten(board: LabHost) -> None:
    write_config(board, "linux2", path=config_of(board))
    told = call(board, guests=[TWO])
    assert told["failed"]
    assert "is the configuration of guest linux2" in told["msg"]


def test_one_refusal_stops_all_before_the_first_change(board: LabHost) -> None:
    call(board, guests=[TWO])
    new = guest("linux2", disk("xvdc", "/dev/vg/c"))
    told = call(board, guests=[new, {**TWO, "cmdline": "quiet"}])
    assert told["failed"]
    assert not told["changed"]
    assert domid_of(board, "linux2") is None
    shared = guest("linux2", disk("xvdc", "/dev/vg/a"))
    told = call(board, guests=[TWO, shared])
    assert [one["code"] for one in told["findings"]] == ["target-shared"]
    assert domid_of(board, "linux2") is None


# --- files -----------------------------------------------------------------------------------------------


def image(folder: Path, content: bytes) -> dict[str, str]:
    path = folder / "Image"
    path.write_bytes(content)
    return {"src": str(path), "checksum": f"sha256:{hashlib.sha256(content).hexdigest()}"}


def test_a_kernel_by_its_checksum_is_kept_under_a_name_of_its_own(board: LabHost, tmp_path: Path) -> None:
    first = {**TWO, "kernel": image(tmp_path, b"6.6")}
    assert call(board, guests=[first], check=True)["changed"]
    images = board.root / "var/lib/xen-virtio/images"
    assert not images.exists()
    assert actions(call(board, guests=[first])) == {"linux1": "created"}
    (kept,) = images.iterdir()
    assert kept.read_bytes() == b"6.6"
    steady(board, first)

    second = {**TWO, "kernel": image(tmp_path, b"6.7")}
    told = call(board, guests=[second])
    assert told["failed"]
    assert "kernel" in told["msg"]
    assert actions(call(board, guests=[second], recreate="allowed")) == {"linux1": "recreated"}
    assert sorted(path.read_bytes() for path in images.iterdir()) == [b"6.6", b"6.7"]

    wrong = {**TWO, "kernel": {**image(tmp_path, b"6.8"), "checksum": first["kernel"]["checksum"]}}
    told = call(board, guests=[{**wrong, "name": "linux9", "disks": []}], check=True)
    assert not told["failed"]  # it is kept already
    lost = {**TWO, "kernel": {**image(tmp_path, b"6.8"), "checksum": "sha256:" + "0" * 64}}
    told = call(board, guests=[lost], recreate="allowed")
    assert told["failed"]
    assert "has the checksum" in told["msg"]


def test_new_content_at_an_old_path_is_a_difference(board: LabHost, tmp_path: Path) -> None:
    kernel = tmp_path / "Image"
    kernel.write_bytes(b"one")
    plain = {**TWO, "kernel": str(kernel)}
    call(board, guests=[plain])
    steady(board, plain)
    kernel.write_bytes(b"two")
    told = call(board, guests=[plain])
    assert told["failed"]
    assert only(told)["differences"]["domain"][0]["option"] == "kernel"
    assert actions(call(board, guests=[plain], recreate="allowed")) == {"linux1": "recreated"}
    steady(board, plain)
