# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Examples of the documentation: they are YAML, and modules, options, variables, playbooks are there that they name."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.loader import module_loader
from ansible_collections.xen.virtio.plugins.filter.preflight import preflight
from ansible_collections.xen.virtio.plugins.module_utils._declaration import parse_guests
from ansible_collections.xen.virtio.plugins.module_utils._guestconfig import declare_guest, split_guest
from ansible_collections.xen.virtio.plugins.module_utils._merge import merge_guests

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
#: Pages whose words are not the code's own.
BY_HAND = [path for path in PAGES if path.parent.name != "messages" and path.name != "releases.md"]
#: A checksum that an example leaves out.
NO_CHECKSUM, A_CHECKSUM = "sha256:…", f"sha256:{'0' * 64}"

Data = Any


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(kind: str) -> list[Block]:
    found = []
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        for match in re.finditer(r"^ *```(\w+)\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL):
            if match[1] == kind:
                line = text.count("\n", 0, match.start()) + 1
                found.append(Block(str(path.relative_to(ROOT)), line, kind, match[2]))
    return found


def load(block: Block) -> Data:
    return yaml.safe_load(block.text.replace(NO_CHECKSUM, A_CHECKSUM))


def nodes(data: Data) -> Iterator[dict[str, Data]]:
    """Every mapping in it, from the outside in."""
    if isinstance(data, dict):
        yield data
        for value in data.values():
            yield from nodes(value)
    elif isinstance(data, list):
        for value in data:
            yield from nodes(value)


def templated(data: Data) -> bool:
    return "{{" in yaml.safe_dump(data)


def names_of(text: str) -> set[str]:
    return set(re.findall(r"\b(?:xen|virtio_disk_backend|guest|dom0)_[a-z0-9_]+", text))


@pytest.fixture(scope="module")
def variables() -> set[str]:
    """What roles and playbooks read of an inventory."""
    known = set()
    for path in ROOT.glob("roles/*/meta/argument_specs.yml"):
        spec = yaml.safe_load(path.read_text(encoding="utf-8"))
        known |= set(spec["argument_specs"]["main"]["options"])
    # an action plugin reads some from the variables of each host itself
    readers = (*(ROOT / "playbooks").rglob("*.yml"), *(ROOT / "plugins/action").glob("*.py"))
    for path in (*readers, ROOT / "roles/guest/tasks/storage.yml"):
        known |= names_of(path.read_text(encoding="utf-8"))
    return known


def spec_of(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A module's argument spec and constraints."""
    module = importlib.import_module(f"ansible_collections.xen.virtio.plugins.modules.{name}")
    found = {
        key: value for key, value in vars(module).items() if key.endswith(("ARGUMENT_SPEC", "CONSTRAINTS"))
    }
    spec = next(value for key, value in found.items() if key.endswith("SPEC"))
    return spec, next((value for key, value in found.items() if key.endswith("CONSTRAINTS")), {})


#: Options of the module guest that are not one guest's.
CALL = frozenset(
    {
        *(
            "guests",
            "accept",
            "targets",
            "images_dir",
            "socket",
            "xenbus",
            "xl_path",
            "xen",
            "timeout",
            "rollback",
        ),
        *("backup", "wait_timeout", "settle", "shutdown_timeout", "create_timeout", "lock_timeout"),
    }
)

YAML = blocks("yaml")
CALLS = [
    pytest.param(key.removeprefix("xen.virtio."), node[key], id=f"{block}-{key}")
    for block in YAML
    for node in nodes(load(block))
    for key in node
    if str(key).startswith("xen.virtio.")
]


@pytest.mark.parametrize("block", YAML, ids=str)
def test_a_block_is_yaml_and_its_modules_are_there(block: Block) -> None:
    for node in nodes(load(block)):
        for key in node:
            if str(key).startswith("ansible.builtin."):
                assert module_loader.has_plugin(str(key)) or key == "ansible.builtin.import_playbook", key


@pytest.mark.parametrize(("name", "arguments"), CALLS)
def test_a_module_takes_its_options(name: str, arguments: dict[str, Data]) -> None:
    spec, constraints = spec_of(name)
    options = {key: value for key, value in (arguments or {}).items() if not templated(value)}
    assert set(arguments or {}) <= set(spec)
    names = ("mutually_exclusive", "required_together", "required_one_of", "required_if", "required_by")
    if options == arguments:
        told = {key: value for key, value in constraints.items() if key in names}
        assert ArgumentSpecValidator(spec, **told).validate(options).error_messages == []
    if name == "disk" and not templated(arguments):
        parse_guests({"exclusive": False, **arguments}, absent=arguments.get("state") == "absent")
    if name == "guest" and "kernel" in options:
        config, _ours = split_guest({key: value for key, value in options.items() if key not in CALL})
        declare_guest(config)


@pytest.mark.parametrize("block", YAML, ids=str)
def test_guests_of_an_inventory_are_guests(block: Block) -> None:
    data = load(block)
    for node in nodes(data):
        if "xen_guests" not in node and "xen_guest_overrides" not in node:
            continue
        overrides = node.get("xen_guest_overrides", {})
        if templated(overrides) or isinstance(node.get("xen_guests"), str):
            continue
        bare = {name: {"kernel": "/boot/Image"} for name in overrides}
        defaults = {"memory": 256, **node.get("xen_guest_defaults", {})}
        guests = merge_guests(node.get("xen_guests", bare), defaults, overrides)
        found = preflight(guests, "4.20", {"DomD": None, **node.get("xen_driver_domains", {})})
        assert [one["message"] for one in found if one["severity"] == "error"] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_of_the_collection_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    there = {"all"}
    eda = ("extensions/eda/plugins/event_source/*.py", "extensions/eda/rulebooks/*.yml")
    for pattern in ("plugins/*/[a-z]*.py", "playbooks/*.yml", "roles/*", *eda):
        there |= {path.stem for path in ROOT.glob(pattern)}
    named = set(re.findall(r"\bxen\.virtio\.([a-z][a-z_0-9]*)", text))
    assert named - there == set()


@pytest.mark.parametrize("page", BY_HAND, ids=lambda path: str(path.relative_to(ROOT)))
def test_variables_are_read_by_somebody(page: Path, variables: set[str]) -> None:
    text = page.read_text(encoding="utf-8")
    told = {name for code in re.findall(r"`([^`\n]+)`", text) for name in names_of(code)}
    for block in YAML:
        if block.page == str(page.relative_to(ROOT)):
            told |= {str(key) for node in nodes(load(block)) for key in node if names_of(str(key)) == {key}}
    strange = {name for name in told - variables - OTHERS if name[-1] != "_"}
    assert strange - {path.stem for path in ROOT.glob("plugins/*/*.py")} == set()


#: What looks like a variable of an inventory and is a word of ours or of others.
OTHERS = frozenset(
    {
        "guest_volume_sizes",
        "guest_watch",
        "xen_domain",
        "xen_host",
        "xen_audit",
        "xen_driver_domain",
        "xen_guest",
        "xen_unread",
        "xen_iommu",
        "xen_privcmd",
        "xen_dom0",
    }
)


@pytest.mark.parametrize("block", blocks("console"), ids=str)
def test_commands_name_playbooks_and_variables_that_are_there(block: Block, variables: set[str]) -> None:
    playbooks = {path.stem for path in (ROOT / "playbooks").glob("*.yml")}
    for line in block.text.replace("\\\n", " ").splitlines():
        command = line.removeprefix("$ ").partition("   #")[0]
        if not re.match(r"ansible(-playbook)? ", command):
            continue
        words = shlex.split(command)
        named = [word.removeprefix("xen.virtio.") for word in words if word.startswith("xen.virtio.")]
        modules = {path.stem for path in (ROOT / "plugins/modules").glob("*.py")}
        assert set(named) <= (playbooks if words[0] == "ansible-playbook" else modules)
        for flag, said in zip(words, words[1:]):
            if flag == "-e":
                given = set(yaml.safe_load(said)) if said.startswith("{") else {said.partition("=")[0]}
                assert given - variables <= {"dest"}
