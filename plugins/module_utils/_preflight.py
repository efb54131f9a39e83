# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every rule that would fail or corrupt later, checked over a whole host at once. Pure.

The rules look at the picture after the call (`_picture`): what is declared, what stays of the same guests,
and what other guests have at the same backend domains. A finding always concerns a declared disk or guest:
trouble among disks that nobody declared is for an audit, not a reason to refuse this call.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from ._diskspec import DiskSpec, virtio_violations
from ._diskstatus import DEAD, READY
from ._findings import ERROR, WARNING, Finding
from ._mmio import LIMIT, SLOT, SPI_FIRST, VPL011_SPI
from ._picture import Backend, Key, Picture, PicturedDisk, PicturedGuest
from ._snapshot import Quota
from ._target import BLOCK, FILE, HELD, MISSING, UNKNOWN, Target
from ._words import some

#: What one virtio disk costs in xenstore (counted in a real store): nodes owned by the backend domain,
#: nodes owned by the guest, watches of the backend domain's daemon while attached, and idle.
NODES_BACKEND, NODES_GUEST, WATCHES_ATTACHED, WATCHES_IDLE = 18, 7, 2, 2
#: And where the launcher runs: its line of each disk, and what it says of itself (`drivers`, `drivers/virtio-disk`, and
#: `store`, `launcher`, `status`, `disks` in it).
NODES_LINE, NODES_LAUNCHER = 1, 6

#: The name of the daemon's process.
DAEMON = "virtio-disk"


def preflight(picture: Picture) -> list[Finding]:
    """All findings over a picture: guest by guest, then what concerns several of them, then backend domains."""
    found: list[Finding] = []
    for guest in picture.guests:
        found += _guest_rules(guest, picture)
        found += _bootloader(guest)
        for disk in guest.disks:
            if disk.declared and disk.spec is not None:
                found += _disk_rules(disk, disk.spec, picture)
    disks = picture.disks
    found += _shared_devids(disks, picture)
    found += _shared_targets(disks)
    found += _quotas(picture)
    found += _backends_down(disks, picture)
    return found


# --- one disk ------------------------------------------------------------------------------------------

#: Disk options that not every release has, and no node of its layout carries.
_GATED = ("grant_usage", "trusted")


def _disk_rules(disk: PicturedDisk, spec: DiskSpec, picture: Picture) -> Iterable[Finding]:
    dialect = picture.dialect
    for option in _GATED:
        if getattr(spec, option) is not None and not dialect.accepts(option):
            yield Finding(
                "release",
                ERROR,
                disk.guest,
                disk.vdev,
                f"{disk.vdev}: {option} is not known to Xen {dialect.name}",
                f"xl {dialect.name} ends with a syntax error, and no node of its layout carries the choice.",
                f"Leave {option} out, or bring the host to a release that has it.",
            )
    if disk.bad is not None:
        yield Finding(
            "virtio-rules",
            ERROR,
            disk.guest,
            disk.vdev,
            disk.bad,
            "libxl refuses it at create, or makes a wrong device of it.",
            "Use xvda, xvda1, d0p0, hda, sda or a device number.",
        )
    if disk.virtio:
        yield from _virtio_rules(disk, spec, picture)
    if disk.facts is not None:
        yield from _storage_rules(disk, disk.facts, picture)
    yield from _grown(disk)


def _bootloader(guest: PicturedGuest) -> Iterable[Finding]:
    """libxl attaches a guest's first disk to dom0 for its bootloader, and dom0 has no virtio disks (libxl_disk.c)."""
    first = next((disk for disk in guest.disks if disk.declared), None)
    if guest.bootloader and first is not None and first.virtio:
        yield Finding(
            "virtio-rules",
            ERROR,
            guest.reference,
            first.vdev,
            f"{first.vdev}: the bootloader would have to read a virtio disk in dom0",
            "libxl would attach it there, where nobody takes it up: the guest is not created, and nodes of a disk of "
            "dom0 stay in xenstore.",
            "Give the guest a kernel instead of a bootloader, or a first disk with specification xen.",
        )


