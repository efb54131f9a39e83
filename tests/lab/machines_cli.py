# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``python3 tests/lab machines``: a lab of machines from a shell, for playbooks and for people.

A lab is a folder: ``hosts`` has the lab hosts, each called as the machine that is its dom0 (``XEN_LAB_HOSTS`` names
that folder to the other commands), ``net`` the machines, ``inventory.json`` what Ansible takes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from .errors import LabError
from .host import LabHost
from .machines import Machine, Machines
from .machines_apt import offer
from .machines_pair import Dom0, DriverDomain

DRIVER_DOMAINS = "virtio_disk_backends"  # the group of driver domains in the inventory
DOM0S = "xen_dom0"
DOM0 = "dom0"  # the machine, and the lab host, of --dom0 and --driver-domain


def labs_folder() -> Path:
    """Where labs of the command line live: one private folder a user, or XEN_LAB_MACHINES."""
    named = os.environ.get("XEN_LAB_MACHINES")
    folder = Path(named or Path(tempfile.gettempdir()) / f"xen-virtio-machines-{os.getuid()}")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise LabError(f"{folder} belongs to somebody else; set XEN_LAB_MACHINES to a folder of yours")
    return folder


def lab_folder(name: str) -> Path:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}", name):
        raise LabError(f"{name!r} is no name for a lab: letters, digits, - _ . and at most 32 of them")
    return labs_folder() / name


def attached(name: str) -> Machines:
    folder = lab_folder(name)
    if not (folder / "net/state.json").exists():
        known = ", ".join(sorted(path.name for path in labs_folder().iterdir())) or "none"
        raise LabError(f"no lab {name!r} of machines (there is: {known})")
    return Machines.attach(folder / "net")


def machine_of(args: argparse.Namespace) -> Machine:
    machines = attached(args.name).machines
    if args.machine not in machines:
        raise LabError(f"no machine {args.machine!r} in {args.name} (there is: {', '.join(machines)})")
    return machines[args.machine]


def host_of(name: str, board: str = DOM0) -> LabHost:
    folder = lab_folder(name) / "hosts" / board
    if not folder.exists():
        raise LabError(f"the lab {name!r} has no Xen on {board}: see --dom0, --driver-domain and --board")
    return LabHost.attach(folder)


# ---- commands ----


def up(args: argparse.Namespace) -> None:
    folder = lab_folder(args.name)
    if folder.exists():
        raise LabError(f"there is a lab {args.name!r} already; end it with: machines down {args.name}")
    if not (args.machine or args.driver_domain or args.dom0 or args.board):
        raise LabError(
            "machines up: which ones? --machine NAME, --driver-domain NAME, --dom0, --board NAME=DOMAIN"
        )
    folder.mkdir()
    machines = Machines(folder / "net", suite=args.suite, lifeline=False)
    try:
        machines.start()
        if args.driver_domain or args.dom0:
            start_domains(start_host(folder, DOM0), machines, args)
        for board in args.board:
            start_board(folder, machines, *board.partition("=")[::2])
        for name in args.machine:
            machines.add(name, wait=False)
        for machine in machines.machines.values():
            machine.wait()
    except BaseException:
        end(folder)
        raise
    dom0s = [*([DOM0] if args.dom0 else []), *(board.partition("=")[0] for board in args.board)]
    inventory = machines.inventory(
        **({DRIVER_DOMAINS: [name.lower() for name in args.driver_domain]} if args.driver_domain else {}),
        **({DOM0S: dom0s} if dom0s else {}),
    )
    (folder / "inventory.json").write_text(json.dumps(inventory, indent=2) + "\n")
    print(folder / "inventory.json")


def start_host(folder: Path, name: str) -> LabHost:
    (folder / "hosts").mkdir(exist_ok=True)
    return LabHost(folder / "hosts" / name, lifeline=False).start()


def start_board(folder: Path, machines: Machines, name: str, domain: str) -> None:
    """A dom0 called so, with a driver domain (the machine NAME-DOMAIN) where one is named."""
    host = start_host(folder, name)
    Dom0(host, machines, name).start(wait=False)
    if domain:
        DriverDomain(host, machines, domain, f"{name}-{domain.lower()}").start(wait=False)


def start_domains(host: LabHost, machines: Machines, args: argparse.Namespace) -> None:
    if args.dom0:
        Dom0(host, machines).start(wait=False)
    for name in args.driver_domain:
        DriverDomain(host, machines, name, name.lower()).start(wait=False)


def down(args: argparse.Namespace) -> None:
    folders = [*labs_folder().iterdir()] if args.all else [lab_folder(name) for name in args.names]
    for folder in folders:
        end(folder)
    with suppress(OSError):
        labs_folder().rmdir()  # the last one takes the folder with it


def end(folder: Path) -> None:
    """A lab that is not there is ended already."""
    with suppress(LabError):
        Machines.attach(folder / "net").stop()
    for host in sorted((folder / "hosts").glob("*")):
        with suppress(LabError):
            LabHost.attach(host).stop()
    shutil.rmtree(folder, ignore_errors=True)


