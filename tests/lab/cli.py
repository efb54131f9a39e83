# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of the lab."""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import get_args

from .domains import Domain
from .errors import LabError
from .faults import Proxy
from .host import Answers, Backend, LabHost
from .machines_cli import add_machine_commands
from .roots import SUITES

EPILOG = """\
example:
  python3 tests/lab up board --answer-backends
  python3 tests/lab domain board add --kind toolstack --name DomD
  python3 tests/lab domain board add
  python3 tests/lab exec board -- xenstore-ls -fp
  python3 tests/lab xl board list
  python3 tests/lab view board 1
  python3 tests/lab down board
"""
DAEMONS = {"xenstored": "c", "oxenstored": "o"}


def hosts_folder() -> Path:
    """Where the hosts of the command line live: one private folder a user, or XEN_LAB_HOSTS."""
    folder = Path(
        os.environ.get("XEN_LAB_HOSTS") or Path(tempfile.gettempdir()) / f"xen-virtio-lab-{os.getuid()}"
    )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise LabError(f"{folder} belongs to somebody else; set XEN_LAB_HOSTS to a folder of yours")
    return folder


def host_folder(name: str) -> Path:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}", name):
        raise LabError(f"{name!r} is no name for a lab host: letters, digits, - _ . and at most 32 of them")
    return hosts_folder() / name


def existing(name: str) -> LabHost:
    folder = host_folder(name)
    if not (folder / "state.json").exists():
        known = ", ".join(sorted(path.name for path in hosts_folder().iterdir())) or "none"
        raise LabError(f"no lab host {name!r} (there is: {known})")
    return LabHost.attach(folder)


def running(name: str) -> LabHost:
    host = existing(name)
    if not host.running:
        raise LabError(f"the lab host {name!r} does not run any more; clear it away with: down {name}")
    return host


# ---- commands ----


def up(args: argparse.Namespace) -> None:
    folder = host_folder(args.name)
    if folder.exists():
        raise LabError(f"there is a lab host {args.name!r} already; end it with: down {args.name}")
    python = args.python or "/usr/bin/python3"
    host = LabHost(folder, DAEMONS[args.daemon], args.release, python=python, lifeline=False)  # type: ignore[arg-type]
    host.start()
    if args.answer_backends:
        host.answer_backends()
    show(host)


def show(host: LabHost) -> None:
    print(f"socket: {host.socket}")
    print(f"ansible_python_interpreter: {host.python}")
    print(f"files: {host.root}")
    print(f"logs: {host.folder / 'log'}")


def down(args: argparse.Namespace) -> None:
    names = [path.name for path in hosts_folder().iterdir()] if args.all else args.names
    if not names and not args.all:
        raise LabError("down: which one? NAME..., or --all")
    for name in names:
        existing(name).stop()
    with suppress(OSError):
        hosts_folder().rmdir()  # the last one takes the folder with it


def list_hosts(_args: argparse.Namespace) -> None:
    for path in sorted(hosts_folder().iterdir()):
        host = LabHost.attach(path)
        daemon = "xenstored" if host.daemon == "c" else "oxenstored"
        state = "up" if host.running else "dead"
        print(
            f"{path.name:16} {state:5} Xen {host.release}, {daemon}, {len(host.hypervisor.domains()) - 1} domains"
        )


def info(args: argparse.Namespace) -> None:
    show(running(args.name))


def reboot(args: argparse.Namespace) -> None:
    for done in running(args.name).reboot():
        print(f"{done.unit}: {'done' if not done.returncode else f'failed with {done.returncode}'}")
        print(done.output, end="")


def enter(host: LabHost, argv: Sequence[str]) -> None:
    program = str(host.folder / "enter")
    sys.stdout.flush()
    os.execv(program, [program, *argv])


def execute(args: argparse.Namespace) -> None:
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        raise LabError("exec: which command? exec NAME -- COMMAND...")
    enter(running(args.name), command)


def shell(args: argparse.Namespace) -> None:
    enter(running(args.name), [os.environ.get("SHELL", "/bin/sh")])


def xl(args: argparse.Namespace) -> None:
    enter(running(args.name), ["xl", *args.args])


def domain_add(args: argparse.Namespace) -> None:
    host = running(args.name)
    at_boot = True if args.at_boot else None
    print(
        host.add_domain(
            args.domain, args.kind, args.uuid, args.domid, args.paused, at_boot=at_boot, ready=args.ready
        )
    )


