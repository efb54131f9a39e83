# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The product's own xl client against the real xl of both releases."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._xl import RunState, Xl, XlError, host_release
from guests import until
from lab import LabHost

RELEASES = ["4.17", pytest.param("4.20", marks=pytest.mark.trixie)]
BOUND = 30.0


@pytest.fixture(params=RELEASES)
def board(request: pytest.FixtureRequest, lab_factory) -> LabHost:  # type: ignore[no-untyped-def]
    host: LabHost = lab_factory(release=request.param)
    host.answer_backends()
    assert host.add_domain(name="DomD", kind="toolstack") == 1
    return host


@pytest.fixture
def xl(board: LabHost, tmp_path: Path) -> Xl:
    """The product's client, outside of the host, with an xl that enters it."""
    path = tmp_path / "xl"
    path.write_text(f'#!/bin/sh\nexec {board.folder}/enter xl "$@"\n')
    path.chmod(0o755)
    return Xl(str(path))


def config(folder: Path, name: str = "guest", *more: str) -> str:
    path = folder / "guest.cfg"
    lines = [f'name = "{name}"', 'type = "pvh"', 'kernel = "/etc/hostname"', "memory = 64", *more]
    path.write_text("\n".join(lines) + "\n", errors="surrogateescape")
    return str(path)


def of_guest(xl: Xl) -> RunState:
    """The last one of the list."""
    return xl.list()[-1]


def test_list_and_records(board: LabHost, xl: Xl, tmp_path: Path) -> None:
    board.add_domain(name="no record of its name")
    xl.create(config(tmp_path, "two words 7 256 1"), paused=True)
    assert [(d.domid, d.name, d.run_state) for d in xl.list()] == [
        (0, "Domain-0", "running"),
        (1, "DomD", "running"),
        (2, "no record of its name", "running"),
        (3, "two words 7 256 1", "paused"),
    ]
    records = xl.records()
    assert sorted(records) == [0, 2, 3]  # another toolstack's domain has none
    assert records[3]["c_info"]["name"] == "two words 7 256 1"
    assert records[3]["b_info"]["max_memkb"] == 65536


@pytest.mark.parametrize(
    "name", ["nächster", "b\udcffyte", "  in between  ", "a\tb", "$(reboot)", "a'b", "(x)", "'"]
)
def test_names_that_xl_takes(board: LabHost, xl: Xl, tmp_path: Path, name: str) -> None:
    xl.create(config(tmp_path, name), paused=True)
    domid = of_guest(xl).domid
    assert of_guest(xl).name == name.rstrip(" ")
    if (
        name.isprintable() or name == "a\tb"
    ):  # libxl's records are JSON: no other bytes, and it leaves them out
        assert xl.records()[domid]["c_info"]["name"] == name
    else:
        assert domid not in xl.records()
    told = board.read(f"/local/domain/{domid}/name")
    assert told == name.encode("utf-8", "surrogateescape")


def test_a_guest_that_owns_its_name_cannot_hide_others(board: LabHost, xl: Xl) -> None:
    """A dom0less domain writes its own name node, new lines and all."""
    domid = board.add_domain()
    board.add_domain(name="other")
    board.write(f"/local/domain/{domid}/name", "two\nlines 7 256 1")
    assert [(d.domid, d.name) for d in xl.list()[2:]] == [(domid, "two\nlines 7 256 1"), (domid + 1, "other")]
    line = f"{'DomD':<40} {1:5d} {256:5d} {1:5d}     r-----  {0.0:8.1f}"
    board.write(f"/local/domain/{domid}/name", f"x{line[1:]}\nevil")
    with pytest.raises(XlError, match="domain 1 is there twice"):
        xl.list()


def test_info(board: LabHost, xl: Xl) -> None:
    told = xl.info()
    assert (told["xen_major"], told["xen_minor"]) == tuple(board.release.split("."))
    assert int(told["total_memory"]) >= int(told["free_memory"]) > 0
    assert host_release(xl) == board.release


