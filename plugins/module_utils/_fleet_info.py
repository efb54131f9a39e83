# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All that an audit has to know of a host, in one call. Never changes a thing.

Each part is read by itself, as in `_host_info`: a host without xl, or whose store is down, still gives the rest, and
a guest that cannot be compared keeps no other from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from . import _guest_info, _host_info
from ._configs import CONFIG_DIR
from ._declaration import DeclarationError
from ._dialect import DialectError
from ._findings import Finding, summary
from ._guest import EXPECTED, Job, run
from ._guestfiles import IMAGES_DIR, STATE_DIR
from ._guestrun import Settings
from ._guestsecrets import NOTHING, Hidden
from ._guestwish import OURS, Wish, WishError, read_wishes
from ._report import Result
from ._snapshot import MADE_BY_XL
from ._store import Store, StoreError
from ._survey import USERDATA_DIR, EmptyStoreError
from ._target import TargetFacts
from ._xl import Xl

#: What ends a comparison with a sentence.
ENDINGS = (*EXPECTED, DeclarationError, DialectError, WishError)

#: Run states in which a guest that nobody declared is compared with its own configuration.
_COMPARED = ("running", "paused")

#: What is told of a configuration: its meaning stays on the host, an audit has no use for it.
_CONFIG_KEYS = ("name", "domid", "running", "autostart", "path", "others", "notes", "error")

OpenStore = Callable[[], Store]


@dataclass(frozen=True)
class Places:
    """Where a host keeps things, how long to wait, and what to show to nobody: the options of the module."""

    userdata: str = USERDATA_DIR
    config_dir: str = CONFIG_DIR
    state_dir: str = STATE_DIR
    images_dir: str = IMAGES_DIR
    settle: float = 0.0
    wait_timeout: float = 10.0
    xen: str | None = None
    hidden: Hidden = NOTHING


