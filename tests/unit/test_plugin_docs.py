# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What modules and plugins say of themselves: complete, and true of the code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from ansible.plugins.loader import fragment_loader, module_loader
from ansible.utils.plugin_docs import get_docstring
from jinja2 import Environment, nodes
from plugin_docs import FILTERS, GROUP, MODULES, PLUGINS, Json, Plugin, spec_of

#: Modules that ask no store, and so take none of the options that the action group is for.
ALONE = {"backend_launcher", "fleet_audit", "storage_info"}
COMMON = {"socket", "xenbus", "timeout"}
RELEASE = "0.1.0"
#: Keys of a task whose text is an expression without braces.
EXPRESSIONS = {"that", "when", "failed_when", "changed_when", "until"}
#: Words of a task that are no module.
KEYWORDS = {
    *("name", "register", "vars", "loop", "loop_control", "delegate_to", "run_once", "check_mode", "diff"),
    *("ignore_errors", "ignore_unreachable", *EXPRESSIONS),
}

every_plugin = pytest.mark.parametrize("plugin", PLUGINS, ids=str)
every_module = pytest.mark.parametrize("module", MODULES, ids=str)


# --- what there is to be --------------------------------------------------------------------------------


@every_plugin
def test_it_is_complete(plugin: Plugin) -> None:
    assert plugin.doc["version_added"] == RELEASE
    assert plugin.doc["short_description"]
    assert plugin.doc["seealso"]
    assert plugin.examples
    assert plugin.returns or plugin.kind == "inventory"


def links(data: Any) -> Iterator[tuple[str, str]]:
    """What it points to: kind and name."""
    for one in data.doc["seealso"]:
        if "module" in one:
            yield "module", one["module"]
        elif "plugin" in one:
            yield one["plugin_type"], one["plugin"]


@every_plugin
def test_what_it_points_to_is_there_and_something_else(plugin: Plugin) -> None:
    there = {(one.kind, f"xen.virtio.{one.name}") for one in PLUGINS}
    assert set(links(plugin)) <= there - {(plugin.kind, f"xen.virtio.{plugin.name}")}


@every_module
def test_attributes(module: Plugin) -> None:
    told = module.doc["attributes"]
    wanted = {"check_mode", "diff_mode", "idempotent", "platform"}
    assert set(told) == wanted | ({"action_group"} if module.name in GROUP else set())
    assert all(one["description"] for one in told.values())
    assert {one["support"] for one in told.values()} <= {"full", "none", "N/A"}
    assert told["check_mode"]["support"] == "full"
    assert told["idempotent"]["support"] == "full"
    assert told["platform"]["platforms"] == ("posix" if module.name == "fleet_audit" else "Linux with Xen")
    if module.name.endswith(("_info", "_watch")):
        assert told["diff_mode"]["support"] == "N/A"


def without_a_sample(data: Json, path: str) -> Iterator[str]:
    """Values of RETURN that show nothing of what they are."""
    for key, value in data.items():
        where = f"{path}.{key}"
        if "contains" in value:
            yield from without_a_sample(value["contains"], where)
        elif "sample" not in value:
            yield where


@every_plugin
def test_every_value_has_a_sample(plugin: Plugin) -> None:
    assert list(without_a_sample(plugin.returns, plugin.name)) == []


KINDS = {
    "str": str,
    "string": str,
    "int": int,
    "integer": int,
    "float": float,
    "bool": bool,
    "list": list,
    "dict": dict,
    "dictionary": dict,
}


def of_another_type(data: Json, path: str) -> Iterator[str]:
    """Samples that are not of the type that is told; null is every type's."""
    for key, value in data.items():
        where = f"{path}.{key}"
        sample = value.get("sample")
        if sample is not None and not isinstance(sample, KINDS[value["type"]]):
            yield where
        yield from of_another_type(value.get("contains", {}), where)


@every_plugin
def test_samples_are_what_they_are_samples_of(plugin: Plugin) -> None:
    assert list(of_another_type(plugin.returns, plugin.name)) == []


# --- the action group -----------------------------------------------------------------------------------


def test_the_group_is_all_modules_but_those_that_ask_no_store() -> None:
    assert len(GROUP) == len(set(GROUP))
    assert set(GROUP) | ALONE == {one.name for one in MODULES}
    assert set(GROUP) & ALONE == set()


@every_module
def test_members_take_the_common_options(module: Plugin) -> None:
    spec, _constraints = spec_of(module.name)
    assert COMMON & set(spec) == (COMMON if module.name in GROUP else set())
    if module.name in GROUP:
        assert module.doc["attributes"]["action_group"]["membership"] == ["xen.virtio.all"]


# --- examples -------------------------------------------------------------------------------------------


def tasks_of(plugin: Plugin) -> list[Json]:
    found = [] if plugin.kind == "inventory" else yaml.safe_load(plugin.examples)
    return list(found)


@pytest.mark.parametrize("plugin", [*MODULES, *FILTERS], ids=str)
def test_tasks_use_modules_and_options_that_are_there(plugin: Plugin) -> None:
    tasks = tasks_of(plugin)
    assert tasks
    for task in tasks:
        (action,) = set(task) - KEYWORDS
        if action == "ansible.builtin.set_fact":
            continue  # takes any name
        path = module_loader.find_plugin(action)
        assert path, action
        doc, *_rest = get_docstring(path, fragment_loader, plugin_type="module")
        names = {name for key, option in doc["options"].items() for name in (key, *option.get("aliases", []))}
        assert set(task[action] or {}) - names == set()


@pytest.mark.parametrize("plugin", [*MODULES, *FILTERS], ids=str)
def test_it_is_used_in_its_own_examples(plugin: Plugin) -> None:
    assert re.search(rf"xen\.virtio\.{plugin.name}\b", plugin.examples)


def texts(data: Any, bare: bool = False) -> Iterator[str]:
    """Every template in it."""
    if isinstance(data, dict):
        for key, value in data.items():
            yield from texts(value, key in EXPRESSIONS)
    elif isinstance(data, list):
        for value in data:
            yield from texts(value, bare)
    elif isinstance(data, str) and (bare or "{{" in data):
        yield f"{{{{ {data} }}}}" if bare else data


def filters_in(plugin: Plugin) -> Iterator[nodes.Filter]:
    for text in texts(tasks_of(plugin)):
        for one in Environment(autoescape=True).parse(text).find_all(nodes.Filter):
            if one.name.startswith("xen."):
                yield one


@every_plugin
def test_filters_are_there_and_take_their_options(plugin: Plugin) -> None:
    there = {f"xen.virtio.{one.name}": one for one in FILTERS}
    for one in filters_in(plugin):
        told = there[one.name]
        positional = [name for name in told.doc.get("positional", "").replace(" ", "").split(",") if name]
        assert len(one.args) <= len(positional), one
        assert {word.key for word in one.kwargs} <= set(told.doc["options"]) - {"_input"}, one


def test_the_inventory_takes_its_options() -> None:
    (plugin,) = [one for one in PLUGINS if one.kind == "inventory"]
    sources = list(yaml.safe_load_all(plugin.examples))
    assert len(sources) == 3
    for source in sources:
        assert source["plugin"] == f"xen.virtio.{plugin.name}"
        assert set(source) <= set(plugin.doc["options"])
