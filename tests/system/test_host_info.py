# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What host_info says of lab hosts, through the real Ansible, with both daemons and the real xl."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_runs import run_module
from lab import LabHost
from provisioning import disk, guest, provision

LabFactory = Callable[..., LabHost]


def ask(lab: LabHost, folder: Path, **arguments: Any) -> dict[str, Any]:
    result = run_module(folder, lab.python, "xen.virtio.host_info", arguments)
    assert not result["failed"], result["stdout"]
    assert not result["changed"]
    return result


def serve(lab: LabHost) -> None:
    """DomD, ready, with two disks of two guests."""
    lab.add_domain("DomD", kind="toolstack")
    lab.write("/local/domain/1/drivers/virtio-disk/status", "ready")
    for name in ("one", "two"):
        lab.add_domain(name, kind="toolstack")
    lab.answer_backends()
    provision(lab, guest("one", disk()), guest("two", disk("xvdb", "/dev/vg/b")), wait=True, wait_timeout=10)


def test_a_host_with_a_driver_domain(lab_any: LabHost, tmp_path: Path) -> None:
    serve(lab_any)
    before = lab_any.ls()
    found = ask(lab_any, tmp_path)
    assert lab_any.ls() == before
    ocaml = lab_any.daemon == "o"
    xen = found["xen"]
    assert (xen["release"], xen["version"], xen["toolstack"]["version"]) == ("4.17", "4.17.0-lab", "4.17")
    assert (xen["toolstack"]["present"], xen["toolstack"]["error"]) == (True, None)
    assert (xen["accepts"]["specification"], xen["accepts"]["grant_usage"]) == (True, False)
    assert xen["ioreq"]["support"] == "yes"
    told = dict(line.split(":", 1) for line in lab_any.xl("info").stdout.splitlines() if "_memory" in line)
    memory = {key.strip().removesuffix("_memory"): int(value) for key, value in told.items()}
    assert found["memory"] == {name: memory[name] for name in ("total", "free")}
    assert memory["total"] > 0
    daemon = {"reachable": True, "kind": "oxenstored" if ocaml else "xenstored", "error": None}
    assert found["daemons"]["xenstored"] == daemon
    dom0, domd = found["backends"]
    assert (dom0["domain"], dom0["quota"], dom0["headroom"], dom0["status"]) == ("Domain-0", None, None, None)
    assert (domd["domain"], domd["domid"], domd["status"], domd["launcher"]) == ("DomD", 1, "ready", None)
    assert (domd["guests"], domd["disks"]) == (2, 2)
    assert domd["quota"]["nodes"] == 1000
    assert domd["quota"]["used_nodes"] > 2 * 18
    assert (domd["quota"]["watches"], domd["quota"]["assumed"] is not None) == (100 if ocaml else 128, ocaml)
    # its nodes run out before its watches do
    by_watches = (domd["quota"]["watches"] - 6) // 2
    assert domd["headroom"] == min((1000 - domd["quota"]["used_nodes"]) // 18, by_watches)


def test_a_launcher_without_disks_is_a_backend(lab: LabHost, tmp_path: Path) -> None:
    lab.add_domain("DomD", kind="toolstack")
    lab.add_domain("domu1", kind="toolstack")
    lab.write("/local/domain/1/drivers/virtio-disk/launcher", "7")
    found = ask(lab, tmp_path)
    assert [(one["domain"], one["launcher"], one["disks"]) for one in found["backends"]] == [
        ("Domain-0", None, 0),
        ("DomD", "7", 0),
    ]


def test_quotas_are_asked_and_not_assumed(lab_factory: LabFactory, tmp_path: Path) -> None:
    lab = lab_factory(daemon_args=["--entry-nb", "100"])
    serve(lab)
    [_dom0, domd] = ask(lab, tmp_path)["backends"]
    assert domd["quota"]["nodes"] == 100
    assert domd["headroom"] == (100 - domd["quota"]["used_nodes"]) // 18


@pytest.mark.trixie
def test_a_newer_release_takes_more(lab_factory: LabFactory, tmp_path: Path) -> None:
    xen = ask(lab_factory(release="4.20"), tmp_path)["xen"]
    assert xen["release"] == "4.20"
    assert [xen["accepts"][name] for name in ("grant_usage", "nr_spis", "xenstore_quota")] == [
        True,
        True,
        False,
    ]


def test_without_xl_the_rest_is_told(lab: LabHost, tmp_path: Path) -> None:
    serve(lab)
    found = ask(lab, tmp_path, xl_path="/nonexistent/xl")
    toolstack = {"name": "xl", "present": False, "path": None, "version": None, "error": None}
    assert found["xen"]["toolstack"] == toolstack
    assert found["memory"] == {"total": None, "free": None}
    assert [one["domain"] for one in found["backends"]] == ["Domain-0", "DomD"]


@pytest.mark.parametrize("fault", ["gone", "stalled", "empty"])
def test_without_a_store_the_rest_is_told(lab: LabHost, tmp_path: Path, fault: str) -> None:
    if fault == "gone":
        lab.xenstored.kill()
    elif fault == "stalled":
        lab.xenstored.stop()
    else:
        lab.rm("/local/domain/0")
    found = ask(lab, tmp_path, timeout=0.5)
    assert found["daemons"]["xenstored"]["reachable"] is False
    assert found["daemons"]["xenstored"]["error"]
    assert found["backends"] == []
    if fault == "gone":  # xl itself wants a connection, and this host's kernel tells nothing of Xen
        assert found["xen"]["release"] is None
        assert "xenstore" in found["xen"]["toolstack"]["error"]
    else:
        assert found["xen"]["release"] == "4.17"


def test_an_xl_that_fails_or_hangs_is_told(lab: LabHost, tmp_path: Path) -> None:
    broken = tmp_path / "xl"
    broken.write_text("#!/bin/sh\necho 'libxl: no hypervisor' >&2\nexit 1\n")
    broken.chmod(0o755)
    found = ask(lab, tmp_path, xl_path=str(broken))
    assert "no hypervisor" in found["xen"]["toolstack"]["error"]
    assert found["daemons"]["xenstored"]["reachable"]
