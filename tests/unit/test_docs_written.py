# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pages that are written from the code: nothing of the code is missing there, and nothing else is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.xen.virtio.plugins.module_utils import _backend_rules, _findings
from pages import collect, findings, messages, releases

AREAS = messages.areas()
BY_HAND = "say do:, or says:, news:, part: or none:, in tests/pages/areas; then run: python tests/pages"
PAGES = {**messages.pages(AREAS), **findings.pages(), **releases.pages()}


@pytest.fixture(scope="module")
def told() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for text in collect.texts():
        found.setdefault(text.source, set()).add(text.text)
    return found


def test_every_file_that_tells_something_belongs_to_one_area(told: dict[str, set[str]]) -> None:
    named = [name for area in AREAS for name in area.sources]
    assert sorted(named) == sorted(told), "name the file in one of tests/pages/areas/*.yml"


@pytest.mark.parametrize("area", AREAS, ids=[area.name for area in AREAS])
def test_every_text_of_the_code_is_there_and_no_other(area: messages.Area, told: dict[str, set[str]]) -> None:
    for name, source in area.sources.items():
        known = [entry.text for entry in source.entries]
        assert sorted(known) == sorted(told.get(name, ())), f"{name}: {BY_HAND}"
        assert [entry.text for entry in source.entries if entry.kind == "new"] == [], f"{name}: {BY_HAND}"


@pytest.mark.parametrize("area", AREAS, ids=[area.name for area in AREAS])
def test_every_text_says_what_to_do_or_has_it_beside_it(area: messages.Area) -> None:
    entries = [(name, entry) for name, source in area.sources.items() for entry in source.entries]
    assert [(name, one.text) for name, one in entries if one.kind == "text" and not one.do] == [], BY_HAND
    silent = ("says", "news", "none")
    assert [(name, one.text) for name, one in entries if one.kind in silent and one.do] == [], (
        "its do: is not shown"
    )


@pytest.mark.parametrize("path", PAGES, ids=[path.stem for path in PAGES])
def test_pages_are_as_they_would_be_written(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == PAGES[path], "run: python tests/pages"


def test_no_page_of_messages_is_left_over() -> None:
    assert set(messages.PAGES.glob("*.md")) == {path for path in PAGES if path.parent == messages.PAGES}


def test_every_code_has_words() -> None:
    codes = {**_findings.CODES, **_findings.AUDIT_CODES, **_backend_rules.CODES}
    assert {finding.code for finding in FINDINGS} == set(codes)


FINDINGS = collect.findings()


@pytest.mark.parametrize("finding", FINDINGS, ids=[f"{one.code}-{at}" for at, one in enumerate(FINDINGS)])
def test_a_finding_says_what_is_wrong_what_would_happen_and_what_to_do(finding: collect.Finding) -> None:
    assert finding.message
    assert len(finding.why.split()) > 2
    assert len(finding.remedy.split()) > 2


@pytest.mark.parametrize(
    ("code", "message", "remedy"),
    [
        ('Finding("a", E, None, None, f"{n} is gone", "w", "mend it")', "<n> is gone", "mend it"),
        ('Finding("a", E, None, None, "b" if c else "d", "w", str(error))', "b / d", ""),
        (
            'def f(m):\n    Finding("a", E, None, None, m, "w", "r")\nf("one is gone")\nf(m="two")',
            "one is gone / two",
            "r",
        ),
        ('def f():\n    m = "it is gone"\n    Finding("a", E, None, None, m, "w", g(m))', "it is gone", ""),
        (
            'def f():\n    Finding("a", E, None, None, str(error), "w", g(1))\ndef g(x):\n    return "mend it"',
            "<error>",
            "mend it",
        ),
    ],
)
def test_what_a_finding_says(
    code: str, message: str, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "ROOT", tmp_path)
    monkeypatch.setattr(collect, "sources", lambda: [tmp_path / "source.py"])
    (tmp_path / "source.py").write_text(code)
    assert collect.findings() == [collect.Finding("a", message, "w", remedy)]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ('raise ValueError("no such disk")', ["no such disk"]),
        ('raise DiskError(f"{disk.vdev}: not there")', ["<vdev>: not there"]),
        ("raise DiskError(f\"{item['name']} is {len(found)} too many\")", ["<name> is <found> too many"]),
        ("raise DiskError(f\"known are {', '.join(sorted(names))} here\")", ["known are <names> here"]),
        ('KNOWN = "a, b"\nraise DiskError(f"take one of {KNOWN}")', ["take one of a, b"]),
        ('self._say("the store is back")', ["the store is back"]),
        ('why = "it is gone" if gone else "it was never there"', ["it is gone", "it was never there"]),
        ("raise DiskError(f\"{a} is {'not there yet' if b else c}\")", ["not there yet"]),
        ('MEANINGS = {"ENOSPC": "over quota"}', ["over quota"]),
        ('_say(f"{name}: waiting: {why}")', ["<name>: waiting: <why>"]),
        ('raise XlError(f"{shown}: failed ({status}): {said}")', ["<shown>: failed (<status>): <said>"]),
        ('WHY = "{name} is domain {domid} of Xen"', ["<name> is domain <domid> of Xen"]),
        (
            'Finding("quota", E, None, None, f"run by {init if init else \'nobody at all\'}", "w", "r")',
            ["nobody at all"],
        ),
        ('Finding("quota", E, None, None, words or "nobody said why", "w", "r")', ["nobody said why"]),
        ('raise KeyError("EINVAL")', []),
        ('print(f"{key}={value}")', []),
        ('"""A docstring of a module."""', []),
        ('DOCUMENTATION = "what a plugin says"', []),
        ('CODES: dict[str, str] = {"a": "told with findings alone"}', []),
        ('if text == "a word or two":\n    pass', []),
        ('text.startswith("a word or two")', []),
        ('re.compile("one or more words")', []),
        ('Finding("quota", ERROR, None, None, "too many disks there", "it fails then", "raise it")', []),
        ('UNIT = """[Unit]\nDescription=some more words\n[Service]\nExecStart=x\n"""', []),
        ('path = f"/local/domain/{domid}/name"', []),
    ],
)
def test_what_a_message_is(
    code: str, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "ROOT", tmp_path)
    source = tmp_path / "source.py"
    source.write_text(code)
    found = [text.text for text in collect._of_python(source)]
    assert [text for text in expected if text not in found] == []
    assert expected or not found