def domain_list(args: argparse.Namespace) -> None:
    def words(domain: Domain) -> str:
        names = {"p": "paused", "s": domain.shutdown or "", "d": "dying"}
        return " ".join(names[flag] for flag in domain.flags if flag in names) or "running"

    host = running(args.name)
    for domain in host.hypervisor.domains()[1:]:
        name = (host.read(f"/local/domain/{domain.domid}/name") or b"").decode("utf-8", "replace")
        print(f"{domain.domid:5} {domain.uuid} {words(domain):8} {name}")


def domain_act(args: argparse.Namespace) -> None:
    host = running(args.name)
    actions = {
        "kill": host.kill_domain,
        "pause": host.pause_domain,
        "unpause": host.unpause_domain,
        "shutdown": host.shutdown_domain,
        "reboot": host.guest_reboots,
        "crash": host.guest_crashes,
    }
    actions[args.act](args.domid)


def view(args: argparse.Namespace) -> None:
    host = running(args.name)
    print(f"socket: {host.domain_view(args.domid)}")
    print(f"ansible_python_interpreter: {host.domain_python(args.domid)}")
    print(f"with /dev/xen/xenbus as a device: {host.domain_python(args.domid, device=True)}")


def backends(args: argparse.Namespace) -> None:
    running(args.name).answer_backends(args.state == "on")


def guests(args: argparse.Namespace) -> None:
    running(args.name).guest_answers(
        args.state if args.state != "off" else False, args.guest, after=args.after
    )


def memory(args: argparse.Namespace) -> None:
    running(args.name).set_free_memory(args.mib, autoballoon=args.autoballoon)


def behave(args: argparse.Namespace) -> None:
    running(args.name).backend_behaves(args.how, args.guest, args.devid, after=args.after)


def fault_daemon(args: argparse.Namespace) -> None:
    daemon = running(args.name).xenstored
    {
        "kill": daemon.kill,
        "stop": daemon.stop,
        "cont": daemon.cont,
        "restart": daemon.restart,
        "live-update": daemon.live_update,
    }[args.fault]()


def fault_proxy(args: argparse.Namespace) -> None:
    host = running(args.name)
    where = {"in_place": args.in_place}
    proxy: Proxy
    if args.fault == "mute":
        proxy = host.mute(args.after, **where)
    elif args.fault == "hang-up":
        proxy = host.hang_up(args.after, **where)
    elif args.fault == "delay":
        proxy = host.delay(args.seconds, **where)
    else:
        proxy = host.conflict(args.path, times=args.times, **where)
    with proxy:
        print(f"socket: {proxy.socket}")
        print("Until Ctrl-C.", flush=True)
        signal.signal(signal.SIGTERM, lambda *_unused: signal.raise_signal(signal.SIGINT))
        with suppress(KeyboardInterrupt):
            signal.pause()


# ---- arguments ----


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python3 tests/lab",
        description="Real xenstored, oxenstored, xl and libxl on a machine without a hypervisor.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, run: object, text: str, *, host: bool = True) -> argparse.ArgumentParser:
        new = commands.add_parser(name, help=text, description=text)
        new.set_defaults(run=run)
        if host:
            new.add_argument("name", metavar="NAME", help="the lab host")
        return new

    new = command("up", up, "start a lab host")
    new.add_argument("--daemon", choices=DAEMONS, default="xenstored", help="default: %(default)s")
    new.add_argument("--release", choices=SUITES, default="4.17", help="of Xen; default: %(default)s")
    new.add_argument("--python", help="interpreter inside the host; default: /usr/bin/python3")
    new.add_argument(
        "--answer-backends", action="store_true", help="start the fake that answers backend states"
    )
    new = command("down", down, "end lab hosts and everything that runs in them", host=False)
    new.add_argument("names", metavar="NAME", nargs="*")
    new.add_argument("--all", action="store_true")
    command("list", list_hosts, "lab hosts of this user", host=False)
    command("info", info, "the paths of a lab host")
    command(
        "reboot",
        reboot,
        "power off and on: only dom0less and --at-boot domains come again, and wanted units run",
    )
    new = command("exec", execute, "run a command inside the host")
    new.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    command("shell", shell, "a shell inside the host")
    new = command("xl", xl, "the real xl of the host")
    new.add_argument("args", nargs=argparse.REMAINDER, metavar="ARGUMENTS")
    new = command("view", view, "a domain's own view of the store: its socket, and python inside the domain")
    new.add_argument("domid", type=int)
    new = command("backends", backends, "the fake that answers backend states")
    new.add_argument("state", choices=["on", "off"])
    add_guest_commands(command)
    add_domain_commands(command("domain", None, "the host's domains that xl did not make"))
    add_fault_commands(command("fault", None, "break something"))
    add_machine_commands(
        command("machines", None, "real systemd hosts over SSH, and driver domains among them", host=False)
    )
    return top


