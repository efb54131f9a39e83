# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter xen.virtio.teardown_plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable

from ansible.errors import AnsibleFilterError


def teardown_plan(
    host: Any,
    guests: Any,
    declared: Any = None,
    driver_domains: Any = None,
    backends: Any = None,
    inside: Any = None,
    leftovers: bool = False,
) -> dict[str, Any]:
    """What is to be taken away from a host, in which order, and why not."""
    from ..plugin_utils._teardown import TeardownError, named, plan_teardown

    if not isinstance(host, Mapping) or not isinstance(host.get("guests"), list):
        raise AnsibleFilterError("teardown_plan: it is given what the module guest_info returns")
    drivers = driver_domains if isinstance(driver_domains, Mapping) else {}
    try:
        return plan_teardown(
            host,
            named(guests),
            paths={one["name"]: one["path"] for one in declared or () if one.get("path")},
            drivers={str(name): (of or {}).get("host") for name, of in drivers.items()},
            backends=None if backends is True else named(backends),
            inside=inside or {},
            leftovers=bool(leftovers),
        ).as_dict()
    except TeardownError as error:
        raise AnsibleFilterError(f"teardown_plan: {error}") from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"teardown_plan": teardown_plan}
