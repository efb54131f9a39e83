# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the running kernel was built with, and whether it confines the daemons of this domain."""

from __future__ import annotations

import contextlib
import gzip
import importlib
import re
from collections.abc import Iterable

from . import _sysfiles

#: The largest kernel module to look into, in bytes unpacked.
_MODULE_LIMIT = 8 << 20


def kernel_options(release: str, names: Iterable[str], root: str = "") -> tuple[str | None, dict[str, str]]:
    """Where the running kernel tells its options, and these of them; None and nothing where it does not.

    Args:
        release: the kernel's.
        names: as Kconfig has them; each is ``y``, ``m`` or ``n``.
        root: before every path.
    """
    places = (
        "/proc/config.gz",
        f"/boot/config-{release}",
        f"/lib/modules/{release}/config",
        f"/usr/lib/modules/{release}/config",
    )
    for place in places:
        try:
            if place.endswith(".gz"):
                with gzip.open(f"{root}{place}", "rt", encoding="utf-8", errors="replace") as file:
                    text = file.read()
            else:
                with open(f"{root}{place}", encoding="utf-8", errors="replace") as file:
                    text = file.read()
        except (OSError, EOFError):
            continue
        said = dict(re.findall(r"(?m)^(CONFIG_[A-Z0-9_]+)=([ym])$", text))
        if said:
            return place, {name: said.get(name, "n") for name in names}
    return None, {}


_UNRESTRICTED = re.compile(r"(?:^|\s)xen[-_]privcmd\.unrestricted(?:=([^\s]*))?(?=\s|$)")
_MODPROBE = re.compile(r"(?m)^\s*options\s+xen[-_]privcmd\s+(?:.*\s)?unrestricted(?:=(\S*))?\s*$")
#: What the kernel takes for true (kstrtobool, lib/kstrtox.c); an option alone is true as well.
_TRUE = re.compile(r"(?:[yYtT1].*|[oO][nN].*)?")


def privcmd_restricted(domid: int | None, release: str, root: str = "") -> tuple[bool | None, str]:
    """Whether the kernel confines /dev/xen/privcmd to the guest that the store names as this domain's target.

    Kernels with the mend of XSA-482 do so in every domain but dom0, unless told otherwise at boot, which they do
    not show in /sys (drivers/xen/privcmd.c). So the command line, modprobe's settings and the kernel's own list of
    parameters have to tell.
    """
    if domid == 0:
        return False, "dom0 is not confined"
    said = _UNRESTRICTED.findall(_sysfiles.text(f"{root}/proc/cmdline"))
    where = "the kernel's command line"
    if not said:
        said, where = _modprobe_said(root)
    if said and _TRUE.fullmatch(said[-1]):
        locked = re.search(
            r"\[(integrity|confidentiality)\]", _sysfiles.text(f"{root}/sys/kernel/security/lockdown")
        )
        if locked:
            return True, f"unrestricted is said in {where}, and ignored since the kernel is locked down"
        return False, f"unrestricted is said in {where}"
    knows = _knows_unrestricted(release, root)
    if knows is None:
        return None, "this kernel's list of parameters cannot be read"
    if knows:
        return True, "its driver has the parameter unrestricted, and that is not said"
    return False, "this kernel's driver confines nobody"


def _modprobe_said(root: str) -> tuple[list[str], str]:
    said: list[str] = []
    where = ""
    for folder in ("/lib/modprobe.d", "/usr/lib/modprobe.d", "/run/modprobe.d", "/etc/modprobe.d"):
        for name in sorted(_sysfiles.entries(f"{root}{folder}")):
            if name.endswith(".conf"):
                found = _MODPROBE.findall(_sysfiles.text(f"{root}{folder}/{name}"))
                if found:
                    said, where = found, f"{folder}/{name}"
    return said, where


def _knows_unrestricted(release: str, root: str) -> bool | None:
    for folder in (f"{root}/lib/modules/{release}", f"{root}/usr/lib/modules/{release}"):
        builtin = _sysfiles.text(f"{folder}/modules.builtin.modinfo")
        if "xen_privcmd.license=" in builtin or "xen_privcmd.parm=" in builtin:
            return "xen_privcmd.parm=unrestricted:" in builtin
        for name, opener in (
            ("xen-privcmd.ko", None),
            ("xen-privcmd.ko.xz", "lzma"),
            ("xen-privcmd.ko.gz", "gzip"),
        ):
            # a board's Python may be without one of them; each has errors of its own for what is no such file
            with contextlib.suppress(Exception):
                packed = open if opener is None else importlib.import_module(opener).open
                with packed(f"{folder}/kernel/drivers/xen/{name}", "rb") as file:
                    return b"parm=unrestricted:" in file.read(_MODULE_LIMIT)
    return None