def test_check_says_what_xl_makes_of_it(xl: Xl, tmp_path: Path) -> None:
    disk = "backend=DomD,vdev=xvda,backendtype=standalone,specification=virtio,target=/dev/sda"
    made = xl.check(config(tmp_path, "g\\\\h", f"disk = ['{disk}']"))
    assert made["c_info"]["name"] == "g\\h"
    assert made["disks"][0]["pdev_path"] == "/dev/sda"
    _made, words = xl.checked(config(tmp_path, "g", 'pvh = "1"', "vcpus = 2", "cpus = []", "hap = 7"))
    assert all("Parsing config" not in word for word in words)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("vcpus = [", "syntax error"),
        ("disk = ['what=ever']", "unknown parameter"),
        ('type = "none of them"', "Invalid domain type"),
    ],
)
def test_check_refuses_with_the_parsers_words(xl: Xl, tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(XlError) as caught:
        xl.check(config(tmp_path, "g", line))
    assert words in str(caught.value), caught.value
    assert caught.value.words
    assert not caught.value.timed_out


def test_one_guests_life(board: LabHost, xl: Xl, tmp_path: Path) -> None:
    xl.create(config(tmp_path))
    (domid,) = [d.domid for d in xl.list() if d.name == "guest"]
    xl.pause(domid)
    assert xl.list()[-1].run_state == "paused"
    xl.unpause(domid)
    xl.rename(domid, "other")
    assert (xl.list()[-1].name, xl.list()[-1].run_state) == ("other", "running")
    assert xl.destroy(domid) == ""
    assert board.hypervisor.get(domid) is None
    for work in (xl.pause, xl.unpause, xl.destroy):
        with pytest.raises(XlError, match=f"{work.__name__} {domid}: failed"):
            work(domid)


def test_a_running_guest_is_asked(board: LabHost, xl: Xl, tmp_path: Path) -> None:
    board.guest_answers()
    xl.create(config(tmp_path, "guest", "maxmem = 128", "vcpus = 1", "maxvcpus = 3"))
    domid = of_guest(xl).domid
    xl.mem_set(domid, 96)
    xl.vcpu_set(domid, 2)
    assert until(lambda: (of_guest(xl).memory, of_guest(xl).vcpus) == (96, 2))
    assert until(lambda: xl.records()[domid]["b_info"]["target_memkb"] == 96 << 10)
    with pytest.raises(XlError, match="cannot set domid"):
        xl.mem_set(domid, 500)
    with pytest.raises(XlError, match="maxcpus is 3"):
        xl.vcpu_set(domid, 4)
    xl.reboot(domid)
    assert until(lambda: of_guest(xl).domid == domid + 1 and of_guest(xl).run_state == "running")
    xl.destroy(domid + 1)


@pytest.mark.parametrize("reason", ["poweroff", "crash"])
def test_a_guest_that_ended_and_was_kept(board: LabHost, xl: Xl, tmp_path: Path, reason: str) -> None:
    board.guest_answers("crash" if reason == "crash" else "answer")
    xl.create(config(tmp_path, "guest", f"on_{reason} = 'preserve'"))
    xl.shutdown(2)
    assert until(lambda: of_guest(xl).run_state == {"poweroff": "shutdown", "crash": "crashed"}[reason])
    assert of_guest(xl).reason == reason
    board.hold_domain(2)
    xl.destroy(2)
    assert (of_guest(xl).run_state, of_guest(xl).name) == ("dying", "")


def test_destroy_tells_of_a_backend_that_does_not_close(board: LabHost, xl: Xl, tmp_path: Path) -> None:
    board.backend_behaves("refuse")
    disk = "backend=DomD,vdev=xvda,backendtype=standalone,specification=virtio,target=/dev/sda"
    xl.create(config(tmp_path, "guest", f"disk = ['{disk}']"))
    words = xl.destroy(2)
    assert "unable to remove device with path /local/domain/1/backend/virtio_disk/2/51712" in words


def test_without_memory_the_words_are_libxcs(board: LabHost, xl: Xl, tmp_path: Path) -> None:
    board.set_free_memory(32)
    with pytest.raises(XlError, match="can't allocate low memory for domain") as caught:
        xl.create(config(tmp_path))
    assert not caught.value.timed_out
    assert [d.domid for d in xl.list()] == [0, 1]


def test_a_store_that_does_not_answer(board: LabHost, xl: Xl) -> None:
    board.xenstored.stop()
    xl.timeout = 1
    with pytest.raises(XlError, match="xl list: no end within 1 s") as caught:
        xl.list()
    assert caught.value.timed_out
    board.xenstored.cont()
    xl.timeout = 60
    assert len(xl.list()) == 2


def test_a_create_that_takes_too_long_says_what_it_waited_for(board: LabHost, xl: Xl, tmp_path: Path) -> None:
    board.answer_backends(False)
    disk = "backend=DomD,vdev=xvda,backendtype=standalone,specification=virtio,target=/dev/sda"
    with pytest.raises(XlError, match=r"no end within 5 s") as caught:
        xl.create(config(tmp_path, "guest", f"disk = ['{disk}']"), timeout=5)
    assert caught.value.timed_out
    (left,) = [d for d in xl.list() if d.domid == 2]
    assert (left.name, left.run_state) == ("guest", "paused")
    assert not [command for command in board.processes().values() if "create" in command]


INTERRUPTED = """\
import sys
from ansible_collections.xen.virtio.plugins.module_utils._xl import Xl
print("begun", flush=True)
Xl(sys.argv[1]).run("anything")
"""


def test_ctrl_c_ends_the_command(tmp_path: Path) -> None:
    path = tmp_path / "xl"
    path.write_text(
        f"#!/bin/sh\necho $$ > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; exec sleep 600\n"
    )
    path.chmod(0o755)
    command = ["env", "--default-signal=INT", sys.executable, "-c", INTERRUPTED, str(path)]
    collections = Path(__file__).resolve().parents[2] / ".cache/collections"  # made by the root's conftest.py
    env = {**os.environ, "PYTHONPATH": str(collections)}
    process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, start_new_session=True, text=True)
    deadline = time.monotonic() + BOUND
    while not (tmp_path / "pid").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    pid = int((tmp_path / "pid").read_text())
    process.send_signal(signal.SIGINT)
    _out, err = process.communicate(timeout=BOUND)
    assert "KeyboardInterrupt" in err
    assert not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes()
