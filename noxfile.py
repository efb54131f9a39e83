# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``make matrix``: unit tests and ansible-test sanity on every ansible-core and Python that the collection is for.

``nox --list`` names the sessions; ``make matrix ARGS="-s units-2.21-3.13"`` runs one. A Python that this machine
does not have is told, and what needs it counts as skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import nox

ROOT = Path(__file__).resolve().parent

#: ansible-core → the Pythons of a controller to test it on.
CORES = {"2.18": ("3.11",), "2.19": ("3.11",), "2.20": ("3.12", "3.13"), "2.21": ("3.12", "3.13")}
#: Pythons of boards, and for those too old for a controller of ours the ansible-core that finds the collection there.
TARGETS = ("3.9", "3.10", "3.11", "3.12", "3.13")
OLD = {"3.9": "2.15", "3.10": "2.17"}

nox.options.error_on_missing_interpreters = False
nox.options.default_venv_backend = "virtualenv"
nox.options.envdir = str(ROOT / ".cache/nox")


@cache
def interpreter(version: str) -> str | None:
    """A Python of this version that runs: on PATH, or one of pyenv's."""
    folders = os.environ.get("PATH", "").split(os.pathsep)
    if shutil.which("pyenv"):
        done = subprocess.run(["pyenv", "root"], capture_output=True, text=True, check=False)
        folders += [
            str(path) for path in sorted(Path(done.stdout.strip(), "versions").glob(f"{version}.*/bin"))
        ]
    for folder in folders:
        program = Path(folder, f"python{version}")
        told = [str(program), "-c", "import ensurepip, sys, venv; print(sys.version)"]
        if program.exists() and subprocess.run(told, capture_output=True, check=False).returncode == 0:
            return str(program)
    return None


def found(version: str) -> str:
    """It, or a name that nox does not find either, and says so."""
    return interpreter(version) or f"python{version}"


def name_of(kind: str, core: str, python: str) -> str:
    return f"{kind}-{core}-{python}"


def units(session: nox.Session, core: str, tests: list[str]) -> None:
    """Unit tests on an ansible-core."""
    session.install("-r", "tests/requirements-units.txt", f"ansible-core~={core}.0")
    session.run(
        *("python", "-m", "pytest", "-q", *tests, *session.posargs),
        env={"ANSIBLE_HOME": str(ROOT / ".cache/ansible"), "LC_ALL": "C.UTF-8"},
    )


def sanity(session: nox.Session, core: str, python: str) -> None:
    """ansible-test sanity of an ansible-core, over all Pythons of boards that there are here."""
    session.install(f"ansible-core~={core}.0")
    targets = [version for version in TARGETS if interpreter(version)]
    missing = [version for version in TARGETS if version not in targets]
    if missing:
        session.warn(f"no Python {', '.join(missing)} on this machine: not looked at")
    places = os.pathsep.join(str(Path(found(version)).parent) for version in targets)
    session.run(
        *("sh", "tests/sanity/run.sh"),
        *(f"--target-python={version}" for version in targets),
        env={
            "ONLY": "ansible-test",
            "BIN": session.bin,
            "CACHE": str(ROOT / ".cache/matrix" / name_of("sanity", core, python)),
            "PATH": f"{session.bin}{os.pathsep}{places}{os.pathsep}{os.environ['PATH']}",
            "LC_ALL": "C.UTF-8",
        },
        external=True,
    )


#: What Galaxy's importer says of what is not as it should be.
COMPLAINTS = ("ERROR", "WARNING", "CRITICAL")


@nox.session(name="importer", python=found("3.11"))
def importer(session: nox.Session) -> None:
    """Galaxy's own importer over a tarball: the one that is named after ``--``, else the checkout's."""
    session.install("galaxy-importer>=0.4.30", "ansible-core~=2.19.0")
    folder = Path(session.create_tmp())
    if session.posargs:
        tarball = Path(session.posargs[0])
    else:
        session.run(
            "ansible-galaxy", "collection", "build", "--force", "--output-path", str(folder), str(ROOT)
        )
        (tarball,) = folder.glob("*.tar.gz")
    session.chdir(folder)
    said = session.run(
        *("python", "-m", "galaxy_importer.main", str(tarball)),
        silent=True,
        env={
            "GALAXY_IMPORTER_CHECK_REQUIRED_TAGS": "true",
            # make sanity runs it, with more to say, and without the importer's limit of three minutes
            "GALAXY_IMPORTER_RUN_ANSIBLE_LINT": "false",
            "PATH": f"{session.bin}{os.pathsep}{os.environ['PATH']}",
        },
    )
    complaints = [line for line in str(said).splitlines() if line.startswith(COMPLAINTS)]
    if complaints or "Importer processing completed successfully" not in str(said):
        session.error("\n".join(["Galaxy's importer has something to say:", *(complaints or [str(said)])]))
    print(f"importer: nothing to say about {tarball.name}")


for _core, _pythons in CORES.items():
    for _python in _pythons:

        @nox.session(name=name_of("units", _core, _python), python=found(_python))
        def _units(session: nox.Session, core: str = _core) -> None:
            units(session, core, ["tests/unit"])

        @nox.session(name=name_of("sanity", _core, _python), python=found(_python))
        def _sanity(session: nox.Session, core: str = _core, python: str = _python) -> None:
            sanity(session, core, python)


for _python, _core in OLD.items():

    @nox.session(name=f"units-board-{_python}", python=found(_python))
    def _board(session: nox.Session, core: str = _core) -> None:
        """What runs on boards, on a Python that only boards have."""
        units(session, core, ["tests/unit/plugins/module_utils", "tests/unit/plugins/modules"])
