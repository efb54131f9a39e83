# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a declaration means, what differs, and how it is said."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils import _xenstore as x
from ansible_collections.xen.virtio.plugins.module_utils._request import Node, mkdir, rm, set_perms, write
from hypothesis import given
from hypothesis import strategies as st

W = x.Wanted


def tree(path: str = "/t", **options: Any) -> x.Declaration:
    return x.parse_tree({"path": path, **options})


# -- declarations ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "present"),
    [
        ({}, {"/t": W()}),
        ({"value": "v"}, {"/t": W(b"v")}),
        ({"value": 0}, {"/t": W(b"0")}),
        ({"value": ""}, {"/t": W(b"")}),
        ({"base64": "AP8="}, {"/t": W(b"\0\xff")}),
        ({"perms": "n0,r5"}, {"/t": W(None, ("n0", "r5"))}),
        ({"nodes": {"a": "1", "b": {"c": 2}}}, {"/t": W(), "/t/a": W(b"1"), "/t/b": W(), "/t/b/c": W(b"2")}),
        ({"nodes": {"b/c": 2, "a": "1"}}, {"/t": W(), "/t/a": W(b"1"), "/t/b/c": W(b"2")}),
        ({"nodes": {"/t/b/c": 2, "/t": {".value": "x"}}}, {"/t": W(b"x"), "/t/b/c": W(b"2")}),
        ({"nodes": {51712: {"state": 4}}}, {"/t": W(), "/t/51712": W(), "/t/51712/state": W(b"4")}),
        (
            {"nodes": {"a": {".value": 1, ".perms": ["r2"], "b": ""}}},
            {"/t": W(), "/t/a": W(b"1", ("r2",)), "/t/a/b": W(b"")},
        ),
        ({"nodes": {".value": 1, ".perms": "n0", "b": ""}}, {"/t": W(b"1", ("n0",)), "/t/b": W(b"")}),
        (
            {"nodes": {"a": {"b": 1}, "a/c": 2}},
            {"/t": W(), "/t/a": W(), "/t/a/b": W(b"1"), "/t/a/c": W(b"2")},
        ),
        ({"nodes": {"a": {}}}, {"/t": W(), "/t/a": W()}),
        ({"nodes": {"a": {".base64": "AA=="}}}, {"/t": W(), "/t/a": W(b"\0")}),
        (
            {"nodes": [{"path": "a"}, {"path": "a/b", "value": "1"}]},
            {"/t": W(), "/t/a": W(), "/t/a/b": W(b"1")},
        ),
        ({"nodes": [{"path": "/t", "value": "x", "base64": None, "perms": None}]}, {"/t": W(b"x")}),
        (
            {"nodes": [{"path": "a", "value": "shown", "base64": "AA==", "perms": ["n1"]}]},
            {"/t": W(), "/t/a": W(b"\0", ("n1",))},
        ),
        (
            {"perms": "n1,r0", "recurse": True, "nodes": {"a": {"b": ""}, "c": {".perms": "n2", "d/e": ""}}},
            {
                "/t": W(None, ("n1", "r0")),
                "/t/a": W(None, ("n1", "r0")),
                "/t/a/b": W(b"", ("n1", "r0")),
                "/t/c": W(None, ("n2",)),
                "/t/c/d/e": W(b"", ("n2",)),
            },
        ),
    ],
)
def test_declared_nodes(options: dict[str, Any], present: dict[str, x.Wanted]) -> None:
    found = tree(**options)
    assert dict(found.present) == present
    assert list(found.present) == sorted(present, key=lambda p: p.split("/"))  # parents first
    assert found.asks_perms is any(w.perms for w in present.values())


