# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The layout against trees that libxl 4.17 wrote on real Xen/Arm (tests/unit/golden)."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._layout import (
    BACKEND,
    FRONTEND,
    RECORD,
    Attachment,
    Branch,
    Schema,
    attachment,
    backend_domid,
    branches,
    differences,
    nodes,
    number,
    paths,
    permissions,
    schema_of,
)

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
SCHEMA_417 = Schema(grant_usage=False)
_LINE = re.compile(r'^(/\S+) = "(.*)"\s+\((\S+)\)$', re.M)


def golden(name: str) -> dict[str, tuple[str, str]]:
    """path → value, permissions of a recorded tree."""
    return {path: (value, perms) for path, value, perms in _LINE.findall((GOLDEN / name).read_text())}


CASES = {
    "dom0 serves": (
        "virtio1.txt",
        [Attachment(10, 0, 51712, "xvda", "/dev/loop0", readonly=False, base=0x2000000, irq=33)],
    ),
    "a driver domain serves": (
        "virtio1-dd.txt",
        [
            Attachment(
                12, 11, 51712, "xvda", "/dev/loop0", readonly=False, base=0x2000000, irq=33, grant_usage=True
            )
        ],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_nodes_values_and_permissions_are_those_of_libxl(case: str) -> None:
    name, disks = CASES[case]
    recorded = golden(name)
    for disk in disks:
        disk = replace(disk, domid=_domid(recorded))  # noqa: PLW2901 - the recording's own number
        at = paths(disk)
        for tree, wanted in nodes(disk, SCHEMA_417).items():
            perms = ",".join(permissions(disk)[tree])
            found = {path: what for path, what in recorded.items() if path.startswith(at[tree] + "/")}
            expected = {f"{at[tree]}/{node}": value for node, value in wanted.items()}
            # the recording shows the disk served: the backend has moved on
            served = {path: "2" if path.startswith(at[BACKEND]) and path.endswith("/state") else value
                      for path, value in expected.items()}  # fmt: skip
            assert {path: value for path, (value, _perms) in found.items()} == served
            assert {p for _value, p in found.values()} == {perms}
            assert recorded[at[tree]] == ("", perms)


def _domid(recorded: dict[str, tuple[str, str]]) -> int:
    return next(
        int(match[1]) for path in recorded if (match := re.match(r"/libxl/(\d+)/device/virtio_disk", path))
    )


def test_what_libxl_wrote_reads_back_to_the_same_disk() -> None:
    recorded = golden("virtio2.txt")
    domid = _domid(recorded)
    for devid, base, irq in ((51712, 33554432, 33), (51728, 33554944, 34)):
        at = f"/libxl/{domid}/device/virtio_disk/{devid}/"
        record = {path[len(at) :]: value for path, (value, _p) in recorded.items() if path.startswith(at)}
        branch = Branch(None, record, {})
        disk = attachment(domid, devid, 0, branch, "1")
        assert (disk.base, disk.irq) == (base, irq)
        assert schema_of(branch) == SCHEMA_417
        assert nodes(disk, SCHEMA_417)[RECORD] == record


DISK = Attachment(3, 1, 51712, "xvda", "/dev/a", readonly=False, base=0x2000000, irq=33, grant_usage=True)


@pytest.mark.parametrize(
    ("schema", "direct_io_safe", "count"),
    [
        (Schema(), False, 18),  # with the directory itself
        (SCHEMA_417, False, 17),
        (Schema(), True, 19),
        (Schema("virtio_disk", specification=False, grant_usage=False), False, 15),
    ],
)
def test_how_many_nodes_a_backend_holds(schema: Schema, direct_io_safe: bool, count: int) -> None:
    found = nodes(replace(DISK, direct_io_safe=direct_io_safe), schema)
    assert len(found[BACKEND]) + 1 == count
    assert len(found[FRONTEND]) + 1 == 7
    assert len(found[RECORD]) + 1 == count + 1


def test_the_sixth_version_writes_its_own_type_and_no_specification() -> None:
    found = nodes(DISK, Schema("virtio_disk", specification=False, grant_usage=False))[BACKEND]
    assert list(found)[:5] == ["frontend", "params", "base", "irq", "frontend-id"]
    assert found["type"] == "virtio_disk"
    assert not {"specification", "transport", "grant_usage"} & set(found)


def test_a_disk_as_written_has_no_differences() -> None:
    assert differences(DISK, Schema(), dict(branches(DISK, Schema()))) == []


@pytest.mark.parametrize(
    ("tree", "node", "value", "what"),
    [
        (BACKEND, "params", "/dev/b", "value"),
        (FRONTEND, "backend-id", "0", "value"),
        (RECORD, "irq", None, "missing"),
        (BACKEND, "state", None, "missing"),
    ],
)
def test_every_difference_is_named(tree: str, node: str, value: str | None, what: str) -> None:
    live = dict(branches(DISK, Schema()))
    branch = live[tree]
    changed = {name: old for name, old in branch.nodes.items() if name != node or value is not None}
    if value is not None:
        changed[node] = value
    live[tree] = branch._replace(nodes=changed)
    found = differences(DISK, Schema(), dict(live))
    assert [(one.tree, one.node, one.what, one.found) for one in found] == [(tree, node, what, value)]


@pytest.mark.parametrize("tree", [RECORD, FRONTEND, BACKEND])
def test_a_state_that_moved_on_is_no_difference(tree: str) -> None:
    live = dict(branches(DISK, Schema()))
    live[tree] = live[tree]._replace(nodes={**live[tree].nodes, "state": "4"})
    assert differences(DISK, Schema(), dict(live)) == []


@pytest.mark.parametrize(
    ("text", "value"),
    [("33", 33), ("0x2000000", 0x2000000), ("", 0), (None, 0), ("x", 0), ("9" * 40, 0), ("0x", 0)],
)
def test_numbers_of_nodes(text: str | None, value: int) -> None:
    assert number(text) == value


@pytest.mark.parametrize(
    ("path", "domid"),
    [
        ("/local/domain/1/backend/virtio_disk/3/51712", 1),
        ("/local/domain/1/backend/virtio_disk/3/51728", None),
        ("/local/domain/1/backend/virtio_disk/4/51712", None),
        ("/local/domain/1/backend/vbd/3/51712", None),
        ("/local/domain/1/backend/virtio_disk/3/51712/../x", None),
        ("local/domain/1/backend/virtio_disk/3/51712", None),
        ("", None),
    ],
)
def test_a_backend_path_is_believed_only_if_it_is_this_disks(path: str, domid: int | None) -> None:
    assert backend_domid(path, 3, 51712) == domid
