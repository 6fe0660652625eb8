"""What a labelled workload is, and the place it gets to run in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

PROPS = Path(__file__).parent / "props"
ENTER = str(PROPS / "enter.sh")
PYTHON = [sys.executable, "-I", "-S"]
_PREPARE_SECONDS = 120
_SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"

Label = Literal["innocent", "guilty"]


class NotReady(Exception):  # noqa: N818  (a statement, as those in errors.py)
    """The workload cannot be run here: a program is missing, or its preparation failed."""


@dataclass
class Place:
    """A directory of its own for one run, and the environment of everything in it."""

    dir: Path
    env: dict[str, str] = field(default_factory=dict)

    def write(self, name: str, text: str, mode: int = 0o644) -> Path:
        """A file below the directory, its parents made as needed."""
        path = self.dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def run(self, *command: str | Path) -> str:
        """Runs a step of the preparation; its standard output.

        Raises:
            NotReady: it failed.
        """
        try:
            done = subprocess.run(
                [str(c) for c in command],
                check=False,
                cwd=self.dir,
                env=self.env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_PREPARE_SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired) as why:
            msg = f"`{' '.join(map(str, command))}` could not be run: {why}"
            raise NotReady(msg) from why
        if done.returncode:
            msg = f"`{' '.join(map(str, command))}` ended with {done.returncode}: {done.stderr.strip()[-400:]}"
            raise NotReady(msg)
        return done.stdout

    def compiled(self, name: str, folder: Path = PROPS) -> Path:
        """A C prop, compiled here."""
        program = self.dir / name
        self.run("gcc", "-O2", "-Wall", "-pthread", "-o", program, folder / f"{name}.c")
        return program

    def count(self, pattern: str) -> int:
        """How many files match a glob pattern."""
        return sum(1 for _ in self.dir.glob(pattern))

    def text(self, name: str) -> str:
        """A file's text, empty if it is not there."""
        path = self.dir / name
        return path.read_text(errors="replace") if path.exists() else ""


def environment(home: Path, entrances: list[str]) -> dict[str, str]:
    """The environment of a workload: nothing of ours but where the pen for bombs is."""
    path = f"{Path(sys.executable).parent}:{_SYSTEM_PATH}"
    lang = os.environ.get("LANG", "C.UTF-8")
    return {
        "PATH": path,
        "HOME": str(home),
        "TMPDIR": str(home),
        "LANG": lang,
        "PROPS": str(PROPS),
        "PYTHON": sys.executable,
        "PEN": " ".join(entrances),
    }


Check = Callable[[Place], str | None]


def says(word: str) -> Check:
    """A check: the word is in what the command printed."""

    def check(place: Place) -> str | None:
        return None if word in place.text("output") else f"it did not say {word!r}"

    return check


def _nothing(_place: Place) -> None:
    return None


@dataclass(frozen=True)
class Workload:
    """One entry of the corpus.

    `command` runs as a child of a session that has other children. In a guilty one the bomb enters its pen through
    ``props/enter.sh`` and all else stays out of it, so that who was hurt can be told exactly. `check` says what is
    wrong with the innocent part afterwards, while its processes still run. `stop` is set for what has no end of its
    own: it is ended by us after `seconds`, which otherwise is the longest that it may take. `young` starts it together
    with its session, within the session's first second.
    """

    name: str
    label: Label
    what: str
    command: Callable[[Place], list[str]]
    prepare: Callable[[Place], None] = _nothing
    check: Check = _nothing
    needs: tuple[str, ...] = ()
    seconds: float = 30.0
    stop: bool = False
    young: bool = False

    @property
    def innocent(self) -> bool:
        """Whether nobody in it may be killed."""
        return self.label == "innocent"

    def missing(self, env: dict[str, str]) -> list[str]:
        """The programs it needs that are not there."""
        return [p for p in self.needs if shutil.which(p, path=env["PATH"]) is None]


def shell(text: str) -> Callable[[Place], list[str]]:
    """A command that is a line of shell; ``$PROPS``, ``$PYTHON`` and ``$PEN`` are set in it."""
    return lambda _place: ["/bin/sh", "-c", text]
