# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter xen.virtio.rollout_progress."""

from __future__ import annotations

from typing import Any, Callable

from ansible.errors import AnsibleFilterError


def rollout_progress(
    report: Any,
    batch: Any = None,
    outcomes: Any = None,
    ended_at: Any = None,
    limit_file: Any = "",
) -> dict[str, Any]:
    """A rollout's report after a batch has begun, has ended, or all is over."""
    from ..plugin_utils._asdata import as_data
    from ..plugin_utils._rollout import advanced, ended

    try:
        if ended_at is not None:
            return as_data(ended(report, str(ended_at), str(limit_file or "")))
        return as_data(advanced(report, int(batch), outcomes))
    except (ValueError, TypeError) as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"rollout_progress": rollout_progress}
