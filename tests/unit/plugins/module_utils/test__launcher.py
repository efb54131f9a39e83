# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The launcher, turn by turn, where a host does what is hard to have one do; the rest is in tests/system."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils import _daemons, _launcher
from ansible_collections.xen.virtio.plugins.module_utils._launch import UNIT_RUNNING, UNIT_STOPPING, Unit
from ansible_collections.xen.virtio.plugins.module_utils._launcher import Launcher
from ansible_collections.xen.virtio.plugins.module_utils._launchstore import MARK_NODE
from ansible_collections.xen.virtio.plugins.module_utils._launchunits import Known
from ansible_collections.xen.virtio.plugins.module_utils._served import Daemon
from unit.plugins.module_utils.domain import Domain

A = (5, 51712)
WORDS = "drivers/virtio-disk"


class Service:
    """A launcher without its loop, on a host where nothing is foreign and systemd does what it is told."""

    def __init__(self, folder: Path, domain: Domain, monkeypatch: pytest.MonkeyPatch) -> None:
        self.domain = domain
        self.image = folder / "a.img"
        self.image.write_bytes(bytes(1024))
        self.foreign: list[Daemon] = []
        for name, text in (("systemctl", "#!/bin/sh\n"), ("virtio-disk", "#!/bin/sh\n"), ("view", "")):
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        settings = folder / "backend.json"
        settings.write_text(json.dumps({"daemon": str(folder / "virtio-disk")}))
        monkeypatch.setattr(_daemons, "foreign", lambda *_names: self.foreign)
        monkeypatch.setattr(_launcher, "SCAN", 0.0)
        monkeypatch.setattr(_launcher, "SCAN_SHARE", 0)
        self.launcher = Launcher(
            settings=str(settings),
            run_dir=str(folder),
            view=str(folder / "view"),
            systemctl=str(folder / "systemctl"),
        )
        self.launcher.units._direct = False  # this machine's own systemd is not meant
        self.launcher.units.asked_once = True
        self.now = time.monotonic()

    def turn(self, seconds: float = 0.0) -> None:
        """A look, later by some seconds."""
        self.now = max(self.now + seconds, time.monotonic())
        launcher = self.launcher
        if launcher.side is None:
            assert launcher._connect(self.now)
        assert launcher.side is not None
        launcher.side.look_everywhere()
        launcher._hear_store(self.now)
        launcher._decide(self.now)

    def measure(self) -> bool:
        self.now = max(self.now, time.monotonic())
        return self.launcher._measure(self.now)

    def says(self, name: str) -> str | None:
        value = self.domain.read(f"{WORDS}/{name}")
        return None if value is None else value.decode()


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    made = Service(tmp_path, Domain.put_in_place(monkeypatch), monkeypatch)
    yield made
    made.launcher._end()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_start_that_the_host_refuses_does_not_count(
    service: Service, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    service.domain.disk(*A, target=str(service.image))
    units, start = service.launcher.units, service.launcher.units.start

    def refuse(*_what: Any) -> None:
        raise OSError(code, "refused", "/run/virtio-disk/5-51712.env")

    monkeypatch.setattr(units, "start", refuse)
    for _again in range(3):
        service.turn(1.1)
        assert (service.says("status"), A in units.known) == ("dead", False)
        assert service.says("reason") == "no unit can be started: /run/virtio-disk/5-51712.env: refused"
        assert (service.says("disks/5-51712") or "").startswith("waiting")
    monkeypatch.setattr(units, "start", start)
    service.turn(1.1)
    assert (service.says("status"), A in units.known) == ("ready", True)
    assert (service.says("disks/5-51712") or "").startswith("starting")
    assert service.launcher._memory is not None
    assert service.launcher._memory.tracks[A].attempts == 1


def test_a_store_that_refuses_to_tell_ends_nobody_and_is_told(service: Service) -> None:
    service.domain.disk(*A, target=str(service.image))
    service.turn()
    known = dict(service.launcher.units.known)
    assert list(known) == [A]
    service.domain.refused["backend/virtio_disk/5"] = "EIO"
    for _again in range(3):
        service.turn(0.1)
        assert service.launcher.side is None
        assert (service.says("status"), service.launcher.units.known) == ("dead", known)
        assert "EIO" in (service.says("reason") or "")
    service.domain.refused.clear()
    service.turn(0.1)
    assert (service.says("status"), service.launcher.units.known) == ("ready", known)


def test_a_daemon_of_somebody_else_is_seen_though_no_disk_comes(service: Service) -> None:
    service.turn()
    assert service.says("status") == "ready"
    assert not service.measure()
    service.foreign = [Daemon(pid=7, started=1, command="virtio-disk", unit="virtio-disk.service")]
    assert service.measure()
    service.turn()
    assert service.says("status") == "dead"
    assert "process 7 of virtio-disk.service" in (service.says("reason") or "")
    service.foreign = []
    service.turn(0.1)
    assert service.says("status") == "ready"


def test_nothing_is_started_beside_one_that_came_just_now(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_launcher, "SCAN_SHARE", 10**9)  # by itself it would not look for long
    service.turn()
    service.foreign = [Daemon(pid=7, started=1, command="virtio-disk", unit="virtio-disk.service")]
    service.domain.disk(*A, target=str(service.image))
    service.turn(1.0)
    assert (service.says("status"), service.launcher.units.known) == ("dead", {})
    assert (service.says("disks/5-51712") or "").startswith("waiting")


def test_a_store_that_came_back_empty_behind_a_device_is_watched_again(service: Service) -> None:
    service.domain.disk(*A, target=str(service.image), state="2")
    service.turn()
    service.domain.remove(MARK_NODE)
    service.domain.events.clear()
    service.measure()
    assert service.launcher.side is None
    service.turn(1.0)
    assert sorted(token for _path, token in service.domain.watched) == ["status", "status", "tree", "tree"]
    assert service.says("status") == "ready"


def test_the_view_is_compiled_before_there_is_a_disk(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = tmp_path / "lib/virtio_disk_view.py"
    view.parent.mkdir()
    view.write_text("import sys\nsys.exit('imported')\n")
    service.launcher._view = str(view)
    service.launcher._compile_view()
    (kept,) = (tmp_path / "code").rglob("virtio_disk_view.*.pyc")
    assert kept.is_relative_to(tmp_path / "code" / view.parent.relative_to("/"))
    monkeypatch.setattr(_launcher, "COMPILING", 0.2)
    view.write_text("import time\ntime.sleep(36000)\n")
    service.launcher._compile_view()  # a board that hangs here keeps no launcher from its work
    view.unlink()
    service.launcher._compile_view()


def test_what_a_unit_does_while_a_decision_is_carried_out_leads_to_the_next(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing tells of it again: whoever waits for the end of that unit would wait until something else happens."""
    service.turn()
    launcher, units = service.launcher, service.launcher.units
    (tmp_path / "systemctl").write_text(
        "#!/bin/sh\nexec sleep 3600\n"
    )  # it would be another reason to decide
    with subprocess.Popen(["sleep", "3600"]) as view:
        units.known[A] = Known(Unit(UNIT_RUNNING), service.now, view.pid, os.pidfd_open(view.pid))
        seen = []

        def decide(_now: float) -> None:
            seen.append({key: unit.phase for key, unit in (units.units() or {}).items()})
            view.kill()
            view.wait()

        monkeypatch.setattr(launcher, "_decide", decide)
        monkeypatch.setattr(service.domain, "fileno", launcher._heard.fileno)
        launcher._look_at = service.now
        for _both in range(2):
            launcher._turn()
    assert units._running is not None
    units._running.call.close()
    assert seen == [{A: UNIT_RUNNING}, {A: UNIT_STOPPING}]
