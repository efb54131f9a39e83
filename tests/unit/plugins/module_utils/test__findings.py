# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings: who may accept which, and the line they end in."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._findings import (
    BINDING,
    CODES,
    AcceptanceError,
    Finding,
    errors,
    parse_acceptances,
    sort_out,
    summary,
)


def finding(code: str = "quota", severity: str = "error", **more: Any) -> Finding:
    fields = {
        "domain": "domu1",
        "vdev": "xvda",
        "message": "too much",
        "why": "It breaks.",
        "remedy": "Less.",
    }
    return Finding(code, severity, **{**fields, **more})


def entry(**more: Any) -> dict[str, Any]:
    return {"code": "quota", "reason": "raised at boot", **more}


@pytest.mark.parametrize(
    ("accepted", "covered"),
    [
        (entry(), True),
        (entry(domain="domu1"), True),
        (entry(domain="domu1", vdev="xvda"), True),
        (entry(domain=None, vdev=None), True),
        (entry(domain="domu2"), False),
        (entry(vdev="xvdb"), False),
        (entry(code="colon-in-target"), False),
    ],
)
def test_an_acceptance_covers_what_it_names(accepted: dict[str, Any], covered: bool) -> None:
    standing, silenced = sort_out([finding()], parse_acceptances([accepted]))
    assert (standing, silenced) == (([], [finding()]) if covered else ([finding()], []))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (entry(code="qouta"), "unknown code 'qouta'; known are"),
        ({"reason": "because"}, "unknown code None"),
        (entry(reason=""), "quota needs a reason"),
        ({"code": "quota"}, "quota needs a reason"),
        (entry(guest="domu1"), "unknown key 'guest'; known are code, domain, vdev, reason"),
        *((entry(code=code), f"{code} cannot be accepted: ") for code in sorted(BINDING)),
    ],
)
def test_what_cannot_be_accepted(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(AcceptanceError, match=said):
        parse_acceptances([entry(), wrong])


def test_what_destroys_data_is_binding() -> None:
    assert {
        "devid-duplicate",
        "devid-shared",
        "target-shared",
        "mixed-specification",
        "virtio-rules",
    } < BINDING
    assert {"irq-overlap", "devices-limit"} < BINDING
    assert set(CODES) > BINDING


@pytest.mark.parametrize(
    ("findings", "line"),
    [
        ([finding()], "domu1: too much [quota]. It breaks. Less."),
        ([finding(domain=None)], "too much [quota]. It breaks. Less."),
        (
            [finding("release", "warning"), finding(), finding("release")],
            "domu1: too much [quota]. It breaks. Less. (2 findings in all, see 'findings')",
        ),
    ],
)
def test_the_line_for_a_person(findings: list[Finding], line: str) -> None:
    assert summary(findings) == line
    assert [one.severity for one in errors(findings)] == ["error"] * len(errors(findings))


def test_as_results_carry_it() -> None:
    assert set(finding().as_dict()) == {"code", "severity", "domain", "vdev", "message", "why", "remedy"}
