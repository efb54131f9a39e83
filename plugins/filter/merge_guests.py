# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter xen.virtio.merge_guests."""

from __future__ import annotations

from typing import Any, Callable

from ansible.errors import AnsibleFilterError


def merge_guests(
    xen_guests: Any, defaults: Any = None, overrides: Any = None, limit: Any = None
) -> list[dict[str, Any]]:
    """The guests of one host: ``xen_guests`` over ``defaults`` and under ``overrides``, those in ``limit``."""
    from ..module_utils._merge import merge_guests as merged

    try:
        return merged(xen_guests, defaults, overrides, limit)
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"merge_guests": merge_guests}
