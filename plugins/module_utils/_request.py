# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be asked of xenstore, and what can go wrong: requests, their rules, errors.

Everything that xenstored would refuse for its form is refused here, with the path's name, before a byte is sent.
Sources: ``xen/include/public/io/xs_wire.h`` and ``docs/misc/xenstore.txt`` of Xen, and both of its daemons.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache, partial
from os import strerror
from typing import Callable, NamedTuple, Union

from ._protocol import ABS_PATH_MAX, OPS, PAYLOAD_MAX, REL_PATH_MAX

DIRECTORY = OPS["DIRECTORY"]
READ = OPS["READ"]
GET_PERMS = OPS["GET_PERMS"]
WATCH = OPS["WATCH"]
UNWATCH = OPS["UNWATCH"]
TRANSACTION_START = OPS["TRANSACTION_START"]
TRANSACTION_END = OPS["TRANSACTION_END"]
WRITE = OPS["WRITE"]
MKDIR = OPS["MKDIR"]
RM = OPS["RM"]
SET_PERMS = OPS["SET_PERMS"]
WATCH_EVENT = OPS["WATCH_EVENT"]
ERROR = OPS["ERROR"]
DIRECTORY_PART = OPS["DIRECTORY_PART"]
NAMES: Mapping[int, str] = {number: name for name, number in OPS.items()}

PATH_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-/_@")
SPECIAL_NODES = frozenset(("@introduceDomain", "@releaseDomain"))
DOMID_LIMIT = 0x7FF0  # DOMID_FIRST_RESERVED, xen/include/public/xen.h

_PLAIN_PATH = re.compile(r"(?:/[A-Za-z0-9_@-]+)+")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_@-]+")
_PREFIX_OF_DOMAIN = re.compile(r"/local/domain/\d{1,5}/")
_PERMISSION = re.compile(r"[nrwb](?:0|[1-9][0-9]{0,4})")
_OPS_ON_SPECIAL = frozenset(("WATCH", "UNWATCH", "GET_PERMS", "SET_PERMS"))

_QUOTA = "a quota of xenstored is used up: raise it, or remove nodes, watches or transactions of this domain"
_FORBIDDEN = "use the store of dom0, or have the owner of the node permit it"
_REMEDIES: Mapping[str, str] = {
    "EACCES": _FORBIDDEN,
    "EPERM": _FORBIDDEN,
    "ENOSPC": _QUOTA,
    "EQUOTA": _QUOTA,
    "E2BIG": "that is more than xenstored keeps in one node: shorten the value or the list of permissions",
    "EINVAL": "xenstored takes paths of at most 2048 characters (oxenstored: 1024) out of A-Z a-z 0-9 - / _ @",
    "ENOMEM": "xenstored is out of memory",
}
_MEANINGS: Mapping[str, str] = {
    "EACCES": "permission denied",
    "EPERM": "permission denied",
    "ENOENT": "no such node",
    "ENOSPC": "over quota",
    "EQUOTA": "over quota",
    "E2BIG": "too big",
    "EINVAL": "invalid",
    "EAGAIN": "a conflict with another transaction",
    "ENOSYS": "this xenstored does not know the operation",
}
_SHOWN = 300  # characters of a path in a message
# the C daemon says ENOSPC for a quota; oxenstored's EQUOTA is no errno
_ERRNOS: Mapping[str, int] = {"EQUOTA": errno.EDQUOT}


class StoreError(Exception):
    """The store refused an operation, or could not be asked.

    ``operation`` is the request's name in xs_wire.h, ``path`` the node (or the store's own path where the
    connection failed), ``code`` the error's name, ``errno`` its number on this machine (0: unknown to it) and
    ``remedy`` what to do about it, possibly empty.
    """

    def __init__(self, operation: str, path: str, code: str, detail: str = "", remedy: str = "") -> None:
        super().__init__(operation, path, code, detail, remedy)
        self.operation = operation
        self.path = path
        self.code = code
        self.detail = detail
        self._remedy = remedy

    @property
    def errno(self) -> int:
        """The number of ``code`` on this machine, 0 where it has none."""
        number: int = getattr(errno, self.code, 0)
        return _ERRNOS.get(self.code, number)

    @property
    def remedy(self) -> str:
        """What to do about it: one sentence without its full stop, or nothing."""
        return self._remedy or _remedy(self.operation, self.code)

    def because(self, reason: str) -> StoreError:
        """Put a reason before the remedy; the error itself."""
        self._remedy = f"{reason}: {self.remedy}" if self.remedy else reason
        return self

    def __str__(self) -> str:
        path = self.path if self.path and self.path.isprintable() else repr(self.path)
        if len(path) > _SHOWN:
            path = f"{path[:_SHOWN]}…"
        number = self.errno
        why = self.detail or _MEANINGS.get(self.code) or (strerror(number) if number else "refused")
        remedy = self.remedy
        return f"xenstore {self.operation} {path}: {why} ({self.code})" + (f"; {remedy}" if remedy else "")


