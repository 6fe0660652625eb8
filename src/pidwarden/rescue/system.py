"""What can be typed at the console about the machine: why, limits, files, the kernel's log, a reboot."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pidwarden.errors import UsageError
from pidwarden.kernel.clock import boot_ns
from pidwarden.rescue import limits, log, reboot, sysfiles, why
from pidwarden.rescue.choose import uid_of
from pidwarden.rescue.commands import Act
from pidwarden.rescue.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_LINES = 30  # of the kernel's log


class Machine:
    """The commands about the machine. What can be taken back goes into `acts`, the console's own list."""

    def __init__(self, say: Callable[[str], None], acts: list[Act]) -> None:
        self._say, self._acts = say, acts
        self._ledger = Ledger()
        self._asked = reboot.Asked()

    def why(self, words: Sequence[str]) -> None:
        """Which limit makes fork fail, for this process or for one that is named, as its user or as another."""
        pid, uid = os.getpid(), os.getuid()
        for word in words:
            kind, _, value = word.partition(":")
            if kind == "pid" and value.isascii() and value.isdecimal():
                pid = int(value)
                uid = os.stat(f"/proc/{pid}").st_uid
            elif kind == "user" and value:
                uid = uid_of(value)
            else:
                msg = f"{word!r} is neither pid:N nor user:U"
                raise UsageError(msg)
        self._tell(why.lines(why.look(uid, pid)))

    def limits(self, words: Sequence[str]) -> None:
        """Alone: what they are. With a name and a value: another value."""
        if len(words) == 2:  # noqa: PLR2004
            self._changed(lambda: limits.put(words[0], words[1], self._ledger))
        elif len(words) < 2 and all(w.startswith("pid:") and w[4:].isdecimal() for w in words):  # noqa: PLR2004
            self._tell(limits.read(int(words[0][4:]) if words else os.getpid()))
        else:
            msg = "one name and one value, or pid:N to see those of another process"
            raise UsageError(msg)

    def cat(self, words: Sequence[str]) -> None:
        """A file."""
        words, force = [w for w in words if w != "--force"], "--force" in words
        if len(words) != 1:
            msg = "one path at a time"
            raise UsageError(msg)
        self._tell(sysfiles.cat(words[0], force=force))

    def write(self, words: Sequence[str]) -> None:
        """A setting of the kernel or of a cgroup."""
        words, once = [w for w in words if w != "--once"], "--once" in words
        if len(words) < 2:  # noqa: PLR2004
            msg = "a path, and what to write there"
            raise UsageError(msg)
        self._changed(lambda: sysfiles.write(words[0], " ".join(words[1:]), self._ledger, once=once))

    def changes(self, words: Sequence[str]) -> None:
        """What was changed."""
        if words:
            msg = f"{words[0]!r} is not expected here"
            raise UsageError(msg)
        self._tell(self._ledger.lines())

    def log(self, words: Sequence[str]) -> None:
        """The kernel's last messages."""
        if len(words) > 1 or not all(w.isascii() and w.isdecimal() and len(w) < 6 for w in words):  # noqa: PLR2004
            msg = "how many lines"
            raise UsageError(msg)
        self._tell(log.lines(log.last(int(words[0]) if words else _LINES)))

    def reboot(self, words: Sequence[str]) -> None:
        """Restarts the machine; asked twice, then sync and a system call."""
        words, no_sync = [w for w in words if w != "--no-sync"], "--no-sync" in words
        word = " ".join(words)
        answer = reboot.ask(self._asked, word, boot_ns(), reboot.lost(sync=not no_sync))
        self._asked = answer.asked
        self._tell(answer.lines)
        if answer.go:
            reboot.reboot(reboot.restart, None if no_sync else os.sync)

    def undo(self, *, force: bool = False) -> None:
        """Takes the last change of a setting back; for `undo --force`, which the console does not keep a list of."""
        self._tell(self._ledger.undo(force=force))

    def _changed(self, change: Callable[[], list[str]]) -> None:
        """Changes something, and has one act for each place that was changed, also if a later one was refused."""
        before = len(self._ledger.changes)
        try:
            self._tell(change())
        finally:
            for _one in self._ledger.changes[before:]:
                self._acts.append(Act("changed a setting", lambda: "\n".join(self._ledger.undo())))

    def _tell(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._say(line)
