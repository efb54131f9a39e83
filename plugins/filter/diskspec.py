# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter xen.virtio.diskspec."""

from __future__ import annotations

from typing import Any, Callable

from ansible.errors import AnsibleFilterError


def diskspec(disk: Any, xen: Any = None) -> str:
    """``disk``, a mapping or a string of any dialect, as the shortest string of the release ``xen``."""
    from ..module_utils._dialect import parse_dialect
    from ..module_utils._diskspec import DiskSpecError, declare, render

    try:
        dialect = None if xen is None else parse_dialect(xen)
        declared = declare(disk)
        for key in ("base", "irq"):
            if getattr(declared, key) is not None:
                raise DiskSpecError(f"disk {declared.spec.vdev}: no disk string can carry {key}", key=key)
        return render(declared.spec, dialect)
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"diskspec": diskspec}
