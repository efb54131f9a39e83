# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's side of the module fleet_audit: what was read of all hosts, as one report.

Once for all hosts and in one process: a task for each host, or for each step, costs more than what it does.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.template import Templar
from ansible.utils.display import Display

from ..module_utils._fleet_audit_module import FLEET_AUDIT_ARGUMENT_SPEC, keep, pack, why
from ..module_utils._merge import merge_guests
from ..plugin_utils._fleet_page import fleet_page
from ..plugin_utils._fleet_report import exceeding, fleet_report
from ..plugin_utils._fleet_table import fleet_table

#: Findings that are told in full.
SHOWN = 20

Variables = Callable[[str, Any], Any]


class ActionModule(ActionBase):  # type: ignore[misc]  # Ansible has no types
    """Makes the report, shows it, has the module write it, and says what is worse than what is let pass."""

    _supports_check_mode = True
    _supports_async = False
    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        del tmp
        _checked, args = self.validate_argument_spec(FLEET_AUDIT_ARGUMENT_SPEC)
        look = self._variables(task_vars or {})
        entries = [entry(name, look, args["read"], args["drivers"]) for name in args["hosts"]]
        generated = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
        try:
            report = fleet_report(entries, generated, args["title"])
            worse = exceeding(report, args["max_severity"])
        except ValueError as error:
            raise AnsibleActionFail(str(error)) from error
        Display().display(fleet_table(report))
        result: dict[str, Any] = {"changed": False}
        if args["dest"]:
            files = {"audit.json": json.dumps(report), "audit.html": fleet_page(report)}
            texts = {name: text.encode("utf-8", "backslashreplace") for name, text in files.items()}
            result = self._kept(args["dest"], texts, task_vars)
            if result.get("failed"):
                return result
        return {
            **result,
            "summary": report["summary"],
            "exceeding": len(worse),
            "worst": [
                {key: one[key] for key in ("host", "domain", "code", "message")} for one in worse[:SHOWN]
            ],
            "ansible_stats": {
                "data": {"xen_audit": report["summary"]},
                "per_host": False,
                "aggregate": False,
            },
        }

    def _kept(
        self, folder: str, files: Mapping[str, bytes], task_vars: dict[str, Any] | None
    ) -> dict[str, Any]:
        """Write the files: by the module, or right here where this user of this machine is meant."""
        if self._connection.transport != "local" or self._connection.become is not None:
            packed = {name: pack(content) for name, content in files.items()}
            result: dict[str, Any] = self._execute_module(
                module_args={**self._task.args, "files": packed}, task_vars=task_vars
            )
            result.pop("invocation", None)
            return result
        if self._task.check_mode:
            return {"changed": not os.path.isdir(folder)}
        try:
            return {"changed": keep(folder, files)}
        except OSError as error:
            return {"failed": True, "msg": why(error, folder)}

    def _variables(self, task_vars: Mapping[str, Any]) -> Callable[[str], Variables]:
        """For a host, what finds its variables by name, with a default: those that a task of the play has."""
        manager = task_vars["hostvars"]._variable_manager
        inventory = task_vars["hostvars"]._inventory
        play = self._task.play

        def of_host(name: str) -> Variables:
            values = manager.get_vars(play=play, host=inventory.get_host(name), include_hostvars=False)
            templar = Templar(loader=self._loader, variables=values)

            def find(key: str, default: Any) -> Any:
                return templar.template(values[key]) or default if key in values else default

            return find

        return of_host


def entry(name: str, look: Callable[[str], Variables], read: str, drivers: str) -> dict[str, Any]:
    """A host as `fleet_report` takes it; what of its variables makes no sense is told, and is no other host's end."""
    problems: list[str] = []

    def part(make: Callable[[], Any], otherwise: Any) -> Any:
        try:
            return make()
        except (AnsibleError, ValueError, TypeError, AttributeError, KeyError) as error:
            problems.append(str(error))
            return otherwise

    find = part(lambda: look(name), lambda _key, default: default)

    def variable(key: str, default: Any) -> Any:
        return part(lambda: find(key, default), default)

    def inside() -> dict[str, Any]:
        results = find(drivers, {}).get("results") or []
        return {one["item"]["key"]: one for one in results if "key" in (one.get("item") or {})}

    def declared() -> list[str]:
        guests = (find("xen_guests", []), find("xen_guest_defaults", {}), find("xen_guest_overrides", {}))
        return [guest["name"] for guest in merge_guests(*guests)]

    def daemons() -> dict[str, Any]:
        if (
            not find("virtio_disk_backend_install", None)
            or find("virtio_disk_backend_state", "present") != "present"
        ):
            return {}
        return {word: find(f"virtio_disk_backend_{word}", "") for word in ("install", "version", "checksum")}

    return {
        "name": name,
        "read": variable(read, {}),
        "declared": part(declared, []),
        "driver_domains": variable("xen_driver_domains", {}),
        "drivers": part(inside, {}),
        "backend": part(daemons, {}),
        "accept": variable("xen_accept", []),
        "offline": variable("xen_offline", "skip"),
        "problems": problems,
    }
