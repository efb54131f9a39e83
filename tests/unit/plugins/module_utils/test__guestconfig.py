# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests as declared, as configurations, and compared."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._dialect import DIALECTS, NEWEST, V6
from ansible_collections.xen.virtio.plugins.module_utils._guestconfig import (
    GuestError,
    as_mapping,
    compare,
    config_violations,
    declare_guest,
    option_release_violations,
    read_guest,
    render_guest,
    split_guest,
    stored_name,
)

SHA = "0123456789abcdef" * 4


def guest(**options: Any) -> dict[str, Any]:
    return {"name": "g", **options}


# What an inventory may say, the setting of xl's it becomes, and what an inventory gets back of it.
DECLARED: list[tuple[dict[str, Any], str, dict[str, Any]]] = [
    ({"memory": "512", "vcpus": 2}, "memory = 512\nvcpus = 2\n", {"memory": 512, "vcpus": 2}),
    ({"memory": None}, "", {}),
    ({"localtime": "yes", "acpi": False}, "acpi = 0\nlocaltime = 1\n", {"acpi": False, "localtime": True}),
    (
        {"uuid": "7F3A1A2C-5B6D-4E8F-9A0B-1C2D3E4F5A6B"},
        'uuid = "7f3a1a2c-5b6d-4e8f-9a0b-1c2d3e4f5a6b"\n',
        {"uuid": "7f3a1a2c-5b6d-4e8f-9a0b-1c2d3e4f5a6b"},
    ),
    (
        {"root": "/dev/vda1", "extra": "rw"},
        'cmdline = "root=/dev/vda1 rw"\n',
        {"cmdline": "root=/dev/vda1 rw"},
    ),
    ({"root": "/dev/vda1"}, 'cmdline = "root=/dev/vda1"\n', {"cmdline": "root=/dev/vda1"}),
    ({"extra": "a\nmemory = 9"}, 'cmdline = "a\\nmemory = 9"\n', {"cmdline": "a\nmemory = 9"}),
    ({"cpus": [0, "1-2"]}, 'cpus = [0, "1-2"]\n', {"cpus": ["0", "1-2"]}),
    ({"cpus": "3,0-1,2,^1"}, 'cpus = "0,2-3"\n', {"cpus": "0,2-3"}),
    ({"cpus": "nodes:0,^1"}, 'cpus = "nodes:0,^1"\n', {"cpus": "nodes:0,^1"}),
    ({"irqs": [88, "0120"]}, "irqs = [88, 120]\n", {"irqs": [88, 120]}),
    (
        {"iomem": ["0xFE900,1", "fe901,1@C0000"]},
        'iomem = ["fe900,1", "fe901,1@c0000"]\n',
        {"iomem": ["fe900,1", "fe901,1@c0000"]},
    ),
    ({"ioports": ["2F8-2ff"]}, 'ioports = ["2f8-2ff"]\n', {"ioports": ["2f8-2ff"]}),
    (
        {"xenstore_quota": {"nodes": 2000}},
        'xenstore_quota = ["nodes=2000"]\n',
        {"xenstore_quota": {"nodes": 2000}},
    ),
    (
        {"xenstore_quota": ["nodes=0x10"]},
        'xenstore_quota = ["nodes=16"]\n',
        {"xenstore_quota": {"nodes": 16}},
    ),
    ({"sve": 256}, "sve = 256\n", {"sve": "256"}),
    (
        {
            "vif": [
                {"bridge": "xenbr0", "mac": "00:16:3E:0:0:1", "trusted": False},
                "script=vif-nat, type=vif",
            ]
        },
        'vif = ["mac=00:16:3e:00:00:01,bridge=xenbr0,untrusted", "script=vif-nat,type=vif"]\n',
        {
            "vif": [
                {"mac": "00:16:3e:00:00:01", "bridge": "xenbr0", "trusted": False},
                {"script": "vif-nat", "type": "vif"},
            ]
        },
    ),
    ({"vif": [{}]}, 'vif = [""]\n', {"vif": [{}]}),
    (
        {"pci": ["1:0.0@3,seize=1,permissive=0", {"bdf": "0000:02:1F.*", "rdm_policy": "strict"}]},
        'pci = ["0000:01:00.0@3,permissive=0,seize=1", "0000:02:1f.*,rdm_policy=strict"]\n',
        {"pci": ["0000:01:00.0@3,permissive=0,seize=1", "0000:02:1f.*,rdm_policy=strict"]},
    ),
    (
        {"disks": [{"vdev": "xvda", "target": "/dev/a", "backend": "DomD"}, "/dev/b,,xvdb"]},
        'disk = ["/dev/a,,xvda,backend=DomD,specification=virtio", "/dev/b,,xvdb"]\n',
        {
            "disks": [
                {"vdev": "xvda", "target": "/dev/a", "backend": "DomD"},
                {"vdev": "xvdb", "target": "/dev/b", "specification": "xen"},
            ]
        },
    ),
    (
        {"disks": ["backend=DomD, phy:/dev/mmcblk1p3, xvda1, rw, virtio"]},
        'disk = ["/dev/mmcblk1p3,,xvda1,backend=DomD,specification=virtio"]\n',
        {"disks": [{"vdev": "xvda1", "target": "/dev/mmcblk1p3", "backend": "DomD"}]},
    ),
    (
        {"disks": [{"vdev": "hdc", "devtype": "cdrom", "specification": "xen"}]},
        'disk = ["vdev=hdc,cdrom"]\n',
        {"disks": [{"vdev": "hdc", "devtype": "cdrom", "specification": "xen"}]},
    ),
    (
        {"disks": [{"vdev": "xvda", "target": "/dev/a", "shared": True, "access": "r"}]},
        'disk = ["/dev/a,,xvda,r,specification=virtio"]\n',
        {"disks": [{"vdev": "xvda", "target": "/dev/a", "access": "ro", "shared": True}]},
    ),
    (
        {"virtio": ["device22", {"type": "device1a", "backend": 1, "grant_usage": True}]},
        'virtio = [\n    "type=virtio,device22,transport=mmio",\n'
        '    "type=virtio,device1a,transport=mmio,backend=1,grant_usage=1",\n]\n',
        {
            "virtio": [
                {"type": "virtio,device22"},
                {"type": "virtio,device1a", "backend": "1", "grant_usage": True},
            ]
        },
    ),
    (
        {"virtio": ["virtio,device1a", "type=virtio,device,transport=mmio"]},
        'virtio = ["type=virtio,device1a,transport=mmio", "type=virtio,device,transport=mmio"]\n',
        {"virtio": [{"type": "virtio,device1a"}, {"type": "virtio,device"}]},
    ),
    (
        {"extra_config": {"vnc": True, "vnuma": [["pnode=0", 1]], "gone": None}},
        'vnc = 1\nvnuma = [["pnode=0", 1]]\n',
        {"extra_config": {"vnc": "1", "vnuma": [["pnode=0", "1"]]}},
    ),
]

REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"memroy": 1}, "memroy", "did you mean memory?"),
    ({"disk": []}, "disk", "is called disks"),
    ({"vnc": 1}, "vnc", "goes into extra_config"),
    ({"builder": "hvm"}, "builder", "type: hvm"),
    ({"memory": "lots"}, "memory", "whole number"),
    ({"memory": 1.5}, "memory", "whole number"),
    ({"memory": True}, "memory", "whole number"),
    ({"memory": 0}, "memory", "from 1"),
    ({"cmdline": "a\0b"}, "cmdline", "NUL"),
    ({"cmdline": ["a"]}, "cmdline", "text"),
    ({"cmdline": "a", "extra": "b"}, "cmdline", "xl would ignore"),
    ({"kernel": ""}, "kernel", "not empty"),
    ({"kernel": {"checksum": SHA}}, "kernel", "src is missing"),
    ({"kernel": {"src": "a", "checksum": "md5:1"}}, "kernel", "64 hexadecimal digits"),
    ({"kernel": {"src": "a", "dest": "b"}}, "kernel", "unknown key 'dest'"),
    ({"type": "domu"}, "type", "one of pv, pvh, hvm"),
    ({"on_crash": "reboot"}, "on_crash", "one of destroy, restart"),
    ({"uuid": "1"}, "uuid", "a UUID"),
    ({"cpus": "zero"}, "cpus", "list of CPUs"),
    ({"cpus": "3-1"}, "cpus", "ranges"),
    ({"iomem": ["zz,1"]}, "iomem", "hexadecimal"),
    ({"iomem": ["fe900"]}, "iomem", "START,NUMBER"),
    ({"dtdev": ["soc"]}, "dtdev", "absolute path"),
    ({"irqs": "88"}, "irqs", "a list"),
    ({"vif": [{"bridge": "a,b"}]}, "vif", "comma"),
    ({"vif": [{"brigde": "a"}]}, "vif", "unknown key 'brigde'"),
    ({"vif": ["mac=1:2"]}, "vif", "MAC"),
    ({"pci": ["01:00"]}, "pci", "PCI device"),
    ({"pci": ["01:00.0,foo=1"]}, "pci", "unknown word 'foo'"),
    ({"disks": ["/dev/a"]}, "disks", "no vdev"),
    ({"disks": [{"vdev": "xvda", "target": "/a", "base": 33554432}]}, "disks", "given out by xl"),
    ({"disks": "a"}, "disks", "a list"),
    ({"virtio": [{"type": "virtio"}]}, "virtio", "Invalid type"),
    ({"virtio": [{"type": "device22", "backend": "a,b"}]}, "virtio", "comma"),
    ({"extra_config": {"memory": 1}}, "extra_config", "memory has an option of its own"),
    ({"extra_config": {"disk": []}}, "extra_config", "its own, disks"),
    ({"extra_config": {"Vnc": 1}}, "extra_config", "no key of xl"),
    ({"extra_config": {"vnc\nmemory": 1}}, "extra_config", "no key of xl"),
    ({"extra_config": {"vnc": {"a": 1}}}, "extra_config", "vnc: .* dict"),
    ({"extra_config": []}, "extra_config", "mapping"),
    ({"name": "a/b"}, "name", "slashes"),
    ({"name": "a\nb"}, "name", "control"),
    ({"name": "-a"}, "name", "dash"),
    ({"name": "12"}, "name", "domid"),
    ({"name": "Domain-0"}, "name", "dom0"),
    ({"name": ""}, "name", "1 to 200"),
    ({"name": None}, "name", "without a name"),
]


