# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter xen.virtio.rollout_plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable

from ansible import constants, context
from ansible.errors import AnsibleFilterError


def rollout_plan(
    hosts: Any,
    started: Any,
    checkpoint: Any,
    *,
    named: Any = False,
    since: Any = "",
    serial: Any = None,
    canary: Any = None,
    known: Any = None,
    max_fail_percentage: Any = 0,
    files: Any = None,
    check: Any = False,
    everything: Any = False,
) -> dict[str, Any]:
    """Who goes in which batch, and whether the rollout may begin."""
    from ..module_utils._launcher import VERSION as LAUNCHER
    from ..plugin_utils._asdata import as_data
    from ..plugin_utils._rollout import (
        Settings,
        checkpoint_of,
        names_of,
        percentage_of,
        planned,
        serial_of,
        since_of,
    )
    from ..plugin_utils._rollout_boards import RolloutError, board_of
    from ..plugin_utils._rollout_command import by_hand, command_of

    try:
        if not isinstance(hosts, (list, tuple)):
            raise RolloutError(f"a list of hosts is expected, not {type(hosts).__name__}")
        known = {str(path): str(digest) or None for path, digest in dict(files or {}).items()}
        boards = [
            board_of(_with_launcher(one, LAUNCHER), known, everything=bool(everything)) for one in hosts
        ]
        arguments = dict(context.CLIARGS or {})
        settings = Settings(
            started=str(started),
            checkpoint=checkpoint_of(checkpoint),
            named=bool(named),
            since=since_of(since),
            serial=serial_of(serial),
            canary=names_of(canary),
            known=tuple(map(str, known or ())),
            max_fail=percentage_of(max_fail_percentage),
            check=bool(check),
            command=tuple(command_of(arguments, _defaults())),
            subset=str(arguments.get("subset") or ""),
            by_hand=tuple(by_hand(arguments, _defaults())),
        )
        return as_data(planned(boards, settings))
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


def _defaults() -> dict[str, Any]:
    """What the parser has of options that nobody gave: out of ansible.cfg, where a next command finds it as well."""
    return {
        name: getattr(constants, setting, None)
        for name, setting in (
            ("forks", "DEFAULT_FORKS"),
            ("timeout", "DEFAULT_TIMEOUT"),
            ("connection", "DEFAULT_TRANSPORT"),
            ("remote_user", "DEFAULT_REMOTE_USER"),
            ("private_key_file", "DEFAULT_PRIVATE_KEY_FILE"),
            ("become_method", "DEFAULT_BECOME_METHOD"),
            ("become_user", "DEFAULT_BECOME_USER"),
            ("become_password_file", "BECOME_PASSWORD_FILE"),
            ("connection_password_file", "CONNECTION_PASSWORD_FILE"),
        )
    }


def _with_launcher(entry: Any, version: str) -> Any:
    """What a board's daemons are to be, with the version of the launcher that this collection brings."""
    if not isinstance(entry, Mapping) or not entry.get("backend"):
        return entry
    return {**entry, "backend": {**entry["backend"], "launcher": version}}


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"rollout_plan": rollout_plan}
