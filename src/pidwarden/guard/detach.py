"""`pidwarden guard --detach`: what a killed guard left in force is released and removed."""

from __future__ import annotations

import glob
import os
import time
from typing import TYPE_CHECKING

from pidwarden.act.hold import continue_one
from pidwarden.errors import PidwardenError
from pidwarden.guard.begin import thresholds
from pidwarden.guard.freezing import thaw_left
from pidwarden.guard.instance import Instance
from pidwarden.guard.keep import WAKE_AGAIN_NS
from pidwarden.guard.respond import Responder
from pidwarden.guard.scope import Scope
from pidwarden.guard.succession import release_everything
from pidwarden.judge.case import SECOND
from pidwarden.kernel import foreign
from pidwarden.kernel.pins import Pins, bpffs, remove_tree

if TYPE_CHECKING:
    from pidwarden.guard.report import Reporter
    from pidwarden.settings import Settings


def detach(settings: Settings, report: Reporter) -> int:
    """Releases, unpins and removes every instance of `run_dir` that no running guard holds. Exit code 0.

    Raises:
        PidwardenError: a guard is running there.
    """
    root = bpffs()
    base = settings.run_dir.rstrip("/")
    instances = sorted({base, *(os.path.join(os.path.dirname(base), os.path.basename(d)) for d in _stale(root, base))})
    done = 0
    for directory in instances:
        with Instance(directory, scoped=False) as instance:
            pins = Pins(instance.name)
            programs = pins.adopt()
            for where in pins.foreign():
                done += 1
                report("note", text=_detach_foreign(where))
            if programs is None:
                done += bool(thaw_left(instance.directory, report))
                continue
            programs.configure(thresholds(settings, Scope([]), autohold=False))  # or what goes on is held again
            release_everything(Responder(programs, settings, Scope([]), report, instance.directory))
            pins.remove()
            programs.close()
            report("note", text=f"released and removed what a guard had left in {root}/{instance.name}")
            done += 1
    if not done:
        report("note", text="nothing was left behind")
    return 0


def _detach_foreign(directory: str) -> str:
    """Removes another version's pins, and continues whom it had stopped."""
    try:
        stopped = foreign.read(directory).stopped
        foreign.let_go(directory)
    except PidwardenError as why:
        remove_tree(directory)
        return (
            f"removed pins of another version ({directory}), without knowing whom it had stopped: {why}; "
            "`ps axo stat,pid,comm | grep ^T` lists who is stopped, `kill -CONT PID` continues one"
        )
    woken = sum(map(continue_one, stopped))
    time.sleep(WAKE_AGAIN_NS / SECOND)  # a gate that saw them held an instant before may stop them an instant after
    woken += sum(map(continue_one, stopped))
    remove_tree(directory)
    return f"released and removed what a guard of another version had left in {directory}: {woken} processes continued"


def _stale(root: str | None, base: str) -> list[str]:
    """Instances that stepped aside for that of `base`: by their pins, or by what they have recorded as frozen."""
    name = os.path.basename(base)
    found = [*glob.glob(f"{root}/{name}-*"), *map(os.path.dirname, glob.glob(f"{glob.escape(base)}-*/frozen-*.json"))]
    return [d for d in found if os.path.basename(d)[len(name) + 1 :].isdecimal()]
