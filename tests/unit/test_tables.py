"""The readers of tables on a /proc of the test's own."""

from __future__ import annotations

import errno
import os
import socket
import struct
from types import SimpleNamespace

import pytest

from pidwarden.diagnose.tabletext import command
from pidwarden.kernel import netlink, netstat
from pidwarden.kernel.tables import (
    aio,
    conntrack,
    crowd,
    descriptors,
    files,
    inotify,
    keys,
    mounts,
    namespaces,
    neighbours,
    ports,
    ptys,
    tasks,
    timewait,
)
from pidwarden.model.gauge import Table

SECOND = 1_000_000_000
HOSTILE = ") Z 1 (\\n\\033[2J\\xff"  # as `status` escapes it
LIMITS = """Limit                     Soft Limit           Hard Limit           Units
Max processes             {nproc}                 400                  processes
Max open files            {nofile}                 4096                 files
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Writes files below a folder that stands for /proc; only there the size of a folder is what is in it."""
    monkeypatch.setattr(crowd, "open_files", lambda folder: len(os.listdir(folder)))

    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    return SimpleNamespace(path=str(tmp_path), write=write, folder=tmp_path)


def process(root, pid, *, fds=(), **different):
    values = {"uid": 1000, "name": "worker", "threads": 1, "nproc": 100, "nofile": 64, "state": "S"} | different
    root.write(
        f"{pid}/status",
        "Name:\t{name}\nState:\t{state}\nPPid:\t1\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nNSpgid:\t{pid}\nNSsid:\t{pid}\n"
        "Threads:\t{threads}\nCapEff:\t0\n".format(pid=pid, **values),
    )
    root.write(f"{pid}/limits", LIMITS.format(**values))
    root.write(f"{pid}/uid_map", "0 0 4294967295\n")
    (root.folder / str(pid) / "fd").mkdir()
    for number, target in enumerate(fds):
        (root.folder / str(pid) / "fd" / str(number)).symlink_to(target)


# -- readers -----------------------------------------------------------------------------------------------------------


def test_neighbours_are_counted_once_and_failures_on_every_processor(root):
    root.write(
        "net/stat/arp_cache", "entries  allocs table_fulls\n000000ff 00000001 0000000a\n000000ff 00000001 00000001\n"
    )
    root.write("sys/net/ipv4/neigh/default/gc_thresh3", "1024\n")
    four, six = neighbours.read(who=False, root=root.path)
    assert (four.used, four.limit, four.failures) == (255, 1024, 11)
    assert six.used is None
    assert "nsenter -t 1 -n" in six.unseen


@pytest.mark.parametrize("text", ["", "entries allocs\n", "entries allocs\n1\n"])
def test_statistics_that_are_no_statistics(root, text):
    root.write("x", text)
    assert netstat.totals(f"{root.path}/x") is None


def test_time_wait(root):
    root.write("net/sockstat", "sockets: used 9\nTCP: inuse 4 orphan 0 tw 17 alloc 5 mem 1\nUDP: inuse 1 mem 0\n")
    root.write("net/sockstat6", "TCP6: inuse 3\n")
    root.write("net/netstat", "TcpExt: A TCPTimeWaitOverflow B\nTcpExt: 1 23 4\nIpExt: C\nIpExt: 9\n")
    root.write("sys/net/ipv4/tcp_max_tw_buckets", "50\n")
    [gauge] = timewait.read(root.path)
    assert (gauge.used, gauge.limit, gauge.failures) == (17, 50, 23)
    assert timewait.sockets(root.path)["inuse"] == 7
    assert timewait.read(f"{root.path}/none") == []


def test_conntrack(root):
    assert conntrack.read(root.path) == []
    root.write("sys/net/netfilter/nf_conntrack_count", "30\n")
    root.write("sys/net/netfilter/nf_conntrack_max", "0\n")
    assert (conntrack.read(root.path)[0].used, conntrack.read(root.path)[0].limit) == (30, None)
    root.write("sys/net/netfilter/nf_conntrack_max", "40\n")
    root.write("net/stat/nf_conntrack", "entries drop early_drop\n1e 2 3\n1e 4 0\n")
    [gauge] = conntrack.read(root.path)
    assert (gauge.limit, gauge.failures, gauge.detail) == (40, 6, "3 dropped early to make room")


def test_keys_of_each_user(root):
    root.write("key-users", "    0:     9 8/8 3/1000000 40/25000000\n 1000:     1 1/1 180/200 9000/20000\nbroken\n")
    found = {(g.table, g.of): g for g in keys.read(root.path)}
    assert (found[Table.KEYS, "uid 1000"].used, found[Table.KEYS, "uid 1000"].limit) == (180, 200)
    assert found[Table.KEY_BYTES, "uid 0"].setting == "kernel.keys.root_maxbytes"
    assert len(found) == 4


