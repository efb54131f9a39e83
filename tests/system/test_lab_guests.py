# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests in the lab from create to end: the real xl, its real daemon, and a stand-in for the guest itself."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from boards import BOARDS
from guests import create, domid_of, state_letters, until, virtio_disk, write_config, xls_daemons
from lab import LabError, LabHost, wire

LabFactory = Callable[..., LabHost]


@pytest.fixture(params=BOARDS, ids="-".join)
def board(request: pytest.FixtureRequest, lab_factory: LabFactory) -> LabHost:
    """A host with a driver domain DomD (1), backends that answer and guests that do."""
    release, daemon = request.param
    return ready(lab_factory(release=release, daemon=daemon))


@pytest.fixture
def one(lab: LabHost) -> LabHost:
    """The same, of Xen 4.17 and the C xenstored alone: for what xl or the stand-ins decide."""
    return ready(lab)


def ready(host: LabHost) -> LabHost:
    host.answer_backends()
    host.guest_answers()
    assert host.add_domain(name="DomD", kind="toolstack") == 1
    return host


def backends(host: LabHost, domid: int) -> list[str]:
    with host.store() as client:
        return client.directory(f"/local/domain/1/backend/virtio_disk/{domid}") or []


def gone(host: LabHost, domid: int) -> Callable[[], bool]:
    return lambda: host.hypervisor.get(domid) is None


def test_guests_that_came_up_write_nothing_more_of_their_own_accord(board: LabHost) -> None:
    domid = create(board, "guest", 1)
    board.wait_for_guests()
    assert board.read(f"/local/domain/{domid}/control/feature-reboot") == b"1"
    board.pause_domain(domid)
    board.add_domain(paused=True)
    board.wait_for_guests()  # not for those that do not run


# ---- a guest's own end ----


def test_shutdown_is_answered_and_xls_daemon_cleans_up(board: LabHost) -> None:
    domid = create(board, "guest", 2)
    assert len(backends(board, domid)) == 2
    assert len(xls_daemons(board)) == 1
    board.xl("shutdown", "guest")
    assert until(gone(board, domid))
    assert until(lambda: xls_daemons(board) == {})
    assert backends(board, domid) == []
    assert not [
        path for path in board.ls("/") if path.startswith((f"/libxl/{domid}", f"/local/domain/{domid}"))
    ]
    assert [domain.domid for domain in board.hypervisor.domains()] == [0, 1]


def test_reboot_comes_back_with_another_domid_and_its_disks(board: LabHost) -> None:
    domid = create(board, "guest", 2)
    board.xl("reboot", "guest")
    assert until(lambda: domid_of(board, "guest") == domid + 1)
    assert until(lambda: len(backends(board, domid + 1)) == 2)
    assert until(lambda: not board.hypervisor.known(domid + 1).paused)
    assert backends(board, domid) == []
    assert len(xls_daemons(board)) == 1


def test_a_guest_that_reboots_by_itself(board: LabHost) -> None:
    domid = create(board, "guest", 1)
    for again in (domid + 1, domid + 2):
        board.guest_reboots(again - 1)
        assert until(lambda again=again: domid_of(board, "guest") == again)  # type: ignore[misc]
        assert until(lambda again=again: not board.hypervisor.known(again).paused)  # type: ignore[misc]
    assert backends(board, domid + 2) == ["51712"]


@pytest.mark.parametrize(
    ("reason", "option", "letters"),
    [
        ("crash", "on_crash", "---sc-"),
        ("watchdog", "on_watchdog", "---sw-"),
        ("reboot", "on_reboot", "---sr-"),
        ("poweroff", "on_poweroff", "---s--"),
    ],
)
def test_a_guest_preserved_shows_why_it_ended(one: LabHost, reason: str, option: str, letters: str) -> None:
    domid = create(one, "guest", 1, **{option: "preserve"})
    one.shutdown_domain(domid, reason)
    assert until(lambda: xls_daemons(one) == {})
    assert state_letters(one, "guest") == letters
    assert backends(one, domid) == ["51712"]
    one.xl("destroy", "guest")
    assert one.hypervisor.get(domid) is None


