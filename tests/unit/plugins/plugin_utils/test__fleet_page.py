# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of an audit in a real Chromium: what it shows, what it runs, what a person without a mouse can do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from ansible_collections.xen.virtio.plugins.plugin_utils._fleet_page import embedded, fleet_page
from ansible_collections.xen.virtio.plugins.plugin_utils._fleet_report import fleet_report
from browser import Browser, find, texts
from fleets import HOSTILE, Json, disk, entry, guest, large, read, small

Show = Callable[..., Browser]
WHEN = "2026-03-01 09:30 UTC"


def hostile() -> list[Json]:
    """A fleet in which every text that a guest can write is one that would like to be more than text."""
    return [
        entry(
            "b01",
            read(
                *(
                    guest(text, number + 2, {**disk("xvda", text), "vdev": text})
                    for number, text in enumerate(HOSTILE)
                )
            ),
            declared=[],
        ),
        *(
            entry(text, read(guest("linux1", 2, disk(backend=text, health=text, state=text))))
            for text in HOSTILE
        ),
    ]


def page(hosts: list[Json], title: str = "Xen fleet") -> str:
    return fleet_page(fleet_report(hosts, WHEN, title))


class Elements(HTMLParser):
    """The elements of a page as HTML has them, and the text in each script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.inside = ""
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.inside = tag
        for name, _value in attrs:
            assert not name.startswith("on"), name
            assert name not in ("src", "srcset", "style", "ping"), name

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts.append(data)


@pytest.mark.parametrize("text", HOSTILE)
def test_json_in_a_script_is_text(text: str) -> None:
    inside = embedded({text: [text]})
    assert inside.isascii()
    assert inside.isprintable()
    assert not set("<>&'") & set(inside)
    assert json.loads(inside) == {text: [text]}


def test_what_guests_write_adds_no_element() -> None:
    tame, wild = Elements(page([entry()])), Elements(page(hostile(), HOSTILE[0]))
    assert wild.names == tame.names
    assert json.loads("".join(wild.scripts[:-1]))["hosts"][0]["domains"]


def test_nothing_is_loaded_and_nothing_is_read_as_html() -> None:
    text = page(small())
    assert re.findall(r"https?://(?!www\.(?:gnu|w3)\.org)", text) == []
    for sink in (
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "document.write",
        "eval(",
        "Function(",
        "fetch(",
        "import(",
    ):
        assert sink not in text
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy.startswith("default-src &#x27;none&#x27;; style-src &#x27;sha256-")
    assert "unsafe" not in policy


# --- in the browser --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find()
    if program is None:
        pytest.skip("needs Chromium; sh tests/setup.sh test installs it")
    with Browser(tmp_path_factory.mktemp("browser"), program) as running:
        yield running


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Iterator[Show]:
    """Opens a page; at the end it must have said and loaded nothing."""

    def opened(hosts: list[Json], fragment: str = "", title: str = "Xen fleet") -> Browser:
        browser.console.clear()
        browser.requests.clear()
        path = tmp_path / "audit.html"
        path.write_text(page(hosts, title))
        browser.size(1280, 900)
        browser.prefers("light")
        browser.open(path, fragment)
        return browser

    yield opened
    assert browser.console == []
    assert [one for one in browser.requests if not one.startswith("file:")] == []
    assert len(browser.requests) == 1


def test_one_glance(show: Show) -> None:
    seen = show(small())
    assert texts(seen, "#verdict") == [
        "2 of 5 hosts need attention: 2 errors, 9 warnings. 1 host could not be read."
    ]
    assert texts(seen, "#map li") == ["board-b", "board-c", "board-d", "board-a", "board-e"]
    assert seen.js("document.querySelector('#map a').ariaLabel") == "board-b, error"
    assert texts(seen, ".host[open] .name") == ["board-b, error"]
    assert texts(seen, ".host[open] .finding header code")[:2] == ["disk-lost", "drift-state"]
    assert seen.js("document.querySelectorAll('.picture svg .wire').length") == 7


@pytest.mark.parametrize(
    ("hosts", "verdict"),
    [
        ([], "No host was looked at."),
        ([entry()], "The only host is in order."),
        ([entry(), entry("b02")], "All 2 hosts are in order."),
        ([entry("b01", declared=[])], "1 of 1 host needs attention: 0 errors, 1 warning."),
        ([{"name": "b01"}], "1 host could not be read."),
    ],
)
def test_the_verdict(show: Show, hosts: list[Json], verdict: str) -> None:
    assert texts(show(hosts), "#verdict") == [verdict]


def test_filter_and_search(show: Show) -> None:
    seen = show(small())
    seen.press("/")
    assert seen.js("document.activeElement.id") == "search"
    seen.press(*"mmcblk0p5")
    assert texts(seen, ".host .name") == ["board-b, error"]
    assert texts(seen, "#count") == ["1 of 5 hosts"]
    seen.press("Escape")
    assert len(texts(seen, ".host .name")) == 5
    seen.js("document.querySelector('[data-state=error]').click()")
    assert texts(seen, "#map li")[0] == "board-c"
    seen.js("document.querySelector('#reset').click(); new Promise(done => setTimeout(done, 20))")
    seen.js("document.querySelector('#codes [data-code=drift-store]').click()")
    assert texts(seen, ".host .name") == ["board-b, error"]
    assert texts(seen, ".finding header code") == ["drift-store"]
    seen.press("/", *"nowhere at all")
    assert texts(seen, ".nothing") == ["No host fits. Clear the filter to see all."]


def test_with_the_keyboard_alone(show: Show) -> None:
    seen = show(small())
    seen.press("Tab")
    assert seen.js("document.activeElement.textContent") == "Skip to the hosts"
    seen.press("Tab", "Tab")
    assert seen.js("document.activeElement.textContent") == "board-b"
    seen.press("End", "ArrowLeft", "ArrowRight", "ArrowRight")
    assert seen.js("document.activeElement.textContent") == "board-e"
    assert seen.js("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    seen.press("Enter")
    assert texts(seen, ".host[open] .name") == ["board-b, error", "board-e, ok"]
    assert seen.js("document.activeElement.closest('details').textContent").startswith("board-e")
    seen.press("Enter")
    assert texts(seen, ".host[open] .name") == ["board-b, error"]


def test_every_control_has_a_name(show: Show) -> None:
    seen = show(small())
    tree = seen.call("Accessibility.getFullAXTree")["nodes"]
    nameless = [
        one["role"]["value"]
        for one in tree
        if not one.get("ignored")
        and one["role"]["value"]
        in ("button", "link", "searchbox", "combobox", "image", "img", "DisclosureTriangle")
        and not one["name"]["value"].strip()
    ]
    assert nameless == []
    roles = {one["role"]["value"] for one in tree}
    assert {"banner", "main", "contentinfo", "search", "status", "heading"} <= roles


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(show: Show, scheme: str) -> None:
    seen = show(small())
    seen.prefers(scheme)
    seen.js("new Promise(requestAnimationFrame)")
    light = "rgb(246, 247, 249)"
    background = "getComputedStyle(document.body).backgroundColor"
    assert (seen.js(background) == light) == (scheme == "light")
    for expected in (True, False, scheme == "light"):  # Theme: light, dark, and auto again
        seen.js("document.querySelector('#theme').click()")
        assert (seen.js(background) == light) == expected
    low = seen.js(CONTRAST)
    assert low == [], low


#: Texts that stand out from what is behind them by less than 4.5 (WCAG 2.2, 1.4.3).
CONTRAST = """(() => {
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const low = new Set();
  for (const one of document.querySelectorAll("body *")) {
    if (!one.checkVisibility() || one.closest("svg, .unseen, .skip, option")) continue;
    if (![...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim())) continue;
    let under = one;
    while (under && parse(getComputedStyle(under).backgroundColor)[3] === 0) under = under.parentElement;
    const colours = [getComputedStyle(one).color, getComputedStyle(under || document.body).backgroundColor];
    const [ink, paper] = colours.map((colour) => light(parse(colour)));
    const ratio = (Math.max(ink, paper) + .05) / (Math.min(ink, paper) + .05);
    if (ratio < 4.5) low.add(`${one.className} ${one.textContent.slice(0, 30)} ${ratio.toFixed(2)}`);
  }
  return [...low];
})()"""


OPEN = """
for (const one of document.querySelectorAll("details")) one.open = true;
new Promise((done) => setTimeout(done, 200))
"""


def test_no_text_of_a_guest_is_more_than_text(show: Show) -> None:
    seen = show(hostile(), title=HOSTILE[0])
    title = seen.js("document.title")
    for _time in range(2):  # the second time what stands in the first
        seen.js(OPEN)
    assert seen.js("document.title") == title
    assert seen.js("document.querySelectorAll('script').length") == 2
    assert (
        seen.js(
            "document.querySelectorAll('main img, main iframe, main object, [onfocus], [onerror]').length"
        )
        == 0
    )
    kinds = r"[\0-\x08\x0b-\x1f\u200e\u200f\u202a-\u202e\u2066-\u2069]"
    odd = f"[...document.body.innerText].filter((one) => /{kinds}/.test(one))"
    assert seen.js(odd) == []
    assert seen.js("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("width", [320, 768, 1280])
def test_nothing_is_wider_than_the_window(show: Show, width: int) -> None:
    seen = show(small())
    seen.size(width, 900)
    assert seen.js("document.documentElement.scrollWidth") <= width


def test_print(show: Show, tmp_path: Path) -> None:
    seen = show(small())
    seen.js("window.dispatchEvent(new Event('beforeprint'))")
    seen.prefers("dark", "print")
    assert len(texts(seen, ".host[open] .picture")) == 4
    assert texts(seen, "#tools") == []
    assert seen.js("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    seen.pdf(tmp_path / "audit.pdf")
    assert (tmp_path / "audit.pdf").read_bytes().startswith(b"%PDF")
    seen.prefers("light")
    seen.js("window.dispatchEvent(new Event('afterprint'))")
    assert texts(seen, ".host[open] .name") == ["board-b, error"]


def test_a_large_fleet(show: Show) -> None:
    """What is shown at once does not grow with what could be: details are drawn when they are opened."""
    seen = show(large())
    assert len(texts(seen, "#map li")) == 200
    assert seen.js("document.querySelectorAll('.body').length") == 1
    assert seen.js("document.querySelectorAll('*').length") < 20_000
    seen.js("document.querySelectorAll('#map a')[150].click()")
    assert seen.js("document.querySelectorAll('.body').length") == 2


def test_a_link_opens_its_host(show: Show) -> None:
    seen = show(small(), "#host-3")
    assert texts(seen, ".host[open] .name") == ["board-a, ok"]
    # typed into the address of the page that is open, too
    seen.js("location.hash = '#host-4'; new Promise((done) => addEventListener('hashchange', done))")
    assert texts(seen, ".host[open] .name") == ["board-a, ok", "board-e, ok"]
    seen.js("location.hash = '#host-99'; new Promise((done) => addEventListener('hashchange', done))")
    assert texts(seen, ".host[open] .name") == ["board-a, ok", "board-e, ok"]


#: What is the matter with a disk → how its wire, its dot and its guest's box are drawn.
COLOURS = {
    "attached": "ok",
    "unknown": "ok",
    "pending": "warning",
    "drifted": "warning",
    "stale": "warning",
    "closing": "error",
    "closed": "error",
    "missing": "error",
}


def test_colours_by_health(show: Show) -> None:
    """Each disk in the picture as it is; what is said by colour is another colour, and on top of what is well."""
    drift = [{"node": "/n", "what": "value", "expected": "1", "found": "2"}]
    guests = [
        guest(health, number, disk("xvda", f"/dev/vg/{health}", health=health, drift=drift))
        for number, health in enumerate(COLOURS, 2)
    ]
    seen = show([entry("b01", read(*guests))])
    named = "[...document.querySelectorAll('.picture g')].filter((one) => one.querySelector(':scope > .dot'))"
    drawn = seen.js(
        f"{named}.map((one) => [one.querySelector('.big').textContent, one.querySelector('.box').classList[1], "
        "one.querySelector('.dot').classList[1]])"
    )
    assert {name: (box, dot) for name, box, dot in drawn} == {
        name: (kind, kind) for name, kind in COLOURS.items()
    }
    wires = seen.js("[...document.querySelectorAll('.wire')].map((one) => one.classList[1])")
    assert sorted(wires) == sorted(COLOURS.values())
    assert wires[:2] == ["ok", "ok"]
    strokes = {
        kind: seen.js(f"getComputedStyle(document.querySelector('.wire.{kind}')).stroke")
        for kind in set(COLOURS.values())
    }
    assert len(set(strokes.values())) == 3, strokes