def add_guest_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    def whom(parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--guest", metavar="GUEST", type=number_or_name, help="name or domid; default: all"
        )
        parser.add_argument(
            "--after", type=float, default=0.2, metavar="SECONDS", help="default: %(default)s"
        )

    new = command("guests", guests, "the stand-in for what runs in the guests, and how it takes a shutdown")
    new.add_argument("state", choices=[*get_args(Answers), "off"])
    whom(new)
    new = command("behave", behave, "what the fake of a backend does from now on")
    new.add_argument("how", choices=get_args(Backend))
    new.add_argument("--devid", type=int)
    whom(new)
    new = command("memory", memory, "how much memory of the host is free now")
    new.add_argument("mib", type=int, metavar="MIB")
    new.add_argument("--autoballoon", action="store_true", help="xl asks dom0 for more, in vain")


def number_or_name(text: str) -> str | int:
    return int(text) if text.isdigit() else text


def add_domain_commands(domain: argparse.ArgumentParser) -> None:
    acts = domain.add_subparsers(metavar="ACT", required=True)
    add = acts.add_parser("add", help="a new domain; prints its domid")
    add.set_defaults(run=domain_add)
    add.add_argument("--name", dest="domain", help="default: dom0less-DOMID or domain-DOMID")
    add.add_argument(
        "--kind", choices=["dom0less", "toolstack"], default="dom0less", help="default: %(default)s"
    )
    add.add_argument("--uuid")
    add.add_argument("--domid", type=int)
    add.add_argument("--paused", action="store_true")
    add.add_argument("--at-boot", action="store_true", help="it comes with every boot, as dom0less ones do")
    add.add_argument(
        "--ready", metavar="DAEMON", action="append", default=[], help="drivers/DAEMON/status says ready"
    )
    acts.add_parser("list", help="all domains, xl's too").set_defaults(run=domain_list)
    for name, text in (
        ("kill", "gone at once; dom0's nodes of it stay"),
        ("pause", "as xl pause"),
        ("unpause", "as xl unpause"),
        ("shutdown", "powered off by itself; the domain is still there"),
        ("reboot", "rebooted by itself: xl's daemon creates its own guests anew"),
        ("crash", "crashed by itself"),
    ):
        act = acts.add_parser(name, help=text)
        act.set_defaults(run=domain_act, act=name)
        act.add_argument("domid", type=int)


def add_fault_commands(fault: argparse.ArgumentParser) -> None:
    faults = fault.add_subparsers(metavar="FAULT", required=True)
    for name, text in (
        ("kill", "SIGKILL xenstored"),
        ("stop", "stop xenstored: it answers nothing"),
        ("cont", "let it go on"),
        ("restart", "start it anew, with an empty store"),
        ("live-update", "replace it by itself, with its store and connections"),
    ):
        faults.add_parser(name, help=text).set_defaults(run=fault_daemon, fault=name)

    def proxy(name: str, text: str) -> argparse.ArgumentParser:
        new = faults.add_parser(name, help=text)
        new.set_defaults(run=fault_proxy, fault=name)
        new.add_argument("--in-place", action="store_true", help="at /run/xenstored/socket of the host")
        return new

    for name, text in (("mute", "replies never come"), ("hang-up", "the connection is closed")):
        proxy(name, text).add_argument("--after", type=int, default=0, help="so many replies; default: 0")
    proxy("delay", "every reply comes late").add_argument("seconds", type=float)
    conflict = proxy("conflict", "somebody else writes PATH just before a transaction commits")
    conflict.add_argument("path", metavar="PATH")
    conflict.add_argument("--times", type=int, default=1)


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    try:
        args.run(args)
    except ConnectionError as error:
        print(
            f"lab: xenstored does not answer ({error}): see fault NAME restart, or reboot NAME",
            file=sys.stderr,
        )
        return 1
    except (LabError, OSError, ValueError, subprocess.SubprocessError) as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
