# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An execution environment up to the container: its build context, what it installs, and runs as AWX does them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.xen.virtio.plugins.module_utils._launcher import VERSION
from ansible_runs import ROOT, environment
from boards import prepared
from guests import create
from lab import LabHost
from role_runs import CONNECTIONS, Fleet

BIN = Path(sys.executable).parent
FOLDER = Path("extensions/execution-environment")
DEFINITION = yaml.safe_load((ROOT / FOLDER / "execution-environment.yml").read_text())
Json = dict[str, Any]


def run(program: str, *arguments: object, folder: Path, **more: str) -> str:
    """One of Ansible's programs, to a good end; what it printed."""
    done = subprocess.run(
        [str(BIN / program), *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        cwd=folder,
        env={**environment(folder), "PATH": f"{BIN}:{os.environ['PATH']}", **more},
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The build context that ansible-builder makes of the collection's tarball, all of it in a folder of its own."""
    folder = tmp_path_factory.mktemp("environment")
    run("ansible-galaxy", "collection", "build", "--output-path", folder, ROOT, folder=folder)
    shutil.copytree(ROOT / FOLDER, folder / FOLDER)
    definition = folder / FOLDER / "execution-environment.yml"
    made = folder / "context"
    run(
        "ansible-builder",
        "create",
        "-f",
        definition,
        "-c",
        made,
        "--output-filename",
        "Containerfile",
        folder=folder,
    )
    return made


@pytest.fixture(scope="module")
def installed(context: Path) -> Path:
    """The collection as the image has it: installed by the command that the image's build runs, where it runs it."""
    place = context.parent / "collections"
    galaxy = ["collection", "install", "--offline", "-r", "requirements.yml", "--collections-path"]
    run("ansible-galaxy", *galaxy, place, folder=context / "_build", ANSIBLE_COLLECTIONS_PATH=str(place))
    return place


def test_it_is_of_the_version_that_is_built() -> None:
    """A release that forgets it is told here, and not by whoever builds an image."""
    version = yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"]
    tarball = f"xen-virtio-{version}.tar.gz"
    assert DEFINITION["dependencies"]["galaxy"]["collections"][0]["name"] == f"collections/{tarball}"
    assert DEFINITION["additional_build_files"][0]["src"] == f"../../{tarball}"


def test_a_build_context_is_made(context: Path) -> None:
    version = yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"]
    assert (context / f"_build/collections/xen-virtio-{version}.tar.gz").exists()
    steps = (context / "Containerfile").read_text()
    for word in (
        DEFINITION["images"]["base_image"]["name"],
        "ansible-galaxy collection install",
        "introspect.py introspect --write-bindep",
        "/output/scripts/assemble",
    ):
        assert word in steps


def test_what_the_collection_asks_of_an_environment(installed: Path, tmp_path: Path) -> None:
    """As the image's build finds it out, and installs it."""
    found = tmp_path / "bindep.txt"
    needed = tmp_path / "requirements.txt"
    run(
        "ansible-builder",
        "introspect",
        "--write-bindep",
        found,
        "--write-pip",
        needed,
        installed,
        folder=tmp_path,
    )
    system = [line.split(" #")[0] for line in found.read_text().splitlines()]
    assert {line.strip() for line in system} == {
        "openssh-clients [platform:rpm]",
        "openssh-client [platform:dpkg]",
    }
    packages = needed.read_text().split("\n") if needed.exists() else []
    assert [line for line in packages if line.strip() and not line.startswith("#")] == []
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv/bin/python"
    given = installed / "ansible_collections/xen/virtio/meta/ee-requirements.txt"
    run(
        "python", "-m", "pip", "--python", python, "install", "-q", "--no-index", "-r", given, folder=tmp_path
    )


class Runner:
    """A folder as ansible-runner takes it and AWX fills it, with project, inventory, variables; what a run left."""

    def __init__(self, folder: Path, installed: Path, host: LabHost) -> None:
        self.folder = folder
        self.fleet = Fleet(folder / "controller", b01=host)
        self.fleet.apart = True
        self.fleet.variables = {
            "xen_driver_domains": {"DomD": {"launcher": True}},
            "xen_guests": [
                {
                    "name": "linux1",
                    "type": "pvh",
                    "kernel": host.kernel,
                    "memory": 64,
                    "disks": [{"vdev": "xvda", "target": "/dev/vg/linux1-a", "backend": "DomD"}],
                }
            ],
        }
        for name in ("project", "env"):
            (folder / name).mkdir(parents=True)
        self.settings = {
            **{key: value for key, value in environment(folder).items() if key.startswith("ANSIBLE_")},
            "ANSIBLE_COLLECTIONS_PATH": str(installed),
            "ANSIBLE_CONNECTION_PLUGINS": str(CONNECTIONS),
        }
        (folder / "env/envvars").write_text(json.dumps(self.settings))
        self.fleet.write()
        (folder / "inventory").symlink_to(self.fleet.inventory)

    def playbook(self, *plays: Json, **extra: Any) -> Json:
        """The event with which a run ended; job templates name a playbook of a project."""
        (self.folder / "project/play.json").write_text(json.dumps(plays))
        (self.folder / "env/extravars").write_text(json.dumps(extra))
        artifacts = self.folder / "artifacts/one"
        shutil.rmtree(artifacts, ignore_errors=True)
        run(
            "ansible-runner",
            "run",
            self.folder,
            "-p",
            "play.json",
            "--ident",
            "one",
            "-q",
            folder=self.folder,
        )
        assert (artifacts / "status").read_text() == "successful"
        events = [json.loads(path.read_text()) for path in (artifacts / "job_events").glob("*.json")]
        self.tasks = {one["event_data"].get("task") for one in events}
        (end,) = [one for one in events if one["event"] == "playbook_on_stats"]
        return dict(end["event_data"])


@pytest.fixture
def runner(lab: LabHost, installed: Path, tmp_path: Path) -> Runner:
    prepared(lab)
    lab.write("/local/domain/1/drivers/virtio-disk/launcher", VERSION)
    create(lab, "linux1", 1)
    return Runner(tmp_path / "run", installed, lab)


def test_an_audit_and_its_figures(runner: Runner, tmp_path: Path) -> None:
    """What `set_stats` hands on is what AWX gives to the next job of a workflow."""
    end = runner.playbook(
        {"ansible.builtin.import_playbook": "xen.virtio.audit"},
        xen_audit_dest=str(tmp_path / "kept"),
        xen_audit_max_severity="none",
    )
    assert end["artifact_data"]["xen_audit"]["hosts"]["total"] == 1
    assert (
        end["artifact_data"]["xen_audit"] == json.loads((tmp_path / "kept/audit.json").read_text())["summary"]
    )
    assert "Look at the host" in runner.tasks
    assert not end["failures"]


def test_disks_by_a_project_of_its_own(runner: Runner, lab: LabHost) -> None:
    """The collection is the installed one; a second run changes nothing."""
    domid = lab.add_domain()
    disk = {"vdev": "xvdb", "target": "/dev/vg/other", "backend": "DomD"}
    task = {"xen.virtio.disk": {"domain": f"{domid}", "disks": ["{{ disk }}"]}}
    play = {"hosts": "xen_dom0", "gather_facts": False, "tasks": [task]}
    assert runner.playbook(play, disk=disk)["changed"] == {"b01": 1}
    assert not runner.playbook(play, disk=disk)["changed"]


def test_declared_guests_as_an_inventory_update(runner: Runner) -> None:
    """With no connection: AWX gives an inventory update no credential of a machine."""
    inventory = runner.fleet.inventory
    (inventory / "hosts.json").write_text(
        json.dumps(
            {"all": {"children": {"xen_dom0": {"hosts": {"b01": {"ansible_connection": "xen.none.such"}}}}}}
        )
    )
    source = inventory / "zz.xen.yml"
    source.write_text(json.dumps({"plugin": "xen.virtio.domains", "source": "declared"}))
    said = run(
        "ansible-inventory",
        *("-i", inventory / "hosts.json", "-i", source, "--list", "--export"),
        folder=runner.folder,
        **runner.settings,
    )
    assert json.loads(said)["xen_guest"]["hosts"] == ["b01-linux1"]
