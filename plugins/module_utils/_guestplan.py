# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest as wished for and as it stands → what is to be done, and why not. Pure.

The one decision that check mode prints and a real run carries out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ._diskspec import Declared
from ._findings import WARNING, Finding
from ._guestrecord import Change
from ._layout import RECORD, STATE_CLOSED, STATE_CLOSING, STATE_INITIALISING
from ._plan import ADDED, REMOVED, DiskPlan, Step, vdev_of
from ._plan import GuestPlan as DisksPlan
from ._snapshot import LiveDisk
from ._vdev import VdevError, canonical, devid
from ._xloutput import RunState

RUNNING, PAUSED, SHUTDOWN, RESTARTED, CONFIGURED, GONE = (
    "running",
    "paused",
    "shutdown",
    "restarted",
    "configured",
    "absent",
)
STATES = (RUNNING, PAUSED, SHUTDOWN, RESTARTED, CONFIGURED, GONE)
RECREATE = ("never", "report", "allowed", "unhealthy")

#: How a guest stands: no domain; up; stopped by its toolstack; powered off or crashed with its domain still there;
#: being torn down; half made by a create that did not end, of ours or of anybody; made by another toolstack.
NONE, UP, STOPPED, ENDED, CRASHED, DYING, LEFTOVER, HALF_MADE, FOREIGN, DOM0LESS = (
    "none",
    "up",
    "stopped",
    "ended",
    "crashed",
    "dying",
    "leftover",
    "half-made",
    "foreign",
    "dom0less",
)

#: on_poweroff of a guest that xl starts anew when it powers off: there is no clean shutdown of it.
_COMES_BACK = ("restart", "rename-restart", "coredump-restart", "rename_restart", "coredump_restart")


@dataclass(frozen=True)
class Options:
    """How far a call may go with a guest."""

    recreate: str = "never"
    force_destroy: bool = False


@dataclass(frozen=True)
class Lost:
    """A disk of a running guest that nobody serves any more."""

    vdev: str
    devid: int
    why: str

    def as_dict(self) -> dict[str, Any]:
        """As results carry it."""
        return {"vdev": self.vdev, "devid": self.devid, "what": "lost", "found": self.why}


@dataclass
class Sight:
    """A guest as it stands against what is wished for.

    Attributes:
        standing: one of the words above.
        domid: of its domain.
        config: what would change in its configuration; None where the file is left alone.
        has_config: a create would find a configuration, the present or the wished-for one.
        domain: what the domain would have to change.
        drift: nodes that somebody changed behind the record's back, in a few words a disk.
        lost: disks that nobody serves any more.
        live: steps that change xen disks of a running guest.
        on_poweroff: what xl does when the guest powers off.
        unknown: libxl told nothing of the domain.
    """

    standing: str
    domid: int | None = None
    config: list[Change] | None = None
    has_config: bool = True
    domain: list[Change] = field(default_factory=list)
    drift: list[tuple[str, str]] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    live: list[Step] = field(default_factory=list)
    on_poweroff: str | None = None
    unknown: bool = False


@dataclass
class Decision:
    """What is to be done with one guest, in the order of the attributes.

    Attributes:
        action: one word for the result.
        live: changes to the running domain, by option; xen disks are steps of their own.
        end: how its domain is to end: None, ``clean``, ``clean then destroy``, ``destroy``.
        write: its configuration is to be written.
        remove: its configuration is to go.
        create: a domain is to be made.
        paused: whether it is to be left paused; None where that is not to be touched.
        reasons: why it would have to be made anew to be as declared.
        refusal: why nothing may be done at all, with the remedy.
    """

    action: str = "unchanged"
    live: list[Change] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    end: str | None = None
    write: bool = False
    remove: bool = False
    create: bool = False
    paused: bool | None = None
    reasons: list[str] = field(default_factory=list)
    refusal: str | None = None

    @property
    def changes(self) -> bool:
        """Whether anything is to be done."""
        doing = (self.live, self.steps, self.end, self.write, self.remove, self.create)
        return any(doing) or self.paused is not None


