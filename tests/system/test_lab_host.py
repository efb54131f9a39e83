# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab host itself: its namespace, its interpreter, its reboot, and that nothing of it stays."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from guests import BOUND, until
from lab import LabError, LabHost, LabUnavailable, build, roots

TESTS = Path(__file__).resolve().parents[1]
LabFactory = Callable[..., LabHost]


def processes_naming(folder: Path) -> list[int]:
    """Processes whose command line or environment names the folder of a lab host."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if str(folder).encode() in text:
                found.append(int(entry.name))
    return found


# ---- the interpreter ----


def test_python_runs_inside_with_its_exit_code_arguments_and_input(lab: LabHost, tmp_path: Path) -> None:
    script = "import os, sys; print(sys.argv[1:], os.getcwd(), os.listdir('/run/xenstored')); sys.exit(3)"
    done = subprocess.run(
        [lab.python, "-", "a b"], input=script, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert done.stdout == f"['a b'] {tmp_path} ['socket']\n"


@pytest.mark.parametrize("pipelining", ["True", "False"])
def test_ansible_uses_it_as_interpreter(lab: LabHost, tmp_path: Path, pipelining: str) -> None:
    inventory = {"all": {"hosts": {"board": {"ansible_connection": "local"}}}}
    inventory["all"]["hosts"]["board"]["ansible_python_interpreter"] = lab.python
    (tmp_path / "inventory.json").write_text(json.dumps(inventory))
    ansible = Path(sys.executable).with_name("ansible")
    if not ansible.exists():
        pytest.skip("ansible is not installed beside this Python")
    command = [str(ansible), "board", "-i", str(tmp_path / "inventory.json"), "-m", "ansible.builtin.stat"]
    env = {**os.environ, "ANSIBLE_PIPELINING": pipelining, "ANSIBLE_NOCOLOR": "1"}
    argument = "path=/run/xenstored/socket"
    done = subprocess.run(
        [*command, "-a", argument], env=env, capture_output=True, text=True, check=False, timeout=BOUND * 2
    )
    assert '"issock": true' in done.stdout, done.stdout + done.stderr
    if not Path("/run/xenstored/socket").exists():
        outside = subprocess.run(
            [*command, "-a", argument, "-e", f"ansible_python_interpreter={sys.executable}"],
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=BOUND * 2,
        )
        assert '"exists": false' in outside.stdout


def test_python_works_from_inside_too(lab: LabHost) -> None:
    domain = lab.domain_python(lab.add_domain())
    assert (
        lab.run([lab.python, "-c", "import os; print(os.listdir('/run/xenstored'))"]).stdout == "['socket']\n"
    )
    assert lab.run([domain, "-c", "import os; print(os.listdir('/run/xenstored'))"]).stdout == "[]\n"


def test_python_of_a_host_that_is_down_says_so(tmp_path: Path) -> None:
    with LabHost(tmp_path / "host", keep=True) as host:
        python = host.python
    done = subprocess.run([python, "-c", "1"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (127, f"the lab host in {tmp_path / 'host'} is down\n")


# ---- what is the host's own ----


def test_files_written_inside_stay_inside(lab: LabHost) -> None:
    places = [
        "/etc/systemd/system",
        "/etc/xen",
        "/etc",
        "/usr/local/lib",
        "/usr/local/sbin",
        "/var/lib",
        "/run",
    ]
    places += ["/var/lib/xen", "/var/log/xen", "/run/lock"]
    name = f"lab-{os.getpid()}"
    lab.run(["sh", "-ec", f'for d; do echo new > "$d/{name}"; done', "-", *places])
    assert not [place for place in places if Path(place, name).exists()]
    assert (lab.root / "etc/systemd/system" / name).read_text() == "new\n"


def test_the_machines_files_are_there_and_cannot_be_changed_through_it(lab: LabHost) -> None:
    machine = Path("/etc/passwd").read_text()
    assert lab.run(["cat", "/etc/passwd"]).stdout == machine
    assert "Read-only" in lab.run(["sh", "-c", "echo x >> /etc/passwd"], check=False).stderr
    lab.run(["sh", "-ec", "rm /etc/passwd; echo replaced > /etc/passwd"])
    assert Path("/etc/passwd").read_text() == machine


def test_tools_are_the_real_ones(lab: LabHost) -> None:
    for path in ("xl", "/usr/sbin/xl"):
        assert "xen_version            : 4.17" in lab.run([path, "info"]).stdout
    lab.write("/tool/greeting", "hello")
    assert lab.run(["xenstore-read", "/tool/greeting"]).stdout == "hello\n"


def test_any_number_side_by_side(lab_factory: LabFactory) -> None:
    hosts = [lab_factory(daemon=daemon) for daemon in "cocc"]
    for number, host in enumerate(hosts):
        host.write("/tool/number", f"{number}")
        host.add_domain()
    assert [host.read("/tool/number") for host in hosts] == [b"0", b"1", b"2", b"3"]
    assert [host.xl("list").stdout.count("dom0less-1") for host in hosts] == [1, 1, 1, 1]


def test_a_folder_with_a_long_name(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 20) / ("name" * 20)
    with LabHost(folder) as host:
        domid = host.add_domain()
        assert len(host.socket) < 108
        assert len(host.domain_view(domid)) < 108
        assert host.read("/local/domain/0/name") == b"Domain-0"
        host.answer_backends()
        host.guest_answers()
        short = Path(host.socket).parents[4]
    assert not short.exists()


# ---- what is refused ----


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LabError, match="starts in an empty folder"):
        LabHost(tmp_path).start()
    assert (tmp_path / "file").exists()


@pytest.mark.parametrize("folder", ["/run/lab", "/etc/lab", "/var/lib/lab", "/usr/local/lab"])
def test_a_folder_below_the_hosts_own_is_refused(folder: str) -> None:
    with pytest.raises(LabUnavailable, match="cannot lie below"):
        LabHost(folder).start()


def test_unknown_release_and_missing_packages_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(LabUnavailable, match=r"no Xen 4\.2 in the lab: it knows 4\.17, 4\.20"):
        LabHost(tmp_path / "a", release="4.2").start()
    monkeypatch.setattr(roots, "missing_packages", lambda _xen: ["xenstore-utils", "gcc"])
    with pytest.raises(LabUnavailable, match="not installed: xenstore-utils gcc"):
        LabHost(tmp_path / "b").start()


def test_without_mmdebstrap_the_packages_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XEN_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("shutil.which", lambda _name: None)
    with pytest.raises(LabUnavailable, match=r"xen-utils-4\.20 xenstore-utils libxen-dev, or mmdebstrap"):
        roots.make_root("4.20")


def test_a_cache_of_its_own_is_built_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XEN_LAB_CACHE", str(tmp_path / "cache"))
    xen = roots.locate("4.17")
    first = build.shims(xen)
    stamp = first.toolstack.stat().st_mtime_ns
    assert build.shims(xen) == first
    assert first.toolstack.stat().st_mtime_ns == stamp
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [first.toolstack.parent.name]


def test_more_arguments_for_the_daemon(lab_factory: LabFactory) -> None:
    lab = lab_factory(daemon_args=["--entry-nb", "77"])
    assert "nodes            :       77" in lab.run(["xenstore-control", "quota"]).stdout


# ---- reboot ----

UNIT = """\
[Unit]
Description=Something at boot
After=network.target

