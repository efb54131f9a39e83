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

#: What of a play is carried out: options of ansible-playbook that take a value, by the parser's names for them.
_PARTS = {"tags": "--tags", "skip_tags": "--skip-tags"}

#: How hosts are reached and secrets found, which every command of Ansible's takes.
_WAYS = {
    "vault_ids": "--vault-id",
    "vault_password_files": "--vault-password-file",
    "remote_user": "--user",
    "private_key_file": "--private-key",
    "connection": "--connection",
    "timeout": "--timeout",
    "ssh_common_args": "--ssh-common-args",
    "ssh_extra_args": "--ssh-extra-args",
    "sftp_extra_args": "--sftp-extra-args",
    "scp_extra_args": "--scp-extra-args",
    "become_method": "--become-method",
    "become_user": "--become-user",
    "become_password_file": "--become-password-file",
    "connection_password_file": "--connection-password-file",
}

_FLAGS = {
    "become": "--become",
    "ask_pass": "--ask-pass",
    "ask_vault_pass": "--ask-vault-pass",
    "become_ask_pass": "--ask-become-pass",
}


def command_of(arguments: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> list[str]:
    """The words of the command line without a limit.

    Args:
        arguments: of ansible-playbook, as its parser has them.
        defaults: what the parser has where nobody says anything, by the same names.
    """
    words = ["ansible-playbook", *map(str, arguments.get("args") or [PLAYBOOK])]
    for source in arguments.get("inventory") or ():
        words += ["-i", str(source)]
    for given in arguments.get("extra_vars") or ():
        for shown in _extra(str(given)):
            words += ["-e", shown]
    words += _valued({**_PARTS, "forks": "--forks"}, arguments, {**(defaults or {}), "tags": "all"})
    return words + _ways(arguments, defaults or {})


def by_hand(arguments: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> list[str]:
    """The words that `ansible` needs to reach the same hosts in the same way; arguments as for `command_of`."""
    words = [word for source in arguments.get("inventory") or () for word in ("-i", str(source))]
    for given in arguments.get("extra_vars") or ():
        for shown in _extra(str(given)):
            if shown.startswith("@") or shown.endswith("=..."):
                words += ["-e", shown]
    return words + _ways(arguments, defaults or {})


def _ways(arguments: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[str]:
    flags = [option for name, option in _FLAGS.items() if arguments.get(name)]
    return _valued(_WAYS, arguments, defaults) + flags


def _valued(
    options: Mapping[str, str], arguments: Mapping[str, Any], defaults: Mapping[str, Any]
) -> list[str]:
    """Options with their values, where these are not what they are by themselves."""
    words = []
    for name, option in options.items():
        said = arguments.get(name)
        for one in said if isinstance(said, (list, tuple)) else [said]:
            if not one or one == defaults.get(name):
                continue
            # a value that looks like an option is one to the parser
            words += [f"{option}={one}"] if str(one).startswith("-") else [option, str(one)]
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
