# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declarations kept on a host: what is written, merged and taken away; the boot itself is in tests/system."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._declaration import parse_guests
from ansible_collections.xen.virtio.plugins.module_utils._disk import Job
from ansible_collections.xen.virtio.plugins.module_utils._persist import (
    ARCHIVE,
    UNIT,
    Persistence,
    PersistError,
    archive_bytes,
)
from unit.plugins.module_utils.hosts import disk, guest


class Machine:
    """A machine's folders, and calls that keep and forget."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.persistence = Persistence(
            folder=str(folder / "etc"), library=str(folder / "lib"), units=str(folder / "units")
        )

    def call(self, *guests: dict[str, Any], absent: bool = False, **options: Any) -> list[str]:
        """The files that changed."""
        params = {"guests": list(guests), "wait": True, "accept": [], **options}
        job = Job(parse_guests(params, absent=absent), absent=absent)
        changes = (self.persistence.forget if absent else self.persistence.keep)(job, params)
        for change in changes:
            change.carry_out()
        return [os.path.basename(change.path) for change in changes]

    def kept(self, domain: str = "domu1") -> list[str]:
        """The vdevs kept for a guest."""
        document = json.loads(Path(self.persistence.path_of(domain)).read_text())
        return [one["vdev"] if isinstance(one, dict) else one for one in document["guest"]["disks"]]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


SERVICE = [ARCHIVE, UNIT, UNIT]


def test_kept_once_with_the_service_and_gone_with_the_last(machine: Machine) -> None:
    declared = guest("domu1", disk())
    assert machine.call(declared) == ["guest-domu1.json", *SERVICE]
    assert machine.call(declared) == []
    assert machine.call(guest("domu2", disk("xvdb"))) == ["guest-domu2.json"]
    assert machine.call(guest("domu1", "xvda"), absent=True) == ["guest-domu1.json"]
    assert machine.call(guest("domu2", exclusive=True), absent=True) == [
        "guest-domu2.json",
        UNIT,
        UNIT,
        ARCHIVE,
    ]
    assert [name for _top, _folders, names in os.walk(machine.folder) for name in names] == []


@pytest.mark.parametrize(
    ("entry", "absent", "left"),
    [
        (guest("domu1", disk("xvdc")), False, ["xvda", "xvdb", "xvdc"]),
        (guest("domu1", disk("d0p0", "/new")), False, ["xvdb", "d0p0"]),
        (guest("domu1", disk("xvdc"), exclusive=True), False, ["xvdc"]),
        (guest("domu1", exclusive=True), False, []),
        ({"domain": "domu1"}, False, ["xvda", "xvdb"]),
        (guest("domu1", "xvda"), True, ["xvdb"]),
        (guest("domu1", "51712"), True, ["xvdb"]),
        (guest("domu1", "xvdd"), True, ["xvda", "xvdb"]),
        (guest("domu2", "xvda"), True, ["xvda", "xvdb"]),
    ],
)
def test_what_was_kept_before(machine: Machine, entry: dict[str, Any], absent: bool, left: list[str]) -> None:
    machine.call(guest("domu1", disk(), disk("xvdb")))
    machine.call(entry, absent=absent)
    assert machine.kept() == left


@pytest.mark.parametrize("name", ["a/b", "../../etc/passwd", "grün", "a b", ".", "-x", "%2f"])
def test_any_name_is_a_file_of_its_own(machine: Machine, name: str) -> None:
    machine.call(guest(name, disk()), guest("domu1", disk("xvdb")))
    assert len(os.listdir(machine.folder / "etc")) == 2
    assert machine.kept(name) == ["xvda"]


@pytest.mark.parametrize("folder", ["relative", "/with space", "/new\nline", "/per%cent", "/semi;colon", ""])
def test_folders_that_a_unit_cannot_name(folder: str) -> None:
    with pytest.raises(PersistError, match="systemd unit"):
        Persistence(folder=folder, library="/lib", units="/units")


def test_a_file_that_cannot_be_read_stops_the_call(machine: Machine) -> None:
    machine.call(guest("domu1", disk()))
    Path(machine.persistence.path_of("domu1")).write_text("{}")
    with pytest.raises(PersistError, match="remove the file to start anew"):
        machine.call(guest("domu1", disk("xvdb")))


def test_options_go_with_the_guest_and_defaults_do_not(machine: Machine) -> None:
    machine.call(guest("domu1", disk()), hotplug=True, xen=None, socket="/run/x")
    document = json.loads(Path(machine.persistence.path_of("domu1")).read_text())
    assert {key: document[key] for key in document if key != "guest"} == {
        "version": 1,
        "hotplug": True,
        "wait": True,
        "store": "/run/x",
    }


def test_the_archive_runs_alone_and_is_always_the_same(tmp_path: Path) -> None:
    assert archive_bytes() == archive_bytes()
    path = tmp_path / ARCHIVE
    path.write_bytes(archive_bytes())
    with zipfile.ZipFile(path) as archive:
        assert not [name for name in archive.namelist() if b"import ansible" in archive.read(name)]
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(path), str(tmp_path / "none")],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
