# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Domains of the lab, and a domain's own view of the store with its real permissions and quotas."""

from __future__ import annotations

import itertools
import os
import subprocess
import uuid as uuids
from collections.abc import Callable

import pytest
from ansible_runs import COLLECTIONS
from lab import LabError, LabHost, domains, wire

LabFactory = Callable[..., LabHost]
BOUND = 30.0


def refused(call: Callable[[], object]) -> str:
    """The errno name that xenstored answers with."""
    with pytest.raises(wire.WireError) as caught:
        call()
    return caught.value.code


# ---- domains ----


def test_dom0less_domain_is_as_init_dom0less_leaves_it(lab_any: LabHost) -> None:
    domid = lab_any.add_domain()
    uuid = lab_any.hypervisor.known(domid).uuid
    expected = {
        path: (value.encode(), (f"n{domid}", "r0") if owned else ("n0",))
        for path, value, owned in domains.dom0less_nodes(domid, uuid, f"dom0less-{domid}")
        if not path.endswith("start_time")
    }
    tree = lab_any.ls("/")
    assert {path: tree[path] for path in expected} == expected
    assert tree[f"/local/domain/{domid}"] == (b"", ("n0",))
    assert tree[f"/local/domain/{domid}/store"] == (b"", ("n0",))
    assert "dom0less-1" in lab_any.xl("list").stdout


@pytest.mark.parametrize("release", ["4.17", pytest.param("4.20", marks=pytest.mark.trixie)])
def test_dom0less_userdata_is_what_libxl_itself_prints(lab_factory: LabFactory, release: str) -> None:
    """xen-init-dom0 writes such a stub for dom0, with the generator init-dom0less uses."""
    lab = lab_factory(release=release)
    domid = lab.add_domain()
    uuid = lab.hypervisor.known(domid).uuid
    folder = lab.root / "var/lib/xen"
    ours = (folder / f"userdata-d.{domid}.{uuid}.libxl-json").read_bytes()
    theirs = (folder / f"userdata-d.0.{uuids.UUID(int=0)}.libxl-json").read_bytes()
    adapted = ours.replace(f',\n        "uuid": "{uuid}"'.encode(), b"").replace(b'"pvh"', b'"pv"')
    assert adapted.replace(b"type.pvh", b"type.pv") == theirs


def test_toolstack_domain_is_as_libxl_leaves_it_but_without_its_record(lab: LabHost) -> None:
    domid = lab.add_domain(name="DomD", kind="toolstack")
    tree = lab.ls("/local/domain")
    assert tree[f"/local/domain/{domid}/name"] == (b"DomD", ("n0", f"r{domid}"))
    assert tree[f"/local/domain/{domid}/data"] == (b"", (f"n{domid}",))
    assert not list((lab.root / "var/lib/xen").glob(f"userdata-d.{domid}.*"))


def test_domids_are_not_given_out_twice(lab: LabHost) -> None:
    assert [lab.add_domain(), lab.add_domain(domid=5), lab.add_domain(kind="toolstack")] == [1, 5, 6]
    lab.kill_domain(5)
    assert lab.add_domain() == 7
    for used in (5, 2, 0x7FF0):
        with pytest.raises(LabError, match=f"domid {used} cannot be had"):
            lab.add_domain(domid=used)


def test_pause_and_unpause_as_xl_sees_them(lab: LabHost) -> None:
    domid = lab.add_domain(paused=True)

    def state() -> str:
        return lab.xl("list", str(domid)).stdout.splitlines()[-1].split()[4]

    assert state() == "--p---"
    lab.unpause_domain(domid)
    assert state() == "-b----"
    lab.xl("pause", str(domid))
    assert lab.hypervisor.known(domid).paused
    lab.shutdown_domain(domid, crashed=True)
    assert state() == "--psc-"


def test_death_of_a_domain_is_told_and_leaves_dom0s_nodes(lab_any: LabHost) -> None:
    """xenstored itself removes what a dead domain owned (XSA-419); a toolstack must remove the rest."""
    domid = lab_any.add_domain()
    with lab_any.store() as client:
        client.watch("@releaseDomain", "gone")
        assert client.event(BOUND) == ("@releaseDomain", "gone")  # every watch fires once at first
        lab_any.kill_domain(domid)
        assert client.event(BOUND) == ("@releaseDomain", "gone")
    assert lab_any.read(f"/local/domain/{domid}/name") is None
    assert lab_any.read(f"/libxl/{domid}/type") == b"pvh"
    assert "dom0less" not in lab_any.xl("list").stdout
    with pytest.raises(LabError, match="no domain 1 here"):
        lab_any.domain_view(domid)


