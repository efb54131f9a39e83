# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways to a xenstored and the shape of its messages.

Two wires lead to the store: pyxs's connections and packet codec, and a minimal one of ours for hosts without
pyxs. Both hand out an open file descriptor; the request loop above (``_store``) does all reading and writing
on it, because pyxs's own knows no time limit.

Sources: ``xen/include/public/io/xs_wire.h`` and ``docs/misc/xenstore.txt`` of Xen.
"""

from __future__ import annotations

import errno
import math
import os
import socket
import stat
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from ._protocol import OPS


class Link(Protocol):
    """An open connection: a descriptor to speak on, and its end."""

    def fileno(self) -> int:
        """The descriptor."""

    def close(self) -> None:
        """End the connection."""


class Wire(Protocol):
    """A way to open links and the header of the messages on them."""

    name: str
    header: struct.Struct

    def open_socket(self, path: str, timeout: float) -> Link:
        """Connect to a daemon's socket, within some seconds."""

    def open_device(self, path: str) -> Link:
        """Open the kernel's device."""


class Candidate(NamedTuple):
    """A place where a store may be listening."""

    path: str
    source: str


def candidates(environ: Mapping[str, str] | None = None) -> list[Candidate]:
    """Where libxenstore would look for the store, in its order (tools/libs/store/xs.c)."""
    environ = os.environ if environ is None else environ
    if environ.get("XENSTORED_PATH"):
        return [Candidate(environ["XENSTORED_PATH"], "XENSTORED_PATH")]
    rundir = environ.get("XENSTORED_RUNDIR")
    first = (
        Candidate(os.path.join(rundir, "socket"), "XENSTORED_RUNDIR")
        if rundir
        else Candidate("/run/xenstored/socket", "default")
    )
    return [first, Candidate("/dev/xen/xenbus", "default"), Candidate("/proc/xen/xenbus", "default")]


def is_socket(path: str) -> bool:
    """Tell a unix socket from a device, as libxenstore does; anything else is refused.

    Raises OSError, also for what is neither (``EINVAL``).
    """
    mode = os.stat(path).st_mode
    if stat.S_ISSOCK(mode):
        return True
    # /proc/xen/xenbus of old kernels is a regular file by type
    if stat.S_ISCHR(mode) or (stat.S_ISREG(mode) and path.startswith("/proc/")):
        return False
    raise OSError(errno.EINVAL, "neither a socket nor a device", path)


def set_time_limit(sock: socket.socket, option: int, seconds: float) -> bool:
    """Set ``SO_RCVTIMEO`` or ``SO_SNDTIMEO``; false where this platform does not take it.

    The socket itself stays blocking for Python, so the kernel does the waiting. ``struct timeval`` has two
    shapes on 32-bit machines, depending on how Python was built.
    """
    seconds = max(seconds, 0.001)  # zero would mean no limit
    whole = math.floor(seconds)
    micro = min(int((seconds - whole) * 1_000_000), 999_999)
    for shape in ("ll", "qq"):
        try:
            sock.setsockopt(socket.SOL_SOCKET, option, struct.pack(shape, whole, micro))
        except (OSError, struct.error):
            continue
        return True
    return False


def dial(path: str, timeout: float) -> socket.socket:
    """Connect to a unix socket within ``timeout`` seconds.

    A blocking connect with a limit in the kernel: xenstored's backlog is 1, and a non-blocking connect on a
    full one fails at once. Raises OSError; ``ETIMEDOUT`` when nobody accepted in time.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        set_time_limit(sock, socket.SO_SNDTIMEO, timeout)
        sock.connect(path)
    except BlockingIOError as error:
        sock.close()
        raise OSError(errno.ETIMEDOUT, "nobody accepted the connection", path) from error
    except BaseException:
        sock.close()
        raise
    return sock


class _DeviceLink:
    """A descriptor of the xenbus device."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY)

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class OwnWire:
    """The stand-in: needs nothing but the standard library."""

    name = "own"
    header = struct.Struct("=IIII")  # struct xsd_sockmsg: type, req_id, tx_id, len; native byte order

    def open_socket(self, path: str, timeout: float) -> Link:
        return dial(path, timeout)

    def open_device(self, path: str) -> Link:
        return _DeviceLink(path)


OWN: Wire = OwnWire()
PYXS: Wire | None = None

try:
    from pyxs._internal import Op, Packet
    from pyxs.connection import UnixSocketConnection, XenBusConnection, _UnixSocketTransport
    from pyxs.exceptions import ConnectionError as _PyxsError
except Exception:  # absent or unfit for this Python: ours stands in
    pass
else:

    class _LimitedConnection(UnixSocketConnection):  # type: ignore[misc]
        """pyxs's socket connection, whose connect does not wait for ever on a stopped daemon."""

        def __init__(self, path: str, timeout: float) -> None:
            super().__init__(path)
            self.timeout = timeout

        def create_transport(self) -> Any:
            transport = _UnixSocketTransport.__new__(_UnixSocketTransport)
            transport.sock = dial(self.path, self.timeout)
            return transport

    class PyxsWire:
        """pyxs's connections and packet header."""

        name = "pyxs"
        header: struct.Struct = Packet._struct

        def open_socket(self, path: str, timeout: float) -> Link:
            connection: Link = _LimitedConnection(path, timeout)
            connection.connect()  # type: ignore[attr-defined]
            return connection

        def open_device(self, path: str) -> Link:
            connection: Link = XenBusConnection(path)
            try:
                connection.connect()  # type: ignore[attr-defined]
            except _PyxsError as error:
                # pyxs keeps the cause only as text in its message
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise OSError(errno.EIO, str(error), path) from error
            return connection

    # a pyxs that numbers operations otherwise than xs_wire.h is not ours to use
    if all(getattr(Op, name, number) == number for name, number in OPS.items()):
        PYXS = PyxsWire()


def default_wire() -> Wire:
    """The wire to use here: pyxs's where it can be imported, else ours."""
    return PYXS or OWN
