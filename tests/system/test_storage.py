# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Targets as this machine knows them: loop devices, partitions, mounts, swaps and holders, all real."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._storage import Storage
from ansible_runs import run_ansible, run_module
from machine import needs_loops
from skips import FACT

MEBIBYTE = 1 << 20


def run(*command: object) -> str:
    """A command that has to succeed; what it prints."""
    return subprocess.run(
        [str(word) for word in command], check=True, capture_output=True, text=True, timeout=60
    ).stdout.strip()


Loop = Callable[..., str]


@pytest.fixture
def cleaning() -> Iterator[ExitStack]:
    """What to undo at the end, last first."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def loop(cleaning: ExitStack) -> Loop:
    """Makes a loop device over a file or device; a device for a test's own."""

    def make(path: Path | str, *options: str) -> str:
        device = run("losetup", "--find", "--show", *options, path)
        cleaning.callback(run, "losetup", "--detach", device)
        return device

    return make


@pytest.fixture
def mount(cleaning: ExitStack, tmp_path: Path) -> Callable[..., str]:
    """Makes a file system on a device or file and mounts it; where."""

    def make(device: Path | str, *options: str) -> str:
        where = tmp_path / f"mounted at {Path(device).name}"  # with blanks, which the kernel's tables escape
        where.mkdir()
        run("mkfs.ext4", "-q", "-F", device)
        run("mount", *options, device, where)
        cleaning.callback(run, "umount", where)
        return str(where)

    return make


def image(path: Path, size: int = 16 * MEBIBYTE) -> Path:
    """An empty image file."""
    with path.open("wb") as file:
        file.truncate(size)
    return path


def partitioned(loop: Loop, path: Path) -> str:
    """A loop device over an image with two partitions of 7 MiB each, known to the kernel alone."""
    device = loop(image(path), "--partscan")
    for number, first in ((1, 2048), (2, 16384)):
        run("addpart", device, number, first, 14336)
    return device


def uses(target: Path | str) -> list[tuple[str, str, str]]:
    """By what, where, and on which part of its storage a target is in use."""
    return [(use.by, use.what, use.on) for use in Storage().look(str(target)).uses]


# --- files ---------------------------------------------------------------------------------------------


def test_files_and_what_is_none(tmp_path: Path) -> None:
    path = image(tmp_path / "image", 12345)
    (tmp_path / "link").symlink_to("image")
    (tmp_path / "broken").symlink_to("nothing")
    facts = Storage().look(str(tmp_path / "link"))
    assert (facts.kind, facts.path, facts.size, facts.readonly) == ("file", str(path), 12345, False)
    assert facts.uses == ()
    kinds = {
        name: Storage().look(name).kind for name in (str(tmp_path), str(tmp_path / "broken"), "/dev/null")
    }
    assert list(kinds.values()) == ["other", "missing", "other"]
    assert Storage().look(str(path / "below")).kind == "missing"
    assert Storage().look("relative").kind == Storage().look("/a\0b").kind == "unknown"


# --- devices -------------------------------------------------------------------------------------------


@needs_loops
def test_a_free_device_stays_free(tmp_path: Path, loop: Loop, mount: Callable[..., str]) -> None:
    path = image(tmp_path / "image")
    device = loop(path)
    facts = Storage().look(device)
    assert (facts.kind, facts.size, facts.readonly, facts.uses, facts.note) == (
        "block",
        16 * MEBIBYTE,
        False,
        (),
        None,
    )
    assert facts.names > Storage().look(str(path)).names  # the same storage
    assert uses(path) == []  # a loop device that nobody uses is no use
    mount(device)  # looking has left nothing behind


@needs_loops
def test_mounted(tmp_path: Path, loop: Loop, mount: Callable[..., str]) -> None:
    path = image(tmp_path / "image")
    device = loop(path)
    where = mount(device)
    assert uses(device) == [("mount", where, device)]
    assert uses(path) == [("mount", where, device)]
    other = loop(path)  # a second way to the same file
    assert uses(other) == [("mount", where, device)]


@needs_loops
def test_partitions(tmp_path: Path, loop: Loop, mount: Callable[..., str]) -> None:
    whole = partitioned(loop, tmp_path / "image")
    first, second = f"{whole}p1", f"{whole}p2"
    where = mount(first)
    assert uses(whole) == uses(first) == [("mount", where, first)]
    assert uses(second) == []
    assert Storage().look(second).size == 7 * MEBIBYTE
    names = [Storage().look(one).names for one in (whole, first, second)]
    assert names[0] & names[1]
    assert names[0] & names[2]
    assert not names[1] & names[2]


@needs_loops
def test_a_loop_device_over_a_partition(tmp_path: Path, loop: Loop, mount: Callable[..., str]) -> None:
    whole = partitioned(loop, tmp_path / "image")
    above = loop(f"{whole}p1")
    where = mount(above)
    for target in (whole, f"{whole}p1", above):
        assert uses(target) == [("mount", where, above)], target
    assert uses(f"{whole}p2") == []