def decide(name: str, state: str, sight: Sight, options: Options) -> Decision:
    """What becomes of a guest.

    Args:
        name: the guest's, for messages.
        state: wished for, one of `STATES`.
        sight: how it stands.
        options: how far the call may go.
    """
    made = Decision(reasons=_reasons(sight))
    made.write = sight.config is not None and state != GONE
    if state == CONFIGURED and sight.standing != DOM0LESS:
        made.action = "changed" if made.write else "unchanged"
        return made
    made.refusal = _refused(name, sight, options)
    if made.refusal is not None:
        return made
    if state in (SHUTDOWN, GONE):
        made.reasons = []
        _end(name, state, sight, options, made)
    else:
        _run(name, state, sight, options, made)
    return made


def _reasons(sight: Sight) -> list[str]:
    """Why a domain would have to be made anew."""
    found = [f"{lost.vdev}: {lost.why}" for lost in sight.lost]
    found += [change.words for change in sight.domain if not change.live]
    found += [f"{vdev}: {words}" for vdev, words in sight.drift]
    return found


def lost_findings(name: str, state: str, sight: Sight, decision: Decision) -> list[Finding]:
    """Disks that a running guest has lost and that this call does not give back."""
    if decision.create or decision.end is not None or state in (SHUTDOWN, GONE):
        return []
    return [
        Finding(
            "disk-lost",
            WARNING,
            name,
            lost.vdev,
            f"{lost.vdev} is lost: {lost.why}",
            "The guest runs without it, and hangs when it uses it. Only a new domain gets it back.",
            "Run the playbook xen.virtio.repair for this host (ansible-playbook xen.virtio.repair --limit HOST): it "
            "creates guests anew that lost a disk, and leaves all others alone.",
        )
        for lost in sight.lost
    ]


def _refused(name: str, sight: Sight, options: Options) -> str | None:
    """Why nothing can be done with a domain as it stands, with the remedy; None where something can."""
    if sight.standing in (LEFTOVER, CRASHED) and options.force_destroy:
        return None
    why = _HOPELESS.get(sight.standing)
    return None if why is None else why.format(name=name, domid=sight.domid)


_HOPELESS = {
    DOM0LESS: "{name} is domain {domid}, which Xen itself started (dom0less): it cannot be created or ended from here; "
    "manage its disks with xen.virtio.disk",
    FOREIGN: "{name} is domain {domid}, which xl did not make: end it with the toolstack that did, or manage its disks "
    "with xen.virtio.disk",
    DYING: "{name}: domain {domid} of that name is dying and still there: something holds its memory, mostly a "
    "backend that did not let go of a disk; look at the daemons of its disks, then run again",
    HALF_MADE: "{name}: domain {domid} of that name is paused and libxl has no record of it: a create is under way, or "
    "one did not end; if no xl create runs, remove it with: xl destroy {domid}",
    LEFTOVER: "{name}: domain {domid} is what a create of ours left behind that did not end; say force_destroy: true "
    "to remove it, or remove it with: xl destroy {domid}",
    CRASHED: "{name}: domain {domid} crashed and was kept (on_crash); destroying it loses what it can tell: say "
    "force_destroy: true once that is not needed",
}


def _end(name: str, state: str, sight: Sight, options: Options, made: Decision) -> None:
    if sight.standing in (UP, STOPPED):
        made.end = _way_to_end(name, sight, options, made)
    elif sight.standing != NONE:
        made.end = "destroy"
    if state == GONE:
        made.remove = sight.has_config
        made.action = "removed" if made.remove or made.end else "unchanged"
    elif made.end:
        made.action = "stopped"
    elif made.write:
        made.action = "changed"


def _way_to_end(name: str, sight: Sight, options: Options, made: Decision) -> str:
    """How to end a living domain; sets the refusal where there is no way."""
    why = _no_clean_way(sight)
    if why is None:
        return "clean then destroy" if options.force_destroy else "clean"
    if not options.force_destroy:
        made.refusal = (
            f"{name} (domain {sight.domid}) cannot be shut down cleanly: {why}; say force_destroy: true"
        )
    return "destroy"


def _no_clean_way(sight: Sight) -> str | None:
    if sight.lost:
        disks = ", ".join(lost.vdev for lost in sight.lost)
        return f"it lost {disks}, and a guest without its disk hangs while it shuts down"
    if sight.on_poweroff in _COMES_BACK:
        return f"its on_poweroff is {sight.on_poweroff}, so xl starts it anew when it powers off"
    return None


