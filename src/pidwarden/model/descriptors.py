"""What the links of descriptors say (proc_pid_fd(5)): events, terminals, pipes, sockets."""

from __future__ import annotations

# Descriptors that a loop reads, which is no more a hold-up than poll.
EVENTS = (
    "anon_inode:[signalfd]", "anon_inode:[timerfd]", "anon_inode:inotify", "anon_inode:[fanotify]", "/dev/fuse",
    "/dev/kmsg", "/proc/kmsg", "/dev/input/", "/dev/uinput",
)  # fmt: skip
TERMINALS = ("/dev/pts/", "/dev/ptmx", "/dev/tty", "/dev/console")
PIPE, SOCKET = "pipe:[", "socket:["
EVENTFD, PIDFD, SIGNALFD, TIMERFD = (
    "anon_inode:[eventfd]",
    "anon_inode:[pidfd]",
    "anon_inode:[signalfd]",
    "anon_inode:[timerfd]",
)


def inode(link: str) -> int:
    """The number in ``pipe:[1]`` or ``socket:[1]``."""
    return int(link[link.index("[") + 1 : -1])


def is_pidfd(link: str) -> bool:
    """Whether it stands for a process; since Linux 6.9 they have inodes of their own (pidfs)."""
    return link == PIDFD or link.startswith("pidfd:[")
