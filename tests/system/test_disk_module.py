# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules disk and disk_info through the real Ansible, on hosts with the real xl."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._apply import apply
from ansible_collections.xen.virtio.plugins.module_utils._dialect import parse_dialect
from ansible_collections.xen.virtio.plugins.module_utils._layout import Attachment
from ansible_collections.xen.virtio.plugins.module_utils._plan import Write, schema_for
from ansible_collections.xen.virtio.plugins.module_utils._store import Store
from ansible_collections.xen.virtio.plugins.module_utils._survey import Scope, survey
from ansible_runs import run_module
from lab import LabHost
from provisioning import NoXl, disk, guest

LabFactory = Callable[..., LabHost]


class Host:
    """A lab host with Ansible in front of it."""

    def __init__(self, lab: LabHost, folder: Path) -> None:
        self.lab = lab
        self.folder = folder

    def disk(self, *flags: str, **arguments: Any) -> dict[str, Any]:
        return run_module(self.folder, self.lab.python, "xen.virtio.disk", arguments, *flags)

    def info(self, **arguments: Any) -> dict[str, dict[str, Any]]:
        result = run_module(self.folder, self.lab.python, "xen.virtio.disk_info", arguments)
        assert not result["failed"], result
        return {one["domain"]: one for one in result["guests"]}

    def create(self, name: str, *disks: str, kind: str = "pv") -> int:
        """A guest made by the real xl, paused."""
        config = self.folder / f"{name}.cfg"
        listed = ", ".join(f"'{one}'" for one in disks)
        kernel = self.folder / "kernel"
        kernel.write_bytes(b"kernel")
        config.write_text(
            f'name = "{name}"\ntype = "{kind}"\nkernel = "{kernel}"\nmemory = 64\ndisk = [ {listed} ]\n'
        )
        self.lab.answer_backends()
        self.lab.xl("create", "-p", str(config))
        return int(self.lab.xl("domid", name).stdout)


@pytest.fixture
def host(lab: LabHost, tmp_path: Path) -> Host:
    return Host(lab, tmp_path)


def test_provision_find_nothing_to_do_and_read_back(host: Host) -> None:
    host.lab.add_domain("DomD", kind="toolstack")
    host.lab.add_domain("domu1", kind="toolstack")
    host.lab.answer_backends()
    declared = {"domain": "domu1", "disks": [disk(), "backend=DomD, phy:/dev/mmcblk1p3, xvdb, ro, virtio"]}
    planned = host.disk("--check", "--diff", **declared)
    assert planned["changed"]
    assert "+  target: /dev/mmcblk1p3" in planned["stdout"]
    done = host.disk(**declared)
    assert done["changed"]
    assert [d["health"] for d in done["guests"][0]["disks"]] == ["attached", "attached"]
    assert (
        "V6" in done["stdout"] or "virtio" in done["stdout"]
    )  # the old spelling is read, and said to be old
    again = host.disk(**declared)
    assert not again["changed"]
    shown = host.info()["domu1"]
    assert [(d["vdev"], d["irq"], d["health"]) for d in shown["disks"]] == [
        ("xvda", 33, "attached"),
        ("xvdb", 34, "attached"),
    ]


def test_the_release_is_asked_of_the_host(host: Host) -> None:
    host.lab.add_domain("DomD", kind="toolstack")
    host.lab.add_domain("domu1", kind="toolstack")
    host.disk(domain="domu1", disks=[disk()], wait=False)
    path = "/local/domain/1/backend/virtio_disk/2/51712"
    assert host.lab.read(f"{path}/grant_usage") is None  # the host is a 4.17
    refused = host.disk(domain="domu1", disks=[disk()], wait=False, xen=4.2)
    assert refused["failed"]
    assert "quote it" in refused["msg"]


# --- beside the real xl --------------------------------------------------------------------------------


