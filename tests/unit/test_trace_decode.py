"""Calls as text. The expected lines are those that strace 6.1 printed for these calls."""

# ruff: noqa: E501  (lines are as strace prints them)
from __future__ import annotations

import struct

import pytest

from pidwarden.trace.abi import CUT, ENTER, EXIT, FAULT, RETURN, SIGNAL
from pidwarden.trace.decode import Decoder, signatures
from pidwarden.trace.event import Event, Piece
from pidwarden.trace.numbers import CALLS as NUMBERS
from pidwarden.trace.signature import parse_format

_NUMBER = {name: number for number, name in NUMBERS["x86_64"][0].items()}
_FORMAT = """name: sys_enter_ustat
ID: 1
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:int __syscall_nr;\toffset:8;\tsize:4;\tsigned:1;
\tfield:unsigned dev;\toffset:16;\tsize:8;\tsigned:0;
\tfield:struct ustat * ubuf;\toffset:24;\tsize:8;\tsigned:0;

print fmt: "dev: 0x%08lx, ubuf: 0x%08lx", ((unsigned long)(REC->dev)), ((unsigned long)(REC->ubuf))
"""
_OPENAT = _FORMAT.replace("unsigned dev", "int dfd").replace("struct ustat * ubuf", "const char * filename")
_MKDIR = _FORMAT.replace("unsigned dev", "const char * pathname").replace("struct ustat * ubuf", "umode_t mode")
_FORMATS = {"ustat": _FORMAT, "openat": _OPENAT, "mkdir": _MKDIR, "newfstat": _FORMAT}
P = 0x7FFD0000


@pytest.fixture(scope="module")
def decoder():
    return Decoder("x86_64", signatures(_FORMATS))


def event(kind, name, args=(), pieces=(), ret=0):
    number = _NUMBER[name] if isinstance(name, str) else name
    full = tuple(a & (1 << 64) - 1 for a in args) + (0,) * (6 - len(args))
    return Event(2, 1, 10, 10, kind, number, 0, 0, 0, ret, full, tuple(pieces))


def piece(arg, data, flags=0, part=0):
    return Piece(arg, flags, part, data)


def line(decoder, name, args, ret=0, before=(), after=()):  # noqa: PLR0913
    enter = event(ENTER, name, args, before) if before else None
    done = event(RETURN, name, args, after, ret)
    return f"{decoder.name(done.nr)}({', '.join(decoder.arguments(enter, done))}){decoder.result(done)}"


def longs(*values):
    return struct.pack(f"<{len(values)}q", *values)


_SIGACTION = struct.pack("<4Q", 0x5555, 0x14000000, 0x7FFF, 0xFFFFFFFE7FFFFFFF)
_IN = struct.pack(">HH4s8x", 0x0200, 8080, bytes((127, 0, 0, 1)))
_NETLINK = struct.pack("<HHiI", 16, 0, 0, 0)
_STAT = struct.pack("<24xI12xQQ88x", 0o100644, 0, 2996)
_DEVICE = struct.pack("<24xI12xQQ88x", 0o020666, 0x103, 0)
_CONTROL = struct.pack("<Qiii4x", 20, 1, 1, 5)
_MSGHDR = struct.pack("<QI4xQQQQI4x", 0, 0, P, 2, P, 24, 0)
_TERMINAL = struct.pack("<4I20x", 0o2400, 0o5, 0o277, 0o105073)

