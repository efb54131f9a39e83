# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The emulated board: QEMU runs Xen, Xen runs dom0, and both are reached over SSH like a board on a desk."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from .image import DOMD_ADDRESS, E2eUnavailable, Image, check_disk

#: MiB: the board's memory, dom0's part of it, and what the emulator keeps of code that it translated.
MEMORY, DOM0_MEMORY, TRANSLATED = 3072, 1024, 512
#: MiB of free memory that this machine needs, with some for the tests themselves.
NEEDED_MEMORY = MEMORY + TRANSLATED + 512
#: Two for dom0, one for the driver domain, one for all guests, each pinned there: where busy vCPUs take turns on one
#: emulated processor, now and then a domain's timer interrupt is lost, and that domain sleeps for ever.
CPUS = 4
BOOT_TIMEOUT = 300.0  # seconds; 30 to 50 on an idle machine
BOOT_ATTEMPTS = 3
#: What Linux kernels on this board are told. Nobody attacks it, and what guards against that takes half of its time:
#: tables of pages that change at each system call empty the emulator's own; each also calls the firmware, which is Xen.
CMDLINE = "console=hvc0 nokaslr kpti=off mitigations=off"
_KERNEL_AT, _INITRD_AT = 0x44000000, 0x49000000
#: The domain that Xen itself makes, of the same kernel: where its kernel and ramdisk lie, and KiB of memory.
_DOM0LESS_KERNEL_AT, _DOM0LESS_RAMDISK_AT, _DOM0LESS_MEMORY = 0x4A000000, 0x4D000000, 64 << 10
#: Binding "xen,domain" (docs/misc/arm/device-tree/booting.txt of Xen); "xen,enhanced" gives it a store of its own.
_DOM0LESS = """\
        dom0less {{
            compatible = "xen,domain";
            #address-cells = <0x02>;
            #size-cells = <0x02>;
            memory = <0x00 {memory:#x}>;
            cpus = <0x01>;
            xen,enhanced = "enabled";
            module@{kernel:#x} {{
                compatible = "multiboot,kernel", "multiboot,module";
                reg = <0x00 {kernel:#x} 0x00 {kernel_size:#x}>;
                bootargs = "{arguments}";
            }};
            module@{ramdisk:#x} {{
                compatible = "multiboot,ramdisk", "multiboot,module";
                reg = <0x00 {ramdisk:#x} 0x00 {ramdisk_size:#x}>;
            }};
        }};
"""


class BoardError(RuntimeError):
    """The board did not come up, or a command on it failed."""


