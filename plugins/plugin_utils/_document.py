# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documents that one task makes and another goes on with. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def checked(
    report: object, kind: str, version: int, maker: str, error: type[ValueError]
) -> Mapping[str, Any]:
    """A document that this version understands.

    Args:
        report: what was given for it.
        kind, version: its ``format`` and ``version``.
        maker: the filter that makes such documents.
        error: what is raised where it is none.
    """
    if not isinstance(report, Mapping) or report.get("format") != kind:
        raise error(f"a report of {maker} is expected")
    if report.get("version") != version:
        raise error(f"the report has version {report.get('version')!r}, and {version} is understood here")
    return report
