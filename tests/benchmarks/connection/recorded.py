# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A connection that leads nowhere: every module is answered with what one of its name once returned on a real host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.connection import ConnectionBase

DOCUMENTATION = """
name: recorded
short_description: Answers out of files
description: What is sent is looked through for the name of a module; C(NAME.json) in a folder is the answer.
author: xen.virtio contributors
options:
  folder:
    description: The folder.
    vars:
      - name: recorded_folder
"""


class Connection(ConnectionBase):  # type: ignore[misc]  # Ansible has no types
    """Costs what Ansible itself costs, and no more."""

    transport = "recorded"
    has_pipelining = True

    def _connect(self) -> Connection:
        self._connected = True
        return self

    def exec_command(
        self, cmd: str, in_data: bytes | None = None, sudoable: bool = True
    ) -> tuple[int, bytes, bytes]:
        """The answer."""
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        for path in Path(self.get_option("folder")).glob("*.json"):
            if path.stem.encode() in (in_data or b""):
                return 0, path.read_bytes(), b""
        return 0, b"", b""

    def put_file(self, in_path: str, out_path: str) -> None:
        """Nothing is kept."""

    def fetch_file(self, in_path: str, out_path: str) -> None:
        """There is nothing to be had."""

    def close(self) -> None:
        self._connected = False


__all__: list[Any] = ["Connection"]
