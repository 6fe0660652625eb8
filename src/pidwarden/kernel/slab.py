"""What things cost the kernel in memory, as this kernel has it: the sizes of its objects, not constants."""

from __future__ import annotations

from typing import NamedTuple

from pidwarden.kernel.procfs import PAGE, PROC

# What stays of a process until it is reaped (kernel/fork.c, kernel/pid.c, kernel/cred.c, kernel/delayacct.c).
CACHES = ("task_struct", "sighand_cache", "signal_cache", "pid", "cred_jar", "task_delay_info")
_BYTES = 1 << 18
_OBJSIZE, _PER_SLAB, _PAGES = 3, 4, 5  # name, active objects, objects, size of one, objects and pages of a slab


class Cost(NamedTuple):
    """Bytes of one zombie, None if not known, then `why`; the caches that were counted and those that have no line."""

    each: int | None
    counted: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    why: str = ""


def cost(root: str = PROC) -> Cost:
    """Out of ``/proc/slabinfo`` (slabinfo(5)), which root alone may read.

    The kernel keeps small caches of like size together under one name: of those that are not listed nothing is counted.
    """
    try:
        with open(f"{root}/slabinfo", "rb") as file:
            sizes = parse(file.read(_BYTES))
    except PermissionError:
        return Cost(None, why="/proc/slabinfo is for root: type `sudo pidwarden zombies`")
    except OSError:
        return Cost(None, why="this kernel has no /proc/slabinfo (CONFIG_SLUB_DEBUG)")
    counted = tuple(name for name in CACHES if name in sizes)
    if "task_struct" not in sizes:
        return Cost(None, why="/proc/slabinfo does not name task_struct")
    return Cost(sum(sizes[name] for name in counted), counted, tuple(n for n in CACHES if n not in sizes))


def per_object(root: str = PROC) -> dict[str, int]:
    """Bytes that one object of each cache takes with its share of the slab; none if that is not for us to read."""
    try:
        with open(f"{root}/slabinfo", "rb") as file:
            lines = file.read(_BYTES).splitlines()
    except OSError:
        return {}
    found = {}
    for line in lines:
        words = line.split()
        if len(words) > _PAGES and words[_PER_SLAB].isdigit() and words[_PAGES].isdigit() and int(words[_PER_SLAB]):
            found[words[0].decode("ascii", "replace")] = int(words[_PAGES]) * PAGE // int(words[_PER_SLAB])
    return found


def parse(data: bytes) -> dict[str, int]:
    """Bytes of one object by cache."""
    found = {}
    for line in data.splitlines():
        words = line.split()
        if len(words) > _OBJSIZE and words[_OBJSIZE].isdigit():
            found[words[0].decode("ascii", "replace")] = int(words[_OBJSIZE])
    return found
