# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages of the documentation in a real browser: whole by themselves, light and dark, wide and narrow.

Part of ``make sanity``, which builds them (tests/docs.sh): that takes longer than ``make test`` has time for.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, find

HTML = Path(__file__).resolve().parents[2] / ".cache/docs/html"

#: One of each kind, and those that are widest.
PAGES = [
    "index.html",
    "README.html",
    "docs/concepts.html",
    "docs/howto/first-guest.html",
    "docs/messages/guests.html",
    "docs/releases.html",
    "reference/index.html",
    "reference/guest_module.html",
    "reference/mmio_plan_filter.html",
    "reference/guest_role.html",
]
WITH_PICTURES = {"index.html", "docs/concepts.html"}
SCHEMES = ["light", "dark"]
WIDTHS = [1280, 360]  # CSS pixels: a desk, a telephone

#: What reaches beyond the page to the right, and is in nothing that can be scrolled.
BEYOND = """
[...document.querySelectorAll('article *')].filter(one => {
    if (!one.checkVisibility() || one.getBoundingClientRect().right <= innerWidth + 1) return false
    for (let above = one; above; above = above.parentElement)
        if (['auto', 'scroll'].includes(getComputedStyle(above).overflowX)) return false
    return true
}).map(one => one.outerHTML.slice(0, 80))
"""

#: How many tables of options, which hold prose, have to be moved aside to be read; examples and figures may.
ASIDE = """
[...document.querySelectorAll('table.ansible-option-table')]
    .filter(one => one.parentElement.scrollWidth > one.parentElement.clientWidth + 1).length
"""

#: The least contrast of a text with what is behind it, as WCAG 2 counts it.
CONTRAST = """
(() => {
    const numbers = colour => colour.match(/[0-9.]+/g).map(Number)
    const light = ([red, green, blue]) => {
        const [r, g, b] = [red, green, blue].map(one => one / 255)
            .map(one => one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b
    }
    const behind = one => {
        for (let above = one; above; above = above.parentElement) {
            const colour = numbers(getComputedStyle(above).backgroundColor)
            if (colour.length < 4 || colour[3] === 1) return colour
        }
        return [255, 255, 255]
    }
    const walker = document.createTreeWalker(document.querySelector('article'), NodeFilter.SHOW_TEXT)
    let worst = [21, '']
    while (walker.nextNode()) {
        const one = walker.currentNode.parentElement, said = walker.currentNode.textContent.trim()
        if (!said || !one.checkVisibility({opacityProperty: true}) || one.closest('.headerlink')) continue
        const pair = [light(numbers(getComputedStyle(one).color)), light(behind(one))].sort((a, b) => a - b)
        const ratio = (pair[1] + 0.05) / (pair[0] + 0.05)
        if (ratio < worst[0]) worst = [ratio, said.slice(0, 60)]
    }
    return worst
})()
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find()
    if program is None:
        pytest.skip("needs Chromium; sh tests/setup.sh sanity installs it")
    if not HTML.is_dir():
        pytest.skip("needs the pages; sh tests/docs.sh makes them")
    with Browser(tmp_path_factory.mktemp("browser"), program) as browser:
        yield browser


@pytest.fixture
def browser(running: Browser) -> Iterator[Browser]:
    """At the end of a test it must have said nothing and loaded nothing but files."""
    running.console.clear()
    running.requests.clear()
    yield running
    assert running.console == []
    assert running.requests
    assert [one for one in running.requests if not one.startswith(("file:", "data:"))] == []


@pytest.mark.parametrize("page", PAGES)
def test_a_page_fits_and_can_be_read(browser: Browser, page: str) -> None:
    backgrounds = set()
    for scheme in SCHEMES:
        browser.prefers(scheme)
        for width in WIDTHS:
            browser.size(width, 800)
            browser.open(HTML / page)
            assert browser.js("document.documentElement.scrollWidth <= innerWidth"), (scheme, width)
            assert browser.js(BEYOND) == [], (scheme, width)
            assert browser.js(ASIDE) == 0, (scheme, width)
        ratio, said = browser.js(CONTRAST)
        assert ratio >= 4.5, (scheme, ratio, said)
        backgrounds.add(browser.js("getComputedStyle(document.body).backgroundColor"))
    assert len(backgrounds) == len(SCHEMES)


@pytest.mark.parametrize("page", PAGES)
def test_its_pictures_are_there(browser: Browser, page: str) -> None:
    browser.size(WIDTHS[0], 800)
    browser.open(HTML / page)
    pictures: list[Any] = browser.js(
        "Promise.all([...document.images].map(one => one.decode().then(() => one.naturalWidth, () => 0)))"
    )
    assert all(pictures)
    assert bool(pictures) == (page in WITH_PICTURES)


def test_the_search_needs_no_server(browser: Browser) -> None:
    browser.size(WIDTHS[0], 800)
    browser.open(HTML / "search.html", "?q=drain")
    # results come one after the other; where none is about it, the browser's own limit ends this
    browser.js("""new Promise(resolve => {
        const results = () => [...document.querySelectorAll('#search-results li a')]
        const look = () => results().some(one => /drain/i.test(one.textContent)) ? resolve() : setTimeout(look, 50)
        look()
    })""")
