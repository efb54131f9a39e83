#!/bin/sh
# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Build the collection into .cache/build, install it from there with no network into a folder of its own, and look
# whether Ansible finds every plugin of it by its full name from yet another folder, and whether it holds what users
# need and nothing else.

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

installed=$place/collections/ansible_collections/xen/virtio
there=$(cd "$installed" && ls -A)
users="COPYING
FILES.json
LICENSES
MANIFEST.json
README.md
changelogs
docs
extensions
meta
playbooks
plugins
roles"
# The changelog is there once there was a release.
if [ "$(printf '%s\n' "$there" | grep -vx CHANGELOG.rst | sort)" != "$users" ]; then
    printf 'build: the tarball does not hold what users need and nothing else (galaxy.yml, build_ignore):\n%s\n' \
        "$there" >&2
    exit 1
fi
for kept in extensions/eda extensions/execution-environment changelogs/changelog.yaml; do
    [ -e "$installed/$kept" ] || { echo "build: the tarball lacks $kept" >&2; exit 1; }
done
[ "$(find "$installed/extensions" "$installed/changelogs" -mindepth 1 -maxdepth 1 | wc -l)" -eq 3 ] || {
    echo "build: the tarball has more in extensions or changelogs than users need" >&2
    exit 1
}

cd "$place"
found=0
for kind in module filter inventory role playbook; do
    case $kind in
    module) set -- "$root"/plugins/modules/*.py ;;
    role) set -- "$root"/roles/* ;;
    playbook) set -- "$root"/playbooks/*.yml ;;
    *) set -- "$root/plugins/$kind"/*.py ;;
    esac
    for file in "$@"; do
        name=$(basename "$file")
        name=${name%.*}
        case $kind in
        playbook) "$bin/ansible-playbook" --syntax-check -i localhost, "xen.virtio.$name" >"$place/log" 2>&1 ;;
        role) "$bin/ansible-doc" -t role "xen.virtio.$name" | grep -q . ;;
        *) "$bin/ansible-doc" -t "$kind" "xen.virtio.$name" >"$place/log" 2>&1 ;;
        esac || { cat "$place/log" >&2; echo "build: no $kind xen.virtio.$name after installation" >&2; exit 1; }
        found=$((found + 1))
    done
done
echo "build: ${tarball#"$root"/}, $(du -h "$tarball" | cut -f1); installed offline, $found things found by name"
