# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module guest_info: options in, result out; everything else is in `_guest_info`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._zipped import compile_once

compile_once()

from ._argspec import (
    STORE_MUTUALLY_EXCLUSIVE,
    domains_argument_spec,
    host_argument_spec,
    open_store,
    store_argument_spec,
    wanted_domains,
)
from ._dialect import DialectError
from ._disk_module import EXPECTED, as_text, seconds
from ._guest_info import gather
from ._guestsecrets import Hidden, HiddenError
from ._xl import Xl

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

#: Seconds for ``xl list`` and ``xl list -l``.
XL_TIMEOUT = 60.0

GUEST_INFO_ARGUMENT_SPEC: dict[str, Any] = {
    **store_argument_spec(),
    **domains_argument_spec(),
    **host_argument_spec("xen", "xl_path", "userdata_dir", "config_dir", "state_dir", "hidden"),
    "configs": {"type": "bool", "default": False},
    "texts": {"type": "bool", "default": False},
}
GUEST_INFO_CONSTRAINTS: dict[str, Any] = {"mutually_exclusive": list(STORE_MUTUALLY_EXCLUSIVE)}


def main_guest_info(module: AnsibleModule) -> None:
    """The module guest_info."""
    params = module.params
    try:
        with open_store(params) as store:
            found = gather(
                store,
                Xl(params["xl_path"], timeout=XL_TIMEOUT),
                wanted_domains(params),
                configs=params["configs"],
                texts=params["texts"],
                settle=seconds("settle", params["settle"]),
                userdata=params["userdata_dir"],
                config_dir=params["config_dir"],
                state_dir=params["state_dir"],
                xen=params["xen"],
                hidden=Hidden.of(params["hidden"]),
            )
    except (*EXPECTED, DialectError, HiddenError) as error:
        module.fail_json(msg=as_text(str(error)))
    except OSError as error:
        module.fail_json(msg=as_text(f"{error.filename}: {error.strerror}; see config_dir"))
    for warning in found.warnings:
        module.warn(as_text(warning))
    more = {"configs": found.configs, "unreadable": found.unreadable} if params["configs"] else {}
    module.exit_json(changed=False, **as_text({"guests": found.guests, **more}))
