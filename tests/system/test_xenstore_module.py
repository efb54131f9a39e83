# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules xenstore and xenstore_info, by themselves and through the real Ansible."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils import _xenstore_module as code
from ansible_collections.xen.virtio.plugins.module_utils._store import Store, StoreError
from ansible_collections.xen.virtio.plugins.module_utils._xenstore import DeclarationError
from ansible_runs import run_ansible, run_module
from lab import LabHost

BOUND = 60.0  # seconds for a run of Ansible; far above every time limit used here
DEFAULTS: dict[str, Any] = {name: option.get("default") for name, option in code.ARGUMENT_SPEC.items()}


def converge(socket: str, *, check: bool = False, **options: Any) -> dict[str, Any]:
    """The module's own code, without Ansible around it."""
    declarations = code.parse_trees({**DEFAULTS, **options})
    with Store(socket) as store:
        plans = code.converge(store, declarations, check=check)
    return code.result_of(declarations, plans, diff=True)


def actions(result: dict[str, Any]) -> dict[str, str]:
    return {node["path"]: "+".join([node["action"], *node["what"]]) for node in result["nodes"]}


TREE: dict[str, Any] = {
    "path": "/t",
    "perms": {"owner": 0, "read": [5]},
    "nodes": {
        "a": "1",
        "b": {"c": 2, ".perms": "r0"},
        "d": {".base64": "AP8="},
        "gone": {".state": "absent"},
    },
}


def test_as_declared_then_nothing(lab_any: LabHost) -> None:
    """Check mode says the same and writes nothing; new nodes have the permissions of the node above."""
    planned = converge(lab_any.socket, check=True, **TREE)
    assert lab_any.ls("/t") == {}
    result = converge(lab_any.socket, **TREE)
    assert result == planned
    assert actions(result) == dict.fromkeys(("/t", "/t/a", "/t/b", "/t/b/c", "/t/d"), "created")
    assert result["diff"][0]["before"] == ""
    assert '/t/b = ""   (r0)\n/t/b/c = "2"\n' in result["diff"][0]["after"]
    assert lab_any.ls("/t") == {
        "/t": (b"", ("n0", "r5")),
        "/t/a": (b"1", ("n0", "r5")),
        "/t/b": (b"", ("r0",)),
        "/t/b/c": (b"2", ("r0",)),
        "/t/d": (b"\0\xff", ("n0", "r5")),
    }
    again = converge(lab_any.socket, **TREE)
    assert not again["changed"]
    assert again["nodes"] == []
    assert again["diff"][0]["before"] == again["diff"][0]["after"]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"path": "/t/a", "value": "2"}, {"/t/a": "changed+value"}),
        ({"path": "/t/a", "perms": "n0,w5"}, {"/t/a": "changed+perms"}),
        ({"path": "/t/a", "perms": ["n0", "r5"]}, {}),
        ({"path": "/t/b", "perms": "n0", "recurse": True, "nodes": ["c"]}, None),
        (
            {"path": "/t/b", "perms": "n0", "recurse": True, "nodes": {"c": {}}},
            {"/t/b": "changed+perms", "/t/b/c": "changed+perms"},
        ),
        (
            {"path": "/t", "state": "absent"},
            dict.fromkeys(("/t", "/t/a", "/t/b", "/t/b/c", "/t/d"), "removed"),
        ),
        ({"path": "/none", "state": "absent"}, {}),
        ({"path": "/none/of/it", "state": "absent"}, {}),
        (
            {"path": "/t", "nodes": [{"path": "b", "state": "absent"}]},
            {"/t/b": "removed", "/t/b/c": "removed"},
        ),
        (
            {"path": "/t", "nodes": {"a": {}}, "exclusive": True},
            dict.fromkeys(("/t/b", "/t/b/c", "/t/d"), "removed"),
        ),
        ({"path": "/t/n/m", "value": ""}, {"/t/n/m": "created"}),
        (
            {
                "trees": [
                    {"path": "/t/d", "state": "absent"},
                    {"path": "/u", "value": "1", "nodes": {"v": "2"}},
                ]
            },
            {"/t/d": "removed", "/u": "created", "/u/v": "created"},
        ),
    ],
)
def test_changes(lab_any: LabHost, options: dict[str, Any], wanted: dict[str, str] | None) -> None:
    converge(lab_any.socket, **TREE)
    before = lab_any.ls("/")
    if wanted is None:
        with pytest.raises(DeclarationError):
            converge(lab_any.socket, **options)
        assert lab_any.ls("/") == before
        return
    planned = converge(lab_any.socket, check=True, **options)
    assert lab_any.ls("/") == before
    assert actions(planned) == wanted
    assert converge(lab_any.socket, **options) == planned
    assert converge(lab_any.socket, **options)["nodes"] == []


