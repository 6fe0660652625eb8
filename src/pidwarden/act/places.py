"""Places that hold one value: a file of the kernel's, a limit of a process. Read, written, and set back.

What changes them (the rescue console's ledger, the undo record on disk) comes here for all three.
"""

from __future__ import annotations

import errno
import os
import resource
import stat
from typing import NamedTuple, Protocol

from pidwarden.errors import NoPermission, NotPossible, PidwardenError, UsageError
from pidwarden.kernel import procfs
from pidwarden.model.text import escape

MOST = 64 * 1024  # bytes that are read of a file
UNLIMITED = "unlimited"


class Place(Protocol):
    """Something that holds one value: a file of the kernel's, a limit of a process."""

    @property
    def name(self) -> str:
        """What a person knows it by."""

    def read(self) -> str:
        """The value now.

        Raises:
            FileNotFoundError, ProcessLookupError: it is gone.
            PidwardenError: it cannot be read.
        """

    def write(self, value: str) -> None:
        """Changes it. The same is raised."""


# -- words -------------------------------------------------------------------------------------------------------------


def failed(tried: str, why: OSError, hint: str = "type the path as `ls` would show it") -> PidwardenError:
    """An error of the kernel's on a file as one of ours; `hint` is what to type where it is about the file itself."""
    if why.errno in (errno.EPERM, errno.EACCES):
        lacks = (
            "it takes root, outside of containers"
            if os.geteuid()
            else "root lacks a capability here: do it on the host"
        )
        return NoPermission(f"{tried}: {why.strerror}; {lacks}")
    if why.errno == errno.EROFS:
        return NotPossible(f"{tried}: {why.strerror}; in a container that is so: do it on the host")
    if why.errno in (errno.EMFILE, errno.ENFILE):
        return NotPossible(f"{tried}: {why.strerror}; kill what holds so many files, then type it again")
    return PidwardenError(f"{tried}: {why.strerror}; {hint}")


def shown(text: str) -> str:
    """A path or a value for people."""
    return escape(os.fsencode(text))


def word(value: str) -> str:
    """A value as one word for people."""
    return shown(" ".join(value.split())) or "nothing"


# -- files -------------------------------------------------------------------------------------------------------------


