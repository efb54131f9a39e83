# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The launcher's side of systemd, with a systemctl that does as it is told; real ones are in tests/system."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.xen.virtio.plugins.module_utils import _launchunits
from ansible_collections.xen.virtio.plugins.module_utils._launch import (
    UNIT_RUNNING,
    UNIT_STARTING,
    UNIT_STOPPING,
    Disk,
)
from ansible_collections.xen.virtio.plugins.module_utils._launchsettings import Settings
from ansible_collections.xen.virtio.plugins.module_utils._launchunits import (
    UnfitValueError,
    UnitSide,
    environment,
    parse_environment,
    parse_show,
)
from hypothesis import given
from hypothesis import strategies as st

A = (5, 51712)

printable = st.text(st.characters(exclude_categories=("C", "Z")) | st.just(" "))


@given(st.dictionaries(st.sampled_from(("TARGET", "MODE", "IDENTITY")), printable))
def test_an_environment_file_both_ways(values: dict[str, str]) -> None:
    text = environment(values)
    assert len(text.splitlines()) == len(values)
    assert parse_environment(text) == values


@pytest.mark.parametrize("value", ["a\nDAEMON=/bin/sh", "a\0", "a\r", "\x1b[0m", "\udcff", "a\u2028b"])
def test_what_an_environment_file_cannot_carry(value: str) -> None:
    with pytest.raises(UnfitValueError, match="TARGET"):
        environment({"TARGET": value})


SHOWN = [
    ("", {}),
    ("Id=virtio-disk@5-51712.service\nActiveState=active\nMainPID=7\n", {A: UNIT_RUNNING}),
    ("Id=virtio-disk@5-51712.service\nActiveState=activating\n", {A: UNIT_STARTING}),
    ("Id=virtio-disk@5-51712.service\nActiveState=deactivating\n", {A: UNIT_STOPPING}),
    ("Id=virtio-disk@5-51712.service\nActiveState=inactive\nJob=12\n", {A: UNIT_STARTING}),
    ("Id=virtio-disk@5-51712.service\nActiveState=failed\n", {A: None}),
    ("Id=virtio-disk@other.service\nActiveState=active\n\nId=x.service\nActiveState=active\n", {}),
    (
        "ActiveState=inactive\nId=virtio-disk@5-51712.service\n\nId=virtio-disk@6-1.service\nActiveState=active\n",
        {A: None, (6, 1): UNIT_RUNNING},
    ),
]


@pytest.mark.parametrize(("text", "phases"), SHOWN)
def test_what_systemd_tells(text: str, phases: dict[tuple[int, int], str | None]) -> None:
    assert parse_show(text) == phases


