# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter xen.virtio.preflight."""

from __future__ import annotations

from typing import Any, Callable

from ansible.errors import AnsibleFilterError


def preflight(
    guests: Any,
    xen: Any = None,
    driver_domains: Any = None,
    targets: Any = None,
    before: Any = None,
    accept: Any = None,
) -> list[dict[str, Any]]:
    """What would fail or corrupt once these guests of one host are made, from inventory data alone."""
    from ..module_utils._dialect import NEWEST, parse_dialect
    from ..module_utils._findings import parse_acceptances, sort_out
    from ..module_utils._guestpicture import from_guests, read_driver_domains
    from ..module_utils._guestspecs import may_reorder, read_specs
    from ..module_utils._merge import MergeError
    from ..module_utils._preflight import preflight as examine
    from ..module_utils._target import read_targets

    try:
        if accept is not None and not isinstance(accept, (list, tuple)):
            raise MergeError(f"accept is a list of mappings, not {accept!r}")
        acceptances = parse_acceptances(accept or ())
        willing = may_reorder(guests, "guests")
        picture = from_guests(
            read_specs(guests, "guests"),
            NEWEST if xen is None else parse_dialect(xen),
            targets=read_targets(targets),
            before={spec.name: spec for spec in read_specs(before, "before") if spec.name not in willing},
            driver_domains=read_driver_domains(driver_domains),
        )
        standing, _accepted = sort_out(examine(picture), acceptances)
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error
    return [finding.as_dict() for finding in standing]


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"preflight": preflight}
