"""The stage: one session in which bystanders work and a bomb goes off. Run by path, as ``python -I -S stage.py …``.

It stands for a user's login shell: parent of all of them, and not the bomb's founder. Only the bomb goes into the pen.
Commands come as lines on standard input (``go``, ``report``; its end is the end), answers go as JSON lines to standard
output: ``ready`` once every bystander works and what is usual for them has been measured, ``bomb`` when it is off,
``bomb_ended``, and ``report``. Only the standard library, nothing of pidwarden.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from typing import IO, Any

ROUNDS_A_SECOND = 20
BASELINE = 24  # rounds before the bomb; more than a second, so that the stage is not as young as what it starts
_ANSWER_SECONDS = 5.0  # a bystander that does nothing for so long after the containment is hurt
_PROGRAM = "/bin/true"
_SLEEPER = 'echo asleep; read -r x; echo "$x"; read -r x'
_PIPELINE = "while :; do echo x; sleep .1; done | cat"


def tick() -> int:
    """The working bystander: forks and execs 20 times a second, one line ``MICROSECONDS OUTCOME`` for each round.

    A round counts from when it was due, so that the time in which this process itself did not get to run is in it.
    OUTCOME is ``ok``, or what went wrong.
    """
    due = time.monotonic()
    while True:
        time.sleep(max(0.0, due - time.monotonic()))
        try:
            pid = os.fork()
            if pid == 0:
                with contextlib.suppress(OSError):
                    os.execv(_PROGRAM, [_PROGRAM])  # noqa: S606  (a constant)
                os._exit(127)
            _pid, status = os.waitpid(pid, 0)
            outcome = f"{_PROGRAM}-ended-with-{os.waitstatus_to_exitcode(status)}" if status else "ok"
        except OSError as why:
            outcome = f"fork-failed:{why.strerror}".replace(" ", "-")
        now = time.monotonic()
        try:
            os.write(1, b"%d %s\n" % ((now - due) * 1e6, outcome.encode()))
        except OSError:
            return 0  # nobody listens any more
        due = max(due + 1 / ROUNDS_A_SECOND, now)


class Bystander:
    """A process beside the bomb, what it has said so far, and whether it still does what it is there for."""

    def __init__(self, name: str, command: list[str]) -> None:
        self.name, self.said, self._asked_at = name, 0, 0
        # A process group each, as a shell with job control does.
        self.process = subprocess.Popen(  # noqa: S603  (constants)
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, process_group=0
        )
        assert self.process.stdout is not None
        self.out: IO[bytes] = self.process.stdout
        os.set_blocking(self.out.fileno(), False)

    def hear(self) -> bytes | None:
        """What it says now, empty at its end, None if that was a false alarm."""
        try:
            data = os.read(self.out.fileno(), 65536)
        except BlockingIOError:
            return None
        self.said += data.count(b"\n")
        return data

    def ask(self) -> None:
        """From now on it has to say two more lines; one may have been on its way."""
        self._asked_at = self.said
        with contextlib.suppress(OSError):
            assert self.process.stdin is not None
            os.write(self.process.stdin.fileno(), b"awake\n")

    def answered(self, lines: int) -> bool:
        """Whether it has said so many lines since it was asked."""
        return self.said >= self._asked_at + lines

    def hurt(self, lines: int) -> str | None:
        """What became of it, None if nothing did."""
        code = self.process.poll()
        if code is not None:
            return f"{self.name} is dead (signal {-code})" if code < 0 else f"{self.name} ended with {code}"
        return None if self.answered(lines) else f"{self.name} does not move any more"


class Rounds:
    """What the working bystander reports: the usual time of a round, and what happened since the bomb."""

    def __init__(self) -> None:
        self._usual: list[int] = []
        self._rest = b""
        self.done, self.worst_us, self.failures = 0, 0, Counter[str]()
        self.bomb_is_off = False

    def feed(self, data: bytes) -> None:
        """Takes what was read from it, which need not end with a line."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            took, outcome = line.split()
            if outcome != b"ok":
                self.failures[outcome.decode()] += 1
            elif not self.bomb_is_off:
                self._usual.append(int(took))
            if self.bomb_is_off:
                self.done += 1
                self.worst_us = max(self.worst_us, int(took))

    @property
    def settled(self) -> bool:
        """Whether enough rounds were seen to know what is usual."""
        return len(self._usual) >= BASELINE

    @property
    def usual_us(self) -> float:
        """The median before the bomb."""
        return statistics.median(self._usual)