def test_where_texts_are_looked_for() -> None:
    read = {str(path.relative_to(collect.ROOT)) for path in [*collect.sources(), *collect.plays()]}
    assert read >= {
        "extensions/eda/plugins/event_source/xenstore.py",
        "extensions/eda/rulebooks/mend.yml",
        "playbooks/audit.yml",
        "playbooks/tasks/repair.yml",
        "plugins/filter/diskspec.py",
        "plugins/module_utils/_disk.py",
        "plugins/plugin_utils/_watcher.py",
        "roles/guest/defaults/main.yml",
        "roles/guest/tasks/main.yml",
        "roles/guest/templates/guest.cfg.j2",
        "roles/virtio_disk_backend/vars/main.yml",
    }


def test_a_new_text_has_to_be_written_about() -> None:
    area = messages.Area(
        "a", "A", "", {"x.py": messages.Source("X", "", [messages.Entry("text", "old words")])}
    )
    texts = [collect.Text("x.py", 1, "new words"), collect.Text("y.py", 1, "words of nobody's")]
    assert messages.renew([area], texts) == ["y.py"]
    assert area.sources["x.py"].entries == [messages.Entry("new", "new words")]


@pytest.mark.parametrize(
    ("play", "expected"),
    [
        ('fail_msg: "{{ host }} cannot be used: {{ why }}"', ["<…> cannot be used: <…>"]),
        ("msg: \"{{ lines or ['no guest runs here'] }}\"", ["no guest runs here"]),
        ("msg: '{{ lines or [\"no guest runs here\"] }}'", ["no guest runs here"]),
        ("msg: \"{{ 'is not \\\"here\\\" at all' if away else 'said' }}\"", ['is not "here" at all']),
        ('success_msg: "{{ host }} is as declared"', ["<…> is as declared"]),
        ("vars: {told: \"{{ 'has all its disks' if healthy else why }}\"}", ["has all its disks"]),
        ("name: A task of some words", []),
        ("when: \"'one or two' in words\"", []),
    ],
)
def test_what_a_message_of_a_play_is(
    play: str, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "ROOT", tmp_path)
    source = tmp_path / "play.yml"
    source.write_text(play)
    assert [text.text for text in collect._of_play(source)] == expected
