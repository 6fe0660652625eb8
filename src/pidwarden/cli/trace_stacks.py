"""Where in the kernel those are who sit in a call for long: -k, out of /proc/PID/stack, once for each such call."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pidwarden.kernel import evidence, patience, procfs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pidwarden.trace.style import Decoder
    from pidwarden.trace.tracer import Pending

_AT_ONCE = 16  # stacks in one look: each takes some time, and the rings have to be read
_SECOND_NS = 1_000_000_000


class Stacks:
    """Give it what threads sit in; it gives a line for each who has done so for longer than `slow_ns`."""

    def __init__(self, decoder: Decoder, wanted: Callable[[str], bool], slow_ns: int, *, as_json: bool) -> None:
        self._decoder, self._wanted, self._slow_ns, self._json = decoder, wanted, slow_ns, as_json
        self._reader = patience.Reader()
        self._told: dict[int, int] = {}  # when the call was entered of which it was told last, by thread

    def of(self, pending: Iterable[Pending], now_ns: int) -> list[tuple[int, str]]:
        """Thread and text of each who was not told of."""
        fresh = [
            p
            for p in pending
            if now_ns - p.enter_ns > self._slow_ns
            and self._told.get(p.tid) != p.enter_ns
            and self._wanted(self._decoder.name(p.nr))
        ]
        return [(p.tid, text) for p in fresh[:_AT_ONCE] if (text := self._text(p, now_ns))]

    def _text(self, call: Pending, now_ns: int) -> str:
        self._told[call.tid] = call.enter_ns
        try:
            stack = evidence.stack(f"{procfs.PROC}/{call.tid}", self._reader)
        except BlockingIOError:
            return ""
        name, ns = self._decoder.name(call.nr), now_ns - call.enter_ns
        if self._json:
            known = None if isinstance(stack, evidence.Unknown) else list(stack)
            return json.dumps({"event": "sits", "tid": call.tid, "call": name, "for_ns": ns, "stack": known})
        where = stack.why if isinstance(stack, evidence.Unknown) else " < ".join(stack)
        return f"--- sits in {name} for {ns / _SECOND_NS:.1f} s: {where} ---"
