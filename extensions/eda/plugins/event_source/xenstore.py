# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Events out of a host's xenstore for ansible-rulebook: domains, their disks and how these are, chosen nodes."""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

DOCUMENTATION = r"""
---
short_description: What happens in a host's xenstore
description:
  - Watches a host's xenstore, and tells of domains that come and go, of disks whose health changes, and of nodes below
    paths that are named.
  - At first it tells of all that there is, and then of what changes. It goes on when xenstored is restarted, and then
    tells what is another than before.
  - Texts in events may have been written by a guest. None of them is a template to Ansible; do not make one a command
    or a path.
options:
  disks:
    description: Tell of virtio and xen disks, with their health and where they differ from what they should be.
    type: bool
    default: true
  domains:
    description: Tell of domains.
    type: bool
    default: true
  paths:
    description: Subtrees whose nodes to tell of; at most 10000 nodes.
    type: list
    elements: str
    default: []
  socket:
    description:
      - The socket of xenstored. Found by itself where neither this nor O(xenbus) is said.
      - Of another host, one that leads there, as made by C(ssh -N -L ./b07.sock:/run/xenstored/socket root@b07).
    type: path
  xenbus:
    description: The device in its place, in a domain that is not dom0.
    type: path
  host:
    description: The host's name in the inventory. Playbooks that an event starts are then limited to it.
    type: str
  delay:
    description: Seconds from the first news to the look, which tells of all that happened meanwhile.
    type: float
    default: 0.5
  settle:
    description: Seconds after which a disk in state 2 must still be there, to be attached.
    type: float
    default: 0.5
  timeout:
    description: Seconds to wait for an answer of the store.
    type: float
    default: 10
  retry:
    description: Seconds between attempts to reach a store that is lost.
    type: float
    default: 5
  userdata_dir:
    description: libxl's folder of domain records, where this runs on the host itself.
    type: path
    default: /var/lib/xen
"""

EXAMPLES = r"""
- name: Disks of this host
  hosts: all
  sources:
    - name: b07
      xen.virtio.xenstore:
        socket: /run/boards/b07.sock
        host: b07
  rules:
    - name: A disk is not as it should be
      condition: event.xenstore.kind == "disk" and event.xenstore.health == "drifted"
      action:
        run_playbook:
          name: xen.virtio.site
"""

#: What runs here has no place of its own among Python's packages: ansible-rulebook runs this file by its path.
_PACKAGE = "xen_virtio_plugins"


def _own_package() -> None:
    """Make the collection's ``plugins`` importable, wherever the collection lies."""
    if _PACKAGE not in sys.modules:
        spec = ModuleSpec(_PACKAGE, None, is_package=True)
        spec.submodule_search_locations = [str(Path(__file__).absolute().parents[4] / "plugins")]
        sys.modules[_PACKAGE] = module_from_spec(spec)


if TYPE_CHECKING:
    from ansible_collections.xen.virtio.plugins.plugin_utils._watcher import Options, Watcher
else:
    _own_package()
    from xen_virtio_plugins.plugin_utils._watcher import Options, Watcher


async def main(queue: asyncio.Queue[dict[str, Any]], args: dict[str, Any]) -> None:
    """What ansible-rulebook runs: events into the queue until it is cancelled. Raises OptionError."""
    watcher = Watcher(Options.of(args))
    thread = ThreadPoolExecutor(1, "xenstore")  # a session with the store is for one thread, its end included
    try:
        while True:
            for event in await asyncio.get_running_loop().run_in_executor(thread, watcher.step):
                await queue.put(event)
    finally:
        watcher.stop()
        thread.submit(watcher.close)
        thread.shutdown(wait=False)
