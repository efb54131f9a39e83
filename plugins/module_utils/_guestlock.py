# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One at a time: a guest is changed by one call, and the host creates one guest.

Locks of the kernel on files below /run: they end with whoever holds them, however it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack

from ._guestkept import file_name

LOCK_DIR = "/run/xen-virtio"
_PAUSE = 0.1

#: Held while a guest is created: plain virtio-disk daemons look at the highest domid only.
CREATE = "create"


class LockError(RuntimeError):
    """Somebody else is at it, or the lock's file cannot be opened; the text says who and what to do."""


@contextlib.contextmanager
def locked(folder: str, name: str, what: str, timeout: float) -> Iterator[None]:
    """Hold a lock.

    Args:
        folder: of the locks.
        name: of the lock's file.
        what: for the message, as in ``guest linux1``.
        timeout: seconds to wait for it.

    Raises:
        LockError: another process holds it for longer, or the file cannot be opened.
    """
    path = os.path.join(folder, f"{name}.lock")
    try:
        os.makedirs(folder, mode=0o755, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise LockError(
            f"{what}: the lock {path} cannot be opened: {error.strerror}; see lock_dir"
        ) from error
    with ExitStack() as held:
        held.callback(os.close, handle)
        _take(handle, path, what, timeout)
        os.pwrite(
            handle, b"%-10d\n" % os.getpid(), 0
        )  # always as long: to cut a file costs more than to write it
        yield


def _take(handle: int, path: str, what: str, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if time.monotonic() >= deadline:
                holder = os.pread(handle, 32, 0).decode("ascii", "replace").strip()
                raise LockError(
                    f"{what} is being changed by another run on this host, for longer than {timeout:g} s (process "
                    f"{holder or 'unknown'} holds {path}); run one at a time, or wait longer with lock_timeout"
                ) from error
            time.sleep(_PAUSE)
        else:
            return


@contextlib.contextmanager
def locked_guests(folder: str, guests: Iterable[str], timeout: float) -> Iterator[None]:
    """Hold the locks of guests, always taken in one order; `timeout` is for all of them together."""
    deadline = time.monotonic() + timeout
    with ExitStack() as held:
        for guest in sorted(set(guests)):
            left = max(0.0, deadline - time.monotonic())
            held.enter_context(locked(folder, f"guest-{file_name(guest)}", f"guest {guest}", left))
        yield
