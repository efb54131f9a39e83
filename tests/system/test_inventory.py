# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory plugin domains over lab hosts, with the real ansible-inventory."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from guests import create, virtio_disk, write_config
from inventories import Listed, listed, run_inventory, source
from lab import LabHost
from role_runs import Fleet

Make = Callable[..., LabHost]
ADDRESS = "attr/vif/0/ipv4/0"
OWNED = Path(f"/tmp/xen-virtio-owned-{os.getpid()}")
HOSTILE = f"{{{{ lookup('pipe', 'touch {OWNED}') }}}}"
#: A connection variable out of what a guest wrote, and groups out of it too.
BELIEVING: dict[str, Any] = {
    "source": "live",
    "xenstore": [ADDRESS],
    "compose": {"ansible_host": f"xen_domain.xenstore_untrusted['{ADDRESS}']"},
    "keyed_groups": [{"prefix": "at", "key": f"xen_domain.xenstore_untrusted['{ADDRESS}'] | default('')"}],
}


def populated(host: LabHost, guest: str = "linux1") -> LabHost:
    """A driver domain, a dom0less domain, a guest with a disk, and one that is configured only."""
    host.answer_backends()
    host.add_domain("DomD", kind="toolstack")
    host.add_domain()
    vif = ["mac=00:16:3e:00:00:01,ip=10.0.0.7,script=/bin/true"]
    create(host, guest, [virtio_disk("xvda", "/dev/vg/a")], vif=vif)
    write_config(host, "off", 1)
    return host


def inventory(fleet: Fleet, *arguments: str, environ: dict[str, str] | None = None, **options: Any) -> Listed:
    """The inventory of a fleet and of a source with these options."""
    fleet.write()
    path = source(fleet.folder, **options)
    return listed(fleet.folder, fleet.inventory / "hosts.json", path, arguments=arguments, **(environ or {}))


@pytest.fixture
def fleet(lab: LabHost, tmp_path: Path) -> Fleet:
    return Fleet(tmp_path / "controller", b01=lab)


# --- live ----------------------------------------------------------------------------------------------


def test_live_domains_are_hosts_in_groups(lab_any: LabHost, tmp_path: Path) -> None:
    fleet = Fleet(tmp_path / "controller", b01=populated(lab_any))
    found = inventory(fleet, source="live")
    assert found.stderr == ""
    assert found.everyone == {"b01", "b01-DomD", "b01-dom0less-2", "b01-linux1"}
    assert found.group("xen_dom0") == ["b01"]
    assert found.group("xen_driver_domain") == ["b01-DomD"]
    assert found.group("xen_guest") == ["b01-dom0less-2", "b01-linux1"]
    assert found.group("xen_board_b01") == sorted(found.everyone)
    assert found.group("xen_backend_DomD") == ["b01-linux1"]
    assert "b01-linux1" in found.group("xen_state_running")
    domain = found.domain("b01-linux1")
    assert [domain[key] for key in ("name", "dom0", "kind", "state")] == ["linux1", "b01", "guest", "running"]
    assert domain["disks"][0]["health"] == "attached"
    assert domain["vifs"][0]["ip"] == "10.0.0.7"
    assert domain["config"]["memory"] == 64
    assert found.hosts["b01"]["xen_host"]["release"] == "4.17"


def test_guests_without_a_domain_where_they_are_asked_for(lab: LabHost, fleet: Fleet) -> None:
    populated(lab)
    found = inventory(fleet, source="live", absent=True)
    assert found.group("xen_state_absent") == ["b01-off"]
    assert found.domain("b01-off")["config"]["name"] == "off"
    assert found.group("xen_backend_DomD") == ["b01-linux1", "b01-off"]


def test_an_old_python_and_a_place_of_ones_own(lab: LabHost, fleet: Fleet, old_python: str) -> None:
    populated(lab)
    lab.run(["sh", "-ec", "mkdir -p /run/data; mv /etc/xen/*.cfg /run/data"])
    fleet.python = old_python
    fleet.variables["xen_config_dir"] = "{{ '/run' }}/data"
    found = inventory(fleet, source="live")
    assert found.domain("b01-linux1")["config"]["memory"] == 64