@pytest.mark.parametrize(("options", "text", "short"), DECLARED)
def test_declared(options: dict[str, Any], text: str, short: dict[str, Any]) -> None:
    spec = declare_guest(guest(**options))
    assert as_mapping(spec) == guest(**short)
    assert declare_guest(as_mapping(spec)) == spec
    assert render_guest(spec, NEWEST) == 'name = "g"\n' + text
    again, notes = read_guest(render_guest(spec, NEWEST))
    assert notes == []
    assert compare(spec, again) == []


@pytest.mark.parametrize(("options", "option", "reason"), REFUSED)
def test_refused_by_name(options: dict[str, Any], option: str, reason: str) -> None:
    with pytest.raises(GuestError, match=reason) as refusal:
        declare_guest(guest(**options))
    assert refusal.value.option == option
    if options.get("name", "") is not None and "name" not in options:
        assert str(refusal.value).startswith(f"guest g: {option}: ")


def test_what_is_ours_is_split_off() -> None:
    mapping = guest(
        memory=1, force_destroy=True, state="running", autostart=True, path="/etc/xen/g.cfg", recreate="never"
    )
    config, ours = split_guest({**mapping, "content": "x"})
    assert config == guest(memory=1)
    assert list(ours) == ["state", "autostart", "path", "content", "recreate", "force_destroy"]