def read_file(where: str, most: int = MOST) -> bytes:
    """A regular file's first bytes, without ever waiting for somebody.

    Raises:
        FileNotFoundError: it is gone.
        PidwardenError: it is none, or cannot be read.
    """
    tried = f"tried to read {shown(where)}"
    try:
        regular(where, os.stat(where, follow_symlinks=False).st_mode)
        # O_NONBLOCK for what it may have become meanwhile, and for files that wait for news.
        fd = os.open(where, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            regular(where, os.fstat(fd).st_mode)
            data = b""
            while len(data) < most and (part := os.read(fd, most - len(data))):
                data += part
            return data
        finally:
            os.close(fd)
    except FileNotFoundError:
        raise
    except BlockingIOError as why:
        msg = f"{tried}: it has nothing to say now, and would keep us waiting; type it again later"
        raise NotPossible(msg) from why
    except OSError as why:
        if why.errno in (errno.ENODEV, errno.ESRCH):
            raise FileNotFoundError(why.errno, os.strerror(why.errno), where) from why
        raise failed(tried, why) from why


def regular(where: str, mode: int) -> None:
    """Checks that it is a file and nothing else.

    Raises:
        UsageError: it is not.
    """
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        kind = kinds.get(stat.S_IFMT(mode), "a device")
        msg = f"{shown(where)} is {kind}: opening it could hang or set something off; only files are read and written"
        raise UsageError(msg)


class File:
    """A file of the kernel's that holds one value: a :class:`Place`."""

    def __init__(self, path: str) -> None:
        self.name = path

    def read(self) -> str:
        """Its text, without the newline at its end."""
        return os.fsdecode(read_file(self.name)).rstrip("\n")

    def write(self, value: str) -> None:
        """One write; under v2 a limit below what is used does not make us reclaim that ourselves (O_NONBLOCK, 6.16)."""
        tried = f"tried to write {shown(value)} to {shown(self.name)}"
        try:
            # O_TRUNC as a shell's redirection has it.
            flags = os.O_WRONLY | os.O_TRUNC | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(self.name, flags)
            try:
                regular(self.name, os.fstat(fd).st_mode)
                os.write(fd, os.fsencode(value) or b"\n")
            finally:
                os.close(fd)
        except FileNotFoundError:
            raise
        except OSError as why:
            if why.errno == errno.ENODEV:  # a cgroup that was removed meanwhile
                raise FileNotFoundError(why.errno, why.strerror, self.name) from why
            raise failed(tried, why, f"`cat {self.name}` shows what it holds, in the form that it takes") from why


# -- limits of a process -----------------------------------------------------------------------------------------------

_RESOURCES = {"nproc": resource.RLIMIT_NPROC, "nofile": resource.RLIMIT_NOFILE}


class Rlimit:
    """A limit of one process, "soft hard", each a number or ``unlimited``: a :class:`Place`.

    The process is known by its pid and start time; prlimit(2) itself takes a pid alone.
    """

    def __init__(self, which: str, pid: int, start_ticks: int | None = None) -> None:
        """`which` is nproc or nofile; the start, if not given, is that of who has the pid now.

        Raises ProcessLookupError: there is none.
        """
        self.name = f"{which}:{pid}"
        self._resource, self._title = _RESOURCES[which], f"RLIMIT_{which.upper()}"
        self._key, self._pid = f"Limit{which.upper()}", pid
        self.start_ticks = self._now() if start_ticks is None else start_ticks

    def _now(self) -> int:
        found = procfs.stat(self._pid)
        if found is None:
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        return found.start_ticks

    def _call(self, *pair: tuple[int, int]) -> tuple[int, int]:
        if self._now() != self.start_ticks:
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        tried = f"tried to change {self._title} of process {self._pid}" if pair else f"tried to read {self.name}"
        try:
            return resource.prlimit(self._pid, self._resource, *pair)
        except ProcessLookupError:
            raise
        except PermissionError as why:
            msg = (
                f"{tried}: {why.strerror}; a process of another user, or a higher hard limit, takes CAP_SYS_RESOURCE, "
                f"which containers lack: do it on the host, or raise it where it comes from (limits.conf, {self._key}=)"
            )
            raise NoPermission(msg) from why
        except (OSError, ValueError) as why:
            msg = f"{tried}: {why}; type `limits {self.name} NUMBER`"
            raise PidwardenError(msg) from why

    def read(self) -> str:
        """The soft and the hard limit."""
        return " ".join(rlimit_word(n) for n in self._call())

    def write(self, value: str) -> None:
        """Sets both, or with one number the soft one, and the hard one only if it is lower."""
        words = value.split()
        soft = _number(words[0])
        hard = _number(words[1]) if len(words) > 1 else max(soft, self._call()[1], key=_order)
        self._call((soft, hard))


def rlimit_word(number: int) -> str:
    """A number of a limit, or ``unlimited``."""
    return UNLIMITED if number == resource.RLIM_INFINITY else str(number)


def _number(text: str) -> int:
    return resource.RLIM_INFINITY if text == UNLIMITED else int(text)


def _order(number: int) -> float:
    return float("inf") if number == resource.RLIM_INFINITY else number


# -- the way back ------------------------------------------------------------------------------------------------------


class SetBack(NamedTuple):
    """What came of it: what the place held before, and after; None, None if it is gone."""

    before: str | None
    after: str | None


class Foreign(Exception):  # noqa: N818  (it says whose value it is)
    """A place holds something else than what we left there: ``now``."""

    def __init__(self, now: str) -> None:
        super().__init__(now)
        self.now = now


def same(one: str, other: str) -> bool:
    """Whether two texts are the same value: blanks differ between what is written and what is read."""
    return one.split() == other.split()


def set_back(place: Place, old: str, new: str, *, force: bool = False) -> SetBack:
    """Sets a place back from `new`, which we left there, to `old`.

    Raises:
        Foreign: it holds something else, and `force` was not asked for.
        PidwardenError: it cannot be read or changed.
    """
    try:
        now = place.read()
        if not same(now, new) and not force:
            raise Foreign(now)
        place.write(old)
    except (FileNotFoundError, ProcessLookupError):
        return SetBack(None, None)
    return SetBack(now, read_back(place))


def read_back(place: Place) -> str:
    """What it holds; empty if it went with what was written, or cannot be read now."""
    try:
        return place.read()
    except OSError:
        return ""
