# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways to a store."""

from __future__ import annotations

import errno
import os
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.xen.virtio.plugins.module_utils import _wire

UTILS = Path(_wire.__file__).resolve().parent

WIRES = [pytest.param(_wire.OWN, id="own"), pytest.param(_wire.PYXS, id="pyxs")]


def test_pyxs_is_there_for_the_tests() -> None:
    assert _wire.PYXS is not None
    assert _wire.default_wire() is _wire.PYXS


@pytest.mark.parametrize(
    ("environ", "paths"),
    [
        ({}, ["/run/xenstored/socket", "/dev/xen/xenbus", "/proc/xen/xenbus"]),
        ({"XENSTORED_RUNDIR": "/r"}, ["/r/socket", "/dev/xen/xenbus", "/proc/xen/xenbus"]),
        ({"XENSTORED_PATH": "/s"}, ["/s"]),
        ({"XENSTORED_PATH": "/s", "XENSTORED_RUNDIR": "/r"}, ["/s"]),
        ({"XENSTORED_PATH": ""}, ["/run/xenstored/socket", "/dev/xen/xenbus", "/proc/xen/xenbus"]),
    ],
)
def test_candidates(environ: dict[str, str], paths: list[str]) -> None:
    assert [place.path for place in _wire.candidates(environ)] == paths


def test_both_wires_have_one_header() -> None:
    assert _wire.PYXS is not None
    message = (1, 0xFFFFFFFE, 3, 4096)
    assert _wire.OWN.header.pack(*message) == _wire.PYXS.header.pack(*message) == struct.pack("=4I", *message)


def test_what_a_path_is(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "socket"))
    listener.close()
    (tmp_path / "link").symlink_to("socket")
    assert _wire.is_socket(str(tmp_path / "socket"))
    assert _wire.is_socket(str(tmp_path / "link"))
    assert not _wire.is_socket("/dev/null")
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path):
        with pytest.raises(OSError, match="neither a socket nor a device"):
            _wire.is_socket(str(path))
    with pytest.raises(FileNotFoundError):
        _wire.is_socket(str(tmp_path / "nothing"))


@pytest.mark.parametrize("wire", WIRES)
def test_a_connect_that_nobody_accepts_ends(wire: _wire.Wire, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        waiting = [wire.open_socket(path, 0.2)]  # the backlog's only place
        began = time.monotonic()
        with pytest.raises(OSError, match="nobody accepted") as caught:
            waiting.append(wire.open_socket(path, 0.2))
        assert caught.value.errno == errno.ETIMEDOUT
        assert time.monotonic() - began < 5
        for link in waiting:
            link.close()


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(("name", "number"), [("nothing", errno.ENOENT), ("dead", errno.ECONNREFUSED)])
def test_refused_connects_keep_their_errno(wire: _wire.Wire, tmp_path: Path, name: str, number: int) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead"))
    with pytest.raises(OSError) as caught:  # noqa: PT011 (the errno is the point)
        wire.open_socket(str(tmp_path / name), 1)
    assert caught.value.errno == number


@pytest.mark.parametrize("wire", WIRES)
def test_devices(wire: _wire.Wire, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        wire.open_device(str(tmp_path / "nothing"))
    link = wire.open_device("/dev/null")
    assert not os.get_inheritable(link.fileno())
    link.close()
    link.close()


@pytest.mark.parametrize("wire", WIRES)
def test_nothing_stays_open(wire: _wire.Wire, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(8)
        before = os.listdir("/proc/self/fd")
        for _round in range(3):
            wire.open_socket(path, 1).close()
            wire.open_device("/dev/null").close()
        assert len(os.listdir("/proc/self/fd")) == len(before)


NO_PYXS = """
import sys, types
sys.modules["pyxs"] = {stand_in}
package = types.ModuleType("utils")
package.__path__ = [{utils!r}]
sys.modules["utils"] = package
from utils import _store, _wire
assert _wire.PYXS is None
assert _wire.default_wire() is _wire.OWN
print("stands in")
"""


@pytest.mark.parametrize(
    "stand_in",
    [
        pytest.param("None", id="absent"),
        pytest.param("types.SimpleNamespace(__path__=[])", id="unfit"),
    ],
)
def test_without_pyxs_ours_stands_in(stand_in: str) -> None:
    code = NO_PYXS.format(stand_in=stand_in, utils=str(UTILS))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "stands in\n", done.stderr
