#!/bin/sh
# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# The documentation as pages, in .cache/docs/html, from the files that are read in the repository as well: the README,
# docs/, the roles' READMEs, and what the plugins say of themselves. A warning is an error. Asks the network for nothing.

set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
bin=$root/.venv/bin
place=$root/.cache/docs
log=$place/log

mkdir -p "$place"
# Pages lie as their files do, so that links between them hold in both. Made beside what is there, and put in its place
# whole.
rm -rf "$place/source.new" "$place/html.new"
mkdir -p "$place/source.new"
cd "$root"
cp README.md CONTRIBUTING.md "$place/source.new"
find docs tests \( -name '*.md' -o -path 'docs/pictures/*.svg' \) -exec cp --parents -t "$place/source.new" {} +
mv "$place/source.new/docs/site/index.md" "$place/source.new/index.md"

# What ansible-doc says, as one page a plugin and role.
export ANSIBLE_HOME="$place/home" ANSIBLE_COLLECTIONS_PATH="$root/.cache/collections" ANSIBLE_NOCOLOR=1
PATH=$bin:$PATH
mkdir -p "$place/source.new/reference"
antsibull-docs --config-file "$root/docs/site/antsibull-docs.cfg" collection --use-current --squash-hierarchy \
    --fail-on-error --dest-dir "$place/source.new/reference" xen.virtio >"$log" 2>&1 || { cat "$log" >&2; exit 1; }

# What has not changed keeps its time, and Sphinx reads it not again. Pages are all written, since each shows the titles of others.
"$bin/python" "$root/tests/pages/renew.py" "$place/source.new" "$place/source"
rm -rf "$place/source.new"
sphinx-build -q -W --keep-going -n -b html -c docs/site -d "$place/doctrees" "$place/source" "$place/html.new" </dev/null
rm -rf "$place/html"
mv "$place/html.new" "$place/html"
echo "docs: $place/html/index.html"
