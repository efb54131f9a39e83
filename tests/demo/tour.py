# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tour: provision, run again, break, find, mend, be refused."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from lab import LabError, LabHost
from lab.cli import hosts_folder

from demo.readme import playbook, update
from demo.screen import Screen

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
KEPT = "demo"  # the lab host that KEEP=1 leaves up

INVENTORY = """\
all:
  children:
    boards:
      hosts:
        board1:
          ansible_connection: local
          ansible_python_interpreter: {python}
"""


class DemoError(RuntimeError):
    """A step of the tour did not end as it should have."""


class Tour:
    """One lab host and everything that is shown on it."""

    def __init__(self, host: LabHost, folder: Path, screen: Screen, interrupts: Interrupts) -> None:
        self.host = host
        self.interrupts = interrupts
        self.screen = screen
        (folder / "inventory.yml").write_text(INVENTORY.format(python=host.python))
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
            "PATH": f"{ROOT / '.venv' / 'bin'}:{os.environ.get('PATH', os.defpath)}",
            **settings(folder),
        }
        (folder / "ansible.cfg").touch()
        (folder / "env.sh").write_text(env_script(folder))

    # ---- means ----

    def inside(self, *argv: str) -> None:
        """Run and show a command on the board."""
        self.screen.command(shlex.join(argv))
        self.screen.output(self.host.run(argv).stdout)

    def play(self, name: str, *options: str, fails: bool = False) -> None:
        """Run and show a playbook."""
        self.screen.command(shlex.join(["ansible-playbook", *options, name]))
        with self.interrupts.held():
            process = subprocess.Popen(
                [str(ROOT / ".venv/bin/ansible-playbook"), *options, name],
                cwd=HERE,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                process_group=0,  # of its own: an interrupt reaches it through us alone, and we see its end
            )
        try:
            self.interrupts.due()
            done = process.wait()
        except KeyboardInterrupt:
            end(process)
            raise
        if (done != 0) != fails:
            raise DemoError(f"ansible-playbook {name} ended with {done}")

    # ---- chapters ----

    def board(self) -> None:
        self.screen.line(self.screen.title("xen.virtio: a tour of a minute"))
        self.screen.chapter("A board")
        self.screen.say(
            """A lab host stands in for a board with Xen. Its xenstored and xl are the real ones of Xen 4.17;
            only the hypervisor under them is pretended. There are two driver domains, DomD and DomE, and three
            guests that came up with the board (dom0less), none of which has a disk. In the driver domains a
            stand-in answers as the virtio-disk daemon does."""
        )
        self.host.add_domain("DomD", "toolstack")
        self.host.add_domain("DomE", "toolstack")
        for _guest in range(3):
            self.host.add_domain()
        self.host.answer_backends()
        self.inside("xl", "list")

    def playbook(self) -> None:
        self.screen.chapter("Which guest has which disks")
        self.screen.say("The playbook, tests/demo/disks.yml:")
        self.screen.listing(playbook("disks.yml"))

    def first_run(self) -> None:
        self.screen.chapter("The first run")
        self.play("disks.yml", "--diff")
        self.screen.say(
            """Every disk was written to xenstore in a transaction of its own, byte for byte as libxl writes it,
            and the task ended when all of them were attached. One of them, as its driver domain sees it:"""
        )
        self.inside("xenstore-ls", "-p", "/local/domain/1/backend/virtio_disk/3/51712")

    def second_run(self) -> None:
        self.screen.chapter("The second run changes nothing")
        self.play("disks.yml", "--diff")

    def drift(self) -> None:
        self.screen.chapter("Drift")
        self.screen.say(
            """Behind its back somebody points a disk elsewhere, and somebody restarts a daemon in DomE, which
            costs its guest the disk:"""
        )
        self.inside("xenstore-write", "/local/domain/1/backend/virtio_disk/3/51728/params", "/dev/mmcblk0p9")
        self.inside("xenstore-rm", "/local/domain/2/backend/virtio_disk/5/51728")
        self.screen.say("Check mode finds both and touches neither:")
        self.play("disks.yml", "--check", "--diff")

    def mend(self) -> None:
        self.screen.chapter("Mended")
        self.play("disks.yml", "--diff")
        self.inside("xenstore-read", "/local/domain/1/backend/virtio_disk/3/51728/params")

    def mistake(self) -> None:
        self.screen.chapter("A mistake is refused before anything is written")
        self.screen.listing(playbook("mistake.yml"))
        self.play("mistake.yml", fails=True)

    def run(self) -> None:
        for chapter in (
            self.board,
            self.playbook,
            self.first_run,
            self.second_run,
            self.drift,
            self.mend,
            self.mistake,
        ):
            chapter()


