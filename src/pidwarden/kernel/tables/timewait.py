"""TIME_WAIT sockets of our network namespace against net.ipv4.tcp_max_tw_buckets."""

from __future__ import annotations

from pidwarden.kernel.tables.base import PROC, content, sysctl
from pidwarden.model.gauge import Gauge, Scope, Table


def read(root: str = PROC) -> list[Gauge]:
    """One gauge. The kernel counts what did not get in as TCPTimeWaitOverflow, for each network namespace."""
    used = sockets(root).get("tw")
    if used is None:
        return []
    limit = sysctl("net/ipv4/tcp_max_tw_buckets", root)
    failures = counters(root).get("TCPTimeWaitOverflow")
    setting, since = "net.ipv4.tcp_max_tw_buckets", "the network namespace was made"
    return [Gauge(Table.TIME_WAIT, Scope.NETNS, "", used, limit, 0, setting, failures=failures, since=since)]


def sockets(root: str = PROC) -> dict[str, int]:
    """The TCP line of ``/proc/net/sockstat`` (proc_pid_net(5)), ``inuse`` with that of IPv6 added."""
    found: dict[str, int] = {}
    for file in ("sockstat", "sockstat6"):
        for line in (content(f"{root}/net/{file}") or b"").decode("ascii", "replace").splitlines():
            title, *words = line.split()
            if title in ("TCP:", "TCP6:"):
                for name, value in zip(words[::2], words[1::2], strict=False):
                    found[name] = found.get(name, 0) + int(value)
    return found


def counters(root: str = PROC, title: str = "TcpExt:") -> dict[str, int]:
    """A group of ``/proc/net/netstat``: a line of names, then one of numbers."""
    names: list[str] = []
    for line in (content(f"{root}/net/netstat") or b"").decode("ascii", "replace").splitlines():
        first, *words = line.split()
        if first == title:
            if names:
                return {name: int(word) for name, word in zip(names, words, strict=False)}
            names = words
    return {}
