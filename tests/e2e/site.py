# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory of the emulated board, and Ansible runs over it."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

from ansible_collections.xen.virtio.plugins.module_utils._mmio import Place

from .board import CMDLINE, Board
from .image import BRIDGE, DOMD_ADDRESS

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
#: On a board as slow as this one: seconds.
PATIENCE = {
    "guest_create_timeout": 300,
    "guest_driver_timeout": 400,
    "guest_wait_timeout": 60,
    "guest_shutdown_timeout": 240,
    "guest_settle": 2,
}

#: On dom0: the device tree of the guest that libxl built last, and all of them, one after the other.
LAST_TREE, TREES = "/root/last.dtb", "/root/trees"
#: Keeps each of them: the next guest's takes the place of the one before.
_KEEP_TREES = f"""\
mkdir -p {TREES}
cat >/root/keep-trees <<'END'
number=0
while sleep 2; do
  if [ {LAST_TREE} -nt {TREES}/$number.dtb ]; then
    number=$((number + 1))
    cp {LAST_TREE} {TREES}/$number.dtb
  fi
done
END
systemd-run --quiet --unit=trees bash /root/keep-trees
"""

DOMD = {
    "kernel": "/root/guest/kernel",
    "ramdisk": "/root/guest/initrd",
    "cmdline": f"root=LABEL=domd rw {CMDLINE} xen_privcmd.unrestricted=1",
    "memory": 256,
    "cpus": "2",
    "driver_domain": True,
    "vif": [f"bridge={BRIDGE}"],
    "disks": [{"vdev": "xvda", "target": "/dev/disk/by-label/domd", "specification": "xen"}],
}

STORAGE = """\
- name: Have images to serve
  ansible.builtin.command:
    cmd: "truncate -s 16M {{ images | join(' ') }}"
    creates: "{{ images | last }}"
  vars:
    images: "{{ xen_storage_targets | select('match', '/srv/') }}"

- name: Have somebody who answers for the daemon
  ansible.builtin.unarchive:
    src: "{{ inventory_dir }}/standin.tar"
    dest: /opt
    creates: /opt/standin/standin.py

- name: Start it
  ansible.builtin.command: >-
    systemd-run --unit=standin --property=Restart=no python3 /opt/standin/standin.py /opt/standin
  register: started
  changed_when: started.rc == 0
  failed_when: started.rc != 0 and 'already' not in started.stderr
"""


def guests() -> dict[str, dict[str, Any]]:
    """Guests with 1, 2, 3 and 11 disks, of dom0 and of the driver domain, writable and not."""
    two = [
        {"vdev": "xvda", "target": "/srv/two-a.img", "backend": "DomD"},
        {"vdev": "xvdb", "target": "/srv/two-b.img", "backend": "DomD", "access": "ro"},
    ]
    three = [
        {"vdev": "xvdc", "target": "/srv/three-c.img", "backend": "DomD"},
        {"vdev": "xvdd", "target": "/srv/three-d.img", "access": "ro"},
        {"vdev": "xvde", "target": "/srv/three-e.img", "backend": "DomD", "discard": False},
    ]
    eleven = [
        {"vdev": f"d{number}p0", "target": f"/srv/eleven-{number}.img", "backend": "DomD"}
        for number in range(20, 31)
    ]
    return {
        "one": {"disks": [{"vdev": "xvda", "target": "/srv/one.img"}]},
        "two": {"disks": two},
        "eleven": {"disks": eleven},
        "three": {"disks": three},
    }


