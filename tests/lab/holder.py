# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that holds a lab host: its mount namespace, its daemons, and its end.

Started inside a fresh mount namespace (``unshare --mount``, and ``--user`` for an ordinary user), it
mounts the host's own folders over the machine's, then starts and ends programs as it is told on a unix
socket, one JSON object a line.  It ends, and everything inside the namespace with it, when it is told
to, at SIGTERM, or when its lifeline (standard input) closes because its owner died.

A domain's namespace is held by the same program without a socket, below the host's holder.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

MS_BIND, MS_REC = 4096, 16384
MNT_DETACH = 2
PR_SET_PDEATHSIG = 1
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
MOUNT_ATTR_RDONLY = 1
SYS_MOUNT_SETATTR = 442  # the same number on every architecture (Linux 5.12)

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def bind(source: str, target: str) -> None:
    flags = MS_BIND | MS_REC
    check(libc.mount(source.encode(), target.encode(), None, flags, None), f"mount {source} on {target}")


def make_readonly(target: str) -> None:
    """The whole tree of mounts at ``target``: nothing of the machine can be changed through it."""
    attributes = (ctypes.c_uint64 * 4)(MOUNT_ATTR_RDONLY, 0, 0, 0)
    arguments = (AT_FDCWD, target.encode(), AT_RECURSIVE, ctypes.byref(attributes), ctypes.sizeof(attributes))
    check(libc.syscall(SYS_MOUNT_SETATTR, *arguments), f"make {target} read-only")


def die_with_parent() -> None:
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def namespace_of(pid: int | str) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt")
    except OSError:
        return None


class Holder:
    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.folder = Path(config["folder"])
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self.ending = False

    def mount(self) -> None:
        for source, target, protected in self.config["originals"]:
            bind(source, target)
            if protected:
                make_readonly(target)
        for source, target in self.config["binds"]:
            bind(source, target)

    # -- programs --

    def spawn(self, name: str, argv: list[str], env: dict[str, str], log: str, ready: bool) -> int:
        """Start a program; with ``ready`` wait until it says so by a byte on its descriptor LAB_READY."""
        self.stop(name)
        read_end, write_end = os.pipe()
        try:
            with open(log, "ab") as output:
                child = subprocess.Popen(
                    argv,
                    env={**os.environ, **env, "LAB_READY": str(write_end)},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    preexec_fn=die_with_parent,  # noqa: PLW1509 - there are no threads here
                    pass_fds=[write_end] if ready else [],
                )
            os.close(write_end)
            write_end = -1
            self.children[name] = child
            if ready:
                told, _unused, _unused = select.select([read_end], [], [], 30)
                if not told or not os.read(read_end, 1):
                    self.stop(name)
                    raise RuntimeError(f"{name} did not start: {tail(log)}")
            return child.pid
        finally:
            os.close(read_end)
            if write_end >= 0:
                os.close(write_end)

    def stop(self, name: str) -> None:
        child = self.children.pop(name, None)
        if child is not None:
            inside = namespace_of(child.pid)
            if inside is not None:  # it lives: one that ended by itself has left nothing to look for
                self.sweep(namespace=inside)
            child.kill()
            child.wait()

    def signal(self, name: str, number: int) -> None:
        child = self.children.get(name)
        if child is None or child.poll() is not None:
            raise RuntimeError(f"{name} is not running")
        child.send_signal(number)
        if number == signal.SIGKILL:
            child.wait()

    def pids(self) -> dict[str, int]:
        return {name: child.pid for name, child in self.children.items() if child.poll() is None}

    # -- whatever else lives here: daemons that xl left behind, commands of a test that was interrupted --

    def strangers(self, namespaces: set[str]) -> list[int]:
        known = {os.getpid(), *(child.pid for child in self.children.values())}
        pids = (int(name) for name in os.listdir("/proc") if name.isdigit())
        return [pid for pid in pids if pid not in known and namespace_of(pid) in namespaces]

    def sweep(self, namespace: str | None = None) -> int:
        """End, by pid, every process in the host's namespaces that is not ours (or in that one only)."""
        own = namespace_of("self")
        if namespace is None:
            found = [own, *(namespace_of(child.pid) for child in self.children.values())]
        else:
            found = [namespace] if namespace != own else []
        namespaces = {item for item in found if item}
        ended, deadline = 0, time.monotonic() + 10
        while namespaces and (pids := self.strangers(namespaces)):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
                    ended += 1
            if time.monotonic() > deadline:
                raise RuntimeError(f"processes {pids} of the lab host do not end")
            time.sleep(0.002)
        return ended

    # -- the end --

    def end(self) -> None:
        with contextlib.suppress(RuntimeError):
            self.sweep()
        for name in list(self.children):
            self.stop(name)
        if self.config.get("short"):
            shutil.rmtree(self.config["short"], ignore_errors=True)
        if self.config.get("remove"):
            self.remove_folder()

    def remove_folder(self) -> None:
        """Only once nothing of the machine is mounted below it any more."""
        for mount in reversed(self.config["originals"] + self.config["binds"]):
            libc.umount2(mount[1].encode(), MNT_DETACH)
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
        if f" {self.folder}/" not in mounts:
            shutil.rmtree(self.folder, ignore_errors=True)

    # -- requests --

    def answer(self, request: dict[str, Any]) -> Any:
        operation, arguments = request["do"], request.get("with", {})
        if operation == "quit":
            self.ending = True
            return None
        if operation not in {"spawn", "stop", "signal", "pids", "sweep"}:
            raise RuntimeError(f"unknown request {operation!r}")
        return getattr(self, operation)(**arguments)

    def serve(self) -> None:
        """Until told to quit, or until the lifeline closes."""
        path = self.config["control"]
        listener = socket.socket(socket.AF_UNIX)
        here = os.open(".", os.O_RDONLY)
        os.chdir(os.path.dirname(path))  # a short name: the folder's may exceed a socket address
        listener.bind(os.path.basename(path))
        os.fchdir(here)
        listener.listen()
        print("ready", flush=True)
        watched: list[Any] = [listener, *([sys.stdin] if self.config["lifeline"] else [])]
        while not self.ending:
            readable, _unused, _unused = select.select(watched, [], [])
            if sys.stdin in readable and not os.read(0, 4096):
                return
            if listener in readable:
                connection, _unused = listener.accept()
                with connection, contextlib.suppress(OSError):
                    self.serve_one(connection)

    def serve_one(self, connection: socket.socket) -> None:
        connection.settimeout(10)
        with connection.makefile("rw", encoding="utf-8") as stream:
            line = stream.readline()
            if not line:
                return
            try:
                reply = {"ok": self.answer(json.loads(line))}
            except Exception as error:
                reply = {"error": f"{error}"}
            stream.write(json.dumps(reply) + "\n")
            stream.flush()


def tail(log: str) -> str:
    lines = Path(log).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "no message"


def end_by_signal(_number: int, _frame: object) -> None:
    raise SystemExit(0)


def do_nothing(_number: int, _frame: object) -> None:
    pass


def main() -> None:
    config = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, do_nothing)  # a handler, not SIG_IGN: the programs started here get the default
    if platform.system() != "Linux":
        raise SystemExit("the lab needs Linux namespaces")
    holder = Holder(config)
    holder.mount()
    if "control" not in config:  # a domain's namespace: only there to be entered
        os.write(int(os.environ["LAB_READY"]), b"!")
        signal.pause()
        return
    signal.signal(signal.SIGTERM, end_by_signal)
    try:
        holder.serve()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        holder.end()


if __name__ == "__main__":
    main()