# ---- the view: permissions and quotas are xenstored's own ----


def test_permissions_as_the_domain(lab_any: LabHost) -> None:
    domid = lab_any.add_domain()
    other = lab_any.add_domain(kind="toolstack", name="other")
    lab_any.write("/tool/secret", "1")
    with wire.Client(lab_any.domain_view(domid)) as guest:
        assert guest.read("name") == b"dom0less-1"  # relative to /local/domain/<domid>
        guest.write(f"/local/domain/{domid}/name", "DomD")  # dom0less: it can rename itself
        guest.write("data/mine", "\0\xff\n")
        assert refused(lambda: guest.read("/tool/secret")) == "EACCES"
        assert refused(lambda: guest.write("/tool/secret", "2")) == "EACCES"
        assert refused(lambda: guest.directory(f"/local/domain/{domid}")) == "EACCES"
        assert refused(lambda: guest.write(f"/local/domain/{other}/data/x", "")) == "EACCES"
    assert lab_any.ls(f"/local/domain/{domid}/data/mine") == {
        f"/local/domain/{domid}/data/mine": (b"\0\xc3\xbf\n", (f"n{domid}", "r0"))
    }
    with wire.Client(lab_any.domain_view(other)) as guest:
        assert guest.read("name") == b"other"
        assert refused(lambda: guest.write("name", "DomD")) == "EACCES"


def count_until_refused(call: Callable[[int], object], limit: int) -> tuple[int, str]:
    for done in range(limit):
        try:
            call(done)
        except wire.WireError as error:
            return done, error.code
    return limit, ""


@pytest.mark.parametrize(("daemon", "code"), [("c", "ENOSPC"), ("o", "EQUOTA")])
def test_node_quota(lab_factory: LabFactory, daemon: str, code: str) -> None:
    lab = lab_factory(daemon=daemon)
    domid = lab.add_domain(kind="toolstack")
    with wire.Client(lab.domain_view(domid)) as guest:
        # spread over folders: a node with more than some 500 children is over the size limit of a node
        done, got = count_until_refused(lambda number: guest.write(f"data/{number % 10}/{number}", ""), 1100)
    assert 900 < done <= 1000
    assert got == code


@pytest.mark.parametrize(("daemon", "limit", "code"), [("c", 128, "E2BIG"), ("o", 100, "EQUOTA")])
def test_watch_quota(lab_factory: LabFactory, daemon: str, limit: int, code: str) -> None:
    lab = lab_factory(daemon=daemon)
    view = lab.domain_view(lab.add_domain())
    with wire.Client(view) as guest:
        done, got = count_until_refused(lambda number: guest.watch("data", f"t{number}"), 200)
    assert (done, got) == (limit + 1, code)  # both daemons refuse once there are more than the limit
    with wire.Client(view) as guest:  # a client's watches end with it
        guest.watch("data", "again")


@pytest.mark.parametrize(("daemon", "codes"), [("c", {"ENOSPC"}), ("o", {"EQUOTA"})])
def test_transaction_quota(lab_factory: LabFactory, daemon: str, codes: set[str]) -> None:
    lab = lab_factory(daemon=daemon)
    view = lab.domain_view(lab.add_domain())
    with wire.Client(view) as guest:
        done, code = count_until_refused(lambda _number: guest.start(), 30)
        assert 9 <= done <= 11
        assert code in codes
    with wire.Client(view) as guest:  # a client's transactions are aborted when it goes
        assert count_until_refused(lambda _number: guest.start(), done) == (done, "")


def test_node_size_limit(lab: LabHost) -> None:
    with wire.Client(lab.domain_view(lab.add_domain())) as guest:
        guest.write("data/fits", "x" * 2000)
        assert refused(lambda: guest.write("data/big", "x" * 2100)) == "ENOSPC"


# ---- the view: what the driver of /dev/xen/xenbus does ----


