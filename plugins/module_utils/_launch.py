# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which disk gets a daemon, and which daemon has to go: the launcher's decisions. Pure.

`step` looks at what there is (the backend's own tree, the units, foreign daemons), not at what happened: an event
that was missed costs nothing. What it has to remember from one look to the next is in a `Memory`.

Where the rules come from (read in the daemon's source, and seen):

* A daemon takes up a disk in state 1 and nothing else; what it finds in another state it deletes. So a daemon is
  started for state 1 alone, and one that ended past it is never replaced.
* It says 2 before it has opened anything. So served means 2, and still 2 after a while.
* Two daemons with one disk destroy it within a second; so never two units for one disk, and none beside a daemon that
  somebody else runs. Without a view they see each other's guests, so then never two with one device number.
* Without a view it looks at the guest with the highest domid alone, and never again at a lower one. So then none is
  started for a guest below another.
* A daemon that lost its disk waits for ever, deaf for the next one. So its unit is stopped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Union

from ._diskstatus import FAILED, LOST, SERVED, STARTING, WAITING, DiskStatus

#: Guest and device number.
Key = tuple[int, int]

#: XenbusState (xen/include/public/io/xenbus.h): not taken up; taken up. The daemon leaves it at 2.
FREE = "1"
IN_USE = frozenset({"2", "3", "4"})


@dataclass(frozen=True)
class Disk:
    """A directory in the backend's own tree.

    Attributes:
        state: the backend's XenbusState, None where there is no node.
        frontend: the frontend's, None where the guest or its frontend is gone, or not there yet.
        target: what is to be served.
        writable: whether it is to be written to.
        identity: names of the storage; two targets with one in common are on the same storage.
        size: of the storage in bytes, None where it cannot be told.
        unfit: why no daemon can be started for it now; empty where one can.
        births: how often the directory may have been made anew. It may be counted too often, never too seldom.
    """

    state: str | None
    frontend: str | None = None
    target: str = ""
    writable: bool = True
    identity: frozenset[str] = frozenset()
    size: int | None = None
    unfit: str = ""
    births: int = 0


#: Phases of a unit: asked for, its daemon does not run yet; it runs; it ends. One that is gone is not listed.
UNIT_STARTING, UNIT_RUNNING, UNIT_STOPPING = "starting", "running", "stopping"


@dataclass(frozen=True)
class Unit:
    """A daemon with its view, as one unit.

    Attributes:
        phase: as above.
        target, writable, identity, size: as they were of the disk when the unit was started.
        version: of its daemon.
        view: whether it sees its own guest alone.
        store: the mark that the store bore when the unit was started.
    """

    phase: str
    target: str = ""
    writable: bool = True
    identity: frozenset[str] = frozenset()
    size: int | None = None
    version: str = ""
    view: bool = True
    store: str = ""


@dataclass(frozen=True)
class Observation:
    """What there is.

    Attributes:
        disks: the backend's own tree; None where the store cannot be reached or does not know our own domain: then
            it says nothing.
        units: those that are not gone; None where nobody could say.
        frontends: disks without a directory (of those in the memory) whose guest still has its end.
        store: a mark of ours in the store; another one where it came back without what was in it.
        foreign: daemons that are not ours, in words.
        trouble: why no daemon can be started at all, in words; empty where one can.
    """

    disks: Mapping[Key, Disk] | None
    units: Mapping[Key, Unit] | None
    frontends: frozenset[Key] = frozenset()
    store: str = ""
    foreign: tuple[str, ...] = ()
    trouble: str = ""


@dataclass(frozen=True)
class Rules:
    """Settings. Times in seconds; three of the longest fit into the ten that libxl waits (LIBXL_INIT_TIMEOUT).

    Attributes:
        view: whether daemons get a view in which their guest is the only one.
        served_within: from when its daemon runs.
        settle: how long a disk has to stay in use to count as served.
        runs_within: from when its unit was asked for.
        closes_within: from when its guest is seen to go.
        retry_after: from the first start to the second.
        ends_within: after which a unit is asked again to stop; systemd kills it long before.
        attempts: starts for one disk.
        shared: targets that several guests may write to.
    """

    view: bool = True
    served_within: float = 3.0
    settle: float = 0.5
    runs_within: float = 10.0
    closes_within: float = 3.0
    retry_after: float = 0.5
    ends_within: float = 10.0
    attempts: int = 2
    shared: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Track:
    """What is remembered of a disk.

    Attributes:
        attempts: how often a daemon was started for it.
        asked: when the last one was.
        ran: since when its unit has been seen to run.
        fresh: since when it has been seen free, to be taken up by whoever comes.
        past: it was past state 1.
        used: since when it has been in use.
        closing: since when its guest has been seen to go.
        stopping: when its unit was asked to stop.
        declinable: it was asked to stop unless its daemon has taken the disk up.
        obsolete: the unit belongs to an earlier disk of the same numbers.
        ended: `FAILED` or `LOST` where nothing more is to be done; why says why.
        births: of the disk, when last seen.
        store: the mark of the store in which it was last seen.
        size: of the storage in bytes when its daemon was started.
        version: of its daemon.
        identity: all that its target was while its unit was there: of which its daemon read one.
        writable: it was to be written to at any time of that.
    """

    attempts: int = 0
    asked: float | None = None
    ran: float | None = None
    fresh: float | None = None
    past: bool = False
    used: float | None = None
    closing: float | None = None
    stopping: float | None = None
    declinable: bool = False
    obsolete: bool = False
    ended: str = ""
    why: str = ""
    births: int = 0
    store: str = ""
    size: int | None = None
    version: str = ""
    identity: frozenset[str] = frozenset()
    writable: bool = False


@dataclass(frozen=True)
class Memory:
    """What is remembered from one look to the next.

    Attributes:
        tracks: by disk.
        blind: the last look saw nothing, so times of waiting begin anew.
    """

    tracks: Mapping[Key, Track] = field(default_factory=dict)
    blind: bool = False


@dataclass(frozen=True)
class Start:
    """Start a daemon for a disk."""

    key: Key
    disk: Disk


@dataclass(frozen=True)
class Stop:
    """Stop the unit of a disk.

    Attributes:
        why: in words.
        unless_taken: its view is to end it, and leaves it alone where the daemon has taken the disk up meanwhile.
    """

    key: Key
    why: str
    unless_taken: bool = False


Action = Union[Start, Stop]


@dataclass(frozen=True)
class Decision:
    """What follows from an observation.

    Attributes:
        memory: for the next step.
        actions: to be carried out in order.
        statuses: of every disk that there is something to say of; None where nothing was seen, so nothing changes.
        dead: why no disk could be served now; empty where one could.
        wake: when to look again at the latest though nothing happens; None for never.
        look: disks wait for something that no event tells of, so look again now and then.
    """

    memory: Memory
    actions: tuple[Action, ...] = ()
    statuses: Mapping[Key, DiskStatus] | None = None
    dead: str = ""
    wake: float | None = None
    look: bool = False


def step(memory: Memory, seen: Observation, now: float, rules: Rules) -> Decision:
    """What to do.

    Args:
        memory: of the step before.
        seen: what there is now.
        now: a clock in seconds that only goes forward.
        rules: settings.
    """
    if seen.disks is None or seen.units is None:
        return Decision(replace(memory, blind=True))
    return _Step(memory, seen.disks, seen.units, seen, now, rules).decide()


@dataclass
class _Verdict:
    """What became of one disk.

    ``free`` marks one that a daemon may be started for; ``stop`` is why its unit is to end, ``unless_taken`` that it
    may decline; ``expendable`` a unit that serves nobody any more.
    """

    track: Track | None
    status: DiskStatus | None
    free: bool = False
    stop: str = ""
    unless_taken: bool = False
    expendable: bool = False


class _Step:
    def __init__(
        self,
        memory: Memory,
        disks: Mapping[Key, Disk],
        units: Mapping[Key, Unit],
        seen: Observation,
        now: float,
        rules: Rules,
    ) -> None:
        self.memory = memory
        self.disks = disks
        self.units = units
        self.seen = seen
        self.now = now
        self.rules = rules
        self.wakes: list[float] = []
        self.look = False
        #: unit → disk of another guest that its daemon took up, as one without a view does
        self.strays: dict[Key, Key] = {}
        for key, unit in units.items():
            own = disks.get(key)
            if unit.view or unit.phase == UNIT_STOPPING or (own is not None and own.state in IN_USE):
                continue
            taken = [other for other in disks if other[1] == key[1] and self._taken_by_a_stray(other)]
            if taken:
                self.strays[key] = max(taken)  # it takes the highest domid

    def _taken_by_a_stray(self, key: Key) -> bool:
        """Whether a disk is in use without a unit of its own, and was not before: one that is lost is nobody's."""
        disk, track = self.disks[key], self.memory.tracks.get(key)
        if key in self.units or disk.state not in IN_USE:
            return False
        return track is None or track.ended != LOST or track.births != disk.births

    def decide(self) -> Decision:
        verdicts: dict[Key, _Verdict] = {}
        for key in sorted({*self.disks, *self.units, *self.memory.tracks}):
            track = self.memory.tracks.get(key)
            if track is not None and self.memory.blind:
                track = _restarted(track, self.now)
            verdicts[key] = self._judge(key, track)
        starts = self._starts(verdicts)
        stops = self._stops(verdicts)
        return Decision(
            Memory({key: verdict.track for key, verdict in verdicts.items() if verdict.track is not None}),
            (*stops, *starts),
            {key: verdict.status for key, verdict in verdicts.items() if verdict.status is not None},
            self._dead(),
            min((wake for wake in self.wakes if wake > self.now), default=None),
            self.look or bool(self._dead()),
        )

    def _dead(self) -> str:
        if self.seen.foreign:
            return f"a daemon that is not the launcher's runs: {'; '.join(self.seen.foreign)}"
        return self.seen.trouble

    def _by(self, moment: float) -> bool:
        """Whether a moment has come; if not, look again then."""
        self.wakes.append(moment)
        return self.now >= moment

    # -- one disk ----------------------------------------------------------------------------------------------

    def _judge(self, key: Key, track: Track | None) -> _Verdict:
        disk, unit = self.disks.get(key), self.units.get(key)
        if disk is None:
            return self._without_disk(key, unit, track)
        if track is None:
            track = self._adopted(disk, unit)
        if unit is not None:
            read = track.identity | disk.identity
            track = replace(track, identity=read, writable=track.writable or disk.writable)
        if track.store != self.seen.store:
            if unit is not None and disk.state not in IN_USE:
                # written anew into a store that had forgotten it: the daemon may well serve on
                return self._kept(disk, unit, track)
            if unit is None:
                track = Track(births=disk.births)
            track = replace(track, store=self.seen.store)
        elif disk.state == FREE and disk.births > track.births and _had_its_time(track):
            former = unit is not None
            track = Track(
                store=track.store,
                obsolete=former,
                stopping=track.stopping if former else None,
                identity=track.identity,
                writable=track.writable,
            )
        elif disk.state == FREE and disk.births > track.births and track.attempts > 1:
            # by the second start all of the first disk was written: this is another one, and may be tried once more
            track = replace(track, attempts=1)
        fresh = (self.now if track.fresh is None else track.fresh) if disk.state == FREE else None
        track = replace(track, births=disk.births, fresh=fresh)
        if unit is None:
            track = replace(track, stopping=None, declinable=False, obsolete=False, ran=None)
            return self._without_unit(disk, replace(track, identity=frozenset(), writable=False))
        if key in self.strays:
            why = f"its daemon took up the disk of guest {self.strays[key][0]}: there is no view"
            track = replace(track, ran=None)  # once it has closed that one it gets its time anew
            return _Verdict(track, self._status(WAITING, disk, track, why))
        return self._with_both(key, disk, unit, track)

    def _adopted(self, disk: Disk, unit: Unit | None) -> Track:
        """A disk that is seen for the first time; with a unit, one that the launcher before this one started."""
        if unit is None:
            return Track(births=disk.births, store=self.seen.store)
        return Track(
            attempts=1,
            asked=self.now,
            past=disk.state != FREE or self.seen.store != unit.store,
            births=disk.births,
            store=unit.store,
            size=unit.size,
            version=unit.version,
        )

    def _without_disk(self, key: Key, unit: Unit | None, track: Track | None) -> _Verdict:
        if unit is None:
            return self._gone(key, track)
        if track is None:
            track = Track(
                attempts=1, past=True, store=unit.store, size=unit.size, version=unit.version, births=-1
            )
        if track.store != self.seen.store:
            return self._kept(None, unit, track)
        if key in self.strays:
            return _Verdict(replace(track, closing=None), None)
        track = replace(track, closing=self.now if track.closing is None else track.closing)
        if self._may_stray(key, unit, track.closing):
            return _Verdict(track, None)
        status = None
        if key in self.seen.frontends:
            track, status = self._missed(track)
        track = replace(track, obsolete=True)
        return self._stop(unit, track, status, "its directory in xenstore is gone")

    def _may_stray(self, key: Key, unit: Unit, since: float | None) -> bool:
        """Whether a daemon may be about to take up another guest's disk, as one without a view does.

        Told to end in that moment, it would destroy it: so it gets its time, from when both were there.

        Args:
            key, unit: of the daemon.
            since: when it began to look for a disk.
        """
        if unit.view or unit.phase == UNIT_STOPPING:
            return False
        may = False
        for other, disk in self.disks.items():
            if other[1] == key[1] and other not in self.units and disk.state == FREE and not disk.unfit:
                track = self.memory.tracks.get(other)
                seen = None if track is None or self.memory.blind else track.fresh
                fresh = self.now if seen is None else seen
                may = not self._by(max(fresh, since or 0.0) + self.rules.served_within) or may
        return may

    def _gone(self, key: Key, track: Track | None) -> _Verdict:
        """Neither directory nor unit: forgotten, unless the guest is there and misses it."""
        if track is None or track.store != self.seen.store or key not in self.seen.frontends:
            return _Verdict(None, None)
        if not (track.past or track.attempts or track.ended):
            return _Verdict(None, None)
        track, status = self._missed(replace(track, stopping=None))
        return _Verdict(track, status)

    def _missed(self, track: Track) -> tuple[Track, DiskStatus]:
        """Its directory is gone, and its guest is not."""
        self.look = True  # no event tells that the guest goes
        track = replace(track, ended=track.ended or LOST, why=track.why or _GIVEN_UP)
        return track, self._status(track.ended, None, track, track.why)

    def _kept(self, disk: Disk | None, unit: Unit, track: Track) -> _Verdict:
        why = "the store came back without it: its daemon serves on"
        track = replace(track, past=True)
        return _Verdict(track, self._status(SERVED, disk, track, why), expendable=unit.phase == UNIT_STOPPING)

    def _without_unit(self, disk: Disk, track: Track) -> _Verdict:
        if disk.state in IN_USE:
            return self._unserved(disk, replace(track, past=True))
        if disk.state != FREE:
            self.look = True
            why = "it is closed" if disk.state in ("5", "6") else disk.unfit or f"its state is {disk.state}"
            return _Verdict(track, self._status(WAITING, disk, track, why))
        return self._untaken(disk, track)

    def _untaken(self, disk: Disk, track: Track) -> _Verdict:
        """In state 1, and without a unit."""
        if track.past:
            track = replace(
                track, ended=LOST, why=track.why or "its daemon ended, and its state went back to 1"
            )
            return _Verdict(track, self._status(LOST, disk, track, track.why))
        if track.attempts >= self.rules.attempts or track.ended == FAILED:
            why = track.why or "its daemon ended before it took the disk up; its unit's journal says why"
            track = replace(track, ended=FAILED, why=why)
            told = (
                f"started {track.attempts} times: {why}" if track.attempts else why
            )  # a launcher before this one counted them
            return _Verdict(track, self._status(FAILED, disk, track, told))
        if track.asked is not None and not self._by(track.asked + self.rules.retry_after):
            return _Verdict(track, self._status(STARTING, disk, track, "a second time"))
        waits = self._dead() or disk.unfit
        if waits:
            self.look = True
            return _Verdict(track, self._status(WAITING, disk, track, waits))
        return _Verdict(track, None, free=True)

    def _unserved(self, disk: Disk, track: Track) -> _Verdict:
        """In use, and not by a unit of ours."""
        if disk.frontend is None:
            self.look = True
            return _Verdict(track, self._status(WAITING, disk, track, "its guest is gone and left it behind"))
        for unit, taken in self.strays.items():
            if self.disks[taken] is disk:
                why = f"by the daemon that was started for guest {unit[0]}: there is no view"
                track = replace(track, ended="", why="")
                return _Verdict(track, self._status(SERVED, disk, track, why))
        if self.seen.foreign:
            return _Verdict(track, self._status(SERVED, disk, track, f"by {'; '.join(self.seen.foreign)}"))
        why = track.why or (
            "its daemon ended while it served the disk"
            if track.attempts
            else "no daemon of the launcher's has it"
        )
        track = replace(track, ended=LOST, why=why)
        told = (
            why if why.endswith(_REMEDY) else f"{why}{_REMEDY}"
        )  # a launcher before this one may have told it
        return _Verdict(track, self._status(LOST, disk, track, told))

    def _with_both(self, key: Key, disk: Disk, unit: Unit, track: Track) -> _Verdict:
        track = replace(track, size=track.size if unit.size is None else unit.size, version=unit.version)
        if track.obsolete:
            status = self._status(WAITING, disk, track, "the daemon of an earlier disk has to end first")
            track = replace(track, closing=self.now if track.closing is None else track.closing)
            if track.stopping is None and self._may_stray(key, unit, track.closing):
                return _Verdict(track, status)
            return self._stop(unit, track, status, "its disk was made anew")
        if disk.state in IN_USE:
            track = replace(track, past=True, used=self.now if track.used is None else track.used)
            if track.declinable and unit.phase != UNIT_STOPPING:  # it did so in the last moment, and stays
                track = replace(track, stopping=None, declinable=False, why="")
        if unit.phase == UNIT_STOPPING or track.stopping is not None:
            return self._stop(unit, track, self._ending(disk, track), track.why or "it did not end")
        if disk.frontend is None:
            return self._closing(key, disk, unit, track)
        track = replace(track, closing=None)
        if track.past:
            return self._serving(disk, track)
        return self._starting(key, disk, unit, track)

    def _ending(self, disk: Disk, track: Track) -> DiskStatus:
        """Its unit ends."""
        if disk.frontend is None:
            return self._status(WAITING, disk, track, "its guest is going")
        if track.past:
            return self._status(LOST, disk, track, f"its unit was stopped{_REMEDY}")
        again = track.attempts < self.rules.attempts
        return self._status(STARTING if again else FAILED, disk, track, track.why)

    def _serving(self, disk: Disk, track: Track) -> _Verdict:
        if disk.state not in IN_USE:
            why = f"its state reads {disk.state} while its daemon has it"
            return _Verdict(track, self._status(SERVED, disk, track, why))
        since = self.now if track.used is None else track.used
        settled = self._by(since + self.rules.settle)
        return _Verdict(track, self._status(SERVED if settled else STARTING, disk, track))

    def _starting(self, key: Key, disk: Disk, unit: Unit, track: Track) -> _Verdict:
        if unit.phase == UNIT_STARTING:
            track = replace(track, asked=self.now if track.asked is None else track.asked)
            limit, since, what = self.rules.runs_within, track.asked, "its unit did not come up"
        else:
            track = replace(track, ran=self.now if track.ran is None else track.ran)
            limit, since, what = self.rules.served_within, track.ran, "no daemon took it up"
        status = self._status(STARTING, disk, track)
        if not self._by((since or 0.0) + limit) or self._may_stray(key, unit, track.ran):
            return _Verdict(track, status)
        track = replace(track, why=f"{what} within {limit:g} s")
        return self._stop(unit, track, status, track.why, unless_taken=unit.view)

    def _closing(self, key: Key, disk: Disk, unit: Unit, track: Track) -> _Verdict:
        """Its guest goes: the daemon closes by itself, unless it hangs."""
        track = replace(track, closing=self.now if track.closing is None else track.closing)
        status = self._status(WAITING, disk, track, "its guest is going")
        if not self._by((track.closing or 0.0) + self.rules.closes_within):
            return _Verdict(track, status, expendable=unit.view)
        if self._may_stray(key, unit, track.closing):
            return _Verdict(track, status)
        return self._stop(unit, track, status, "its guest is gone and it does not close")

    def _stop(
        self, unit: Unit, track: Track, status: DiskStatus | None, why: str, *, unless_taken: bool = False
    ) -> _Verdict:
        """The unit is to end; it is asked once, and again only where that did not help for long."""
        asked = unit.phase == UNIT_STOPPING or track.stopping is not None
        if track.stopping is None:
            track = replace(track, stopping=self.now, declinable=unless_taken)
        elif self._by(track.stopping + self.rules.ends_within):
            track = replace(track, stopping=self.now, declinable=unless_taken)
            asked = False
        self.wakes.append((track.stopping or 0.0) + self.rules.ends_within)
        stop = "" if asked else why
        return _Verdict(track, status, stop=stop, unless_taken=unless_taken, expendable=True)

    def _status(self, status: str, disk: Disk | None, track: Track, why: str = "") -> DiskStatus:
        return DiskStatus(status, track.size, None if disk is None else disk.size, track.version, why)

    # -- all together --------------------------------------------------------------------------------------------

    def _starts(self, verdicts: dict[Key, _Verdict]) -> list[Start]:
        """Start what is free, unless something that still runs is in its way."""
        starts: list[Start] = []
        claims = {key: self._holds(key, unit, verdicts[key].track) for key, unit in self.units.items()}
        highest = max((guest for guest, _number in self.disks), default=0)
        for key, verdict in sorted(verdicts.items()):
            track, disk = verdict.track, self.disks.get(key)
            if not verdict.free or track is None or disk is None:
                continue
            in_the_way = [other for other in self._in_the_way(key, disk, claims) if other != key]
            for other in in_the_way:
                holder = verdicts[other]
                if holder.expendable and not holder.stop and holder.track and holder.track.stopping is None:
                    holder.stop = f"guest {key[0]} needs its target"
                    holder.track = replace(holder.track, stopping=self.now)
            if in_the_way:
                verdict.status = self._status(WAITING, disk, track, self._why(key, disk, in_the_way, claims))
                continue
            if key[0] < highest and not self.rules.view:
                why = f"guest {highest} is there: without a view a daemon looks at the highest domid alone"
                verdict.status = self._status(WAITING, disk, track, why)
                continue
            starts.append(Start(key, disk))
            claims[key] = Unit(UNIT_STARTING, disk.target, disk.writable, disk.identity, view=self.rules.view)
            verdict.track = track = replace(
                track, attempts=track.attempts + 1, asked=self.now, why="", size=disk.size, ran=None
            )
            verdict.status = self._status(STARTING, disk, track)
            self.wakes.append(self.now + self.rules.runs_within)
        return starts

    def _holds(self, key: Key, unit: Unit, track: Track | None) -> Unit:
        """The unit with the storage that its daemon has, or may have.

        A disk that was written anew before its daemon read it is not the one that the unit was started for.
        """
        taken = self.strays.get(key)
        if taken is not None:
            disk = self.disks[taken]
            return replace(unit, target=disk.target, writable=disk.writable, identity=disk.identity)
        if track is None:
            return unit
        return replace(
            unit, writable=unit.writable or track.writable, identity=unit.identity | track.identity
        )

    def _in_the_way(self, key: Key, disk: Disk, claims: Mapping[Key, Unit]) -> Iterable[Key]:
        for other, unit in claims.items():
            if self._same_number(key, other, unit) or self._same_storage(disk, unit):
                yield other

    def _same_number(self, key: Key, other: Key, unit: Unit) -> bool:
        """A daemon without a view takes up, and destroys, any guest's disk of its number."""
        return key[1] == other[1] and not (self.rules.view and unit.view)

    def _same_storage(self, disk: Disk, unit: Unit) -> bool:
        if not unit.writable or disk.target in self.rules.shared:
            return False
        return disk.target == unit.target or not disk.identity.isdisjoint(unit.identity)

    def _why(self, key: Key, disk: Disk, others: list[Key], claims: Mapping[Key, Unit]) -> str:
        other = others[0]
        named = f"disk {other[1]} of guest {other[0]}"
        if self._same_storage(disk, claims[other]):
            return f"{named} has its target writable"
        return f"{named} has its device number, and there is no view to keep them apart"

    def _stops(self, verdicts: dict[Key, _Verdict]) -> list[Stop]:
        return [
            Stop(key, verdict.stop, verdict.unless_taken) for key, verdict in verdicts.items() if verdict.stop
        ]


_REMEDY = "; re-create its guest"
_GIVEN_UP = f"its daemon gave it up (its unit's journal says why){_REMEDY}"


def _had_its_time(track: Track) -> bool:
    """Whether a disk that may have been made anew is no longer the one that is remembered."""
    return track.past or track.obsolete or bool(track.ended)


def _restarted(track: Track, now: float) -> Track:
    """Times of waiting begin anew after a while without a store: the daemon had none either."""
    return replace(
        track,
        asked=None if track.asked is None else now,
        ran=None if track.ran is None else now,
        fresh=None if track.fresh is None else now,
        closing=None if track.closing is None else now,
    )


def not_started(memory: Memory, keys: Iterable[Key]) -> Memory:
    """The memory of a step whose starts could not be carried out: they do not count."""
    tracks = dict(memory.tracks)
    for key in keys:
        attempts = max(0, tracks[key].attempts - 1)
        tracks[key] = replace(tracks[key], attempts=attempts, asked=None)
    return replace(memory, tracks=tracks)


def tracked_without_directory(memory: Memory, disks: Iterable[Key]) -> list[Key]:
    """The disks whose frontends an observation has to look at: remembered, and without a directory."""
    return sorted(set(memory.tracks) - set(disks))
