# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The examples of every module, as they stand: run by the real Ansible on a dom0 and its driver domain.

What is around them, and is no example, is `PARTS`: where an example needs a guest, a file or a fault to be there first.
What modules return there is held against what they say of it (`RETURN`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import standin
import yaml
from backends import Controller, MakeDriverDomain
from lab import LabHost
from lab.machines_pair import Dom0
from launching import A, Backend
from plugin_docs import GROUP, MODULES

Json = dict[str, Any]

RETURNS = {one.name: one.returns for one in MODULES}
EXAMPLES: dict[str, list[Json]] = {one.name: yaml.safe_load(one.examples) for one in MODULES}
CALLBACKS = Path(__file__).with_name("callback")
STORAGE = ("mmcblk0p3", "mmcblk1p3", "vg0/domu1", "vg0/domu2", "vg0/linux2", "vg0/router")


def disk(vdev: str, target: str, **more: Any) -> Json:
    return {"vdev": vdev, "target": target, "backend": "DomD", **more}


#: What the inventory says.
VARIABLES: Json = {
    "xen_driver_domains": {"DomD": {"host": "domd"}},
    "xen_guests": {
        "linux1": {"memory": 1024, "kernel": "/boot/Image", "disks": [disk("xvda", "/dev/mmcblk0p3")]},
        "linux2": {"memory": 256, "kernel": "/boot/Image", "disks": [disk("xvdb", "/dev/vg0/linux2")]},
        "router": {"memory": 256, "kernel": "/boot/Image", "disks": [disk("xvdc", "/dev/vg0/router")]},
    },
}
#: The file that an example makes a configuration of.
TEMPLATE = """\
name = "linux2"
memory = 256
kernel = "/boot/Image"
disk = ["/dev/vg0/linux2,,xvdb,backend=DomD,specification=virtio"]
"""
#: As users set them, for all members of the group.
DEFAULTS: Json = {"group/xen.virtio.all": {"timeout": 20}}
FOREIGN_UNIT = "[Service]\nExecStart=/usr/bin/virtio-disk\n"


def shell(*lines: str, on: str = "dom0") -> Json:
    return {"name": "around", "ansible.builtin.shell": "\n".join(["set -e", *lines]), "delegate_to": on}


def module(called: str, **arguments: Any) -> Json:
    return {"name": "around", f"xen.virtio.{called}": arguments}


GUESTS = module("guest", guests="{{ xen_guests }}", recreate="allowed")


@dataclass(frozen=True)
class Part:
    """The examples of one module.

    Attributes:
        host: on which of the inventory they run.
        before: by the name of an example, what has to be done first.
    """

    module: str
    host: str = "dom0"
    before: Mapping[str, list[Json]] = field(default_factory=dict)


#: In the order in which somebody would come to them.
PARTS = [
    Part(
        "backend_foreign",
        "domd",
        {"Nothing beside the launcher": [shell("systemctl start virtio-disk.service", on="domd")]},
    ),
    Part("backend_launcher", "domd"),
    Part("backend_info"),
    Part("xenstore"),
    Part("xenstore_info"),
    Part(
        "disk",
        before={
            "Take a disk away that the guest may be using": [
                module("disk", domain="dom0less-1", disks=[disk("xvdb", "/dev/vg0/domu2", access="ro")])
            ]
        },
    ),
    Part("disk_info"),
    Part("host_info"),
    Part(
        "guest",
        before={
            "A guest with two disks of the driver domain DomD": [
                module("disk", domain="domu1", disks=[], exclusive=True, hotplug=True)
            ],
            "Bring back only guests that lost a disk": [
                shell(
                    "domid=$(xl domid linux2)",
                    "xenstore-rm /local/domain/$(xl domid DomD)/backend/virtio_disk/$domid",
                )
            ],
            "A configuration of your own": [module("guest", name="linux2", state="absent")],
            "A kernel that is known by its checksum": [module("guest", name="linux1", state="absent")],
        },
    ),
    Part("guest_info", before={"All guests of the host": [GUESTS]}),
    Part("guest_watch"),
    Part("storage_info"),
    Part(
        "checkpoint",
        before={
            "What would be brought back": [
                module("guest", name="linux1", memory=512, kernel="/boot/Image", recreate="allowed")
            ]
        },
    ),
    Part("fleet_info"),
    Part("fleet_audit"),
    Part(
        "drain",
        before={
            "Who hangs on the driver domain": [
                module("disk", domain=f"dom0less-{number}", disks=[], exclusive=True, hotplug=True)
                for number in (1, 2)
            ]
        },
    ),
]


def plays() -> Iterator[Json]:
    for part in PARTS:
        tasks = []
        for example in EXAMPLES[part.module]:
            tasks += [*part.before.get(example["name"], []), example]
        yield {
            "name": part.module,
            "hosts": part.host,
            "gather_facts": False,
            "ignore_errors": True,  # one run tells everything
            "module_defaults": DEFAULTS,
            "tasks": tasks,
        }


@pytest.fixture
def board(
    lab: LabHost,
    dom0: Dom0,
    make_driver_domain: MakeDriverDomain,
    controller: Controller,
    tmp_path: Path,
) -> Controller:
    """A dom0 with guests of its own and of Xen's, and DomD, whose image brings a daemon; both over SSH."""
    lab.guest_answers()
    assert [lab.add_domain(), lab.add_domain()] == [1, 2]
    domd = make_driver_domain(lab)
    backend = Backend(domd, standin.build(tmp_path / "build", "1.0"), tmp_path / "root")
    assert [lab.add_domain(name, "toolstack") for name in ("domu1", "domu2", "domu3", "domu4")] == [
        4,
        5,
        6,
        7,
    ]
    backend.plug(7, A, "/dev/vg0/old")
    lab.kill_domain(7)
    for left in ("/local/domain/7", "/libxl/7"):
        lab.rm(left)
    files = {f"/srv/{name.replace('/', '-')}.img": name for name in STORAGE}
    links = "".join(f"L /dev/{name} - - - - {path}\n" for path, name in files.items())
    domd.machine.write("/etc/tmpfiles.d/storage.conf", f"d /dev/vg0\n{links}")
    domd.machine.write("/etc/systemd/system/virtio-disk.service", FOREIGN_UNIT)
    domd.machine.run(["install", "-m", "755", "/lab/share/virtio-disk", "/usr/bin/virtio-disk"])
    domd.machine.run(["truncate", "-s", "65536", *files])
    domd.machine.run(["systemd-tmpfiles", "--create", "/etc/tmpfiles.d/storage.conf"])
    domd.follow()
    dom0.machine.write("/boot/Image", "a kernel")
    dom0.machine.write("/srv/images/Image-6.6", "test")
    (controller.folder / "templates").mkdir()
    (controller.folder / "templates/linux2.cfg.j2").write_text(TEMPLATE)
    controller.variables = VARIABLES
    return controller


def run(board: Controller) -> list[Json]:
    """The result of every task."""
    path = board.folder / "results"
    keeper = {"keeper": board.machines.connection("domd")}
    (board.folder / "keeper.json").write_text(json.dumps({"all": {"hosts": keeper}}))
    (board.folder / "ansible.cfg").write_text(
        f"[defaults]\ncallback_plugins = {CALLBACKS}\ncallbacks_enabled = results\n[results]\npath = {path}\n"
    )
    # generous, only to end a run that would hang: there are sixty tasks
    done = board.play(list(plays()), "-i", str(board.folder / "keeper.json"), check=False, timeout=1800)
    assert path.exists(), done.stdout + done.stderr
    print(done.stdout + done.stderr)
    return [json.loads(line) for line in path.read_text().splitlines()]


# --- what was returned, against RETURN -------------------------------------------------------------------

#: What Ansible itself has in a result, or in that of any module.
ANSIBLES = {"changed", "diff", "invocation", "warnings", "deprecations", "ansible_stats"}
TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (float, int),
    "bool": (bool,),
    "list": (list,),
    "dict": (dict,),
}


