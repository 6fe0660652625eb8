"""The pen: a cgroup with a hard cap on tasks and a low share of the processor, in which bombs are set off."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import select
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple, Self

from pidwarden.drill import deadman
from pidwarden.errors import NoPermission, NotPossible, PidwardenError
from pidwarden.kernel import cgroup, procfs

if TYPE_CHECKING:
    from types import TracebackType

PREFIX = "pidwarden-pen-"
_SLOW_V1, _SLOW_V2 = "128", "10"  # cpu.shares of 1024, cpu.weight of 100: an eighth, a tenth of an ordinary process
_ORDINARY_V1, _ORDINARY_V2 = "1024", "100"
_KILL_SECONDS = 20.0
_REMOVE_SECONDS = 5.0
_START_SECONDS = 20.0
_numbers = itertools.count(1)


class Layout(NamedTuple):
    """The directories below which a pen is made, in the order in which it is made."""

    pids: str  # where the cap rules
    cpu: str | None = None  # where the share rules
    v2: str | None = None  # for cgroup.kill and cgroup.events
    enable: tuple[str, ...] = ()  # what the v2 directory must first pass on to its children

    @property
    def parents(self) -> tuple[str, ...]:
        """Each directory once: controllers may be mounted together."""
        return tuple(dict.fromkeys(p for p in self if isinstance(p, str)))


def choose(found: cgroup.Mounts) -> Layout:
    """Where a pen goes on a machine with these mounts. A controller is in one hierarchy only, v1 or v2.

    Raises:
        NotPossible: no hierarchy has the pids controller, so that nothing could be capped.
    """
    offered = _words(f"{found.v2}/cgroup.controllers") if found.v2 else []
    pids = found.v1.get("pids") or (found.v2 if "pids" in offered else None)
    if pids is None:
        msg = (
            f"looked for the pids controller in {', '.join(sorted(found.roots)) or 'no cgroup mount at all'}: it is "
            "not there, and a bomb without a cap is no drill; "
            "type `mkdir -p /sys/fs/cgroup/pids && mount -t cgroup -o pids pids /sys/fs/cgroup/pids`, or boot a kernel "
            "with CONFIG_CGROUP_PIDS and without cgroup_disable=pids"
        )
        raise NotPossible(msg)
    cpu = found.v1.get("cpu") or (found.v2 if "cpu" in offered else None)
    return Layout(pids, cpu, found.v2, tuple(c for c, where in (("pids", pids), ("cpu", cpu)) if where == found.v2))


def _words(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().split()
    except OSError:
        return []


class Pen:
    """A pen, from ``with`` to its removal.

    `cap` is the number of tasks, zombies included, that the kernel lets in; `slow` gives it little of the processor.

    Raises (entering):
        NoPermission: not root.
        NotPossible: the cgroup file systems cannot be written, or have no pids controller.
    """

    def __init__(self, cap: int, *, slow: bool = True, layout: Layout | None = None) -> None:
        self.cap, self._slow = cap, slow
        self._layout = layout or choose(cgroup.mounts())
        self.name = f"{PREFIX}{os.getpid()}-{next(_numbers)}"
        self.directories = [f"{parent}/{self.name}" for parent in self._layout.parents]
        self._pids = f"{self._layout.pids}/{self.name}"
        self._most = 0

    def __enter__(self) -> Self:
        try:
            self._pass_on()
            for directory in self.directories:
                self._make(directory)
            self._put_cap()
        except BaseException:
            deadman.remove(self.directories, _REMOVE_SECONDS)
            raise
        if self._slow:
            self._share(_SLOW_V1, _SLOW_V2)
        return self

    def _share(self, v1: str, v2: str) -> None:
        if self._layout.cpu:
            # A courtesy to the neighbours only, so a refusal is no error.
            cpu = f"{self._layout.cpu}/{self.name}"
            _ = deadman.put(f"{cpu}/cpu.weight", v2) or deadman.put(f"{cpu}/cpu.shares", v1)

    def ease(self) -> None:
        """An ordinary share of the processor again: a held bomb burns none, and dying takes some."""
        self._share(_ORDINARY_V1, _ORDINARY_V2)

    def _pass_on(self) -> None:
        """Controllers for the children of the v2 directory. Left on: somebody else may have come to need them."""
        control = f"{self._layout.v2}/cgroup.subtree_control"
        missing = [c for c in self._layout.enable if c not in _words(control)]
        if "pids" in [c for c in missing if not deadman.put(control, f"+{c}")]:
            msg = (
                f"tried to pass the pids controller on in {control} and the kernel refused: processes live in that "
                "very cgroup (a container?); run it on the host, or type `systemd-run --scope pidwarden drill`"
            )
            raise NotPossible(msg)

    def _put_cap(self) -> None:
        if not deadman.put(f"{self._pids}/pids.max", str(self.cap)):
            msg = (
                f"made {self._pids}, but the kernel refuses a pids.max of {self.cap} in it: the pids controller does "
                f"not reach it; type `echo +pids > {self._layout.pids}/cgroup.subtree_control`"
            )
            raise NotPossible(msg)

    def _make(self, directory: str) -> None:
        try:
            os.mkdir(directory)
        except OSError as why:
            tried = f"cannot make the cgroup {directory}: {why.strerror}"
            if os.geteuid() != 0 and why.errno in (errno.EPERM, errno.EACCES, errno.EROFS):
                msg = f"{tried}; a bomb needs a pen, and a pen needs root: type `sudo pidwarden drill`"
                raise NoPermission(msg) from why
            if why.errno in (errno.EROFS, errno.EPERM, errno.EACCES):
                msg = f"{tried}; this container does not own its cgroups: run the drill on the host"
                raise NotPossible(msg) from why
            msg = f"{tried}; `ls -ld {os.path.dirname(directory)}` shows what is there"
            raise NotPossible(msg) from why

    # -- in ------------------------------------------------------------------------------------------------------------

    @property
    def entrances(self) -> list[str]:
        """The files to which a process writes 0 to go in, all of them, the capped one first."""
        return [f"{directory}/cgroup.procs" for directory in self.directories]

    def enter(self) -> None:
        """Moves the calling process in; for a child between fork and exec.

        Raises:
            OSError: it is not in. It must not go on.
        """
        for entrance in self.entrances:
            with open(entrance, "w", encoding="ascii") as file:
                file.write("0")

    # -- what is in it -------------------------------------------------------------------------------------------------

    def current(self) -> int:
        """Tasks in the pen, zombies that wait for their parent included."""
        found = procfs.read_int(f"{self._pids}/pids.current") or 0
        self._most = max(self._most, found)
        return found

    def peak(self) -> int:
        """The most tasks there were; on kernels without ``pids.peak`` the most that :meth:`current` has seen."""
        return procfs.read_int(f"{self._pids}/pids.peak") or max(self._most, self.current())

    def populated(self) -> bool:
        """Whether anybody in it lives. Zombies do not."""
        return bool(deadman.members(self.directories))

    # -- out -----------------------------------------------------------------------------------------------------------

    def kill(self, seconds: float = _KILL_SECONDS) -> bool:
        """Kills everybody in it. Nobody can be born there any more. Whether nobody lives, after so many seconds."""
        return deadman.empty(self.directories, seconds)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        quiet = self.kill()
        left = deadman.remove(self.directories, _REMOVE_SECONDS)
        if left:
            what = "is busy" if quiet else "has members that do not die (D state?)"
            look = f"type `cat {left[0]}/cgroup.procs`, then `rmdir {left[0]}`"
            msg = f"cannot remove the pen: {' '.join(left)} {what}; {look}"
            raise PidwardenError(msg)


class DeadMan:
    """The dead-man switch over some cgroups, from ``with`` to its end. Enter it before they are made.

    Raises (entering):
        PidwardenError: it did not start; then nothing must be set off.
    """

    def __init__(self, directories: list[str], seconds: float) -> None:
        self._directories, self._seconds = directories, seconds

    def __enter__(self) -> Self:
        reading, self._pipe = os.pipe()
        command = [sys.executable, "-I", "-S", deadman.__file__, str(reading), str(self._seconds), *self._directories]
        try:
            self._process = subprocess.Popen(  # noqa: S603  (our own script)
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, pass_fds=[reading]
            )
        except OSError:
            os.close(self._pipe)
            raise
        finally:
            os.close(reading)
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], _START_SECONDS)
        if not ready or self._process.stdout.readline() != deadman.READY:
            self._process.kill()
            self.__exit__(None, None, None)
            msg = (
                f"the dead-man switch did not start; nothing was set off. Type `{' '.join(command[:4])} 0 1` to see why"
            )
            raise PidwardenError(msg)
        return self

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._pipe)
        if self._process.stdout:
            self._process.stdout.close()
        # It works off what is left of the pen, if anything is; it needs nobody to wait for it.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_KILL_SECONDS)