def _shape(host: LabHost, domid: int, backend: int) -> list[tuple[str, str, str]]:
    """A disk's three trees in the store's own order, with the guest's id taken out and the states left open."""
    found = []
    for top in (
        f"/libxl/{domid}/device/virtio_disk/51712",
        f"/local/domain/{domid}/device/virtio_disk/51712",
        f"/local/domain/{backend}/backend/virtio_disk/{domid}/51712",
    ):
        for path, (value, perms) in host.ls(top).items():
            shown = "any" if path.endswith("/state") else value.decode()
            owners = ",".join(perms)
            found.append(tuple(text.replace(str(domid), "GUEST") for text in (path, shown, owners)))
    return found  # type: ignore[return-value]


@pytest.mark.parametrize("release", ["4.17", pytest.param("4.20", marks=pytest.mark.trixie)])
@pytest.mark.parametrize("backend", ["Domain-0", "DomD"])
@pytest.mark.parametrize("access", ["w", "r"])
def test_what_we_write_is_what_xl_writes_in_its_order(
    lab_factory: LabFactory, tmp_path: Path, release: str, backend: str, access: str
) -> None:
    host = Host(lab_factory(release=release), tmp_path)
    image = tmp_path / "image"
    image.write_bytes(b"")
    served_by = host.lab.add_domain("DomD", kind="toolstack") if backend == "DomD" else 0
    host.lab.add_domain(domid=770)  # so that the guests' ids stand out
    by_xl = host.create(
        "byxl", f"phy:{image},xvda,{access},backend={backend},specification=virtio", kind="pvh"
    )
    ours = host.lab.add_domain("ours", kind="toolstack")
    wanted = Attachment(
        ours, served_by, 51712, "xvda", str(image), readonly=access == "r", base=0, irq=0,
        discard=access == "w", grant_usage=served_by != 0,
    )  # fmt: skip
    with Store(host.lab.socket) as store:
        snapshot = survey(store, lambda _domains: Scope([ours], [served_by]))
        step = Write(wanted, schema_for(parse_dialect(release)), None)
        apply([step], snapshot, store, NoXl(), lambda _step: None)
    assert _shape(host.lab, ours, served_by) == _shape(host.lab, by_xl, served_by)


def test_a_guest_of_xl_is_left_to_xl(host: Host, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"")
    domid = host.create("byxl", f"phy:{image},xvda,w,specification=virtio", kind="pvh")
    declared = disk(target=str(image), backend=0)
    same = host.disk(domain="byxl", disks=[declared])
    assert not same["failed"], same
    assert not same["changed"]
    before = host.lab.ls("/")
    refusals: dict[str, dict[str, Any]] = {
        "adding": {"disks": [declared, disk("xvdb", str(image), backend=0, access="ro", shared=True)]},
        "changing": {"disks": [{**declared, "access": "ro"}]},
        "removing": {"disks": ["xvda"], "state": "absent"},
    }
    for doing, arguments in refusals.items():
        refused = host.disk(domain="byxl", hotplug=True, **arguments)
        assert refused["failed"]
        assert "made-by-xl" in [finding["code"] for finding in refused["findings"]], doing
        assert "xen.virtio.guest" in refused["msg"]
        assert doing in refused["msg"]
    assert host.lab.ls("/") == before
    attach = host.lab.xl("block-attach", str(domid), f"phy:{image},xvdb,r,specification=virtio", check=False)
    assert attach.returncode != 0  # xl agrees
    assert "Hotplug isn't supported for specification virtio" in attach.stderr


def test_xen_disks_go_through_xl(host: Host) -> None:
    host.lab.add_domain("DomD", kind="toolstack")
    domid = host.create("pvguest")
    declared = {
        "vdev": "xvdb",
        "target": "/dev/vg/x",
        "specification": "xen",
        "access": "ro",
        "backend": "DomD",
    }
    planned = host.disk("--check", domain="pvguest", disks=[declared])
    assert planned["changed"], planned
    assert host.info(domains=["pvguest"])["pvguest"]["disks"] == []
    done = host.disk(domain="pvguest", disks=[declared])
    assert done["changed"], done
    assert "51728" in host.lab.xl("block-list", str(domid)).stdout
    assert not host.disk(domain="pvguest", disks=[declared])["changed"]
    shown = host.info()["pvguest"]["disks"]
    assert [(d["vdev"], d["specification"], d["target"]) for d in shown] == [("xvdb", "xen", "/dev/vg/x")]
    mixed = host.disk(domain="pvguest", disks=[disk("xvdc")])
    assert "mixed-specification" in [finding["code"] for finding in mixed["findings"]]
    gone = host.disk(domain="pvguest", disks=["xvdb"], state="absent")
    assert gone["changed"], gone
    assert "51728" not in host.lab.xl("block-list", str(domid)).stdout
    assert not host.disk(domain="pvguest", disks=["xvdb"], state="absent")["changed"]


