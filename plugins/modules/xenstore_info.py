#!/usr/bin/python
# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Subtrees of xenstore, read."""

from __future__ import annotations

DOCUMENTATION = r"""
module: xenstore_info
short_description: Read subtrees of xenstore with their permissions
version_added: 0.1.0
description:
  - Reads whole subtrees in one bulk pass, values of any bytes and directories of any size included.
  - It is no snapshot. A store that changes meanwhile may be seen half before and half after.
extends_documentation_fragment:
  - xen.virtio.attributes.info
  - xen.virtio.attributes.group
  - xen.virtio.store
options:
  paths:
    description: The absolute paths of the subtrees.
    type: list
    elements: str
    required: true
    aliases: [path]
  depth:
    description: How many levels below each path to read, V(0) for the node alone. Left out, all of them.
    type: int
  perms:
    description: Whether to read permissions, which costs half as much again.
    type: bool
    default: true
seealso:
  - module: xen.virtio.xenstore
  - module: xen.virtio.disk_info
author:
  - xen.virtio contributors (@xen-virtio)
"""

EXAMPLES = r"""
- name: The names of all domains
  xen.virtio.xenstore_info:
    path: /local/domain
    depth: 2
    perms: false
  register: store

- name: Show them
  ansible.builtin.debug:
    msg: "{{ store.flat | dict2items | selectattr('key', 'match', '.*/name$') | map(attribute='value') }}"

- name: Keep a subtree, to put it back later
  xen.virtio.xenstore_info:
    path: /local/domain/5/data
  register: kept

- name: Put it back, permissions and binary values included
  xen.virtio.xenstore:
    path: /local/domain/5/data
    nodes: "{{ kept.nodes }}"
    exclusive: true
"""

RETURN = r"""
nodes:
  description:
    - All nodes, each before those below it, in the store's own order.
    - O(xen.virtio.xenstore#module:nodes) takes this list.
  returned: success
  type: list
  elements: dict
  contains:
    path:
      description: The absolute path.
      type: str
      sample: /local/domain/5/data/board
    value:
      description: The value as text. Where it is no text, what cannot be shown is written as C(\\xNN).
      type: str
      sample: b07
    base64:
      description: The exact value where it is no text (UTF-8 without control characters), else null.
      type: str
      sample: null
    perms:
      description: The permissions, owner first, null with O(perms=false).
      type: list
      elements: str
      sample: [n5, r0]
flat:
  description: The values as text by absolute path.
  returned: success
  type: dict
  sample: {/local/domain/5/data: "", /local/domain/5/data/board: b07}
nested:
  description:
    - The subtrees by path, each node a mapping of its children, with C(.value) (text), C(.perms), and C(.base64) where the
      value is no text.
    - O(xen.virtio.xenstore#module:nodes) takes such a mapping.
  returned: success
  type: dict
  sample: {/local/domain/5/data: {.value: "", .perms: [n5, r0], board: {.value: b07, .perms: [n5, r0]}}}
missing:
  description: Those of O(paths) that are not there.
  returned: success
  type: list
  elements: str
  sample: []
denied:
  description: Nodes that this connection may not read, left out with all below them.
  returned: success
  type: list
  elements: str
  sample: []
msg:
  description: What is wrong. It names the operation and the node.
  returned: failure
  type: str
  sample: "xenstore CONNECT /run/xenstored/socket: Connection refused (ECONNREFUSED); nobody listens there any more: start xenstored"
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.xen.virtio.plugins.module_utils._xenstore_module import (
    INFO_ARGUMENT_SPEC,
    INFO_CONSTRAINTS,
    main_xenstore_info,
)


def main() -> None:
    """Run as a module."""
    main_xenstore_info(
        AnsibleModule(argument_spec=INFO_ARGUMENT_SPEC, supports_check_mode=True, **INFO_CONSTRAINTS)
    )


if __name__ == "__main__":
    main()
