# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run one program of ours on many hosts at once, through Ansible's own connection and become plugins.

Each host has one command and one process of its own here, as each has for a task: connection plugins are made for
that, not for threads, and a process can be ended together with what it started when its host does not answer.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import multiprocessing.connection
import os
import shlex
import signal
import sys
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any, NamedTuple, NoReturn

from ansible import constants, context
from ansible.errors import AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.playbook.play_context import PlayContext
from ansible.plugins.loader import become_loader, connection_loader
from ansible.template import Templar

from ..module_utils._archive import archive_bytes

#: What runs where nothing, or a discovery that would cost another round trip, is asked for.
PYTHON = "/usr/bin/python3"

#: Options first, on a line; then the archive, which stays in memory: a board's files may be read-only.
_BOOTSTRAP = (
    "import os,sys,zlib;"
    'h,a=sys.stdin.buffer.read().split(b"\\n",1);'
    'f=os.memfd_create("xen.virtio");'
    'o=open(f,"wb",closefd=False);o.write(zlib.decompress(a));o.flush();'
    'sys.path.insert(0,"/proc/self/fd/%d"%f);'
    "from xen_virtio.{module} import main;"
    "sys.exit(main([h.decode()]))"
)

_SHOWN = 400
_GRACE = 5.0  # seconds, so that the parent is first
_DEPTH = 32  # a configuration has five or six
_ANSWER_LIMIT = 64 << 20  # bytes; a host of 1000 guests tells 5 MB


class ReachError(RuntimeError):
    """A host cannot be asked, or did not answer; the text does not name it."""


@dataclass(frozen=True)
class Program:
    """A module of ours that runs on hosts.

    Attributes:
        module: its name.
        payload: it and all that it needs, packed.
        mark: what its line of JSON begins with.
    """

    module: str
    payload: bytes
    mark: str

    @classmethod
    def of(cls, module: str, mark: str) -> Program:
        """From the files that we run from ourselves."""
        return cls(module, zlib.compress(archive_bytes(module), 6), mark)

    def command(self, python: str) -> str:
        """The command for the host's shell; ``-S``: nothing but Python's own library is needed."""
        return f"{python} -S -c {shlex.quote(_BOOTSTRAP.format(module=self.module))}"

    def input(self, options: Mapping[str, Any]) -> bytes:
        """What the command is to read."""
        return json.dumps(options).encode() + b"\n" + self.payload


class Answer(NamedTuple):
    """What a host told, or why it told nothing."""

    told: dict[str, Any] | None
    error: str | None = None


@dataclass(frozen=True)
class Target:
    """A host to be asked.

    Attributes:
        name: in the inventory.
        variables: the host's, as they stand there.
        templar: with these variables.
        options: for the program.
    """

    name: str
    variables: Mapping[str, Any]
    templar: Templar
    options: Mapping[str, Any]


# --- one connection ------------------------------------------------------------------------------------


def _connection(target: Target) -> Any:
    """The connection of a host with its become plugin, as a task's would be.

    Raises:
        ReachError, AnsibleError: there is no such plugin, or it cannot do it.
    """
    said, templar = target.variables, target.templar
    kind = str(_templated(target, "ansible_connection") or constants.DEFAULT_TRANSPORT)
    play = PlayContext()
    play.remote_addr = str(_templated(target, "ansible_host") or target.name)
    play.connection = kind
    connection = connection_loader.get(kind, play, None)
    if connection is None:
        raise ReachError(f"there is no connection plugin {kind!r}")
    if not getattr(connection, "has_pipelining", False):
        raise ReachError(f"the connection plugin {kind!r} cannot give a command its input (pipelining)")
    _become(target, connection, play)
    keys = {"timeout": play.timeout}
    connection.set_options(task_keys=keys, var_options=_of_plugin(said, templar, "connection", connection))
    shell = connection._shell
    shell.set_options(task_keys=keys, var_options=_of_plugin(said, templar, "shell", shell))
    if connection.become is not None:
        become = connection.become
        become.set_options(task_keys=keys, var_options=_of_plugin(said, templar, "become", become))
        for name in ("become_user", "become_flags", "become_exe", "become_pass"):
            with contextlib.suppress(KeyError):  # not every plugin has all of them
                setattr(play, name, become.get_option(name))
        play.prompt = become.prompt
    return connection


def _become(target: Target, connection: Any, play: PlayContext) -> None:
    given = _templated(target, "ansible_become")
    wanted = context.CLIARGS.get("become", constants.DEFAULT_BECOME) if given is None else boolean(given)
    if not wanted:
        connection.set_become_plugin(None)
        return
    method = _templated(target, "ansible_become_method")
    method = str(method or context.CLIARGS.get("become_method") or constants.DEFAULT_BECOME_METHOD)
    plugin = become_loader.get(method)
    if plugin is None:
        raise ReachError(f"there is no become plugin {method!r}")
    if getattr(plugin, "require_tty", False) and not getattr(connection, "has_tty", False):
        raise ReachError(f"the become plugin {method!r} needs a terminal, which the connection does not give")
    connection.set_become_plugin(plugin)
    play.become = True
    play.become_method = method
    play.set_become_plugin(plugin.name)


def _templated(target: Target, name: str) -> Any:
    return target.templar.template(target.variables[name]) if name in target.variables else None


def _of_plugin(variables: Mapping[str, Any], templar: Templar, kind: str, plugin: Any) -> dict[str, Any]:
    """The host's variables that a plugin knows, with their values."""
    known = constants.config.get_plugin_vars(kind, plugin._load_name)
    return {name: templar.template(variables[name]) for name in known if name in variables}


def _python(target: Target) -> str:
    found = _templated(target, "ansible_python_interpreter")
    return PYTHON if found is None or str(found).startswith("auto") or not str(found) else str(found)


