# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Foreign daemons: what is planned, and masks on made-up folders."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.xen.virtio.plugins.module_utils import _daemons, _foreign
from ansible_collections.xen.virtio.plugins.module_utils._foreign import (
    ForeignError,
    Plan,
    Systemd,
    carry_out,
    plan,
    starts_daemon,
    survey,
    template_of,
)
from ansible_collections.xen.virtio.plugins.module_utils._served import Daemon, ServedDisk, Service

DAEMON = Daemon(pid=10, started=1, command="virtio-disk -d 51712", unit="virtio-disk.service")
BY_HAND = replace(DAEMON, pid=11, unit="ssh.service")
LOGIN = replace(DAEMON, pid=12, unit="session-1.scope")
DISK = ServedDisk(3, 51712, "2", None, "linux1")


@pytest.mark.parametrize(
    ("daemons", "owners", "listed", "masked", "transient", "expected"),
    [
        ([], {}, [], [], [], Plan()),
        # the common unit: stopped and masked, whether its file or its main process tells
        ([DAEMON], {}, ["virtio-disk.service"], [], [], (["virtio-disk.service"], ["virtio-disk.service"], [])),
        ([DAEMON], {"virtio-disk.service": True}, [], [], [], (["virtio-disk.service"], ["virtio-disk.service"], [])),
        # a unit that does not run is masked all the same, one that is masked is left alone
        ([], {}, ["virtio-disk.service"], [], [], ([], ["virtio-disk.service"], [])),
        ([], {}, ["virtio-disk.service"], ["virtio-disk.service"], [], ([], [], [])),
        # started by hand: the process alone
        ([BY_HAND], {"ssh.service": False}, [], [], [], ([], [], [BY_HAND])),
        ([LOGIN], {}, [], [], [], ([], [], [LOGIN])),
        ([replace(DAEMON, unit=None)], {}, [], [], [], ([], [], [replace(DAEMON, unit=None)])),
        # what has no file cannot be started again
        ([DAEMON], {"virtio-disk.service": True}, [], [], ["virtio-disk.service"], (["virtio-disk.service"], [], [])),
        # of a template all that it makes
        ([replace(DAEMON, unit="disk@5.service")], {}, ["disk@.service"], [], [],
         (["disk@5.service"], ["disk@.service"], [])),
        # a foreign template of the launcher's name is the launcher's now; its old instance is not
        ([replace(DAEMON, unit="virtio-disk@51712.service")], {"virtio-disk@51712.service": True}, [], [], [],
         (["virtio-disk@51712.service"], ["virtio-disk@51712.service"], [])),
        ([], {}, ["virtio-disk@.service", "virtio-disk-launcher.service"], [], [], ([], [], [])),
    ],
)  # fmt: skip
def test_what_is_done_with_idle_ones(
    daemons: list[Daemon],
    owners: dict[str, bool],
    listed: list[str],
    masked: list[str],
    transient: list[str],
    expected: tuple[list[str], list[str], list[Daemon]] | Plan,
) -> None:
    made = plan(
        [Service(daemon) for daemon in daemons],
        owners=owners,
        listed=listed,
        masked=masked,
        transient=transient,
    )
    assert made.refusals == []
    if isinstance(expected, Plan):
        assert made.empty
    else:
        assert (made.stops, made.masks, made.ends) == expected
        assert made.empty == (expected == ([], [], []))


@pytest.mark.parametrize("disrupt", [False, True])
def test_one_that_serves_is_refused_unless_that_was_said(disrupt: bool) -> None:
    service = Service(DAEMON, (DISK,), idle=False)
    made = plan([service], owners={}, listed=["virtio-disk.service"], masked=[], disrupt=disrupt)
    assert made.stops == ["virtio-disk.service"]
    if disrupt:
        assert made.refusals == []
    else:
        (refusal,) = made.refusals
        for word in ("process 10 of virtio-disk.service", "guest linux1 (domain 3)", "disrupt"):
            assert word in refusal


def test_one_that_may_serve_is_refused_too() -> None:
    made = plan([Service(DAEMON, (), idle=False)], owners={}, listed=[], masked=[])
    assert "must be taken to serve" in made.refusals[0]


@pytest.mark.parametrize(
    ("line", "starts"),
    [
        ("ExecStart=/usr/bin/virtio-disk", True),
        ("ExecStart=-/usr/bin/virtio-disk -d 51712", True),
        ("  ExecStart = virtio-disk", True),
        ('ExecStart=/bin/sh -c "sleep 1; exec /usr/bin/virtio-disk -l"', True),
        ("ExecStart=/usr/lib/xen/wait-for-backend virtio-disk", False),
        ("ExecStart=/usr/bin/tool --config /etc/virtio-disk", False),
        ("ExecStartPost=/usr/bin/xenstore-write drivers/virtio-disk/status ready", False),
        ("Description=virtio-disk", False),
        ("#ExecStart=/usr/bin/virtio-disk", False),
        ("ExecStart=", False),
        ("ExecStart=/usr/bin/python3 -I -S /usr/local/lib/xen-virtio/virtio-disk-view %i", False),
    ],
)
def test_a_unit_that_starts_a_daemon(line: str, starts: bool) -> None:
    assert starts_daemon(f"[Service]\n{line}\n", {"virtio-disk"}) is starts


