"""The readers of tables on a /proc of the test's own, and what is made of what they read."""

from __future__ import annotations

import errno
import os
import shlex
import socket
import struct
from types import SimpleNamespace

import pytest

from pidwarden.cli import tables_text
from pidwarden.diagnose.tables import State, Thresholds, Trend, fullest, judge, judged, trends
from pidwarden.diagnose.tabletext import ABOUT, command
from pidwarden.guard.rules import tables as rule
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
from pidwarden.model import limit
from pidwarden.model.gauge import Gauge, Scope, Table

SECOND = 1_000_000_000
HOSTILE = ") Z 1 (\\n\\033[2J\\xff"  # as `status` escapes it
LIMITS = """Limit                     Soft Limit           Hard Limit           Units
Max processes             {nproc}                 400                  processes
Max open files            {nofile}                 4096                 files
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Writes files below a folder that stands for /proc; only there the size of a folder is what is in it."""
    monkeypatch.setattr(crowd, "_files", lambda folder: len(os.listdir(folder)))

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


# -- judgement ---------------------------------------------------------------------------------------------------------


def gauge(used, limit=1000, table=Table.CONNTRACK, **more):
    return Gauge(table, Scope.NETNS, "", used, limit, 0, "net.netfilter.nf_conntrack_max", **more)


@pytest.mark.parametrize(
    ("used", "state"), [(0, "fine"), (749, "fine"), (750, "near"), (899, "near"), (900, "over"), (1000, "over")]
)
def test_shares(used, state):
    assert judge(gauge(used), Thresholds()).state == state


def test_what_is_full_soon_is_near_however_much_is_free():
    assert judge(gauge(300), Thresholds(), Trend(10.0, 2.0, 0)).reasons == ("full in 70 s at this rate",)
    assert judge(gauge(200), Thresholds(), Trend(10.0, 2.0, 0)).state is State.FINE  # it has just begun
    assert judge(gauge(300), Thresholds(full_in=60), Trend(10.0, 2.0, 0)).state is State.FINE
    assert judge(gauge(300), Thresholds(), Trend(-10.0, 2.0, 0)).full_in is None


def test_refusals_are_told_whatever_the_share():
    finding = judge(gauge(10), Thresholds(), Trend(0.0, 2.0, 3))
    assert (finding.state, finding.reasons) == (State.NEAR, ("3 refused in the last 2.0 s",))


def test_no_limit_and_what_cannot_be_seen():
    assert judge(gauge(10, None), Thresholds()).state is State.FINE
    unseen = judge(gauge(None, unseen="be root"), Thresholds())
    assert unseen.state is State.UNSEEN
    assert unseen.object()["unseen"] == "be root"
    assert judge(gauge(5, 0), Thresholds()).state is State.OVER


def test_a_threshold_of_one_table():
    thresholds = Thresholds(tables={"conntrack": 0.5})
    assert judge(gauge(500), thresholds).state is State.OVER
    assert judge(gauge(500, table=Table.AIO), thresholds).state is State.FINE


def test_two_looks_make_a_trend_of_what_is_in_both():
    found = trends([gauge(100, failures=1)], [gauge(150, failures=4), gauge(1, table=Table.AIO)], 5.0)
    assert found == {("conntrack", ""): Trend(10.0, 5.0, 3)}


def test_the_fullest_of_each_table_comes_first_and_others_only_if_they_are_near():
    gauges = [gauge(n, table=Table.PROCESS_FILES)._replace(of=f"pid {n} (x)") for n in (10, 990, 20, 800)]
    shown = fullest(judged([*gauges, gauge(300)], Thresholds()))
    assert [(f.gauge.used, more) for f, more in shown] == [(990, 3), (800, 0), (300, 0)]


def one_of(table, setting, *, scope=Scope.MACHINE, of="", **more):
    return Gauge(table, scope, of, 950, 1000, 0, setting, **more)


INSIDE = "/run/netns/a b"
EVERY = [
    one_of(Table.PIDS, "kernel.pid_max"),
    one_of(Table.THREADS, "kernel.threads-max"),
    one_of(Table.USER_TASKS, "RLIMIT_NPROC", of="uid 5", detail="the limit is that of process 1"),
    one_of(Table.CGROUP_PIDS, "pids.max", of="/a b;rm"),
    one_of(Table.FILES, "fs.file-max"),
    one_of(Table.PROCESS_FILES, "RLIMIT_NOFILE", of="pid 1 (x 2)"),
    *(one_of(Table.INOTIFY_INSTANCES, f"{name}_instances") for name in ("fs.inotify.max_user", "user.max_inotify")),
    *(one_of(Table.INOTIFY_WATCHES, f"{name}_watches") for name in ("fs.inotify.max_user", "user.max_inotify")),
    *(one_of(Table.NAMESPACES, f"user.max_{kind}_namespaces", of=kind) for kind in descriptors.KINDS),
    one_of(Table.NEIGHBOURS4, "net.ipv4.neigh.default.gc_thresh3"),
    one_of(Table.NEIGHBOURS6, "net.ipv6.neigh.default.gc_thresh3"),
    one_of(Table.TCP_PORTS, "net.ipv4.ip_local_port_range", netns=INSIDE),
    one_of(Table.UDP_PORTS, "net.ipv4.ip_local_port_range"),
    one_of(Table.TIME_WAIT, "net.ipv4.tcp_max_tw_buckets", netns=INSIDE),
    one_of(Table.CONNTRACK, "net.netfilter.nf_conntrack_max", netns=INSIDE),
    *(one_of(Table.KEYS, f"kernel.keys.{root}maxkeys") for root in ("", "root_")),
    *(one_of(Table.KEY_BYTES, f"kernel.keys.{root}maxbytes") for root in ("", "root_")),
    one_of(Table.PTYS, "kernel.pty.max"),
    one_of(Table.PTYS, "the mount option max of devpts", scope=Scope.MOUNT, of="/dev/pts"),
    one_of(Table.AIO, "fs.aio-max-nr"),
    one_of(Table.MOUNTS, "fs.mount-max"),
]


