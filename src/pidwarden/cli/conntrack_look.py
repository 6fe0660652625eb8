"""One round of `pidwarden conntrack`: two looks at each network namespace that is meant, a walk if asked, findings."""

from __future__ import annotations

import gc
import ipaddress
import os
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pidwarden.diagnose import conntrack as diagnosis
from pidwarden.diagnose import ctadvice
from pidwarden.errors import PidwardenError, UsageError
from pidwarden.kernel import conntrack, ctmemory, netns
from pidwarden.model import cttally
from pidwarden.model.conntrack import PROTOCOLS

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from pidwarden.diagnose.conntrack import Change, Finding
    from pidwarden.diagnose.ctadvice import Advice, FlowSet
    from pidwarden.kernel.netns import Namespace
    from pidwarden.model.conntrack import Memory, Reading
    from pidwarden.model.cttally import Tally

T = TypeVar("T")
_COMMAND = "conntrack"
PAUSE = 0.5  # seconds between two looks: growth and counters that rise are seen then
_MOST_PORT = 65535
_PORTED = ("tcp", "udp", "sctp", "dccp", "udplite")


class Walked(NamedTuple):
    """A walk: what it added up to, how long it took, and whether it may lack something."""

    tally: Tally
    seconds: float
    notes: tuple[str, ...]


class Account(NamedTuple):
    """All about one network namespace."""

    namespace: Namespace
    reading: Reading
    seen: Change
    memory: Memory
    walked: Walked | None
    findings: list[Finding]
    advice: list[Advice]

    @property
    def fine(self) -> bool:
        """Whether nothing is the matter."""
        return all(finding.kind is diagnosis.Kind.FINE for finding in self.findings)


class Wish(NamedTuple):
    """What is to be found out."""

    by: tuple[tuple[str, ...], ...]  # breakdowns to show
    flows: FlowSet | None
    walk: bool
    top: int


# -- what is asked for -------------------------------------------------------------------------------------------------


def wish_of(args: argparse.Namespace) -> Wish:
    """Out of the arguments.

    Raises:
        UsageError: there is no such dimension, protocol, port or address.
    """
    by = tuple(dict.fromkeys(_breakdown(text) for text in args.by or ()))
    wanted = _flow_set(args.notrack) if args.notrack is not None else None
    walk = bool(args.walk or by or wanted)
    return Wish(by or (cttally.DEFAULT if args.walk else ()), wanted, walk, args.top)


def _breakdown(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(part for part in text.replace(" ", ",").split(",") if part))
    for name in names:
        if name not in cttally.DIMENSIONS:
            msg = f"--by {text!r}: there is no {name!r}; `pidwarden conntrack --by help` lists what there is"
            raise UsageError(msg)
    if not names:
        raise UsageError("--by names nothing; `pidwarden conntrack --by help` lists what there is")
    return names


def _flow_set(text: str) -> FlowSet:
    flows, at, where = text.partition("@")
    name, slash, number = flows.partition("/")
    by_name = {word: proto for proto, word in PROTOCOLS.items()}
    if name.lower() not in by_name:
        raise UsageError(f"--notrack {text!r}: {name!r} is no protocol; type one of {', '.join(by_name)}")
    if slash and (name.lower() not in _PORTED or not (number.isascii() and number.isdecimal())):
        raise UsageError(f"--notrack {text!r}: type PROTO/PORT, as udp/53; ports have {', '.join(_PORTED)}")
    if slash and not 0 < int(number) <= _MOST_PORT:
        raise UsageError(f"--notrack {text!r}: a port is 1 to {_MOST_PORT}")
    dst: int | bytes | None = None
    if at:
        try:
            found = ipaddress.ip_address(where)
        except ValueError as why:
            raise UsageError(f"--notrack {text!r}: {where!r} is no address; type it as udp/53@192.0.2.1") from why
        dst = int(found) if found.version == 4 else found.packed  # noqa: PLR2004  (as a tally has them)
    return ctadvice.FlowSet(by_name[name.lower()], int(number) if slash else -1, dst, text.lower())


# -- looking -----------------------------------------------------------------------------------------------------------


def read_in(namespace: Namespace) -> Reading:
    """One look at it.

    Raises:
        NoPermission: it is another one, and the caller may not enter it.
        NotPossible: there is no connection tracking.
    """
    with netns.inside(namespace, _COMMAND):
        return conntrack.read(clock_ns=time.monotonic_ns())