def _as_command(connection: Any, command: str) -> str:
    """The command as the host's shell is given it: as another user, where that is asked for."""
    become = connection.become
    if become is not None:
        us, other = (
            _option(plugin, name) for plugin, name in ((connection, "remote_user"), (become, "become_user"))
        )
        if constants.BECOME_ALLOW_SAME_USER or us != other or not other:
            command = become.build_become_command(command, connection._shell)
    if getattr(connection, "allow_executable", False) and connection._play_context.executable:
        # as for tasks: ssh can lose what a command prints that ends at once (ansible#13876)
        command = connection._shell.append_command(command, "sleep 0")
        command = f"{connection._play_context.executable} -c {shlex.quote(command)}"
    return command


def _option(plugin: Any, name: str) -> str | None:
    try:
        found = plugin.get_option(name)
    except KeyError:
        return None
    return None if found is None else str(found)


# --- one process a host --------------------------------------------------------------------------------


def _end_all(_signal: int, _frame: FrameType | None) -> NoReturn:
    os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _work(
    connection: Any, command: str, data: bytes, pipe: multiprocessing.connection.Connection, limit: float
) -> NoReturn:
    """In the child: run the command, send what became of it, and leave nothing of the parent's to be tidied up."""
    os.setsid()
    # where the parent was killed nobody else ends what does not end
    signal.signal(signal.SIGALRM, _end_all)
    signal.setitimer(signal.ITIMER_REAL, limit + _GRACE)
    try:
        try:
            code, out, err = connection.exec_command(command, in_data=data, sudoable=True)
            told = json.dumps(
                [code, bytes(out).decode("utf-8", "replace"), bytes(err).decode("utf-8", "replace")]
            )
        except Exception as error:
            told = json.dumps([None, "", str(error)])
        pipe.send_bytes(told.encode("utf-8", "replace"))
        pipe.close()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


class _Running(NamedTuple):
    target: Target
    process: multiprocessing.process.BaseProcess
    deadline: float


def ask_all(
    program: Program, targets: list[Target], forks: int, limit: float
) -> Iterator[tuple[str, Answer]]:
    """What each host tells, in whichever order they answer.

    Args:
        program: what runs there.
        targets: the hosts.
        forks: how many at a time.
        limit: seconds for each, from its connection's begin.
    """
    workers = multiprocessing.get_context("fork")
    waiting = list(reversed(targets))
    running: dict[multiprocessing.connection.Connection, _Running] = {}
    try:
        while waiting or running:
            while waiting and len(running) < max(1, forks):
                target = waiting.pop()
                try:
                    connection = _connection(target)
                    command = _as_command(connection, program.command(_python(target)))
                except (ReachError, AnsibleError, ValueError, TypeError) as error:
                    yield target.name, Answer(None, shown(str(error)))
                    continue
                ours, theirs = workers.Pipe(duplex=False)
                arguments = (connection, command, program.input(target.options), theirs, limit)
                process = workers.Process(target=_work, args=arguments, daemon=True)
                process.start()
                theirs.close()
                running[ours] = _Running(target, process, time.monotonic() + limit)
            yield from _answered(program, running, limit)
    finally:
        for pipe, left in running.items():
            _end(left.process)
            pipe.close()


def _answered(
    program: Program, running: dict[multiprocessing.connection.Connection, _Running], limit: float
) -> Iterator[tuple[str, Answer]]:
    """Wait for one of them at least, or for the first deadline."""
    if not running:
        return
    first = min(one.deadline for one in running.values())
    ready = multiprocessing.connection.wait(list(running), max(0.0, first - time.monotonic()))
    for pipe in list(running):
        one = running[pipe]
        if pipe in ready:
            answer = _received(program, pipe)
        elif time.monotonic() >= one.deadline:
            answer = Answer(None, f"no answer within {limit:g} s")
        else:
            continue
        del running[pipe]
        _end(one.process)
        pipe.close()
        yield one.target.name, answer


def _received(program: Program, pipe: multiprocessing.connection.Connection) -> Answer:
    try:
        code, out, err = json.loads(pipe.recv_bytes(_ANSWER_LIMIT))
    except (EOFError, OSError, ValueError) as error:
        return Answer(None, f"the process that asked it ended: {shown(str(error))}")
    return read_answer(program.mark, code, out, err)


def read_answer(mark: str, code: int | None, out: str, err: str) -> Answer:
    """What a host told, out of all that its command printed; what a login prints around it does no harm."""
    if code is None:
        return Answer(None, shown(err))
    for line in out.splitlines():
        if not line.startswith(mark):
            continue
        try:
            told = json.loads(line[len(mark) :])
        except (ValueError, RecursionError):
            continue
        if isinstance(told, dict) and not _deeper_than(told, _DEPTH):
            error = told.get("error")
            return Answer(told) if error is None else Answer(None, shown(str(error)))
    said = shown(err) or shown(out) or "nothing was said"
    return Answer(None, f"the command ended with {code}: {said}")


def _deeper_than(value: object, limit: int) -> bool:
    """Whether mappings and lists stand in each other deeper than that; the looks at a value go down one by one."""
    level: list[object] = [value]
    for _level in range(limit):
        level = [
            inner
            for one in level
            if isinstance(one, (dict, list))
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
    return any(isinstance(one, (dict, list)) for one in level)


def shown(text: str) -> str:
    """The end of what another machine said, as it can be shown: its last words say why, and no terminal obeys it."""
    line = " ".join(text.split())
    line = "".join(letter if letter.isprintable() else "?" for letter in line)
    return line if len(line) <= _SHOWN else f"… {line[-_SHOWN:]}"


def _end(process: Any) -> None:
    """End a process with all that it started; what ssh keeps for the next connection is in a session of its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    process.join()
