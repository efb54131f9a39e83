# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks read and written, with no Xen at hand; tests/system/test_oracle_disk.py asks the real parser."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._dialect import (
    DIALECTS,
    NEWEST,
    RELEASES,
    V6,
    Dialect,
)
from ansible_collections.xen.virtio.plugins.module_utils._diskspec import (
    FIELDS,
    MAX_TARGET,
    Declared,
    DiskSpec,
    DiskSpecError,
    declare,
    from_mapping,
    parse,
    parse_with_notes,
    release_violations,
    render,
    to_mapping,
    virtio_violations,
)
from hypothesis import given, settings
from oracle.strategies import DISK_STRINGS, disks

SEED = "backend=DomD, phy:/dev/mmcblk1p3, xvda1, rw, virtio"
TODAY = "/dev/mmcblk1p3,,xvda1,backend=DomD,specification=virtio"
FAST = settings(max_examples=300, deadline=None, database=None, derandomize=True)


def disk(**said: Any) -> DiskSpec:
    """A disk with all that the cases below do not speak of."""
    return DiskSpec(**{"vdev": "xvda", "target": "/a", **said})


CDROM: dict[str, Any] = {"cdrom": True, "removable": True, "devtype": "cdrom", "access": "ro"}


def test_fields_are_those_of_the_dataclass() -> None:
    assert tuple(field.name for field in dataclasses.fields(DiskSpec)) == FIELDS
    assert to_mapping(parse("/a,,xvda")) == dataclasses.asdict(disk())


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("/a,,xvda", disk()),
        ("/a,qcow2,xvda,r", disk(format="qcow2", access="ro")),
        ("format=raw,vdev=xvda,access=w,target=/a", disk()),
        (TODAY, disk(vdev="xvda1", target="/dev/mmcblk1p3", backend="DomD", specification="virtio")),
        (
            "vdev=xvda,backendtype=standalone,target=/a,b:c=d",
            disk(backendtype="standalone", target="/a,b:c=d"),
        ),
        (
            "/a,,xvda,untrusted,no-discard,direct-io-safe",
            disk(trusted=False, discard=False, direct_io_safe=True),
        ),
        ("/a,,xvda,grant_usage=0", disk(grant_usage=False)),
        ("iscsi:x,xvda", disk(target="x", script="block-iscsi")),
        (",hdc:cdrom,r", disk(vdev="hdc", target="", format="empty", **CDROM)),
        ("cdrom,vdev=hdc,access=rw", disk(vdev="hdc", target=None, format="empty", **CDROM)),
        ("/a,,hdc,devtype=cdrom", disk(vdev="hdc", **CDROM)),
        ("/a,,xvda,cdrom,devtype=disk", disk()),
        (
            "/a,,xvda,colo,colo-host=h,colo-port=8,colo-export=e,active-disk=/b,hidden-disk=/c",
            disk(colo=True, colo_host="h", colo_port=8, colo_export="e", active_disk="/b", hidden_disk="/c"),
        ),
        ("/dév/\udcff,,xvda", disk(target="/dév/\udcff")),
    ],
)
def test_parse(text: str, spec: DiskSpec) -> None:
    assert parse(text) == spec
    assert parse(text, NEWEST) == spec


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("/a,raw,xvda,rw,x", "too many positional parameters: near `x' in `/a,raw,xvda,rw,x'"),
        ("/a,vmdk,xvda", "unknown value for format: near `vmdk' in `/a,vmdk,xvda'"),
        ("/a,,xvda,x", "unknown value for access: near `x' in `/a,,xvda,x'"),
        ("/a,,xvda,foo=bar", "unknown parameter: near `foo=b' in `/a,,xvda,foo=bar'"),
        ("/a,,xvda,backendtype=", "unknown value for backendtype: near `' in `/a,,xvda,backendtype='"),
        ("devtype=x,/a,,xvda", "unknown value for type: near `devtype=x,' in `devtype=x,/a,,xvda'"),
        ("backend=a,backend=a", "backend respecified: near `a' in `backend=a,backend=a'"),
        ("foo:/a,,xvda", "unknown deprecated disk prefix: near `foo:' in `foo:/a,,xvda'"),
        ("/a,,xvda:tape", "unknown deprecated type: near `tape' in `/a,,xvda:tape'"),
        ("/a=b,,xvda", "bad disk syntax: near `=b,,xvda' in `/a=b,,xvda'"),
        ("/a", "no vdev specified in `/a'"),
        ("vdev=xvda", "no target specified (and device not removable) in `vdev=xvda'"),
        ("", "no vdev specified in `'"),
    ],
)
def test_refused_in_the_words_of_xl(text: str, message: str) -> None:
    with pytest.raises(DiskSpecError) as refusal:
        parse(text)
    assert refusal.value.messages[0] == message
    assert str(refusal.value).startswith(f"config parsing error in disk specification: {message}")


