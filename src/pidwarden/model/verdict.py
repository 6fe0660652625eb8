"""What the judge says of a family."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pidwarden.model.key import ProcessKey
    from pidwarden.model.record import Record


class Kind(StrEnum):
    """The three verdicts."""

    BOMB = "bomb"
    BURST = "burst"
    UNSURE = "unsure"


class Verdict(NamedTuple):
    """A verdict with its reasons, in words and numbers.

    ``roots`` are the guilty subtrees' roots, the heaviest first; ``members`` are the processes of those subtrees that
    still hold a slot; ``spared`` counts the living processes of the family outside them. ``doubtful`` marks a burst
    that smells of a bomb: its next budget is a small one.
    """

    kind: Kind
    roots: tuple[Record, ...]
    members: tuple[ProcessKey, ...]
    slots: int
    spared: int
    reasons: tuple[str, ...]
    doubtful: bool = False
