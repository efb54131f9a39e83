# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user wishes of a host's guests, checked and in one form. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ._declaration import nearest
from ._guestconfig import OURS, GuestError, GuestSpec, declare_guest, split_guest, stored_name
from ._guestkept import Image, file_name, read_image
from ._guestplan import GONE, RECREATE, STATES

#: Options of a config that may be an image: ``{src, checksum}``.
IMAGES = ("kernel", "ramdisk", "device_tree")

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z", re.ASCII | re.IGNORECASE)


class WishError(ValueError):
    """A guest that cannot be read; the text names it and the option."""


@dataclass(frozen=True)
class Wish:
    """One guest as wished for.

    Attributes:
        name: its name, which stands for its domain as well.
        state: one of `_guestplan.STATES`.
        spec: its configuration; None where none was said, or a text of the user's own.
        content: that text.
        path: of its configuration on the host.
        recreate, force_destroy, allow_reorder: the guards.
        autostart: whether it comes up with the host; None leaves it as it is.
        images: files to be kept under their checksums.
    """

    name: str
    state: str
    path: str
    spec: GuestSpec | None = None
    content: str | None = None
    recreate: str = "never"
    force_destroy: bool = False
    allow_reorder: bool = False
    autostart: bool | None = None
    images: tuple[Image, ...] = ()

    @property
    def uuid(self) -> str | None:
        """The UUID that was said of it."""
        return self.spec.options.get("uuid") if self.spec is not None else None

    @property
    def said(self) -> bool:
        """Whether anything was said of its configuration."""
        return self.spec is not None or self.content is not None


def read_wishes(
    guests: object, defaults: Mapping[str, Any], *, config_dir: str, images_dir: str
) -> tuple[Wish, ...]:
    """Read guests: a list, or a mapping by name.

    Args:
        guests: as the user wrote them.
        defaults: of the keys in `OURS`, for guests that say nothing else.
        config_dir: where a configuration lies whose path is not said.
        images_dir: where images are kept.

    Raises:
        WishError: what is wrong, and with which guest.
        GuestError, GuestFileError: the same, of an option.
    """
    wishes = tuple(_wish(entry, defaults, config_dir, images_dir) for entry in _entries(guests))
    for index, wish in enumerate(wishes):
        for other in wishes[:index]:
            if other.name == wish.name:
                raise WishError(f"guest {wish.name} is declared twice; declare a guest once")
            if other.path == wish.path:
                raise WishError(
                    f"guests {other.name} and {wish.name} share the path {wish.path}; give each its own"
                )
            if wish.uuid is not None and other.uuid == wish.uuid:
                raise WishError(
                    f"guests {other.name} and {wish.name} share the uuid {wish.uuid}; give each its own"
                )
    return wishes


def _entries(guests: object) -> Iterable[Mapping[str, Any]]:
    if isinstance(guests, Mapping):
        for name, entry in guests.items():
            if entry is not None and not isinstance(entry, Mapping):
                raise WishError(f"guests: {name}: a guest is a mapping of its options, not {entry!r}")
            said = dict(entry or {})
            if str(said.setdefault("name", name)) != str(name):
                raise WishError(f"guests: {name} calls itself {said['name']!r}; a guest's key is its name")
            yield said
        return
    if not isinstance(guests, (list, tuple)):
        raise WishError(f"guests is a list of guests or a mapping by name, not {guests!r}")
    for index, entry in enumerate(guests):
        if not isinstance(entry, Mapping):
            raise WishError(f"guests[{index}]: a guest is a mapping of its options, not {entry!r}")
        yield entry


def _wish(entry: Mapping[str, Any], defaults: Mapping[str, Any], config_dir: str, images_dir: str) -> Wish:
    said = {key: value for key, value in entry.items() if value is not None}
    given = said.get("name")
    if given is None or isinstance(given, (bool, Mapping, list)) or not str(given).strip():
        raise WishError("a guest needs a name")
    name = _name(given)
    config, beside = split_guest(said)
    ours: dict[str, Any] = {key: defaults.get(key) for key in OURS} | beside
    flags = check_ours({"name": name, **ours})
    images = []
    for option in IMAGES:
        image = config.get(option)
        if isinstance(image, Mapping):
            declare_guest({"name": name, option: image})  # says which guest and which option is wrong
            if image.get("checksum") is None:
                raise WishError(f"{name}: {option}: checksum is missing: sha256: and 64 hexadecimal digits")
            kept = stored_name(str(image.get("src")), str(image.get("checksum")))
            images.append(read_image(name, option, image, images_dir, kept))
            config[option] = images[-1].path
    content = ours["content"]
    has_config = set(config) - {"name"}
    if content is not None and not isinstance(content, str):
        raise WishError(f"{name}: content is the text of a configuration, not {content!r}")
    if content is not None and has_config:
        raise WishError(
            f"{name}: content is a whole configuration, so {sorted(has_config)[0]} beside it would have no effect; "
            "leave one of them out"
        )
    if ours["state"] == GONE:
        content, has_config, images = None, set(), []
    return Wish(
        name=name,
        state=ours["state"],
        path=_path(name, ours["path"], config_dir),
        spec=declare_guest(config) if has_config else None,
        content=content,
        recreate=ours["recreate"],
        force_destroy=flags["force_destroy"] or False,
        allow_reorder=flags["allow_reorder"] or False,
        autostart=flags["autostart"],
        images=tuple(images),
    )


def check_ours(guest: Mapping[str, Any]) -> dict[str, bool | None]:
    """Look at what is said of a guest beside its configuration.

    Returns:
        The flags among it; None where one is not said.

    Raises:
        WishError: a value that is none.
    """
    name = str(guest.get("name"))
    for key, known in (("state", STATES), ("recreate", RECREATE)):
        if guest.get(key) is not None:
            _one_of(name, key, guest[key], known)
    if guest.get("path") is not None:
        _path(name, guest["path"], "/")
    return {key: _flag(name, key, guest.get(key)) for key in ("force_destroy", "allow_reorder", "autostart")}


def _name(given: object) -> str:
    """The name of a guest, and of nothing else: whatever is done to it is done to the domain of that name."""
    name = declare_guest({"name": given}).name
    if _UUID.match(name):
        raise WishError(f"guest {name}: that is a UUID; a guest is called by its name here")
    return name


def _one_of(name: str, key: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise WishError(
            f"{name}: {key} is one of {', '.join(known)}, not {value!r}{nearest(str(value), known)}"
        )


def _flag(name: str, key: str, value: object) -> bool | None:
    words = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}
    if isinstance(value, str):
        value = words.get(value.strip().lower(), value)
    if value is not None and not isinstance(value, bool):
        raise WishError(f"{name}: {key} is true or false, not {value!r}")
    return value


def _path(name: str, path: object, config_dir: str) -> str:
    if path is None:
        if not config_dir.startswith("/"):
            raise WishError(f"config_dir is an absolute path, not {config_dir!r}")
        return posixpath.join(config_dir, f"{file_name(name)}.cfg")
    if not isinstance(path, str) or not path.startswith("/") or "\0" in path or path.endswith("/"):
        raise WishError(f"{name}: path is the absolute path of its configuration, not {path!r}")
    return posixpath.normpath(path)


__all__ = ["IMAGES", "OURS", "GuestError", "Wish", "WishError", "read_wishes"]