# call, arguments, result, pieces of the entry, pieces of the return, what strace writes
LINES = [
    ("openat", (-100, P, 0o2000000), 3, [piece(1, b"/etc/ld.so.cache")], [],
     'openat(AT_FDCWD, "/etc/ld.so.cache", O_RDONLY|O_CLOEXEC) = 3'),
    ("openat", (-100, P, 0o2001, 0o644), -2, [piece(1, b'a\n\x01\x7f"\\')], [],
     'openat(AT_FDCWD, "a\\n\\1\\177\\"\\\\", O_WRONLY|O_APPEND) = -1 ENOENT (No such file or directory)'),
    ("openat", (5, P, 0o101, 0o600), 4, [piece(1, b"x" * 100)], [],
     f'openat(5, "{"x" * 100}", O_WRONLY|O_CREAT, 0600) = 4'),
    ("openat", (-100, 3, 0), -14, [piece(1, b"", FAULT)], [], "openat(AT_FDCWD, 0x3, O_RDONLY) = -1 EFAULT (Bad address)"),
    ("openat", (-100, P, 0o2204000), 3, [piece(1, b"", FAULT)], [piece(1, b".")],
     'openat(AT_FDCWD, ".", O_RDONLY|O_NONBLOCK|O_CLOEXEC|O_DIRECTORY) = 3'),
    ("read", (3, P, 832), 3, [], [piece(1, b"ab\0")], 'read(3, "ab\\0", 832) = 3'),
    ("read", (3, P, 832), 832, [], [piece(1, b"\x7fELF" + b"\0" * 29)],
     'read(3, "\\177ELF' + "\\0" * 28 + '"..., 832) = 832'),
    ("read", (3, P, 832), 832, [], [], 'read(3, ""..., 832) = 832'),
    ("read", (3, P, 832), 0, [], [], 'read(3, "", 832) = 0'),
    ("read", (3, P, 832), -11, [], [], f"read(3, {P:#x}, 832) = -1 EAGAIN (Resource temporarily unavailable)"),
    ("write", (1, P, 5), 5, [piece(1, b"1\x002\xff\t")], [], 'write(1, "1\\0002\\377\\t", 5) = 5'),
    ("mmap", (0, 8192, 3, 0x22, -1, 0), 0x7F0000, [], [],
     "mmap(NULL, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f0000"),
    ("mmap", (P, 8192, 5, 0x812, 3, 0x26000), P, [], [],
     f"mmap({P:#x}, 8192, PROT_READ|PROT_EXEC, MAP_PRIVATE|MAP_FIXED|MAP_DENYWRITE, 3, 0x26000) = {P:#x}"),
    ("mprotect", (P, 4096, 0), 0, [], [], f"mprotect({P:#x}, 4096, PROT_NONE) = 0"),
    ("brk", (0,), 0x555555, [], [], "brk(NULL) = 0x555555"),
    ("fstat", (3, P), 0, [], [piece(1, _STAT)], "fstat(3, {st_mode=S_IFREG|0644, st_size=2996, ...}) = 0"),
    ("newfstatat", (1, P, P, 0x1000), 0, [piece(1, b"")], [piece(2, _DEVICE)],
     'newfstatat(1, "", {st_mode=S_IFCHR|0666, st_rdev=makedev(0x1, 0x3), ...}, AT_EMPTY_PATH) = 0'),
    ("access", (P, 4), -2, [piece(0, b"/etc/ld.so.preload")], [],
     'access("/etc/ld.so.preload", R_OK) = -1 ENOENT (No such file or directory)'),
    ("faccessat2", (-100, P, 0, 0x200), 0, [piece(1, b"x")], [], 'faccessat2(AT_FDCWD, "x", F_OK, AT_EACCESS) = 0'),
    ("wait4", (-1, P, 0, 0), 123, [], [piece(1, b"\0\7\0\0")],
     "wait4(-1, [{WIFEXITED(s) && WEXITSTATUS(s) == 7}], 0, NULL) = 123"),
    ("wait4", (-1, P, 0, 0), 123, [], [piece(1, b"\x8b\0\0\0")],
     "wait4(-1, [{WIFSIGNALED(s) && WTERMSIG(s) == SIGSEGV && WCOREDUMP(s)}], 0, NULL) = 123"),
    ("wait4", (-1, P, 3, 0), 9, [], [piece(1, b"\x7f\x13\0\0")],
     "wait4(-1, [{WIFSTOPPED(s) && WSTOPSIG(s) == SIGSTOP}], WNOHANG|WSTOPPED, NULL) = 9"),
    ("wait4", (-1, P, 1, 0), 0, [], [piece(1, b"\0\0\0\0")], f"wait4(-1, {P:#x}, WNOHANG, NULL) = 0"),
    ("wait4", (-1, P, 0, 0), -10, [], [], f"wait4(-1, {P:#x}, 0, NULL) = -1 ECHILD (No child processes)"),
    ("wait4", (-1, P, 0, 0), -512, [], [],
     f"wait4(-1, {P:#x}, 0, NULL) = ? ERESTARTSYS (To be restarted if SA_RESTART is set)"),
    ("clone", (0x1200011, 0, 0, P, 0), 77, [], [],
     f"clone(child_stack=NULL, flags=CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD, child_tidptr={P:#x}) = 77"),
    ("execve", (P, P, P), 0,
     [piece(0, b"/bin/ls"), piece(1, b"ls", part=1), piece(1, b"y" * 33, CUT, 2), piece(2, b"\2\0\0\0")], [],
     f'execve("/bin/ls", ["ls", "{"y" * 32}"...], {P:#x} /* 2 vars */) = 0'),
    ("socket", (2, 0o2004001, 6), 3, [], [], "socket(AF_INET, SOCK_STREAM|SOCK_CLOEXEC|SOCK_NONBLOCK, IPPROTO_TCP) = 3"),
    ("connect", (3, P, 16), -115, [piece(1, _IN)], [],
     'connect(3, {sa_family=AF_INET, sin_port=htons(8080), sin_addr=inet_addr("127.0.0.1")}, 16)'
     " = -1 EINPROGRESS (Operation now in progress)"),
    ("connect", (3, P, 110), -2, [piece(1, b"\1\0/var/run/nscd/socket" + b"\0" * 88)], [],
     'connect(3, {sa_family=AF_UNIX, sun_path="/var/run/nscd/socket"}, 110) = -1 ENOENT (No such file or directory)'),
    ("bind", (3, P, 9), 0, [piece(1, b"\1\0\0abc\n\1\xff")], [],
     'bind(3, {sa_family=AF_UNIX, sun_path=@"abc\\n\\1\\377"}, 9) = 0'),
    ("bind", (3, P, 12), 0, [piece(1, _NETLINK)], [],
     "bind(3, {sa_family=AF_NETLINK, nl_pid=0, nl_groups=00000000}, 12) = 0"),
    ("accept4", (3, P, P, 0o2000000), 4, [piece(2, b"\x80\0\0\0")], [piece(1, _IN), piece(2, b"\x10\0\0\0")],
     'accept4(3, {sa_family=AF_INET, sin_port=htons(8080), sin_addr=inet_addr("127.0.0.1")}, [128 => 16], SOCK_CLOEXEC) = 4'),
    ("getsockopt", (3, 1, 4, P, P), 0, [piece(4, b"\4\0\0\0")], [piece(3, b"\0\0\0\0"), piece(4, b"\4\0\0\0")],
     "getsockopt(3, SOL_SOCKET, SO_ERROR, [0], [4]) = 0"),
    ("setsockopt", (3, 6, 1, P, 4), 0, [], [piece(3, b"\1\0\0\0")], "setsockopt(3, SOL_TCP, TCP_NODELAY, [1], 4) = 0"),
    ("setsockopt", (3, 282, 1, P, 40), 0, [], [piece(3, b"k" * 16)], 'setsockopt(3, SOL_TLS, 1, ""..., 40) = 0'),
    ("getsockopt", (3, 282, 1, P, P), 0, [piece(4, b"\x28\0\0\0")], [piece(3, b"k" * 40), piece(4, b"\x28\0\0\0")],
     'getsockopt(3, SOL_TLS, 1, ""..., [40]) = 0'),
    ("recvmsg", (3, P, 0), 7, [piece(1, _MSGHDR)],
     [piece(1, _MSGHDR), piece(1, longs(P, 4, P, 10), part=1002), piece(1, b"abcd", part=1), piece(1, b"efghij", part=2),
      piece(1, _CONTROL, part=1001)],
     'recvmsg(3, {msg_name=NULL, msg_namelen=0, msg_iov=[{iov_base="abcd", iov_len=4}, {iov_base="efg", iov_len=10}],'
     " msg_iovlen=2, msg_control=[{cmsg_len=20, cmsg_level=SOL_SOCKET, cmsg_type=SCM_RIGHTS, cmsg_data=[5]}],"
     " msg_controllen=24, msg_flags=0}, 0) = 7"),
    ("writev", (1, P, 2), 42, [piece(1, longs(P, 2, P, 40)), piece(1, b"ab", part=1), piece(1, b"c" * 33, part=2)], [],
     f'writev(1, [{{iov_base="ab", iov_len=2}}, {{iov_base="{"c" * 32}"..., iov_len=40}}], 2) = 42'),
    ("poll", (P, 2, 10), 1, [piece(0, struct.pack("<iHHiHH", 5, 1, 0, 6, 0x14, 0))],
     [piece(0, struct.pack("<iHHiHH", 5, 1, 1, 6, 0x14, 0))],
     "poll([{fd=5, events=POLLIN}, {fd=6, events=POLLOUT|POLLHUP}], 2, 10) = 1 ([{fd=5, revents=POLLIN}])"),
    ("poll", (P, 1, 10), 0, [piece(0, struct.pack("<iHH", 5, 1, 0))], [], "poll([{fd=5, events=POLLIN}], 1, 10) = 0 (Timeout)"),
    ("pselect6", (15, P, P, 0, P, 0), 2,
     [piece(1, longs(1 << 13).ljust(128, b"\0")), piece(2, longs(1 << 14).ljust(128, b"\0")), piece(4, longs(0, 500000000))],
     [piece(1, longs(1 << 13).ljust(128, b"\0")), piece(2, longs(1 << 14).ljust(128, b"\0")), piece(4, longs(0, 499997134))],
     "pselect6(15, [13], [14], NULL, {tv_sec=0, tv_nsec=500000000}, NULL) = 2"
     " (in [13], out [14], left {tv_sec=0, tv_nsec=499997134})"),
    ("epoll_ctl", (3, 1, 5, P), 0, [], [piece(3, struct.pack("<IQ", 0x80000001, 5))],
     "epoll_ctl(3, EPOLL_CTL_ADD, 5, {events=EPOLLIN|EPOLLET, data={u32=5, u64=5}}) = 0"),
    ("epoll_wait", (3, P, 8, -1), 1, [], [piece(1, struct.pack("<IQ", 1, 5))],
     "epoll_wait(3, [{events=EPOLLIN, data={u32=5, u64=5}}], 8, -1) = 1"),
    ("fcntl", (3, 3), 0x8401, [], [], "fcntl(3, F_GETFL) = 0x8401 (flags O_WRONLY|O_APPEND|O_LARGEFILE)"),
    ("fcntl", (3, 2, 1), 0, [], [piece(2, b"", FAULT)], "fcntl(3, F_SETFD, FD_CLOEXEC) = 0"),
    ("fcntl", (3, 6, P), 0, [], [piece(2, struct.pack("<hh4xqqi4x", 1, 0, 5, 10, 0))],
     "fcntl(3, F_SETLK, {l_type=F_WRLCK, l_whence=SEEK_SET, l_start=5, l_len=10}) = 0"),
    ("futex", (P, 0x189, 0, 0, 0, 0xFFFFFFFF), -11, [], [],
     f"futex({P:#x}, FUTEX_WAIT_BITSET_PRIVATE|FUTEX_CLOCK_REALTIME, 0, NULL, FUTEX_BITSET_MATCH_ANY)"
     " = -1 EAGAIN (Resource temporarily unavailable)"),
    ("futex", (P, 0x81, 1, P, 7, 9), 0, [], [piece(3, b"", FAULT)], f"futex({P:#x}, FUTEX_WAKE_PRIVATE, 1) = 0"),
    ("ioctl", (1, 0x5401, P), -25, [], [], f"ioctl(1, TCGETS, {P:#x}) = -1 ENOTTY (Inappropriate ioctl for device)"),
    ("ioctl", (1, 0x5413, P), 0, [], [piece(2, struct.pack("<4H28x", 24, 80, 0, 0))],
     "ioctl(1, TIOCGWINSZ, {ws_row=24, ws_col=80, ws_xpixel=0, ws_ypixel=0}) = 0"),
    ("ioctl", (1, 0x12345678, 5), -25, [], [],
     "ioctl(1, _IOC(_IOC_NONE, 0x56, 0x78, 0x1234), 0x5) = -1 ENOTTY (Inappropriate ioctl for device)"),
    ("ioctl", (0, 0x5401, P), 0, [], [piece(2, _TERMINAL)],
     "ioctl(0, TCGETS, {c_iflag=ICRNL|IXON, c_oflag=NL0|CR0|TAB0|BS0|VT0|FF0|OPOST|ONLCR, c_cflag=B38400|CS8|CREAD,"
     " c_lflag=ISIG|ICANON|ECHO|ECHOE|ECHOK|IEXTEN|ECHOCTL|ECHOKE, ...}) = 0"),
    ("ioctl", (0, 0x5401, P), 0, [], [piece(2, struct.pack("<4I20x", 0, 0, 0o17, 0))],
     "ioctl(0, TCGETS, {c_iflag=, c_oflag=NL0|CR0|TAB0|BS0|VT0|FF0|, c_cflag=B38400|CS5|, c_lflag=, ...}) = 0"),
    ("ioctl", (6, 0xB701, 7), 7, [], [], "ioctl(6, NS_GET_USERNS) = 7"),
    ("prctl", (15, P), 0, [], [piece(1, b"newname\0........")], 'prctl(PR_SET_NAME, "newname") = 0'),
    ("prctl", (15, P), 0, [], [piece(1, b"C1 CompilerThread")], 'prctl(PR_SET_NAME, "C1 CompilerThre"...) = 0'),
    ("prctl", (47, 1, 2, 0, 0), 0, [], [], "prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_DAC_READ_SEARCH, 0, 0) = 0"),
    ("personality", (0x40000,), 0, [], [], "personality(PER_LINUX|ADDR_NO_RANDOMIZE) = 0 (PER_LINUX)"),
    ("capset", (P, P), 0, [], [piece(0, struct.pack("<Ii", 0x20080522, 7)), piece(1, struct.pack("<6I", 3, 1, 0, 1, 0, 0))],
     "capset({version=_LINUX_CAPABILITY_VERSION_3, pid=7}, {effective=1<<CAP_CHOWN|1<<CAP_DAC_OVERRIDE|1<<CAP_MAC_OVERRIDE,"
     " permitted=1<<CAP_CHOWN, inheritable=0}) = 0"),
    ("shmget", (0xCB1D856C, 100, 0o1644), 5, [], [], "shmget(0xcb1d856c, 100, IPC_CREAT|0644) = 5"),
    ("semop", (3, P, 1), 0, [piece(1, struct.pack("<Hhh", 0, -1, 0x1000))], [],
     "semop(3, [{sem_num=0, sem_op=-1, sem_flg=SEM_UNDO}], 1) = 0"),
    ("timer_create", (0, P, P), 0, [], [piece(1, struct.pack("<Qii48x", 0, 14, 0)), piece(2, b"\0\0\0\0")],
     "timer_create(CLOCK_REALTIME, {sigev_signo=SIGALRM, sigev_notify=SIGEV_SIGNAL}, [0]) = 0"),
    ("socket", (2, 2, 0), 3, [], [], "socket(AF_INET, SOCK_DGRAM, IPPROTO_IP) = 3"),
    ("flistxattr", (3, P, 0), 0, [], [], f"flistxattr(3, {P:#x}, 0) = 0"),
    ("flistxattr", (3, P, 9), 0, [], [], 'flistxattr(3, "", 9) = 0'),
    ("socket", (17, 3, 0x0300), 3, [], [], "socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL)) = 3"),
    ("arch_prctl", (0x1002, P), 0, [], [], f"arch_prctl(ARCH_SET_FS, {P:#x}) = 0"),
    ("getdents64", (3, P, 32768), 48, [], [piece(1, struct.pack("<I", 2))],
     f"getdents64(3, {P:#x} /* 2 entries */, 32768) = 48"),
    ("rt_sigaction", (2, P, 0, 8), 0, [], [piece(1, _SIGACTION)],
     "rt_sigaction(SIGINT, {sa_handler=0x5555, sa_mask=~[RTMIN RT_1], sa_flags=SA_RESTORER|SA_RESTART,"
     " sa_restorer=0x7fff}, NULL, 8) = 0"),
    ("rt_sigprocmask", (0, P, P, 8), 0, [], [piece(1, longs(1 << 16 | 2)), piece(2, longs(0))],
     "rt_sigprocmask(SIG_BLOCK, [INT CHLD], [], 8) = 0"),
    ("kill", (-5, 15), 0, [], [], "kill(-5, SIGTERM) = 0"),
    ("clock_nanosleep", (1, 1, P, 0), -514, [piece(2, longs(5, 6))], [],
     "clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, {tv_sec=5, tv_nsec=6}, NULL)"
     " = ? ERESTARTNOHAND (To be restarted if no handler)"),
    ("prlimit64", (0, 3, 0, P), 0, [], [piece(3, struct.pack("<QQ", 8 << 20, (1 << 64) - 1))],
     "prlimit64(0, RLIMIT_STACK, NULL, {rlim_cur=8192*1024, rlim_max=RLIM64_INFINITY}) = 0"),
    ("pipe2", (P, 0o2000000), 0, [], [piece(0, struct.pack("<ii", 3, 4))], "pipe2([3, 4], O_CLOEXEC) = 0"),
    ("readlink", (P, P, 4096), 40, [piece(0, b"/proc/self/exe")], [piece(1, b"/" + b"a" * 32)],
     f'readlink("/proc/self/exe", "/{"a" * 31}"..., 4096) = 40'),
    ("getcwd", (P, 4096), 5, [], [piece(0, b"/tmp\0")], 'getcwd("/tmp", 4096) = 5'),
    ("umask", (0o22,), 0o2, [], [], "umask(022) = 002"),
    ("lseek", (3, -5, 2), 7, [], [], "lseek(3, -5, SEEK_END) = 7"),
    ("getrandom", (P, 2, 1), 2, [], [piece(0, b"\xa2G")], 'getrandom("\\xa2\\x47", 2, GRND_NONBLOCK) = 2'),
    ("set_robust_list", (P, 24), 0, [], [], f"set_robust_list({P:#x}, 24) = 0"),
    ("rseq", (P, 0x20, 0, 0x53053053), 0, [], [], f"rseq({P:#x}, 0x20, 0, 0x53053053) = 0"),
    ("mkdir", (P, 0o755), 0, [piece(0, b"d")], [], 'mkdir("d", 0755) = 0'),
    ("unlinkat", (-100, P, 0x200), 0, [piece(1, b"d")], [], 'unlinkat(AT_FDCWD, "d", AT_REMOVEDIR) = 0'),
    ("ustat", (0x801, P), -22, [], [], f"ustat(dev=0x801, ubuf={P:#x}) = -1 EINVAL (Invalid argument)"),
    ("sched_yield", (), 0, [], [], "sched_yield() = 0"),
    (500, (1, 2, 3, 4, 5, 6), -38, [], [],
     "syscall_0x1f4(0x1, 0x2, 0x3, 0x4, 0x5, 0x6) = -1 ENOSYS (Function not implemented)"),
    ("exit_group", (3,), 0, [], [], "exit_group(3) = ?"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "args", "ret", "before", "after", "expected"), LINES, ids=lambda value: str(value)[:40]
)
def test_a_call_is_written_as_strace_writes_it(decoder, name, args, ret, before, after, expected):  # noqa: PLR0913
    if name == "sched_yield":  # no arguments, and so no format here
        decoder = Decoder("x86_64", {"sched_yield": parse_format("sched_yield", "")})
    assert line(decoder, name, args, ret, before, after) == expected


