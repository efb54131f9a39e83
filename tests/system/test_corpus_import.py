# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Configurations as people write them (tests/corpus/guests), imported: what is then declared differs in nothing."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._guestimport import inventory_of
from ansible_collections.xen.virtio.plugins.module_utils._merge import merge_guests
from guest_calls import call
from lab import LabHost
from test_corpus import CORPUS

#: What the lab has not: the disks of these guests, and the releases that some are for.
EXPECTED = {"target-missing", "release", "foreign-mapping"}


@pytest.mark.parametrize("release", ["4.17", pytest.param("4.20", marks=pytest.mark.trixie)])
def test_the_module_finds_nothing_to_change(lab_factory: Any, release: str) -> None:
    host: LabHost = lab_factory(release=release)
    host.answer_backends()
    host.add_domain("DomD", kind="toolstack")
    texts = {f"/etc/xen/{path.name}": path.read_text(encoding="utf-8") for path in CORPUS}
    for path, text in texts.items():
        (host.root / path[1:]).write_text(text, encoding="utf-8")
    found = inventory_of(
        {"board": [{"path": path, "text": text, "running": False} for path, text in texts.items()]}
    )
    assert found["refused"] == []
    guests = merge_guests(
        found["host_vars"]["board"]["xen_guests"], found["group_vars"].get("xen_guest_defaults")
    )
    assert len(guests) == len(CORPUS)
    for guest in guests:
        told = call(host, check=True, guests=[guest])
        (one,) = told["guests"]
        assert one["differences"]["config"] == [], guest
        assert not told["changed"], guest
        assert {finding["code"] for finding in told["findings"]} <= EXPECTED, told["findings"]
    for path, text in texts.items():
        assert (host.root / path[1:]).read_text(encoding="utf-8") == text
