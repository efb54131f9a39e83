# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter xen.virtio.guest_images."""

from __future__ import annotations

from typing import Any, Callable

from ansible.errors import AnsibleFilterError


def guest_images(guests: Any, folder: str) -> dict[str, list[dict[str, Any]]]:
    """The files that ``guests`` declare as ``{src, checksum}``, and the guests with their paths on the host."""
    from ..module_utils._guestimages import images_of

    try:
        return images_of(guests, str(folder))
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"guest_images": guest_images}
