# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What guest_info says of lab hosts, through the real Ansible, with both daemons and the real xl."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_runs import run_ansible, run_module
from lab import LabHost

LabFactory = Callable[..., LabHost]
Answer = dict[str, Any]


class Host:
    """A lab host with Ansible in front of it."""

    def __init__(self, lab: LabHost, folder: Path) -> None:
        self.lab = lab
        self.folder = folder
        self.image = folder / "image"
        self.image.write_bytes(b"")
        lab.answer_backends()

    def ask(self, **arguments: Any) -> Answer:
        result = run_module(self.folder, self.lab.python, "xen.virtio.guest_info", arguments)
        assert not result["changed"]
        return result

    def guests(self, **arguments: Any) -> dict[str, Answer]:
        result = self.ask(**arguments)
        assert not result["failed"], result["stdout"]
        return {one["name"]: one for one in result["guests"]}

    def write(self, name: str, *disks: str, file: str | None = None, **options: str) -> str:
        """A configuration in the host's /etc/xen; the path that the host has for it."""
        said = {"name": f'"{name}"', "type": '"pvh"', "kernel": f'"{self.image}"', "memory": "64", **options}
        listed = ", ".join(f"'{one}'" for one in disks)
        text = "".join(f"{key} = {value}\n" for key, value in said.items()) + f"disk = [ {listed} ]\n"
        file = file or f"{name}.cfg"
        path = self.lab.root / "etc/xen" / file
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return f"/etc/xen/{file}"

    def create(self, name: str, *disks: str, paused: bool = False, **options: str) -> int:
        path = self.write(name, *disks, **options)
        self.lab.xl("create", *(["-p"] if paused else []), path)
        return int(self.lab.xl("domid", name).stdout)


@pytest.fixture
def host(lab: LabHost, tmp_path: Path) -> Host:
    return Host(lab, tmp_path)


def test_a_guest_of_xl(lab_any: LabHost, tmp_path: Path) -> None:
    host = Host(lab_any, tmp_path)
    host.lab.add_domain("DomD", kind="toolstack")
    disks = (
        f"phy:{host.image},xvda,w,specification=virtio",
        "format=raw, vdev=xvdb, access=r, backend=DomD, specification=virtio, target=/dev/vg/b",
    )
    domid = host.create("domu1", *disks, vcpus="2", maxvcpus="4", on_crash='"destroy"')
    host.lab.xl("list", "-l")  # libxl itself notes dom0's memory the first time
    before = host.lab.ls()
    guest = host.guests()["domu1"]
    assert host.lab.ls() == before
    assert (guest["domid"], guest["made_by"], guest["run_state"]) == (domid, "xl", "running")
    assert (guest["leftover"], guest["reason"], guest["type"]) == (None, None, "pvh")
    assert (guest["maxmem"], guest["maxvcpus"], guest["autostart"]) == (64, 4, False)
    assert [(d["vdev"], d["backend"], d["health"]) for d in guest["disks"]] == [
        ("xvda", "Domain-0", "attached"),
        ("xvdb", "DomD", "attached"),
    ]
    config = guest["config"]
    assert (config["path"], config["others"], config["error"]) == ("/etc/xen/domu1.cfg", [], None)
    declaration = config["declaration"]
    assert {name: declaration[name] for name in ("name", "type", "memory", "vcpus", "maxvcpus", "on_crash")} == {
        "name": "domu1", "type": "pvh", "memory": 64, "vcpus": 2, "maxvcpus": 4, "on_crash": "destroy",
    }  # fmt: skip
    assert [disk["target"] for disk in declaration["disks"]] == [str(host.image), "/dev/vg/b"]
    assert guest["created_from"] is None  # xl does not keep it
    assert "text" not in config


