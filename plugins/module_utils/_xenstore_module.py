# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules xenstore and xenstore_info: options in, store read and written, result out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ._argspec import STORE_MUTUALLY_EXCLUSIVE, open_store, store_argument_spec
from ._store import Abort, Node, Store, StoreError, Transaction, check_path, get_perms, read
from ._xenstore import (
    Declaration,
    DeclarationError,
    Plan,
    check_trees,
    describe,
    lines,
    make_plan,
    nest,
    parse_tree,
    text_of,
)

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

_TREE: dict[str, Any] = {
    "value": {"type": "raw"},
    "base64": {"type": "str"},
    "perms": {"type": "raw"},
    "nodes": {"type": "raw"},
    "recurse": {"type": "bool", "default": False},
    "exclusive": {"type": "bool", "default": False},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}

ARGUMENT_SPEC: dict[str, Any] = {
    **store_argument_spec(),
    **_TREE,
    "path": {"type": "str"},
    "trees": {
        "type": "list",
        "elements": "dict",
        "options": {"path": {"type": "str", "required": True}, **_TREE},
    },
}
CONSTRAINTS: dict[str, Any] = {
    "mutually_exclusive": [
        *STORE_MUTUALLY_EXCLUSIVE,
        ("path", "trees"),
        *((option, "trees") for option in ("value", "base64", "perms", "nodes")),
        ("value", "base64"),
    ],
    "required_one_of": [("path", "trees")],
}

INFO_ARGUMENT_SPEC: dict[str, Any] = {
    **store_argument_spec(),
    "paths": {"type": "list", "elements": "str", "required": True, "aliases": ["path"]},
    "depth": {"type": "int"},
    "perms": {"type": "bool", "default": True},
}
INFO_CONSTRAINTS: dict[str, Any] = {"mutually_exclusive": list(STORE_MUTUALLY_EXCLUSIVE)}


class _CheckOnly(Abort):
    """Ends the transaction of a check with nothing written."""

    def __init__(self, plans: list[Plan]) -> None:
        super().__init__("check mode")
        self.plans = plans


def survey(tx: Transaction, declarations: Sequence[Declaration]) -> list[dict[str, Node]]:
    """The live nodes that each declaration is about, in one pass."""
    found: list[dict[str, Node]] = [{} for _round in declarations]
    singles: list[tuple[dict[str, Node], str, bool]] = []
    for nodes, declaration in zip(found, declarations):
        perms = declaration.asks_perms
        if declaration.exclusive:
            nodes.update(tx.read_trees([declaration.root], perms=perms))
            continue
        if declaration.absent:
            nodes.update(tx.read_trees(declaration.absent))
        singles += [(nodes, path, wanted.perms is not None) for path, wanted in declaration.present.items()]
    requests = []
    for _nodes, path, perms in singles:
        requests.append(read(path))
        if perms:
            requests.append(get_perms(path))
    answers = iter(tx.call(requests))
    for nodes, path, perms in singles:
        value = next(answers)
        owners = next(answers) if perms else b""
        for answer in (value, owners):
            if isinstance(answer, StoreError) and answer.code != "ENOENT":
                raise tx.explain(answer)
        if isinstance(value, bytes) and isinstance(owners, bytes):
            nodes[path] = Node(value, tuple(owners.decode("latin-1")[:-1].split("\0")) if perms else None)
    return found


def converge(store: Store, declarations: Sequence[Declaration], *, check: bool) -> list[Plan]:
    """Plan and apply in one transaction; with ``check`` nothing is written. Raises StoreError."""

    def work(tx: Transaction) -> list[Plan]:
        plans = [make_plan(d, live) for d, live in zip(declarations, survey(tx, declarations))]
        if check:
            raise _CheckOnly(plans)
        for plan in plans:
            tx.submit(plan.requests)
        return plans

    try:
        return store.transaction(work)
    except _CheckOnly as end:
        return end.plans


def result_of(declarations: Sequence[Declaration], plans: Sequence[Plan], *, diff: bool) -> dict[str, Any]:
    """What the module returns."""
    steps = [step for plan in plans for step in plan.steps]
    counts = {
        action: sum(step.action == action for step in steps) for action in ("created", "changed", "removed")
    }
    told = ", ".join(f"{count} {action}" for action, count in counts.items() if count)
    result: dict[str, Any] = {
        "changed": bool(steps),
        "nodes": [{"path": step.path, "action": step.action, "what": list(step.what)} for step in steps],
        "msg": f"nodes: {told}" if told else "nothing to change",
    }
    if diff:
        result["diff"] = [
            {
                "before_header": declaration.root,
                "after_header": declaration.root,
                "before": lines(plan.before),
                "after": lines(plan.after),
            }
            for declaration, plan in zip(declarations, plans)
        ]
    return result


def parse_trees(params: Mapping[str, Any]) -> list[Declaration]:
    """The declarations of a task's options. Raises DeclarationError."""
    trees = params["trees"] if params["trees"] is not None else [params]
    declarations = [parse_tree(tree) for tree in trees]
    check_trees(declarations)
    return declarations


def main_xenstore(module: AnsibleModule) -> None:
    """The module xenstore."""
    try:
        declarations = parse_trees(module.params)
        with open_store(module.params) as store:
            plans = converge(store, declarations, check=module.check_mode)
    except (DeclarationError, StoreError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result_of(declarations, plans, diff=module._diff))


def gather(store: Store, paths: Sequence[str], *, depth: int | None, perms: bool) -> dict[str, Any]:
    """What xenstore_info returns: the subtrees in one bulk pass. Raises StoreError."""
    denied: dict[str, StoreError] = {}
    nodes = store.read_trees(paths, perms=perms, depth=depth, denied=denied)
    return {
        "nodes": [describe(path, node) for path, node in nodes.items()],
        "flat": {path: text_of(node.value)[0] for path, node in nodes.items()},
        "nested": {path: nest(path, nodes) for path in paths if path in nodes},
        "missing": [path for path in dict.fromkeys(paths) if path not in nodes and path not in denied],
        "denied": list(denied),
    }


def main_xenstore_info(module: AnsibleModule) -> None:
    """The module xenstore_info."""
    params = module.params
    try:
        for path in params["paths"]:
            check_path(path, "DIRECTORY", absolute=True)
        if params["depth"] is not None and params["depth"] < 0:
            module.fail_json(msg=f"depth is a number of levels, 0 or more, not {params['depth']}")
        with open_store(params) as store:
            found = gather(store, params["paths"], depth=params["depth"], perms=params["perms"])
    except StoreError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **found)
