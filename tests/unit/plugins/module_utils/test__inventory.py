# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Domains as hosts and groups."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._guestpicture import DriverDomainsError
from ansible_collections.xen.virtio.plugins.module_utils._inventory import (
    Placed,
    Wish,
    backends_declared,
    declared_domains,
    distinct,
    groups_of,
    host_facts,
    live_domains,
    place,
    safe_group,
    safe_host,
)
from hypothesis import given
from hypothesis import strategies as st


def guest(name: object = "a", domid: object = 3, **more: Any) -> dict[str, Any]:
    """A guest as a host tells of it."""
    return {"name": name, "domid": domid, "run_state": "running", "leftover": None, **more}


def disk(backend: str = "DomD", domid: int = 1, recorded: bool = True) -> dict[str, Any]:
    return {"vdev": "xvda", "backend": backend, "backend_domid": domid, "recorded": recorded}


def kinds(domains: list[dict[str, Any]]) -> dict[str, str]:
    return {one["name"]: one["kind"] for one in domains}


# --- declared ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("disks", "backends"),
    [
        (None, []),
        ("no list", []),
        ([{"vdev": "xvda", "target": "/a"}], ["Domain-0"]),
        ([{"vdev": "xvda", "backend": "0"}, {"vdev": "xvdb", "backend": 0}], ["Domain-0"]),
        ([{"vdev": "xvda", "backend": "DomD"}, "backend=DomE,phy:/b,xvdb,w"], ["DomD", "DomE"]),
        (["backend=DomD,phy:/a,xvda,w", "backend=DomD,phy:/b,xvdb,w"], ["DomD"]),
        (["no = disk", "phy:/b,xvdb,w"], ["Domain-0"]),
    ],
)
def test_backends_of_declared_disks(disks: object, backends: list[str]) -> None:
    assert backends_declared(disks) == backends


@pytest.mark.parametrize(
    ("guests", "drivers", "found"),
    [
        ([], None, {}),
        ([], {"DomD": None}, {"DomD": ("driver_domain", "unknown")}),
        ([], ["DomD", "Domain-0"], {"DomD": ("driver_domain", "unknown")}),
        ([{"name": "a"}], {}, {"a": ("guest", "running")}),
        ([{"name": "a", "state": "shutdown"}], {}, {"a": ("guest", "shutdown")}),
        ([{"name": "a", "state": "absent"}], {}, {}),
        ([{"name": "DomD"}], {"DomD": {"host": "h"}}, {"DomD": ("driver_domain", "running")}),
        ([{"name": "a", "driver_domain": True}], {}, {"a": ("driver_domain", "running")}),
    ],
)
def test_declared_domains(
    guests: list[dict[str, Any]], drivers: object, found: dict[str, tuple[str, str]]
) -> None:
    domains = declared_domains("b01", guests, drivers)
    assert {one["name"]: (one["kind"], one["state"]) for one in domains} == found
    assert all(one["dom0"] == "b01" and one["source"] == "declared" for one in domains)


def test_passwords_are_hidden() -> None:
    (one,) = declared_domains("b", [{"name": "a", "vnc": {"vncpasswd": "secret"}}], None)
    assert "secret" not in str(one)
    (one,) = live_domains("b", {"guests": [guest(config={"vfb": ["vnc=1,vncpasswd=secret"]})]}, None)
    assert "secret" not in str(one)


def test_driver_domains_of_another_shape() -> None:
    with pytest.raises(DriverDomainsError):
        declared_domains("b", [], "DomD")


# --- live ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("guests", "drivers", "found"),
    [
        ([guest()], {}, {"a": "guest"}),
        ([guest("DomD", 1)], {"DomD": None}, {"DomD": "driver_domain"}),
        ([guest("DomD", 1, driver_domain=True)], {}, {"DomD": "driver_domain"}),
        ([guest("DomD", 1), guest(disks=[disk()])], {}, {"DomD": "driver_domain", "a": "guest"}),
        ([guest("b", 1), guest(disks=[disk(recorded=False)])], {}, {"b": "guest", "a": "guest"}),
        ([guest(leftover="dying")], {}, {}),
        # what no reader of ours would tell
        ([guest(domid="3")], {}, {}),
        ([guest(domid=True)], {}, {}),
        ([guest(name=None), guest(name=""), guest(name=["a"])], {}, {}),
        (["a", None, 3], {}, {}),
        ("no list", {}, {}),
        (None, {}, {}),
        ([guest(disks={"a": 1}, vifs=3, nodes=[1], config=7)], {}, {"a": "guest"}),
    ],
)
def test_kinds_of_live_domains(guests: Any, drivers: object, found: dict[str, str]) -> None:
    assert kinds(live_domains("b01", {"guests": guests}, drivers)) == found


