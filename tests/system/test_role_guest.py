# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role guest on lab hosts with the real xl: from an inventory to running guests, and what stops it before."""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from boards import prepared
from guests import domid_of
from lab import LabHost
from role_runs import Fleet, changed, told

KERNEL = b"a kernel"
SHA = hashlib.sha256(KERNEL).hexdigest()
STORED = f"/var/lib/xen-virtio/images/Image-6.6-{SHA[:12]}"


def disk(target: str = "/dev/vg/a", vdev: str = "xvda", **more: Any) -> dict[str, Any]:
    return {"vdev": vdev, "target": target, "backend": "DomD", **more}


def guest(*disks: Any, **more: Any) -> dict[str, Any]:
    kernel = {"src": "files/Image-6.6", "checksum": f"sha256:{SHA}"}
    return {"type": "pvh", "kernel": kernel, "disks": list(disks), **more}


def fleet_of(folder: Path, **hosts: LabHost) -> Fleet:
    """A controller with an inventory that declares nothing yet, and one kernel."""
    fleet = Fleet(folder / "controller", **hosts)
    (fleet.inventory / "files").mkdir()
    (fleet.inventory / "files/Image-6.6").write_bytes(KERNEL)
    fleet.variables |= {"xen_driver_domains": {"DomD": None}, "xen_guest_defaults": {"memory": 64}}
    return fleet


@pytest.fixture
def fleet(lab: LabHost, tmp_path: Path) -> Fleet:
    return fleet_of(tmp_path, b01=prepared(lab))


def running(host: LabHost) -> set[str]:
    """What xl says of the guests that run, without the driver domain."""
    lines = host.xl("list").stdout.splitlines()[1:]
    return {line.split()[0] for line in lines} - {"Domain-0", "DomD"}


def test_from_nothing_to_running_and_then_nothing_to_do(lab_any: LabHost, tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, b01=prepared(lab_any))
    fleet.variables["xen_guests"] = {
        "linux1": guest(disk()),
        "linux2": guest(disk("/dev/vg/b", "xvdb", access="ro"), memory=96),
    }
    lab_any.xl("list", "-l")  # libxl itself notes dom0's memory the first time
    before = lab_any.ls()
    planned = fleet.role("guest", "--check", "--diff")
    assert "+memory = 96" in planned.stdout
    assert not running(lab_any)
    assert lab_any.ls() == before
    assert not (lab_any.root / STORED[1:]).exists()
    done = fleet.role("guest")
    assert "unchecked: what guests of b01 are given of DomD" in told(done)
    assert running(lab_any) == {"linux1", "linux2"}
    assert (lab_any.root / STORED[1:]).read_bytes() == KERNEL
    text = (lab_any.root / "etc/xen/linux1.cfg").read_text()
    assert f'kernel = "{STORED}"\n' in text
    assert "memory = 64\n" in text
    made = {name: domid_of(lab_any, name) for name in ("linux1", "linux2")}
    again = fleet.role("guest", "--diff")
    assert changed(again) == 0
    assert {name: domid_of(lab_any, name) for name in made} == made


def test_what_a_board_has_of_its_own_and_which_guests_are_meant(lab_factory: Any, tmp_path: Path) -> None:
    one, two = (prepared(lab_factory()) for _host in range(2))
    fleet = fleet_of(tmp_path, b01=one, b02=two)
    fleet.variables["xen_guests"] = [{"name": name, **guest()} for name in ("linux1", "linux2")]
    fleet.of_host["b02"]["xen_guest_overrides"] = {"linux2": {"memory": 128}}
    fleet.role("guest", xen_guest_limit="linux2")
    assert (running(one), running(two)) == ({"linux2"}, {"linux2"})
    memory = [(host.root / "etc/xen/linux2.cfg").read_text().splitlines()[2] for host in (one, two)]
    assert memory == ["memory = 64", "memory = 128"]
    fleet.role("guest", "--limit", "b01")
    assert (running(one), running(two)) == ({"linux1", "linux2"}, {"linux2"})
    refused = fleet.role("guest", check=False, xen_guest_limit=["linux3"])
    assert refused.returncode != 0
    assert "xen_guest_limit: no guest is called 'linux3'" in told(refused)


