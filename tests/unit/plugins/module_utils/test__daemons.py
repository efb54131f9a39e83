# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Daemons among processes: a made-up /proc, and one real process."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.xen.virtio.plugins.module_utils import _daemons
from ansible_collections.xen.virtio.plugins.module_utils._daemons import (
    devid_option,
    find,
    foreign,
    is_daemon,
    unit_of,
)
from ansible_collections.xen.virtio.plugins.module_utils._served import Daemon, ServedDisk, services


@pytest.mark.parametrize(
    ("arguments", "devid"),
    [
        ([], None),
        (["-l"], None),
        (["-d", "51712"], 51712),
        (["-d51712"], 51712),
        (["--devid=51712"], 51712),
        (["--devid", "51712"], None),  # its value is optional, so this is none
        (["-d", "51712", "-d", "51728"], 51728),
        (["-l", "-d", "51712"], 51712),
        (["--", "-d", "51712"], None),
        (["-d"], None),
        (["-d", "xvda"], None),
        (["-d", "9" * 30], None),
    ],
)
def test_the_disk_that_a_command_line_names(arguments: list[str], devid: int | None) -> None:
    assert devid_option(arguments) == devid


@pytest.mark.parametrize(
    ("cgroups", "unit"),
    [
        ("0::/system.slice/virtio-disk.service\n", "virtio-disk.service"),
        ("0::/virtio.slice/virtio-disk.slice/virtio-disk@3-51712.service", "virtio-disk@3-51712.service"),
        ("0::/board/system.slice/virtio-disk@3-51712.service/own", "virtio-disk@3-51712.service"),
        ("12:pids:/a.service\n1:name=systemd:/user.slice/session-1.scope\n0::/", "session-1.scope"),
        ("3:cpu,cpuacct:/system.slice/other.service\n", None),
        ("0::/\n", None),
        ("", None),
        ("nonsense\n", None),
    ],
)
def test_the_unit_of_a_process(cgroups: str, unit: str | None) -> None:
    assert unit_of(cgroups) == unit


@pytest.mark.parametrize(
    ("exe", "arguments", "is_one"),
    [
        ("/usr/bin/virtio-disk", ["virtio-disk"], True),
        ("/usr/bin/virtio-disk (deleted)", ["/usr/bin/virtio-disk", "-d", "51712"], True),
        (None, ["/usr/bin/virtio-disk"], True),
        ("/usr/bin/dash", ["/bin/sh", "/usr/bin/virtio-disk"], True),
        ("/usr/bin/python3.11", ["python3.11", "/usr/bin/virtio-disk", "-l"], True),
        ("/opt/own-daemon", ["own-daemon"], True),
        ("/usr/bin/tail", ["tail", "virtio-disk"], False),
        ("/usr/bin/python3", ["python3", "-I", "-S", "/usr/local/lib/xen-virtio/virtio-disk-view"], False),
        ("/usr/bin/python3", ["/usr/local/lib/xen-virtio/virtio-disk-view"], False),
        ("/usr/bin/vim", ["vim", "virtio-disk/main.c"], False),
        (None, [], False),
    ],
)
def test_what_is_a_daemon(exe: str | None, arguments: list[str], is_one: bool) -> None:
    assert is_daemon(exe, arguments, {"virtio-disk", "own-daemon"}) is is_one


# --- who serves what ---------------------------------------------------------------------------------------

A, B = ("block", 1, 0), ("file", 1, 7)
DAEMON = Daemon(pid=10, started=1, command="virtio-disk")
SERVING = replace(DAEMON, storage=frozenset({A}), devices=True)
DISK = ServedDisk(3, 51712, "2", A, "linux1", "/dev/a")
OTHER = ServedDisk(4, 51728, "2", B, "linux2", "/b")


@pytest.mark.parametrize(
    ("daemons", "disks", "served", "idle"),
    [
        ([DAEMON], [], [[]], [True]),
        ([SERVING], [DISK, OTHER], [[DISK]], [False]),
        # of a disk in use that nobody is seen to hold, a daemon that has not opened anything yet may be about to
        ([DAEMON], [DISK], [[DISK]], [False]),
        ([replace(DAEMON, devid=51728)], [DISK], [[]], [True]),
        ([replace(DAEMON, devid=51712)], [DISK], [[DISK]], [False]),
        # two: the one that holds it has it, the other is idle
        ([SERVING, replace(DAEMON, pid=11)], [DISK], [[DISK], []], [False, True]),
        # a disk that is not taken up yet, or closed, is nobody's
        ([DAEMON], [replace(DISK, state="1"), replace(OTHER, state="6")], [[], []][:1], [True]),
        # what cannot be looked at, or has a device of Xen's open, is not idle, whatever the store says
        ([replace(DAEMON, storage=None, devices=None)], [], [[]], [False]),
        ([replace(DAEMON, devices=True)], [], [[]], [False]),
        # libxl's Closing is not the daemon's
        ([SERVING], [replace(DISK, state="5")], [[replace(DISK, state="5")]], [False]),
        # one of the launcher's serves what its unit says, and nothing of that is another's
        ([replace(SERVING, ours=(3, 51712)), replace(DAEMON, pid=11)], [DISK], [[DISK], []], [False, True]),
    ],
)  # fmt: skip
def test_who_serves_what(
    daemons: list[Daemon], disks: list[ServedDisk], served: list[list[ServedDisk]], idle: list[bool]
) -> None:
    found = services(daemons, disks)
    assert [list(one.disks) for one in found] == served
    assert [one.idle for one in found] == idle


