# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What modules, filters and inventory plugins say of themselves, as ansible-doc puts it together."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from ansible.plugins.loader import fragment_loader
from ansible.utils.plugin_docs import get_docstring

ROOT = Path(__file__).resolve().parents[1]
Json = dict[str, Any]

#: The members of the action group.
GROUP: list[str] = yaml.safe_load((ROOT / "meta/runtime.yml").read_text(encoding="utf-8"))["action_groups"][
    "all"
]


@dataclass(frozen=True)
class Plugin:
    """One of them.

    Attributes:
        kind: module, filter or inventory.
        doc: DOCUMENTATION with its fragments.
        examples: EXAMPLES as they are written, empty where there are none.
        returns: RETURN, empty where there is none.
    """

    kind: str
    name: str
    doc: Json
    examples: str
    returns: Json

    def __str__(self) -> str:
        return f"{self.kind}-{self.name}"


def read(kind: str, path: Path) -> Plugin:
    doc, examples, returns, _meta = get_docstring(
        str(path), fragment_loader, collection_name="xen.virtio", plugin_type=kind
    )
    return Plugin(kind, path.stem, doc, str(examples or ""), dict(returns or {}))


def every(kind: str, pattern: str) -> list[Plugin]:
    return [read(kind, path) for path in sorted(ROOT.glob(pattern))]


MODULES = every("module", "plugins/modules/[!_]*.py")
FILTERS = every("filter", "plugins/filter/[!_]*.yml")
PLUGINS = [*MODULES, *FILTERS, *every("inventory", "plugins/inventory/[!_]*.py")]


def spec_of(name: str) -> tuple[Json, Json]:
    """A module's argument spec and constraints."""
    module = importlib.import_module(f"ansible_collections.xen.virtio.plugins.modules.{name}")
    found = {
        key: value for key, value in vars(module).items() if key.endswith(("ARGUMENT_SPEC", "CONSTRAINTS"))
    }
    spec = next(value for key, value in found.items() if key.endswith("SPEC"))
    return spec, next((value for key, value in found.items() if key.endswith("CONSTRAINTS")), {})
