# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a filter returns as data, of which nothing is a template to Ansible, whichever version it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.utils.unsafe_proxy import wrap_var


def as_data(report: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of its own.

    Ansible 2.18 reads a text out of hosts and guests as a template once a filter has joined it to another.
    """
    wrapped: dict[str, Any] = wrap_var(_copied(report))
    return wrapped


def _copied(value: Any) -> Any:
    """Containers as Python has them, in place of those that Ansible fills when they are looked at."""
    if isinstance(value, Mapping):
        return {str(key): _copied(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_copied(inner) for inner in value]
    return value
