# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter xen.virtio.import_guests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable

from ansible.errors import AnsibleFilterError
from ansible.utils.unsafe_proxy import wrap_var


def import_guests(hosts: Any) -> Any:
    """An inventory of guests out of the configurations that ``hosts`` have, as data and as files."""
    from ..module_utils._guestimport import inventory_of, to_yaml

    if not isinstance(hosts, Mapping):
        raise AnsibleFilterError(f"hosts is a mapping of lists of configurations, not {hosts!r}")
    for host, entries in hosts.items():
        if not isinstance(entries, (list, tuple)) or not all(isinstance(entry, Mapping) for entry in entries):
            raise AnsibleFilterError(f"{host}: a list of mappings with path, text and running is needed")
    found = inventory_of(hosts)
    files = {
        "group_vars": to_yaml(found["group_vars"]),
        "host_vars": {host: to_yaml(data) for host, data in found["host_vars"].items()},
    }
    # What a host says is no template, whatever it looks like.
    return wrap_var({**found, "files": files})


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"import_guests": import_guests}
