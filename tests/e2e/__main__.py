# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``make e2e``: the image, the board, the tests; 77 where this machine cannot run them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from e2e.board import check_machine  # noqa: E402 - needs the path above
from e2e.image import E2eUnavailable, ImageError, obtain  # noqa: E402

#: What boards left behind: a folder each.
LOGS = HERE.parents[1] / ".cache/e2e"
#: The exit status where this machine cannot run it.
CANNOT = 77


def main() -> int:
    """Refuse early, then hand over to pytest: once for Debian's Xen, once for one that the user brings."""
    try:
        check_machine(Path(tempfile.gettempdir()))
        obtain(lambda text: print(f"e2e: {text}", file=sys.stderr, flush=True))
    except E2eUnavailable as error:
        print(f"e2e: cannot run here: {error}", file=sys.stderr)  # .ci/run looks for these words
        return CANNOT
    except ImageError as error:
        print(f"e2e: the image of the board could not be made: {error}", file=sys.stderr)
        return 1
    shutil.rmtree(LOGS, ignore_errors=True)
    data_path = HERE / "test_data_path.py"
    status = _pytest(str(HERE), f"--ignore={data_path}")
    brought = [name for name in ("XEN_IMAGE", "VIRTIO_DISK_BINARY") if os.environ.get(name)]
    if len(brought) == 2:
        return _pytest(str(data_path)) or status
    print(
        "e2e: the data path was not tested: XEN_IMAGE and VIRTIO_DISK_BINARY name no files", file=sys.stderr
    )
    return status


def _pytest(*what: str) -> int:
    command = [sys.executable, "-m", "pytest", *what, "-p", "no:cacheprovider", *sys.argv[1:]]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
