"""When something found is worth a word: when it begins, when it has doubled, and when it is over. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

What = Literal["begins", "doubled", "over"]

MOST = 100  # episodes of one rule at a time; more than that is one trouble, not many
_CALM_LOOKS = 2  # looks in a row without it, before it is over: what goes up and down is one episode


class Finding(NamedTuple):
    """What one look found of one parent, family or task: its size, whether that is too much, and what to say of it.

    ``size`` is what may double: zombies, orphans, seconds. ``facts`` go into the event as they are.
    """

    size: int
    beyond: bool
    text: str
    facts: Mapping[str, Any] = {}


class Told(NamedTuple):
    """One event to be told."""

    what: What
    who: Hashable
    finding: Finding
    lasted_ns: int


class _Episode:
    def __init__(self, finding: Finding, now_ns: int) -> None:
        self.began_ns, self.told = now_ns, finding.size
        self.last, self.calm = finding, 0


class Episodes:
    """Follows the findings of one rule from look to look."""

    def __init__(self) -> None:
        self._open: dict[Hashable, _Episode] = {}
        self.unfollowed = 0  # of the last look: those beyond, for whom there was no room

    @property
    def open(self) -> dict[Hashable, Finding]:
        """What goes on, as it was last seen."""
        return {who: episode.last for who, episode in self._open.items()}

    def __contains__(self, who: Hashable) -> bool:
        return who in self._open

    def look(self, found: Mapping[Hashable, Finding], now_ns: int) -> list[Told]:
        """Takes in a look: everything found, also what is not (any more) too much; what is to be told, in order."""
        told = []
        for who, episode in list(self._open.items()):
            finding = found.get(who)
            if finding is not None and finding.beyond:
                episode.calm, episode.last = 0, finding
                if finding.size >= 2 * episode.told:
                    episode.told = finding.size
                    told.append(Told("doubled", who, finding, now_ns - episode.began_ns))
                continue
            episode.calm += 1
            episode.last = finding or episode.last._replace(size=0)
            # Nothing left is no pause: who is gone does not come back.
            if finding is None or episode.calm >= _CALM_LOOKS:
                del self._open[who]
                told.append(Told("over", who, episode.last, now_ns - episode.began_ns))
        fresh = sorted(
            ((who, f) for who, f in found.items() if f.beyond and who not in self._open),
            key=lambda item: item[1].size,
            reverse=True,
        )
        room = max(0, MOST - len(self._open))
        self.unfollowed = len(fresh[room:])
        for who, finding in fresh[:room]:
            self._open[who] = _Episode(finding, now_ns)
            told.append(Told("begins", who, finding, 0))
        return told
