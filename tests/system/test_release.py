# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The release playbook in a clone: what it makes, and what it refuses. What it checks before are other tests."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml
from ansible_runs import ROOT, environment

VERSION = yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"]


def git(clone: Path, *arguments: str) -> str:
    author = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.org")
    done = subprocess.run(["git", *author, *arguments], cwd=clone, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The files of this checkout as one commit on main, with whatever is not committed here."""
    made = tmp_path / "clone"
    made.mkdir()
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    names = [name for name in listed.stdout.split(b"\0") if name and (ROOT / name.decode()).exists()]
    packed = subprocess.run(
        ["tar", "--create", "--null", "--files-from=-"],
        cwd=ROOT,
        input=b"\0".join(names),
        check=True,
        capture_output=True,
    )
    subprocess.run(["tar", "--extract"], cwd=made, input=packed.stdout, check=True)
    git(made, "init", "--quiet", "--initial-branch=main")
    git(made, "config", "user.name", "Somebody")
    git(made, "config", "user.email", "somebody@example.org")
    git(made, "add", "--all")
    git(made, "commit", "--quiet", "--message=All of it")
    return made


def release(clone: Path, version: str = VERSION, *flags: str) -> subprocess.CompletedProcess[str]:
    variables = {"release_version": version, "release_checks": [], "release_importer": False}
    return subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            *("release/release.yml", "-e", json.dumps(variables), *flags),
        ],
        cwd=clone,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env=environment(clone.parent),
        stdin=subprocess.DEVNULL,
    )


def test_a_release(clone: Path) -> None:
    before = git(clone, "rev-parse", "HEAD")
    looked = release(clone, VERSION, "--check")
    assert looked.returncode == 0, looked.stdout + looked.stderr
    assert (git(clone, "rev-parse", "HEAD"), git(clone, "tag"), git(clone, "status", "--short")) == (
        before,
        "",
        "",
    )

    done = release(clone)
    assert done.returncode == 0, done.stdout + done.stderr
    assert git(clone, "tag") == VERSION
    assert git(clone, "log", "--format=%s", "-1", VERSION) == f"Release {VERSION}"
    assert git(clone, "status", "--short") == ""
    released = yaml.safe_load((clone / "changelogs/changelog.yaml").read_text())["releases"]
    assert list(released) == [VERSION]
    assert not list((clone / "changelogs/fragments").glob("*.yml"))
    assert f"v{VERSION}" in (clone / "CHANGELOG.rst").read_text()
    with tarfile.open(clone / f".cache/release/xen-virtio-{VERSION}.tar.gz") as tarball:
        names = set(tarball.getnames())
    assert {"MANIFEST.json", "CHANGELOG.rst", "plugins/modules/disk.py"} <= names
    assert not {name for name in names if name.startswith(("tests", "release", ".cache"))}

    again = release(clone)
    assert again.returncode != 0
    assert f"There is a tag {VERSION} already: name the next version." in again.stdout


def test_what_is_refused(clone: Path) -> None:
    for version in ("9.9.9", "v0.1", ""):
        assert "name a version like 0.2.0" in " ".join(release(clone, version).stdout.split())
    git(clone, "checkout", "--quiet", "-b", "elsewhere")
    assert "This is elsewhere, and releases are made on main." in release(clone).stdout
    (clone / "plugins/new.py").touch()
    assert "Not committed: ?? plugins/new.py" in release(clone).stdout
    assert git(clone, "tag") == ""
