#!/bin/sh
# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# ruff and mypy over the whole checkout; all of them run, the exit status tells whether one had something to say.

set -u
root=$(cd "$(dirname "$0")/.." && pwd)
bin=$root/.venv/bin
cd "$root" || exit 1
failed=0

"$bin/ruff" check --quiet --output-format concise . || failed=1
"$bin/ruff" format --check --quiet --output-format concise . || failed=1
# mypy has to meet the modules under the names by which they import each other.
cd .cache/collections || exit 1
own=ansible_collections/xen/virtio
MYPYPATH=$PWD:$PWD/$own/tests:$PWD/$own/tests/system \
    "$bin/mypy" --config-file "$root/pyproject.toml" --cache-dir "$root/.mypy_cache" --no-error-summary \
    "$own/plugins" "$own/tests" "$own/extensions/eda" "$own/docs/site/conf.py" "$own/conftest.py" "$own/noxfile.py" || failed=1
[ $failed -eq 0 ] && echo 'lint: ruff and mypy have nothing to say'
exit $failed