@pytest.mark.parametrize(
    ("name", "args", "pieces", "expected"),
    [
        ("wait4", (-1, P, 0, 0), [], ["-1"]),
        ("read", (3, P, 10), [], ["3"]),
        ("openat", (-100, P, 0), [piece(1, b"x")], ["AT_FDCWD", '"x"', "O_RDONLY"]),
        ("accept", (3, P, P), [piece(2, b"\x10\0\0\0")], ["3"]),
        ("nanosleep", (P, 0), [piece(0, longs(1, 0))], ["{tv_sec=1, tv_nsec=0}"]),
    ],
)
def test_of_a_call_that_goes_on_only_what_is_known_is_written(decoder, name, args, pieces, expected):
    assert decoder.arguments(event(ENTER, name, args, pieces), None) == expected


def test_what_was_lost_of_the_entry_is_taken_from_the_return(decoder):
    done = event(RETURN, "openat", (-100, P, 0), [piece(1, b"late")], 3)
    assert decoder.arguments(None, done) == ["AT_FDCWD", '"late"', "O_RDONLY"]


def test_values_are_for_machines(decoder):
    enter = event(ENTER, "openat", (-100, P, 0o2000000), [piece(1, b"a\n\xff")])
    found = decoder.values(enter, event(RETURN, "openat", enter.args, (), 3))
    assert found == {"dfd": "AT_FDCWD", "filename": "a\n\\xff", "a2": "O_RDONLY|O_CLOEXEC"}
    assert decoder.values(None, event(RETURN, "close", (7,), (), 0)) == {
        "a0": "0x7",
        **{f"a{n}": "0" for n in range(1, 6)},
    }
    clone = decoder.values(None, event(RETURN, "clone", (0x11, 0), (), 5))
    assert clone == {"a1": "NULL", "a0": "SIGCHLD"}
    assert decoder.values(None, event(RETURN, "ustat", (7, P), (), 0)) == {"dev": "0x7", "ubuf": f"{P:#x}"}


