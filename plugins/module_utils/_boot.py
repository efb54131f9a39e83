# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Apply the declarations kept on a host: what ``xen-virtio-disks.service`` runs at boot, with no controller.

The same plan, checks and writes as the module's: this only reads the files and waits for the domains,
which may come up later than xenstored.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ._declaration import DeclarationError, parse_guests
from ._disk import DiskError, Job, run
from ._findings import AcceptanceError, parse_acceptances
from ._plan import PlanError
from ._snapshot import ResolveError
from ._store import Store, StoreError
from ._survey import EmptyStoreError
from ._xl import Xl, XlError

#: Seconds for xenstored and all declared domains to be there; init-dom0less and xl run beside us.
PATIENCE = 120.0
_PAUSE = 0.5

#: What may heal by waiting: the store not up or not filled yet, a domain not there yet.
_EARLY = (EmptyStoreError, ResolveError, StoreError)
#: Findings of the same sort: storage that is set up late, a daemon that is still starting.
_LATE = frozenset({"backend-down", "target-missing"})
#: What will not.
_WRONG = (AcceptanceError, DeclarationError, DiskError, PlanError, XlError, ValueError, KeyError, TypeError)


class KeptError(ValueError):
    """A file with a declaration that cannot be read."""


def load(path: str) -> dict[str, Any]:
    """One kept declaration.

    Raises:
        KeptError: not JSON, or not what this release keeps.
        OSError: the file cannot be read.
    """
    with open(path, encoding="utf-8") as file:
        try:
            kept = json.load(file)
        except ValueError as error:
            raise KeptError(f"{path}: not JSON: {error}") from error
    if not isinstance(kept, dict) or kept.get("version") != 1 or not isinstance(kept.get("guest"), dict):
        raise KeptError(f"{path}: not a declaration of xen.virtio, or one of a later release")
    return kept


def job_of(kept: dict[str, Any]) -> Job:
    """A kept declaration as a job."""
    return Job(
        declarations=parse_guests({"guests": [kept["guest"]]}),
        hotplug=bool(kept.get("hotplug", False)),
        wait=bool(kept.get("wait", True)),
        wait_timeout=float(kept.get("wait_timeout", 10)),
        settle=float(kept.get("settle", 0.5)),
        xen=kept.get("xen"),
        accept=parse_acceptances(kept.get("accept", [])),
        userdata=str(kept.get("userdata_dir", "/var/lib/xen")),
    )


def apply_file(path: str, wait_until: float | None = None) -> tuple[str | None, bool]:
    """Apply one file.

    Args:
        path: of the kept declaration.
        wait_until: moment (`time.monotonic`) until which its disks may take to be attached; None does not wait.

    Returns:
        What is wrong, for the journal (None where all is as declared), and whether waiting may heal it.
    """
    try:
        kept = load(path)
        job = job_of(kept)
    except (OSError, *_WRONG) as error:
        return str(error), False
    if wait_until is None or not job.wait:
        job = replace(job, wait=False)
    else:
        job = replace(job, wait_timeout=max(0.0, min(job.wait_timeout, wait_until - time.monotonic())))
    name = kept["guest"].get("domain")
    try:
        with Store(kept.get("store"), timeout=float(kept.get("timeout", 10))) as store:
            result = run(job, store, Xl(kept.get("xl_path", "xl")))
    except _EARLY as error:
        return f"{name}: {error}", True
    except _WRONG as error:
        return f"{name}: {error}", False
    if result.changed or result.failed is not None:
        _say(f"{name}: {result.failed or result.msg}")
    if result.failed is None:
        return None, False
    return f"{name}: {result.failed}", any(finding["code"] in _LATE for finding in result.findings)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """``python3 disks.pyz FOLDER [SECONDS]``: apply every declaration in a folder; 1 where one failed."""
    if not arguments:
        _say("usage: disks.pyz FOLDER [SECONDS]")
        return 2
    folder = arguments[0]
    deadline = time.monotonic() + (float(arguments[1]) if len(arguments) > 1 else PATIENCE)
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(".json"))
    except FileNotFoundError:
        names = []
    failed = 0
    written = []
    for path, wrong in _write_all([os.path.join(folder, name) for name in names], deadline):
        if wrong is None:
            written.append(path)
        else:
            failed += 1
            _say(f"FAILED {wrong}")
    for path in written:  # every disk is there before the first one is waited for
        wrong, _may_heal = apply_file(path, max(deadline, time.monotonic()))
        if wrong is not None:
            failed += 1
            _say(f"FAILED {wrong}")
    return 1 if failed else 0


def _write_all(waiting: list[str], deadline: float) -> Iterator[tuple[str, str | None]]:
    """Apply files, each as soon as its domains are there; with every file what is wrong, None where nothing is."""
    while waiting:
        early = []
        last = time.monotonic() >= deadline
        for path in waiting:
            wrong, may_heal = apply_file(path)
            if wrong is not None and may_heal and not last:
                early.append(path)  # a guest that is late, or never comes, keeps no other waiting
            else:
                yield path, wrong
        waiting = early
        if waiting:
            time.sleep(_PAUSE)
