# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a view costs its daemon: a request through it against a direct one, and the memory it takes."""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import standin
from ansible_collections.xen.virtio.plugins.module_utils import _view
from ansible_collections.xen.virtio.plugins.module_utils._backendunits import view_options
from guests import until
from lab import LabHost, wire
from standin.bench import Bench

from benchmarks.figures import Figure, interleaved, timed

DEVID = 51712
REQUESTS = 500  # a turn
LIMIT = 2.0
MEMORY = 12.0  # MB
PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
START = "import sys; sys.path.append(sys.argv.pop()); import virtio_disk_view; virtio_disk_view.start()"


class Dom0(Bench):
    """The backend is dom0: its daemons use xenstored's own socket, the shortest way there is."""

    def __init__(self, host: LabHost, program: Path) -> None:
        super().__init__(host, program)
        self.domid = 0
        self.top = "/local/domain/0/backend/virtio_disk"

    @property
    def view(self) -> str:
        return self.host.socket


class Running(NamedTuple):
    """A view with a daemon that serves."""

    pid: int
    door: str  # the daemon's way to the store
    direct: str  # the view's own


@contextmanager
def serving(folder: Path) -> Iterator[Running]:
    """As a unit in dom0 runs it: out of a module, whose compiled form is there from the second start on."""
    program = standin.build(folder / "build")
    library, run = folder / "lib", folder / "run"
    library.mkdir()
    run.mkdir()
    shutil.copy(_view.__file__, library / "virtio_disk_view.py")
    image = folder / "image"
    image.write_bytes(bytes(65536))
    with LabHost(folder / "host") as host, Dom0(host, program) as bench:
        options = [*view_options(f"{run}"), "-c", START]
        for _time in range(2):
            guest = bench.guest()
            bench.plug(guest, DEVID, image)
            settings = {"DAEMON": str(program), "VIRTIO_DISK_RUN": str(run), "XENSTORED_PATH": bench.view}
            process = subprocess.Popen(
                [PYTHON, *options, f"{guest}-{DEVID}", str(library)], env=settings, stderr=subprocess.DEVNULL
            )
            try:
                if not until(lambda: bench.state(guest, DEVID) == 2):  # noqa: B023 - asked at once
                    raise RuntimeError("the daemon behind the view serves nothing")
                if _time:
                    yield Running(process.pid, f"{run}/{guest}-{DEVID}.sock", bench.view)
            finally:
                process.terminate()
                process.wait()


def view(repetitions: int) -> Iterator[Figure]:
    """A request, as libxenstore makes it for the daemon and without libxenstore; memory."""
    group = "a view"
    with tempfile.TemporaryDirectory(prefix="xen-bench-") as name, serving(Path(name)) as running:
        ways: list[tuple[str, Callable[[str], Callable[[], object]], float | None]] = [
            (f"{REQUESTS} reads, as the daemon asks", by_library, LIMIT),
            (f"{REQUESTS} reads, nothing but a socket", by_socket, None),
        ]
        for title, way, limit in ways:
            through, direct = way(running.door), way(running.direct)
            ours, other = interleaved(repetitions, lambda: timed(through), lambda: timed(direct))  # noqa: B023
            yield Figure(group, title, ours, other, "directly", limit)
        yield Figure(group, "resident memory", resident(running.pid), limit=MEMORY, unit="MB")
        yield Figure(group, "of that its own", own(running.pid), unit="MB")


def by_socket(path: str) -> Callable[[], object]:
    """Many reads, one after the other."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    question = wire.pack(wire.READ, 1, 0, b"domid\0")

    def work() -> None:
        for _request in range(REQUESTS):
            connection.sendall(question)
            connection.recv(4096)

    return work


def by_library(path: str) -> Callable[[], object]:
    """The same with the library that the daemon uses, and its second thread, which a watch starts."""
    library = ctypes.CDLL("libxenstore.so.4")
    library.xs_open.restype = library.xs_read.restype = ctypes.c_void_p
    library.xs_read.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_char_p, ctypes.c_void_p]
    library.xs_watch.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p]
    free = ctypes.CDLL(None).free
    free.argtypes = [ctypes.c_void_p]
    os.environ["XENSTORED_PATH"] = path
    handle = library.xs_open(0)
    del os.environ["XENSTORED_PATH"]
    if not handle or not library.xs_watch(handle, b"nothing", b"nothing"):
        raise RuntimeError(f"libxenstore does not reach the store on {path}")
    length = ctypes.c_uint()

    def work() -> None:
        for _request in range(REQUESTS):
            free(library.xs_read(handle, 0, b"domid", ctypes.byref(length)))

    return work


def resident(pid: int) -> float:
    """RSS of a process, in MB."""
    return _memory(Path(f"/proc/{pid}/status"), "VmRSS")


def own(pid: int) -> float:
    """What a process shares with no other, in MB."""
    return _memory(Path(f"/proc/{pid}/smaps_rollup"), "Private_Clean") + _memory(
        Path(f"/proc/{pid}/smaps_rollup"), "Private_Dirty"
    )


def _memory(path: Path, field: str) -> float:
    line = next(line for line in path.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) / 1024
