# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lab hosts as tests of guests have them."""

from __future__ import annotations

import pytest
from lab import LabHost

#: A toolstack's release and its daemon.
BOARDS = [("4.17", "c"), ("4.17", "o"), pytest.param(("4.20", "c"), marks=pytest.mark.trixie)]


def prepared(host: LabHost) -> LabHost:
    """Backends and guests that answer, and a driver domain DomD (1) that says it is ready."""
    host.answer_backends()
    host.guest_answers()
    assert host.add_domain(name="DomD", kind="toolstack", ready=["virtio-disk"]) == 1
    host.wait_for_guests()
    return host