def list_labs(_args: argparse.Namespace) -> None:
    for path in sorted(labs_folder().iterdir()):
        for machine in Machines.attach(path / "net").machines.values():
            print(
                f"{path.name:16} {machine.name:12} {machine.address:12} {'on' if machine.running else 'off'}"
            )


def execute(args: argparse.Namespace) -> None:
    command = machine_of(args).command(words(args.command))
    os.execvp(command[0], command)


def ssh(args: argparse.Namespace) -> None:
    machine = machine_of(args)
    program = str(machine.machines.folder / "bin/ssh")
    os.execv(
        program, [program, *machine.machines.ssh_options, f"root@{machine.address}", *words(args.command)]
    )


def xl(args: argparse.Namespace) -> None:
    program = str(host_of(args.name).folder / "enter")
    os.execv(program, [program, "xl", *words(args.command)])


def power(args: argparse.Namespace) -> None:
    machine = machine_of(args)
    acts: dict[str, Any] = {
        "on": machine.boot,
        "off": machine.power_off,
        "reboot": machine.reboot,
        "plug": machine.plug,
        "unplug": machine.unplug,
    }
    acts[args.what]()


def guest(args: argparse.Namespace) -> None:
    """Its configuration in dom0's /etc/xen; prints the path."""
    host = host_of(args.name, args.board)
    settings: dict[str, object] = {"name": args.guest, "type": "pvh", "kernel": host.kernel, "memory": 64}
    settings["disk"] = args.disk
    text = "".join(f"{key} = {value!r}\n" for key, value in settings.items())
    (host.root / f"etc/xen/{args.guest}.cfg").write_text(text)
    print(f"/etc/xen/{args.guest}.cfg")


def package(args: argparse.Namespace) -> None:
    files = {path: Path(here) for path, _equals, here in (item.partition("=") for item in args.files)}
    offer(machine_of(args), args.package, args.version, files)


def serve(args: argparse.Namespace) -> None:
    print(attached(args.name).serve(Path(args.folder).resolve()))


def words(command: list[str]) -> list[str]:
    return command[1:] if command[:1] == ["--"] else command


# ---- arguments ----


def add_machine_commands(top: argparse.ArgumentParser) -> None:
    """What follows ``machines`` on the command line."""
    commands = top.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, run: object, text: str, *, machine: bool = False) -> argparse.ArgumentParser:
        new = commands.add_parser(name, help=text, description=text)
        new.set_defaults(run=run)
        new.add_argument("name", metavar="LAB")
        if machine:
            new.add_argument("machine", metavar="MACHINE")
        return new

    def names(new: argparse.ArgumentParser, option: str, text: str) -> None:
        new.add_argument(option, metavar="NAME", action="append", default=[], help=text)

    new = command("up", up, "start a lab of machines; prints its inventory's path")
    names(new, "--machine", "a host")
    names(new, "--driver-domain", "a driver domain; its machine has the name in lower case")
    new.add_argument("--dom0", action="store_true", help="the machine dom0, with xl")
    new.add_argument(
        "--board",
        metavar="NAME[=DOMAIN]",
        action="append",
        default=[],
        help="a further dom0, with a driver domain of its own (the machine NAME-DOMAIN)",
    )
    new.add_argument("--suite", default="bookworm", help="Debian's; default: %(default)s")
    new = commands.add_parser(
        "down", help="end labs and everything in them; one that is not there is no error"
    )
    new.set_defaults(run=down)
    new.add_argument("names", metavar="LAB", nargs="*")
    new.add_argument("--all", action="store_true")
    commands.add_parser("list", help="machines of this user").set_defaults(run=list_labs)
    rest: dict[str, Any] = {"nargs": argparse.REMAINDER, "metavar": "-- COMMAND"}
    command("exec", execute, "run a command in a machine, past SSH", machine=True).add_argument(
        "command", **rest
    )
    command("ssh", ssh, "SSH to a machine", machine=True).add_argument("command", **rest)
    command("xl", xl, "the real xl of dom0").add_argument("command", nargs=argparse.REMAINDER)
    new = command("power", power, "power and network of a machine", machine=True)
    new.add_argument("what", choices=["on", "off", "reboot", "plug", "unplug"])
    new = command("guest", guest, "write a guest's configuration for xl; prints its path in dom0")
    new.add_argument("--board", default=DOM0, metavar="NAME", help="whose; default: %(default)s")
    new.add_argument("guest", metavar="GUEST")
    new.add_argument("disk", metavar="DISK", nargs="*", help="a disk string of xl")
    new = command("package", package, "offer a package to a machine's apt", machine=True)
    new.add_argument("package", metavar="PACKAGE")
    new.add_argument("version", metavar="VERSION")
    new.add_argument("files", metavar="PATH=FILE", nargs="+", help="path in the machine, and a file of yours")
    new = command("serve", serve, "a folder over HTTP for a lab's machines; prints its URL")
    new.add_argument("folder", metavar="FOLDER")