def test_what_is_wrong_between_two_guests_stops_before_anything_is_touched(fleet: Fleet) -> None:
    host = fleet.hosts["b01"]
    fleet.variables["xen_guests"] = {"linux1": guest(disk()), "linux2": guest(disk(vdev="xvdb"))}
    before = host.ls()
    refused = fleet.role("guest", check=False, xen_guest_limit="linux1")  # the other may run already
    assert refused.returncode != 0
    assert "[target-shared]" in told(refused)
    assert "linux1" in told(refused)
    assert "linux2" in told(refused)
    assert host.ls() == before
    assert not (host.root / "etc/xen/linux1.cfg").exists()
    assert not (host.root / STORED[1:]).exists()


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (None, "is not there"),
        (b"another kernel", f"has the checksum sha256:{hashlib.sha256(b'another kernel').hexdigest()}"),
    ],
    ids=["missing", "another"],
)
def test_a_kernel_that_is_not_the_declared_one(fleet: Fleet, image: bytes | None, words: str) -> None:
    fleet.variables["xen_guests"] = {"linux1": guest()}
    path = fleet.inventory / "files/Image-6.6"
    path.unlink() if image is None else path.write_bytes(image)
    refused = fleet.role("guest", check=False)
    assert refused.returncode != 0
    assert words in told(refused)
    assert "linux1" in told(refused)
    assert not running(fleet.hosts["b01"])


def test_a_new_kernel_is_a_new_file_and_the_old_one_stays(fleet: Fleet) -> None:
    host = fleet.hosts["b01"]
    fleet.variables["xen_guests"] = {"linux1": guest()}
    fleet.role("guest")
    newer = b"a newer kernel"
    (fleet.inventory / "files/Image-6.6").write_bytes(newer)
    sha = hashlib.sha256(newer).hexdigest()
    fleet.variables["xen_guests"] = {
        "linux1": guest(kernel={"src": "files/Image-6.6", "checksum": f"sha256:{sha}"})
    }
    refused = fleet.role("guest", check=False)  # a guest is not created anew unless that is allowed
    assert refused.returncode != 0
    assert "kernel" in told(refused)
    before = domid_of(host, "linux1")
    fleet.variables["guest_recreate"] = "allowed"
    fleet.role("guest")
    assert domid_of(host, "linux1") not in (None, before)
    images = {path.read_bytes() for path in (host.root / "var/lib/xen-virtio/images").iterdir()}
    assert images == {KERNEL, newer}


def test_what_lies_in_a_kernels_place_is_never_overwritten(fleet: Fleet) -> None:
    path = fleet.hosts["b01"].root / STORED[1:]
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half a ke")
    fleet.variables["xen_guests"] = {"linux1": guest()}
    refused = fleet.role("guest", check=False)
    assert refused.returncode != 0
    assert "never overwritten" in told(refused)
    assert path.read_bytes() == b"half a ke"


def test_storage_is_made_and_looked_at_where_it_is(fleet: Fleet) -> None:
    """The driver domain is a host of the inventory; what guests are to be given is a file of its own."""
    host = fleet.hosts["b01"]
    target = "/var/lib/disks/linux1.img"
    fleet.add_driver_domain("b01-domd", host, 1)
    fleet.variables["xen_driver_domains"] = {"DomD": {"host": "{{ inventory_hostname }}-domd"}}
    fleet.variables["xen_guests"] = {"linux1": guest(disk(target))}
    refused = fleet.role("guest", check=False)
    assert refused.returncode != 0
    assert "[target-missing]" in told(refused)
    assert not running(host)
    (fleet.inventory / "storage.yml").write_text(
        "- ansible.builtin.file: {path: /var/lib/disks, state: directory, mode: '0755'}\n"
        "- ansible.builtin.copy:\n"
        "    {content: '{{ xen_storage_domain }}', dest: '{{ item }}', mode: '0600', force: false}\n"
        "  loop: '{{ xen_storage_targets }}'\n"
    )
    fleet.variables["xen_storage_tasks"] = "storage.yml"
    assert "unchecked" not in fleet.role("guest").stdout
    assert running(host) == {"linux1"}
    assert (host.folder / f"domains/1/root{target}").read_text() == "DomD"
    assert not (host.root / target[1:]).exists()  # not on dom0
    assert changed(fleet.role("guest")) == 0


