# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every spelling of every option, against the real xl: taken for the same thing, or told apart below."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._dialect import NEWEST
from ansible_collections.xen.virtio.plugins.module_utils._guestconfig import (
    GuestError,
    as_mapping,
    declare_guest,
    read_guest,
    render_guest,
)
from test_corpus import DryRun, meaning, xl

__all__ = ["xl"]

NUMBERS = [
    "1",
    "2",
    "'3'",
    "'0x10'",
    "'010'",
    "08",
    "'08'",
    "'-1'",
    "' 4'",
    "'5 '",
    "''",
    "'two'",
    "0",
    "[1]",
    "99999999999999999999",
    "'+7'",
]
BOOLEANS = ["0", "1", "'0'", "'1'", "2", "'yes'", "'-1'", "'true'", "[]", "''", "' 1'"]
SPELLINGS: dict[str, list[str]] = {
    "memory": [*NUMBERS, "512"],
    "maxmem": [*NUMBERS, "512"],
    "vcpus": NUMBERS,
    "maxvcpus": [*NUMBERS, "8"],
    "cpu_weight": [*NUMBERS, "512"],
    "cap": NUMBERS,
    "rtc_timeoffset": NUMBERS,
    "max_grant_frames": NUMBERS,
    "max_event_channels": NUMBERS,
    "shadow_memory": NUMBERS,
    "nr_spis": NUMBERS,
    "localtime": BOOLEANS,
    "driver_domain": BOOLEANS,
    "acpi": BOOLEANS,
    "hap": BOOLEANS,
    "vpmu": BOOLEANS,
    "nomigrate": BOOLEANS,
    "e820_host": BOOLEANS,
    "pci_permissive": BOOLEANS,
    "pci_seize": BOOLEANS,
    "type": ["'pv'", "'pvh'", "'hvm'", "'p'", "'h'", "''", "'PV'", "'pvx'", "1", "['pv']"],
    "builder": ["'hvm'", "'generic'", "'g'", "''", "'linux'", "[]"],
    "on_crash": [
        "'destroy'",
        "'restart'",
        "'rename-restart'",
        "'Restart'",
        "'preserve'",
        "['destroy']",
        "''",
        "'coredump-destroy'",
        "1",
    ],
    "on_poweroff": ["'destroy'", "'restart'"],
    "tsc_mode": ["0", "1", "3", "4", "'native'", "'NATIVE'", "'x'", "'-1'", "'2'", "[]", "''"],
    "vuart": ["'sbsa_uart'", "'SBSA_UART'", "'unknown'", "'x'", "''"],
    "gic_version": ["'v2'", "'V3'", "'default'", "'2'", "''", "[]"],
    "tee": ["'none'", "'optee'", "'OPTEE'", "'x'"],
    "passthrough": ["'enabled'", "'Disabled'", "'default'", "'x'", "1"],
    "cmdline": ["'a'", "''", "['a']", "1"],
    "root": ["'/dev/xvda'", "''"],
    "extra": ["'quiet'", "''", "7"],
    "kernel": ["'/k'", "'k'"],
    "ramdisk": ["'/r'", "''", "[]"],
    "device_tree": ["'/d'"],
    "bootloader": ["'pygrub'", "'/usr/bin/x'"],
    "bootloader_args": ["'-a  -b'", "['-a','']", "[]", "'a\\tb\\nc'", "1"],
    "firmware": ["'pvgrub32'", "'pvgrub64'", "'ovmf'", "'uefi'"],
    "cpus": [
        "'0'",
        "0",
        "'0-1'",
        "'0,1'",
        "'0, 1'",
        "['0','1']",
        "[0]",
        "'all'",
        "'^0'",
        "'0-1,^1'",
        "'x'",
        "''",
        "'1-0'",
        "[]",
        "'node:0'",
        "'nodes:0,^0'",
        "'0,'",
        "','",
        "' 0'",
        "'0 '",
        "'+1'",
        "['all']",
        "'00'",
        "'node:all'",
    ],
    "cpus_soft": ["'0'", "['0']"],
    "irqs": [
        "[1]",
        "['2',3]",
        "['010']",
        "['0x10']",
        "[]",
        "5",
        "['']",
        "[' 7']",
        "['7 ']",
        "['-1']",
        "['+3']",
        "['4294967295']",
        "[[1]]",
    ],
    "iomem": [
        "['fe900,1']",
        "['0xFE900,0x1']",
        "['fe900,1@fe900']",
        "['fe900,1@10']",
        "['fe900']",
        "['x,1']",
        "['fe900, 1']",
        "['1,1 ']",
        "['1,2x']",
        "[]",
        "[' 1,1']",
        "['1 ,1']",
        "['-1,1']",
        "['1,1@']",
        "['1,1@ 2']",
    ],
    "ioports": [
        "['2f8']",
        "['2F8-2ff']",
        "['0x2f8']",
        "['2ff-2f8']",
        "['2f8 ']",
        "[' 2f8']",
        "['x']",
        "['ffffffff']",
        "['2f8-']",
        "['1-2-3']",
        "['2f8,']",
    ],
    "dtdev": ["['/soc/a']", "['/soc/a','/b']", "['soc']", "[]", "['']", "'/a'"],
    "vif": [
        "['']",
        "['bridge=a']",
        "['bridge=a, bridge=b']",
        "[' mac=0:16:3e:1:2:3']",
        "['mac=00-16-3E-01-02-03']",
        "['mac=1']",
        "['type=vif']",
        "['type=ioemu,model=e1000']",
        "['type=x']",
        "['foo']",
        "['ip=10.0.0.1 ,script=vif-nat']",
        "['rate=10MB/s']",
        "['mtu=1500,devid=3']",
        "['mtu=x']",
        "['trusted']",
        "['untrusted,trusted']",
        "['trusted=1']",
        "['accel=1']",
        "['netdev=e']",
        "['gatewaydev=e,backend=DomD']",
        "[',,bridge=a,,']",
        "'a'",
        "['vifname=v','']",
        "['mac=00:16:3e:01:02:03 ']",
        "['vlan=7']",
        "['bridge=a=b']",
        "['devid= 4']",
        "['mtu=1500x']",
    ],
    "pci": [
        "['01:00.0']",
        "['0000:01:00.0']",
        "['1:0.0']",
        "['01:00.*']",
        "['01:00.0@3']",
        "['01:00.0,permissive=1']",
        "['01:00.0,seize=0,msitranslate=x']",
        "['01:00.0,foo=1']",
        "['01:00']",
        "['bdf=01:00.0,vslot=4']",
        "['name=x']",
        "['']",
        "['01:00.0,']",
        "['01:00.0@1f']",
        "['01:00.0@20']",
        "['01:00.0,rdm_policy=strict']",
        "['01:00.0,rdm_policy=RELAXED']",
        "['01:00.8']",
        "['01:20.0']",
        "['01:00.0@0x3']",
        "['01:00.0,name=x']",
        "['ffff:ff:1f.7']",
        "['10000:01:00.0']",
    ],
    "channel": ["['connection=pty,name=a']", "['connection=socket,path=/x,name=b']"],
    "seclabel": ["'a'"],
    "init_seclabel": ["'b'"],
    "uuid": [
        "'8b1f3c52-90a4-4c6e-a4d9-6f2d0e5b7a91'",
        "'8B1F3C52-90A4-4C6E-A4D9-6F2D0E5B7A91'",
        "'x'",
        "'8b1f3c5290a44c6ea4d96f2d0e5b7a91'",
        "'{8b1f3c52-90a4-4c6e-a4d9-6f2d0e5b7a91}'",
    ],
    "pool": ["'Pool-0'"],
    "xenstore_quota": ["['nodes=1']"],
    "sve": ["'hw'", "128", "'HW'"],
    "serial": ["'pty'", "['pty']", "['a','b']"],
    "virtio": [
        "['type=virtio,device22,transport=mmio']",
        "['type=virtio,device1A']",
        "['backend=1,type=virtio,device2,grant_usage=1']",
        "['foo=1']",
        "[]",
    ],
    "disk": [
        "['/a,,xvda']",
        "['/a,,xvda,specification=virtio','/b,,xvdb,r,backend=DomD']",
        "['/a']",
        "[',,hdc,cdrom']",
        "[]",
        "['phy:/a,hda,w']",
    ],
    "bootloader_restrict": BOOLEANS,
    "llc_colors": ["['1-3']", "['1','2']", "['3-1']", "['1,2']", "['x']"],
}

