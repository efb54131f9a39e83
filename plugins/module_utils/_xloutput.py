# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What xl prints, taken apart: ``list``, ``list -l``, ``info``, ``create -n``, and its last words."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

#: The fifth letter of a state: why a domain shut down (shutdown_reason_letters, tools/xl/xl_info.c, by
#: the reasons of xen/include/public/sched.h; a reason xl does not know is a question mark).
REASONS = {
    "-": "poweroff",
    "r": "reboot",
    "s": "suspend",
    "c": "crash",
    "w": "watchdog",
    "S": "soft_reset",
    "?": "unknown",
}

#: One line of ``xl list`` as list_domains() of tools/xl/xl_info.c prints it; only the name is free text.
_LINE = re.compile(
    r"(?P<name>.*?) +(?P<domid>\d+) +(?P<memory>\d+) +(?P<vcpus>\d+)     "
    r"(?P<state>[r-][b-][p-][s-][-rscwS?][d-]) +\d+\.\d",
    re.DOTALL,
)
_HEAD = re.compile(r"Name +ID +Mem +VCPUs\s+State\s+Time\(s\)")

#: What xl says on every create; no word of trouble.
_CHATTER = re.compile(r"Parsing config from |Shutting down domain \d+$|Rebooting domain \d+$")


class XlOutputError(ValueError):
    """xl printed something it does not print."""


@dataclass(frozen=True)
class RunState:
    """A domain in ``xl list``.

    Attributes:
        domid: its number.
        name: as the store has it, so in the words of the guest where a dom0less domain owns that node;
            "" where the store has none.
        memory: MiB it has now (with what is claimed for it).
        vcpus: how many are online.
        reason: why it shut down (a value of `REASONS`); None while it has not.
    """

    domid: int
    name: str
    memory: int
    vcpus: int
    running: bool = False
    blocked: bool = False
    paused: bool = False
    shutdown: bool = False
    crashed: bool = False
    dying: bool = False
    reason: str | None = None

    @property
    def run_state(self) -> str:
        """One word: dying, crashed, shutdown, paused or running (which a waiting guest is too)."""
        for word in ("dying", "crashed", "shutdown", "paused"):
            if getattr(self, word):
                return word
        return "running"


def parse_list(text: str) -> list[RunState]:
    """``xl list`` as it prints it, in the order of domids.

    A name may hold anything, new lines too; what it holds is a part of the name as long as it is not a
    whole line of ``xl list``.

    Raises:
        XlOutputError: a line is none of xl's, or a domid comes twice (a name that plays a line of its own).
    """
    lines = text.split("\n")
    while lines and not _HEAD.match(lines[0]):
        lines.pop(0)  # a warning of a wrapper
    if not lines:
        raise XlOutputError("xl list: no list in what it printed")
    domains: dict[int, RunState] = {}
    begun: list[str] = []
    for line in lines[1:]:
        begun.append(line)
        found = _LINE.fullmatch("\n".join(begun).rstrip())
        if found is None:
            continue
        begun = []
        domain = _run_state(found)
        if domain.domid in domains:
            raise XlOutputError(
                f"xl list: domain {domain.domid} is there twice; one of them is made up by a name"
            )
        domains[domain.domid] = domain
    if "".join(begun).strip():
        raise XlOutputError(f"xl list: cannot read {begun[0][:200]!r}")
    return sorted(domains.values(), key=_by_domid)


def _by_domid(domain: RunState) -> int:
    return domain.domid


def _run_state(found: re.Match[str]) -> RunState:
    letters = found["state"]
    shutdown = letters[3] == "s"
    reason = REASONS[letters[4]] if shutdown else None
    name = found["name"]
    return RunState(
        domid=int(found["domid"]),
        name="" if name == "(null)" else name,
        memory=int(found["memory"]),
        vcpus=int(found["vcpus"]),
        running=letters[0] == "r",
        blocked=letters[1] == "b",
        paused=letters[2] == "p",
        shutdown=shutdown,
        crashed=reason == "crash",
        dying=letters[5] == "d",
        reason=reason,
    )


def parse_records(text: str) -> dict[int, dict[str, Any]]:
    """``xl list -l``: the ``config`` of every domain that libxl has a record of, by domid.

    A domain that is missing is not known to libxl's records; it may well live.

    Raises:
        XlOutputError: not the JSON that xl prints.
    """
    if not text.strip():
        return {}  # xl of a host where no domain has a record
    listed = _json(text, "xl list -l")
    if isinstance(listed, dict):
        listed = [listed]
    if not isinstance(listed, list):
        raise XlOutputError("xl list -l: not a list of domains")
    records: dict[int, dict[str, Any]] = {}
    for item in listed:
        if not isinstance(item, dict) or not isinstance(item.get("domid"), int):
            raise XlOutputError("xl list -l: an entry without a domid")
        config = item.get("config")
        records[item["domid"]] = config if isinstance(config, dict) else {}
    return records


def parse_check(text: str) -> dict[str, Any]:
    """The configuration that ``xl create -n`` prints: libxl's own JSON of it.

    Raises:
        XlOutputError: not the JSON that xl prints.
    """
    config = _json(text, "xl create -n")
    if not isinstance(config, dict):
        raise XlOutputError("xl create -n: not a configuration")
    return config


def _json(text: str, what: str) -> Any:
    try:
        return json.loads(text, strict=False)
    except ValueError as error:
        raise XlOutputError(f"{what}: not JSON: {error}") from error


def parse_info(text: str) -> dict[str, str]:
    """``xl info``: every line "key : value"; lines of another form are left out."""
    told = {}
    for line in text.split("\n"):
        key, colon, value = line.partition(":")
        if colon and re.fullmatch(r"\w+ *", key):
            told[key.strip()] = value.strip()
    return told


def words_of(stderr: str) -> tuple[str, ...]:
    """The lines in which xl complains or warns, without what it says on every call."""
    lines = (line.strip() for line in stderr.replace("\r", "").split("\n"))
    return tuple(line for line in lines if line and not _CHATTER.match(line))
