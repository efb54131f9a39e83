# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disk strings, against the real parser: the same disks, the same refusals, the same words."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._dialect import DIALECTS, Dialect
from ansible_collections.xen.virtio.plugins.module_utils._diskspec import (
    DiskSpecError,
    from_mapping,
    parse,
    render,
    to_mapping,
)
from hypothesis import given
from oracle import Answer, Oracle
from oracle.fixtures import MANY
from oracle.strategies import DISK_STRINGS, disks

# What the parser takes and we refuse, with the reason. There is nothing else.
REFUSED = {
    "/dev/x,,xvda\n": "must be one line",
    "\n/dev/x,,xvda": "must be one line",
    "/dev/x,\nraw,xvda": "must be one line",
    "vdev=xvda,target=/dev/x\n": "must be one line",
}

# The quirks, each once; the parser itself says what is right.
QUIRKS = [
    # blanks: skipped before a token, kept after it
    "/dev/x, raw,\txvda,  rw",
    "/dev/x,raw ,xvda",
    "/dev/x,raw,xvda ",
    "/dev/x,raw,xvda,rw,backend=DomD ",
    "/dev/x,raw,xvda,backend =DomD",
    "/dev/x,raw,xvda,  ",
    # target= takes the rest
    "vdev=xvda,target=/a,b:c=d ,",
    "vdev=xvda,target=",
    ",,xvda,target=/a",
    "/a,,xvda,target=/b",
    "target=/a,vdev=xvda",
    # words that look like parameters
    "/a,,xvda,grant_usage=1",
    "/a,,xvda,grant_usage=0,grant_usage=1",
    "/a,,xvda,grant_usage=10",
    "grant_usage=1/a,,xvda",
    "/a,,xvda,grant_usage=true",
    "/a,,xvda,grant_usage=",
    "/a,,xvda,cdrom=1",
    "/a,,xvda,discard=",
    "/a,,xvda,discard=,x",
    "/a,,xvda,trusted",
    "/a,,xvda,rw,untrusted,trusted",
    # an equals sign where none belongs
    "/a=b,,xvda",
    "/a=",
    "=",
    "/a,,xvda,=",
    "/a,,xvda,=,",
    "/a,,xvda,foo=",
    "/a,,xvda,foo=,",
    "/a,,xvda,foo=bar=c,baz=d",
    "/a,,xvda,foo=é",
    # deprecated prefixes
    "phy:/a,xvda,w",
    "tap:qcow2:/a,xvda",
    "qcow2:qcow:/a,xvda",
    "qcow2:/a,qcow2,xvda",
    "nbd:h:1,xvda",
    "nbd:iscsi:x,xvda",
    "/a,phy:xvda",
    "foo:/a,,xvda",
    "foo:bar,,xvda",
    "/a:b,,xvda",
    "qed:/a,xvda",
    "foo:",
    "foo:,",
    # positional places
    "/a,raw,xvda,rw,more",
    "format=qcow2,/a,,xvda",
    "format=qcow2,/a,xvda",
    "vdev=xvda,/a,raw,r",
    "vdev=,/a,raw,xvda",
    "vdev=,vdev=xvda,/a",
    "vdev=xvda,vdev=xvda,/a",
    "/a,raw,xvda,",
    "/a,raw,",
    "/a,raw,,",
    "/a,raw,xvda,,",
    "/a,,xvda,r,access=w",
    "access=ro,/a,,xvda,",
    # cdroms
    ",hdc:cdrom,r",
    ",,hdc:cdrom,r",
    "/a,raw,hdc:cdrom,w",
    "/a,raw,xvda:disk",
    "/a,raw,xvda:tape",
    "cdrom,vdev=hdc",
    "vdev=hdc",
    ",vdev=hdc",
    "devtype=cdrom,devtype=disk,/a,,xvda",
    "cdrom,/a,qcow2,hdc,rw",
    "devtype=,/a,,xvda",
    "devtype=tape,/a,,xvda",
    # values
    "backendtype=,/a,,xvda",
    "specification=,/a,,xvda",
    "specification=virtio,specification=xen,/a,,xvda",
    "backendtype=phy,backendtype=phy,/a,,xvda",
    "backend=a,backend=a,/a,,xvda",
    "backend=,backend=a,/a,,xvda",
    "script=,script=b,/a,,xvda",
    "colo-port=0,/a,,xvda",
    "colo-port= 7x,/a,,xvda",
    "colo-port=4294967296,/a,,xvda",
    "colo-port=99999999999999999999,/a,,xvda",
    "format=vmdk,access=x,/a,,xvda",
    "RAW:/a,,xvda",
    "",
    ",",
    # other times
    "backend=DomD, phy:/dev/mmcblk1p3, xvda1, rw, virtio",
    "backendtype=other,specification=virtio,/a,,xvda",
    "/a,,xvda,transport=mmio",
]


def ours(text: str, dialect: Dialect) -> Answer:
    try:
        return Answer(to_mapping(parse(text, dialect)), ())
    except DiskSpecError as error:
        return Answer(None, error.messages)


@MANY
@given(text=DISK_STRINGS)
def test_every_string_as_the_real_parser(truth: Oracle, text: str) -> None:
    assert ours(text, DIALECTS[truth.release]) == truth.disk(text)


@pytest.mark.parametrize("text", QUIRKS)
def test_quirk(truth: Oracle, text: str) -> None:
    assert ours(text, DIALECTS[truth.release]) == truth.disk(text)


@pytest.mark.parametrize(("text", "reason"), REFUSED.items())
def test_documented_refusal(truth: Oracle, text: str, reason: str) -> None:
    assert truth.disk(text).disk is not None
    with pytest.raises(DiskSpecError, match=reason) as refusal:
        parse(text, DIALECTS[truth.release])
    assert refusal.value.messages == ()


@MANY
@given(mapping=disks())
def test_what_is_written_means_the_same_to_the_real_parser(truth: Oracle, mapping: dict[str, Any]) -> None:
    dialect = DIALECTS[truth.release]
    if not dialect.accepts("trusted"):
        mapping = {**mapping, "trusted": None, "grant_usage": None}
    spec = from_mapping(mapping).spec
    assert truth.disk(render(spec, dialect)).disk == to_mapping(spec)
