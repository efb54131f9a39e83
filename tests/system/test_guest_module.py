# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module guest through the real Ansible, and guests that come up with their host."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_runs import run_module
from boards import prepared
from guest_calls import BASE, disk, guest
from guests import domid_of, until
from lab import LabHost
from provisioning import provision
from test_guest import LabFactory

TWO = guest("linux1", disk("xvda", "/dev/vg/a"), disk("xvdb", "/dev/vg/b", access="ro"))
UNIT = "etc/systemd/system/xen-virtio-guest@linux1.service"


class Host:
    """A lab host with Ansible in front of it."""

    def __init__(self, lab: LabHost, folder: Path) -> None:
        self.lab, self.folder = lab, folder

    def guest(self, *flags: str, **arguments: Any) -> dict[str, Any]:
        return run_module(self.folder, self.lab.python, "xen.virtio.guest", arguments, *flags)


@pytest.fixture
def host(lab: LabHost, tmp_path: Path) -> Host:
    return Host(prepared(lab), tmp_path)


def test_a_task_from_check_mode_to_absent(host: Host) -> None:
    planned = host.guest("--check", "--diff", **TWO)
    assert planned["changed"]
    assert "+name = " in planned["stdout"]
    assert "/etc/xen/linux1.cfg" in planned["stdout"]
    assert domid_of(host.lab, "linux1") is None
    done = host.guest(**TWO)
    assert done["changed"], done
    assert [one["health"] for one in done["guests"][0]["disks"]] == ["attached", "attached"]
    assert not host.guest(**TWO)["changed"]
    refused = host.guest("--check", "--diff", **{**TWO, "memory": 128})
    assert refused["failed"]
    assert [one["option"] for one in refused["guests"][0]["differences"]["config"]] == ["memory"]
    assert refused["guests"][0]["recreate_reasons"]
    reported = host.guest(**{**TWO, "memory": 128}, recreate="report")
    assert not reported["failed"]
    again = host.guest(**{**TWO, "memory": 128}, recreate="allowed")
    assert again["guests"][0]["action"] == "recreated", again
    gone = host.guest(name="linux1", state="absent")
    assert gone["changed"], gone
    assert not host.guest(name="linux1", state="absent")["changed"]


def test_what_is_hidden_is_in_no_difference_and_no_result(host: Host) -> None:
    first, second = (
        guest("linux1", cmdline=f"key=s3cret-{number}", extra_config={"keymap": f"s3cret-{number}"})
        for number in (1, 2)
    )
    hidden = ["cmdline", "extra_config.keymap"]
    asked = {"recreate": "report", "hidden": hidden}
    told = [
        host.guest("--check", "--diff", **first, **asked),
        host.guest("--diff", **first, **asked),
        host.guest("--check", "--diff", **second, **asked),
        host.guest("--diff", **second, hidden=hidden),
        host.guest("--diff", **second, **asked),
    ]
    assert [one["failed"] for one in told] == [False, False, False, True, False]
    assert [one for one in told if "s3cret" in json.dumps(one)] == []
    assert '+cmdline = "********"' in told[0]["stdout"]
    assert "+# file: cmdline: ******** (another one)" in told[2]["stdout"]
    assert "+# domain: cmdline: ******** (another one)" in told[2]["stdout"]
    assert "cmdline: ******** -> ********" in told[2]["guests"][0]["recreate_reasons"]
    assert "key=s3cret-2" in (host.lab.root / "etc/xen/linux1.cfg").read_text()
    shown = host.guest("--check", "--diff", **first, recreate="report")
    assert "key=s3cret-2" in shown["stdout"]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"name": "linux1", "memory": "much"}, "memory"),
    ({"name": "linux1", "hidden": ["cmdlin"]}, "did you mean cmdline?"),
    ({"guests": {"linux1": {"memmory": 64}}}, "did you mean memory"),
    ({"guests": [{"memory": 64}]}, "needs a name"),
    ({"guests": {"linux1": {"state": "up"}}}, "state is one of"),
    ({"guests": {"linux1": {"autostart": "maybe"}}}, "autostart is true or false"),
    ({"guests": [{"name": "a"}, {"name": "a"}]}, "declared twice"),
    ({"guests": [{"name": "a", "path": "/x.cfg"}, {"name": "b", "path": "/x.cfg"}]}, "share the path"),
    ({"guests": {"a": {"content": "name='a'", "memory": 3}}}, "content is a whole configuration"),
    ({"guests": {"a": {"path": "etc/a"}}}, "absolute path"),
    ({"guests": {"../a": {"memory": 3}}}, "name"),
    ({"guests": "linux1"}, "a list of guests or a mapping"),
    ({"name": "linux1", "kernel": {"src": "/boot/Image"}}, "checksum"),
    ({"name": "linux1", "kernel": {"src": "/boot/Image", "checksum": "sha256:12"}}, "checksum"),
    ({"name": "linux1", "settle": -1}, "settle"),
    ({"name": "linux1", "guests": []}, "mutually exclusive"),
    ({}, "one of the following is required"),
    ({**guest("linux1", disk(backend="DomX"))}, "DomX"),
    ({**guest("linux1", disk(), disk())}, "devid-duplicate"),
    ({"name": "linux1", "cmdline": "a\nb"}, "cmdline"),
]