class StoreTimeout(StoreError):  # noqa: N818 (the names say what happened)
    """Nothing came before the deadline; the connection is closed."""


class StoreLost(StoreError):  # noqa: N818
    """The store cannot be reached, or the connection ended or spoke out of turn; the connection is closed."""


class StoreConflict(StoreError):  # noqa: N818
    """Others changed the same nodes each time the transaction was tried."""


class Abort(Exception):  # noqa: N818
    """Raised by the work of a transaction to end it without writing anything."""


class Node(NamedTuple):
    """A node's value and, where asked for, its permissions as the store gives them, owner first."""

    value: bytes
    perms: tuple[str, ...] | None = None


class Request(NamedTuple):
    """One message to be: made by the builders below."""

    op: int
    payload: bytes
    path: str


Answer = Union[bytes, StoreError]

#: A Request out of its three parts, in half the time of a call of the class: a host has thousands.
_request: Callable[[tuple[int, bytes, str]], Request] = partial(tuple.__new__, Request)


def _remedy(operation: str, code: str) -> str:
    if code == "ENOENT" and operation == "SET_PERMS":
        return "the node does not exist, or a domain in its permissions does not"
    if code == "E2BIG" and operation == "WATCH":  # C xenstored's word for too many watches
        return _QUOTA
    return _REMEDIES.get(code, "")


def check_path(path: str, operation: str = "READ", *, absolute: bool = False) -> bytes:
    """The bytes of ``path`` as the wire wants them, without the closing NUL.

    What both xenstoreds refuse is refused here, before anything is sent: empty paths, characters other than
    ``A-Z a-z 0-9 - / _ @``, double and closing slashes, more than 3072 characters, more than 2048 behind
    ``/local/domain/N/`` or of a relative path (xs_wire.h). ``@introduceDomain`` and ``@releaseDomain`` can be
    watched and carry permissions, nothing else. Raises StoreError (EINVAL) that names the path.
    """
    if not (_PLAIN_PATH.fullmatch(path) and len(path) <= REL_PATH_MAX):  # what nearly every path is
        reason = _fault_of_path(path, operation, absolute)
        if reason:
            raise StoreError(operation, path, "EINVAL", reason, "mend the path")
    return path.encode("ascii")


def _fault_of_path(path: str, operation: str, absolute: bool) -> str:
    """Why xenstored would refuse a path, or nothing."""
    wrong = sorted(set(path) - PATH_CHARACTERS)
    prefix = _PREFIX_OF_DOMAIN.match(path)
    special = path.startswith("@")
    faults = (
        (not path, "the path is empty"),
        (wrong, f"xenstore paths have no {' '.join(map(repr, wrong[:5]))}, only A-Z a-z 0-9 - / _ @"),
        (
            special and (absolute or operation not in _OPS_ON_SPECIAL),
            "a special node has no value and no children",
        ),
        (
            special and path not in SPECIAL_NODES,
            f"the special nodes are {' and '.join(sorted(SPECIAL_NODES))}",
        ),
        (absolute and path[:1] != "/", "the path is not absolute"),
        ("//" in path, "two slashes follow each other"),
        (path.endswith("/") and path != "/", "the path ends in a slash"),
        (len(path) > ABS_PATH_MAX, f"the path is longer than {ABS_PATH_MAX} characters"),
        (
            len(path) - (prefix.end() if prefix else 0) > REL_PATH_MAX,
            f"the path is longer than {REL_PATH_MAX} characters",
        ),
    )
    return next((why for found, why in faults if found), "")


