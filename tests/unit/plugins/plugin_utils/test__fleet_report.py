# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an audit finds: a table of hosts, each with what is wrong on it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible_collections.xen.virtio.plugins.module_utils._backend_rules import BINDING as BACKEND_BINDING
from ansible_collections.xen.virtio.plugins.module_utils._backend_rules import CODES as BACKEND_CODES
from ansible_collections.xen.virtio.plugins.module_utils._findings import (
    AUDIT_BINDING,
    AUDIT_CODES,
    CODES,
)
from ansible_collections.xen.virtio.plugins.plugin_utils._fleet_report import (
    FleetError,
    check_report,
    exceeding,
    fleet_report,
)
from ansible_collections.xen.virtio.plugins.plugin_utils._fleet_table import fleet_table, plain
from fleets import (
    HOSTILE,
    Json,
    backend,
    compared,
    comparison,
    disk,
    entry,
    guest,
    inside,
    large,
    read,
    small,
    unreachable,
)

ROOT = Path(__file__).resolve().parents[4]
WHEN = "2026-03-01 09:30 UTC"
FOREIGN: Json = {
    "pid": 412,
    "unit": None,
    "command": "virtio-disk",
    "devid": None,
    "idle": False,
    "serves": [],
}
SERVES: Json = {"domid": 2, "domain": "linux1", "devid": 51712, "target": "/dev/vg/a"}
#: Of a module that was reached and did not do it.
FAILED: Json = {"failed": True, "msg": "MODULE FAILURE: see stderr"}
UNIT: Json = {"unit": "virtio-disk@2-51712.service", "domid": 2, "devid": 51712}
LOST: Json = {
    "code": "disk-lost",
    "severity": "warning",
    "domain": "linux1",
    "vdev": "xvda",
    "message": "xvda is lost: its backend gave it up",
    "why": "…",
    "remedy": "…",
}


def report(*hosts: Json) -> Json:
    return fleet_report(list(hosts), WHEN)


def found(one: Json) -> list[tuple[str, str, str | None, str | None]]:
    """Severity, code, domain and vdev of every finding on one host."""
    (host,) = report(one)["hosts"]
    return [(each["severity"], each["code"], each["domain"], each["vdev"]) for each in host["findings"]]


def differing(**differences: Any) -> Json:
    said = compared("linux1", differences=differences)
    return entry(result=read(guest("linux1", 2, disk()), compared=comparison(said)))


def standing(state: str, run_state: str, **more: Any) -> Json:
    said = compared("linux1", state=state, run_state=run_state, **more)
    return entry(result=read(compared=comparison(said)), declared=["linux1"])


def driver(result: Json | None, host: str | None = "domd", *disks: Json) -> Json:
    links = {"DomD": {"host": host} if host else {}}
    having = read(guest("linux1", 2, *(disks or (disk(),))))
    return entry(result=having, driver_domains=links, drivers={} if result is None else {"DomD": result})


def of_host(**about: Any) -> Json:
    result = read()
    result["host"].update(about)
    return entry(result=result)


