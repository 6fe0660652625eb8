"""What the tests of a trace share: plans made by hand, numbers of calls, what a tracer saw."""

from __future__ import annotations

import functools
import re

from pidwarden.trace import abi
from pidwarden.trace.tracer import Settings, Tracer

_NUMBER = re.compile(r"#define __NR_(\w+)\s+(\d+)")
_HEADERS = ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm-generic/unistd.h")
PATH = int.from_bytes(abi.CAPTURE.pack(abi.STRING, abi.AT_ENTRY, abi.BY_NOTHING, 0, 0, 4096), "little")


@functools.cache
def numbers():
    """Numbers by name of this machine's calls, as the C library's headers have them."""
    for path in _HEADERS:
        try:
            with open(path, encoding="ascii") as file:
                return {name: int(number) for name, number in _NUMBER.findall(file.read())}
        except OSError:
            continue
    raise FileNotFoundError(_HEADERS)


def plan(*captures):
    """A ``struct tr_plan``: told and counted, with these captures."""
    words = [*captures, *[0] * (abi.ARGS - len(captures))]
    return abi.PLAN.pack(1, 0, 0, 0, 1, *words)


def tracer(plans, **settings):
    """A tracer of the calls of `plans`, by name."""
    return Tracer(Settings(**settings), {numbers()[name]: made for name, made in plans.items()})
