# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A connection into a lab host: unlike ``local``, every command and every file is the host's own, as over SSH."""

from __future__ import annotations

import subprocess
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleFileNotFound
from ansible.plugins.connection import ConnectionBase

DOCUMENTATION = """
name: lab
short_description: Run in a lab host
description: Runs every command through the script that enters a lab host.
author: xen.virtio contributors
options:
  enter:
    description: The script.
    vars:
      - name: lab_enter
"""


class Connection(ConnectionBase):  # type: ignore[misc]  # Ansible has no types
    """Runs ``enter /bin/sh -c COMMAND``."""

    transport = "lab"
    has_pipelining = True

    def _connect(self) -> Connection:
        self._connected = True
        return self

    def _run(self, argv: list[str], data: bytes | None) -> tuple[int, bytes, bytes]:
        done = subprocess.run(
            [self.get_option("enter"), *argv],
            input=data or b"",
            capture_output=True,
            check=False,
            timeout=120,
            cwd="/",
        )
        if done.returncode == 127 and b"is down" in done.stderr:
            raise AnsibleConnectionFailure(done.stderr.decode())
        return done.returncode, done.stdout, done.stderr

    def exec_command(
        self, cmd: str, in_data: bytes | None = None, sudoable: bool = True
    ) -> tuple[int, bytes, bytes]:
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        return self._run(["/bin/sh", "-c", cmd], in_data)

    def put_file(self, in_path: str, out_path: str) -> None:
        super().put_file(in_path, out_path)
        try:
            with open(in_path, "rb") as file:
                content = file.read()
        except FileNotFoundError as error:
            raise AnsibleFileNotFound(f"{in_path}: no such file") from error
        code, _out, err = self._run(["/bin/sh", "-c", 'cat > "$0"', out_path], content)
        if code:
            raise AnsibleConnectionFailure(f"{out_path}: {err.decode()}")

    def fetch_file(self, in_path: str, out_path: str) -> None:
        super().fetch_file(in_path, out_path)
        code, out, err = self._run(["cat", in_path], None)
        if code:
            raise AnsibleConnectionFailure(f"{in_path}: {err.decode()}")
        with open(out_path, "wb") as file:
            file.write(out)

    def close(self) -> None:
        self._connected = False


__all__: list[Any] = ["Connection"]
