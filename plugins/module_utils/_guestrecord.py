# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A configuration against libxl's own record of a domain: what the domain runs with and should not. Pure.

Both are libxl's JSON (``libxl_domain_config``, tools/libs/light/libxl_types.idl): a configuration as
``xl create -n`` prints it, the record as ``xl list -l`` does. xl keeps no text of what it made a domain from, so
this is the one comparison that holds for domains that anybody made. The record has libxl's defaults filled in;
so what a configuration says has to be in the record, and of the rest only what a configuration can be known to
have said before.

Disks are left to the store, which knows more of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ._guestsecrets import HIDDEN, Hidden, without_secrets
from ._vdev import VdevError, devid

KIB = 1024

#: What xl or libxl makes up for each domain, or changes in the record of a running one.
_OWN = frozenset(
    (
        "c_info.domid",
        "c_info.name",
        "c_info.run_hotplug_scripts",
        "c_info.ssidref",
        "c_info.uuid",
        "b_info.avail_vcpus",
        "b_info.claim_mode",
        "b_info.max_memkb",
        "b_info.max_vcpus",
        "b_info.shadow_memkb",
        "b_info.target_memkb",
    )
)

#: What libxl never fills in by itself: where a record has it, somebody said so.
_SAID = (
    "b_info.bootloader",
    "b_info.bootloader_args",
    "b_info.cmdline",
    "b_info.device_tree",
    "b_info.firmware",
    "b_info.iomem",
    "b_info.ioports",
    "b_info.irqs",
    "b_info.kernel",
    "b_info.ramdisk",
    "b_info.arch_arm.nr_spis",
    "b_info.arch_arm.tee",
    "b_info.arch_arm.vuart",
    "dtdevs",
    "pcidevs",
    "nics",
    "virtios",
    "on_poweroff",
    "on_watchdog",
)

#: Where xl.cfg has another name for it than libxl.
OPTIONS = {
    "b_info.max_memkb": "maxmem",
    "b_info.target_memkb": "memory",
    "b_info.max_vcpus": "maxvcpus",
    "b_info.avail_vcpus": "vcpus",
    "b_info.arch_arm.gic_version": "gic_version",
    "b_info.arch_arm.nr_spis": "nr_spis",
    "b_info.arch_arm.tee": "tee",
    "b_info.arch_arm.vuart": "vuart",
    "b_info.trap_unmapped_accesses": "trap_unmapped_accesses",
    "dtdevs": "dtdev",
    "pcidevs": "pci",
    "nics": "vif",
    "virtios": "virtio",
}


@dataclass(frozen=True)
class Change:
    """Something that is not as declared.

    Attributes:
        option: of xl.cfg where it has a name there, else libxl's path.
        before: as it is.
        after: as declared.
        live: it can be changed while the guest runs.
        hidden: its values are shown to nobody.
    """

    option: str
    before: Any
    after: Any
    live: bool = False
    hidden: bool = False

    def as_dict(self) -> dict[str, Any]:
        """As results carry it."""
        before, after = self.told
        return {"option": self.option, "before": before, "after": after, "live": self.live}

    @property
    def told(self) -> tuple[Any, Any]:
        """Before and after as a result may hold them: without passwords, and what is hidden."""
        if self.hidden:
            return None if self.before is None else HIDDEN, None if self.after is None else HIDDEN
        return without_secrets(self.option, self.before), without_secrets(self.option, self.after)

    @property
    def words(self) -> str:
        """In a few words, for a message."""
        before, after = self.told
        return f"{self.option}: {shown(before)} -> {shown(after)}"


def hide(changes: Iterable[Change], hidden: Hidden) -> list[Change]:
    """Changes of a configuration, those that are hidden marked so."""
    return [replace(one, hidden=True) if hidden.covers(one.option) else one for one in changes]


def hide_record(changes: Iterable[Change], hidden: Hidden) -> list[Change]:
    """The same of changes that `record_changes` found, in libxl's words."""
    return [
        replace(one, hidden=True) if hidden.covers_record(one.option, _AS_SAID) else one for one in changes
    ]


def shown(value: Any, longest: int = 60) -> str:
    """A value in a message: short, in one line."""
    if value is None:
        return "(none)"
    text = value if isinstance(value, str) and value.isprintable() and value else ascii(value)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def record_changes(
    wanted: Mapping[str, Any],
    record: Mapping[str, Any],
    made_from: Mapping[str, Any] | None = None,
    *,
    uuid: bool = False,
    maxmem: bool = True,
    maxvcpus: bool = True,
) -> list[Change]:
    """What a domain would have to change to be as its configuration says.

    Args:
        wanted: the configuration, from ``xl create -n``.
        record: the domain, from ``xl list -l``.
        made_from: the configuration that the domain was made from, where it is known.
        uuid: the configuration says a uuid (otherwise xl makes one up each time).
        maxmem, maxvcpus: the configuration says them. Where it does not, they follow memory and vcpus at a create,
            and a domain that has room for more is left in peace.
    """
    want, have = _flat(wanted), _flat(record)
    changes = list(_sizes(wanted, record, maxmem=maxmem, maxvcpus=maxvcpus))
    if uuid and want.get("c_info.uuid") != have.get("c_info.uuid"):
        changes.append(Change("uuid", have.get("c_info.uuid"), want.get("c_info.uuid")))
    found = dict(_said(want, have))
    found.update(_unsaid(want, have, made_from))
    changes += [Change(option, *found[option]) for option in found]
    return changes


