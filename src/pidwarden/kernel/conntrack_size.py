"""How large connection tracking is and may be, and what an entry costs, out of the running kernel."""

from __future__ import annotations

import os
from typing import NamedTuple

from pidwarden.kernel import procfs, slab
from pidwarden.kernel.procfs import PROC

NETFILTER = "sys/net/netfilter"
# What an entry's extensions get at first (NF_CT_EXT_PREALLOC in net/netfilter/nf_conntrack_extend.c): a slab object of
# its own, of kmalloc. Helpers, labels and accounting together may need the next larger one.
EXTENSION_BYTES = 128
BUCKET_BYTES = 8  # a pointer (struct hlist_nulls_head)


class Size(NamedTuple):
    """Values now. ``used`` is of our network namespace; ``entry_bytes`` None: not known, or not for us to read.

    ``loadable``: it is a module of its own and may come later than sysctls.
    """

    most: int
    buckets: int
    used: int | None
    entry_bytes: int | None
    loadable: bool


def read(root: str = PROC, sys: str = "/sys") -> Size | None:
    """The sizes; None: connection tracking is not here."""
    folder = f"{root}/{NETFILTER}"
    most, buckets = (procfs.read_int(f"{folder}/nf_conntrack_{name}") for name in ("max", "buckets"))
    if most is None or buckets is None:
        return None
    each = slab.per_object(root).get("nf_conntrack")
    used = procfs.read_int(f"{folder}/nf_conntrack_count")
    return Size(most, buckets, used, each + EXTENSION_BYTES if each else None, loadable(sys))


def loadable(sys: str = "/sys") -> bool:
    """Whether it is a module: what is built in has parameters there but no state (ABI/stable/sysfs-module)."""
    return os.path.exists(f"{sys}/module/nf_conntrack/initstate")