def test_expressions_of_the_user(lab: LabHost, fleet: Fleet) -> None:
    populated(lab)
    fleet.variables["ansible_host"] = "{{ inventory_hostname }}.example"
    found = inventory(
        fleet,
        source="live",
        hostname="xen_domain.name ~ '.' ~ dom0.inventory_hostname",
        compose={
            "ansible_host": "xen_domain.vifs[0].ip",
            "ansible_ssh_common_args": "'-o ProxyJump=root@' ~ dom0.ansible_host",
        },
        groups={"of_mine": "xen_domain.disks | default([]) | length > 0"},
        keyed_groups=[{"prefix": "made_by", "key": "xen_domain.made_by"}],
        group_prefix="x_",
    )
    assert found.group("x_guest") == ["dom0less-2.b01", "linux1.b01"]
    assert found.hosts["linux1.b01"]["ansible_host"] == "10.0.0.7"
    assert found.hosts["linux1.b01"]["ansible_ssh_common_args"] == "-o ProxyJump=root@b01.example"
    assert "ansible_host" not in found.hosts["dom0less-2.b01"], "what fails is left out"
    assert found.group("of_mine") == ["linux1.b01"]
    assert found.group("made_by_xl") == ["linux1.b01"]


def test_a_driver_domain_with_a_host_is_that_host(lab: LabHost, fleet: Fleet) -> None:
    populated(lab)
    fleet.more["b01-domd"] = {"ansible_host": "10.0.0.2"}
    fleet.more["b01-linux1"] = {"ansible_host": "10.0.0.3"}
    fleet.variables["xen_driver_domains"] = {"DomD": {"host": "{{ inventory_hostname }}-domd"}}
    found = inventory(
        fleet,
        source="live",
        compose={"ansible_host": "'10.9.9.9'"},
        groups={"up": "xen_domain.state == 'running'"},
    )
    assert found.everyone == {"b01", "b01-domd", "b01-dom0less-2", "b01-linux1"}
    assert found.group("up") == ["b01-dom0less-2", "b01-domd", "b01-linux1"]
    assert found.hosts["b01-linux1"]["ansible_host"] == "10.0.0.3", "who brought it says how it is reached"
    assert found.hosts["b01-dom0less-2"]["ansible_host"] == "10.9.9.9"
    assert found.group("xen_driver_domain") == ["b01-domd"]
    assert found.hosts["b01-domd"]["ansible_host"] == "10.0.0.2"
    assert found.domain("b01-domd")["domid"] == 1


# --- hosts that do not answer --------------------------------------------------------------------------


@pytest.fixture
def three(lab_factory: Make, tmp_path: Path) -> Fleet:
    """A host that answers, one that is down, and one whose xenstored hangs."""
    good, down, stuck = (lab_factory() for _host in range(3))
    populated(good)
    stuck.add_domain()
    down.__exit__(None, None, None)
    stuck.xenstored.stop()
    return Fleet(tmp_path / "controller", b01=good, b02=down, b03=stuck)


def test_hosts_that_do_not_answer_are_warnings(three: Fleet) -> None:
    began = time.monotonic()
    found = inventory(three, source="live", timeout=20)
    assert time.monotonic() - began < 120
    assert found.group("xen_unread") == ["b02", "b03"]
    assert found.group("xen_dom0") == ["b01", "b02", "b03"]
    assert "b01-linux1" in found.everyone
    assert "b02: its domains cannot be read" in found.stderr
    assert "b03: its domains cannot be read" in found.stderr


def test_hosts_that_do_not_answer_are_an_error_where_one_wants_that(three: Fleet) -> None:
    three.write()
    path = source(three.folder, source="live", timeout=20, strict=True)
    sources = (three.inventory / "hosts.json", path)
    done = run_inventory(three.folder, *sources, ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED="true")
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0
    assert "b02: its domains cannot be read" in said
    assert "b03: its domains cannot be read" in said
    found = listed(three.folder, *sources)
    assert found.everyone == {"b01", "b02", "b03"}, "nothing by halves"