STORED = {
    ("files/Image-6.6", SHA): "Image-6.6-0123456789ab",
    ("/boot/Image", f"sha256:{SHA.upper()}"): "Image-0123456789ab",
    ("../../etc/passwd", SHA): "passwd-0123456789ab",
    ("a/..", SHA): "file-0123456789ab",
    ("my kernel;rm", SHA): "my_kernel_rm-0123456789ab",
}


@pytest.mark.parametrize(("given", "name"), STORED.items())
def test_stored_name(given: tuple[str, str], name: str) -> None:
    assert stored_name(*given) == name


def test_a_file_has_to_be_on_the_host_before_its_guest_is_rendered() -> None:
    spec = declare_guest(guest(kernel={"src": "files/Image", "checksum": SHA}))
    assert spec.options["kernel"] == {"src": "files/Image", "checksum": f"sha256:{SHA}"}
    with pytest.raises(GuestError, match="files/Image is not stored on the host yet"):
        render_guest(spec, NEWEST)


RELEASES = [
    ({"virtio": ["device22"]}, "4.17", "virtio"),
    ({"virtio": ["device22"]}, "4.18", None),
    ({"nr_spis": 64}, "4.18", "nr_spis"),
    ({"nr_spis": 64}, "4.19", None),
    ({"trap_unmapped_accesses": False}, "4.20", "trap_unmapped_accesses"),
    ({"xenstore_quota": {"nodes": 1}}, "4.21", "xenstore_quota"),
    ({"xenstore_quota": {"nodes": 1}}, "4.22", None),
    ({"tee": "ffa"}, "4.17", "tee"),
    ({"tee": "optee"}, "4.17", None),
    ({"nr_spis": 64}, "v6", "nr_spis"),
    ({"extra_config": {"smbios": ["a=b"]}}, "4.17", "smbios"),
    ({"disks": [{"vdev": "xvda", "target": "/a", "grant_usage": True}]}, "4.18", "disks"),
]


@pytest.mark.parametrize(("options", "release", "option"), RELEASES)
def test_what_a_release_does_not_know(options: dict[str, Any], release: str, option: str | None) -> None:
    spec, dialect = declare_guest(guest(**options)), DIALECTS[release]
    found = option_release_violations(spec, dialect)
    assert [name for name, _sentence in found] == ([option] if option else [])
    if option:
        assert "newer, not by" in found[0][1]
        with pytest.raises(GuestError, match="newer, not by"):
            render_guest(spec, dialect)


def test_a_disk_goes_out_in_the_words_of_the_host() -> None:
    spec = declare_guest(guest(disks=[{"vdev": "xvda", "target": "/dev/a", "backend": "DomD"}]))
    assert 'disk = ["/dev/a,,xvda,backend=DomD,virtio"]' in render_guest(spec, V6)


VIOLATIONS = [
    ({"kernel": "/a"}, []),
    ({"firmware": "pvgrub64"}, []),
    ({"type": "hvm"}, []),
    ({}, ["kernel"]),
    ({"kernel": "/a", "firmware": "pvgrub64"}, ["firmware"]),
    ({"kernel": "a"}, ["kernel"]),
    ({"kernel": {"src": "a"}, "vcpus": 4, "maxvcpus": 2}, ["maxvcpus"]),
    ({"kernel": "/a", "vcpus": 4, "maxvcpus": 8, "memory": 512, "maxmem": 256}, ["maxmem"]),
]


@pytest.mark.parametrize(("options", "found"), VIOLATIONS)
def test_what_xl_would_refuse(options: dict[str, Any], found: list[str]) -> None:
    assert [option for option, _sentence in config_violations(declare_guest(guest(**options)))] == found