def _virtio_rules(disk: PicturedDisk, spec: DiskSpec, picture: Picture) -> Iterable[Finding]:
    for violation in virtio_violations(spec):
        yield Finding(
            "virtio-rules",
            ERROR,
            disk.guest,
            disk.vdev,
            f"{disk.vdev}: {violation}",
            "libxl refuses such a virtio disk, or the daemon cannot serve it.",
            "Declare format raw, no script, no colo, an absolute target and no other backendtype than standalone.",
        )
    if disk.target is not None and ":" in disk.target:
        yield Finding(
            "colon-in-target",
            WARNING,
            disk.guest,
            disk.vdev,
            f"{disk.vdev}: the target {disk.target} has a colon",
            "libxl cuts it there when it lists the disk, so xl block-list and xl list -l show another path.",
            "Use a name without colons, such as one under /dev/disk/by-id.",
        )
    if disk.foreign:
        backend = picture.label(disk.backend)
        yield Finding(
            "foreign-mapping",
            WARNING,
            disk.guest,
            disk.vdev,
            f"{disk.vdev}: grant_usage is off and {backend} serves it",
            f"{backend} then maps all memory of the guest.",
            "Leave grant_usage out (grants are the default with a driver domain).",
        )


def _storage_rules(disk: PicturedDisk, facts: Target, picture: Picture) -> Iterable[Finding]:
    """What was seen of the target where it lies."""
    backend = picture.label(disk.backend)
    if facts.kind not in (BLOCK, FILE, UNKNOWN):
        lacks = "is not there" if facts.kind == MISSING else "is neither a block device nor a regular file"
        yield Finding(
            "target-missing",
            ERROR,
            disk.guest,
            disk.vdev,
            f"{disk.vdev}: {disk.target} {lacks} in {backend}",
            "libxl or the daemon cannot open it: the guest is not created, or comes up without the disk.",
            f"Make it in {backend} first (xen_storage_tasks), or correct the target.",
        )
    # a daemon that holds what it serves this very guest with is no stranger
    strangers = [
        str(use) for use in facts.uses if not (disk.served and use.by == HELD and DAEMON in use.what)
    ]
    if strangers:
        yield Finding(
            "target-in-use",
            ERROR,
            disk.guest,
            disk.vdev,
            f"{disk.vdev}: {disk.target} is in use in {backend}: {'; '.join(strangers)}",
            "A file system that two write to, or one reads while the other writes, is destroyed.",
            f"Unmount it or take it out of what holds it in {backend}, or give the guest a target of its own.",
        )
    if facts.readonly and disk.writable:
        yield Finding(
            "target-readonly",
            WARNING,
            disk.guest,
            disk.vdev,
            f"{disk.vdev} is to be written to, and {disk.target} is read-only in {backend}",
            "The daemon cannot open it, or every write of the guest fails.",
            "Declare access: ro, or make the target writable.",
        )


def _grown(disk: PicturedDisk) -> Iterable[Finding]:
    """Storage of another size than its guest knows: seen there, or told by the launcher that looks at it."""
    before, now = disk.size, None if disk.facts is None else disk.facts.size
    if (before is None or now is None) and disk.served and disk.told is not None:
        before, now = disk.told.size, disk.told.size_now
    if before is not None and now is not None and before != now:
        yield Finding(
            "size-changed",
            WARNING,
            disk.guest,
            disk.vdev,
            f"{disk.vdev}: {disk.target} had {before} bytes when the guest got it, and has {now} now",
            "The guest goes on with the old size.",
            "Start it anew (state: restarted).",
        )


# --- one guest -----------------------------------------------------------------------------------------


def _guest_rules(guest: PicturedGuest, picture: Picture) -> Iterable[Finding]:
    for option, sentence in guest.release:
        yield Finding(
            "release",
            ERROR,
            guest.reference,
            None,
            sentence,
            f"xl of Xen {picture.dialect.name} refuses {option}, or goes on without a word and without it.",
            f"Leave {option} out, or bring the host to a release that has it.",
        )
    for vdev, sentence in guest.lost:
        yield Finding(
            "backend-down",
            ERROR,
            guest.reference,
            vdev,
            sentence,
            "Nobody would serve it: xl gives up after ten seconds and takes the guest down again.",
            "Correct backend, or start that domain first.",
        )
    virtio = [disk for disk in guest.disks if disk.virtio]
    count = len(virtio) + len(guest.devices)
    if count > LIMIT and guest.touched:
        yield Finding(
            "devices-limit",
            ERROR,
            guest.reference,
            None,
            f"{count} virtio devices ({len(virtio)} disks, {len(guest.devices)} others), "
            f"and there is room for {LIMIT}",
            "libxl ends a create with 'Ran out of reserved range for Virtio MMIO IRQ 44'.",
            "Take disks away, or put several file systems on one.",
        )
    if len(virtio) < len(guest.disks) and virtio and guest.touched:
        xen = sorted({disk.vdev for disk in guest.disks if not disk.virtio})
        yield Finding(
            "mixed-specification",
            ERROR,
            guest.reference,
            None,
            f"xen disks ({', '.join(xen)}) and virtio disks in one guest",
            "It starts, but from then on libxl can list and detach neither.",
            "Give all disks of the guest one specification.",
        )
    if len(guest.disks) > 1:
        yield from _duplicates(guest)
    if guest.allocated:
        yield from _interrupts(guest, count, picture)
    else:
        yield from _overlaps(guest, virtio)
    if guest.earlier:
        yield from _reordered(guest, guest.earlier, virtio)


