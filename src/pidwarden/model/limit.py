"""The limits that can be changed by name: their files, bounds and what a slot costs; values and their order. Pure.

Bounds are those of the kernel's own tables (kernel/sysctl.c, fs/file_table.c, net/core/neighbour.c, fs/notify/inotify,
net/netfilter/nf_conntrack_standalone.c, kernel/ucount.c, fs/devpts/inode.c, fs/aio.c, fs/namespace.c,
security/keys/sysctl.c).
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

INT_MAX, LONG_MAX = 0x7FFFFFFF, 0x7FFFFFFFFFFFFFFF
PID_MAX_LIMIT = 4 * 1024 * 1024  # on 64 bits (include/linux/threads.h)
UNLIMITED, NO_MAX = "unlimited", "max"
NPROC, NOFILE, PIDS = "nproc:", "nofile:", "pids.max:"


class Scope(StrEnum):
    """For whom a value holds, and so where it has to be written."""

    MACHINE = "machine"
    FIRST_NET = "first-net"  # the machine, but only its first network namespace may write
    NET = "net"  # a network namespace
    USER = "user"  # a user namespace
    PID = "pid"  # a pid namespace since 6.14, the machine before
    PROCESS = "process"
    CGROUP = "cgroup"


# The kind of namespace that a value, or the name of its place, is of.
NAMESPACE = {Scope.NET: "net", Scope.FIRST_NET: "net", Scope.USER: "user", Scope.PID: "pid"}
NAMESPACE |= {Scope.PROCESS: "pid", Scope.CGROUP: "cgroup"}


class Setting(NamedTuple):
    """A limit by its name. ``keys`` are sysctls, dotted; several are one value of several numbers, from low to high.

    ``low`` and ``high`` are the least and the most that the kernel takes. ``caches`` are the slab caches of which a
    slot takes so many objects each; none: what it costs is not known.
    """

    name: str
    what: str
    keys: tuple[str, ...] = ()
    low: int = 0
    high: int = INT_MAX
    scope: Scope = Scope.MACHINE
    caches: tuple[tuple[str, int], ...] = ()
    unit: str = ""

    @property
    def parts(self) -> int:
        """How many numbers its value has."""
        return 2 if self.name == PORTS else max(1, len(self.keys))


def path(key: str) -> str:
    """The file of a sysctl below /proc/sys."""
    return key.replace(".", "/")


PORTS = "ip_local_port_range"
CONNTRACK_MAX, CONNTRACK_BUCKETS = "nf_conntrack_max", "nf_conntrack_buckets"
_TASK = (("task_struct", 1), ("signal_cache", 1), ("sighand_cache", 1))
# As the kernel counts it (INOTIFY_WATCH_COST in fs/notify/inotify/inotify_user.c): the mark, and twice an inode.
_WATCH = (("inotify_inode_mark", 1), ("inode_cache", 2))
_NEIGH = "net.ipv{}.neigh.default.gc_thresh{}"


def _neighbours(name: str, family: int, what: str) -> Setting:
    keys = tuple(_NEIGH.format(family, n) for n in (1, 2, 3))
    return Setting(name, what, keys, 1, scope=Scope.FIRST_NET, unit="neighbours")


def _user(kind: str, words: str, *caches: tuple[str, int]) -> Setting:
    name = f"max_{kind}"
    return Setting(name, f"{words} of one user", (f"user.{name}",), 0, INT_MAX, Scope.USER, caches, "each")


def _namespaces(kind: str, words: str, *caches: tuple[str, int]) -> Setting:
    return _user(f"{kind}_namespaces", f"{words} namespaces", *caches)


def _keys(name: str, what: str) -> Setting:
    return Setting(f"keys.{name}", what, (f"kernel.keys.{name}",), 1)


_ALL = (
    Setting("pid_max", "process ids, threads too", ("kernel.pid_max",), 301, PID_MAX_LIMIT, Scope.PID, _TASK, "tasks"),
    Setting("threads-max", "tasks of the machine", ("kernel.threads-max",), 20, 0x3FFFFFFF, caches=_TASK, unit="tasks"),
    Setting("file-max", "open files of the machine", ("fs.file-max",), 1024, LONG_MAX, caches=(("filp", 1),)),
    Setting("nr_open", "what RLIMIT_NOFILE may be raised to", ("fs.nr_open",), 64, 0x7FFFFFC0, unit="descriptors"),
    Setting("max_user_instances", "inotify instances of one user", ("fs.inotify.max_user_instances",), 1),
    Setting("max_user_watches", "inotify watches of one user", ("fs.inotify.max_user_watches",), 1, caches=_WATCH),
    Setting("max_queued_events", "events that wait in one inotify instance", ("fs.inotify.max_queued_events",), 1),
    _neighbours("arp.gc_thresh", 4, "IPv4 neighbours, all namespaces together"),
    _neighbours("ndisc.gc_thresh", 6, "IPv6 neighbours, all namespaces together"),
    Setting(
        CONNTRACK_MAX, "tracked connections, in each network namespace", ("net.netfilter.nf_conntrack_max",), 1,
        scope=Scope.FIRST_NET, unit="entries",
    ),
    Setting(
        CONNTRACK_BUCKETS, "hash buckets of connection tracking", ("net.netfilter.nf_conntrack_buckets",), 1,
        scope=Scope.FIRST_NET, unit="buckets",
    ),
    Setting(
        "tcp_max_tw_buckets", "sockets in TIME_WAIT", ("net.ipv4.tcp_max_tw_buckets",), 0,
        scope=Scope.NET, caches=(("tw_sock_TCP", 1),),
    ),
    Setting(PORTS, "ports for outgoing connections", ("net.ipv4.ip_local_port_range",), 1, 65535, Scope.NET),
    Setting("pty.max", "pseudo-terminals", ("kernel.pty.max",)),
    Setting("aio-max-nr", "asynchronous I/O requests", ("fs.aio-max-nr",), 0, LONG_MAX),
    Setting("mount-max", "mounts of a mount namespace", ("fs.mount-max",), 1, caches=(("mnt_cache", 1),)),
    _keys("maxkeys", "keys of one user"),
    _keys("maxbytes", "bytes of one user's keys"),
    _keys("root_maxkeys", "keys of root"),
    _keys("root_maxbytes", "bytes of root's keys"),
    _user("inotify_instances", "inotify instances, in this user namespace,"),
    _user("inotify_watches", "inotify watches, in this user namespace,", *_WATCH),
    _namespaces("cgroup", "cgroup"),
    _namespaces("ipc", "ipc"),
    _namespaces("mnt", "mount", ("mnt_namespace", 1)),
    _namespaces("net", "network", ("net_namespace", 1)),
    _namespaces("pid", "pid", ("pid_namespace", 1)),
    _namespaces("time", "time"),
    _namespaces("user", "user", ("user_namespace", 1)),
    _namespaces("uts", "uts", ("uts_namespace", 1)),
)  # fmt: skip
CATALOGUE = {s.name: s for s in _ALL}
_BY_KEY = {key: s for s in _ALL for key in s.keys}
_OTHERS = {
    NPROC: Setting(NPROC, "tasks of the process's user, as it sees it (RLIMIT_NPROC)", (), 0, LONG_MAX, Scope.PROCESS),
    NOFILE: Setting(NOFILE, "open files of the process (RLIMIT_NOFILE)", (), 0, LONG_MAX, Scope.PROCESS),
    PIDS: Setting(PIDS, "tasks in the cgroup and below", (), 0, PID_MAX_LIMIT, Scope.CGROUP, _TASK, "tasks"),
}
NAMES = (*CATALOGUE, f"{NPROC}PID", f"{NOFILE}PID", f"{PIDS}/PATH/OF/CGROUP")


class Named(NamedTuple):
    """A setting that was named, with its pid or path if it takes one."""

    setting: Setting
    pid: int = 0
    cgroup: str = ""

    @property
    def name(self) -> str:
        """The name as a person types it."""
        return f"{self.setting.name}{self.pid or ''}{self.cgroup}"


def find(name: str) -> Named:
    """The setting of a name; a sysctl's key, dotted or with slashes, is one as well.

    Raises:
        ValueError: there is none, in words for people.
    """
    if name in CATALOGUE:
        return Named(CATALOGUE[name])
    if (found := _BY_KEY.get(name.removeprefix("/proc/sys/").replace("/", "."))) is not None:
        return Named(found)
    for prefix in (NPROC, NOFILE):
        pid = name.removeprefix(prefix)
        if pid != name and pid.isascii() and pid.isdecimal() and 0 < int(pid) <= INT_MAX:
            return Named(_OTHERS[prefix], pid=int(pid))
    cgroup = name.removeprefix(PIDS)
    if cgroup != name:
        if not cgroup.startswith("/") or "\0" in cgroup or ".." in cgroup.split("/"):
            msg = "names no cgroup: its path begins with a slash and has no `..`, as in /proc/PID/cgroup"
            raise ValueError(msg)
        return Named(_OTHERS[PIDS], cgroup="/" + "/".join(part for part in cgroup.split("/") if part))
    msg = "is no limit; type one of " + ", ".join(NAMES)
    raise ValueError(msg)


# -- values ------------------------------------------------------------------------------------------------------------


def parse(setting: Setting, text: str, now: str = "") -> str:
    """What is to be written for what a person typed; `now` is the value it has.

    Numbers are apart by blanks, commas, colons or a dash. Of neighbours the highest alone will do: the others keep the
    kernel's proportions, a half and an eighth, and are not lowered when that is raised. Of a process's limits the soft
    one will do: the hard one follows if it is lower.

    Raises:
        ValueError: it is none for this setting, in words for people.
    """
    words = text.replace(",", " ").replace(":", " ").replace("-", " ").split()
    if text.strip().startswith("-") or not words:
        words = [text]
    if setting.scope is Scope.PROCESS:
        return _rlimit(words, now)
    if setting.scope is Scope.CGROUP and words == [NO_MAX]:
        return NO_MAX
    numbers = [_number(word) for word in words]
    if len(numbers) == 1 and setting.parts == 3:  # noqa: PLR2004  (gc_thresh1 to 3)
        numbers = _proportional(setting, numbers[0], [int(word) for word in now.split()])
    if len(numbers) != setting.parts:
        msg = f"it takes {setting.parts} number{'s' * (setting.parts > 1)}, as in `{_EXAMPLES.get(setting.parts, '')}`"
        raise ValueError(msg)
    if not all(setting.low <= n <= setting.high for n in numbers):
        msg = f"it takes {setting.low} to {setting.high}"
        raise ValueError(msg)
    if sorted(numbers) != numbers:
        msg = "the numbers go from low to high"
        raise ValueError(msg)
    return " ".join(map(str, numbers))


def _proportional(setting: Setting, highest: int, now: list[int]) -> list[int]:
    found = [max(setting.low, highest // 8), max(setting.low, highest // 2), highest]
    return [max(pair) for pair in zip(found, now, strict=True)] if now and highest >= now[-1] else found


_EXAMPLES = {1: "65536", 2: "16384-60999", 3: "1024,4096,8192"}


def _number(word: str) -> int:
    if not (word.isascii() and word.isdecimal() and len(word) <= 19):  # noqa: PLR2004  (63 bits)
        msg = "it takes a number" + (", as others have no `max` or `unlimited`" * (word in (NO_MAX, UNLIMITED)))
        raise ValueError(msg)
    return int(word)


def _rlimit(words: list[str], now: str) -> str:
    if not 1 <= len(words) <= 2:  # noqa: PLR2004  (soft and hard)
        msg = "it takes the soft limit, or SOFT:HARD"
        raise ValueError(msg)
    given = [UNLIMITED if w in (NO_MAX, UNLIMITED) else str(_number(w)) for w in words]
    soft = given[0]
    hard = given[1] if len(given) > 1 else max(soft, (now.split() or [soft])[-1], key=order_of)
    if order_of(soft) > order_of(hard):
        msg = "the soft limit cannot be above the hard one"
        raise ValueError(msg)
    return f"{soft} {hard}"


def order_of(word: str) -> float:
    """A number for comparing one word of a value: no limit is above all of them."""
    return float("inf") if word in (UNLIMITED, NO_MAX) else float(int(word))


def lowers(setting: Setting, old: str, new: str) -> bool:
    """Whether anything of a value becomes less. A range of ports does if it loses one."""
    before, after = ([order_of(w) for w in value.split()] for value in (old, new))
    if setting.name == PORTS:
        return after[0] > before[0] or after[1] < before[1]
    return any(a < b for b, a in zip(before, after, strict=False))


def allows(setting: Setting, value: str) -> float:
    """How many slots a value allows: the highest number; of ports, those of the range; of a process, the soft limit."""
    words = [order_of(w) for w in value.split()]
    if setting.name == PORTS:
        return words[1] - words[0] + 1
    return words[0] if setting.scope is Scope.PROCESS else words[-1]
