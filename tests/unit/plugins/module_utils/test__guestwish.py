# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What users wish of guests; tables."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._guestkept import GuestFileError
from ansible_collections.xen.virtio.plugins.module_utils._guestwish import (
    GuestError,
    Wish,
    WishError,
    read_wishes,
)

DEFAULTS = {"state": "running", "recreate": "never", "force_destroy": False, "allow_reorder": False}
UUID = "ed664281-59c4-4596-90ab-6ae6be61326c"
SUM = "sha256:" + "ab" * 32


def read(guests: object, **defaults: Any) -> tuple[Wish, ...]:
    return read_wishes(guests, {**DEFAULTS, **defaults}, config_dir="/etc/xen", images_dir="/images")


def test_a_list_and_a_mapping_mean_the_same() -> None:
    as_list = read([{"name": "a", "memory": 64}, {"name": "b"}])
    assert as_list == read({"a": {"memory": 64}, "b": None})
    assert [(one.name, one.path, one.said) for one in as_list] == [
        ("a", "/etc/xen/a.cfg", True),
        ("b", "/etc/xen/b.cfg", False),
    ]


def test_a_guests_own_word_counts_before_the_tasks() -> None:
    guests = {
        "a": {"state": "paused", "recreate": "allowed", "autostart": "yes", "force_destroy": "no"},
        "b": {},
    }
    one, two = read(guests, state="shutdown", force_destroy=True)
    assert (one.state, one.recreate, one.autostart, one.force_destroy) == ("paused", "allowed", True, False)
    assert (two.state, two.recreate, two.autostart, two.force_destroy) == ("shutdown", "never", None, True)


def test_what_is_null_is_not_said() -> None:
    (one,) = read([{"name": "a", "memory": None, "state": None, "disks": None}])
    assert (one.said, one.state) == (False, "running")
    (one,) = read([{"name": "a", "disks": []}])
    assert one.said


def test_an_image_becomes_a_path_of_its_own() -> None:
    (one,) = read([{"name": "a", "kernel": {"src": "/boot/Image", "checksum": SUM}}])
    assert one.spec is not None
    assert one.spec.options["kernel"] == one.images[0].path
    assert one.images[0].path.startswith("/images/Image")
    (gone,) = read([{"name": "a", "kernel": {"src": "/boot/Image", "checksum": SUM}}], state="absent")
    assert (gone.images, gone.said) == ((), False)


REFUSED: list[tuple[object, str]] = [
    ("linux1", "list of guests or a mapping"),
    ([3], "a guest is a mapping"),
    ({"a": 3}, "a guest is a mapping"),
    ({"a": {"name": "b"}}, "calls itself 'b'"),
    ([{}], "needs a name"),
    ([{"name": " "}], "needs a name"),
    ([{"name": ["a"]}], "needs a name"),
    ([{"name": "a"}, {"name": "a"}], "declared twice"),
    ([{"name": "a", "path": "/x"}, {"name": "b", "path": "/y/../x"}], "share the path"),
    ([{"name": "a", "state": "up"}], "state is one of"),
    ([{"name": "a", "state": "runing"}], "did you mean 'running'"),
    ([{"name": "a", "recreate": True}], "recreate is one of"),
    ([{"name": "a", "autostart": 3}], "true or false"),
    ([{"name": "a", "path": "x.cfg"}], "absolute path"),
    ([{"name": "a", "path": "/etc/xen/"}], "absolute path"),
    ([{"name": "a", "content": ["x"]}], "content is the text"),
    ([{"name": "2", "state": "absent"}], "takes for a domid"),
    ([{"name": 2, "state": "shutdown"}], "takes for a domid"),
    ([{"name": "../x", "state": "absent"}], "no name to use"),
    ([{"name": "a\nb", "state": "absent"}], "no name to use"),
    ([{"name": "Domain-0", "state": "absent"}], "name of dom0"),
    ([{"name": "ED664281-59c4-4596-90ab-6ae6be61326c", "state": "absent"}], "that is a UUID"),
    ([{"name": "a", "uuid": UUID}, {"name": "b", "uuid": UUID.upper()}], "share the uuid"),
    ([{"name": "a", "kernel": {}}], "guest a: kernel: src is missing"),
    ([{"name": "a", "kernel": {"src": "/k"}}], "a: kernel: checksum is missing"),
    ([{"name": "a", "kernel": {"src": "/k", "checksum": "zz"}}], "guest a: kernel: must be 'sha256:'"),
    ([{"name": "a", "kernel": {"source": "/k"}}], "guest a: kernel: unknown key 'source'"),
    ([{"name": "a", "kernel": {"src": "k", "checksum": SUM}}], "a: kernel: src is an absolute path"),
    ([{"name": "a", "content": "name='a'", "memory": 3}], "memory beside it"),
]


@pytest.mark.parametrize(("guests", "words"), REFUSED)
def test_what_cannot_be_meant(guests: object, words: str) -> None:
    with pytest.raises((WishError, GuestError, GuestFileError), match=words):
        read(guests)


def test_the_folder_of_configurations_is_absolute() -> None:
    with pytest.raises(WishError, match="config_dir is an absolute path"):
        read_wishes([{"name": "a"}], DEFAULTS, config_dir="xen", images_dir="/images")
