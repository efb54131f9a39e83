# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter import_guests, called as playbooks call it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.xen.virtio.plugins.filter.import_guests import FilterModule

import_guests = FilterModule().filters()["import_guests"]


def test_data_and_files_say_the_same() -> None:
    texts = {"b07": 'name = "a"; memory = 512\n', "b08": "name = 'a'\nmemory = 1024\n"}
    found = import_guests(
        {host: [{"path": "/etc/xen/a.cfg", "text": text, "running": True}] for host, text in texts.items()}
    )
    assert found["group_vars"] == {"xen_guests": {"a": {"path": "/etc/xen/a.cfg"}}}
    assert found["host_vars"]["b07"] == {"xen_guest_overrides": {"a": {"memory": 512}}}
    assert yaml.safe_load(found["files"]["group_vars"]) == found["group_vars"]
    for host in texts:
        assert yaml.safe_load(found["files"]["host_vars"][host]) == found["host_vars"][host]
    assert found["notes"] == found["refused"] == []


@pytest.mark.parametrize("hosts", [[], "a", {"h": "text"}, {"h": [1]}, {"h": {"path": "a"}}])
def test_refused(hosts: Any) -> None:
    with pytest.raises(AnsibleFilterError, match="mapping"):
        import_guests(hosts)
