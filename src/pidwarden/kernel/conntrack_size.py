"""How large connection tracking is and may be, and what an entry costs, out of the running kernel."""

from __future__ import annotations

import math
import os
from typing import NamedTuple

from pidwarden.kernel import ctmemory, procfs
from pidwarden.kernel.conntrack import SYSCTL
from pidwarden.kernel.procfs import PROC


class Size(NamedTuple):
    """Values now. ``used`` is of our network namespace; ``entry_bytes`` None: not known, or not for us to read.

    An entry is counted with a block of extensions, which not all have: a plan is not to promise too little.
    """

    most: int
    buckets: int
    used: int | None
    entry_bytes: int | None


def read(root: str = PROC) -> Size | None:
    """The sizes; None: connection tracking is not here."""
    folder = f"{root}/{SYSCTL}"
    most, buckets, used = (procfs.read_int(f"{folder}/nf_conntrack_{name}") for name in ("max", "buckets", "count"))
    if most is None or buckets is None:
        return None
    memory = ctmemory.memory(buckets, always_extended=True, root=root)
    return Size(most, buckets, used, None if memory.each is None else math.ceil(memory.each) + memory.block)


def loadable(sys: str = "/sys") -> bool:
    """Whether it is a module, which may come later than sysctls: what is built in has no state (sysfs-module)."""
    return os.path.exists(f"{sys}/module/nf_conntrack/initstate")
