# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's toolstack, run: what the host's xl is asked to do, each time with a limit.

What it prints is taken apart by `_xloutput`.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from typing import IO, Any, NamedTuple, NoReturn

from ._xloutput import (
    RunState,
    XlOutputError,
    parse_check,
    parse_info,
    parse_list,
    parse_records,
    words_of,
)

__all__ = ["Answer", "RunState", "Xl", "XlError", "host_release"]

#: Where Linux tells the running hypervisor's version (Documentation/ABI/stable/sysfs-hypervisor-xen).
_SYSFS = "/sys/hypervisor/version"

#: libxl gives a backend 10 s to answer (LIBXL_INIT_TIMEOUT), as long to close (LIBXL_DESTROY_TIMEOUT),
#: and a hotplug script 40 s (LIBXL_HOTPLUG_TIMEOUT, tools/libs/light/libxl_internal.h); beyond that xl
#: itself hangs.
TIMEOUT = 60.0

#: A create builds the domain and waits for its disks, then tears all of it down again where one failed;
#: a large image from slow storage takes its time before that.
CREATE_TIMEOUT = 180.0

#: libxl waits 60 s for a guest to take note of a request (libxl__domain_pvcontrol, libxl_domain.c).
REQUEST_TIMEOUT = 75.0

#: Debian keeps the versioned xl apart; the wrapper on PATH asks a running hypervisor for the version.
_SEARCH = os.pathsep.join(("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"))

#: What libxl says while it clears away a domain that it could not create (libxl_create.c, libxl_domain.c).
_AFTERMATH = re.compile(
    r"Non-existant domain|Unable to destroy guest|Destruction of domain failed|Getting domain info: No such process"
)

#: So many lines from the begin and from the end of what xl said go into an error.
_SHOWN = 4

#: For the method `list`, which hides the built-in one from annotations.
_RunStates = list[RunState]

#: Seconds a command has to end by itself after SIGTERM; it has nothing to tidy up, so this is for its files.
_GRACE = 1.0


class XlError(RuntimeError):
    """xl refused, failed, or did not end in time; the text holds the command's own last words.

    Attributes:
        words: the lines in which xl complained; empty where it was not even started.
        timed_out: whether it was ended because it took too long. What it had begun stays: an ended
            create leaves a paused domain.
    """

    def __init__(self, text: str, *, words: tuple[str, ...] = (), timed_out: bool = False) -> None:
        super().__init__(text)
        self.words = words
        self.timed_out = timed_out


class Answer(NamedTuple):
    """What xl printed: standard output, and the lines of standard error that complain or warn."""

    out: str
    words: tuple[str, ...]