def test_all_that_xl_reports() -> None:
    with pytest.raises(DiskSpecError) as refusal:
        parse("format=vmdk,foo=bar,access=x")
    assert [message.split(":")[0] for message in refusal.value.messages] == [
        "unknown value for format",
        "unknown parameter",
        "unknown value for access",
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("/a,,xvda\n", "holds a newline: it must be one line"),
        ("/a\0,,xvda", "holds a NUL"),
        ("/a\ud800,,xvda", "not text that UTF-8 can carry"),
        (None, "is text, not NoneType"),
        (5, "is text, not int"),
        ({"vdev": "xvda"}, "is text, not dict"),
    ],
)
def test_not_a_disk_string(text: Any, reason: str) -> None:
    with pytest.raises(DiskSpecError, match=reason) as refusal:
        parse(text)
    assert refusal.value.messages == ()


# --- dialects --------------------------------------------------------------------------------------------

OLD, NEW = ["v6", "4.17", "4.18"], ["4.19", "4.20", "4.21", "4.22"]


@pytest.mark.parametrize(
    ("text", "accepting"),
    [
        ("/a,,xvda", ["v6", *RELEASES]),
        ("/a,,xvda,rw,trusted", NEW),
        ("/a,,xvda,rw,untrusted", NEW),
        ("/a,,xvda,rw,grant_usage=1", NEW),
        ("/a,,xvda,specification=virtio", [*RELEASES]),
        ("/a,,xvda,specification=virtio,backendtype=standalone", [*RELEASES]),
        ("/a,,xvda,backendtype=standalone", [*RELEASES]),
        (SEED, ["v6"]),
        ("/a,,xvda,rw,virtio", ["v6"]),
    ],
)
def test_gated_by_release(text: str, accepting: list[str]) -> None:
    def accepted(dialect: Dialect) -> bool:
        try:
            parse(text, dialect)
        except DiskSpecError:
            return False
        return True

    assert [name for name, dialect in DIALECTS.items() if accepted(dialect)] == accepting
    parse(text)  # any dialect


def test_v6_reads_as_todays_spelling() -> None:
    assert parse(SEED, V6) == parse(TODAY, NEWEST) == parse(SEED) == parse(TODAY)


def test_a_string_that_todays_xl_reads_means_what_it_means_today() -> None:
    assert parse("virtio,raw,xvda").target == "virtio"
    assert parse("virtio,/a,raw,xvda").specification == "virtio"


@given(text=DISK_STRINGS)
@FAST
def test_v6_differs_from_417_only_in_its_words(text: str) -> None:
    if any(word in text for word in ("virtio", "specification", "standalone")):
        return

    def outcome(dialect: Dialect) -> object:
        try:
            return parse(text, dialect)
        except DiskSpecError as error:
            return error.messages

    assert outcome(V6) == outcome(DIALECTS["4.17"])


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        (TODAY, []),
        (SEED, ["deprecated-prefix", "v6-flag"]),
        ("tap:qcow2:/a,xvda", ["deprecated-prefix", "deprecated-prefix"]),
        ("/a,,hdc:cdrom", ["deprecated-devtype"]),
    ],
)
def test_notes(text: str, codes: list[str]) -> None:
    notes = parse_with_notes(text)[1]
    assert [note.code for note in notes] == codes
    assert all(note.message for note in notes)


