# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module drain: options in, result out; it lists, starts the unit that does it, and tells how far that is."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from ._zipped import compile_once

compile_once()

from ._archive import ArchiveError, archive_bytes
from ._argspec import (
    FOLLOW,
    LIMITS,
    STORE_MUTUALLY_EXCLUSIVE,
    host_argument_spec,
    limits_argument_spec,
    store_argument_spec,
)
from ._declaration import DeclarationError
from ._detached import DetachedError, available, moment, start, under_way, unit_name
from ._disk_module import as_text, seconds
from ._drain import DONE, Drain, DrainError, Guest, Plan, StateError, listed
from ._drainlook import Place, plan
from ._drainrun import load, save
from ._files import wanted
from ._guest import EXPECTED
from ._guestfiles import boot_id
from ._guestkept import file_name
from ._guestlock import LOCK_DIR
from ._snapshot import Domain, UnknownDomainError

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

#: Options in seconds.
_LIMITS = (*LIMITS, "ready_timeout")

DRAIN_ARGUMENT_SPEC: dict[str, Any] = {
    **store_argument_spec(),
    "domain": {"type": "str", "required": True},
    "consent": {"type": "bool", "default": False},
    "again": {"type": "bool", "default": False},
    "force_destroy": {"type": "bool", "default": False},
    "order": {"type": "list", "elements": "str", "default": []},
    **limits_argument_spec(),
    "ready_timeout": {"type": "float", "default": 180},
    "follow": {"type": "float", "default": FOLLOW},
    "lock_dir": {"type": "path", "default": LOCK_DIR},
    **host_argument_spec("xen", "xl_path", "userdata_dir", "config_dir", "state_dir"),
}

DRAIN_CONSTRAINTS: dict[str, Any] = {"mutually_exclusive": [*STORE_MUTUALLY_EXCLUSIVE]}

#: Options that the unit needs as well.
_PLACES = ("lock_dir", "xen", "xl_path", "userdata_dir", "config_dir", "state_dir")
_KEPT = (*_LIMITS, *_PLACES, "timeout", "force_destroy")

#: Seconds between two looks at what the unit did.
_PAUSE = 0.25

#: Seconds that the module itself follows at most: over a connection that may be lost, calls are better short.
LONGEST_CALL = 15.0


