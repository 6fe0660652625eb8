"""What this machine can do, found out by trying each thing once. What is not there is kept with the kernel's reason.

Everything tried is undone before the next thing: descriptors are closed, programs detached, and file systems that are
not mounted are looked at through a mount that no path leads to (fsmount(2)). No release number is asked for.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.errors import NoPermission, PidwardenError
from pidwarden.kernel import bpf, cgroup, connector, libbpf, perf, pins, procfs, tracefs, trial
from pidwarden.kernel.namespaces import INIT_PID_NS
from pidwarden.kernel.trial import FMOD_RET_PROGRAMS, ITERATOR_PROGRAMS, LSM_LIST, LSM_PROGRAMS, Absent, in_words

if TYPE_CHECKING:
    from collections.abc import Callable

_PERF_SET_BPF = 0x40042408  # PERF_EVENT_IOC_SET_BPF
_HISTORY = ("sched_process_fork", "sched_process_exec", "sched_process_exit", "sched_process_free")
_CALLS = ("fork", "vfork", "clone", "clone3")
_LEAST_RECORDS = 1024  # enough to see whether the maps can be made
_CAPS = {"KILL": 5, "IPC_LOCK": 14, "SYS_ADMIN": 21, "SYS_NICE": 23, "SYS_RESOURCE": 24, "PERFMON": 38, "BPF": 39}
_WITHOUT = {  # what the guard does without one of the capabilities it can do without
    "IPC_LOCK": "the guard's memory can be swapped out",
    "SYS_NICE": "the guard keeps its ordinary priority",
    "SYS_RESOURCE": "the guard is not safe from the out-of-memory killer",
}


class State(StrEnum):
    """Whether something is there; UNKNOWN: it could not be tried, for want of root."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


class Fact(NamedTuple):
    """One thing looked at: what was found or why it is not there, and what would change that (empty if nothing)."""

    name: str
    state: State
    detail: str
    remedy: str = ""


def attempt(name: str, look: Callable[[], str], remedy: str = "") -> Fact:
    """Runs one look and turns its end, whatever it is, into a fact. A refusal to an ordinary user says nothing."""
    try:
        return Fact(name, State.YES, look())
    except Absent as why:
        return Fact(name, State.NO, str(why), remedy)
    except NoPermission:
        code, text = errno.EPERM, ""
    except (OSError, PidwardenError) as why:
        code = getattr(why, "errno", None) or getattr(why.__cause__, "errno", None) or 0
        named = isinstance(why, OSError) and isinstance(why.filename, str)
        text = (f"{why.filename}: " * named + in_words(code)) if isinstance(why, OSError) else str(why)
    if code in (errno.EPERM, errno.EACCES) and os.geteuid() != 0:
        return Fact(name, State.UNKNOWN, "not tried: it needs root", "type `sudo pidwarden doctor`")
    return Fact(name, State.NO, text, remedy)


# -- who we are --------------------------------------------------------------------------------------------------------


def _capabilities() -> str:
    with open(f"{procfs.PROC}/self/status", encoding="ascii", errors="replace") as file:
        text = next(line.split()[1] for line in file if line.startswith("CapEff:"))
    have = {name for name, bit in _CAPS.items() if int(text, 16) >> bit & 1}
    needed = {"KILL"} | (set() if "SYS_ADMIN" in have else {"BPF", "PERFMON"})
    if lacking := sorted(needed - have):
        if os.geteuid() != 0:
            raise NoPermission
        raise Absent("without " + ", ".join(f"CAP_{name}" for name in lacking))
    lost = [f"no CAP_{name}: {text}" for name, text in _WITHOUT.items() if name not in have]
    return "; ".join(["all that are needed", *lost])


def _root() -> str:
    if os.geteuid() != 0:
        raise Absent(f"uid {os.geteuid()}: the guard needs root, and so does a look at most of this")
    return "uid 0"


