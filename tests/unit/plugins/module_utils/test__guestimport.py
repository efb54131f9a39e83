# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Inventories out of the configurations that hosts have."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.xen.virtio.plugins.module_utils._dialect import NEWEST
from ansible_collections.xen.virtio.plugins.module_utils._guestconfig import (
    GuestSpec,
    compare,
    declare_guest,
    read_guest,
    render_guest,
    split_guest,
)
from ansible_collections.xen.virtio.plugins.module_utils._guestimport import TOGETHER, inventory_of, to_yaml
from ansible_collections.xen.virtio.plugins.module_utils._merge import merge_guests
from hypothesis import given, settings
from hypothesis import strategies as st

CORPUS = sorted((Path(__file__).parents[3] / "corpus" / "guests").glob("*.cfg"))


class Loader(yaml.SafeLoader):
    """YAML as Ansible reads it, as far as it matters here."""


class Unsafe(str):
    """Text that is never evaluated."""


def _unsafe(loader: Loader, node: yaml.ScalarNode) -> Unsafe:
    return Unsafe(loader.construct_scalar(node))


Loader.add_constructor("!unsafe", _unsafe)


def entry(text: str, path: str | None = "/etc/xen/a.cfg", running: bool = True) -> dict[str, Any]:
    return {"path": path, "text": text, "running": running}


def guests_of(found: dict[str, Any], host: str) -> dict[str, dict[str, Any]]:
    """What the playbooks make of the variables of one host."""
    said = {**found["group_vars"], **found["host_vars"][host]}
    if said.get("xen_guests") == TOGETHER:
        said["xen_guests"] = {**said["xen_guests_common"], **said.get("xen_guests_local", {})}
    merged = merge_guests(
        said.get("xen_guests"), said.get("xen_guest_defaults"), said.get("xen_guest_overrides")
    )
    return {guest["name"]: guest for guest in merged}


def specs_of(found: dict[str, Any], host: str) -> dict[str, GuestSpec]:
    return {name: declare_guest(split_guest(guest)[0]) for name, guest in guests_of(found, host).items()}


A = "name = 'a'\nkernel = '/boot/Image'\nmemory = 512\n"
B = "name = 'b'\nkernel = '/boot/Image'\nmemory = 256\n"
DISKS = "disk = [ '/dev/{0},raw,xvda,w,specification=virtio,backend=DomD', '/dev/y,,xvdb,specification=virtio' ]\n"

CASES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "no host": ({}, {}, {}),
    "no guest": ({"h": []}, {}, {"h": {}}),
    "one host keeps its guests to itself": (
        {"h": [entry(A)]},
        {},
        {"h": {"xen_guests": {"a": {"path": "/etc/xen/a.cfg", "memory": 512, "kernel": "/boot/Image"}}}},
    ),
    "what all guests say alike is a default": (
        {"h": [entry(A), entry(B, "/etc/xen/b.cfg", False)]},
        {"xen_guest_defaults": {"kernel": "/boot/Image"}},
        {
            "h": {
                "xen_guests": {
                    "a": {"path": "/etc/xen/a.cfg", "memory": 512},
                    "b": {"path": "/etc/xen/b.cfg", "state": "configured", "memory": 256},
                }
            }
        },
    ),
    "hosts alike": (
        {"h": [entry(A)], "i": [entry(A.replace("'", '"'))]},
        {"xen_guests": {"a": {"path": "/etc/xen/a.cfg", "memory": 512, "kernel": "/boot/Image"}}},
        {"h": {}, "i": {}},
    ),
    "hosts that differ, also within disks": (
        {
            "h": [entry(A + DISKS.format("p"))],
            "i": [entry(A + "cmdline = 'quiet'\n" + DISKS.format("q"), "/srv/a.cfg", False)],
        },
        {
            "xen_guests": {
                "a": {
                    "memory": 512,
                    "kernel": "/boot/Image",
                    "disks": [{"vdev": "xvda", "backend": "DomD"}, {"vdev": "xvdb", "target": "/dev/y"}],
                }
            }
        },
        {
            "h": {
                "xen_guest_overrides": {
                    "a": {"path": "/etc/xen/a.cfg", "disks": [{"vdev": "xvda", "target": "/dev/p"}]}
                }
            },
            "i": {
                "xen_guest_overrides": {
                    "a": {
                        "path": "/srv/a.cfg",
                        "disks": [{"vdev": "xvda", "target": "/dev/q"}],
                        "state": "configured",
                        "cmdline": "quiet",
                    }
                }
            },
        },
    ),
    "a guest that one host has alone": (
        {"h": [entry(A), entry(B, "/etc/xen/b.cfg")], "i": [entry(A)]},
        {
            "xen_guest_defaults": {"kernel": "/boot/Image"},
            "xen_guests_common": {"a": {"path": "/etc/xen/a.cfg", "memory": 512}},
            "xen_guests": TOGETHER,
        },
        {"h": {"xen_guests_local": {"b": {"path": "/etc/xen/b.cfg", "memory": 256}}}, "i": {}},
    ),
    "no file": (
        {"h": [entry(A, None)]},
        {},
        {"h": {"xen_guests": {"a": {"memory": 512, "kernel": "/boot/Image"}}}},
    ),
}

