# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of a guest's options against its documentation, and against itself."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible_collections.xen.virtio.plugins.doc_fragments.guest import ModuleDocFragment
from ansible_collections.xen.virtio.plugins.module_utils._dialect import NEWEST, RELEASES
from ansible_collections.xen.virtio.plugins.module_utils._guestoptions import (
    DEFAULTS,
    FILES,
    GUEST_ARGUMENT_SPEC,
    KINDS,
    OPTIONS,
    OTHERS,
    SINCE,
    STOOD_FOR,
    VALUES_SINCE,
    OptionError,
    digest,
)
from ansible_collections.xen.virtio.plugins.module_utils._xlcfg import Setting, parse_settings, render_config

DOCUMENTED: dict[str, Any] = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]


def test_every_option_is_documented_in_order() -> None:
    assert set(DOCUMENTED) == set(OPTIONS) == set(GUEST_ARGUMENT_SPEC)


@pytest.mark.parametrize("option", OPTIONS)
def test_documentation_and_argument_spec_agree(option: str) -> None:
    documented = {key: value for key, value in DOCUMENTED[option].items() if key != "description"}
    assert documented == GUEST_ARGUMENT_SPEC[option]


@pytest.mark.parametrize("option", sorted({*SINCE} & {*OPTIONS}))
def test_documentation_tells_since_when(option: str) -> None:
    assert f"Known to Xen {SINCE[option]} and newer." in DOCUMENTED[option]["description"]


@pytest.mark.parametrize(("option", "value"), DEFAULTS.items())
def test_a_default_is_a_value_in_its_normal_form(option: str, value: Any) -> None:
    kind = KINDS[option]
    assert kind.declare(value) == value
    settings = list(parse_settings(render_config({option: kind.render(value)})).values())
    assert [kind.read(setting) for setting in settings] == [value]


def test_the_table_fits_together() -> None:
    assert set(FILES) < set(KINDS)
    assert set(DEFAULTS) < set(KINDS)
    assert set(STOOD_FOR.values()) < set(OPTIONS)
    assert not set(KINDS) & set(OTHERS)
    assert set(SINCE.values()) | set(VALUES_SINCE.values()) <= set(RELEASES)
    assert NEWEST.name == RELEASES[-1]


@pytest.mark.parametrize("checksum", ["a" * 64, "sha256:" + "A" * 64, " sha256:" + "a" * 64 + "\n"])
def test_digest(checksum: str) -> None:
    assert digest(checksum) == "a" * 64


@pytest.mark.parametrize("checksum", ["", "a" * 63, "sha1:" + "a" * 40, "sha256:" + "g" * 64, None, 5])
def test_no_digest(checksum: object) -> None:
    with pytest.raises(OptionError, match="64 hexadecimal digits"):
        digest(checksum)


@pytest.mark.parametrize(
    ("option", "text", "normal"),
    [
        ("iomem", "0xFE900,01@fe900", "fe900,1"),
        ("ioports", "02F8-0x2f8", "2f8"),
        ("pci", "bdf=1:0.0,vslot=0x3", "0000:01:00.0@3"),
        (
            "pci",
            "name=nic,permissive=1x,seize=yes,msitranslate= 01",
            "name=nic,msitranslate=1,permissive=1,seize=0",
        ),
        ("dtdev", "/soc/a", "/soc/a"),
        ("llc_colors", "2-3,5", "2-3"),
    ],
)
def test_items_of_lists(option: str, text: str, normal: str) -> None:
    assert KINDS[option].read(Setting([text], False, 1)) == [normal]
