"""One system call as far as it is known: its arguments, what they point to before and after, its result. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from pidwarden.trace.abi import FAULT

if TYPE_CHECKING:
    from collections.abc import Callable

    from pidwarden.trace.event import Event, Piece

MAX_ERRNO: Final = 4095
_NOTHING: Final[tuple[Piece, ...]] = ()


RESULT: Final = -1


class Place(NamedTuple):
    """Of which argument a formatter is."""

    arg: int
    by: int | None  # which argument says how many, RESULT: the result does
    given: bool  # the call reads it
    told: bool  # the call fills it in
    limit: int  # bytes of a string


class Unknown(Exception):  # noqa: N818  (no error: the call goes on)
    """The argument is known only when the call has returned."""


class Call:
    """What a formatter is given. `ret` is None while the call goes on."""

    __slots__ = ("after", "args", "before", "failed", "ret", "tid")

    def __init__(self, enter: Event | None, done: Event | None) -> None:
        self.before = enter.pieces if enter is not None else _NOTHING
        if done is not None:
            ret: int | None = done.ret
            self.args = done.args
            self.tid = done.tid
            self.after = done.pieces
            self.failed = -MAX_ERRNO <= done.ret < 0
        else:
            assert enter is not None
            ret = None
            self.args = enter.args
            self.tid = enter.tid
            self.after = _NOTHING
            self.failed = False
        self.ret = ret

    def given(self, arg: int, part: int = 0) -> Piece | None:
        """What the kernel was given there: as it was at the entry, else as it is at the return.

        Raises:
            Unknown: it could not be read at the entry, but may be when the call returns.
        """
        for piece in self.before:
            if piece.arg == arg and piece.part == part:
                if not piece.flags & FAULT:
                    return piece
                self.finished()
        return self.told(arg, part)

    def is_bad(self, arg: int, part: int = 0) -> bool:
        """Whether it was tried to read that, and there is no memory."""
        return any(piece.arg == arg and piece.part == part for piece in (*self.before, *self.after))

    def told(self, arg: int, part: int = 0) -> Piece | None:
        """What was there at the return."""
        for piece in self.after:
            if piece.arg == arg and piece.part == part and not piece.flags & FAULT:
                return piece
        return None

    def parts(self, arg: int) -> tuple[Piece, ...]:
        """All pieces of an argument; of the return if there are any."""
        return tuple(p for p in self.after if p.arg == arg) or tuple(p for p in self.before if p.arg == arg)

    def finished(self) -> None:
        """Raises:
        Unknown: the call goes on.
        """
        if self.ret is None:
            raise Unknown


if TYPE_CHECKING:
    # The text of one argument of a call, None if it has none there.
    Formatter = Callable[[Call], str | None]
