# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's side of modules that start a unit on a host: follow it, whatever becomes of the connection."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.plugins.connection import ConnectionBase
from ansible.utils.display import Display

#: Seconds after which a connection that says nothing is given up: else ssh waits for a quarter of an hour.
KEEPALIVE = "-o ServerAliveInterval=5 -o ServerAliveCountMax=3 -o ConnectTimeout=10"
#: Seconds that one call of the module follows the unit on the host.
CALL = 10.0
PAUSE = 1.0


class Follower(ActionBase):  # type: ignore[misc]  # Ansible has no types
    """An action that starts a unit with one call of its module, and looks at it with others until it has ended."""

    def follow(
        self,
        what: str,
        ask: Callable[[float], dict[str, Any]],
        running: Callable[[dict[str, Any]], bool | None],
        deadline: float,
    ) -> dict[str, Any] | None:
        """Look at a unit until it has ended.

        Args:
            what: of whom messages are.
            ask: one call of the module that follows for so many seconds; its result.
            running: from a result, whether the unit still runs; None where that cannot be told.
            deadline: of the clock.

        Returns:
            The last result that told anything, None where there was none.
        """
        self._be_impatient()
        last = None
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                return last
            try:
                answer = ask(min(CALL, left))
            except AnsibleError as error:  # the network is down, or what was copied there is gone
                Display().vv(f"{what}: cannot be looked at for now: {error}")
                self._connect_again()
                time.sleep(min(PAUSE, max(left, 0.0)))
                continue
            runs = running(answer)
            if runs is None:
                Display().vv(f"{what}: {answer.get('msg')}")
                time.sleep(min(PAUSE, max(left, 0.0)))
                continue
            last = answer
            if not runs:
                return last

    def _be_impatient(self) -> None:
        """Have ssh notice within seconds that a link is dead; what the user says of that comes first, and wins."""
        try:
            said = self._connection.get_option("ssh_extra_args") or ""
            self._connection.set_option("ssh_extra_args", f"{said} {KEEPALIVE}".strip())
        except (AnsibleError, KeyError):
            return  # no ssh
        self._connect_again()

    def _connect_again(self) -> None:
        if type(self._connection).reset is ConnectionBase.reset:
            return
        try:
            self._connection.reset()
        except AnsibleError as error:
            Display().vv(f"the connection was not reset: {error}")