def _duplicates(guest: PicturedGuest) -> Iterable[Finding]:
    """Two disks with one device number, however it is spelt."""
    first: dict[int, str] = {}
    for disk in guest.disks:
        if disk.devid is None or not disk.declared:
            continue
        if disk.devid not in first:
            first[disk.devid] = disk.vdev
            continue
        yield Finding(
            "devid-duplicate",
            ERROR,
            guest.reference,
            disk.vdev,
            f"{disk.vdev} is device {disk.devid}, which {first[disk.devid]} of this guest is already",
            "libxl ends a create with 'device already exists in xenstore'.",
            "Give every disk of a guest a vdev of its own (xvda, d0p0 and 51712 are one).",
        )


def _overlaps(guest: PicturedGuest, virtio: list[PicturedDisk]) -> Iterable[Finding]:
    """Two devices of one guest on one interrupt or in one register range; only hand-given places can collide."""
    placed = [(name, place) for name, place in guest.devices if place is not None]
    placed += [(disk.vdev, disk.place) for disk in virtio if not disk.declared and disk.place is not None]
    for disk in virtio:
        mine = disk.place
        if not disk.declared or mine is None or mine.irq == 0:
            continue
        for other, place in placed:
            if place.irq == mine.irq or abs(place.base - mine.base) < SLOT:
                yield Finding(
                    "irq-overlap",
                    ERROR,
                    guest.reference,
                    disk.vdev,
                    f"{disk.vdev} (base {mine.base:#x}, irq {mine.irq}) lies where {other} does "
                    f"(base {place.base:#x}, irq {place.irq})",
                    "Two devices would answer for one another.",
                    "Give each its own 0x200 bytes and its own interrupt, or leave base and irq out.",
                )
        placed.append((disk.vdev, mine))


def _interrupts(guest: PicturedGuest, count: int, picture: Picture) -> Iterable[Finding]:
    """Interrupts that libxl gives out, against those passed through and their number (libxl_arm.c)."""
    last = SPI_FIRST + min(count, LIMIT) - 1
    hit = sorted({irq for irq in guest.irqs if SPI_FIRST <= irq <= last})
    if hit:
        yield Finding(
            "irq-overlap",
            ERROR,
            guest.reference,
            None,
            f"irqs has {_listed(hit)}, and the guest's {count} virtio devices take {SPI_FIRST} to {last}",
            "libxl ends a create with 'Physical IRQ … conflicting with Virtio MMIO IRQ range'.",
            "Pass other interrupts through, or give the guest fewer virtio devices.",
        )
    if guest.vuart and VPL011_SPI in guest.irqs:
        yield Finding(
            "irq-overlap",
            ERROR,
            guest.reference,
            None,
            f"irqs has {VPL011_SPI}, which is the emulated UART's",
            "libxl ends a create with 'Physical IRQ 32 conflicting with pl011 SPI'.",
            "Leave vuart out, or do not pass that interrupt through.",
        )
    if guest.nr_spis is None:
        return
    needed = max(
        [last - 31 if count else 0, VPL011_SPI - 31 if guest.vuart else 0, *(irq - 31 for irq in guest.irqs)]
    )
    if guest.nr_spis < needed:
        # up to 4.20 libxl takes the larger of the two by itself (Xen commit 55d62b8d46, tools/libs/light/libxl_arm.c)
        strict = picture.dialect.accepts("trap_unmapped_accesses")
        yield Finding(
            "nr-spis",
            ERROR if strict else WARNING,
            guest.reference,
            None,
            f"nr_spis is {guest.nr_spis}, and the guest needs {needed}",
            "libxl ends a create with 'Provided nr_spis value is too small'."
            if strict
            else "From Xen 4.21 on libxl ends a create with it; until then it gives the guest what it needs.",
            f"Say nr_spis: {needed} or more, or leave it out.",
        )


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(str(number) for number in numbers)


