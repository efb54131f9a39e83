# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of the event source; what it does with a store is in tests/system/test_events.py."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.plugin_utils._watcher import OptionError, Options


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sockt": "/x"}, "unknown option sockt; did you mean socket?"),
        ({"zzz": 1}, "unknown option zzz; known are disks, domains, paths, socket"),
        ({"disks": "yes"}, "disks is true or false, not 'yes'"),
        ({"socket": 5}, "socket is a text, not 5"),
        ({"host": ""}, "host is a text, not ''"),
        ({"socket": "/a", "xenbus": "/b"}, "socket and xenbus exclude each other; leave one out"),
        ({"delay": -1}, "delay is a number of seconds from 0 to 60, not -1"),
        ({"timeout": True}, "timeout is a number of seconds from 0.001 to 3600, not True"),
        ({"retry": "5"}, "retry is a number of seconds from 0.1 to 3600, not '5'"),
        ({"paths": 7}, "paths is a list of paths, not 7"),
        ({"paths": ["tool"]}, "paths: 'tool' is no path of xenstore"),
        ({"paths": ["/a b"]}, "paths: '/a b' is no path of xenstore"),
        ({"paths": [5]}, "paths: 5 is no path of xenstore"),
        ({"disks": False, "domains": False}, "nothing to watch: set disks, domains or paths"),
    ],
)
def test_an_option_that_cannot_be_used(given: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        Options.of(given)
    assert str(caught.value).startswith(f"xen.virtio.xenstore: {message}")


def test_options() -> None:
    assert Options.of({}) == Options()
    given = {"paths": "/tool", "delay": 1, "host": "b07", "socket": None}
    assert Options.of(given) == Options(paths=("/tool",), delay=1.0, host="b07")
