#!/usr/bin/python
# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Have no virtio-disk daemons beside the launcher's."""

from __future__ import annotations

DOCUMENTATION = r"""
module: backend_foreign
short_description: Have no virtio-disk daemons beside those of this collection's launcher
version_added: 0.1.0
description:
  - A C(virtio-disk) that somebody else started, as the common unit does without C(-d) and with C(Restart=always), sees all
    disks of the domain, takes up what it likes and destroys disks that two daemons have taken up. So the launcher starts
    nothing beside one.
  - Ends those that serve no disk, and masks the units that start them. Refuses, before anything is changed, where one of
    them serves a disk, and names it and the guest.
  - Of a daemon that was started by hand only its process is ended, never the unit of the login or of cron that it is in.
  - What was masked is noted, together with unit files that lay in a mask's place, so that O(state=restored) undoes it.
extends_documentation_fragment:
  - xen.virtio.attributes
  - xen.virtio.attributes.group
  - xen.virtio.store
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
  idempotent: {support: full}
options:
  state:
    description:
      - V(absent) has no such daemons, and nothing that starts one.
      - V(restored) takes the masks away again that this module made. It starts nothing.
    type: str
    choices: [absent, restored]
    default: absent
  daemon:
    description:
      - A path of the daemon, where that is not called C(virtio-disk); processes of that name count as daemons as well.
    type: path
  units:
    description:
      - Services to mask whether they are there or not, such as the one that a package is about to bring.
      - Others are masked where their files start a daemon.
    type: list
    elements: str
    default: []
  disrupt:
    description:
      - End also a daemon that serves a guest. The guest loses its disk, until it is created anew.
    type: bool
    default: false
  config_dir:
    description: Where it is noted, in C(masked), what was masked.
    type: path
    default: /etc/xen-virtio
seealso:
  - module: xen.virtio.backend_info
author:
  - xen.virtio contributors (@xen-virtio)
"""

EXAMPLES = r"""
- name: Nothing beside the launcher
  xen.virtio.backend_foreign:
    units: [virtio-disk.service]

- name: As it was before
  xen.virtio.backend_foreign:
    state: restored
"""

RETURN = r"""
foreign:
  description: The daemons that were found, as in RV(xen.virtio.backend_info#module:foreign).
  returned: always
  type: list
  elements: dict
  sample:
    - {pid: 81, unit: virtio-disk.service, command: /usr/bin/virtio-disk, devid: null, idle: true, serves: []}
stopped:
  description: Units that were stopped, or would be in check mode.
  returned: always
  type: list
  elements: str
  sample: [virtio-disk.service]
masked:
  description: Units that were masked, or would be in check mode.
  returned: always
  type: list
  elements: str
  sample: [virtio-disk.service]
ended:
  description: Processes that were ended, or would be in check mode, each with C(pid) and C(command).
  returned: always
  type: list
  elements: dict
  sample: [{pid: 412, command: virtio-disk -d 51713}]
restored:
  description: Units whose mask was taken away.
  returned: always
  type: list
  elements: str
  sample: []
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.xen.virtio.plugins.module_utils._foreign_module import (
    BACKEND_FOREIGN_ARGUMENT_SPEC,
    BACKEND_FOREIGN_CONSTRAINTS,
    main_backend_foreign,
)


def main() -> None:
    """Run as a module."""
    main_backend_foreign(
        AnsibleModule(
            argument_spec=BACKEND_FOREIGN_ARGUMENT_SPEC,
            supports_check_mode=True,
            **BACKEND_FOREIGN_CONSTRAINTS,
        )
    )


if __name__ == "__main__":
    main()
