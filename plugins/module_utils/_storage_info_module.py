# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module storage_info: options in, result out; everything else is in `_storage`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._zipped import compile_once

compile_once()

from ._storage import Storage

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

STORAGE_ARGUMENT_SPEC: dict[str, Any] = {
    "targets": {"type": "list", "elements": "str", "required": True, "aliases": ["target"]},
}


def main_storage_info(module: AnsibleModule) -> None:
    """The module storage_info."""
    storage = Storage()
    listed = dict.fromkeys(module.params["targets"])
    module.exit_json(changed=False, targets={_text(target): _shown(storage, target) for target in listed})


def _shown(storage: Storage, target: str) -> dict[str, Any]:
    """The facts as JSON carries them: a path may hold bytes that are no text."""
    facts = storage.look(target).as_dict()
    for key in ("path", "note"):
        facts[key] = _text(facts[key])
    facts["in_use"] = [{name: _text(value) for name, value in use.items()} for use in facts["in_use"]]
    return facts


def _text(value: str | None) -> str | None:
    return (
        None
        if value is None
        else value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    )
