# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fleets for tests of reports: what module fleet_info returns of hosts that nobody has to run."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def disk(vdev: str = "xvda", target: str = "/dev/vg/a", **more: Any) -> Json:
    """A virtio disk of DomD (domain 1) that is served."""
    devid = 51712 + 16 * LETTERS.index(vdev[3:4] or "a")
    return {
        "vdev": vdev,
        "devid": devid,
        "target": target,
        "access": "rw",
        "backend": "DomD",
        "backend_domid": 1,
        "specification": "virtio",
        "grant_usage": True,
        "state": "2",
        "health": "attached",
        "launcher": None,
        "drift": [],
        **more,
    }


def guest(name: str = "linux1", domid: int | None = 2, *disks: Json, **more: Any) -> Json:
    """A guest of xl that runs."""
    return {
        "name": name,
        "domid": domid,
        "uuid": None,
        "made_by": "xl",
        "run_state": "running",
        "reason": None,
        "leftover": None,
        "type": "pvh",
        "memory": 512,
        "vcpus": 1,
        "autostart": False,
        "config": None,
        "disks": list(disks),
        **more,
    }


def backend(domain: str = "DomD", domid: int = 1, disks: int = 1, **more: Any) -> Json:
    """A domain that serves disks, as dom0 sees it."""
    return {
        "domain": domain,
        "domid": domid,
        "alive": True,
        "status": "ready",
        "reason": None,
        "launcher": "0.1.0",
        "guests": 1,
        "disks": disks,
        "quota": None,
        "headroom": 20,
        **more,
    }


def inside(domid: int = 0, **more: Any) -> Json:
    """What backend_info says of a domain that serves disks."""
    return {
        "domid": domid,
        "store": {"reachable": True, "path": "/run/xenstored/socket", "error": None},
        "units": [],
        "foreign": [],
        "findings": [],
        "launcher": {"installed": False, "version": None, "status": None, "reason": None, "pid": None},
        "daemon": {"path": None, "real_path": None, "version": None},
        **more,
    }


def compared(name: str = "linux1", **more: Any) -> Json:
    """What module guest says of a guest in check mode: nothing to do."""
    return {
        "name": name,
        "domid": 2,
        "run_state": "running",
        "state": "running",
        "path": f"/etc/xen/{name}.cfg",
        "action": "unchanged",
        "differences": {"config": [], "domain": [], "store": [], **more.pop("differences", {})},
        "recreate_reasons": [],
        **more,
    }


def comparison(*guests: Json, findings: Any = (), refused: str | None = None, problems: Any = ()) -> Json:
    """Guests as declared against guests as they are."""
    return {
        "guests": list(guests),
        "findings": list(findings),
        "refused": refused,
        "problems": list(problems),
    }


def read(*guests: Json, backends: Any = None, xen: Json | None = None, **more: Any) -> Json:
    """A result of fleet_info on a dom0."""
    served = sum(len(one["disks"]) for one in guests)
    return {
        "side": "dom0",
        "host": {
            "xen": {
                "release": "4.20",
                "version": "4.20.1",
                "arch": "aarch64",
                "toolstack": {
                    "name": "xl",
                    "present": True,
                    "path": "/usr/sbin/xl",
                    "version": "4.20",
                    "error": None,
                },
                "note": None,
                **(xen or {}),
            },
            "memory": {"total": 8192, "free": 1024},
            "daemons": {"xenstored": {"reachable": True, "kind": "xenstored", "error": None}},
            "backends": [backend(disks=served)] if backends is None else list(backends),
        },
        "guests": list(guests),
        "configs": [],
        "unreadable": [],
        "compared": None,
        "error": None,
        "warnings": [],
        "backend": inside(),
        **more,
    }


def entry(name: str = "b01", result: Json | None = None, **more: Any) -> Json:
    """A host as the filter takes it; the guests that were read are declared."""
    result = read(guest("linux1", 2, disk())) if result is None else result
    declared = [one["name"] for one in result.get("guests", ())]
    return {
        "name": name,
        "read": result,
        "declared": declared,
        "driver_domains": {"DomD": {}},
        "accept": [],
        **more,
    }


def unreachable(name: str = "b09", **more: Any) -> Json:
    """A host that does not answer."""
    said = f"Failed to connect to the host via ssh: ssh: connect to host {name} port 22: No route to host"
    return {"name": name, "read": {"unreachable": True, "msg": said}, **more}