def _reordered(
    guest: PicturedGuest, earlier: tuple[int, ...], virtio: list[PicturedDisk]
) -> Iterable[Finding]:
    """A disk that stays and gets another name in the guest, which names virtio disks by their position."""
    now = {disk.devid: position for position, disk in reversed(list(enumerate(virtio)))}
    vdevs = {disk.devid: disk.vdev for disk in virtio}
    moved = [
        f"{vdevs[number]} from {_name(position)} to {_name(now[number])}"
        for position, number in enumerate(earlier)
        if now.get(number, position) != position
    ]
    if moved:
        yield Finding(
            "reorder",
            ERROR,
            guest.reference,
            None,
            f"the order of its disks changes what the guest calls them: {', '.join(moved)}",
            "Its fstab, bootloader or cmdline may name the wrong disk; a vdev has no say in it.",
            "Keep the order and add new disks at the end, or say allow_reorder: true.",
        )


def _name(position: int) -> str:
    """What Linux calls the virtio disk at a position (``virtblk_name_format``, drivers/block/virtio_blk.c)."""
    letters = ""
    while position >= 0:
        position, letter = divmod(position, 26)
        position -= 1
        letters = chr(ord("a") + letter) + letters
    return f"vd{letters}"


# --- across guests -------------------------------------------------------------------------------------


def _shared_devids(disks: list[PicturedDisk], picture: Picture) -> Iterable[Finding]:
    by_devid: dict[tuple[Key, int], list[PicturedDisk]] = defaultdict(list)
    for disk in disks:
        if disk.virtio and disk.devid is not None and disk.target is not None:
            by_devid[disk.backend, disk.devid].append(disk)
    for (backend, number), sharing in by_devid.items():
        if len(sharing) < 2 or len({disk.holder for disk in sharing}) < 2:
            continue
        at = picture.backends[backend]
        if at.launcher:
            continue
        for disk in sharing:
            if not disk.declared:
                continue
            other = next((other for other in sharing if other.holder != disk.holder), disk)
            unknown = "; nobody told whether its daemons run by our launcher" if at.launcher is None else ""
            yield Finding(
                "devid-shared",
                WARNING if at.launcher is None else ERROR,
                disk.guest,
                disk.vdev,
                f"{disk.vdev} is device {number} at {at.label}, and so is {other.vdev} of {other.guest}{unknown}",
                "Two plain virtio-disk daemons with one device number destroy each other's disk within a second.",
                f"Use vdevs that are unique among all guests of {at.label}, or run the daemons with our launcher "
                "(role xen.virtio.virtio_disk_backend).",
            )


def _shared_targets(disks: list[PicturedDisk]) -> Iterable[Finding]:
    names: dict[tuple[Key, str], list[int]] = defaultdict(list)
    for index, disk in enumerate(disks):
        if disk.target:
            names[disk.backend, f"path:{disk.target}"].append(index)
            for name in disk.names:
                names[disk.backend, name].append(index)
    reported: set[tuple[int, int]] = set()
    for (_backend, name), indexes in names.items():
        if len(indexes) < 2:
            continue
        writers = {index for index in indexes if disks[index].writable}
        for one in indexes if writers else ():
            # of two readers there is nothing to say: a root file system that a thousand guests read is common
            for other in indexes if one in writers else sorted(writers):
                if one == other or not disks[one].declared or (min(one, other), max(one, other)) in reported:
                    continue
                reported.add((min(one, other), max(one, other)))
                if not _agreed(disks[one], disks[other]):
                    yield _target_finding(disks[one], disks[other], name)


def _agreed(one: PicturedDisk, other: PicturedDisk) -> bool:
    """Whether all that is known of two disks with one target says that this is wanted."""
    return one.shared and (other.shared or not other.declared)


def _target_finding(one: PicturedDisk, other: PicturedDisk, name: str) -> Finding:
    how = "compared by path" if name.startswith("path:") else f"the same storage: {name}"
    writer = one if one.writable else other
    return Finding(
        "target-shared",
        ERROR,
        one.guest,
        one.vdev,
        f"{one.vdev} ({one.target}) is also {other.vdev} of {other.guest} ({other.target}); {how}",
        f"{writer.guest} writes to it, and a file system that two see while one writes is destroyed.",
        "Give each guest a target of its own, or make all of them read-only; where guests are made for it, "
        "mark the disks shared: true.",
    )


# --- backend domains -----------------------------------------------------------------------------------