@dataclass
class Compared:
    """Guests against their domains, as module guest's check mode has it."""

    result: Result = field(default_factory=Result)
    problems: list[dict[str, Any]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """As the module returns it."""
        return {
            "guests": [
                {key: value for key, value in guest.items() if key not in ("disks", "backup")}
                for guest in self.result.guests
            ],
            "findings": self.result.findings,
            "refused": refusals(self.result),
            "problems": self.problems,
        }


def gather(
    xl: Xl,
    open_store: OpenStore,
    declared: Sequence[Mapping[str, Any]] = (),
    *,
    targets: TargetFacts | None = None,
    places: Places,
) -> dict[str, Any]:
    """Everything about a dom0.

    Args:
        xl: the host's toolstack, present or not.
        open_store: opens a session; may raise StoreError.
        declared: the guests that an inventory declares, as module guest takes them.
        targets: what is known of storage in driver domains.
        places: where the host keeps things.
    """
    found: dict[str, Any] = {
        "host": _host_info.gather(xl, open_store, userdata=places.userdata),
        "guests": [],
        "configs": [],
        "unreadable": [],
        "compared": None,
        "error": None,
        "warnings": [],
    }
    texts: dict[str, tuple[str, str]] = {}
    try:
        with open_store() as store:
            seen = _guest_info.gather(
                store,
                xl,
                configs=True,
                texts=True,
                settle=places.settle,
                userdata=places.userdata,
                config_dir=places.config_dir,
                state_dir=places.state_dir,
                xen=places.xen,
            )
    except (*ENDINGS, EmptyStoreError, StoreError) as error:
        found["error"] = str(error)
        return found
    except OSError as error:
        found["error"] = f"{error.filename}: {error.strerror}; see config_dir"
        return found
    for config in seen.configs:
        if not config["error"]:
            texts.setdefault(config["name"], (config["path"], config["text"]))
    found["guests"] = [_told(guest) for guest in seen.guests]
    found["configs"] = [_config(one) for one in seen.configs]
    found["unreadable"] = seen.unreadable
    found["warnings"] = seen.warnings
    wanted = [*declared, *undeclared(declared, seen.guests, texts)]
    if wanted:
        found["compared"] = compare(wanted, xl, open_store, targets or {}, places).as_dict()
    return found


def _told(guest: Mapping[str, Any]) -> dict[str, Any]:
    """A guest without what its configurations mean."""
    shown = {key: value for key, value in guest.items() if key != "created_from"}
    if guest["config"] is not None:
        shown["config"] = _config(guest["config"])
    return shown


def _config(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: config[key] for key in _CONFIG_KEYS if key in config}


def undeclared(
    declared: Iterable[Mapping[str, Any]],
    guests: Iterable[Mapping[str, Any]],
    texts: Mapping[str, tuple[str, str]],
) -> list[dict[str, Any]]:
    """Guests that run and that nobody declared, each as its own configuration declares it.

    Args:
        declared: by an inventory.
        guests: of the host, as `_guest_info` has them.
        texts: path and text of configurations that can be read, by name.
    """
    names = {str(one.get("name")) for one in declared}
    found = []
    for guest in guests:
        name = guest["name"]
        usual = guest["made_by"] == MADE_BY_XL and guest["leftover"] is None
        if usual and name not in names and name in texts and guest["run_state"] in _COMPARED:
            path, text = texts[name]
            found.append({"name": name, "state": guest["run_state"], "path": path, "content": text})
    return found


def compare(
    wanted: Sequence[Mapping[str, Any]], xl: Xl, open_store: OpenStore, targets: TargetFacts, places: Places
) -> Compared:
    """Guests as declared against guests as they are; those that cannot be compared are told apart."""
    compared = Compared()
    try:
        compared.result = _run(_wishes(wanted, places), xl, open_store, targets, places)
    except ENDINGS as error:
        if not xl.present:
            compared.problems.append({"domain": None, "error": str(error)})
            return compared
    else:
        return compared
    able: list[Mapping[str, Any]] = []
    alone = replace(places, wait_timeout=0.0)  # whoever is late has had its time
    for one in wanted:
        try:
            _run(_wishes([one], alone), xl, open_store, targets, alone)
        except ENDINGS as error:
            compared.problems.append({"domain": str(one.get("name")), "error": str(error)})
        else:
            able.append(one)
    try:
        if able:
            compared.result = _run(_wishes(able, alone), xl, open_store, targets, alone)
    except ENDINGS as error:
        compared.problems.append({"domain": None, "error": str(error)})
    return compared


def _wishes(wanted: Sequence[Mapping[str, Any]], places: Places) -> tuple[Wish, ...]:
    # an audit never asks whether a difference may be removed: it is told in any case
    asked = [{**one, "recreate": "report", "force_destroy": True} for one in wanted]
    defaults: dict[str, Any] = {**dict.fromkeys(OURS), "state": "running"}
    return read_wishes(asked, defaults, config_dir=places.config_dir, images_dir=places.images_dir)


def _run(
    wishes: tuple[Wish, ...], xl: Xl, open_store: OpenStore, targets: TargetFacts, places: Places
) -> Result:
    job = Job(
        wishes=wishes,
        check=True,
        settings=Settings(settle=places.settle, wait_timeout=places.wait_timeout, userdata=places.userdata),
        xen=places.xen,
        targets=targets,
        state_dir=places.state_dir,
        images_dir=places.images_dir,
        hidden=places.hidden,
    )
    with open_store() as store:
        return run(job, store, xl)


def refusals(result: Result) -> str | None:
    """What a run in check mode was refused for, beside its findings; None where nothing was."""
    if result.failed is None:
        return None
    findings = [Finding(**one) for one in result.findings]
    failed = result.failed
    if any(one.severity == "error" for one in findings):
        failed = failed.removesuffix(summary(findings)).removesuffix(". ")
    return failed or None
