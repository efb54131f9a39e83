# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemon that is installed in a driver domain against the one that the inventory declares. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def outdated(wanted: Mapping[str, Any], installed: object) -> tuple[str, str] | None:
    """What is installed and what is declared, where the one is not the other.

    Args:
        wanted: ``install``, ``version`` and ``checksum`` of role virtio_disk_backend; empty where nothing is declared.
        installed: the version as the role wrote it, with the declared version or the start of a checksum in it.
    """
    version, label = str(installed or ""), str(wanted.get("version") or "")
    checksum = str(wanted.get("checksum") or "").removeprefix("sha256:").lower()
    told = version or "(unknown)"
    if label not in version:  # an empty word is in every text
        return told, label
    if wanted.get("install") == "binary" and checksum[:12] not in version:
        return told, f"sha256:{checksum[:12]}"
    return None
