# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rollout as a document: batches, rows, the threshold, the way on, and the table."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.xen.virtio.plugins.plugin_utils._rollout import (
    SERIAL,
    Settings,
    advanced,
    batches_of,
    checkpoint_of,
    ended,
    names_of,
    percentage_of,
    planned,
    serial_of,
    since_of,
)
from ansible_collections.xen.virtio.plugins.plugin_utils._rollout_boards import (
    CHANGED,
    FAILED,
    OFFLINE,
    OK,
    REFUSED,
    Board,
    RolloutError,
)
from ansible_collections.xen.virtio.plugins.plugin_utils._rollout_table import rollout_table

Json = dict[str, Any]


def names(number: int) -> list[str]:
    return [f"b{one:02}" for one in range(1, number + 1)]


def settings(**more: Any) -> Settings:
    return Settings(**{"started": "now", "checkpoint": "rollout-1", "by_hand": ("-i", "inventory"), **more})


def work(name: str, **more: Any) -> Board:
    return Board(name, CHANGED, work=("linux1 recreated",), **more)


def rows(report: Json) -> dict[str, str]:
    return {row["name"]: row["status"] for row in report["hosts"]}


def reason(report: Json, name: str) -> str:
    return str(next((row["reason"] for row in report["hosts"] if row["name"] == name), ""))


DONE = {"begun": True, "done": True, "changed": True}
WRONG = {"begun": True, "failed": True, "task": "Watch", "failure": {"failed": True, "msg": "linux1 crashed"}}
BACK = {**WRONG, "rollback": True, "restored": {"msg": "1 restored", "changed": True}}


@pytest.mark.parametrize(
    ("number", "serial", "canary", "sizes"),
    [
        (0, SERIAL, [], []),
        (1, SERIAL, [], [1]),
        (3, SERIAL, [], [1, 1, 1]),
        (10, SERIAL, [], [1, 1, 3, 5]),
        (25, SERIAL, [], [1, 2, 7, 15]),
        (200, SERIAL, [], [1, 20, 60, 119]),
        (7, [2], [], [2, 2, 2, 1]),
        (7, ["50%"], [], [3, 3, 1]),
        (5, ["100%"], [], [5]),
        (5, [50], [], [5]),
        (10, SERIAL, ["b04", "b02"], [2, 1, 3, 4]),
        (3, [2], ["b03"], [1, 2]),
        (3, SERIAL, ["elsewhere"], [1, 1, 1]),
    ],
)
def test_batches(number: int, serial: list[int | str], canary: list[str], sizes: list[int]) -> None:
    batches = batches_of(names(number), serial, canary)
    assert [len(batch) for batch in batches] == sizes
    listed = [name for batch in batches for name in batch]
    assert sorted(listed) == sorted(names(number))
    first = [name for name in names(number) if name in canary]
    assert listed == [*first, *(name for name in names(number) if name not in first)]


@pytest.mark.parametrize(
    ("given", "serial"),
    [
        (None, SERIAL),
        ("", SERIAL),
        ([], SERIAL),
        (3, (3,)),
        ("3", (3,)),
        ("30%", ("30%",)),
        ([1, "10 %", "5"], (1, "10%", 5)),
    ],
)
def test_sizes_as_users_say_them(given: object, serial: tuple[int | str, ...]) -> None:
    assert serial_of(given) == serial


@pytest.mark.parametrize("given", [0, "0%", -1, "some", True, [1, None], "1.5", {"a": 1}, "9" * 30])
def test_sizes_that_are_none(given: object) -> None:
    with pytest.raises(RolloutError, match="xen_rollout_serial"):
        serial_of(given)


@pytest.mark.parametrize(("given", "share"), [(0, 0.0), ("25", 25.0), ("12.5%", 12.5), (100, 100.0)])
def test_shares(given: object, share: float) -> None:
    assert percentage_of(given) == share


@pytest.mark.parametrize("given", [-1, 101, "many", None, True, "nan"])
def test_shares_that_are_none(given: object) -> None:
    with pytest.raises(RolloutError, match="max_fail"):
        percentage_of(given)