[Service]
Type=oneshot
RemainAfterExit=yes
NoNewPrivileges=yes
Environment=WORD=once
ExecStart=/bin/sh /usr/local/lib/at-boot.sh

[Install]
WantedBy=multi-user.target
"""


def install_unit(host: LabHost, text: str) -> None:
    system = host.root / "etc/systemd/system"
    (system / "at-boot.service").write_text(text)
    (system / "multi-user.target.wants/at-boot.service").symlink_to("/etc/systemd/system/at-boot.service")
    (host.root / "usr/local/lib/at-boot.sh").write_text('xenstore-write /tool/at-boot "$WORD"; echo booted\n')


def test_reboot_loses_what_is_volatile_and_keeps_what_is_not(lab_any: LabHost) -> None:
    lab = lab_any
    first, second = lab.add_domain(), lab.add_domain(name="named", paused=True)
    lab.add_domain(kind="toolstack", name="other")
    lab.write("/tool/mine", "1")
    lab.run(
        [
            "sh",
            "-ec",
            "echo 1 > /run/mine; echo 1 > /var/lib/mine; echo 1 > /etc/mine; echo 1 > /usr/local/lib/mine",
        ]
    )
    sleeper = subprocess.Popen([lab.folder / "enter", "sleep", "1000"])
    assert until(lambda: sleeper.pid in lab.processes())
    assert lab.reboot() == []
    assert sleeper.wait(BOUND) == -signal.SIGKILL
    assert lab.read("/tool/mine") is None
    there = "for f in /run /var/lib /etc /usr/local/lib; do test -e $f/mine && echo $f; done; true"
    assert lab.run(["sh", "-c", there]).stdout.split() == ["/var/lib", "/etc", "/usr/local/lib"]
    names = [lab.read(f"/local/domain/{domid}/name") for domid in (first, second)]
    assert names == [b"dom0less-1", b"named"]
    assert [domain.domid for domain in lab.hypervisor.domains()] == [0, first, second]
    assert lab.hypervisor.known(second).paused
    assert lab.add_domain(kind="toolstack") == 3


def test_reboot_runs_the_wanted_units(lab: LabHost) -> None:
    install_unit(lab, UNIT)
    (done,) = lab.reboot()
    assert done == ("at-boot.service", 0, "booted\n")
    assert lab.read("/tool/at-boot") == b"once"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Type=oneshot", "Type=simple", "Type=oneshot"),
        ("RemainAfterExit=yes", "ExecStartPost=/bin/true", "does not understand ExecStartPost="),
        ("ExecStart=/bin/sh", "ExecStart=@/bin/sh", "absolute path and no prefix"),
        ("/usr/local/lib/at-boot.sh", "%h/at-boot.sh", "no specifier"),
        ("/usr/local/lib/at-boot.sh", "$HOME/at-boot.sh", "no variable"),
        ("RemainAfterExit=yes", "TimeoutStartSec=soon", "time span"),
        ("[Install]", "[Timer]", r"\[Timer\]"),
    ],
)
def test_reboot_refuses_units_it_does_not_understand(lab: LabHost, old: str, new: str, message: str) -> None:
    install_unit(lab, UNIT.replace(old, new))
    with pytest.raises(LabError, match=message):
        lab.reboot()


def test_a_failing_unit_is_reported(lab: LabHost) -> None:
    install_unit(lab, UNIT)
    (lab.root / "usr/local/lib/at-boot.sh").write_text("echo sorry >&2; exit 5")
    (done,) = lab.reboot()
    assert done == ("at-boot.service", 5, "sorry\n")


def install(host: LabHost, name: str, unit: str, service: str, *, wanted: bool = True, by: str = "") -> None:
    """Write a unit, and enable it: for multi-user.target, or for another unit."""
    system = host.root / "etc/systemd/system"
    template = re.sub(r"@.*\.", "@.", name)
    text = f"[Unit]\n{unit}\n[Service]\nType=oneshot\nRemainAfterExit=yes\n{service}\n"
    (system / template).write_text(text + "[Install]\nWantedBy=multi-user.target\n")
    if wanted:
        folder = system / (by or "multi-user.target.wants")
        folder.mkdir(exist_ok=True)
        (folder / name).symlink_to(f"../{template}")


def echo(word: str) -> str:
    return f"ExecStart=/bin/echo {word}"


def test_units_come_in_the_order_they_ask_for(lab: LabHost) -> None:
    install(lab, "a.service", "After=c.service", echo("a"))
    install(lab, "b.service", "Requires=d.service\nAfter=d.service", echo("b"))
    install(lab, "c.service", "Wants=e.service nobody.service\nAfter=e.service network.target", echo("c"))
    install(lab, "d.service", "", echo("d"), wanted=False)
    install(lab, "e.service", "Before=b.service", echo("e"), wanted=False)
    install(lab, "f.service", "", echo("f"), by="e.service.wants")
    assert [done.unit[0] for done in lab.reboot()] == ["d", "e", "b", "c", "a", "f"]


def test_units_that_wait_for_each_other_are_refused(lab: LabHost) -> None:
    install(lab, "a.service", "After=b.service", echo("a"))
    install(lab, "b.service", "After=a.service", echo("b"))
    with pytest.raises(LabError, match=r"wait for each other: a\.service, b\.service"):
        lab.reboot()


def test_what_a_failed_unit_was_required_for_is_not_started(lab: LabHost) -> None:
    install(lab, "a.service", "Requires=b.service\nAfter=b.service", echo("a"))
    install(lab, "b.service", "", "ExecStart=/bin/false")
    install(lab, "c.service", "Wants=b.service\nAfter=b.service xenstored.service", echo("c"))
    install(lab, "d.service", "Requires=absent.service", echo("d"))
    install(lab, "e.service", "Requires=xenstored.service", echo("e"))
    done = {one.unit[0]: one for one in lab.reboot()}
    assert {name: one.returncode for name, one in done.items()} == {"a": 1, "b": 1, "c": 0, "d": 1, "e": 0}
    assert done["a"].output == "not started: b.service failed or is not there\n"
    assert done["d"].output == "not started: absent.service failed or is not there\n"


def test_templates_environment_and_commands_before(lab: LabHost) -> None:
    service = "\n".join(
        [
            'Environment=WORD=%i "MORE=%p and %%"',
            "ExecStartPre=-/bin/false",
            "ExecStart=/bin/sh -c 'echo main %I; printenv WORD MORE'",
            "ExecStartPre=/bin/echo first %n",
        ]
    )
    install(lab, "guest@one.service", "After=guest@two-x.service", service)
    (lab.root / "etc/systemd/system/multi-user.target.wants/guest@two-x.service").symlink_to(
        "../guest@.service"
    )
    two, one = lab.reboot()
    assert two == ("guest@two-x.service", 0, "first guest@two-x.service\nmain two/x\ntwo-x\nguest and %\n")
    assert one == ("guest@one.service", 0, "first guest@one.service\nmain one\none\nguest and %\n")


@pytest.mark.parametrize(
    ("settings", "stays"),
    [
        ("RemainAfterExit=yes", True),
        ("RemainAfterExit=no", False),
        ("RemainAfterExit=no\nKillMode=process", True),
    ],
)
def test_a_service_that_is_over_takes_its_daemons_along(lab: LabHost, settings: str, stays: bool) -> None:
    install(lab, "a.service", "", f"{settings}\nExecStart=/bin/sh -c 'setsid sleep 1000 & exit 0'")
    lab.reboot()
    assert any("sleep 1000" in command for command in lab.processes().values()) == stays


# ---- the end ----

OWNER = """\
import sys, time
sys.path.insert(0, sys.argv[1])
from lab import LabHost
host = LabHost(sys.argv[2]).start()
host.answer_backends()
host.guest_answers()
domid = host.add_domain()
host.domain_python(domid)
config = host.folder / "guest.cfg"
config.write_text(f"name='guest'\\ntype='pvh'\\nkernel='{host.kernel}'\\nmemory=64\\n")
host.xl("create", str(config))
import subprocess
subprocess.Popen([host.folder / "enter", "sleep", "1000"], start_new_session=True)
print("up", flush=True)
time.sleep(1000)
"""


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that owns a lab host in tmp_path / "host"."""
    command = [sys.executable, "-c", OWNER, str(TESTS), str(tmp_path / "host")]
    # what runs in the background ignores Ctrl-C from birth, and so would its children
    command = ["env", "--default-signal=INT", *command]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    yield process
    process.stdout.close()
    if process.poll() is None:
        process.kill()
    process.wait()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_when_the_owner_ends(
    owner: subprocess.Popen[str], tmp_path: Path, number: signal.Signals
) -> None:
    folder = tmp_path / "host"
    assert len(processes_naming(folder)) > 4
    os.killpg(owner.pid, number)
    owner.wait(BOUND)
    assert until(lambda: processes_naming(folder) == []), processes_naming(folder)
    assert until(lambda: not folder.exists()), list(folder.iterdir())


