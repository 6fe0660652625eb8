"""Processes that wait for each other, and `pidwarden trace --why` asked of them in this process."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, NamedTuple

from kit import Child, prop, until

from pidwarden.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCKS = ("mutex", "relock", "mutexes", "rwlock", "join", "cond", "semaphore", "fcntl", "ofd", "flock", "flocks")
LOCKS += ("semop", "msgrcv")
STUCK = ("exec-traced", "uffd")


@contextlib.contextmanager
def stage(what: str, *arguments: str) -> Iterator[list[tuple[int, int]]]:
    """The prop, and what it says until its line of zeros."""
    name = "stuck" if what in STUCK else "blockedlock" if what in LOCKS else "blocked"
    running = Child(prop(name), what, *arguments, group=True)
    try:
        said = []
        while (line := running.said()) != (0, 0):
            said.append(line)
        yield said
    finally:
        if what in ("semop", "msgrcv"):
            running.tell()
            running.process.wait(20)
        running.end()


class Picture(NamedTuple):
    """One answer."""

    code: int
    json: dict
    text: str = ""

    def waiter(self, who: object) -> dict:
        return next(w for w in self.json["waiters"] if w["id"] == str(who))

    def calls(self) -> list[tuple[str, str, str]]:
        """What each of them is in."""
        return [(w["id"], w["call"], w["end"]) for w in self.json["waiters"]]

    def chain(self, who: object) -> list[str]:
        """From one over the first that it waits for, and so on, as far as that goes."""
        found: list[str] = []
        todo = [str(who)]
        while todo and todo[0] not in found:
            found.append(todo[0])
            todo = [e["id"] for e in self.waiter(todo[0])["waits_for"]]
        return found

    def ending(self, who: object) -> str:
        return self.waiter(self.chain(who)[-1])["end"]


class Asking:
    """Asks until everybody is asleep where he should be."""

    def __init__(self, capsys) -> None:
        self._capsys = capsys

    def once(self, who: object) -> Picture:
        code = main(["trace", "--why", str(who), "--json"])
        return Picture(code, json.loads(self._capsys.readouterr().out))

    def __call__(self, who: object, is_so) -> Picture:
        def there():
            found = self.once(who)
            with contextlib.suppress(StopIteration, IndexError):
                if is_so(found):
                    main(["trace", "--why", str(who)])
                    text = self._capsys.readouterr().out
                    return found._replace(text=text) if self.once(who).calls() == found.calls() else None
            return None

        return until(there, f"{who} to wait as it should")


def ends_in(who: object, end: str):
    return lambda picture: picture.ending(who) == end
