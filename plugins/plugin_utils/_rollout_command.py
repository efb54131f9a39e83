# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of a run, as it can be given again. Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

PLAYBOOK = "xen.virtio.rollout"

#: Variables that stand on a command line with their values: ours, among which there is no secret.
_OURS = ("xen_", "guest_", "dom0_", "virtio_disk_backend_")

#: Options of ansible-playbook that take a value, and how the parser calls them.
_VALUED = {"tags": "--tags", "skip_tags": "--skip-tags", "vault_ids": "--vault-id", "remote_user": "--user"}

_FLAGS = {"become": "--become", "ask_vault_pass": "--ask-vault-pass", "become_ask_pass": "--ask-become-pass"}


def command_of(arguments: Mapping[str, Any]) -> list[str]:
    """The words of the command line without a limit.

    Args:
        arguments: of ansible-playbook, as its parser has them.
    """
    words = ["ansible-playbook", *map(str, arguments.get("args") or [PLAYBOOK])]
    for source in arguments.get("inventory") or ():
        words += ["-i", str(source)]
    for given in arguments.get("extra_vars") or ():
        for shown in _extra(str(given)):
            words += ["-e", shown]
    for name, option in _VALUED.items():
        said = arguments.get(name)
        for one in said if isinstance(said, (list, tuple)) else [said]:
            if one and one != "all":
                words += [option, str(one)]
    private = arguments.get("private_key_file")
    words += ["--private-key", str(private)] if private else []
    words += [option for name, option in _FLAGS.items() if arguments.get(name)]
    return words


def _extra(given: str) -> Iterator[str]:
    """An option ``-e`` as it can be shown: what is not ours may be a secret, and is for whoever knows it to fill in."""
    if given.startswith("@"):
        yield given
        return
    if given.lstrip().startswith(("{", "[")):
        try:
            found = json.loads(given)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            yield "@..."
            return
        ours = {name: value for name, value in found.items() if _is_ours(name)}
        if ours:
            yield json.dumps(ours)
        yield from (f"{name}=..." for name in found if name not in ours)
        return
    try:
        parts = shlex.split(given)
    except ValueError:
        yield "@..."
        return
    for part in parts:
        name, equals, value = part.partition("=")
        if equals:
            yield f"{name}={shlex.quote(value)}" if _is_ours(name) else f"{name}=..."


def _is_ours(name: object) -> bool:
    return str(name).startswith(_OURS)
