# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The launcher's decisions against a domain that lives: guests come and go, daemons crash and hang, stores vanish.

The daemon of the model behaves as the real one: it takes up a disk in state 1, deletes one in another state, closes
when the frontend goes, and waits for ever, deaf, once it has lost its disk. It looks at the highest domid that it sees:
with a view at its own guest's, without one at any guest's, and again whenever there is a higher one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ansible_collections.xen.virtio.plugins.module_utils._diskstatus import LOST, SERVED
from ansible_collections.xen.virtio.plugins.module_utils._launch import (
    UNIT_RUNNING,
    UNIT_STARTING,
    UNIT_STOPPING,
    Decision,
    Disk,
    Key,
    Memory,
    Observation,
    Rules,
    Start,
    Stop,
    Track,
    Unit,
    step,
    tracked_without_directory,
)
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

DOMIDS = st.integers(1, 4)
DEVIDS = st.sampled_from((51712, 51728))
TARGETS = st.sampled_from(("/dev/a", "/dev/b", "/dev/c", "/dev/d"))

ATTACH_TIME = 0.25  #: the daemon's own sleep, and a bit
TERM_TIME = 3.0  #: TimeoutStopSec of the unit
PATIENCE = 20  #: steps of the launcher that a calm world needs to come to rest


@dataclass
class Directory:
    """A disk in the backend's own tree, and its other end."""

    target: str
    writable: bool
    state: str | None = "1"
    frontend: str | None = "1"
    starts: int = 0  #: since it was made, by one launcher
    lost: bool = False  #: a daemon that had it is gone or gave it up
    missing: bool = False  #: not all of its nodes are there
    mistaken: bool = False  #: for another, since what became of the one before, or of it, nobody saw


@dataclass
class Process:
    """A unit: a view and its daemon."""

    begun: float
    unit: Unit
    healthy: str
    disk: Directory | None = None  #: what it has taken up
    of: Key | None = None  #: whose that is
    highest: int = -1  #: domid that it has looked at
    hangs: bool = False
    stopping: float | None = None
    seen: list[Directory] = field(default_factory=list)  #: what its disk was at each look of the launcher's