CONFIG = {"option": "memory", "before": 512, "after": 1024}
STALE = guest("domain 9", 9, disk(health="stale"), leftover="stale", run_state="stale")
LESS = {"made_by": "other"}
Found = tuple[str, str, Optional[str], Optional[str]]
CASES: list[tuple[str, Json, list[Found]]] = [
    ("in order", entry(), []),
    ("no guests", entry(result=read()), []),
    ("not declared", entry(declared=[]), [("warning", "guest-unmanaged", "linux1", None)]),
    ("declared as mappings", entry(declared=[{"name": "linux1"}]), []),
    ("a driver domain is known by its link", entry(result=read(guest("DomD", 1)), declared=[]), []),
    ("stale", entry(result=read(STALE)), [("warning", "stale", "domain 9", None)]),
    (
        "unfinished",
        entry(result=read(guest("x", 3, leftover="unfinished"))),
        [("warning", "stale", "x", None)],
    ),
    (
        "nodes without a record",
        entry(result=read(guest("a", 2, disk(health="stale")))),
        [("warning", "stale", "a", "xvda")],
    ),
    (
        "a disk waits",
        entry(result=read(guest("a", 2, disk(health="pending")))),
        [("warning", "disk-pending", "a", "xvda")],
    ),
    (
        "the launcher calls it lost",
        entry(result=read(guest("a", 2, disk(launcher={"status": "lost", "reason": "killed"})))),
        [("error", "disk-lost", "a", "xvda")],
    ),
    (
        "drifted nodes",
        entry(
            result=read(
                guest(
                    "a",
                    2,
                    disk(
                        health="drifted",
                        drift=[{"node": "/n", "what": "value", "expected": "1", "found": "2"}],
                    ),
                )
            )
        ),
        [("warning", "drift-store", "a", "xvda")],
    ),
    (
        "no grants",
        entry(result=read(guest("a", 2, disk(grant_usage=False)))),
        [("warning", "foreign-mapping", "a", "xvda")],
    ),
    (
        "no grants for dom0",
        entry(
            result=read(
                guest("a", 2, disk(grant_usage=False, backend="Domain-0", backend_domid=0, state="1"))
            )
        ),
        [],
    ),
    (
        "mixed disks",
        entry(
            result=read(
                guest("a", 2, disk(), disk("xvdb", "/dev/vg/b", specification="xen", health="unknown"))
            )
        ),
        [("error", "mixed-specification", "a", None)],
    ),
    (
        "a shared target of guests that nobody judged",
        entry(result=read(guest("a", 2, disk(), **LESS), guest("b", 3, disk("xvdb"), **LESS))),
        [("error", "target-shared", "b", "xvdb")],
    ),
    (
        "a shared target whose writers are not the first",
        entry(
            result=read(
                guest("a", 2, disk(access="ro"), **LESS),
                guest("b", 3, disk("xvdb"), **LESS),
                guest("c", 4, disk("xvdc"), **LESS),
            )
        ),
        [("error", "target-shared", "b", "xvdb"), ("error", "target-shared", "c", "xvdc")],
    ),
    (
        "a shared target of which the first was judged",
        entry(
            result=read(
                guest("linux1", 2, disk()),
                guest("b", 3, disk("xvdb"), **LESS),
                guest("c", 4, disk("xvdc"), **LESS),
                compared=comparison(compared("linux1")),
            )
        ),
        [("error", "target-shared", "c", "xvdc")],
    ),
    (
        "all of them read",
        entry(
            result=read(
                guest("a", 2, disk(access="ro"), **LESS), guest("b", 3, disk("xvdb", access="ro"), **LESS)
            )
        ),
        [],
    ),
    (
        "a shared target of a guest that was judged",
        entry(
            result=read(
                guest("linux1", 2, disk()), guest("b", 3, disk("xvdb")), compared=comparison(compared())
            )
        ),
        [],
    ),
    (
        "a shared device number without a launcher",
        entry(
            result=read(
                guest("a", 2, disk()),
                guest("b", 3, disk("xvda", "/dev/vg/b")),
                backends=[backend(launcher=None)],
            )
        ),
        [("error", "devid-shared", "b", "xvda")],
    ),
    ("config differs", differing(config=[CONFIG]), [("warning", "drift-config", "linux1", None)]),
    ("domain differs", differing(domain=[CONFIG]), [("warning", "drift-domain", "linux1", None)]),
    (
        "a disk differs",
        differing(store=[{"vdev": "xvda", "what": "drifted", "found": "params"}]),
        [("warning", "drift-store", "linux1", "xvda")],
    ),
    (
        "a disk is lost, told twice",
        entry(
            result=read(
                guest("linux1", 2, disk(health="missing")),
                compared=comparison(
                    compared(differences={"store": [{"vdev": "xvda", "what": "gone", "found": "nothing"}]}),
                    findings=[LOST],
                ),
            )
        ),
        [("error", "disk-lost", "linux1", "xvda")],
    ),
    ("down", standing("running", "absent"), [("error", "drift-state", "linux1", None)]),
    ("crashed", standing("running", "crashed"), [("error", "drift-state", "linux1", None)]),
    ("paused by hand", standing("running", "paused"), [("warning", "drift-state", "linux1", None)]),
    ("as declared, paused", standing("paused", "paused"), []),
    (
        "up against its declaration",
        standing("shutdown", "running"),
        [("warning", "drift-state", "linux1", None)],
    ),
    ("gone as declared", standing("absent", "absent"), []),
    ("only configured", standing("configured", "absent"), []),
    (
        "down, and never written",
        standing(
            "running",
            "absent",
            differences={"config": [{"option": "configuration", "before": None, "after": "x"}]},
        ),
        [("error", "drift-state", "linux1", None)],
    ),
    (
        "a guest that cannot be compared",
        entry(result=read(compared=comparison(problems=[{"domain": "linux2", "error": "no kernel"}]))),
        [("error", "not-compared", "linux2", None)],
    ),
    (
        "a declaration that is refused",
        entry(result=read(compared=comparison(refused="linux3 is dom0less"))),
        [("warning", "not-compared", None, None)],
    ),
    (
        "files",
        entry(
            result=read(
                unreadable=[{"path": "/etc/xen/x.cfg", "error": "line 1"}],
                configs=[
                    {
                        "name": "a",
                        "path": "/etc/xen/a.cfg",
                        "others": ["/etc/xen/b.cfg"],
                        "error": None,
                        "running": True,
                    },
                    {
                        "name": "c",
                        "path": "/etc/xen/c.cfg",
                        "error": None,
                        "running": False,
                        "autostart": True,
                    },
                ],
            )
        ),
        [
            ("warning", "config-doubled", "a", None),
            ("warning", "config-unreadable", None, None),
            ("warning", "drift-state", "c", None),
        ],
    ),
    (
        "a daemon is dead",
        entry(result=read(backends=[backend(status="dead")])),
        [("error", "backend-down", "DomD", None)],
    ),
    (
        "a driver domain is gone",
        entry(result=read(backends=[backend(alive=False)])),
        [("error", "backend-down", "DomD", None)],
    ),
    ("no room", entry(result=read(backends=[backend(headroom=0)])), [("warning", "quota", "DomD", None)]),
    (
        "nothing is served, so nothing is short",
        entry(result=read(backends=[backend(headroom=0, disks=0)])),
        [],
    ),
    ("a driver domain without a host", driver(None, None), []),
    (
        "one that does not answer",
        driver({"unreachable": True, "msg": "no route"}),
        [("warning", "driver-unknown", "DomD", None)],
    ),
    ("one that fails", driver(FAILED), [("error", "driver-unknown", "DomD", None)]),
    ("served", driver({"backend": inside(1, units=[UNIT])}), []),
    (
        "served by another program",
        driver({"backend": inside(1, foreign=[{**FOREIGN, "serves": [SERVES]}])}),
        [],
    ),
    ("served by nobody knows whom", driver({"backend": inside(1, foreign=[FOREIGN])}), []),
    ("served by nobody", driver({"backend": inside(1)}), [("warning", "daemon-missing", "linux1", "xvda")]),
    ("nobody is needed yet", driver({"backend": inside(1)}, "domd", disk(state="1")), []),
    (
        "served twice",
        driver({"backend": inside(1, units=[UNIT], foreign=[{**FOREIGN, "serves": [SERVES]}])}),
        [("error", "daemon-doubled", "linux1", "xvda")],
    ),
    (
        "what a driver domain finds itself",
        driver(
            {
                "backend": inside(
                    1,
                    units=[UNIT],
                    findings=[{**LOST, "code": "pending-restart", "domain": None, "vdev": None}],
                )
            }
        ),
        [("warning", "pending-restart", "DomD", None)],
    ),
    ("dom0 that serves nothing is not looked at", entry(result=read(backend=inside(0, findings=[LOST]))), []),
    (
        "no xenstored",
        of_host(daemons={"xenstored": {"reachable": False, "error": "refused"}}),
        [("error", "store", None, None)],
    ),
    (
        "another release's xl",
        of_host(xen={"release": "4.20", "toolstack": {"version": "4.17"}}),
        [("warning", "toolstack", None, None)],
    ),
    (
        "xl fails",
        of_host(xen={"release": "4.20", "toolstack": {"error": "exit 1"}}),
        [("error", "toolstack", None, None)],
    ),
    (
        "a newer release",
        of_host(xen={"release": "4.30", "note": "taken for 4.22"}),
        [("warning", "release", None, None)],
    ),
    (
        "guests cannot be read",
        entry(result=read(error="two guests are called a")),
        [("error", "host-unknown", None, None)],
    ),
    ("unreachable", unreachable(), [("warning", "host-unknown", None, None)]),
    ("unreachable, and that matters", unreachable(offline="fail"), [("error", "host-unknown", None, None)]),
    ("reached, and not read", {**unreachable(), "read": FAILED}, [("error", "host-unknown", None, None)]),
    ("no result at all", {"name": "b09"}, [("error", "host-unknown", None, None)]),
]

