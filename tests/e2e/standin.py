# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for the virtio-disk daemon where Xen has no IOREQ server: it answers like one, and serves nothing.

Runs in a backend domain as ``python3 standin.py FOLDER``, FOLDER holding the collection's own store session as the
package ``session``. It follows what the backend's states ask for: 1 becomes 2; a frontend that is gone makes it close
the disk (6) and remove its directory, as the daemon does.
"""

from __future__ import annotations

import importlib
import sys
import time
from typing import Any

_KIND = "virtio_disk"


def look(store: Any, own: str) -> None:
    """Answer what stands in this domain's own part of the store."""
    top = f"/local/domain/{own}/backend/{_KIND}"
    for guest in store.list(top) or []:
        for devid in store.list(f"{top}/{guest}") or []:
            at = f"{top}/{guest}/{devid}"
            state = store.read(f"{at}/state")
            if state is None:
                continue
            if _missing(store, f"/local/domain/{guest}/device/{_KIND}/{devid}/backend"):
                store.write(f"{at}/state", b"6")
                store.rm(at)
            elif state == b"1":
                store.write(f"{at}/state", b"2")


def _missing(store: Any, path: str) -> bool:
    try:
        return store.read(path) is None
    except Exception as error:
        if getattr(error, "code", "") == "EACCES":  # what may not be read because its directory went
            return True
        raise


def main() -> None:
    """Until it is ended."""
    sys.path.insert(0, sys.argv[1])
    session = importlib.import_module("session._store")
    with session.Store(timeout=60) as store:
        own = (store.read("domid") or b"0").decode()
        store.write(f"/local/domain/{own}/drivers/virtio-disk/status", b"ready")
        store.watch(f"/local/domain/{own}/backend", "disks")
        while True:
            if store.wait_event(1.0) is not None:
                enough = time.monotonic() + 0.2  # a toolstack writes a disk's nodes one after the other
                while time.monotonic() < enough and store.wait_event(0.05) is not None:
                    pass
            try:
                look(store, own)  # a frontend that goes fires nothing here, so every look is at all
            except session.StoreError as error:
                if error.code not in ("ENOENT", "EACCES"):  # a guest went in between
                    raise


if __name__ == "__main__":
    main()
