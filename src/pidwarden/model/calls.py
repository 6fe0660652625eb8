"""System calls that may wait for a file: their names, and which of their arguments is a descriptor.

Numbers are those of arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h (arm64, riscv64).
"""

from __future__ import annotations

_X86_64 = {
    0: "read", 1: "write", 2: "open", 3: "close", 4: "stat", 5: "fstat", 6: "lstat", 7: "poll", 8: "lseek", 9: "mmap",
    11: "munmap", 16: "ioctl", 17: "pread64", 18: "pwrite64", 19: "readv", 20: "writev", 21: "access", 26: "msync",
    28: "madvise", 32: "dup", 33: "dup2", 34: "pause", 35: "nanosleep", 40: "sendfile", 42: "connect", 44: "sendto",
    45: "recvfrom", 46: "sendmsg", 47: "recvmsg", 56: "clone", 57: "fork", 58: "vfork", 59: "execve", 60: "exit",
    61: "wait4", 72: "fcntl", 73: "flock", 74: "fsync", 75: "fdatasync", 76: "truncate", 77: "ftruncate",
    78: "getdents", 79: "getcwd", 80: "chdir", 81: "fchdir", 82: "rename", 83: "mkdir", 84: "rmdir", 85: "creat",
    86: "link", 87: "unlink", 88: "symlink", 89: "readlink", 90: "chmod", 91: "fchmod", 92: "chown", 93: "fchown",
    94: "lchown", 101: "ptrace", 132: "utime", 133: "mknod", 137: "statfs", 138: "fstatfs", 155: "pivot_root",
    161: "chroot", 162: "sync", 165: "mount", 166: "umount2", 167: "swapon", 168: "swapoff", 188: "setxattr",
    189: "lsetxattr", 190: "fsetxattr", 191: "getxattr", 192: "lgetxattr", 193: "fgetxattr", 202: "futex",
    217: "getdents64", 230: "clock_nanosleep", 231: "exit_group", 235: "utimes", 247: "waitid", 257: "openat",
    258: "mkdirat", 259: "mknodat", 260: "fchownat", 262: "newfstatat", 263: "unlinkat", 264: "renameat", 265: "linkat",
    266: "symlinkat", 267: "readlinkat", 268: "fchmodat", 269: "faccessat", 272: "unshare", 275: "splice",
    277: "sync_file_range", 280: "utimensat", 285: "fallocate", 295: "preadv", 296: "pwritev", 306: "syncfs",
    308: "setns", 316: "renameat2", 322: "execveat", 326: "copy_file_range", 327: "preadv2", 328: "pwritev2",
    332: "statx", 426: "io_uring_enter", 428: "open_tree", 435: "clone3", 437: "openat2", 439: "faccessat2",
}  # fmt: skip
_GENERIC = {
    5: "setxattr", 6: "lsetxattr", 7: "fsetxattr", 8: "getxattr", 9: "lgetxattr", 10: "fgetxattr", 17: "getcwd",
    23: "dup", 24: "dup3", 25: "fcntl", 29: "ioctl", 32: "flock", 33: "mknodat", 34: "mkdirat", 35: "unlinkat",
    36: "symlinkat", 37: "linkat", 38: "renameat", 39: "umount2", 40: "mount", 41: "pivot_root", 43: "statfs",
    44: "fstatfs", 45: "truncate", 46: "ftruncate", 47: "fallocate", 48: "faccessat", 49: "chdir", 50: "fchdir",
    51: "chroot", 52: "fchmod", 53: "fchmodat", 54: "fchownat", 55: "fchown", 56: "openat", 57: "close",
    61: "getdents64", 62: "lseek", 63: "read", 64: "write", 65: "readv", 66: "writev", 67: "pread64", 68: "pwrite64",
    69: "preadv", 70: "pwritev", 71: "sendfile", 76: "splice", 78: "readlinkat", 79: "newfstatat", 80: "fstat",
    81: "sync", 82: "fsync", 83: "fdatasync", 84: "sync_file_range", 88: "utimensat", 93: "exit", 94: "exit_group",
    95: "waitid", 97: "unshare", 98: "futex", 101: "nanosleep", 115: "clock_nanosleep", 117: "ptrace",
    203: "connect", 206: "sendto", 207: "recvfrom", 211: "sendmsg", 212: "recvmsg", 215: "munmap", 220: "clone",
    221: "execve", 222: "mmap", 224: "swapon", 225: "swapoff", 227: "msync", 233: "madvise", 260: "wait4",
    267: "syncfs", 268: "setns", 276: "renameat2", 281: "execveat", 285: "copy_file_range", 286: "preadv2",
    287: "pwritev2", 291: "statx", 426: "io_uring_enter", 428: "open_tree", 435: "clone3",
    437: "openat2", 439: "faccessat2",
}  # fmt: skip
_TABLES = {"x86_64": _X86_64, "aarch64": _GENERIC, "riscv64": _GENERIC}


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Those whose first argument is the descriptor that they wait for. Of the calls that take a directory and a path, the
# directory says nothing of where the path leads.
_FIRST = _words(
    "read write close fstat lseek ioctl pread64 pwrite64 readv writev connect sendto recvfrom sendmsg recvmsg fcntl "
    "flock fsync fdatasync ftruncate getdents getdents64 fchdir fchmod fchown fstatfs fsetxattr fgetxattr "
    "sync_file_range fallocate preadv pwritev syncfs setns preadv2 pwritev2 sendfile splice copy_file_range dup dup2 "
    "dup3"
)
_CHANGES = _words(
    "write pwrite64 writev pwritev pwritev2 truncate ftruncate rename renameat renameat2 mkdir mkdirat rmdir creat "
    "link linkat unlink unlinkat symlink symlinkat chmod fchmod fchmodat chown fchown lchown fchownat utime utimes "
    "utimensat mknod mknodat open openat openat2 setxattr lsetxattr fsetxattr fallocate sendfile splice "
    "copy_file_range ioctl io_uring_enter"
)
_AT_FDCWD = 0xFFFFFF9C  # of 32 bits, or of 64
_MOST_DESCRIPTORS = 1 << 30  # fs.nr_open may not be raised above it


def name(number: int, machine: str) -> str:
    """What a call of this number is named on a machine (``uname -m``); empty if it is none of those known here."""
    return _TABLES.get(machine, {}).get(number, "")


def descriptor(call: str, args: tuple[int, ...]) -> int | None:
    """The descriptor that a call works on, None if it takes none or a path."""
    if call not in _FIRST or not args:
        return None
    number = args[0] & 0xFFFFFFFF
    return number if number < _MOST_DESCRIPTORS and number != _AT_FDCWD else None


def changes(call: str) -> bool:
    """Whether it may change a filesystem."""
    return call in _CHANGES