def check_perms(path: str, perms: Sequence[str]) -> bytes:
    """The bytes of a list of permissions such as ``("n0", "r5")``: the owner first, then other domains.

    Letters: n none, r read, w write, b both; domain ids from 0 to 32751. Raises StoreError (EINVAL).
    """
    if isinstance(perms, str) or not perms:
        raise StoreError("SET_PERMS", path, "EINVAL", "permissions are a list that starts with the owner")
    for perm in perms:
        if not _PERMISSION.fullmatch(perm) or int(perm[1:]) >= DOMID_LIMIT:
            raise StoreError(
                "SET_PERMS",
                path,
                "EINVAL",
                f"{perm!r} is no permission",
                "write n, r, w or b and a domain id, such as n0 or r5",
            )
    return b"".join(perm.encode("ascii") + b"\0" for perm in perms)


def _sized(op: int, payload: bytes, path: str) -> Request:
    if len(payload) > PAYLOAD_MAX:
        raise StoreError(
            NAMES[op],
            path,
            "E2BIG",
            f"the message would have {len(payload)} bytes, xenstored takes {PAYLOAD_MAX}",
            "shorten the value",
        )
    return Request(op, payload, path)


def read(path: str) -> Request:
    """Ask for the value of a node."""
    return _request((READ, check_path(path, "READ") + b"\0", path))


def directory(path: str) -> Request:
    """Ask for the names of a node's children (E2BIG for large ones on C xenstored: use ``list``)."""
    return _request((DIRECTORY, check_path(path, "DIRECTORY") + b"\0", path))


def get_perms(path: str) -> Request:
    """Ask for the permissions of a node."""
    return _request((GET_PERMS, check_path(path, "GET_PERMS") + b"\0", path))


def write(path: str, value: bytes) -> Request:
    """Set a value of any bytes, creating the node and its parents; E2BIG beyond 4096 bytes with the path."""
    payload = check_path(path, "WRITE") + b"\0" + value
    if len(payload) > PAYLOAD_MAX:
        return _sized(WRITE, payload, path)
    return _request((WRITE, payload, path))


@lru_cache(maxsize=512)
def _child(name: str) -> bytes | None:
    """How a node's name follows its directory on the wire; None for one that needs a closer look."""
    return b"/" + name.encode("ascii") + b"\0" if _PLAIN_NAME.fullmatch(name) else None


def write_children(top: str, values: Mapping[str, bytes]) -> list[Request]:
    """As ``write`` for each child of a directory, whose path is checked once."""
    raw = check_path(top, "WRITE")
    found = []
    for name, value in values.items():
        path = f"{top}/{name}"
        child = _child(name)
        if child is None or len(path) > REL_PATH_MAX or len(path) + len(value) >= PAYLOAD_MAX:
            found.append(write(path, value))
        else:
            found.append(_request((WRITE, raw + child + value, path)))
    return found


def read_children(top: str, names: Iterable[str], *, perms: bool = False) -> list[Request]:
    """As ``read`` for each child of a directory, with ``perms`` followed by ``get_perms`` of the same child."""
    raw = check_path(top, "READ")
    found = []
    for name in names:
        path = f"{top}/{name}"
        child = _child(name)
        payload = raw + child if child and len(path) <= REL_PATH_MAX else read(path).payload
        found.append(_request((READ, payload, path)))
        if perms:
            found.append(_request((GET_PERMS, payload, path)))
    return found


def mkdir(path: str) -> Request:
    """Create a node with an empty value, and its parents; an existing node is left as it is."""
    return _request((MKDIR, check_path(path, "MKDIR") + b"\0", path))


def rm(path: str) -> Request:
    """Remove a node and all below it."""
    return _request((RM, check_path(path, "RM") + b"\0", path))


def set_perms(path: str, perms: Sequence[str]) -> Request:
    """Set the permissions of a node: ``("n0", "r5")``, the owner first."""
    return _sized(SET_PERMS, check_path(path, "SET_PERMS") + b"\0" + check_perms(path, perms), path)


def watch(op: int, path: str, token: str) -> Request:
    """Begin (WATCH) or end (UNWATCH) a watch."""
    raw = token.encode("utf-8", "surrogateescape")
    if b"\0" in raw:
        raise StoreError(NAMES[op], path, "EINVAL", "a token has no NUL", "mend the token")
    return _sized(op, check_path(path, NAMES[op]) + b"\0" + raw + b"\0", path)
