# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Subtrees of xenstore as declared: what is declared, what differs, and how to say it.

Nothing here talks to a store. A declaration and the live nodes make a plan; check mode and the real run have
the same one.
"""

from __future__ import annotations

import base64
import binascii
import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ._perms import same_perms
from ._request import Node, Request, StoreError, check_path, check_perms, mkdir, rm, set_perms, write

#: Without these no toolstack finds its domains any more, so they are never removed, nor cleaned as a whole.
SKELETON = frozenset(("/", "/local", "/local/domain", "/local/domain/0", "/tool", "/vm", "/libxl"))

#: Keys of a nested declaration that are no children: xenstore has no name with a dot.
VALUE, BASE64, PERMS, STATE = ".value", ".base64", ".perms", ".state"
_DOT_KEYS = {VALUE: "value", BASE64: "base64", PERMS: "perms", STATE: "state"}
_NODE_KEYS = ("path", "value", "base64", "perms", "state")
_LETTERS = {"none": "n", "read": "r", "write": "w", "both": "b"}
_PERMS_KEYS = ("owner", "default", "read", "write", "both", "none")


class DeclarationError(ValueError):
    """A declaration that cannot be; the message names the node."""


class Wanted(NamedTuple):
    """What a declared node shall have; None leaves alone what is there."""

    value: bytes | None = None
    perms: tuple[str, ...] | None = None


class Declaration(NamedTuple):
    """A subtree as declared. Paths are absolute; parents come before their children."""

    root: str
    present: Mapping[str, Wanted]
    absent: tuple[str, ...] = ()
    exclusive: bool = False

    @property
    def asks_perms(self) -> bool:
        """Whether the live permissions are needed to plan."""
        return any(wanted.perms is not None for wanted in self.present.values())


class Step(NamedTuple):
    """A change of one node: ``action`` is created, changed or removed, ``what`` the parts of it that change."""

    path: str
    action: str
    what: tuple[str, ...]


class Plan(NamedTuple):
    """What to send, what that changes, and the nodes it is about before and after."""

    requests: list[Request]
    steps: list[Step]
    before: dict[str, Node]
    after: dict[str, Node]


# -- values and permissions ----------------------------------------------------------------------------------


def encode_value(value: Any, path: str) -> bytes:
    """The bytes of a declared value: a text as UTF-8, an integer in decimal.

    Raises DeclarationError for what YAML may have changed on its way (``4.20`` is a float and would become
    4.2, ``on`` a boolean), and for what is no value at all.
    """
    if isinstance(value, bool):
        raise DeclarationError(
            f"{path}: the value is the boolean {value}; quote it, or write what the node shall hold"
        )
    if isinstance(value, int):
        return str(value).encode("ascii")
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, float):
        raise DeclarationError(
            f"{path}: the value is the number {value}; quote it, so that it stays as written"
        )
    if value is None:
        raise DeclarationError(
            f"{path}: the value is null; write '' for an empty value, or state absent for no node"
        )
    raise DeclarationError(f"{path}: a value is a text or an integer, not {type(value).__name__}")


def decode_base64(text: Any, path: str) -> bytes:
    """The bytes of a value given in base64. Raises DeclarationError."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise DeclarationError(f"{path}: not base64: {error}") from error


def text_of(value: bytes) -> tuple[str, bool]:
    """A value as text, and whether that text alone gives the bytes back.

    A value is text if it is UTF-8 without control characters other than tab and line ends; of any other the
    text is only for the eye, with ``\\xNN`` in place of what cannot be shown.
    """
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        text = value.decode("ascii", "backslashreplace")
        whole = False
    else:
        whole = True
    if text.isprintable():
        return text, whole
    if whole and all(c in "\t\n\r" or c.isprintable() for c in text):
        return text, True
    return "".join(c if c in "\t\n\r" or c.isprintable() else _escaped(c) for c in text), False


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def parse_perms(perms: Any, path: str) -> tuple[str, ...]:
    """Permissions as the store has them, owner first, from any of the three forms.

    ``"n0,r5"``; ``["n0", "r5"]``; ``{owner: 0, default: none, read: [5], write: [], both: [], none: []}``
    where ``default`` is what every domain not listed may do. Raises DeclarationError.
    """
    if isinstance(perms, Mapping):
        found = _perms_of_mapping(perms, path)
    elif isinstance(perms, str):
        found = tuple(part.strip() for part in perms.split(","))
    elif isinstance(perms, Sequence):
        found = tuple(str(part) for part in perms)
    else:
        raise DeclarationError(
            f"{path}: permissions are a text such as n0,r5, a list or a mapping, not {perms!r}"
        )
    try:
        check_perms(path, found)
    except StoreError as error:
        raise DeclarationError(f"{path}: {error.detail}; {error.remedy}") from error
    return found


