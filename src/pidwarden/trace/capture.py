"""What is copied of the memory that a call's arguments point to, and when: the plans of bpf/trace_abi.h. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from pidwarden.trace import abi, special
from pidwarden.trace.abi import (
    AT_ENTRY,
    AT_RETURN,
    BY_ARG,
    BY_NOTHING,
    BY_RESULT,
    BY_WORD,
    BYTES,
    ENTRIES,
    IF_DONE,
    IOVEC,
    MSGHDR,
    NOTHING,
    STRING,
    STRINGS,
)
from pidwarden.trace.abi import PIECE_BYTES as PIECE
from pidwarden.trace.call import RESULT, Place
from pidwarden.trace.formatters import parse
from pidwarden.trace.numbers import CALLS as NUMBERS
from pidwarden.trace.shapes import shape
from pidwarden.trace.sockets import ADDRESS_BYTES, MSGHDR_BYTES
from pidwarden.trace.structs import ARRAYS, KINDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pidwarden.trace.signature import Signature

_OPTION: Final = 256  # bytes of a socket's option
_SHORT_OPTION: Final = 16  # without data: numbers and times, not the keys of TLS


class Capture(NamedTuple):
    """struct tr_capture: what is copied of one argument."""

    kind: int = NOTHING
    when: int = 0
    by: int = BY_NOTHING
    unit: int = 0
    size: int = 0
    most: int = 0


class Plan(NamedTuple):
    """struct tr_plan: of one call."""

    traced: bool
    counted: bool
    args: tuple[Capture, ...]

    def pack(self) -> bytes:
        """The bytes of struct tr_plan."""
        words = (int.from_bytes(abi.CAPTURE.pack(*capture), "little") for capture in self.args)
        return abi.PLAN.pack(self.traced, 0, 0, 0, self.counted, *words)


_NONE: Final = Capture()


def plans(  # noqa: PLR0913
    names: Mapping[int, str], signatures: Mapping[str, Signature], *,
    data: bool, string: int, own: bool = True, machine: str = "x86_64",
) -> dict[int, Plan]:  # fmt: skip
    """A plan for each of these calls, by the same numbers; all traced and counted.

    Args:
        names: of calls of one ABI.
        signatures: by name.
        data: capture what is read, written, sent and received too.
        string: bytes of a string that are shown; one more is captured, so that a cut is seen.
        own: it is the machine's own ABI; of others only strings are captured.
        machine: as uname(2) names it.
    """
    found = {}
    for number, name in names.items():
        signature = signatures.get(name)
        words = shape(signature, own=own, machine=machine)[0] if signature is not None else ()
        args = [_NONE] * abi.ARGS
        for position, word in enumerate(words):
            kind, place = parse(word, position, string)
            args[place.arg] = _capture(kind, place, word, data=data)
        found[number] = Plan(traced=True, counted=True, args=tuple(args))
    return found


def every(machine: str, signatures: Mapping[str, Signature], *, data: bool, string: int) -> dict[int, Plan]:
    """Plans of all calls of all ABIs of a machine, by ``nr``; of its own also where a number has no name here."""
    found = {}
    for abi_number, names in enumerate(NUMBERS.get(machine, ())):
        own = abi_number == abi.NATIVE
        known = {number: name for number, name in names.items() if number < abi.CALLS}
        if own:
            known = dict.fromkeys(range(abi.CALLS), "") | known
        made = plans(known, signatures, data=data, string=string, own=own, machine=machine)
        found.update({abi.CALLS * abi_number + number: plan for number, plan in made.items()})
    return found


def _when(place: Place, word: str) -> int:
    if word.endswith("!"):
        return AT_RETURN
    return (AT_ENTRY if place.given else 0) | (AT_RETURN | IF_DONE if place.told else 0)


def _by(place: Place) -> int:
    if place.by is None:
        return BY_NOTHING
    return BY_RESULT if place.by == RESULT else BY_ARG + place.by


def _capture(kind: str, place: Place, word: str, *, data: bool) -> Capture:  # noqa: C901, PLR0911, PLR0912  (one table)
    when, by = _when(place, word), _by(place)
    most = min(place.limit + 1, PIECE)
    if kind in _FIXED:
        return _FIXED[kind]._replace(when=_FIXED[kind].when or when)
    if kind in KINDS:
        return Capture(BYTES, when, size=KINDS[kind][0])
    if kind in ARRAYS:
        unit = ARRAYS[kind][0]
        return Capture(BYTES, when, by, unit, most=PIECE)
    if kind in ("data", "random", "xvalue"):
        return Capture(BYTES, when, by, 1, most=most) if data else _NONE
    if kind == "iov":
        when &= ~IF_DONE  # where there would have been room is told of a call that failed too
        return Capture(IOVEC, when, by, most=most) if data else Capture(IOVEC, AT_RETURN, by)
    if kind == "msghdr":
        return Capture(MSGHDR, when, size=MSGHDR_BYTES, most=most if data else 0)
    if kind in ("str", "mount_type", "mount_data"):
        return Capture(STRING, when, most=most)
    if kind == "argv":
        return Capture(STRINGS, when, most=most)
    if kind in ("link", "list"):
        return Capture(BYTES, when, by, 1, most=most)
    if kind == "setsockopt":
        return Capture(BYTES, AT_RETURN, by, 1, most=_OPTION if data else _SHORT_OPTION)
    if kind in _AT_PLACES:
        places, capture = _AT_PLACES[kind]
        return capture if place.arg in places else _NONE
    if kind in _COUNTED:
        unit, largest = _COUNTED[kind]
        return Capture(BYTES, when, by, unit, most=min(largest, PIECE))
    if kind == "sockaddr":
        if place.told:
            return Capture(BYTES, when, BY_WORD + (place.by or 0), 1, most=ADDRESS_BYTES)
        return Capture(BYTES, when, by, 1, most=ADDRESS_BYTES)
    return _NONE


_EVERY: Final = AT_ENTRY | AT_RETURN
_LENGTH: Final = 16  # where d_reclen lies in struct linux_dirent and linux_dirent64
_FIXED: Final = {
    "dents": Capture(ENTRIES, by=BY_RESULT, size=_LENGTH),
    "dents64": Capture(ENTRIES, by=BY_RESULT, size=_LENGTH),
    "path": Capture(STRING, most=PIECE),
    "envp": Capture(STRINGS),  # with `most` 0: how many there are, and nothing else
    "socklen": Capture(BYTES, _EVERY, size=4),
    "left": Capture(BYTES, AT_RETURN, size=16),
    "pair": Capture(BYTES, AT_RETURN | IF_DONE, size=8),
    "fdset": Capture(BYTES, size=128),
    "offset": Capture(BYTES, size=8),
    "clone_args": Capture(BYTES, BY_NOTHING, BY_ARG + 1, 1, most=128),
    "clone_parent": Capture(BYTES, size=4),
    "epoll_ctl": Capture(BYTES, size=12),
    "epoll_ctl_generic": Capture(BYTES, size=16),
    "arch_arg": Capture(BYTES, AT_RETURN | IF_DONE, size=8),
    "fcntl_arg": Capture(BYTES, AT_RETURN, size=32),
    "ioctl_arg": Capture(BYTES, AT_RETURN, size=special.IOCTL_BYTES),
    "sockopt": Capture(BYTES, AT_RETURN | IF_DONE, BY_WORD + 4, 1, most=_OPTION),
    "status": Capture(BYTES, size=4),
    "sigevent": Capture(BYTES, size=64),
    "child_usage": Capture(BYTES, size=144),
    "sigmask6": Capture(BYTES, size=16),
}
# Whose length another argument or the result says: bytes of one, and at most.
_COUNTED: Final = {
    "cwd": (1, PIECE), "sigset": (1, 8), "cpus": (1, 128), "groups": (4, 128 * 4),
}  # fmt: skip
# Kinds of several arguments, and which of them can be a pointer.
_AT_PLACES: Final = {
    "futex_arg": ((3,), Capture(BYTES, AT_RETURN, size=16)),
    "prctl_arg": ((1, 2), Capture(BYTES, AT_RETURN, size=16)),
}
