"""`pidwarden reap`: clears zombies by their parents' ladders, the gentlest step first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pidwarden.act.reap import HARMLESS, INJECT, STEPS
from pidwarden.cli import source
from pidwarden.settings import DEFAULT_CONFIG

if TYPE_CHECKING:
    import argparse

_BOUNDS = [step for step in STEPS if step != INJECT]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument(
        "selector", nargs="*", metavar="SELECTOR",
        help="pid:N, user:NAME, cgroup:PATH, container:ID, nspid:N or family:N: parents that are meant, and the "
        "parents of zombies that are (default: all)",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    parser.add_argument(
        "--up-to", choices=_BOUNDS, default=HARMLESS, metavar="STEP",
        help=f"how far to go: {', '.join(_BOUNDS)} (default: {HARMLESS}, by which nothing is lost)",
    )  # fmt: skip
    parser.add_argument(
        "--inject", action="store_true",
        help="have living parents wait, through ptrace: they never learn how these children ended",
    )  # fmt: skip
    parser.add_argument("--yes", action="store_true", help="do not ask before a step that may lose something")
    parser.add_argument("--config", metavar="FILE", default=DEFAULT_CONFIG, help="whom to spare (default: %(default)s)")
    source.arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Exit codes: 0 no zombie is left of those meant, 1 some are.

    Raises PidwardenError: a selector or the configuration is wrong.
    """
    from pidwarden.cli import reaping  # noqa: PLC0415  (not for --help)

    return reaping.run(args)
