# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write down how long each task of a play took, from its start to the host's answer."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: stopwatch
type: aggregate
short_description: Seconds a task
description:
  - One JSON object a task and host, one a line, in the file that the environment variable STOPWATCH names.
  - The last has the seconds from the first task's start to the end, as C(whole).
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Ansible looks for this name."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "stopwatch"
    CALLBACK_NEEDS_ENABLED = True

    _begun: float | None = None

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """The clock starts."""
        self._name = task.get_name()
        self._start = time.perf_counter()
        if self._begun is None:
            self._begun = self._start

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """The other clock stops."""
        if self._begun is not None:
            self._write({"whole": time.perf_counter() - self._begun})

    def v2_runner_on_ok(self, result: Any) -> None:
        """The clock stops."""
        self._note(result, failed=False)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """The clock stops, and somebody will want to know why."""
        self._note(result, failed=True)

    def _note(self, result: Any, failed: bool) -> None:
        seconds = time.perf_counter() - self._start
        answer = getattr(result, "result", None) or result._result
        record: dict[str, Any] = {
            "task": self._name,
            "seconds": seconds,
            "changed": bool(answer.get("changed")),
            "failed": str(answer.get("msg")) if failed else None,
        }
        self._write(record)

    def _write(self, record: dict[str, Any]) -> None:
        with open(os.environ["STOPWATCH"], "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