@pytest.mark.parametrize(
    ("release", "text", "hint"),
    [
        # other versions of the patches
        ("4.20", SEED, "specification=virtio"),
        (
            None,
            "/a,,xvda,rw,backendtype=other,protocol=virtio-mmio",
            "backendtype=standalone,specification=virtio",
        ),
        (None, "/a,,xvda,rw,backendtype=virtio", "today specification=virtio"),
        (None, "/a,,xvda,rw,protocol=virtio-mmio", "today specification=virtio"),
        (None, "/a,,xvda,rw,backendtype=other,specification=virtio", "backendtype=standalone"),
        (None, "vdisk=/dev/x", "specification=virtio"),
        # downstream
        (
            None,
            "/a,,xvda,specification=virtio,transport=mmio",
            "transport is no disk option of xl, leave it out",
        ),
        (None, "/a,,xvda,transport=pci,bdf=0000:00:01.0", "downstream only"),
        (None, "/a,,xvda,bdf=0000:00:01.0", "bdf is no disk option of xl"),
        (None, "/a,,xvda,backend_type=qemu", "backendtype=standalone,specification=virtio"),
        # other releases
        ("4.17", "/a,,xvda,rw,trusted", "trusted is accepted by Xen 4.19 and newer, not by Xen 4.17"),
        ("4.18", "/a,,xvda,untrusted", "untrusted is accepted by Xen 4.19 and newer, not by Xen 4.18"),
        ("4.18", "/a,,xvda,grant_usage=1", "grant_usage is accepted by Xen 4.19 and newer, not by Xen 4.18"),
        ("v6", TODAY, "V6 knows the flag virtio instead"),
        # mistakes
        ("4.20", "/a,,xvda,grant_usage=true", "write grant_usage=1 or grant_usage=0"),
        (None, "/a,,xvda,formt=raw", "did you mean format?"),
        (None, "/a,,xvda,direct_io_safe=1", "did you mean direct-io-safe?"),
        (None, "/a=b,,xvda", "as target="),
        (None, "backend=DomD,virtoi,target=/a", "`virtoi': did you mean specification=virtio?"),
        ("v6", "backend=DomD,virtoi,target=/a", "`virtoi': did you mean virtio?"),
        (None, "/a,,xvda,rw,no-discrad", "`no-discrad': did you mean no-discard?"),
        (None, "backend=DomD, phy:/dev/x, xvda1, rx, virtio", "unknown value for access: near `rx'"),
    ],
)
def test_what_was_meant(release: str | None, text: str, hint: str) -> None:
    with pytest.raises(DiskSpecError) as refusal:
        parse(text, DIALECTS[release] if release else None)
    assert refusal.value.messages
    assert hint in str(refusal.value)


# --- writing ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (disk(), "/a,,xvda"),
        (disk(access="ro"), "/a,,xvda,r"),
        (disk(format="qcow2"), "/a,qcow2,xvda"),
        (disk(backend="DomD", specification="virtio"), "/a,,xvda,backend=DomD,specification=virtio"),
        (disk(trusted=False, grant_usage=True), "/a,,xvda,untrusted,grant_usage=1"),
        (disk(discard=True, direct_io_safe=True, colo=False), "/a,,xvda,direct-io-safe,discard,no-colo"),
        (disk(script="block-nbd", colo_port=9), "/a,,xvda,script=block-nbd,colo-port=9"),
        (disk(vdev="hdc", **CDROM), "/a,,hdc,cdrom"),
        (disk(vdev="hdc", target="", format="empty", **CDROM), ",,hdc,cdrom"),
        (disk(vdev="hdc", target=None, format="empty", **CDROM), "vdev=hdc,cdrom"),
        # targets
        (disk(target="/a:b"), "/a:b,,xvda"),
        (disk(target="a:b"), "a:b,,xvda"),
        (disk(target=""), ",,xvda"),
        (disk(target="/a,b"), ",,xvda,target=/a,b"),
        (disk(target="/a=b", backend="x"), ",,xvda,backend=x,target=/a=b"),
        (disk(target="/a,"), ",,xvda,target=/a,,"),
        (disk(target=" /a", access="ro"), ",,xvda,r,target= /a"),
        (disk(target="/a "), "/a ,,xvda"),
        (disk(target="phy:/a"), ",,xvda,target=phy:/a"),
        (disk(target="foo:/a"), ",,xvda,target=foo:/a"),
        (disk(target="cdrom"), ",,xvda,target=cdrom"),
        (disk(target="/\"quoted'"), "/\"quoted',,xvda"),
        (disk(target="/dév/\udcff"), "/dév/\udcff,,xvda"),
        # vdevs no guest could use, but a string can say
        (disk(vdev="a:b"), "vdev=a:b,/a"),
        (disk(vdev=" x", access="ro", format="vhd"), "vdev= x,/a,vhd,r"),
        (disk(vdev="a:b", access="ro", target="/a,b"), "vdev=a:b,,,r,target=/a,b"),
        (disk(vdev=""), "/a,,,"),
    ],
)
def test_render(spec: DiskSpec, text: str) -> None:
    assert render(spec) == text
    assert parse(text) == spec


