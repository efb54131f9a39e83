# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The launcher in a driver domain with real systemd, on a real xenstored, and daemons with the real one's faults."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import standin
from ansible_collections.xen.virtio.plugins.module_utils._disk_info import gather
from ansible_collections.xen.virtio.plugins.module_utils._launcher import VERSION
from ansible_collections.xen.virtio.plugins.module_utils._protocol import OPS
from ansible_collections.xen.virtio.plugins.module_utils._store import Request, Store
from guests import create, domid_of, until, virtio_disk, write_config
from lab import domains
from lab.machines import Machines
from lab.machines_pair import Dom0
from launching import RUN, SERVICE, A, B, Backend, C, on_a_host


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return standin.build(tmp_path_factory.mktemp("standin") / "build", "1.0")


@pytest.fixture(scope="module")
def made(machines: Machines, program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    folder = tmp_path_factory.mktemp("launcher")
    with on_a_host(machines, "launching", program, folder, "-E", "5000", "-W", "500") as backend:
        yield backend


@pytest.fixture
def backend(made: Backend) -> Iterator[Backend]:
    made.install()
    made.start_launcher()
    yield made
    made.clear()


@pytest.fixture(scope="module")
def made_o(machines: Machines, program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    folder = tmp_path_factory.mktemp("launcher-o")
    with on_a_host(machines, "launching-o", program, folder, daemon="o") as backend:
        yield backend


@pytest.fixture(params=["made", "made_o"], ids=["xenstored", "oxenstored"])
def backend_any(request: pytest.FixtureRequest) -> Iterator[Backend]:
    made: Backend = request.getfixturevalue(request.param)
    made.install()
    made.start_launcher()
    yield made
    made.clear()


def test_a_disk_is_served_until_its_guest_goes(backend: Backend) -> None:
    key = backend.disk(backend.image("a"))
    assert backend.becomes("served", key)
    assert backend.state(*key) == 2
    assert backend.said(key) == "served size=65536 size-now=65536 version=1.0"
    backend.destroy(key[0])
    assert until(lambda: backend.said(key) is None and not backend.units())
    assert until(lambda: backend.files() == ["code", "launcher.lock"]), backend.files()


def test_the_view_is_compiled_before_there_is_a_disk(backend: Backend) -> None:
    found = ["sh", "-c", f"find {RUN}/code -name 'virtio_disk_view*.pyc' -printf '%m %TT %i\\n'"]
    kept = backend.machine.run(found).stdout
    assert len(kept.splitlines()) == 1
    assert backend.becomes("served", backend.disk(backend.image("a")))
    assert backend.machine.run(found).stdout == kept


# ---- guests come and go ----


def test_guests_at_once_with_several_disks_and_equal_device_numbers(backend: Backend) -> None:
    guests = [backend.guest() for _guest in range(4)]
    keys = [
        backend.disk(backend.image(f"{guest}-{devid}"), devid, guest)
        for guest in guests
        for devid in (A, B, C)
    ]
    assert backend.becomes("served", *keys)
    assert sorted(backend.starts()) == sorted(f"{domid}-{devid}" for domid, devid in keys)
    assert backend.clashes() == []


def test_guests_of_xl_created_side_by_side_and_one_that_reboots(backend: Backend) -> None:
    images = [backend.image(name) for name in ("one", "two")]
    with ThreadPoolExecutor() as pool:
        creations = [
            pool.submit(create, backend.host, name, [virtio_disk("xvda", image)])
            for name, image in zip(("one", "two"), images)
        ]
        one, two = (creation.result() for creation in creations)
    assert backend.becomes("served", (one, A), (two, A))
    pids = backend.pids()
    backend.host.guest_answers()
    backend.host.guest_reboots(one)
    assert until(lambda: domid_of(backend.host, "one") not in (None, one))
    again = domid_of(backend.host, "one")
    assert again is not None
    assert backend.becomes("served", (again, A))
    assert until(lambda: backend.said((one, A)) is None)
    assert backend.pids()[f"{two}-{A}"] == pids[f"{two}-{A}"]
    assert backend.clashes() == []
    for name in ("one", "two"):
        backend.host.xl("destroy", name)
    assert until(lambda: not backend.units())


@pytest.mark.parametrize("direct", [True, False])
def test_systemd_is_asked_directly_where_that_works(backend: Backend, direct: bool) -> None:
    """systemctl itself goes another way where systemd's own socket is not to be had."""
    private, away = "/run/systemd/private", "/run/systemd/private.away"
    if not direct:
        backend.machine.run(["mv", private, away])
    try:
        backend.systemctl("restart", SERVICE)
        key = backend.disk(backend.image("a"))
        assert backend.becomes("served", key)
        backend.destroy(key[0])
        assert until(lambda: not backend.units())
        said = backend.machine.journalctl(f"_PID={backend.launcher_pid()}")
        assert ("systemctl is used from now on" in said) is not direct
    finally:
        if not direct:
            backend.machine.run(["mv", away, private])


def test_lower_domids_are_guests_as_any_other(backend: Backend) -> None:
    lower, higher = backend.guest(), backend.guest()
    first = backend.disk(backend.image("first"), guest=higher)
    assert backend.becomes("served", first)
    second = backend.disk(backend.image("second"), guest=lower)
    assert backend.becomes("served", first, second)


LATE = [("backend", "base", "33554432"), ("backend", "params", "/srv/a.img"), ("frontend", "state", "1")]


@pytest.mark.parametrize(("side", "name", "value"), LATE)
def test_nodes_that_come_late(backend: Backend, side: str, name: str, value: str) -> None:
    key = backend.disk(backend.image("a"), state="0")
    node = f"{backend.backend(*key) if side == 'backend' else backend.frontend(*key)}/{name}"
    backend.host.rm(node)
    backend.host.write(f"{backend.backend(*key)}/state", "1")
    assert backend.becomes("waiting", key)
    assert until(lambda: "missing" in (backend.said(key) or ""))
    assert backend.starts() == []
    backend.host.write(node, value)
    assert backend.becomes("served", key)


def test_what_a_gone_guest_left_behind_gets_no_daemon(backend: Backend) -> None:
    backend.machine.run(["systemctl", "stop", SERVICE])
    key = backend.disk(backend.image("stale"))
    backend.host.rm(backend.frontend(*key))
    used = backend.disk(backend.image("used"))
    backend.host.write(f"{backend.backend(*used)}/state", "2")
    backend.host.rm(backend.frontend(*used))
    backend.start_launcher()
    assert backend.becomes("waiting", key, used)
    assert backend.starts() == []
    assert backend.state(*used) == 2


# ---- daemons fail ----


def test_a_daemon_that_crashed_is_not_replaced_and_its_disk_is_told_as_lost(backend: Backend) -> None:
    lost, other = (backend.disk(backend.image(name)) for name in ("lost", "other"))
    assert backend.becomes("served", lost, other)
    pids = backend.pids()
    backend.kill(pids[f"{lost[0]}-{A}"])
    assert backend.becomes("lost", lost)
    assert backend.state(*lost) == 2
    assert backend.is_("served", other)
    assert backend.pids() == {f"{other[0]}-{A}": pids[f"{other[0]}-{A}"]}
    assert len(backend.starts()) == 2
    assert until(lambda: f"guest {lost[0]}: lost: its daemon ended" in backend.machine.journal(SERVICE))
    backend.destroy(lost[0], wait=False)
    assert until(lambda: backend.said(lost) is None)
    anew = backend.disk("/srv/lost.img")
    assert backend.becomes("served", anew)


def test_a_view_that_was_killed_takes_its_daemon_with_it(backend: Backend) -> None:
    key = backend.disk(backend.image("a"))
    assert backend.becomes("served", key)
    record = backend.record(key)
    assert record is not None
    backend.kill(record["view_pid"])
    assert backend.becomes("lost", key)
    assert until(lambda: not backend.units())
    assert backend.machine.run(["kill", "-0", str(record["daemon_pid"])], check=False).returncode != 0


FAULTS = [
    ("exit all", "failed", 2, 1),
    ("crash-early all", "failed", 2, 1),
    ("deaf all", "failed", 2, 1),
    ("refuse all", "lost", 1, None),
    ("crash-attaching all", "lost", 1, 2),
]


@pytest.mark.parametrize(
    ("fault", "told", "starts", "state"), FAULTS, ids=[fault.split(" ")[0] for fault, *_rest in FAULTS]
)
def test_daemons_that_cannot(backend: Backend, fault: str, told: str, starts: int, state: int | None) -> None:
    backend.misbehave(fault)
    key = backend.disk(backend.image("a"))
    assert backend.becomes(told, key)
    assert until(lambda: not backend.units())
    assert len(backend.starts()) == starts
    assert backend.state(*key) == state
    assert until(lambda: f"disk {A} of guest {key[0]}: {told}: " in backend.machine.journal(SERVICE))
    backend.misbehave()
    other = backend.disk(backend.image("b"))
    assert backend.becomes("served", other)
    assert backend.is_(told, key)


def test_the_second_daemon_may_serve(backend: Backend) -> None:
    backend.machine.run(["touch", "/run/once"])
    backend.misbehave("crash-early all flag=/run/once")
    key = backend.disk(backend.image("a"))
    assert backend.becomes("served", key)
    assert len(backend.starts()) == 2


def test_a_daemon_that_hangs_is_killed_and_its_target_is_free_then(backend: Backend) -> None:
    """As when a guest reboots: the same target, another domid, and the first daemon does not let go."""
    image = backend.image("a")
    key = backend.disk(image)
    assert backend.becomes("served", key)
    backend.misbehave("hang all")
    backend.kill(backend.pids()[f"{key[0]}-{A}"], "TERM")  # from now on it hangs
    backend.misbehave()
    again = backend.disk(image)
    backend.destroy(key[0], wait=False)
    assert backend.becomes("served", again)
    assert until(lambda: list(backend.pids()) == [f"{again[0]}-{A}"])
    assert backend.clashes() == []


# ---- targets ----


def test_one_writer_a_target(backend: Backend) -> None:
    image = backend.image("a")
    backend.machine.run(["ln", "-s", image, "/srv/link.img"])
    first = backend.disk(image)
    assert backend.becomes("served", first)
    second = backend.disk("/srv/link.img")
    assert backend.becomes("waiting", second)
    assert until(lambda: "has its target writable" in (backend.said(second) or ""))
    assert backend.is_("served", first)
    backend.destroy(first[0])
    assert backend.becomes("served", second)
    assert backend.clashes() == []


@pytest.fixture
def fixed_image(backend: Backend) -> Iterator[str]:
    """An image on a file system of its own, which is read-only."""
    backend.machine.run(["mkdir", "-p", "/srv/ro"])
    backend.machine.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", "/srv/ro"])
    backend.machine.run(["truncate", "-s", "65536", "/srv/ro/x.img"])
    backend.machine.run(["mount", "-o", "remount,ro", "/srv/ro"])
    yield "/srv/ro/x.img"
    backend.systemctl(
        "stop", "virtio-disk@*.service"
    )  # a daemon has an image that it only reads open until its end
    backend.machine.run(["umount", "/srv/ro"])


def test_targets_that_come_late_or_cannot_be_written(backend: Backend, fixed_image: str) -> None:
    key = backend.disk("/srv/late.img")
    fixed = backend.disk(fixed_image)
    assert backend.becomes("waiting", key, fixed)
    assert until(lambda: "No such file" in (backend.said(key) or ""))
    assert until(lambda: "read-only" in (backend.said(fixed) or ""))
    read = backend.disk(fixed_image, mode="r")
    assert backend.becomes("served", read)
    backend.image("late")
    assert backend.becomes("served", key)
    backend.destroy(read[0])
    assert until(lambda: f"{read[0]}-{read[1]}" not in backend.units())


def test_a_file_system_that_was_read_only_when_the_launcher_started(
    backend: Backend, fixed_image: str
) -> None:
    """The launcher's own mount of it stays so for ever."""
    backend.systemctl("restart", SERVICE)
    key = backend.disk(fixed_image)
    assert until(lambda: "read-only" in (backend.said(key) or ""))
    backend.machine.run(["mount", "-o", "remount,rw", "/srv/ro"])
    assert backend.becomes("served", key)


def test_a_target_among_the_systems_own_files_is_read_only_to_units(backend: Backend) -> None:
    backend.machine.run(["truncate", "-s", "65536", "/usr/local/lib/virtio-disk/x.img"])
    written, read = (backend.disk("/usr/local/lib/virtio-disk/x.img", mode=mode) for mode in "wr")
    assert backend.becomes("waiting", written)
    assert until(lambda: "read-only" in (backend.said(written) or ""))
    assert backend.becomes("served", read)


def test_growth_is_seen(backend: Backend) -> None:
    backend.install(size_interval=0.2)
    backend.systemctl("restart", SERVICE)
    key = backend.disk(backend.image("a"))
    assert backend.becomes("served", key)
    backend.machine.run(["truncate", "-s", "131072", "/srv/a.img"])
    assert until(lambda: backend.said(key) == "served size=65536 size-now=131072 version=1.0")
    with Store(backend.host.socket) as store:  # as dom0 shows it
        (guest,) = gather(store, [str(key[0])])
    (disk,) = guest["disks"]
    assert disk["launcher"] == {"status": "served", "reason": "", "version": "1.0"}
    assert (disk["size_at_attach"], disk["size_now"]) == (65536, 131072)


# ---- the launcher goes and comes ----


@pytest.mark.parametrize("how", ["KILL", "restart"])
def test_a_launcher_that_ends_takes_no_disk_with_it(backend: Backend, how: str) -> None:
    served = [backend.disk(backend.image(name)) for name in ("a", "b")]
    gone = backend.disk(backend.image("c"))
    assert backend.becomes("served", *served, gone)
    pids = backend.pids()
    before = backend.launcher_pid()
    if how == "KILL":
        backend.kill(before)
    else:
        backend.systemctl("restart", SERVICE)
    backend.destroy(gone[0])
    new = backend.disk(backend.image("d"))
    assert until(lambda: backend.launcher_pid() not in (0, before))
    assert until(lambda: backend.word() == "ready")
    assert backend.becomes("served", *served, new)
    assert until(lambda: backend.said(gone) is None)
    now = backend.pids()
    assert {name: now.get(name) for name in pids if not name.startswith(f"{gone[0]}-")} == {
        name: pid for name, pid in pids.items() if not name.startswith(f"{gone[0]}-")
    }


def test_what_happened_while_there_was_no_launcher(backend: Backend) -> None:
    kept, died, gone = (backend.disk(backend.image(name)) for name in ("kept", "died", "gone"))
    assert backend.becomes("served", kept, died, gone)
    backend.systemctl("stop", SERVICE)
    assert backend.word() == "dead"
    assert (
        backend.host.read(f"{backend.domain.path}/drivers/virtio-disk/reason") == b"the launcher was stopped"
    )
    pids = backend.pids()
    backend.kill(pids[f"{died[0]}-{A}"])
    backend.destroy(gone[0])
    left = f"{gone[0]}-{A}.env"
    assert until(lambda: [name for name in backend.files() if name.startswith(f"{gone[0]}-")] == [left])
    new = backend.disk(backend.image("new"))
    backend.start_launcher()
    assert backend.becomes("served", kept, new)
    assert backend.becomes("lost", died)
    assert left not in backend.files()
    assert backend.pids()[f"{kept[0]}-{A}"] == pids[f"{kept[0]}-{A}"]


@pytest.mark.parametrize(("fault", "told", "starts"), [(None, "lost", 1), ("deaf all", "failed", 2)])
def test_what_was_given_up_stays_so_over_the_launchers_own_end(
    backend: Backend, fault: str | None, told: str, starts: int
) -> None:
    """Though somebody writes the state back: a fresh daemon for a guest that lives serves nobody."""
    if fault:
        backend.misbehave(fault)
    key = backend.disk(backend.image("a"))
    if not fault:
        assert backend.becomes("served", key)
        backend.kill(backend.pids()[f"{key[0]}-{A}"])
    assert backend.becomes(told, key)
    backend.misbehave()
    backend.systemctl("restart", SERVICE)
    assert until(lambda: backend.word() == "ready")
    backend.host.write(f"{backend.backend(*key)}/state", "1")
    backend.kill(backend.launcher_pid())
    other = backend.disk(backend.image("b"))
    assert backend.becomes("served", other)
    assert backend.is_(told, key)
    assert backend.starts().count(f"{key[0]}-{A}") == starts
    backend.destroy(key[0], wait=False)
    assert until(lambda: backend.said(key) is None)


def test_there_is_one_launcher(backend: Backend) -> None:
    done = backend.machine.run(["python3", "/usr/local/lib/xen-virtio/launcher.pyz"], check=False)
    assert done.returncode == 75
    assert "another launcher runs already" in done.stderr


# ---- no daemon can be ----


def test_a_program_that_is_missing_is_told_and_waited_for(backend: Backend) -> None:
    backend.machine.run(["mv", "/usr/local/lib/virtio-disk/1.0", "/usr/local/lib/virtio-disk/away"])
    key = backend.disk(backend.image("a"))
    assert backend.becomes("waiting", key)
    assert until(lambda: backend.word() == "dead")
    backend.machine.run(["mv", "/usr/local/lib/virtio-disk/away", "/usr/local/lib/virtio-disk/1.0"])
    assert backend.becomes("served", key)
    assert until(lambda: backend.word() == "ready")


def of_somebody_else(backend: Backend, unit: str) -> None:
    """A daemon in a unit of its own; told to end in the middle of a request, it hangs until it is killed."""
    program = "/usr/local/lib/virtio-disk/current/virtio-disk"
    backend.machine.run(["systemd-run", f"--unit={unit}", "--property=TimeoutStopSec=2", program, "-d", "1"])


def test_nothing_is_started_beside_a_daemon_of_somebody_else(backend: Backend) -> None:
    of_somebody_else(backend, "plain")
    key = backend.disk(backend.image("a"))
    assert backend.becomes("waiting", key)
    assert until(lambda: backend.word() == "dead")
    reason = backend.host.read(f"{backend.domain.path}/drivers/virtio-disk/reason") or b""
    assert b"plain.service" in reason
    assert backend.starts() == []
    backend.systemctl("stop", "plain")
    assert backend.becomes("served", key)
    assert until(lambda: backend.word() == "ready")


def test_a_daemon_of_somebody_else_that_comes_later_is_told_too(backend: Backend) -> None:
    backend.install(size_interval=0.5)
    backend.systemctl("restart", SERVICE)
    key = backend.disk(backend.image("a"))
    assert backend.becomes("served", key)
    of_somebody_else(backend, "late")
    assert until(lambda: backend.word() == "dead")
    reason = backend.host.read(f"{backend.domain.path}/drivers/virtio-disk/reason") or b""
    assert b"late.service" in reason
    backend.systemctl("stop", "late")
    assert until(lambda: backend.word() == "ready")
    assert backend.is_("served", key)


def test_a_run_directory_that_takes_nothing_is_told_and_no_disk_fails(backend: Backend) -> None:
    pid = backend.launcher_pid()
    mount = ["nsenter", "--mount", f"--target={pid}", "mount"]
    backend.machine.run([*mount, "-o", "bind", RUN, RUN])
    backend.machine.run([*mount, "-o", "remount,bind,ro", RUN])
    key = backend.disk(backend.image("a"))
    assert backend.becomes("waiting", key)
    assert until(lambda: "no unit can be started" in (backend.said(key) or ""))
    assert until(lambda: backend.word() == "dead")
    time.sleep(3)  # far more tries than a disk has
    backend.machine.run([*mount, "-o", "remount,bind,rw", RUN])
    assert backend.becomes("served", key)
    assert backend.word() == "ready"


# ---- the store ----


def test_a_store_that_stops_answering_changes_nothing(backend: Backend) -> None:
    key = backend.disk(backend.image("a"))
    assert backend.becomes("served", key)
    pids = backend.pids()
    backend.host.xenstored.stop()
    time.sleep(7)  # longer than anybody waits for an answer
    backend.host.xenstored.cont()
    new = backend.disk(backend.image("b"))
    assert backend.becomes("served", key, new)
    assert backend.pids()[f"{key[0]}-{A}"] == pids[f"{key[0]}-{A}"]


def test_a_live_update_of_the_store_is_not_noticed(backend_any: Backend) -> None:
    backend = backend_any
    stays, goes = (backend.disk(backend.image(name)) for name in ("stays", "goes"))
    assert backend.becomes("served", stays, goes)
    pids, launcher = backend.pids(), backend.launcher_pid()
    lines = backend.machine.journal()
    backend.host.xenstored.live_update()
    assert [backend.state(*key) for key in (stays, goes)] == [2, 2]
    new = backend.disk(backend.image("new"))
    assert backend.becomes("served", stays, goes, new)
    assert "store" not in backend.machine.journal().removeprefix(lines)  # nobody was told of anything
    backend.destroy(goes[0])  # by the view's own connection
    assert until(lambda: backend.said(goes) is None)
    assert until(lambda: f"{goes[0]}-{goes[1]}" not in backend.units())
    assert backend.pids().items() >= {f"{stays[0]}-{A}": pids[f"{stays[0]}-{A}"]}.items()
    backend.kill(launcher)  # and one that has to find its way again
    backend.host.xenstored.live_update()
    assert until(lambda: backend.launcher_pid() not in {0, launcher})
    assert until(lambda: backend.word() == "ready")
    assert backend.becomes("served", stays, new)
    assert backend.pids()[f"{stays[0]}-{A}"] == pids[f"{stays[0]}-{A}"]
    backend.destroy(stays[0])
    assert until(lambda: list(backend.units()) == [f"{new[0]}-{A}"])
    assert backend.clashes() == []


# what is used up: nodes, and watches but for so many
QUOTAS = [(True, None), (False, 0), (False, 1)]
USED_UP = pytest.mark.parametrize(("nodes", "watches"), QUOTAS, ids=["nodes", "watches", "watches-but-one"])


@USED_UP
def test_disks_come_and_go_while_a_quota_is_used_up(
    backend_any: Backend, nodes: bool, watches: int | None
) -> None:
    backend = backend_any
    stays = backend.disk(backend.image("stays"))
    assert backend.becomes("served", stays)
    pid = backend.pids()[f"{stays[0]}-{A}"]
    with backend.full(nodes=nodes, watches=watches):
        goes = backend.disk(backend.image("goes"))
        assert until(lambda: backend.state(*goes) == 2)
        if nodes:
            assert until(lambda: "does not take all that there is to say" in backend.machine.journal(SERVICE))
        else:
            assert backend.becomes("served", goes)
            unit = f"virtio-disk@{goes[0]}-{A}"
            assert "has no room for a watch" in backend.systemctl("show", "--property=StatusText", unit)
        backend.destroy(goes[0])
        assert until(lambda: list(backend.units()) == [f"{stays[0]}-{A}"])
        late = backend.disk("/srv/goes.img")
        assert until(lambda: backend.state(*late) == 2)
    new = backend.disk(backend.image("new"))
    assert backend.becomes("served", stays, late, new)
    assert backend.pids()[f"{stays[0]}-{A}"] == pid
    backend.destroy(late[0])
    assert until(lambda: backend.said(late) is None)
    assert backend.clashes() == []


@USED_UP
def test_a_launcher_that_starts_while_a_quota_is_used_up(
    backend_any: Backend, nodes: bool, watches: int | None
) -> None:
    backend = backend_any
    stays = backend.disk(backend.image("stays"))
    assert backend.becomes("served", stays)
    pids = backend.pids()
    backend.systemctl("stop", SERVICE)
    with backend.full(nodes=nodes, watches=watches):
        late = backend.disk(backend.image("late"))
        backend.systemctl("start", SERVICE)
        if nodes:
            assert until(lambda: backend.word() == "ready" and backend.state(*late) == 2)
        else:
            reason = f"{backend.domain.path}/drivers/virtio-disk/reason"
            assert until(lambda: b"a quota of xenstored is used up" in (backend.host.read(reason) or b""))
            assert backend.word() == "dead"
            assert backend.pids() == pids
        assert backend.state(*stays) == 2
    new = backend.disk(backend.image("new"))
    assert backend.becomes("served", stays, late, new)
    assert backend.word() == "ready"
    assert backend.pids().items() >= pids.items()
    assert backend.clashes() == []


def watches(backend: Backend) -> int:
    """That the driver domain has, its launcher's and its daemons', as C xenstored counts them."""
    with Store(backend.host.socket) as store:
        (answer,) = store.call([Request(OPS["CONTROL"], b"quota\0%d\0" % backend.domid, "quota")])
    assert isinstance(answer, bytes)
    found = re.search(rb"watches\s*:?\s*(\d+)", answer)
    assert found, answer
    return int(found[1])


@pytest.mark.parametrize("disks", [0, 1, 4])
def test_two_watches_of_the_launchers_whatever_the_number_of_disks(backend: Backend, disks: int) -> None:
    keys = [backend.disk(backend.image(f"{number}")) for number in range(disks)]
    assert backend.becomes("served", *keys)
    before = watches(backend)
    backend.systemctl("stop", SERVICE)
    assert until(lambda: watches(backend) == before - 2), (watches(backend), before)


def test_asleep_while_nothing_happens_and_small(backend: Backend) -> None:
    keys = [backend.disk(backend.image(f"{number}")) for number in range(3)]
    assert backend.becomes("served", *keys)
    pid = backend.launcher_pid()
    assert until(lambda: switches(backend, pid) == switches(backend, pid))  # it has told all that there was
    before = switches(backend, pid)
    time.sleep(2)
    assert switches(backend, pid) == before  # asleep
    assert resident(backend, pid) < 40 * 1024


def switches(backend: Backend, pid: int) -> str:
    lines = backend.machine.read(f"/proc/{pid}/status").splitlines()
    return next(line for line in lines if line.startswith("voluntary_ctxt_switches"))


def resident(backend: Backend, pid: int) -> int:
    """In KiB."""
    lines = backend.machine.read(f"/proc/{pid}/status").splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


# ---- without a view ----


def test_without_a_view_there_are_never_two_with_one_number(backend: Backend) -> None:
    backend.install(view=False)
    first = backend.disk(backend.image("a"))
    assert backend.becomes("served", first)
    second = backend.disk(backend.image("b"))
    assert backend.becomes("waiting", second)
    assert until(lambda: "there is no view to keep them apart" in (backend.said(second) or ""))
    assert backend.is_("served", first)
    backend.destroy(first[0])
    assert backend.becomes("served", second)


def test_without_a_view_a_guest_that_comes_just_then_keeps_the_daemon_it_got(backend: Backend) -> None:
    """The daemon was started for the first guest, and takes the highest domid that it sees."""
    within = 10.0
    backend.install(view=False, served_within=within)
    backend.misbehave("deaf all")  # it looks at no guest before the second is there
    lower, higher = backend.guest(), backend.guest()
    first = backend.disk(backend.image("a"), guest=lower)
    assert until(lambda: f"{lower}-{A}" in backend.units())
    second = backend.disk(backend.image("b"), guest=higher)
    backend.misbehave()
    assert until(lambda: backend.state(*second) == 2)
    assert backend.becomes("served", second)
    time.sleep(within + 1)  # longer than a daemon has to take a disk up
    assert backend.is_("served", second)
    assert backend.is_("waiting", first)
    assert backend.state(*second) == 2
    assert backend.starts() == [f"{lower}-{A}"]
    backend.destroy(higher)
    assert backend.becomes("served", first)
    assert backend.clashes() == []


# ---- a store that is a device ----


def test_the_device_that_a_real_driver_domain_has(backend: Backend) -> None:
    """One message a write, and never ready to be written to."""
    settings = "".join(f"Environment={name}={value}\n" for name, value in backend.domain.device.items())
    drop_in = f"/run/systemd/system/{SERVICE}.d"
    backend.machine.write(f"{drop_in}/device.conf", f"[Service]\n{settings}")
    backend.systemctl("daemon-reload")
    backend.systemctl("restart", SERVICE)
    assert until(lambda: backend.word() == "ready")
    keys = [backend.disk(backend.image(name)) for name in ("a", "b", "c")]
    assert backend.becomes("served", *keys)
    backend.destroy(keys[0][0])
    assert until(lambda: backend.said(keys[0]) is None)
    assert backend.is_("served", *keys[1:])
    backend.machine.run(["rm", "-r", drop_in])
    backend.systemctl("daemon-reload")


# ---- dom0 itself as the backend ----


def test_dom0_serves_the_guests_of_its_xl(dom0: Dom0, program: Path, tmp_path: Path) -> None:
    host, machine = dom0.host, dom0.machine
    host.backend_behaves("never")  # only xenconsoled is played
    host.answer_backends()
    backend = Backend(dom0, program, tmp_path / "root")
    backend.install()
    backend.start_launcher()
    configs = {
        name: write_config(host, name, [virtio_disk("xvda", backend.image(name), backend=None)])
        for name in ("one", "two")
    }
    for config in configs.values():
        machine.ssh(["xl", "create", config])
    one, two = (domid_of(host, name) or 0 for name in configs)
    assert backend.becomes("served", (one, A), (two, A))
    pids = backend.pids()
    assert set(pids) == {f"{one}-{A}", f"{two}-{A}"}
    host.xenstored.live_update()  # which hands over the sockets of dom0, too
    machine.ssh(["xl", "destroy", "one"])
    assert until(lambda: list(backend.units()) == [f"{two}-{A}"])
    assert until(lambda: backend.said((one, A)) is None)
    assert backend.directory(one) is None
    assert (backend.state(two, A), backend.pids()[f"{two}-{A}"]) == (2, pids[f"{two}-{A}"])
    machine.ssh(["xl", "create", configs["one"]])
    again = (domid_of(host, "one") or 0, A)
    assert again[0] > two
    assert backend.becomes("served", again, (two, A))
    assert backend.clashes() == []
    for name in configs:
        machine.ssh(["xl", "destroy", name])
    assert until(lambda: not backend.units())


# ---- for people and programs ----


def test_a_target_of_any_name_is_told_as_it_is(backend: Backend) -> None:
    """Through an environment file that systemd reads and the view passes on."""
    target = """/srv/a "b" $c `d` \\e 'f' %i #;é.img"""
    backend.machine.run(["truncate", "-s", "65536", target])
    key = backend.disk(target)
    assert backend.becomes("served", key)
    record = backend.record(key)
    assert record is not None
    assert record["target"] == target


#: What systemd leaves out of @system-service and puts into no group, on the processors that Xen runs on. None gives
#: anything to a root without rights: a process confines itself or waits with some, and asks with the others.
HARMLESS = re.compile(
    "futex_(requeue|wait|wake)|landlock_.*|seccomp|lsm_set_self_attr|map_shadow_stack|memfd_secret|mincore|cachestat"
    "|process_mrelease"
)
#: Calls of other processors (alpha, arc, mips, or1k, powerpc, s390, sparc), and of libraries.
ELSEWHERE = re.compile(
    "arc_.*|osf_.*|s390_.*|spu_.*|sys_debug_.*|or1k_.*|usr26|usr32|breakpoint|get_tls|atomic_.*|cachectl|dipc|exec_with_loader|execv"
    "|get(domainname|dtablesize|hostname|pagesize|xgid|xpid|xuid)|kern_features|memory_ordering|multiplexer"
    "|old_?(adjtimex|umount)|perfctr|sched_[gs]et_affinity|sethae|setpgrp|syscall|sysmips|timerfd|utrap_install"
)


def test_daemons_are_refused_the_calls_that_services_have_no_business_with(backend: Backend) -> None:
    key = backend.disk(backend.image("a"))
    assert backend.becomes("served", key)
    unit = f"virtio-disk@{key[0]}-{key[1]}"
    shown = backend.systemctl("show", "--property=SystemCallFilter", "--value", unit)
    assert shown.startswith("~")
    refused = set(shown[1:].split())
    groups: dict[str, set[str]] = {}
    for line in backend.machine.run(["systemd-analyze", "syscall-filter"]).stdout.splitlines():
        if line.startswith("@"):
            members = groups.setdefault(line.strip(), set())
        elif line.startswith("    ") and not line.strip().startswith("#"):
            members.add(line.strip())

    def calls(group: str) -> set[str]:
        inner = [name for name in groups[group] if name.startswith("@")]
        return groups[group].union(*map(calls, inner)).difference(inner)

    open_to_all = calls("@known") - calls("@system-service") - refused
    assert [
        call for call in open_to_all if not ELSEWHERE.fullmatch(call) and not HARMLESS.fullmatch(call)
    ] == []
    assert {"ptrace", "bpf", "mount", "kexec_load", "perf_event_open", "setuid", "syslog"} <= refused


def test_status_for_people_and_programs(backend: Backend) -> None:
    key = backend.disk(backend.image("a"))
    waits = backend.disk("/srv/none.img")
    assert backend.becomes("served", key)
    assert backend.becomes("waiting", waits)
    command = "/usr/local/sbin/virtio-disk-launcher"
    told = json.loads(backend.machine.run([command, "--status", "--json"]).stdout)
    assert (told["status"], told["launcher"], told["domid"]) == ("ready", VERSION, backend.domid)
    assert [(disk["domid"], disk["status"], disk["state"]) for disk in told["disks"]] == [
        (key[0], "served", "2"),
        (waits[0], "waiting", "1"),
    ]
    assert told["disks"][0]["pid"] == backend.pids()[f"{key[0]}-{A}"]
    text = backend.machine.run([command, "--status"]).stdout
    assert text.splitlines()[0] == f"launcher {VERSION}: ready"
    assert text.splitlines()[2].split()[:4] == [str(key[0]), str(A), "served", "2"]
    backend.systemctl("stop", SERVICE)
    assert backend.machine.run([command, "--status"]).stdout.startswith(
        f"launcher {VERSION}: dead: the launcher was"
    )
    assert backend.machine.run([command, "--what"], check=False).returncode == 2


# ---- last, since this host is another one then ----


def test_a_store_that_came_back_empty_ends_no_daemon(backend: Backend) -> None:
    key = backend.disk(backend.image("a"))
    assert backend.becomes("served", key)
    pids = backend.pids()
    backend.host.xenstored.restart()
    with backend.host.store() as client:  # what a toolstack writes of a driver domain
        domains.write_toolstack(client, backend.domid, uuid.uuid4(), backend.domain.name)
    backend.domain.attach()
    assert until(lambda: backend.word() == "ready")
    assert backend.becomes("served", key)
    assert "the store came back without it" in (backend.said(key) or "")
    assert backend.pids() == pids
    new = backend.disk(backend.image("b"))
    assert backend.becomes("served", new)
    backend.systemctl("restart", SERVICE)
    assert until(lambda: backend.word() == "ready")
    assert backend.becomes("served", key, new)
    assert backend.pids()[f"{key[0]}-{A}"] == pids[f"{key[0]}-{A}"]
