# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The root file system that all machines of a Debian release share: made once, then only read."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from .errors import LabUnavailable
from .roots import cache_folders, debian_mirror, writable_cache

#: What a host of this collection has, and what it takes to build a daemon there without a network.
PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "libpam-systemd", "kmod", "procps", "iproute2", "sudo"),
    *("openssh-server", "python3", "python3-apt", "ca-certificates"),
    *("gcc", "libc6-dev", "make", "git", "libxen-dev"),
    *("xenstore-utils", "xen-utils-common"),
)
XEN = {"bookworm": "xen-utils-4.17", "trixie": "xen-utils-4.20"}

#: Units that mean nothing in a machine of the lab, slow its boot or fail without a hypervisor.
_MASKED = (
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "fstrim.timer"),
    *("e2scrub_all.timer", "e2scrub_reap.service", "console-getty.service", "systemd-networkd.service"),
    *("xen.service", "xendomains.service", "xen-watchdog.service"),
)
_NETWORK = """\
#!/bin/sh
# The address that the lab gave this machine.
. /etc/lab-network
ip link set lo up
ip address replace "$ADDRESS/24" dev host0
ip link set host0 up
ip route replace default via "$GATEWAY"
"""
_NETWORK_UNIT = """\
[Unit]
Description=The lab's network
DefaultDependencies=no
After=local-fs.target
Before=network.target network-online.target ssh.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/libexec/lab-network

[Install]
WantedBy=network.target multi-user.target
"""


def base(suite: str = "bookworm") -> Path:
    """The root of a Debian release, set up; made where it is not there yet (40 s, 600 MB).

    Raises:
        LabUnavailable: the release is unknown, mmdebstrap is missing or cannot do it here.
    """
    if suite not in XEN:
        raise LabUnavailable(f"no machines of Debian {suite} in the lab: it knows {', '.join(sorted(XEN))}")
    name = f"machine-{suite}-{_fingerprint(suite)}"
    for folder in cache_folders():
        if (folder / name).is_dir():
            return folder / name
    cache = writable_cache()
    with open(cache / f"machine-{suite}.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one makes it, the others wait for it
        if not (cache / name).is_dir():
            _make(suite, cache, name)
    return cache / name


def _fingerprint(suite: str) -> str:
    return hashlib.sha256(suite.encode() + Path(__file__).read_bytes()).hexdigest()[:16]


def _make(suite: str, cache: Path, name: str) -> None:
    if not shutil.which("mmdebstrap"):
        raise LabUnavailable("a machine's root is made by mmdebstrap, which is not installed")
    with tempfile.TemporaryDirectory(prefix="machine-", dir=cache) as work:
        fresh = Path(work) / "root"
        packages = ",".join([*PACKAGES, XEN[suite]])
        done = subprocess.run(
            [
                *("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={packages}"),
                *("--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*"),
                *("--dpkgopt=path-exclude=/usr/share/locale/*", suite, str(fresh)),
                f"deb {debian_mirror()} {suite} main",
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise LabUnavailable(f"mmdebstrap could not make a root of Debian {suite}: {reason}")
        _settle(fresh)
        fresh.chmod(0o755)
        fresh.rename(cache / name)


def _settle(root: Path) -> None:
    """What makes a Debian root a machine of the lab."""
    for path in (*(root / "etc/ssh").glob("ssh_host_*"), root / "etc/machine-id", root / "etc/hostname"):
        path.unlink(missing_ok=True)
    (root / "etc/machine-id").touch()
    shutil.rmtree(root / "dev", ignore_errors=True)
    (root / "dev").mkdir()
    # no network leads out: apt asks only what a test puts there
    for path in ((root / "etc/apt/sources.list"), *(root / "etc/apt/sources.list.d").glob("*")):
        path.unlink(missing_ok=True)
    (root / "etc/apt/sources.list").touch()
    units = root / "etc/systemd/system"
    for unit in _MASKED:
        (units / unit).unlink(missing_ok=True)
        (units / unit).symlink_to("/dev/null")
    script = root / "usr/local/libexec/lab-network"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(_NETWORK)
    script.chmod(0o755)
    (units / "lab-network.service").write_text(_NETWORK_UNIT)
    for target in ("network.target.wants", "multi-user.target.wants"):
        (units / target).mkdir(exist_ok=True)
        (units / target / "lab-network.service").symlink_to("../lab-network.service")
    (root / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
    os.chmod(root / "root", 0o700)