def test_what_cannot_be_meant_is_refused_with_a_sentence(host: Host) -> None:
    for arguments, words in WRONG:
        told = host.guest(**arguments)
        assert told["failed"], arguments
        assert words in json.dumps(told), (arguments, told["msg"])
        assert "Traceback" not in told["stdout"], arguments
    assert [one.domid for one in host.lab.hypervisor.domains()] == [0, 1]
    assert not list((host.lab.root / "etc/xen").glob("*.cfg"))


def test_the_disks_are_those_that_module_disk_writes(host: Host) -> None:
    """On Arm libxl gives out base and irq; in the lab it writes 0 for both."""
    done = host.guest(**TWO)
    theirs = done["guests"][0]["domid"]
    ours = host.lab.add_domain("elsewhere", kind="toolstack")
    before = {path: node for path, node in host.lab.ls("/").items() if "virtio_disk" in path}
    result = provision(
        host.lab,
        {"domain": "elsewhere", "disks": [disk("xvdc", "/dev/vg/c"), disk("xvdd", "/dev/vg/d", access="ro")]},
        xen="4.17",
    )
    assert result.changed
    written = {
        path: node for path, node in host.lab.ls("/").items() if "virtio_disk" in path and path not in before
    }

    def shaped(
        nodes: dict[str, tuple[bytes, tuple[str, ...]]], domid: int, names: dict[str, str]
    ) -> dict[str, Any]:
        found = {}
        for path, (value, perms) in nodes.items():
            if f"/{domid}/" not in path or path.endswith(("/base", "/irq", "/state")):
                continue
            text = "|".join([path, value.decode(), *perms]).replace(f"/{domid}/", "/D/")
            for mine, common in names.items():
                text = text.replace(mine, common)
            text = text.replace(f"r{domid}", "rD").replace(f"n{domid}", "nD")
            key, _bar, rest = text.partition("|")
            found[key] = "D" if key.endswith("frontend-id") else rest
        return found

    assert shaped(before, theirs, {"51712": "A", "51728": "B", "xvda": "a", "xvdb": "b"}) == {
        key: value.replace("/dev/vg/c", "/dev/vg/a").replace("/dev/vg/d", "/dev/vg/b")
        for key, value in shaped(
            written, ours, {"51744": "A", "51760": "B", "xvdc": "a", "xvdd": "b"}
        ).items()
    }


# --- with the host ---------------------------------------------------------------------------------------


