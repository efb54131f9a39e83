# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A planned restart of a driver domain: who hangs on it, in which order they go and come back, how far it is. Pure.

libxl writes the domid of a device's backend into the guest's device tree, so a guest cannot follow its driver domain
to another domid: all of them have to end before it restarts, and to be made anew after. What is done to the host is
behind `Hands`; here is only what is done when, and what is kept of it in the state file.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ._snapshot import Domain

#: Of the whole: guests go down, the driver domain restarts, its daemon gets ready, guests come back, nothing is left.
DOWN, RESTART, READY, UP, ENDED = "down", "restart", "ready", "up", "ended"
PHASES = (DOWN, RESTART, READY, UP, ENDED)

#: Of a guest (and of the driver domain): as it was; being shut down; without a domain; created again; neither.
WAITING, STOPPING, GONE, BACK, FAILED = "waiting", "stopping", "down", "back", "failed"
STATUSES = (WAITING, STOPPING, GONE, BACK, FAILED)

#: How it ended: all is back; some guests are not; nothing was restarted; the driver domain is not back; told to stop.
DONE, INCOMPLETE, ABANDONED, BROKEN, STOPPED = "done", "incomplete", "abandoned", "broken", "stopped"
OUTCOMES = (DONE, INCOMPLETE, ABANDONED, BROKEN, STOPPED)

#: How often guests that came up meanwhile are shut down, too, before somebody else has to see to it.
ROUNDS = 3

#: Lines of the log that are kept.
_LOG = 400


class DrainError(RuntimeError):
    """A step did not succeed; the text names the object and the remedy."""


class StoppedError(RuntimeError):
    """Somebody told us to stop between two steps."""


class StateError(ValueError):
    """The state file does not hold what this release writes; the text names it and the remedy."""


@dataclass(frozen=True)
class Device:
    """A device of a guest, as libxl's own record has it.

    Attributes:
        kind: of the device, as libxl calls its directory (``virtio_disk``, ``virtio``, ``vbd``, ``vif``).
        devid: its number.
        backend: the domid of who serves it.
        what: for people: ``xvda (/dev/vg/a)``; empty where there is no more to say.
    """

    kind: str
    devid: int
    backend: int
    what: str = ""

    @property
    def words(self) -> str:
        return self.what or f"{self.kind} {self.devid}"


@dataclass
class Guest:
    """A guest that hangs on the driver domain.

    Attributes:
        name, path: the guest, and the configuration that it is created from.
        domid: of the domain that has to go.
        devices: what hangs, in words.
        through: the backend domains among those that are restarted or re-created.
        level: 1 hangs on the driver domain itself, 2 on a guest of level 1, and so on.
        paused: it is to be paused again.
        status: one of `STATUSES`.
        new_domid: of the domain that took its place.
        error: why it is not back, with the remedy.
    """

    name: str
    path: str
    domid: int
    devices: list[str] = field(default_factory=list)
    through: list[str] = field(default_factory=list)
    level: int = 1
    paused: bool = False
    status: str = WAITING
    new_domid: int | None = None
    error: str | None = None


@dataclass
class Drain:
    """A restart as it is kept in the state file: what was planned, and how far it went.

    Attributes:
        domain, path: the driver domain and its configuration.
        domid: of the domain that has to go.
        boot: of the host, in the kernel's words; domids mean nothing beyond it.
        unit, unit_boot: the transient unit that carries it out, or did last, and the boot that it is of.
        options: limits, places and the guard, as `_drainrun` reads them.
        guests: in the order in which they are created.
        status: of the driver domain, one of `STATUSES`.
        phase: one of `PHASES`.
        abandoned: a guest did not go, so all come back without a restart.
        outcome: one of `OUTCOMES`; None while it runs, or where it was cut off.
        new_domid: of the driver domain.
        begun, changed, ended: moments, ISO 8601 in UTC; `ended` is None while `outcome` is.
        message: how it ended, or how it stands, in a sentence.
        log: what was done, a line each.
    """

    domain: str
    path: str
    domid: int
    boot: str
    unit: str = ""
    unit_boot: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    guests: list[Guest] = field(default_factory=list)
    status: str = WAITING
    phase: str = DOWN
    abandoned: bool = False
    outcome: str | None = None
    new_domid: int | None = None
    begun: str = ""
    changed: str = ""
    ended: str | None = None
    message: str = ""
    log: list[str] = field(default_factory=list)

    @property
    def open(self) -> bool:
        """Whether somebody is not back who was there when it began: it can be taken up again."""
        left = (STOPPING, GONE, FAILED)
        return self.outcome != DONE and (
            self.status in left or any(one.status in left for one in self.guests)
        )

    def note(self, line: str) -> None:
        """Keep a line of what was done."""
        self.log = [*self.log, line][-_LOG:]

    def lines(self) -> list[str]:
        """How it stands, a line for the driver domain and one for each guest."""
        told = {
            WAITING: "not touched",
            STOPPING: "being restarted",
            GONE: "down",
            BACK: f"restarted, now domain {self.new_domid}",
            FAILED: "NOT back",
        }[self.status]
        return [f"{self.domain}: {told} (was domain {self.domid})", *map(standing, self.guests)]