def differences(told: Json, found: Json, where: str) -> Iterator[str]:
    """Keys that are not told of, or are told of and not there; values of another type than is told."""
    always = {key for key, one in told.items() if one.get("returned", "always") in ("always", "success")}
    yield from (f"{where}.{key}: not in RETURN" for key in sorted(set(found) - set(told)))
    yield from (f"{where}.{key}: not returned" for key in sorted(always - set(found)))
    for key in sorted(set(told) & set(found)):
        value, one = found[key], told[key]
        if value is None:
            continue
        if not isinstance(value, TYPES[one["type"]]):
            yield f"{where}.{key}: {type(value).__name__}"
        elif "contains" in one:
            for entry in entries(one, value):
                yield from differences(one["contains"], entry, f"{where}.{key}")


def entries(told: Json, value: Any) -> list[Json]:
    """The mappings of which ``contains`` tells; where the sample has none of its keys, they lie in there by name."""
    if isinstance(value, list):
        return value
    by_name = "sample" in told and told["contains"].keys().isdisjoint(told["sample"])
    return list(value.values()) if by_name else [value]


def returned(results: list[Json]) -> Iterator[tuple[str, Json]]:
    """What modules of the collection returned, without what is Ansible's."""
    for one in results:
        name = one["action"].removeprefix("xen.virtio.")
        if name in RETURNS:
            result = {
                key: value for key, value in one["result"].items() if key[0] != "_" and key not in ANSIBLES
            }
            yield name, result


def test_every_example_runs_as_it_stands(board: Controller) -> None:
    assert sorted(part.module for part in PARTS) == sorted(EXAMPLES)
    results = run(board)
    told = {(one["play"], one["task"]): one["outcome"] for one in results if one["task"] != "around"}
    assert told == {(name, one["name"]): "ok" for name, examples in EXAMPLES.items() for one in examples}
    # all of them returned what they say that they return
    found = {line for name, result in returned(results) for line in differences(RETURNS[name], result, name)}
    assert sorted(found) == []
    # what was said once for the group came to each of its members, through action plugins as well
    timeouts = {
        (one["action"].removeprefix("xen.virtio."), one["result"]["invocation"]["module_args"]["timeout"])
        for one in results
        if one["action"].removeprefix("xen.virtio.") in GROUP
    }
    assert timeouts == {(name, DEFAULTS["group/xen.virtio.all"]["timeout"]) for name in GROUP}