def test_clients_of_one_domain_are_kept_apart(lab_any: LabHost) -> None:
    view = lab_any.domain_view(lab_any.add_domain())
    with wire.Client(view) as one, wire.Client(view) as two:
        one.watch("data/x", "same")
        two.watch("data/x", "same")
        one.watch("data/x", "same")  # the driver registers each watch under a token of its own
        for client, events in ((one, 2), (two, 1)):
            for _round in range(events):
                assert client.event(BOUND) == ("data/x", "same")
        tx = one.start()
        one.write("data/x", "in transaction", tx)
        assert refused(lambda: two.write("data/x", "stolen", tx)) == "ENOENT"
        assert refused(lambda: two.end(tx)) == "ENOENT"
        assert two.read("data/x") is None
        one.end(tx)
        assert two.event(BOUND) == ("data/x", "same")
        two.unwatch("data/x", "same")
        two.unwatch("data/x", "never registered")  # the driver says OK
        one.write("data/x", "again")
        assert two.event(0.2) is None
        sent = {
            client: [client.send(wire.READ, b"data/x\0") for _round in range(50)] for client in (two, one)
        }
        for client, ids in sent.items():
            answers = [client.answer() for _round in ids]
            assert [(answer[1], answer[3]) for answer in answers] == [(request, b"again") for request in ids]


@pytest.mark.parametrize(
    ("kind", "tx", "payload", "code"),
    [
        (wire.READ, 7, b"name\0", "ENOENT"),
        (wire.TRANSACTION_END, 7, b"T\0", "ENOENT"),
        (wire.TRANSACTION_END, 0, b"maybe\0", "EINVAL"),
        (wire.WATCH, 0, b"no token", "EINVAL"),
        (wire.WRITE, 0, b"data/x\0" + bytes(4096 - 16 - 6), "E2BIG"),  # header included: a page is 4096
        (wire.WRITE, 0, b"data/x\0" + bytes(100_000), "E2BIG"),
        (wire.INTRODUCE, 0, b"5\x001\x001\0", "EACCES"),
    ],
)
def test_what_the_driver_or_xenstored_refuses(
    lab: LabHost, kind: int, tx: int, payload: bytes, code: str
) -> None:
    with wire.Client(lab.domain_view(lab.add_domain())) as guest:
        assert refused(lambda: guest.call(kind, payload, tx)) == code
        assert guest.read("name") == b"dom0less-1"


def test_large_answers_and_many_requests_at_once(lab_any: LabHost) -> None:
    domid = lab_any.add_domain(kind="toolstack")
    with wire.Client(lab_any.domain_view(domid)) as guest:
        value = bytes(range(256)) * 7
        guest.write("data/large", value)
        ids = [guest.send(wire.READ, b"data/large\0") for _round in range(300)]
        answers = [guest.receive() for _round in ids]
    assert [answer[1] for answer in answers] == ids
    assert {answer[3] for answer in answers} == {value}


def test_a_stopped_xenstored_leaves_the_view_silent_and_then_answers(lab: LabHost) -> None:
    with wire.Client(lab.domain_view(lab.add_domain()), timeout=0.3) as guest:
        lab.xenstored.stop()
        with pytest.raises(TimeoutError):
            guest.read("name")
        lab.xenstored.cont()
        assert guest.receive()[3] == b"dom0less-1"


def test_the_view_ends_with_its_domain(lab: LabHost) -> None:
    domid = lab.add_domain()
    with wire.Client(lab.domain_view(domid)) as guest:
        lab.kill_domain(domid)
        with pytest.raises(ConnectionError):
            guest.read("name")


# ---- inside a domain ----

SOCKET = """\
import os, socket, stat, struct
assert stat.S_ISSOCK(os.stat("/dev/xen/xenbus").st_mode)
s = socket.socket(socket.AF_UNIX)
s.connect("/dev/xen/xenbus")
s.sendall(struct.pack("=IIII", 2, 1, 0, 5) + b"name\\0")
print(s.recv(4096)[16:].decode(), os.listdir("/run/xenstored"), os.path.exists("/dev/null"))
"""


