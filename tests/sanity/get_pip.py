# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes the place of the pip installer that ansible-test would download for its environments.

``run.sh`` lays it where ansible-test keeps its download. Python brings a pip of its own, and that one
fetches the versions ansible-test asks for from wherever this machine's pip is set up to look.
"""

from __future__ import annotations

import os
import subprocess
import sys

environment = {name: value for name, value in os.environ.items() if name != "GET_PIP"}
# Two switches of the installer that pip itself does not know.
wanted = [argument for argument in sys.argv[1:] if argument not in {"--no-setuptools", "--no-wheel"}]

for command in (["ensurepip", "--default-pip"], ["pip", "install", *wanted]):
    done = subprocess.run(
        [sys.executable, "-m", *command], env=environment, check=False, stdout=subprocess.DEVNULL
    )
    if done.returncode:
        sys.exit(done.returncode)