@pytest.mark.parametrize(
    ("spec", "release", "text"),
    [
        (parse(TODAY), "v6", "/dev/mmcblk1p3,,xvda1,backend=DomD,virtio"),
        (disk(specification="virtio", backendtype="standalone"), "v6", "/a,,xvda,virtio"),
        (disk(specification="xen"), "v6", "/a,,xvda"),
        (disk(specification="virtio", backendtype="phy"), "v6", "/a,,xvda,backendtype=phy,virtio"),
        (parse(SEED), "4.17", TODAY),
    ],
)
def test_render_for_a_release(spec: DiskSpec, release: str, text: str) -> None:
    assert render(spec, DIALECTS[release]) == text


@pytest.mark.parametrize(
    ("spec", "release", "key", "reason"),
    [
        (disk(target="/a\nb"), "4.20", "target", "holds a newline"),
        (disk(target="/a\0"), "4.20", "target", "holds a NUL"),
        (disk(backend="a,b"), "4.20", "backend", "holds a comma: in a disk string only a target can"),
        (disk(script="x\n"), "4.20", "script", "holds a newline"),
        (disk(vdev="a,b"), "4.20", "vdev", "holds a comma"),
        (disk(target=None), "4.20", "target", "no target specified"),
        (disk(vdev=None), "4.20", "vdev", "no vdev specified"),
        (disk(trusted=True), "4.18", "trusted", "trusted is accepted by Xen 4.19 and newer, not by Xen 4.18"),
        (disk(grant_usage=False), "4.17", "grant_usage", "4.19 and newer"),
        (disk(backendtype="standalone"), "v6", "backendtype", "4.17 and newer, not by the V6 patches"),
        (disk(format="vmdk"), "4.20", None, "unknown value for format"),
        (disk(colo_port=0), "4.20", None, "unknown value for colo_port"),
        (disk(cdrom=True), "4.20", None, "reads back to"),
        (disk(target="/a\ud800"), "4.20", None, "UTF-8"),
    ],
)
def test_what_no_string_carries(spec: DiskSpec, release: str, key: str | None, reason: str) -> None:
    with pytest.raises(DiskSpecError, match=reason) as refusal:
        render(spec, DIALECTS[release])
    assert refusal.value.key == key


@given(mapping=disks())
@FAST
def test_every_disk_reads_back(mapping: dict[str, Any]) -> None:
    spec = from_mapping(mapping).spec
    for dialect in DIALECTS.values():
        if not release_violations(spec, dialect):
            again = parse(render(spec, dialect), dialect)
            assert again == spec or dialect is V6
            assert render(again, dialect) == render(spec, dialect)


@given(text=DISK_STRINGS)
@FAST
def test_nothing_longer_than_it_was_read(text: str) -> None:
    try:
        spec, notes = parse_with_notes(text, NEWEST)
    except DiskSpecError:
        return
    words = (spec.target, spec.vdev)
    if not notes and "virtio" not in words:  # a word of V6 that is written out for safety's sake
        assert len(render(spec, NEWEST)) <= len(text)


