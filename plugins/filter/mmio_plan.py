# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter xen.virtio.mmio_plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Callable

from ansible.errors import AnsibleFilterError

if TYPE_CHECKING:
    from ..module_utils._mmio import Place
    from ..module_utils._virtio import GuestPlan


def _list(name: str, value: Any) -> list[Any]:
    if isinstance(value, (list, tuple)):
        return list(value)
    raise ValueError(f"{name} must be a list, not {type(value).__name__}")


def _number(name: str, value: Any) -> int:
    """A whole number, also as text (decimal, or with 0x), as xenstore and device trees have them."""
    if isinstance(value, str):
        try:
            return int(value, 16 if value[:2].lower() == "0x" else 10)
        except ValueError:
            pass
    elif isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    raise ValueError(f"{name} must be a whole number, not {value!r}")


def _existing(entries: list[Any]) -> dict[tuple[str, int], Place]:
    """The places guests' devices have, by what plan_guest() knows the devices by."""
    from ..module_utils._mmio import Place
    from ..module_utils._vdev import devid

    places = {}
    for entry in entries:
        if not isinstance(entry, Mapping):
            raise ValueError(f"an existing device is a mapping, not {entry!r}")
        if entry.get("base") is None or entry.get("irq") is None:
            continue  # a disk that is no virtio device
        if entry.get("kind", "disk") == "virtio":
            key = ("virtio", _number("index", entry.get("index")))
        elif entry.get("devid") is not None:
            key = ("disk", _number("devid", entry["devid"]))
        else:
            key = ("disk", devid(str(entry.get("vdev", ""))))
        places[key] = Place(_number("base", entry["base"]), _number("irq", entry["irq"]))
    return places


def _domids(domids: Any) -> dict[str, int]:
    if not isinstance(domids, (Mapping, type(None))):
        raise ValueError(f"domids must be a mapping of names to numbers, not {type(domids).__name__}")
    return {str(name): _number(f"the domid of {name}", domid) for name, domid in (domids or {}).items()}


def _result(plan: GuestPlan) -> dict[str, Any]:
    devices = [
        {
            "kind": device.kind,
            "index": device.index,
            "vdev": device.vdev,
            "devid": device.devid,
            "type": device.type,
            "backend": device.backend,
            "backend_domid": device.backend_domid,
            "grant_usage": device.grant_usage,
            "base": device.place.base,
            "irq": device.place.irq,
        }
        for device in plan.devices
    ]
    return {
        "devices": devices,
        "nr_spis": plan.nr_spis,
        "nodes": plan.dt_nodes(),
        "device_tree": plan.device_tree(),
        "unknown_backends": list(plan.unknown_backends),
    }


def mmio_plan(
    disks: Any,
    virtio: Any = (),
    existing: Any = (),
    domids: Any = None,
    irqs: Any = (),
    nr_spis: Any = None,
    vuart: bool = False,
    xen: Any = None,
) -> dict[str, Any]:
    """Where the virtio devices of a guest lie, and the device tree that tells the guest."""
    from ..module_utils._dialect import NEWEST, parse_dialect
    from ..module_utils._diskspec import declare
    from ..module_utils._virtio import parse_virtio, plan_guest

    try:
        plan = plan_guest(
            [declare(disk) for disk in _list("the input", disks)],
            [parse_virtio(entry) for entry in _list("virtio", virtio)],
            existing=_existing(_list("existing", existing)),
            domids=_domids(domids),
            irqs=[_number("an entry of irqs", irq) for irq in _list("irqs", irqs)],
            nr_spis=None if nr_spis is None else _number("nr_spis", nr_spis),
            vuart=bool(vuart),
            dialect=NEWEST if xen is None else parse_dialect(xen),
        )
        return _result(plan)
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"mmio_plan": mmio_plan}
