# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab host: one dom0 with a real xenstored and a real xl, and the domains that run "on" it."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import uuid as uuids
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from . import build, domains, faults, guests, namespace, roots, units, wire
from .errors import LabError, LabUnavailable
from .finished import finished
from .held import SOCKET_NAME, Held, Words, python_command

if TYPE_CHECKING:
    from typing import Self

Kind = Literal["dom0less", "toolstack"]
Daemon = Literal["c", "o"]
Backend = Literal["answer", "never", "late", "give-up", "refuse"]
Answers = Literal["answer", "ignore", "hang", "crash", "vanish"]
ROOM_FOR_NAMES = 48  # for the longest name below a host's folder: /root/run/xenstored/socket.real
ASIDE = "socket.real"
GUEST = {"shutdown": "answer", "after": 0.0, "follows": True}
START_TIMEOUT = 30.0  # seconds; a start takes a fraction of one

OXENSTORED_CONF = """\
pid-file = /run/xenstored/xenstored.pid
test-eagain = false
merge-activate = true
perms-activate = true
perms-watch-activate = true
quota-activate = true
quota-maxentity = 1000
quota-maxsize = 2048
quota-maxwatch = 100
quota-transaction = 10
quota-maxrequests = 1024
quota-path-max = 1024
quota-maxoutstanding = 1024
quota-maxwatchevents = 1024
persistent = false
xenstored-kva = {hypervisor}/dom0_ring
xenstored-port = {hypervisor}/dom0_port
"""


class AtBoot(NamedTuple):
    """A domain that comes with every boot of this host."""

    name: str | None
    kind: Kind
    uuid: str | None
    domid: int
    paused: bool
    ready: Sequence[str]


class Xenstored:
    """The host's store daemon as a process."""

    def __init__(self, host: LabHost) -> None:
        self._host = host

    @property
    def pid(self) -> int | None:
        """Its process id, None while it does not run."""
        pid: int | None = self._host.ask("pids").get("xenstored")
        return pid

    def kill(self) -> None:
        """SIGKILL: connections break, new ones are refused, the store is lost."""
        self._host.ask("signal", name="xenstored", number=int(signal.SIGKILL))

    def stop(self) -> None:
        """SIGSTOP: connections stay, nothing is answered."""
        self._host.ask("signal", name="xenstored", number=int(signal.SIGSTOP))

    def cont(self) -> None:
        self._host.ask("signal", name="xenstored", number=int(signal.SIGCONT))

    def restart(self) -> None:
        """Killed and started again with an empty store: dom0's own nodes, no other domain introduced."""
        self._host.ask("stop", name="xenstored")
        self._host.start_xenstored()

    def live_update(self, *, within: int = 20) -> None:
        """Replaced by its own program started anew: process, store, connections, watches and rings stay.

        Raises:
            LabError: it runs on as it was; so it does where a transaction stays open for ``within`` seconds.
        """
        self._host.live_update_xenstored(within)


