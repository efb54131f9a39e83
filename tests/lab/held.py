# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a process of its own holds (holder.py): its folder, its start, what it is asked, and its end."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from . import namespace
from .errors import LabError, LabUnavailable
from .holder import namespace_of

if TYPE_CHECKING:
    from typing import Self

TESTS = Path(__file__).resolve().parents[1]
SOCKET_NAME = 108  # bytes of sun_path, the NUL included
END_TIMEOUT = 120.0  # seconds; an end takes a fraction of one, unless the machine below is busy


class Words(NamedTuple):
    """How messages speak of what is held; ``{folder}`` stands for its folder.

    Attributes:
        start: of it in a folder.
        none: there is none of it.
        down: nobody answers for it.
        holder: who answers for it.
        refused: what this machine does not let the lab do, where the holder does not start.
    """

    start: str
    none: str
    down: str
    holder: str
    refused: str


class Held(ABC):
    """A context manager; ``start`` and ``stop`` do the same by hand."""

    WORDS: ClassVar[Words]

    def __init__(self, folder: str | os.PathLike[str], *, keep: bool = False, lifeline: bool = True) -> None:
        self.folder = Path(folder).absolute()
        self._keep = keep
        self._lifeline = lifeline
        self._process: subprocess.Popen[bytes] | None = None
        self._holder: int | None = None
        self._short: Path | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_error: object) -> None:
        self.stop()

    # ---- the start ----

    @abstractmethod
    def start(self) -> Self:
        """Bring it up; it is returned itself."""

    def _take_folder(self) -> None:
        """It is there, and empty."""
        self.folder = self.folder.resolve()
        namespace.refuse_below_own(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        if any(self.folder.iterdir()):
            raise LabError(f"{self.WORDS.start} in an empty folder: {self.folder} is not")

    @contextlib.contextmanager
    def _whole_or_not(self) -> Iterator[None]:
        """Where a start fails, nothing stays of it."""
        try:
            yield
        except BaseException:
            self.stop()
            raise

    def _shorten(self) -> None:
        """A short way to the folder, for names of sockets."""
        self._short = Path(tempfile.mkdtemp(prefix="xen-lab-"))
        (self._short / "folder").symlink_to(self.folder)

    def _start_holder(self, module: str, unshare: Sequence[str], **config: Any) -> int:
        """Its process, once it is ready for requests; returns the pid."""
        settings = {
            "folder": str(self.folder),
            "control": str(self.folder / "control"),
            "lifeline": self._lifeline,
            "remove": not self._keep,
            "short": str(self._short) if self._short else None,
            **config,
        }
        (self.folder / "holder.json").write_text(json.dumps(settings))
        with open(self.folder / "log" / "holder.log", "wb") as log:
            self._process = subprocess.Popen(
                [*unshare, "--", *python_command(module, str(self.folder / "holder.json"))],
                stdin=subprocess.PIPE if self._lifeline else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert self._process.stdout is not None
        with self._process.stdout as told:
            if not told.readline():
                said = (self.folder / "log" / "holder.log").read_text().strip().splitlines()
                reason = (said or ["no message"])[-1]
                raise LabUnavailable(f"this machine does not let the lab {self.WORDS.refused}: {reason}")
        return self._process.pid

    # ---- what others who attach to it have to know ----

    @classmethod
    def _state(cls, folder: Path) -> dict[str, Any]:
        try:
            state: dict[str, Any] = json.loads((folder / "state.json").read_text())
        except (FileNotFoundError, NotADirectoryError):
            raise LabError(f"{cls.WORDS.none} in {folder}") from None
        return state

    def _write_state(self, state: Mapping[str, Any]) -> None:
        fresh = self.folder / "state.json.new"
        fresh.write_text(json.dumps(state, indent=2) + "\n")
        fresh.replace(self.folder / "state.json")

    # ---- requests ----

    def ask(self, operation: str, **arguments: Any) -> Any:
        """One request to the holder."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60)
            try:
                connection.connect(self._reachable(self.folder / "control"))
            except OSError:
                raise LabError(self.WORDS.down.format(folder=self.folder)) from None
            with connection.makefile("rw", encoding="utf-8") as stream:
                stream.write(json.dumps({"do": operation, "with": arguments}) + "\n")
                stream.flush()
                line = stream.readline()
        if not line:
            holder = self.WORDS.holder.format(folder=self.folder)
            raise LabError(f"{holder} ended while it was asked to {operation}")
        reply = json.loads(line)
        if "error" in reply:
            raise LabError(reply["error"])
        return reply["ok"]

    def _reachable(self, path: Path) -> str:
        """The path itself, or one through a short link where it is too long for a socket's address."""
        if len(os.fsencode(path)) < SOCKET_NAME:
            return str(path)
        if self._short is None:
            raise LabError(f"{path} is too long for a socket")
        return str(self._short / "folder" / path.relative_to(self.folder))

    # ---- the end ----

    def stop(self) -> None:
        """End everything that belongs to it.  Stopping twice does nothing."""
        with contextlib.suppress(LabError, OSError):
            self.ask("quit")
            self._wait_for_end()
        if self._process is not None:
            if self._process.stdin:
                self._process.stdin.close()
            self._process.wait()
            self._process = None
        self._end_strangers()
        if self._short is not None:
            shutil.rmtree(self._short, ignore_errors=True)
            self._short = None
        if not self._keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _wait_for_end(self) -> None:
        """A holder that another process started is no child of ours to wait for."""
        deadline = time.monotonic() + END_TIMEOUT
        while self._process is None and namespace_of(f"{self._holder}") and time.monotonic() < deadline:
            time.sleep(0.005)

    @abstractmethod
    def _end_strangers(self) -> None:
        """End whatever outlives a holder that was killed."""


def python_command(module: str, *args: str) -> list[str]:
    """Run one of the lab's own modules as a program, whatever is on the caller's Python path."""
    start = f"import sys; sys.path.insert(0, {str(TESTS)!r}); from lab.{module} import main; main()"
    return [sys.executable, "-I", "-S", "-c", start, *args]