def end(process: subprocess.Popen[bytes]) -> None:
    """Interrupt a process group as Ctrl-C would; what does not heed it is killed."""
    for number, patience in ((signal.SIGINT, 10.0), (signal.SIGKILL, None)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
            return


def settings(folder: Path) -> dict[str, str]:
    """Ansible's, for the tour alone: everything it writes goes to the tour's own folder."""
    return {
        "ANSIBLE_INVENTORY": str(folder / "inventory.yml"),
        "ANSIBLE_HOME": str(folder / "ansible"),
        "ANSIBLE_LOCAL_TEMP": str(folder / "ansible/tmp"),
        "ANSIBLE_REMOTE_TEMP": str(folder / "ansible/tmp"),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache/collections"),
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml",
        "ANSIBLE_NOCOWS": "1",
        "LC_ALL": "C.UTF-8",  # Ansible refuses to run without UTF-8
        "ANSIBLE_CONFIG": str(folder / "ansible.cfg"),  # empty: nobody's own settings get in the way
    }


def env_script(folder: Path) -> str:
    """What a shell needs to go on by hand."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in settings(folder).items()]
    return "\n".join([*lines, f"PATH={shlex.quote(str(ROOT / '.venv/bin'))}:$PATH", ""])


def good_bye(screen: Screen, kept: Path | None) -> None:
    if kept is None:
        screen.say(
            """That was all; the lab host is gone again. To look around in it by hand, run `make demo KEEP=1`.
            README.md goes on from here, docs/lab.md tells of lab hosts."""
        )
        return
    screen.chapter("Go on by hand")
    screen.say(f"The lab host {KEPT!r} is still up. For example, from the checkout's folder:")
    screen.listing(
        f"""\
. {kept.relative_to(ROOT)}/env.sh                    # settings of Ansible for this host
cd tests/demo
ansible-playbook disks.yml --diff       # edit it first
ansible boards -m xen.virtio.disk_info
cd ../..
python3 tests/lab xl {KEPT} list
python3 tests/lab exec {KEPT} -- xenstore-ls -fp /libxl
python3 tests/lab domain {KEPT} add       # one more dom0less guest
python3 tests/lab domain {KEPT} kill 5
python3 tests/lab down {KEPT}             # the end of it"""
    )


class Interrupts:
    """Ctrl-C, SIGTERM and SIGHUP raise KeyboardInterrupt, once, but never while a process is being started.

    In the midst of that nobody would know of the process yet, and it would outlive the tour.
    """

    def __init__(self) -> None:
        self.came = False
        self._held = self._pending = False

    def __enter__(self) -> Interrupts:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._interrupt)
        return self

    def __exit__(self, *_error: object) -> None:
        """Back to what a process has by default."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)

    def _interrupt(self, _number: int, _frame: object) -> None:
        self.came = True
        if not self._held:
            self._held = True  # a second one does not disturb the clearing away
            raise KeyboardInterrupt
        self._pending = True

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def due(self) -> None:
        """Raise what came while they were held."""
        if self._pending:
            self._pending = False
            raise KeyboardInterrupt


def tour(keep: bool, interrupts: Interrupts) -> None:
    screen = Screen()
    python = str(ROOT / ".venv/bin/python")
    if not keep:
        with tempfile.TemporaryDirectory(prefix="xen-virtio-demo-") as name:
            folder = Path(name)
            with LabHost(folder / "host", python=python) as host:
                Tour(host, folder, screen, interrupts).run()
        good_bye(screen, None)
        return
    place = hosts_folder() / KEPT
    if place.exists():
        raise LabError(
            f"the lab host {KEPT!r} of an earlier demo is there; end it: python3 tests/lab down {KEPT}"
        )
    folder = ROOT / ".cache/demo"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    host = LabHost(place, python=python, lifeline=False).start()
    try:
        Tour(host, folder, screen, interrupts).run()
    except BaseException:
        host.stop()
        raise
    good_bye(screen, folder)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the lab host up at the end")
    parser.add_argument("--readme", action="store_true", help="put the output into README.md instead")
    args = parser.parse_args(argv)
    if args.readme:
        update()
        return 0
    interrupts = Interrupts()
    try:
        with interrupts:
            tour(args.keep, interrupts)
    except (KeyboardInterrupt, Exception) as error:
        if interrupts.came:  # whatever it broke off in may have had other words for it
            print("\ndemo: interrupted; the lab host is gone", file=sys.stderr)
            return 130
        if not isinstance(error, (LabError, DemoError, OSError)):
            raise
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0