def test_python_inside_a_domain_finds_the_socket_and_no_xenstored(lab: LabHost) -> None:
    python = lab.domain_python(lab.add_domain())
    done = subprocess.run([python, "-c", SOCKET], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("dom0less-1 [] True\n", "")


DEVICE = """\
import errno, os, stat, struct
def message(kind, payload, rid=1):
    return struct.pack("=IIII", kind, rid, 0, len(payload)) + payload
def attempt(data):
    try:
        return os.write(fd, data)
    except OSError as error:
        return errno.errorcode[error.errno]
assert stat.S_ISCHR(os.stat("/dev/xen/xenbus").st_mode)
fd = os.open("/dev/xen/xenbus", os.O_RDWR | os.O_CLOEXEC)
assert stat.S_ISCHR(os.fstat(fd).st_mode)
def answer():
    kind, rid, _tx, length = struct.unpack("=IIII", os.read(fd, 16))
    return rid, os.read(fd, length)
read = message(2, b"name\\0")
os.write(fd, read)
print(answer())
os.write(fd, read[:7]); os.write(fd, read[7:])           # gathered until whole
print(answer())
os.write(fd, read + message(2, b"domid\\0", 2))           # what follows in one write is lost
print(answer())
print(attempt(bytes(5000)), attempt(struct.pack("=IIII", 11, 3, 0, 4081)), attempt(b""))
os.writev(fd, [read[:16], read[16:]])
print(answer())
print("stop it", flush=True); input()
os.write(fd, read); os.write(fd, message(2, b"domid\\0", 2))  # there is one buffer, and no answer yet
print(answer(), flush=True); input()
print(answer())
os.set_blocking(fd, False)
try:
    os.read(fd, 16)
except BlockingIOError:
    print("empty")
"""


def test_device_disguise_has_the_drivers_write_boundaries(lab: LabHost) -> None:
    python = lab.domain_python(lab.add_domain(), device=True)
    pipe = subprocess.PIPE
    with subprocess.Popen([python, "-c", DEVICE], stdin=pipe, stdout=pipe, stderr=pipe, text=True) as script:
        assert script.stdin
        assert script.stdout
        assert script.stderr
        told = list(itertools.takewhile(lambda line: line != "stop it\n", script.stdout))
        lab.xenstored.stop()
        print(file=script.stdin, flush=True)
        told.append(script.stdout.readline())
        lab.xenstored.cont()
        print(file=script.stdin, flush=True)
        told.extend(script.stdout)
        assert script.stderr.read() == ""
    name = "(1, b'dom0less-1')\n"
    expected = [name, name, name, "EINVAL E2BIG 0\n", name, "(2, b'EINVAL\\x00')\n", name, "empty\n"]
    assert told == expected


DEVICE_SESSION = """
import sys
sys.path.insert(0, sys.argv[1])
from ansible_collections.xen.virtio.plugins.module_utils import _store as s
with s.Store(timeout=20) as store:
    print(store.path)
    top = "/local/domain/1/data"
    with_values = {f"{top}/{number}": str(number).encode() for number in range(200)}
    store.call([s.write(path, value) for path, value in with_values.items()])
    tree = store.read_trees([top], perms=True)
    print(len(tree), all(tree[path].value == value for path, value in with_values.items()))
    store.watch(top, "t")
    print(store.wait_event(10))
    store.transaction(lambda tx: tx.submit([s.rm(path) for path in with_values]))
    print(store.list(top))
"""


def test_the_session_sends_one_request_after_the_other_to_a_device(lab: LabHost) -> None:
    python = lab.domain_python(lab.add_domain(kind="toolstack"), device=True)
    command = [python, "-c", DEVICE_SESSION, str(COLLECTIONS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=BOUND)
    assert done.stderr == ""
    told = ["/dev/xen/xenbus", "201 True", "('/local/domain/1/data', 't')", "[]"]
    assert done.stdout.splitlines() == told


def test_a_domain_has_files_of_its_own(lab: LabHost) -> None:
    python = lab.domain_python(lab.add_domain())
    place = "/etc/systemd/system/daemon.service"
    subprocess.run([python, "-c", f"open({place!r}, 'w').close()"], check=True)
    assert not (lab.root / place[1:]).exists()
    assert not os.path.exists(place)
    assert (lab.folder / "domains/1/root" / place[1:]).exists()
