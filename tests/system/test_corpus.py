# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Configurations as people write them (tests/corpus/guests): what the real xl makes of them and of ours."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._dialect import DIALECTS, NEWEST
from ansible_collections.xen.virtio.plugins.module_utils._guestconfig import (
    GuestError,
    as_mapping,
    compare,
    declare_guest,
    read_guest,
    render_guest,
)
from ansible_collections.xen.virtio.plugins.module_utils._xlcfg import parse_config
from hypothesis import HealthCheck, given, settings
from lab import LabHost, LabUnavailable
from oracle import Oracle
from oracle.fixtures import RELEASES
from oracle.strategies import GUESTS

CORPUS = sorted((Path(__file__).parents[1] / "corpus" / "guests").glob("*.cfg"))

#: What xl itself refuses: written for the patches before 4.17, or with words of a later release.
REFUSED = {
    "4.17": {"v6-flag", "v6-flag-several", "grant-usage"},
    "4.20": {"v6-flag", "v6-flag-several"},
}

DryRun = Callable[[Path], "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module", params=RELEASES)
def xl(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, DryRun]]:
    """The real ``xl create -n`` of a release."""
    try:
        with LabHost(tmp_path_factory.mktemp("lab") / "host", release=request.param) as host:
            yield request.param, lambda path: host.xl("create", "-n", str(path), check=False)
    except LabUnavailable as reason:
        pytest.skip(f"{reason}")


def meaning(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What libxl is to create, as xl prints it."""
    assert done.returncode == 0, done.stderr
    config: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    return config


def test_there_are_enough() -> None:
    assert len(CORPUS) >= 40


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_read_as_the_real_parser_reads_it(truth: Oracle, path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert parse_config(text) == truth.config(text).settings
    spec, _notes = read_guest(text)
    assert declare_guest(as_mapping(spec)) == spec
    again, notes = read_guest(render_guest(spec, NEWEST))
    assert notes == []
    assert compare(spec, again) == compare(again, spec) == []


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_the_real_xl_would_create_the_same_guest(xl: tuple[str, DryRun], path: Path, tmp_path: Path) -> None:
    release, dry_run = xl
    spec, _notes = read_guest(path.read_text(encoding="utf-8"))
    ours = tmp_path / "ours.cfg"
    before = dry_run(path)
    if path.stem in REFUSED[release]:
        assert before.returncode != 0
        if path.stem == "grant-usage":
            with pytest.raises(GuestError, match=r"accepted by Xen 4\.19 and newer"):
                render_guest(spec, DIALECTS[release])
            return
        ours.write_text(render_guest(spec, DIALECTS[release]), encoding="utf-8")
        disks = meaning(dry_run(ours))["disks"]
        assert {disk["specification"] for disk in disks} == {"virtio"}
        return
    ours.write_text(render_guest(declare_guest(as_mapping(spec)), NEWEST), encoding="utf-8")
    wanted, got = meaning(before), meaning(dry_run(ours))
    if "uuid" not in spec.options:  # a new one each time
        del wanted["c_info"]["uuid"], got["c_info"]["uuid"]
    assert got == wanted


@settings(
    max_examples=60,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(mapping=GUESTS)
def test_what_an_inventory_says_arrives_in_libxl(
    xl: tuple[str, DryRun], tmp_path: Path, mapping: dict[str, Any]
) -> None:
    for key in ("pci", "cpus", "extra_config", "virtio", "disks"):  # the machine's, or other releases'
        mapping.pop(key, None)
    mapping = {"kernel": "/boot/Image", **mapping, "type": "pvh"}
    path = tmp_path / "guest.cfg"
    path.write_text(render_guest(declare_guest(mapping), NEWEST), encoding="utf-8")
    config = meaning(xl[1](path))
    build = config["b_info"]
    assert config["c_info"]["name"] == mapping["name"]
    assert build["kernel"] == mapping["kernel"]
    assert build.get("ramdisk") == mapping.get("ramdisk")
    assert build.get("cmdline") == mapping.get("cmdline")
    assert build.get("max_vcpus") == mapping.get("vcpus", build.get("max_vcpus"))
    assert len(config.get("nics", [])) == len(mapping.get("vif", []))
    assert [device["path"] for device in config.get("dtdevs", [])] == mapping.get("dtdev", [])
    assert build.get("irqs", []) == mapping.get("irqs", [])