def _perms_of_mapping(perms: Mapping[str, Any], path: str) -> tuple[str, ...]:
    _refuse_unknown(perms, _PERMS_KEYS, path, "permissions")
    if "owner" not in perms:
        raise DeclarationError(f"{path}: permissions need an owner")
    default = perms.get("default", "none")
    if default not in _LETTERS:
        raise DeclarationError(f"{path}: default is one of {', '.join(_LETTERS)}, not {default!r}")
    owner = _domid(perms["owner"], path)
    found = [f"{_LETTERS[default]}{owner}"]
    seen = {owner}
    for access, letter in _LETTERS.items():
        domids = perms.get(access)
        for given in domids if isinstance(domids, list) else [] if domids is None else [domids]:
            domid = _domid(given, path)
            if domid in seen:
                raise DeclarationError(f"{path}: domain {domid} stands twice in the permissions")
            seen.add(domid)
            found.append(f"{letter}{domid}")
    return tuple(found)


def _domid(value: Any, path: str) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise DeclarationError(f"{path}: permissions name domains by number, not {value!r}")


# -- declarations --------------------------------------------------------------------------------------------


def parse_tree(tree: Mapping[str, Any]) -> Declaration:
    """A tree with the module's options ``path value base64 perms nodes recurse exclusive state``.

    Raises DeclarationError naming the node: what xenstored would refuse, what is declared twice or in two
    ways, and what would remove the store's skeleton.
    """
    root = _absolute(tree["path"])
    exclusive = bool(tree.get("exclusive"))
    if tree.get("state") == "absent":
        for option in ("value", "base64", "perms", "nodes", "exclusive"):
            if tree.get(option) not in (None, False):
                raise DeclarationError(
                    f"{root}: with state absent the whole subtree goes, so there is no {option}"
                )
        _guard(root)
        return Declaration(root, {}, (root,))
    if exclusive and root in SKELETON:
        raise DeclarationError(f"{root}: exclusive would remove what other domains and the toolstack live on")
    builder = _Builder(root)
    builder.add(root, {key: tree[key] for key in ("value", "base64", "perms") if tree.get(key) is not None})
    nodes = tree.get("nodes")
    if isinstance(nodes, Mapping):
        builder.add_mapping(root, nodes)
    elif isinstance(nodes, list):
        builder.add_list(nodes)
    elif nodes is not None:
        raise DeclarationError(f"{root}: nodes are a mapping or a list, not {nodes!r}")
    return builder.declaration(exclusive, bool(tree.get("recurse")))


def check_trees(declarations: Sequence[Declaration]) -> None:
    """Refuse trees that contradict each other. Raises DeclarationError."""
    roots = sorted((f"{d.root}/" if d.root != "/" else "/", d.root) for d in declarations)
    for (upper, path), (lower, below) in zip(roots, roots[1:]):
        if lower.startswith(upper):
            raise DeclarationError(f"{below} lies in the tree {path}: declare a node in one tree only")


def _absolute(path: Any) -> str:
    if not isinstance(path, str):
        raise DeclarationError(f"{path!r} is no path")
    if path.startswith("@"):
        raise DeclarationError(
            f"{path}: a special node has only permissions, which C xenstored does not tell, so they cannot be declared"
        )
    return _checked(path)


def _checked(path: str) -> str:
    try:
        check_path(path, "WRITE", absolute=True)
    except StoreError as error:
        shown = path if path and path.isprintable() else repr(path)
        raise DeclarationError(f"{shown}: {error.detail}") from error
    return path


def _guard(path: str) -> None:
    if path in SKELETON:
        raise DeclarationError(f"{path}: is not removed, because other domains and the toolstack live on it")


def _refuse_unknown(given: Mapping[Any, Any], known: Sequence[str], path: str, what: str) -> None:
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known)}"
            raise DeclarationError(f"{path}: {what} have no {key!r}{hint}")