def _run(name: str, state: str, sight: Sight, options: Options, made: Decision) -> None:
    want_paused = state == PAUSED
    if sight.standing in (UP, STOPPED):
        if state == RESTARTED:
            _anew(name, sight, options, made, "restarted")
        elif made.reasons and _may_recreate(name, sight, options, made):
            _anew(name, sight, options, made, "recreated")
        else:
            _in_place(want_paused, sight, made)
            return
        made.paused = want_paused if made.refusal is None else None
        return
    if not sight.has_config:
        made.refusal = f"{name} has neither a domain nor a configuration: declare one (memory, kernel, …)"
        return
    if sight.standing != NONE:
        made.end = "destroy"
    made.create, made.paused = True, want_paused
    made.action = "created" if made.write else "started"


def _may_recreate(name: str, sight: Sight, options: Options, made: Decision) -> bool:
    """Whether a domain that is not as declared is to be made anew; sets the refusal where that ends the call."""
    if options.recreate == "allowed" or (options.recreate == "unhealthy" and sight.lost):
        return True
    if options.recreate == "never":
        made.refusal = (
            f"{name} (domain {sight.domid}) would have to be re-created: {'; '.join(made.reasons)}. Say "
            "recreate: allowed to do it, or recreate: report to have it told without a failure"
            + ("; the playbook xen.virtio.repair does it for guests that lost a disk" if sight.lost else "")
        )
    return False


def _anew(name: str, sight: Sight, options: Options, made: Decision, action: str) -> None:
    made.end = _way_to_end(name, sight, options, made)
    if not sight.has_config:
        made.refusal = (
            f"{name} has no configuration to be created from again: declare one, or put its file back"
        )
    made.create, made.action = True, action


def _in_place(want_paused: bool, sight: Sight, made: Decision) -> None:
    if made.refusal is not None:
        return
    made.live = [change for change in sight.domain if change.live and change.option in ("memory", "vcpus")]
    made.steps = list(sight.live)
    if want_paused != (sight.standing == STOPPED):
        made.paused = want_paused
    if made.changes:
        made.action = "changed"


# --- how it stands ---------------------------------------------------------------------------------------


def standing_of(run: RunState | None, *, dom0less: bool, by_xl: bool, ours: bool) -> str:
    """One word for how a domain stands.

    Args:
        run: its line in ``xl list``, None where it is not there.
        dom0less: init-dom0less made it.
        by_xl: libxl has a record of its creation, or an unreadable one.
        ours: a create of ours began it and did not end.
    """
    if run is None:
        return NONE
    if run.dying:
        return DYING
    if not by_xl:
        if ours:
            return LEFTOVER
        half = run.paused and not dom0less
        return DOM0LESS if dom0less else HALF_MADE if half else FOREIGN
    if run.crashed:
        return CRASHED
    off = run.shutdown and run.reason != "suspend"
    return ENDED if off else STOPPED if run.paused else UP


@dataclass
class DiskSight:
    """The disks of a running guest against the declared ones."""

    changes: list[Change] = field(default_factory=list)
    drift: list[tuple[str, str]] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)


def see_disks(
    plan: DisksPlan, order: list[int], unserved: Mapping[tuple[int, int], str], *, declared: bool
) -> DiskSight:
    """What the store says of a guest's disks.

    Args:
        plan: of its disks, with all others removed.
        order: device numbers in the order of libxl's record.
        unserved: guest and device number of disks that their launcher calls lost, and why.
        declared: the disks were declared; else they are only looked at.
    """
    found = DiskSight()
    for live in plan.kept:
        _see_state(live, vdev_of(live), unserved, found)
    for disk in plan.disks:
        if _is_of_another_kind(disk):
            other = "virtio" if disk.specification == "xen" else "xen"
            if declared:
                found.changes.append(
                    Change(
                        f"disk {disk.vdev}", f"specification {other}", f"specification {disk.specification}"
                    )
                )
        elif disk.specification == "xen":
            if disk.action != "unchanged":
                found.steps += disk.steps
                found.changes.append(Change(f"disk {disk.vdev}", *_sides(disk), live=True))
        elif declared:
            _see_virtio(disk, order, unserved, found)
    now = [number for number in order if number in {disk.devid for disk in plan.disks}]
    then = [disk.devid for disk in plan.disks if disk.devid in order and disk.action != REMOVED]
    now = [number for number in now if number in then]
    if declared and now != then:
        found.changes.append(Change("disk order", _names(now), _names(then)))
    if _waits(plan, found):
        found.steps = []
        found.changes = [replace(change, live=False) for change in found.changes]
    return found