def test_what_a_guest_was_made_from_where_xl_was_told(host: Host) -> None:
    host.create("domu1")
    path = host.write("domu1", memory="96")
    host.lab.xl("config-update", "domu1", path)
    host.write("domu1", memory="128")
    guest = host.guests(texts=True)["domu1"]
    assert guest["created_from"]["declaration"]["memory"] == 96
    assert guest["config"]["declaration"]["memory"] == 128
    assert "memory = 128\n" in guest["config"]["text"]


def test_passwords_are_hidden_until_texts_are_asked_for(host: Host) -> None:
    host.write("domu1", vncpasswd='"s3cret"')
    shown = json.dumps(host.ask(configs=True))
    assert "vncpasswd" in shown
    assert "s3cret" not in shown
    assert "s3cret" in json.dumps(host.ask(configs=True, texts=True))


@pytest.mark.parametrize("state", ["paused", "shutdown", "crashed"])
def test_run_states(host: Host, state: str) -> None:
    kept = {"on_poweroff": '"preserve"', "on_crash": '"preserve"'}
    domid = host.create("domu1", paused=state == "paused", **kept)
    if state != "paused":
        host.lab.shutdown_domain(domid, crashed=state == "crashed")
    guest = host.guests()["domu1"]
    assert (guest["run_state"], guest["leftover"]) == (state, None)
    reasons = {"paused": None, "shutdown": "poweroff", "crashed": "crash"}
    assert guest["reason"] == reasons[state]


def test_what_is_no_guest_any_more_is_recognised(host: Host) -> None:
    """A dying domain, one that only the store remembers, and what a create that was ended half-way left."""
    dying, stale, half = (
        host.create(name, f"phy:{host.image},xvda,r,specification=virtio", paused=True)
        for name in ("dying", "stale", "half")
    )
    host.lab.answer_backends(False)
    host.lab.hypervisor.set_flag(dying, "d", True)
    host.lab.hypervisor.destroy(stale)
    for file in (host.lab.root / "var/lib/xen").glob(f"userdata-d.{half}.*"):
        file.unlink()
    found = {one["domid"]: one for one in host.guests().values()}
    assert (found[dying]["run_state"], found[dying]["leftover"]) == ("dying", "dying")
    assert (found[stale]["run_state"], found[stale]["leftover"]) == ("stale", "stale")
    assert (found[half]["run_state"], found[half]["leftover"]) == ("paused", "unfinished")


def test_dom0less_guests_and_other_toolstacks_are_listed(host: Host) -> None:
    host.lab.add_domain()
    host.lab.add_domain(paused=True)
    host.lab.add_domain("other", kind="toolstack")
    guests = host.guests()
    shown = {name: (one["made_by"], one["run_state"], one["leftover"]) for name, one in guests.items()}
    assert shown == {
        "dom0less-1": ("other", "running", None),
        "dom0less-2": ("other", "paused", None),
        "other": ("other", "running", None),
    }
    assert all(one["config"] is None for one in guests.values())


def test_guests_as_named(host: Host) -> None:
    domid = host.create("domu1")
    uuid = host.guests()["domu1"]["uuid"]
    host.write("domu2", memory="256")
    asked = host.ask(domains=["nobody", "domu2", uuid, domid])["guests"]
    assert [(one["name"], one["domid"], one["run_state"]) for one in asked] == [
        ("nobody", None, "absent"),
        ("domu2", None, "absent"),
        ("domu1", domid, "running"),
        ("domu1", domid, "running"),
    ]
    assert asked[1]["config"]["declaration"]["memory"] == 256
    assert asked[0]["config"] is None


def test_two_domains_of_one_name_are_not_mixed_up(host: Host) -> None:
    for _time in range(2):
        host.lab.add_domain("twin", kind="toolstack")
    refused = host.ask(domains=["twin"])
    assert refused["failed"]
    assert "ambiguous" in refused["msg"]
    assert [one["name"] for one in host.ask()["guests"]] == ["twin", "twin"]


