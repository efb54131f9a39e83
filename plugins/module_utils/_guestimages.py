# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files of a controller guests need on their host, and the guests with the paths they have there. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any

from ._guestconfig import GuestError, stored_name
from ._guestoptions import FILES, OptionError, digest
from ._merge import entries


def images_of(guests: object, folder: str) -> dict[str, list[dict[str, Any]]]:
    """Part guests from the files that are declared as ``{src, checksum}``.

    Args:
        guests: of one host, as a list or a mapping by name.
        folder: of the files on the host, absolute.

    Returns:
        ``images``: each file once, with ``src``, ``sha256`` (hexadecimal), ``path`` on the host and ``guests``, the
        names of those that use it; ``guests``: a list of them, with paths in place of files.

    Raises:
        MergeError, GuestError: what is wrong, and of which guest.
    """
    if not folder.startswith("/"):
        raise GuestError(f"the folder of images is an absolute path on the host, not {folder!r}")
    images: dict[str, dict[str, Any]] = {}
    changed = []
    for guest in entries(guests):
        whole = dict(guest)
        for option in FILES:
            if isinstance(whole.get(option), Mapping):
                image = _image(guest["name"], option, whole[option], folder)
                whole[option] = image["path"]
                if whole.get("state") == "absent":
                    continue  # needs nothing any more
                kept = images.setdefault(image["path"], image)
                if kept["sha256"] != image["sha256"]:
                    raise GuestError(
                        f"{guest['name']}: {option}: {image['path']} would be two different files"
                    )
                if guest["name"] not in kept["guests"]:
                    kept["guests"].append(guest["name"])
        changed.append(whole)
    return {"images": list(images.values()), "guests": changed}


def _image(guest: str, option: str, given: Mapping[str, Any], folder: str) -> dict[str, Any]:
    unknown = sorted(str(key) for key in set(given) - {"src", "checksum"})
    src, checksum = given.get("src"), given.get("checksum")
    if unknown or not isinstance(src, str) or not src or checksum is None:
        raise GuestError(
            f"{guest}: {option} is a path on the host, or a mapping of src and checksum, not {dict(given)!r}"
        )
    try:
        sha256 = digest(checksum)
    except OptionError as error:
        raise GuestError(f"{guest}: {option}: checksum {error}") from None
    path = posixpath.join(folder, stored_name(src, sha256))
    return {"src": src, "sha256": sha256, "path": path, "guests": [guest]}