def test_a_crash_takes_the_domain_away_by_default(one: LabHost) -> None:
    domid = create(one, "guest", 1)
    one.guest_crashes(domid)
    assert until(gone(one, domid))


def test_without_xls_daemon_nobody_cleans_up(one: LabHost) -> None:
    domid = create(one, "guest", 1)
    (pid,) = xls_daemons(one)
    os.kill(pid, signal.SIGKILL)
    one.xl("reboot", "guest")
    assert until(lambda: state_letters(one, "guest") == "---sr-")
    assert backends(one, domid) == ["51712"]


@pytest.mark.parametrize(
    ("how", "letters"),
    [("crash", "---sc-"), ("hang", "-b----"), ("vanish", None)],
)
def test_a_guest_that_ends_badly_when_it_is_asked_to(one: LabHost, how: str, letters: str | None) -> None:
    domid = create(one, "guest", on_crash="preserve", on_poweroff="destroy")
    one.guest_answers(how, "guest")  # type: ignore[arg-type]
    one.xl("shutdown", "guest")
    if letters is None:
        assert until(gone(one, domid))
        return
    assert until(lambda: state_letters(one, "guest") == letters)
    assert one.read(f"/local/domain/{domid}/control/shutdown") == b""
    assert until(lambda: len(xls_daemons(one)) == (1 if how == "hang" else 0))


def test_a_guest_that_ignores_requests_and_one_that_is_slow(one: LabHost) -> None:
    deaf, slow = create(one, "deaf"), create(one, "slow")
    one.guest_answers("ignore", "deaf")
    one.guest_answers("answer", slow, after=8)
    with pytest.raises(subprocess.TimeoutExpired):
        one.xl("shutdown", "deaf", timeout=3)
    assert one.read(f"/local/domain/{deaf}/control/shutdown") == b"poweroff"
    one.xl("shutdown", "slow")
    assert one.hypervisor.get(slow) is not None
    assert until(gone(one, slow))
    assert one.hypervisor.get(deaf) is not None


def test_a_guest_that_lost_a_disk_hangs_at_shutdown(one: LabHost) -> None:
    one.backend_behaves("give-up", "guest", 51712)
    domid = create(one, "guest", 2)
    assert until(lambda: backends(one, domid) == ["51728"])
    one.xl("shutdown", "guest")
    assert one.read(f"/local/domain/{domid}/control/shutdown") == b""
    other = create(one, "other", 2)
    one.xl("shutdown", "other")
    assert until(gone(one, other))
    assert one.hypervisor.known(domid).shutdown is None


def test_a_paused_guest_follows_once_it_runs(one: LabHost) -> None:
    domid = create(one, "guest")
    one.xl("pause", "guest")
    assert state_letters(one, "guest") == "--p---"
    with pytest.raises(subprocess.TimeoutExpired):
        one.xl("shutdown", "guest", timeout=3)
    one.xl("unpause", "guest")
    assert until(gone(one, domid))


def test_the_guest_acts_with_its_own_rights(one: LabHost) -> None:
    """It and a test share one ring, and the store counts what both do as the domain's."""
    domid = create(one, "guest")
    assert until(lambda: one.read(f"/local/domain/{domid}/control/feature-poweroff") == b"1")
    with wire.Client(one.domain_view(domid)) as view:
        assert view.read("name") == b"guest"
        with pytest.raises(wire.WireError, match="EACCES"):
            view.write("name", "other")
        one.xl("shutdown", "guest")
        assert until(gone(one, domid))


# ---- memory and vCPUs ----


def test_memory_and_vcpus_follow(board: LabHost) -> None:
    domid = create(board, "guest", memory=64, maxmem=128, vcpus=2, maxvcpus=3)

    def shown() -> tuple[str, str]:
        line = board.xl("list", "guest").stdout.splitlines()[-1].split()
        return line[2], line[3]

    assert until(lambda: shown() == ("64", "2"))
    board.xl("mem-set", "guest", "100")
    board.xl("vcpu-set", "guest", "3")
    assert until(lambda: shown() == ("100", "3"))
    listed = board.xl("vcpu-list", "guest").stdout.splitlines()[1:]
    assert [line.split()[3] for line in listed] == ["0", "1", "2"]
    board.xl("mem-max", "guest", "110")
    assert 110 << 10 <= board.hypervisor.known(domid).max < 112 << 10
    refused = board.xl("mem-set", "guest", "200", check=False)
    assert "must be less than or equal to memory_static_max" in refused.stderr
    assert "maxcpus is 3" in board.xl("vcpu-set", "guest", "4", check=False).stderr


