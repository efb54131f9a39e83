# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What machines need of the machine below them, and small things that their parts share."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

from .errors import LabError, LabUnavailable

INOTIFY_INSTANCES = 8192  # each systemd takes some six of the user's, and 128 is the kernel's default
TOOLS = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "ip": "iproute2",
    "ssh": "openssh-client",
    "sftp": "openssh-client",
    "ssh-keygen": "openssh-client",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "mount": "mount",
}
#: Namespaces of one's own; whoever is process 1 in them takes everything along.
HOLDER = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]


def facts_against() -> str | None:
    """What of this machine forbids machines whatever is installed, None where nothing does."""
    if os.geteuid() != 0:
        return "no root"
    done = subprocess.run([*HOLDER, "true"], capture_output=True, text=True, check=False)
    if done.returncode:
        return f"no namespaces of one's own: {done.stderr.strip()}"
    return None


def refuse_without() -> None:
    """Raise LabUnavailable where something is missing."""
    for tool, package in TOOLS.items():
        if not shutil.which(tool):
            raise LabUnavailable(f"machines need {tool} (Debian package {package})")
    fact = facts_against()
    if fact:
        raise LabUnavailable(f"machines need root and its namespaces, and here is {fact}")


def raise_inotify_limit() -> None:
    limit = Path("/proc/sys/fs/inotify/max_user_instances")
    with contextlib.suppress(OSError, ValueError):
        if int(limit.read_text()) < INOTIFY_INSTANCES:
            limit.write_text(f"{INOTIFY_INSTANCES}")


def keygen(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", str(path)], check=True)


def colons(path: str) -> str:
    """A path as an argument of systemd-nspawn's --bind."""
    return path.replace("\\", "\\\\").replace(":", "\\:")


def namespaces(pid: str) -> str | None:
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{pid}/ns/pid")
    return None


def child_of(parent: int) -> int:
    """The one child of a process."""
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError):
            if (
                entry.isdigit()
                and int(Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[1]) == parent
            ):
                return int(entry)
    raise LabError(f"process {parent} has no child")