# A configuration, what an inventory says of it, and the notes.
READ: list[tuple[str, dict[str, Any], list[str]]] = [
    ("memory = '0x200'", {"memory": 512}, []),
    ("memory = 'lots'", {}, ["no number to xl"]),
    ("memory = 1\nmemory += 2", {}, ["\\+="]),
    ("memory = [512]", {}, ["is a list where xl wants a single value"]),
    ("vcpus = 0", {"vcpus": 1}, []),
    ("ramdisk = ''", {}, []),
    ("builder = 'generic'", {"type": "pv"}, ["builder: deprecated.*type = 'pv'"]),
    ("builder = 'hvm'\ntype = 'hvm'", {"type": "hvm"}, ["builder"]),
    ("type = 'p'", {"type": "pv"}, ["'p' is pv to xl"]),
    ("extra = 'a'\nroot = '/dev/vda'", {"cmdline": "root=/dev/vda a"}, []),
    ("extra = 'a'\ncmdline = 'b'", {"cmdline": "b"}, ["ignores root and extra"]),
    ("vuart = 'SBSA_UART'", {"vuart": "sbsa_uart"}, []),
    ("localtime = 2", {"localtime": True}, []),
    ("tsc_mode = 2", {"tsc_mode": "native"}, ["a number is deprecated"]),
    ("tsc_mode = 'native'", {"tsc_mode": "native"}, []),
    ("bootloader_args = '-q  --kernel /a'", {"bootloader_args": ["-q", "--kernel", "/a"]}, ["deprecated"]),
    ("irqs = [010]", {"irqs": [10]}, []),
    ("vif = 'bridge=a'", {}, ["a single value where xl wants a list"]),
    (
        "vif = ['bridge=a,bridge=b, oops,netdev=e']",
        {"vif": [{"bridge": "b", "gatewaydev": "e"}]},
        ["'oops'", "netdev"],
    ),
    ("vif = ['']", {"vif": [{}]}, []),
    ("disk = '/a,,xvda'", {}, ["wants a list"]),
    (
        "disk = ['phy:/a,xvda,w']",
        {"disks": [{"vdev": "xvda", "target": "/a", "specification": "xen"}]},
        ["prefix"],
    ),
    ("serial = 'pty'", {"serial": ["pty"]}, []),
    ("vnc = 1\nvnuma = [['pnode=0']]", {"extra_config": {"vnc": "1", "vnuma": [["pnode=0"]]}}, []),
    ("seclabel='system_u:system_r:domU_t'", {"seclabel": "system_u:system_r:domU_t"}, []),
]


@pytest.mark.parametrize(("text", "short", "notes"), READ)
def test_read(text: str, short: dict[str, Any], notes: list[str]) -> None:
    spec, told = read_guest(f"name = 'g'\n{text}\n")
    assert as_mapping(spec) == guest(**short)
    assert declare_guest(as_mapping(spec)) == spec
    assert len(told) == len(notes)
    for sentence, note in zip(told, notes):
        assert re.search(note, sentence)


UNREADABLE = [
    ("memory = 1", "without a name"),
    ("name = 'g'\nmemory = True", "line 2: .*Python"),
    ("name = 'g'\ntype = 'pvx'", "type: line 2"),
    ("name = 'g'\nbuilder = 'linux'", "builder: line 2: must be hvm or generic"),
    ("name = 'g'\nbuilder = 'hvm'\ntype = 'pv'", "contradicts"),
    ("name = 'g'\non_crash = 'Restart'", "on_crash: line 2"),
    ("name = 'g'\ndisk = ['/a']", "disks?: line 2: .*no vdev"),
    ("name = 'g'\nvirtio = ['transport=mmio']", "virtio: line 2"),
    ("name = 'g'\nvif = [['a']]", "list in a list"),
    ("name = 'a/b'", "slashes"),
]


@pytest.mark.parametrize(("text", "reason"), UNREADABLE)
def test_unreadable(text: str, reason: str) -> None:
    with pytest.raises(GuestError, match=reason):
        read_guest(text)