def large(hosts: int = 200, guests: int = 10, disks: int = 3) -> list[Json]:
    """A fleet in which most is well."""
    found = []
    for number in range(hosts):
        name = f"board-{number:03d}"
        if number % 41 == 7:
            found.append(unreachable(name))
            continue
        having = [
            guest(
                f"linux{index}",
                index + 2,
                *(
                    disk(
                        f"xvd{LETTERS[place]}",
                        f"/dev/vg0/linux{index}-{LETTERS[place]}",
                        health="missing" if number % 23 == 5 and index == 3 and not place else "attached",
                        drift=[],
                    )
                    for place in range(disks)
                ),
            )
            for index in range(guests)
        ]
        result = read(guest("DomD", 1), *having, xen={"release": "4.17" if number % 5 else "4.20"})
        result["host"]["xen"]["toolstack"]["version"] = result["host"]["xen"]["release"]
        if number % 17 == 3:
            result["guests"][min(5, guests)]["disks"][0]["health"] = "pending"
        found.append(
            entry(name, result, declared=[f"linux{one}" for one in range(guests - (number % 29 == 4))])
        )
    return found


#: What a guest may write about itself.
HOSTILE = (
    "</script><script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "\"' onfocus='document.title=1' autofocus x=\"",
    "abc\u202egnp.exe\u2066\u200f\u2028\u2029\ufeff",
    "{{ 7 * 7 }} {% raw %} @REPORT@ @SCRIPT@",
    "\x1b[31m\x00\x07\r\nnext line",
    "<!--<script>",
    "W" * 4000,
    "\U0001f427 \ud800 \U000e0041",
    "__proto__",
    "constructor",
)


def small() -> list[Json]:
    """A fleet with one of each state, as a person might meet it."""
    good = read(
        guest("DomD", 1),
        guest("linux1", 2, disk("xvda", "/dev/mmcblk0p3"), disk("xvdb", "/dev/mmcblk1p1", access="ro")),
        guest("linux2", 3, disk("xvda", "/dev/mmcblk0p4")),
    )
    lost = read(
        guest("DomD", 1),
        guest(
            "linux1",
            2,
            disk("xvda", "/dev/mmcblk0p3"),
            disk("xvdb", "/dev/mmcblk1p1", health="missing", state=None),
        ),
        guest(
            "android",
            3,
            disk("xvda", "/dev/mmcblk0p5"),
            disk(
                "xvdb",
                "/dev/mmcblk0p6",
                health="drifted",
                drift=[
                    {
                        "node": "/local/domain/1/backend/virtio_disk/3/51728/params",
                        "what": "value",
                        "expected": "/dev/mmcblk0p6",
                        "found": "/dev/mmcblk0p9",
                    }
                ],
            ),
        ),
        guest("rtos", 4, disk("xvda", "/dev/mmcblk0p7", backend="Domain-0", backend_domid=0)),
        guest("dom0less-6", 6, disk("xvda", "/dev/mmcblk0p8", grant_usage=False), made_by="other"),
        guest(
            "domain 9", 9, disk("xvda", "/dev/mmcblk0p9", health="stale"), leftover="stale", run_state="stale"
        ),
        backends=[
            backend("Domain-0", 0, 1, status=None, launcher=None, headroom=None),
            backend("DomD", 1, 6, headroom=3),
        ],
        compared=comparison(
            compared(
                "linux1",
                differences={
                    "config": [{"option": "memory", "before": 512, "after": 1024}],
                    "domain": [{"option": "vcpus", "before": 1, "after": 2, "live": False}],
                },
                recreate_reasons=["vcpus: 1 -> 2"],
            ),
            compared("android"),
            compared("rtos"),
            compared(
                "cluster",
                run_state="absent",
                action="created",
                differences={
                    "config": [{"option": "configuration", "before": None, "after": "/etc/xen/cluster.cfg"}]
                },
            ),
        ),
        xen={"release": "4.17", "version": "4.17.6", "toolstack": {"version": "4.17", "error": None}},
    )
    older = read(
        guest("DomD", 1),
        guest("linux1", 2, disk("xvda", "/dev/mmcblk0p3")),
        guest("legacy", 3, disk("xvda", "/dev/sda1"), disk("xvdb", "/dev/sda2")),
        backends=[backend("DomD", 1, 3, launcher="0.0.9")],
    )
    return [
        entry("board-a", good),
        entry("board-b", lost, declared=["linux1", "android", "rtos", "cluster"]),
        entry(
            "board-c",
            older,
            declared=["linux1"],
            accept=[
                {
                    "code": "guest-unmanaged",
                    "domain": "legacy",
                    "reason": "belongs to the line's own tooling until spring",
                }
            ],
        ),
        unreachable("board-d", driver_domains={"DomD": {}}),
        entry("board-e", read(guest("DomD", 1), guest("linux1", 2, disk("xvda", "/dev/mmcblk0p3")))),
    ]
