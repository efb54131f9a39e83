# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Molecule says "Missing playbook" of a step that it passes over, and that all is well."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).resolve().parents[2] / "extensions/molecule"
SCENARIOS = {path.parent.name: path for path in sorted(FOLDER.glob("*/molecule.yml"))}


def steps(name: str) -> list[str]:
    return list(yaml.safe_load(SCENARIOS[name].read_text())["scenario"]["test_sequence"])


def shared() -> dict[str, Any]:
    return dict(yaml.safe_load((FOLDER / "config.yml").read_text()))


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_step_of_a_scenario_has_its_playbook(name: str) -> None:
    folder = SCENARIOS[name].parent
    own_words = yaml.safe_load(SCENARIOS[name].read_text())
    playbooks = {**shared()["ansible"]["playbooks"], **own_words.get("ansible", {}).get("playbooks", {})}
    for step in steps(name):
        command, *own = step.split()
        usual = playbooks.get(command, "converge.yml" if command == "idempotence" else f"{command}.yml")
        assert all((folder / file).is_file() for file in [usual, *own]), step
        # the usual playbook of a side effect is there for molecule's sake, and does nothing
        assert own or command != "side_effect", step


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_playbook_of_a_scenario_is_a_step(name: str) -> None:
    folder = SCENARIOS[name].parent
    named = {word for step in steps(name) for word in step.split()}
    assert {path.name for path in folder.glob("*.yml")} - {"molecule.yml"} == {
        f"{word.removesuffix('.yml')}.yml"
        for word in named - {"create", "destroy", "idempotence", "side_effect"}
    }


def test_every_file_can_be_read() -> None:
    """Ansible passes over an inventory that it cannot read, and finds a task's fault when it comes to it."""
    for path in sorted(FOLDER.rglob("*.yml")):
        assert yaml.safe_load(path.read_text()), path


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_shares_the_machines(name: str) -> None:
    """The first and the last step are the scenario default's, which it passes on to all."""
    listed = steps(name)
    assert (listed[0], listed[-1]) == ("create", "destroy")
    # one flag for all scenarios says that they are prepared: the second one would be passed over
    assert "prepare" not in listed
    own_words = yaml.safe_load(SCENARIOS[name].read_text())
    assert "shared_state" not in own_words


def test_there_are_scenarios() -> None:
    assert set(SCENARIOS) == {"backend", "default", "disk", "faults", "fleet", "guest"}
    assert steps("default") == ["create", "destroy"]
    assert shared()["shared_state"] is True


def test_every_scenario_has_a_lane() -> None:
    lanes = runpy.run_path(str(FOLDER.parents[1] / "tests/molecule.py"))["LANES"]
    assert sorted([name for names in lanes for name in names] + ["default"]) == sorted(SCENARIOS)


def test_lanes_have_no_machine_in_common() -> None:
    """The boards of a fleet, a host with a backend that serves, and one where it is played."""
    machines = {
        r"\bb[1-8]\b|lab_boards": {"fleet"},
        r"(?:hosts|delegate_to): (?:dom0|domd|virtio_disk_backends)\b|\bsite, (?:dom0|domd)\b": {"backend"},
        r"\bb0\b": {"disk", "guest", "faults"},
    }
    for machine, scenarios in machines.items():
        naming = {
            name
            for name, path in SCENARIOS.items()
            if any(re.search(machine, playbook.read_text()) for playbook in path.parent.rglob("*.yml"))
        }
        assert naming == scenarios, machine
