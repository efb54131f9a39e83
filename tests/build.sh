#!/bin/sh
# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Build the collection into .cache/build, install it from there with no network into a folder of its own, and look
# whether Ansible finds every plugin of it by its full name from yet another folder.

set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
bin=$root/.venv/bin
built=$root/.cache/build
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

rm -rf "$built"
mkdir -p "$built"
ANSIBLE_HOME=$place/home
ANSIBLE_COLLECTIONS_PATH=$place/collections
export ANSIBLE_HOME ANSIBLE_COLLECTIONS_PATH
cd "$root"
"$bin/ansible-galaxy" collection build --output-path "$built" . >"$place/log" || { cat "$place/log" >&2; exit 1; }
for tarball in "$built"/*.tar.gz; do
    "$bin/ansible-galaxy" collection install --offline --collections-path "$place/collections" "$tarball" \
        >"$place/log" || { cat "$place/log" >&2; exit 1; }
done

cd "$place"
found=0
for kind in module filter; do
    folder=$root/plugins/${kind}s
    [ -d "$folder" ] || folder=$root/plugins/$kind
    for file in "$folder"/*.py; do
        name=$(basename "$file" .py)
        [ "$name" != __init__ ] || continue
        "$bin/ansible-doc" -t "$kind" "xen.virtio.$name" >/dev/null
        found=$((found + 1))
    done
done
echo "build: ${tarball#"$root"/}, $(du -h "$tarball" | cut -f1); installed offline, $found plugins found by name"