def disk_order(record: Mapping[str, Any]) -> list[int]:
    """The device numbers of a record's disks in their order, which is what the guest calls vda, vdb, …"""
    order = []
    disks = record.get("disks")
    for disk in disks if isinstance(disks, list) else []:
        try:
            order.append(devid(str(disk["vdev"])))
        except (KeyError, TypeError, VdevError):
            continue
    return order


def _said(want: Mapping[str, Any], have: Mapping[str, Any]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    for path, value in want.items():
        if path in _OWN or path.startswith("disks"):
            continue
        if not _same(have.get(path), value):
            yield OPTIONS.get(_top(path), _option(path)), (_whole(have, path), _whole(want, path))


def _unsaid(
    want: Mapping[str, Any], have: Mapping[str, Any], made_from: Mapping[str, Any] | None
) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """What the domain was given, and the configuration has no word of any more."""
    if made_from is None:
        known = [path for path in have if _top(path) in _SAID or path in _SAID]
    else:
        then = _flat(made_from)
        known = [path for path in then if path in have and _same(have[path], then[path])]
    for path in known:
        if path in want or path in _OWN or path.startswith("disks"):
            continue
        if made_from is None and "[" in path and any(_entry(other) == _entry(path) for other in want):
            continue  # a list's entry that is there, and of which libxl filled in the rest
        yield OPTIONS.get(_top(path), _option(path)), (_whole(have, path), _whole(want, path))


def _sizes(
    wanted: Mapping[str, Any], record: Mapping[str, Any], *, maxmem: bool, maxvcpus: bool
) -> Iterator[Change]:
    """Memory (MiB) and vCPUs: within the maximum they change while the guest runs."""
    want, have = _build(wanted), _build(record)
    for top, now, scale, said in (
        ("max_memkb", "target_memkb", KIB, maxmem),
        ("max_vcpus", "avail_vcpus", 1, maxvcpus),
    ):
        # libxl takes one vCPU where nothing is said (libxl__domain_build_info_setdefault), and then says nothing
        lone = 1 if top == "max_vcpus" else None
        room, most = _number(have.get(top), lone), _number(want.get(top), lone)
        is_now, shall = _amount(have.get(now), lone), _amount(want.get(now), lone or most)
        if None not in (room, most) and room != most and (said or (shall or most or 0) > (room or 0)):
            yield Change(OPTIONS[f"b_info.{top}"], _scaled(room, scale), _scaled(most, scale))
        if None not in (is_now, shall) and is_now != shall:
            live = room is not None and shall is not None and shall <= room
            yield Change(OPTIONS[f"b_info.{now}"], _scaled(is_now, scale), _scaled(shall, scale), live)


def _build(config: Mapping[str, Any]) -> Mapping[str, Any]:
    found = config.get("b_info")
    return found if isinstance(found, Mapping) else {}


def _number(value: Any, otherwise: int | None = None) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else otherwise


def _amount(value: Any, otherwise: int | None) -> int | None:
    """A size, or how many vCPUs a list of them is."""
    return len(value) if isinstance(value, list) else _number(value, otherwise)


def _scaled(value: int | None, scale: int) -> int | None:
    return None if value is None else value // scale


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    """Every leaf by its path; list entries as ``nics[0].mac``."""
    found: dict[str, Any] = {}
    if isinstance(value, Mapping):
        for key, one in value.items():
            found.update(_flat(one, f"{path}.{key}" if path else str(key)))
    elif isinstance(value, list) and value and isinstance(value[0], (Mapping, list)):
        for index, one in enumerate(value):
            found.update(_flat(one, f"{path}[{index}]"))
    else:
        found[path] = value
    return found


def _top(path: str) -> str:
    """The option that a path belongs to: all of a list is one."""
    return path.partition("[")[0]


def _entry(path: str) -> str:
    """The entry of a list that a path lies in."""
    return path.partition("]")[0] if "[" in path else ""


def _option(path: str) -> str:
    """xl.cfg's name where it is the last part of libxl's, as it mostly is."""
    top = _top(path)
    for prefix in ("b_info.type.pvh.", "b_info.type.pv.", "b_info.type.hvm.", "b_info.", "c_info."):
        if top.startswith(prefix) and "." not in top[len(prefix) :]:
            return top[len(prefix) :]
    return top


#: Options that a record calls as a configuration does, and that stand for no other one.
_AS_SAID = frozenset(
    {"uuid", "root", "extra", *OPTIONS.values(), *(OPTIONS.get(path, _option(path)) for path in _SAID)}
)


def _whole(flat: Mapping[str, Any], path: str) -> Any:
    """An option's value; of a list's entry the entry, in words."""
    if "[" not in path:
        return flat.get(path)
    head = path[: path.index("]") + 1]
    entry = {one[len(head) + 1 :]: value for one, value in flat.items() if one.startswith(head)}
    return ", ".join(f"{key}={value}" for key, value in entry.items() if key) or None


def _same(have: Any, want: Any) -> bool:
    """libxl writes its booleans as text, and leaves out what is 0 or empty."""
    if have is None:
        return want in (0, "", [], "False", False)
    return bool(have == want) or (str(have) in ("True", "1") and str(want) in ("True", "1"))