def standing(guest: Guest) -> str:
    """How a guest stands, in a line."""
    if guest.status == FAILED:
        return f"{guest.name}: NOT back (was domain {guest.domid}): {guest.error}"
    told = {
        WAITING: "not touched",
        STOPPING: "being shut down",
        GONE: "down, waiting to be created",
        BACK: f"back as domain {guest.new_domid}",
    }[guest.status]
    why = f": {guest.error}" if guest.error else ""
    return f"{guest.name}: {told} (was domain {guest.domid}){why}"


def listed(guest: Guest) -> str:
    """What hangs, in a line."""
    through = f" at {', '.join(guest.through)}" if guest.level > 1 else ""
    return f"{guest.name} (domain {guest.domid}): {', '.join(guest.devices)}{through}"


# --- who hangs on it -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sight:
    """A host as far as it matters here.

    Attributes:
        domains: all that xenstore has.
        devices: of each domain.
        running: domids of guests that run or are paused, to whether they are paused.
        configs: guest → path of the configuration that it would be created from.
    """

    domains: Mapping[int, Domain]
    devices: Mapping[int, Sequence[Device]]
    running: Mapping[int, bool]
    configs: Mapping[str, str]


@dataclass(frozen=True)
class Plan:
    """What a restart of a driver domain would mean.

    Attributes:
        guests: who hangs on it, in the order in which they would be created.
        refusals: why nothing may be done, each with the remedy.
    """

    guests: list[Guest]
    refusals: list[str]


def make_plan(root: Domain, sight: Sight, order: Iterable[str] = ()) -> Plan:
    """Who hangs on a driver domain, directly or through a guest that serves others.

    Args:
        root: the driver domain.
        sight: the host.
        order: names of guests that are to come back first, in this order; others follow as they were created.
    """
    refusals = _refused(root, sight)
    wanted = {name: place for place, name in enumerate(order)}
    levels = _levels(root.domid, sight)
    guests = []
    for domid, level in levels.items():
        domain = sight.domains[domid]
        hanging = [one for one in sight.devices[domid] if one.backend == root.domid or one.backend in levels]
        guests.append(
            Guest(
                name=domain.label,
                path=sight.configs.get(domain.label, ""),
                domid=domid,
                devices=[one.words for one in hanging],
                through=sorted({sight.domains[one.backend].label for one in hanging}),
                level=level,
                paused=sight.running[domid],
            )
        )
        refusals += _no_return(domain, sight)
    guests.sort(key=lambda one: (one.level, wanted.get(one.name, len(wanted)), one.domid))
    return Plan(guests, refusals)


def _levels(root: int, sight: Sight) -> dict[int, int]:
    """How far every guest is from the driver domain, by its longest way; a circle ends the count."""
    levels: dict[int, int] = {}
    edge, level = {root}, 0
    while edge and level < len(sight.domains):
        level += 1
        edge = {
            domid
            for domid in sight.running
            if domid not in (0, root) and any(one.backend in edge for one in sight.devices.get(domid, ()))
        }
        levels.update(dict.fromkeys(edge, level))
    return levels


def _refused(root: Domain, sight: Sight) -> list[str]:
    if root.domid == 0:
        return ["Domain-0 is the host itself: reboot the host, and its guests come up with it (autostart)"]
    return _no_return(root, sight)


def _no_return(domain: Domain, sight: Sight) -> list[str]:
    """Why a domain could not be created again, with the remedy."""
    label = domain.label
    if not domain.made_by_xl:
        by = "Xen itself started it (dom0less)" if not domain.name_trusted else "another toolstack made it"
        who = f"{label} (domain {domain.domid})"
        return [f"{who} cannot be created again from here: {by}; reboot the host instead"]
    if label not in sight.configs:
        return [
            f"{label} (domain {domain.domid}) has no configuration on this host to be created from again: put its "
            "file into config_dir (xl's name in it counts)"
        ]
    return []


# --- carrying it out -------------------------------------------------------------------------------------


