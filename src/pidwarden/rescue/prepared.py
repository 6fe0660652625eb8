"""Whether a rescue is prepared, and its copies are still what is installed: by what the preparation wrote down."""

from __future__ import annotations

import json
import os
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from pidwarden import __version__
from pidwarden.model.paths import PREPARED
from pidwarden.model.text import escape

if TYPE_CHECKING:
    from collections.abc import Iterable

START = "start"
_NOTES = "prepared.json"


class State(StrEnum):
    """UNKNOWN: it is not ours to look at."""

    READY = "ready"
    ABSENT = "absent"
    STALE = "stale"
    UNKNOWN = "unknown"


class Preparation(NamedTuple):
    """What became of the rescue that was prepared in a directory: why it is not ready, and what to type then."""

    state: State
    directory: str
    reason: str = ""
    remedy: str = ""


class Original(NamedTuple):
    """A file that was copied, as it was then. Size in bytes."""

    copy: str
    path: str
    size: int
    mtime_ns: int


def original(copy: str, path: str) -> Original:
    """A file as it is now.

    Raises:
        OSError: it cannot be looked at.
    """
    found = os.stat(path)
    return Original(copy, path, found.st_size, found.st_mtime_ns)


def notes(originals: Iterable[Original]) -> tuple[str, str]:
    """The name and the text of the file that says what the copies were made of, and by which program."""
    made = {"version": __version__, "python": _python(), "files": [list(one) for one in originals]}
    return _NOTES, json.dumps(made, indent=1) + "\n"


def look(directory: str = PREPARED) -> Preparation:
    """Looks, and changes nothing. What else might have been replaced, as a module of Python's, is not copied either."""
    remedy = ("" if os.geteuid() == 0 else "sudo ") + "pidwarden rescue --prepare"
    if directory != PREPARED:
        remedy += f" {directory}"
    try:
        os.stat(f"{directory}/{START}")
        reason = _changed(directory)
    except (FileNotFoundError, NotADirectoryError):
        return Preparation(State.ABSENT, directory, f"there is no {directory}/{START}", remedy)
    except PermissionError as why:
        return Preparation(State.UNKNOWN, directory, f"{why.filename}: {why.strerror}", remedy)
    return Preparation(State.STALE, directory, reason, remedy) if reason else Preparation(State.READY, directory)


def _changed(directory: str) -> str:
    """What is not as it was when the copies were made; empty if nothing is."""
    try:
        with open(f"{directory}/{_NOTES}", encoding="utf-8") as file:
            made = json.load(file)
        version, python = str(made["version"]), str(made["python"])
        files = [Original(*one) for one in made["files"]]
    except PermissionError:
        raise
    except (OSError, ValueError, KeyError, TypeError):
        return f"{directory}/{_NOTES} does not say what the copies were made of"
    if version != __version__:
        return f"it was prepared by pidwarden {_shown(version)}, and this is {__version__}"
    if python != _python():
        return f"it starts {_shown(python)}, and pidwarden runs on {_shown(_python())} now"
    reasons = [why for one in files if (why := _difference(one, directory))]
    more = f"; so it is with {len(reasons) - 1} more of {len(files)} files" if len(reasons) > 1 else ""
    return reasons[0] + more if reasons else ""


def _difference(one: Original, directory: str) -> str:
    path = _shown(one.path)
    try:
        if original(one.copy, one.path) != one:
            return f"{path} was replaced since its copy was made"
    except (FileNotFoundError, NotADirectoryError):
        return f"{path}, of which it has a copy, is gone"
    try:
        whole = os.stat(f"{directory}/{one.copy}").st_size == one.size
    except FileNotFoundError:
        whole = False
    return "" if whole else f"its copy of {path} is not whole"


def _python() -> str:
    return os.path.realpath(sys.executable)


def _shown(path: str) -> str:
    return escape(os.fsencode(path))
