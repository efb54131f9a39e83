# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The launcher's settings: one JSON file, read with care and written always alike."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

#: Where they lie, and where units and launcher say what they are.
SETTINGS = "/etc/xen-virtio/backend.json"
RUN_DIR = "/run/virtio-disk"

#: Options of the daemon that make sense behind a launcher; its ``-d`` is the launcher's own.
ARGUMENTS = frozenset({"-l"})

#: Longest times that may be asked for, in seconds.
_LIMIT = 600.0
_TIMES = ("served_within", "settle", "runs_within", "closes_within", "size_interval")


class SettingsError(ValueError):
    """Settings that cannot be used; the text names the file and the option."""


@dataclass(frozen=True)
class Settings:
    """What the launcher goes by.

    Attributes:
        daemon: the daemon's absolute path; links are followed at each start.
        version: of the daemon, to be told.
        view: whether each daemon sees its own guest alone.
        arguments: more options of the daemon, of `ARGUMENTS`.
        shared_targets: storage that several guests may write to.
        served_within, settle, runs_within, closes_within: seconds, see `_launch.Rules`.
        size_interval: seconds between looks at the sizes of served targets.
    """

    daemon: str
    version: str = ""
    view: bool = True
    arguments: tuple[str, ...] = ()
    shared_targets: tuple[str, ...] = ()
    served_within: float = 3.0
    settle: float = 0.5
    runs_within: float = 10.0
    closes_within: float = 3.0
    size_interval: float = 60.0

    @classmethod
    def read(cls, path: str = SETTINGS) -> Settings:
        """Settings out of their file. Raises SettingsError."""
        try:
            with open(path, encoding="utf-8") as file:
                document = json.load(file)
        except OSError as error:
            raise SettingsError(
                f"{path}: {error.strerror}; have it written by xen.virtio.backend_launcher"
            ) from error
        except ValueError as error:
            raise SettingsError(f"{path}: not JSON: {error}") from error
        if not isinstance(document, dict):
            raise SettingsError(f"{path}: not an object")
        try:
            return cls.of(document)
        except SettingsError as error:
            raise SettingsError(f"{path}: {error}") from error

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Settings:
        """Settings out of a mapping; unknown ones are of a later release and left out. Raises SettingsError."""
        given = {field.name: document[field.name] for field in fields(cls) if field.name in document}
        for name in ("arguments", "shared_targets"):
            if name in given:
                given[name] = _texts(name, given[name])
        for name in _TIMES:
            if name in given:
                given[name] = _seconds(name, given[name])
        daemon = given.get("daemon")
        if not isinstance(daemon, str) or not re.fullmatch(r"/[\x20-\x7e]+", daemon):
            raise SettingsError(f"daemon: {daemon!r} is no absolute path of printable characters")
        if not isinstance(given.get("version", ""), str):
            raise SettingsError("version: not a text")
        if not isinstance(given.get("view", True), bool):
            raise SettingsError("view: neither true nor false")
        wrong = sorted(set(given.get("arguments", ())) - ARGUMENTS)
        if wrong:
            raise SettingsError(f"arguments: {wrong[0]!r} is not one of {', '.join(sorted(ARGUMENTS))}")
        wrong = [target for target in given.get("shared_targets", ()) if not os.path.isabs(target)]
        if wrong:
            raise SettingsError(f"shared_targets: {wrong[0]!r} is no absolute path")
        return cls(**given)

    def text(self) -> bytes:
        """The file's content; what is as it is by default is left out."""
        document: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("daemon", "version", "view") or value != field.default:
                document[field.name] = list(value) if isinstance(value, tuple) else value
        return (json.dumps(document, indent=2, sort_keys=True) + "\n").encode()


def _texts(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) for one in value):
        raise SettingsError(f"{name}: not a list of texts")
    return tuple(value)


def _seconds(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= _LIMIT:
        raise SettingsError(f"{name}: {value!r} is not between 0 and {_LIMIT:g} seconds")
    return float(value)
