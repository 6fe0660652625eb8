"""Arguments of the commands that change limits. Apart from what those do, which `--help` does not wait for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pidwarden.model import paths

if TYPE_CHECKING:
    import argparse


def changes(parser: argparse.ArgumentParser) -> None:
    """Declares what goes with a change."""
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done, to the letter")
    parser.add_argument("--persist", action="store_true", help="write the files that make it last over a reboot")
    parser.add_argument("--yes", action="store_true", help="do not ask before something is lowered")
    parser.add_argument("--below-use", action="store_true", help="set it below what is in use all the same")
    parser.add_argument(
        "--root", metavar="DIR", default="/", help="where files of settings are read and written (default: /)"
    )
    record(parser)


def undo(parser: argparse.ArgumentParser) -> None:
    """Declares what goes with undoing."""
    parser.add_argument("which", nargs="?", metavar="CHANGE", help="its number or its name (default: the last one)")
    parser.add_argument("--list", action="store_true", help="only list what was changed")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    parser.add_argument("--force", action="store_true", help="also what somebody else has changed since")
    parser.add_argument("--forget", action="store_true", help="set nothing back, only strike it from the record")
    record(parser)


def record(parser: argparse.ArgumentParser) -> None:
    """Declares where the undo record is."""
    parser.add_argument("--state-dir", metavar="DIR", help=f"where the undo record lies (default: {paths.STATE_DIR})")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