def test_small_ones(root):
    assert aio.read(root.path) == []
    root.write("sys/fs/aio-nr", "5\n")
    root.write("sys/fs/aio-max-nr", "50\n")
    root.write("sys/fs/mount-max", "100\n")
    root.write("self/mountinfo", "1 2 0:1 / / rw - x x x\n" * 7)
    root.write("77/mountinfo", "1 2 0:1 / / rw - x x x\n" * 9)
    assert aio.read(root.path)[0].share == 0.1
    assert [(g.of, g.used) for g in mounts.read([(4, 77), (5, 78)], root.path)] == [("ours", 7), ("of pid 77", 9)]


def test_terminals_of_the_machine_and_of_a_mount_with_a_blank(root):
    place = root.folder / "a b"
    place.mkdir()
    for name in ("0", "1", "ptmx"):
        (place / name).touch()
    for name, value in (("nr", 3), ("max", 4096), ("reserve", 1024)):
        root.write(f"sys/kernel/pty/{name}", f"{value}\n")
    where = str(place).replace(" ", "\\040")
    root.write("self/mounts", f"devpts /dev/pts devpts rw 0 0\ndevpts {where} devpts rw,max=10 0 0\n")
    machine, own = ptys.read(root=root.path)
    assert (machine.used, machine.limit) == (3, 4096)
    assert (own.used, own.limit, own.of) == (2, 10, str(place))
    assert command(own) == f"sudo mount -o remount,max=20 '{place}'"


def test_files_of_the_machine_and_of_processes(root):
    process(root, 12, nofile=64, fds=["/dev/null"] * 5, name=HOSTILE)
    process(root, 13, nofile="unlimited", fds=["/dev/null"])
    process(root, 14, state="Z (zombie)")
    root.write("sys/fs/file-nr", "900\t100\t1000\n")
    found = crowd.take(root.path)
    [machine] = files.machine(found.members, root.path)
    assert (machine.used, machine.limit) == (800, 1000)
    root.write("sys/fs/file-nr", "900\t0\t9223372036854775807\n")
    assert files.machine((), root.path)[0].limit is None
    [own] = files.processes(found.members)
    assert own.limit == 64
    assert own.of.startswith("pid 12 (") and own.of.isprintable()  # noqa: PT018
    pieces = {m.pid for m in crowd.pieces(root.path) if m}
    assert pieces == {12, 13, 14}


def test_limits_of_root_matter_only_where_much_is_open(root):
    process(root, 15, uid=0, fds=["/dev/null"] * 3)
    process(root, 16, uid=0, fds=["/dev/null"] * 30)
    found = {m.pid: m for m in crowd.take(root.path).members}
    assert (found[15].nofile, found[15].files, found[16].nofile) == (None, 3, 64)


def test_a_user_is_bound_by_the_least_limit_of_his_processes(root):
    process(root, 20, nproc=50, threads=10, fds=["/dev/null"])
    process(root, 21, nproc=80, threads=5, fds=["/dev/null"])
    process(root, 22, uid=0, nproc=5, threads=50, fds=["/dev/null"])  # root is not bound
    [gauge] = tasks.users(crowd.take(root.path).members, root.path)
    assert (gauge.of, gauge.used, gauge.limit, gauge.detail) == ("uid 1000", 15, 50, "the limit is that of process 20")
    assert command(gauge) == "sudo pidwarden limits set nproc:20 100"


def test_inotify_terminals_and_sockets_of_a_process(root):
    process(root, 30, fds=["anon_inode:inotify", "/dev/pts/ptmx", "socket:[4711]", "/dev/null"])
    root.write("30/fdinfo/0", "pos:\t0\ninotify wd:2 ino:1\ninotify wd:1 ino:2\n")
    root.write("sys/fs/inotify/max_user_watches", "10\n")
    root.write("sys/fs/inotify/max_user_instances", "4\n")
    walk = descriptors.walk(crowd.take(root.path).members, root.path)
    [held] = walk.held
    assert (held.ptys, held.sockets, [i.watches for i in held.inotify], walk.unseen) == (1, [4711], [2], "")
    found = {g.table: g for g in inotify.read(walk, root.path)}
    assert (found[Table.INOTIFY_INSTANCES].used, found[Table.INOTIFY_INSTANCES].limit) == (1, 4)
    assert (found[Table.INOTIFY_WATCHES].used, found[Table.INOTIFY_WATCHES].limit) == (2, 10)
    assert found[Table.INOTIFY_WATCHES].who[0].name == "pid 30 (worker)"


