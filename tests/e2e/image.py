# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The disk images of the emulated board: made from Debian's packages once, kept under a hash of what went in."""

from __future__ import annotations

import gzip
import hashlib
import inspect
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from lab.roots import debian_mirror

SUITE = "bookworm"
PACKAGES = (
    *("systemd-sysv", "udev", "dbus", "kmod", "linux-image-arm64", "initramfs-tools", "zstd"),
    *("xen-hypervisor-4.17-arm64", "xen-utils-4.17", "xen-utils-common", "xenstore-utils"),
    *("busybox-static", "python3", "python3-pyxs", "openssh-server", "iproute2", "bridge-utils"),
    *("procps", "device-tree-compiler", "e2fsprogs", "util-linux"),
    *("gcc", "libc6-dev", "make", "libxen-dev"),
)
DOM0_MODULES = (
    "virtio_blk",
    "virtio_mmio",
    "virtio_pci",
    "virtio_net",
    "ext4",
    "xen_blkfront",
    "xen_netfront",
)
GUEST_MODULES = ("crc16", "crc32c_generic", "mbcache", "jbd2", "ext4", "virtio_mmio", "virtio_blk")

#: The network between dom0 and the driver domain, inside the emulator.
BRIDGE, DOM0_ADDRESS, DOMD_ADDRESS = "xenbr0", "10.66.0.1", "10.66.0.2"

#: Units that mean nothing on this board: an emulated processor has better things to do.
_NEEDLESS = (
    *("e2scrub_reap.service", "e2scrub_all.timer", "fstrim.timer", "dpkg-db-backup.timer"),
    *("apt-daily.timer", "apt-daily-upgrade.timer", "systemd-tmpfiles-clean.timer"),
    *("systemd-logind.service", "getty@tty1.service", "systemd-journal-flush.service"),
    *("systemd-repart.service", "systemd-firstboot.service", "systemd-machine-id-commit.service"),
)
#: And in the driver domain, which runs no toolstack; what that loads is loaded by name.
_NEEDLESS_IN_DOMD = ("xen.service", "xendomains.service")
_XEN_MODULES = ("xen-evtchn", "xen-gntdev", "xen-privcmd")

#: What happens to the root between its packages, and behind them.
_HOOKS = (
    ("essential", 'mkdir -p "$1/etc/initramfs-tools/conf.d"'),
    ("essential", 'printf "MODULES=list\\nCOMPRESS=gzip\\n" >"$1/etc/initramfs-tools/conf.d/board"'),
    ("essential", f'printf "%s\\n" {" ".join(DOM0_MODULES)} >"$1/etc/initramfs-tools/modules"'),
    ("customize", 'echo "/dev/root / ext4 rw,noatime 0 0" >"$1/etc/fstab"'),
    ("customize", 'chroot "$1" systemctl enable systemd-networkd ssh'),
    ("customize", 'chroot "$1" systemctl disable systemd-networkd-wait-online.service || true'),
    ("customize", f'chroot "$1" systemctl mask {" ".join(_NEEDLESS)}'),
    ("customize", f'printf "%s\\n" {" ".join(_XEN_MODULES)} >"$1/etc/modules-load.d/xen.conf"'),
)
_SIZE = "2000M"
#: MiB.
NEEDED_DISK = 4096

_GUEST_INIT = """\
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
echo "guest: up"
# Where nobody answers for a virtio device, probing it is a fault that the guest does not get over.
if grep -qw disks /proc/cmdline; then
  for module in {modules}; do insmod /modules/$module.ko 2>/dev/null; done
  for tick in 1 2 3 4 5 6 7 8 9 10; do [ -b /dev/vda ] && break; sleep 1; done
fi
for disk in /dev/vd?; do
  [ -b "$disk" ] || continue
  name=${{disk##*/}}
  ro=$(cat /sys/block/$name/ro)
  if [ "$ro" = 1 ]; then mount -t ext4 -o ro,noload $disk /mnt; else mount -t ext4 $disk /mnt; fi || continue
  echo "$name size=$(cat /sys/block/$name/size) ro=$ro reads $(cat /mnt/hello)" >>/report
  umount /mnt
done
# What was read goes onto the first disk, where dom0 finds it.
if [ -s /report ] && mount -t ext4 /dev/vda /mnt; then
  cat /proc/cmdline >>/report
  cp /report /mnt/report.new && mv /mnt/report.new /mnt/report
  umount /mnt
fi
cat /report 2>/dev/null
# And then one line after the other, each of them down on the disk before the next.
if [ -s /report ] && grep -qw beat /proc/cmdline && mount -t ext4 /dev/vda /mnt; then
  echo boot >>/mnt/beat
  beat=0
  while sync; do
    beat=$((beat + 1))
    echo $beat >>/mnt/beat || break
    sleep 1
  done
fi
echo "guest: done"
while :; do sleep 3600; done
"""

