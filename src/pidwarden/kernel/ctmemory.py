"""What connection tracking takes of memory in the running kernel: sizes and numbers of its objects, not constants.

An entry is one object of the cache `nf_conntrack`, which is never merged with another (SLAB_TYPESAFE_BY_RCU), so that
its line in /proc/slabinfo counts all entries of all network namespaces. What an entry has besides (accounting, times,
labels, helper, NAT) hangs on it in one block of kmalloc's, of at least NF_CT_EXT_PREALLOC bytes
(net/netfilter/nf_conntrack_extend.c); entries that a program put in by ctnetlink always have one. That cache is shared
with everybody: there cannot be more blocks than it has objects, and where settings add something to every entry there
is a block for each. The array of buckets is one for all namespaces, a pointer each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pidwarden.kernel import slab
from pidwarden.kernel.procfs import PROC
from pidwarden.model.conntrack import Memory

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pidwarden.kernel.slab import Cache

ENTRIES = "nf_conntrack"
PREALLOCATED = 128  # NF_CT_EXT_PREALLOC
BUCKET = 8  # struct hlist_nulls_head, a pointer


def memory(buckets: int | None, *, always_extended: bool, root: str = PROC) -> Memory:
    """Out of :func:`pidwarden.kernel.slab.caches`, which are for root.

    `always_extended`: settings add something to every entry (accounting, times, events).
    """
    array = buckets * BUCKET if buckets is not None else None
    try:
        caches = slab.caches(root)
    except OSError as why:
        return Memory(None, None, array, why=slab.unseen(why, "conntrack"))
    entries = caches.get(ENTRIES)
    if entries is None:
        return Memory(None, None, array, why="/proc/slabinfo does not name nf_conntrack")
    size, blocks = _blocks(caches)
    extended = entries.active if always_extended else min(entries.active, blocks)
    each = entries.footprint
    return Memory(entries.active, each, array, size, extended, certain=always_extended or not extended)


def _blocks(caches: Mapping[str, Cache]) -> tuple[int, int]:
    """Bytes of one block, and how many of that size everybody has together.

    kmalloc has a cache of each size for several purposes (``kmalloc-rnd-07-128`` with CONFIG_RANDOM_KMALLOC_CACHES);
    entries' blocks are of the plain kind, never reclaimable, charged to a cgroup, or for DMA.
    """
    sizes = {c.size: 0 for name, c in caches.items() if is_plain(name) and c.size >= PREALLOCATED}
    if not sizes:
        return PREALLOCATED, 0
    size = min(sizes)
    return size, sum(c.active for name, c in caches.items() if is_plain(name) and c.size == size)


def is_plain(name: str) -> bool:
    """Whether it is a cache of kmalloc that blocks of entries can be in."""
    return name.startswith("kmalloc-") and not name.startswith(("kmalloc-cg-", "kmalloc-rcl-"))
