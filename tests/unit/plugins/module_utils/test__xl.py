# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How xl is run, with shell scripts in its place; the real one is in tests/system."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.xen.virtio.plugins.module_utils import _xl
from ansible_collections.xen.virtio.plugins.module_utils._xl import AskedOnce, Xl, XlError, host_release

Stub = Callable[..., Xl]


@pytest.fixture
def stub(tmp_path: Path) -> Stub:
    """An xl that is a shell script."""

    def make(script: str, **options: float) -> Xl:
        path = tmp_path / "xl"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return Xl(str(path), **options)

    return make


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 3", r"xl info: failed \(3\): xl said nothing"),
        ("echo one >&2; echo two >&2; exit 1", r"xl info: failed \(1\): one / two$"),
        ("printf '\\377' >&2; exit 1", "failed"),
        ("for i in 1 2 3 4 5 6 7 8; do echo line$i >&2; done; exit 1", ": line1 / line2 / .* / line8$"),
        ("for i in 1 2 3 4 5 6 7 8 9; do echo $i >&2; done; exit 1", ": 1 / 2 / 3 / 4 / … / 6 / 7 / 8 / 9$"),
        ("echo why >&2; echo 'Domain 4:Non-existant domain' >&2; exit 1", ": why$"),
        ("echo 'Domain 4:Non-existant domain' >&2; exit 1", ": Domain 4:Non-existant domain$"),
        ("kill -9 $$", r"failed \(-9\)"),
    ],
)  # fmt: skip
def test_a_failure_carries_the_last_words(stub: Stub, script: str, said: str) -> None:
    with pytest.raises(XlError, match=said):
        stub(script).run("info")


def test_a_host_is_asked_each_question_once(tmp_path: Path) -> None:
    path, seen = tmp_path / "xl", tmp_path / "seen"
    path.write_text(f'#!/bin/sh\necho "$*" >> {seen}\n[ "$1" = info ] || exit 3\necho release : 6.1\n')
    path.chmod(0o755)
    xl = AskedOnce(str(path))
    for _turn in range(2):
        assert xl.info() == {"release": "6.1"}
        with pytest.raises(XlError, match=r"failed \(3\)"):
            xl.run("list")
        with pytest.raises(XlError, match=r"failed \(3\)"):
            xl.run("create", "-n", "/a.cfg")
    assert seen.read_text().splitlines() == ["info", "list", "create -n /a.cfg", "create -n /a.cfg"]


def test_a_command_without_end_is_ended(stub: Stub) -> None:
    begun = time.monotonic()
    with pytest.raises(XlError, match=r"no end within 0\.2 s"):
        stub("exec sleep 60", timeout=0.2).run("info")
    assert time.monotonic() - begun < 30


def test_arguments_are_never_taken_apart(stub: Stub, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    xl = stub(f'for word in "$@"; do echo "<$word>" >> {seen}; done; read line && echo input >> {seen}; true')
    xl.block_attach(3, "vdev=xvda,target=/dev/a b;$(rm)")
    xl.block_detach(3, 51712)
    assert seen.read_text().split("\n")[:6] == [
        "<block-attach>", "<3>", "<vdev=xvda,target=/dev/a b;$(rm)>", "<block-detach>", "<3>", "<51712>",
    ]  # fmt: skip
    assert "input" not in seen.read_text()


@pytest.mark.parametrize("path", ["/nonexistent/xl", "no-such-command-anywhere"])
def test_no_xl(path: str) -> None:
    xl = Xl(path)
    assert not xl.present
    with pytest.raises(XlError, match="no xl"):
        xl.run("info")


def test_an_xl_that_cannot_be_started(tmp_path: Path) -> None:
    path = tmp_path / "xl"
    path.write_text("#!/no/such/interpreter\n")
    path.chmod(0o755)
    with pytest.raises(XlError, match="cannot be started"):
        Xl(str(path)).run("info")


@pytest.mark.parametrize(
    ("sysfs", "script", "release"),
    [
        (("4", "17"), "exit 1", "4.17"),
        (None, "echo 'xen_major : 4'; echo 'xen_minor : 20'; echo 'xen_extra : .1'", "4.20"),
        (None, "echo 'xen_major : 4'", None),
        (None, "echo xen_major=4; echo xen_minor=20", None),
        (None, "exit 1", None),
        (("four", "17"), "echo 'xen_major : 4'; echo 'xen_minor : 19'", "4.19"),
    ],
)
def test_the_release(
    stub: Stub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sysfs: tuple[str, str] | None,
    script: str,
    release: str | None,
) -> None:
    monkeypatch.setattr(_xl, "_SYSFS", str(tmp_path / "version"))
    if sysfs is not None:
        (tmp_path / "version").mkdir()
        for name, text in zip(("major", "minor"), sysfs):
            (tmp_path / "version" / name).write_text(f"{text}\n")
    assert host_release(stub(script)) == release


def test_the_release_of_a_host_without_xl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_xl, "_SYSFS", str(tmp_path))
    assert host_release(Xl("/nonexistent/xl")) is None
