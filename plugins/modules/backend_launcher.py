#!/usr/bin/python
# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The launcher of virtio-disk daemons on a backend host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: backend_launcher
short_description: Have the launcher that gives each virtio disk its daemon
version_added: 0.1.0
description:
  - Puts in place what a domain needs to serve virtio disks with C(virtio-disk) daemons - the launcher that starts one for
    each disk, the view behind which a daemon sees its own guest alone, their systemd units and the launcher's settings.
  - To be run on the host of a driver domain, or on dom0 where dom0 serves disks. P(xen.virtio.virtio_disk_backend#role) does
    so, and installs the daemon too.
  - Starts, stops and reloads nothing. What it returns says what there is to do. A restart of the launcher leaves all disks
    in use as they are; a daemon goes on with what it was started from until its guest is created anew.
  - Settings take effect with the next daemon that is started, without any restart.
extends_documentation_fragment:
  - xen.virtio.attributes
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
  idempotent: {support: full}
options:
  state:
    description: V(absent) removes all of it. Stop the launcher and its units before.
    type: str
    choices: [present, absent]
    default: present
  daemon:
    description:
      - The daemon's absolute path. Needed with O(state=present). Links are followed whenever a daemon is started, so that a
        link may be switched to another version.
    type: path
  version:
    description: The daemon's version, to be told with each disk that it serves.
    type: str
    default: ""
  view:
    description:
      - Whether each daemon sees its own guest alone.
      - Without it the daemon's old limits hold, the launcher never runs two with one device number, and a guest waits
        while one with a higher domid is there.
    type: bool
    default: true
  arguments:
    description: More options of the daemon. The only one that there is, V(-l), is for guests without grants.
    type: list
    elements: str
    default: []
  shared_targets:
    description:
      - Storage that several guests may write to, as absolute paths.
      - Of any other storage that a guest has writable no second daemon is started.
    type: list
    elements: str
    default: []
  served_within:
    description: Seconds in which a running daemon has to take up its disk, V(3) where left out.
    type: float
  settle:
    description: Seconds that a disk has to stay in use to count as served, V(0.5) where left out.
    type: float
  size_interval:
    description: Seconds between looks at the sizes of served storage, V(60) where left out.
    type: float
  unit_options:
    description:
      - What daemons and launcher may use, by names as follows.
      - V(memory_max), V(memory_high), V(cpu_weight), V(cpu_quota), V(io_weight), V(nice), V(oom_score_adjust) (V(-500) by
        default) and V(tasks_max) are of each disk's unit.
      - V(slice_memory_max), V(slice_cpu_weight), V(slice_cpu_quota) and V(slice_io_weight) are of all disks' units together.
      - V(launcher_memory_max) and V(launcher_nice) are the launcher's.
      - V(sandbox) (V(true) by default) says whether units are confined; the units themselves say to what, and why.
      - A change takes effect with the next unit that is started.
    type: dict
    default: {}
  python:
    description: The Python, 3.9 or later, that runs launcher and views; the system's own where left out.
    type: path
  lib_dir:
    description: Where launcher and view are put.
    type: path
    default: /usr/local/lib/xen-virtio
  unit_dir:
    description: Where the systemd units are put.
    type: path
    default: /etc/systemd/system
  config_dir:
    description: Where the launcher's settings are put, as C(backend.json).
    type: path
    default: /etc/xen-virtio
  command_dir:
    description: Where the command C(virtio-disk-launcher) is put, whose C(--status) shows how things are.
    type: path
    default: /usr/local/sbin
seealso:
  - module: xen.virtio.backend_info
  - module: xen.virtio.disk_info
author:
  - xen.virtio contributors (@xen-virtio)
"""

EXAMPLES = r"""
- name: The launcher for a daemon that the image brings
  xen.virtio.backend_launcher:
    daemon: /usr/bin/virtio-disk
    unit_options: {memory_max: 64M, nice: -5}
  register: launcher

- name: Units anew
  ansible.builtin.systemd_service:
    daemon_reload: true
  when: launcher.units_changed

- name: The launcher as it is now
  ansible.builtin.systemd_service:
    name: virtio-disk-launcher.service
    state: "{{ 'restarted' if launcher.launcher_changed else 'started' }}"
    enabled: true
"""

RETURN = r"""
launcher_changed:
  description: Whether a launcher that runs has to be restarted to be what is installed.
  returned: success
  type: bool
  sample: false
units_changed:
  description: Whether systemd has to read its units again.
  returned: success
  type: bool
  sample: false
files:
  description: The files that are different now.
  returned: success
  type: list
  elements: str
  sample: [/etc/xen-virtio/backend.json]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.xen.virtio.plugins.module_utils._backend_launcher_module import (
    ARGUMENT_SPEC,
    CONSTRAINTS,
    main_backend_launcher,
)


def main() -> None:
    """Run as a module."""
    main_backend_launcher(AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True, **CONSTRAINTS))


if __name__ == "__main__":
    main()
