# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module fleet_audit on the host that keeps the files: writes what its action plugin made."""

from __future__ import annotations

import base64
import contextlib
import os
import tempfile
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

FLEET_AUDIT_ARGUMENT_SPEC: dict[str, Any] = {
    "hosts": {"type": "list", "elements": "str", "required": True},
    "read": {"type": "str", "required": True},
    "drivers": {"type": "str", "required": True},
    "dest": {"type": "path"},
    "max_severity": {"type": "str", "choices": ["none", "warning", "error"], "default": "warning"},
    "title": {"type": "str", "default": "Xen fleet"},
    # large, and nothing that a result should tell again
    "files": {"type": "dict", "default": {}, "no_log": True},
}


def main_fleet_audit(module: AnsibleModule) -> None:
    """The module fleet_audit."""
    folder = module.params["dest"]
    if not folder:
        module.fail_json(msg="dest is missing: name a folder for the report")
    try:
        if module.check_mode:
            module.exit_json(changed=not os.path.isdir(folder))
        files = {name: unpack(packed) for name, packed in module.params["files"].items()}
        module.exit_json(changed=keep(folder, files))
    except OSError as error:
        module.fail_json(msg=why(error, folder))


def pack(content: bytes) -> str:
    """As a task carries it: the page of a large fleet has hundreds of megabytes."""
    return base64.b64encode(zlib.compress(content, 6)).decode()


def unpack(packed: str) -> bytes:
    """What was packed."""
    return zlib.decompress(base64.b64decode(packed))


def keep(folder: str, files: Mapping[str, bytes]) -> bool:
    """Write files that all may read, each whole or not at all. Whether the folder was made. Raises OSError."""
    made = not os.path.isdir(folder)
    os.makedirs(folder, mode=0o755, exist_ok=True)
    for name, content in files.items():
        handle, fresh = tempfile.mkstemp(dir=folder, prefix=".audit-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.chmod(fresh, 0o644)
            os.replace(fresh, os.path.join(folder, os.path.basename(name)))
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(fresh)
            raise
    return made


def why(error: OSError, folder: str) -> str:
    """Why nothing was written."""
    return f"{error.filename or folder}: {error.strerror}; name a folder for the report that can be written"
