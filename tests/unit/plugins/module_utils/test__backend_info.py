# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking at a backend host: made-up roots. With a real store and real machines: tests/system/test_backend_info.py."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils import _backend_info
from ansible_collections.xen.virtio.plugins.module_utils._backend_info import (
    gather,
    init_system,
    running_units,
)
from ansible_collections.xen.virtio.plugins.module_utils._backend_rules import as_result
from ansible_collections.xen.virtio.plugins.module_utils._store import Store, StoreError


@pytest.mark.parametrize(
    ("folders", "init"),
    [
        (["run/systemd/system"], "systemd"),
        (["run/openrc"], "openrc"),
        (["etc/rcS.d"], "sysvinit"),
        (["etc/inittab"], "sysvinit"),
        (["run/systemd/system", "etc/rcS.d"], "systemd"),
        ([], "unknown"),
    ],
)
def test_what_runs_services(tmp_path: Path, folders: list[str], init: str) -> None:
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    assert init_system(str(tmp_path)) == init


def record(folder: Path, name: str, **facts: Any) -> None:
    (folder / f"{name}.json").write_text(json.dumps(facts))


def process(proc: Path, pid: int, unit: str) -> None:
    (proc / str(pid)).mkdir(parents=True)
    (proc / str(pid) / "cgroup").write_text(f"0::/system.slice/{unit}\n")


def test_units_that_run(tmp_path: Path) -> None:
    proc = tmp_path / "proc"
    process(proc, 10, "virtio-disk@3-51712.service")
    process(proc, 20, "virtio-disk@4-51712.service")
    process(proc, 30, "sshd.service")
    record(
        tmp_path,
        "3-51712",
        view_pid=10,
        daemon_pid=11,
        version="1",
        daemon="/d",
        target="/t",
        mode="w",
        size=5,
    )
    record(tmp_path, "4-51712", view_pid=20, version=7, daemon_pid=True)  # of another version, of nonsense
    record(tmp_path, "5-51712", view_pid=30)  # its process is another by now
    record(tmp_path, "6-51712", view_pid=40)  # gone
    record(tmp_path, "7-51712")
    (tmp_path / "3-51712.env").write_text('DAEMON="/d"\nVIEW="0"\nARGUMENTS="-l"\n')
    (tmp_path / "8-51712.json").write_text("{")
    (tmp_path / "9-51712.json").write_text("[]")
    record(tmp_path, "nonsense", view_pid=10)
    found = running_units(str(tmp_path), str(proc))
    assert [(unit.domid, unit.devid, unit.version, unit.pid, unit.size) for unit in found] == [
        (3, 51712, "1", 11, 5),
        (4, 51712, None, None, None),
    ]
    assert [(unit.view, unit.arguments) for unit in found] == [(False, "-l"), (None, None)]


def test_units_that_have_not_said_what_they_are(tmp_path: Path) -> None:
    proc = tmp_path / "proc"
    process(proc, 10, "virtio-disk@3-51712.service")
    process(proc, 20, "virtio-disk@4-51712.service")
    process(proc, 21, "virtio-disk@4-51712.service")
    process(proc, 30, "virtio-disk-launcher.service")
    (tmp_path / "run").mkdir()
    record(tmp_path / "run", "3-51712", view_pid=10)
    facts = gather(no_store, run_dir=str(tmp_path / "run"), config_dir=str(tmp_path), root=str(tmp_path))
    told = as_result(facts)
    assert [unit["unit"] for unit in told["units"]] == ["virtio-disk@3-51712.service"]
    assert told["unsettled"] == ["4-51712"]


def test_when_a_process_was_started() -> None:
    started = _backend_info._started("/proc", os.getpid())
    assert started is not None
    assert 0 <= time.time() - started < 24 * 3600


def no_store() -> Store:
    raise StoreError("CONNECT", "/nowhere", "ENOENT", "there is none", "")


@pytest.mark.parametrize(
    ("settings", "version", "trouble", "there"),
    [
        (None, None, None, False),
        ('{"daemon": "DAEMON", "version": "1"}', "1", None, True),
        ('{"daemon": "/nowhere/at/all", "version": "1"}', "1", None, False),
        ("{", None, "backend.json", False),
        ("[]", None, "names no daemon", False),
        ('{"daemon": 5}', None, "names no daemon", False),
    ],
)
def test_a_host_with_nothing_but_settings(
    tmp_path: Path, settings: str | None, version: str | None, trouble: str | None, there: bool
) -> None:
    daemon = tmp_path / "virtio-disk"
    daemon.write_bytes(b"")
    daemon.chmod(0o755)
    if settings is not None:
        (tmp_path / "backend.json").write_text(settings.replace("DAEMON", str(daemon)))
    facts = gather(no_store, run_dir=str(tmp_path / "run"), config_dir=str(tmp_path), root=str(tmp_path))
    assert (facts.settings or {}).get("version") == version
    assert (trouble or "") in (facts.settings_error or "")
    assert (facts.settings_error is None) == (trouble is None)
    assert facts.current == (str(daemon) if there else None)
    assert facts.store_error is not None
    assert (facts.daemons, facts.units, facts.init) == ([], [], "unknown")