# Two ways to say one thing.
SAME: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"memory": 512}, {"memory": 512, "maxmem": 512}),
    ({"maxmem": 512}, {"memory": 512, "maxmem": 512}),
    ({}, {"vcpus": 1, "maxvcpus": 1}),
    ({"vcpus": 2}, {"vcpus": 2, "maxvcpus": 2}),
    ({}, {"on_poweroff": "destroy", "on_reboot": "restart", "on_crash": "destroy"}),
    ({}, {"on_watchdog": "destroy", "on_soft_reset": "soft-reset"}),
    ({}, {"localtime": False, "driver_domain": False, "trap_unmapped_accesses": True, "cmdline": ""}),
    ({}, {"vif": [], "irqs": [], "disks": [], "virtio": [], "extra_config": {}}),
    ({"disks": ["/a,,xvda"]}, {"disks": ["vdev=51712,/a,format=raw,access=rw,backend=0,discard"]}),
    (
        {"disks": ["/a,,xvda,specification=virtio"]},
        {"disks": [{"vdev": "d0p0", "target": "/a", "shared": True}]},
    ),
    (
        {"disks": ["/a,,xvda,specification=virtio"]},
        {"disks": ["/a,,xvda,specification=virtio,grant_usage=0"]},
    ),
    (
        {"disks": ["/a,,xvda,backend=DomD,specification=virtio"]},
        {
            "disks": [
                "/a,,xvda,backend=DomD,specification=virtio,backendtype=standalone,grant_usage=1,trusted"
            ]
        },
    ),
    ({"virtio": ["device22"]}, {"virtio": ["type=virtio,device22,transport=mmio,backend=0,grant_usage=0"]}),
    ({"vif": [{}]}, {"vif": ["trusted,backend=Domain-0,devid=0"]}),
    ({"extra_config": {"vncdisplay": 16}}, {"extra_config": {"vncdisplay": "0x10"}}),
]

DIFFERENT: list[tuple[dict[str, Any], dict[str, Any], list[tuple[str, Any, Any]]]] = [
    ({"memory": 512}, {"memory": 1024}, [("memory", 512, 1024)]),
    ({"memory": 512}, {"memory": 512, "maxmem": 1024}, [("maxmem", None, 1024)]),
    ({"vcpus": 2}, {}, [("vcpus", 2, None)]),
    ({"type": "pvh"}, {}, [("type", "pvh", None)]),
    ({"on_crash": "restart"}, {}, [("on_crash", "restart", None)]),
    ({"cmdline": "a"}, {"root": "/dev/vda"}, [("cmdline", "a", "root=/dev/vda")]),
    (
        {"disks": ["/a,,xvda"]},
        {"disks": ["/b,,xvda"]},
        [
            (
                "disks.xvda",
                {"vdev": "xvda", "target": "/a", "specification": "xen"},
                {"vdev": "xvda", "target": "/b", "specification": "xen"},
            )
        ],
    ),
    (
        {"disks": ["/a,,xvda", "/b,,xvdb"]},
        {"disks": ["/b,,xvdb", "/a,,xvda"]},
        [("disks order", ["xvda", "xvdb"], ["xvdb", "xvda"])],
    ),
    (
        {},
        {"disks": [{"vdev": "xvda", "target": "/a"}]},
        [("disks.xvda", None, {"vdev": "xvda", "target": "/a"})],
    ),
    ({"virtio": ["device22"]}, {}, [("virtio", [{"type": "virtio,device22"}], [])]),
    (
        {"extra_config": {"vnc": 1}},
        {"extra_config": {"sdl": 1}},
        [("extra_config.vnc", "1", None), ("extra_config.sdl", None, "1")],
    ),
    ({"name": "a"}, {"name": "b"}, [("name", "a", "b")]),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_same_meaning(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert compare(declare_guest(guest(**one)), declare_guest(guest(**other))) == []
    assert compare(declare_guest(guest(**other)), declare_guest(guest(**one))) == []


@pytest.mark.parametrize(("before", "after", "changes"), DIFFERENT)
def test_different(
    before: dict[str, Any], after: dict[str, Any], changes: list[tuple[str, Any, Any]]
) -> None:
    assert compare(declare_guest(guest(**before)), declare_guest(guest(**after))) == changes


def test_the_type_left_out_is_what_the_machine_makes_of_it() -> None:
    said, left_out = declare_guest(guest(type="pvh")), declare_guest(guest())
    assert compare(said, left_out, default_type="pvh") == []
    assert compare(said, left_out, default_type="pv") == [("type", "pvh", None)]
