# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host keeps of its guests: records, images, backups, and files in two steps."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._guestfiles import (
    Checksums,
    Made,
    Records,
    back_up,
    image_missing,
    stage,
    store_image,
)
from ansible_collections.xen.virtio.plugins.module_utils._guestkept import (
    GuestFileError,
    Image,
    file_name,
    read_image,
)

NAMES = [
    ("linux1", "linux1"),
    ("a b", "a%20b"),
    ("../etc/passwd", "..%2Fetc%2Fpasswd"),
    ("..", "%2E%2E"),
    (".", "%2E"),
    ("ü", "%C3%BC"),
]


@pytest.mark.parametrize(("guest", "expected"), NAMES)
def test_any_name_is_one_file_name(guest: str, expected: str) -> None:
    assert file_name(guest) == expected


def test_a_record_is_kept_for_root_alone_and_read_back(tmp_path: Path) -> None:
    records = Records(str(tmp_path))
    made = Made("a b", uuid="u", domid=3, text="name='a b'\n", parsed={"b_info": {}}, release="4.17")
    made.held = [{"vdev": "xvda"}]
    records.write(made)
    path = tmp_path / "guests/a%20b.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert records.read("a b") == made
    assert made.parsed_for("name='a b'\n", "4.17") == {"b_info": {}}
    assert made.parsed_for("name='a b'\n", "4.20") is None
    assert made.parsed_for("else", "4.17") is None
    records.remove("a b")
    records.remove("a b")
    assert records.read("a b") is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": 2}', '{"name": "g"}'])
def test_a_record_that_is_none_is_found_out_anew(tmp_path: Path, content: str) -> None:
    (tmp_path / "guests").mkdir()
    (tmp_path / "guests/g.json").write_text(content)
    assert Records(str(tmp_path)).read("g") is None


def test_a_record_with_more_than_we_know_is_read(tmp_path: Path) -> None:
    (tmp_path / "guests").mkdir()
    (tmp_path / "guests/g.json").write_text('{"version": 1, "name": "else", "uuid": "u", "later": 1}')
    assert Records(str(tmp_path)).read("g") == Made("g", uuid="u")


def test_a_staged_file_takes_its_place_or_goes(tmp_path: Path) -> None:
    path = tmp_path / "new/file"
    stage(str(path), b"1", 0o640).commit()
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"1", 0o640)
    staged = stage(str(path), b"2", 0o640)
    assert path.read_bytes() == b"1"
    staged.discard()
    staged.discard()
    assert [one.name for one in path.parent.iterdir()] == ["file"]
    with pytest.raises(FileExistsError):
        stage(str(path / "below"), b"3", 0o640)


def test_a_backup_has_the_content_and_the_permissions(tmp_path: Path) -> None:
    path = tmp_path / "g.cfg"
    assert back_up(str(path)) is None
    path.write_text("old")
    path.chmod(0o640)
    kept = Path(back_up(str(path)) or "")
    assert kept.read_text() == "old"
    assert kept.stat().st_mode & 0o777 == 0o640
    assert kept.name.startswith("g.cfg.")
    assert kept.name.endswith("~")


def image(folder: Path, content: bytes = b"kernel", **more: Any) -> Image:
    (folder / "src").write_bytes(content)
    given = {"src": str(folder / "src"), "checksum": f"sha256:{hashlib.sha256(content).hexdigest()}", **more}
    return read_image("g", "kernel", given, str(folder / "images"), "src-1")


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"checksum": "md5:1"}, "checksum"),
    ({"checksum": None}, "checksum"),
    ({"checksum": "sha256:" + "g" * 64}, "checksum"),
    ({"src": "relative"}, "absolute"),
    ({"mode": "0644"}, "unknown key 'mode'"),
]


@pytest.mark.parametrize(("more", "words"), REFUSED)
def test_an_image_that_cannot_be_meant(tmp_path: Path, more: dict[str, Any], words: str) -> None:
    with pytest.raises(GuestFileError, match=words):
        image(tmp_path, **more)


def test_an_image_is_stored_once_and_never_overwritten(tmp_path: Path) -> None:
    one = image(tmp_path)
    assert image_missing(one, Checksums())
    store_image(one)
    assert Path(one.path).read_bytes() == b"kernel"
    assert not image_missing(one, Checksums())
    store_image(one)
    assert [path.name for path in Path(one.path).parent.iterdir()] == ["src-1"]
    Path(one.path).write_bytes(b"rotten")
    with pytest.raises(GuestFileError, match="never overwritten"):
        image_missing(one, Checksums())


def test_a_source_that_is_another_file(tmp_path: Path) -> None:
    one = image(tmp_path)
    (tmp_path / "src").write_bytes(b"other")
    with pytest.raises(GuestFileError, match="has the checksum"):
        image_missing(one, Checksums())
    with pytest.raises(GuestFileError, match="changed while"):
        store_image(one)
    assert list((tmp_path / "images").iterdir()) == []
    (tmp_path / "src").unlink()
    with pytest.raises(GuestFileError, match="no file that can be read"):
        image_missing(one, Checksums())


def test_a_file_that_nobody_touched_is_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "Image"
    path.write_bytes(b"1")
    facts = Checksums().facts(str(path))
    assert facts["sha256"] == hashlib.sha256(b"1").hexdigest()
    forged = {**facts, "sha256": "known"}
    assert Checksums().facts(str(path), forged)["sha256"] == "known"
    os.utime(path, (1, 1))
    assert Checksums().facts(str(path), forged)["sha256"] == facts["sha256"]
    assert Checksums().facts(str(tmp_path / "none"))["sha256"] is None
    assert Checksums().facts(str(tmp_path))["sha256"] is None
