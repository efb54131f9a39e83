# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter xen.virtio.fleet_table."""

from __future__ import annotations

from typing import Any, Callable

from ansible.errors import AnsibleFilterError


def fleet_table(report: Any) -> str:
    """A fleet report as a table for a terminal."""
    from ..plugin_utils._fleet_table import fleet_table as draw

    try:
        return draw(report)
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"fleet_table": fleet_table}
