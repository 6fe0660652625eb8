"""What of a trace is wanted, out of ``-e`` expressions as strace takes them, and some more. Pure.

``openat,read``, ``trace=…``, ``!…``, ``/REGEX``, ``%GROUP``, ``@GROUP``, ``?maybe`` choose calls; ``status=failed``,
``errno=ENOENT,EACCES`` and ``took>10ms`` choose by what became of them, which is done in the kernel; ``signal=…``
chooses signals. As with strace the last of a kind counts.
"""

from __future__ import annotations

import errno
import re
import signal
from typing import TYPE_CHECKING, Final, NamedTuple

from pidwarden.errors import UsageError
from pidwarden.trace import groups

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pidwarden.trace.groups import Parameters

_UNITS: Final = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "": 1_000_000_000}
_SPAN = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*(ns|us|µs|ms|s|)")
_TOOK = re.compile(r"(?:took|time|duration)\s*>=?\s*(.*)")
_LARGEST_ERRNO: Final = 133
_STATUS: Final = {"failed": "failed", "fail": "failed", "successful": "done", "success": "done", "done": "done"}
_FOREIGN: Final = {  # what strace has beside these, and what there is in its place
    "abbrev": "-s N says how much is shown",
    "verbose": "-s N says how much is shown",
    "raw": "`--json` has the raw numbers",
    "read": "`--data` shows what is read and written",
    "write": "`--data` shows what is read and written",
    "inject": "nothing is changed here; that is what strace is for",
    "fault": "nothing is changed here; that is what strace is for",
    "kvm": "",
    "decode-fds": "-y names descriptors",
    "quiet": "-q",
    "namespace": "",
}


class Filter(NamedTuple):
    """What goes into the stream. ``calls`` None: all of them."""

    calls: frozenset[str] | None = None
    only: str = ""  # "failed", "done", "": whatever the result was
    errnos: frozenset[int] = frozenset()
    min_ns: int = 0
    signals: frozenset[int] | None = None  # None: all of them

    @property
    def by_result(self) -> bool:
        """Whether it is known only at its end whether a call is wanted."""
        return bool(self.only or self.errnos or self.min_ns)

    def wants(self, name: str) -> bool:
        """Whether a call of this name is wanted, if its result is."""
        return self.calls is None or name in self.calls

    def masks(self) -> tuple[int, int, int]:
        """The errors as three words of bits, as the kernel side takes them."""
        whole = sum(1 << number for number in self.errnos)
        return tuple(whole >> 64 * n & (1 << 64) - 1 for n in range(3))  # type: ignore[return-value]


def parse(expressions: Sequence[str], calls: Mapping[str, Parameters], slower: str | None = None) -> Filter:
    """What these expressions want, of the calls that there are here: name → types and names of their arguments.

    Raises:
        UsageError: one cannot be understood.
    """
    found = Filter()
    for expression in expressions:
        found = _one(found, expression.strip(), calls)
    if slower is not None:
        found = found._replace(min_ns=span_ns(slower))
    if found.only == "done" and found.errnos:
        msg = "status=successful and errno= exclude each other; leave one of them out"
        raise UsageError(msg)
    return found


def _one(found: Filter, expression: str, calls: Mapping[str, Parameters]) -> Filter:
    if took := _TOOK.fullmatch(expression):
        return found._replace(min_ns=span_ns(took[1]))
    kind, equals, value = expression.partition("=")
    if not equals or kind[:1] == "/":
        return found._replace(calls=_calls(expression, calls))
    if kind in ("trace", "t"):
        return found._replace(calls=_calls(value, calls))
    if kind in ("status", "s"):
        return found._replace(only=_status(value))
    if kind in ("errno", "error"):
        return found._replace(errnos=frozenset(_errno(word) for word in _split(value, expression)))
    if kind in ("signal", "signals"):
        return found._replace(signals=_signals(value))
    if kind in _FOREIGN:
        msg = f"-e {expression}: that is not done here" + (f"; {_FOREIGN[kind]}" if _FOREIGN[kind] else "")
        raise UsageError(msg)
    msg = f"-e {expression}: {kind!r} is none of trace, status, errno, took>TIME and signal; see docs/trace.md"
    raise UsageError(msg)


def _split(text: str, expression: str) -> list[str]:
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        msg = f"-e {expression}: a name is missing between the commas"
        raise UsageError(msg)
    return words


def _inverted(text: str) -> tuple[bool, str]:
    return (True, text[1:]) if text[:1] == "!" else (False, text)


# -- calls -------------------------------------------------------------------------------------------------------------


