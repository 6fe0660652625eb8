"""What the tests in the machine share: services started by its init, bystanders, bombs without a pen."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from guardkit import GuardProcess, detach
from kit import stat_of, until

from pidwarden.drill import deadman
from pidwarden.kernel import procfs

if TYPE_CHECKING:
    from collections.abc import Iterator

CGROUP = Path("/sys/fs/cgroup")
CPUS = os.cpu_count() or 1
USERS = {"root": 0, "user": 1000}
_BOMB = Path(__file__).with_name("bomb.py")


def init(command: str) -> None:
    """Has process 1 start a command, in a session of its own."""
    with open("/run/init", "w", encoding="ascii") as fifo:
        fifo.write(command + "\n")


# As shipped, in the time of an emulated processor: it takes ten times as long to fork 300 times, and 400 to die. With
# a branch_age of 1 s a bomb there is no longer young when it has forked so often, and each of its children a branch.
# On a busy machine a thread bomb was seen to take 32 s for its 1,200 threads.
CONFIG = 'branch_age = 10\nslow_after = 100\nkill_timeout = 120\nmode = "{mode}"\n'


class WholeGuard(GuardProcess):
    """A guard of the whole machine, configured by :attr:`config`."""

    everything = True

    def __init__(self, mode: str = "kill", run_dir: str | None = None) -> None:
        with tempfile.NamedTemporaryFile("w", prefix="guard-", suffix=".toml", delete=False) as file:
            file.write(CONFIG.format(mode=mode))
        self.config = Path(file.name)
        super().__init__("--config", file.name, run_dir=run_dir)

    def change_mode(self, mode: str) -> None:
        """Writes the configuration anew and has it read."""
        self.config.write_text(CONFIG.format(mode=mode))
        notes = len(self.events("note"))
        self.process.send_signal(signal.SIGHUP)
        self.wait("note", notes + 1)


@contextlib.contextmanager
def guard(mode: str = "kill", run_dir: str | None = None) -> Iterator[WholeGuard]:
    """A whole guard that is ready; ended afterwards, and if it was killed, what it left is removed."""
    running = WholeGuard(mode, run_dir)
    try:
        running.wait("ready", seconds=60)
        yield running
    finally:
        killed = running.process.poll() not in (None, 0)
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.stop()
        running.close()
        if killed and run_dir is None:
            detach(running.run_dir)


class Bystander:
    """One who forks all through, and what it says about it."""

    def __init__(self, name: str, command: str) -> None:
        self.name, self._log = name, f"/run/bystander.{name}"
        init(f"{command} >{self._log} 2>&1")
        until(lambda: len(self._lines()) >= 10, f"the bystander {name} to work")
        self._since = 0

    def _lines(self) -> list[str]:
        with contextlib.suppress(FileNotFoundError), open(self._log, encoding="ascii", errors="replace") as file:
            return file.read().split("\n")[:-1]
        return []

    def mark(self) -> None:
        """What it said until now no longer counts."""
        self._since = len(self._lines())

    def rounds(self) -> list[tuple[int, str]]:
        """Microseconds and outcome of each round since the mark."""
        found = []
        for line in self._lines()[self._since :]:
            took, _, outcome = line.partition(" ")
            found.append((int(took), outcome) if took.isdecimal() else (0, line))
        return found

    def assert_unharmed(self) -> int:
        """That it still works, and that no round failed; its longest delay in microseconds."""
        count = len(self.rounds())
        until(lambda: len(self.rounds()) >= count + 2, f"{self.name} to go on")
        assert [outcome for _took, outcome in self.rounds() if outcome != "ok"] == [], self.name
        return max(took for took, _outcome in self.rounds())


_SHELL_LOOP = (
    "exec 9<>/run/never; while :; do s=$EPOCHREALTIME; /bin/true && o=ok || o=failed; e=$EPOCHREALTIME; "
    'echo "$(( ${e/./} - ${s/./} )) $o"; read -rt 0.05 -u 9; done'
)


def bystanders() -> list[Bystander]:
    """A root shell, and two that are spawners by their file; each in a session of its own, children of process 1."""
    with contextlib.suppress(FileExistsError):
        os.mkfifo("/run/never")
    return [
        Bystander("shell", f"exec bash -c '{_SHELL_LOOP}'"),
        Bystander("sshd", "exec /usr/sbin/sshd"),
        Bystander("login", "exec /bin/login"),
    ]


class Bomb:
    """A bomb in a login session of a user. Its cgroup has no limit of any kind: it only says who belongs to it."""

    def __init__(self, shape: str, user: str, command: list[str] | None) -> None:
        self.folder = CGROUP / f"bomb-{shape}-{user}"
        self._user = user
        self._command = shlex.join(command or [sys.executable, "-I", "-S", str(_BOMB), shape])
        deadman.put(str(CGROUP / "cgroup.subtree_control"), "+pids")
        self.folder.mkdir()
        assert (self.folder / "pids.max").read_text() == "max\n"
        self.before, self.most = 0, 0
        self._session: set[int] = set()

    def light(self) -> None:
        """Process 1 starts the session: a shell, and the bomb as its child."""
        uid = USERS[self._user]
        drop = f"setpriv --reuid={uid} --regid={uid} --clear-groups" if uid else "nice -n 0"
        session = f"exec {drop} bash -c '{self._command}; exit' </dev/null >/dev/null 2>&1"
        init(f"echo $$ >{self.folder}/cgroup.procs; {session}")
        until(lambda: self.current(), "the session to start")
        self.before, self._session = self.current(), {min(self.living())}

    def current(self) -> int:
        """Tasks in it now, zombies included."""
        now = procfs.read_int(f"{self.folder}/pids.current") or 0
        self.most = max(self.most, now, procfs.read_int(f"{self.folder}/pids.peak") or 0)
        return now

    def living(self) -> set[int]:
        """Who lives in it."""
        return deadman.members([str(self.folder)])

    def stands_still(self) -> bool:
        """Whether everybody who lives in it is stopped, but for the session's shell, which waits."""
        found = [stat_of(pid) for pid in self.living() - self._session]
        return bool(found) and all(f is not None and f.state in "TZX" for f in found)

    def watch(self, done: object, what: str, seconds: float) -> None:
        """Looks all the time how many there are, until `done`."""
        assert callable(done)

        def look() -> object:
            self.current()
            return done()

        until(look, what, seconds)

    def end(self) -> None:
        """Kills whoever is left and removes the cgroup."""
        assert deadman.empty([str(self.folder)], 60), "the bomb's members do not die"
        assert deadman.remove([str(self.folder)], 60) == []


@contextlib.contextmanager
def bomb(shape: str, user: str, command: list[str] | None = None) -> Iterator[Bomb]:
    """A bomb that is set up but not yet lit, of the drill or a command; what is left of it is killed afterwards."""
    made = Bomb(shape, user, command)
    try:
        yield made
    finally:
        made.end()


def tasks() -> int:
    """Tasks on the machine."""
    with open("/proc/loadavg", encoding="ascii") as file:
        return int(file.read().split()[3].split("/")[1])


def settle(seconds: float = 1.0) -> None:
    """Lets time pass where it is time itself that is tested: that nothing grows."""
    time.sleep(seconds)