class _Builder:
    """Collects the nodes of one tree."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._nodes: dict[str, Wanted] = {}
        self._absent: list[str] = []

    def add(self, path: str, parts: Mapping[str, Any]) -> None:
        """A node with any of value, base64, perms, state."""
        state = parts.get("state", "present")
        if state not in ("present", "absent"):
            raise DeclarationError(f"{path}: state is present or absent, not {state!r}")
        if state == "absent":
            if any(parts.get(key) is not None for key in ("value", "base64", "perms")):
                raise DeclarationError(f"{path}: a node with state absent has no value and no permissions")
            _guard(path)
            self._absent.append(path)
            return
        value = None
        if parts.get("base64") is not None:  # the exact bytes; a value beside it is for the eye
            value = decode_base64(parts["base64"], path)
        elif "value" in parts:
            value = encode_value(parts["value"], path)
        perms = parse_perms(parts["perms"], path) if parts.get("perms") is not None else None
        known = self._nodes.get(path, Wanted())
        if (value is not None and known.value is not None) or (perms is not None and known.perms is not None):
            raise DeclarationError(f"{path}: is declared twice")
        self._nodes[path] = Wanted(
            value if known.value is None else known.value, perms if known.perms is None else known.perms
        )
        if value is not None:
            self._check_size(path, value)

    @staticmethod
    def _check_size(path: str, value: bytes) -> None:
        try:
            write(path, value)
        except StoreError as error:
            raise DeclarationError(f"{path}: {error.detail}") from error

    def add_mapping(self, path: str, content: Mapping[Any, Any]) -> None:
        """A node as a mapping: keys with a dot speak of itself, others are names or paths below it."""
        dotted = {
            key: value for key, value in content.items() if isinstance(key, str) and key.startswith(".")
        }
        _refuse_unknown(dotted, tuple(_DOT_KEYS), path, "nodes")
        if dotted.get(STATE) == "absent" and len(dotted) < len(content):
            raise DeclarationError(f"{path}: a node with state absent has no children")
        self.add(path, {_DOT_KEYS[key]: value for key, value in dotted.items()})
        for key, below in content.items():
            if key in dotted:
                continue
            child = self._below(path, key)
            if isinstance(below, Mapping):
                self.add_mapping(child, below)
            else:
                self.add(child, {"value": below})

    def add_list(self, nodes: Iterable[Any]) -> None:
        """Flat nodes: a list of mappings with a path."""
        for number, node in enumerate(nodes, 1):
            if not isinstance(node, Mapping) or "path" not in node:
                raise DeclarationError(
                    f"{self._root}: entry {number} of nodes is no mapping with a path: {node!r}"
                )
            path = self._below(self._root, node["path"])
            _refuse_unknown(node, _NODE_KEYS, path, "entries of nodes")
            self.add(path, {k: v for k, v in node.items() if k != "path"})

    def _below(self, parent: str, key: Any) -> str:
        """A key's path: relative to the parent, or absolute inside of the tree."""
        name = str(key) if isinstance(key, int) and not isinstance(key, bool) else key
        if not isinstance(name, str):
            raise DeclarationError(f"{parent}: {key!r} is no name of a node; quote it")
        prefix = "" if parent == "/" else parent
        if not name.startswith("/"):
            return _checked(f"{prefix}/{name}")
        if name != parent and not name.startswith(f"{prefix}/"):
            raise DeclarationError(f"{name}: does not lie below {parent}")
        return _checked(name)

    def declaration(self, exclusive: bool, recurse: bool) -> Declaration:
        for gone in self._absent:
            for path in self._nodes:
                if path == gone or path.startswith(f"{gone}/"):
                    raise DeclarationError(f"{path}: is declared, and {gone} is declared absent")
        nodes = dict(sorted(self._nodes.items(), key=lambda item: item[0].split("/")))
        if recurse:
            nodes = dict(_inherited(nodes))
        return Declaration(self._root, nodes, tuple(dict.fromkeys(self._absent)), exclusive)


def _inherited(nodes: Mapping[str, Wanted]) -> Iterator[tuple[str, Wanted]]:
    """Every node with its own permissions or those of the nearest declared node above it that has some."""
    perms: dict[str, tuple[str, ...]] = {}
    for path, wanted in nodes.items():
        found = wanted.perms or next((perms[up] for up in _ancestors(path) if up in perms), None)
        if found is not None:
            perms[path] = found
        yield path, Wanted(wanted.value, found)