@pytest.mark.parametrize(
    ("unit", "template"),
    [("a.service", "a.service"), ("a@b.service", "a@.service"), ("a@.service", "a@.service")],
)
def test_templates(unit: str, template: str) -> None:
    assert template_of(unit) == template


# --- masks -------------------------------------------------------------------------------------------------

TEXT = "[Service]\nExecStart=/usr/bin/virtio-disk\nRestart=always\n"


class Host:
    """Folders of units and a systemctl that notes what it is told."""

    def __init__(self, folder: Path) -> None:
        self.etc, self.lib, self.kept, self.log = (folder / name for name in ("etc", "lib", "kept", "log"))
        self.etc.mkdir()
        self.lib.mkdir()
        self.log.write_text("")
        command = folder / "systemctl"
        command.write_text(
            f'#!/bin/sh\necho "$*" >>{self.log}\ncase $* in *broken*) echo no >&2; exit 1;; esac\n'
        )
        command.chmod(0o755)
        folders = [str(self.etc), str(self.lib)]
        self.systemd = Systemd(str(command), folders, str(folder / "transient"), str(self.kept))

    def said(self) -> list[str]:
        return self.log.read_text().splitlines()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def in_lib(host: Host) -> None:
    (host.lib / "virtio-disk.service").write_text(TEXT)


def in_etc(host: Host) -> None:
    (host.etc / "virtio-disk.service").write_text(TEXT)


def linked(host: Host) -> None:
    (host.lib / "elsewhere").write_text(TEXT)
    (host.etc / "virtio-disk.service").symlink_to(host.lib / "elsewhere")


@pytest.mark.parametrize("where", [in_lib, in_etc, linked])
def test_masked_and_as_it_was(host: Host, where: Callable[[Host], None]) -> None:
    where(host)
    place = host.etc / "virtio-disk.service"

    def shown() -> list[tuple[str, str]]:
        return sorted(
            (path.name, os.readlink(path) if path.is_symlink() else path.read_text())
            for path in host.etc.iterdir()
        )

    before = shown()
    made = survey([], host.systemd)
    assert made.masks == ["virtio-disk.service"]
    carry_out(made, host.systemd)
    assert os.readlink(place) == "/dev/null"
    assert host.said() == ["daemon-reload"]
    assert survey([], host.systemd).empty  # the second time there is nothing to do
    assert host.systemd.ours() == ["virtio-disk.service"]
    host.systemd.unmask("virtio-disk.service")
    assert shown() == before
    assert host.systemd.ours() == []
    assert not host.kept.exists()


def test_a_mask_that_somebody_took_away_stays_away(host: Host) -> None:
    in_lib(host)
    carry_out(survey([], host.systemd), host.systemd)
    (host.etc / "virtio-disk.service").unlink()
    host.systemd.unmask("virtio-disk.service")
    assert host.systemd.ours() == []
    assert list(host.etc.iterdir()) == []


def test_a_mask_of_the_users_own_is_not_ours(host: Host) -> None:
    in_lib(host)
    (host.etc / "virtio-disk.service").symlink_to("/dev/null")
    assert survey([], host.systemd, always=["virtio-disk.service"]).empty
    assert host.systemd.ours() == []


def test_a_unit_that_is_about_to_come_is_masked(host: Host) -> None:
    made = survey([], host.systemd, always=["virtio-disk.service"])
    assert made.masks == ["virtio-disk.service"]


def test_a_stop_that_fails_is_told(host: Host) -> None:
    with pytest.raises(ForeignError, match=r"systemctl stop -- broken\.service: no"):
        carry_out(Plan(stops=["broken.service"]), host.systemd)


def test_a_process_that_cannot_be_ended_is_told(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_daemon: Daemon) -> str:
        return "cannot be ended"

    monkeypatch.setattr(_daemons, "end", refuse)
    with pytest.raises(ForeignError, match="cannot be ended"):
        carry_out(Plan(ends=[LOGIN]), host.systemd)


def test_the_diff_tells_all_of_it() -> None:
    diff = Plan(stops=["a.service", "b.service"], masks=["a.service"], ends=[LOGIN]).as_diff()
    assert diff["before"] == "a.service: may run\nb.service: runs\nprocess 12 of session-1.scope: runs\n"
    assert diff["after"] == "a.service: masked\nb.service: stopped\nprocess 12 of session-1.scope: ended\n"


def test_a_systemd_that_does_not_answer_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "systemctl"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setattr(_foreign, "_ASK_TIMEOUT", 0.1)
    with pytest.raises(ForeignError, match=r"systemctl daemon-reload: no answer within 0\.3 s"):
        Systemd(str(program)).reload()
    with pytest.raises(ForeignError, match=r"systemctl show .*: no answer within"):
        Systemd(str(program)).owns("a.service", 2, 1)


def test_a_unit_that_does_not_stop_in_time_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "systemctl"
    program.write_text(
        f'#!/bin/sh\necho "$*" >>{tmp_path}/calls\n[ "$1" != stop ] || [ -e {tmp_path}/killed ] || exec sleep 60\n'
        f'[ "$1" != kill ] || touch {tmp_path}/killed\n'
    )
    program.chmod(0o755)
    monkeypatch.setattr(_daemons, "END_TIMEOUT", 0.3)
    Systemd(str(program)).stop("a.service")
    assert (tmp_path / "calls").read_text().splitlines() == [
        "stop -- a.service",
        "kill --kill-who=all --signal=KILL -- a.service",
        "stop -- a.service",
    ]