def _calls(text: str, calls: Mapping[str, Parameters]) -> frozenset[str] | None:
    """The names that are wanted; None: all."""
    invert, text = _inverted(text)
    if text == "all" or (text == "none" and invert):
        return frozenset() if invert and text == "all" else None
    if text == "none":
        return frozenset()
    found = frozenset[str]().union(*(_word(word, calls) for word in _split_calls(text)))
    return frozenset(calls) - found if invert else found


def _split_calls(text: str) -> list[str]:
    """At commas; but a regular expression may have some within brackets or braces."""
    words, start, depth = [], 0, 0
    for at, sign in enumerate(text):
        if sign in "{[(":
            depth += 1
        elif sign in "}])":
            depth = max(depth - 1, 0)
        elif sign == "," and not depth:
            words.append(text[start:at].strip())
            start = at + 1
    words.append(text[start:].strip())
    if not all(words):
        msg = f"-e {text}: a call is missing; type `-e openat,read` or `-e %file`"
        raise UsageError(msg)
    return words


def _word(word: str, calls: Mapping[str, Parameters]) -> frozenset[str]:
    maybe, name = (True, word[1:]) if word[0] == "?" else (False, word)
    if name[:1] == "/":
        found = _matching(name[1:], calls)
        if not found and not maybe:
            msg = f"-e {word}: no call's name matches that; type `-e '/^open'`"
            raise UsageError(msg)
        return found
    if name[:1] in ("%", "@"):
        members = groups.members(name, calls)
        if members is None:
            msg = f"-e {word}: there is no such group" + _nearest(name, groups.names())
            raise UsageError(msg)
        return members
    if name in calls:
        return frozenset({name})
    bare = groups.members(f"%{name}", calls)  # strace still takes `file` for `%file`
    if bare is not None:
        return bare
    if maybe:
        return frozenset()
    msg = f"-e {word}: this machine has no call of that name" + _nearest(name, [*calls, *groups.names()])
    raise UsageError(msg)


def _matching(pattern: str, calls: Mapping[str, Parameters]) -> frozenset[str]:
    try:
        found = re.compile(pattern)
    except re.error as why:
        msg = f"-e /{pattern}: that is no regular expression ({why}); type `-e '/^open'`"
        raise UsageError(msg) from why
    return frozenset(name for name in calls if found.search(name))


def _nearest(name: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415  (only for a mistake)

    near = get_close_matches(name, known, n=2, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else ""


# -- results, signals, times -------------------------------------------------------------------------------------------


def _status(text: str) -> str:
    invert, text = _inverted(text)
    if text in ("all", "none"):
        return ""
    words = {_STATUS.get(word.strip()) for word in text.split(",")}
    if None in words:
        msg = f"-e status={text}: type status=failed or status=successful"
        raise UsageError(msg)
    if len(words) > 1:
        return ""
    only = words.pop() or ""
    return {"failed": "done", "done": "failed"}[only] if invert else only


def _errno(word: str) -> int:
    number = int(word) if word.isascii() and word.isdecimal() else getattr(errno, word.upper(), 0)
    if isinstance(number, int) and 0 < number <= _LARGEST_ERRNO:
        return number
    msg = f"-e errno={word}: there is no such error" + _nearest(word.upper(), errno.errorcode.values())
    raise UsageError(msg)


def _signals(text: str) -> frozenset[int] | None:
    invert, text = _inverted(text)
    every = frozenset(range(1, 65))
    if text in ("all", "none"):
        return None if (text == "all") != invert else frozenset()
    found = frozenset(_signal(word.strip()) for word in text.split(","))
    return every - found if invert else found


def _signal(word: str) -> int:
    name = word.upper()
    if word.isascii() and word.isdecimal() and 0 < int(word[:4]) <= 64:  # noqa: PLR2004  (_NSIG)
        return int(word)
    try:
        return int(signal.Signals[name if name.startswith("SIG") else f"SIG{name}"])
    except KeyError as why:
        known = [each.name for each in signal.Signals]
        msg = f"-e signal={word}: there is no such signal" + _nearest(f"SIG{name.removeprefix('SIG')}", known)
        raise UsageError(msg) from why


def span_ns(text: str) -> int:
    """A time as ``10ms``, ``1.5s``, ``200us``, in ns; a bare number is seconds.

    Raises:
        UsageError: it is none.
    """
    match = _SPAN.fullmatch(text.strip())
    if match is None:
        msg = f"{text!r} is no time; type one as 10ms, 1.5s or 200us"
        raise UsageError(msg)
    whole, _dot, part = match[1].partition(".")
    unit = _UNITS[match[2]]
    return int(whole) * unit + int(part.ljust(9, "0")[:9] or 0) * unit // 1_000_000_000
