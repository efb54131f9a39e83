# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done with a guest, by how it stands and what is wished for; tables."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._guestplan import (
    CRASHED,
    DOM0LESS,
    DYING,
    ENDED,
    FOREIGN,
    HALF_MADE,
    LEFTOVER,
    NONE,
    STATES,
    STOPPED,
    UP,
    Decision,
    Lost,
    Options,
    Sight,
    decide,
    lost_findings,
    standing_of,
)
from ansible_collections.xen.virtio.plugins.module_utils._guestrecord import Change
from ansible_collections.xen.virtio.plugins.module_utils._xloutput import RunState

COLD = Change("cmdline", None, "quiet")
LIVE = Change("memory", 64, 128, live=True)
LOST = Lost("xvda", 51712, "its backend gave it up")
FILE = [Change("cmdline", None, "quiet")]


def short(made: Decision) -> str:
    """A decision in one line: action, then what is done, in order."""
    if made.refusal is not None:
        return "refused"
    words = [made.action, ":"]
    words += ["write"] * made.write + [f"live {one.option}" for one in made.live]
    words += [f"end {made.end}"] * (made.end is not None) + ["create"] * made.create
    words += [{True: "paused", False: "running", None: ""}[made.paused]] + ["remove"] * made.remove
    return " ".join(word for word in words if word)


def decided(state: str, standing: str, *, options: Options | None = None, **sight: Any) -> str:
    found = Sight(standing, None if standing == NONE else 3, **sight)
    return short(decide("linux1", state, found, options or Options()))


#: state, standing, what becomes of it where everything is as declared
STEADY = [
    ("running", NONE, "started : create running"),
    ("running", UP, "unchanged :"),
    ("running", STOPPED, "changed : running"),
    ("running", ENDED, "started : end destroy create running"),
    ("running", CRASHED, "refused"),
    ("running", DYING, "refused"),
    ("running", LEFTOVER, "refused"),
    ("running", HALF_MADE, "refused"),
    ("running", FOREIGN, "refused"),
    ("running", DOM0LESS, "refused"),
    ("paused", NONE, "started : create paused"),
    ("paused", UP, "changed : paused"),
    ("paused", STOPPED, "unchanged :"),
    ("shutdown", NONE, "unchanged :"),
    ("shutdown", UP, "stopped : end clean"),
    ("shutdown", STOPPED, "stopped : end clean"),
    ("shutdown", ENDED, "stopped : end destroy"),
    ("shutdown", DOM0LESS, "refused"),
    ("restarted", NONE, "started : create running"),
    ("restarted", UP, "restarted : end clean create running"),
    ("restarted", ENDED, "started : end destroy create running"),
    ("configured", NONE, "unchanged :"),
    ("configured", UP, "unchanged :"),
    ("configured", FOREIGN, "unchanged :"),
    ("configured", DOM0LESS, "refused"),
    ("absent", NONE, "removed : remove"),
    ("absent", UP, "removed : end clean remove"),
    ("absent", FOREIGN, "refused"),
]


@pytest.mark.parametrize(("state", "standing", "expected"), STEADY)
def test_a_guest_that_is_as_declared(state: str, standing: str, expected: str) -> None:
    assert decided(state, standing) == expected


#: what differs, guards, what becomes of a running guest that is to run
DIFFERENT: list[tuple[dict[str, Any], Options, str]] = [
    ({"config": FILE}, Options(), "changed : write"),
    ({"domain": [COLD]}, Options(), "refused"),
    ({"domain": [COLD]}, Options("report"), "unchanged :"),
    ({"domain": [COLD], "config": FILE}, Options("report"), "changed : write"),
    ({"domain": [COLD]}, Options("allowed"), "recreated : end clean create running"),
    ({"domain": [COLD]}, Options("allowed", True), "recreated : end clean then destroy create running"),
    ({"domain": [COLD]}, Options("unhealthy", True), "unchanged :"),
    ({"domain": [LIVE]}, Options(), "changed : live memory"),
    ({"domain": [LIVE, COLD]}, Options(), "refused"),
    ({"domain": [LIVE, COLD]}, Options("report"), "changed : live memory"),
    ({"domain": [LIVE, COLD]}, Options("allowed"), "recreated : end clean create running"),
    ({"lost": [LOST]}, Options(), "refused"),
    ({"lost": [LOST]}, Options("report"), "unchanged :"),
    ({"lost": [LOST]}, Options("allowed"), "refused"),
    ({"lost": [LOST]}, Options("unhealthy"), "refused"),
    ({"lost": [LOST]}, Options("unhealthy", True), "recreated : end destroy create running"),
    ({"lost": [LOST]}, Options("allowed", True), "recreated : end destroy create running"),
    ({"drift": [("xvda", "drifted")]}, Options(), "refused"),
    ({"drift": [("xvda", "drifted")]}, Options("unhealthy", True), "unchanged :"),
    ({"domain": [COLD], "on_poweroff": "restart"}, Options("allowed"), "refused"),
    (
        {"domain": [COLD], "on_poweroff": "preserve"},
        Options("allowed"),
        "recreated : end clean create running",
    ),
]


