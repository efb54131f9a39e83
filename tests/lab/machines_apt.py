# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian packages made on the spot, and a repository of them that a machine's apt finds in a folder."""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from .machines import Machine

SOURCE = "deb [trusted=yes] file:/lab/share/apt ./\n"


def offer(
    machine: Machine, name: str, version: str, files: Mapping[str, Path | str], *, depends: str = ""
) -> Path:
    """A package that the machine's apt can install after ``apt-get update``.

    Args:
        machine: whose /lab/share/apt it lies in, beside those offered before.
        name: of the package.
        version: of it; apt takes the highest.
        files: path in the machine -> a file of ours, or a text that becomes a script (mode 0755 both).
        depends: the field Depends.
    """
    folder = machine.share / "apt"
    folder.mkdir(exist_ok=True)
    architecture = machine.run(["dpkg", "--print-architecture"]).stdout.strip()
    control = {
        "Package": name,
        "Version": version,
        "Architecture": architecture,
        "Maintainer": "the lab <root@localhost>",
        **({"Depends": depends} if depends else {}),
        "Description": f"{name}, as a test made it",
    }
    package = folder / f"{name}_{version}_{architecture}.deb"
    with tempfile.TemporaryDirectory() as work:
        tree = Path(work)
        (tree / "DEBIAN").mkdir()
        (tree / "DEBIAN/control").write_text("".join(f"{key}: {value}\n" for key, value in control.items()))
        for path, content in files.items():
            place = tree / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content.encode() if isinstance(content, str) else content.read_bytes())
            place.chmod(0o755)
        tree.chmod(0o755)
        command = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", work, str(package)]
        subprocess.run(command, check=True, capture_output=True)
    with open(folder / "Packages", "a", encoding="utf-8") as index:
        described = {
            **control,
            "Filename": f"./{package.name}",
            "Size": f"{package.stat().st_size}",
            "SHA256": hashlib.sha256(package.read_bytes()).hexdigest(),
        }
        index.write("".join(f"{key}: {value}\n" for key, value in described.items()) + "\n")
    machine.write("/etc/apt/sources.list.d/lab.list", SOURCE)
    return package
