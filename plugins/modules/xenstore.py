#!/usr/bin/python
# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A subtree of xenstore as declared."""

from __future__ import annotations

DOCUMENTATION = r"""
module: xenstore
short_description: Keep subtrees of xenstore as declared
version_added: 0.1.0
description:
  - Compares declared nodes, their values and their permissions with what stands in xenstore, and writes what differs.
  - Everything is read and written in one transaction, so that others see all of it or nothing.
  - Does not know what the nodes mean. For disks there is M(xen.virtio.disk).
extends_documentation_fragment:
  - xen.virtio.attributes
  - xen.virtio.attributes.group
  - xen.virtio.store
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  path:
    description:
      - The absolute path of the node to which the other options apply, of letters, digits and C(-/_@).
      - It is created where it is not there.
    type: str
  value:
    description:
      - The value of the node at O(path), a text or an integer. An integer is written in decimal.
      - Booleans and numbers with a point are refused, since YAML changes them on their way; quote them.
      - Left out, the value is left alone. A new node then has an empty one.
    type: raw
  base64:
    description: The value of the node at O(path), where it is no text, in base64.
    type: str
  perms:
    description:
      - The permissions of the node at O(path), in one of three forms.
      - A text such as V(n0,r5), as xenstore-chmod takes it. The first is the owner, who may do everything, with what
        every domain not listed may do; V(n) is nothing, V(r) read, V(w) write, V(b) both.
      - A list of the same, V([n0, r5]).
      - A mapping with C(owner) (domid), C(default) (V(none), V(read), V(write) or V(both), by default V(none)) and
        lists of domids C(read), C(write), C(both) and C(none).
      - Left out, the permissions are left alone. A new node then has those of the node above it.
    type: raw
  nodes:
    description:
      - The nodes below O(path). Nodes that are not declared are left alone, unless O(exclusive=true).
      - "A mapping, nested or flat: keys are names, or paths with slashes below the node, or absolute paths inside of it.
        A text or an integer is the node's value, a mapping is a node with children."
      - In a mapping C(.value), C(.base64), C(.perms) and C(.state) are not children but speak of the node itself. No
        node of xenstore can have such a name.
      - Or a list of mappings with C(path), and C(value), C(base64) (which counts where both are given), C(perms) and
        C(state) as wanted, such as RV(xen.virtio.xenstore_info#module:nodes).
    type: raw
  recurse:
    description: Whether permissions also hold for the declared nodes below that have none of their own.
    type: bool
    default: false
  exclusive:
    description:
      - Whether nodes below O(path) that are not declared are removed.
      - Refused for nodes that other domains and the toolstack live on, such as V(/), V(/local/domain) and V(/libxl).
    type: bool
    default: false
  state:
    description:
      - V(present) has the nodes as declared.
      - V(absent) removes O(path) and all below it. Refused for what O(exclusive) is refused for.
    type: str
    choices: [present, absent]
    default: present
  trees:
    description:
      - Several subtrees at once, in one transaction. None may lie in another.
      - Mutually exclusive with O(path).
    type: list
    elements: dict
    suboptions:
      path:
        description: As O(path).
        type: str
        required: true
      value:
        description: As O(value).
        type: raw
      base64:
        description: As O(base64).
        type: str
      perms:
        description: As O(perms).
        type: raw
      nodes:
        description: As O(nodes).
        type: raw
      recurse:
        description: As O(recurse).
        type: bool
        default: false
      exclusive:
        description: As O(exclusive).
        type: bool
        default: false
      state:
        description: As O(state).
        type: str
        choices: [present, absent]
        default: present
notes:
  - The cost of a transaction grows with the square of its nodes in C xenstored. Some thousand nodes in one task are well.
  - The special nodes C(@introduceDomain) and C(@releaseDomain) cannot be declared, since their permissions cannot be
    read back from C xenstored.
  - In a domain other than dom0 its own permissions and quotas hold. What they forbid is an error, and nothing is written.
seealso:
  - module: xen.virtio.xenstore_info
  - module: xen.virtio.disk
author:
  - xen.virtio contributors (@xen-virtio)
"""

EXAMPLES = r"""
- name: A backend's status, readable by everybody
  xen.virtio.xenstore:
    path: /local/domain/1/drivers/virtio-disk
    perms: r1
    nodes:
      status: ready
      launcher: "0.1.0"

- name: A tree with values, children and permissions
  xen.virtio.xenstore:
    path: /local/domain/5/data
    perms: {owner: 5, read: [0]}
    recurse: true
    nodes:
      board: b07
      slots:
        .value: "2"
        "0": {disk: /dev/mmcblk0p3, mode: w}
        "1": {disk: /dev/mmcblk0p4, mode: r}
      slots/2: {.state: absent}

- name: The same nodes as a list, and nothing else there
  xen.virtio.xenstore:
    path: /local/domain/5/data
    exclusive: true
    nodes:
      - {path: board, value: b07, perms: "n5,r0"}
      - {path: slots, value: "2"}
      - {path: slots/0/disk, value: /dev/mmcblk0p3}

- name: Only a permission
  xen.virtio.xenstore:
    path: /local/domain/5/data/board
    perms: n0,r5

- name: Two trees, one gone and one there, at once
  xen.virtio.xenstore:
    trees:
      - {path: /local/domain/5/data/old, state: absent}
      - {path: /local/domain/5/data/new, value: "1"}
"""

RETURN = r"""
nodes:
  description: The nodes that were created, changed or removed, or would be in check mode.
  returned: success
  type: list
  elements: dict
  contains:
    path:
      description: The absolute path.
      type: str
      sample: /local/domain/5/data/board
    action:
      description: V(created), V(changed) or V(removed).
      type: str
      sample: changed
    what:
      description: For a changed node what of it changed, V(value) or V(perms).
      type: list
      elements: str
      sample: [value]
msg:
  description: One line on what happened or what is wrong. An error names the operation and the node.
  returned: always
  type: str
  sample: "nodes: 2 created, 1 changed"
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.xen.virtio.plugins.module_utils._xenstore_module import (
    ARGUMENT_SPEC,
    CONSTRAINTS,
    main_xenstore,
)


def main() -> None:
    """Run as a module."""
    main_xenstore(AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True, **CONSTRAINTS))


if __name__ == "__main__":
    main()
