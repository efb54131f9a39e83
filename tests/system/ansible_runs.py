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


def run_ansible(
    folder: Path, python: str, program: str, *arguments: str, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """One of Ansible's programs (``ansible``, ``ansible-playbook``) with an inventory of one host, ``lab``.

    Args:
        folder: for Ansible's own files.
        python: the host's interpreter (``LabHost.python``).
        program: its name.
        arguments: of the command line.
        timeout: seconds after which it has hung.
    """
    inventory = folder / "inventory.json"
    host = {"ansible_connection": "local", "ansible_python_interpreter": python}
    inventory.write_text(json.dumps({"all": {"hosts": {"lab": host}}}))
    return subprocess.run(
        [str(Path(sys.executable).with_name(program)), "-i", str(inventory), *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd="/",
        env=environment(folder),
        stdin=subprocess.DEVNULL,
    )


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
    given = ["-a", json.dumps(arguments)] if arguments else []
    done = run_ansible(folder, python, "ansible", "lab", "-m", module, *given, *flags, timeout=timeout)
    line = done.stdout.find("lab | ")
    assert line >= 0, done.stdout + done.stderr
    brace = done.stdout.index("{", line)
    result: dict[str, Any] = json.JSONDecoder().raw_decode(done.stdout[brace:])[0]
    result["failed"] = done.returncode != 0
    result["stdout"] = done.stdout
    return result
