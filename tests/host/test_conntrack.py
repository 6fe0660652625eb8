"""`pidwarden conntrack` on real tables, each in a network namespace of the test's own, against the tools that know."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter

import ctmessages as made
import pytest
from cli_kit import nobody_cli, one_sentence, pidwarden_cli
from ctkit import SYSCTL, kinds, needs, space
from ctmessages import GRE, ICMP, ICMPV6, SCTP, TCP, UDP, entry
from kit import prop, until
from limitskit import restored, values
from tableskit import look, run, typed

pytestmark = pytest.mark.root
ASSURED, UNREPLIED = made.CONFIRMED | made.ASSURED, made.CONFIRMED
MOST = 300_000  # a table that can be filled in a moment; its size is everybody's, and not touched here

# A server, clients that stay connected, datagrams that nobody answers: 5 TCP of each family, 3 UDP.
_TRAFFIC = """
import socket
kept = []
for family, where in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
    server = socket.socket(family)
    server.bind((where, 8080))
    server.listen(16)
    clients = [socket.create_connection((where, 8080)) for _ in range(5)]
    kept += [server, clients, [server.accept()[0] for _ in clients]]
for port in (5001, 5002, 5003):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.sendto(b"x", ("127.0.0.1", port))
import time
time.sleep(600)
"""
_TWO_SERVERS = """
import socket
for port in (443, 444):
    server = socket.create_server(("127.0.0.1", port))
    socket.create_connection(("127.0.0.1", port)).close()
"""
# New connections without end: a refused one fails with EPERM, which is what users see.
_CLIENTS = """
import socket, time
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 7000))
while True:
    time.sleep(0.0002)
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        s.sendto(b"x", ("127.0.0.1", 7000))
    except OSError:
        pass
    s.close()
