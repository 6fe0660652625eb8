"""`pidwarden config`."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Annotated, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from pidwarden.settings import DEFAULT_CONFIG, Settings, load

if TYPE_CHECKING:
    import argparse


def _type_text(hint: object) -> str:
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(f'"{v}"' for v in get_args(hint))
    if hint is int:
        return "integer"
    if hint is bool:
        return "true or false"
    return "number" if hint is float else "text" if hint is str else "list of text"


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + "".join(f'\n#     "{v}",' for v in value) + ("\n# " if value else "") + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def sample() -> str:
    """A configuration file with every setting, its type, its reason and its default."""
    hints = get_type_hints(Settings, include_extras=True)
    lines = [f"# pidwarden's configuration ({DEFAULT_CONFIG}). Every line shown is the default.", ""]
    for field in msgspec.structs.fields(Settings):
        metas = [m for m in get_args(hints[field.name])[1:] if isinstance(m, Meta)]
        text = f"{metas[0].description} ({_type_text(hints[field.name])})"
        lines += [*textwrap.wrap(text, 110, initial_indent="# ", subsequent_indent="# ")]
        lines += [f"# {field.name} = {_toml(field.default)}", ""]
    return "\n".join(lines)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("--check", metavar="F", help="check a file instead; exit 2 names the line that is wrong")


def run(args: argparse.Namespace) -> int:
    """Prints the sample, or checks a file."""
    if args.check:
        load(args.check)
        print(f"{args.check}: valid")
    else:
        print(sample())
    return 0
