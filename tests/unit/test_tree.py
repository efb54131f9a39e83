# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to hold over files of the whole tree: one version in all places, a reason beside each silenced rule."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.xen.virtio.plugins.module_utils._launcher import VERSION

ROOT = Path(__file__).resolve().parents[2]

#: Where the version of the collection stands, and how often; what has it from there is not named.
VERSIONS = [
    ("galaxy.yml", r"^version: (.+)$", 1),
    ("plugins/module_utils/_launcher.py", r'^VERSION = "(.+)"$', 1),
    ("extensions/execution-environment/execution-environment.yml", r"xen-virtio-([^/]+)\.tar\.gz", 2),
]


@pytest.mark.parametrize(
    ("path", "pattern", "times"), VERSIONS, ids=[path for path, _pattern, _times in VERSIONS]
)
def test_every_place_has_the_same_version(path: str, pattern: str, times: int) -> None:
    found = re.findall(pattern, (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)
    assert found == [VERSION] * times


def test_what_is_told_of_a_host_is_compared_with_the_codes_own() -> None:
    """A release changes the version in the places above, and in no test or page."""
    places = [
        str(path.relative_to(ROOT))
        for folder in ("tests/system", "tests/pages", "docs/messages")
        for path in (ROOT / folder).rglob("*.*")
        if path.suffix in (".py", ".yml", ".md") and VERSION in path.read_text(encoding="utf-8")
    ]
    assert places == []


FOLDERS = ("playbooks", "roles", "extensions")
SILENCED = [
    (path.relative_to(ROOT), number, line)
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*.yml"))
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    if "# noqa" in line
]


@pytest.mark.parametrize(
    ("path", "number", "line"), SILENCED, ids=[f"{path}:{number}" for path, number, _line in SILENCED]
)
def test_a_rule_is_silenced_by_name_and_for_a_reason(path: Path, number: int, line: str) -> None:
    assert re.search(r"# (\S+ ){2,}# noqa: [a-z-]+(\[[a-z-]+\])?$", line), f"{path}:{number}: {line.strip()}"


#: Modules that show options of guests, in plays of ours.
SHOWING = ("xen.virtio.guest", "xen.virtio.fleet_info")


def tasks(node: object) -> Iterator[Mapping[str, Any]]:
    """Every mapping of a file of plays or tasks that calls one of them."""
    if isinstance(node, dict):
        if set(SHOWING) & set(node):
            yield node
        for value in node.values():
            yield from tasks(value)
    elif isinstance(node, list):
        for value in node:
            yield from tasks(value)


CALLS = [
    (path.relative_to(ROOT), name, task[name])
    for folder in ("playbooks", "roles")
    for path in sorted((ROOT / folder).rglob("*.yml"))
    for task in tasks(yaml.safe_load(path.read_text(encoding="utf-8")))
    for name in SHOWING
    if name in task
]


@pytest.mark.parametrize(
    ("path", "name", "options"), CALLS, ids=[f"{path}-{name}" for path, name, _options in CALLS]
)
def test_what_the_inventory_hides_no_play_shows(path: Path, name: str, options: Mapping[str, Any]) -> None:
    if options.get("side") == "backend":
        return  # a driver domain has no guests of its own
    assert "xen_hidden" in options.get("hidden", ""), f"{path}: {name}"


FILTERS = sorted((ROOT / "plugins/filter").glob("*.py"))


@pytest.mark.parametrize("path", FILTERS, ids=[path.stem for path in FILTERS])
def test_a_filter_imports_nothing_of_ours_before_it_is_called(path: Path) -> None:
    """To find one filter Ansible loads all of a collection, and that in the process of each task."""
    at_once = [
        node
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom)
        and (node.level or (node.module or "").startswith("ansible_collections"))
    ]
    assert at_once == [], f"{path.name}: import within the function"