@needs_loops
@pytest.mark.parametrize("kind", ["file", "device"])
def test_swap(tmp_path: Path, cleaning: ExitStack, loop: Loop, kind: str) -> None:
    path = tmp_path / "a swap"
    path.write_bytes(bytes(2 * MEBIBYTE))
    path.chmod(0o600)
    target = loop(path) if kind == "device" else str(path)
    run("mkswap", "--quiet", target)
    try:
        run("swapon", target)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"{FACT} no swap: {error.stderr}")
    cleaning.callback(run, "swapoff", target)
    assert uses(path) == [("swap", target, target)]
    assert uses(target) == [("swap", target, target)]


@needs_loops
def test_read_only(tmp_path: Path, loop: Loop, mount: Callable[..., str]) -> None:
    path = image(tmp_path / "image")
    where = mount(loop(path))
    inside = image(Path(where) / "inside", 4096)
    assert Storage().look(str(inside)).readonly is False
    run("mount", "-o", "remount,ro", where)
    assert Storage().look(str(inside)).readonly is True
    assert Storage().look(loop(image(tmp_path / "other"), "--read-only")).readonly is True


@needs_loops
def test_held_by_a_process(tmp_path: Path, loop: Loop) -> None:
    device = loop(image(tmp_path / "image"))
    fd = os.open(device, os.O_RDWR)
    try:
        assert uses(device) == []  # as a virtio-disk daemon has it
    finally:
        os.close(fd)
    fd = os.open(device, os.O_RDONLY | os.O_EXCL)
    try:
        ((by, what, on),) = uses(device)
    finally:
        os.close(fd)
    assert (by, on) == ("held", device)
    assert f"({os.getpid()})" in what


@needs_loops
def test_mounted_where_we_do_not_see_it(tmp_path: Path, loop: Loop) -> None:
    device = loop(image(tmp_path / "image"))
    run("mkfs.ext4", "-q", device)
    where = tmp_path / "elsewhere"
    where.mkdir()
    script = 'mount "$1" "$2" && echo mounted && cat && umount "$2"'
    with subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", script, "sh", device, str(where)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as elsewhere:
        assert elsewhere.stdout is not None
        assert elsewhere.stdout.readline() == "mounted\n"
        found = uses(device)
        elsewhere.communicate(timeout=60)
    assert found == [("held", "", device)]
    assert uses(device) == []


# --- the module and the filters ------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [(), ("--check", "--diff")])
def test_the_module_on_the_oldest_python(tmp_path: Path, old_python: str, flags: tuple[str, ...]) -> None:
    path = image(tmp_path / "image", 4096)
    listed = [str(path), "/nonexistent", str(path)]
    done = run_module(tmp_path, old_python, "xen.virtio.storage_info", {"targets": listed}, *flags)
    assert not done["failed"], done["stdout"]
    assert not done["changed"]
    facts: dict[str, Any] = done["targets"]
    assert set(facts) == {str(path), "/nonexistent"}
    assert facts[str(path)] == {
        "exists": True,
        "kind": "file",
        "path": str(path),
        "size": 4096,
        "readonly": False,
        "names": facts[str(path)]["names"],
        "in_use": [],
        "note": None,
    }
    assert facts["/nonexistent"]["exists"] is False


PLAY = """
- hosts: lab
  gather_facts: false
  vars:
    xen_guests:
      linux1:
        kernel: /boot/Image
        disks:
          - {vdev: xvda, target: IMAGE, backend: DomD}
          - {vdev: xvdb, target: /nonexistent, backend: DomD}
      linux2:
        kernel: /boot/Image
        disks: ["LINK,,xvda,backend=DomD,specification=virtio"]
    guests: "{{ xen_guests | xen.virtio.merge_guests({'memory': 64}, {'linux1': {'disks': [
      {'vdev': 'd0p0', 'access': 'ro'}]}}, ['linux1', 'linux2']) }}"
  tasks:
    - xen.virtio.storage_info:
        targets: "{{ (guests | xen.virtio.storage_targets).DomD }}"
      register: storage
    - ansible.builtin.debug:
        msg: "{{ guests | xen.virtio.preflight(xen='4.20', driver_domains={'DomD': {'launcher': true}},
          targets={'DomD': storage}) | map(attribute='message') }}"
    - ansible.builtin.debug:
        msg: "{{ guests | xen.virtio.preflight('4.20', ['DomD', 'DomE'], accept=[{'code': 'quota', 'reason': 'x'}])
          | map(attribute='code') }}"
    - ansible.builtin.debug:
        msg: "{{ guests | xen.virtio.preflight(4.2) }}"
"""


def test_from_an_inventory_to_findings(tmp_path: Path) -> None:
    path = image(tmp_path / "image", 4096)
    (tmp_path / "link").symlink_to("image")
    play = tmp_path / "play.yml"
    play.write_text(PLAY.replace("IMAGE", str(path)).replace("LINK", str(tmp_path / "link")))
    done = run_ansible(tmp_path, sys.executable, "ansible-playbook", str(play))
    assert "xvdb: /nonexistent is not there in DomD" in done.stdout, done.stdout + done.stderr
    assert "is also xvda of linux2" in done.stdout  # by the inode: the paths differ
    assert done.stdout.count('"devid-shared"') == 2  # without a word on the launcher
    assert "quote it" in done.stdout + done.stderr
    assert done.returncode == 2