def test_a_host_that_hangs_before_it_runs_anything(lab: LabHost, tmp_path: Path) -> None:
    populated(lab)
    fleet = Fleet(tmp_path / "controller", b01=lab, b02=lab)
    fleet.of_host["b02"] = {"ansible_python_interpreter": "sleep 100; /usr/bin/python3"}
    began = time.monotonic()
    found = inventory(fleet, source="live", timeout=20)
    assert time.monotonic() - began < 120
    assert "b02: its domains cannot be read: no answer within 20 s" in found.stderr
    assert "b01-linux1" in found.everyone


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"ansible_python_interpreter": "/no/such/python"}, "/no/such/python"),
        ({"ansible_connection": "no_such"}, "there is no connection plugin 'no_such'"),
        ({"ansible_become": True, "ansible_become_method": "no_such"}, "there is no become plugin 'no_such'"),
        ({"xen_socket": "/run/none"}, "/run/none"),
        ({"xen_release": "3"}, "3"),
        ({"ansible_connection": "{{ not_there }}"}, "not_there"),
    ],
)
def test_what_is_wrong_with_a_host_is_told_with_its_name(
    lab: LabHost, fleet: Fleet, variables: dict[str, Any], words: str
) -> None:
    fleet.of_host["b01"] = variables
    found = inventory(fleet, source="live")
    assert "b01: its domains cannot be read: " in found.stderr
    assert words in found.stderr
    assert found.everyone == {"b01"}


def test_no_hosts_at_all(fleet: Fleet) -> None:
    found = inventory(fleet, source="live", hosts="nobody")
    assert "no host matches 'nobody'" in found.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tiemout": 3}, "tiemout: xen.virtio.domains has no such option; did you mean timeout?"),
        (
            {"xenstore": ["/local/domain/0/name"]},
            "xenstore: '/local/domain/0/name' is no path below a domain's own",
        ),
        ({"timeout": 0}, "timeout: 0 is no time"),
        ({"source": "guessed"}, "guessed"),
        ({"hostname": "nothing.at.all", "source": "declared", "strict": True}, "hostname of DomD on b01"),
    ],
)
def test_a_source_that_makes_no_sense(fleet: Fleet, options: dict[str, Any], words: str) -> None:
    fleet.variables["xen_driver_domains"] = ["DomD"]
    found = inventory(fleet, **{"source": "live", **options})
    assert words in found.stderr
    assert found.everyone == {"b01"}


# --- caching -------------------------------------------------------------------------------------------


def test_the_cache_keeps_hosts_that_answered(lab_factory: Make, tmp_path: Path) -> None:
    hosts = [populated(lab_factory()) for _host in range(2)]
    fleet = Fleet(tmp_path / "controller", b01=hosts[0], b02=hosts[1])
    caching: dict[str, Any] = {
        "source": "live",
        "timeout": 10,
        "cache": True,
        "cache_plugin": "ansible.builtin.jsonfile",
        "cache_connection": str(tmp_path / "cache"),
    }
    hosts[1].xenstored.stop()
    assert inventory(fleet, **caching).group("xen_unread") == ["b02"]
    hosts[1].xenstored.cont()
    hosts[0].xl("pause", "linux1")
    found = inventory(fleet, **caching)
    assert found.stderr == ""
    assert found.domain("b01-linux1")["state"] == "running", "as it was kept"
    assert found.domain("b02-linux1")["state"] == "running", "who did not answer is asked again"
    plays = tmp_path / "play.json"
    plays.write_text(
        json.dumps(
            [
                {
                    "hosts": "b01",
                    "gather_facts": False,
                    "tasks": [
                        {"ansible.builtin.meta": "refresh_inventory"},
                        {"ansible.builtin.debug": {"msg": "{{ groups['xen_state_paused'] }}"}},
                    ],
                }
            ]
        )
    )
    fresh = fleet.play(str(plays), "-i", str(fleet.folder / "domains.xen.yml"), rewrite=False)
    assert "b01-linux1" in fresh.stdout, "asked for anew"


