#!/usr/bin/python
# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was read of a fleet as one report."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_audit
short_description: Make a report of what was read on the hosts of a fleet, keep it, and hold it against a limit
version_added: 0.1.0
description:
  - Takes what M(xen.virtio.fleet_info) returned on many hosts, shows it as a table, writes it as C(audit.json) and
    C(audit.html), hands its figures on as the statistic C(xen_audit), and tells how many findings are worse than a limit.
  - The playbook C(xen.virtio.audit) ends with it. It is a task for all hosts together, with C(run_once), and is delegated to the
    host that keeps the files.
  - What an inventory says of each host is read here - C(xen_guests), C(xen_guest_defaults), C(xen_guest_overrides),
    C(xen_driver_domains), C(xen_accept) and C(xen_offline).
  - The filters P(xen.virtio.fleet_report#filter), P(xen.virtio.fleet_table#filter), P(xen.virtio.fleet_page#filter) and
    P(xen.virtio.fleet_exceeding#filter) are its parts for other uses.
extends_documentation_fragment:
  - xen.virtio.attributes
attributes:
  check_mode:
    support: full
    details: In check mode it shows the report and writes nothing.
  diff_mode:
    support: none
  idempotent:
    support: full
    details: Files are written each time and differ at least in their time, which is not told as a change; a folder that is
      made is.
  platform:
    platforms: posix
    details: The host that keeps the files needs no Xen.
options:
  hosts:
    description: The hosts of the report, by their names in the inventory.
    type: list
    elements: str
    required: true
  read:
    description: The name of the variable in which each host registered what M(xen.virtio.fleet_info) returned there.
    type: str
    required: true
  drivers:
    description: The name of the variable in which each host registered a loop of it over its driver domains.
    type: str
    required: true
  dest:
    description: A folder for the files, made where it is not there; nothing is written without it.
    type: path
  max_severity:
    description: The worst that is let pass.
    type: str
    choices: [none, warning, error]
    default: warning
  title:
    description: What the fleet is called.
    type: str
    default: Xen fleet
  files:
    description: What is written, by name, packed. The controller's side of this module fills it in; there is nothing to be set.
    type: dict
    default: {}
seealso:
  - module: xen.virtio.fleet_info
  - plugin: xen.virtio.fleet_report
    plugin_type: filter
author:
  - xen.virtio contributors (@xen-virtio)
"""

EXAMPLES = r"""
- name: Read the host
  xen.virtio.fleet_info:
  register: seen
  ignore_errors: true
  ignore_unreachable: true

- name: Report
  xen.virtio.fleet_audit:
    hosts: "{{ ansible_play_hosts_all }}"
    read: seen
    drivers: nothing
    dest: /srv/audit
  delegate_to: keeper
  run_once: true
  register: audit
"""

RETURN = r"""
summary:
  description: The figures of the report, as P(xen.virtio.fleet_report#filter) has them.
  returned: success
  type: dict
  sample:
    hosts: {total: 1, ok: 0, warning: 1, error: 0, unknown: 0}
    domains: 9
    disks: 5
    findings: {error: 0, warning: 5}
    accepted: 0
    codes: {guest-unmanaged: 5}
    releases: {"4.17": 1}
    worst: warning
exceeding: {description: How many findings are worse than O(max_severity)., returned: success, type: int, sample: 0}
worst:
  description: The first of these, with C(host), C(domain), C(code) and C(message).
  returned: success
  type: list
  elements: dict
  sample: []
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.xen.virtio.plugins.module_utils._fleet_audit_module import (
    FLEET_AUDIT_ARGUMENT_SPEC,
    main_fleet_audit,
)


def main() -> None:
    """Run as a module."""
    main_fleet_audit(AnsibleModule(argument_spec=FLEET_AUDIT_ARGUMENT_SPEC, supports_check_mode=True))


if __name__ == "__main__":
    main()