def test_release_violations() -> None:
    spec = disk(trusted=True, grant_usage=True, specification="virtio")
    assert release_violations(spec, DIALECTS["4.19"]) == []
    assert [line.split()[0] for line in release_violations(spec, DIALECTS["4.17"])] == [
        "trusted",
        "grant_usage",
    ]


# --- mappings --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "spec"),
    [
        ({}, disk(specification="virtio")),
        ({"specification": "xen"}, disk(specification="xen")),
        ({"specification": None}, disk()),
        ({"backend": 1}, disk(specification="virtio", backend="1")),
        ({"backend": "DomD"}, disk(specification="virtio", backend="DomD")),
        ({"vdev": 51712}, disk(specification="virtio", vdev="51712")),
        ({"access": "r"}, disk(specification="virtio", access="ro")),
        ({"access": "w"}, disk(specification="virtio")),
        ({"access": None, "format": ""}, disk(specification="virtio")),
        ({"discard": "no", "trusted": "False"}, disk(specification="virtio", discard=False, trusted=False)),
        (
            {"grant_usage": 1, "direct_io_safe": "yes"},
            disk(specification="virtio", grant_usage=True, direct_io_safe=True),
        ),
        ({"devtype": "disk", "cdrom": False}, disk(specification="virtio")),
        ({"devtype": "cdrom", "specification": "xen"}, disk(specification="xen", **CDROM)),
        ({"cdrom": True, "specification": None}, disk(**CDROM)),
        (
            {"cdrom": True, "target": None, "access": "rw"},
            disk(specification="virtio", target=None, format="empty", **CDROM),
        ),
        ({"colo_port": "8"}, disk(specification="virtio", colo_port=8)),
    ],
)
def test_from_mapping(said: dict[str, Any], spec: DiskSpec) -> None:
    assert from_mapping({"vdev": "xvda", "target": "/a", **said}) == Declared(spec)


@pytest.mark.parametrize(
    ("said", "extras"),
    [
        ({"shared": True}, {"shared": True}),
        ({"shared": "no"}, {}),
        ({"base": 0x2000000, "irq": 33}, {"base": 0x2000000, "irq": 33}),
        ({"base": "0x2000000", "irq": "33"}, {"base": 0x2000000, "irq": 33}),
        ({"base": "33554432"}, {"base": 0x2000000}),
    ],
)
def test_keys_of_ours(said: dict[str, Any], extras: dict[str, Any]) -> None:
    declared = from_mapping({"vdev": "xvda", "target": "/a", **said})
    assert declared == Declared(disk(specification="virtio"), **extras)