class Hands(ABC):
    """What is done to the host; `_drainrun` has the real ones."""

    @abstractmethod
    def save(self, drain: Drain) -> None:
        """Keep the state, whole or not at all."""

    @abstractmethod
    def hanging(self, drain: Drain) -> Plan:
        """Who hangs on the domain that has to go, now. Empty where that is gone already."""

    @abstractmethod
    def shut_down(self, guests: Sequence[Guest]) -> Iterator[tuple[Guest, str | None]]:
        """End guests side by side; each as soon as it is done, with why it did not go."""

    @abstractmethod
    def restart(self, drain: Drain) -> int:
        """The driver domain anew, where it is still the one that has to go; its domid.

        Raises:
            DrainError: it failed.
        """

    @abstractmethod
    def still_up(self, drain: Drain) -> bool:
        """Whether the domain that has to go is still there."""

    @abstractmethod
    def present(self, drain: Drain) -> bool:
        """Whether any domain of its name is there; in doubt there is."""

    @abstractmethod
    def wait_ready(self, drain: Drain) -> str | None:
        """Wait for the driver domain's daemon; why it is not ready, None where it is."""

    @abstractmethod
    def create(self, guest: Guest) -> int | None:
        """Create a guest, or find it running; its domid.

        Raises:
            DrainError: it failed.
        """

    @abstractmethod
    def check(self) -> None:
        """Raise StoppedError where somebody told us to stop."""


def carry_out(drain: Drain, hands: Hands) -> None:
    """Restart a driver domain from wherever an earlier run got to; `drain` says how it ended.

    Nobody who was there is left behind: a guest that does not go means that all come back and nothing is restarted; a
    guest that does not come back keeps no other from it.
    """
    drain.outcome = drain.ended = None
    try:
        _run(drain, hands)
    except StoppedError:
        drain.outcome = STOPPED
        drain.message = (
            f"{drain.domain}: stopped between two steps, as it was told to; run the same again to go on"
        )
    hands.save(drain)


def _run(drain: Drain, hands: Hands) -> None:
    if drain.phase == DOWN and not drain.abandoned:
        failed = _shut_down(drain, hands)
        if failed:
            drain.abandoned, drain.message = True, failed
        else:
            _enter(drain, hands, RESTART)
    for _attempt in range(2):
        _look_for_it(drain, hands)
        if drain.phase == RESTART and not drain.abandoned and not _restart(drain, hands):
            return
        if drain.phase == READY:
            late = hands.wait_ready(drain)
            if late:
                _say(drain, hands, f"{late}; guests are created all the same")
            _enter(drain, hands, UP)
        _bring_back(drain, hands)
        if not any(guest.status == FAILED for guest in drain.guests) or hands.present(drain):
            break
    _conclude(drain)


def _look_for_it(drain: Drain, hands: Hands) -> None:
    """Without the driver domain no guest comes back; it may have gone since, or have followed a request late."""
    if (drain.abandoned or drain.phase in (READY, UP)) and not hands.present(drain):
        drain.abandoned, drain.phase = False, RESTART
        for guest in drain.guests:
            guest.status = STOPPING  # who is there has lost what hung on it
        _say(drain, hands, f"{drain.domain} is gone; it is created again")


def _enter(drain: Drain, hands: Hands, phase: str) -> None:
    drain.phase = phase
    hands.save(drain)


def _say(drain: Drain, hands: Hands, line: str) -> None:
    drain.note(line)
    hands.save(drain)


def _shut_down(drain: Drain, hands: Hands) -> str | None:
    """All guests that hang on it go, those behind others first; why not, None where all went."""
    for _round in range(ROUNDS):
        plan = hands.hanging(drain)
        if plan.refusals:
            return f"{drain.domain} was not restarted: {'. '.join(plan.refusals)}"
        there = _merged(drain, plan.guests)
        if not there:
            for guest in drain.guests:
                guest.status = GONE
            return None
        for level in sorted({guest.level for guest in there}, reverse=True):
            failed = _shut_level_down(drain, hands, [guest for guest in there if guest.level == level])
            if failed:
                return f"{drain.domain} was not restarted: {'. '.join(failed)}"
    names = ", ".join(guest.name for guest in drain.guests if guest.status == WAITING)
    return (
        f"{drain.domain} was not restarted: guests come up again as fast as they are shut down ({names}); find out who "
        "starts them, then run again"
    )


def _merged(drain: Drain, now: Iterable[Guest]) -> list[Guest]:
    """Those that are there now, as the plan knows them; who came up since then is taken in."""
    known = {guest.name: guest for guest in drain.guests}
    there = []
    for fresh in now:
        guest = known.get(fresh.name)
        if guest is None:
            guest = fresh
            drain.guests.append(guest)
        guest.domid, guest.status = fresh.domid, WAITING
        there.append(guest)
    drain.guests.sort(key=lambda one: one.level)
    return there


