"""What a suspect's subtree is called, by its shape. Pure: evidence in, an opinion with its reason out.

Each subtree is called on its own, so that a build beside a bomb does not make the bomb look like a build, nor the other
way round. Why the numbers are these: docs/adr/0011.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pidwarden.judge.case import SECOND, Case, Rules
from pidwarden.model.record import Rule
from pidwarden.model.verdict import Kind

if TYPE_CHECKING:
    from pidwarden.judge.evidence import Evidence
    from pidwarden.judge.guilt import Suspect

_MOST = 0.8
_NEARLY_ALL = 0.95
_HALF = 0.5
_SOME = 0.2
_TENTH = 0.1
_FEW = 0.05
_GRANDPARENTS = 6  # copies with copies of their own: a pool has a helper or two that does that
_SEVERAL = 10  # breeders by exec: a browser's zygotes are two or three
_DEEP_PURE = 3  # copies of copies of copies that all want more: pools and prefork servers are two deep …
_DEEP_CALM = 5  # … or that do not, but went on for long: pools with helpers are three, daemons of a test suite four
_DEEP_SURE = 10  # … or that do not at this moment: a sum by halves in forked copies is eight, and done at once
_DEEP_MIXED = 6  # nested subshells, which end in programs, are four or five
_DEEP_ALONE = 40  # a row of copies of copies as long as that, however few of all the members stand in it
_DEEP_THREADS = 4  # threads made by threads made by threads: a pool's are made by one or two
_HALVES = 4  # children of each of the copies that work on parts of one thing; a bomb's first has more
_LEVELS = 3  # of the tree on which there are processes that start others without end


class Opinion(NamedTuple):
    """What one suspect's subtree is taken for."""

    kind: Kind
    why: str
    copying: bool = False  # a bomb by copies that copy themselves: the clearest sign
    doubtful: bool = False  # a burst that smells of a bomb


def opinion(case: Case, rules: Rules, suspect: Suspect, seen: Evidence, hoards: Hoard) -> Opinion:
    """The first of the shapes that fits; what fits none is honest for as long as there is patience."""
    # Somebody excused who is heavy by many small children: whatever they do, his own hands are clean.
    guilty = None
    if not suspect.excuse:
        guilty = _copies(case, rules, seen) or _starts_itself(case, seen) or _becomes_others(case, seen)
    return (
        guilty
        or _zombies(case, rules, suspect, seen, hoards)
        or _threads(case, rules, suspect, seen)
        or _leaves_behind(case, rules, seen, hoards)
        or _floods(case, rules, suspect, seen, hoards)
        or by_patience(case, rules)
    )


class Hoard(NamedTuple):
    """What became of the children that the suspect itself started."""

    known: int  # still in the books
    started: int  # ever
    ended: int  # of those known
    one_program: int  # of those known: run the commonest program
    at_work: int  # of those known: alive, and run another program
    orphans: int  # slots that descendants of the ended ones hold
    orphans_alike: int  # of those: slots of the commonest program

    @property
    def reaped_none(self) -> bool:
        """Whether every child it ever had still holds its slot: it never waited for one."""
        return 0 < self.started <= self.known


def by_patience(case: Case, rules: Rules) -> Opinion:
    """A larger budget, a second, smaller one, then a person."""
    used = case.strikes + (case.pressure >= rules.full)
    full = f", and {100 * case.pressure:.0f} % of the process table is in use" if case.pressure >= rules.full else ""
    if used < rules.patience:
        why = f"members call exec, or one parent forks them all: a build, a pool, a script{full}"
        return Opinion(Kind.BURST, why, doubtful=used > 0)
    return Opinion(Kind.UNSURE, f"still growing after {case.strikes} larger budgets{full}; a person decides")


def _doubtful(why: str) -> Opinion:
    return Opinion(Kind.BURST, f"{why}: a little more, and watched", doubtful=True)


