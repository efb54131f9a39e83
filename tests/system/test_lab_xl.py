# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real xl and libxl in the lab, of both releases, on both daemons."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from boards import BOARDS
from lab import LabHost, wire

LabFactory = Callable[..., LabHost]


@pytest.fixture(
    params=[*BOARDS, pytest.param(("4.20", "o"), marks=pytest.mark.trixie)],
    ids="-".join,
)
def board(request: pytest.FixtureRequest, lab_factory: LabFactory) -> LabHost:
    """A host with a driver domain DomD (1), and the fake that answers backends."""
    release, daemon = request.param
    host = lab_factory(release=release, daemon=daemon)
    host.answer_backends()
    assert host.add_domain(name="DomD", kind="toolstack") == 1
    return host


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    with path.open("wb") as file:
        file.truncate(1 << 20)
    return path


def guest_config(folder: Path, kind: str, *disks: str, kernel: str = "/etc/hostname") -> str:
    """An xl.cfg; any readable file is a kernel in the lab."""
    path = folder / "guest.cfg"
    lines = [f'name = "guest-{kind}"', f'type = "{kind}"', f'kernel = "{kernel}"', "memory = 64"]
    path.write_text("\n".join([*lines, f"disk = {list(disks)}"]) + "\n")
    return str(path)