def test_boards_are_played_side_by_side(lab_factory: Any, tmp_path: Path) -> None:
    """What is included for driver domains is included once for all boards, not for one board after the other."""
    hosts = {name: prepared(lab_factory()) for name in ("b01", "b02")}
    fleet = fleet_of(tmp_path, **hosts)
    for name, host in hosts.items():
        fleet.add_driver_domain(f"{name}-domd", host, 1)
        fleet.of_host[name]["xen_guest_overrides"] = {"linux1": {"disks": [disk(f"/var/lib/{name}.img")]}}
    fleet.variables |= {
        "xen_driver_domains": {"DomD": {"host": "{{ inventory_hostname }}-domd"}},
        "xen_guests": {"linux1": guest()},
        "xen_storage_tasks": "storage.yml",
    }
    (fleet.inventory / "storage.yml").write_text(
        "- name: Have an image\n"
        "  ansible.builtin.copy: {content: '', dest: '{{ xen_storage_targets | first }}', mode: '0600'}\n"
    )

    def played(task: str, output: str) -> list[set[tuple[str, str]]]:
        parts = [part for part in output.split("\nTASK [") if part.partition("]")[0].endswith(f": {task}")]
        return [set(re.findall(r"(?:ok|changed): \[(\S+) -> ([^\](\s]+)", part)) for part in parts]

    both = [{("b01", "b01-domd"), ("b02", "b02-domd")}]
    assert played("Have an image", fleet.role("guest").stdout) == both
    for name, host in hosts.items():
        assert running(host) == {"linux1"}
        assert (host.folder / f"domains/1/root/var/lib/{name}.img").exists()
    # these hosts have no systemd, so the role that is included goes no further than to look at them
    done = fleet.role("guest", check=False, virtio_disk_backend_install="none")
    assert done.returncode != 0
    assert played("Look at the host", done.stdout)[1:] == both, done.stdout


def test_a_driver_domain_that_is_a_guest_itself_comes_first(lab: LabHost, tmp_path: Path) -> None:
    lab.answer_backends()
    lab.guest_answers()
    fleet = fleet_of(tmp_path, b01=lab)
    fleet.variables["xen_guests"] = {"linux1": guest(disk()), "DomD": guest(driver_domain=True)}
    fleet.role("guest")
    domd, linux1 = domid_of(lab, "DomD"), domid_of(lab, "linux1")
    assert domd is not None
    assert linux1 is not None
    assert domd < linux1
    assert changed(fleet.role("guest")) == 0


#: A driver domain's python that is there once the domain is, as a host of the inventory is.
LATE_PYTHON = """\
#!{python}
import os, sys
sys.path[:0] = [{tests!r}, {tests!r} + "/system"]
from guests import domid_of
from lab import LabHost
host = LabHost.attach({folder!r})
domid = domid_of(host, "DomD")
if domid is None:
    sys.exit("the driver domain is down")
python = host.domain_python(domid)
os.execv(python, [python, *sys.argv[1:]])
"""