def test_what_a_live_domain_has() -> None:
    told = guest(
        uuid="u",
        memory=64,
        disks=[disk(), disk(), disk("DomX", 9, recorded=False)],
        vifs=[{"ip": "10.0.0.7"}],
        nodes={"a/b": {"value": "1", "trusted": True}, "c": {"value": "\udcff", "trusted": False}, "d": 3},
        secret="not asked for",
    )
    (one,) = live_domains("b01", {"guests": [told]}, {})
    assert one["backends"] == ["DomD"]
    assert (one["uuid"], one["memory"], one["vifs"]) == ("u", 64, [{"ip": "10.0.0.7"}])
    assert (one["xenstore"], one["xenstore_untrusted"]) == ({"a/b": "1"}, {"c": "\\xff"})
    assert "secret" not in one


def test_configurations_without_a_domain() -> None:
    configs = [
        {"name": "off", "domid": None, "autostart": True, "config": {"disks": [{"backend": "DomD"}]}},
        {"name": "off", "domid": None, "config": None},
        {"name": "a", "domid": 3, "config": {}},
        {"name": 3, "domid": None, "config": {}},
    ]
    told = {"guests": [guest()], "configs": configs}
    assert kinds(live_domains("b", told, {})) == {"a": "guest"}
    found = live_domains("b", told, {}, absent=True)
    assert [(one["name"], one["state"], one["backends"]) for one in found[1:]] == [
        ("off", "absent", ["DomD"])
    ]


@pytest.mark.parametrize(
    ("told", "release"), [({"host": {"release": "4.20"}}, "4.20"), ({}, None), ({"host": [1]}, None)]
)
def test_facts_of_a_host(told: dict[str, Any], release: str | None) -> None:
    assert host_facts(told)["release"] == release


# --- names ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("linux1", "linux1"),
        ("a.b_c-d", "a.b_c-d"),
        ("a b", "a_b"),
        ("-i", "_i"),
        ("../x", "_._x"),
        ("", "_"),
        ("a:b,c[1:9]!&", "a_b_c_1_9___"),
        ("{{ x }}", "___x___"),
        ("ü\n", "__"),
        ("a" * 999, "a" * 200),
    ],
)
def test_harmless_names(text: str, name: str) -> None:
    assert safe_host(text) == name


@pytest.mark.parametrize(
    ("names", "kept"),
    [
        (["DomD", "dom0less-1"], {"DomD": "DomD", "dom0less-1": "dom0less_1"}),
        (["a_b", "a-b"], {"a_b": "a_b"}),
        (["a-b", "a.b"], {}),
    ],
)
def test_distinct_names(names: list[str], kept: dict[str, str]) -> None:
    found = distinct(names, safe_group)
    assert {name: form for name, form in found.items() if not re.search(r"_[0-9a-f]{6}\Z", form)} == kept


@given(st.lists(st.text(alphabet="ab-_. ", max_size=3), max_size=8))
def test_as_many_names_as_there_were(names: list[str]) -> None:
    found = distinct(names, safe_group)
    assert len(set(found.values())) == len(set(names)) == len(found)
    assert found == {name: distinct(reversed(names), safe_group)[name] for name in found}


def wish(board: str, name: str, composed: str | None = None, kind: str = "guest", domid: int = 3) -> Wish:
    return Wish(board, {"name": name, "kind": kind, "domid": domid}, composed)


def hosts(wishes: list[Wish], drivers: Any = None, others: tuple[str, ...] = ()) -> list[str]:
    """Where domains go; a checksum as #."""
    boards = list(dict.fromkeys(["b1", "b2", *(one.board for one in wishes)]))
    found = place(wishes, drivers or {}, boards, others)
    return [re.sub(r"-[0-9a-f]{6,}\Z", "-#", one.host) for one in found.placed]


DOMD = {"b1": {"DomD": {"host": "b1-domd"}}}