@pytest.mark.parametrize(
    ("said", "key", "reason"),
    [
        ({"formt": "raw"}, "formt", "unknown key 'formt' (did you mean format?)"),
        ({"direct-io-safe": True}, "direct-io-safe", "did you mean direct_io_safe?"),
        ({"transport": "mmio"}, "transport", "leave it out"),
        ({"bdf": "1"}, "bdf", "leave it out"),
        ({"virtio": True}, "virtio", "specification=virtio"),
        ({"zzz": 1}, "zzz", "known are vdev"),
        ({5: 1}, "5", "unknown key '5'"),
        ({"target": 5}, "target", "must be text (quote it), not 5"),
        ({"target": ["/a"]}, "target", "must be text"),
        ({"target": "/a\n"}, "target", "holds a newline"),
        ({"vdev": True}, "vdev", "must be a name or a number, not True"),
        ({"vdev": 1.5}, "vdev", "must be a name or a number"),
        ({"vdev": -1}, "vdev", "must be a name or a number"),
        ({"vdev": None}, "vdev", "no vdev specified"),
        ({"backend": False}, "backend", "must be a name or a number"),
        ({"backend": "a\0"}, "backend", "holds a NUL"),
        ({"format": "vmdk"}, "format", "one of raw, qcow"),
        ({"access": "x"}, "access", "rw (or w) or ro (or r)"),
        ({"access": True}, "access", "rw (or w) or ro (or r)"),
        ({"backendtype": "other"}, "backendtype", "today backendtype=standalone"),
        ({"backendtype": ""}, "backendtype", "one of phy"),
        ({"specification": "nvme"}, "specification", "one of xen, virtio"),
        ({"devtype": "tape"}, "devtype", "one of disk, cdrom"),
        ({"devtype": "disk", "cdrom": True}, "cdrom", "cdrom true contradicts devtype"),
        ({"removable": True}, "removable", "removable true contradicts devtype"),
        ({"cdrom": True, "removable": False}, "removable", "contradicts"),
        ({"target": None}, "target", "no target specified"),
        ({"discard": "perhaps"}, "discard", "true or false, not 'perhaps'"),
        ({"shared": 2}, "shared", "true or false, not 2"),
        ({"trusted": []}, "trusted", "true or false"),
        ({"base": "here"}, "base", "whole number"),
        ({"base": 0}, "base", "whole number"),
        ({"base": True}, "base", "whole number"),
        ({"irq": 31}, "irq", "from 32 to 1019"),
        ({"irq": 33.0}, "irq", "whole number"),
        ({"colo_port": "x"}, "colo_port", "whole number"),
    ],
)
def test_refused_mapping_names_disk_and_key(said: dict[Any, Any], key: str, reason: str) -> None:
    mapping = {"vdev": "xvda", "target": "/a", **said}
    with pytest.raises(DiskSpecError) as refusal:
        from_mapping(mapping)
    assert refusal.value.key == key
    assert reason in str(refusal.value)
    assert str(refusal.value).startswith("disk ")
    if "vdev" not in said:
        assert str(refusal.value).startswith("disk xvda: ")


@given(mapping=disks())
@FAST
def test_mapping_reads_back(mapping: dict[str, Any]) -> None:
    spec = from_mapping(mapping).spec
    assert from_mapping(to_mapping(spec)).spec == spec


def test_declare() -> None:
    assert declare(SEED).spec == parse(TODAY)
    assert [note.code for note in declare(SEED).notes] == ["deprecated-prefix", "v6-flag"]
    assert declare({"vdev": "xvda", "target": "/a", "shared": True}).shared
    with pytest.raises(DiskSpecError, match="a string or a mapping, not list"):
        declare(["/a,,xvda"])


# --- libxl's rules for virtio ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "reasons"),
    [
        (disk(specification="virtio"), []),
        (disk(specification="virtio", backendtype="standalone", backend="DomD"), []),
        (disk(specification="virtio", cdrom=True), []),
        (disk(format="qcow2", script="x", backendtype="phy", target="x"), []),
        (disk(backendtype="standalone"), ["backendtype standalone needs specification virtio"]),
        (disk(specification="virtio", format="qcow2"), ["format qcow2: a virtio disk is raw"]),
        (disk(specification="virtio", script=""), ["script : a virtio disk takes none"]),
        (disk(specification="virtio", colo=True), ["colo: a virtio disk cannot be replicated"]),
        (
            disk(specification="virtio", backendtype="qdisk"),
            ["backendtype qdisk: a virtio disk's is standalone, or left out"],
        ),
        (
            disk(specification="virtio", target="a/b"),
            ["target a/b: must be an absolute path, nothing is put before it"],
        ),
        (disk(specification="virtio", target=""), ["target is missing: a virtio disk needs one"]),
        (disk(specification="virtio", target="/" + "a" * (MAX_TARGET - 1)), []),
        (
            disk(specification="virtio", target="/" + "a" * MAX_TARGET),
            [f"target of {MAX_TARGET + 1} characters: xenstore carries {MAX_TARGET} bytes at most"],
        ),
    ],
)
def test_virtio_violations(spec: DiskSpec, reasons: list[str]) -> None:
    assert virtio_violations(spec) == reasons


def test_all_virtio_violations_at_once() -> None:
    spec = disk(specification="virtio", format="vhd", script="s", colo=True, backendtype="tap", target="x")
    assert len(virtio_violations(spec)) == 5
