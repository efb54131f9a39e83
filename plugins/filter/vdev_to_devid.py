# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter xen.virtio.vdev_to_devid."""

from __future__ import annotations

from typing import Any, Callable

from ansible.errors import AnsibleFilterError


def vdev_to_devid(vdev: Any) -> int:
    """The device number libxl gives to ``vdev``."""
    from ..module_utils._vdev import devid

    if isinstance(vdev, int) and not isinstance(vdev, bool):
        vdev = str(vdev)
    if not isinstance(vdev, str):
        raise AnsibleFilterError(f"a vdev is a name or a number, not {vdev!r}")
    try:
        return devid(str(vdev))
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"vdev_to_devid": vdev_to_devid}