def _ancestors(path: str) -> Iterator[str]:
    """The nodes above a path, the nearest first, the root of the store last."""
    while path != "/":
        path = path.rpartition("/")[0] or "/"
        yield path


# -- the plan ------------------------------------------------------------------------------------------------


def make_plan(declaration: Declaration, live: Mapping[str, Node]) -> Plan:
    """The steps from what is there to what is declared.

    ``live`` holds the declared nodes that exist, with permissions where the declaration has some, all that is
    below nodes declared absent, and with ``exclusive`` the whole tree. Removals come first, then nodes from
    the root downwards, each with its permissions before its children: these inherit them when created.
    """
    plan = Plan([], [], {}, {})
    doomed = _doomed(declaration, live)
    top: str | None = None
    for path in doomed:
        if top is None or not path.startswith(f"{top}/"):
            top = path
            plan.requests.append(rm(path))
        plan.steps.append(Step(path, "removed", ()))
        plan.before[path] = live[path]
    gone = set(doomed)
    for path, wanted in declaration.present.items():
        _plan_node(plan, path, wanted, None if path in gone else live.get(path))
    return plan


def _doomed(declaration: Declaration, live: Mapping[str, Node]) -> list[str]:
    if declaration.exclusive:
        kept = {declaration.root, *declaration.present}
        for path in declaration.present:
            kept.update(_ancestors(path))
        return [path for path in live if path not in kept]
    return [
        path
        for path in live
        if any(path == absent or path.startswith(f"{absent}/") for absent in declaration.absent)
    ]


def _plan_node(plan: Plan, path: str, wanted: Wanted, found: Node | None) -> None:
    what: list[str] = []
    if found is None:
        plan.requests.append(mkdir(path) if wanted.value is None else write(path, wanted.value))
        action = "created"
    else:
        plan.before[path] = found if wanted.perms is not None else Node(found.value)
        action = "changed"
        if wanted.value is not None and wanted.value != found.value:
            plan.requests.append(write(path, wanted.value))
            what.append("value")
    if wanted.perms is not None and (
        found is None or found.perms is None or not same_perms(wanted.perms, found.perms)
    ):
        plan.requests.append(set_perms(path, wanted.perms))
        what.append("perms")
    if found is None or what:
        plan.steps.append(Step(path, action, tuple(what) if found is not None else ()))
    kept = found or Node(b"")
    perms = None
    if wanted.perms is not None:
        perms = wanted.perms if found is None or "perms" in what else kept.perms
    plan.after[path] = Node(kept.value if wanted.value is None else wanted.value, perms)


def lines(nodes: Mapping[str, Node]) -> str:
    """Nodes as text, one a line: ``/path = "value"``, with permissions in brackets where they are known."""
    shown = []
    for path, node in sorted(nodes.items(), key=lambda item: item[0].split("/")):
        text = text_of(node.value)[0].replace("\r", "\\r").replace("\n", "\\n").replace("\t", "\\t")
        shown.append(f'{path} = "{text}"' + (f"   ({','.join(node.perms)})" if node.perms else ""))
    return "".join(f"{line}\n" for line in shown)


# -- what was read -------------------------------------------------------------------------------------------


def describe(path: str, node: Node) -> dict[str, Any]:
    """A node as ``xenstore_info`` returns it, and as ``xenstore`` takes it in a list of nodes."""
    text, whole = text_of(node.value)
    return {
        "path": path,
        "value": text,
        "base64": None if whole else base64.b64encode(node.value).decode("ascii"),
        "perms": None if node.perms is None else list(node.perms),
    }


def nest(root: str, nodes: Mapping[str, Node]) -> dict[str, Any]:
    """The subtree at ``root`` as nested mappings, in the form that ``xenstore`` takes."""
    made: dict[str, dict[str, Any]] = {}
    for path, node in nodes.items():
        if path != root and not path.startswith("/" if root == "/" else f"{root}/"):
            continue
        text, whole = text_of(node.value)
        entry: dict[str, Any] = {VALUE: text}
        if not whole:
            entry[BASE64] = base64.b64encode(node.value).decode("ascii")
        if node.perms is not None:
            entry[PERMS] = list(node.perms)
        made[path] = entry
        parent, _slash, name = path.rpartition("/")
        if path != root and (parent or "/") in made:
            made[parent or "/"][name] = entry
    return made.get(root, {})
