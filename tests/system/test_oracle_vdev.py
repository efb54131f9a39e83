# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Device numbers, against libxl's own function."""

from __future__ import annotations

import re

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._vdev import VdevError, canonical, devid
from hypothesis import example, given
from hypothesis import strategies as st
from oracle import Oracle
from oracle.fixtures import MANY

# All that libxl takes and we refuse, since the number it makes is wrong or an accident.
_BLANK = r"[ \t\n\v\f\r]"
REFUSED = {
    "no name": re.compile(r"\Z"),
    "no drive letter": re.compile(r"(xvd|hd|sd)[^a-z]*\Z", re.DOTALL),
    "a blank or a sign before the partition": re.compile(rf"(xvd|hd|sd)[a-z]+{_BLANK}*[-+]?[0-9]+\Z"),
    "a partition of more than 63 bits, which wraps": re.compile(r"(xvd|hd|sd)[a-z]+[0-9]{19,}\Z"),
    "a blank or a sign in dNpM": re.compile(rf"d.*({_BLANK}|[-+]).*p|d.*p.*({_BLANK}|[-+])"),
    "0x without digits in dNpM": re.compile(r"d.*0[xX](p|\Z)"),
    "a number of more than 31 bits in dNpM, which wraps": re.compile(
        r"d.*[0-9a-fA-F]{8}.*p|d.*p.*[0-9a-fA-F]{8}"
    ),
    "a negative number, which wraps": re.compile(rf"{_BLANK}*-"),
}


def ours(vdev: str) -> int | None:
    try:
        number: int = devid(vdev)
    except VdevError:
        return None
    return number


PARTITION = st.one_of(
    st.just(""), st.integers(0, 300).map(str), st.sampled_from(["01", " 1", "+1", "-1", "1 ", "1x"])
)
NUMBER = st.one_of(
    st.integers(-2, 2**33).map(str),
    st.integers(0, 2**33).map(hex),
    st.integers(0, 2**33).map(lambda number: f"0{number:o}"),
    st.sampled_from(["", "08", "0x", "0X1f", " 5", "+5", "\t7", "5 ", "1_0", "٣", "18446744073709551617"]),
)
LETTERS = st.one_of(
    st.text("abpqz", max_size=5), st.sampled_from(["a", "p", "q", "z", "aa", "bgqct", "bgqcu", "A", "é"])
)
VDEVS = st.one_of(
    st.tuples(st.sampled_from(["xvd", "hd", "sd", "vd", "xv", "d"]), LETTERS, PARTITION).map("".join),
    st.tuples(st.just("d"), NUMBER, st.sampled_from(["p", "p", "P", ""]), NUMBER).map("".join),
    NUMBER,
    st.text("xvdhsap0123456789+- \t", max_size=8),
)


@MANY
@given(vdev=VDEVS)
@example("xvda")
@example("xvdz255")
@example("bgqcu")
@example("xvda9223372036854775809")
def test_every_vdev_as_libxl_or_refused(truth: Oracle, vdev: str) -> None:
    real, mine = truth.devid(vdev), ours(vdev)
    if mine is None and real != -1:
        assert any(wrong.match(vdev) for wrong in REFUSED.values()), f"libxl says {real}"
    else:
        assert (-1 if mine is None else mine) == real


@MANY
@given(number=st.one_of(st.integers(0, 2**31 - 1), st.integers(0, 2**16), st.integers(2**28, 2**28 + 2**16)))
def test_canonical_names_mean_their_number(truth: Oracle, number: int) -> None:
    name = canonical(number)
    assert name is None or truth.devid(name) == number


@pytest.mark.parametrize("vdev", ["xvd", "hd", "xvda 1", "", "xvd1", "sd", "d-1p0", "d 0p0"])
def test_what_libxl_gets_wrong_is_refused(truth: Oracle, vdev: str) -> None:
    assert truth.devid(vdev) != -1
    assert ours(vdev) is None