def test_conflicts_are_planned_anew(lab_any: LabHost) -> None:
    lab_any.write("/t/a", "old")
    with lab_any.conflict("/t/a", value="theirs") as proxy:
        result = converge(proxy.socket, path="/t", nodes={"a": "ours", "b": "1"})
    assert '/t/a = "theirs"' in result["diff"][0]["before"]
    assert lab_any.read("/t/a") == b"ours"


@pytest.mark.parametrize(
    "options",
    [
        {"path": "/t", "perms": "n77", "nodes": {"a": "1"}},
        {"path": "/t", "nodes": {"a": "1", "b": {".perms": "n77,r0"}, "c": "2"}},
    ],
)
def test_what_xenstored_refuses_leaves_nothing(lab: LabHost, options: dict[str, Any]) -> None:
    """C xenstored takes no owner that does not exist."""
    with pytest.raises(StoreError, match=r"SET_PERMS /t.*a domain in its permissions does not"):
        converge(lab.socket, **options)
    assert lab.ls("/t") == {}


def test_a_domain_keeps_to_its_permissions_and_quotas(lab_any: LabHost) -> None:
    domid = lab_any.add_domain("domu1", kind="toolstack")
    view = lab_any.domain_view(domid)
    before = lab_any.ls("/")
    data = f"/local/domain/{domid}/data"
    with pytest.raises(StoreError, match=rf" /t: permission denied \(EACCES\); .*domain {domid}"):
        converge(view, path="/t", value="1", nodes={"a": "1"})
    with pytest.raises(StoreError, match=rf"{data}/.*a quota of xenstored is used up"):
        converge(view, path=data, nodes={f"n{i}": "x" for i in range(1500)})
    with pytest.raises(StoreError, match=r" /libxl.*EACCES"):
        converge(view, path="/libxl/x", value="")
    assert lab_any.ls("/") == before
    assert converge(view, path=data, nodes={"a": "1", "b": {"c": "2"}})["changed"]
    assert not converge(view, path=data, nodes={"a": "1", "b": {"c": "2"}})["changed"]


def test_thousands_of_children(lab_any: LabHost) -> None:
    nodes = {f"child-{i:04}": str(i) for i in range(1500)}
    assert len(converge(lab_any.socket, path="/t", nodes=nodes)["nodes"]) == 1501
    assert converge(lab_any.socket, path="/t", nodes=nodes, exclusive=True)["nodes"] == []
    with Store(lab_any.socket) as store:
        found = code.gather(store, ["/t", "/none"], depth=None, perms=True)
    assert len(found["nodes"]) == len(found["flat"]) == 1501
    assert found["missing"] == ["/none"]
    kept = dict.fromkeys(("child-0000", "child-1499"), "x")
    assert len(converge(lab_any.socket, path="/t", nodes=kept, exclusive=True)["nodes"]) == 1500
    assert len(lab_any.ls("/t")) == 3


def test_read_and_put_back(lab_any: LabHost) -> None:
    converge(lab_any.socket, **TREE)
    before = lab_any.ls("/t")
    with Store(lab_any.socket) as store:
        found = code.gather(store, ["/t"], depth=None, perms=True)
        shallow = code.gather(store, ["/t"], depth=1, perms=False)
    assert found["flat"]["/t/d"] == "\\x00\\xff"
    assert base64.b64decode(next(n["base64"] for n in found["nodes"] if n["path"] == "/t/d")) == b"\0\xff"
    assert found["nested"]["/t"]["b"]["c"] == {".value": "2", ".perms": ["r0"]}
    assert list(shallow["flat"]) == ["/t", "/t/a", "/t/b", "/t/d"]
    assert [node["perms"] for node in shallow["nodes"]] == [None] * 4
    for form in (found["nodes"], found["nested"]["/t"]):
        lab_any.rm("/t")
        lab_any.write("/t/stray", "")
        assert converge(lab_any.socket, path="/t", nodes=form, exclusive=True)["changed"]
        assert lab_any.ls("/t") == before
        assert not converge(lab_any.socket, path="/t", nodes=form, exclusive=True)["changed"]


def test_info_as_a_domain(lab_any: LabHost) -> None:
    domid = lab_any.add_domain("domu1", kind="toolstack")
    own = f"/local/domain/{domid}"
    with Store(lab_any.domain_view(domid)) as store:
        found = code.gather(store, [f"{own}/name", "/libxl"], depth=None, perms=True)
    assert found["flat"] == {f"{own}/name": "domu1"}
    assert found["denied"] == ["/libxl"]
    assert found["missing"] == []


# -- through Ansible -------------------------------------------------------------------------------------

