# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a lab host's files are: the machine's, but with folders of its own in the places that matter.

/etc, /var/lib, /var/log and /usr/local of a host are real folders below the lab's, filled with links to
the machine's entries, which are bound read-only at ``machine/``.  So a program inside finds everything
it expects and may write, replace and remove there, and nothing of it reaches the machine.  An overlay
would do the same for root; an ordinary user may not write into an overlay of root's folders, and one
way for both is worth more.  /run is the host's own and empty.
"""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path
from typing import Union

from .errors import LabUnavailable
from .roots import Xen

Own = dict[str, Union["Own", str]]  # name -> what becomes of that entry of the machine's folder
EMPTY = "empty"  # an empty folder
COPY = "copy"  # a copy of the files, links to the folders

#: Starts a program that sees no processes but its own.
ALONE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--")

OWN: dict[str, Own] = {
    "etc": {"systemd": {"system": EMPTY}, "xen": COPY},
    "var/lib": {"xen": EMPTY},
    "var/log": {"xen": EMPTY},
    "usr/local": {"bin": {}, "sbin": {}, "lib": {}, "share": {}},
}
SYSTEM = "etc/systemd/system"
WANTS = f"{SYSTEM}/multi-user.target.wants"


def refuse_below_own(path: Path) -> None:
    """The lab's folder cannot lie where the lab puts its own folders."""
    for top in (*(Path("/") / name for name in OWN), Path("/run"), Path("/dev")):
        if top in (path, *path.parents):
            raise LabUnavailable(f"a lab folder cannot lie below {top}, which is the lab host's own: {path}")


def make_tree(root: Path, machine: Path) -> None:
    """The host's own folders below ``root``; links point below ``machine``."""
    for name, own in OWN.items():
        fill(Path("/") / name, root / name, machine / name, own)
    (root / WANTS).mkdir(parents=True, exist_ok=True)
    make_volatile(root / "run")


def make_volatile(run: Path) -> None:
    for name in ("xen", "xenstored"):
        (run / name).mkdir(parents=True, exist_ok=True)
    (run / "lock").mkdir(exist_ok=True)
    (run / "lock").chmod(0o1777)


def fill(original: Path, folder: Path, via: Path, own: Own) -> None:
    folder.mkdir(parents=True)
    for entry in os.scandir(original) if original.is_dir() else ():
        if entry.name in own:
            continue
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), folder / entry.name)
        else:
            os.symlink(via / entry.name, folder / entry.name)
    for name, what in own.items():
        if isinstance(what, dict):
            fill(original / name, folder / name, via / name, what)
        elif what == EMPTY:
            (folder / name).mkdir()
        else:
            copy(original / name, folder / name, via / name)


def copy(original: Path, folder: Path, via: Path) -> None:
    folder.mkdir()
    for entry in os.scandir(original) if original.is_dir() else ():
        if entry.is_file() and os.access(entry.path, os.R_OK):
            shutil.copy2(entry.path, folder / entry.name)
        else:
            os.symlink(via / entry.name, folder / entry.name)


def make_machine(machine: Path) -> None:
    """The mount points for the machine's folders, and links beside them for relative links out of them."""
    for name in (*OWN, "dev"):
        (machine / name).mkdir(parents=True)
    for here in ("", "usr", "var"):
        for entry in os.scandir(f"/{here}"):
            if not os.path.lexists(machine / here / entry.name):
                os.symlink(entry.path, machine / here / entry.name)


def make_dev(folder: Path, machine: Path, xenbus: Path) -> None:
    """A /dev whose xen/xenbus is the given socket."""
    fill(Path("/dev"), folder, machine / "dev", {"xen": EMPTY})
    (folder / "xen" / "xenbus").symlink_to(xenbus)


def run_folders() -> list[str]:
    """/run, and /var/run where that is a folder of its own."""
    return ["/run", *(["/var/run"] if not Path("/var/run").is_symlink() else [])]


# ---- scripts ----


def write_script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)


PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def enter_script(pid: int, title: str, *, environment: dict[str, str], program: list[str]) -> str:
    """A script that runs ``program`` and its own arguments inside the namespaces of process ``pid``.

    A user namespace is entered only from outside of it: the kernel refuses to enter one's own.
    """
    mounts, users = (os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("mnt", "user"))
    settings = [f"{name}={value}" for name, value in environment.items()]
    run = f'env PATH="{PATH}:$PATH" {shlex.join([*settings, *program])} "$@"'
    return "\n".join(
        [
            f"# Runs a program inside {title}.",
            f'if [ "$(readlink /proc/{pid}/ns/mnt)" != "{mounts}" ]; then',
            f"    echo {shlex.quote(f'{title} is down')} >&2",
            "    exit 127",
            "fi",
            f'[ "$(readlink /proc/self/ns/mnt)" = "{mounts}" ] && exec {run}',
            "ways=--mount",
            f'[ "$(readlink /proc/self/ns/user)" = "{users}" ] || ways="--user --preserve-credentials --mount"',
            f'exec nsenter --target {pid} $ways --wdns="$PWD" {run}',
            "",
        ]
    )


def tool_script(xen: Xen, toolstack: Path, hypervisor: Path) -> str:
    """One script under many names: the release's programs, those that need a hypervisor under the shim."""
    environment, shimmed = xen.command(Path("PROGRAM"), toolstack)
    _unused, plain = xen.command(Path("PROGRAM"), None)
    folder, client_tools = xen.programs, xen.prefix / "usr/bin"

    def line(words: list[str], program: str, prefix: str = "") -> str:
        text = " ".join(program if word == "PROGRAM" else shlex.quote(word) for word in words)
        return f'{prefix}exec {text} "$@" ;;'

    settings = " ".join(f"{name}={shlex.quote(value)}" for name, value in environment.items())
    hv = f"XEN_LAB_HV={shlex.quote(str(hypervisor))}"
    return "\n".join(
        [
            f"# Xen {xen.release} of this lab host.",
            'name="${0##*/}"',
            'case "$name" in',
            "xl | xen-init-dom0)",
            f"    export {hv} {settings}",
            "    " + line(shimmed, f'{shlex.quote(str(folder))}/"$name"'),
            "xenstore-control)",
            "    " + line(plain, f'{shlex.quote(str(folder))}/"$name"'),
            "xenstore*)",
            "    " + line(plain, f'{shlex.quote(str(client_tools))}/"$name"'),
            "*)",
            '    echo "$name: not in the lab" >&2',
            "    exit 127 ;;",
            "esac",
            "",
        ]
    )


STORE_TOOLS = ("ls", "list", "read", "write", "rm", "exists", "chmod", "watch", "control")
TOOLS = ("xl", "xen-init-dom0", "xenstore", *(f"xenstore-{name}" for name in STORE_TOOLS))


def install_tools(root: Path, script: str) -> None:
    """First on every PATH: /usr/local/sbin of the host."""
    folder = root / "usr/local/sbin"
    write_script(folder / TOOLS[0], script)
    for name in TOOLS[1:]:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(TOOLS[0])