# --- persistent ----------------------------------------------------------------------------------------


def _volatile(tree: dict[str, tuple[bytes, tuple[str, ...]]]) -> dict[str, tuple[bytes, tuple[str, ...]]]:
    return {path: what for path, what in tree.items() if "/virtio_disk" in path}


def test_persistent_disks_are_back_after_a_power_cycle(host: Host) -> None:
    lab = host.lab
    lab.add_domain(kind="dom0less")
    lab.add_domain(kind="dom0less")
    declared = {
        "guests": [
            guest("dom0less-2", disk(backend="dom0less-1"), disk("xvdb", "/dev/b", backend=1), exclusive=True)
        ],
        "persistent": True,
        "wait": False,
    }
    planned = host.disk("--check", **declared)
    assert planned["changed"]
    assert not (lab.root / "etc/xen/virtio-disks").exists()
    done = host.disk(**declared)
    assert not done["failed"], done
    assert (lab.root / "etc/systemd/system/multi-user.target.wants/xen-virtio-disks.service").is_symlink()
    assert not host.disk(**declared)["changed"]
    unit = lab.root / "etc/systemd/system/xen-virtio-disks.service"
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, ""), (
        "the real systemd has something to say on the unit"
    )
    before = _volatile(lab.ls("/"))
    lab.reboot()
    assert _volatile(lab.ls("/")) == before
    assert not host.disk(**declared)["changed"]

    more = host.disk(
        domain="dom0less-2", disks=[disk("xvdc", "/dev/c", backend=1)], persistent=True, wait=False
    )
    assert more["changed"]
    kept = json.loads((lab.root / "etc/xen/virtio-disks/guest-dom0less-2.json").read_text())
    assert [one["vdev"] for one in kept["guest"]["disks"]] == ["xvda", "xvdb", "xvdc"]
    less = host.disk(domain="dom0less-2", disks=["xvda", "xvdc"], persistent=True, state="absent")
    assert not less["failed"], less
    kept = json.loads((lab.root / "etc/xen/virtio-disks/guest-dom0less-2.json").read_text())
    assert [one["vdev"] for one in kept["guest"]["disks"]] == ["xvdb"]
    host.disk(domain="dom0less-2", disks=[], exclusive=True, persistent=True, state="absent")
    left = [str(path) for path in (lab.root / "etc").rglob("*virtio*") if path.is_file() or path.is_symlink()]
    assert left == []


def test_a_domain_sees_its_own_xenbus(host: Host) -> None:
    """As domain N, through its /dev/xen/xenbus: the module is refused by name and changes nothing."""
    domd = host.lab.add_domain("DomD", kind="toolstack")
    before = host.lab.ls("/")
    refused = run_module(
        host.folder,
        host.lab.domain_python(domd),
        "xen.virtio.disk",
        {"domain": domd, "disks": [disk(backend=0)], "xen": "4.17", "wait": False},
    )
    assert refused["failed"]
    assert "EACCES" in refused["msg"]
    assert host.lab.ls("/") == before


def test_a_stopped_xenstored_ends_the_task_in_bounded_time(host: Host) -> None:
    host.lab.xenstored.stop()
    try:
        refused = host.disk(domain=0, disks=[disk(backend=0)], xen="4.17", timeout=1)
    finally:
        host.lab.xenstored.cont()
    assert refused["failed"]
    assert "xenstore" in refused["msg"]
