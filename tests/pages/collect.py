# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every text of the code that a person can be told: read from the syntax trees of plugins and the YAML of plays.

No list of calls says where a message may stand: helpers come and go. So it is the other way round. A text of some
words is a message unless it stands where none can: a docstring, a plugin's documentation, an annotation, a pattern,
an operand of a comparison, the argument of a question such as ``startswith``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]

#: A text of that many words is for persons; one that is put together out of values and words, from one word on.
WORDS, WORDS_AROUND_VALUES = 2, 1

#: Functions and methods whose texts are patterns, questions, or names, and are shown to nobody.
_ASKED = frozenset(
    {
        *("compile", "match", "fullmatch", "search", "sub", "findall", "finditer"),
        *("startswith", "endswith", "index", "find", "count"),
        *("split", "rsplit", "partition", "rpartition"),
        *("strip", "lstrip", "rstrip", "removeprefix", "removesuffix"),
    }
)
#: Not told, or told elsewhere: what plugins say of themselves, and the codes of findings.
_DOCUMENTS = frozenset({"DOCUMENTATION", "EXAMPLES", "RETURN", "CODES", "AUDIT_CODES"})
#: A program of ours, as text.
_CODE = re.compile(r"import \w+[,;]")
#: A text of more lines is the content of a file.
_LINES = 3
#: What a finding is made of, in its order.
FIELDS = ("code", "severity", "domain", "vdev", "message", "why", "remedy")
_PLAY_KEYS = ("fail_msg", "success_msg", "msg", "prompt")
#: Of `str.format`, in a text that is filled in later.
_FIELD = re.compile(r"(?<!\{)\{([a-z_]+)\}(?!\})")
#: A version of ours, which changes with each release.
_RELEASE = re.compile(r"\d+(\.\d+){2}")
#: What Jinja takes for text: whichever quote comes first ends it.
_QUOTED = re.compile(r"""'([^']*)'|"([^"]*)\"""")
_WORD = re.compile(r"(?<![\w/\\<.-])[A-Za-z][A-Za-z']*(?![\w/\\>(=-])")


@dataclass(frozen=True)
class Finding:
    """A finding as the code writes it; where it works a part out, that part is empty."""

    code: str
    message: str
    why: str
    remedy: str


@dataclass(frozen=True)
class Text:
    """A text that somebody may be told.

    Attributes:
        source: the file, below the collection's root.
        line: in it.
        text: with ``<name>`` where a value stands.
    """

    source: str
    line: int
    text: str


def sources() -> list[Path]:
    """The files of plugins, and of extensions, whose texts can be told."""
    return sorted(
        path
        for folder in ("plugins", "extensions/eda")
        for path in (ROOT / folder).rglob("*.py")
        if path.parent.name != "doc_fragments" and path.name != "__init__.py"
    )


def plays() -> list[Path]:
    """Playbooks, rulebooks, and what roles have: tasks, variables, templates."""
    roles = ROOT / "roles"
    return sorted(
        [
            *(ROOT / "playbooks").rglob("*.yml"),
            *(ROOT / "extensions/eda").rglob("*.yml"),
            *(
                path
                for part in ("tasks", "handlers", "defaults", "vars")
                for path in roles.glob(f"*/{part}/*.yml")
            ),
            *roles.glob("*/templates/*.j2"),
        ]
    )


def texts() -> list[Text]:
    """All of them, findings left out, in the order of files and lines; each once in a file."""
    found: dict[tuple[str, str], Text] = {}
    for path in sources():
        for text in _of_python(path):
            found.setdefault((text.source, text.text), text)
    for path in plays():
        for text in _of_play(path):
            found.setdefault((text.source, text.text), text)
    return list(found.values())


def findings() -> list[Finding]:
    """What rules find, by their codes, in the order of files and lines."""
    found: dict[Finding, None] = {}
    for path in sources():
        reader = _Reader(path)
        for call in ast.walk(reader.tree):
            made = reader.finding(call)
            if made:
                found[made] = None
    return list(found)


# --- Python ---


def _of_python(path: Path) -> Iterator[Text]:
    reader = _Reader(path)
    yield from reader.texts()