@pytest.mark.parametrize(
    ("wishes", "drivers", "others", "found"),
    [
        ([wish("b1", "x"), wish("b2", "x")], None, (), ["b1-x", "b2-x"]),
        # two that would be one
        ([wish("b1", "a b"), wish("b1", "a_b")], None, (), ["b1-a_b-#", "b1-a_b"]),
        ([wish("b1", "a b"), wish("b1", "a\tb")], None, (), ["b1-a_b-#", "b1-a_b-#"]),
        ([wish("b1", "x"), wish("b1", "x", domid=4)], None, (), ["b1-x-#", "b1-x-#"]),
        ([wish("b1", "x", "n"), wish("b2", "x", "n")], None, (), ["n-#", "n-#"]),
        # a host that is there: the usual name is that host, a composed one is not
        ([wish("b1", "x")], None, ("b1-x",), ["b1-x"]),
        ([wish("b1", "x", "db")], None, ("db",), ["db-#"]),
        ([wish("b1", "x", "all")], None, (), ["all-#"]),
        ([wish("b1", "x", "localhost")], None, (), ["localhost-#"]),
        # another dom0 and another's driver domain never are
        ([wish("b1", "x", "b2")], None, ("b1", "b2"), ["b2-#"]),
        ([wish("b", "1")], None, (), ["b-1"]),
        ([wish("b", "1"), wish("b-1", "x")], None, (), ["b-1-#", "b-1-x"]),
        ([wish("b1", "domd")], DOMD, ("b1-domd",), ["b1-domd-#"]),
        # driver domains with a host
        ([wish("b1", "DomD", kind="driver_domain")], DOMD, ("b1-domd",), ["b1-domd"]),
        ([wish("b1", "DomD", "n", kind="driver_domain")], DOMD, (), ["b1-domd"]),
        ([wish("b2", "DomD", kind="driver_domain")], DOMD, (), ["b2-DomD"]),
        ([wish("b1", "DomD", kind="driver_domain")], {"b1": {"DomD": {"host": "b2"}}}, (), ["b1-DomD"]),
        ([wish("b1", "DomD", kind="driver_domain")], {"b1": {"DomD": {"host": 3}}}, (), ["b1-DomD"]),
        (
            [wish("b1", "D", kind="driver_domain"), wish("b2", "D", kind="driver_domain")],
            {"b1": {"D": {"host": "h"}}, "b2": {"D": {"host": "h"}}},
            (),
            ["h", "b2-D"],
        ),
    ],
)
def test_every_domain_has_a_host_of_its_own(
    wishes: list[Wish], drivers: Any, others: tuple[str, ...], found: list[str]
) -> None:
    assert hosts(wishes, drivers, others) == found


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["b1", "b2"]), st.text("ab_ ", max_size=2), st.sampled_from([None, "n", "b1"])
        ),
        max_size=6,
    )
)
def test_hosts_are_as_many_as_domains_in_whichever_order(names: list[tuple[str, str, str | None]]) -> None:
    wishes = [wish(*one, domid=index) for index, one in enumerate(names)]
    seen = set()
    for order in itertools.islice(itertools.permutations(wishes), 24):
        placed = place(order, {}, ["b1", "b2"], ["n"]).placed
        assert len({one.host for one in placed} | {"b1", "b2"}) == len(wishes) + 2
        seen.add(frozenset((one.domain["domid"], one.host) for one in placed))
    assert len(seen) == 1 or len({one[:2] for one in names}) < len(names)


def test_groups() -> None:
    def placed(board: str, name: str, kind: str = "guest", backends: tuple[str, ...] = ()) -> Placed:
        domain = {"name": name, "kind": kind, "state": "running", "backends": list(backends)}
        return Placed(board, f"{board}-{name}", domain)

    found = groups_of(
        [
            placed("b-1", "DomD", "driver_domain"),
            placed("b-1", "a", backends=("DomD", "Domain-0")),
            placed("b_1", "a"),
        ],
        ["b-1", "b_1", "b2"],
        ["b2"],
        "xen_",
    )
    assert {re.sub(r"_[0-9a-f]{6}\Z", "_#", name): members for name, members in found.items()} == {
        "xen_dom0": ["b-1", "b_1", "b2"],
        "xen_driver_domain": ["b-1-DomD"],
        "xen_guest": ["b-1-a", "b_1-a"],
        "xen_board_b_1_#": ["b-1", "b-1-DomD", "b-1-a"],
        "xen_board_b_1": ["b_1", "b_1-a"],
        "xen_board_b2": ["b2"],
        "xen_state_running": ["b-1-DomD", "b-1-a", "b_1-a"],
        "xen_backend_DomD": ["b-1-a"],
        "xen_backend_Domain_0": ["b-1-a"],
        "xen_unread": ["b2"],
    }