_CHILD = struct.pack("<iiiiiIiiqq", 17, 0, 1, 0, 4321, 0, 3, 0, 12, 0)


@pytest.mark.parametrize(
    ("number", "data", "expected"),
    [
        (17, _CHILD, "--- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=4321, si_uid=0, si_status=3,"
                     " si_utime=12 /* 0.12 s */, si_stime=0} ---"),
        (15, struct.pack("<iiiiii24x", 15, 0, 0, 0, 7, 1000), "--- SIGTERM {si_signo=SIGTERM, si_code=SI_USER, si_pid=7,"
                                                              " si_uid=1000} ---"),
        (11, struct.pack("<iiiiQ24x", 11, 0, 1, 0, 0), "--- SIGSEGV {si_signo=SIGSEGV, si_code=SEGV_MAPERR, si_addr=NULL} ---"),
        (14, struct.pack("<iii36x", 14, 0, 0x80), "--- SIGALRM {si_signo=SIGALRM, si_code=SI_KERNEL} ---"),
    ],
)  # fmt: skip
def test_signals(decoder, number, data, expected):
    assert decoder.signal(event(SIGNAL, 0, (number,), [piece(0, data)])) == expected


@pytest.mark.parametrize(
    ("code", "expected"),
    [(0, "+++ exited with 0 +++"), (0x700, "+++ exited with 7 +++"), (9, "+++ killed by SIGKILL +++"),
     (0x86, "+++ killed by SIGABRT (core dumped) +++")],
)  # fmt: skip
def test_endings(decoder, code, expected):
    assert decoder.ending(event(EXIT, 0, ret=code)) == expected


