# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls of the modules checkpoint and guest_watch on a lab host, without Ansible around them."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from guest_calls import COLLECTIONS, LONGEST
from lab import LabHost

_HEAD = """\
import json, sys
sys.path.insert(0, {collections!r})
from ansible_collections.xen.virtio.plugins.module_utils import {module} as module

options = json.load(sys.stdin)
check = options.pop("check", False)
"""

CHECKPOINT = (
    _HEAD
    + """
params = {{name: option.get("default") for name, option in module.CHECKPOINT_ARGUMENT_SPEC.items()}}
params.update(options)
try:
    call = module._Call(params, check=check)
    result = {{"failed": False, **call.run(), "warnings": call.warnings}}
except module.ENDINGS as error:
    result = {{"failed": True, "msg": str(error), "changed": False, "checkpoint": None, "guests": [], "lines": []}}
print(json.dumps(result))
"""
)

WATCH = (
    _HEAD
    + """
params = {{name: option.get("default") for name, option in module.GUEST_WATCH_ARGUMENT_SPEC.items()}}
params.update(options)
try:
    result = module.gather(params)
except module.ENDINGS as error:
    result = {{"healthy": False, "msg": str(error), "guests": []}}
print(json.dumps(result))
"""
)


def start(host: LabHost, code: str, module: str, **options: Any) -> subprocess.Popen[str]:
    """Begin a call on a host; the result comes on its standard output."""
    process = subprocess.Popen(
        [host.python, "-c", code.format(collections=str(COLLECTIONS), module=module)],
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


def result_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The result of a call that was begun."""
    out, err = process.communicate(timeout=LONGEST)
    assert process.returncode == 0, err
    result: dict[str, Any] = json.loads(out)
    return result


def checkpoint(host: LabHost, state: str = "present", name: str = "before", **options: Any) -> dict[str, Any]:
    """One call of checkpoint; the result as Ansible would get it."""
    options = {"name": name, "state": state, "settle": 0.1, "shutdown_timeout": 5, **options}
    return result_of(start(host, CHECKPOINT, "_checkpoint_module", **options))


def watching(host: LabHost, *guests: str, **options: Any) -> subprocess.Popen[str]:
    """Begin a call of guest_watch."""
    return start(host, WATCH, "_guest_watch_module", guests=list(guests), **{"interval": 0.1, **options})


def watch(host: LabHost, *guests: str, **options: Any) -> dict[str, Any]:
    """One call of guest_watch."""
    return result_of(watching(host, *guests, **options))


def rows(result: dict[str, Any]) -> dict[str, str]:
    """Guest → what became of it."""
    return {one["name"]: one["action"] for one in result["guests"]}