@pytest.mark.parametrize(
    ("options", "absent"),
    [
        ({"state": "absent"}, ("/t",)),
        ({"nodes": {"a": {".state": "absent"}}}, ("/t/a",)),
        (
            {"nodes": [{"path": "a/b", "state": "absent"}, {"path": "c", "state": "absent"}]},
            ("/t/a/b", "/t/c"),
        ),
    ],
)
def test_declared_absent(options: dict[str, Any], absent: tuple[str, ...]) -> None:
    assert tree(**options).absent == absent


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"path": "relative"}, "relative: the path is not absolute"),
        ({"path": ""}, "'': the path is empty"),
        ({"path": "/t/"}, "/t/: the path ends in a slash"),
        ({"path": "/a b"}, "/a b: xenstore paths have no ' '"),
        ({"path": "@releaseDomain"}, "@releaseDomain: a special node"),
        ({"path": "/t\n"}, r"'/t\n': xenstore paths have no '\n'"),
        ({"path": "/" + "a" * 3000}, "longer than 2048"),
        ({"value": True}, "/t: the value is the boolean True"),
        ({"value": 4.2}, "/t: the value is the number 4.2; quote it"),
        ({"value": ["a"]}, "/t: a value is a text or an integer, not list"),
        ({"value": "x" * 5000}, "/t: the message would have 5003 bytes"),
        ({"base64": "AP8"}, "/t: not base64"),
        ({"base64": "n o"}, "/t: not base64"),
        ({"nodes": {"a": None}}, "/t/a: the value is null"),
        ({"nodes": {"a": True}}, "/t/a: the value is the boolean"),
        ({"nodes": {True: "a"}}, "/t: True is no name of a node"),
        ({"nodes": {4.2: "a"}}, "/t: 4.2 is no name of a node"),
        ({"nodes": {None: "a"}}, "/t: None is no name of a node"),
        ({"nodes": {"": "a"}}, "/t/: the path ends in a slash"),
        ({"nodes": {"a.b": "a"}}, "/t/a.b: xenstore paths have no '.'"),
        ({"nodes": {"a/": "a"}}, "/t/a/: the path ends in a slash"),
        ({"nodes": {"a//b": "a"}}, "/t/a//b: two slashes"),
        ({"nodes": {"/u/a": "a"}}, "/u/a: does not lie below /t"),
        ({"nodes": {"/tt": "a"}}, "/tt: does not lie below /t"),
        ({"nodes": {"a": {"/t/b": "a"}}}, "/t/b: does not lie below /t/a"),
        ({"nodes": {"a": {".perm": "n0"}}}, "/t/a: nodes have no '.perm'; did you mean .perms?"),
        ({"nodes": {"a": {".x": "n0"}}}, "/t/a: nodes have no '.x'; known are"),
        ({"nodes": {"a": {".state": "gone"}}}, "/t/a: state is present or absent, not 'gone'"),
        ({"nodes": {"a": {".state": "absent", "b": 1}}}, "/t/a: a node with state absent has no children"),
        ({"nodes": {"a": {".state": "absent", ".value": 1}}}, "/t/a: a node with state absent has no"),
        (
            {"nodes": {"a": {".state": "absent"}, "a/b": "1"}},
            "/t/a/b: is declared, and /t/a is declared absent",
        ),
        ({"nodes": {".state": "absent"}}, "/t: is declared, and /t is declared absent"),
        ({"nodes": {"a": {"b": "1"}, "a/b": "2"}}, "/t/a/b: is declared twice"),
        ({"value": "1", "nodes": {".value": "1"}}, "/t: is declared twice"),
        ({"nodes": "a=1"}, "/t: nodes are a mapping or a list, not 'a=1'"),
        ({"nodes": ["a"]}, "/t: entry 1 of nodes is no mapping with a path: 'a'"),
        ({"nodes": [{"value": "a"}]}, "/t: entry 1 of nodes is no mapping with a path"),
        (
            {"nodes": [{"path": "a", "vaule": "1"}]},
            "/t/a: entries of nodes have no 'vaule'; did you mean value?",
        ),
        ({"nodes": [{"path": "a", "value": 1}, {"path": "a", "value": 1}]}, "/t/a: is declared twice"),
        ({"nodes": [{"path": 4.2}]}, "/t: 4.2 is no name of a node"),
        (
            {"state": "absent", "value": "1"},
            "/t: with state absent the whole subtree goes, so there is no value",
        ),
        ({"state": "absent", "nodes": {}}, "so there is no nodes"),
        ({"state": "absent", "exclusive": True}, "so there is no exclusive"),
        *(({"path": path, "state": "absent"}, f"{path}: is not removed") for path in sorted(x.SKELETON)),
        *(({"path": path, "exclusive": True}, f"{path}: exclusive would") for path in sorted(x.SKELETON)),
        ({"path": "/local", "nodes": {"domain": {".state": "absent"}}}, "/local/domain: is not removed"),
        ({"path": "/", "nodes": [{"path": "vm", "state": "absent"}]}, "/vm: is not removed"),
    ],
)
def test_refused_declarations_name_the_node(options: dict[str, Any], says: str) -> None:
    with pytest.raises(x.DeclarationError) as caught:
        tree(**options)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("paths", "says"),
    [
        (["/a", "/b", "/aa", "/a-b"], None),
        (["/a", "/a/b"], "/a/b lies in the tree /a"),
        (["/a", "/a"], "/a lies in the tree /a"),
        (["/a/b", "/c", "/a"], "/a/b lies in the tree /a"),
        (["/a/b", "/a-c", "/a"], "/a/b lies in the tree /a"),
        (["/", "/a"], "/a lies in the tree /"),
    ],
)
def test_trees_lie_apart(paths: list[str], says: str | None) -> None:
    declarations = [tree(path) for path in paths]
    if says is None:
        x.check_trees(declarations)
        return
    with pytest.raises(x.DeclarationError, match=says):
        x.check_trees(declarations)