class Host:
    """A folder for units' files, and a systemctl that notes what it is asked and answers what lies there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run = folder / "run"
        self.said: list[str] = []
        program = folder / "systemctl"
        program.write_text(
            f'#!/bin/sh\necho "$*" >>{folder}/calls\n'
            f"case $1 in show) cat {folder}/show 2>/dev/null;; esac\nexit $(cat {folder}/code 2>/dev/null || echo 0)\n"
        )
        program.chmod(0o755)
        self.side = self.new()
        self.locks: list[int] = []

    def new(self) -> UnitSide:
        return UnitSide(
            self.note, str(self.run), str(self.folder / "systemctl"), str(self.folder / "private")
        )

    def note(self, _level: int, text: str) -> None:
        self.said.append(text)

    def show(self, state: str | None) -> None:
        text = "" if state is None else f"Id=virtio-disk@5-51712.service\nActiveState={state}\n"
        (self.folder / "show").write_text(text)

    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return [line.split(" ")[0] for line in path.read_text().splitlines()] if path.exists() else []

    def until(self, phase: str | None, bound: float = 20.0) -> None:
        """Turn until the unit is in a phase, None for gone."""
        deadline = time.monotonic() + bound
        while time.monotonic() < deadline:
            self.side.turn(time.monotonic())
            units = self.side.units()
            if units is not None and (units[A].phase if A in units else None) == phase:
                return
            time.sleep(0.01)
        raise AssertionError(f"{self.side.units()} {self.said} {self.calls()}")

    def start(self, target: str = "/dev/a") -> None:
        disk = Disk("1", "1", target, identity=frozenset({"device_8:1"}), size=512)
        self.side.start(
            A, disk, Settings("/x/virtio-disk", "1.0"), "/y/virtio-disk", "mark", time.monotonic()
        )

    def runs(self, pid: int) -> None:
        """Its view says so, and holds the lock."""
        handle = os.open(self.run / "5-51712.lock", os.O_RDWR | os.O_CREAT)
        fcntl.flock(handle, fcntl.LOCK_EX)
        self.locks.append(handle)
        (self.run / "5-51712.json").write_text(json.dumps({"view_pid": pid}))

    def ends(self) -> None:
        for handle in self.locks:
            os.close(handle)
        self.locks.clear()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path)
    yield made
    made.ends()


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    made = subprocess.Popen(["sleep", "600"])
    yield made
    made.kill()
    made.wait()


def test_what_units_left_that_ended_without_a_launcher_is_swept(
    host: Host, process: subprocess.Popen[bytes]
) -> None:
    host.until(None)
    host.start()
    host.runs(process.pid)
    host.until(UNIT_RUNNING)
    host.show("active")
    for name in ("6-51712.env", "other.env", "code"):
        (host.run / name).touch()
    host.side = host.new()
    host.until(UNIT_RUNNING)
    assert sorted(os.listdir(host.run)) == [
        "5-51712.env",
        "5-51712.json",
        "5-51712.lock",
        "code",
        "other.env",
    ]


def test_nothing_is_known_before_systemd_was_asked(host: Host) -> None:
    assert host.side.units() is None
    host.until(None)
    assert host.side.units() == {}
    assert host.calls() == ["show"]


def test_a_unit_from_its_start_to_its_end(host: Host, process: subprocess.Popen[bytes]) -> None:
    host.until(None)
    host.start('/srv/a "b" $c')
    host.show("activating")
    host.until(UNIT_STARTING)
    units = host.side.units()
    assert units is not None
    told = units[A]
    assert (told.target, told.size, told.version, told.store) == ('/srv/a "b" $c', 512, "1.0", "mark")
    host.runs(process.pid)
    host.until(UNIT_RUNNING)
    host.show("active")
    handles = host.side.handles()
    assert handles
    process.kill()
    process.wait()
    host.until(UNIT_STOPPING)
    host.show("deactivating")
    host.until(UNIT_STOPPING)
    host.ends()
    host.show(None)
    host.until(None)
    assert os.listdir(host.run) == []
    assert host.calls()[:2] == ["show", "start"]


def test_gone_is_what_systemd_says_is_gone_and_what_holds_no_lock(
    host: Host, process: subprocess.Popen[bytes]
) -> None:
    host.until(None)
    host.start()
    host.show("active")
    host.runs(process.pid)
    host.until(UNIT_RUNNING)
    process.kill()
    process.wait()
    host.show(None)  # its daemon lives on for a moment
    for _again in range(30):
        host.side.turn(time.monotonic())
        time.sleep(0.02)
    assert A in (host.side.units() or {})
    host.ends()
    host.until(None)


def test_the_next_launcher_takes_up_what_runs(host: Host, process: subprocess.Popen[bytes]) -> None:
    host.until(None)
    host.start()
    host.runs(process.pid)
    host.until(UNIT_RUNNING)
    host.show("active")
    host.side = host.new()
    host.until(UNIT_RUNNING)
    units = host.side.units()
    assert units is not None
    assert (units[A].target, units[A].identity, units[A].store) == (
        "/dev/a",
        frozenset({"device_8:1"}),
        "mark",
    )


@pytest.mark.parametrize("view", [True, False])
def test_a_unit_without_the_launchers_file_is_known_by_its_views(
    host: Host, process: subprocess.Popen[bytes], view: bool
) -> None:
    host.runs(process.pid)
    facts = {"target": "/dev/a", "mode": "r", "identity": ["device_8:1"], "size": 512, "version": "1.0"}
    told = {"view_pid": process.pid, "view": view, **facts}
    (host.run / "5-51712.json").write_text(json.dumps(told))
    host.show("active")
    host.until(UNIT_RUNNING)
    units = host.side.units()
    assert units is not None
    found = units[A]
    assert (found.target, found.writable, found.identity) == ("/dev/a", False, frozenset({"device_8:1"}))
    assert (found.size, found.version, found.view, found.store) == (512, "1.0", view, "")


@pytest.mark.parametrize(("view", "signalled"), [(True, True), (False, False), (None, False)])
def test_a_view_that_can_decline_is_asked_itself(
    host: Host, process: subprocess.Popen[bytes], view: bool | None, signalled: bool
) -> None:
    """One without a view cannot know, and one of an earlier release does not."""
    host.until(None)
    host.start()
    host.runs(process.pid)
    told = {"view_pid": process.pid} | ({} if view is None else {"view": view})
    (host.run / "5-51712.json").write_text(json.dumps(told))
    host.until(UNIT_RUNNING)
    host.side.stop(A, unless_taken=True)
    if signalled:
        assert process.wait(20) == -signal.SIGUSR1
        host.until(UNIT_STOPPING)
    else:
        assert (host.side.units() or {})[A].phase == UNIT_STOPPING
        assert process.poll() is None


def test_what_was_asked_for_and_never_came_up_is_gone(host: Host) -> None:
    host.until(None)
    host.start()
    host.until(None)
    assert host.calls()[:2] == ["show", "start"]


def test_a_start_that_was_not_on_its_way_yet_is_taken_back(host: Host) -> None:
    host.until(None)
    host.start()
    host.side.stop(A)
    assert host.side.units() == {}
    assert "start" not in host.calls()


def test_units_go_in_bulk(host: Host) -> None:
    host.until(None)
    for devid in range(20):
        disk = Disk("1", "1", f"/dev/{devid}")
        host.side.start((5, devid), disk, Settings("/x"), "/x", "mark", time.monotonic())
    host.side.turn(time.monotonic())
    deadline = time.monotonic() + 20
    while "start" not in host.calls() and time.monotonic() < deadline:
        time.sleep(0.01)
    calls = (host.folder / "calls").read_text().splitlines()
    assert [line.count("virtio-disk@") for line in calls if line.startswith("start")] == [20]


def test_a_systemd_that_refuses_is_told_and_tried_again(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_launchunits, "RETRY", 0.01)
    (host.folder / "code").write_text("1")
    deadline = time.monotonic() + 20
    while not host.side.trouble and time.monotonic() < deadline:
        host.side.turn(time.monotonic())
        time.sleep(0.01)
    assert host.side.trouble.startswith("systemctl show: ")
    assert host.side.units() is None
    (host.folder / "code").write_text("0")
    host.until(None)
    assert host.side.trouble == ""


def test_a_systemctl_that_is_not_there(tmp_path: Path) -> None:
    said: list[str] = []
    side = UnitSide(lambda _level, text: said.append(text), str(tmp_path / "run"), "/nowhere/systemctl")
    side.turn(time.monotonic())
    assert said == ["/nowhere/systemctl: No such file or directory"]
    assert side.units() is None