def _shut_level_down(drain: Drain, hands: Hands, guests: list[Guest]) -> list[str]:
    hands.check()
    for guest in guests:
        guest.status = STOPPING
    hands.save(drain)
    failed = []
    for guest, error in hands.shut_down(guests):
        if error is None:
            guest.status, guest.error = GONE, None
            _say(drain, hands, f"{guest.name}: shut down (domain {guest.domid})")
        else:
            guest.status, guest.error = WAITING, error
            failed.append(error)
            _say(drain, hands, f"{guest.name}: not shut down: {error}")
    return failed


def _restart(drain: Drain, hands: Hands) -> bool:
    """Whether guests may come back: on the new domain, or on the old one where that did not go."""
    hands.check()
    drain.status = STOPPING
    hands.save(drain)
    try:
        drain.new_domid = hands.restart(drain)
    except DrainError as error:
        if hands.still_up(drain):
            drain.status, drain.abandoned = WAITING, True
            drain.message = f"{drain.domain} was not restarted: {error}"
            _say(drain, hands, drain.message)
            return True
        drain.status, drain.outcome = FAILED, BROKEN
        names = ", ".join(guest.name for guest in drain.guests)
        drain.message = (
            f"{drain.domain} is down and could not be created again: {error}. Down with it: {names or 'no guest'}. "
            "Mend that, then run the same again: it goes on from there"
        )
        drain.note(drain.message)
        return False
    drain.status = BACK
    _say(drain, hands, f"{drain.domain}: restarted, now domain {drain.new_domid}")
    _enter(drain, hands, READY)
    return True


def _bring_back(drain: Drain, hands: Hands) -> None:
    """Every guest that is not back, in order; one that failed once more when all others are there."""
    for _attempt in range(2):
        missing = [guest for guest in drain.guests if guest.status in (STOPPING, GONE, FAILED)]
        for guest in missing:
            hands.check()
            _create(drain, hands, guest)


def _create(drain: Drain, hands: Hands, guest: Guest) -> None:
    missing = {one.name for one in drain.guests if one.status == FAILED} & set(guest.through)
    if missing:
        guest.status = FAILED
        guest.error = (
            f"{guest.name} hangs on {', '.join(sorted(missing))}, which is not back; mend that first"
        )
    else:
        try:
            guest.new_domid = hands.create(guest)
        except DrainError as error:
            guest.status, guest.error = FAILED, str(error)
        else:
            guest.status, guest.error = BACK, None
    _say(drain, hands, standing(guest))


def _conclude(drain: Drain) -> None:
    failed = [guest for guest in drain.guests if guest.status == FAILED]
    back = sum(guest.status == BACK for guest in drain.guests)
    drain.phase = UP if failed else ENDED
    if drain.abandoned:
        drain.outcome = ABANDONED
        told = [drain.message]
        if back:
            told.append(f"{_counted(back)} that had been shut down {'is' if back == 1 else 'are'} back")
    else:
        drain.outcome = INCOMPLETE if failed else DONE
        numbers = f"domain {drain.domid} -> {drain.new_domid}"
        told = [f"{drain.domain} was restarted ({numbers}), {_counted(back)} re-created"]
    if failed:
        told.append(f"NOT back: {'; '.join(f'{guest.error}' for guest in failed)}")
        told.append("Mend that, then run the same again: it goes on from there")
    drain.message = ". ".join(told)
    drain.note(drain.message)


def _counted(number: int) -> str:
    return "1 guest" if number == 1 else f"{number} guests"


# --- the state file --------------------------------------------------------------------------------------


def render(drain: Drain) -> bytes:
    """The state file: JSON that a person can read."""
    text = json.dumps({"version": 1, **asdict(drain)}, indent=1, sort_keys=True) + "\n"
    return text.encode("utf-8", "surrogateescape")


def parse(content: bytes, path: str) -> Drain:
    """A state file's content.

    Raises:
        StateError: it holds something else; the text names `path`.
    """
    remedy = f"{path}: not what this release keeps of a drain; bring the guests in it back, then remove it"
    try:
        kept = json.loads(content.decode("utf-8", "surrogateescape"))
        if kept.pop("version") != 1:
            raise StateError(remedy)
        kept["guests"] = [Guest(**one) for one in kept["guests"]]
        drain = Drain(**kept)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StateError(remedy) from error
    _one_of(drain.phase, PHASES, remedy)
    _one_of(drain.outcome, (None, *OUTCOMES), remedy)
    for status in (drain.status, *(guest.status for guest in drain.guests)):
        _one_of(status, STATUSES, remedy)
    return drain


def _one_of(value: object, known: Sequence[object], remedy: str) -> None:
    if value not in known:
        raise StateError(remedy)