_NETWORK = {
    "dom0": {
        "10-bridge.netdev": f"[NetDev]\nName={BRIDGE}\nKind=bridge\n",
        "20-bridge.network": f"[Match]\nName={BRIDGE}\n[Network]\nAddress={DOM0_ADDRESS}/24\n"
        "ConfigureWithoutCarrier=yes\n",
        "30-outside.network": "[Match]\nName=e*\n[Network]\nDHCP=yes\n",
    },
    "domd": {"10-inside.network": f"[Match]\nName=e*\n[Network]\nAddress={DOMD_ADDRESS}/24\n"},
}


class E2eUnavailable(RuntimeError):  # noqa: N818 - a fact about the machine
    """This machine cannot run the emulated board; the text says what it lacks."""


class ImageError(RuntimeError):
    """Making the image failed; the text has the last words of what did."""


class Image(NamedTuple):
    """A folder with all that the emulator boots from."""

    folder: Path

    @property
    def xen(self) -> Path:
        return self.folder / "xen"

    @property
    def kernel(self) -> Path:
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        return self.folder / "initrd"

    @property
    def ramdisk(self) -> Path:
        """Of a guest: busybox, and an init that reports what it finds."""
        return self.folder / "ramdisk"

    @property
    def key(self) -> Path:
        return self.folder / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    def disk(self, name: str) -> Path:
        """``dom0`` or ``domd``: a raw file system image, to be used through an overlay."""
        return self.folder / f"{name}.ext4"


def cache() -> Path:
    """Where images lie: outside of the checkout, so that a fresh clone finds them."""
    named = os.environ.get("XEN_VIRTIO_E2E_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(named) if named else Path(base) / "xen-virtio-e2e"


def fingerprint() -> str:
    """Of everything that decides what an image holds, but for the state of Debian's archive."""
    inputs = (
        SUITE,
        PACKAGES,
        DOM0_MODULES,
        GUEST_MODULES,
        _GUEST_INIT,
        sorted(_NETWORK.items()),
        _HOOKS,
        _NEEDLESS_IN_DOMD,
        _SIZE,
        *(inspect.getsource(step) for step in (_build, _mmdebstrap, _configure, _guest, _program)),
    )
    return hashlib.sha256(repr(inputs).encode()).hexdigest()[:16]


def obtain(say: Callable[[str], None]) -> Image:
    """The image, made where it is not there yet (five minutes, 1.5 GB).

    Raises:
        E2eUnavailable: a program, the space or the right to make it is missing.
        ImageError: a step of it failed.
    """
    folder = cache() / fingerprint()
    if (folder / "complete").exists():
        return Image(folder)
    _check_machine()
    check_disk(folder.parent)
    for old in folder.parent.glob("building-*"):
        shutil.rmtree(old, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="building-", dir=folder.parent) as work:
        made = Path(work) / "image"
        made.mkdir()
        _build(Path(work), made, say)
        (made / "complete").touch()
        if folder.exists():
            shutil.rmtree(folder)
        made.rename(folder)
    return Image(folder)


def check_disk(folder: Path) -> None:
    """Refuse early where there is no room: for an image, or for what dom0 and guests write to it.

    Raises:
        E2eUnavailable: less than `NEEDED_DISK`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free >> 20
    if free < NEEDED_DISK:
        raise E2eUnavailable(f"the board needs {NEEDED_DISK} MiB of disk at {folder}; there are {free}")


def _check_machine() -> None:
    if os.geteuid() != 0:
        raise E2eUnavailable(
            "making the image of the emulated board needs root (foreign packages are set up in it)"
        )
    missing = [
        name
        for name in ("mmdebstrap", "arch-test", "mkfs.ext4", "ssh-keygen", "cpio")
        if not shutil.which(name)
    ]
    if missing or not Path("/usr/bin/qemu-aarch64-static").exists():
        wanted = "mmdebstrap arch-test e2fsprogs openssh-client cpio qemu-user-static"
        raise E2eUnavailable(f"making the image needs Debian packages that are not installed: of {wanted}")


def _run(*command: object, timeout: float = 1800) -> None:
    done = subprocess.run(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode:
        words = "\n".join((done.stderr or done.stdout).strip().splitlines()[-15:])
        raise ImageError(f"{command[0]} failed ({done.returncode}):\n{words}")


def _foreign_programs() -> None:
    """Let the kernel run arm64 programs through qemu; what the machine's own packages set up is left alone."""
    registry = Path("/proc/sys/fs/binfmt_misc")
    if not (registry / "register").exists():
        _run("mount", "-t", "binfmt_misc", "none", registry)
    if (registry / "qemu-aarch64").exists():
        return
    # The head of an arm64 ELF program, and which of its bits count (ELF and AArch64 ABI documents).
    magic = bytes.fromhex("7f454c460201010000000000000000000200b700")
    mask = bytes.fromhex("ffffffffffffff00fffffffffffffffffeffffff")
    escaped = ["".join(f"\\x{byte:02x}" for byte in part) for part in (magic, mask)]
    (registry / "register").write_text(
        f":qemu-aarch64:M::{escaped[0]}:{escaped[1]}:/usr/bin/qemu-aarch64-static:OCF"
    )


def _build(work: Path, made: Path, say: Callable[[str], None]) -> None:
    _foreign_programs()
    _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "board", "-f", made / "id_ed25519")
    root = work / "root"
    say("setting up Debian's packages for arm64 (some minutes, once)")
    _run(*_mmdebstrap(made, root))
    say("packing file systems")
    boot = root / "boot"
    for pattern, name in (("vmlinuz-*", "vmlinuz"), ("initrd.img-*", "initrd"), ("xen-*-arm64*", "xen")):
        found = sorted(path for path in boot.glob(pattern) if path.is_file() and not path.is_symlink())
        if not found:
            raise ImageError(f"the packages brought no {pattern} into /boot")
        shutil.copyfile(found[-1], made / name)
    _guest(root, work, made)
    known = []
    for name in ("dom0", "domd"):
        public = (root / "etc/ssh/ssh_host_ed25519_key.pub").read_text().split()
        known.append(f"{name} {public[0]} {public[1]}\n")
        _configure(root, name)
        _run(
            "mkfs.ext4",
            "-q",
            "-F",
            "-L",
            name,
            "-E",
            "lazy_itable_init=1",
            "-d",
            root,
            made / f"{name}.ext4",
            _SIZE,
        )
    (made / "known_hosts").write_text("".join(known))