"""


# Rules between the making of an entry and its place in the table: a packet is on its way for long enough to be met.
_SLOW = "add chain inet t slow { type filter hook output priority 10; }\n" + "".join(
    f"add rule inet t slow ip daddr 192.0.2.{n % 256} counter\n" for n in range(1000)
)


@pytest.fixture(autouse=True)
def _tools():
    needs("nft", "conntrack", "ip", "unshare", "nsenter")


@pytest.fixture
def inside():
    with space() as made_space:
        yield made_space


def counters_of_conntrack(where):
    """`conntrack -S`, added up."""
    found = Counter()
    for line in where.run("conntrack", "-S").splitlines():
        found.update({name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", line)})
    return found


def listed(where):
    """`conntrack -L` of both families: (protocol, source, destination port, unreplied)."""
    lines = []
    for family in ("ipv4", "ipv6"):
        lines += where.run("conntrack", "-L", "-f", family).splitlines()
    found = Counter()
    for line in lines:
        port = re.search(r"dport=(\d+)", line)
        src = re.search(r"src=(\S+)", line)[1]
        found[line.split()[0], src, int(port[1]) if port else "-", "[UNREPLIED]" in line] += 1
    return found


def ours(found, *names):
    (breakdown,) = (b for b in found["walk"]["breakdowns"] if b["by"] == list(names))
    return {tuple(row[name] for name in names): row["count"] for row in breakdown["rows"]}


def test_real_connections_as_the_tools_see_them(inside):
    with inside.meanwhile(sys.executable, "-c", _TRAFFIC):
        until(lambda: inside.count() == 13, "thirteen connections")
        found = inside.ask("--by", "proto,src,dport,status", "--by", "proto,state", "--top", "100")
        assert found["count"] == found["walk"]["count"] == 13 == int(inside.run("conntrack", "-C"))
        rows = Counter()
        for (proto, src, dport, status), number in ours(found, "proto", "src", "dport", "status").items():
            rows[proto, src, dport, status == "unreplied"] += number
        assert rows == listed(inside)
        assert ours(found, "proto", "state") == {("tcp", "ESTABLISHED"): 10, ("udp", "-"): 3}
        assert len(inside.run("cat", "/proc/net/nf_conntrack").splitlines()) == 13
        theirs = counters_of_conntrack(inside)
        assert found["counters"] == {n: theirs[{"chain_too_long": "chaintoolong"}.get(n, n)] for n in found["counters"]}
        assert found["timeouts"]["udp_timeout"] == int(inside.run("cat", f"{SYSCTL}udp_timeout"))
        assert (found["max"], found["buckets"]) == tuple(
            int(inside.run("cat", SYSCTL + name)) for name in ("max", "buckets")
        )
        assert kinds(found) == ["fine"]


def test_entries_of_every_sort(inside):
    several = [
        entry(UDP, zone=7, flags=made.CREATE_ACK, timeout=30),
        entry(UDP, mark=5, sport=9, flags=made.CREATE_ACK, timeout=30),
        entry(UDP, "2001:db8::1", "2001:db8::2", 53, 4000, flags=made.CREATE_ACK, timeout=30),
        entry(ICMP, sport=99, flags=made.CREATE_ACK, timeout=30),
        entry(ICMPV6, "2001:db8::1", "2001:db8::2", sport=99, flags=made.CREATE_ACK, timeout=30),
        entry(SCTP, state=4, flags=made.CREATE_ACK, timeout=210),
        entry(TCP, state=3, flags=made.CREATE_ACK, status=ASSURED),
        entry(50, flags=made.CREATE_ACK, timeout=60),
    ]
    answers = inside.put(*several)
    gre = inside.put(entry(GRE, flags=made.CREATE_ACK, timeout=30))  # ctnetlink takes none without keys on all kernels
    there = answers.count(0) + gre.count(0)
    assert there >= 7, answers
    found = inside.ask("--by", "proto,family,zone,mark,icmp,state", "--top", "100")
    assert found["walk"]["count"] == inside.count() == there
    rows = ours(found, "proto", "family", "zone", "mark", "icmp", "state")
    assert rows["udp", "ipv4", 7, 0, "-", "-"] == 1
    assert rows["udp", "ipv4", 0, 5, "-", "-"] == 1
    assert rows["udp", "ipv6", 0, 0, "-", "-"] == 1
    assert rows["icmp", "ipv4", 0, 0, 8, "-"] == 1
    assert rows["icmpv6", "ipv6", 0, 0, 128, "-"] == 1
    assert rows["tcp", "ipv4", 0, 0, "-", "ESTABLISHED"] == 1
    assert not found["notes"]


def test_a_full_table_drops_and_is_told_and_enlarged(inside, tmp_path):
    maximum = int(inside.run("cat", SYSCTL + "max"))
    if not 0 < maximum <= MOST:
        pytest.skip(f"a table of {maximum} entries is not filled in a moment")
    before = inside.ask()
    assert kinds(before) == ["fine"]
    part = maximum * 6 // 10
    assert inside.fill(part, sources=200, targets=60_000, status=ASSURED) == (0, 0)
    with inside.meanwhile(sys.executable, "-c", _CLIENTS):
        until(lambda: inside.count() > part, "a new connection")
        warned = inside.ask(code=1)
    assert kinds(warned) == ["filling"]
    assert warned["full_in_seconds"] > 0
    inside.fill(maximum - part, sources=200, targets=60_000, dport=81, status=ASSURED)
    assert inside.count() == maximum
    with inside.meanwhile(sys.executable, "-c", _CLIENTS):
        until(lambda: counters_of_conntrack(inside)["drop"] > 0, "a packet dropped")
        found = inside.ask("--walk", code=1)
    assert kinds(found)[0] == "full"
    assert found["risen"]["drop"] > 0
    assert any(f"resize --max {2 * maximum}" in c for advice in found["advice"] for c in advice["commands"])
    assert found["walk"]["assured"] >= maximum * 9 // 10
    # The estimate, against what the kernel really took: entries put in by ctnetlink have a block each.
    memory = found["memory"]
    assert memory["entries"] >= maximum
    assert memory["bytes_entries"] >= maximum * (memory["bytes_each"] + 0.9 * memory["bytes_block"])
    if os.stat(f"{SYSCTL}max").st_mode & 0o222:  # only the first network namespace may write it
        enlarge(inside, maximum, tmp_path)


def enlarge(inside, maximum, state):
    """What `tables` says of a full table, typed, and taken back: it is everybody's, so it is only raised."""
    netns = ("conntrack", "--netns", str(inside.pid))
    with restored(*(SYSCTL + name for name in ("max", "buckets"))) as before:
        table = look(*netns)
        assert (table["used"] > maximum - 5_000, table["state"]) == (True, "over")
        back = typed(table["type"], state)
        assert inside.fill(10_000, sources=200, targets=60_000, dport=82, status=ASSURED) == (0, 0)
        table = look(*netns)
        assert (table["limit"], table["state"]) == (2 * maximum, "fine")
        back()
        assert values(*before) == before