@pytest.mark.parametrize(
    ("what", "label"),
    [
        (DISK.label, "disk 51712 of guest linux1 (domain 3)"),
        (replace(DISK, domain=None).label, "disk 51712 of guest 3"),
        (DAEMON.label, "process 10 (virtio-disk)"),
        (replace(DAEMON, unit="virtio-disk.service").label, "process 10 of virtio-disk.service"),
    ],
)
def test_labels(what: str, label: str) -> None:
    assert what == label


# --- processes ---------------------------------------------------------------------------------------------


def process(proc: Path, pid: int, *arguments: str, exe: str, cgroup: str = "0::/\n", uid: int = 0,
            state: str = "S", files: tuple[str, ...] = ()) -> None:  # fmt: skip
    folder = proc / str(pid)
    (folder / "fd").mkdir(parents=True)
    (folder / "exe").symlink_to(exe)
    (folder / "cmdline").write_bytes(b"".join(argument.encode() + b"\0" for argument in arguments))
    (folder / "cgroup").write_text(cgroup)
    (folder / "status").write_text(f"Name:\tx\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n")
    (folder / "stat").write_text(
        f"{pid} (a b) c) {state} " + " ".join(str(number) for number in range(4, 53))
    )
    for number, target in enumerate(files):
        (folder / "fd" / str(number)).symlink_to(target)


def test_daemons_are_found(tmp_path: Path) -> None:
    proc, image = tmp_path / "proc", tmp_path / "image"
    image.write_bytes(b"")
    proc.mkdir()
    (proc / "self").mkdir()
    unit = "0::/system.slice/virtio-disk@3-51712.service\n"
    daemon = "/usr/bin/virtio-disk"
    process(proc, 7, daemon, "-d", "51728", exe=daemon, files=(str(image), "/dev/xen/privcmd", "/gone"))
    process(proc, 8, daemon, "-d", "51712", exe=daemon, cgroup=unit)
    process(proc, 9, daemon, exe=daemon, uid=1000)
    process(proc, 10, daemon, exe=daemon, state="Z")
    process(proc, 11, "sshd", exe="/usr/sbin/sshd")
    (proc / "12").mkdir()  # it ended while we looked
    found = find(proc=str(proc))
    assert [(one.pid, one.devid, one.ours, one.started) for one in found] == [
        (7, 51728, None, 22),
        (8, 51712, (3, 51712), 22),
    ]
    told = image.stat()
    assert found[0].storage == frozenset({("file", told.st_dev, told.st_ino)})
    assert (found[0].devices, found[1].devices) == (True, False)
    assert found[0].command == "/usr/bin/virtio-disk -d 51728"
    assert [one.pid for one in foreign(proc=str(proc))] == [7]


def test_no_proc_no_daemons(tmp_path: Path) -> None:
    assert find(proc=str(tmp_path / "none")) == []


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process called as a daemon of another name, so that nothing else on the machine is like it."""
    program = tmp_path / f"own-{os.getpid()}"
    shutil.copy("/bin/sleep", program)
    process = subprocess.Popen([program, "600"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture(params=["5.3", "5.2"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel, and one that has no descriptors of processes yet."""

    def refuse(_pid: int) -> int:
        raise OSError(errno.ENOSYS, "Function not implemented")

    if request.param == "5.2":
        monkeypatch.setattr(os, "pidfd_open", refuse)


def only(sleeper: subprocess.Popen[bytes]) -> Daemon:
    assert isinstance(sleeper.args, list)
    found = find([Path(str(sleeper.args[0])).name], owner=os.geteuid())
    (daemon,) = (one for one in found if one.pid == sleeper.pid)  # the machine may have real ones too
    return daemon


@pytest.mark.usefixtures("kernel")
def test_a_real_one_is_found_and_ended(sleeper: subprocess.Popen[bytes]) -> None:
    daemon = only(sleeper)
    assert daemon.pid == sleeper.pid
    assert daemon.devices is False
    assert _daemons.end(daemon) is None
    assert sleeper.wait() == -15
    assert _daemons.end(daemon) is None  # it is gone already


@pytest.mark.usefixtures("kernel")
def test_one_that_hangs_is_killed(tmp_path: Path) -> None:
    program = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        state, started = _daemons._stat(f"/proc/{process.pid}")
        assert state != "Z"
        assert _daemons.end(Daemon(process.pid, started, "x"), timeout=0.2) is None
        assert process.wait() == -9


@pytest.mark.usefixtures("kernel")
def test_a_number_that_is_another_process_by_now_is_left_alone(sleeper: subprocess.Popen[bytes]) -> None:
    daemon = only(sleeper)
    assert _daemons.end(replace(daemon, started=daemon.started + 1)) is None
    assert sleeper.poll() is None