def test_one_that_forks_share_counts_once(root, monkeypatch):
    monkeypatch.setattr(inotify, "_KCMP", None)
    for pid in (40, 41):
        process(root, pid, fds=["anon_inode:inotify"])
        root.write(f"{pid}/fdinfo/0", "inotify wd:1 ino:2\n")
    walk = descriptors.walk(crowd.take(root.path).members, root.path)
    assert {g.table: g.used for g in inotify.read(walk, root.path)}[Table.INOTIFY_INSTANCES] == 1


def test_namespaces_that_processes_are_in_and_that_a_mount_keeps(root):
    for pid, number in ((1, 100), (50, 101), (51, 101), (52, 102)):
        process(root, pid, fds=["/dev/null"], uid=pid)
        (root.folder / str(pid) / "ns").mkdir()
        (root.folder / str(pid) / "ns" / "cgroup").symlink_to(f"cgroup:[{number}]")
    root.write("sys/user/max_cgroup_namespaces", "9\n")
    root.write("self/mountinfo", "5 1 0:4 cgroup:[103] /x rw shared:1 - nsfs nsfs rw\n")
    walk = descriptors.walk(crowd.take(root.path).members, root.path)
    [gauge] = namespaces.read(walk, root.path)
    assert (gauge.of, gauge.limit) == ("cgroup", 9)
    assert {user.name for user in gauge.who} >= {"uid 50", "uid 52"}


def test_a_walk_says_whom_it_had_no_time_for(root):
    process(root, 60, fds=["/dev/null"])
    walk = descriptors.walk(crowd.take(root.path).members, root.path, seconds=0)
    assert walk.held == []
    assert "--patience" in walk.unseen


# -- sockets -----------------------------------------------------------------------------------------------------------


def message(port, peer, *, state=1, inode=1, family=socket.AF_INET):
    address, number = peer
    size = 4 if family == socket.AF_INET else 16
    source = socket.inet_pton(family, "10.0.0.1" if size == 4 else "::ffff:10.0.0.1")
    target = socket.inet_pton(family, address)
    return (
        struct.pack("=BBBB", family, state, 0, 0)
        + struct.pack("!HH", port, number)
        + source.ljust(16, b"\0")
        + target.ljust(16, b"\0")
        + bytes(12)
        + struct.pack("=5I", 0, 0, 0, 0, inode)
    )


@pytest.fixture
def sockets(root, monkeypatch):
    """What the kernel would list, by protocol and family."""
    listed = {}

    def dump(_protocol, _kind, body):
        for data in listed.get((body[1], body[0]), []):
            yield data, 0, len(data)

    monkeypatch.setattr(netlink, "dump", dump)
    root.write("sys/net/ipv4/ip_local_port_range", "40000\t40099\n")
    root.write("sys/net/ipv4/ip_local_reserved_ports", "39998-40001,40050,50000\n")
    return listed


def test_the_range_without_what_is_reserved(root, sockets):  # noqa: ARG001
    assert ports.port_range(root.path) == ports.Range(40000, 40099, 3)
    assert ports.port_range(f"{root.path}/none") is None


def test_one_destination_and_ipv6_sockets_that_talk_ipv4(root, sockets):
    to, other = ("10.9.9.9", 80), ("10.9.9.9", 81)
    sockets[6, socket.AF_INET] = [
        *(message(40010 + n, to, inode=7) for n in range(20)),
        message(40040, to, state=6),
        message(40041, other),
        message(80, ("10.1.1.1", 50_000)),  # a server's side
        message(40060, ("0.0.0.0", 0), state=10),
    ]
    sockets[6, socket.AF_INET6] = [message(40042, ("::ffff:10.9.9.9", 80), family=socket.AF_INET6)]
    first, second, udp = ports.read({7: "pid 7 (x)"}, root=root.path)
    assert (first.of, first.used, first.limit, first.free) == ("10.0.0.1 to 10.9.9.9:80", 23, 100, 74)
    assert (first.who[0].used, first.detail) == (20, "1 of them in TIME_WAIT")
    assert (second.used, udp.used) == (2, 0)
    assert command(first) == "sudo pidwarden limits set net.ipv4.ip_local_port_range 1024-65535"


def test_few_sockets_are_not_looked_at_one_by_one(root, sockets):
    sockets[6, socket.AF_INET] = [message(40010, ("10.9.9.9", 80))]
    root.write("net/sockstat", "TCP: inuse 4 orphan 0 tw 17 alloc 5 mem 1\n")
    assert [g.used for g in ports.read(least=0.5, root=root.path)] == [21, 0]
    assert [g.used for g in ports.read(least=0.1, root=root.path)] == [1, 0]


def test_a_kernel_that_lists_no_sockets(root, sockets, monkeypatch):  # noqa: ARG001
    def dump(*_arguments):
        raise OSError(errno.ENOENT, "No such file or directory")
        yield

    monkeypatch.setattr(netlink, "dump", dump)
    [gauge] = ports.read(root=root.path)
    assert gauge.used is None
    assert "modprobe" in gauge.unseen
