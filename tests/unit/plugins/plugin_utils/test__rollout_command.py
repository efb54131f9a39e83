# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of a run, to be given again."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.plugin_utils._rollout_command import command_of


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "xen.virtio.rollout"),
        ({"args": ("site/rollout.yml",), "inventory": ("a b", "c")}, "site/rollout.yml -i 'a b' -i c"),
        ({"subset": "b07", "extra_vars": ("@vars.yml",)}, "xen.virtio.rollout -e @vars.yml"),
        (
            {"extra_vars": ("guest_recreate=allowed password=secret", 'xen_rollout_checkpoint="a b"')},
            "xen.virtio.rollout -e guest_recreate=allowed -e password=... -e xen_rollout_checkpoint=\"'a b'\"",
        ),
        (
            {"extra_vars": ('{"xen_rollout_serial": [1, "50%"], "token": "secret"}',)},
            """xen.virtio.rollout -e '{"xen_rollout_serial": [1, "50%"]}' -e token=...""",
        ),
        ({"extra_vars": ("{xen_offline: fail}", "it's")}, "xen.virtio.rollout -e @... -e @..."),
        ({"tags": ["all"], "skip_tags": (), "become": True}, "xen.virtio.rollout --become"),
        (
            {"tags": ("guests",), "vault_ids": ["dev@prompt"]},
            "xen.virtio.rollout --tags guests --vault-id dev@prompt",
        ),
        (
            {"private_key_file": "/k", "remote_user": "root"},
            "xen.virtio.rollout --user root --private-key /k",
        ),
    ],
)
def test_what_is_given_again(arguments: dict[str, Any], words: str) -> None:
    found = command_of(arguments)
    assert found == ["ansible-playbook", *shlex.split(words)]
    assert "secret" not in " ".join(found)