def _copies(case: Case, rules: Rules, seen: Evidence) -> Opinion | None:
    """Copies that copy themselves, many of them and deep: the shape that honest programs do not have."""
    theirs = seen.idle > _HALF * seen.slots  # most of it is one parent's workers
    if seen.depth >= _DEEP_ALONE and seen.copies >= _HALF * seen.known and not theirs:
        return Opinion(
            Kind.BOMB, f"a row of copies of copies, {seen.depth} deep, and what they left behind", copying=True
        )
    pure = seen.known - seen.copies <= _FEW * seen.known
    if seen.breeders < max(2, _FEW * (seen.known - seen.hidden)) or theirs:
        return _first_of_many(case, rules, seen) if pure else None
    why = f"copies that copy themselves, {seen.depth} deep, {seen.eager} of {seen.living} were about to do it again"
    if case.rule is Rule.GENERATIONS and seen.depth >= _DEEP_MIXED and seen.copies >= _HALF * seen.known:
        why = f"a chain of copies of itself, {max(seen.depth, seen.generation)} deep, each by a young one"
    elif pure:
        eager = seen.eager >= _HALF * max(1, seen.living)
        slow = seen.since_ns > SECOND or seen.brood > _HALVES or not case.gated
        if seen.depth < (_DEEP_PURE if eager or case.strikes else _DEEP_CALM if slow else _DEEP_SURE):
            return _doubtful(why) if seen.depth >= _DEEP_PURE else None
    elif seen.depth < _DEEP_MIXED or min(seen.copies / seen.known, seen.breeders / max(1, seen.copies)) < _SOME:
        return None
    return Opinion(Kind.BOMB, why, copying=True)


def _first_of_many(case: Case, rules: Rules, seen: Evidence) -> Opinion | None:
    """Hardly any copy came to copy itself, but those that did are deep: workers, or copies that had no time yet."""
    if seen.breeders < _GRANDPARENTS or seen.depth < _DEEP_PURE:
        return None
    why = f"{seen.breeders} of {seen.known} copies copied themselves, {seen.depth} deep, the others did not come to it"
    if not case.strikes:
        return _doubtful(why)
    sure = seen.breeders >= _SEVERAL and seen.depth > _DEEP_PURE and seen.since_ns <= rules.slow_ns
    return Opinion(Kind.BOMB, f"{why}, in a larger budget as well", copying=True) if sure else None


def _starts_itself(case: Case, seen: Evidence) -> Opinion | None:
    """A program that starts itself again, and that again: by exec, or through a shell."""
    kin = seen.known - seen.strangers
    few = seen.starters < max(_SEVERAL, _TENTH * seen.known) or seen.again + seen.cycles < _HALF * kin
    # Of most of it something else can be said: it is threads, or one parent's children, as of a script of scripts.
    if few or max(seen.threads, seen.idle) > _HALF * seen.slots or seen.rounds < _DEEP_PURE:
        return None
    why = f"a program that starts itself again, {seen.rounds} deep"
    if seen.strangers <= _FEW * seen.known and seen.repeats >= (_DEEP_PURE if case.strikes else _DEEP_CALM):
        return Opinion(Kind.BOMB, why, copying=True)
    # make, a shell, make, a shell … are less deep, and at the ends is what it is all for.
    if kin >= (_SOME if seen.repeats >= _DEEP_MIXED else _MOST) * seen.known and seen.rounds >= _DEEP_MIXED:
        return Opinion(Kind.BOMB, f"{why}, beside others", copying=True)
    return None  # a script that calls itself for every directory, say


def _becomes_others(case: Case, seen: Evidence) -> Opinion | None:
    """Many members start several others each, and they are all different programs: nothing honest is so varied."""
    # Of those that called exec: a copy that is on its way to do so says nothing yet.
    if seen.prolific < max(_SEVERAL, _FEW * seen.execs) or seen.prolific_levels < _LEVELS:
        return None
    if seen.prolific_programs < max(_SEVERAL, _MOST * seen.prolific):
        return None
    why = (
        f"{seen.prolific} of {seen.processes} have several children each, on {seen.prolific_levels} levels, and are "
        f"{seen.prolific_programs} programs"
    )
    return Opinion(Kind.BOMB, why, copying=True) if case.strikes else _doubtful(why)


