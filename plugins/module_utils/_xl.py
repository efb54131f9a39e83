# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's toolstack: which Xen it is, and xen disks attached and detached through xl."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

#: Where Linux tells the running hypervisor's version (Documentation/ABI/stable/sysfs-hypervisor-xen).
_SYSFS = "/sys/hypervisor/version"

#: libxl gives a backend 10 s to answer (LIBXL_INIT_TIMEOUT) and a hotplug script 40 s
#: (LIBXL_HOTPLUG_TIMEOUT, tools/libs/light/libxl_internal.h); beyond that xl itself hangs.
TIMEOUT = 60.0

#: Debian keeps the versioned xl apart; the wrapper on PATH asks a running hypervisor for the version.
_SEARCH = os.pathsep.join(("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"))


class XlError(RuntimeError):
    """xl refused, failed, or did not end in time; the text holds the command's own last words."""


class Xl:
    """Runs xl, always with an argument list and a time limit.

    Args:
        path: the command or its path.
        timeout: seconds for one call.
    """

    def __init__(self, path: str = "xl", *, timeout: float = TIMEOUT) -> None:
        search = os.environ.get("PATH", "") + os.pathsep + _SEARCH
        self.command = shutil.which(path, path=search)
        self.timeout = timeout

    @property
    def present(self) -> bool:
        """Whether the host has xl."""
        return self.command is not None

    def run(self, *arguments: str) -> str:
        """Run one xl command and give its standard output.

        Raises:
            XlError: xl is missing, failed or took longer than the limit.
        """
        if self.command is None:
            raise XlError("this host has no xl; install the Xen tools")
        shown = "xl " + " ".join(arguments)
        try:
            done = subprocess.run(
                [self.command, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=self.timeout,
                check=False,
                env={**os.environ, "LC_ALL": "C"},
            )
        except subprocess.TimeoutExpired as error:
            raise XlError(f"{shown}: no end within {self.timeout:g} s") from error
        except OSError as error:
            raise XlError(f"{shown}: cannot be started: {error.strerror}") from error
        if done.returncode != 0:
            words = " / ".join(done.stderr.decode("utf-8", "replace").split("\n")[-6:]).strip(" /")
            raise XlError(f"{shown}: failed ({done.returncode}): {words or 'xl said nothing'}")
        return done.stdout.decode("utf-8", "replace")

    def block_attach(self, domid: int, spec: str) -> None:
        """Attach a xen disk, given as an xl disk string."""
        self.run("block-attach", str(domid), spec)

    def block_detach(self, domid: int, devid: int) -> None:
        """Detach a xen disk by its device number."""
        self.run("block-detach", str(domid), str(devid))


def host_release(xl: Xl) -> str | None:
    """The running Xen's release as ``MAJOR.MINOR``, None where the host does not tell."""
    try:
        parts = []
        for part in ("major", "minor"):
            with open(f"{_SYSFS}/{part}", encoding="ascii") as file:
                parts.append(str(int(file.read(16))))
        return ".".join(parts)
    except (OSError, ValueError):
        pass
    if not xl.present:
        return None
    try:
        told = xl.run("info")
    except XlError:
        return None
    numbers = dict(re.findall(r"(?m)^xen_(major|minor)\s*:\s*(\d+)\s*$", told))
    if len(numbers) != 2:
        return None
    return f"{numbers['major']}.{numbers['minor']}"