# --- names and values of somebody else -----------------------------------------------------------------


def test_hostile_names_and_values(lab: LabHost, fleet: Fleet) -> None:
    names = ["a b", "a_b", "a\tb", "../../x", "all", HOSTILE, "x:!y", "[0:999999]", "-i", "ü", "domd"]
    domids = {name: lab.add_domain(name, kind="toolstack") for name in names}
    guest = lab.add_domain()
    with lab.store() as client:
        path = f"/local/domain/{guest}/{ADDRESS}"
        client.write(path, HOSTILE)
        client.set_permissions(path, [f"n{guest}", "r0"])
    fleet.more["b01-domd"] = {"ansible_host": "10.0.0.2"}
    fleet.variables["xen_driver_domains"] = {"DomD": {"host": "b01-domd"}}
    found = inventory(fleet, **BELIEVING)
    assert not OWNED.exists()
    assert len(found.everyone) == len(names) + 3  # b01, the driver domain's host, the guest
    allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
    assert all(set(name) <= allowed for name in [*found.everyone, *found.tree])
    by_name = {said["xen_domain"]["name"]: host for host, said in found.hosts.items() if "xen_domain" in said}
    assert set(by_name) == {*names, f"dom0less-{guest}"}
    assert by_name["a_b"] == "b01-a_b", "who is called so keeps it"
    assert by_name["domd"] != "b01-domd", "another's host"
    assert found.domain(by_name["a b"])["domid"] == domids["a b"]
    assert found.hosts[by_name[f"dom0less-{guest}"]]["ansible_host"] == HOSTILE
    assert "since b01-a_b is taken" in found.stderr


def test_no_value_is_taken_for_a_template(lab: LabHost, fleet: Fleet) -> None:
    guest = lab.add_domain()
    with lab.store() as client:
        client.write(f"/local/domain/{guest}/{ADDRESS}", HOSTILE)
        client.set_permissions(f"/local/domain/{guest}/{ADDRESS}", [f"n{guest}", "r0"])
    fleet.write()
    tasks = [
        {"ansible.builtin.debug": {"msg": "{{ xen_domain.xenstore_untrusted }} {{ composed }}"}},
        {"ansible.builtin.debug": {"var": "xen_domain"}},
    ]
    play = fleet.folder / "play.json"
    play.write_text(
        json.dumps([{"hosts": "xen_guest", "connection": "local", "gather_facts": False, "tasks": tasks}])
    )
    composed = {**BELIEVING, "compose": {"composed": BELIEVING["compose"]["ansible_host"]}}
    path = source(fleet.folder, **composed)
    done = fleet.play(str(play), "-i", str(path), rewrite=False)
    assert not OWNED.exists()
    assert "lookup('pipe'" in done.stdout


def test_a_guest_that_says_it_is_a_driver_domain_is_none(lab: LabHost, fleet: Fleet) -> None:
    guest, other = lab.add_domain(), lab.add_domain()
    with lab.store() as client:
        for path, value in (
            ("drivers/virtio-disk/status", "ready"),
            (f"backend/virtio_disk/{other}/51712/state", "2"),
            ("name", "DomD"),
        ):
            client.write(f"/local/domain/{guest}/{path}", value)
            client.set_permissions(f"/local/domain/{guest}/{path}", [f"n{guest}", "r0"])
    fleet.variables["xen_driver_domains"] = {"DomD": {"host": "b01-domd"}}
    found = inventory(fleet, source="live")
    assert found.group("xen_driver_domain") == []
    assert found.group("xen_backend_DomD") == []
    assert "b01-domd" not in found.everyone


# --- declared ------------------------------------------------------------------------------------------


