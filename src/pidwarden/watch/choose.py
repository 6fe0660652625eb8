"""Which source a guard uses: the best that works here, and why those before it do not. What each one promises."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pidwarden.errors import NotPossible, PidwardenError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pidwarden.watch.base import Source

ORDER = ("bpf", "connector", "poll")  # the best first


class Promise(NamedTuple):
    """What a source can be relied upon for, and what not."""

    promises: str
    not_promised: str


PROMISES = {
    "bpf": Promise(
        "every fork, exec, exit and release is counted in the kernel, and forks of a held family do not happen", ""
    ),
    "connector": Promise(
        "every fork is announced, by its real parent; a loss is noticed and repaired; a runaway is stopped and killed "
        "to the last, and that is proven",
        "how far it grows meanwhile; who the creator was where events were lost or CLONE_PARENT was used; that "
        "anything stays held when the guard is killed",
    ),
    "poll": Promise(
        "a runaway of processes that live for longer than a look is stopped and killed to the last",
        "how far it grows meanwhile; that chains of fork and exit are seen, or who lived between two looks; "
        "who the creator was; that anything stays held when the guard is killed",
    ),
}


class Chosen(NamedTuple):
    """A source that works, and the refusals of the better ones: name and reason."""

    source: Source
    refused: dict[str, str]


def choose(wanted: str, openers: Mapping[str, Callable[[], Source]]) -> Chosen:
    """Opens the wanted source, or with ``auto`` the first that opens.

    Raises:
        NotPossible: none does; each one's reason.
    """
    refused: dict[str, str] = {}
    for name in ORDER if wanted == "auto" else (wanted,):
        if name not in openers:
            continue
        try:
            return Chosen(openers[name](), refused)
        except PidwardenError as why:
            if wanted == name:
                raise
            refused[name] = str(why)
    msg = "; ".join(f"{name}: {why}" for name, why in refused.items())
    raise NotPossible(f"no source of families works here: {msg}")
