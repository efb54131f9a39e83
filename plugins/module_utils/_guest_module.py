# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module guest: options in, result out; everything else is in `_guest`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._zipped import compile_once

compile_once()

from ._argspec import (
    LIMITS,
    STORE_MUTUALLY_EXCLUSIVE,
    accept_argument_spec,
    host_argument_spec,
    limits_argument_spec,
    open_store,
    store_argument_spec,
)
from ._declaration import DeclarationError
from ._disk_module import as_text, finish, seconds
from ._findings import AcceptanceError, parse_acceptances
from ._guest import EXPECTED, Autostart, Job, run
from ._guestfiles import IMAGES_DIR
from ._guestlock import LOCK_DIR
from ._guestoptions import GUEST_ARGUMENT_SPEC
from ._guestplan import RECREATE, STATES
from ._guestrun import Settings
from ._guestsecrets import Hidden, HiddenError
from ._guestwish import OURS, WishError, read_wishes
from ._report import Result
from ._store import StoreError
from ._survey import EmptyStoreError
from ._target import TargetError, read_targets
from ._xl import Xl

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

#: What can be said of one guest beside its configuration.
_OURS: dict[str, Any] = {
    "state": {"type": "str", "choices": list(STATES), "default": "running"},
    "recreate": {"type": "str", "choices": list(RECREATE), "default": "never"},
    "force_destroy": {"type": "bool", "default": False},
    "allow_reorder": {"type": "bool", "default": False},
    "autostart": {"type": "bool"},
    "path": {"type": "path"},
    "content": {"type": "str", "no_log": False},
}

ARGUMENT_SPEC: dict[str, Any] = {
    **store_argument_spec(),
    **GUEST_ARGUMENT_SPEC,
    **_OURS,
    "guests": {"type": "raw"},
    "rollback": {"type": "bool", "default": True},
    "backup": {"type": "bool", "default": True},
    **limits_argument_spec(),
    "targets": {"type": "dict", "default": {}},
    "images_dir": {"type": "path", "default": IMAGES_DIR},
    "lock_dir": {"type": "path", "default": LOCK_DIR},
    **accept_argument_spec(),
    **host_argument_spec(
        "xen", "xl_path", "userdata_dir", "config_dir", "state_dir", "lib_dir", "unit_dir", "hidden"
    ),
}

CONSTRAINTS: dict[str, Any] = {
    "mutually_exclusive": [
        *STORE_MUTUALLY_EXCLUSIVE,
        *(("guests", option) for option in [*GUEST_ARGUMENT_SPEC, "path", "content"]),
    ],
    "required_one_of": [("guests", "name")],
}

ENDINGS = (*EXPECTED, AcceptanceError, DeclarationError, HiddenError, TargetError, WishError)


def job_of(params: dict[str, Any], *, check: bool = False, autostart: Autostart | None = None) -> Job:
    """A task's options as a job.

    Raises:
        AcceptanceError, DeclarationError, GuestError, GuestFileError, HiddenError, TargetError, WishError: what is
            wrong and where.
    """
    for option in LIMITS:
        seconds(option, params[option])
    guests = params["guests"]
    if guests is None:
        # what a task says of its one guest, without what it says of the call
        guests = [{key: params[key] for key in [*GUEST_ARGUMENT_SPEC, *OURS] if params.get(key) is not None}]
    wishes = read_wishes(
        guests,
        {key: params.get(key) for key in OURS if key not in ("path", "content")}
        | {"path": None, "content": None},
        config_dir=params["config_dir"],
        images_dir=params["images_dir"],
    )
    return Job(
        wishes=wishes,
        check=check,
        settings=Settings(
            backup=params["backup"],
            rollback=params["rollback"],
            shutdown_timeout=params["shutdown_timeout"],
            create_timeout=params["create_timeout"],
            wait_timeout=params["wait_timeout"],
            settle=params["settle"],
            lock_timeout=params["lock_timeout"],
            userdata=params["userdata_dir"],
            lock_dir=params["lock_dir"],
        ),
        xen=params["xen"],
        accept=parse_acceptances(params["accept"]),
        targets=read_targets(params["targets"]),
        state_dir=params["state_dir"],
        images_dir=params["images_dir"],
        autostart=autostart,
        hidden=Hidden.of(params["hidden"]),
    )


def main_guest(module: AnsibleModule) -> None:
    """The module guest."""
    params = module.params
    try:
        job = job_of(params, check=module.check_mode, autostart=_autostart(params))
        with open_store(params) as store:
            result = run(job, store, Xl(params["xl_path"]))
    except (EmptyStoreError, StoreError) as error:
        # whoever asked many hosts has to tell a host that cannot be read from a declaration that is wrong
        module.fail_json(unread=True, **as_text(Result(failed=str(error)).as_dict()))
    except ENDINGS as error:
        result = Result(failed=str(error))
    finish(module, result)


def _autostart(params: dict[str, Any]) -> Autostart:
    """What has to change on the host for a guest to come up with it; loaded only by tasks that ask."""

    def changes(wish: Any) -> Any:
        # Ansible compiles a module's every part anew for each task, and few tasks need this one
        from ._guestkeep import Keeper  # noqa: PLC0415

        return Keeper(params).changes(wish)

    return changes
