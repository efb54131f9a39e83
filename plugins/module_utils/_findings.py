# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong or risky in a declaration: one shape for every rule, and how a user accepts one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

ERROR, WARNING = "error", "warning"

#: Every code a finding can carry, with one line on the rule behind it.
CODES: dict[str, str] = {
    "backend-down": "a backend domain is missing, or its daemon is not ready",
    "colon-in-target": "libxl cuts a disk's params at the first colon when it reads them back",
    "devices-limit": "a guest has room for 11 virtio-mmio devices",
    "devid-duplicate": "two disks of one guest share a device number",
    "devid-shared": "one device number in two guests of a backend domain",
    "disk-lost": "nobody serves a disk of a running guest any more",
    "foreign-mapping": "a driver domain maps all memory of a guest that does not use grants",
    "in-use": "the disk is attached: changing or removing it takes it from the guest",
    "irq-overlap": "an interrupt or a register range is given out twice",
    "made-by-xl": "libxl does not hot-plug virtio disks",
    "mixed-specification": "xen and virtio disks in one guest",
    "nr-spis": "a guest has fewer interrupts than its devices need",
    "quota": "xenstore's quota for a domain does not hold what is declared",
    "release": "this host's Xen does not know an option",
    "reorder": "the order of an existing guest's disks changes what the guest calls them",
    "size-changed": "a target has another size than when the guest got it",
    "target-in-use": "the backend domain itself uses what is behind a target",
    "target-missing": "a target is neither a block device nor a regular file",
    "target-readonly": "a disk is to be written to and its target is read-only",
    "target-shared": "one target in two guests, writable in at least one",
    "virtio-rules": "what libxl demands of a virtio disk",
    "xl-missing": "a xen disk needs xl on the host",
}

#: Codes that only an audit tells, of hosts and domains as they are; they stop nothing. Those of backend hosts, which
#: `_backend_rules` has, are among them.
AUDIT_CODES: dict[str, str] = {
    "config-doubled": "two configurations on a host have the name of one guest",
    "config-unreadable": "a file that means to be a configuration cannot be read",
    "daemon-doubled": "two daemons serve one disk",
    "daemon-missing": "a daemon that serves, or is to serve, is not there",
    "daemon-outdated": "a launcher is older than others of the fleet, or a daemon is not the one that is declared",
    "device-missing": "a device of Xen's that the daemon opens is not there",
    "disk-pending": "a disk of a running guest waits for a daemon",
    "drift-config": "a configuration on a host is not what the inventory declares",
    "drift-domain": "a running domain is not what its declaration or configuration says",
    "drift-state": "a guest does not run, or does, against what is declared",
    "drift-store": "nodes of a disk differ from libxl's record of it",
    "driver-unknown": "a driver domain could not be looked into",
    "foreign-daemon": "a virtio-disk daemon runs that the launcher knows nothing of",
    "guest-unmanaged": "a guest runs that the inventory does not declare",
    "host-unknown": "a host could not be reached or read",
    "inventory": "what the inventory says of a host makes no sense",
    "kernel-option": "the kernel was built without something that a backend needs",
    "launcher-down": "the launcher is installed and does not say that it is ready",
    "no-systemd": "the launcher's units need systemd",
    "not-compared": "a guest's declaration could not be compared with the guest",
    "pending-restart": "a disk is served by what was installed before",
    "privcmd-restricted": "the kernel lets this domain's daemons do nothing with their guests",
    "stale": "something is left of a domain that is gone, dying, or was never finished",
    "store": "the store does not answer, or does not know this domain",
    "toolstack": "the host's xl does not answer, or is another release's",
}

#: Codes of these that nobody can accept away.
AUDIT_BINDING = frozenset(
    {"daemon-doubled", "daemon-missing", "foreign-daemon", "inventory", "no-systemd", "store"}
)