def _mmdebstrap(made: Path, root: Path) -> list[object]:
    key = f'mkdir -p -m 700 "$1/root/.ssh" && cp {made}/id_ed25519.pub "$1/root/.ssh/authorized_keys"'
    return [
        *(
            "unshare",
            "--mount",
            "mmdebstrap",
            "--quiet",
            "--mode=root",
            "--architectures=arm64",
            "--variant=minbase",
        ),
        *("--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/doc/*"),
        *("--dpkgopt=path-exclude=/usr/share/locale/*", '--aptopt=Apt::Install-Recommends "false"'),
        f"--include={','.join(PACKAGES)}",
        *(f"--{when}-hook={hook}" for when, hook in (*_HOOKS, ("customize", key))),
        *(SUITE, root, f"deb {debian_mirror()} {SUITE} main"),
    ]


def _configure(root: Path, name: str) -> None:
    (root / "etc/hostname").write_text(f"{name}\n")
    (root / "etc/hosts").write_text(f"127.0.0.1 localhost {name}\n{DOMD_ADDRESS} domd-inside\n")
    folder = root / "etc/systemd/network"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file, text in _NETWORK[name].items():
        (folder / file).write_text(text)
    for unit in _NEEDLESS_IN_DOMD:
        masked = root / "etc/systemd/system" / unit
        masked.unlink(missing_ok=True)
        if name == "domd":
            masked.symlink_to("/dev/null")


def _guest(root: Path, work: Path, made: Path) -> None:
    """A guest's kernel and ramdisk, put where dom0 finds them."""
    folder = work / "ramdisk"
    for name in ("bin", "sbin", "dev", "proc", "sys", "mnt", "modules"):
        (folder / name).mkdir(parents=True)
    shutil.copy(root / "bin/busybox", folder / "bin/busybox")
    for module in GUEST_MODULES:
        found = next(iter((root / "lib/modules").rglob(f"{module}.ko*")), None)
        if found is not None and found.suffix == ".ko":
            shutil.copy(found, folder / "modules" / found.name)
    _program(folder / "init", _GUEST_INIT.format(modules=" ".join(GUEST_MODULES)))
    for name in ("poweroff", "reboot"):
        _program(folder / "sbin" / name, f"#!/bin/busybox sh\nexec /bin/busybox {name} -f\n")
    names = "\n".join(sorted(str(path.relative_to(folder)) for path in folder.rglob("*")))
    packed = subprocess.run(
        ["cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0"],
        input=names.encode(),
        cwd=folder,
        capture_output=True,
        check=True,
    )
    target = root / "root/guest"
    target.mkdir(exist_ok=True)
    (made / "ramdisk").write_bytes(gzip.compress(packed.stdout, mtime=0))
    shutil.copyfile(made / "ramdisk", target / "ramdisk")
    shutil.copyfile(made / "vmlinuz", target / "kernel")
    shutil.copyfile(made / "initrd", target / "initrd")


def _program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


if __name__ == "__main__":
    print(obtain(print).folder)