#: What the real xl takes and we refuse, since the guest could not be created or would not be what is said.
REFUSED = {
    "memory": {"'-1'", "0"},
    "maxmem": {"'-1'", "0"},
    "vcpus": {"'-1'"},
    "cpu_weight": {"'-1'", "0"},
    "cap": {"'-1'"},
    "max_event_channels": {"'-1'"},
    "shadow_memory": {"'-1'"},
    "nr_spis": {"'-1'"},
    "cpus": {"'+1'"},
    "iomem": {"['-1,1']"},
    "ioports": {"['2ff-2f8']", "['2f8 ']", "['2f8,']"},
    "dtdev": {"['soc']", "['']"},
    "vif": {"['mac=1']"},
    "virtio": {"['type=virtio,device1A']"},
}

#: What the real xl refuses and we read; it is asked before anything is created.
READ = {"firmware": {"'ovmf'", "'uefi'"}, "cpus": {"'0 '"}}

#: What xl hands to libxl in two ways that libxl takes for one.
ALIKE = {
    "vcpus": {"0"},  # no vCPU online: libxl makes it one
    "ramdisk": {"''"},  # libxl_dom.c does without
    "iomem": {"['fe900,1@fe900']"},  # where the guest's frame is not said, it is that
    "serial": {"['pty']"},  # one, or a list of one
}

