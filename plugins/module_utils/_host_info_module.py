# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module host_info: options in, result out; everything else is in `_host_info`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ._zipped import compile_once

compile_once()

from ._argspec import STORE_MUTUALLY_EXCLUSIVE, host_argument_spec, open_store, store_argument_spec
from ._disk_module import as_text
from ._host_info import gather
from ._xl import Xl

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

#: Seconds for ``xl info``, some hypercalls.
XL_TIMEOUT = 20.0

HOST_INFO_ARGUMENT_SPEC: dict[str, Any] = {
    **store_argument_spec(),
    **host_argument_spec("xl_path", "userdata_dir"),
}
HOST_INFO_CONSTRAINTS: dict[str, Any] = {"mutually_exclusive": list(STORE_MUTUALLY_EXCLUSIVE)}


def main_host_info(module: AnsibleModule) -> None:
    """The module host_info."""
    params = module.params
    xl = Xl(params["xl_path"], timeout=XL_TIMEOUT)
    found = gather(xl, partial(open_store, params), userdata=params["userdata_dir"])
    module.exit_json(changed=False, **as_text(found))