@pytest.mark.parametrize(
    ("given", "found"),
    [(None, ()), ("b01", ("b01",)), ("b01, b02,", ("b01", "b02")), (["b01"], ("b01",)), ([], ())],
)
def test_names(given: object, found: tuple[str, ...]) -> None:
    assert names_of(given) == found


def test_what_is_no_name() -> None:
    with pytest.raises(RolloutError, match="xen_rollout_canary"):
        names_of({"b01": 1})
    with pytest.raises(RolloutError, match="no host is called 'b09'"):
        planned([work("b01")], settings(canary=("b09",), known=("b01", "b02")))
    assert planned([work("b01")], settings(canary=("b02",), known=("b01", "b02")))["batches"] == [["b01"]]
    for wrong in ("yesterday", "2026-05-04", "2026-05-04T10:11:12"):
        with pytest.raises(RolloutError, match="xen_rollout_resume"):
            since_of(wrong)
    for wrong in ("", "../x", "-a", "x" * 65, "a b"):
        with pytest.raises(RolloutError, match="xen_rollout_checkpoint"):
            checkpoint_of(wrong)


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ([], None),
        ([Board("b09", OK)], None),
        ([Board("b09", OFFLINE, "no route")], None),
        ([Board("b09", FAILED, "xenstored hangs")], None),
        ([Board("b09", REFUSED, "no kernel")], "b09 is refused, and nothing begins"),
        ([Board("b09", REFUSED), Board("b10", REFUSED)], "--limit 'all:!b09:!b10'"),
        (
            [Board("b09", OFFLINE, "no route", fatal=True)],
            "b09 cannot be reached or read, and xen_offline is fail",
        ),
        ([Board("b09", FAILED, "hangs", fatal=True)], "--limit 'all:!b09'"),
    ],
)
def test_whether_it_may_begin(others: list[Board], words: str | None) -> None:
    report = planned([work("b01"), work("b02"), *others], settings())
    assert report["batches"] == [["b01"], ["b02"]]
    assert rows(report) == {
        "b01": "not reached",
        "b02": "not reached",
        **{one.name: one.status for one in others},
    }
    if words is None:
        assert report["stopped"] is None
        assert reason(report, "b01") == "to be done: linux1 recreated"
    else:
        assert words in report["stopped"]
        assert reason(report, "b01").startswith("the rollout did not begin; ")
        assert advanced(report, 1, {"b01": DONE}) == report


@pytest.mark.parametrize(
    ("subset", "limit"),
    [
        ("", "'all:!b01'"),
        ("rack1", "'rack1:!b01'"),
        ("rack1:&prod", "'rack1:&prod:!b01'"),
        ("b01,b02", "'b01,b02,!b01'"),
        ("@left file", "'@left file:!b01'"),
    ],
)
def test_what_is_left_out_is_left_out_of_what_was_meant(subset: str, limit: str) -> None:
    for one in (Board("b01", REFUSED, "no kernel"), Board("b01", OFFLINE, "off", fatal=True)):
        report = planned([one, work("b02")], settings(subset=subset))
        assert report["stopped"].endswith(f"--limit {limit}")


def test_the_way_back_by_hand_says_where_things_are() -> None:
    places = {"state_dir": "/data/xen state", "socket": "/run/s"}
    way = ("-i", "inv", "--become", "--vault-id", "dev@prompt")
    begun = advanced(planned([work("b01", places=places)], settings(by_hand=way)), 1)
    (row,) = advanced(begun, 1, {"b01": {"begun": True}})["hosts"]
    assert row["by_hand"] == (
        "ansible b01 -i inv --become --vault-id dev@prompt -m xen.virtio.checkpoint -a "
        "'name=rollout-1 state=restored state_dir='\"'\"'/data/xen state'\"'\"' socket=/run/s'"
    )


def test_where_there_is_nothing_to_do_nothing_is_kept_from_beginning() -> None:
    report = ended(planned([Board("b01", OK), Board("b02", REFUSED, "no kernel")], settings()), "later")
    assert (report["stopped"], report["batches"]) == (None, [])
    assert report["summary"]["failed"] == ["b02"]


