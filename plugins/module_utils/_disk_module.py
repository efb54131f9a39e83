# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module disk: options in, result out; everything else is in `_disk`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ._zipped import compile_once

compile_once()

from ._argspec import (
    STORE_MUTUALLY_EXCLUSIVE,
    accept_argument_spec,
    host_argument_spec,
    open_store,
    store_argument_spec,
)
from ._declaration import DeclarationError, parse_guests
from ._disk import DiskError, Job, run
from ._findings import AcceptanceError, parse_acceptances
from ._plan import PlanError
from ._report import Result
from ._snapshot import ResolveError
from ._store import StoreError
from ._survey import EmptyStoreError
from ._xl import Xl, XlError

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

_GUEST: dict[str, Any] = {
    "domain": {"type": "raw"},
    "disks": {"type": "list", "elements": "raw"},
    "exclusive": {"type": "bool", "default": False},
}

ARGUMENT_SPEC: dict[str, Any] = {
    **store_argument_spec(),
    **_GUEST,
    "guests": {
        "type": "list",
        "elements": "dict",
        "options": {**_GUEST, "domain": {"type": "raw", "required": True}},
    },
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "hotplug": {"type": "bool", "default": False},
    "persistent": {"type": "bool", "default": False},
    "persistent_dir": {"type": "path", "default": "/etc/xen/virtio-disks"},
    "wait": {"type": "bool", "default": True},
    "wait_timeout": {"type": "float", "default": 10},
    "settle": {"type": "float", "default": 0.5},
    **accept_argument_spec(),
    **host_argument_spec("xen", "xl_path", "userdata_dir", "lib_dir", "unit_dir"),
}

CONSTRAINTS: dict[str, Any] = {
    "mutually_exclusive": [*STORE_MUTUALLY_EXCLUSIVE, ("guests", "domain"), ("guests", "disks")],
    "required_one_of": [("guests", "domain")],
}

#: An hour, in seconds: no disk takes that long to come up.
LONGEST_WAIT = 3600

#: What ends a call with a sentence instead of a traceback.
EXPECTED = (
    AcceptanceError,
    DeclarationError,
    DiskError,
    EmptyStoreError,
    PlanError,
    ResolveError,
    StoreError,
    XlError,
)


def job_of(params: dict[str, Any], *, check: bool = False) -> Job:
    """A task's options as a job.

    Raises:
        AcceptanceError, DeclarationError: what is wrong and where.
    """
    absent = params["state"] == "absent"
    for option in ("wait_timeout", "settle"):
        seconds(option, params[option])
    return Job(
        declarations=parse_guests(params, absent=absent),
        absent=absent,
        hotplug=params["hotplug"],
        wait=params["wait"],
        wait_timeout=params["wait_timeout"],
        settle=params["settle"],
        xen=params["xen"],
        accept=parse_acceptances(params["accept"]),
        check=check,
        userdata=params["userdata_dir"],
    )


def seconds(option: str, value: float) -> float:
    """A time that can be waited for. Raises DeclarationError for negative and endless ones."""
    if not 0 <= value <= LONGEST_WAIT:
        raise DeclarationError(f"{option} is a number of seconds from 0 to {LONGEST_WAIT}, not {value:g}")
    return value


def main_disk(module: AnsibleModule) -> None:
    """The module disk."""
    params = module.params
    try:
        job = job_of(params, check=module.check_mode)
        with open_store(params) as store:
            result = run(job, store, Xl(params["xl_path"]))
        if params["persistent"] and result.failed is None:
            _keep(params, job, result)
    except EXPECTED as error:
        result = Result(failed=str(error))
    finish(module, result)


def finish(module: AnsibleModule, result: Result) -> None:
    """End a module with what its call says."""
    for warning in result.warnings:
        module.warn(as_text(warning))
    for note in result.deprecations:
        module.warn(as_text(note))
    if result.failed is not None:
        module.fail_json(**as_text(result.as_dict()))
    module.exit_json(**as_text(result.as_dict()))


def as_text(value: Any) -> Any:
    """A result whose every text is text: bytes that are none, which any domain may write, as ``\\xff``.

    Ansible refuses a result with anything else in it, so a guest could make one of its host unreadable.
    """
    if isinstance(value, str):
        if value.isascii():
            return value
        try:
            return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        except UnicodeEncodeError:  # half a character that a user wrote
            return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {key: as_text(one) for key, one in value.items()}
    if isinstance(value, list):
        return [as_text(one) for one in value]
    return value


def _keep(params: dict[str, Any], job: Job, result: Result) -> None:
    """Keep the declaration on the host, or take it away again."""
    # Ansible compiles a module's every part anew for each task, and few tasks need this one
    from ._persist import Persistence, PersistError  # noqa: PLC0415

    persistence = Persistence(
        folder=params["persistent_dir"], library=params["lib_dir"], units=params["unit_dir"]
    )
    try:
        kept = persistence.forget(job, params) if job.absent else persistence.keep(job, params)
        if not kept:
            return
        result.changed = True
        result.diff += [one.as_diff() for one in kept]
        if not job.check:
            for one in kept:
                one.carry_out()
    except (PersistError, OSError) as error:
        result.failed = f"{result.msg}; but the declaration cannot be kept on the host: {error}"
        return
    told = ", ".join(dict.fromkeys(os.path.basename(one.path) for one in kept))
    result.msg += f"; files {'to change' if job.check else 'changed'} on the host: {told}"