@pytest.mark.parametrize(
    ("perms", "found"),
    [
        ("n0", ("n0",)),
        ("n0, r5", ("n0", "r5")),
        (["b3", "w4"], ("b3", "w4")),
        ({"owner": 0}, ("n0",)),
        ({"owner": "7", "default": "read"}, ("r7",)),
        (
            {"owner": 0, "read": [5, 6], "write": [7], "both": 8, "none": [9]},
            ("n0", "n9", "r5", "r6", "w7", "b8"),
        ),
        ({"owner": 0, "default": "both", "none": [3], "read": None, "write": []}, ("b0", "n3")),
    ],
)
def test_permissions(perms: Any, found: tuple[str, ...]) -> None:
    assert x.parse_perms(perms, "/t") == found


@pytest.mark.parametrize(
    ("perms", "says"),
    [
        ("", "'' is no permission"),
        ([], "a list that starts with the owner"),
        ("0", "'0' is no permission"),
        ("n0,x5", "'x5' is no permission"),
        ("n99999", "'n99999' is no permission"),
        (0, "permissions are a text such as n0,r5, a list or a mapping, not 0"),
        ({}, "permissions need an owner"),
        ({"read": [1]}, "permissions need an owner"),
        ({"owner": 0, "reed": [1]}, "permissions have no 'reed'; did you mean read?"),
        ({"owner": "domu1"}, "permissions name domains by number, not 'domu1'"),
        ({"owner": True}, "permissions name domains by number, not True"),
        ({"owner": -1}, "permissions name domains by number, not -1"),
        ({"owner": 0, "default": "r"}, "default is one of none, read, write, both, not 'r'"),
        ({"owner": 0, "read": [5], "write": [5]}, "domain 5 stands twice"),
        ({"owner": 0, "read": [0]}, "domain 0 stands twice"),
    ],
)
def test_refused_permissions(perms: Any, says: str) -> None:
    with pytest.raises(x.DeclarationError, match=r"^/t: ") as caught:
        x.parse_perms(perms, "/t")
    assert says in str(caught.value)


# -- plans -----------------------------------------------------------------------------------------------

LIVE = {
    "/t": Node(b"", ("n0",)),
    "/t/a": Node(b"1", ("n0", "r5")),
    "/t/b": Node(b"", ("n0",)),
    "/t/b/c": Node(b"2", ("n0",)),
    "/t/b/d": Node(b"3", ("n0",)),
}


@pytest.mark.parametrize(
    ("options", "requests", "steps"),
    [
        ({"nodes": {"a": 1, "b": {"c": 2}}}, [], []),
        ({"nodes": {"a": {".perms": "n0,r5"}}}, [], []),
        ({"nodes": {"a": "new"}}, [write("/t/a", b"new")], [("/t/a", "changed", ("value",))]),
        ({"nodes": {"a": {".perms": "r0"}}}, [set_perms("/t/a", ["r0"])], [("/t/a", "changed", ("perms",))]),
        (
            {"nodes": {"a": {".perms": "r0", ".value": "new"}}},
            [write("/t/a", b"new"), set_perms("/t/a", ["r0"])],
            [("/t/a", "changed", ("value", "perms"))],
        ),
        (
            {"nodes": {"n": {".perms": "n0", "m": {"o": ""}}}},
            [mkdir("/t/n"), set_perms("/t/n", ["n0"]), mkdir("/t/n/m"), write("/t/n/m/o", b"")],
            [("/t/n", "created", ()), ("/t/n/m", "created", ()), ("/t/n/m/o", "created", ())],
        ),
        (
            {"exclusive": True, "nodes": {"b/c": "2"}},
            [rm("/t/a"), rm("/t/b/d")],
            [("/t/a", "removed", ()), ("/t/b/d", "removed", ())],
        ),
        (
            {"exclusive": True},
            [rm("/t/a"), rm("/t/b")],
            [(f"/t/{p}", "removed", ()) for p in ("a", "b", "b/c", "b/d")],
        ),
        ({"exclusive": True, "nodes": {"a": 1, "b": {"c": {}, "d": {}}}}, [], []),
        ({"state": "absent"}, [rm("/t")], [(path, "removed", ()) for path in LIVE]),
        (
            {"nodes": {"b": {".state": "absent"}, "zz": {".state": "absent"}}},
            [rm("/t/b")],
            [(f"/t/{p}", "removed", ()) for p in ("b", "b/c", "b/d")],
        ),
    ],
)
def test_plans(options: dict[str, Any], requests: list[Any], steps: list[Any]) -> None:
    plan = x.make_plan(tree(**options), LIVE)
    assert plan.requests == requests
    assert [tuple(step) for step in plan.steps] == steps


