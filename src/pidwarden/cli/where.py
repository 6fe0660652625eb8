"""Where the guard is that a command should ask."""

from __future__ import annotations

import contextlib
import glob
import os

from pidwarden.errors import NoPermission, PidwardenError
from pidwarden.guard.control import ask
from pidwarden.settings import DEFAULT_CONFIG, DEFAULT_RUN_DIR, load


def run_dir(given: str | None) -> str:
    """The run directory asked for, else the configured one, else the default. A broken configuration is passed over."""
    if given:
        return given
    try:
        return load(DEFAULT_CONFIG).run_dir if os.path.exists(DEFAULT_CONFIG) else DEFAULT_RUN_DIR
    except PidwardenError:
        return DEFAULT_RUN_DIR


def other_guards(but: str) -> list[str]:
    """Run directories beside the default one where a guard answers; also those that may have one, but not for us."""
    found = []
    for directory in sorted(glob.glob(f"{DEFAULT_RUN_DIR}*")):
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
    text = f"no guard is running in {directory}; type `sudo pidwarden guard` to start one"
    if others := other_guards(directory):
        text += ", or add `--run-dir DIR` to ask another: " + ", ".join(others)
    return text
