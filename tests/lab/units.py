# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for systemd at a lab host's boot: the units wanted by multi-user.target, one after another.

It follows the links that enable units (``multi-user.target.wants``, and ``NAME.wants`` and
``NAME.requires`` of units it starts), ``Wants=`` and ``Requires=``, and brings them in the order of
``After=`` and ``Before=``; what only a real boot has (parallel starts) it has not.  It knows oneshot
services and their templates, and refuses (LabError) everything it does not understand rather than run a
unit in another way than systemd would.  Settings that only confine or describe a service are read over,
and said so in UNENFORCED: whether a unit works confined is shown on machines with a systemd.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from . import namespace
from .errors import LabError

if TYPE_CHECKING:
    from .host import LabHost

DESCRIBING = {
    "Unit": {"Description", "Documentation", "DefaultDependencies", "PartOf"},
    "Service": {"SyslogIdentifier", "StandardOutput", "StandardError", "Nice"},
    "Install": {"WantedBy", "RequiredBy", "Alias", "Also", "DefaultInstance"},
}
# Of [Service]: restrictions that this stand-in does not enforce.
UNENFORCED = (
    "Protect",
    "Private",
    "Restrict",
    "Capability",
    "Ambient",
    "SystemCall",
    "Lock",
    "Memory",
    "Read",
    "NoNewPrivileges",
    "UMask",
    "DevicePolicy",
    "DeviceAllow",
    "Tasks",
    "Inaccessible",
    "IPAddress",
    "RemoveIPC",
    "StateDirectory",
    "RuntimeDirectory",
    "NoExecPaths",
    "ExecPaths",
    "KeyringMode",
)
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
RELATIONS = {
    "After": "after",
    "Before": "before",
    "Wants": "wants",
    "Requires": "requires",
    "BindsTo": "requires",
}
# What the lab itself does before it runs any unit, and the targets that are reached before multi-user.
ALREADY = re.compile(
    r".*\.(target|mount|slice|socket|path)|(xenstored|xen-init-dom0|xen-dom0less|xenconsoled|xen|dbus)\.service"
)
SPANS = {"": 1.0, "s": 1.0, "sec": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}


class Command(NamedTuple):
    words: list[str]
    may_fail: bool


@dataclass
class Unit:
    name: str
    commands: list[Command] = field(default_factory=list)
    main: int = 0  # how many of them are ExecStart=
    environment: dict[str, str] = field(default_factory=dict)
    conditions: list[str] = field(default_factory=list)  # paths that must be there
    timeout: float = 90.0  # seconds
    remains: bool = False
    kill: str = "control-group"
    after: list[str] = field(default_factory=list)
    before: list[str] = field(default_factory=list)
    wants: list[str] = field(default_factory=list)
    requires: list[str] = field(default_factory=list)


class Done(NamedTuple):
    """What a unit did: the highest return code, and all that its commands printed."""

    unit: str
    returncode: int
    output: str


# ---- the whole boot ----


def run_wanted(host: LabHost) -> list[Done]:
    """Start all that multi-user.target wants; what each unit did, in the order they ran."""
    system = host.root / namespace.SYSTEM
    units = gather(system)
    done: dict[str, Done] = {}
    for name in ordered(units):
        unit = units[name]
        broken = [one for one in unit.requires if not fulfilled(one, done)]
        if broken:
            done[name] = Done(name, 1, f"not started: {broken[0]} failed or is not there\n")
        else:
            done[name] = run(host, unit)
    return list(done.values())


def fulfilled(name: str, done: dict[str, Done]) -> bool:
    return done[name].returncode == 0 if name in done else bool(ALREADY.fullmatch(name))


def gather(system: Path) -> dict[str, Unit]:
    """The enabled units and all that they pull in; a link is followed inside this folder only."""
    waiting = [(path.name, path) for path in linked(system / "multi-user.target.wants")]
    units: dict[str, Unit] = {}
    while waiting:
        name, path = waiting.pop(0)
        if name in units:
            continue
        unit = parse(name, source(system, name, path))
        for kind, names in (("wants", unit.wants), ("requires", unit.requires)):
            names += [link.name for link in linked(system / f"{name}.{kind}")]
            for other in names:
                found = system / file_name(system, other)
                if found.is_file() or found.is_symlink():
                    waiting.append((other, found))
        units[name] = unit
    return units