def test_storage_of_a_driver_domain_that_is_made_in_the_same_run(lab: LabHost, tmp_path: Path) -> None:
    lab.answer_backends()
    lab.guest_answers()
    fleet = fleet_of(tmp_path, b01=lab)
    tests = str(Path(__file__).resolve().parents[1])
    python = tmp_path / "late-python"
    python.write_text(LATE_PYTHON.format(python=sys.executable, tests=tests, folder=str(lab.folder)))
    python.chmod(0o755)
    fleet.more["b01-domd"] = {"ansible_connection": "local", "ansible_python_interpreter": str(python)}
    fleet.variables |= {
        "xen_driver_domains": {"DomD": {"host": "b01-domd"}},
        "xen_guests": {"linux1": guest(disk("/var/lib/a.img")), "DomD": guest(driver_domain=True)},
        "xen_storage_tasks": "storage.yml",
    }
    (fleet.inventory / "storage.yml").write_text(
        "- ansible.builtin.copy: {content: '', dest: '{{ item }}', mode: '0600', force: false}\n"
        "  loop: '{{ xen_storage_targets }}'\n"
    )
    fleet.role("guest")
    domd, linux1 = domid_of(lab, "DomD"), domid_of(lab, "linux1")
    assert domd is not None
    assert linux1 is not None
    assert (lab.folder / f"domains/{domd}/root/var/lib/a.img").exists()
    assert changed(fleet.role("guest", "--diff")) == 0


def test_a_driver_domain_that_is_only_planned_is_no_error_in_check_mode(lab: LabHost, tmp_path: Path) -> None:
    lab.answer_backends()
    fleet = fleet_of(tmp_path, b01=lab)
    down = tmp_path / "down"
    down.write_text("#!/bin/sh\necho 'the driver domain is down' >&2\nexit 127\n")
    down.chmod(0o755)
    fleet.more["b01-domd"] = {"ansible_connection": "lab", "lab_enter": str(down)}
    fleet.variables["xen_driver_domains"] = {"DomD": {"host": "b01-domd"}}
    fleet.variables["xen_guests"] = {"DomD": guest(driver_domain=True), "linux1": guest(disk())}
    planned = fleet.role("guest", "--check", "--diff")
    assert "+++ after: /etc/xen/linux1.cfg" in planned.stdout
    refused = fleet.role("guest", check=False, guest_driver_timeout=1)
    assert refused.returncode != 0
    assert (domid_of(lab, "DomD") is None, domid_of(lab, "linux1")) == (False, None)


def test_a_template_of_ones_own(fleet: Fleet) -> None:
    host = fleet.hosts["b01"]
    fleet.variables["xen_guests"] = {"linux1": guest(disk()), "linux2": guest(state="configured")}
    (fleet.inventory / "ours.cfg.j2").write_text(
        "# {{ guest.name }} of {{ inventory_hostname }}\n"
        "{{ guest | xen.virtio.guest_config(guest_release) }}"
        'seclabel = "system_u:system_r:domU_t"\n'
    )
    fleet.variables["guest_template"] = "ours.cfg.j2"
    fleet.role("guest")
    assert running(host) == {"linux1"}
    lines = (host.root / "etc/xen/linux1.cfg").read_text().splitlines()
    assert (lines[0], lines[-1]) == ("# linux1 of b01", 'seclabel = "system_u:system_r:domU_t"')
    assert (host.root / "etc/xen/linux2.cfg").exists()
    assert changed(fleet.role("guest", "--diff")) == 0


def test_the_roles_own_template_says_what_the_module_writes(fleet: Fleet) -> None:
    host = fleet.hosts["b01"]
    fleet.variables["xen_guests"] = {"linux1": guest(disk())}
    fleet.role("guest")
    text = (host.root / "etc/xen/linux1.cfg").read_text()
    fleet.variables["guest_template"] = "guest.cfg.j2"
    assert changed(fleet.role("guest", "--diff")) == 0
    assert (host.root / "etc/xen/linux1.cfg").read_text() == text


def test_tags_select_parts(fleet: Fleet) -> None:
    host = fleet.hosts["b01"]
    fleet.variables["xen_guests"] = {"linux1": guest(disk())}
    fleet.role("guest", "--tags", "preflight")
    assert not (host.root / STORED[1:]).exists()
    fleet.role("guest", "--tags", "images")
    assert (host.root / STORED[1:]).exists()
    assert not running(host)
    fleet.role("guest", "--tags", "guests")
    assert running(host) == {"linux1"}


def test_without_guests_there_is_nothing_to_do(fleet: Fleet) -> None:
    assert changed(fleet.role("guest")) == 0
