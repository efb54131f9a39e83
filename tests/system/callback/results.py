# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write down what each task of a run returned."""

from __future__ import annotations

import json
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: results
type: aggregate
short_description: The result of every task
description: One JSON object a task and host, one a line, in a file.
options:
  path:
    description: The file.
    ini:
      - {section: results, key: path}
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]  # Ansible has no types
    """Ansible looks for this name."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "results"
    CALLBACK_NEEDS_ENABLED = True

    _play = ""

    def v2_playbook_on_play_start(self, play: Any) -> None:
        self._play = play.get_name()

    def v2_runner_on_ok(self, result: Any) -> None:
        self._note(result, "ok")

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._note(result, "failed")

    def v2_runner_on_skipped(self, result: Any) -> None:
        self._note(result, "skipped")

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._note(result, "unreachable")

    def _note(self, result: Any, outcome: str) -> None:
        task = getattr(result, "task", None) or result._task
        answer = getattr(result, "result", None) or result._result
        record = {
            "play": self._play,
            "task": task.get_name(),
            "action": task.action,
            "outcome": outcome,
            "result": answer,
        }
        with open(self.get_option("path"), "a", encoding="utf-8") as file:
            file.write(json.dumps(record, default=str) + "\n")
