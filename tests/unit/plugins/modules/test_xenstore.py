# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules' documentation says what their code takes."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import yaml
from ansible_collections.xen.virtio.plugins.doc_fragments.attributes import ModuleDocFragment as Attributes
from ansible_collections.xen.virtio.plugins.doc_fragments.store import ModuleDocFragment as StoreFragment
from ansible_collections.xen.virtio.plugins.module_utils import _xenstore_module as code
from ansible_collections.xen.virtio.plugins.modules import xenstore, xenstore_info

KEYS = ("type", "default", "required", "elements", "choices", "aliases")


def shape(options: dict[str, Any]) -> dict[str, Any]:
    """What documentation and argument specification say alike."""
    return {
        name: {
            **{key: option[key] for key in KEYS if option.get(key) not in (None, False, [])},
            **(
                {"options": shape(inner)}
                if (inner := option.get("suboptions") or option.get("options"))
                else {}
            ),
        }
        for name, option in options.items()
    }


@pytest.mark.parametrize(
    ("module", "spec"), [(xenstore, code.ARGUMENT_SPEC), (xenstore_info, code.INFO_ARGUMENT_SPEC)]
)
def test_documentation_and_code_agree(module: ModuleType, spec: dict[str, Any]) -> None:
    documented = yaml.safe_load(module.DOCUMENTATION)
    store = yaml.safe_load(StoreFragment.DOCUMENTATION)
    assert shape({**documented["options"], **store["options"]}) == shape(spec)
    assert documented["version_added"] == "0.1.0"
    for text in (module.EXAMPLES, module.RETURN, Attributes.DOCUMENTATION, Attributes.INFO):
        assert yaml.safe_load(text)


def test_examples_are_declarations() -> None:
    defaults = {name: option.get("default") for name, option in code.ARGUMENT_SPEC.items()}
    for task in yaml.safe_load(xenstore.EXAMPLES):
        assert code.parse_trees({**defaults, **task["xen.virtio.xenstore"]})
