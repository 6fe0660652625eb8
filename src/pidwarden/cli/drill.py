"""`pidwarden drill`."""

from __future__ import annotations

import argparse
import json
import os
from typing import TYPE_CHECKING, Any

from pidwarden.drill import game
from pidwarden.drill.lessons import LESSONS
from pidwarden.drill.shapes import SHAPES
from pidwarden.errors import UsageError
from pidwarden.settings import DEFAULT_CONFIG, Settings, load

if TYPE_CHECKING:
    from pidwarden.drill.account import Alarm, Result

_ALIASES = {"zombie-bomb": "zombies"}  # as others call it

_COLUMNS = (
    # heading, width, what
    ("shape", 9, lambda r: r.shape),
    ("noticed", 9, lambda r: _ms(r.noticed_ms)),
    ("dead", 9, lambda r: _ms(r.dead_ms)),
    ("cleared", 10, lambda r: _ms(r.cleared_ms)),
    ("peak", 6, lambda r: r.peak),
    ("in pen", 12, lambda r: f"{r.pen_peak}/{r.pen_cap}"),
    ("killed", 7, lambda r: r.killed),
    ("hurt", 5, lambda r: len(r.bystanders_hurt)),
    ("delayed", 9, lambda r: _ms(r.worst_delay_ms)),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    names, taught = ", ".join(SHAPES), ", ".join((*_ALIASES, *LESSONS))
    parser.add_argument(
        "--shape",
        action="append",
        metavar="NAME",
        help=f"only this bomb; may be repeated: {names}; or a lesson: {taught}",
    )
    parser.add_argument(
        "--cap", type=int, default=game.CAP, metavar="N", help="tasks the pen lets in (default: %(default)s)"
    )
    parser.add_argument(
        "--hold-at", type=int, metavar="N", help="slots at which the guard holds a branch (default: as set)"
    )
    parser.add_argument(
        "--hold-open",
        type=_seconds,
        metavar="S",
        help="keep what a lesson made for so long, or until you have cleared it",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line: each shape, then the summary")


def _seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found <= 86_400:  # noqa: PLR2004  (a day)
        msg = f"{text!r} is no number of seconds from 0 to 86400"
        raise argparse.ArgumentTypeError(msg)
    return found


def run(args: argparse.Namespace) -> int:
    """Gives the lessons, then plays the bombs; 0 if every cause was named and every bomb contained, and nobody hurt."""
    wanted = list(dict.fromkeys(_ALIASES.get(name, name) for name in args.shape or SHAPES))
    lessons, bombs = [n for n in wanted if n in LESSONS], [n for n in wanted if n not in LESSONS]
    passed = True
    if lessons:
        game.check_shapes(bombs)
        game.check_root()
        from pidwarden.cli import lesson  # noqa: PLC0415  (a drill of bombs has no use for it)

        passed = lesson.give(lessons, args)
    elif args.hold_open is not None:
        msg = f"--hold-open keeps what a lesson made, and there is none; type --shape with one of {', '.join(LESSONS)}"
        raise UsageError(msg)
    return (_play(bombs, args) if bombs else 0) or (0 if passed else 1)


def _play(names: list[str], args: argparse.Namespace) -> int:
    settings = load(DEFAULT_CONFIG) if os.path.exists(DEFAULT_CONFIG) else Settings()
    game.check(names, args.cap, args.hold_at or settings.hold_at)
    options = ["--hold-at", str(args.hold_at)] if args.hold_at else []
    results: list[Result] = []
    with game.Game(cap=args.cap, options=options, tell=_silent if args.json else _story) as played:
        for name in names:
            results.append(played.play(name))
            if args.json:
                print(json.dumps(results[-1].as_json()), flush=True)
    complaints = played.guard.complaints
    passed = all(r.passed for r in results) and not complaints
    if args.json:
        print(json.dumps({"summary": _summary(results, complaints, passed=passed)}))
    else:
        _table(results, complaints)
    return 0 if passed else 1


def _summary(results: list[Result], complaints: list[str], *, passed: bool) -> dict[str, Any]:
    return {
        "passed": passed,
        "shapes": len(results),
        "failed": [r.shape for r in results if not r.passed],
        "complaints": complaints,
        "highest_peak": max((r.peak for r in results), default=0),
        "longest_dead_ms": max((r.dead_ms or 0.0 for r in results), default=0.0),
        "worst_delay_ms": max((r.worst_delay_ms or 0.0 for r in results), default=0.0),
    }


# -- for people --------------------------------------------------------------------------------------------------------


def _ms(value: float | None) -> str:
    return "—" if value is None else f"{value:.0f} ms"


def _silent(_what: str, _facts: dict[str, Any]) -> None:
    """With ``--json`` only results are printed."""


def _line(what: str, when: str, text: str = "") -> None:
    print(f"  {what:<9}{when:>11}  {text}".rstrip(), flush=True)


def _story(what: str, facts: dict[str, Any]) -> None:
    """Tells what happens, while it happens."""
    match what:
        case "ready":
            can = facts["capabilities"]
            print(f"The guard is ready: holds by {can['hold']}, kills by {can['kill']}.", flush=True)
        case "shape":
            print(f"\n{facts['shape']}: {(SHAPES[facts['shape']].__doc__ or '').splitlines()[0]}")
            _line("set off", "", f"in a pen of at most {facts['cap']} tasks, beside {facts['bystanders']} bystanders")
        case "escaped":
            _line("FAILED", "", f"{facts['why']}. The pen ends it")
        case "result":
            pen = f"{facts['pen_peak']} of {facts['pen_cap']} in the pen"
            _line("peak", str(facts["peak"] or "—"), f"slots by the guard's count, {pen}")
            hurt = "; ".join(facts["bystanders_hurt"])
            delay = (
                "" if facts["worst_delay_ms"] is None else f", delayed by {_ms(facts['worst_delay_ms'])} at the most"
            )
            _line("others", "", (f"HURT: {hurt}" if hurt else "all unhurt") + delay)
        case _ if "alarm" in facts:
            _line(*_moment(what, facts, facts["alarm"]))


def _moment(what: str, facts: dict[str, Any], alarm: Alarm) -> tuple[str, str, str]:
    """An event of the guard: the word for it, when, and what there is to say."""
    match what:
        case "alarm":
            return (
                "noticed",
                _after(alarm.noticed_ms, ""),
                f"after it was set off: {alarm.slots} slots, by {alarm.rule}",
            )
        case "verdict":
            return "judged", _after(alarm.judged_ms), f"{alarm.verdict}: {'; '.join(alarm.reasons)}"
        case "released":
            whom = "everybody else" if alarm.verdict == "bomb" else "with a larger budget, and watched again"
            return "released", _after(facts["after_ms"]), whom
        case "killed":
            text = f"{alarm.killed} killed, {alarm.survivors} survived, {alarm.unreaped} to be reaped"
            return "dead", _after(alarm.dead_ms), text
        case "cleared":
            return "cleared", _after(alarm.cleared_ms), "the last of them has left the process table"
        case _:
            return what, _after(alarm.held_ms) if what == "held" else "", str(facts.get("why", ""))


def _after(value: float | None, sign: str = "+") -> str:
    return "—" if value is None else f"{sign}{value:.1f} ms"


def _table(results: list[Result], complaints: list[str]) -> None:
    print("\n" + "".join(f"{heading:<{width}}" for heading, width, _what in _COLUMNS) + "result")
    for result in results:
        cells = "".join(f"{what(result):<{width}}" for _heading, width, what in _COLUMNS)
        print(cells + ("contained" if result.passed else "FAILED"))
    for complaint in complaints:
        print(f"FAILED: {complaint}")
    good = sum(r.passed for r in results)
    print(f"\n{good} of {len(results)} shapes contained and proven empty, nobody hurt.")
    print("Times are after the (last) alarm; 'noticed' is after the bomb was set off.")