def headroom(quota: Quota, disks: int, *, launcher: bool) -> int:
    """How many disks more a backend domain has room for.

    Args:
        quota: its limits, and what it uses where the daemon says so.
        disks: how many it serves now; what they need counts where the daemon does not say.
        launcher: whether our launcher runs there, which has a line for each.
    """
    nodes = quota.nodes - _used(quota, disks, launcher=launcher)
    # a disk that no daemon has taken up yet will want its watches too
    watches = quota.watches - max(quota.used_watches or 0, disks * WATCHES_ATTACHED + WATCHES_IDLE)
    return max(0, min(nodes // _each(launcher=launcher), watches // WATCHES_ATTACHED))


def _each(*, launcher: bool) -> int:
    """Nodes of a backend domain for one disk."""
    return NODES_BACKEND + (NODES_LINE if launcher else 0)


def _used(quota: Quota, disks: int, *, launcher: bool) -> int:
    """Nodes that a backend domain has, or has to have where the daemon does not say."""
    if quota.used_nodes is not None:
        return quota.used_nodes
    return disks * _each(launcher=launcher) + (NODES_LAUNCHER if launcher else 0)


def _quotas(picture: Picture) -> Iterable[Finding]:
    for guest in picture.guests:
        if guest.new and guest.quota is not None:
            used, quota = guest.quota.used_nodes or 0, guest.quota
            room = max(0, quota.nodes - used) // NODES_GUEST
            yield from _nodes(guest.reference, used + guest.new * NODES_GUEST, guest.new, room, quota)
    for _key, backend in sorted(picture.backends.items(), key=_by_key):
        if not backend.new or backend.quota is None:
            continue
        quota, ours, before = backend.quota, backend.launcher is True, backend.after - backend.new
        room = headroom(quota, before, launcher=ours)
        after = _used(quota, before, launcher=ours) + backend.new * _each(launcher=ours)
        yield from _nodes(backend.label, after, backend.new, room, quota)
        watches = backend.after * WATCHES_ATTACHED + WATCHES_IDLE
        if watches > quota.watches:
            yield _quota_finding(
                backend.label,
                f"{backend.after} disks need {watches} watches of {quota.watches}{_source(quota)}; "
                f"{room} of the {backend.new} new ones fit",
                "A daemon that gets no watch tries again ten times a second, for ever and without a word.",
                "watches",
            )


def _by_key(entry: tuple[Key, Backend]) -> tuple[bool, int, str]:
    key = entry[0]
    return isinstance(key, str), 0 if isinstance(key, str) else key, str(key)


def _nodes(label: str, after: int, disks: int, room: int, quota: Quota) -> Iterable[Finding]:
    if after > quota.nodes:
        # a daemon that tells what is used tells the limit too
        source = _source(quota) if quota.used_nodes is None else ""
        yield _quota_finding(
            label,
            f"{disks} new disks bring {label} to {after} nodes of {quota.nodes}{source}; {room} of them fit",
            "The domain can then create no node of its own any more; its drivers fail in odd places.",
            "nodes",
        )


def _source(quota: Quota) -> str:
    return f" (assumed: {quota.assumed})" if quota.assumed else ""


def _quota_finding(domain: str, message: str, why: str, what: str) -> Finding:
    option = "-E" if what == "nodes" else "-W"
    return Finding(
        "quota",
        ERROR,
        domain,
        None,
        message,
        why,
        f"Raise it (XENSTORED_ARGS={option}, or xenstore-control quota set {what} N), or accept it by name "
        "with the reason.",
    )


def _backends_down(disks: list[PicturedDisk], picture: Picture) -> Iterable[Finding]:
    """Backend domains whose daemon is not there for disks that have yet to be taken up."""
    waiting: dict[Key, dict[str, None]] = {}
    for disk in disks:
        if disk.pending and disk.declared and disk.virtio:
            waiting.setdefault(disk.backend, {})[disk.guest] = None
    for key, guests in waiting.items():
        backend = picture.backends[key]
        if not backend.asked or backend.status == READY:
            continue
        told = (
            f"says {backend.status!r} of its daemon"
            if backend.status is not None
            else "does not say whether its daemon runs"
        )
        if backend.reason and backend.status == DEAD:
            told += f" ({backend.reason})"
        yield Finding(
            "backend-down",
            ERROR if backend.status is not None and picture.waiting else WARNING,
            backend.label,
            None,
            f"{backend.label} {told} (drivers/virtio-disk/status), and disks of {some(list(guests), 5)} "
            "have yet to be taken up",
            "Nobody may be there to serve them: xl gives up after ten seconds and takes the guest down again.",
            f"Start virtio-disk in {backend.label} (role xen.virtio.virtio_disk_backend), or have its unit say "
            "ready there.",
        )
