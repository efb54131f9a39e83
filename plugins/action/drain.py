# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's side of the module drain: follow a unit on a host that may be out of reach for a while."""

from __future__ import annotations

import time
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.xen.virtio.plugins.module_utils._argspec import FOLLOW
from ansible_collections.xen.virtio.plugins.plugin_utils._follow import Follower


class ActionModule(Follower):
    """Starts the unit with one call of the module, and looks at it with others until it has ended."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        del tmp
        args = dict(self._task.args)
        try:
            follow = float(args.get("follow", FOLLOW))
        except (TypeError, ValueError):
            follow = 0.0  # the module says what is wrong with it
        else:
            args["follow"] = min(follow, 0.0)
        deadline = time.monotonic() + follow
        first = self._execute_module(module_args=args, task_vars=task_vars)
        result.update(first)
        if result.get("failed") or not boolean(args.get("consent", False), strict=False):
            return result
        if not result["changed"] and not (result.get("drain") or {}).get("running"):
            return result  # it is as the last restart left it
        if self._task.check_mode or follow <= 0:
            return result
        result["drain"] = drain = self._followed(
            result["drain"], {**args, "consent": False}, deadline, task_vars
        )
        result["msg"] = drain["msg"]
        if drain["outcome"] != "done":
            result["failed"] = True
        if drain["outcome"] in ("running", "interrupted"):
            result["msg"] = self._unknown(drain, follow)
        return result

    def _followed(
        self, drain: dict[str, Any], args: dict[str, Any], deadline: float, task_vars: dict[str, Any] | None
    ) -> dict[str, Any]:
        """The restart once it has ended, or as it was seen last."""
        if not drain["running"]:
            return drain

        def ask(seconds: float) -> dict[str, Any]:
            answer: dict[str, Any] = self._execute_module(
                module_args={**args, "follow": seconds}, task_vars=task_vars
            )
            return answer

        last = self.follow(drain["domain"], ask, _running, deadline)
        return drain if last is None else dict(last["drain"])

    def _unknown(self, drain: dict[str, Any], follow: float) -> str:
        where = f"run the same again to read its outcome, or look at {drain['state_file']} on the host"
        if drain["outcome"] == "interrupted":
            return (
                f"{drain['domain']}: its restart was cut off ({drain['unit']}); run the same again to go on"
            )
        return f"{drain['domain']}: its restart was not seen to end within {follow:g} s, and goes on by itself; {where}"


def _running(answer: dict[str, Any]) -> bool | None:
    if answer.get("failed") or not answer.get("drain"):
        return None
    return bool(answer["drain"]["running"])