def _zombies(case: Case, rules: Rules, suspect: Suspect, seen: Evidence, hoards: Hoard) -> Opinion | None:
    """Slots taken by what has ended."""
    # Who reaped most of what it ever started would have reaped these as well, had the gate not stopped it.
    if seen.zombies <= _HALF * seen.slots or seen.known < _HALF * seen.started:
        return None
    text = f"{seen.zombies} of its slots are children that ended and are not reaped"
    if seen.since_ns > rules.slow_ns:
        return Opinion(Kind.UNSURE, f"{text}: they came slowly, a leak; a person decides")
    if not suspect.excuse and seen.copies >= _MOST * seen.known:
        return Opinion(Kind.BOMB, text)
    one = hoards.one_program >= _NEARLY_ALL * hoards.known and hoards.ended >= _HALF * seen.zombies  # its own children
    if case.strikes and hoards.reaped_none and one and not hoards.at_work:
        return Opinion(Kind.BOMB, f"{text}, all of one program, in a larger budget as well; it never reaped any")
    if case.strikes + (case.pressure >= rules.full) < 1 + one:
        return _doubtful(f"{text}, or just not yet")
    return Opinion(Kind.UNSURE, f"{text}; a person decides")


def _threads(case: Case, rules: Rules, suspect: Suspect, seen: Evidence) -> Opinion | None:
    """Slots taken by threads."""
    if seen.threads <= _HALF * seen.slots:
        return None
    if (
        not suspect.excuse
        and seen.thread_depth >= _DEEP_THREADS
        and seen.made_by_threads >= _HALF * seen.threads
        and seen.since_ns <= rules.slow_ns
    ):
        return Opinion(
            Kind.BOMB, f"threads that make threads, {seen.thread_depth} deep, {seen.made_by_threads} of them"
        )
    if not case.strikes and case.pressure < rules.full:
        return Opinion(Kind.BURST, "many threads at once can be a pool: a larger budget, once, and watched again")
    if seen.crowd <= _HALF * seen.threads:
        return None  # of many processes, as a browser's or a database's
    if seen.since_ns <= rules.slow_ns and not suspect.excuse:
        why = f"threads of one process filled a larger budget at once as well ({case.strikes + 1} times)"
        return Opinion(Kind.BOMB, why)
    return Opinion(Kind.UNSURE, f"threads filled {case.strikes + 1} budgets, but not at once; a person decides")


def _leaves_behind(case: Case, rules: Rules, seen: Evidence, hoards: Hoard) -> Opinion | None:
    """A supervisor that restarts what ends at once, and each restart leaves something running behind."""
    if hoards.known < _SEVERAL or hoards.orphans < _MOST * seen.slots:
        return None
    same = hoards.one_program >= _NEARLY_ALL * hoards.known and hoards.orphans_alike >= _NEARLY_ALL * hoards.orphans
    if not same or hoards.ended < _MOST * hoards.known or seen.since_ns > rules.slow_ns:
        return None
    why = f"it started {hoards.started} times what ended at once and left {hoards.orphans} slots behind"
    if case.strikes and seen.copies <= _HALF * seen.known:
        return Opinion(Kind.BOMB, f"{why}, in a larger budget as well")
    return _doubtful(why) if not case.strikes else None


def _floods(case: Case, rules: Rules, suspect: Suspect, seen: Evidence, hoards: Hoard) -> Opinion | None:
    """One process starts one program without end, and what it starts neither does anything nor ends: no build is so."""
    if case.strikes < rules.patience or suspect.older or seen.since_ns > rules.slow_ns:
        return None
    same = hoards.one_program >= _NEARLY_ALL * hoards.known and seen.execs >= _NEARLY_ALL * seen.known
    if not same or hoards.known < _TENTH * seen.known or hoards.ended or seen.asleep < _NEARLY_ALL * seen.processes:
        return None
    why = f"it started one program {hoards.started} times, through {case.strikes + 1} budgets; all of them just wait"
    return Opinion(Kind.BOMB, why)
