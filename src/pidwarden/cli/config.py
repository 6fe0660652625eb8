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
    if get_origin(hint) is dict:
        return "table of numbers"
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
    lines = [f"# pidwarden's configuration ({DEFAULT_CONFIG}). Every line shown is the default.", ""]
    return "\n".join([*lines, *_table(Settings, Settings(), "")])


def _table(kind: type[msgspec.Struct], defaults: msgspec.Struct, name: str) -> list[str]:
    """The settings of one table, and after them the tables in it, as TOML wants it."""
    hints = get_type_hints(kind, include_extras=True)
    lines, tables = [], []
    for field in msgspec.structs.fields(kind):
        [reason] = [m.description or "" for m in get_args(hints[field.name])[1:] if isinstance(m, Meta)]
        value = getattr(defaults, field.name)
        if isinstance(value, msgspec.Struct):
            inner = f"{name}.{field.name}".lstrip(".")
            tables += [*_comment(f"{reason} (table)"), f"# [{inner}]", "", *_table(type(value), value, inner)]
        else:
            text = f"{reason} ({_type_text(hints[field.name])})"
            lines += [*_comment(text), f"# {field.name} = {_toml(value)}", ""]
    return lines + tables


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, 110, initial_indent="# ", subsequent_indent="# ")


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
