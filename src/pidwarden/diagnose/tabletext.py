"""What is known of each table: its title, what users see when it is full, what helps, and what to type. Pure."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.model import limit
from pidwarden.model.gauge import Scope, Table

if TYPE_CHECKING:
    from pidwarden.model.gauge import Gauge

_PORTS = (1024, 65535)  # what a range may begin and end with; below are those that need a capability


class About(NamedTuple):
    """One table, for people. ``symptom``: the errno, and the line in the kernel's log where there is one."""

    title: str
    symptom: str
    remedy: str


ABOUT = {
    Table.PIDS: About(
        "process ids", "fork: EAGAIN, Resource temporarily unavailable",
        "clear zombies and end who makes too many (`pidwarden zombies`, `pidwarden why`); then raise it",
    ),
    Table.THREADS: About(
        "threads", "fork, pthread_create: EAGAIN, Resource temporarily unavailable",
        "end who makes too many (`pidwarden why`); then raise it",
    ),
    Table.USER_TASKS: About(
        "a user's tasks", "fork, pthread_create: EAGAIN, Resource temporarily unavailable",
        "end what that user leaks (`pidwarden why --user NAME`); then raise the limit of his unit or login",
    ),
    Table.CGROUP_PIDS: About(
        "a cgroup's tasks",
        "fork: EAGAIN; log: cgroup: fork rejected by pids controller",
        "clear its zombies and end what leaks in it (`pidwarden why --cgroup PATH`); then raise pids.max or TasksMax=",
    ),
    Table.FILES: About(
        "open files of the machine", "open, socket: ENFILE; log: VFS: file-max limit … reached",
        "restart who leaks them; then raise it",
    ),
    Table.PROCESS_FILES: About(
        "open files of a process", "open, socket, accept: EMFILE, Too many open files",
        "look for a leak (`ls -l /proc/PID/fd`); if it needs as many, raise LimitNOFILE= of its unit",
    ),
    Table.INOTIFY_INSTANCES: About(
        "a user's inotify instances", "inotify_init: EMFILE, Too many open files",
        "end who leaks them; each editor or file manager needs some, so raise it",
    ),
    Table.INOTIFY_WATCHES: About(
        "a user's inotify watches", "inotify_add_watch: ENOSPC, No space left on device",
        "have who watches most leave out large folders; or raise it, 1 KB each",
    ),
    Table.NAMESPACES: About(
        "namespaces", "unshare, clone: ENOSPC, No space left on device",
        "remove sandboxes and containers that are left over; then raise it",
    ),
    Table.NEIGHBOURS4: About(
        "IPv4 neighbours (ARP)",
        "new hosts cannot be reached: ping and raw sockets get ENOBUFS, UDP only with IP_RECVERR, TCP times out; "
        "log: neighbour: arp_cache: neighbor table overflow!",
        "raise the three thresholds together, or make the network segment smaller",
    ),
    Table.NEIGHBOURS6: About(
        "IPv6 neighbours (NDISC)",
        "new hosts cannot be reached: ping and raw sockets get ENOBUFS, UDP only with IP_RECVERR, TCP times out; "
        "log: neighbour: ndisc_cache: neighbor table overflow!",
        "raise the three thresholds together, or make the network segment smaller",
    ),
    Table.TCP_PORTS: About(
        "TCP ports to one destination", "connect: EADDRNOTAVAIL, to this destination only; bind to port 0: EADDRINUSE",
        "keep connections open and use them again (a pool); IP_BIND_ADDRESS_NO_PORT where a program binds first; "
        "or widen the range",
    ),
    Table.UDP_PORTS: About(
        "UDP ports", "sendto, connect: EAGAIN; bind to port 0: EADDRINUSE",
        "close sockets that are not used; or widen the range",
    ),
    Table.TIME_WAIT: About(
        "TIME_WAIT sockets", "connections are closed without it; log: TCP: time wait bucket table overflow",
        "have the side that opens connections keep and use them again; or raise it, 0.3 KB each",
    ),
    Table.CONNTRACK: About(
        "tracked connections", "new connections are dropped; log: nf_conntrack: table full, dropping packet",
        "ask what fills it first (`pidwarden conntrack`); then resize it",
    ),
    Table.KEYS: About(
        "a user's keys", "add_key, keyctl: EDQUOT, Disk quota exceeded",
        "have who makes them revoke them (containers make some each); or raise it",
    ),
    Table.KEY_BYTES: About(
        "bytes of a user's keys", "add_key, keyctl: EDQUOT, Disk quota exceeded",
        "have who makes them revoke them (containers make some each); or raise it",
    ),
    Table.PTYS: About(
        "pseudo-terminals", "open /dev/ptmx: ENOSPC; nobody can log in with a terminal",
        "end sessions that are left over; then raise it",
    ),
    Table.AIO: About(
        "asynchronous I/O requests", "io_setup: EAGAIN; a database does not start", "raise it: databases ask for many"
    ),
    Table.MOUNTS: About(
        "mounts of a namespace", "mount, unshare: ENOSPC, No space left on device",
        "look for mounts that are made again and again (`findmnt`); then raise it",
    ),
}  # fmt: skip


def command(gauge: Gauge) -> str:
    """What to type to make room, exactly; empty where nothing raises it, or it is as high as it goes."""
    if gauge.limit is None or not gauge.setting:
        return ""
    if gauge.table is Table.PTYS and gauge.scope is Scope.MOUNT:
        return f"sudo mount -o remount,max={2 * gauge.limit} {shlex.quote(gauge.of)}"
    value = _more(gauge)
    if not value:
        return ""
    if gauge.table is Table.CONNTRACK:
        return f"sudo pidwarden conntrack resize --max {value}"
    name = _name(gauge)
    inside = f"nsenter --net={shlex.quote(gauge.netns)} " if gauge.netns and _of_netns(name) else ""
    return f"sudo {inside}pidwarden limits set {shlex.quote(name)} {value}"


def _name(gauge: Gauge) -> str:
    """The limit by the name that `limits set` takes."""
    if gauge.table is Table.PROCESS_FILES:
        return f"{limit.NOFILE}{gauge.of.split()[1]}"
    if gauge.table is Table.USER_TASKS:
        return f"{limit.NPROC}{gauge.detail.rsplit(' ', 1)[-1]}"
    if gauge.table is Table.CGROUP_PIDS:
        return f"{limit.PIDS}{gauge.of}"
    return gauge.setting


def _more(gauge: Gauge) -> str:
    """Twice as much, or all there can be; empty if it is that already."""
    most = gauge.limit or 0
    if gauge.table in (Table.TCP_PORTS, Table.UDP_PORTS):
        return f"{_PORTS[0]}-{_PORTS[1]}" * (most < _PORTS[1] - _PORTS[0] + 1)
    more = min(2 * most, limit.find(_name(gauge)).setting.high)
    return str(more) * (more > most)


def _of_netns(name: str) -> bool:
    """Whether it has to be set where it holds; the other limits of the network are the machine's own."""
    return limit.find(name).setting.scope is limit.Scope.NET