def apply(plan: x.Plan, live: dict[str, Node]) -> dict[str, Node]:
    """What a store would make of the plan."""
    after = dict(live)
    for op, payload, path in plan.requests:
        if op == rm("/x").op:
            after = {p: n for p, n in after.items() if p != path and not p.startswith(f"{path}/")}
            continue
        for up in [path, *x._ancestors(path)][::-1]:
            after.setdefault(up, Node(b"", ("n0",)))
        data = payload.split(b"\0", 1)[1]
        if op == write("/x", b"").op:
            after[path] = Node(data, after[path].perms)
        elif op == set_perms("/x", ["n0"]).op:
            after[path] = Node(after[path].value, tuple(data.decode()[:-1].split("\0")))
    return after


NAMES = st.sampled_from("abc")
VALUES = st.sampled_from(["", "1", "2"])
LEAVES = st.one_of(VALUES, st.fixed_dictionaries({".perms": st.sampled_from(["n0", "r0,w1"])}))
TREES = st.dictionaries(
    NAMES, st.recursive(LEAVES, lambda t: st.dictionaries(NAMES, t, max_size=3), max_leaves=6)
)


@given(first=TREES, second=TREES, exclusive=st.booleans())
def test_what_was_planned_is_what_is_there(first: Any, second: Any, exclusive: bool) -> None:
    """Applied, a plan leaves nothing to do, and its after is what is there."""
    live = apply(x.make_plan(tree(nodes=first), {}), {})
    wanted = tree(nodes=second, exclusive=exclusive)
    plan = x.make_plan(wanted, live)
    after = apply(plan, live)
    again = x.make_plan(wanted, after)
    assert (again.requests, again.steps) == ([], [])
    assert again.before == again.after == plan.after
    assert bool(plan.requests) is bool(plan.steps)
    if exclusive:
        assert {p for p in after if p != "/"} == set(wanted.present) | {
            up for p in wanted.present for up in x._ancestors(p) if up != "/"
        }


def test_a_plan_as_text() -> None:
    plan = x.make_plan(tree(nodes={"a": {".perms": "r0"}, "b": {".state": "absent"}, "c": "x\ny"}), LIVE)
    assert (
        x.lines(plan.before)
        == '/t = ""\n/t/a = "1"   (n0,r5)\n/t/b = ""   (n0)\n/t/b/c = "2"   (n0)\n/t/b/d = "3"   (n0)\n'
    )
    assert x.lines(plan.after) == '/t = ""\n/t/a = "1"   (r0)\n/t/c = "x\\ny"\n'


# -- what was read ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text", "whole"),
    [
        (b"", "", True),
        (b"plain", "plain", True),
        ("grün €".encode(), "grün €", True),
        (b"a\tb\nc\r", "a\tb\nc\r", True),
        (b"a\0b", "a\\x00b", False),
        (b"\xff\xfe", "\\xff\\xfe", False),
        (b"a\x1b[1m", "a\\x1b[1m", False),
        (b"\xe2\x80\xa8", "\\u2028", False),
        (b"\x01\xff", "\\x01\\xff", False),
    ],
)
def test_values_as_text(value: bytes, text: str, whole: bool) -> None:
    assert x.text_of(value) == (text, whole)
    encoded = None if whole else base64.b64encode(value).decode()
    assert x.describe("/t", Node(value, ("n0",))) == {
        "path": "/t",
        "value": text,
        "base64": encoded,
        "perms": ["n0"],
    }


@given(st.dictionaries(st.sampled_from(["/t", "/t/a", "/t/a/b", "/t/c"]), st.binary(max_size=20), min_size=1))
def test_what_was_read_can_be_declared(values: dict[str, bytes]) -> None:
    """Both forms that xenstore_info returns bring the same nodes back."""
    nodes = {"/t": Node(b"", ("n0",)), "/t/a": Node(b"", ("n0", "r1"))}
    nodes |= {path: Node(value, ("n0", "r1")) for path, value in sorted(values.items())}
    wanted = {path: x.Wanted(node.value, node.perms) for path, node in nodes.items()}
    flat = tree(nodes=[x.describe(path, node) for path, node in nodes.items()])
    nested = tree(nodes=x.nest("/t", nodes))
    assert dict(flat.present) == dict(nested.present) == wanted


def test_nested_from_the_root_of_the_store() -> None:
    nodes = {"/": Node(b""), "/a": Node(b"1"), "/a/b": Node(b"2")}
    assert x.nest("/", nodes) == {".value": "", "a": {".value": "1", "b": {".value": "2"}}}
    assert x.nest("/a", nodes) == {".value": "1", "b": {".value": "2"}}
    assert x.nest("/none", nodes) == {}
