# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/preflight.md against the codes that findings carry."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._findings import BINDING, CODES

ROOT = Path(__file__).resolve().parents[2]
SECTIONS = {
    found[1]: (found[2], body)
    for part in (ROOT / "docs/preflight.md").read_text(encoding="utf-8").split("\n### ")[1:]
    for heading, _newline, body in [part.partition("\n")]
    for found in [re.match(r"`([a-z-]+)` \((.*)\)$", heading)]
    if found
}


def test_every_code_has_its_section_in_order() -> None:
    assert list(SECTIONS) == sorted(CODES)


@pytest.mark.parametrize("code", CODES)
def test_a_section_says_all(code: str) -> None:
    told, body = SECTIONS[code]
    assert re.fullmatch(r"(error|warning|error or warning)(, never accepted)?", told)
    assert ("never accepted" in told) == (code in BINDING)
    for word in ("Rule", "Why", "Remedy"):
        assert f"**{word}.** " in body


@pytest.mark.parametrize("code", CODES)
def test_severities_are_those_of_the_rules(code: str) -> None:
    sources = "".join(
        (ROOT / "plugins/module_utils" / name).read_text(encoding="utf-8")
        for name in ("_preflight.py", "_plan.py", "_guestplan.py")
    )
    # where a rule is decided by what is known, both words stand in its second argument
    raised = re.findall(rf'Finding\(\s*"{code}",\s*([^,]*),', sources)
    words = {word.lower() for second in raised for word in re.findall("ERROR|WARNING", second)} or {"error"}
    assert set(SECTIONS[code][0].partition(",")[0].split(" or ")) == words
