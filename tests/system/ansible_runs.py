# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run one module with the real Ansible on a lab host, as a task would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
COLLECTIONS = ROOT / ".cache" / "collections"


def environment(folder: Path) -> dict[str, str]:
    """Ansible's settings for a run that touches nothing of the user's."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
        "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
        "ANSIBLE_HOME": str(folder / "ansible"),
        "ANSIBLE_LOCAL_TEMP": str(folder / "ansible/tmp"),
        "ANSIBLE_REMOTE_TEMP": str(folder / "ansible/remote"),
        "ANSIBLE_PIPELINING": "true",
        "ANSIBLE_NOCOLOR": "true",
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "ANSIBLE_DEPRECATION_WARNINGS": "false",
        "PYTHONWARNINGS": "ignore",
    }


def run_module(
    folder: Path, python: str, module: str, arguments: dict[str, Any], *flags: str, timeout: float = 120
) -> dict[str, Any]:
    """One module on one host; its result, with ``failed`` and ``stdout`` (all that Ansible printed).

    Args:
        folder: for Ansible's own files.
        python: the host's interpreter (``LabHost.python``).
        module: its full name.
        arguments: of the task.
        flags: of the command line, such as ``--check`` and ``--diff``.
    """
    inventory = folder / "inventory.json"
    host = {"ansible_connection": "local", "ansible_python_interpreter": python}
    inventory.write_text(json.dumps({"all": {"hosts": {"lab": host}}}))
    command = [str(Path(sys.executable).with_name("ansible")), "lab", "-i", str(inventory), "-m", module]
    done = subprocess.run(
        [*command, *(["-a", json.dumps(arguments)] if arguments else []), *flags],
        check=False,
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd="/",
        env=environment(folder),
        stdin=subprocess.DEVNULL,
    )
    line = done.stdout.find("lab | ")
    assert line >= 0, done.stdout + done.stderr
    brace = done.stdout.index("{", line)
    result: dict[str, Any] = json.JSONDecoder().raw_decode(done.stdout[brace:])[0]
    result["failed"] = done.returncode != 0
    result["stdout"] = done.stdout
    return result