@dataclass
class World:
    """A backend domain."""

    now: float = 100.0
    disks: dict[Key, Directory] = field(default_factory=dict)
    births: dict[Key, int] = field(default_factory=dict)
    guests: dict[Key, Directory] = field(default_factory=dict)  #: ends of guests whose directory is gone
    units: dict[Key, Process] = field(default_factory=dict)
    foreign: bool = False
    store: int = 1
    forgotten: dict[Key, Process] = field(default_factory=dict)  #: units of guests that the store lost
    reachable: bool = True
    systemd: bool = True
    fate: str = "well"  #: of daemons that are started
    quick: bool = False  #: daemons take their disks up between a decision and what comes of it

    def observe(self, memory: Memory) -> Observation:
        disks = {
            key: Disk(
                disk.state,
                disk.frontend,
                disk.target,
                disk.writable,
                frozenset({disk.target}),
                unfit="nodes are missing" if disk.missing else "" if disk.frontend == "1" else "no frontend",
                births=self.births[key],
            )
            for key, disk in self.disks.items()
        }
        asked = tracked_without_directory(memory, disks)
        return Observation(
            disks if self.reachable else None,
            {key: self.unit(process) for key, process in self.units.items()} if self.systemd else None,
            frozenset(key for key in asked if key in self.guests),
            str(self.store),
            ("process 7",) if self.foreign else (),
        )

    def unit(self, process: Process) -> Unit:
        phase = UNIT_RUNNING if self.now >= process.begun + 0.1 else UNIT_STARTING
        if process.stopping is not None:
            phase = UNIT_STOPPING
        told = process.unit
        return Unit(phase, told.target, told.writable, told.identity, view=told.view, store=told.store)

    def pass_time(self, seconds: float) -> None:
        """Let daemons do what they do."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 0.1)
            for key in list(self.units):
                self.live(key, self.units[key])

    def live(self, key: Key, process: Process) -> None:
        if process.stopping is not None:
            if not process.hangs or self.now >= process.stopping + TERM_TIME:
                self.end(key, tidy=not process.hangs)
            return
        if not self.reachable:
            return  # its view holds everything up
        if process.disk is not None and process.of is not None:
            disk = self.disks.get(process.of)
            if disk is process.disk and (disk.frontend is None or disk.state is None) and not process.hangs:
                self.let_go(process)
            elif disk is not process.disk:
                process.disk = None
            return
        if self.now < process.begun + ATTACH_TIME or process.hangs or process.healthy in ("deaf", "crash"):
            if process.healthy == "crash" and self.now >= process.begun + 0.1:
                self.end(key, tidy=False)
            return
        self.look_for_a_disk(key, process)

    def look_for_a_disk(self, key: Key, process: Process) -> None:
        seen = key[0] if process.unit.view else max((guest for guest, _number in self.disks), default=key[0])
        highest = (seen, key[1])
        if highest[0] <= process.highest:
            return
        process.highest = highest[0]  # it looks once at each
        disk = self.disks.get(highest)
        if disk is None or disk.frontend is None:
            return
        if disk.state != "1" or disk.missing:
            self.remove(highest)
            return
        disk.state = "2"
        process.disk, process.of = disk, highest
        if process.healthy == "refuse":
            self.let_go(process)

    def server(self, disk: Directory) -> Process | None:
        """Who has taken it up."""
        return next((process for process in self.units.values() if process.disk is disk), None)

    def let_go(self, process: Process) -> None:
        assert process.of is not None
        process.disk = None
        self.remove(process.of)

    def remove(self, key: Key) -> None:
        disk = self.disks.pop(key)
        if disk.frontend is not None:
            disk.lost = True
            self.guests[key] = disk

    def end(self, key: Key, *, tidy: bool) -> None:
        process = self.units.pop(key)
        disk = process.disk
        if disk is None or process.of is None or self.disks.get(process.of) is not disk:
            return
        if tidy and self.reachable:
            self.remove(process.of)
        else:
            disk.lost = disk.state != "1"  # else somebody wrote it anew: it can be taken up again


class Machine(RuleBasedStateMachine):
    """Anything may happen between two steps of the launcher, and the launcher may be another one at any time."""

    @initialize(view=st.booleans(), shared=st.frozensets(TARGETS, max_size=1))
    def begin(self, view: bool, shared: frozenset[str]) -> None:
        self.world = World()
        self.memory = Memory()
        self.launch_rules = Rules(view=view, shared=shared)
        self.last: Decision | None = None
        self.look()

    # -- the world ------------------------------------------------------------------------------------------------

    @rule(domid=DOMIDS, devid=DEVIDS, storage=TARGETS, writable=st.booleans(), missing=st.booleans())
    def create(self, domid: int, devid: int, storage: str, writable: bool, missing: bool) -> None:
        key = (domid, devid)
        if self.world.reachable and key not in self.world.disks and key not in self.world.guests:
            self.world.disks[key] = Directory(storage, writable, missing=missing)
            self.world.births[key] = self.world.births.get(key, 0) + 1

    @rule(domid=DOMIDS, devid=DEVIDS, storage=TARGETS)
    def create_anew_unseen(self, domid: int, devid: int, storage: str) -> None:
        """A disk goes and is back before anybody looks."""
        key = (domid, devid)
        if self.world.reachable and key in self.world.disks:
            self.world.disks[key] = Directory(storage, writable=True)
            self.world.births[key] += 1

    @rule(domid=DOMIDS)
    def complete(self, domid: int) -> None:
        for key, disk in self.world.disks.items():
            if key[0] == domid:
                disk.missing = False

    @rule(domid=DOMIDS)
    def destroy(self, domid: int) -> None:
        """libxl begins: the frontend goes."""
        if not self.world.reachable:
            return
        for key, disk in self.world.disks.items():
            if key[0] == domid:
                disk.frontend = None
                if disk.state is not None:
                    disk.state = "5"
        for key in [key for key in self.world.guests if key[0] == domid]:
            del self.world.guests[key]

    @rule(domid=DOMIDS)
    def sweep(self, domid: int) -> None:
        """libxl ends: what is left goes."""
        if not self.world.reachable:
            return
        for key, disk in list(self.world.disks.items()):
            if key[0] == domid and disk.frontend is None:
                del self.world.disks[key]

    @rule(key=st.tuples(DOMIDS, DEVIDS))
    def die(self, key: Key) -> None:
        """The daemon crashes."""
        if key in self.world.units:
            self.world.end(key, tidy=False)

    @rule(key=st.tuples(DOMIDS, DEVIDS))
    def hang(self, key: Key) -> None:
        if key in self.world.units:
            self.world.units[key].hangs = True

    @rule(fate=st.sampled_from(("well", "well", "deaf", "crash", "refuse")))
    def be_fated(self, fate: str) -> None:
        self.world.fate = fate

    @rule(quick=st.booleans())
    def be_quick(self, quick: bool) -> None:
        self.world.quick = quick

    @rule(there=st.booleans())
    def foreign_daemon(self, there: bool) -> None:
        self.world.foreign = there

    @rule(reachable=st.booleans())
    def reach(self, reachable: bool) -> None:
        self.world.reachable = reachable

    @rule(answers=st.booleans())
    def ask_systemd(self, answers: bool) -> None:
        self.world.systemd = answers

    @rule(rewritten=st.booleans())
    def empty_the_store(self, rewritten: bool) -> None:
        """xenstored comes back with nothing; or with disks that somebody wrote anew for guests that go on."""
        world = self.world
        world.store += 1
        for key in list(world.disks):
            process = world.server(world.disks[key])
            if process is not None and rewritten and process.disk is not None:
                # its view hides from the daemon what happened; to the daemon it is the disk that it was
                process.disk.state = "1"
                process.disk.starts = 0
                world.births[key] += 1
            elif process is not None:
                del world.disks[key]
                world.forgotten[key] = process
            else:
                del world.disks[key]
        world.guests.clear()

    # -- the launcher ---------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from((0.1, 0.3, 1.0, 4.0, 11.0)))
    def wait(self, seconds: float) -> None:
        self.world.pass_time(seconds)
        self.look()

    @rule()
    def look(self) -> None:
        seen = self.world.observe(self.memory)
        for key, process in self.world.units.items():
            process.seen += [disk for other, disk in self.world.disks.items() if other == key]
        self.last = step(self.memory, seen, self.world.now, self.launch_rules)
        self.memory = self.last.memory
        if seen.disks is None or seen.units is None:
            assert not self.last.actions
            assert self.last.statuses is None
        for action in self.last.actions:
            if isinstance(action, Start):
                self.start(action)
            else:
                self.stop(action)

    @rule()
    def restart_launcher(self) -> None:
        """The next one knows what the store says of those that were given up."""
        tracks = {}
        for key, track in self.memory.tracks.items():
            disk = self.world.disks.get(key)
            if not track.ended or track.store != str(self.world.store):
                continue
            tracks[key] = Track(
                past=track.ended == LOST,
                ended=track.ended,
                why=track.why,
                births=0 if disk is None else self.world.births[key],
                store=track.store,
            )
            if disk is not None and self.world.births[key] > track.births:
                disk.mistaken = True
        self.memory = Memory(tracks)
        for key, disk in self.world.disks.items():
            if key not in tracks:
                disk.starts = 0

    @rule(key=st.tuples(DOMIDS, DEVIDS))
    def write_back(self, key: Key) -> None:
        """Somebody takes the state for what is wrong with a disk that is lost."""
        disk = self.world.disks.get(key)
        if self.world.reachable and disk is not None and disk.lost and key not in self.world.units:
            disk.state = "1"
            track = self.memory.tracks.get(key)
            disk.mistaken = track is None or not (
                track.past or track.ended
            )  # nobody saw it taken up, nor lost

    def start(self, action: Start) -> None:
        world, key = self.world, action.key
        disk = world.disks[key]
        assert key not in world.units, "two daemons for one disk"
        assert not world.foreign, "a daemon beside a foreign one"
        assert disk.state == "1", f"a fresh daemon deletes a disk in state {disk.state}"
        assert disk.frontend == "1"
        assert not disk.missing
        assert not disk.lost or disk.mistaken, "the guest has lost this disk already"
        if not self.launch_rules.view:
            assert all(key[1] != other[1] for other in world.units), "two daemons with one device number"
            assert all(key[0] >= other[0] for other in world.disks), "a daemon that would never look at it"
        writing = [other for other, process in world.units.items() if self.writes(other, process, disk)]
        assert not writing, "a second writer"
        disk.starts += 1
        assert disk.starts <= self.launch_rules.attempts
        unit = Unit(
            UNIT_STARTING,
            disk.target,
            disk.writable,
            frozenset({disk.target}),
            view=self.launch_rules.view,
            store=str(world.store),
        )
        world.units[key] = Process(world.now, unit, world.fate)

    def writes(self, key: Key, process: Process, disk: Directory) -> bool:
        """Whether a daemon writes to a disk's storage, or is about to, as far as its owner minds."""
        own = self.world.disks.get(key)
        had = (process.disk,) if process.disk is not None else (process.unit, own)
        return any(one is not None and one.writable and one.target == disk.target for one in had) and (
            disk.target not in self.launch_rules.shared
        )

    def may_write(self, key: Key, process: Process, disk: Directory) -> bool:
        """The same as the launcher sees it, which knows what a unit was told and what there was since."""
        had: list[Unit | Directory] = [process.unit, *process.seen]
        had += [] if process.disk is None else [process.disk]
        unminded = disk.target in self.launch_rules.shared or not any(one.writable for one in had)
        return not unminded and disk.target in {one.target for one in had}

    def stop(self, action: Stop) -> None:
        process = self.world.units.get(action.key)
        assert process is not None, "nothing to stop"
        if action.unless_taken and self.world.quick and process.disk is None and not process.hangs:
            self.world.look_for_a_disk(action.key, process)
        if action.unless_taken and process.disk is not None:
            return  # its view declines
        served = process.disk
        if served is not None and process.of is not None:
            there = self.world.disks.get(process.of) is served
            assert not (there and served.frontend is not None), (
                f"a disk in use loses its daemon: {action.why}"
            )
        assert not any(process is one for one in self.world.forgotten.values()), (
            "a store that says nothing ended a daemon"
        )
        process.stopping = process.stopping or self.world.now

    @invariant()
    def lost_ones_are_told(self) -> None:
        """As far as the last look could see: so look first."""
        world = getattr(self, "world", None)
        if world is None or not world.reachable or not world.systemd:
            return
        self.look()
        assert self.last is not None
        assert self.last.statuses is not None
        for key, disk in world.disks.items():
            told = self.last.statuses.get(key)
            if disk.lost and disk.frontend is not None and disk.state == "2" and key not in world.units:
                assert told is not None
                assert told.status == LOST or world.foreign, told
            if world.server(disk) is not None and not disk.lost and told is not None:
                assert told.status != LOST, told

    def teardown(self) -> None:
        """In a calm world everything comes to rest: each new disk is served, unless something is in its way."""
        world = getattr(self, "world", None)
        if world is None:
            return
        world.reachable = world.systemd = True
        world.foreign = False
        world.fate = "well"
        fresh = {
            key: disk
            for key, disk in world.disks.items()
            if disk.state == "1"
            and not (disk.lost or disk.mistaken or disk.starts)
            and key not in world.units
        }
        for disk in fresh.values():
            disk.missing = False
        for _step in range(PATIENCE):
            world.pass_time(1.0)
            self.look()
        assert self.last is not None
        assert self.last.statuses is not None
        for key, disk in fresh.items():
            if world.disks.get(key) is not disk or disk.frontend is None:
                continue
            told = self.last.statuses[key]
            blocked = any(
                key != other
                and (
                    self.may_write(other, process, disk)
                    or (key[1] == other[1] and not self.launch_rules.view)
                )
                for other, process in world.units.items()
            )
            # without a view daemons look at the highest domid alone, though its guest is gone or is lost
            higher = any(other[0] > key[0] for other in world.disks)
            blocked = blocked or (higher and not self.launch_rules.view)
            assert told.status == SERVED or blocked, (key, disk, told)
        for key, process in world.units.items():
            forgotten = process.unit.store != str(world.store)  # then nobody may touch it
            assert process.disk is not None or key in world.disks or forgotten, "a daemon waits for nobody"


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=100, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
