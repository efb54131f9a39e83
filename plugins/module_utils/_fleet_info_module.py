# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module fleet_info: options in, result out; everything else is in `_fleet_info`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from ._zipped import compile_once

compile_once()

from . import _backend_info, _backend_rules, _fleet_info
from ._argspec import STORE_MUTUALLY_EXCLUSIVE, host_argument_spec, open_store, store_argument_spec
from ._disk_module import as_text, seconds
from ._guestfiles import IMAGES_DIR
from ._guestsecrets import Hidden
from ._storage import Storage
from ._target import TargetError, read_targets
from ._xl import AskedOnce

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

#: Seconds for one question to xl.
XL_TIMEOUT = 60.0

DOM0, BACKEND = "dom0", "backend"

FLEET_INFO_ARGUMENT_SPEC: dict[str, Any] = {
    **store_argument_spec(),
    "side": {"type": "str", "choices": [DOM0, BACKEND], "default": DOM0},
    "guests": {"type": "list", "elements": "dict", "default": []},
    "targets": {"type": "dict", "default": {}},
    "look_at": {"type": "list", "elements": "str", "default": []},
    "settle": {"type": "float", "default": 0},
    "wait_timeout": {"type": "float", "default": 10},
    "images_dir": {"type": "path", "default": IMAGES_DIR},
    **host_argument_spec(
        "xen", "xl_path", "userdata_dir", "config_dir", "state_dir", "lib_dir", "unit_dir", "hidden"
    ),
}
FLEET_INFO_CONSTRAINTS: dict[str, Any] = {"mutually_exclusive": list(STORE_MUTUALLY_EXCLUSIVE)}


def main_fleet_info(module: AnsibleModule) -> None:
    """The module fleet_info."""
    params = module.params
    found: dict[str, Any] = {"side": params["side"], "backend": backend(params)}
    if params["look_at"]:
        storage = Storage()
        found["targets"] = {target: storage.look(target).as_dict() for target in params["look_at"]}
    if params["side"] == DOM0:
        try:
            found.update(dom0(params))
        except (TargetError, ValueError) as error:
            module.fail_json(msg=as_text(str(error)))
    module.exit_json(changed=False, **as_text(found))


def dom0(params: Mapping[str, Any]) -> dict[str, Any]:
    """What dom0 knows."""
    places = _fleet_info.Places(
        userdata=params["userdata_dir"],
        config_dir=params["config_dir"],
        state_dir=params["state_dir"],
        images_dir=params["images_dir"],
        settle=seconds("settle", params["settle"]),
        wait_timeout=seconds("wait_timeout", params["wait_timeout"]),
        xen=params["xen"],
        hidden=Hidden.of(params["hidden"]),
    )
    return _fleet_info.gather(
        AskedOnce(params["xl_path"], timeout=XL_TIMEOUT),
        partial(open_store, params),
        params["guests"],
        targets=read_targets(params["targets"]),
        places=places,
    )


def backend(params: Mapping[str, Any]) -> dict[str, Any]:
    """What serves disks on this very host."""
    facts = _backend_info.gather(
        partial(open_store, params), lib_dir=params["lib_dir"], unit_dir=params["unit_dir"]
    )
    findings = [finding.as_dict() for finding in _backend_rules.findings(facts)]
    return {**_backend_rules.as_result(facts), "findings": findings}