def _is_of_another_kind(disk: DiskPlan) -> bool:
    """The guest has a disk of that number, which is a xen disk and shall be virtio, or the other way round."""
    if disk.action != "unchanged":
        return False
    return (disk.xen_live if disk.specification == "xen" else disk.live) is None


def _waits(plan: DisksPlan, found: DiskSight) -> bool:
    """Whether no disk changes before the guest is made anew.

    libxl can list and detach neither kind in a guest that has both; and a guest must not lose a disk whose
    replacement comes only with the next domain.
    """
    virtio = bool(plan.kept) or any(disk.live is not None for disk in plan.disks)
    return virtio or any(not change.live for change in found.changes)


def _see_virtio(
    disk: DiskPlan, order: list[int], unserved: Mapping[tuple[int, int], str], found: DiskSight
) -> None:
    if disk.action == REMOVED:
        found.changes.append(Change(f"disk {disk.vdev}", *_sides(disk)))
    elif disk.action == ADDED:
        if disk.devid in order:
            found.lost.append(Lost(disk.vdev, disk.devid, "its nodes are gone from xenstore"))
        else:
            found.changes.append(Change(f"disk {disk.vdev}", *_sides(disk)))
    elif disk.live is not None and not _see_state(disk.live, disk.vdev, unserved, found):
        asked = [one for one in disk.differences if one.tree == RECORD and one.what == "value" and one.found]
        if asked:
            found.changes.append(Change(f"disk {disk.vdev}", *_sides(disk)))
        elif disk.differences:
            nodes = sorted({one.node or one.tree for one in disk.differences})
            found.drift.append((disk.vdev, f"drifted in xenstore ({', '.join(nodes[:4])})"))


def _see_state(live: LiveDisk, vdev: str, unserved: Mapping[tuple[int, int], str], found: DiskSight) -> bool:
    """Whether a disk is lost."""
    if live.invented:
        return False
    words = {
        None: "its backend gave it up",
        STATE_INITIALISING: "no daemon took it up (state 1)",
        STATE_CLOSING: "its backend is closing it (state 5)",
        STATE_CLOSED: "its backend closed it (state 6)",
    }
    why = words.get(live.state, unserved.get((live.domid, live.devid)))
    if why is None:
        return False
    found.lost.append(Lost(vdev, live.devid, why))
    return True


def _sides(disk: DiskPlan) -> tuple[str | None, str | None]:
    """A disk before and after, in a few words."""
    before = None
    if disk.live is not None and disk.live.source is not None:
        nodes = disk.live.source.nodes
        before = f"{nodes.get('params', '')} {_access(nodes.get('mode'))} at domain {disk.live.backend_domid}"
    elif disk.xen_live is not None:
        nodes = disk.xen_live.nodes
        before = (
            f"{nodes.get('params', '')} {_access(nodes.get('mode'))} at domain {disk.xen_live.backend_domid}"
        )
    after = None
    if disk.action != REMOVED and disk.wanted is not None:
        access = "ro" if disk.wanted.readonly else "rw"
        after = f"{disk.wanted.target} {access} at domain {disk.wanted.backend_domid}"
    elif disk.action != REMOVED and disk.spec is not None:
        after = f"{disk.spec.target} {disk.spec.access} at {disk.spec.backend or 'Domain-0'}"
    if before is not None and before == after:
        nodes_of = sorted(
            {f"{one.node} {one.found} -> {one.wanted}" for one in disk.differences if one.tree == RECORD}
        )
        return before, f"{after} ({', '.join(nodes_of[:4])})"
    return before, after


def _access(mode: str | None) -> str:
    return "rw" if mode == "w" else "ro"


def _names(numbers: Iterable[int]) -> str:
    return ", ".join(canonical(number) or str(number) for number in numbers)


def order_of(disks: Iterable[Declared]) -> list[int]:
    """The device numbers of declared disks in their order."""
    numbers = []
    for disk in disks:
        try:
            numbers.append(devid(disk.spec.vdev or ""))
        except VdevError:
            continue
    return numbers
