# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of a run, to be given again."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.plugin_utils._rollout_command import by_hand, command_of

#: As Ansible's own settings have them.
DEFAULTS: dict[str, Any] = {"forks": 5, "timeout": 10, "connection": "ssh", "become_method": "sudo"}


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
        (
            {
                "vault_password_files": ["/v1", "/v2"],
                "forks": 50,
                "become_user": "ops",
                "become_method": "doas",
            },
            "xen.virtio.rollout --forks 50 --vault-password-file /v1 --vault-password-file /v2 "
            "--become-method doas --become-user ops",
        ),
        (
            {
                "connection": "paramiko",
                "ssh_common_args": "-o ProxyJump=gate",
                "timeout": 30,
                "ask_pass": True,
            },
            "xen.virtio.rollout --connection paramiko --timeout 30 '--ssh-common-args=-o ProxyJump=gate' --ask-pass",
        ),
        ({**DEFAULTS, "tags": ("all",)}, "xen.virtio.rollout"),
    ],
)
def test_what_is_given_again(arguments: dict[str, Any], words: str) -> None:
    found = command_of(arguments, DEFAULTS)
    assert found == ["ansible-playbook", *shlex.split(words)]
    assert "secret" not in " ".join(found)


def test_the_same_way_by_hand() -> None:
    """What reaches hosts, and nothing of what the play did there."""
    arguments = {
        **DEFAULTS,
        "args": ("site/rollout.yml",),
        "inventory": ("inv",),
        "subset": "b07",
        "extra_vars": ("@vars.yml", "xen_rollout_soak=5 ansible_user=secret"),
        "tags": ("guests",),
        "forks": 50,
        "become": True,
        "vault_password_files": ["/v"],
    }
    words = "-i inv -e @vars.yml -e ansible_user=... --vault-password-file /v --become"
    assert by_hand(arguments, DEFAULTS) == words.split()
