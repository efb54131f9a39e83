# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host keeps of its guests beside their configurations: what each was made from, and images.

xl keeps no text of what it made a domain from, and a kernel's path says nothing about its content. So what a
guest was created from is kept here: the configuration's text, what xl made of it, and the files' checksums.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from stat import S_ISREG
from typing import Any

from ._files import content_of
from ._guestkept import GuestFileError, Image, file_name

STATE_DIR = "/var/lib/xen-virtio"
IMAGES_DIR = f"{STATE_DIR}/images"

_CHUNK = 1 << 20


# --- what a guest was made from --------------------------------------------------------------------------


@dataclass
class Made:
    """What a domain was created from, and how far a create went.

    Attributes:
        name: the guest.
        uuid, domid: of the domain; none while a create has not ended.
        text: the configuration that it was created from.
        parsed: what ``xl create -n`` made of that text.
        release: of the xl that did.
        files: option (kernel, ramdisk, device_tree) → path, checksum and what stat said of it.
        sizes: device number → bytes of its target then, where they could be told.
        creating: a create that has not ended: the domids that the host had before it, and the host's boot.
        held: storage of an earlier domain which no one has been seen to let go of.
        asked: uuid of a domain that was asked to shut down and did not, within the time that it had: it may yet.
    """

    name: str
    uuid: str = ""
    domid: int | None = None
    text: str = ""
    parsed: dict[str, Any] = field(default_factory=dict)
    release: str = ""
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    creating: dict[str, Any] | None = None
    held: list[dict[str, Any]] = field(default_factory=list)
    asked: str = ""

    def parsed_for(self, text: str, release: str) -> dict[str, Any] | None:
        """What this host's xl made of a text, where it is the one that is kept."""
        return self.parsed if self.parsed and (self.text, self.release) == (text, release) else None


class Records:
    """The records of a host's guests, one file each."""

    def __init__(self, state_dir: str = STATE_DIR) -> None:
        self.folder = os.path.join(state_dir, "guests")

    def path_of(self, guest: str) -> str:
        """Where a guest's record lies."""
        return os.path.join(self.folder, f"{file_name(guest)}.json")

    def read(self, guest: str) -> Made | None:
        """What is kept of a guest; None where nothing is, or nothing that can be read: it can be found out anew."""
        try:
            content = content_of(self.path_of(guest))
            kept = json.loads(content) if content is not None else None
        except (OSError, ValueError):
            return None
        if not isinstance(kept, dict) or kept.get("version") != 1:
            return None
        known = {name: kept[name] for name in Made.__dataclass_fields__ if name in kept}
        known["name"] = guest
        return Made(**known)

    def write(self, made: Made) -> None:
        """Keep a record.

        Raises:
            GuestFileError: it cannot be written.
        """
        path = self.path_of(made.name)
        text = json.dumps({"version": 1, **asdict(made)}, indent=1, sort_keys=True) + "\n"
        try:
            # a configuration may hold a password
            stage(path, text.encode("utf-8", "surrogateescape"), 0o600).commit()
        except OSError as error:
            raise GuestFileError(f"{path}: cannot be written: {error.strerror}; see state_dir") from error

    def remove(self, guest: str) -> None:
        """Forget a guest."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path_of(guest))


def boot_id() -> str:
    """This boot of the host, in its own words (random(4)); empty where it does not say."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


# --- files written in two steps --------------------------------------------------------------------------


class Staged:
    """A file that lies beside its place, ready to take it."""

    def __init__(self, path: str, fresh: str) -> None:
        self.path, self._fresh = path, fresh

    def commit(self) -> None:
        """Put it in its place, at once. Raises OSError."""
        os.replace(self._fresh, self.path)

    def discard(self) -> None:
        """Do without."""
        with contextlib.suppress(OSError):
            os.unlink(self._fresh)


def stage(path: str, content: bytes, mode: int, owner: tuple[int, int] | None = None) -> Staged:
    """Write a file beside its place, so that what can fail has failed before anything depends on it.

    Args:
        path: its place.
        content: all of it.
        mode: its permissions.
        owner: user and group, where it is to have others than this process; kept where the file system can.

    Raises:
        OSError: it cannot be written there; nothing is left.
    """
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o755, exist_ok=True)
    handle, fresh = tempfile.mkstemp(dir=folder, prefix=f".{os.path.basename(path)}.")
    staged = Staged(path, fresh)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            now = os.fstat(file.fileno())
            if owner is not None and owner != (now.st_uid, now.st_gid):
                with contextlib.suppress(PermissionError):
                    os.fchown(file.fileno(), *owner)
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
    except BaseException:
        staged.discard()
        raise
    return staged