class Xl:
    """Runs xl, always with an argument list and a time limit.

    Args:
        path: the command or its path.
        timeout: seconds for one call.
    """

    def __init__(self, path: str = "xl", *, timeout: float = TIMEOUT) -> None:
        search = os.environ.get("PATH", "") + os.pathsep + _SEARCH
        self.command = shutil.which(path, path=search)
        self.timeout = timeout

    @property
    def present(self) -> bool:
        """Whether the host has xl."""
        return self.command is not None

    def run(self, *arguments: str, timeout: float | None = None) -> str:
        """Run one xl command and give its standard output; raises as `ask`."""
        return self.ask(*arguments, timeout=timeout).out

    def ask(self, *arguments: str, timeout: float | None = None) -> Answer:
        """Run one xl command.

        It runs in a session of its own, so that a Ctrl-C reaches it through us alone: an interrupted call
        ends it, and so does one that takes longer than ``timeout`` seconds (`self.timeout` where None).
        Its output goes to files: the daemon that a create leaves behind could hold a pipe open for ever.

        Raises:
            XlError: xl is missing, failed or took longer than the limit.
        """
        shown = "xl " + " ".join(arguments)
        if self.command is None:
            raise XlError("this host has no xl; install the Xen tools")
        limit = self.timeout if timeout is None else timeout
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            try:
                # run_command has no deadline, and the core no AnsibleModule
                child = subprocess.Popen(  # pylint: disable=unknown-option-value,ansible-bad-function
                    [self.command, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    env={**os.environ, "LC_ALL": "C"},
                    start_new_session=True,
                )
            except OSError as error:
                raise XlError(f"{shown}: cannot be started: {error.strerror}") from error
            except ValueError as error:
                raise XlError(f"{shown!r}: cannot be started: {error}") from error
            try:
                child.wait(limit)
            except subprocess.TimeoutExpired as error:
                _end(child)
                words = words_of(_text(err))
                said = f"; it had said: {_gist(words)}" if words else ""
                raise XlError(
                    f"{shown}: no end within {limit:g} s{said}", words=words, timed_out=True
                ) from error
            except BaseException:
                _end(child)
                raise
            # as the store's values are read: names have to compare equal, whatever bytes they are
            answer = Answer(_text(out, "surrogateescape"), words_of(_text(err)))
        if child.returncode != 0:
            said = _gist(answer.words) or "xl said nothing"
            raise XlError(f"{shown}: failed ({child.returncode}): {said}", words=answer.words)
        return answer

    # ---- questions ----

    def info(self) -> dict[str, str]:
        """``xl info``: memory in MiB, cpus, release, as xl names and prints them."""
        return parse_info(self.run("info"))

    def list(self) -> _RunStates:
        """``xl list``: every domain of the hypervisor, dom0 first, dying ones too.

        Raises:
            XlError: also where what xl printed cannot be read.
        """
        try:
            return parse_list(self.run("list"))
        except XlOutputError as error:
            _unreadable(error)

    def records(self) -> dict[int, dict[str, Any]]:
        """``xl list -l``: libxl's own record of each domain, by domid.

        A domain that is missing has no record (another toolstack's, say), or died while xl was looking.
        """
        try:
            return parse_records(self.run("list", "-l"))
        except XlOutputError as error:
            _unreadable(error)

    def check(self, path: str) -> dict[str, Any]:
        """``xl create -n``: what xl makes of a configuration file, as libxl's JSON; nothing is created.

        It finds errors of syntax, bad disk strings, a missing name or kernel line. It does not find a bad
        or repeated vdev, an unknown key, a missing file: only a create refuses these.
        """
        return self.checked(path)[0]

    def checked(self, path: str) -> tuple[dict[str, Any], tuple[str, ...]]:
        """As `check`, with the lines in which xl warns (of a deprecated key, say)."""
        answer = self.ask("create", "-n", path)
        try:
            return parse_check(answer.out), answer.words
        except XlOutputError as error:
            _unreadable(error)

    # ---- one guest ----

    def create(self, path: str, *, paused: bool = False, timeout: float | None = None) -> None:
        """Create a guest from a configuration file; xl leaves a daemon behind that looks after it.

        Raises:
            XlError: with xl's words. When it `timed_out` a domain may be left, paused and half built.
        """
        limit = max(CREATE_TIMEOUT, self.timeout) if timeout is None else timeout
        self.run("create", *(["-p"] if paused else []), path, timeout=limit)

    def shutdown(self, domid: int, *, timeout: float | None = None) -> None:
        """Ask a guest to power off; back as soon as the guest took note, not when it is off.

        Raises:
            XlError: the guest took no note (libxl waits 60 s), or cannot be asked. The request stays in
                the store: the guest may still follow it.
        """
        self.ask("shutdown", str(domid), timeout=REQUEST_TIMEOUT if timeout is None else timeout)

    def reboot(self, domid: int, *, timeout: float | None = None) -> None:
        """Ask a guest to reboot; as `shutdown`. The guest comes back under another domid."""
        self.ask("reboot", str(domid), timeout=REQUEST_TIMEOUT if timeout is None else timeout)

    def destroy(self, domid: int) -> str:
        """End a domain at once.

        Returns:
            xl's words about devices: it ends well although a backend did not close within 10 s, and
            leaves that backend's directory behind. "" where all went.
        """
        return "\n".join(self.ask("destroy", str(domid)).words)

    def pause(self, domid: int) -> None:
        """Stop a guest's vCPUs."""
        self._strict("pause", domid)

    def unpause(self, domid: int) -> None:
        """Let a guest's vCPUs run."""
        self._strict("unpause", domid)

    def _strict(self, command: str, domid: int) -> None:
        """xl ends well whatever became of these two (pause_domain(), tools/xl/xl_vmcontrol.c)."""
        words = self.ask(command, str(domid)).words
        if any("error" in word for word in words):
            raise XlError(f"xl {command} {domid}: failed: {_gist(words)}", words=words)

    def mem_set(self, domid: int, mib: int) -> None:
        """Set how much memory a guest shall have, at most its maximum; its balloon driver follows."""
        self.run("mem-set", str(domid), f"{mib}m")

    def vcpu_set(self, domid: int, count: int) -> None:
        """Set how many vCPUs shall be online, at most its maximum; the guest follows."""
        self.run("vcpu-set", str(domid), str(count))

    def rename(self, domid: int, name: str) -> None:
        """Give a domain another name."""
        self.run("rename", str(domid), name)

    def block_attach(self, domid: int, spec: str) -> None:
        """Attach a xen disk, given as an xl disk string."""
        self.run("block-attach", str(domid), spec)

    def block_detach(self, domid: int, devid: int) -> None:
        """Detach a xen disk by its device number."""
        self.run("block-detach", str(domid), str(devid))


def _unreadable(error: XlOutputError) -> NoReturn:
    raise XlError(str(error)) from error


def _text(file: IO[bytes], errors: str = "replace") -> str:
    file.seek(0)
    return file.read().decode("utf-8", errors)


def _gist(words: tuple[str, ...]) -> str:
    """The lines that tell most: libxl says the cause first, and then at length what it fails to undo."""
    own = [word for word in words if not _AFTERMATH.search(word)] or list(words)
    if len(own) > 2 * _SHOWN:
        own = [*own[:_SHOWN], "…", *own[-_SHOWN:]]
    return " / ".join(own)


def _end(child: subprocess.Popen[bytes]) -> None:
    """End xl and what it started; the daemon of a finished create has left its session."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_GRACE)
            return


class AskedOnce(Xl):
    """Looks once: what was asked of the host before is not asked again, nor is a question that it did not answer.

    For one reading of a host by several parts of ours, which then all see the same. Never for what changes something.
    """

    #: Questions whose answers are the host's own; others may be about a file that has changed.
    _KEPT = ("info", "list")

    def __init__(self, path: str = "xl", *, timeout: float = TIMEOUT) -> None:
        super().__init__(path, timeout=timeout)
        self._answers: dict[tuple[str, ...], Answer | XlError] = {}

    def ask(self, *arguments: str, timeout: float | None = None) -> Answer:
        """As `Xl.ask`, but each question once."""
        if arguments[0] not in self._KEPT:
            return super().ask(*arguments, timeout=timeout)
        if arguments not in self._answers:
            try:
                self._answers[arguments] = super().ask(*arguments, timeout=timeout)
            except XlError as error:
                self._answers[arguments] = error
        answer = self._answers[arguments]
        if isinstance(answer, XlError):
            raise answer
        return answer


def host_release(xl: Xl) -> str | None:
    """The running Xen's release as ``MAJOR.MINOR``, None where the host does not tell."""
    try:
        parts = []
        for part in ("major", "minor"):
            with open(f"{_SYSFS}/{part}", encoding="ascii") as file:
                parts.append(str(int(file.read(16))))
        return ".".join(parts)
    except (OSError, ValueError):
        pass
    if not xl.present:
        return None
    try:
        told = xl.info()
    except XlError:
        return None
    numbers = [told.get(key, "") for key in ("xen_major", "xen_minor")]
    if not all(re.fullmatch(r"\d+", number) for number in numbers):
        return None
    return ".".join(numbers)