@pytest.fixture(params=["c", "o"], ids=["xenstored", "oxenstored"])
def cold(request: pytest.FixtureRequest, lab_factory: LabFactory, tmp_path: Path) -> Host:
    """A host whose driver domain comes back with every boot."""
    lab = lab_factory(daemon=request.param)
    lab.answer_backends()
    lab.guest_answers()
    lab.add_domain("DomD", kind="toolstack", ready=["virtio-disk"], at_boot=True)
    return Host(lab, tmp_path)


def test_guests_come_up_with_their_host(cold: Host) -> None:
    lab = cold.lab
    guests = [TWO, guest("linux 2", disk("xvdc", "/dev/vg/c")), guest("linux3", disk("xvdd", "/dev/vg/d"))]
    declared = {"guests": [{**one, "autostart": one["name"] != "linux3"} for one in guests]}
    assert cold.guest("--check", **declared)["changed"]
    assert not (lab.root / UNIT).exists()
    done = cold.guest(**declared)
    assert not done["failed"], done["msg"]
    assert not cold.guest(**declared)["changed"]
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(lab.root / UNIT)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    ran = lab.reboot()
    assert sorted((one.unit, one.returncode) for one in ran) == [
        ("xen-virtio-guest@linux1.service", 0),
        (r"xen-virtio-guest@linux\x202.service", 0),
    ], ran
    assert {name for name in ("linux1", "linux 2", "linux3") if domid_of(lab, name)} == {"linux1", "linux 2"}
    rest = {"guests": declared["guests"][:2]}
    again = cold.guest(**rest)
    assert not again["changed"], again
    assert [one["health"] for found in again["guests"] for one in found["disks"]] == ["attached"] * 3

    off = cold.guest(name="linux1", autostart=False)
    assert off["changed"]
    assert not (lab.root / UNIT).exists()
    assert domid_of(lab, "linux1") is not None
    assert cold.guest(name="linux 2", state="absent")["changed"]
    left = [path.name for path in (lab.root / "etc/systemd").rglob("*xen-virtio-guest*")]
    assert left == []
    assert not (lab.root / "usr/local/lib/xen-virtio/guests.pyz").exists()


def test_a_guest_waits_for_its_backend_at_boot(cold: Host) -> None:
    lab = cold.lab
    assert not cold.guest(**TWO, autostart=True)["failed"]
    status = "/local/domain/1/drivers/virtio-disk/status"
    lab.write(status, "dead")
    assert not cold.guest(name="linux1", state="shutdown")["failed"]
    command = [
        lab.python,
        "/usr/local/lib/xen-virtio/guests.pyz",
        "/var/lib/xen-virtio/autostart/linux1.json",
    ]
    late = subprocess.run([*command, "1"], capture_output=True, text=True, check=False, timeout=60)
    assert late.returncode == 1
    assert "backend DomD" in late.stdout
    assert "'dead'" in late.stdout
    assert domid_of(lab, "linux1") is None
    with subprocess.Popen([*command, "60"], stdout=subprocess.PIPE, text=True) as waiting:
        assert waiting.stdout is not None
        assert "waiting" in waiting.stdout.readline()
        assert domid_of(lab, "linux1") is None
        lab.write(status, "ready")
        assert waiting.wait(60) == 0
    assert until(lambda: domid_of(lab, "linux1") is not None)
    assert subprocess.run([*command, "5"], check=False, timeout=60).returncode == 0  # it runs already


def test_a_failed_start_at_boot_leaves_nothing_and_says_so(cold: Host) -> None:
    assert not cold.guest(**TWO, autostart=True)["failed"]
    cold.lab.backend_behaves("never", devid=51728)
    (done,) = cold.lab.reboot()
    assert done.returncode == 1
    assert "FAILED linux1: " in done.output
    assert "xvdb" in done.output
    assert domid_of(cold.lab, "linux1") is None


def test_what_every_guest_of_these_tests_has(host: Host) -> None:
    """The base of all declarations is itself a guest."""
    assert host.guest("--check", name="linux1", **BASE)["changed"]