def linked(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def file_name(system: Path, name: str) -> str:
    """A unit's own file, or its template's."""
    template = re.sub(r"@.*\.", "@.", name)
    return name if (system / name).exists() or "@" not in name else template


def source(system: Path, name: str, path: Path) -> Path:
    target = system / (Path(os.readlink(path)).name if path.is_symlink() else path.name)
    if not target.is_file():
        raise LabError(f"unit {name}: {os.readlink(path)} is not in /etc/systemd/system")
    return target


def ordered(units: dict[str, Unit]) -> list[str]:
    """By After= and Before=, and by name where these say nothing."""
    earlier = {
        name: {one for one in unit.after if one in units and one != name} for name, unit in units.items()
    }
    for name, unit in units.items():
        for later in unit.before:
            if later in earlier and later != name:  # systemd drops an order of a unit to itself as well
                earlier[later].add(name)
    order: list[str] = []
    while len(order) < len(units):
        ready = [name for name in sorted(units) if name not in order and earlier[name] <= set(order)]
        if not ready:
            raise LabError(f"units wait for each other: {', '.join(sorted(set(units) - set(order)))}")
        order.append(ready[0])
    return order


# ---- one unit's file ----


def parse(name: str, path: Path) -> Unit:
    unit = Unit(name)
    section, kind = "", None
    for number, line in enumerate(joined(path.read_text(encoding="utf-8")), 1):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
            continue
        key, equals, value = (part.strip() for part in line.partition("="))
        where = f"unit {name}, setting {number}"
        if not equals or section not in DESCRIBING:
            raise LabError(f"{where}: cannot read {line!r} in section [{section}]")
        if section == "Service" and key == "Type":
            kind = value
        elif section == "Unit" and key in RELATIONS:
            getattr(unit, RELATIONS[key]).extend(expand(word, name, where) for word in value.split())
        elif section == "Unit" and key == "ConditionPathExists" and not value.startswith(("!", "|")):
            unit.conditions.append(expand(value, name, where))
        elif section == "Service" and service_setting(unit, key, value, where):
            pass
        elif key not in DESCRIBING[section] and not (section == "Service" and key.startswith(UNENFORCED)):
            raise LabError(f"{where}: the lab does not understand {key}= in [{section}]")
    if kind != "oneshot" or not unit.main:
        raise LabError(f"unit {name}: the lab runs services of Type=oneshot with ExecStart= only, not {kind}")
    return unit


def service_setting(unit: Unit, key: str, value: str, where: str) -> bool:
    """Take over a setting that changes how a service runs; False where it is none of these."""
    if key == "ExecStart":
        unit.commands.append(command(key, value, unit.name, where))
        unit.main += 1
    elif key == "ExecStartPre":
        before = len(unit.commands) - unit.main
        unit.commands.insert(before, command(key, value, unit.name, where))
    elif key == "Environment":
        for item in shlex.split(value):
            variable, _unused, setting = expand(item, unit.name, where).partition("=")
            unit.environment[variable] = setting
    elif key in {"TimeoutStartSec", "TimeoutSec"}:
        unit.timeout = seconds(value, where)
    elif key == "RemainAfterExit":
        unit.remains = value in {"yes", "true", "1", "on"}
    elif key == "KillMode" and value in {"control-group", "process", "mixed", "none"}:
        unit.kill = value
    else:
        return False
    return True


def seconds(value: str, where: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?) *([a-z]*)", value)
    if found is None or found[2] not in SPANS:
        raise LabError(f"{where}: the lab does not understand a time span of {value!r}")
    return float(found[1]) * SPANS[found[2]]


def joined(text: str) -> list[str]:
    """Settings, one an item: comments and blank lines gone, continued lines joined."""
    lines = text.replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and line.strip()[0] not in "#;"]


def expand(text: str, name: str, where: str) -> str:
    """Specifiers: %n and %N the unit's name, %p the part before @, %i the instance, %I it unescaped."""
    stem = name.rpartition(".")[0]
    prefix, _at, instance = stem.partition("@")
    known = {"%": "%", "n": name, "N": stem, "p": prefix, "i": instance, "I": unescaped(instance)}

    def one(found: re.Match[str]) -> str:
        if found[1] not in known:
            raise LabError(f"{where}: the lab expands no specifier %{found[1]}: {text!r}")
        return known[found[1]]

    return re.sub(r"%(.?)", one, text)


def unescaped(instance: str) -> str:
    """As systemd-escape --unescape."""
    text = re.sub(r"\\x([0-9a-f]{2})|-", lambda found: chr(int(found[1], 16)) if found[1] else "/", instance)
    return text.encode("latin-1").decode("utf-8", "replace")


def command(key: str, value: str, name: str, where: str) -> Command:
    words = [expand(word, name, where) for word in shlex.split(value)]
    may_fail = bool(words) and words[0].startswith("-")
    if may_fail:
        words[0] = words[0][1:]
    if not words or not words[0].startswith("/"):
        raise LabError(f"{where}: {key}= needs an absolute path and no prefix but -: {value!r}")
    if any("$" in word for word in words):
        raise LabError(f"{where}: the lab expands no variable: {value!r}")
    return Command(words, may_fail)


# ---- running it ----


def run(host: LabHost, unit: Unit) -> Done:
    output = ""
    missing = [path for path in unit.conditions if host.run(["test", "-e", path], check=False).returncode]
    if missing:
        return Done(unit.name, 0, f"skipped: no {missing[0]}\n")
    settings = [f"{name}={value}" for name, value in {**ENVIRONMENT, **unit.environment}.items()]
    before = set(host.processes())
    returncode = 0
    for words, may_fail in unit.commands:
        try:
            done = host.run(["env", "-i", *settings, *words], check=False, timeout=unit.timeout)
        except subprocess.TimeoutExpired:
            returncode, output = 1, output + f"no end within {unit.timeout:g} s: {shlex.join(words)}\n"
            break
        output += done.stdout + done.stderr
        if done.returncode and not may_fail:
            returncode = done.returncode
            break
    if unit.kill in {"control-group", "mixed"} and (returncode or not unit.remains):
        end_rest(host, before)
    return Done(unit.name, returncode, output)


def end_rest(host: LabHost, before: set[int]) -> None:
    """A service that is over takes its processes with it, also daemons it left behind."""
    deadline = time.monotonic() + 30
    while (left := set(host.processes()) - before) and time.monotonic() < deadline:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)