def test_a_plan_alone() -> None:
    report = planned(
        [work("b01"), Board("b02", OK), Board("b03", REFUSED, "no kernel")], settings(check=True)
    )
    report = ended(report, "later")
    assert rows(report) == {"b01": "changed", "b02": "ok", "b03": "refused"}
    assert reason(report, "b01") == "would be changed: linux1 recreated"
    assert report["resume"] is None
    table = rollout_table(report)
    assert "1 ok, 1 would be changed, 1 refused" in table
    assert "did not begin: b03 is refused" in table


@pytest.mark.parametrize(
    ("outcome", "status", "words"),
    [
        (DONE, "changed", "linux1 recreated"),
        ({**DONE, "changed": False}, "ok", "linux1 recreated"),
        (BACK, "rolled back", "Watch: linux1 crashed; rolled back: 1 restored"),
        ({**WRONG, "rollback": False}, "failed", "linux1 crashed; left as it is (xen_rollout_rollback)"),
        ({**WRONG, "restored": {"failed": True, "msg": "no kernel"}}, "failed", "NOT rolled back: no kernel"),
        (
            {**WRONG, "restored": {"unreachable": True, "msg": "no route"}},
            "failed",
            "NOT rolled back: no route",
        ),
        ({**WRONG, "begun": False}, "failed", "nothing was changed: Watch: linux1 crashed"),
        (
            {
                **WRONG,
                "failure": {"msg": "One", "results": [{"ok": 1}, {"failed": True, "msg": "the second"}]},
            },
            "failed",
            "Watch: the second; not rolled back",
        ),
        ({}, "offline", "lost before its first change"),
        ({"begun": True}, "failed", "lost after its first change; not rolled back"),
        ({"begun": True, "rollback": False}, "failed", "lost after its first change; left as it is"),
        (
            {"begun": True, "restored": {"msg": "1 restored"}},
            "rolled back",
            "lost after its first change; rolled back",
        ),
        (
            {"begun": True, "restored": {"failed": True, "msg": "timed out"}},
            "failed",
            "NOT rolled back: timed out",
        ),
    ],
)
def test_what_becomes_of_a_board(outcome: Json, status: str, words: str) -> None:
    begun = advanced(planned([work("b01"), work("b02")], settings()), 1)
    assert rows(begun) == {"b01": "under way", "b02": "not reached"}
    report = advanced(begun, 1, {"b01": outcome})
    assert rows(report) == {"b01": status, "b02": "not reached"}
    assert words in reason(report, "b01")
    bad = status in ("failed", "rolled back")
    assert (report["stopped"] is not None) == (bad or status == "offline")
    by_hand = report["hosts"][0]["by_hand"]
    if status == "failed" and outcome.get("begun"):
        assert (
            by_hand == "ansible b01 -i inventory -m xen.virtio.checkpoint -a 'name=rollout-1 state=restored'"
        )
    else:
        assert by_hand is None
    report = ended(report, "later")
    settled = status in ("ok", "changed")
    assert report["left"] == (["b02"] if settled else ["b01", "b02"])
    assert report["resume"].endswith("--limit b02" if settled else "--limit b01,b02")
    assert report["summary"]["failed"] == (["b01"] if bad else [])


@pytest.mark.parametrize(
    ("failing", "lost", "share", "stops"),
    [
        (0, 0, 0, False),
        (1, 0, 0, True),
        (0, 1, 0, True),  # Ansible's own percentage would not see it
        (1, 0, 25, False),
        (1, 1, 25, True),
        (1, 1, 50, False),
        (4, 0, 100, False),
    ],
)
def test_the_threshold(failing: int, lost: int, share: float, stops: bool) -> None:
    report = planned([work(name) for name in names(8)], settings(serial=(4,), max_fail=float(share)))
    outcomes = [BACK] * failing + [{"begun": True}] * lost + [DONE] * 4
    report = advanced(advanced(report, 1), 1, dict(zip(names(4), outcomes)))
    assert (report["stopped"] is not None) == stops
    if not stops:
        report = advanced(advanced(report, 2), 2, dict.fromkeys(names(8)[4:], DONE))
        assert set(rows(report).values()) <= {"changed", "rolled back", "failed"}
    else:
        assert "of 4" in report["stopped"]
        assert reason(ended(report, "later"), "b05").startswith("the rollout stopped before; to be done")


