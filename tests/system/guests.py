# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests of a lab host as xl configurations, written by hand: never with the product's own code."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab import LabHost

BOUND = 30.0  # seconds: generous, only to end a test that would hang
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def until(condition: Callable[[], bool], bound: float = BOUND) -> bool:
    """Whether the condition comes true before the bound."""
    deadline = time.monotonic() + bound
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.01)
    return True


def virtio_disk(vdev: str = "xvda", target: str = "/dev/vg/a", backend: str | int | None = "DomD") -> str:
    """The disk string of a virtio disk; backend None is dom0, where the target has to be there."""
    words = ["backendtype=standalone", "specification=virtio", f"vdev={vdev}", f"target={target}"]
    return ",".join([*([] if backend is None else [f"backend={backend}"]), *words])


def config_text(host: LabHost, name: str = "guest", disks: int | list[str] = 0, **options: Any) -> str:
    """A configuration that xl accepts.

    Args:
        host: whose kernel it boots.
        name: the guest's.
        disks: so many virtio disks of DomD (/dev/vg/<name>-a as xvda, …), or disk strings.
        options: more settings; a text is quoted, None leaves a setting out.
    """
    if isinstance(disks, int):
        disks = [virtio_disk(f"xvd{letter}", f"/dev/vg/{name}-{letter}") for letter in LETTERS[:disks]]
    settings: dict[str, object] = {"name": name, "type": "pvh", "kernel": host.kernel, "memory": 64}
    settings |= {"disk": disks} if disks else {}
    return "".join(f"{key} = {value!r}\n" for key, value in (settings | options).items() if value is not None)


def write_config(
    host: LabHost,
    name: str = "guest",
    disks: int | list[str] = 0,
    *,
    path: Path | None = None,
    **options: Any,
) -> str:
    """`config_text` in the host's /etc/xen/<name>.cfg; the path as the host has it (``path``: elsewhere)."""
    text = config_text(host, name, disks, **options)
    if path is not None:
        path.write_text(text)
        return str(path)
    (host.root / f"etc/xen/{name}.cfg").write_text(text)
    return f"/etc/xen/{name}.cfg"


def domid_of(host: LabHost, name: str) -> int | None:
    """The domain of that name which lives, by the store and the hypervisor together."""
    for domain in host.hypervisor.domains():
        if not domain.dying and host.read(f"/local/domain/{domain.domid}/name") == name.encode():
            return domain.domid
    return None


def create(host: LabHost, name: str = "guest", disks: int | list[str] = 0, **options: Any) -> int:
    """Create a guest with xl; its domid."""
    host.xl("create", write_config(host, name, disks, **options))
    domid = domid_of(host, name)
    assert domid is not None
    return domid


def xls_daemons(host: LabHost) -> dict[int, str]:
    """The daemons that xl left behind, one a guest: pid and command line."""
    return {pid: command for pid, command in host.processes().items() if " create " in f"{command} "}


def state_letters(host: LabHost, domain: str | int) -> str:
    """The State of ``xl list``."""
    return host.xl("list", f"{domain}").stdout.splitlines()[-1].split()[4]
