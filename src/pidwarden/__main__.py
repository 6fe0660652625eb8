"""`python -m pidwarden`, and what the command `pidwarden` runs."""

import sys


def main() -> int:
    """Runs one command; the exit code."""
    if sys.argv[1:2] == ["rescue"]:
        from pidwarden.rescue.hurry import hurry  # noqa: PLC0415  (before the rest of the program is read in)

        hurry()
    from pidwarden.cli.main import main as command  # noqa: PLC0415

    return command()


if __name__ == "__main__":
    raise SystemExit(main())
