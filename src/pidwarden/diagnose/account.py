"""What one parent owes: its zombies, how old and how many more they get, and why; as an object and as lines. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pidwarden.diagnose.cause import Cause
from pidwarden.diagnose.words import count, who
from pidwarden.model.moment import ending, span
from pidwarden.model.text import escape
from pidwarden.model.zombie import kinds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pidwarden.diagnose.zombies import Finding
    from pidwarden.model.zombie import Case

_WIDTH = 112
_LABEL = 10
_NAMES = 6  # kinds of zombies that are shown
GUARD, LOOKS = "exit events", "two looks"


class Account(NamedTuple):
    """One parent's zombies. ``fresh`` are those that came in ``watched`` seconds.

    ``codes``: whether their exit statuses are ours to see. ``oldest_ns`` is exact if ``oldest_from`` is
    :data:`GUARD`, else the least it can be.
    """

    case: Case
    findings: Sequence[Finding]
    fresh: int
    watched: float
    oldest_ns: int
    oldest_from: str
    user: str
    codes: bool

    @property
    def owed(self) -> int:
        """Zombies that were there at both looks, and dead leaders."""
        return len(self.case.zombies)

    @property
    def per_second(self) -> float:
        """New zombies a second."""
        return self.fresh / self.watched if self.watched else 0.0

    def bytes(self, each: int | None) -> int | None:
        """Kernel memory that they take, if that of one is known."""
        slots = sum(len(f.zombies) for f in self.findings if f.cause not in (Cause.TRANSIENT, Cause.DEAD_LEADER))
        return None if each is None else each * slots

    def object(self, each: int | None) -> dict[str, Any]:
        """For programs."""
        parent = self.case.parent
        return {
            "pid": self.case.ppid,
            "start_ns": parent.key.start_ns if parent else None,
            "comm": escape(self.case.comm),
            "user": self.user or None,
            "uid": parent.status.uid if parent else None,
            "cgroup": (parent.cgroup or None) if parent else None,
            "zombies": self.owed,
            "gone": len(self.case.gone),
            "fresh": self.fresh,
            "per_second": round(self.per_second, 2),
            "oldest_ns": self.oldest_ns,
            "oldest_from": self.oldest_from,
            "slots": self.owed,
            "bytes": self.bytes(each),
            "causes": [_finding_object(f, codes=self.codes) for f in self.findings],
        }

    def lines(self, each: int | None) -> list[str]:
        """For people; nothing of who was transient."""
        name = escape(self.case.comm) or "?"
        whom = f"{name} ({self.case.ppid})" if self.case.ppid else "a parent outside of this pid namespace"
        lines = [f"{whom}{f', user {self.user},' if self.user else ''} owes {count(self.owed, 'zombie')}"]
        memory = self.bytes(each)
        size = f", {_kib(memory)} of kernel memory" if memory else ""
        exact = "oldest " if self.oldest_from == GUARD else "oldest at least "
        age = f"{exact}{span(self.oldest_ns)} (by {self.oldest_from})"
        rate = f", {self.fresh} more in {self.watched:.1f} s" if self.fresh else ""
        lines += _field("slots", f"{self.owed}{size}; {age}{rate}")
        for finding in self.findings:
            if finding.cause is not Cause.TRANSIENT:
                lines += _finding_lines(finding, codes=self.codes)
        return lines


def _kib(size: int) -> str:
    return f"{size / 1024:.0f} KiB" if size < 10 * 1024**2 else f"{size / 1024**2:.0f} MiB"


def _finding_object(finding: Finding, *, codes: bool) -> dict[str, Any]:
    were = [
        {
            "comm": escape(name),
            "exit_code": code if codes else None,
            "ending": ending(code) if codes else None,
            "count": n,
        }
        for name, code, n in kinds(finding.zombies)
    ]
    return {
        "cause": finding.cause.value,
        "text": finding.cause.text,
        "sure": finding.sure,
        "count": len(finding.zombies),
        "pids": [pid for pid, _stat in finding.zombies],
        "were": were,
        "evidence": list(finding.evidence),
        "unknown": list(finding.unknown),
        "steps": [r._asdict() for r in finding.ladder],
    }


def _finding_lines(finding: Finding, *, codes: bool) -> list[str]:
    likely = "" if finding.sure or finding.cause is Cause.UNKNOWN else " (likely)"
    lines = _field("cause", f"{finding.cause.value}{likely}: {finding.cause.text}")
    found = kinds(finding.zombies)
    were = [f"{n} {escape(name) or '?'}" + (f" {ending(code)}" if codes else "") for name, code, n in found[:_NAMES]]
    more = f", and {len(found) - _NAMES} other kinds" if len(found) > _NAMES else ""
    hidden = "" if codes else "; how they ended is shown to who may trace them: type `sudo pidwarden zombies`"
    if len(finding.zombies) == 1:
        were = [f"{who(z.pid, z.comm)}" + (f" {ending(z.exit_code)}" if codes else "") for z in finding.zombies]
    lines += _field("were" if finding.cause is not Cause.DEAD_LEADER else "is", ", ".join(were) + more + hidden)
    for at, words in enumerate(finding.evidence):
        lines += _field("because" if not at else "", words)
    for at, words in enumerate(finding.unknown):
        lines += _field("unknown" if not at else "", words)
    for at, rung in enumerate(finding.ladder, 1):
        risk = f" (risk: {rung.risk})" if rung.risk != "none" else ""
        lines += _field("try" if at == 1 else "", f"{at}. {rung.do}{risk}")
    return lines


def _field(label: str, text: str) -> list[str]:
    first = f"  {label:<{_LABEL}}"
    import textwrap  # noqa: PLC0415  (for people only)

    return textwrap.wrap(text, _WIDTH, initial_indent=first, subsequent_indent=" " * len(first), break_on_hyphens=False)


def transients(accounts: Sequence[Account]) -> list[str]:
    """One line about those who were reaped meanwhile."""
    found = [(len(a.case.gone), a.case) for a in accounts if a.case.gone]
    if not found:
        return []
    total = sum(n for n, _case in found)
    names = ", ".join(f"{n} of {who(c.ppid, c.comm)}" for n, c in sorted(found, key=lambda f: -f[0])[:_NAMES])
    return _field("transient", f"{count(total, 'zombie')} gone at the second look, as it should be: {names}")
