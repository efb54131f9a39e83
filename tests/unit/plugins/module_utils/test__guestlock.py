# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One at a time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._guestlock import LockError, locked, locked_guests


def test_a_lock_is_held_and_given_back(tmp_path: Path) -> None:
    folder = str(tmp_path / "run")
    with (
        locked(folder, "one", "guest one", 1),
        locked(folder, "two", "guest two", 0),
        pytest.raises(LockError, match=f"guest one is being changed by another run.*process {os.getpid()} "),
        locked(folder, "one", "guest one", 0.05),
    ):
        pass
    with locked(folder, "one", "guest one", 0):
        pass


def test_guests_are_locked_together_whatever_their_order(tmp_path: Path) -> None:
    with locked_guests(str(tmp_path), ["b", "a", "a b", "b"], 0):
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "guest-a%20b.lock",
            "guest-a.lock",
            "guest-b.lock",
        ]
        with pytest.raises(LockError, match="guest b"), locked_guests(str(tmp_path), ["0", "b"], 0):
            pass
        with locked_guests(str(tmp_path), ["0"], 0):
            pass  # what the loser had is free again


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LockError, match="lock_dir"), locked(str(tmp_path / "file"), "one", "guest one", 0):
        pass


def test_a_link_in_the_place_of_a_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "one.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LockError), locked(str(tmp_path), "one", "guest one", 0):
        pass
    assert not (tmp_path / "elsewhere").exists()