def test_a_guest_that_does_not_follow_keeps_what_it_has(one: LabHost) -> None:
    domid = create(one, "guest", memory=64, maxmem=128)
    one.guest_answers("answer", "guest", follows=False)
    one.xl("mem-set", "guest", "100")
    assert one.read(f"/local/domain/{domid}/memory/target") == f"{100 << 10}".encode()
    assert one.hypervisor.known(domid).mem == 64 << 10


def test_memory_of_the_host(board: LabHost) -> None:
    def free() -> int:
        told = dict(line.split(":", 1) for line in board.xl("info").stdout.splitlines())
        return int({key.strip(): value for key, value in told.items()}["free_memory"])

    before = free()
    domid = create(board, "guest", memory=512)
    assert free() == before - 512
    board.xl("destroy", f"{domid}")
    assert free() == before
    board.set_free_memory(100)
    assert free() == 100


@pytest.mark.parametrize("kind", ["pv", "pvh"])
def test_a_create_without_memory_for_it_fails_in_building(board: LabHost, kind: str) -> None:
    board.set_free_memory(100)
    config = write_config(board, "guest", 1, memory=128, type=kind)
    refused = board.xl("create", config, check=False)
    assert refused.returncode == 3
    assert "xc_dom_boot_mem_init: can't allocate low memory for domain: Out of memory" in refused.stderr
    assert "cannot (re-)build domain" in refused.stderr
    assert [domain.domid for domain in board.hypervisor.domains()] == [0, 1]
    assert domid_of(board, "guest") is None
    board.set_free_memory(200)
    board.xl("create", config)


def test_a_create_that_dom0_gives_no_memory_to(one: LabHost) -> None:
    one.set_free_memory(100, autoballoon=True)
    refused = one.xl("create", write_config(one, "guest", memory=128), check=False)
    assert "failed to free memory for the domain" in refused.stderr
    assert [domain.domid for domain in one.hypervisor.domains()] == [0, 1]


# ---- creates that fail or are broken off ----


def test_a_create_of_a_name_that_is_there(board: LabHost) -> None:
    domid = create(board, "guest", 1)
    refused = board.xl("create", "/etc/xen/guest.cfg", check=False)
    assert refused.returncode != 0
    assert "already exists" in refused.stderr
    assert [domain.domid for domain in board.hypervisor.domains()] == [0, 1, domid]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_create_broken_off_leaves_a_paused_domain(one: LabHost, number: signal.Signals) -> None:
    one.backend_behaves("never")
    config = write_config(one, "guest", 1)
    command = ["env", "--default-signal=INT", str(one.folder / "enter"), "xl", "create", config]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    assert until(lambda: backends(one, 2) == ["51712"])
    process.send_signal(number)
    assert process.wait(30) != 0
    assert state_letters(one, "guest") == "--p---"
    assert xls_daemons(one) == {}
    one.backend_behaves("answer")
    one.xl("destroy", "guest")
    assert one.hypervisor.get(2) is None
    assert backends(one, 2) == []
    assert create(one, "guest", 1) == 3


def test_a_backend_that_never_answers_fails_the_create_after_10_s(one: LabHost) -> None:
    one.backend_behaves("never", "guest")
    other = create(one, "other", 1)
    refused = one.xl("create", write_config(one, "guest", 1), check=False)
    assert refused.returncode == 3
    assert "unable to add device with path /local/domain/1/backend/virtio_disk/3/51712" in refused.stderr
    assert [domain.domid for domain in one.hypervisor.domains()] == [0, 1, other]


def test_a_late_backend_is_waited_for(one: LabHost) -> None:
    one.backend_behaves("late", "guest", after=0.5)
    assert backends(one, create(one, "guest", 1)) == ["51712"]