class LabHost(Held):
    """A context manager; ``start`` and ``stop`` do the same by hand.

    ``folder`` must be empty or not there; all state lives in it, and it is removed at the end unless
    ``keep``.  ``daemon`` is "c" (xenstored) or "o" (oxenstored), ``release`` one of "4.17" and "4.20",
    ``python`` the interpreter that ``host.python`` runs, ``daemon_args`` more arguments for the daemon
    (``["--entry-nb", "2000"]``: another quota of C xenstored).  With ``lifeline=False`` the host outlives its
    owner and is stopped by ``LabHost.attach(folder).stop()``.
    """

    WORDS = Words(
        start="a lab host starts",
        none="no lab host",
        down="the lab host in {folder} does not run",
        holder="the lab host in {folder}",
        refused="make a mount namespace",
    )

    def __init__(
        self,
        folder: str | os.PathLike[str],
        daemon: Daemon = "c",
        release: str = "4.17",
        *,
        python: str | None = None,
        daemon_args: Sequence[str] = (),
        keep: bool = False,
        lifeline: bool = True,
    ) -> None:
        if daemon not in {"c", "o"}:
            raise LabError(f"no daemon {daemon!r}: it is 'c' (xenstored) or 'o' (oxenstored)")
        super().__init__(folder, keep=keep, lifeline=lifeline)
        self.daemon = daemon
        self.release = release
        self.xenstored = Xenstored(self)
        self.hypervisor = domains.Hypervisor(self.folder / "hv")
        self._python = python or sys.executable
        self._daemon_args = list(daemon_args)
        self._at_boot: list[AtBoot] = []
        self._standing: list[str] = []  # the stand-ins that are on
        self._xen: roots.Xen | None = None
        self._shims: build.Shims | None = None

    # ---- start and stop ----

    def start(self) -> Self:
        if self._process is not None:
            raise LabError(f"the lab host in {self.folder} already runs")
        self._find_programs()
        self._take_folder()
        self.hypervisor = domains.Hypervisor(self.folder / "hv")
        with self._whole_or_not():
            self._prepare()
            self._holder = self._hold()
            self._write_entrances()
            self._save()
            self.start_xenstored()
        return self

    @classmethod
    def attach(cls, folder: str | os.PathLike[str]) -> LabHost:
        """The host that another process started in ``folder``."""
        path = Path(folder).resolve()
        state = cls._state(path)
        options = {name: state[name] for name in ("daemon", "release", "python", "daemon_args", "keep")}
        host = cls(path, **options)
        host._at_boot = [AtBoot(*item) for item in state["at_boot"]]
        host._standing = state["standing"]
        host._holder = state["pid"]
        host._short = Path(state["short"]) if state["short"] else None
        host._find_programs()
        return host

    @property
    def running(self) -> bool:
        try:
            self.ask("pids")
        except LabError:
            return False
        return True

    # ---- paths ----

    @property
    def socket(self) -> str:
        """xenstored's own socket: dom0's view of the store."""
        return self._reachable(self._run / "xenstored" / "socket")

    @property
    def real_socket(self) -> str:
        """xenstored's socket, also while a fault stands in its place."""
        aside = self._run / "xenstored" / ASIDE
        return self._reachable(aside) if aside.exists() else self.socket

    def set_aside_socket(self) -> str:
        """Make room at /run/xenstored/socket for a fault; returns where xenstored still listens."""
        aside = self._run / "xenstored" / ASIDE
        if aside.exists():
            raise LabError("a fault already stands in the place of xenstored's socket")
        (self._run / "xenstored" / "socket").rename(aside)
        return self._reachable(aside)

    def put_socket_back(self) -> None:
        aside = self._run / "xenstored" / ASIDE
        if aside.exists():
            aside.rename(self._run / "xenstored" / "socket")

    @property
    def python(self) -> str:
        """An executable that is python inside the host: usable as ansible_python_interpreter."""
        return str(self.folder / "python")

    @property
    def kernel(self) -> str:
        """A file that can be a guest's kernel: xl reads it, nothing runs it."""
        return str(self.folder / "vmlinuz")

    @property
    def root(self) -> Path:
        """Where the host's own folders lie: ``root / "etc/systemd/system"`` is its /etc/systemd/system."""
        return self.folder / "root"

    @property
    def _run(self) -> Path:
        return self.root / "run"

    # ---- running things inside ----

    def run(
        self,
        argv: Sequence[str | os.PathLike[str]],
        *,
        check: bool = True,
        timeout: float = 60.0,
        input: str | None = None,
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Any command inside the host, as its root."""
        command = [str(self.folder / "enter"), *(os.fspath(item) for item in argv)]
        done = finished(command, timeout=timeout, input=input, env=env)
        done.args = command[1:]
        if check and done.returncode:
            raise LabError(f"{shlex.join(done.args)} ended with {done.returncode}: {done.stderr.strip()}")
        return done

    def xl(self, *args: str, check: bool = True, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """The real xl."""
        return self.run(["xl", *args], check=check, timeout=timeout)

    # ---- domains ----

    def add_domain(
        self,
        name: str | None = None,
        kind: Kind = "dom0less",
        uuid: str | None = None,
        domid: int | None = None,
        paused: bool = False,
        *,
        at_boot: bool | None = None,
        ready: Sequence[str] = (),
    ) -> int:
        """A domain that xl did not make; returns its domid, which no other domain had since the boot.

        "dom0less": as Xen and init-dom0less leave it, ``dom0less-<domid>`` unless named.  "toolstack": as
        another toolstack would, with a name only dom0 can write.  ``at_boot``: whether it comes again with
        every boot, with the same domid; dom0less domains do unless it is False, others if it is True.
        ``ready``: daemons of a driver domain that say so in ``drivers/<daemon>/status`` of it.
        """
        if kind not in {"dom0less", "toolstack"}:
            raise LabError(f"no kind {kind!r} of domain: it is 'dom0less' or 'toolstack'")
        number = self.hypervisor.next_domid(domid)
        identity = uuids.UUID(uuid) if uuid else uuids.uuid4()
        self.hypervisor.store(domains.Domain(number, identity, "hp" if paused else "h"))
        with self.store() as client:
            if kind == "dom0less":
                userdata = self.root / f"var/lib/xen/userdata-d.{number}.{identity}.libxl-json"
                userdata.write_bytes(domains.dom0less_userdata(identity))
                domains.write_dom0less(client, number, identity, name or f"dom0less-{number}")
            else:
                domains.write_toolstack(client, number, identity, name or f"domain-{number}")
            for daemon in ready:
                for path, value in ((f"drivers/{daemon}", ""), (f"drivers/{daemon}/status", "ready")):
                    client.write(f"/local/domain/{number}/{path}", value)
                    client.set_permissions(f"/local/domain/{number}/{path}", [f"n{number}", "r0"])
        if at_boot or (at_boot is None and kind == "dom0less"):
            self._at_boot.append(AtBoot(name, kind, uuid, number, paused, list(ready)))
            self._save()
        return number

    def kill_domain(self, domid: int) -> None:
        """The domain is gone at once, as Xen sees it; xenstored removes what it owned, the rest stays."""
        self.hypervisor.destroy(domid)
        for name in (f"namespace-{domid}", f"view-{domid}"):
            self.ask("stop", name=name)

    def pause_domain(self, domid: int) -> None:
        self.hypervisor.set_flag(domid, "p", True)

    def unpause_domain(self, domid: int) -> None:
        self.hypervisor.set_flag(domid, "p", False)

    def shutdown_domain(self, domid: int, reason: str = "poweroff", *, crashed: bool = False) -> None:
        """The guest ended by itself: the domain is still there, and xenstored and xl are told.

        ``reason``: poweroff, reboot, crash (``crashed=True`` is the same), watchdog, suspend, soft_reset.
        """
        self.hypervisor.shut_down(domid, "crash" if crashed else reason)

    def guest_reboots(self, domid: int) -> None:
        """The guest reboots by itself: xl's daemon destroys the domain and creates it anew, with another domid."""
        self.hypervisor.shut_down(domid, "reboot")

    def guest_crashes(self, domid: int) -> None:
        """The guest crashes: xl's daemon does what on_crash says."""
        self.hypervisor.shut_down(domid, "crash")

    def hold_domain(self, domid: int) -> None:
        """Once it is destroyed the domain stays there, dying, until `release_domain`: somebody holds its pages."""
        self.hypervisor.set_flag(domid, "k", True)

    def release_domain(self, domid: int) -> None:
        """A dying domain is gone at last."""
        self.kill_domain(domid)

    def set_free_memory(self, mib: int, *, autoballoon: bool = False) -> None:
        """So much memory of the host is free now.

        Xen is booted with ``dom0_mem=``, so xl leaves dom0's memory alone and a create that needs more
        fails in building the domain.  With ``autoballoon`` it is not: xl first asks dom0 to give some away,
        waits 10 s for nothing, and says "failed to free memory for the domain".
        """
        self.hypervisor.set_free_kib(mib << 10)
        self.hypervisor.set_commandline("placeholder" if autoballoon else domains.COMMANDLINE)

    def domain_view(self, domid: int) -> str:
        """A socket that is the domain's own view of the store, with its permissions and quotas."""
        self.hypervisor.known(domid)
        path = self.folder / "views" / f"{domid}.sock"
        if not guests.served(path):
            self._wait_for_ring(domid)
            path.parent.mkdir(exist_ok=True)
            if "guests" in self.ask("pids"):
                self._wait_for_view(domid, path)
            else:
                self._spawn_module(
                    "ring", f"view-{domid}", str(self.hypervisor.folder), str(domid), str(path)
                )
        return self._reachable(path)

    def _wait_for_view(self, domid: int, path: Path) -> None:
        """The stand-in for guests serves all views."""
        deadline = time.monotonic() + START_TIMEOUT
        while not guests.served(path):
            if time.monotonic() > deadline:
                raise LabError(f"the stand-in for guests serves no view of domain {domid}")
            time.sleep(0.005)

    def domain_python(self, domid: int, *, device: bool = False, alone: bool = False) -> str:
        """As ``python``, inside the domain: its /dev/xen/xenbus is its view, there is no xenstored socket.

        /dev/xen/xenbus is a socket; with ``device`` it is disguised as the character device it is on a
        real machine: it is opened, and every write carries one message (shim/device.c).  ``alone``: it sees
        no processes but its own, as in another machine.
        """
        view = self.domain_view(domid)
        name = f"namespace-{domid}"
        folder = self.folder / "domains" / str(domid)
        if name not in self.ask("pids"):
            self._start_domain_namespace(domid, folder, Path(view))
        environment = {}
        if device:
            environment = {"LD_PRELOAD": str(self._built.device), "XEN_LAB_XENBUS": view}
        script = folder / f"python{'-device' * device}{'-alone' * alone}"
        words = [*namespace.ALONE, self._python] if alone else [self._python]
        self._write_entrance(script, self.ask("pids")[name], f"domain {domid}", words, environment)
        return str(script)

    # ---- dom0's access to the store ----

    def store(self, *, timeout: float = 20.0) -> wire.Client:
        """A connection as dom0 (a context manager)."""
        return wire.Client(self.real_socket, timeout=timeout)

    def read(self, path: str) -> bytes | None:
        """The node's value, None where there is no such node."""
        with self.store() as client:
            return client.read(path)

    def write(self, path: str, value: str | bytes) -> None:
        with self.store() as client:
            client.write(path, value)

    def rm(self, path: str) -> bool:
        """Remove the subtree; False where there was none."""
        with self.store() as client:
            return client.remove(path)

    def ls(self, path: str = "/") -> dict[str, tuple[bytes, tuple[str, ...]]]:
        """The subtree, depth first: path -> (value, permissions)."""
        with self.store() as client:
            return client.tree(path)

    # ---- stand-ins and faults ----

    def answer_backends(self, on: bool = True) -> None:
        """Start or end the fake that answers backend states (backends.py says which)."""
        self._stand_in("backends", on)

    def backend_behaves(
        self, how: Backend, guest: str | int | None = None, devid: int | None = None, *, after: float = 0.2
    ) -> None:
        """What a fake backend does from now on, for one guest (name or domid), one device number, or all.

        "answer" (as all do at first); "never": there is no daemon, no state is ever answered; "late":
        answers ``after`` seconds late; "give-up": says 2 and removes its directory ``after`` seconds later,
        as a daemon does which cannot open its image; "refuse": comes up, but never closes.  The last call
        that fits a device counts, and ends what was under way.
        """
        if how not in get_args(Backend):
            raise LabError(f"no backend behaves {how!r}: it is one of {', '.join(get_args(Backend))}")
        rules = self.folder / "backends.json"
        rule = {"how": how, "guest": guest, "devid": devid, "after": after}
        rules.write_text(json.dumps([*json.loads(rules.read_text()), rule]))
        if "backends" in self.ask("pids"):
            self._stand_in("backends", False)
            self._stand_in("backends", True)

    def guest_answers(
        self,
        how: Answers | bool = True,
        guest: str | int | None = None,
        *,
        after: float = 0.0,
        follows: bool = True,
    ) -> None:
        """Start the stand-in for what runs in the guests (guests.py), and say how they take a shutdown.

        Without ``guest`` (a name or a domid) it is meant for all that nothing else was said of.

        - "answer" or True: takes note, and is off (or reboots) ``after`` seconds later; it hangs instead
          where one of its virtio disks has no backend that serves it
        - "ignore": takes no note of requests; "hang": takes note, and no more
        - "crash": takes note, and crashes; "vanish": takes note, and is destroyed by somebody
        - False: ends the stand-in, for all guests; none of them runs then

        With ``follows=False`` a guest keeps its memory and vCPUs whatever it is told.
        """
        if how is False:
            self._stand_in("guests", False)
            return
        word = "answer" if how is True else how
        if word not in get_args(Answers):
            raise LabError(f"no guest answers {word!r}: it is one of {', '.join(get_args(Answers))}")
        path = self.folder / "guests.json"
        config = json.loads(path.read_text())
        said = {"shutdown": word, "after": after, "follows": follows}
        if guest is None:
            config["default"] = said
        else:
            config["guests"][f"{guest}"] = said
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(config))
        fresh.replace(path)
        self._stand_in("guests", True)

    def wait_for_guests(self) -> None:
        """Until every guest that runs has come up, and so writes nothing more of its own accord.

        Raises:
            LabError: one has not, in good time.
        """
        deadline = time.monotonic() + START_TIMEOUT
        views = self.folder / "views"
        while True:
            running = [one.domid for one in self.hypervisor.domains() if one.domid and guests.runs(one)]
            late = [domid for domid in running if not guests.up_mark(views, domid).exists()]
            if not late:
                return
            if time.monotonic() > deadline:
                raise LabError(f"domain {late[0]} does not come up")
            time.sleep(0.005)

    def _stand_in(self, name: str, on: bool) -> None:
        """Start or end a stand-in; one that is on comes again with the store daemon or the power."""
        self._standing = [one for one in self._standing if one != name] + [name] * on
        self._save()
        if not on:
            self.ask("stop", name=name)
        elif name not in self.ask("pids"):
            if name == "guests":
                self._spawn_module("guests", name, str(self.folder), self.socket)
            else:
                self._spawn_module("backends", name, self.socket, str(self.folder / "backends.json"))

    def mute(self, after: int = 0, **where: Any) -> faults.Proxy:
        """A way to the store whose replies stop after ``after`` messages and never come again."""
        return faults.Proxy(self, faults.Mute(after), **where)

    def delay(self, seconds: float, **where: Any) -> faults.Proxy:
        """A way to the store whose every reply comes ``seconds`` late."""
        return faults.Proxy(self, faults.Delay(seconds), **where)

    def hang_up(self, after: int = 0, **where: Any) -> faults.Proxy:
        """A way to the store that closes the connection after ``after`` replies."""
        return faults.Proxy(self, faults.HangUp(after), **where)

    def conflict(self, path: str, *, times: int = 1, value: str | None = None, **where: Any) -> faults.Proxy:
        """A way to the store on which somebody else changes ``path`` just before a transaction commits.

        It happens before each of the first ``times`` commits.  With ``value`` the node keeps it; without,
        it is changed and, once the commit is refused, put back (or removed, where it was not there).
        """
        return faults.Proxy(self, faults.Conflict(self, path, times, value), **where)

    # ---- power ----

    def reboot(self) -> list[units.Done]:
        """Power off and on: domains, /run and the store are gone, /etc, /var/lib and /usr/local stay.

        Domids count from 1 again.  In this order come: xenstored; the stand-ins that were on (fake
        backends and guests, with all that was said of them); the domains that come at boot, each with its
        domid, but with a new uuid unless it was given one; the units wanted by multi-user.target.
        Returns what these did.  Domains made by xl come only where a unit creates them.
        """
        self.power_off()
        return self.power_on()

    def power_off(self) -> None:
        """Every process of the host and its domains ends at once."""
        self.ask("sweep")
        for name in self.ask("pids"):
            self.ask("stop", name=name)
        self.hypervisor.reset()
        for path in self._run.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        namespace.make_volatile(self._run)

    def power_on(self) -> list[units.Done]:
        self.start_xenstored()
        again, self._at_boot = self._at_boot, []
        for one in sorted(again, key=lambda domain: domain.domid):
            self.add_domain(
                one.name, one.kind, one.uuid, one.domid, one.paused, at_boot=True, ready=one.ready
            )
        return units.run_wanted(self)

    def processes(self) -> dict[int, str]:
        """Everything that runs inside the host beside the lab's own parts: pid -> command line."""
        own = {self._holder, *self.ask("pids").values()}
        here = os.readlink(f"/proc/{self._holder}/ns/mnt")
        found = {}
        for entry in os.listdir("/proc"):
            with contextlib.suppress(OSError):
                if entry.isdigit() and int(entry) not in own and os.readlink(f"/proc/{entry}/ns/mnt") == here:
                    found[int(entry)] = (
                        Path(f"/proc/{entry}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                    )
        return found

    # ---- inside ----

    @property
    def xen(self) -> roots.Xen:
        if self._xen is None:
            self._find_programs()
        assert self._xen is not None
        return self._xen

    @property
    def _built(self) -> build.Shims:
        if self._shims is None:
            self._shims = build.shims(self.xen)
        return self._shims

    def _find_programs(self) -> None:
        for tool, package in (("unshare", "util-linux"), ("nsenter", "util-linux")):
            if not shutil.which(tool):
                raise LabUnavailable(f"the lab needs {tool} (Debian package {package})")
        self._xen = roots.locate(self.release)
        self._shims = build.shims(self._xen)

    def _prepare(self) -> None:
        self.hypervisor.create()
        if len(os.fsencode(self.folder)) > SOCKET_NAME - ROOM_FOR_NAMES:
            self._shorten()
        (self.folder / "log").mkdir()
        Path(self.kernel).write_bytes(b"a kernel, as far as the lab is concerned\n")
        (self.folder / "backends.json").write_text("[]")
        (self.folder / "guests.json").write_text(json.dumps({"default": GUEST, "guests": {}}))
        namespace.make_machine(self.folder / "machine")
        namespace.make_tree(self.root, self.folder / "machine")
        script = namespace.tool_script(self.xen, self._built.toolstack, self.hypervisor.folder)
        namespace.install_tools(self.root, script)
        conf = OXENSTORED_CONF.format(hypervisor=self.hypervisor.folder)
        (self.folder / "oxenstored.conf").write_text(conf)

    def _hold(self) -> int:
        machine = self.folder / "machine"
        wrapper = Path("/usr/lib/xen-common/bin/xen-utils-wrapper")  # what Debian's /usr/sbin/xl is
        script = str(self.root / "usr/local/sbin/xl")
        ways = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        return self._start_holder(
            "holder",
            ["unshare", *ways, "--mount", "--propagation", "private"],
            originals=[
                *((f"/{name}", str(machine / name), True) for name in namespace.OWN),
                ("/dev", str(machine / "dev"), False),
            ],
            binds=[
                *((str(self.root / name), f"/{name}") for name in namespace.OWN),
                *((str(self._run), path) for path in namespace.run_folders()),
                *([(script, str(wrapper))] if wrapper.exists() else []),
            ],
        )

    def _write_entrances(self) -> None:
        assert self._holder is not None
        title = f"the lab host in {self.folder}"
        self._write_entrance(self.folder / "enter", self._holder, title, [])
        self._write_entrance(self.folder / "python", self._holder, title, [self._python])

    def _write_entrance(
        self, path: Path, pid: int, title: str, program: list[str], environment: dict[str, str] | None = None
    ) -> None:
        text = namespace.enter_script(pid, title, environment=environment or {}, program=program)
        namespace.write_script(path, text)

    def _save(self) -> None:
        state = {
            "namespace": os.readlink(f"/proc/{self._holder}/ns/mnt"),
            "daemon": self.daemon,
            "release": self.release,
            "python": self._python,
            "daemon_args": self._daemon_args,
            "keep": self._keep,
            "pid": self._holder,
            "short": str(self._short) if self._short else None,
            "at_boot": self._at_boot,
            "standing": self._standing,
        }
        self._write_state(state)

    def start_xenstored(self) -> None:
        """An empty store with dom0's nodes in it; rings of earlier domains are forgotten."""
        for name in ("socket", ASIDE):
            (self._run / "xenstored" / name).unlink(missing_ok=True)
        for name in self.ask("pids"):
            if name.startswith(("view-", "namespace-", "backends", "guests")):
                self.ask("stop", name=name)
        self.hypervisor.forget_rings()
        environment, argv = self._store_program()
        argv += ["--no-fork"]
        if self.daemon == "o":
            argv += ["--config-file", str(self.folder / "oxenstored.conf")]
        self.ask(
            "spawn",
            name="xenstored",
            argv=[*argv, *self._daemon_args],
            env=environment,
            log=str(self.folder / "log" / "xenstored.log"),
            ready=False,
        )
        try:
            wire.wait_for_store(self.socket, START_TIMEOUT, lambda: self.xenstored.pid is not None)
        except TimeoutError as error:
            log = (self.folder / "log" / "xenstored.log").read_text(errors="replace").strip()
            raise LabError(f"{error}: {log[-400:]}") from None
        self.run(["xen-init-dom0"])
        for name in self._standing:
            self._stand_in(name, True)

    def _store_program(self) -> tuple[dict[str, str], list[str]]:
        """Environment and argv (without arguments) of the store daemon."""
        program = "xenstored" if self.daemon == "c" else "oxenstored"
        environment, argv = self.xen.command(self.xen.programs / program, self._built.xenstored)
        return {**environment, "XEN_LAB_HV": str(self.hypervisor.folder)}, argv

    def live_update_xenstored(self, within: int) -> None:
        """The daemon runs a script in its place, which starts it under the shim again.

        oxenstored says that all is well before it does so, and asks the program for --help at first.
        """
        script, mark = self.folder / "xenstored", self.folder / "xenstored.old"
        settings, argv = self._store_program()
        run = shlex.join(["env", *(f"{name}={value}" for name, value in settings.items()), *argv])
        gone = f'case " $* " in *" --help "*) ;; *) rm -f {shlex.quote(str(mark))} ;; esac'
        namespace.write_script(script, f'{gone}\nexec {run} "$@"\n')
        mark.touch()
        command = ["xenstore-control", "live-update", "-t", f"{within}", str(script)]
        done = self.run(command, check=False, timeout=within + START_TIMEOUT)
        deadline = time.monotonic() + within + START_TIMEOUT
        while not done.returncode and mark.exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        if mark.exists():
            raise LabError(f"xenstored was not updated: {(done.stdout + done.stderr).strip()}")
        try:
            wire.wait_for_store(self.real_socket, START_TIMEOUT, lambda: self.xenstored.pid is not None)
        except TimeoutError as error:
            raise LabError(f"xenstored did not survive a live update: {error}") from None

    def _wait_for_ring(self, domid: int) -> None:
        """xenstored maps a domain's ring when it is introduced, which xl does late in a create."""
        page = self.hypervisor.folder / f"ring/{domid}"
        deadline = time.monotonic() + START_TIMEOUT
        while not (page.exists() and page.stat().st_size):
            if time.monotonic() > deadline:
                raise LabError(
                    f"domain {domid} was never introduced to xenstored: it has no view of the store"
                )
            time.sleep(0.005)

    def _start_domain_namespace(self, domid: int, folder: Path, view: Path) -> None:
        machine = self.folder / "machine"
        if not folder.exists():
            namespace.make_tree(folder / "root", machine)
            namespace.make_dev(folder / "dev", machine, view)
        config = {
            "folder": str(folder),
            "originals": [],
            "binds": [
                *((str(folder / "root" / name), f"/{name}") for name in namespace.OWN),
                *((str(folder / "root" / "run"), path) for path in namespace.run_folders()),
                (str(folder / "dev"), "/dev"),
            ],
        }
        (folder / "holder.json").write_text(json.dumps(config))
        argv = ["unshare", "--mount", "--propagation", "private", "--"]
        argv += python_command("holder", str(folder / "holder.json"))
        self._spawn(f"namespace-{domid}", argv)

    def _spawn_module(self, module: str, name: str, *args: str) -> None:
        self._spawn(name, python_command(module, *args))

    def _spawn(self, name: str, argv: list[str]) -> None:
        log = str(self.folder / "log" / f"{name}.log")
        self.ask("spawn", name=name, argv=argv, env={}, log=log, ready=True)

    def _end_strangers(self) -> None:
        """Whatever is still inside: only where the holder itself was killed and could not do it."""
        try:
            here = json.loads((self.folder / "state.json").read_text())["namespace"]
        except (OSError, ValueError, KeyError):
            return
        for entry in os.listdir("/proc"):
            with contextlib.suppress(OSError):
                if entry.isdigit() and os.readlink(f"/proc/{entry}/ns/mnt") == here:
                    os.kill(int(entry), signal.SIGKILL)
