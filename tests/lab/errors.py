# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong in the lab itself, apart from what the programs in it do."""

from __future__ import annotations


class LabError(RuntimeError):
    """The lab was asked for something it cannot do, or a part of it failed."""


class LabUnavailable(LabError):  # noqa: N818 - it names a state, as pytest.skip does
    """This machine cannot run the lab; the message says what it lacks, in one sentence."""
