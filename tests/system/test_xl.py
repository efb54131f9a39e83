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
from ansible_collections.xen.virtio.plugins.module_utils._xl import Xl, XlError, host_release
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
    path.write_text("\n".join(lines) + "\n")
    return str(path)


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


def test_a_create_that_takes_too_long_says_what_it_waited_for(board: LabHost, xl: Xl, tmp_path: Path) -> None:
    board.answer_backends(False)
    disk = "backend=DomD,vdev=xvda,backendtype=standalone,specification=virtio,target=/dev/sda"
    with pytest.raises(XlError, match=r"no end within 2 s") as caught:
        xl.create(config(tmp_path, "guest", f"disk = ['{disk}']"), timeout=2)
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
