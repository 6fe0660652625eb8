"""A few workloads of bench/corpus, run as it runs them: who is guilty dies, who is not is let go. No times."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from guardkit import leftovers

BENCH = Path(__file__).parent.parent.parent / "bench" / "corpus"
sys.path.insert(0, str(BENCH))

from guilty import GUILTY  # noqa: E402  (the corpus is no package)
from innocent import INNOCENT  # noqa: E402
from stage import Stage  # noqa: E402

pytestmark = [pytest.mark.root, pytest.mark.bpf]

CORPUS = {w.name: w for w in (*INNOCENT, *GUILTY)}


def played(name):
    stage = Stage(CORPUS[name], [])
    run = stage.play()
    assert not run.not_run
    assert leftovers(stage.run_dir) == []
    assert not [d for d in os.listdir("/sys/fs/cgroup") if d.startswith(f"pidwarden-pen-{os.getpid()}-")]
    return run


@pytest.mark.parametrize("name", ["xargs", "prefork-pool", "daemons"])
def test_innocents_are_let_go(name):
    run = played(name)
    assert "bomb" not in [e.verdict for e in run.episodes]
    assert run.killed == 0
    assert run.hurt == []


def test_who_grows_beyond_hold_at_is_held_and_let_go():
    """Otherwise the test above would not say much: nobody was in question."""
    run = played("background-400")
    assert run.holds >= 1
    assert [e.verdict for e in run.episodes] == ["burst"] * len(run.episodes)
    assert run.hurt == []


@pytest.mark.parametrize("name", ["sleeper", "deaf", "script", "server"])
def test_bombs_die_and_who_started_them_lives(name):
    run = played(name)
    assert "bomb" in [e.verdict for e in run.episodes]
    assert run.killed > 1
    assert run.bomb_left == 0
    assert run.hurt == []