# What is told: the entries of one host, the notes' words, the refusals' words.
TOLD: dict[str, tuple[list[dict[str, Any]], list[str], list[str]]] = {
    "fine": ([entry(A)], [], []),
    "old spelling": ([entry(A + "builder = 'generic'\n")], ["builder: deprecated"], []),
    "unreadable": ([entry("name = 'a'\nmemory = int(5)\n")], [], ["line 2"]),
    "no name": ([entry("memory = 1\n")], [], ["without a name"]),
    "no text": ([{"path": "/etc/xen/a.cfg"}], [], ["text of the configuration is missing"]),
    "not UTF-8": ([entry(A + "cmdline = '\udce4'\n")], [], ["not UTF-8"]),
    "a name to be evaluated": ([entry("name = '{{ a }}'\n")], [], ["looks like a template"]),
    "no file": ([entry(A, None)], ["without a configuration file"], []),
    "file and domain alike": ([entry(A), entry(A + "vcpus = 1\n", None)], [], []),
    "file and domain differ": (
        [entry(A), entry(A + "vcpus = 2\n", None)],
        ["as its file does not say it: vcpus"],
        [],
    ),
    "linked": ([entry(A, "/etc/xen/auto/a.cfg"), entry(A)], ["taken from /etc/xen/a.cfg"], []),
    "two of a name": ([entry(A), entry(A + "vcpus = 2\n", "/b")], [], ["2 different"] * 2),
    "two of a name, one runs": (
        [entry(A), entry(A + "vcpus = 2\n", "/b"), entry(A + "vcpus = 2\n", None)],
        ["taken from /b"],
        [],
    ),
}


@pytest.mark.parametrize(("hosts", "group", "apart"), CASES.values(), ids=CASES)
def test_inventory(hosts: dict[str, Any], group: dict[str, Any], apart: dict[str, Any]) -> None:
    before = copy.deepcopy(hosts)
    found = inventory_of(hosts)
    assert found["group_vars"] == group
    assert found["host_vars"] == apart
    assert found["refused"] == []
    assert hosts == before


@pytest.mark.parametrize(("entries", "notes", "refused"), TOLD.values(), ids=TOLD)
def test_told(entries: list[dict[str, Any]], notes: list[str], refused: list[str]) -> None:
    found = inventory_of({"h": entries})
    for kind, wanted in (("notes", notes), ("refused", refused)):
        assert len(found[kind]) == len(wanted)
        for told, words in zip(found[kind], wanted):
            assert told["host"] == "h"
            assert words in told["message"]


