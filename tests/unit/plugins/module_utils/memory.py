# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A store in a dictionary, for what must be seen between two requests; the real ones are in tests/system."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ansible_collections.xen.virtio.plugins.module_utils._protocol import OPS
from ansible_collections.xen.virtio.plugins.module_utils._store import Request, StoreError

_NAMES = {number: name for name, number in OPS.items()}
Tree = dict[str, tuple[bytes, tuple[str, ...]]]


class MemoryStore:
    """As `Store`, for one caller: transactions are copies, nothing conflicts.

    Attributes:
        tree: path → value, permissions.
        alive: domids that are introduced.
        before_commit: called with the number of commits so far; may change the tree or raise.
    """

    def __init__(self, *alive: int) -> None:
        self.tree: Tree = {"/": (b"", ("n0",))}
        self.alive = set(alive)
        self.commits = 0
        self.before: Callable[[int], None] = lambda _transactions: None
        self._begun = 0

    def add(self, domid: int, name: str, *, owner: str = "n0") -> None:
        """A domain that lives."""
        self.alive.add(domid)
        for path, value in (
            (f"/local/domain/{domid}/name", name),
            (f"/local/domain/{domid}/vm", f"/vm/{domid}"),
        ):
            self.put(path, value.encode(), (owner, "r0"))
        self.tree[f"/local/domain/{domid}"] = (b"", ("n0", f"r{domid}"))

    def put(self, path: str, value: bytes, perms: tuple[str, ...] | None = None) -> None:
        """Write a node and its parents; new ones inherit their parent's permissions."""
        parent = path.rsplit("/", 1)[0] or "/"
        if parent not in self.tree:
            self.put(parent, b"")
        held = self.tree.get(path, (b"", self.tree[parent][1]))
        self.tree[path] = (value, perms or held[1])

    def remove(self, path: str) -> None:
        """Remove a subtree."""
        for one in [one for one in self.tree if one == path or one.startswith(f"{path}/")]:
            del self.tree[one]

    def call(
        self, requests: Sequence[Request], tx: int = 0, *, meanwhile: object = None
    ) -> list[bytes | StoreError]:
        return [self._answer(request) for request in requests]

    def list(self, path: str) -> list[str] | None:
        answer = self.call([Request(OPS["DIRECTORY"], b"", path)])[0]
        return None if isinstance(answer, StoreError) else [n for n in answer.decode().split("\0") if n]

    @contextmanager
    def series(self) -> Iterator[None]:
        yield

    def transaction(
        self, work: Callable[[Any], Any], *, retries: int = 8, meanwhile: Iterator[object] | None = None
    ) -> Any:
        """All of it or nothing."""
        next(meanwhile or iter(()), None)
        self.before(self._begun)
        self._begun += 1
        kept = dict(self.tree)
        try:
            done = work(self)
        except BaseException:
            self.tree = kept
            raise
        self.commits += 1
        return done

    def _answer(self, request: Request) -> bytes | StoreError:  # noqa: PLR0911 - one an operation
        operation, path = _NAMES[request.op], request.path
        if operation == "IS_DOMAIN_INTRODUCED":
            return b"T\0" if int(request.payload.rstrip(b"\0")) in self.alive else b"F\0"
        if operation == "CONTROL":
            return StoreError("CONTROL", path, "EINVAL")
        if operation in ("WRITE", "MKDIR"):
            value = request.payload.split(b"\0", 1)[1] if operation == "WRITE" else b""
            if operation == "WRITE" or path not in self.tree:
                self.put(path, value)
            return b"OK\0"
        if path not in self.tree:
            return StoreError(operation, path, "ENOENT")
        if operation == "RM":
            self.remove(path)
        elif operation == "SET_PERMS":
            perms = tuple(entry for entry in request.payload.decode().split("\0")[1:] if entry)
            self.tree[path] = (self.tree[path][0], perms)
        elif operation == "READ":
            return self.tree[path][0]
        elif operation == "GET_PERMS":
            return "".join(f"{entry}\0" for entry in self.tree[path][1]).encode()
        else:
            below = [one[len(path) + 1 :] for one in self.tree if one.startswith(f"{path}/")]
            return "".join(f"{name}\0" for name in below if "/" not in name).encode()
        return b"OK\0"
