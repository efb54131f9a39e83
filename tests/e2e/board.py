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
from collections.abc import Callable, Sequence
from pathlib import Path

from .image import DOMD_ADDRESS, E2eUnavailable, Image

#: What the emulator takes: MiB of memory, and of disk for what guests write.
MEMORY, DOM0_MEMORY, DISK = 3072, 1024, 4096
BOOT_TIMEOUT = 300.0  # seconds; 30 to 60 on an idle machine
BOOT_ATTEMPTS = 3
_KERNEL_AT, _INITRD_AT = 0x44000000, 0x49000000


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
        self._process: subprocess.Popen[bytes] | None = None

    # ---- start and stop ----

    def start(self, say: Callable[[str], None]) -> Board:
        """Boot, again where the emulator was too slow for it.

        Raises:
            BoardError: it did not come up; the text ends with the console's last lines.
        """
        check_machine(self.folder)
        for attempt in range(1, BOOT_ATTEMPTS + 1):
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
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = _free_port()
        image = self.image
        xen_arguments = (
            f"dom0_mem={DOM0_MEMORY}M,max:{DOM0_MEMORY}M dom0_max_vcpus=2 console=dtuart loglvl=all"
        )
        dom0_arguments = "root=LABEL=dom0 rw console=hvc0 rootwait"
        disks: list[str] = []
        for name in ("dom0", "domd"):
            drive = f"file={image.disk(name)},format=raw,if=none,id={name},snapshot=on,cache=unsafe"
            disks += ["-drive", drive, "-device", f"virtio-blk-device,drive={name}"]
        command = [
            *("qemu-system-aarch64", "-M", "virt,virtualization=on,gic-version=3", "-cpu", "cortex-a57"),
            *("-smp", "2", "-m", str(MEMORY), "-display", "none", "-monitor", "none"),
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
        environment = {**os.environ, "TMPDIR": str(self.folder)}
        with (self.folder / "qemu.log").open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )

    @property
    def console(self) -> Path:
        """What Xen and dom0 say on the serial line."""
        return self.folder / "console.log"

    def _wait(self) -> None:
        deadline = time.monotonic() + BOOT_TIMEOUT
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise BoardError(f"the emulator ended: {(self.folder / 'qemu.log').read_text().strip()}")
            with contextlib.suppress(subprocess.TimeoutExpired):
                if self.run("xl info >/dev/null && echo up", check=False, timeout=30).stdout.strip() == "up":
                    return
            time.sleep(1)
        last = self.console.read_text(errors="replace").splitlines()[-15:] if self.console.exists() else []
        raise BoardError("\n".join([f"no dom0 within {BOOT_TIMEOUT:.0f} s; the console ends with:", *last]))

    # ---- commands ----

    def ssh_options(self, name: str = "dom0") -> list[str]:
        """Of a connection to ``dom0`` or, through it, to ``domd``; host keys are checked."""
        options = [
            *("-i", str(self.image.key), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"),
            *("-o", f"UserKnownHostsFile={self.image.known_hosts}", "-o", "StrictHostKeyChecking=yes"),
            *("-o", f"HostKeyAlias={name}", "-o", "ConnectTimeout=60", "-o", "LogLevel=ERROR"),
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


def check_machine(folder: Path) -> None:
    """Refuse early where the emulator cannot run.

    Raises:
        E2eUnavailable: no QEMU, or too little memory or disk.
    """
    if not shutil.which("qemu-system-aarch64"):
        raise E2eUnavailable(
            "the board is emulated by qemu-system-aarch64, which is not installed (qemu-system-arm)"
        )
    available = _meminfo("MemAvailable")
    if available < MEMORY + 512:
        raise E2eUnavailable(
            f"the board needs {MEMORY + 512} MiB of free memory; this machine has {available}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free >> 20
    if free < DISK:
        raise E2eUnavailable(f"the board needs {DISK} MiB of disk at {folder}; there are {free}")


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


def words(arguments: Sequence[str]) -> str:
    """An argument list as a shell's words."""
    return shlex.join(arguments)
