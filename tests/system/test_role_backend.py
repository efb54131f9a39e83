# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role virtio_disk_backend on driver domains: real systemd and SSH, the store as domain N, the stand-in daemon.

With VIRTIO_DISK_SOURCE it is the real daemon, which the role then builds and its launcher starts.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import guests
import pytest
import standin
from backends import Controller
from lab.machines import Machine, Machines
from lab.machines_apt import offer
from lab.machines_pair import DriverDomain
from role_runs import Fleet, changed, told

LIB = "/usr/local/lib/virtio-disk"
CURRENT = f"{LIB}/current/virtio-disk"
INSTALL = ["--tags", "check,foreign,install"]
#: What the machine has of it; ca-certificates, which the role's own list has too, would need a mirror.
TOOLS = ["gcc", "git", "libc6-dev", "libxen-dev", "make"]


def sha256(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The stand-in in two versions."""
    folder = tmp_path_factory.mktemp("programs")
    return {version: standin.build(folder / version, version) for version in ("1.0", "2.0")}


def tarball(folder: Path, version: str, *, flat: bool = False) -> Path:
    """The daemon's sources as one file, in a folder of their own or not."""
    sources = folder / f"virtio-disk-{version}.source"
    standin.publish(sources, version)
    path = folder / f"virtio-disk-{version}{'-flat' if flat else ''}.tar.gz"
    inside = ["-C", str(sources), "."] if flat else ["-C", str(folder), sources.name]
    subprocess.run(["tar", "-czf", str(path), *inside], check=True)
    return path


#: What a package of a distribution brings: the daemon, and the unit that takes disks from guests.
UNIT = """\
[Unit]
Description=Virtio disk backend
[Service]
ExecStart=/usr/bin/virtio-disk
Restart=always
RestartSec=1
[Install]
WantedBy=multi-user.target
"""
START = "systemctl enable virtio-disk.service || true\nsystemctl start virtio-disk.service || true\n"
POSTINST = f"#!/bin/sh\nset -e\n{START}"


@pytest.fixture
def backend(driver_domain: DriverDomain, controller: Controller) -> Machine:
    """A fresh driver domain, ``domd`` in the inventory."""
    controller.variables["virtio_disk_backend_build_packages"] = TOOLS
    return driver_domain.machine


Variables = dict[str, Any]
Way = Callable[[Machine, Machines, Path, dict[str, Path], str], Variables]


def by_hand(
    machine: Machine, _machines: Machines, _folder: Path, programs: dict[str, Path], version: str
) -> Variables:
    """The image has it."""
    shutil.copy(programs[version], machine.share / "new")
    machine.run(["install", "-m", "755", "/lab/share/new", "/usr/bin/virtio-disk.new"])
    machine.run(["mv", "/usr/bin/virtio-disk.new", "/usr/bin/virtio-disk"])
    return {"virtio_disk_backend_install": "none"}


def by_package(
    machine: Machine, _machines: Machines, folder: Path, programs: dict[str, Path], version: str
) -> Variables:
    unit = folder / "virtio-disk.service"
    unit.write_text(UNIT)
    files: dict[str, Path | str] = {
        "/usr/bin/virtio-disk": programs[version],
        "/lib/systemd/system/virtio-disk.service": unit,
        "/DEBIAN/postinst": POSTINST,
    }
    offer(machine, "virtio-disk", version, files)
    machine.run(["apt-get", "-qq", "update"])
    return {"virtio_disk_backend_install": "package", "virtio_disk_backend_version": version}


def by_file(
    _machine: Machine, _machines: Machines, _folder: Path, programs: dict[str, Path], version: str
) -> Variables:
    program = programs[version]
    return {
        "virtio_disk_backend_install": "binary",
        "virtio_disk_backend_src": str(program),
        "virtio_disk_backend_checksum": sha256(program),
        "virtio_disk_backend_version": version,
    }


def by_url(
    _machine: Machine, machines: Machines, folder: Path, programs: dict[str, Path], version: str
) -> Variables:
    (folder / "served").mkdir(exist_ok=True)
    shutil.copy(programs[version], folder / f"served/virtio-disk-{version}")
    return {
        "virtio_disk_backend_install": "binary",
        "virtio_disk_backend_src": f"{machines.serve(folder / 'served')}/virtio-disk-{version}",
        "virtio_disk_backend_checksum": sha256(programs[version]),
    }


def by_git(
    machine: Machine, _machines: Machines, _folder: Path, _programs: dict[str, Path], version: str
) -> Variables:
    if not (machine.share / "repository").exists():
        standin.repository(machine.share / "repository")
    return {
        "virtio_disk_backend_install": "git",
        "virtio_disk_backend_src": "file:///lab/share/repository",
        "virtio_disk_backend_version": version,
    }


def by_tarball(
    _machine: Machine, _machines: Machines, folder: Path, _programs: dict[str, Path], version: str
) -> Variables:
    return {
        "virtio_disk_backend_install": "tarball",
        "virtio_disk_backend_src": str(tarball(folder, version)),
        "virtio_disk_backend_version": version,
    }


def by_tarball_url(
    _machine: Machine, machines: Machines, folder: Path, _programs: dict[str, Path], version: str
) -> Variables:
    (folder / "served").mkdir(exist_ok=True)
    path = tarball(folder / "served", version, flat=True)
    return {
        "virtio_disk_backend_install": "tarball",
        "virtio_disk_backend_src": f"{machines.serve(folder / 'served')}/{path.name}",
        "virtio_disk_backend_checksum": sha256(path),
    }


WAYS = [by_hand, by_package, by_file, by_url, by_git, by_tarball, by_tarball_url]


@pytest.mark.parametrize("way", WAYS)
def test_each_way_of_installing(
    backend: Machine,
    machines: Machines,
    controller: Controller,
    tmp_path: Path,
    programs: dict[str, Path],
    way: Way,
) -> None:
    controller.variables |= way(backend, machines, tmp_path, programs, "1.0")
    planned = controller.role("virtio_disk_backend", "domd", "--check", "--diff", *INSTALL)
    assert (changed(planned) > 0) == (way is not by_hand)
    assert not backend.exists(LIB)
    controller.role("virtio_disk_backend", "domd", *INSTALL)
    assert changed(controller.role("virtio_disk_backend", "domd", "--diff", *INSTALL)) == 0
    assert changed(controller.role("virtio_disk_backend", "domd", "--check", "--diff", *INSTALL)) == 0
    copied = way not in (by_hand, by_package)
    first = backend.run(["readlink", "-f", CURRENT if copied else "/usr/bin/virtio-disk"]).stdout
    assert backend.run([first.strip(), "-h"]).stdout.startswith("Usage")
    controller.variables |= way(backend, machines, tmp_path, programs, "2.0")
    controller.role("virtio_disk_backend", "domd", *INSTALL)
    second = backend.run(["readlink", "-f", CURRENT if copied else "/usr/bin/virtio-disk"]).stdout
    assert (first != second) == copied
    assert backend.run(["find", LIB, "-name", ".*"], check=False).stdout == ""
    assert (
        backend.run(["pgrep", "-x", "virtio-disk"], check=False).stdout == ""
    )  # the package's own unit never ran


def compiled(machine: Machine) -> None:
    """What the real daemon needs where there is no hypervisor."""
    if standin.REAL is None:
        return
    standin.environment(machine.share / standin.PROGRAM)
    drop_in = "/etc/systemd/system/virtio-disk@.service.d/lab.conf"
    machine.write(drop_in, "[Service]\nEnvironment=LD_PRELOAD=/lab/share/hypervisor.so\n")
    machine.run(["systemctl", "daemon-reload"])


def left_behind(machine: Machine) -> list[str]:
    """Files by whose names one knows what the role brought."""
    named = ["-name", "*virtio*disk*", "-o", "-name", "*xen-virtio*"]
    found = machine.run(["find", "/etc", "/usr", "/run", "/var/lib", "/opt", "-xdev", *named]).stdout.split()
    # what modules keep compiled until the next boot is not the role's
    return [path for path in found if not f"{path}/".startswith("/run/xen-virtio/")]


def packages(machine: Machine) -> list[str]:
    return machine.run(
        ["dpkg-query", "--show", "--showformat", "${Package} ${Status}\\n"]
    ).stdout.splitlines()


def with_tools_offered(machine: Machine) -> Variables:
    """A build that needs a package which is not there, and which needs another one."""
    offer(machine, "disk-build-helper", "1.0", {"/usr/bin/disk-build-helper": '#!/bin/sh\nexec make "$@"\n'})
    tool = {"/usr/bin/disk-build": '#!/bin/sh\nexec disk-build-helper "$@"\n'}
    offer(machine, "disk-build", "1.0", tool, depends="disk-build-helper")
    machine.run(["apt-get", "-qq", "update"])
    return {
        "virtio_disk_backend_build_packages": [*TOOLS, "disk-build"],
        "virtio_disk_backend_build": ["disk-build"],
    }


def test_build_packages_come_with_a_build_and_go_with_the_last_of_it(
    backend: Machine,
    machines: Machines,
    driver_domain: DriverDomain,
    controller: Controller,
    tmp_path: Path,
    programs: dict[str, Path],
) -> None:
    before, files = packages(backend), left_behind(backend)
    controller.variables |= by_git(backend, machines, tmp_path, programs, "1.0") | with_tools_offered(backend)
    controller.variables["virtio_disk_backend_prefix"] = "/opt/xen"
    controller.role("virtio_disk_backend", "domd")
    came = set(packages(backend)) - set(before)
    assert came == {"disk-build install ok installed", "disk-build-helper install ok installed"}
    assert changed(controller.role("virtio_disk_backend", "domd", "--diff")) == 0
    compiled(backend)
    domid = with_disk(driver_domain, "web")
    assert state(driver_domain, domid) == b"2"
    assert [line.split()[0] for line in daemons(backend).values()] == [
        backend.run(["readlink", "-f", "/opt/xen/lib/virtio-disk/current/virtio-disk"]).stdout.strip()
    ]
    # what does not build leaves all as it was
    current = backend.run(["readlink", "/opt/xen/lib/virtio-disk/current"]).stdout
    there = backend.run(["ls", "-A", "/opt/xen/lib/virtio-disk"]).stdout
    running = daemons(backend)
    version = {"virtio_disk_backend_version": "2.0"}
    broken = {"virtio_disk_backend_build": ["disk-build", "no-such-target"]}
    failed = controller.role("virtio_disk_backend", "domd", check=False, **version, **broken)
    assert failed.returncode
    assert "no-such-target" in told(failed)
    assert backend.run(["readlink", "/opt/xen/lib/virtio-disk/current"]).stdout == current
    assert backend.run(["ls", "-A", "/opt/xen/lib/virtio-disk"]).stdout == there
    assert daemons(backend) == running
    assert state(driver_domain, domid) == b"2"
    driver_domain.host.xl("destroy", "web")
    assert guests.until(lambda: not daemons(backend))
    controller.role("virtio_disk_backend", "domd", virtio_disk_backend_state="absent")
    assert packages(backend) == before
    backend.run(["rm", "-rf", "/etc/systemd/system/virtio-disk@.service.d"])  # the lab's own
    assert left_behind(backend) == files


def test_build_packages_that_others_need_by_now_stay(
    backend: Machine,
    machines: Machines,
    controller: Controller,
    tmp_path: Path,
    programs: dict[str, Path],
) -> None:
    before = packages(backend)
    controller.variables |= by_git(backend, machines, tmp_path, programs, "1.0") | with_tools_offered(backend)
    controller.role("virtio_disk_backend", "domd")
    came = {line for line in packages(backend) if line.startswith("disk-build")}
    offer(backend, "other", "1.0", {"/usr/bin/other": "#!/bin/sh\n"}, depends="disk-build")
    backend.run(["apt-get", "-qq", "update"])
    backend.run(["apt-get", "-qq", "-y", "install", "other"])
    gone = controller.role("virtio_disk_backend", "domd", virtio_disk_backend_state="absent")
    stay = "packages that came with the build stay, since others need them or nobody can tell: "
    assert f"{stay}disk-build disk-build-helper" in told(gone)
    assert set(packages(backend)) == {*before, *came, "other install ok installed"}


def test_a_package_goes_with_all_that_came(
    backend: Machine, machines: Machines, controller: Controller, tmp_path: Path, programs: dict[str, Path]
) -> None:
    before, files = packages(backend), left_behind(backend)
    controller.variables |= by_package(backend, machines, tmp_path, programs, "1.0")
    controller.role("virtio_disk_backend", "domd")
    assert backend.exists("/usr/bin/virtio-disk")
    gone = {"virtio_disk_backend_state": "absent"}
    controller.role("virtio_disk_backend", "domd", **gone)
    assert [line for line in packages(backend) if line.endswith("installed")] == before
    assert left_behind(backend) == files
    assert changed(controller.role("virtio_disk_backend", "domd", "--diff", **gone)) == 0


def test_a_package_that_starts_a_unit_of_another_name(
    backend: Machine, controller: Controller, tmp_path: Path, programs: dict[str, Path]
) -> None:
    unit = tmp_path / "xen-blk.service"
    unit.write_text(UNIT)
    files: dict[str, Path | str] = {
        "/usr/bin/virtio-disk": programs["1.0"],
        "/lib/systemd/system/xen-blk.service": unit,
        "/DEBIAN/postinst": "#!/bin/sh\nset -e\nsystemctl daemon-reload\nsystemctl start xen-blk.service\n",
    }
    offer(backend, "xen-blk", "1.0", files)
    backend.run(["apt-get", "-qq", "update"])
    package = {"virtio_disk_backend_install": "package", "virtio_disk_backend_src": "xen-blk"}
    controller.role("virtio_disk_backend", "domd", **package)
    assert daemons(backend) == {}
    assert backend.run(["systemctl", "is-enabled", "xen-blk"], check=False).stdout == "masked\n"
    assert changed(controller.role("virtio_disk_backend", "domd", "--diff", **package)) == 0


# --- a disk in use is nobody's to take -----------------------------------------------------------------------

XVDA = 51712
UNITS = "/run/virtio-disk"


def daemons(machine: Machine) -> dict[str, str]:
    """The daemons that run, by process."""
    lines = machine.run(["pgrep", "-xa", "virtio-disk"], check=False).stdout.splitlines()
    return dict(line.split(" ", 1) for line in lines)


def with_disk(domain: DriverDomain, name: str) -> int:
    """A guest of the real xl with a disk of the driver domain; its domid."""
    (domain.machine.share / f"{name}.img").write_bytes(bytes(4096))
    return int(guests.create(domain.host, name, [guests.virtio_disk("xvda", f"/lab/share/{name}.img")]))


def state(domain: DriverDomain, domid: int) -> bytes | None:
    return domain.host.read(f"{domain.path}/backend/virtio_disk/{domid}/{XVDA}/state")


def test_upgraded_under_load_and_gone_in_the_end(
    backend: Machine, driver_domain: DriverDomain, controller: Controller, programs: dict[str, Path]
) -> None:
    def install(version: str, *arguments: str, **options: Any) -> Any:
        variables = by_file(backend, controller.machines, Path(), programs, version)
        controller.variables |= variables
        return controller.role("virtio_disk_backend", "domd", *arguments, **options)

    install("1.0")
    assert changed(install("1.0", "--diff")) == 0
    domids = [with_disk(driver_domain, name) for name in ("web", "mail")]  # with one device number
    before = daemons(backend)
    assert len(before) == 2
    upgraded = install("2.0", virtio_disk_backend_unit_options={"nice": 1})
    pending = ", ".join(f"{domid}-{XVDA}" for domid in sorted(domids))
    assert f"pending_restart: {pending}" in told(upgraded)
    second = install("2.0", "--diff", virtio_disk_backend_unit_options={"nice": 1})
    assert changed(second) == 0, second.stdout
    assert daemons(backend) == before
    assert [state(driver_domain, domid) for domid in domids] == [b"2", b"2"]
    # what one of them is created anew with, is what is installed now
    driver_domain.host.xl("destroy", "web")
    again = with_disk(driver_domain, "web")
    told_now = controller.module("domd", "xen.virtio.backend_info")
    versions = {unit["domid"]: unit["version"].partition("-")[0] for unit in told_now["units"]}
    assert versions == {domids[1]: "1.0", again: "2.0"}
    assert told_now["pending_restart"] == [f"{domids[1]}-{XVDA}"]
    # nothing of it goes while it serves, and all of it where that was said
    refused = controller.role("virtio_disk_backend", "domd", check=False, virtio_disk_backend_state="absent")
    assert refused.returncode
    assert f"{again}-{XVDA}" in told(refused)
    assert [state(driver_domain, domid) for domid in (domids[1], again)] == [b"2", b"2"]
    gone = {"virtio_disk_backend_state": "absent", "virtio_disk_backend_disrupt": True}
    controller.role("virtio_disk_backend", "domd", **gone)
    assert changed(controller.role("virtio_disk_backend", "domd", "--diff", **gone)) == 0
    assert daemons(backend) == {}
    assert left_behind(backend) == []
    assert backend.run(["ls", "/run/xen-virtio"]).stdout.split() in ([], ["code"])
    assert driver_domain.host.read(f"{driver_domain.path}/drivers/virtio-disk/status") is None


#: The launcher ends only once it may, so that something can happen before.
SLOW_END = """\
[Service]
ExecStop=/bin/sh -c 'touch /run/virtio-disk/ends; until [ -e /run/virtio-disk/may-end ]; do sleep 0.1; done'
TimeoutStopSec=120
"""


def test_a_disk_that_comes_while_it_is_removed_is_kept(
    backend: Machine, driver_domain: DriverDomain, controller: Controller, programs: dict[str, Path]
) -> None:
    controller.variables |= by_file(backend, controller.machines, Path(), programs, "1.0")
    controller.role("virtio_disk_backend", "domd")
    backend.write("/run/systemd/system/virtio-disk-launcher.service.d/slow.conf", SLOW_END)
    backend.run(["systemctl", "daemon-reload"])
    with ThreadPoolExecutor() as pool:
        gone = {"virtio_disk_backend_state": "absent"}
        removal = pool.submit(controller.role, "virtio_disk_backend", "domd", check=False, **gone)
        assert guests.until(lambda: backend.exists("/run/virtio-disk/ends"), 300)
        domid = with_disk(driver_domain, "web")
        backend.run(["touch", "/run/virtio-disk/may-end"])
        refused = removal.result()
    assert refused.returncode
    assert f"serves disks (domid-devid) {domid}-{XVDA}" in told(refused)
    assert state(driver_domain, domid) == b"2"
    assert len(daemons(backend)) == 1
    other = with_disk(driver_domain, "mail")  # the launcher runs as it did
    assert [state(driver_domain, one) for one in (domid, other)] == [b"2", b"2"]
    assert backend.run(["systemctl", "is-enabled", "virtio-disk-launcher"]).stdout == "enabled\n"


def test_without_a_view(
    backend: Machine, driver_domain: DriverDomain, controller: Controller, programs: dict[str, Path]
) -> None:
    controller.variables |= by_file(backend, controller.machines, Path(), programs, "1.0")
    controller.variables["virtio_disk_backend_view"] = False
    controller.role("virtio_disk_backend", "domd")
    domid = with_disk(driver_domain, "web")
    assert state(driver_domain, domid) == b"2"
    assert driver_domain.host.read(f"{driver_domain.path}/drivers/virtio-disk/view") == b"off"
    (told_now,) = controller.module("domd", "xen.virtio.backend_info")["units"]
    assert told_now["pending_restart"] is False
    shown = backend.run(["virtio-disk-launcher", "--status"]).stdout
    assert f"{domid}" in shown
    # and with it again: what serves goes on, and is told
    controller.variables["virtio_disk_backend_view"] = True
    done = controller.role("virtio_disk_backend", "domd")
    assert f"pending_restart: {domid}-{XVDA}" in told(done)
    assert state(driver_domain, domid) == b"2"


def test_after_a_reboot_disks_are_served_again(
    backend: Machine, driver_domain: DriverDomain, controller: Controller, programs: dict[str, Path]
) -> None:
    controller.variables |= by_file(backend, controller.machines, Path(), programs, "1.0")
    controller.role("virtio_disk_backend", "domd")
    driver_domain.restart()
    domid = with_disk(driver_domain, "web")
    assert state(driver_domain, domid) == b"2"
    assert changed(controller.role("virtio_disk_backend", "domd", "--diff")) == 0


def test_at_once_where_that_was_said(
    backend: Machine, driver_domain: DriverDomain, controller: Controller, programs: dict[str, Path]
) -> None:
    controller.variables |= by_file(backend, controller.machines, Path(), programs, "1.0")
    controller.role("virtio_disk_backend", "domd")
    domid = with_disk(driver_domain, "web")
    controller.variables |= by_file(backend, controller.machines, Path(), programs, "2.0")
    done = controller.role("virtio_disk_backend", "domd", virtio_disk_backend_disrupt=True)
    assert "lost their disks" in told(done)
    assert daemons(backend) == {}
    assert state(driver_domain, domid) is None
    assert backend.run(["ls", LIB]).stdout.split() == [
        f"2.0-{sha256(programs['2.0'])[7:19]}",
        "current",
    ]


# --- daemons of others ---------------------------------------------------------------------------------------


def common_unit(machine: Machine, program: Path) -> None:
    """What is in use: one daemon for all, without -d, always started again."""
    shutil.copy(program, machine.share / "virtio-disk")
    machine.run(["install", "-m", "755", "/lab/share/virtio-disk", "/usr/bin/virtio-disk"])
    machine.write("/etc/systemd/system/virtio-disk.service", UNIT)
    machine.run(["systemctl", "enable", "--quiet", "--now", "virtio-disk.service"])
    assert guests.until(lambda: len(daemons(machine)) == 1)


def test_an_idle_daemon_of_somebody_else_is_stopped_and_masked(
    backend: Machine, controller: Controller, programs: dict[str, Path]
) -> None:
    common_unit(backend, programs["1.0"])
    backend.run(
        [
            "systemd-run",
            "--quiet",
            "--scope",
            "--unit=by-hand",
            "sh",
            "-c",
            "virtio-disk -d 51744 >/dev/null 2>&1 &",
        ]
    )
    assert guests.until(lambda: len(daemons(backend)) == 2)
    running = daemons(backend)
    planned = controller.role("virtio_disk_backend", "domd", "--check", "--diff", "--tags", "check,foreign")
    assert "virtio-disk.service: masked" in planned.stdout
    assert daemons(backend) == running
    controller.role("virtio_disk_backend", "domd")
    assert daemons(backend) == {}
    assert backend.run(["systemctl", "is-enabled", "virtio-disk"], check=False).stdout == "masked\n"
    assert changed(controller.role("virtio_disk_backend", "domd")) == 0
    controller.role("virtio_disk_backend", "domd", virtio_disk_backend_state="absent")
    assert backend.read("/etc/systemd/system/virtio-disk.service") == UNIT
    assert backend.run(["systemctl", "is-enabled", "virtio-disk"]).stdout == "enabled\n"
    assert not backend.exists("/etc/xen-virtio")
    assert daemons(backend) == {}  # nothing is started


def test_one_that_serves_a_guest_is_refused(
    backend: Machine, driver_domain: DriverDomain, controller: Controller, programs: dict[str, Path]
) -> None:
    common_unit(backend, programs["1.0"])
    domid = with_disk(driver_domain, "web")
    (pid,) = daemons(backend)
    refused = controller.role("virtio_disk_backend", "domd", check=False)
    assert refused.returncode
    for word in (f"process {pid} of virtio-disk.service", f"disk {XVDA} of guest", f"{domid}", "disrupt"):
        assert word in told(refused)
    assert list(daemons(backend)) == [pid]
    assert state(driver_domain, domid) == b"2"
    assert not backend.exists("/etc/xen-virtio")
    controller.role("virtio_disk_backend", "domd", virtio_disk_backend_disrupt=True)
    assert daemons(backend) == {}
    assert state(driver_domain, domid) is None


def test_a_launcher_that_does_not_become_ready_says_why(
    backend: Machine, controller: Controller, programs: dict[str, Path]
) -> None:
    controller.variables |= by_file(backend, controller.machines, Path(), programs, "1.0")
    drop_in = "/etc/systemd/system/virtio-disk-launcher.service.d/late.conf"
    late = f"+-/usr/bin/systemd-run --unit=late {CURRENT} -d 1"
    backend.write(drop_in, f"[Service]\nExecStartPre={late}\n")
    done = controller.role("virtio_disk_backend", "domd", check=False, virtio_disk_backend_start_timeout=15)
    assert done.returncode
    said = told(done)
    assert "the launcher is not ready: a daemon that is not the launcher's runs: process" in said, said[
        -1500:
    ]
    assert "late.service" in said


# --- refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        (["run/openrc"], ["run by openrc", "Boot the host with systemd"]),
        ([], ["run by sysvinit"]),
    ],
    ids=["openrc", "sysvinit"],
)
def test_hosts_without_systemd_are_refused(
    lab: Any, tmp_path: Path, folders: list[str], words: list[str]
) -> None:
    for folder in folders:
        (lab.root / folder).mkdir(parents=True, exist_ok=True)
    fleet = Fleet(tmp_path / "controller", b01=lab)
    fleet.variables["virtio_disk_backend_install"] = "none"
    done = fleet.role("virtio_disk_backend", check=False)
    assert done.returncode
    assert changed(done) == 0
    for word in [*words, "b01 cannot serve disks"]:
        assert word in told(done)


#: Without a device on which the lab has nothing to offer, and on a host that seems to have systemd.
GIT = {"virtio_disk_backend_install": "git", "virtio_disk_backend_src": "/nonexistent"}
BINARY = {"virtio_disk_backend_install": "binary"}


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({**GIT}, "virtio_disk_backend_version has to name a tag"),
        ({**GIT, "virtio_disk_backend_version": "--upload-pack=x"}, "does not begin with a dash"),
        ({**GIT, "virtio_disk_backend_version": "v1; reboot"}, "is of letters, digits"),
        ({**GIT, "virtio_disk_backend_version": "v1"}, "/nonexistent has no v1, or cannot be reached"),
        ({**BINARY}, "virtio_disk_backend_src has to say"),
        ({**BINARY, "virtio_disk_backend_src": "/nonexistent"}, "/nonexistent on the controller is not a file"),
        ({**BINARY, "virtio_disk_backend_src": "https://localhost/x"}, "needs virtio_disk_backend_checksum"),
        ({**BINARY, "virtio_disk_backend_src": "/x", "virtio_disk_backend_checksum": "md5:0"}, "sha256: and 64"),
        ({**BINARY, "virtio_disk_backend_src": "/etc/hostname",
          "virtio_disk_backend_checksum": "sha256:" + "0" * 64}, "declare the checksum that it has"),
        ({**BINARY, "virtio_disk_backend_src": "x", "virtio_disk_backend_prefix": "/a b"}, "prefix is absolute"),
        ({"virtio_disk_backend_daemon": "/nonexistent"}, "No program /nonexistent"),
        ({"virtio_disk_backend_install": "rpm"}, "virtio_disk_backend_install"),
        ({"virtio_disk_backend_accept": [{"code": "store", "reason": "x"}]}, "store cannot be accepted"),
    ],
)  # fmt: skip
def test_what_is_refused_before_anything_is_changed(
    lab: Any, tmp_path: Path, variables: dict[str, Any], words: str
) -> None:
    (lab.root / "run/systemd/system").mkdir(parents=True)
    fleet = Fleet(tmp_path / "controller", b01=lab)
    fleet.variables |= {
        "virtio_disk_backend_accept": [{"code": "device-missing", "reason": "a lab"}],
        **variables,
    }
    done = fleet.role("virtio_disk_backend", "--tags", "check,install", check=False)
    assert done.returncode
    assert changed(done) == 0
    assert words in told(done)
    assert "Traceback" not in told(done)


# --- as a part of site ---------------------------------------------------------------------------------------


def test_site_has_it_run_where_disks_are_served(
    backend: Machine, driver_domain: DriverDomain, controller: Controller, programs: dict[str, Path]
) -> None:
    host = driver_domain.host
    controller.hosts["dom0"] = host
    (backend.share / "web.img").write_bytes(bytes(4096))
    controller.group(
        "xen_dom0",
        "dom0",
        dom0_packages=[],
        dom0_services=[],
        xen_driver_domains={"DomD": {"host": "domd"}},
        xen_guests={
            "web": {
                "type": "pvh",
                "memory": 64,
                "kernel": host.kernel,
                "disks": [{"vdev": "xvda", "target": "/lab/share/web.img", "backend": "DomD"}],
            }
        },
        **by_file(backend, controller.machines, Path(), programs, "1.0"),
    )
    controller.play("xen.virtio.site")
    domid = guests.domid_of(host, "web")
    assert domid is not None
    assert state(driver_domain, domid) == b"2"
    assert changed(controller.play("xen.virtio.site", "--diff")) == 0
