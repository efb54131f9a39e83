# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module backend_foreign: options in, result out; everything else is in `_foreign`."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

from ._zipped import compile_once

compile_once()

from . import _daemons
from ._argspec import STORE_MUTUALLY_EXCLUSIVE, open_store, store_argument_spec
from ._backend_info import init_system, read_store
from ._backend_rules import service_as_dict
from ._foreign import UNIT_NAME, ForeignError, Plan, Systemd, as_result, carry_out, survey
from ._served import services

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

BACKEND_FOREIGN_ARGUMENT_SPEC: dict[str, Any] = {
    **store_argument_spec(),
    "state": {"type": "str", "choices": ["absent", "restored"], "default": "absent"},
    "daemon": {"type": "path"},
    "units": {"type": "list", "elements": "str", "default": []},
    "disrupt": {"type": "bool", "default": False},
    "config_dir": {"type": "path", "default": "/etc/xen-virtio"},
}
BACKEND_FOREIGN_CONSTRAINTS: dict[str, Any] = {"mutually_exclusive": list(STORE_MUTUALLY_EXCLUSIVE)}


def main_backend_foreign(module: AnsibleModule) -> None:
    """The module backend_foreign."""
    params = module.params
    systemd = Systemd(kept=os.path.join(params["config_dir"], "masked"))
    if init_system() != "systemd":
        module.fail_json(
            msg="backend_foreign: this host is not run by systemd, which keeps the launcher's units"
        )
    for unit in params["units"]:
        if not UNIT_NAME.fullmatch(unit):
            module.fail_json(msg=f"units: {unit!r} is no name of a service")
    try:
        if params["state"] == "restored":
            _restore(module, systemd)
        else:
            _end(module, systemd)
    except ForeignError as error:
        module.fail_json(msg=str(error))


def _end(module: AnsibleModule, systemd: Systemd) -> None:
    params = module.params
    names = [name for name in (os.path.basename(params["daemon"] or ""),) if name]
    # a store that does not answer makes no daemon idle: its open files have to
    disks = read_store(partial(open_store, params)).get("disks", [])
    found = [one for one in services(_daemons.find(names), disks) if one.daemon.ours is None]
    made = survey(found, systemd, names=names, always=params["units"], disrupt=params["disrupt"])
    result = {**as_result(made), "foreign": [service_as_dict(one) for one in found], "restored": []}
    if made.refusals:
        module.fail_json(msg=". ".join(made.refusals), changed=False, **{**result, **as_result(Plan())})
    if not made.empty and not module.check_mode:
        carry_out(made, systemd)
        left = _daemons.foreign(names)
        if left:
            raise ForeignError(
                f"{left[0].label} came up while daemons were ended; see what starts it ({left[0].command})"
            )
    module.exit_json(changed=not made.empty, diff=made.as_diff(), **result)


def _restore(module: AnsibleModule, systemd: Systemd) -> None:
    units = systemd.ours()
    if not module.check_mode:
        for unit in units:
            systemd.unmask(unit)
        if units:
            systemd.reload()
    diff = {
        "before": "".join(f"{unit}: masked\n" for unit in units),
        "after": "".join(f"{unit}: may run\n" for unit in units),
    }
    module.exit_json(changed=bool(units), diff=diff, restored=units, foreign=[], **as_result(Plan()))
