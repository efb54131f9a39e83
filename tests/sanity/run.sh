#!/bin/sh
# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Ansible's own tools over the collection; all of them run, the exit status tells whether one had something to say.
# Names of ansible-test sanity tests as arguments run these alone; --target-python=X.Y adds a Python of boards.
# BIN and CACHE name another environment and folder than the checkout's own, and ONLY=ansible-test leaves the rest out.

set -u
root=$(cd "$(dirname "$0")/../.." && pwd)
bin=${BIN:-$root/.venv/bin}
cache=${CACHE:-$root/.cache/sanity}
place=$cache/ansible_collections/xen/virtio
PATH=$bin:$PATH
export PATH

# ansible-test works on …/ansible_collections/NAMESPACE/NAME only, and does not follow a link there.
# Its environments stay where they are: they take minutes to make.
mkdir -p "$cache"
[ ! -d "$place/tests/output" ] || mv "$place/tests/output" "$cache/output"
rm -rf "$place"
mkdir -p "$place/tests"
[ ! -d "$cache/output" ] || mv "$cache/output" "$place/tests/output"
cd "$root" || exit 1
git ls-files -z --cached --others --exclude-standard |
    "$bin/python" -c 'import os, sys
for name in sys.stdin.buffer.read().split(b"\0"):
    if name and os.path.lexists(name):  # deleted, but not yet committed
        sys.stdout.buffer.write(name + b"\0")' |
    tar --create --null --files-from=- | tar --extract --directory "$place"
cd "$place" || exit 1
git init --quiet . && git add --all . || exit 1 # else git would say that all of it is ignored by the checkout around

# Whatever these tools keep, they keep it here and not in the user's home.
HOME=$cache/home
ANSIBLE_HOME=$HOME/.ansible
ANSIBLE_COLLECTIONS_PATH=$cache
export HOME ANSIBLE_HOME ANSIBLE_COLLECTIONS_PATH
mkdir -p "$HOME/.ansible/test/cache"
version=$("$bin/python" - <<'END'
import re
from importlib.util import find_spec
from pathlib import Path

internal = Path(find_spec("ansible_test").origin).parent / "_internal/python_requirements.py"
print(re.search(r"\bpip='([0-9.]+)'", internal.read_text())[1].replace(".", "_"))
END
)
cp "$root/tests/sanity/get_pip.py" "$HOME/.ansible/test/cache/get_pip_$version.py"

failed=""
check() {
    title=$1
    shift
    echo "-- $title"
    "$@" </dev/null || failed="$failed, $title"
}

python=$("$bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
alone="" # of whose tests some were named
where="--venv"
for name in "$@"; do
    shift
    alone=yes
    case $name in
    --target-python=*) where="--controller" && set -- "$@" "$name" ;;
    *) set -- "$@" --test "$name" ;;
    esac
done
case $where in
--venv) set -- --venv --python "$python" "$@" ;;
*) set -- --controller "origin:python=$python" "$@" ;;
esac
check "ansible-test sanity" ansible-test sanity --color no "$@"
if [ "$alone" = "" ] && [ "${ONLY:-}" = "" ]; then
    check "antsibull-docs" antsibull-docs lint-collection-docs --plugin-docs --skip-rstcheck .
    check "docs" sh "$root/tests/docs.sh"
    check "docs in a browser" env XEN_VIRTIO_NO_SKIPS=1 "$bin/python" -m pytest -q -c "$root/pyproject.toml" \
        --rootdir "$root" "$root/tests/site"
    check "antsibull-changelog" antsibull-changelog lint
    check "reuse" "$bin/reuse" --root "$root" lint --quiet
    check "ansible-lint" ansible-lint --offline --strict --nocolor
fi
if [ -n "$failed" ]; then
    echo "sanity: something to say: ${failed#, }" >&2
    exit 1
fi
echo "sanity: nothing to say"