def _pid_namespace() -> str:
    if os.stat(f"{procfs.PROC}/self/ns/pid").st_ino != INIT_PID_NS:
        raise Absent("a PID namespace of a container: the kernel side counts the machine's own process ids")
    return "the machine's own"


def _proc() -> str:
    if procfs.stat(1) is None:
        if os.geteuid() != 0:
            raise NoPermission
        raise Absent("/proc does not show pid 1 (hidepid, or not mounted)")
    return "shows other users' processes"


def _pidfd() -> str:
    fd = os.pidfd_open(os.getpid())
    try:
        signal.pidfd_send_signal(fd, 0)
    finally:
        os.close(fd)
    return "opens, and takes signals"


# -- BPF ---------------------------------------------------------------------------------------------------------------


def _btf() -> str:
    with open("/sys/kernel/btf/vmlinux", "rb") as file:
        return f"/sys/kernel/btf/vmlinux, {os.fstat(file.fileno()).st_size // 1024} KiB"


def _object() -> str:
    programs = bpf.Programs.load(max_records=_LEAST_RECORDS)
    programs.close()
    return "fits this version, and the kernel's verifier takes it"


def _attaches(*names: str) -> str:
    with trial.program(trial.RAW_TRACEPOINT, "raw tracepoint programs") as program:
        for name in names:
            os.close(libbpf.attach_raw(program, name))
    return "a program attaches to " + ", ".join(names)


def _tracefs() -> str:
    with tracefs.root():
        mounted = [where for _device, where, kind, *_ in procfs.mounts() if kind == "tracefs"]
    return f"mounted at {mounted[0]}" if mounted else "not mounted; opened without a mount"


def _syscall_tracepoints() -> str:
    with tracefs.root() as fd:
        found = {call: tracefs.event_id(fd, "syscalls", f"sys_enter_{call}") for call in _CALLS}
    ids = {call: event for call, event in found.items() if event is not None}
    if not ids:
        raise Absent("the kernel has no tracepoints of system calls")
    with trial.program(trial.TRACEPOINT, "tracepoint programs") as program:
        for event in ids.values():
            handle = perf.open_tracepoint(event)
            try:
                fcntl.ioctl(handle, _PERF_SET_BPF, program)
            finally:
                os.close(handle)
    return "a program attaches to " + ", ".join(ids)


def _bpffs() -> str:
    if where := pins.bpffs():
        if not os.access(where, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), where)
        return f"mounted at {where}"
    with trial.detached("bpf"):
        return "not mounted; it can be, and the guard mounts it while it runs"


def _lockdown() -> str:
    modes = trial.security("lockdown")
    mode = modes[modes.index("[") + 1 : modes.index("]")]
    if mode == "confidentiality":
        raise Absent("confidentiality: BPF programs may not read kernel memory")
    return mode + (": BPF programs may read kernel memory, which is all that pidwarden's do" * (mode != "none"))


def _unprivileged_bpf() -> str:
    value = procfs.read_int(f"{procfs.PROC}/sys/kernel/unprivileged_bpf_disabled")
    if value is None:
        raise Absent("the kernel does not say")
    if value == 0:
        raise Absent("ordinary users may load BPF programs")
    return f"ordinary users may not load BPF programs ({value})"


# -- other kernel interfaces -------------------------------------------------------------------------------------------


def _connector() -> str:
    connector.Connector().close()
    return "subscribed to, and answered"


def _cgroups() -> str:
    found = cgroup.mounts()
    layout = {(True, True): "hybrid (v1 and v2)", (True, False): "v2", (False, True): "v1"}
    if not (found.v2 or found.v1):
        raise Absent("no cgroup hierarchy is mounted")
    return layout[bool(found.v2), bool(found.v1)]


def _pids_controller() -> str:
    found = cgroup.mounts()
    if "pids" in found.v1:
        return f"v1, {found.v1['pids']}"
    if found.v2:
        with open(f"{found.v2}/cgroup.controllers", encoding="ascii") as file:
            if "pids" in file.read().split():
                return f"v2, {found.v2}"
    raise Absent("in no hierarchy")