for word in ("missing", "closed", "closing"):
    gone: list[Found] = [("error", "disk-lost", "a", "xvda")]
    CASES.append((f"a disk is {word}", entry(result=read(guest("a", 2, disk(health=word)))), gone))


@pytest.mark.parametrize(("one", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_what_is_found(one: Json, expected: list[tuple[str, str, str | None, str | None]]) -> None:
    assert found(one) == expected


@pytest.mark.parametrize("one", [case[1] for case in CASES], ids=[case[0] for case in CASES])
def test_a_finding_says_all(one: Json) -> None:
    whole = report(one)
    for host in whole["hosts"]:
        for each in host["findings"]:
            assert each["code"] in {**CODES, **AUDIT_CODES}
            assert each["host"] == host["name"]
            assert each["message"]
            assert each["why"]
            assert each["remedy"]


def test_codes_are_told_once() -> None:
    assert not set(CODES) & set(AUDIT_CODES)
    assert set(BACKEND_CODES) <= {*CODES, *AUDIT_CODES}
    assert set(BACKEND_BINDING) <= AUDIT_BINDING <= set(AUDIT_CODES)
    told = re.findall(r"^\| `([a-z-]+)` \|", (ROOT / "docs/audit.md").read_text(encoding="utf-8"), re.M)
    assert told == sorted(AUDIT_CODES)


def test_accepted_findings_stand_apart() -> None:
    accept = [{"code": "guest-unmanaged", "domain": "linux1", "reason": "not ours"}]
    whole = report(entry(declared=[], accept=accept))
    (host,) = whole["hosts"]
    assert [each["accepted"] for each in host["findings"]] == ["not ours"]
    assert (host["status"], host["domains"][0]["status"], whole["summary"]["accepted"]) == ("ok", "ok", 1)
    assert exceeding(whole, "none") == []


DAEMON = {"path": "/usr/bin/virtio-disk", "real_path": "/opt/virtio-disk", "version": "1.4 (0a1b2c3d4e5f)"}


@pytest.mark.parametrize(
    ("wanted", "daemon", "words"),
    [
        ({}, DAEMON, None),
        ({"install": "package"}, DAEMON, None),
        ({"install": "source", "version": "1.4"}, DAEMON, None),
        ({"install": "source", "version": "1.5"}, DAEMON, "is 1.4 (0a1b2c3d4e5f), and 1.5 is declared"),
        ({"install": "binary", "checksum": "sha256:0A1B2C3D4E5F6071"}, DAEMON, None),
        (
            {"install": "binary", "checksum": f"sha256:{'f' * 64}"},
            DAEMON,
            "and sha256:ffffffffffff is declared",
        ),
        ({"install": "source", "version": "1.5"}, {**DAEMON, "version": None}, "is (unknown), and 1.5"),
        ({"install": "source", "version": "1.5"}, {**DAEMON, "real_path": None}, None),  # missing, not old
    ],
)
def test_a_daemon_that_is_not_the_declared_one(wanted: Json, daemon: Json, words: str | None) -> None:
    one = {**driver(inside_of(daemon=daemon)), "backend": wanted}
    (host,) = report(one)["hosts"]
    told = [each["message"] for each in host["findings"] if each["code"] == "daemon-outdated"]
    assert len(told) == (words is not None)
    assert (words or "") in "".join(told)


@pytest.mark.parametrize(
    ("disks", "headroom", "words"),
    [
        (6, None, None),
        (6, 3, None),
        (6, 2, "serves 6 disks and has room for 2 more in xenstore's quota"),
        (1, 0, "serves 1 disks and has room for no more"),
        (49, 6, None),
        (50, 5, "room for 5 more"),
        (0, 0, None),
    ],
)
def test_room_is_told_before_there_is_none(disks: int, headroom: int | None, words: str | None) -> None:
    result = read(backends=[backend(disks=disks, headroom=headroom)])
    (host,) = report(entry(result=result))["hosts"]
    told = [each["message"] for each in host["findings"] if each["code"] == "quota"]
    assert len(told) == (words is not None)
    assert (words or "") in "".join(told)


def inside_of(**more: Any) -> Json:
    """What module fleet_info returns of a driver domain."""
    return {"side": "backend", "backend": inside(1, **more)}


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"accept": [{"code": "store", "reason": "so"}]}, "xen_accept: store cannot be accepted"),
        ({"accept": [{"code": "target-shared", "reason": "so"}]}, "xen_accept: target-shared cannot"),
        ({"accept": [{"code": "nonsense", "reason": "so"}]}, "xen_accept: unknown code 'nonsense'"),
        ({"accept": [{"code": "quota"}]}, "xen_accept: quota needs a reason"),
        ({"accept": [{"kode": "quota"}]}, "xen_accept: unknown key 'kode'"),
        ({"accept": ["quota"]}, "xen_accept: a mapping with code and reason is expected"),
        ({"accept": "quota"}, "xen_accept: a list is expected"),
        ({"driver_domains": {"DomD": "b1-domd"}}, "xen_driver_domains: DomD: a mapping with its host"),
        ({"driver_domains": {"DomD": 5}}, "xen_driver_domains: DomD: a mapping with its host"),
        ({"driver_domains": 5}, "xen_driver_domains is a mapping"),
        ({"driver_domains": "DomD"}, "xen_driver_domains is a mapping"),
        ({"problems": ["xen_guests: two guests are called a"]}, "two guests are called a"),
    ],
)
def test_variables_that_make_no_sense_are_a_finding_of_their_host(said: Json, words: str) -> None:
    """What else is known of it stays, what else is accepted stays accepted, and other hosts are not touched."""
    good = {"code": "guest-unmanaged", "domain": "linux1", "reason": "not ours"}
    more = {**said, "accept": [good, *said["accept"]]} if isinstance(said.get("accept"), list) else said
    bad = {**entry("b01", declared=[]), **more}
    whole = report(bad, entry("b02"))
    one, other = whole["hosts"]
    assert (one["name"], one["status"], other["status"]) == ("b01", "error", "ok")
    (finding,) = [each for each in one["findings"] if each["code"] == "inventory"]
    assert finding["message"].startswith("what the inventory says of b01 makes no sense: ")
    assert words in finding["message"]
    assert [domain["name"] for domain in one["domains"]] == ["linux1"]
    (unmanaged,) = [each for each in one["findings"] if each["code"] == "guest-unmanaged"]
    assert unmanaged["accepted"] == ("not ours" if isinstance(more.get("accept"), list) else None)