@pytest.mark.parametrize(("sight", "options", "expected"), DIFFERENT)
def test_a_running_guest_that_differs(sight: dict[str, Any], options: Options, expected: str) -> None:
    assert decided("running", UP, options=options, **sight) == expected


FORCED = [
    ("running", LEFTOVER, "started : end destroy create running"),
    ("running", CRASHED, "started : end destroy create running"),
    ("absent", LEFTOVER, "removed : end destroy remove"),
    ("running", HALF_MADE, "refused"),
    ("running", DYING, "refused"),
    ("running", FOREIGN, "refused"),
    ("absent", DOM0LESS, "refused"),
    ("shutdown", UP, "stopped : end clean then destroy"),
]


@pytest.mark.parametrize(("state", "standing", "expected"), FORCED)
def test_force_destroy_is_no_word_for_what_is_not_ours(state: str, standing: str, expected: str) -> None:
    assert decided(state, standing, options=Options("allowed", True)) == expected


@pytest.mark.parametrize("state", STATES)
def test_check_mode_needs_nothing_but_the_decision(state: str) -> None:
    first = decide("linux1", state, Sight(UP, 3, config=FILE, domain=[LIVE]), Options("report"))
    assert first == decide("linux1", state, Sight(UP, 3, config=FILE, domain=[LIVE]), Options("report"))


def test_what_cannot_be_created_is_not_ended() -> None:
    for state in ("running", "paused"):
        assert decided(state, NONE, has_config=False) == "refused"
    assert decided("restarted", UP, has_config=False) == "refused"
    assert decided("shutdown", UP, has_config=False) == "stopped : end clean"


def test_a_refusal_names_guest_reasons_and_remedy() -> None:
    told = decide("linux1", "running", Sight(UP, 3, domain=[COLD], lost=[LOST]), Options()).refusal or ""
    for words in (
        "linux1",
        "domain 3",
        "cmdline: (none) -> quiet",
        "xvda: its backend gave it up",
        "recreate: allowed",
    ):
        assert words in told


RUN = {"domid": 3, "name": "linux1", "memory": 64, "vcpus": 1}
XL = {"dom0less": False, "by_xl": True, "ours": False}
STANDINGS: list[tuple[dict[str, Any] | None, dict[str, Any], str]] = [
    (None, {}, NONE),
    ({}, {}, UP),
    ({"blocked": True}, {}, UP),
    ({"paused": True}, {}, STOPPED),
    ({"shutdown": True, "reason": "poweroff"}, {}, ENDED),
    ({"shutdown": True, "reason": "suspend", "paused": True}, {}, STOPPED),
    ({"shutdown": True, "crashed": True, "reason": "crash"}, {}, CRASHED),
    ({"dying": True}, {}, DYING),
    ({"dying": True, "paused": True}, {"by_xl": False, "ours": True}, DYING),
    ({"paused": True}, {"by_xl": False, "ours": True}, LEFTOVER),
    ({"paused": True}, {"by_xl": False}, HALF_MADE),
    ({}, {"by_xl": False}, FOREIGN),
    ({}, {"by_xl": False, "dom0less": True}, DOM0LESS),
    ({"paused": True}, {"by_xl": False, "dom0less": True}, DOM0LESS),
]


@pytest.mark.parametrize(("run", "maker", "expected"), STANDINGS)
def test_how_a_domain_stands(run: dict[str, Any] | None, maker: dict[str, Any], expected: str) -> None:
    state = None if run is None else RunState(**{**RUN, **run})
    assert standing_of(state, **{**XL, **maker}) == expected


@pytest.mark.parametrize(
    ("state", "recreate", "told"),
    [("running", "report", True), ("running", "unhealthy", False), ("shutdown", "never", False)],
)
def test_a_lost_disk_is_told_until_it_is_given_back(state: str, recreate: str, told: bool) -> None:
    sight = Sight("up", 3, lost=[LOST])
    made = decide("web", state, sight, Options(recreate, force_destroy=True))
    found = lost_findings("web", state, sight, made)
    assert [(one.code, one.severity, one.vdev) for one in found] == [("disk-lost", "warning", "xvda")] * told
    assert all("xen.virtio.repair" in one.remedy for one in found)


def test_a_refusal_over_a_lost_disk_names_the_repair() -> None:
    made = decide("web", "running", Sight("up", 3, lost=[LOST]), Options("never"))
    assert "the playbook xen.virtio.repair" in (made.refusal or "")