@pytest.mark.parametrize(
    ("serial", "number", "outcomes", "fatal", "words"),
    [
        ((1,), 1, {}, False, "b01 was lost before its first change, and so none of the first batch"),
        ((2,), 1, {}, False, "b01, b02 were lost before their first change"),
        ((2,), 1, {"b01": DONE}, False, None),
        ((2,), 1, {"b01": DONE}, True, "b02 failed in batch 1 of 2"),
        ((2,), 1, {"b01": {**WRONG, "begun": False}}, False, "b01 failed in batch 1 of 2: 1 of 2"),
        ((4,), 1, {}, False, None),  # nobody comes after it
        ((1,), 2, {"b01": DONE}, False, None),
        ((1,), 2, {"b01": DONE}, True, "b02 failed in batch 2 of 4"),
    ],
)
def test_lost_before_its_first_change(
    serial: tuple[int], number: int, outcomes: Json, fatal: bool, words: str | None
) -> None:
    """It is no failure, and nobody takes its word for the change either."""
    report = planned([work(name, fatal=fatal) for name in names(4)], settings(serial=serial))
    for batch in range(1, number + 1):
        assert report["stopped"] is None
        report = advanced(advanced(report, batch), batch, outcomes)
    assert report["stopped"] is None if words is None else words in report["stopped"]


def test_a_share_that_may_fail_is_no_proof() -> None:
    report = planned([work(name) for name in names(4)], settings(serial=(2,), max_fail=50.0))
    assert "b02 was lost" in advanced(advanced(report, 1), 1, {"b01": BACK})["stopped"]


def test_many_boards_are_left_in_a_file() -> None:
    report = planned([work(name) for name in names(30)], settings())
    assert ended(report, "later", "/out/rollout.limit")["resume"].endswith("--limit @/out/rollout.limit")
    assert ended(report, "later")["resume"].endswith("b29,b30")
    few = planned([work("b01")], settings())
    assert ended(few, "later", "/out/rollout.limit")["resume"].endswith("--limit b01")


@pytest.mark.parametrize(
    ("named", "command", "again"),
    [
        (False, (), ""),
        (True, (), " -e xen_rollout_resume=2026-05-04T10:11:12Z"),
        (
            True,
            ("-e", "xen_rollout_resume=2026-05-04T10:11:12Z"),
            " -e xen_rollout_resume=2026-05-04T10:11:12Z",
        ),
    ],
)
def test_a_name_that_was_given_is_gone_on_with(named: bool, command: tuple[str, ...], again: str) -> None:
    more = {"named": named, "since": "2026-05-04T10:11:12Z", "command": ("ansible-playbook", *command)}
    report = ended(planned([work("b01")], settings(**more)), "later")
    assert report["resume"] == f"ansible-playbook{again} --limit b01"


def test_an_end_in_mid_batch_is_no_success() -> None:
    report = ended(advanced(planned([work("b01")], settings()), 1), "later")
    assert rows(report) == {"b01": "failed"}


def test_the_table() -> None:
    report = planned([work("b01"), Board("b02", OFFLINE, "ssh: \x1b[2Jno route")], settings())
    report = ended(advanced(report, 1, {"b01": {"begun": True}}), "later")
    assert rollout_table(report).splitlines() == [
        "HOST  STATUS   BATCH  WHAT",
        "b01   failed   1      lost after its first change; not rolled back",
        "b02   offline  -      ssh: \\u{1b}[2Jno route",
        "",
        "2 hosts, 1 batch: 1 failed, 1 offline",
        "stopped: b01 failed in batch 1 of 1: the only board is 100 %, and xen_rollout_max_fail_percentage is 0",
        "b01 is brought back with: ansible b01 -i inventory -m xen.virtio.checkpoint "
        "-a 'name=rollout-1 state=restored'",
        "resume with: ansible-playbook xen.virtio.rollout --limit b01,b02",
    ]


@pytest.mark.parametrize("report", [None, [], {}, {"format": "xen.virtio/rollout-report", "version": 2}])
def test_what_is_no_report(report: Any) -> None:
    for work_on in (
        lambda: advanced(report, 1),
        lambda: ended(report, "later"),
        lambda: rollout_table(report),
    ):
        with pytest.raises(RolloutError):
            work_on()