def test_what_kept_a_host_from_being_read_is_told_once() -> None:
    failed = {"failed": True, "msg": "xen_guests: two guests are called a"}
    said = {"name": "b01", "problems": ["xen_guests: two guests are called a"]}
    for read_of in (failed, {}):
        (host,) = report({**said, "read": read_of})["hosts"]
        assert [each["code"] for each in host["findings"]] == ["host-unknown"]
        assert "two guests are called a" in host["findings"][0]["message"]
    off = {"unreachable": True, "msg": "no route"}
    (host,) = report({**said, "read": off})["hosts"]
    assert [each["code"] for each in host["findings"]] == ["inventory", "host-unknown"]


def test_a_launcher_that_is_older_than_others() -> None:
    old = entry("b01", read(backends=[backend(launcher="0.9.9")]))
    new = entry("b02", read(backends=[backend(launcher="0.10.0")]))
    odd = entry("b03", read(backends=[backend(launcher="9999999999.1")]))
    whole = report(old, new, odd)
    codes = {host["name"]: [one["code"] for one in host["findings"]] for host in whole["hosts"]}
    assert codes["b01"] == ["daemon-outdated"]
    assert codes["b02"] == []


def test_the_worst_comes_first() -> None:
    whole = report(*small())
    assert [(host["name"], host["status"]) for host in whole["hosts"]] == [
        ("board-b", "error"),
        ("board-c", "warning"),
        ("board-d", "unknown"),
        ("board-a", "ok"),
        ("board-e", "ok"),
    ]
    assert whole["summary"]["hosts"] == {"total": 5, "ok": 2, "warning": 1, "error": 1, "unknown": 1}
    assert whole["summary"]["worst"] == "error"
    assert whole["summary"]["releases"] == {"4.17": 1, "4.20": 3}