def ended(pid: int) -> bool:
    """Gone, or a zombie that this machine's init has not collected yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


VIRTIO = "backendtype=standalone,specification=virtio"


@pytest.mark.parametrize("kind", ["pv", "pvh"])
def test_create_with_virtio_disks_list_and_destroy(
    board: LabHost, tmp_path: Path, image: Path, kind: str
) -> None:
    config = guest_config(
        tmp_path,
        kind,
        f"{VIRTIO},vdev=xvda,target={image}",
        f"backend=DomD,{VIRTIO},vdev=xvdb,target=/dev/sda1",
    )
    board.xl("create", "-p", config)
    domid = 2
    assert f"guest-{kind}" in board.xl("list").stdout
    assert board.hypervisor.known(domid).paused
    listed = [line.split()[:2] for line in board.xl("block-list", f"guest-{kind}").stdout.splitlines()[1:]]
    assert listed == [["51712", "0"], ["51728", "1"]]

    frontend = board.ls(f"/local/domain/{domid}/device/virtio_disk/51728")
    assert frontend[f"/local/domain/{domid}/device/virtio_disk/51728"][1] == (f"n{domid}", "r1")
    backend = {
        path.rpartition("/")[2]: node
        for path, node in board.ls(f"/local/domain/1/backend/virtio_disk/{domid}/51728").items()
    }
    assert backend["state"][0] == b"2"
    assert {node[1] for node in backend.values()} == {("n1", f"r{domid}")}
    values = {
        name: backend[name][0] for name in ("params", "type", "transport", "base", "irq", "specification")
    }
    assert values == {
        "params": b"/dev/sda1",
        "type": b"standalone",
        "transport": b"mmio",
        "base": b"0",  # libxl on x86 allocates neither; Arm does
        "irq": b"0",
        "specification": b"virtio",
    }
    assert ("grant_usage" in backend) == (board.release == "4.20")
    assert list((board.root / "var/lib/xen").glob(f"userdata-d.{domid}.*.libxl-json"))

    board.xl("unpause", f"guest-{kind}")
    assert not board.hypervisor.known(domid).paused
    assert board.xl("destroy", f"guest-{kind}").stderr == ""
    assert board.hypervisor.get(domid) is None
    assert not [path for path in board.ls("/") if f"/{domid}/51728" in path or path == f"/libxl/{domid}"]


def test_xls_daemon_of_a_guest_ends_with_the_host(board: LabHost, tmp_path: Path) -> None:
    board.xl("create", guest_config(tmp_path, "pvh"))
    (left,) = [pid for pid, command in board.processes().items() if " create " in command]
    board.stop()
    assert ended(left)


@pytest.mark.parametrize("kind", ["pv", "pvh"])
def test_a_missing_kernel_is_xls_own_error(board: LabHost, tmp_path: Path, kind: str) -> None:
    done = board.xl("create", guest_config(tmp_path, kind, kernel="/no/such/kernel"), check=False)
    assert done.returncode == 3
    assert "failed to open file '/no/such/kernel': No such file or directory" in done.stderr
    assert "xc_dom_kernel_file failed: No such file or directory" in done.stderr
    assert [domain.domid for domain in board.hypervisor.domains()] == [0, 1]


def test_a_missing_image_is_xls_own_error(board: LabHost, tmp_path: Path) -> None:
    config = guest_config(tmp_path, "pvh", f"{VIRTIO},vdev=xvda,target=/no/such/image")
    assert "failed to stat: /no/such/image" in board.xl("create", config, check=False).stderr


@pytest.mark.parametrize("made_by_xl", [True, False], ids=["xl", "dom0less"])
def test_attach_and_detach_of_a_xen_disk(board: LabHost, tmp_path: Path, made_by_xl: bool) -> None:
    if made_by_xl:
        board.xl("create", guest_config(tmp_path, "pvh"))
        name = "guest-pvh"
    else:
        name = f"dom0less-{board.add_domain()}"
    board.xl("block-attach", name, "backend=DomD,vdev=xvdc,target=/dev/sdb")
    assert "/local/domain/1/backend/vbd/2/51744" in board.xl("block-list", name).stdout
    board.xl("block-detach", name, "xvdc")
    assert "51744" not in board.xl("block-list", name).stdout
    refused = board.xl("block-attach", name, f"backend=DomD,{VIRTIO},vdev=xvdd,target=/dev/sdb", check=False)
    assert refused.returncode == 1
    assert "Hotplug isn't supported for specification virtio" in refused.stderr


def test_domids_go_up(board: LabHost, tmp_path: Path) -> None:
    config = guest_config(tmp_path, "pvh")
    for expected in (2, 3):
        board.xl("create", "-p", config)
        assert board.hypervisor.known(expected)
        board.xl("destroy", "guest-pvh")
    assert board.add_domain() == 4
    board.xl("create", "-p", config)
    assert [domain.domid for domain in board.hypervisor.domains()] == [0, 1, 4, 5]


def test_domains_of_both_kinds_in_list_l(board: LabHost) -> None:
    board.add_domain()
    listed = board.xl("list", "-l").stdout
    assert '"name": "dom0less-2"' in listed  # it has a record, which holds no name: xl adds that
    assert "DomD" not in listed  # no record: xl leaves it out without a word


def test_without_the_fake_a_create_waits_and_fails(lab: LabHost, tmp_path: Path, image: Path) -> None:
    """As on a real host without a backend: libxl gives up on state 2 after 10 s."""
    config = guest_config(tmp_path, "pvh", f"{VIRTIO},vdev=xvda,target={image}")
    with pytest.raises(subprocess.TimeoutExpired):
        lab.xl("create", config, timeout=5)
    assert lab.ls("/local/domain/0/backend/virtio_disk/1/51712/state") == {
        "/local/domain/0/backend/virtio_disk/1/51712/state": (b"1", ("n0", "r1"))
    }


def test_a_guests_view_is_the_one_xl_gave_it(board: LabHost, tmp_path: Path) -> None:
    board.xl("create", "-p", guest_config(tmp_path, "pvh"))
    with wire.Client(board.domain_view(2)) as guest:
        assert guest.read("name") == b"guest-pvh"
        with pytest.raises(wire.WireError, match="EACCES"):
            guest.write("name", "DomD")


def test_xen_version_is_the_releases(board: LabHost) -> None:
    assert f"xen_version            : {board.release}.0-lab" in board.xl("info").stdout