class _Reader:
    def __init__(self, path: Path) -> None:
        self.source = str(path.relative_to(ROOT))
        self.tree = ast.parse(path.read_text(encoding="utf-8"))
        self._constants = {
            target.id: node.value
            for node in self.tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name) and isinstance(node.value, (ast.Constant, ast.JoinedStr))
        }

        # functions that make findings, by what they are given
        self._makers: dict[str, tuple[str, ...]] = {"Finding": FIELDS}
        self._functions: dict[str, ast.FunctionDef] = {}
        self._home: dict[
            ast.AST, ast.FunctionDef
        ] = {}  # of each call and name: the innermost function around it
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef):
                self._functions[node.name] = node
                self._home.update(dict.fromkeys(ast.walk(node), node))
                if {"code", "message", "why", "remedy"} <= set(_given(node)):
                    self._makers[node.name] = _given(node)

    def texts(self) -> Iterator[Text]:
        yield from self._below(self.tree)

    def finding(self, node: ast.AST) -> Finding | None:
        """The finding that a call makes, None where it makes none, or one whose code it is told."""
        if not isinstance(node, ast.Call) or _name(node.func) not in self._makers:
            return None
        fields: dict[str, ast.expr] = dict(zip(self._makers[_name(node.func)], node.args))
        fields.update({keyword.arg: keyword.value for keyword in node.keywords if keyword.arg})
        code = fields.get("code")
        if not isinstance(code, ast.Constant) or not isinstance(code.value, str):
            return None
        said = {name: self._said(fields.get(name)) for name in ("message", "why", "remedy")}
        if not said["message"] and "message" in fields:
            said["message"] = self._value(fields["message"])  # an error's own words, told where it is raised
        return Finding(code.value, **said)

    def _said(self, node: ast.expr | None, seen: frozenset[ast.AST] = frozenset()) -> str:
        """A part of a finding; where one of several is said, all of them."""
        told = dict.fromkeys(self._alternatives(node, seen) if node is not None else ())
        return " / ".join(told)

    def _alternatives(self, node: ast.expr, seen: frozenset[ast.AST]) -> Iterator[str]:
        """The texts that an expression can be: followed to where a variable is set, and to what a function returns."""
        text = self._text(node)
        if text is not None:
            yield text
            return
        if node in seen:
            return
        for origin in self._origins(node):
            yield from self._alternatives(origin, seen | {node})

    def _origins(self, node: ast.expr) -> Iterator[ast.expr]:
        if isinstance(node, ast.IfExp):
            yield from (node.body, node.orelse)
        elif isinstance(node, ast.BoolOp):
            yield from node.values
        elif isinstance(node, ast.Call) and _name(node.func) in self._functions:
            for inner in ast.walk(self._functions[_name(node.func)]):
                if isinstance(inner, ast.Return) and inner.value is not None:
                    yield inner.value
        elif isinstance(node, ast.Name) and node in self._home:
            yield from self._set(node.id, self._home[node])

    def _set(self, name: str, home: ast.FunctionDef) -> Iterator[ast.expr]:
        """What a variable of a function is set to: in it, or by those who call it."""
        for inner in ast.walk(home):
            if isinstance(inner, ast.Assign):
                for target in inner.targets:
                    if _name(target) == name:
                        yield inner.value
        given = _given(home)
        if name in given:
            for call in ast.walk(self.tree):
                if isinstance(call, ast.Call) and _name(call.func) == home.name:
                    fields = dict(zip(given, call.args))
                    fields.update({word.arg: word.value for word in call.keywords if word.arg})
                    if name in fields:
                        yield fields[name]

    def _below(self, node: ast.AST) -> Iterator[Text]:
        for child in ast.iter_child_nodes(node):
            if _never(node, child):
                continue
            if isinstance(child, ast.Call) and self.finding(child):
                yield from self._in_finding(child)
            elif isinstance(child, (ast.Constant, ast.JoinedStr)):
                text = self._text(child)
                if text is not None and _is_said(child, text):
                    yield Text(self.source, getattr(child, "lineno", 0), text)
                yield from self._inside(child)
            else:
                yield from self._below(child)

    def _in_finding(self, call: ast.Call) -> Iterator[Text]:
        """What `Finding` does not tell of a finding's words: those among values, and those worked out."""
        for value in [*call.args, *(keyword.value for keyword in call.keywords)]:
            for part in (value.body, value.orelse) if isinstance(value, ast.IfExp) else (value,):
                if isinstance(part, (ast.Constant, ast.JoinedStr)):
                    yield from self._inside(part)
                else:
                    yield from self._below(part)

    def _inside(self, node: ast.AST) -> Iterator[Text]:
        """Texts among the values of a text, such as one of two words chosen by a condition."""
        for value in node.values if isinstance(node, ast.JoinedStr) else ():
            if isinstance(value, ast.FormattedValue) and not isinstance(
                value.value, (ast.Constant, ast.Name)
            ):
                yield from self._below(value)

    def _text(self, node: ast.AST) -> str | None:
        if isinstance(node, ast.Constant):
            if not isinstance(node.value, str) or node.value.count("\n") >= _LINES:
                return None
            return _flat(_FIELD.sub(r"<\1>", node.value))
        if not isinstance(node, ast.JoinedStr):
            return None
        parts = [
            str(part.value) if isinstance(part, ast.Constant) else self._value(part.value)
            for part in node.values
            if isinstance(part, (ast.Constant, ast.FormattedValue))
        ]
        joined = "".join(parts)
        return _flat(joined) if joined.count("\n") < _LINES else None

    def _value(self, node: ast.expr) -> str:
        """A value as a reader is shown it: a constant by what it is, all else by its last name."""
        if isinstance(node, ast.Name) and node.id in self._constants:
            text = self._text(self._constants[node.id])
            if text is not None and not _RELEASE.fullmatch(text):
                return text
        while isinstance(node, (ast.Subscript, ast.Call)):
            if isinstance(node, ast.Subscript):
                key = node.slice
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    return f"<{key.value}>"
                node = node.value
            else:
                method = isinstance(node.func, ast.Attribute)
                if method and _name(node.func) == "join" and node.args:
                    node = node.args[0]
                    if isinstance(node, (ast.GeneratorExp, ast.ListComp)):
                        node = node.generators[0].iter
                elif node.args and not (method and _name(node.func) in ("get",)):
                    node = node.args[0]
                elif isinstance(node.func, ast.Attribute):
                    node = node.func.value
                else:
                    return f"<{_name(node.func).lstrip('_')}>"
        name = _name(node)
        if name == "__name__":
            return "<type>"
        return f"<{name.strip('_').lower()}>" if name.strip("_") else "<…>"


