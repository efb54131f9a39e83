# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the Xen programs of a release are: this machine's own packages, or a Debian root made for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .errors import LabUnavailable

CHECKOUT = Path(__file__).resolve().parents[2]
SUITES = {"4.17": "bookworm", "4.20": "trixie"}  # the Debian release that carries this Xen release


class Xen(NamedTuple):
    """The programs of one Xen release."""

    release: str
    prefix: Path  # "/" or the root made by mmdebstrap

    @property
    def minor(self) -> int:
        return int(self.release.split(".")[1])

    @property
    def native(self) -> bool:
        return self.prefix == Path("/")

    @property
    def programs(self) -> Path:
        return self.prefix / f"usr/lib/xen-{self.release}/bin"

    @property
    def include(self) -> Path:
        return self.prefix / "usr/include"

    @property
    def libraries(self) -> Path:
        return next(path.parent for path in self.prefix.glob(f"usr/lib/*/libxenlight.so.{self.release}"))

    @property
    def environment(self) -> dict[str, str]:
        """What the shims need to find the rest of a foreign root."""
        return {} if self.native else {"XEN_LAB_PREFIX": str(self.prefix)}

    def command(self, program: Path, preload: Path | None) -> tuple[dict[str, str], list[str]]:
        """Environment and argv (without the program's own arguments) that run it with a shim preloaded.

        A foreign root's programs run through its own dynamic loader and libraries: no chroot needed, so
        they see this machine's files and an ordinary user can run them.
        """
        if self.native:
            return ({"LD_PRELOAD": str(preload)} if preload else {}), [str(program)]
        loader = next(self.libraries.glob("ld-linux*.so.*"))
        argv = [str(loader), "--library-path", str(self.libraries), "--argv0", program.name]
        return self.environment, [*argv, *(["--preload", str(preload)] if preload else []), str(program)]


def cache_folders() -> list[Path]:
    """Where built things may lie, best first: the checkout's own cache, then the user's."""
    named = os.environ.get("XEN_LAB_CACHE")
    if named:
        return [Path(named)]
    private = Path(tempfile.gettempdir()) / f"xen-virtio-lab-cache-{os.getuid()}"
    return [CHECKOUT / ".cache" / "lab", private]


def writable_cache() -> Path:
    for folder in cache_folders():
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        except OSError:
            continue
        if os.access(folder, os.W_OK) and folder.stat().st_uid == os.getuid():
            return folder
    tried = ", ".join(map(str, cache_folders()))
    raise LabUnavailable(f"the lab has no folder to build in: none of {tried} is a writable folder of yours")


def locate(release: str) -> Xen:
    """The programs of ``release``; makes a Debian root for them where this machine has no such packages."""
    if release not in SUITES:
        raise LabUnavailable(f"no Xen {release} in the lab: it knows {', '.join(sorted(SUITES))}")
    own = Xen(release, Path("/"))
    if (own.programs / "xenstored").exists():
        missing = missing_packages(own)
        if missing:
            raise LabUnavailable(f"the lab needs Debian packages that are not installed: {' '.join(missing)}")
        return own
    for folder in cache_folders():
        root = folder / f"root-{SUITES[release]}"
        if (root / f"usr/lib/xen-{release}/bin/xl").exists():
            return Xen(release, root)
    return make_root(release)


def missing_packages(xen: Xen) -> list[str]:
    """Debian packages the lab needs beside the daemons, and this machine lacks."""
    needed = {
        "xen-utils-" + xen.release: xen.programs / "xl",
        "xen-utils-common": Path("/etc/xen/xl.conf"),
        "xenstore-utils": Path("/usr/bin/xenstore-ls"),
        "libxen-dev": xen.include / "xenguest.h",
        "gcc": Path(shutil.which("gcc") or "/usr/bin/gcc"),
        "libc6-dev": Path("/usr/include/stdio.h"),
    }
    return [package for package, path in needed.items() if not path.exists()]


def make_root(release: str) -> Xen:
    """Unpack the packages of ``release`` from the machine's own Debian mirror (some 130 MB, 10 s)."""
    utils = f"xen-utils-{release} xenstore-utils libxen-dev"
    if not shutil.which("mmdebstrap"):
        raise LabUnavailable(
            f"Xen {release} needs Debian packages not installed here: {utils}, or mmdebstrap"
        )
    suite = SUITES[release]
    return Xen(
        release,
        unpack(f"root-{suite}", suite, [f"xen-utils-{release}", "xen-utils-common", *utils.split()[1:]]),
    )


def unpack(name: str, suite: str, packages: Sequence[str]) -> Path:
    """Packages of another Debian release and what they depend on, in a folder of the cache: unpacked, not set up.

    Raises:
        LabUnavailable: Debian's mirror does not have them, or mmdebstrap or the network is missing.
    """
    cache = writable_cache()
    if (cache / name).exists():
        return cache / name
    if not shutil.which("mmdebstrap"):
        raise LabUnavailable(f"packages of Debian {suite} are unpacked by mmdebstrap, which is not installed")
    with tempfile.TemporaryDirectory(prefix="root-", dir=cache) as work:
        fresh = Path(work) / "root"
        command = ["mmdebstrap", "--quiet", "--variant=extract", f"--include={','.join(packages)}", suite]
        source = f"deb {debian_mirror()} {suite} main"
        done = subprocess.run([*command, str(fresh), source], capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise LabUnavailable(f"mmdebstrap could not unpack {packages[0]} of Debian {suite}: {reason}")
        os.chmod(fresh, 0o755)
        shutil.rmtree(fresh / "dev", ignore_errors=True)
        try:
            fresh.rename(cache / name)
        except OSError:  # another process was faster
            if not (cache / name).exists():
                raise
    return cache / name


def debian_mirror() -> str:
    """The Debian mirror this machine's apt is set up with."""
    command = ["apt-get", "indextargets", "--format", "$(LABEL)|$(REPO_URI)"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    except FileNotFoundError:
        raise LabUnavailable("the lab runs on Debian: apt-get was not found") from None
    targets = [line.partition("|") for line in lines]
    for label, _unused, uri in targets:
        if label == "Debian" or uri.rstrip("/").endswith("/debian"):
            return uri
    raise LabUnavailable("apt knows no Debian mirror on this machine (apt-get update first)")
