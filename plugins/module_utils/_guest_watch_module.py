# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module guest_watch: options in, result out; everything else is in `_guest_watch`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._zipped import compile_once

compile_once()

from ._argspec import STORE_MUTUALLY_EXCLUSIVE, host_argument_spec, open_store, store_argument_spec
from ._declaration import DeclarationError
from ._disk_module import as_text, seconds
from ._guest_watch import watch
from ._guestwatch import Guest
from ._store import StoreError
from ._survey import EmptyStoreError
from ._xl import Xl, XlError

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

GUEST_WATCH_ARGUMENT_SPEC: dict[str, Any] = {
    **store_argument_spec(),
    "guests": {"type": "list", "elements": "str", "required": True},
    "expect": {"type": "dict", "default": {}},
    "soak": {"type": "float", "default": 10},
    "interval": {"type": "float", "default": 0.5},
    "report": {"type": "bool", "default": False},
    **host_argument_spec("xl_path", "userdata_dir"),
}
GUEST_WATCH_CONSTRAINTS: dict[str, Any] = {"mutually_exclusive": list(STORE_MUTUALLY_EXCLUSIVE)}

#: Seconds between two looks at least: each of them runs xl.
_SHORTEST = 0.05

ENDINGS = (DeclarationError, EmptyStoreError, StoreError, XlError)


def gather(params: dict[str, Any]) -> dict[str, Any]:
    """The module's result; ``failed`` is left to the caller.

    Raises:
        one of `ENDINGS`: an option is wrong, or the host cannot be read.
    """
    soak = seconds("soak", params["soak"])
    interval = seconds("interval", params["interval"])
    # a host whose xl hangs is known within the time that its store would be given
    xl = Xl(params["xl_path"], timeout=params["timeout"])
    with open_store(params) as store:
        guests = watch(
            store,
            xl,
            params["guests"],
            _expected(params["expect"]),
            soak=soak,
            interval=max(interval, _SHORTEST),
            userdata=params["userdata_dir"],
        )
    return {
        "guests": [guest.as_dict() for guest in guests],
        "healthy": all(guest.why is None for guest in guests),
        "msg": _told(guests, soak),
    }


def _expected(given: dict[str, Any]) -> dict[str, int | None]:
    """The domids that guests are to have.

    Raises:
        DeclarationError: something else than a domid.
    """
    found: dict[str, int | None] = {}
    for name, domid in given.items():
        if domid is not None and (isinstance(domid, bool) or not str(domid).isdecimal()):
            raise DeclarationError(
                f"expect: {name}: a domid is a whole number, not {domid!r}; leave it out, or say null"
            )
        found[str(name)] = None if domid is None else int(domid)
    return found


def _told(guests: list[Guest], soak: float) -> str:
    wrong = [guest.why for guest in guests if guest.why is not None]
    many = "1 guest" if len(guests) == 1 else f"{len(guests)} guests"
    if not wrong:
        return f"{many} up, with all disks attached" + (f", for {soak:g} s" if soak else "")
    more = f" (and {len(wrong) - 1} more, see guests)" if len(wrong) > 1 else ""
    return f"{wrong[0]}{more}"


def main_guest_watch(module: AnsibleModule) -> None:
    """The module guest_watch."""
    params = module.params
    try:
        found = gather(params)
    except ENDINGS as error:
        module.fail_json(**as_text({"msg": str(error), "guests": [], "healthy": False}))
        return
    if not found["healthy"] and not params["report"]:
        module.fail_json(**as_text(found))
    module.exit_json(changed=False, **as_text(found))
