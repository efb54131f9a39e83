# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much memory the module takes for many disks: a child process that runs it and tells its own peak."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ansible_runs import COLLECTIONS

from benchmarks.figures import Figure
from benchmarks.scene import accepted, declared, scene

LIMIT = 100.0

#: The module as Ansible would start it: its options as JSON, its result on standard output.
CHILD = """
import io, resource, sys
sys.path.insert(0, sys.argv[1])
from ansible.module_utils import basic
with open(sys.argv[2], "rb") as file:
    basic._ANSIBLE_ARGS = file.read()
basic._ANSIBLE_PROFILE = "legacy"
import ansible_collections.xen.virtio.plugins.modules.disk as disk
try:
    disk.main()
except SystemExit:
    pass
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def memory(disks: int) -> Iterator[Figure]:
    """The peak resident size of the process: interpreter, Ansible's module code, ours, options and result."""
    with scene("c", disks) as scenery, tempfile.TemporaryDirectory(prefix="xen-bench-") as folder:
        options = Path(folder) / "options.json"
        arguments = {
            "guests": declared(scenery.guests, disks),
            "accept": accepted(scenery.guests),
            "wait": False,
            "xen": "4.20",
            "_ansible_diff": True,
        }
        options.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": arguments}))
        for what, changed in (("provisioning", True), ("changing nothing", False)):
            done = scenery.host.run(
                [sys.executable, "-c", CHILD, str(COLLECTIONS), str(options)], timeout=600
            )
            *_blank, answer, told = filter(None, done.stdout.splitlines())
            result = json.loads(answer)
            if result.get("failed") or result["changed"] is not changed:
                raise RuntimeError(f"the module said {answer[:500]}")
            yield Figure(
                f"memory of the module, {disks} disks",
                f"{what}, with --diff",
                int(told.split()[1]) / 1024,
                limit=LIMIT,
                unit="MB",
            )