@pytest.fixture
def declared(tmp_path: Path) -> Fleet:
    """An inventory whose hosts nobody can reach."""
    fleet = Fleet(tmp_path / "controller")
    fleet.more = {name: {"ansible_connection": "no_such"} for name in ("b01", "b02")}
    (fleet.inventory / "hosts.json").write_text("{}")
    fleet.variables = {
        "xen_driver_domains": {"DomD": {"host": "{{ inventory_hostname }}-domd"}},
        "xen_guest_defaults": {"memory": "{{ base * 2 }}"},
        "base": 256,
        "xen_guests": {
            "linux1": {
                "disks": ["backend=DomD, phy:/dev/a, xvda1, rw, virtio", {"vdev": "xvdb", "target": "/b"}]
            },
            "linux2": {"state": "shutdown", "cmdline": "{{ not_known_yet }}"},
            "gone": {"state": "absent"},
        },
    }
    fleet.of_host = {"b01": {"xen_guest_overrides": {"linux1": {"memory": 1024}}}, "b02": {}}
    return fleet


def list_declared(fleet: Fleet, *arguments: str, **options: Any) -> Listed:
    fleet.write()
    tree = {"all": {"children": {"xen_dom0": {"hosts": fleet.more}}}}
    (fleet.inventory / "hosts.json").write_text(json.dumps(tree))
    path = source(fleet.folder, source="declared", **options)
    return listed(fleet.folder, fleet.inventory / "hosts.json", path, arguments=arguments)


def test_declared_guests_without_any_connection(declared: Fleet) -> None:
    found = list_declared(declared)
    assert found.everyone == {
        f"{board}{domain}" for board in ("b01", "b02") for domain in ("", "-domd", "-linux1", "-linux2")
    }
    assert found.domain("b01-linux1")["config"]["memory"] == 1024
    assert int(found.domain("b02-linux1")["config"]["memory"]) == 512  # text, before ansible-core 2.19
    assert found.domain("b01-linux1")["backends"] == ["DomD", "Domain-0"]
    assert found.group("xen_driver_domain") == ["b01-domd", "b02-domd"]
    assert found.group("xen_state_shutdown") == ["b01-linux2", "b02-linux2"]
    assert "b01: xen_guests: linux2: cmdline" in found.stderr
    assert "cmdline" not in found.domain("b01-linux2")["config"]


def test_extra_variables_and_a_pattern_count(declared: Fleet) -> None:
    limit = ("-e", "xen_guest_limit=linux1 not_known_yet=x")
    found = list_declared(declared, *limit, hosts="xen_dom0:!b02")
    assert found.stderr == ""
    assert found.everyone == {"b01", "b02", "b01-domd", "b01-linux1"}
    assert found.group("xen_board_b02") == []


def test_what_makes_no_sense_is_told_with_the_hosts_name(declared: Fleet) -> None:
    declared.of_host["b01"] = {"xen_guest_overrides": {"linus1": {"memory": 1}}}
    declared.of_host["b02"] = {"xen_driver_domains": "DomD", "not_known_yet": "x"}
    found = list_declared(declared)
    assert "b01: xen_guest_overrides: no guest is called 'linus1'; did you mean 'linux1'?" in found.stderr
    assert "b02: driver_domains is a mapping by name" in found.stderr
    assert found.everyone == {"b01", "b02", "b01-domd", "b02-linux1", "b02-linux2"}


def test_both_sources_are_one_inventory(lab: LabHost, fleet: Fleet) -> None:
    populated(lab)
    fleet.variables |= {
        "xen_driver_domains": {"DomD": {"host": "b01-domd"}},
        "xen_guests": {"linux1": {"memory": 64}, "linux9": {}},
    }
    fleet.write()
    composed = "xen_domain.name ~ '.' ~ xen_domain.dom0"
    paths = [
        source(fleet.folder, f"{kind}.xen.yml", source=kind, hostname=composed)
        for kind in ("declared", "live")
    ]
    found = listed(fleet.folder, fleet.inventory / "hosts.json", *paths)
    assert found.stderr == ""
    assert found.everyone == {"b01", "b01-domd", "linux1.b01", "linux9.b01", "dom0less-2.b01"}
    assert found.domain("linux1.b01")["source"] == "live"
