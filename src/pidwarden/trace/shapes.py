"""What the arguments of the decoded calls are: one word each. Pure.

The kernel publishes names and C types, but not which flags an ``int flags`` takes, nor what a pointer is for: that is
said here for the calls whose text has to be strace's. All others follow the rules of :func:`shape`.

A word is a kind of formatters.py or structs.py, or a name of flags.py. ``>`` before it: the call fills it in; ``<>``:
it reads it and fills it in; else the call reads it. ``[n]``: argument n says how many or how long, ``[r]``: the result
does. ``!`` after a word: captured at the return only, as the call neither changes it nor waits. ``@n``: it is argument
n, not that of its place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pidwarden.trace.flags import BY_NAME
from pidwarden.trace.structs import ARRAYS, KINDS

if TYPE_CHECKING:
    from pidwarden.trace.signature import Signature

_LIST: Final = """
accept          fd >sockaddr[2] <>socklen
accept4         fd >sockaddr[2] <>socklen sock_flags
access          path access
alarm           u32
arch_prctl      arch arch_arg
bind            fd sockaddr[2] d
brk             addr
capget          cap_header >cap_data
capset          cap_header! cap_data!
chmod           path o
clock_getres    clock >timespec
clock_gettime   clock >timespec
clock_nanosleep clock timer timespec >left
clock_settime   clock timespec
clone           clone_stack@1 clone_flags@0 >clone_parent@2 clone_tls@4 clone_child@3
clone3          clone_args u
close_range     u32 u32 close_range
connect         fd sockaddr[2] d
copy_file_range fd long fd long u x32
creat           path o
dup             fd
dup2            fd fd
dup3            fd fd pipe
epoll_create    d
epoll_create1   epoll_create
epoll_ctl       fd epoll_op fd epoll_ctl!
epoll_pwait     fd >epoll_event[r] d d sigset[5] u
epoll_pwait2    fd >epoll_event[r] d timespec sigset[5] u
epoll_wait      fd >epoll_event[r] d d
eventfd         u32
eventfd2        u32 eventfd
execve          path argv envp
execveat        dirfd path argv envp at
exit            d
exit_group      d
faccessat       dirfd path access
faccessat2      dirfd path access at_access
fadvise64       fd ld u fadvise
fallocate       fd fallocate ld ld
fchmod          fd o
fchmodat        dirfd path o
fchmodat2       dirfd path o at
fchownat        dirfd path id id at
fcntl           fd fcntl fcntl_arg
fgetxattr       fd str >xvalue[r] u
flistxattr      fd >list[r] u
flock           fd flock
fsetxattr       fd str xvalue[3] u xattr
fstat           fd >stat
fstatfs         fd >statfs
ftruncate       fd ld
futex           addr futex futex_arg futex_arg futex_arg futex_arg
futimesat       dirfd path two_timevals
getcwd          >cwd[r] u
getdents        fd >dents[r] u32
getdents64      fd >dents64[r] u32
getitimer       itimer >itimerval
getpeername     fd >sockaddr[2] <>socklen
getpriority     priority d
getrandom       >random[r] u getrandom
getresgid       >unsigned >unsigned >unsigned
getresuid       >unsigned >unsigned >unsigned
getrlimit       resource >rlimit
getrusage       usage >rusage
getsockname     fd >sockaddr[2] <>socklen
getsockopt      fd socket_level socket_option >sockopt[4] <>socklen
gettimeofday    >timeval >timezone
getxattr        path str >xvalue[r] u
getgroups       d >groups[r]
inotify_add_watch fd path inotify
inotify_init1   inotify_init
inotify_rm_watch fd d
ioctl           fd ioctl ioctl_arg
kill            d signal
lgetxattr       path str >xvalue[r] u
linkat          dirfd path dirfd path at
listen          fd d
listxattr       path >list[r] u
llistxattr      path >list[r] u
lseek           fd ld seek
lsetxattr       path str xvalue[3] u xattr
lstat           path >stat
madvise         addr u madvise
memfd_create    str memfd
mkdir           path o
mkdirat         dirfd path o
mknod           path file_mode device
mknodat         dirfd path file_mode device
mlock           addr u
mlock2          addr u x32
mlockall        mcl
mmap            addr u prot map fd x
mount           path path mount_type mount mount_data
mprotect        addr u prot
mq_timedreceive fd >data[r] u >unsigned timespec
mq_timedsend    fd data[2] u u32 timespec
mremap          addr u u mremap mremap_to
msgget          ipc_key ipc_flags
msync           addr u msync
munlock         addr u
munmap          addr u
nanosleep       timespec >left
newfstatat      dirfd path >stat at
open            path open create
openat          dirfd path open create
openat2         dirfd path open_how u
personality     personality
pidfd_open      d pidfd
pidfd_send_signal fd signal siginfo x32
pidfd_getfd     fd fd x32
pipe            >pair
pipe2           >pair pipe
pkey_mprotect   addr u prot d
poll            <>pollfd[1] u32 d
ppoll           <>pollfd[1] u32 <>timespec sigset[4] u
prctl           prctl prctl_arg prctl_arg prctl_arg prctl_arg
pread64         fd >data[r] u ld
preadv          fd >iov[2] u ld
preadv2         fd >iov[2] u ld rwf@5
prlimit64       d resource rlimit! >rlimit
pselect6        d <>fdset[0] <>fdset[0] <>fdset[0] <>timespec sigmask6
ptrace          ptrace ptrace_arg ptrace_arg ptrace_arg
pwrite64        fd data[2] u ld
pwritev         fd iov[2] u ld
pwritev2        fd iov[2] u ld rwf@5
read            fd >data[r] u
readahead       fd ld u
readlink        path >link[r] u
readlinkat      dirfd path >link[r] u
readv           fd >iov[2] u
recvfrom        fd >data[r] u msg >sockaddr[5] <>socklen
recvmsg         fd <>msghdr msg
removexattr     path str
renameat2       dirfd path dirfd path rename
restart_syscall
rseq            addr x32 x32 x32
rt_sigaction    signal sigaction! >sigaction u
rt_sigpending   >sigset[1] u
rt_sigprocmask  sig_how sigset[3]! >sigset[3] u
rt_sigqueueinfo d signal siginfo
rt_sigreturn    sigreturn
rt_sigsuspend   sigset[1] u
rt_sigtimedwait sigset[3] >siginfo timespec u
rt_tgsigqueueinfo d d signal siginfo
sched_getaffinity d u32 >cpus[r]
sched_getparam  d >int
sched_get_priority_max scheduler
sched_get_priority_min scheduler
sched_getscheduler d
sched_rr_get_interval d >timespec
sched_setaffinity d u32 cpus[1]!
sched_setparam  d int!
sched_setscheduler d scheduler int!
seccomp         seccomp seccomp_flags filters!
semctl          d d ipc_command x
semget          ipc_key d ipc_flags
semop           d sembuf[2] u
semtimedop      d sembuf[2] u timespec
select          d <>fdset[0] <>fdset[0] <>fdset[0] <>timeval
sendfile        fd fd <>offset u
sendmsg         fd msghdr msg
sendto          fd data[2] u msg sockaddr[5] d
setgroups       u32 groups[0]!
setitimer       itimer itimerval! >itimerval
setns           fd namespace
setpgid         d d
setpriority     priority d d
setrlimit       resource rlimit!
setsockopt      fd socket_level socket_option setsockopt[4]! d
setxattr        path str xvalue[3] u xattr
shmat           d addr shm_flags
shmctl          d ipc_command addr
shmdt           addr
shmget          ipc_key u ipc_flags
set_robust_list addr u
set_tid_address addr
shutdown        fd shutdown
sigaltstack     sigaltstack! >sigaltstack
signalfd        fd sigset[2] u
signalfd4       fd sigset[2] u signalfd
socket          family socket_type protocol
socketpair      family socket_type u32 >pair
splice          fd long fd long u splice
stat            path >stat
statfs          path >statfs
statx           dirfd path statx_flags statx_mask >statx
symlinkat       path dirfd path
sync_file_range fd ld ld sync_range
sysinfo         >sysinfo
tee             fd fd u splice
tgkill          d d signal
time            >long
timer_create    clock sigevent! >int
timer_delete    d
timerfd_create  clock timerfd
timerfd_gettime fd >itimerspec
timerfd_settime fd timerfd itimerspec! >itimerspec
timer_getoverrun d
timer_gettime   d >itimerspec
timer_settime   d timer itimerspec! >itimerspec
times           >tms
tkill           d signal
truncate        path ld
umask           o
umount2         path umount
uname           >uname
unlinkat        dirfd path at
unshare         unshare
utimensat       dirfd path utimes at
utimes          path two_timevals
vmsplice        fd iov[2] u splice
wait4           d >status wait >child_usage
waitid          wait_id d >siginfo wait >rusage
write           fd data[2] u
writev          fd iov[2] u
"""
CALLS: Final = {name: tuple(words) for name, *words in map(str.split, _LIST.strip().splitlines())}

# On other machines than x86_64 two structs and the last arguments of clone(2) (CONFIG_CLONE_BACKWARDS) lie otherwise.
_GENERIC: Final = {
    ">stat": ">stat_generic", ">epoll_event[r]": ">epoll_event_generic[r]", "epoll_ctl!": "epoll_ctl_generic!",
    "clone_tls@4": "clone_tls@3", "clone_child@3": "clone_child@4",
}  # fmt: skip

# What a type or a name alone says, and what strace writes for it too.
_PATHS: Final = ("filename", "pathname", "path", "oldname", "newname", "new_root", "put_old", "specialfile")
_DESCRIPTORS: Final = ("fd", "fildes", "oldfd", "newfd", "pidfd", "ufd", "epfd", "mqdes")
_BY_TYPE: Final = {
    "pid_t": "d", "uid_t": "id", "gid_t": "id", "size_t": "u", "loff_t": "ld", "off_t": "ld", "umode_t": "o",
    "const clockid_t": "clock", "clockid_t": "clock", "const struct __kernel_timespec *": "timespec",
}  # fmt: skip
# What is only a guess: the call is written with the names of its arguments.
_GUESSES: Final = {
    "int": "d", "unsigned int": "u32", "unsigned": "u32", "u32": "u32", "__u32": "u32", "const __u32": "u32",
    "const int": "d", "long": "ld", "__s32": "d", "key_t": "d", "timer_t": "d", "qid_t": "u32", "key_serial_t": "d",
}  # fmt: skip
_BITS: Final = ("flags", "flag", "mask", "mode", "attr_flags", "at_flags", "dev", "magic1", "magic2")


def shape(signature: Signature, *, own: bool = True, machine: str = "x86_64") -> tuple[tuple[str, ...], bool]:
    """A word for each argument; and whether they are sure, so that the names need not be written.

    `own`: it is a call of the machine's own ABI, else numbers and strings alone mean the same.
    """
    if own and signature.name in CALLS:
        words = CALLS[signature.name]
        return words if machine == "x86_64" else tuple(_GENERIC.get(word, word) for word in words), True
    found = [_word(kind, name) for kind, name in signature.args]
    for n, (kind, _name) in enumerate(signature.args[1:], 1):
        if kind == "size_t" and found[n - 1][0] == "str":  # as long as that says, and without an end of its own
            found[n - 1] = f"data[{n}]", False
    plain = tuple(word if own or word in _PLAIN or word.startswith("data[") else "x" for word, _sure in found)
    return plain, own and all(sure for _word, sure in found)


_PLAIN: Final = frozenset(("fd", "dirfd", "path", "str", "d", "u32", "id", "o", "x", "x32", "addr"))


def _word(kind: str, name: str) -> tuple[str, bool]:  # noqa: PLR0911  (one rule each)
    if kind in ("const char *", "char *"):
        return ("path", True) if name in _PATHS else ("str", False) if kind == "const char *" else ("addr", False)
    if "*" in kind and kind not in _BY_TYPE:
        return "addr", False
    if name == "dfd" or name.endswith("dfd"):
        return "dirfd", True
    if name in _DESCRIPTORS or name.endswith("_fd"):
        return "fd", True
    if kind in _BY_TYPE:
        return _BY_TYPE[kind], True
    if name in _BITS:
        return ("x32" if "long" not in kind else "x"), False
    return _GUESSES.get(kind, "x"), False


def checked() -> list[str]:
    """Words of the table that mean nothing; for a test."""
    from pidwarden.trace.formatters import MAKERS  # noqa: PLC0415

    known = {*BY_NAME, *KINDS, *ARRAYS, *MAKERS}
    words = {word for words in CALLS.values() for word in words}
    return sorted(word for word in words if word.strip("<>!").split("[")[0].split("@")[0] not in known)
