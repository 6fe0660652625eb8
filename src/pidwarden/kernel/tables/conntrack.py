"""Connection tracking: how many entries our network namespace has of how many; `pidwarden conntrack` tells the rest."""

from __future__ import annotations

from pidwarden.kernel import netstat
from pidwarden.kernel.tables.base import PROC, sysctl
from pidwarden.model.gauge import Gauge, Scope, Table


def read(root: str = PROC) -> list[Gauge]:
    """One gauge; none where the kernel tracks nothing: nf_conntrack is not there, or not loaded."""
    used, limit = (sysctl(f"net/netfilter/nf_conntrack_{name}", root) for name in ("count", "max"))
    if used is None:
        return []
    setting, since = "net.netfilter.nf_conntrack_max", "the network namespace was made"
    stat = netstat.totals(f"{root}/net/stat/nf_conntrack")
    if limit == 0:  # no limit (Documentation/networking/nf_conntrack-sysctl.rst)
        limit = None
    found = Gauge(Table.CONNTRACK, Scope.NETNS, "", used, limit, 0, setting, since=since)
    if stat is None:
        return [found]
    dropped, early = stat.get("drop", 0), stat.get("early_drop", 0)
    detail = f"{early} dropped early to make room" if early else ""
    return [found._replace(failures=dropped, detail=detail)]
