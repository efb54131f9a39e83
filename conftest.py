# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make this checkout importable as ``ansible_collections.xen.virtio``, wherever it lies; allow no silent gaps."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent
COLLECTIONS = ROOT / ".cache" / "collections"


def link_checkout() -> None:
    """Link the checkout to where Ansible looks for a collection (idempotent, safe side by side)."""
    link = COLLECTIONS / "ansible_collections" / "xen" / "virtio"
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_symlink() and link.resolve() == ROOT:
        return
    fresh = link.with_name(f"virtio.{os.getpid()}")
    fresh.symlink_to(ROOT, target_is_directory=True)
    fresh.replace(link)


def install_finder() -> None:
    """Let ``import ansible_collections.xen.virtio…`` find the link, as Ansible itself would."""
    from ansible.utils.collection_loader._collection_finder import _AnsibleCollectionFinder  # noqa: PLC0415

    if any(isinstance(finder, _AnsibleCollectionFinder) for finder in sys.meta_path):
        return
    _AnsibleCollectionFinder(paths=[str(COLLECTIONS)])._install()


link_checkout()
sys.path.insert(0, str(ROOT / "tests"))
from skips import FACT  # noqa: E402 - the line above is its way here

if "ANSIBLE_TEST_CONTENT_ROOT" not in os.environ:  # ansible-test brings its own finder
    install_finder()


with suppress(ImportError):  # only tests that are about any input need it
    from hypothesis import settings

    # no test is about how fast something was, and a machine that does other things as well is slow
    settings.register_profile("unhurried", deadline=None)
    settings.load_profile("unhurried")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where everything was installed on purpose (make test), a test that skips itself has failed.

    Only what no installation could change may be missing, and says so in these words.
    """
    report = yield
    given = FACT in str(report.longrepr)
    if report.skipped and not given and os.environ.get("XEN_VIRTIO_NO_SKIPS"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and here nothing may be: {report.longrepr}"
    return report
