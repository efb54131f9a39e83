# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A configuration against libxl's record of a domain; tables."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._guestrecord import (
    Change,
    disk_order,
    record_changes,
    shown,
)

KIB = 1024

#: As ``xl create -n`` prints a small guest, and as ``xl list -l`` shows it with libxl's defaults.
WANTED: dict[str, Any] = {
    "c_info": {"type": "pvh", "name": "g", "uuid": "made-up", "run_hotplug_scripts": "True"},
    "b_info": {
        "max_memkb": 64 * KIB,
        "target_memkb": 64 * KIB,
        "claim_mode": "True",
        "kernel": "/boot/Image",
        "sched_params": {},
        "arch_arm": {},
    },
    "on_reboot": "restart",
}
RECORD: dict[str, Any] = {
    "c_info": {**WANTED["c_info"], "uuid": "its own", "domid": 7, "ssidref": 12, "passthrough": "disabled"},
    "b_info": {
        **WANTED["b_info"],
        "acpi": "True",
        "avail_vcpus": [0],
        "max_vcpus": 1,
        "sched_params": {"sched": "credit2", "weight": 256},
        "arch_arm": {"gic_version": "v3"},
    },
    "on_reboot": "restart",
}


def with_build(config: dict[str, Any], **options: Any) -> dict[str, Any]:
    built = {**config["b_info"], **options}
    return {**config, "b_info": {key: value for key, value in built.items() if value is not ...}}


def told(changes: list[Change]) -> list[str]:
    return [f"{one.option} {one.before}->{one.after}{' live' if one.live else ''}" for one in changes]


#: settings of the configuration, of the record, what is said, what differs
BUILT: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any], list[str]]] = [
    ({}, {}, {}, []),
    ({"kernel": "/boot/new"}, {}, {}, ["kernel /boot/Image->/boot/new"]),
    ({"cmdline": "quiet"}, {}, {}, ["cmdline None->quiet"]),
    ({}, {"cmdline": "quiet"}, {}, ["cmdline quiet->None"]),
    ({"kernel": ...}, {}, {}, ["kernel /boot/Image->None"]),
    ({"acpi": "True"}, {}, {}, []),
    ({"acpi": "False"}, {}, {}, ["acpi True->False"]),
    ({"nomigrate": "False"}, {}, {}, []),
    ({"arch_arm": {"gic_version": "v3"}}, {}, {}, []),
    ({"arch_arm": {"gic_version": "v2"}}, {}, {}, ["gic_version v3->v2"]),
    ({"arch_arm": {"nr_spis": 64}}, {}, {}, ["nr_spis None->64"]),
    ({}, {"arch_arm": {"tee": "optee"}}, {}, ["tee optee->None"]),
    ({"irqs": [36, 37]}, {"irqs": [36]}, {}, ["irqs [36]->[36, 37]"]),
    ({"sched_params": {"weight": 512}}, {}, {}, ["b_info.sched_params.weight 256->512"]),
    # memory
    ({"target_memkb": 32 * KIB}, {}, {}, ["memory 64->32 live"]),
    (
        {"target_memkb": 128 * KIB, "max_memkb": 128 * KIB},
        {},
        {"maxmem": False},
        ["maxmem 64->128", "memory 64->128"],
    ),
    ({"target_memkb": 32 * KIB, "max_memkb": 32 * KIB}, {}, {"maxmem": False}, ["memory 64->32 live"]),
    (
        {"target_memkb": 32 * KIB, "max_memkb": 32 * KIB},
        {"target_memkb": 32 * KIB},
        {"maxmem": False},
        [],
    ),
    ({"max_memkb": 128 * KIB}, {}, {"maxmem": True}, ["maxmem 64->128"]),
    ({"target_memkb": ..., "max_memkb": ...}, {}, {}, []),
    # vCPUs
    ({"max_vcpus": 4, "avail_vcpus": [0]}, {"max_vcpus": 4}, {}, []),
    ({"max_vcpus": 4, "avail_vcpus": [0, 1]}, {"max_vcpus": 4}, {}, ["vcpus 1->2 live"]),
    ({"max_vcpus": 2, "avail_vcpus": [0, 1]}, {}, {"maxvcpus": False}, ["maxvcpus 1->2", "vcpus 1->2"]),
    (
        {"max_vcpus": 2, "avail_vcpus": [0, 1]},
        {"max_vcpus": ..., "avail_vcpus": ...},
        {"maxvcpus": False},
        ["maxvcpus 1->2", "vcpus 1->2"],
    ),
    (
        {"max_vcpus": 2, "avail_vcpus": [0, 1]},
        {"max_vcpus": 4, "avail_vcpus": [0, 1, 2]},
        {"maxvcpus": False},
        ["vcpus 3->2 live"],
    ),
]


