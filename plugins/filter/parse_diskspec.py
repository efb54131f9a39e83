# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter xen.virtio.parse_diskspec."""

from __future__ import annotations

from typing import Any, Callable

from ansible.errors import AnsibleFilterError


def parse_diskspec(text: Any, xen: Any = None) -> dict[str, Any]:
    """The disk that xl's parser makes of ``text``, as a mapping."""
    from ..module_utils._dialect import parse_dialect
    from ..module_utils._diskspec import parse, to_mapping

    try:
        return to_mapping(parse(text, None if xen is None else parse_dialect(xen)))
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"parse_diskspec": parse_diskspec}
