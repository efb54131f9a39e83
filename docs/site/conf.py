# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation as pages (tests/docs.sh): Sphinx's settings, and links to what the reference describes."""

from __future__ import annotations

import hashlib
import posixpath
import re
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

ROOT = Path(__file__).resolve().parents[2]
STAGED = ROOT / ".cache/docs/source"

project = "xen.virtio"
copyright = "xen.virtio contributors"
_GALAXY = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))
release = _GALAXY["version"]
html_title = f"xen.virtio {release}"

extensions = ["myst_parser", "sphinx_antsibull_ext"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
nitpicky = True
# Settings of Ansible that the inventory plugin takes over; Ansible describes them.
nitpick_ignore_regex = [("envvar", "ANSIBLE_CACHE_PLUGIN.*")]
highlight_language = "none"

myst_heading_anchors = 3
myst_enable_extensions = ["deflist", "fieldlist"]

html_theme = "furo"
# Would have the search ask for each page that it finds, which a browser refuses pages that are opened as files.
html_show_search_summary = False
# Colours of the reference, which the theme switches with its own.
antsibull_ext_color_scheme = "none"
_LIGHT = {
    "links-background": "#2a6f77",
    "links-background-active": "#3a8791",
    "links-focus-outline": "#204748",
    "links-text": "#fff",
    "table-background-header": "#dbe7f3",
    "table-background-even": "#f4f8fb",
    "table-background-odd": "#fff",
    "table-border": "#c9ced8",
    "narrowtable-background": "#f4f8fb",
    "option-type": "#7a1fa2",
    "option-elements": "#7a1fa2",
    "option-required": "#b3261e",
    "option-version-added": "#1b5e20",
    "option-aliases": "#1b5e20",
    "option-default": "#0b49c0",
    "option-sample": "#0b49c0",
    "option-sample-header": "#000",
    "attribute-support-none": "#b3261e",
    "attribute-support-partial": "#7a6400",
    "attribute-support-full": "#1b5e20",
    "attribute-support-na": "inherit",
    "deprecation-border": "#000",
    "deprecation-background": "#eee",
    "deprecation-color": "#000",
}
_DARK = {
    "links-background": "#2a6f77",
    "links-background-active": "#3a8791",
    "links-focus-outline": "#9fd8dc",
    "links-text": "#fff",
    "table-background-header": "#2c3440",
    "table-background-even": "#1c1f25",
    "table-background-odd": "#16181d",
    "table-border": "#474d59",
    "narrowtable-background": "#2c3440",
    "option-type": "#ff93ff",
    "option-elements": "#ff93ff",
    "option-required": "#ff8282",
    "option-version-added": "#71d471",
    "option-aliases": "#71d471",
    "option-default": "#adadff",
    "option-sample": "#adadff",
    "option-sample-header": "#fff",
    "attribute-support-none": "#ff8282",
    "attribute-support-partial": "#b6b600",
    "attribute-support-full": "#4ad24a",
    "attribute-support-na": "inherit",
    "deprecation-border": "#fff",
    "deprecation-background": "#111",
    "deprecation-color": "#fff",
}
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = html_show_sourcelink = False
html_last_updated_fmt = None
html_theme_options = {
    "navigation_with_keys": True,
    "top_of_page_buttons": [],
    "light_css_variables": {f"antsibull-{name}": colour for name, colour in _LIGHT.items()},
    "dark_css_variables": {f"antsibull-{name}": colour for name, colour in _DARK.items()},
}

_REPOSITORY = _GALAXY["repository"]
_NAME = re.compile(r"xen\.virtio\.([a-z_]+)\Z")
_ANSIBLE = "https://docs.ansible.com/ansible/latest"
_PAGES = {
    "common_return_values": "reference_appendices/common_return_values.html",
    "action_plugins": "plugins/action.html",
    "ansible_configuration_settings": "reference_appendices/config.html",
}


def _described() -> dict[str, list[str]]:
    """What has a page of the reference, by its name: the kinds of plugin, a module first and a role last."""
    found: dict[str, list[str]] = {}
    for kind, folder in (("module", "modules"), ("filter", "filter"), ("inventory", "inventory")):
        for path in (ROOT / "plugins" / folder).glob("[a-z]*.py"):
            found.setdefault(path.stem, []).append(kind)
    for path in (ROOT / "roles").glob("*/meta/argument_specs.yml"):
        found.setdefault(path.parents[1].name, []).append("role")
    return found


class Names(SphinxTransform):
    """``xen.virtio.disk`` in a text leads to its page: to the role's where "role" stands before it."""

    default_priority = 700

    def apply(self, **_kwargs: Any) -> None:
        if self.env.docname.startswith("reference/"):
            return
        known = _described()
        for literal in list(self.document.findall(nodes.literal)):
            found = _NAME.match(literal.astext())
            kinds = known.get(found[1]) if found else None
            inside = isinstance(literal.parent, (nodes.reference, nodes.title, addnodes.pending_xref))
            if not found or not kinds or inside:
                continue
            kind = _meant(kinds, _before(literal))
            if kind:
                literal.replace_self(_link(f"ansible_collections.xen.virtio.{found[1]}_{kind}", literal))


def _meant(kinds: list[str], before: str) -> str | None:
    """Of the kinds that a name has, the one that the word before it says."""
    for word in ("module", "filter", "inventory", "role", "playbook"):
        if re.search(rf"\b{word}s?(?: plugin)?:? ?(?:\w+, )?\Z", before):
            return word if word in kinds else None
    return kinds[0]


def _before(literal: nodes.literal) -> str:
    """The text that stands before a word: in its paragraph, or in the cell to the left."""
    told = ""
    for child in literal.parent.children[: literal.parent.index(literal)]:
        told += child.astext()
    entry = literal.parent.parent
    if isinstance(entry, nodes.entry) and entry.parent.index(entry) == 1:
        told = f"{entry.parent[0].astext()} "
    return told


def _link(target: str, shown: nodes.literal) -> addnodes.pending_xref:
    link = addnodes.pending_xref(
        "", refdomain="std", reftype="ref", reftarget=target, refexplicit=True, refwarn=True
    )
    link += shown.deepcopy()
    return link


def _elsewhere(_app: Sphinx, _env: Any, node: addnodes.pending_xref, shown: nodes.Node) -> nodes.Node | None:
    """What is Ansible's own is described on its site; nothing is fetched to know where."""
    target = str(node.get("reftarget", ""))
    module = re.match(r"ansible_collections\.ansible\.builtin\.([a-z_]+)_module", target)
    page = f"collections/ansible/builtin/{module[1]}_module.html" if module else _PAGES.get(target)
    if page is None:
        return None
    link = nodes.reference("", "", internal=False, refuri=f"{_ANSIBLE}/{page}")
    link += shown
    return link


def _lead_on(_app: Sphinx, docname: str, content: list[str]) -> None:
    """Links to files of the repository that are no pages here: roles have theirs in the reference, others lie there."""
    here = PurePosixPath(docname).parent

    def led(match: re.Match[str]) -> str:
        path, hash_, anchor = match[2].partition("#")
        if not path or "://" in path or path.endswith(".rst"):
            return match[0]
        target = posixpath.normpath(here / path)
        role = re.fullmatch(r"roles/([a-z_0-9]+)/README\.md", target)
        if role:
            path = posixpath.relpath(f"reference/{role[1]}_role.rst", here)
        elif not (STAGED / target).is_file() and (ROOT / target).exists():
            path = f"{_REPOSITORY}/{'tree' if (ROOT / target).is_dir() else 'blob'}/main/{target}"
        return f"{match[1]}({path}{hash_}{anchor})"

    if docname.startswith("reference/"):
        # the theme shows the contents of a page beside it
        if docname == "reference/index":
            listed = (
                f"   {name} ({kind}) <{name}_{kind}>"
                for name, kinds in sorted(_described().items())
                for kind in kinds
            )
            content[0] += "\n".join(["", ".. toctree::", "   :hidden:", "", *listed, ""])
        content[0] = re.sub(r"^\.\. contents::\n(?: +\S.*\n)*", "", content[0], flags=re.MULTILINE)
    else:
        content[0] = re.sub(r"(\])\(([^()\s]+)\)", led, content[0])


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    # pages that were read by an older version of this file are read again
    app.add_config_value("read_by", hashlib.sha256(Path(__file__).read_bytes()).hexdigest(), "env")
    app.add_transform(Names)
    app.connect("missing-reference", _elsewhere)
    app.connect("source-read", _lead_on)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
