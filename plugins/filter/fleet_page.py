# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter xen.virtio.fleet_page."""

from __future__ import annotations

from typing import Any, Callable

from ansible.errors import AnsibleFilterError


def fleet_page(report: Any) -> str:
    """A fleet report as one HTML page."""
    from ..plugin_utils._fleet_page import fleet_page as draw

    try:
        return draw(report)
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"fleet_page": fleet_page}
