# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module disk_info: options in, result out; everything else is in `_disk_info`."""

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
from ._disk_info import gather
from ._disk_module import EXPECTED, as_text, seconds

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

INFO_ARGUMENT_SPEC: dict[str, Any] = {
    **store_argument_spec(),
    **domains_argument_spec(),
    **host_argument_spec("userdata_dir"),
}
INFO_CONSTRAINTS: dict[str, Any] = {"mutually_exclusive": list(STORE_MUTUALLY_EXCLUSIVE)}


def main_disk_info(module: AnsibleModule) -> None:
    """The module disk_info."""
    params = module.params
    try:
        with open_store(params) as store:
            guests = gather(
                store,
                wanted_domains(params),
                settle=seconds("settle", params["settle"]),
                userdata=params["userdata_dir"],
            )
    except EXPECTED as error:
        module.fail_json(msg=as_text(str(error)))
    module.exit_json(changed=False, guests=as_text(guests))
