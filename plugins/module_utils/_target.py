# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of the storage behind a target, wherever it was looked at. Pure.

A driver domain's storage is looked at there (module storage_info) and the result travels through a playbook;
so facts have one shape in Python and one in results, and are read back without trust in either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

#: Kinds of a target. Of these virtio-disk can serve a block device and a regular file
#: (``libxl__device_disk_set_backend`` in tools/libs/light/libxl_device.c asks for one of the two).
BLOCK, FILE, OTHER, MISSING, UNKNOWN = "block", "file", "other", "missing", "unknown"
KINDS = (BLOCK, FILE, OTHER, MISSING, UNKNOWN)

#: Ways in which storage is in use: mounted, swapped to, part of another device, held exclusively.
MOUNT, SWAP, HOLDER, HELD = "mount", "swap", "holder", "held"
WAYS = (MOUNT, SWAP, HOLDER, HELD)


class TargetError(ValueError):
    """Facts that are none; the text names the place."""


class Use(NamedTuple):
    """One use of storage by the very domain it belongs to."""

    by: str  #: one of WAYS
    what: str  #: the mount point, the swap's path, the device above it, or the processes that have it open
    on: str  #: the device or file that is in use; another one than the target where it lies on the same storage

    def __str__(self) -> str:
        words = {
            MOUNT: f"mounted at {self.what}",
            SWAP: "used as swap",
            HOLDER: f"part of {self.what}",
            HELD: f"held exclusively, and open in {self.what}" if self.what else "held exclusively",
        }
        return f"{self.on} is {words[self.by]}"


@dataclass(frozen=True)
class Target:
    """The storage behind a target.

    Attributes:
        kind: one of KINDS; ``unknown`` where it may not be looked at.
        path: what the target is once links are followed.
        size: in bytes, None where it cannot be told.
        readonly: nothing can be written to it.
        names: under which other targets can be recognised as the same storage.
        uses: by whom it is in use already.
        note: why something could not be told.
    """

    kind: str
    path: str | None = None
    size: int | None = None
    readonly: bool | None = None
    names: frozenset[str] = frozenset()
    uses: tuple[Use, ...] = ()
    note: str | None = None

    @property
    def exists(self) -> bool | None:
        """None where it cannot be told."""
        return None if self.kind == UNKNOWN else self.kind != MISSING

    def as_dict(self) -> dict[str, Any]:
        """The facts as results carry them."""
        return {
            "exists": self.exists,
            "kind": self.kind,
            "path": self.path,
            "size": self.size,
            "readonly": self.readonly,
            "names": sorted(self.names),
            "in_use": [{"by": use.by, "what": use.what, "storage": use.on} for use in self.uses],
            "note": self.note,
        }


#: Backend domain, as disks name it → target → facts.
TargetFacts = Mapping[str, Mapping[str, Target]]


def read_targets(given: object) -> dict[str, dict[str, Target]]:
    """Facts by backend domain and target, out of results of storage_info.

    Args:
        given: backend domain → `targets` of storage_info's result, or that whole result; None is nothing.

    Raises:
        TargetError: another shape; the text names the place.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise TargetError(f"targets: a mapping of backend domains is expected, not {given!r}")
    found: dict[str, dict[str, Target]] = {}
    for backend, result in given.items():
        whole = isinstance(result, Mapping) and isinstance(result.get("targets"), Mapping)
        listed = result["targets"] if whole else result
        if not isinstance(listed, Mapping):
            raise TargetError(
                f"targets.{backend}: the targets of a result of xen.virtio.storage_info are expected, not {listed!r}"
            )
        place = f"targets.{backend}"
        found[str(backend)] = {
            str(target): _target(facts, f"{place}[{str(target)!r}]") for target, facts in listed.items()
        }
    return found


def _target(facts: object, place: str) -> Target:
    if not isinstance(facts, Mapping) or facts.get("kind") not in KINDS:
        raise TargetError(
            f"{place}: facts of xen.virtio.storage_info are expected (kind is one of {', '.join(KINDS)}), not {facts!r}"
        )
    size, names, uses = facts.get("size"), facts.get("names") or [], facts.get("in_use") or []
    if size is not None and (not isinstance(size, int) or isinstance(size, bool)):
        raise TargetError(f"{place}: size is a number of bytes, not {size!r}")
    if not isinstance(names, (list, tuple)) or not isinstance(uses, (list, tuple)):
        raise TargetError(f"{place}: names and in_use are lists")
    readonly = facts.get("readonly")
    return Target(
        kind=str(facts["kind"]),
        path=_text(facts.get("path")),
        size=size,
        readonly=None if readonly is None else bool(readonly),
        names=frozenset(str(name) for name in names),
        uses=tuple(_use(use, place) for use in uses),
        note=_text(facts.get("note")),
    )


def _use(use: object, place: str) -> Use:
    if not isinstance(use, Mapping) or use.get("by") not in WAYS:
        raise TargetError(
            f"{place}: an entry of in_use has by (one of {', '.join(WAYS)}), what and storage: {use!r}"
        )
    return Use(str(use["by"]), str(use.get("what") or ""), str(use.get("storage") or "it"))


def _text(value: object) -> str | None:
    return None if value is None else str(value)
