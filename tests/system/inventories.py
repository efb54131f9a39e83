# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the real ansible-inventory over hosts, with sources of the plugin xen.virtio.domains after them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from ansible_runs import environment
from role_runs import CONNECTIONS


class Listed:
    """What ``ansible-inventory --list`` said."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        assert done.returncode == 0, done.stdout + done.stderr
        self.stderr = " ".join(done.stderr.split())
        self.tree: dict[str, Any] = json.loads(done.stdout)

    @property
    def hosts(self) -> dict[str, dict[str, Any]]:
        """The hosts' variables."""
        found: dict[str, dict[str, Any]] = self.tree["_meta"]["hostvars"]
        return {name: plain(said) for name, said in found.items()}

    def domain(self, host: str) -> dict[str, Any]:
        """The variable xen_domain of a host."""
        found: dict[str, Any] = self.hosts[host]["xen_domain"]
        return found

    def group(self, name: str) -> list[str]:
        """The hosts of a group, none where there is no such group."""
        return sorted(self.tree.get(name, {}).get("hosts", []))

    @property
    def everyone(self) -> set[str]:
        """All hosts."""
        return {host for group in self.tree.values() for host in group.get("hosts", [])}


def plain(value: Any) -> Any:
    """Values as they are; older releases of ansible-core wrap those that are no templates."""
    if isinstance(value, dict):
        if set(value) == {"__ansible_unsafe"}:
            return value["__ansible_unsafe"]
        return {key: plain(one) for key, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list) else value


def source(folder: Path, name: str = "domains.xen.yml", **options: Any) -> Path:
    """A source of the plugin."""
    path = folder / name
    path.write_text(json.dumps({"plugin": "xen.virtio.domains", **options}))
    return path


def run_inventory(
    folder: Path, *sources: Path, arguments: tuple[str, ...] = (), timeout: float = 120, **more: str
) -> subprocess.CompletedProcess[str]:
    """``ansible-inventory --list``; ``more`` are variables of its environment."""
    program = str(Path(sys.executable).with_name("ansible-inventory"))
    given = [word for path in sources for word in ("-i", str(path))]
    return subprocess.run(
        [program, *given, "--list", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=folder,
        env={**environment(folder), "ANSIBLE_CONNECTION_PLUGINS": str(CONNECTIONS), **more},
        stdin=subprocess.DEVNULL,
    )


def listed(folder: Path, *sources: Path, **options: Any) -> Listed:
    """What it lists."""
    return Listed(run_inventory(folder, *sources, **options))
