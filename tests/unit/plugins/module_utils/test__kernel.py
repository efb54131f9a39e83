# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a kernel tells of itself, in made-up roots."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._kernel import kernel_options, privcmd_restricted

CONFIG = "CONFIG_XEN=y\nCONFIG_XEN_GNTDEV=m\n# CONFIG_XEN_PRIVCMD is not set\n"
OPTIONS = ["CONFIG_XEN_GNTDEV", "CONFIG_XEN_PRIVCMD"]
READ = {"CONFIG_XEN_GNTDEV": "m", "CONFIG_XEN_PRIVCMD": "n"}


def put(root: Path, files: dict[str, str | bytes]) -> str:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(root)


@pytest.mark.parametrize(
    ("files", "where", "options"),
    [
        ({"proc/config.gz": gzip.compress(CONFIG.encode())}, "/proc/config.gz", READ),
        ({"boot/config-6.1": CONFIG}, "/boot/config-6.1", READ),
        ({"lib/modules/6.1/config": CONFIG}, "/lib/modules/6.1/config", READ),
        ({"boot/config-6.2": CONFIG}, None, {}),
        ({"proc/config.gz": b"not packed", "boot/config-6.1": CONFIG}, "/boot/config-6.1", READ),
        ({"proc/config.gz": gzip.compress(CONFIG.encode())[:-9]}, None, {}),
        ({"boot/config-6.1": "nothing of the kind"}, None, {}),
    ],
)
def test_options(
    tmp_path: Path, files: dict[str, str | bytes], where: str | None, options: dict[str, str]
) -> None:
    assert kernel_options("6.1", OPTIONS, put(tmp_path, files)) == (where, options)


KNOWS = "xen_privcmd.license=GPL\0xen_privcmd.parm=unrestricted:Don't\0"
OLD = "xen_privcmd.license=GPL\0"
MODULE = b"\x7fELF\0parm=unrestricted:Don't\0"
BUILTIN = "lib/modules/6.1/modules.builtin.modinfo"
KO = "lib/modules/6.1/kernel/drivers/xen/xen-privcmd.ko"


@pytest.mark.parametrize(
    ("domid", "files", "restricted", "words"),
    [
        (0, {BUILTIN: KNOWS}, False, "dom0"),
        (1, {}, None, "cannot be read"),
        (None, {}, None, "cannot be read"),
        (1, {BUILTIN: OLD}, False, "confines nobody"),
        (1, {BUILTIN: KNOWS}, True, "is not said"),
        (1, {BUILTIN: "other.license=GPL\0", KO: MODULE}, True, "is not said"),
        (1, {KO: b"\x7fELF"}, False, "confines nobody"),
        (1, {KO + ".xz": lzma.compress(MODULE)}, True, "is not said"),
        (1, {KO + ".gz": gzip.compress(MODULE)}, True, "is not said"),
        (1, {KO + ".gz": b"broken"}, None, "cannot be read"),
        (1, {BUILTIN: KNOWS, "proc/cmdline": "quiet xen_privcmd.unrestricted=1\n"}, False, "command line"),
        (1, {BUILTIN: KNOWS, "proc/cmdline": "xen-privcmd.unrestricted"}, False, "command line"),
        (1, {BUILTIN: KNOWS, "proc/cmdline": "xen-privcmd.unrestricted=0"}, True, "is not said"),
        (1, {BUILTIN: KNOWS, "proc/cmdline": "xen_privcmd.unrestricted=1 xen_privcmd.unrestricted=n"}, True, ""),
        (1, {BUILTIN: KNOWS, "proc/cmdline": "my_xen_privcmd.unrestricted=1"}, True, ""),
        (1, {KO: MODULE, "etc/modprobe.d/x.conf": "options xen-privcmd unrestricted=1\n"}, False, "modprobe.d/x.conf"),
        (1, {KO: MODULE, "etc/modprobe.d/x": "options xen-privcmd unrestricted=1\n"}, True, ""),
        (1, {BUILTIN: KNOWS, "proc/cmdline": "xen_privcmd.unrestricted=1",
             "sys/kernel/security/lockdown": "none [integrity] confidentiality\n"}, True, "locked down"),
        (1, {BUILTIN: KNOWS, "proc/cmdline": "xen_privcmd.unrestricted=1",
             "sys/kernel/security/lockdown": "[none] integrity confidentiality\n"}, False, "command line"),
    ],
)  # fmt: skip
def test_whether_privcmd_is_confined(
    tmp_path: Path, domid: int | None, files: dict[str, str | bytes], restricted: bool | None, words: str
) -> None:
    told, why = privcmd_restricted(domid, "6.1", put(tmp_path, files))
    assert told is restricted
    assert words in why
