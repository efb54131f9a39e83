# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for systemd at a lab host's boot: the units wanted by multi-user.target, one after another.

It knows oneshot services with ExecStart, and refuses (LabError) everything it does not understand rather
than run a unit in another way than systemd would.  Settings that only confine or describe a service are
read over, and said so in UNENFORCED: whether a unit works confined is shown on machines with a systemd.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from . import namespace
from .errors import LabError

if TYPE_CHECKING:
    from .host import LabHost

DESCRIBING = {
    "Unit": {"Description", "Documentation", "After", "Before", "Wants", "Requires", "DefaultDependencies"},
    "Service": {"RemainAfterExit", "SyslogIdentifier", "StandardOutput", "StandardError", "Nice"},
    "Install": {"WantedBy", "Alias", "Also"},
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


class Unit(NamedTuple):
    name: str
    commands: list[list[str]]
    environment: dict[str, str]
    conditions: list[str]  # paths that must be there
    timeout: float  # seconds


class Done(NamedTuple):
    """What a unit did: the highest return code, and all that its commands printed."""

    unit: str
    returncode: int
    output: str


def run_wanted(host: LabHost) -> list[Done]:
    folder = host.root / namespace.WANTS
    return [run(host, parse(path.name, path)) for path in sorted(folder.iterdir())]


def parse(name: str, path: Path) -> Unit:
    """Read a unit file; a link is followed inside the host's /etc/systemd/system only."""
    target = path
    if path.is_symlink():
        target = path.parent.parent / Path(os.readlink(path)).name
    if not target.is_file():
        raise LabError(f"unit {name}: {os.readlink(path)} is not in /etc/systemd/system")
    unit = Unit(name, [], {}, [], 90.0)
    section, kind = "", None
    for number, line in enumerate(joined(target.read_text(encoding="utf-8")), 1):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
            continue
        key, equals, value = (part.strip() for part in line.partition("="))
        where = f"unit {name}, setting {number}"
        if not equals or section not in DESCRIBING:
            raise LabError(f"{where}: cannot read {line!r} in section [{section}]")
        if section == "Service" and key == "Type":
            kind = value
        elif section == "Service" and key == "ExecStart":
            unit.commands.append(command(value, where))
        elif section == "Service" and key == "Environment":
            for item in shlex.split(value):
                variable, _unused, setting = item.partition("=")
                unit.environment[variable] = setting
        elif section == "Service" and key in {"TimeoutStartSec", "TimeoutSec"}:
            unit = unit._replace(timeout=float(value.removesuffix("s")))
        elif section == "Unit" and key == "ConditionPathExists" and not value.startswith(("!", "|")):
            unit.conditions.append(value)
        elif key not in DESCRIBING[section] and not (section == "Service" and key.startswith(UNENFORCED)):
            raise LabError(f"{where}: the lab does not understand {key}= in [{section}]")
    if kind != "oneshot" or not unit.commands:
        raise LabError(f"unit {name}: the lab runs services of Type=oneshot with ExecStart= only, not {kind}")
    return unit


def joined(text: str) -> list[str]:
    """Settings, one an item: comments and blank lines gone, continued lines joined."""
    lines = text.replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and line.strip()[0] not in "#;"]


def command(value: str, where: str) -> list[str]:
    words = shlex.split(value)
    if not words or not words[0].startswith("/"):
        raise LabError(f"{where}: ExecStart= needs an absolute path and no prefix: {value!r}")
    if any("%" in word or "$" in word for word in words):
        raise LabError(f"{where}: the lab expands no specifier or variable: {value!r}")
    return words


def run(host: LabHost, unit: Unit) -> Done:
    output = ""
    missing = [path for path in unit.conditions if host.run(["test", "-e", path], check=False).returncode]
    if missing:
        return Done(unit.name, 0, f"skipped: no {missing[0]}\n")
    settings = [f"{name}={value}" for name, value in {**ENVIRONMENT, **unit.environment}.items()]
    for words in unit.commands:
        done = host.run(["env", "-i", *settings, *words], check=False, timeout=unit.timeout)
        output += done.stdout + done.stderr
        if done.returncode:
            return Done(unit.name, done.returncode, output)
    return Done(unit.name, 0, output)