PLAYBOOK: list[dict[str, Any]] = [
    {
        "hosts": "all",
        "gather_facts": False,
        "tasks": [
            {"name": "Declare", "xen.virtio.xenstore": TREE, "register": "declared"},
            {
                "name": "Declare again",
                "xen.virtio.xenstore": TREE,
                "register": "again",
                "failed_when": "again is changed and not ansible_check_mode",
            },
            {"name": "Read", "xen.virtio.xenstore_info": {"path": "/t"}, "register": "read"},
            {
                "name": "Put back what was read",
                "xen.virtio.xenstore": {"path": "/t", "nodes": "{{ read.nested['/t'] }}", "exclusive": True},
                "when": "not ansible_check_mode",
                "register": "put",
                "failed_when": "put is changed",
            },
        ],
    }
]


def play(folder: Path, python: str, *flags: str) -> subprocess.CompletedProcess[str]:
    playbook = folder / "play.json"
    playbook.write_text(json.dumps(PLAYBOOK))
    return run_ansible(folder, python, "ansible-playbook", str(playbook), *flags, timeout=BOUND)


def test_a_playbook(lab: LabHost, tmp_path: Path) -> None:
    checked = play(tmp_path, lab.python, "--check", "--diff")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert lab.ls("/t") == {}
    assert '+/t/a = "1"\n' in checked.stdout
    first = play(tmp_path, lab.python, "--diff")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "changed=1 " in first.stdout
    assert '+/t/b = ""   (r0)\n' in first.stdout
    assert lab.read("/t/d") == b"\0\xff"
    second = play(tmp_path, lab.python)
    assert "changed=0 " in second.stdout, second.stdout + second.stderr
    lab.write("/t/a", "drifted")
    third = play(tmp_path, lab.python, "--check", "--diff")
    assert '-/t/a = "drifted"\n+/t/a = "1"\n' in third.stdout


def test_as_a_domain_through_its_device(lab: LabHost, tmp_path: Path) -> None:
    """In a driver domain there is only the xenbus device, here a socket in its place."""
    domid = lab.add_domain("DomD", kind="toolstack")
    python = lab.domain_python(domid)
    data = f"/local/domain/{domid}/data"
    declared = {"path": data, "nodes": {"a": "1"}}
    assert run_module(tmp_path, python, "xen.virtio.xenstore", declared)["changed"]
    assert not run_module(tmp_path, python, "xen.virtio.xenstore", {**declared, "xenbus": "/dev/xen/xenbus"})[
        "changed"
    ]
    before = lab.ls("/")
    refused = run_module(tmp_path, python, "xen.virtio.xenstore", {"path": "/local/domain/0/x", "value": "1"})
    assert refused["failed"]
    assert f"(EACCES); this connection speaks for domain {domid}" in refused["msg"]
    assert lab.ls("/") == before


@pytest.mark.parametrize("module", ["xen.virtio.xenstore", "xen.virtio.xenstore_info"])
def test_faults_end_in_one_sentence(lab: LabHost, tmp_path: Path, module: str) -> None:
    def run(**options: Any) -> str:
        began = time.monotonic()
        result = run_module(tmp_path, lab.python, module, {"path": "/t", "timeout": 0.5, **options})
        assert time.monotonic() - began < BOUND
        assert result["failed"]
        message: str = result["msg"]
        assert message.startswith("xenstore ")
        assert "\n" not in message
        assert "Traceback" not in result["stdout"]
        return message

    lab.xenstored.stop()
    assert "see whether xenstored is stopped" in run()
    lab.xenstored.cont()
    lab.xenstored.kill()
    assert "ECONNREFUSED" in run()
    assert "ENOENT" in run(socket="/nonexistent")
    assert "neither a socket nor a device" in run(socket="/etc/passwd")
    assert "time limit" in run(timeout=0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "one of the following is required: path, trees"),
        ({"path": "/t", "trees": []}, "mutually exclusive: path|trees"),
        ({"path": "/t", "value": "1", "base64": "AA=="}, "mutually exclusive: value|base64"),
        ({"path": "/t", "socket": "/a", "xenbus": "/b"}, "mutually exclusive: socket|xenbus"),
        ({"path": "/t", "nodes": {"a b": "1"}}, "/t/a b: xenstore paths have no ' '"),
        ({"path": "/t", "nodes": {"a": 4.2}}, "/t/a: the value is the number 4.2; quote it"),
        ({"path": "/local/domain", "state": "absent"}, "/local/domain: is not removed"),
        ({"path": "t"}, "t: the path is not absolute"),
    ],
)
def test_mistakes_through_ansible(lab: LabHost, tmp_path: Path, options: dict[str, Any], says: str) -> None:
    before = lab.ls("/")
    result = run_module(tmp_path, lab.python, "xen.virtio.xenstore", options)
    assert result["failed"]
    assert says in result["msg"]
    assert lab.ls("/") == before