#: Settings and values that only one of the releases knows.
LATER = {"llc_colors", "virtio", "sve", "nr_spis", "trap_unmapped_accesses", "bootloader_restrict"}


def config(key: str, value: str, kind: str) -> str:
    """A configuration xl would take but for one setting."""
    settings = {"name": "'g'", "kernel": "'/k'", "type": f"'{kind}'", "maxvcpus": "100"}
    if key in ("type", "builder"):
        del settings["type"]
    if key in ("firmware", "bootloader"):
        del settings["kernel"]
    return "".join([f"{name} = {said}\n" for name, said in {**settings, key: value}.items()])


@pytest.mark.parametrize("key", SPELLINGS)
def test_spellings(xl: tuple[str, DryRun], tmp_path: Path, key: str) -> None:
    release, dry_run = xl
    known: dict[str, subprocess.CompletedProcess[str]] = {}

    def asked(path: Path) -> subprocess.CompletedProcess[str]:
        said = path.read_text()
        if said not in known:
            known[said] = dry_run(path)
        return known[said]

    wrong = []
    for kind in ("pv", "hvm") if key in ("firmware", "serial", "tsc_mode") else ("pvh",):
        for value in SPELLINGS[key]:
            text = config(key, value, kind)
            told = verdict(text, asked, tmp_path)
            tables = {"we refuse": REFUSED, "xl refuses": READ, "other": ALIKE}
            expected = {word for word, table in tables.items() if value in table.get(key, ())}
            if told not in {"same", *expected} and not (release == "4.17" and key in LATER):
                wrong.append((value, kind, told))
    assert wrong == []


def verdict(text: str, dry_run: DryRun, folder: Path) -> str:
    """Whether xl and we take ``text`` for the same: also when both refuse it."""
    theirs, ours = folder / "theirs.cfg", folder / "ours.cfg"
    theirs.write_text(text)
    done = dry_run(theirs)
    try:
        spec, _notes = read_guest(text)
    except GuestError:
        return "same" if done.returncode else "we refuse"
    if done.returncode:
        return "xl refuses"
    ours.write_text(render_guest(declare_guest(as_mapping(spec)), NEWEST))
    wanted, got = meaning(done), meaning(dry_run(ours))
    if "uuid" not in spec.options:
        del wanted["c_info"]["uuid"], got["c_info"]["uuid"]
    return "same" if wanted == got else "other"