def test_all_configurations(host: Host) -> None:
    host.create("domu1")
    host.write("domu1", file="copy-of-domu1")
    host.write("idle", "phy:/dev/vg/a,xvda,w,specification=virtio", file="some file")
    host.write("broken", memory="[")
    auto = host.lab.root / "etc/xen/auto"
    auto.mkdir(exist_ok=True)
    (auto / "idle").symlink_to("../some file")
    result = host.ask(configs=True)
    [guest] = result["guests"]
    assert guest["config"]["others"] == ["/etc/xen/copy-of-domu1"]
    listed = {one["path"]: (one["name"], one["domid"], one["autostart"]) for one in result["configs"]}
    assert listed == {
        "/etc/xen/copy-of-domu1": ("domu1", guest["domid"], False),
        "/etc/xen/domu1.cfg": ("domu1", guest["domid"], False),
        "/etc/xen/some file": ("idle", None, True),
    }
    idle = result["configs"][-1]
    assert idle["declaration"]["disks"][0]["vdev"] == "xvda"
    [broken] = result["unreadable"]
    assert broken["path"] == "/etc/xen/broken.cfg"
    assert broken["error"]


def test_a_configuration_that_means_nothing_is_named(host: Host) -> None:
    host.write("odd", "phy:/dev/vg/a,xvda,w,speling=virtio")
    [odd] = host.ask(configs=True)["configs"]
    assert odd["declaration"] is None
    assert "odd" in odd["error"] or "speling" in odd["error"]


def test_without_xl_the_rest_is_told(host: Host) -> None:
    host.create("domu1", f"phy:{host.image},xvda,w,specification=virtio", vcpus="2", maxvcpus="4")
    gone = host.create("gone", f"phy:{host.image},xvda,w,specification=virtio")
    host.lab.answer_backends(False)
    host.lab.hypervisor.destroy(gone)
    found = host.ask(xl_path="/nonexistent/xl")["guests"]
    guest = next(one for one in found if one["name"] == "domu1")
    assert (guest["run_state"], guest["memory"], guest["maxmem"]) == ("unknown", 64, 64)
    assert (guest["vcpus"], guest["maxvcpus"]) == (2, 4)
    assert [disk["health"] for disk in guest["disks"]] == ["attached"]
    assert guest["config"]["declaration"]["memory"] == 64
    assert [one["run_state"] for one in found if one["domid"] == gone] == ["stale"]


def test_one_listing_a_call_however_many_guests(host: Host) -> None:
    for number in range(4):
        host.create(f"domu{number}", f"phy:{host.image},xvda,r,specification=virtio")
    calls = host.folder / "calls"
    spy = host.folder / "xl"
    spy.write_text(f'#!/bin/sh\necho "$*" >>{calls}\nexec xl "$@"\n')
    spy.chmod(0o755)
    assert len(host.guests(xl_path=str(spy))) == 4
    said = calls.read_text().splitlines()
    assert (said.count("list"), said.count("list -l")) == (1, 1)
    assert set(said) <= {"list", "list -l", "info"}


def test_an_xl_that_fails_is_told_of(host: Host) -> None:
    host.lab.add_domain("other", kind="toolstack")
    broken = host.folder / "xl"
    broken.write_text("#!/bin/sh\necho 'libxl: no hypervisor' >&2\nexit 1\n")
    broken.chmod(0o755)
    arguments = json.dumps({"xl_path": str(broken)})
    done = run_ansible(
        host.folder, host.lab.python, "ansible", "lab", "-m", "xen.virtio.guest_info", "-a", arguments
    )
    assert done.returncode == 0, done.stdout
    assert '"run_state": "unknown"' in done.stdout
    assert "no hypervisor" in done.stderr


def test_what_the_host_refuses_is_one_sentence(host: Host) -> None:
    assert "quote it" in host.ask(xen=4.2)["msg"]
    host.lab.xenstored.kill()
    gone = host.ask(timeout=0.5)
    assert gone["failed"]
    assert "Traceback" not in gone["stdout"]