def _in_a_cgroup(name: str) -> str:
    """A file that every v2 cgroup but the root has: looked for in one that is there, else in one made for a moment."""
    root = cgroup.mounts().v2
    if root is None:
        raise Absent("there is no v2 hierarchy")
    with os.scandir(root) as entries, contextlib.ExitStack() as stack:
        where = next((entry.path for entry in entries if entry.is_dir(follow_symlinks=False)), None)
        if where is None:
            where = f"{root}/pidwarden-probe-{os.getpid()}"
            os.mkdir(where)
            stack.callback(os.rmdir, where)
        if not os.path.exists(f"{where}/{name}"):
            raise Absent(f"the kernel's v2 cgroups have no {name}")
    return f"v2, {name}"


def _freezer() -> str:
    v1 = cgroup.mounts().v1.get("freezer")
    return f"v1, {v1}" if v1 else _in_a_cgroup("cgroup.freeze")


def _compat() -> str:
    if not os.path.exists(f"{procfs.PROC}/sys/abi/vsyscall32"):
        raise Absent("the kernel takes no 32-bit system calls")
    return "the kernel takes 32-bit system calls beside its own"


_BUILT = "a kernel built with {}"
# name, how it is looked for, what would bring it about; in the order in which they are shown.
LOOKS: tuple[tuple[str, Callable[[], str], str], ...] = (
    ("root", _root, "type `sudo pidwarden doctor`"),
    ("capabilities", _capabilities, "give the service or container these capabilities"),
    ("PID namespace", _pid_namespace, "run pidwarden on the host, or with the host's PID namespace (`--pid=host`)"),
    ("/proc", _proc, "mount /proc without hidepid, or give pidwarden CAP_SYS_PTRACE"),
    ("pidfd", _pidfd, "a newer kernel"),
    ("libbpf", libbpf.version, "install libbpf 1.x"),
    ("kernel BTF", _btf, _BUILT.format("CONFIG_DEBUG_INFO_BTF")),
    ("raw tracepoints", partial(_attaches, *_HISTORY), "a kernel or container that lets root load BPF"),
    ("pidwarden's BPF object", _object, "see what else is missing here"),
    ("tracefs", _tracefs, "mount -t tracefs tracefs /sys/kernel/tracing"),
    ("system call tracepoints", _syscall_tracepoints, _BUILT.format("CONFIG_FTRACE_SYSCALLS")),
    ("every-call tracepoint", partial(_attaches, "sys_enter"), _BUILT.format("CONFIG_HAVE_SYSCALL_TRACEPOINTS")),
    ("32-bit calls", _compat, ""),
    ("bpf file system", _bpffs, "mount -t bpf bpf /sys/fs/bpf"),
    LSM_LIST,
    LSM_PROGRAMS,
    FMOD_RET_PROGRAMS,
    ITERATOR_PROGRAMS,
    ("process connector", _connector, _BUILT.format("CONFIG_PROC_EVENTS")),
    ("cgroup layout", _cgroups, "mount -t cgroup2 cgroup2 /sys/fs/cgroup"),
    ("pids controller", _pids_controller, _BUILT.format("CONFIG_CGROUP_PIDS")),
    ("freezer", _freezer, "a cgroup v2 hierarchy"),
    ("cgroup.kill", partial(_in_a_cgroup, "cgroup.kill"), "a cgroup v2 hierarchy and a kernel with cgroup.kill"),
    ("lockdown", _lockdown, "boot with lockdown=integrity or none"),
    ("BPF closed to users", _unprivileged_bpf, "sysctl kernel.unprivileged_bpf_disabled=1"),
)


def probe() -> list[Fact]:
    """Tries everything, once; in about half a second, of which most is the kernel's waiting as programs detach.

    Raises nothing: what fails is a fact.
    """
    return [attempt(*look) for look in LOOKS]
