#!/bin/sh
# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Prepare this checkout: Debian packages, .venv, and the link under which Ansible finds the collection.
# Usage: sh tests/setup.sh demo|test|docs|sanity|molecule|matrix|e2e
#
# Plain sh, because a fresh machine may not even have Python. Does only what is missing; quick when nothing is.
# Whatever cannot be had is said in one sentence on standard error, and the exit status is 1.

set -eu

purpose=${1:-test}
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"

say() { printf '%s\n' "$*"; }
die() {
    printf '%s\n' "$*" >&2
    exit 1
}

# Each purpose needs what those before it need, too.
case $purpose in
demo) enough="demo test sanity molecule" requirements=tests/requirements-demo.txt ;;
test) enough="test sanity molecule" requirements=tests/requirements.txt ;;
docs) enough="docs sanity" requirements=tests/requirements-docs.txt ;;
sanity) enough="sanity" requirements=tests/requirements-sanity.txt ;;
molecule) enough="molecule" requirements=tests/requirements-molecule.txt ;;
matrix) enough="matrix" requirements=tests/requirements-matrix.txt ;;
e2e) enough="test sanity molecule e2e" requirements=tests/requirements.txt ;;
*) die "usage: sh tests/setup.sh demo|test|docs|sanity|molecule|matrix|e2e" ;;
esac

[ -w . ] || die "make $purpose writes to .venv and .cache of this checkout, and $root is not yours to write to."

# ---- Debian packages ----

# The lab runs real parts of Xen: its daemons and xl, their headers for the shims, and a compiler for these.
packages="xen-utils-4.17 xen-utils-common xenstore-utils libxen-dev gcc libc6-dev"
# Another Xen release's daemons and toolstack come out of a Debian root that the lab unpacks; device trees and
# units are held against the programs that read them.
[ "$purpose" = demo ] || packages="$packages mmdebstrap device-tree-compiler systemd util-linux mount e2fsprogs"
# Machines of the lab, and SSH to them.
[ "$purpose" = demo ] || packages="$packages systemd-container iproute2 openssh-client make git"
# The page of an audit is looked at in a real browser, which draws text only with a font.
[ "$purpose" = demo ] || packages="$packages chromium fonts-dejavu-core"
# Events go through ansible-rulebook, whose rules run in Java.
[ "$purpose" = demo ] || packages="$packages openjdk-17-jre-headless"
# Xen for Arm in an emulator, with a dom0 whose packages are set up here.
[ "$purpose" != e2e ] ||
    packages="$packages qemu-system-arm qemu-user-static arch-test cpio openssh-client"
# ansible-test passes over scripts where it has nothing to look at them with.
case $purpose in sanity | matrix) packages="$packages shellcheck" ;; esac
# The pages of the documentation are written by Python alone.
[ "$purpose" != docs ] || packages=""

able='import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))'
find_python() {
    for candidate in ${PYTHON:-python3 /usr/bin/python3}; do
        if "$candidate" -c "$able" 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
}
python=$(find_python)
[ -n "$python" ] || [ -n "${PYTHON:-}" ] || packages="$packages python3-venv"

installed() {
    [ "$(dpkg-query --show --showformat='${db:Status-Abbrev}' "$1" 2>/dev/null)" = "ii " ]
}

missing=""
for package in $packages; do
    installed "$package" || missing="$missing $package"
done

if [ -n "$missing" ]; then
    codename=$(. /etc/os-release 2>/dev/null && echo "${VERSION_CODENAME:-}") || codename=""
    system=$(. /etc/os-release 2>/dev/null && echo "${PRETTY_NAME:-}") || system=""
    if [ "$codename" != bookworm ] || ! command -v apt-get >/dev/null; then
        die "make $purpose runs real parts of Xen 4.17 out of Debian 12 (bookworm), and this is" \
            "${system:-an unknown system}: use a Debian 12 machine, virtual machine or container."
    fi
    if [ "$(id -u)" -ne 0 ]; then
        die "make $purpose needs Debian packages that are not installed; have root run:" \
            "apt-get install --no-install-recommends$missing"
    fi
    say "Installing Debian packages:$missing"
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    apt() {
        DEBIAN_FRONTEND=noninteractive apt-get -y -q -o Dpkg::Use-Pty=0 "$@" </dev/null >>"$log" 2>&1
    }
    apt update || true # one broken source of many need not matter; the installation tells
    # shellcheck disable=SC2086 # names of packages, each a word
    if ! apt install --no-install-recommends $missing; then
        cat "$log" >&2
        die "apt-get could not install$missing; its own words are above."
    fi
    [ -n "$python" ] || python=$(find_python)
fi

# ---- Python ----

[ -n "$python" ] ||
    die "make $purpose needs Python 3.11 or later with its venv module, and ${PYTHON:-python3} is not one;" \
        "name one with make $purpose PYTHON=/path/to/python3."

venv="$root/.venv"
# Another process of the same user may be at it.
mkdir -p .cache
exec 9>.cache/setup.lock
flock 9

state=$({ printf '%s\n' "$root" && cat tests/requirements*.txt; } | sha256sum | cut -c1-16)
ready() {
    "$venv/bin/python" -c '' 2>/dev/null || return 1
    for one in $enough; do
        [ ! -e "$venv/.ready-$state-$one" ] || return 0
    done
    return 1
}
if ! ready; then
    say "Installing Python packages into .venv for make $purpose"
    "$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear "$venv" ||
        die "$python could not make a virtual environment in .venv."
    "$venv/bin/python" -m pip install -qq --no-input --disable-pip-version-check -r "$requirements" </dev/null ||
        die "pip could not install what $requirements asks for; its own words are above."
    for old in "$venv"/.ready-*; do
        case $old in "$venv/.ready-$state-"*) ;; *) rm -f "$old" ;; esac
    done
    : >"$venv/.ready-$state-$purpose"
fi

# ---- the collection's place ----

# Ansible imports a collection only from …/ansible_collections/NAMESPACE/NAME.
place=.cache/collections/ansible_collections/xen
if [ "$(readlink "$place/virtio" 2>/dev/null)" != "$root" ]; then
    mkdir -p "$place"
    ln -sfn "$root" "$place/virtio"
fi