class Company:
    """The parent of three bystanders and of a performer: obeys, listens, and says what became of everybody.

    Subclasses start the performer, and may know more of the bystanders than that they answer.
    """

    def __init__(self) -> None:
        self._performer: subprocess.Popen[bytes] | None = None
        self._ready = False
        self._report_by: float | None = None
        python = [sys.executable, "-I", "-S", __file__, "tick"]
        self._ticker = Bystander("the one that forks 20 times a second", python)
        sleeper = Bystander("the sleeping shell", ["/bin/sh", "-c", _SLEEPER])
        pipeline = Bystander("the pipeline", ["/bin/sh", "-c", _PIPELINE])
        # Each with the number of lines that prove it works when it is asked.
        self._bystanders = {self._ticker: 2, sleeper: 1, pipeline: 2}

    def run(self) -> int:
        """Until the end of standard input."""
        waking, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        with selectors.DefaultSelector() as selector:
            selector.register(0, selectors.EVENT_READ, self._obey)
            selector.register(waking, selectors.EVENT_READ, partial(self._reap, waking))
            for bystander in self._bystanders:
                selector.register(bystander.out, selectors.EVENT_READ, partial(self._hear, bystander))
            while selector.get_map().get(0):
                wait = None if self._report_by is None else max(0.0, self._report_by - time.monotonic())
                for key, _events in selector.select(wait):
                    if not key.data():
                        selector.unregister(key.fileobj)  # at its end, which would be readable for ever
                self._speak()
        return 0

    def go(self) -> None:
        """Starts the performer."""
        raise NotImplementedError

    def ended(self, code: int) -> None:
        """The performer has ended."""
        raise NotImplementedError

    def heard(self, bystander: Bystander, data: bytes) -> None:
        """What a bystander said."""

    def usual(self) -> dict[str, Any] | None:
        """What is to be said with ``ready``; None: they have not worked for long enough."""
        return {}

    def report(self, hurt: list[str]) -> Any:
        """What is reported, given what became of those that are hurt."""
        return hurt

    def _obey(self) -> bool:
        commands = os.read(0, 4096).split()
        if b"go" in commands:
            self.go()
        if b"report" in commands:
            for bystander in self._bystanders:
                bystander.ask()
            self._report_by = time.monotonic() + _ANSWER_SECONDS
        return bool(commands)

    def _hear(self, bystander: Bystander) -> bool:
        data = bystander.hear()
        if data:
            self.heard(bystander, data)
        return data != b""

    def _reap(self, waking: int) -> bool:
        os.read(waking, 4096)
        if self._performer is not None and (code := self._performer.poll()) is not None:
            self.ended(code)
            self._performer = None
        return True

    def _speak(self) -> None:
        if not self._ready and all(b.said for b in self._bystanders) and (usual := self.usual()) is not None:
            self._ready = True
            say(ready={b.name: b.process.pid for b in self._bystanders}, **usual)
        if self._report_by is None:
            return
        answered = all(b.answered(lines) or b.process.poll() is not None for b, lines in self._bystanders.items())
        if answered or time.monotonic() >= self._report_by:
            self._report_by = None
            say(report=self.report([text for b, lines in self._bystanders.items() if (text := b.hurt(lines))]))


class Stage(Company):
    """The performer is a bomb; of the working bystander it is known how long its rounds took."""

    def __init__(self, shapes: str, shape: str, entrances: list[str]) -> None:
        super().__init__()
        self._command = [sys.executable, "-I", "-S", shapes, shape]
        self._entrances = entrances
        self._rounds = Rounds()

    def ended(self, code: int) -> None:
        """The bomb's first process has ended."""
        say(bomb_ended=code)

    def heard(self, bystander: Bystander, data: bytes) -> None:
        """Notes the rounds of the working one."""
        if bystander is self._ticker:
            self._rounds.feed(data)

    def usual(self) -> dict[str, Any] | None:
        """How long a round takes, once that is known."""
        return {"usual_ms": self._rounds.usual_us / 1000} if self._rounds.settled else None

    def report(self, hurt: list[str]) -> Any:
        """Who is hurt, and by how much the working one was late."""
        hurt += [f"{self._ticker.name}: {text} ({count} times)" for text, count in self._rounds.failures.items()]
        worst = max(0.0, self._rounds.worst_us - self._rounds.usual_us) / 1000
        return {"hurt": hurt, "worst_delay_ms": round(worst, 1), "rounds": self._rounds.done}

    def go(self) -> None:
        """Sets the bomb off, in its pen."""
        reading, writing = os.pipe()
        self._rounds.bomb_is_off = True
        try:
            # Without the pen there is no bomb: an error in `enter` ends the child before its exec.
            self._performer = subprocess.Popen(  # noqa: S603
                [*self._command, str(writing)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[writing],
                process_group=0,
                preexec_fn=self._enter,  # noqa: PLW1509  (one thread)
            )
        except (OSError, subprocess.SubprocessError) as why:
            say(failed=f"the bomb could not go into its pen ({why})")
            return
        finally:
            os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            at = pipe.readline()  # empty if it ended before it was off
        if at:
            say(bomb=self._performer.pid, boot_ns=int(at))
        else:
            say(failed=f"the bomb did not go off (it ended with {self._performer.wait()})")

    def _enter(self) -> None:
        for entrance in self._entrances:
            with open(entrance, "w", encoding="ascii") as file:
                file.write("0")


def say(**message: Any) -> None:
    """One line to the drill."""
    os.write(1, json.dumps(message).encode() + b"\n")


def main(argv: list[str]) -> int:
    """``tick``, or ``SHAPES.PY SHAPE CGROUP.PROCS…``."""
    if argv == ["tick"]:
        return tick()
    os.setsid()
    with contextlib.suppress(BrokenPipeError):  # the drill is gone: there is nothing left to do here
        return Stage(argv[0], argv[1], argv[2:]).run()
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
