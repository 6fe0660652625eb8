"""What things cost the kernel in memory, as this kernel has it: its caches of objects (slabinfo(5)), not constants."""

from __future__ import annotations

from typing import NamedTuple

from pidwarden.kernel.procfs import PAGE, PROC

# What stays of a process until it is reaped (kernel/fork.c, kernel/pid.c, kernel/cred.c, kernel/delayacct.c).
CACHES = ("task_struct", "sighand_cache", "signal_cache", "pid", "cred_jar", "task_delay_info")
_WORDS = 6  # name, active objects, objects, size of one, objects in a slab, pages of a slab


class Cache(NamedTuple):
    """Objects in use, objects there is room for, bytes of one, bytes it takes with its share of the slab."""

    active: int
    objects: int
    size: int
    footprint: float


def caches(root: str = PROC) -> dict[str, Cache]:
    """By name, out of ``/proc/slabinfo``, which root alone may read.

    The kernel keeps small caches of like size together under one name: the others are not listed.

    Raises:
        OSError: it is not there, or not for us; :func:`unseen` says it in words.
    """
    with open(f"{root}/slabinfo", "rb") as file:
        return parse(file.read())


def unseen(why: OSError, command: str) -> str:
    """Why there are none; `command` is what was typed after `pidwarden`."""
    if isinstance(why, PermissionError):
        return f"/proc/slabinfo is for root: type `sudo pidwarden {command}`"
    return "this kernel has no /proc/slabinfo (CONFIG_SLUB_DEBUG)"


def parse(data: bytes) -> dict[str, Cache]:
    """Every line that is understood: objects lie in slabs of whole pages, and what is left of a slab is lost."""
    found = {}
    for line in data.splitlines():
        words = line.split()
        if len(words) >= _WORDS and all(word.isdigit() for word in words[1:_WORDS]):
            active, objects, size, per_slab, pages = map(int, words[1:_WORDS])
            footprint = pages * PAGE / per_slab if per_slab else size
            found[words[0].decode("ascii", "replace")] = Cache(active, objects, size, footprint)
    return found


# -- of a zombie -------------------------------------------------------------------------------------------------------


class Cost(NamedTuple):
    """Bytes of one zombie, None if not known, then `why`; the caches that were counted and those that have no line."""

    each: int | None
    counted: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    why: str = ""


def cost(root: str = PROC) -> Cost:
    """What a zombie holds, as far as its caches are listed."""
    try:
        found = caches(root)
    except OSError as why:
        return Cost(None, why=unseen(why, "zombies"))
    counted = tuple(name for name in CACHES if name in found)
    if "task_struct" not in found:
        return Cost(None, why="/proc/slabinfo does not name task_struct")
    return Cost(sum(found[name].size for name in counted), counted, tuple(n for n in CACHES if n not in found))
