# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter xen.virtio.storage_targets."""

from __future__ import annotations

from typing import Any, Callable

from ansible.errors import AnsibleFilterError


def storage_targets(guests: Any) -> dict[str, list[str]]:
    """The targets of the guests' disks by backend domain."""
    from ..module_utils._guestspecs import read_specs, targets_of

    try:
        return targets_of(read_specs(guests, "guests"))
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"storage_targets": storage_targets}