def test_limits() -> None:
    whole = report(entry(declared=[]))
    assert [one["code"] for one in exceeding(whole, "none")] == ["guest-unmanaged"]
    assert exceeding(whole, "warning") == exceeding(whole, "error") == []
    with pytest.raises(FleetError, match="none, warning, error"):
        exceeding(whole, "fatal")


@pytest.mark.parametrize("wrong", [None, "b01", [1], [{}], {"name": "b01"}])
def test_what_is_no_fleet(wrong: object) -> None:
    with pytest.raises(FleetError):
        fleet_report(wrong, WHEN)


@pytest.mark.parametrize("wrong", [None, {}, {"format": "xen.virtio/fleet-report", "version": 2}])
def test_what_is_no_report(wrong: object) -> None:
    with pytest.raises(FleetError):
        check_report(wrong)


def test_the_table() -> None:
    assert fleet_table(report(*small())).splitlines() == [
        "HOST     STATE    XEN   DOMAINS  DISKS  ERRORS  WARNINGS  ACCEPTED  FIRST",
        "board-b  error    4.17  6        7      2       7         0         disk-lost linux1 xvdb",
        "board-c  warning  4.20  3        3      0       1         1         daemon-outdated DomD",
        "board-d  unknown  ?     ?        ?      0       1         0         host-unknown",
        "",
        "5 hosts (1 error, 1 warning, 1 unknown, 2 ok), 14 domains, 14 disks: 2 errors, 9 warnings, 1 accepted",
    ]
    assert fleet_table(report(*small())) in (ROOT / "docs/audit.md").read_text(encoding="utf-8")
    assert fleet_table(report()) == "0 hosts (none), 0 domains, 0 disks: 0 errors, 0 warnings"


def test_a_table_is_as_wide_as_it_may_be() -> None:
    hosts = [
        entry(f"b{index}{text}", read(guest(text, 2, disk())), declared=[])
        for index, text in enumerate(HOSTILE)
    ]
    for line in fleet_table(report(*hosts)).splitlines():
        assert line.isprintable()
        assert len(line) < 200


@pytest.mark.parametrize(
    ("given", "limit", "expected"),
    [
        ("linux1", 10, "linux1"),
        ("a\nb", 20, "a\\u{a}b"),
        ("a\u202eb", 20, "a\\u{202e}b"),
        ("x" * 20, 5, "xxxx…"),
        ("größe 板", 20, "größe 板"),
        (None, 10, "None"),
    ],
)
def test_plain(given: object, limit: int, expected: str) -> None:
    assert plain(given, limit) == expected


def test_a_large_fleet() -> None:
    whole = report(*large())
    assert whole["summary"]["hosts"]["total"] == 200
    assert whole["summary"]["disks"] == 5850