def back_up(path: str) -> str | None:
    """Keep what a file holds now, in a file of its own beside it.

    Returns:
        That file, named as Ansible names its backups; None where there is nothing to keep.

    Raises:
        OSError: it cannot be written.
    """
    content = content_of(path)
    if content is None:
        return None
    stamp = time.strftime("%Y-%m-%d@%H:%M:%S", time.localtime())
    kept = f"{path}.{os.getpid()}.{stamp}~"
    now = os.stat(path)
    stage(kept, content, now.st_mode & 0o777, (now.st_uid, now.st_gid)).commit()
    return kept


# --- images ----------------------------------------------------------------------------------------------


class Checksums:
    """Checksums of files, each read once a call and not at all where stat says what it said before."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, Any], str] = {}

    def facts(self, path: str, known: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """A file's path, sha256 and stat; sha256 is None where it is no file that can be read.

        Args:
            path: of the file.
            known: what this gave earlier, to save reading a file that was not touched.
        """
        try:
            told = os.stat(path)
        except OSError:
            return {"path": path, "sha256": None, "stat": None}
        if not S_ISREG(told.st_mode):  # a pipe would hold us up, a device has no end
            return {"path": path, "sha256": None, "stat": None}
        stat = [told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns, told.st_ctime_ns]
        if known and known.get("path") == path and known.get("stat") == stat and known.get("sha256"):
            return dict(known)
        key = (path, tuple(stat))
        if key not in self._known:
            try:
                self._known[key] = sha256_of(path)
            except OSError:
                return {"path": path, "sha256": None, "stat": None}
        return {"path": path, "sha256": self._known[key], "stat": stat}


def sha256_of(path: str) -> str:
    """A file's checksum, in hexadecimal. Raises OSError."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(_CHUNK), b""):
            found.update(chunk)
    return found.hexdigest()


def image_missing(image: Image, checksums: Checksums) -> bool:
    """Whether an image is still to be stored.

    Raises:
        GuestFileError: what lies in its place, or its source, is another file.
    """
    kept = checksums.facts(image.path)["sha256"]
    if kept == image.sha256:
        return False
    if kept is not None or os.path.lexists(image.path):
        raise GuestFileError(
            f"{image.option}: {image.path} does not have the checksum in its name; an image is never overwritten: "
            "remove it where no guest runs from it"
        )
    found = checksums.facts(image.src)["sha256"]
    if found is None:
        raise GuestFileError(f"{image.option}: {image.src} is no file that can be read on this host")
    if found != image.sha256:
        raise GuestFileError(
            f"{image.option}: {image.src} has the checksum sha256:{found}, not sha256:{image.sha256}; copy the right "
            "file, or declare the checksum that it has"
        )
    return True


def store_image(image: Image) -> None:
    """Copy an image to its place, whole or not at all.

    Raises:
        GuestFileError: it cannot be copied, or changed while it was.
    """
    folder = os.path.dirname(image.path)
    fresh = None
    try:
        os.makedirs(folder, mode=0o755, exist_ok=True)
        handle, fresh = tempfile.mkstemp(dir=folder, prefix=".image.")
        digest = hashlib.sha256()
        with os.fdopen(handle, "wb") as target, open(image.src, "rb") as source:
            for chunk in iter(lambda: source.read(_CHUNK), b""):
                digest.update(chunk)
                target.write(chunk)
            target.flush()
            os.fchmod(target.fileno(), 0o644)
            os.fsync(target.fileno())
        if digest.hexdigest() != image.sha256:
            raise GuestFileError(f"{image.option}: {image.src} changed while it was copied; run again")
        os.link(fresh, image.path)  # unlike a rename, refuses where somebody was faster
    except FileExistsError:
        pass
    except OSError as error:
        raise GuestFileError(f"{image.option}: {image.path} cannot be written: {error.strerror}") from error
    finally:
        if fresh is not None:
            with contextlib.suppress(OSError):
                os.unlink(fresh)
