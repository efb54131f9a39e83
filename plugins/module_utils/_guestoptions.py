# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The named options of a guest: of what kind each is, what holds where it is not said, and since when.

Source: xl_parse.c of each release, docs/man/xl.cfg.5, and the defaults in tools/libs/light (libxl_create.c,
libxl_arm.c).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._guestdevices import Pci, Vif
from ._guestkinds import (
    Arguments,
    Boolean,
    Bounded,
    Choice,
    Colors,
    Cpus,
    File,
    IgnoredError,
    Iomem,
    Ioports,
    Irqs,
    Kind,
    Maxvcpus,
    Name,
    Number,
    OptionError,
    Paths,
    Quota,
    Serial,
    Text,
    Texts,
    TscMode,
    Type,
    Uuid,
    Vcpus,
    digest,
)

__all__ = [
    "DEFAULTS",
    "FILES",
    "GUEST_ARGUMENT_SPEC",
    "KINDS",
    "OPTIONS",
    "OTHERS",
    "SINCE",
    "STOOD_FOR",
    "VALUES_SINCE",
    "IgnoredError",
    "OptionError",
    "digest",
]

ACTIONS = (
    "destroy",
    "restart",
    "rename-restart",
    "preserve",
    "coredump-destroy",
    "coredump-restart",
    "soft-reset",
)
_ACTION = Choice(*ACTIONS, caseless=False)
_MIB = Number(1, 2**40)
_SVE = Choice("disabled", "hw", *[str(bits) for bits in range(128, 2049, 128)])

#: Options with one setting of xl's each, of that name, in the order in which they are written.
KINDS: dict[str, Kind] = {
    "name": Name(),
    "uuid": Uuid(),
    "type": Type(),
    "memory": _MIB,
    "maxmem": _MIB,
    "vcpus": Vcpus(1, 4096),
    "maxvcpus": Maxvcpus(1, 4096),
    "cpus": Cpus(),
    "cpus_soft": Cpus(),
    "pool": Text(),
    "cpu_weight": Number(1, 65535),
    "cap": Number(),
    "kernel": File(),
    "ramdisk": File(),
    "cmdline": Kind(),
    "firmware": Text(),
    "bootloader": Text(),
    "bootloader_args": Arguments(),
    "bootloader_restrict": Boolean(),
    "bootloader_user": Text(),
    "device_tree": File(),
    "dtdev": Paths(),
    "iomem": Iomem(),
    "ioports": Ioports(),
    "irqs": Irqs(),
    "passthrough": Choice("default", "disabled", "enabled", "sync_pt", "share_pt"),
    "pci": Pci(),
    "pci_msitranslate": Boolean(),
    "pci_permissive": Boolean(),
    "pci_power_mgmt": Boolean(),
    "pci_seize": Boolean(),
    "gic_version": Choice("default", "v2", "v3"),
    "nr_spis": Number(0, 5088),
    "vuart": Choice("unknown", "sbsa_uart"),
    "tee": Choice("none", "optee", "ffa"),
    "sve": _SVE,
    "arm_sci": Text(),
    "llc_colors": Colors(),
    "trap_unmapped_accesses": Boolean(),
    "vif": Vif(),
    "channel": Texts(),
    "serial": Serial(),
    "driver_domain": Boolean(),
    "xenstore_quota": Quota(),
    "xenstore_feature_mask": Number(0, 2**32 - 1),
    "max_grant_frames": Bounded(),
    "max_maptrack_frames": Bounded(),
    "max_grant_version": Bounded(),
    "max_event_channels": Number(),
    "shadow_memory": Number(0, 2**40),
    "seclabel": Text(),
    "init_seclabel": Text(),
    "on_poweroff": _ACTION,
    "on_reboot": _ACTION,
    "on_watchdog": _ACTION,
    "on_crash": _ACTION,
    "on_soft_reset": _ACTION,
    "acpi": Boolean(),
    "hap": Boolean(),
    "e820_host": Boolean(),
    "vpmu": Boolean(),
    "nomigrate": Boolean(),
    "localtime": Boolean(),
    "rtc_timeoffset": Number(-(2**31)),
    "tsc_mode": TscMode(),
}

#: Options with several settings of xl's, or none.
OTHERS: dict[str, Mapping[str, Any]] = {
    "root": {"type": "str"},
    "extra": {"type": "str"},
    "disks": {"type": "list", "elements": "raw"},
    "virtio": {"type": "list", "elements": "raw"},
    "extra_config": {"type": "dict"},
}

#: All named options, as a guest in an inventory has them.
OPTIONS: tuple[str, ...] = (*KINDS, *OTHERS)

#: Settings of xl's that a named option stands for, under another name or only in old configurations.
STOOD_FOR: dict[str, str] = {"disk": "disks", "root": "cmdline", "extra": "cmdline", "builder": "type"}

#: What may be a path on dom0, or ``{src, checksum}``.
FILES: tuple[str, ...] = ("kernel", "ramdisk", "device_tree")

#: What xl and libxl take where nothing is said, as far as it does not depend on the host or other options.
DEFAULTS: dict[str, Any] = {
    "cmdline": "",
    "bootloader_args": [],
    "dtdev": [],
    "iomem": [],
    "ioports": [],
    "irqs": [],
    "passthrough": "default",
    "pci": [],
    "pci_msitranslate": False,
    "pci_permissive": False,
    "pci_power_mgmt": False,
    "pci_seize": False,
    "gic_version": "default",
    "vuart": "unknown",
    "tee": "none",
    "sve": "disabled",
    "arm_sci": "type=none",
    "llc_colors": [],
    "trap_unmapped_accesses": True,
    "vif": [],
    "channel": [],
    "serial": [],
    "driver_domain": False,
    "xenstore_quota": {},
    "on_poweroff": "destroy",
    "on_reboot": "restart",
    "on_watchdog": "destroy",
    "on_crash": "destroy",
    "on_soft_reset": "soft-reset",
    "vpmu": False,
    "nomigrate": False,
    "localtime": False,
    "rtc_timeoffset": 0,
    "tsc_mode": "default",
}

#: Settings that not every release since 4.17 knows, by the first that does (xl_parse.c of each).
SINCE: dict[str, str] = {
    "bootloader_restrict": "4.18",
    "bootloader_user": "4.18",
    "smbios": "4.18",
    "sve": "4.18",
    "virtio": "4.18",
    "hvm_pirq": "4.19",
    "nr_spis": "4.19",
    "llc_colors": "4.20",
    "altp2m_count": "4.21",
    "arm_sci": "4.21",
    "trap_unmapped_accesses": "4.21",
    "xen_platform_pci_bar_uc": "4.21",
    "xenstore_feature_mask": "4.21",
    "xenstore_quota": "4.22",
}

#: The same of single values.
VALUES_SINCE: dict[tuple[str, str], str] = {("tee", "ffa"): "4.18"}

#: The options of one guest as Ansible takes them (the doc fragment ``xen.virtio.guest`` describes them).
GUEST_ARGUMENT_SPEC: dict[str, Any] = {
    name: dict(KINDS[name].spec if name in KINDS else OTHERS[name]) for name in OPTIONS
}
