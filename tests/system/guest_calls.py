# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls of the guest module's own code on a lab host, without Ansible around it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from lab import LabHost

#: Runs inside the host: options in, result out.
_CALL = """\
import json, sys
sys.path.insert(0, {collections!r})
from ansible_collections.xen.virtio.plugins.module_utils import _guest_module as module
from ansible_collections.xen.virtio.plugins.module_utils._argspec import open_store
from ansible_collections.xen.virtio.plugins.module_utils._xl import Xl

options = json.load(sys.stdin)
check = options.pop("check", False)
params = {{name: option.get("default") for name, option in module.ARGUMENT_SPEC.items()}}
params.update(options)
for entry in params["accept"]:
    entry.setdefault("domain", None)
try:
    job = module.job_of(params, check=check, autostart=module._autostart(params))
    with open_store(params) as store:
        found = module.run(job, store, Xl(params["xl_path"]))
    result = {{**found.as_dict(), "failed": found.failed is not None, "warnings": found.warnings}}
except module.ENDINGS as error:
    result = {{"failed": True, "msg": str(error), "changed": False, "guests": [], "findings": [], "diff": []}}
print(json.dumps(result))
"""

COLLECTIONS = Path(__file__).resolve().parents[2] / ".cache" / "collections"

#: Seconds after which a call has hung.
LONGEST = 180.0

#: What every guest of these tests has; any file is a kernel in the lab.
BASE: dict[str, Any] = {"type": "pvh", "kernel": "/etc/hostname", "memory": 64}


def start(host: LabHost, **options: Any) -> subprocess.Popen[str]:
    """Begin a call on a host; the result comes on its standard output."""
    process = subprocess.Popen(
        [host.python, "-c", _CALL.format(collections=str(COLLECTIONS))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(options))
    process.stdin.close()
    process.stdin = None
    return process


def call(host: LabHost, **options: Any) -> dict[str, Any]:
    """One call of the module on a host; the result as Ansible would get it."""
    process = start(host, **options)
    out, err = process.communicate(timeout=LONGEST)
    assert process.returncode == 0, err
    result: dict[str, Any] = json.loads(out)
    return result


def guest(name: str = "linux1", *disks: object, **more: Any) -> dict[str, Any]:
    """A declared guest."""
    return {"name": name, **BASE, "disks": list(disks), **more}


def disk(
    vdev: str = "xvda", target: str = "/dev/vg/a", backend: str | int = "DomD", **more: Any
) -> dict[str, Any]:
    """A declared disk."""
    return {"vdev": vdev, "target": target, "backend": backend, **more}


def actions(result: dict[str, Any]) -> dict[str, str]:
    """Guest → action."""
    return {one["name"]: one["action"] for one in result["guests"]}
