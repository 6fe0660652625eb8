"""Where the guard is that a command should ask."""

from __future__ import annotations

import contextlib
import os

from pidwarden.errors import NoPermission, PidwardenError
from pidwarden.guard.control import ask
from pidwarden.guard.instance import is_private
from pidwarden.model import paths


def user_run_dir() -> str:
    """Where an ordinary user's own guard keeps its socket; what is not safe there is refused when it is used."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/") and is_private(runtime):
        return f"{runtime.rstrip('/')}/pidwarden"
    return f"/tmp/pidwarden-{os.geteuid()}"  # noqa: S108  (Instance checks whose it is)


def run_dir(given: str | None) -> str:
    """The run directory asked for, else that of the user's own guard, else the configured one, else the default.

    A broken configuration is passed over.
    """
    if given:
        return given
    if os.geteuid() != 0 and is_private(own := user_run_dir()):
        return own
    if not os.path.exists(paths.CONFIG):
        return paths.RUN_DIR
    from pidwarden.settings import load  # noqa: PLC0415  (20 ms, and most machines have no such file)

    try:
        return load(paths.CONFIG).run_dir
    except PidwardenError:
        return paths.RUN_DIR


def other_guards(but: str) -> list[str]:
    """Run directories beside the default one where a guard answers; also those that may have one, but not for us."""
    import glob  # noqa: PLC0415  (not on the way to an answer)

    found = []
    for directory in sorted(glob.glob(f"{paths.RUN_DIR}*")):
        if directory.rstrip("/") == but.rstrip("/"):
            continue
        with contextlib.suppress(PidwardenError):
            try:
                found += [directory] * (ask(directory, "status") is not None)
            except NoPermission:
                found.append(f"{directory} (only root may ask)")
    return found


def no_guard(directory: str) -> str:
    """That no guard runs in a run directory, and what to type."""
    start = "sudo pidwarden guard" if os.geteuid() == 0 else "sudo pidwarden guard` or `pidwarden guard --user"
    text = f"no guard is running in {directory}; type `{start}` to start one"
    if others := other_guards(directory):
        text += ", or add `--run-dir DIR` to ask another: " + ", ".join(others)
    return text