#: Codes that nobody can accept away: what they stop destroys data or a disk in use, or cannot work.
BINDING = frozenset(
    {
        "devices-limit",
        "devid-duplicate",
        "devid-shared",
        "in-use",
        "irq-overlap",
        "made-by-xl",
        "mixed-specification",
        "target-in-use",
        "target-shared",
        "virtio-rules",
        "xl-missing",
    }
)


@dataclass(frozen=True)
class Finding:
    """One thing a person should know before a change is made.

    Attributes:
        code: stable name of the rule, a key of `CODES`.
        severity: ``error`` stops before the first change, ``warning`` does not.
        domain: the guest (or backend domain) as the user named it.
        vdev: the disk, None where the finding is about the whole domain.
        message: what is wrong, with the objects' names.
        why: what would happen.
        remedy: what to do.
    """

    code: str
    severity: str
    domain: str | None
    vdev: str | None
    message: str
    why: str
    remedy: str

    def as_dict(self) -> dict[str, str | None]:
        """The finding as results carry it."""
        return asdict(self)


@dataclass(frozen=True)
class Acceptance:
    """A user's word that one finding is known and wanted."""

    code: str
    reason: str
    domain: str | None = None
    vdev: str | None = None

    def covers(self, finding: Finding) -> bool:
        """Whether this is the finding that was meant."""
        return (
            finding.code == self.code
            and self.domain in (None, finding.domain)
            and self.vdev in (None, finding.vdev)
        )


class AcceptanceError(ValueError):
    """An ``accept`` entry that is not one, or names a finding that nobody may accept."""


def parse_acceptances(entries: Iterable[Mapping[str, Any]]) -> tuple[Acceptance, ...]:
    """Read the ``accept`` option.

    Raises:
        AcceptanceError: unknown key or code, a missing reason, or a code in `BINDING` or `AUDIT_BINDING`.
    """
    # one list of a user's is for modules and audits, so what only one of them tells is known to all
    known = {**CODES, **AUDIT_CODES}
    accepted = []
    for entry in entries:
        if not isinstance(entry, Mapping):
            raise AcceptanceError(f"accept: a mapping with code and reason is expected, not {entry!r}")
        unknown = sorted(set(entry) - {"code", "domain", "vdev", "reason"})
        if unknown:
            raise AcceptanceError(f"accept: unknown key {unknown[0]!r}; known are code, domain, vdev, reason")
        code, reason = entry.get("code"), entry.get("reason")
        if code not in known:
            raise AcceptanceError(f"accept: unknown code {code!r}; known are {', '.join(sorted(known))}")
        if code in BINDING | AUDIT_BINDING:
            raise AcceptanceError(f"accept: {code} cannot be accepted: {known[str(code)]}")
        if not reason:
            raise AcceptanceError(f"accept: {code} needs a reason, for whoever reads the report")
        domain, vdev = entry.get("domain"), entry.get("vdev")
        accepted.append(
            Acceptance(
                code=str(code),
                reason=str(reason),
                domain=None if domain is None else str(domain),
                vdev=None if vdev is None else str(vdev),
            )
        )
    return tuple(accepted)


def sort_out(
    findings: Iterable[Finding], accepted: Iterable[Acceptance]
) -> tuple[list[Finding], list[Finding]]:
    """Part findings into those that stand and those that a user accepted by name."""
    acceptances = tuple(accepted)
    standing: list[Finding] = []
    silenced: list[Finding] = []
    for finding in findings:
        covered = any(acceptance.covers(finding) for acceptance in acceptances)
        (silenced if covered else standing).append(finding)
    return standing, silenced


def errors(findings: Iterable[Finding]) -> list[Finding]:
    """The findings that stop a change."""
    return [finding for finding in findings if finding.severity == ERROR]


def summary(findings: Iterable[Finding]) -> str:
    """One line: how many, the first in full, and where the rest is."""
    listed = errors(findings)
    first = listed[0]
    where = f"{first.domain}: " if first.domain else ""
    more = f" ({len(listed)} findings in all, see 'findings')" if len(listed) > 1 else ""
    return f"{where}{first.message} [{first.code}]. {first.why} {first.remedy}{more}"