def _given(node: ast.FunctionDef) -> tuple[str, ...]:
    return tuple(one.arg for one in [*node.args.args, *node.args.kwonlyargs] if one.arg != "self")


def _name(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else ""


def _is_said(node: ast.AST, text: str) -> bool:
    """Whether a text is one for persons: some words, or a few around values with blanks between."""
    words = len(_WORD.findall(text))
    around = isinstance(node, ast.JoinedStr) and " " in text and "<" in text
    return words >= (WORDS_AROUND_VALUES if around else WORDS) and not _CODE.match(text)


def _never(parent: ast.AST, child: ast.AST) -> bool:
    """Whether no text below ``child`` is ever shown."""
    if isinstance(parent, ast.Expr):
        return isinstance(child, ast.Constant)  # a docstring
    if isinstance(parent, ast.Compare):
        return isinstance(child, (ast.Constant, ast.JoinedStr, ast.Tuple, ast.Set))
    if isinstance(parent, ast.Call):
        return _name(parent.func) in _ASKED and child is not parent.func
    if isinstance(parent, (ast.Assign, ast.AnnAssign)):
        targets = parent.targets if isinstance(parent, ast.Assign) else [parent.target]
        if any(_name(target) in _DOCUMENTS for target in targets):
            return True
    # annotations, and keys of mappings
    return child in (getattr(parent, name, None) for name in ("annotation", "returns", "slice"))


def _flat(text: str) -> str:
    return " ".join(text.split())


# --- plays ---


def _of_play(path: Path) -> Iterator[Text]:
    source = str(path.relative_to(ROOT))
    content = path.read_text(encoding="utf-8")
    for text in _said_by(content if path.suffix == ".j2" else yaml.safe_load(content), said=False):
        plain = _flat(text)
        if len(_WORD.findall(plain)) >= WORDS:
            yield Text(source, 0, plain)


def _said_by(node: Any, *, said: bool) -> Iterator[str]:
    """Messages of a play, and words that its expressions choose."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _said_by(value, said=key in _PLAY_KEYS)
    elif isinstance(node, list):
        for value in node:
            yield from _said_by(value, said=said)
    elif isinstance(node, str):
        if said:
            yield re.sub(r"\{\{.*?\}\}|\{%.*?%\}", "<…>", node, flags=re.DOTALL)
        for expression in re.findall(r"\{\{.*?\}\}|\{%.*?%\}", node, re.DOTALL):
            # pairs of quotes first: those of a format, such as '%Y', would else pair with the next ones
            for single, double in _QUOTED.findall(expression):
                if "%" not in single + double:
                    yield single or double


if __name__ == "__main__":
    for one in texts():
        print(f"{one.source}:{one.line}: {one.text}")
