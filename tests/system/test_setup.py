# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``tests/setup.sh``: one sentence where it cannot prepare a machine, and nothing at all where nothing is missing."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("sh", "dirname", "cut", "cat", "mkdir", "readlink", "sha256sum", "flock", "ln", "rm")


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A PATH with a few programs, on which no Debian package is installed."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    script(folder / "dpkg-query", "exit 1")
    script(folder / "apt-get", "echo apt-get was run >&2; exit 100")
    script(folder / "id", "echo 0")
    return folder


def script(path: Path, text: str) -> None:
    path.write_text(f"#!{shutil.which('sh')}\n{text}\n")
    path.chmod(0o755)


def setup(purpose: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": str(path), "HOME": "/nonexistent"} if path is not None else None
    return subprocess.run(
        [shutil.which("sh") or "sh", str(ROOT / "tests/setup.sh"), purpose],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """The one sentence."""
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("make demo ")
    return done.stderr


def test_an_ordinary_user_is_told_what_root_has_to_install(programs: Path) -> None:
    script(programs / "id", "echo 1000")
    told = refused(setup("demo", programs))
    assert "have root run: apt-get install --no-install-recommends xen-utils-4.17 " in told


def test_a_machine_without_apt_is_no_debian(programs: Path) -> None:
    (programs / "apt-get").unlink()
    assert "runs real parts of Xen 4.17 out of Debian 12 (bookworm)" in refused(setup("demo", programs))


def test_what_apt_says_is_shown_where_it_fails(programs: Path) -> None:
    for name in ("mktemp", "rm"):
        (programs / name).unlink(missing_ok=True)
        (programs / name).symlink_to(shutil.which(name) or name)
    done = setup("demo", programs)
    assert done.returncode == 1
    assert "apt-get was run" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("apt-get could not install xen-utils-4.17 ")


def test_a_prepared_machine_is_left_as_it_is() -> None:
    if not (ROOT / ".venv/bin/python").exists():
        pytest.skip("these tests run with another Python than the checkout's own .venv")
    setup("test")
    done = setup("test")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
