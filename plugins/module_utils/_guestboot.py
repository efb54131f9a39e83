# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Create one guest at boot: what ``xen-virtio-guest@NAME.service`` runs, with no controller.

It waits for the store, for the guest's backend domains and for the daemons in them; then the guest is created
from its configuration as a task would, and one at a time with all others.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from ._files import content_of
from ._guest import EXPECTED, Job, run
from ._guestconfig import GuestError, GuestSpec, read_guest
from ._guestrun import Settings
from ._guestwish import Wish
from ._snapshot import ResolveError, Snapshot, resolve
from ._store import Store, StoreError, read
from ._survey import EmptyStoreError, Scope, survey
from ._xl import Xl

#: Seconds for xenstored, the backend domains and their daemons to be there; they come up beside us.
PATIENCE = 120.0
#: Seconds for a daemon that says nothing of itself: one that nobody taught to write its status never will.
SILENCE = 30.0
_PAUSE = 0.5

STATUS, READY = "drivers/virtio-disk/status", "ready"


class BootError(RuntimeError):
    """The guest cannot be created; the text goes to the journal."""


def load(path: str) -> dict[str, Any]:
    """What is kept of a guest. Raises BootError."""
    try:
        with open(path, encoding="utf-8") as file:
            kept = json.load(file)
    except OSError as error:
        raise BootError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise BootError(f"{path}: not JSON: {error}") from error
    if not isinstance(kept, dict) or kept.get("version") != 1 or not kept.get("name") or not kept.get("path"):
        raise BootError(f"{path}: nothing that xen.virtio.guest keeps, or of a later release")
    return kept


def job_of(kept: dict[str, Any]) -> Job:
    """A guest that is to run from the configuration that it has."""
    settings = Settings(
        create_timeout=float(kept.get("create_timeout", 180)),
        wait_timeout=float(kept.get("wait_timeout", 10)),
        settle=float(kept.get("settle", 0.5)),
        # all guests of the host come up at once, and are created one at a time
        lock_timeout=1200.0,
        userdata=str(kept.get("userdata_dir", "/var/lib/xen")),
        lock_dir=str(kept.get("lock_dir", "/run/xen-virtio")),
    )
    return Job(
        wishes=(Wish(str(kept["name"]), "running", str(kept["path"])),),
        settings=settings,
        xen=kept.get("xen"),
        state_dir=str(kept.get("state_dir", "/var/lib/xen-virtio")),
        images_dir=str(kept.get("images_dir", "/var/lib/xen-virtio/images")),
        judged=False,
    )


def backends_of(path: str) -> list[str]:
    """The domains that serve the disks and other virtio devices of a configuration, as it names them."""
    content = content_of(path)
    if content is None:
        raise BootError(f"{path}: the guest's configuration is not there")
    try:
        spec: GuestSpec = read_guest(content.decode("utf-8", "surrogateescape"))[0]
    except GuestError as error:
        raise BootError(f"{path}: {error}") from error
    named = [disk.spec.backend or "0" for disk in spec.disks if disk.spec.is_virtio]
    named += [device.backend or "0" for device in spec.virtio]
    return list(dict.fromkeys(named))


def late(backends: list[str], store: Store, snapshot: Snapshot, *, patient: bool) -> str | None:
    """Which backend is not there yet, in words; None where all are.

    Args:
        backends: as the configuration names them.
        store: a session.
        snapshot: of the host's domains.
        patient: a daemon that says nothing of itself may still come.
    """
    for name in backends:
        try:
            domain = resolve(snapshot.domains, "0" if name == "Domain-0" else name)
        except ResolveError as error:
            return f"backend {name}: {error}"
        (reply,) = store.call([read(f"/local/domain/{domain.domid}/{STATUS}")])
        told = reply.decode("latin-1") if isinstance(reply, bytes) else None
        if told is None and not patient:
            continue
        if told != READY:
            said = "says nothing of itself" if told is None else f"says {told!r}"
            return f"backend {name}: its virtio-disk {said}, not {READY!r} ({STATUS})"
    return None


def main(arguments: list[str]) -> int:
    """``python3 guests.pyz FILE [SECONDS]``: create the guest that a file tells of; 1 where that failed."""
    if not arguments:
        _say("usage: guests.pyz FILE [SECONDS]")
        return 2
    patience = float(arguments[1]) if len(arguments) > 1 else PATIENCE
    try:
        kept = load(arguments[0])
        return _start(kept, time.monotonic(), patience)
    except (BootError, OSError, ValueError, TypeError) as error:
        _say(f"FAILED {error}")
        return 1


def _start(kept: dict[str, Any], begun: float, patience: float) -> int:
    name, backends = kept["name"], backends_of(str(kept["path"]))
    told: str | None = None
    while True:
        now = time.monotonic() - begun
        last = now >= patience
        try:
            with Store(kept.get("store"), timeout=float(kept.get("timeout", 10))) as store:
                settings = job_of(kept).settings
                snapshot = survey(store, lambda _domains: Scope(()), userdata=settings.userdata)
                why = late(backends, store, snapshot, patient=now < min(SILENCE, patience / 2))
                if why is None:
                    return _create(kept, store)
        except (StoreError, EmptyStoreError) as error:
            why = str(error)
        if last:
            raise BootError(f"{name}: not created, {why}")
        if why != told:
            _say(f"{name}: waiting: {why}")
            told = why
        time.sleep(_PAUSE)


def _create(kept: dict[str, Any], store: Store) -> int:
    try:
        result = run(job_of(kept), store, Xl(str(kept.get("xl_path", "xl"))))
    except EXPECTED as error:
        raise BootError(f"{kept['name']}: {error}") from error
    _say(f"{'FAILED ' if result.failed else ''}{kept['name']}: {result.failed or result.msg}")
    return 1 if result.failed else 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