def walk_in(namespace: Namespace, wish: Wish) -> Walked:
    """Through all of its entries.

    Raises:
        NoPermission: the caller lacks CAP_NET_ADMIN.
        NotPossible: the kernel has no ctnetlink.
    """
    from pidwarden.kernel import ctentries, nfnetlink  # noqa: PLC0415  (only to walk)

    began = time.monotonic()
    tally = cttally.Tally((*wish.by, *([ctadvice.FLOW_FIELDS] if wish.flows else [])))
    parser = ctentries.Parser(tally.fields)
    with netns.inside(namespace, _COMMAND):
        link = nfnetlink.Link()
    with link:
        for columns in ctentries.walk(link, parser):
            tally.add(columns)
    notes = []
    if link.interrupted:
        notes.append("the table changed so much under the walk that entries may be missing or counted twice")
    if link.overruns:
        notes.append(f"{link.overruns} answers of the kernel's were lost: entries are missing")
    if parser.malformed:
        notes.append(f"{parser.malformed} entries were not understood and left out; please report it")
    notes += [
        f"more different {', '.join(names)} than are counted: {lost} entries are in no row, others are at least so many"
        for names in wish.by
        if (lost := tally.lost(names))
    ]
    return Walked(tally, time.monotonic() - began, tuple(notes))


class Rounds:
    """Looks, each compared with the one before."""

    def __init__(self, wanted: list[Namespace], wish: Wish) -> None:
        self._wanted, self._wish, self._ours = wanted, wish, netns.own().inode
        self._before: dict[int, Reading] = {}
        self._failed: dict[Namespace, PidwardenError] = {}

    @property
    def unseen(self) -> list[str]:
        """Namespaces that could not be looked at in this round, and why."""
        return [f"{namespace.name}: {why}" for namespace, why in self._failed.items()]

    def look(self, pause: float) -> list[Account]:
        """One round: what is walked is walked between the two looks, which are at least so many seconds apart.

        Raises:
            PidwardenError: of the only namespace that is meant, or of the last if none could be looked at.
        """
        self._failed = {}
        began = time.monotonic()
        if not self._before:
            self._before = {n.inode: reading for n, reading in self._of_each(read_in).items()}
        walks = self._of_each(lambda namespace: walk_in(namespace, self._wish)) if self._wish.walk else {}
        time.sleep(max(0.0, pause - (time.monotonic() - began)))
        now = self._of_each(read_in)
        found = [self._account(namespace, reading, walks.get(namespace)) for namespace, reading in now.items()]
        self._before = {n.inode: reading for n, reading in now.items()}
        return found

    def _account(self, namespace: Namespace, reading: Reading, walked: Walked | None) -> Account:
        seen = diagnosis.change(self._before.get(namespace.inode), reading)
        memory = ctmemory.memory(reading.buckets, always_extended=reading.extends_all)
        tally = walked.tally if walked else None
        findings = diagnosis.diagnose(reading, seen, memory, tally)
        advice = ctadvice.advise(findings, reading, memory, tally)
        if self._wish.flows and tally is not None:
            advice.append(ctadvice.notrack(self._wish.flows, ctadvice.flows(self._wish.flows, tally)))
        if namespace.inode != self._ours:
            advice = [ctadvice.there(one, namespace.path) for one in advice]
        return Account(namespace, reading, seen, memory, walked, findings, advice)

    def _of_each(self, ask: Callable[[Namespace], T]) -> dict[Namespace, T]:
        """Asks of each; one of several may be gone or closed to us, the only one is what was asked for."""
        found: dict[Namespace, T] = {}
        for namespace in self._wanted:
            if namespace in self._failed:
                continue
            try:
                found[namespace] = ask(namespace)
            except PidwardenError as why:
                self._failed[namespace] = why
                if len(self._failed) == len(self._wanted):
                    raise
        return found


def _wanted(text: str | None) -> list[Namespace]:
    if text == "all":
        return netns.seen()
    return [netns.own() if text is None else netns.find(text, _COMMAND)]


def run(args: argparse.Namespace) -> int:
    """The command."""
    from pidwarden.cli import conntrack_text as text  # noqa: PLC0415

    if args.by and "help" in args.by:
        sys.stdout.write(text.dimensions())
        return 0
    wish = wish_of(args)
    if wish.walk and args.watch is None:
        gc.disable()  # it ends soon, and there are no cycles in what is made
    rounds = Rounds(_wanted(args.netns), wish)
    if args.netns == "all" and os.geteuid():
        hint = "network namespaces of other users' processes are not shown; type `sudo pidwarden …`"
        print(f"pidwarden {args.command}: {hint}", file=sys.stderr)
    code, pause = 0, PAUSE if args.watch is None else args.watch
    while True:
        accounts = rounds.look(pause)
        for note in rounds.unseen:
            print(f"pidwarden {args.command}: {note}", file=sys.stderr)
        code = 0 if all(account.fine for account in accounts) else 1
        if args.json:
            import json  # noqa: PLC0415

            sys.stdout.write(json.dumps(_object(accounts, rounds.unseen, wish)) + "\n")
        else:
            sys.stdout.write(text.report(accounts, wish) + ("\n" if args.watch else ""))
        sys.stdout.flush()
        if args.watch is None:
            return code


def _object(accounts: list[Account], unseen: list[str], wish: Wish) -> dict[str, Any]:
    from pidwarden.cli import conntrack_json  # noqa: PLC0415

    return conntrack_json.document(accounts, unseen, wish)