def test_a_backend_that_does_not_close_is_only_told_of(one: LabHost) -> None:
    one.backend_behaves("refuse", "guest", 51712)
    domid = create(one, "guest", 2)
    done = one.xl("destroy", "guest")
    assert done.returncode == 0
    assert (
        f"unable to remove device with path /local/domain/1/backend/virtio_disk/{domid}/51712" in done.stderr
    )
    assert "51728" not in done.stderr
    assert one.hypervisor.get(domid) is None


def test_a_dying_domain_stays_in_the_list(board: LabHost) -> None:
    domid = create(board, "guest")
    board.hold_domain(domid)
    board.xl("destroy", "guest")
    assert state_letters(board, domid).endswith("d")
    assert board.hypervisor.known(domid).dying
    assert create(board, "guest") == domid + 1
    board.release_domain(domid)
    assert f" {domid} " not in board.xl("list").stdout


def test_rename_and_config_update(board: LabHost) -> None:
    domid = create(board, "guest", 1)
    board.xl("rename", "guest", "other")
    assert domid_of(board, "other") == domid
    board.xl("config-update", "other", write_config(board, "other", 2, memory=96))
    board.guest_reboots(domid)
    assert until(lambda: len(backends(board, domid + 1)) == 2)
    assert board.hypervisor.known(domid + 1).mem == 96 << 10


@pytest.mark.parametrize("call", ["backend_behaves", "guest_answers"])
def test_stand_ins_refuse_what_they_do_not_know(lab: LabHost, call: str) -> None:
    with pytest.raises(LabError, match="'sings': it is one of"):
        getattr(lab, call)("sings")


def test_disks_of_dom0_with_a_real_image(one: LabHost) -> None:
    image = one.root / "var/lib/xen/image"
    with image.open("wb") as file:
        file.truncate(1 << 20)
    domid = create(one, "guest", [virtio_disk("xvda", "/var/lib/xen/image", backend=None)])
    assert one.read(f"/local/domain/0/backend/virtio_disk/{domid}/51712/state") == b"2"


# ---- a power cycle ----

UNIT = """\
[Unit]
After=xenstored.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/xl create /etc/xen/%i.cfg

[Install]
WantedBy=multi-user.target
"""


def test_guests_are_back_after_a_power_cycle_where_units_create_them(lab_factory: LabFactory) -> None:
    host = lab_factory()
    host.answer_backends()
    host.guest_answers()
    host.add_domain()
    assert host.add_domain(name="DomD", kind="toolstack", at_boot=True, ready=["virtio-disk"]) == 2
    system = host.root / "etc/systemd/system"
    (system / "xl@.service").write_text(UNIT)
    for name in ("one", "two"):
        create(host, name, [virtio_disk(f"xvd{name[0]}", f"/dev/vg/{name}")])
        (system / f"multi-user.target.wants/xl@{name}.service").symlink_to("../xl@.service")
    create(host, "three", 1)
    assert len(xls_daemons(host)) == 3
    done = host.reboot()
    assert [(one.unit, one.returncode) for one in done] == [("xl@one.service", 0), ("xl@two.service", 0)]
    names = [host.read(f"/local/domain/{domain.domid}/name") for domain in host.hypervisor.domains()]
    assert names == [b"Domain-0", b"dom0less-1", b"DomD", b"one", b"two"]
    assert host.read("/local/domain/2/drivers/virtio-disk/status") == b"ready"
    assert host.read("/local/domain/2/backend/virtio_disk/3/51936/state") == b"2"
    assert len(xls_daemons(host)) == 2
    host.xl("shutdown", "one")  # the stand-in for guests is back too
    assert until(gone(host, 3))


def test_an_event_in_one_piece_with_an_answer_is_seen(tmp_path: Path) -> None:
    """A guest whose request came in so once waited for ever: nothing more was to come over the ring."""
    path = str(tmp_path / "s")
    with socket.create_server(path, family=socket.AF_UNIX) as server, wire.Client(path) as client:
        accepted, _name = server.accept()
        with accepted:
            answer = wire.pack(wire.READ, 1, 0, b"web")
            accepted.sendall(answer + wire.pack(wire.WATCH_EVENT, 0, 0, b"control/shutdown\0token\0"))
            assert not client.told
            assert client.read("name") == b"web"
            assert client.told
            assert client.event(0.0) == ("control/shutdown", "token")
            assert not client.told
