# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is put on a host so that guests come up with it."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils import _guestboot as boot
from ansible_collections.xen.virtio.plugins.module_utils._guestkeep import Keeper, plain, unit_name
from ansible_collections.xen.virtio.plugins.module_utils._guestkept import GuestFileError
from ansible_collections.xen.virtio.plugins.module_utils._guestwish import Wish

UNITS = [
    ("linux1", "xen-virtio-guest@linux1.service"),
    ("a b", r"xen-virtio-guest@a\x20b.service"),
    ("a-b", r"xen-virtio-guest@a\x2db.service"),
    (".a", r"xen-virtio-guest@\x2ea.service"),
    ("a.b_c:d", "xen-virtio-guest@a.b_c:d.service"),
    ("ü", r"xen-virtio-guest@\xc3\xbc.service"),
    ("%i", r"xen-virtio-guest@\x25i.service"),
]


@pytest.mark.parametrize(("guest", "expected"), UNITS)
def test_the_unit_of_a_guest_is_named_as_systemd_escapes(guest: str, expected: str) -> None:
    assert unit_name(guest) == expected


def test_different_guests_have_different_files() -> None:
    names = ["linux1", "a b", "a_b", "a%b", "-a", "ü", "a b "]
    files = [plain(name) for name in names]
    assert len(set(files)) == len(names)
    assert files[0] == "linux1"
    assert all(set(one) <= set("abcdefghijklmnopqrstuvwxyz0123456789._+-") for one in files)


@pytest.fixture
def params(tmp_path: Path) -> dict[str, Any]:
    places = {name: str(tmp_path / name) for name in ("state_dir", "lib_dir", "unit_dir")}
    return {**places, "wait_timeout": 3.0, "xen": None, "socket": "/run/s"}


def apply(params: dict[str, Any], **wish: Any) -> int:
    changes = Keeper(params).changes(
        Wish(**{"name": "linux1", "state": "running", "path": "/etc/xen/a.cfg", **wish})
    )
    for change in changes:
        change.carry_out()
    return len(changes)


def test_kept_once_and_taken_away_again(params: dict[str, Any], tmp_path: Path) -> None:
    assert apply(params, autostart=True) == 4
    assert apply(params, autostart=True) == 0
    kept = json.loads((tmp_path / "state_dir/autostart/linux1.json").read_text())
    assert kept == {"name": "linux1", "path": "/etc/xen/a.cfg", "state_dir": params["state_dir"]} | {
        "store": "/run/s",
        "version": 1,
        "wait_timeout": 3.0,
    }
    assert (
        boot.job_of(boot.load(str(tmp_path / "state_dir/autostart/linux1.json"))).settings.wait_timeout == 3.0
    )
    assert apply(params, autostart=True, name="linux2") == 3
    assert apply(params, autostart=False) == 3
    assert apply(params, autostart=None, state="absent", name="linux2") == 4
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []


def test_nothing_from_a_name_becomes_a_line_of_a_unit(params: dict[str, Any], tmp_path: Path) -> None:
    apply(params, autostart=True, name="a %i [Service]")
    (unit,) = (tmp_path / "unit_dir").glob("*.service")
    lines = unit.read_text().splitlines()
    assert "Description=Xen guest a %%i [Service]" in lines
    assert len([line for line in lines if line.startswith("[")]) == 3
    (start,) = [line for line in lines if line.startswith("ExecStart=")]
    assert "%" not in start
    assert len(start.split()) == 3


@pytest.mark.parametrize("option", ["state_dir", "lib_dir", "unit_dir"])
def test_a_folder_that_no_unit_can_name(params: dict[str, Any], option: str) -> None:
    with pytest.raises(GuestFileError, match="absolute"):
        Keeper({**params, option: "/a b\nExecStart=/bin/sh"})


def test_the_archive_runs_alone(params: dict[str, Any], tmp_path: Path) -> None:
    apply(params, autostart=True)
    path = tmp_path / "lib_dir/guests.pyz"
    with zipfile.ZipFile(path) as archive:
        assert not [name for name in archive.namelist() if b"import ansible" in archive.read(name)]
    kept = tmp_path / "state_dir/autostart/linux1.json"
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(path), str(kept), "0"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == "FAILED /etc/xen/a.cfg: the guest's configuration is not there\n"
    done = subprocess.run([sys.executable, "-I", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 2


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"version": 2, "name": "g", "path": "/p"}', '{"version": 1}']
)
def test_what_is_kept_and_is_not_ours(tmp_path: Path, content: str) -> None:
    path = tmp_path / "g.json"
    path.write_text(content)
    with pytest.raises(boot.BootError):
        boot.load(str(path))


CONFIGS = [
    ("name='g'\n", []),
    (
        "name='g'\ndisk=['/a,,xvda,backend=DomD,specification=virtio','/b,,xvdb,specification=virtio']\n",
        ["DomD", "0"],
    ),
    ("name='g'\ndisk=['/a,,xvda,backend=DomD']\n", []),
    ("name='g'\nvirtio=['type=virtio,device22,transport=mmio,backend=DomE']\n", ["DomE"]),
]


@pytest.mark.parametrize(("text", "expected"), CONFIGS)
def test_whom_a_guest_has_to_wait_for(tmp_path: Path, text: str, expected: list[str]) -> None:
    (tmp_path / "g.cfg").write_text(text)
    assert boot.backends_of(str(tmp_path / "g.cfg")) == expected
