# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is refused before it is sent, and how errors read."""

from __future__ import annotations

import errno

import pytest
from ansible_collections.xen.virtio.plugins.module_utils import _request as r

DOMAIN = "/local/domain/12/"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/a",
        "/A-Z_09@/x",
        "relative",
        "relative/deep",
        "/" + "a" * 2047,
        DOMAIN + "a" * 2048,
        "a" * 2048,
        "a@b",
    ],
)
def test_good_paths(path: str) -> None:
    assert r.read(path) == (r.READ, path.encode() + b"\0", path)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("", "empty"),
        ("/a/", "ends in a slash"),
        ("a/", "ends in a slash"),
        ("//", "two slashes"),
        ("/a//b", "two slashes"),
        ("/a b", "have no ' '"),
        ("/a.b", "have no '.'"),
        ("/a:b", "have no ':'"),
        ("/a\n", r"have no '\n'"),
        ("/a\0b", r"have no '\x00'"),
        ("/grün", "have no 'ü'"),
        ("/٣", "have no '٣'"),
        ("/\udcff", r"have no '\udcff'"),
        ("/" + "a" * 2048, "longer than 2048"),
        (DOMAIN + "a" * 2049, "longer than 2048"),
        ("a" * 2049, "longer than 2048"),
        ("/local/domain/12" + "/a" * 1600, "longer than 3072"),
        ("@releaseDomain", "special node"),
    ],
)
def test_bad_paths_are_named(path: str, why: str) -> None:
    for build in (r.read, r.directory, r.mkdir, r.rm):
        with pytest.raises(r.StoreError) as caught:
            build(path)
        assert (caught.value.code, caught.value.path) == ("EINVAL", path)
        assert why in str(caught.value)


@pytest.mark.parametrize("path", ["relative", "@releaseDomain", "@introduceDomain"])
def test_absolute_only(path: str) -> None:
    with pytest.raises(r.StoreError, match="EINVAL"):
        r.check_path(path, "SET_PERMS", absolute=True)


def test_special_nodes_can_be_watched_and_have_permissions() -> None:
    assert r.watch(r.WATCH, "@releaseDomain", "t").payload == b"@releaseDomain\0t\0"
    assert r.set_perms("@introduceDomain", ["n0", "r3"]).payload == b"@introduceDomain\0n0\0r3\0"
    with pytest.raises(r.StoreError, match="special nodes are"):
        r.watch(r.WATCH, "@elsewhere", "t")
    with pytest.raises(r.StoreError, match="no NUL"):
        r.watch(r.WATCH, "/a", "t\0")


@pytest.mark.parametrize(
    ("value", "payload"),
    [
        (b"", b"/a\0"),
        (b"1", b"/a\x001"),
        (b"\0\xff\n", b"/a\0\0\xff\n"),
        (b"x" * 4093, b"/a\0" + b"x" * 4093),
    ],
)
def test_values_of_any_bytes(value: bytes, payload: bytes) -> None:
    assert r.write("/a", value) == (r.WRITE, payload, "/a")


def test_too_much_for_a_message_is_refused_by_name() -> None:
    with pytest.raises(r.StoreError, match=r"WRITE /a: the message would have 4097 bytes.*E2BIG"):
        r.write("/a", b"x" * 4094)
    with pytest.raises(r.StoreError, match=r"SET_PERMS /a: the message would have"):
        r.set_perms("/a", [f"r{n}" for n in range(1000, 2000)])


@pytest.mark.parametrize("perms", [["n0"], ["n0", "r5"], ("b1", "w2", "r3", "n32751")])
def test_good_permissions(perms: list[str]) -> None:
    assert r.set_perms("/a", perms).payload == b"/a\0" + "".join(f"{p}\0" for p in perms).encode()


@pytest.mark.parametrize(
    "perms",
    [[], "n0", ["x0"], ["n"], ["n-1"], ["n 1"], ["n01"], ["n32752"], ["n0", ""], ["n٣"], ["n0\n"], ["N0"]],
)
def test_bad_permissions(perms: list[str]) -> None:
    with pytest.raises(r.StoreError, match=r"SET_PERMS /a: .*EINVAL"):
        r.set_perms("/a", perms)


@pytest.mark.parametrize(
    ("error", "number", "says"),
    [
        (
            r.StoreError("WRITE", "/a", "EACCES"),
            errno.EACCES,
            "permission denied (EACCES); use the store of dom0",
        ),
        (r.StoreError("WRITE", "/a", "ENOSPC"), errno.ENOSPC, "over quota (ENOSPC); a quota"),
        (r.StoreError("WRITE", "/a", "EQUOTA"), errno.EDQUOT, "over quota (EQUOTA); a quota"),
        (r.StoreError("WATCH", "/a", "E2BIG"), errno.E2BIG, "too big (E2BIG); a quota"),
        (r.StoreError("WRITE", "/a", "E2BIG"), errno.E2BIG, "shorten"),
        (r.StoreError("READ", "/a", "ENOENT"), errno.ENOENT, "no such node (ENOENT)"),
        (r.StoreError("SET_PERMS", "/a", "ENOENT"), errno.ENOENT, "a domain in its permissions does not"),
        (r.StoreError("READ", "/a", "EIO"), errno.EIO, "Input/output error (EIO)"),
        (r.StoreError("READ", "/a", "EFUTURE"), 0, "refused (EFUTURE)"),
        (r.StoreError("READ", "/a\nb", "EIO"), errno.EIO, r"READ '/a\nb': "),
        (r.StoreError("READ", "/" + "a" * 4000, "EIO"), errno.EIO, "aaa…: "),
        (r.StoreError("READ", "/a", "EACCES").because("domain 3"), errno.EACCES, "; domain 3: use"),
    ],
)
def test_errors_read_as_one_sentence(error: r.StoreError, number: int, says: str) -> None:
    assert error.errno == number
    assert str(error).startswith(f"xenstore {error.operation} ")
    assert says in str(error)
    assert "\n" not in str(error)
    assert len(str(error)) < 600
