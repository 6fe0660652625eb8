"""Turns events into strace's text, call by call; and into values for JSON. Pure: events in, text out.

What a call takes is worked out when it is first seen; an event then costs one function call an argument.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pidwarden.trace import results
from pidwarden.trace.abi import CALLS
from pidwarden.trace.call import Call, Unknown
from pidwarden.trace.formatters import make, parse
from pidwarden.trace.numbers import CALLS as NUMBERS
from pidwarden.trace.shapes import shape
from pidwarden.trace.signals import siginfo, signal_name
from pidwarden.trace.signature import EVENTS, Signature, parse_format, unnamed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pidwarden.trace.call import Formatter
    from pidwarden.trace.event import Event

_RESTART: Final = "restart_syscall"
_RESTART_BLOCK: Final = -516  # include/linux/errno.h
STRING: Final = 32  # bytes that are shown of a string


class _Argument(NamedTuple):
    """One argument of one call."""

    text: Formatter
    name: str
    kind: str
    arg: int


class _Shape(NamedTuple):
    name: str
    arguments: tuple[_Argument, ...]
    texts: tuple[Formatter, ...]
    result: Callable[[Call], str]


def signatures(formats: Mapping[str, str]) -> dict[str, Signature]:
    """By the name of the call, of what :func:`pidwarden.kernel.callformats.read` found."""
    found = {name: parse_format(name, text) for name, text in formats.items()}
    return found | {name: found[event]._replace(name=name) for name, event in EVENTS.items() if event in found}


class Decoder:
    """Of one machine, as uname(2) names it; strings are cut at `string` bytes."""

    def __init__(self, machine: str, signatures: Mapping[str, Signature], *, string: int = STRING) -> None:
        self._machine = machine
        self._signatures = signatures
        self._string = string
        self._shapes: dict[int, _Shape] = {}
        self._interrupted: dict[int, str] = {}  # by thread: the call that restart_syscall goes on with
        self._done: Event | None = None  # of whose arguments the text was asked last …
        self._call: Call | None = None  # … and what is known of it: mostly its result is asked for next

    def name(self, nr: int) -> str:
        """The name of a call; ``syscall_0x1f4`` if it has none here."""
        return self._shape(nr).name

    def arguments(self, enter: Event | None, done: Event | None) -> list[str]:
        """The arguments as text; of a call that goes on, those that are known, up to the first that is not."""
        if done is not None:
            call = self._call = Call(enter, done)
            self._done = done
            return [said for text in self._shape(done.nr).texts if (said := text(call)) is not None]
        assert enter is not None
        return list(_known(self._shape(enter.nr).texts, Call(enter, None)))

    def values(self, enter: Event | None, done: Event | None) -> dict[str, Any]:
        """The arguments by name: numbers as numbers, strings as text, all else as :meth:`arguments` has it."""
        event = done or enter
        assert event is not None
        call = Call(enter, done)
        found: dict[str, Any] = {}
        try:
            for argument in self._shape(event.nr).arguments:
                said = argument.text(call)
                if said is not None:
                    found[argument.name] = _value(argument, call, said)
        except Unknown:
            pass
        return found

    def result(self, event: Event) -> str:
        """What the call returned, with the equals sign."""
        call = self._call if event is self._done and self._call is not None else Call(None, event)
        shape = self._shape(event.nr)
        if event.ret == _RESTART_BLOCK:
            self._interrupted[event.tid] = shape.name
        return f" = {shape.result(call)}"

    def signal(self, event: Event) -> str:
        """The line of a signal that arrived."""
        data = event.pieces[0].data if event.pieces else b""
        name = signal_name(event.args[0])
        return f"--- {name} {siginfo(data) if len(data) >= 16 else '{}'} ---"  # noqa: PLR2004

    def ending(self, event: Event) -> str:
        """The line of a thread that ended."""
        self._interrupted.pop(event.tid, None)
        number = event.ret & 0x7F
        if not number:
            return f"+++ exited with {event.ret >> 8 & 0xFF} +++"
        core = " (core dumped)" if event.ret & 0x80 else ""
        return f"+++ killed by {signal_name(number)}{core} +++"

    def _shape(self, nr: int) -> _Shape:
        found = self._shapes.get(nr)
        if found is None:
            found = self._shapes[nr] = self._work_out(nr)
        return found

    def _work_out(self, nr: int) -> _Shape:
        abi, number = divmod(nr, CALLS)
        tables = NUMBERS.get(self._machine, ())
        name = tables[abi].get(number) if abi < len(tables) else None
        if name is None:
            signature, name = unnamed(""), f"syscall_{number:#x}"
        else:
            signature = self._signatures.get(name) or unnamed(name)
        arguments = tuple(self._arguments(signature, own=not abi))
        if name == _RESTART:
            arguments = (_Argument(self._resuming, "call", "call", 0),)
        return _Shape(name, arguments, tuple(argument.text for argument in arguments), results.of_call(name))

    def _resuming(self, call: Call) -> str:
        return f"<... resuming interrupted {self._interrupted.get(call.tid, 'system call')} ...>"

    def _arguments(self, signature: Signature, *, own: bool) -> Iterator[_Argument]:
        words, sure = (_UNNAMED, True) if not signature.name else shape(signature, own=own, machine=self._machine)
        for position, word in enumerate(words):
            kind, place = parse(word, position, self._string)
            text = make(word, position, self._string)
            name = signature.args[place.arg][1] if place.arg < len(signature.args) else f"a{place.arg}"
            yield _Argument(text if sure else _named(name, text), name, kind, place.arg)


def _known(texts: tuple[Formatter, ...], call: Call) -> Iterator[str]:
    """Up to the first that is known only when the call has returned."""
    try:
        for text in texts:
            said = text(call)
            if said is not None:
                yield said
    except Unknown:
        return


def _named(name: str, text: Formatter) -> Formatter:
    def formatter(call: Call) -> str:
        return f"{name}={text(call)}"

    return formatter


_UNNAMED: Final = ("x",) * 6
_NUMBERS: Final = frozenset(("fd", "d", "u", "u32", "ld", "dirfd", "id"))
_NAMED_BY_STRACE: Final = frozenset(("clone_stack", "clone_flags", "clone_parent", "clone_tls", "clone_child"))
_STRINGS: Final = frozenset(("path", "str"))


def _value(argument: _Argument, call: Call, said: str) -> int | str:
    said = said.partition("=")[2] if argument.kind in _NAMED_BY_STRACE else said.removeprefix(f"{argument.name}=")
    if argument.kind in _NUMBERS and said.removeprefix("-").isdecimal():
        return int(said)
    piece = call.given(argument.arg) if argument.kind in _STRINGS and said[:1] == '"' else None
    if piece is None:
        return said
    return piece.data.decode("utf-8", "backslashreplace") + ("..." if said.endswith("...") else "")