@pytest.mark.parametrize("one", EVERY, ids=lambda g: f"{g.table} {g.setting}")
def test_each_table_has_a_symptom_a_remedy_and_a_command_that_is_taken(one):
    about = ABOUT[one.table]
    assert about.title and about.symptom and about.remedy  # noqa: PT018
    text = tables_text.lines([(judge(one, Thresholds()), 0)])
    assert text[0].startswith("OVER: ")
    assert [line.split(None, 1)[1] for line in text if line.strip().startswith("type")] == [command(one)]
    words = shlex.split(command(one))
    for before in (["sudo"], ["nsenter", f"--net={one.netns}"]):
        words = words[len(before) :] if words[: len(before)] == before else words
    if words[0] == "mount":
        assert one.scope is Scope.MOUNT
    elif one.table is Table.CONNTRACK:
        assert words == ["pidwarden", "conntrack", "resize", "--max", "2000"]
    else:
        program, group, word, name, value = words
        assert (program, group, word) == ("pidwarden", "limits", "set")
        setting = limit.find(name).setting
        assert limit.allows(setting, limit.parse(setting, value)) > one.limit


def test_no_table_was_forgotten():
    assert {one.table for one in EVERY} == set(Table)


def test_a_setting_of_a_network_namespace_is_set_there():
    by_table = {one.table: command(one) for one in EVERY if one.netns}
    assert by_table[Table.TIME_WAIT].startswith(f"sudo nsenter --net='{INSIDE}' pidwarden limits set net.ipv4.tcp_max_")
    assert by_table[Table.TCP_PORTS].startswith("sudo nsenter --net=")
    assert "nsenter" not in by_table[Table.CONNTRACK]  # of all, and only the first may write it


def test_commands():
    assert command(gauge(5, 1000)) == "sudo pidwarden conntrack resize --max 2000"
    full = Gauge(Table.PIDS, Scope.MACHINE, "", 5, 4_194_304, 0, "kernel.pid_max")
    assert command(full) == ""
    assert command(full._replace(limit=4_000_000)) == "sudo pidwarden limits set kernel.pid_max 4194304"
    hostile = Gauge(Table.CGROUP_PIDS, Scope.CGROUP, "/a b;rm", 5, 6, 0, "pids.max")
    assert command(hostile) == "sudo pidwarden limits set 'pids.max:/a b;rm' 12"
    asked = Gauge(Table.AIO, Scope.MACHINE, "", 5, 6, 0, "fs.aio-max-nr")
    assert command(asked) == "sudo pidwarden limits set fs.aio-max-nr 12"


# -- the guard's rule --------------------------------------------------------------------------------------------------


def test_a_rate_is_that_of_the_last_minutes():
    rates = rule.Rates()
    seen = []
    for minute in range(30):
        seen.append(rates.note(gauge(100 * min(minute, 10)), minute * 60 * SECOND))
        rates.end()
    assert seen[0] is None
    assert round(seen[5].per_second * 60) == 100
    assert seen[29].per_second == 0
    assert 300 <= seen[29].seconds <= 660


def test_failures_are_those_since_the_last_look():
    rates = rule.Rates()
    found = []
    for at, failures in enumerate((5, 5, 7, 7)):
        found.append(rates.note(gauge(1, failures=failures), at * SECOND))
        rates.end()
    assert [t and t.failures for t in found] == [None, 0, 2, 0]


def looks(monkeypatch, *seen):
    """What the rule tells at each look, ten seconds apart."""
    told = []
    tables = rule.Tables(lambda _event, **fields: told.append((fields["what"], fields["table"], fields["text"])))
    shares = SimpleNamespace(over=0.9, near=0.75, full_in=1800.0, rate_from=0.25, shares={})
    result, last = [], ""
    for at, gauges in enumerate(seen):
        monkeypatch.setattr(rule, "gauges", lambda found=gauges, **_more: iter(found))
        list(tables.look(shares, at * 10 * SECOND, tasks_too=True))
        result.append([what for what, _table, _text in told])
        last = told[-1][2] if told else last
        told.clear()
    return result, last


def test_it_warns_once_before_it_is_full(monkeypatch):
    result, text = looks(monkeypatch, *([gauge(n)] for n in (100, 300, 500, 700, 740)))
    assert result[:2] == [[], ["begins"]]
    assert sum("begins" in told for told in result) == 1
    assert "type `sudo pidwarden conntrack resize --max 2000`" in text


def test_slow_growth_is_told_by_its_share_and_the_end_too(monkeypatch):
    result, text = looks(monkeypatch, [gauge(740)], [gauge(760)], [gauge(760)], [gauge(100)], [gauge(100)])
    assert [what for told in result for what in told] == ["begins", "over"]
    assert text.startswith("over after ")


def test_what_was_not_looked_at_goes_on(monkeypatch):
    """Everybody is looked at at every third look."""
    files = gauge(60, 64, table=Table.PROCESS_FILES)._replace(of="pid 5 (x)")
    result, _text = looks(monkeypatch, [files], [], [], [files], [], [], [])
    assert [what for told in result for what in told] == ["begins", "over"]
    assert result[6] == ["over"]


def test_a_burst_from_nothing_is_not_told(monkeypatch):
    assert looks(monkeypatch, *([gauge(n)] for n in (0, 100, 200, 200, 200)))[0] == [[], [], [], [], []]