class _Call:
    """One call of the module."""

    def __init__(self, params: dict[str, Any], *, check: bool) -> None:
        self.params, self.check = params, check
        for option in (*_LIMITS, "follow"):
            seconds(option, params[option])
        options = {key: params[key] for key in _KEPT}
        self.options = {**options, "store": params["socket"] or params["xenbus"]}
        self.place = Place(self.options)
        self.domain: Domain | None = None
        self.plan = Plan([], [])
        self.config = ""
        self.last: Drain | None = None
        self.running = False
        self.changed = False

    @property
    def _folder(self) -> str:
        return os.path.join(self.params["state_dir"], "drain")

    def _state(self, name: str) -> str:
        return os.path.join(self._folder, f"{file_name(name)}.json")

    def run(self) -> dict[str, Any]:
        """The module's result.

        Raises:
            DrainError, StateError: it cannot be done; nothing was changed.
            EXPECTED, OSError: the host could not be read.
        """
        self._look()
        start = self.params["consent"] and not self.running and not self._done()
        if start:
            self._begin()
        limit = time.monotonic() + min(self.params["follow"], LONGEST_CALL)
        while self.last is not None and self.running and not self.check and time.monotonic() < limit:
            time.sleep(_PAUSE)
            self._know(self.last.domain)
        return self._result(started=start)

    def _look(self) -> None:
        """Who hangs on it, and what is kept of its last restart."""
        name = str(self.params["domain"]).strip()
        self._know(name)
        if self.running:
            return  # what hangs on it changes under our eyes
        try:
            with self.place.store() as store:
                found = plan(name, store, self.place.xl(), self.place, self.params["order"])
        except UnknownDomainError:
            if self.last is None or not self.last.open:
                raise
            return  # it is down, and can be taken up again
        self.domain, self.plan, self.config = found
        if self.last is None and self.domain.label != name:
            self._know(self.domain.label)  # it was called by its domid

    def _know(self, name: str) -> None:
        """What is kept of a driver domain's last restart, and whether that is under way."""
        self.last = load(self._state(name))
        self.running = self._is_running()
        if not self.running:
            self.last = load(self._state(name))  # it may have ended while we looked

    def _is_running(self) -> bool:
        if self.last is None or self.last.outcome is not None or self.last.unit_boot != boot_id():
            return False
        return under_way(self.last.unit)

    def _done(self) -> bool:
        """Whether the domain that is there is what the last restart left, so that a second run has nothing to do."""
        last, domain = self.last, self.domain
        if last is None or domain is None or self.params["again"]:
            return False
        return last.outcome == DONE and (last.unit_boot, last.new_domid) == (boot_id(), domain.domid)

    # --- start ----------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        drain = self._wanted()
        self.changed = True
        if self.check:
            return
        path = self._state(drain.domain)
        archive = f"{path[: -len('.json')]}.pyz"
        if not available():
            raise DrainError(
                "this host does not run systemd, under which a drain outlives the connection; shut the guests down, "
                f"restart {drain.domain} and create them again by hand; nothing was changed"
            )
        try:
            fresh = wanted(archive, archive_bytes("_drainrun"))
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            if fresh is not None:
                fresh.carry_out()
            before = load(path)
            save(drain, path)
        except (OSError, ArchiveError) as error:
            told = f"{self._folder}: cannot be written: {error}; see state_dir; nothing was changed"
            raise DrainError(told) from error
        try:
            start(
                drain.unit,
                "Restart of a driver domain and its guests (xen.virtio.drain)",
                archive,
                path,
            )
        except DetachedError as error:
            if before is not None:
                save(before, path)
            else:
                os.unlink(path)
            raise DrainError(str(error)) from error
        self.last, self.running = drain, True

    def _wanted(self) -> Drain:
        """What the unit is to carry out: the restart that did not end, or a new one.

        Raises:
            DrainError: it must not be begun.
        """
        last = self.last
        if last is not None and last.open and not self.params["again"]:
            last.outcome = last.ended = None
            last.options, last.unit, last.unit_boot = self.options, unit_name("drain", last.domain), boot_id()
            last.note(f"{moment()}: taken up again")
            return last
        if self.domain is None:
            raise DrainError(f"{self.params['domain']}: this host has no domain of that name")
        if self.plan.refusals:
            raise DrainError(f"{'. '.join(self.plan.refusals)}. Nothing was changed")
        return Drain(
            domain=self.domain.label,
            path=self.config,
            domid=self.domain.domid,
            boot=boot_id(),
            unit=unit_name("drain", self.domain.label),
            unit_boot=boot_id(),
            options=self.options,
            guests=self.plan.guests,
            begun=moment(),
        )

    # --- result ---------------------------------------------------------------------------------------------

    def _result(self, *, started: bool) -> dict[str, Any]:
        last = self.last
        state = self._shown(last) if last is not None else None
        guests = [] if self.running or (started and not self.check) else self.plan.guests
        return {
            "changed": self.changed,
            "domain": self.domain.label if self.domain is not None else str(self.params["domain"]),
            "domid": self.domain.domid if self.domain is not None else None,
            "guests": [_guest(guest) for guest in guests],
            "lines": [listed(guest) for guest in guests],
            "refusals": self.plan.refusals,
            "drain": state,
            "diff": self._diff() if self.changed else [],
            "msg": self._told(started),
        }

    def _shown(self, last: Drain) -> dict[str, Any]:
        return {
            "domain": last.domain,
            "domid": last.domid,
            "new_domid": last.new_domid,
            "running": self.running,
            "phase": last.phase,
            "outcome": last.outcome or ("running" if self.running else "interrupted"),
            "begun": last.begun,
            "ended": last.ended,
            "unit": last.unit,
            "state_file": self._state(last.domain),
            "guests": [{**_guest(one), "status": one.status, "new_domid": one.new_domid, "error": one.error}
                       for one in last.guests],
            "lines": last.lines(),
            "msg": last.message,
        }  # fmt: skip

    def _told(self, started: bool) -> str:
        last, name = self.last, self.params["domain"]
        if started and self.check:
            if last is not None and last.open and not self.params["again"]:
                return f"{name}: the restart of {last.begun} would go on (not carried out: check mode)"
            return f"{name} and {_counted(self.plan)} would be restarted (not carried out: check mode)"
        if self.running and last is not None:
            return f"{name}: its restart runs on this host ({last.unit}), whatever becomes of this connection"
        if started and last is not None:
            return last.message
        return self._standing()

    def _standing(self) -> str:
        last, name = self.last, self.params["domain"]
        if self.params["consent"] and self._done() and last is not None:
            return (
                f"nothing to do: {name} is domain {last.new_domid} since its restart of {last.begun}; say again: true "
                "to restart it once more"
            )
        if last is not None and last.open:
            return f"{name}: its restart of {last.begun} did not end well: {last.message or 'it was cut off'}"
        told = (
            f"{_counted(self.plan)} hang on {name}"
            if len(self.plan.guests) != 1
            else f"1 guest hangs on {name}"
        )
        if self.plan.refusals:
            return f"{told}; it cannot be restarted as things are: {'. '.join(self.plan.refusals)}"
        return f"{told}; say consent: true to have them shut down, it restarted, and them created again"

    def _diff(self) -> list[dict[str, str]]:
        guests = self.last.guests if self.last is not None and not self.check else self.plan.guests
        found = []
        for name, domid in [
            (str(self.params["domain"]), self.domain and self.domain.domid),
            *map(_pair, guests),
        ]:
            before = "down\n" if domid is None else f"domain {domid}\n"
            head = {"before_header": name, "after_header": name}
            found.append({**head, "before": before, "after": "a new domain\n"})
        return found


def _pair(guest: Guest) -> tuple[str, int]:
    return guest.name, guest.domid


def _guest(guest: Guest) -> dict[str, Any]:
    return {
        "name": guest.name,
        "domid": guest.domid,
        "path": guest.path,
        "run_state": "paused" if guest.paused else "running",
        "devices": guest.devices,
        "through": guest.through,
    }


def _counted(found: Plan) -> str:
    return "1 guest" if len(found.guests) == 1 else f"{len(found.guests)} guests"


def main_drain(module: AnsibleModule) -> None:
    """The module drain."""
    try:
        result = _Call(module.params, check=module.check_mode).run()
    except (DeclarationError, DrainError, StateError, *EXPECTED, OSError) as error:
        module.fail_json(**as_text({"changed": False, "guests": [], "drain": None, "msg": str(error)}))
        return
    module.exit_json(**as_text(result))
