# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter xen.virtio.fleet_report."""

from __future__ import annotations

from typing import Any, Callable

from ansible.errors import AnsibleFilterError


def fleet_report(hosts: Any, generated: Any, title: Any = "Xen fleet") -> dict[str, Any]:
    """What is found on the hosts of a fleet, as one document."""
    from ..plugin_utils._fleet_report import fleet_report as make

    try:
        return make(hosts, str(generated), str(title))
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"fleet_report": fleet_report}