def test_who_fills_it_is_told(inside):
    assert inside.fill(600, sources=2, targets=300, dport=22, state=1, status=UNREPLIED, timeout=120) == (0, 0)
    scan = inside.ask("--walk", code=1)
    assert kinds(scan) == ["scanned"]
    assert "10.0.0.0 300" in scan["findings"][0]["text"]
    assert inside.fill(6_000, sources=3_000, targets=1, dport=443, state=1, status=UNREPLIED, timeout=120) == (0, 0)
    assert kinds(inside.ask("--walk", code=1)) == ["flooded"]
    inside.run("conntrack", "-F")
    assert inside.fill(1_000, sources=10, targets=10, dport=443, timeout=300_000) == (0, 0)
    leak = inside.ask("--walk", code=1)
    assert [(f["kind"], f["timeout"]) for f in leak["findings"]] == [("leaking", "tcp_timeout_established")]
    assert "1000 of 1000" in leak["findings"][0]["text"]
    rules = inside.ask("--notrack", "tcp/443", code=1)["advice"][-1]
    assert rules["reason"].startswith("1000 of 1000")
    # What is printed leads into the namespace, nft takes it, and the remedy works: what follows is not tracked.
    into = f"nsenter --net=/proc/{inside.pid}/ns/net"
    shorter = leak["advice"][0]["commands"]
    assert shorter == [f"{into} sysctl -w net.netfilter.nf_conntrack_tcp_timeout_established=8000"]
    for command in [*shorter, *rules["commands"]]:
        if command.startswith((f"{into} sysctl", f"{into} nft")):
            run("sh", "-c", command)
    assert inside.run("cat", f"{SYSCTL}tcp_timeout_established") == "8000\n"
    inside.run("conntrack", "-F")
    inside.python(_TWO_SERVERS)
    assert [key[2] for key in listed(inside)] == [444]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="packets race only on two processors")
def test_inserts_that_lose_a_race_in_a_table_with_room(inside):
    inside.run("nft", "-f", "-", input=_SLOW)
    inside.run("sh", "-c", f"echo 1 >{SYSCTL}tcp_timeout_syn_sent")  # one that is there already cannot be raced for
    with inside.meanwhile(prop("ctrace")):
        until(lambda: counters_of_conntrack(inside)["insert_failed"] > 0, "an insert that failed", 60)
        found = until(lambda: _with_failed(inside.ask()), "a look in which one fails", 60)
    assert "nat-race" in kinds(found)  # and it fills: the checksum is wrong, so that nobody answers
    assert found["count"] < found["max"] / 2


def _with_failed(found):
    return found if found["risen"]["insert_failed"] else None


def test_a_table_that_changes_while_it_is_walked(inside):
    inside.fill(5_000, sources=50, targets=100, timeout=600)
    with inside.meanwhile("sh", "-c", "while :; do conntrack -D -p tcp --dport 80 >/dev/null 2>&1; done"):
        found = inside.ask("--walk")
    assert found["walk"]["count"] <= 5_000
    assert not found["notes"]


def test_text_for_people(inside):
    inside.fill(300, sources=3, targets=100, timeout=300_000)
    done = pidwarden_cli("conntrack", "--netns", f"/proc/{inside.pid}/ns/net", "--walk", "--top", "2")
    assert done.returncode == 1
    assert re.search(r"^300 of \d+ entries \(0\.\d %\) in /proc/", done.stdout)
    assert "leaking: tcp ESTABLISHED" in done.stdout
    assert "worst unknown" in done.stdout
    assert all(line.isprintable() for line in done.stdout.splitlines())
    every = pidwarden_cli("conntrack", "--netns", "all")
    assert f"pid {inside.pid}" in every.stdout


def test_an_ordinary_user_is_told_what_he_may_not(inside):
    done = nobody_cli("conntrack")
    assert done.returncode in (0, 1), done.stderr
    assert "/proc/slabinfo is for root" in done.stdout
    for arguments in (["--walk"], ["--netns", str(inside.pid)]):
        assert "sudo pidwarden" in one_sentence(nobody_cli("conntrack", *arguments), 3)


def test_what_is_no_network_namespace():
    assert "is no network namespace" in one_sentence(pidwarden_cli("conntrack", "--netns", "/proc/self/ns/uts"), 1)
    one_sentence(pidwarden_cli("conntrack", "--netns", "no\x1bname"), 1)
    one_sentence(pidwarden_cli("conntrack", "--by", "nothing"), 2)