def test_calls_of_other_abis_have_names_and_strings(decoder):
    compat = event(ENTER, 1024 + 295, (-100, P, 0o2000000), [piece(1, b"/x")])
    assert decoder.name(compat.nr) == "openat"
    assert '"/x"' in ", ".join(decoder.arguments(compat, None))
    assert decoder.name(2048 + 520) == "execve"
    assert decoder.name(3 * 1024 + 1) == "syscall_0x1"


def test_a_kernel_without_formats_has_names_and_plain_arguments():
    bare = Decoder("x86_64", {})
    assert (
        line(bare, "ustat", (1, 2), -22)
        == "ustat(a0=0x1, a1=0x2, a2=0, a3=0, a4=0, a5=0) = -1 EINVAL (Invalid argument)"
    )
    assert line(bare, "close", (3,), 0).startswith("close(a0=0x3")
    assert line(bare, "umask", (0,), 0o22) == "umask(000) = 022"


def test_other_machines_have_other_layouts():
    arm = Decoder("aarch64", {})
    stat = struct.pack("<16xI12xQ8xQ72x", 0o100600, 0, 77)
    done = Event(1, 1, 1, 1, RETURN, 80, 0, 0, 0, 0, (3, P, 0, 0, 0, 0), (piece(1, stat),))
    assert (arm.name(80), arm.arguments(None, done)) == ("fstat", ["3", "{st_mode=S_IFREG|0600, st_size=77, ...}"])
    ready = struct.pack("<I4xQ", 1, 5)
    done = Event(1, 1, 1, 1, RETURN, 22, 0, 0, 0, 1, (3, P, 8, 0, 0, 8), (piece(1, ready),))
    assert arm.arguments(None, done)[1] == "[{events=EPOLLIN, data={u32=5, u64=5}}]"
    done = Event(1, 1, 1, 1, RETURN, 220, 0, 0, 0, 9, (0x1280011, 0, 0, 7, 8, 0), ())
    assert arm.arguments(None, done)[2:] == ["tls=0x7", "child_tidptr=0x8"]


def test_a_call_goes_on_under_the_name_of_what_was_interrupted(decoder):
    interrupted = event(RETURN, "poll", (P, 1, -1), ret=-516)
    decoder.arguments(None, interrupted)
    decoder.result(interrupted)
    assert line(decoder, "restart_syscall", (), 1) == "restart_syscall(<... resuming interrupted poll ...>) = 1"