@pytest.mark.parametrize(("wanted", "record", "said", "expected"), BUILT)
def test_what_a_domain_would_have_to_change(
    wanted: dict[str, Any], record: dict[str, Any], said: dict[str, Any], expected: list[str]
) -> None:
    assert (
        told(record_changes(with_build(WANTED, **wanted), with_build(RECORD, **record), **said)) == expected
    )


NIC = {"bridge": "xenbr0"}
#: the rest of the configuration, of the record, of what the domain was made from; what differs
TOP: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any] | None, list[str]]] = [
    ({"nics": [NIC]}, {"nics": [{**NIC, "mac": "00:16:3e:00:00:01", "devid": 0}]}, None, []),
    ({"nics": [{"bridge": "other"}]}, {"nics": [NIC]}, None, ["vif bridge=xenbr0->bridge=other"]),
    ({}, {"nics": [NIC]}, None, ["vif bridge=xenbr0->None"]),
    ({"nics": [NIC, NIC]}, {"nics": [NIC]}, None, ["vif None->bridge=xenbr0"]),
    ({"dtdevs": ["/soc/a"]}, {"dtdevs": ["/soc/a"]}, None, []),
    ({"dtdevs": ["/soc/a"]}, {}, None, ["dtdev None->['/soc/a']"]),
    ({"on_crash": "restart"}, {}, None, ["on_crash None->restart"]),
    ({}, {"on_poweroff": "preserve"}, None, ["on_poweroff preserve->None"]),
    # a default of libxl's, or a word that the configuration has lost: only what it was made from tells
    ({}, {"on_crash": "preserve"}, None, []),
    ({}, {"on_crash": "preserve"}, {"on_crash": "preserve"}, ["on_crash preserve->None"]),
    ({}, {"on_crash": "preserve"}, {}, []),
    ({"disks": [{"vdev": "xvda"}]}, {"disks": []}, None, []),
]


@pytest.mark.parametrize(("wanted", "record", "made", "expected"), TOP)
def test_devices_and_what_was_said_before(
    wanted: dict[str, Any], record: dict[str, Any], made: dict[str, Any] | None, expected: list[str]
) -> None:
    before = None if made is None else {**WANTED, **made}
    assert told(record_changes({**WANTED, **wanted}, {**RECORD, **record}, before)) == expected


def test_a_uuid_counts_where_it_is_said() -> None:
    assert told(record_changes(WANTED, RECORD)) == []
    assert told(record_changes(WANTED, RECORD, uuid=True)) == ["uuid its own->made-up"]


ORDERS: list[tuple[Any, list[int]]] = [
    ([{"vdev": "xvdb"}, {"vdev": "xvda"}], [51728, 51712]),
    ([{"vdev": "nonsense"}, {}, {"vdev": "xvda"}], [51712]),
    (None, []),
    ("xvda", []),
]


@pytest.mark.parametrize(("disks", "expected"), ORDERS)
def test_the_order_of_a_records_disks(disks: Any, expected: list[int]) -> None:
    assert disk_order({"disks": disks}) == expected


SHOWN = [
    (None, "(none)"),
    ("quiet", "quiet"),
    ("", "''"),
    ("a\nb", r"'a\nb'"),
    (3, "3"),
    ("x" * 99, "x" * 59 + "…"),
]


@pytest.mark.parametrize(("value", "expected"), SHOWN)
def test_a_value_in_a_message(value: Any, expected: str) -> None:
    assert shown(value) == expected
