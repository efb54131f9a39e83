# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``make e2e``: the image, the board, the tests; 2 where this machine cannot run them."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from e2e.board import check_machine  # noqa: E402 - needs the path above
from e2e.image import E2eUnavailable, obtain  # noqa: E402


def main() -> int:
    """Refuse early, then hand over to pytest."""
    try:
        check_machine(Path(tempfile.gettempdir()))
        obtain(lambda text: print(f"e2e: {text}", file=sys.stderr, flush=True))
    except E2eUnavailable as error:
        print(f"e2e: {error}", file=sys.stderr)
        return 2
    command = [sys.executable, "-m", "pytest", str(HERE), "-p", "no:cacheprovider", *sys.argv[1:]]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
