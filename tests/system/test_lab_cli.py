# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's command line, on the system's own Python."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab import LabUnavailable, build, roots, wire

CHECKOUT = Path(__file__).resolve().parents[2]
PYTHON = "/usr/bin/python3"
Lab = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "XEN_LAB_HOSTS": str(tmp_path / "hosts"), "PYTHONPATH": ""}


@pytest.fixture
def lab_command(environment: dict[str, str]) -> Iterator[Lab]:
    """``python3 tests/lab …``; hosts that a test leaves behind are ended."""
    if not os.access(PYTHON, os.X_OK):
        pytest.skip(f"no {PYTHON} here")
    try:
        build.shims(roots.locate("4.17"))
    except LabUnavailable as reason:
        pytest.skip(f"{reason}")

    def run(*args: str, fails: bool = False) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [PYTHON, "tests/lab", *args],
            env=environment,
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert bool(done.returncode) == fails, done.stderr
        return done

    yield run
    run("down", "--all")


def test_a_host_from_up_to_down(lab_command: Lab) -> None:
    paths = dict(
        line.split(": ") for line in lab_command("up", "board", "--answer-backends").stdout.splitlines()
    )
    assert lab_command("domain", "board", "add", "--kind", "toolstack", "--name", "DomD").stdout == "1\n"
    assert lab_command("domain", "board", "add", "--paused").stdout == "2\n"
    assert lab_command("list").stdout.split() == ["board", "up", "Xen", "4.17,", "xenstored,", "2", "domains"]
    listed = [line.split()[2:] for line in lab_command("domain", "board", "list").stdout.splitlines()]
    assert listed == [["running", "DomD"], ["paused", "dom0less-2"]]
    assert "dom0less-2" in lab_command("xl", "board", "list").stdout
    assert lab_command("exec", "board", "--", "xenstore-read", "/local/domain/1/name").stdout == "DomD\n"
    with wire.Client(paths["socket"]) as client:
        assert client.read("/local/domain/2/name") == b"dom0less-2"
    view = lab_command("view", "board", "2").stdout.splitlines()[0].removeprefix("socket: ")
    with wire.Client(view) as client:
        assert client.read("name") == b"dom0less-2"
    for act in ("unpause", "pause", "shutdown", "reboot", "kill"):
        lab_command("domain", "board", act, "2")
    lab_command("reboot", "board")
    assert [line.split()[0] for line in lab_command("domain", "board", "list").stdout.splitlines()] == ["2"]
    lab_command("backends", "board", "off")
    lab_command("down", "board")
    assert lab_command("list").stdout == ""
    assert not Path(paths["files"]).exists()


def test_guests(lab_command: Lab, tmp_path: Path) -> None:
    lab_command("up", "board", "--answer-backends")
    lab_command(
        "domain",
        "board",
        "add",
        "--kind",
        "toolstack",
        "--name",
        "DomD",
        "--at-boot",
        "--ready",
        "virtio-disk",
    )
    lab_command("guests", "board", "answer", "--after", "0")
    config = tmp_path / "guest.cfg"
    disk = "backend=DomD,backendtype=standalone,specification=virtio,vdev=xvda,target=/dev/sda"
    config.write_text(f"name='guest'\ntype='pvh'\nkernel='/etc/hostname'\nmemory=64\ndisk=['{disk}']\n")
    lab_command("memory", "board", "32")
    assert "cannot (re-)build domain" in lab_command("xl", "board", "create", str(config), fails=True).stderr
    lab_command("memory", "board", "512")
    lab_command("xl", "board", "create", str(config))
    lab_command("guests", "board", "hang", "--guest", "guest")
    lab_command("behave", "board", "refuse", "--guest", "3", "--devid", "51712")
    lab_command("xl", "board", "shutdown", "guest")
    assert "guest" in lab_command("xl", "board", "list").stdout
    lab_command("domain", "board", "crash", "3")
    lab_command("reboot", "board")
    status = lab_command("exec", "board", "--", "xenstore-read", "/local/domain/1/drivers/virtio-disk/status")
    assert status.stdout == "ready\n"
    lab_command("guests", "board", "off")
    lab_command("down", "board")


def test_faults(lab_command: Lab, environment: dict[str, str]) -> None:
    lab_command("up", "board", "--daemon", "oxenstored")
    for fault in ("stop", "cont", "kill"):
        lab_command("fault", "board", fault)
    assert "xenstored does not answer" in lab_command("domain", "board", "add", fails=True).stderr
    lab_command("fault", "board", "restart")
    command = [PYTHON, "tests/lab", "fault", "board", "mute", "--after", "1"]
    with subprocess.Popen(command, env=environment, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) as proxy:
        assert proxy.stdout is not None
        socket = proxy.stdout.readline().removeprefix("socket: ").strip()
        with wire.Client(socket, timeout=0.3) as client:
            assert client.read("/local/domain/0/domid") == b"0"
            with pytest.raises(TimeoutError):
                client.read("/local/domain/0/domid")
        proxy.send_signal(signal.SIGINT)
        assert proxy.wait(30) == 0
    assert not Path(socket).exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["exec", "nobody", "--", "true"], "no lab host 'nobody' (there is: none)"),
        (["up", "../escape"], "'../escape' is no name for a lab host"),
        (["down"], "down: which one?"),
        (["up", "board", "--release", "4.2"], "invalid choice: '4.2'"),
        (["domain", "board"], "the following arguments are required: ACT"),
    ],
)
def test_mistakes(lab_command: Lab, args: list[str], message: str) -> None:
    done = lab_command(*args, fails=True)
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_mistakes_with_a_host(lab_command: Lab) -> None:
    lab_command("up", "board")
    assert "there is a lab host 'board' already" in lab_command("up", "board", fails=True).stderr
    assert "no domain 9 here; there are []" in lab_command("domain", "board", "kill", "9", fails=True).stderr
    assert "which command?" in lab_command("exec", "board", fails=True).stderr


def test_help(lab_command: Lab) -> None:
    assert "up board --answer-backends" in lab_command("--help").stdout
    for command in ("up", "down", "domain", "fault", "view", "exec", "guests", "behave", "memory"):
        assert "usage: python3 tests/lab " + command in lab_command(command, "--help").stdout
