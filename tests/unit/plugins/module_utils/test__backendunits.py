# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The units of a backend host: what they say, and what can be put into them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._backendunits import (
    OPTIONS,
    UnitError,
    command,
    disk_unit,
    launcher_unit,
    slice_unit,
)

PLACES = {"python": "/usr/bin/python3", "library": "/usr/local/lib/xen-virtio"}


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_view_and_daemon_live_and_die_together_and_nothing_starts_them_again() -> None:
    unit = lines(disk_unit(**PLACES, options={}))
    for line in (
        "Type=notify",
        "KillMode=mixed",
        "Restart=no",
        "TimeoutStopSec=3",
        "CollectMode=inactive-or-failed",
        "EnvironmentFile=/run/virtio-disk/%i.env",
        "OOMScoreAdjust=-500",
    ):
        assert line in unit


def test_a_disk_is_bound_to_nothing_of_the_launchers() -> None:
    for unit in (disk_unit(**PLACES, options={}), launcher_unit(**PLACES, options={}), slice_unit({})):
        assert not [
            line
            for line in lines(unit)
            if line.partition("=")[0]
            in ("BindsTo", "PartOf", "Requires", "Requisite", "BoundBy", "Conflicts")
        ]


PUT: list[tuple[str, Any, str, str]] = [
    ("memory_max", "64M", "disk", "MemoryMax=64M"),
    ("memory_high", 67108864, "disk", "MemoryHigh=67108864"),
    ("cpu_weight", 200, "disk", "CPUWeight=200"),
    ("cpu_quota", "50%", "disk", "CPUQuota=50%"),
    ("io_weight", "300", "disk", "IOWeight=300"),
    ("nice", -5, "disk", "Nice=-5"),
    ("oom_score_adjust", -900, "disk", "OOMScoreAdjust=-900"),
    ("tasks_max", 32, "disk", "TasksMax=32"),
    ("slice_memory_max", "10%", "slice", "MemoryMax=10%"),
    ("slice_cpu_weight", 50, "slice", "CPUWeight=50"),
    ("slice_cpu_quota", "150%", "slice", "CPUQuota=150%"),
    ("slice_io_weight", 10, "slice", "IOWeight=10"),
    ("launcher_memory_max", "infinity", "launcher", "MemoryMax=infinity"),
    ("launcher_nice", 5, "launcher", "Nice=5"),
]


def texts(options: dict[str, Any]) -> dict[str, list[str]]:
    return {
        "disk": lines(disk_unit(**PLACES, options=options)),
        "slice": lines(slice_unit(options)),
        "launcher": lines(launcher_unit(**PLACES, options=options)),
    }


@pytest.mark.parametrize(("name", "value", "where", "line"), PUT)
def test_resources(name: str, value: Any, where: str, line: str) -> None:
    assert {unit for unit, listed in texts({name: value}).items() if line in listed} == {where}


def test_every_option_is_shown_here() -> None:
    assert {name for name, *_rest in PUT} == set(OPTIONS)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"memory": "1G"}, "no option 'memory'; there are memory_max"),
        ({"memory_max": "1G\nExecStart=/bin/sh"}, "memory_max: .* is not bytes"),
        ({"memory_max": True}, "memory_max: True is not bytes"),
        ({"nice": "20"}, "nice: '20' is not a number from -20 to 19"),
        ({"nice": "1 "}, "nice: '1 ' is not a number"),
        ({"cpu_quota": 50}, "cpu_quota: 50 is not a share of one CPU"),
        ({"sandbox": "no"}, "sandbox: 'no' is neither true nor false"),
    ],
)
def test_nothing_else_gets_into_a_unit(options: dict[str, Any], why: str) -> None:
    with pytest.raises(UnitError, match=why):
        disk_unit(**PLACES, options=options)


@pytest.mark.parametrize("path", ["relative", "/a b", "/a\nb", "/a%i", "/a'b", '/a"b', "/a$b", ""])
def test_no_path_that_a_unit_would_read_otherwise(path: str) -> None:
    for text in (disk_unit, launcher_unit):
        with pytest.raises(UnitError, match="absolute"):
            text(**{**PLACES, "library": path}, options={})
    with pytest.raises(UnitError, match="absolute"):
        command(python=path, library="/x")


def test_confined_unless_told_otherwise() -> None:
    for where, listed in texts({}).items():
        assert where == "slice" or "NoNewPrivileges=yes" in listed
    free = texts({"sandbox": False})
    assert not any("NoNewPrivileges=yes" in listed for listed in free.values())


def test_systemd_itself_has_nothing_to_say_against_them(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("a fact of this machine: it has no systemd-analyze")
    options = {name: value for name, value, *_rest in PUT}
    (tmp_path / "virtio-disk@.service").write_text(disk_unit(**PLACES, options=options))
    (tmp_path / "virtio-disk-launcher.service").write_text(launcher_unit(**PLACES, options=options))
    (tmp_path / "virtio-disk.slice").write_text(slice_unit(options))
    units = ["virtio-disk@5-51712.service", "virtio-disk-launcher.service", "virtio-disk.slice"]
    done = subprocess.run(
        [program, "verify", "--man=no", *(str(tmp_path / unit) for unit in units)],
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in done.stderr.splitlines() if "virtio-disk" in line]
    assert not [line for line in ours if "Unknown" in line or "Failed to parse" in line or "Invalid" in line]
