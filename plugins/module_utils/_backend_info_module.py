# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module backend_info: options in, result out; everything else is in `_backend_info` and `_backend_rules`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from ._zipped import compile_once

compile_once()

from ._argspec import STORE_MUTUALLY_EXCLUSIVE, host_argument_spec, open_store, store_argument_spec
from ._backend_info import gather
from ._backend_rules import AcceptError, Facts, as_result, findings, part

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

BACKEND_INFO_ARGUMENT_SPEC: dict[str, Any] = {
    **store_argument_spec(),
    "daemon": {"type": "path"},
    "run_dir": {"type": "path", "default": "/run/virtio-disk"},
    "config_dir": {"type": "path", "default": "/etc/xen-virtio"},
    **host_argument_spec("lib_dir", "unit_dir"),
    "accept": {"type": "list", "elements": "dict", "default": []},
}
BACKEND_INFO_CONSTRAINTS: dict[str, Any] = {"mutually_exclusive": list(STORE_MUTUALLY_EXCLUSIVE)}


def look(params: Mapping[str, Any]) -> Facts:
    """The facts that a task's options ask for."""
    name = os.path.basename(params["daemon"] or "")
    return gather(
        partial(open_store, params),
        names=[name] if name else [],
        run_dir=params["run_dir"],
        config_dir=params["config_dir"],
        lib_dir=params["lib_dir"],
        unit_dir=params["unit_dir"],
    )


def main_backend_info(module: AnsibleModule) -> None:
    """The module backend_info."""
    facts = look(module.params)
    try:
        standing, accepted = part(findings(facts), module.params["accept"])
    except AcceptError as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=False,
        **as_result(facts),
        findings=[finding.as_dict() for finding in standing],
        accepted=[finding.as_dict() for finding in accepted],
    )
