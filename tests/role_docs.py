# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The README.md of each role, written from its argument specs.

``python tests/role_docs.py`` writes those that are not as they should be; tests/unit/test_role_docs.py tells of them.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).resolve().parents[1] / "roles"
WIDTH = 120

HEAD = """\
<!--
Copyright (c) xen.virtio contributors
GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
SPDX-License-Identifier: GPL-3.0-or-later

Written from meta/argument_specs.yml by tests/role_docs.py.
-->
"""

_MARKUP = re.compile(r"\b[CVOMPIE]\(([^()]*)\)")


def roles() -> list[Path]:
    """The folders of all roles."""
    return sorted(path.parent.parent for path in ROLES.glob("*/meta/argument_specs.yml"))


def readme(role: Path) -> str:
    """What a role's README.md has to be."""
    spec = yaml.safe_load((role / "meta/argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"][
        "main"
    ]
    defaults = yaml.safe_load((role / "defaults/main.yml").read_text(encoding="utf-8")) or {}
    shared = {
        name: option for name, option in spec["options"].items() if not name.startswith(f"{role.name}_")
    }
    own = {name: option for name, option in spec["options"].items() if name not in shared}
    parts = [HEAD, f"# Role `xen.virtio.{role.name}`", _paragraph(f"{spec['short_description']}.")]
    parts += [_paragraph(_plain(text)) for text in _texts(spec)]
    if shared:
        parts += [
            "## Inventory",
            "Shared by the roles of this collection, and without a default of this role's.",
            _list(shared, {}),
        ]
    parts += ["## Variables of this role", _list(own, defaults)]
    parts += ["## Tags", _paragraph(", ".join(f"`{tag}`" for tag in _tags(role)) + ".")]
    parts.append(
        _paragraph(
            "Check mode (`--check --diff`) plans all of it and changes nothing. `become` is never set here."
        )
    )
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _list(options: dict[str, Any], defaults: dict[str, Any]) -> str:
    return "\n".join(_option(name, option, defaults.get(name)) for name, option in options.items())


def _option(name: str, option: dict[str, Any], default: Any) -> str:
    said = option.get("default", default)
    facts = [option["type"] if "elements" not in option else f"{option['type']} of {option['elements']}"]
    if option.get("required"):
        facts.append("required")
    if "choices" in option:
        facts.append("one of " + ", ".join(f"`{choice}`" for choice in option["choices"]))
    if "default" in option:
        facts.append(f"default `{_shown(said)}`")
    text = " ".join(_plain(text) for text in _texts(option))
    return _paragraph(f"- `{name}` ({', '.join(facts)}): {text}", indent="  ")


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) and (not value or value[0].isdigit()) else str(value)


def _texts(spec: dict[str, Any]) -> list[str]:
    texts = spec["description"]
    return [texts] if isinstance(texts, str) else texts


def _plain(text: str) -> str:
    """Ansible's markup as that of Markdown."""
    return _MARKUP.sub(_code, text)


def _code(match: re.Match[str]) -> str:
    # of a reference to another plugin's option the option: the plugin stands beside it in the text
    plugin, _colon, option = match[1].rpartition("#module:")
    name = match[1].split("#")[0]
    return f"`{option}` of `{plugin}`" if plugin else f"`{name}`"


def _paragraph(text: str, indent: str = "") -> str:
    return textwrap.fill(
        text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _tags(role: Path) -> list[str]:
    found: dict[str, None] = {}
    for task in yaml.safe_load((role / "tasks/main.yml").read_text(encoding="utf-8")):
        found.update(dict.fromkeys(tag for tag in task.get("tags", []) if tag != "always"))
    return list(found)


def main() -> None:
    """Write what is not as it should be."""
    for role in roles():
        path, text = role / "README.md", readme(role)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"roles/{role.name}/README.md")


if __name__ == "__main__":
    main()