def ended(pid: int) -> bool:
    """Gone, or a zombie that this machine's init has not collected yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_nothing_is_left_when_the_holder_is_killed(tmp_path: Path) -> None:
    with LabHost(tmp_path / "host") as host:
        host.domain_python(host.add_domain())
        stranger = subprocess.Popen([host.folder / "enter", "sleep", "1000"])
        assert until(lambda: stranger.pid in host.processes())
        parts = host.ask("pids")
        assert set(parts) == {"xenstored", "view-1", "namespace-1"}
        os.kill(json.loads((host.folder / "state.json").read_text())["pid"], signal.SIGKILL)
        assert until(lambda: all(ended(pid) for pid in parts.values()))
    assert stranger.wait(BOUND) == -signal.SIGKILL
    assert not (tmp_path / "host").exists()


def test_nothing_is_left_after_a_failed_test(tmp_path: Path) -> None:
    folder = tmp_path / "host"
    with pytest.raises(ZeroDivisionError), LabHost(folder) as host:  # noqa: PT012 - the end of the block is the test
        domid = host.add_domain()
        host.domain_python(domid)
        host.xenstored.stop()
        subprocess.Popen([host.folder / "enter", "sleep", "1000"])
        raise ZeroDivisionError
    assert processes_naming(folder) == []
    assert not folder.exists()


def test_stopping_twice_and_entering_again(tmp_path: Path) -> None:
    host = LabHost(tmp_path / "host")
    for _round in range(2):
        with host:
            assert host.running
        host.stop()
        assert not host.running


# ---- an ordinary user ----

ORDINARY = """\
import os, sys, time
sys.path.insert(0, sys.argv[1])
from lab import LabHost
assert os.getuid()
with LabHost(sys.argv[2] + "/host", daemon=sys.argv[3]) as host:
    host.answer_backends()
    domid = host.add_domain()
    with open(sys.argv[2] + "/image", "wb") as image:
        image.truncate(1 << 20)
    with open(sys.argv[2] + "/guest.cfg", "w") as file:
        file.write('name="g"\\ntype="pvh"\\nkernel="/etc/hostname"\\nmemory=64\\n')
        file.write('disk=["vdev=xvda,backendtype=standalone,specification=virtio,target=%s/image"]' % sys.argv[2])
    host.xl("create", "-p", sys.argv[2] + "/guest.cfg")
    print("51712" in host.xl("block-list", "g").stdout)
    host.guest_answers()
    host.xl("unpause", "g")
    host.xl("shutdown", "g")
    deadline = time.monotonic() + 30
    while host.hypervisor.get(2) and time.monotonic() < deadline:
        time.sleep(0.01)
    print(host.hypervisor.get(2))
    host.run(["sh", "-ec", "echo 1 > /etc/systemd/system/x; echo 1 > /usr/local/sbin/x"])
    print(host.run([host.domain_python(domid), "-c", "import os; print(os.listdir('/dev/xen'))"]).stdout, end="")
    host.reboot()
    print(host.xl("list").stdout.count("dom0less-1"))
"""


@pytest.mark.parametrize("daemon", ["c", "o"])
def test_everything_works_as_an_ordinary_user(daemon: str) -> None:
    if os.geteuid():
        return  # all tests of this file show it then
    assert shutil.which("setpriv"), "util-linux has it"
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        become = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", f"HOME={folder}"]
        # the checkout may lie where only root may look
        shutil.copytree(TESTS / "lab", Path(folder) / "tests/lab")
        command = [*become, "/usr/bin/python3", "-c", ORDINARY, f"{folder}/tests", folder, daemon]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=folder)
        assert (done.stdout, done.stderr) == ("True\nNone\n['xenbus']\n1\n", "")
        left = sorted(name for name in os.listdir(folder) if name != ".cache")  # the shims, built anew
        assert left == ["guest.cfg", "image", "tests"]
