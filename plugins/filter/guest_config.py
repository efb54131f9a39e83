# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter xen.virtio.guest_config."""

from __future__ import annotations

from typing import Any, Callable

from ansible.errors import AnsibleFilterError


def guest_config(guest: Any, xen: Any = None) -> str:
    """``guest`` of an inventory as the text of the xl configuration of the release ``xen``."""
    from ..module_utils._dialect import NEWEST, parse_dialect
    from ..module_utils._guestconfig import declare_guest, render_guest, split_guest

    try:
        dialect = NEWEST if xen is None else parse_dialect(xen)
        config = split_guest(guest)[0] if hasattr(guest, "items") else guest
        return render_guest(declare_guest(config), dialect)
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"guest_config": guest_config}
