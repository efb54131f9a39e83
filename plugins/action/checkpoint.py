# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's side of the module checkpoint: follow a restore on a host that may be out of reach for a while."""

from __future__ import annotations

import time
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.xen.virtio.plugins.module_utils._argspec import LIMITS, RESTORE_TIMEOUT
from ansible_collections.xen.virtio.plugins.plugin_utils._follow import Follower

#: What a restore may take, in seconds.
TAKES = {
    "restore_timeout": RESTORE_TIMEOUT,
    **{option: LIMITS[option] for option in ("shutdown_timeout", "create_timeout", "lock_timeout")},
}
#: Seconds for what a guest that was begun last needs beside these.
MORE = 60.0


class ActionModule(Follower):
    """Starts the unit with one call of the module, and looks at it with others until it has ended."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        del tmp
        args = dict(self._task.args)
        if args.get("state") != "restored" or not boolean(args.get("wait", True), strict=False):
            result.update(self._execute_module(module_args=args, task_vars=task_vars))
            return result
        first: dict[str, Any] = self._execute_module(module_args={**args, "wait": False}, task_vars=task_vars)
        result.update(first)
        if not _running(first) or self._task.check_mode:
            return result

        def ask(_seconds: float) -> dict[str, Any]:
            answer: dict[str, Any] = self._execute_module(
                module_args={**args, "wait": True, "unit": first["unit"]}, task_vars=task_vars
            )
            return answer

        limit = _limit(args)
        last = self.follow(f"checkpoint {args.get('name')}", ask, _running, time.monotonic() + limit)
        if last is not None:
            result.update({key: value for key, value in last.items() if key not in ("diff", "warnings")})
        if _running(result) is not False:
            result["failed"] = True
            result["msg"] = (
                f"checkpoint {args.get('name')}: its restore was not seen to end within {limit:g} s, and goes on by "
                f"itself ({first['unit']}); run the same again to read its outcome"
            )
        return result


def _limit(args: dict[str, Any]) -> float:
    """Seconds after which a restore has ended."""
    total = MORE
    for option, default in TAKES.items():
        try:
            total += float(args.get(option, default))
        except (TypeError, ValueError):
            total += default
    return total


def _running(answer: dict[str, Any]) -> bool | None:
    restore = answer.get("restore")
    return bool(restore["running"]) if isinstance(restore, dict) else None
