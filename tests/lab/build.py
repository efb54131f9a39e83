# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the shims, once for each state of their sources and of the Xen release they are for."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from .errors import LabError, LabUnavailable
from .roots import Xen, cache_folders, writable_cache

SOURCES = Path(__file__).resolve().parent / "shim"
STUBBED = re.compile(r"^(xc_|xenevtchn_|xenhypfs_)\w+$")
# These work on libxl's own memory and files, with no hypervisor: the real ones stay.
LEFT_REAL = {
    "xc_interface_close",
    "xc_dom_allocate",
    "xc_dom_boot_mem_init",
    "xc_dom_kernel_mem",
    "xc_dom_loginit",
    "xc_dom_malloc",
    "xc_dom_module_mem",
    "xc_dom_release",
}


class Shims(NamedTuple):
    xenstored: Path  # preloaded into xenstored and oxenstored
    toolstack: Path  # preloaded into xl and xen-init-dom0
    device: Path  # preloaded into a domain's programs: the socket of its store looks like /dev/xen/xenbus


def shims(xen: Xen) -> Shims:
    """The shims for this release, built where they are not there yet."""
    name = f"shim-{xen.release}-{fingerprint(xen)}"
    for cache in cache_folders():
        if (cache / name).is_dir():
            return named(cache / name)
    cache = writable_cache()
    with tempfile.TemporaryDirectory(prefix="build-", dir=cache) as work:
        fresh = Path(work) / name
        fresh.mkdir(mode=0o755)
        compile_all(xen, fresh)
        try:
            fresh.rename(cache / name)
        except OSError:  # another process was faster
            if not (cache / name).is_dir():
                raise
    return named(cache / name)


def named(folder: Path) -> Shims:
    return Shims(folder / "xenstored.so", folder / "toolstack.so", folder / "device.so")


def fingerprint(xen: Xen) -> str:
    """Changes with any source, with the release's libraries and with this file."""
    digest = hashlib.sha256()
    library = xen.libraries / f"libxenlight.so.{xen.release}"
    for path in [*sorted(SOURCES.iterdir()), library, Path(__file__)]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def compile_all(xen: Xen, folder: Path) -> None:
    for tool in ("gcc", "nm"):
        if not shutil.which(tool):
            raise LabUnavailable(
                "the lab builds two small libraries and needs the Debian packages gcc libc6-dev"
            )
    flags = ["-O2", "-fPIC", "-Wall", "-Wextra", "-Werror", f"-DXEN_MINOR={xen.minor}"]
    if not xen.native:
        flags += ["-isystem", str(xen.include)]
    for name in ("xenstored", "toolstack", "device"):
        run(["gcc", *flags, "-c", "-o", str(folder / f"{name}.o"), str(SOURCES / f"{name}.c")])
    (folder / "stubs.c").write_text(stubs(xen, folder / "toolstack.o"))
    run(["gcc", "-O2", "-fPIC", "-c", "-o", str(folder / "stubs.o"), str(folder / "stubs.c")])
    link(folder, "xenstored", "xenstored.o")
    link(folder, "toolstack", "toolstack.o", "stubs.o")
    link(folder, "device", "device.o")


def link(folder: Path, name: str, *objects: str) -> None:
    parts = [str(folder / part) for part in objects]
    run(["gcc", "-shared", "-o", str(folder / f"{name}.so"), *parts, "-ldl"])


def stubs(xen: Xen, toolstack: Path) -> str:
    """C text that answers 0 to every hypercall of libxl that the shim does not answer itself."""
    library = xen.libraries / f"libxenlight.so.{xen.release}"
    wanted = symbols(["nm", "-D", "--undefined-only", str(library)])
    defined = symbols(["nm", "--defined-only", str(toolstack)])
    names = sorted(name for name in wanted - defined - LEFT_REAL if STUBBED.match(name))
    lines = ["#include <stdio.h>", "#include <stdlib.h>"]
    lines += [
        f'long {name}(void) {{ if (getenv("XEN_LAB_TRACE")) fputs("lab: {name} = 0\\n", stderr); return 0; }}'
        for name in names
    ]
    return "\n".join(lines) + "\n"


def symbols(command: list[str]) -> set[str]:
    return {line.split()[-1].split("@")[0] for line in run(command).splitlines() if line.strip()}


def run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"building the lab failed: {' '.join(command)}\n{done.stderr.strip()}")
    return done.stdout