def test_the_corpus_comes_back_as_it_was() -> None:
    assert len(CORPUS) >= 40
    texts = {path.stem: path.read_text(encoding="utf-8") for path in CORPUS}
    entries = [entry(text, f"/etc/xen/{stem}.cfg") for stem, text in texts.items()]
    found = inventory_of({"h": entries, "i": entries[::2], "j": entries[::3]})
    assert found["refused"] == []
    for host, mine in {"h": entries, "i": entries[::2], "j": entries[::3]}.items():
        specs, guests = specs_of(found, host), guests_of(found, host)
        assert len(specs) == len(mine)
        for one in mine:
            spec, _notes = read_guest(one["text"])
            assert compare(spec, specs[spec.name]) == []
            assert guests[spec.name]["path"] == one["path"]


_DISK = st.fixed_dictionaries(
    {"vdev": st.sampled_from(["xvda", "xvdb", "51712"]), "target": st.sampled_from(["/a", "/b"])},
    optional={"backend": st.just("DomD"), "access": st.just("ro"), "specification": st.just("xen")},
)
_GUEST = st.fixed_dictionaries(
    {"name": st.sampled_from(["a", "b"])},
    optional={
        "memory": st.sampled_from([256, 512]),
        "kernel": st.sampled_from(["/boot/Image", "{{ boot }}"]),
        "cmdline": st.sampled_from(["", "quiet", "{% raw %}", "null"]),
        "vif": st.lists(
            st.fixed_dictionaries({}, optional={"bridge": st.sampled_from(["x", "y"])}), max_size=2
        ),
        "xenstore_quota": st.dictionaries(st.sampled_from(["nodes", "watches"]), st.integers(1, 2)),
        "disks": st.lists(_DISK, max_size=2, unique_by=lambda disk: disk["vdev"] == "xvdb"),
        "extra_config": st.dictionaries(
            st.sampled_from(["x", "y"]), st.sampled_from(["1", "2", ["1", ["{#"]]])
        ),
    },
)
_HOST = st.lists(_GUEST, max_size=2, unique_by=lambda guest: str(guest["name"]))


@settings(deadline=None, database=None)
@given(fleet=st.dictionaries(st.sampled_from(["h", "i", "j"]), _HOST, max_size=3), running=st.booleans())
def test_what_is_merged_again_is_what_was_found(
    fleet: dict[str, list[dict[str, Any]]], running: bool
) -> None:
    specs = {
        host: {guest["name"]: declare_guest(guest) for guest in guests} for host, guests in fleet.items()
    }
    found = inventory_of(
        {
            host: [
                entry(render_guest(spec, NEWEST), f"/{host}/{name}", running) for name, spec in mine.items()
            ]
            for host, mine in specs.items()
        }
    )
    assert found["refused"] == []
    for host, mine in specs.items():
        again, guests = specs_of(found, host), guests_of(found, host)
        assert set(again) == set(mine)
        for name, spec in mine.items():
            assert compare(spec, again[name]) == []
            assert guests[name]["path"] == f"/{host}/{name}"
            assert guests[name].get("state") == (None if running else "configured")
    for data in (found["group_vars"], *found["host_vars"].values()):
        assert yaml.load(to_yaml(data), Loader) == data


@settings(deadline=None, database=None)
@given(
    data=st.dictionaries(
        st.from_regex(r"\A[a-z_]{1,8}\Z"),
        st.recursive(
            st.one_of(st.text(st.characters(codec="utf-8")), st.integers(), st.booleans(), st.none()),
            lambda inner: st.one_of(
                st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
            ),
            max_leaves=8,
        ),
        max_size=4,
    )
)
def test_yaml_is_read_as_it_was_meant(data: dict[str, Any]) -> None:
    assert yaml.load(to_yaml(data), Loader) == data


@pytest.mark.parametrize("text", ["{{ lookup('pipe', 'x') }}", "a {% b", "{# c"])
def test_what_looks_like_a_template_is_never_one(text: str) -> None:
    found = inventory_of({"h": [entry(render_guest(declare_guest({"name": "a", "cmdline": text}), NEWEST))]})
    written = yaml.load(to_yaml(found["host_vars"]["h"]), Loader)
    assert written["xen_guests"]["a"]["cmdline"] == text
    assert isinstance(written["xen_guests"]["a"]["cmdline"], Unsafe)
