"""When a table of the kernel counts as too full: shares of it, and the time until it is full."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from pidwarden.model.gauge import Table, Thresholds

Share = Annotated[float, Meta(gt=0, le=1)]


class Tables(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """For `pidwarden tables`, and for the guard if `rules.tables` is on."""

    over: Annotated[
        float,
        Meta(
            gt=0,
            le=1,
            description="The share of a table that is too much: `pidwarden tables` exits with 1. Nine tenths: what "
            "fills in an hour leaves six minutes then.",
        ),
    ] = 0.9
    near: Annotated[
        float,
        Meta(
            gt=0,
            le=1,
            description="The share that is worth a word. Three quarters is what the usual alert on connection "
            "tracking takes; a table that is used as it was meant to be stays below.",
        ),
    ] = 0.75
    full_in: Annotated[
        float,
        Meta(
            ge=0,
            le=86_400,
            description="Seconds until it is full, at the rate that was seen, below which it is worth a word however "
            "much is free. 0: only the share counts. Half an hour is about what it takes to be called and to look.",
        ),
    ] = 1800.0
    rate_from: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="The share below which no rate is believed. A quarter: what has just begun levels off as a "
            "rule (TIME_WAIT after a minute), and three quarters are time enough to be warned in.",
        ),
    ] = 0.25
    shares: Annotated[
        dict[Table, Share],
        Meta(
            description="Another `over` for single tables, such as { conntrack = 0.7, cgroup-pids = 1.0 }; the names "
            "are those of `pidwarden tables --json`."
        ),
    ] = {}

    @property
    def thresholds(self) -> Thresholds:
        """The same for those who judge."""
        shares = {str(table): share for table, share in self.shares.items()}
        return Thresholds(self.over, self.near, self.full_in, self.rate_from, shares)
