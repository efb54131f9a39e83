# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter xen.virtio.fleet_exceeding."""

from __future__ import annotations

from typing import Any, Callable

from ansible.errors import AnsibleFilterError


def fleet_exceeding(report: Any, limit: Any = "warning") -> list[dict[str, Any]]:
    """The findings of a report that are worse than a limit."""
    from ..plugin_utils._fleet_report import check_report, exceeding

    try:
        check_report(report)
        return exceeding(report, str(limit))
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"fleet_exceeding": fleet_exceeding}
