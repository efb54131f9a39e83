# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Roles: READMEs, argument specs and defaults say the same, and inputs that roles share mean one thing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import role_docs
import yaml

ROLES = role_docs.roles()
NAMES = [role.name for role in ROLES]


def options(role: Path) -> dict[str, Any]:
    spec = yaml.safe_load((role / "meta/argument_specs.yml").read_text(encoding="utf-8"))
    return dict(spec["argument_specs"]["main"]["options"])


@pytest.mark.parametrize("role", ROLES, ids=NAMES)
def test_the_readme_is_made_from_the_argument_specs(role: Path) -> None:
    told = (role / "README.md").read_text(encoding="utf-8")
    assert told == role_docs.readme(role), "run: python tests/role_docs.py"


@pytest.mark.parametrize("role", ROLES, ids=NAMES)
def test_defaults_are_those_of_the_argument_specs(role: Path) -> None:
    defaults = yaml.safe_load((role / "defaults/main.yml").read_text(encoding="utf-8"))
    known = options(role)
    own = {name for name in known if name.startswith(f"{role.name}_")}
    assert set(defaults) == own
    said = {name: known[name]["default"] for name in own if "default" in known[name]}
    assert {name: defaults[name] for name in said} == said
    # a default that the specs cannot say is worked out
    assert all("{{" in str(defaults[name]) for name in own - set(said))


@pytest.mark.parametrize("role", ROLES, ids=NAMES)
def test_inputs_that_roles_share_have_no_default_and_are_one(role: Path) -> None:
    mine = {name: option for name, option in options(role).items() if not name.startswith(f"{role.name}_")}
    for name, option in mine.items():
        assert name.startswith("xen_")
        assert "default" not in option
        for other in ROLES:
            assert options(other).get(name, option) == option, f"{name} of {other.name}"