class Site:
    """The board under Ansible: an inventory in a folder, and runs of playbooks and modules over it."""

    def __init__(self, board: Board, folder: Path) -> None:
        self.board = board
        self.folder = folder
        self.before: dict[str, str] = {}  # the whole store before the first run
        self.predicted: dict[str, list[Place]] = {}  # where each guest's disks lie, before there is any
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "storage.yml").write_text(STORAGE)
        with tarfile.open(folder / "standin.tar", "w") as archive:
            archive.add(HERE / "standin.py", "standin/standin.py")
            for path in sorted((ROOT / "plugins/module_utils").glob("*.py")):
                archive.add(path, f"standin/session/{path.name}")
        self.write_inventory(guests())

    def write_inventory(self, declared: dict[str, dict[str, Any]], **more: Any) -> None:
        """The inventory with these guests beside the driver domain."""
        variables = {
            "xen_driver_domains": {"DomD": {"host": "board-domd"}},
            "xen_guest_defaults": {
                "kernel": "/root/guest/kernel",
                "ramdisk": "/root/guest/ramdisk",
                "cmdline": CMDLINE,
                "memory": 64,
                "vcpus": 1,
                "cpus": "3",
            },
            "xen_guests": {"DomD": DOMD, **declared},
            "xen_storage_tasks": "storage.yml",
            "dom0_ioreq": "ignore",  # a stand-in answers for the daemon
            **PATIENCE,
            **more,
        }
        hosts = {
            "board": self._host("dom0", "127.0.0.1", ansible_port=self.board.port),
            "board-domd": self._host("domd", DOMD_ADDRESS),
        }
        inventory = {
            "all": {"hosts": hosts, "children": {"xen_dom0": {"hosts": {"board": None}, "vars": variables}}},
        }
        (self.folder / "inventory.json").write_text(json.dumps(inventory))

    def _host(self, name: str, address: str, **more: Any) -> dict[str, Any]:
        return {
            "ansible_host": address,
            "ansible_user": "root",
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_ssh_common_args": shlex.join(self.board.ssh_options(name)),
            **more,
        }

    def ansible(
        self, program: str, *arguments: str, timeout: float = 1800
    ) -> subprocess.CompletedProcess[str]:
        """One of Ansible's programs with this inventory."""
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache/collections"),
            "ANSIBLE_HOME": str(self.folder / "ansible"),
            "ANSIBLE_LOG_PATH": str(self.board.folder / "ansible.log"),  # kept with the board's own
            "ANSIBLE_PIPELINING": "true",
            "ANSIBLE_NOCOLOR": "true",
            "ANSIBLE_TIMEOUT": "60",
            "ANSIBLE_SSH_ARGS": "-o Compression=no",  # and no connection that ends after a minute: the board keeps one
            "ANSIBLE_DEPRECATION_WARNINGS": "false",
        }
        command = [str(Path(sys.executable).with_name(program)), "-i", str(self.folder / "inventory.json")]
        return subprocess.run(
            [*command, *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=environment,
            stdin=subprocess.DEVNULL,
        )

    def prepare(self) -> None:
        """What a board's image does: the domain that Xen made has its place in the store.

        And for the tests: libxl keeps the device tree of each guest that it builds, in place of the one before.
        """
        self.board.run("/usr/lib/xen-4.17/bin/init-dom0less")
        self.board.run(f"echo LIBXL_DEBUG_DUMP_DTB={LAST_TREE} >>/etc/environment")
        self.board.run(_KEEP_TREES)
        self.board.hang_up("dom0")  # what /etc/environment says counts from the next login on

    def predict(self) -> None:
        """What the filter ``mmio_plan`` says of guests that nobody has made yet."""
        expression = (
            "{{ guests | map('xen.virtio.mmio_plan', xen='4.17') | map(attribute='devices') | to_json }}"
        )
        disks = {"guests": [guest["disks"] for guest in guests().values()]}
        done = self.ansible(
            *("ansible", "localhost", "-m", "ansible.builtin.debug"),
            *("-a", json.dumps({"msg": expression}), "-e", json.dumps(disks)),
        )
        assert done.returncode == 0, done.stdout + done.stderr
        told = json.loads(done.stdout[done.stdout.index("{") :])["msg"]
        plans = json.loads(told) if isinstance(told, str) else told
        self.predicted = {
            name: [Place(device["base"], device["irq"]) for device in plan]
            for name, plan in zip(guests(), plans)
        }

    def end_of_trees(self) -> None:
        """No more device trees are kept."""
        self.board.run("sleep 3; systemctl stop trees")

    def device_trees(self) -> list[str]:
        """Sources of the device trees that libxl made for guests."""
        listed = self.board.run(
            f"for tree in {TREES}/*; do dtc -q -I dtb -O dts $tree; echo; echo ----; done"
        )
        return [text for text in listed.stdout.split("\n----\n") if text.strip()]

    def site(self, *arguments: str) -> tuple[subprocess.CompletedProcess[str], dict[str, int]]:
        """The playbook xen.virtio.site; its counts for the board (``ok``, ``changed``, ``failed``, …)."""
        done = self.ansible("ansible-playbook", "xen.virtio.site", *arguments)
        recap = re.search(r"^board\s+: (.*)$", done.stdout, re.MULTILINE)
        words = recap[1].split() if recap else []
        return done, {key: int(value) for key, _equals, value in (word.partition("=") for word in words)}

    def audit(self) -> dict[str, Any]:
        """What the playbook xen.virtio.audit finds on the board."""
        folder = self.folder / "audit"
        done = self.ansible("ansible-playbook", "xen.virtio.audit", "-e", f"xen_audit_dest={folder}")
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
        (host,) = json.loads((folder / "audit.json").read_text())["hosts"]
        return dict(host)

    def module(self, name: str, arguments: dict[str, Any] | None = None, *flags: str) -> dict[str, Any]:
        """One module on dom0; its result, with ``failed``."""
        given = ["-a", json.dumps(arguments)] if arguments else []
        done = self.ansible("ansible", "board", "-m", name, *given, *flags)
        line = done.stdout.find("board | ")
        assert line >= 0, done.stdout + done.stderr
        result: dict[str, Any] = json.JSONDecoder().raw_decode(done.stdout[done.stdout.index("{", line) :])[0]
        result["failed"] = done.returncode != 0
        return result
