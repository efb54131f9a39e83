# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes from a host, in which order, and why not."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.xen.virtio.plugins.filter import teardown_plan as the_filter
from ansible_collections.xen.virtio.plugins.plugin_utils._teardown import TeardownError, named, plan_teardown

plan = the_filter.FilterModule().filters()["teardown_plan"]


def guest(name: str, domid: int | None, *backends: int, **more: Any) -> dict[str, Any]:
    """A guest as guest_info has it, with a disk of each backend domain."""
    state = "running" if domid is not None else "absent"
    disks = [
        {
            "vdev": f"xvd{letter}",
            "target": f"/dev/{letter}",
            "backend": f"dom{backend}",
            "backend_domid": backend,
        }
        for letter, backend in zip("abc", backends)
    ]
    return {
        "name": name, "domid": domid, "made_by": "xl", "run_state": state, "autostart": False, "disks": disks, **more,
    }  # fmt: skip


def config(name: str, path: str | None = None, *others: str, autostart: bool = False) -> dict[str, Any]:
    return {
        "name": name,
        "path": path or f"/etc/xen/{name}.cfg",
        "others": list(others),
        "autostart": autostart,
    }


HOST = {
    "guests": [
        guest("DomD", 1),
        guest("DomE", 2, 1),
        guest("a", 3, 1),
        guest("b", 4, 2),
        guest("less", 5, 1, made_by="other"),
        guest("domain 9", 9, 1, run_state="stale", made_by=None),
        guest("off", None, autostart=True),
    ],
    "configs": [config("a", "/etc/xen/a.cfg", "/etc/xen/twin"), config("DomD"), config("b"), config("DomE")],
}


def going(made: dict[str, Any], batch: str) -> list[str]:
    return [one["name"] for one in made[batch]["going"]]


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (None, []),
        ("", []),
        ("a", ["a"]),
        (" a, b,a ,", ["a", "b"]),
        (["a", "b", "a"], ["a", "b"]),
    ],
)
def test_names(given: Any, names: list[str]) -> None:
    assert named(given) == names


@pytest.mark.parametrize("given", ["7", ["a", 7], "a\nb", {"a": 1}, 7])
def test_what_is_no_name(given: Any) -> None:
    with pytest.raises(TeardownError):
        named(given)
    with pytest.raises(AnsibleFilterError):
        plan(HOST, given)


@pytest.mark.parametrize(
    ("names", "guests", "drivers"),
    [
        ("a", ["a"], []),
        ("b,a", ["b", "a"], []),
        ("DomD,a,DomE,b", ["a", "b"], ["DomE", "DomD"]),  # DomD serves DomE
        ("nobody", [], []),
        ("off", ["off"], []),  # only comes up at boot
        ("less", [], []),  # not xl's
    ],
)
def test_a_guest_goes_before_who_serves_it(names: str, guests: list[str], drivers: list[str]) -> None:
    made = plan(HOST, names)
    assert (going(made, "guests"), going(made, "drivers"), made["refusals"]) == (guests, drivers, [])
    assert made["hanging"] == drivers


def test_what_is_kept_of_a_guest() -> None:
    made = plan(HOST, "a,off", [{"name": "off", "path": "/srv/off"}, {"name": "a"}])
    assert made["guests"]["going"] == [
        {"name": "a", "path": "/etc/xen/a.cfg"},
        {"name": "off", "path": "/srv/off"},
    ]
    assert made["guests"]["files"] == ["/etc/xen/twin", "/srv/auto/off"]
    domains = [one["domain"] for one in made["guests"]["disks"]]
    assert domains == ["a", "3", "off"]
    assert [one["domain"] for one in made["now"]] == ["off"]
    assert (
        "not named, so left alone: DomD (domain 1), DomE (domain 2), b (domain 4), less (domain 5)"
        in made["lines"]
    )


def test_leftovers_and_guests_of_others_lose_their_disks_only() -> None:
    made = plan(HOST, "less", leftovers=True)
    assert [one["domain"] for one in made["now"]] == ["less", "9"]
    assert made["guests"]["disks"] == made["now"]
    assert plan(HOST, "a")["now"] == []


UNITS = {"DomD": {"domid": 1, "units": [{"domid": 3}], "launcher": {"installed": True}}}


@pytest.mark.parametrize(
    ("names", "backends", "inside", "reached", "refused"),
    [
        ("a,DomE,less", ["DomD"], UNITS, ["DomD"], ""),
        ("a", ["DomD"], {}, ["DomD"], "serves DomE (domain 2), less (domain 5)"),
        ("DomE,less", ["DomD"], UNITS, ["DomD"], "serves a (domain 3)"),
        ("b", True, {}, ["DomE"], ""),  # of DomD no host is known, and it was not named
        ("b", ["DomX"], {}, [], "say its host"),
        ("", "Domain-0", {}, ["Domain-0"], ""),
    ],
)
def test_a_backend_stays_where_somebody_uses_it(
    names: str, backends: Any, inside: dict[str, Any], reached: list[str], refused: str
) -> None:
    drivers = {"DomD": {"host": "b-domd"}, "Domain-0": {"host": "b"}, "DomE": {"host": "b-dome"}}
    if backends is True:
        drivers = {"DomD": None, "DomE": {"host": "b-dome"}}  # type: ignore[dict-item]
    made = plan(HOST, names, None, drivers, backends, inside)
    assert [one["name"] for one in made["backends"]] == reached
    assert (refused in " ".join(made["refusals"])) == bool(made["refusals"] or not refused)
    assert bool(made["refusals"]) == bool(refused)


def test_a_driver_domain_that_is_gone_is_not_looked_into() -> None:
    made = plan(HOST, "DomX", None, {"DomX": {"host": "x"}}, ["DomX"])
    assert (made["backends"], made["refusals"]) == ([], [])


def test_two_domains_of_one_name_are_refused() -> None:
    made = plan({"guests": [guest("a", 3), guest("a", 4)], "configs": []}, "a")
    assert "domains 3, 4 have that name" in made["refusals"][0]
    assert going(made, "guests") == []


def test_guests_that_serve_each_other_end_somehow() -> None:
    host = {"guests": [guest("a", 3, 4), guest("b", 4, 3)], "configs": []}
    made = plan_teardown(host, ["a", "b"])
    assert [one["name"] for one in made.drivers.going] == ["a", "b"]


@pytest.mark.parametrize("host", [None, [], {}, {"guests": None}])
def test_what_is_no_host(host: Any) -> None:
    with pytest.raises(AnsibleFilterError):
        plan(host, "a")