class Board:
    """A context manager; all it writes lies in ``folder``.

    ``xen`` is another Xen image to boot (one with an IOREQ server), else Debian's.
    """

    def __init__(self, image: Image, folder: Path, *, xen: Path | None = None) -> None:
        self.image = image
        self.folder = folder
        self.xen = xen or image.xen
        self.port = 0
        self._attempt = 0
        self._process: subprocess.Popen[bytes] | None = None

    # ---- start and stop ----

    def start(self, say: Callable[[str], None]) -> Board:
        """Boot, again where the emulator was too slow for it.

        Raises:
            BoardError: it did not come up; the text ends with the console's last lines.
        """
        check_machine(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        for attempt in range(1, BOOT_ATTEMPTS + 1):
            self._attempt = attempt
            self._launch()
            began = time.monotonic()
            try:
                self._wait()
            except BoardError as error:
                self.stop()
                if attempt == BOOT_ATTEMPTS:
                    raise
                say(f"booting again: {error}")
                continue
            except BaseException:
                self.stop()
                raise
            say(f"dom0 answers after {time.monotonic() - began:.0f} s")
            break
        return self

    def stop(self) -> None:
        """End the emulator; what dom0 and the guests wrote is gone."""
        if self._process is None:
            return
        for name in ("domd", "dom0"):
            self.hang_up(name)
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def _launch(self) -> None:
        self.port = _free_port()
        machine = self._machine()
        dumped = self.folder / "generated.dtb"
        done = subprocess.run(
            [*machine[:1], "-machine", f"dumpdtb={dumped}", *machine[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise BoardError(f"the emulator has no such board: {done.stderr.strip()}")
        command = [
            *("setpriv", "--pdeathsig", "TERM", *machine),
            *("-dtb", str(self._with_dom0less(dumped))),
            *_loaded(_DOM0LESS_KERNEL_AT, self.image.kernel),
            *_loaded(_DOM0LESS_RAMDISK_AT, self.image.ramdisk),
        ]
        environment = {**os.environ, "TMPDIR": str(self.folder)}
        with self._emulator_log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )

    def _with_dom0less(self, generated: Path) -> Path:
        """The board's device tree, with a domain beside dom0 that Xen makes at boot."""
        text = _dtc("dtb", "dts", generated.read_bytes()).decode()
        node = _DOM0LESS.format(
            memory=_DOM0LESS_MEMORY,
            arguments=CMDLINE,
            kernel=_DOM0LESS_KERNEL_AT,
            kernel_size=self.image.kernel.stat().st_size,
            ramdisk=_DOM0LESS_RAMDISK_AT,
            ramdisk_size=self.image.ramdisk.stat().st_size,
        )
        head, chosen, tail = text.partition("\tchosen {\n")
        rest, end, tail = tail.partition("\n\t};\n")
        if not chosen or not end:
            raise BoardError(f"{generated}: no node /chosen")
        made = self.folder / "board.dtb"
        made.write_bytes(_dtc("dts", "dtb", f"{head}{chosen}{rest}\n{node}{end}{tail}".encode()))
        return made

    def _machine(self) -> list[str]:
        """The emulator's command line, but for what the device tree is made from."""
        image = self.image
        memory = f"dom0_mem={DOM0_MEMORY}M,max:{DOM0_MEMORY}M"
        xen_arguments = f"{memory} dom0_max_vcpus=2 dom0_vcpus_pin console=dtuart loglvl=all"
        dom0_arguments = f"root=LABEL=dom0 rw rootwait {CMDLINE}"
        disks: list[str] = []
        for name in ("dom0", "domd"):
            drive = f"file={image.disk(name)},format=raw,if=none,id={name},snapshot=on,cache=unsafe"
            disks += ["-drive", drive, "-device", f"virtio-blk-device,drive={name}"]
        return [
            *("qemu-system-aarch64", "-M", "virt,virtualization=on,gic-version=3", "-cpu", "cortex-a57"),
            *("-accel", f"tcg,thread=multi,tb-size={TRANSLATED}"),
            *("-smp", str(CPUS), "-m", str(MEMORY), "-display", "none", "-monitor", "none"),
            *("-serial", f"file:{self.console}", "-kernel", str(self.xen), "-append", xen_arguments),
            *(
                "-device",
                f"guest-loader,addr={_KERNEL_AT:#x},kernel={image.kernel},bootargs={dom0_arguments}",
            ),
            *("-device", f"guest-loader,addr={_INITRD_AT:#x},initrd={image.initrd}"),
            *disks,
            *("-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{self.port}-:22"),
            *("-device", "virtio-net-device,netdev=net"),
            *("-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-device,rng=rng"),
        ]

    @property
    def console(self) -> Path:
        """What Xen and dom0 say on the serial line."""
        return self.folder / f"console-{self._attempt}.log"

    @property
    def _emulator_log(self) -> Path:
        return self.folder / f"qemu-{self._attempt}.log"

    def _wait(self) -> None:
        deadline = time.monotonic() + BOOT_TIMEOUT
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise BoardError(f"the emulator ended: {self._emulator_log.read_text().strip()}")
            with contextlib.suppress(subprocess.TimeoutExpired):
                if self.run("xl info >/dev/null && echo up", check=False, timeout=30).stdout.strip() == "up":
                    return
            time.sleep(1)
        last = self.console.read_text(errors="replace").splitlines()[-15:] if self.console.exists() else []
        raise BoardError("\n".join([f"no dom0 within {BOOT_TIMEOUT:.0f} s; the console ends with:", *last]))

    # ---- commands ----

    def ssh_options(self, name: str = "dom0") -> list[str]:
        """Of a connection to ``dom0`` or, through it, to ``domd``; host keys are checked.

        One connection is kept for all that follows: a login costs this board some five seconds.
        """
        options = [
            *("-i", str(self.image.key), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"),
            *("-o", f"UserKnownHostsFile={self.image.known_hosts}", "-o", "StrictHostKeyChecking=yes"),
            *("-o", f"HostKeyAlias={name}", "-o", "ConnectTimeout=60", "-o", "LogLevel=ERROR"),
            *("-o", "ServerAliveInterval=30", "-o", "ControlMaster=auto", "-o", "ControlPersist=yes"),
            *("-o", f"ControlPath={self._kept(name)}"),
        ]
        if name == "domd":
            through = [
                "ssh",
                *self.ssh_options(),
                "-p",
                str(self.port),
                "-W",
                f"{DOMD_ADDRESS}:22",
                "root@127.0.0.1",
            ]
            options += ["-o", f"ProxyCommand={shlex.join(through)}"]
        return options

    def run(
        self, command: str, *, name: str = "dom0", check: bool = True, timeout: float = 120, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command as root.

        Raises:
            BoardError: it failed; the text has its last words.
        """
        address = ["-p", str(self.port), "root@127.0.0.1"] if name == "dom0" else [f"root@{DOMD_ADDRESS}"]
        done = subprocess.run(
            ["ssh", *self.ssh_options(name), *address, command],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and done.returncode:
            raise BoardError(f"{name}: {command}: {done.returncode}: {done.stderr.strip()[-2000:]}")
        return done

    def waited(self) -> float:
        """Seconds, of all its threads, in which the emulator had work and others had this machine's processors."""
        if self._process is None:
            return 0.0
        found = 0
        for told in Path(f"/proc/{self._process.pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError, IndexError):  # it ended, or this kernel keeps no account
                found += int(told.read_text().split()[1])
        return found / 1e9

    def hang_up(self, name: str) -> None:
        """End the connection that is kept, if there is one."""
        if self._kept(name).exists():
            subprocess.run(
                ["ssh", "-o", f"ControlPath={self._kept(name)}", "-O", "exit", "board"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=20,
                check=False,
            )

    def _kept(self, name: str) -> Path:
        return self.folder / f"ssh-{name}"

    def install(self, program: Path, path: str) -> None:
        """Put a program of this machine onto dom0.

        Raises:
            BoardError: it could not be written there.
        """
        command = f"cat >{path}.new && chmod 755 {path}.new && mv {path}.new {path}"
        done = subprocess.run(
            ["ssh", *self.ssh_options(), "-p", str(self.port), "root@127.0.0.1", command],
            input=program.read_bytes(),
            capture_output=True,
            timeout=120,
            check=False,
        )
        if done.returncode:
            raise BoardError(f"{path}: {done.stderr.decode(errors='replace').strip()}")


def check_machine(folder: Path) -> None:
    """Refuse early where the emulator cannot run.

    Raises:
        E2eUnavailable: no QEMU, or too little memory or disk.
    """
    packages = {
        "qemu-system-aarch64": "qemu-system-arm",
        "dtc": "device-tree-compiler",
        "ssh": "openssh-client",
    }
    missing = [package for program, package in packages.items() if not shutil.which(program)]
    if missing:
        raise E2eUnavailable(
            f"the emulated board needs Debian packages that are not installed: {' '.join(missing)}"
        )
    available = _meminfo("MemAvailable")
    if available < NEEDED_MEMORY:
        raise E2eUnavailable(
            f"the board needs {NEEDED_MEMORY} MiB of free memory; this machine has {available}"
        )
    check_disk(folder)


def _meminfo(field: str) -> int:
    """MiB of a field of /proc/meminfo."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) >> 10
    return 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _loaded(address: int, file: Path) -> list[str]:
    return ["-device", f"loader,addr={address:#x},file={file},force-raw=on"]


def _dtc(given: str, wanted: str, tree: bytes) -> bytes:
    done = subprocess.run(
        ["dtc", "-q", "-I", given, "-O", wanted],
        input=tree,
        capture_output=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        raise BoardError(f"dtc: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout
