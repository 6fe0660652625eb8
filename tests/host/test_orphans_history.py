"""`pidwarden orphans` with a guard: who the birth parent was, when it died and how; and what follows from that."""

from __future__ import annotations

import json
import os

import pytest
from cli_kit import guard, left_behind, sleeper
from orphankit import Asked, orphan, take_away

pytestmark = [pytest.mark.root, pytest.mark.bpf]
RUN_DIR = f"/run/pidwarden-orphans-{os.getpid()}"


@pytest.fixture(scope="module", autouse=True)
def watching():
    with sleeper() as pid, guard(RUN_DIR, "--mode", "observe", only=pid):
        yield
    assert not left_behind(RUN_DIR.rsplit("/", 1)[1])


@pytest.fixture
def asked(capsys):
    return Asked(capsys, "--run-dir", RUN_DIR)


@pytest.mark.parametrize(
    ("words", "verdict", "ending", "sign"),
    [
        ((), "unsure", "exit 0", None),
        (("killed",), "leaked", "SIGKILL", "parent-killed"),
        (("failed",), "unsure", "exit 3", "parent-failed"),
        (("daemon",), "intended", "exit 0", "daemonised"),
        (("daemon", "killed"), "unsure", "SIGKILL", "parent-killed"),
        (("own", "subreaper"), "intended", "exit 0", "daemonised"),
    ],
)
def test_the_birth_parent_and_its_end(asked, words, verdict, ending, sign):
    with orphan(*words) as (_running, pid, parent):
        found = asked.of(pid)
        lost = found["lost"]
        assert (lost["how"], lost["parent"]["pid"], lost["parent"]["comm"]) == ("history", parent, "orphan")
        assert (lost["ending"], found["verdict"]) == (ending, verdict)
        assert lost["ended"] > found["started"]
        assert 0 < lost["after_ns"] < 10**9
        assert f"its parent, orphan ({parent}), is dead: {ending}, " in lost["words"]
        names = {s["name"] for s in found["signs"]}
        assert sign is None or sign in names
        assert bool(sign) or not names & {"parent-killed", "parent-failed", "daemonised"}
        assert not any("only a guard" in why for why in found["unknown"])


def test_its_family(asked):
    with orphan("pipe") as (running, pid, _parent):
        take_away(running)
        found = asked.of(pid)
        assert found["group"].startswith(f"family {found['family']}, the oldest known of it ")
        text = asked.run(f"family:{found['family']}")
        assert f"\nfamily {found['family']}, " in text
        assert f"  leaked    orphan ({pid}), " in text
        assert " ago\n" in text


def test_history_knows_who_is_no_orphan(asked, capsys):
    """Of a child with a session of its own, of the first process of a namespace: to /proc it looks like an orphan."""
    with orphan("inside", "born") as (_running, pid, parent):
        line = asked.refused(f"pid:{pid}")
        assert f"orphan ({pid}) is no orphan: its parent orphan ({parent}) lives" in line
        assert Asked(capsys, "--no-guard").of(pid)["lost"]["how"] == "guessed"


def test_it_is_ended_with_the_guards_word(asked):
    with orphan("killed") as (_running, pid, _parent):
        found = json.loads(asked.run(f"pid:{pid}", "--kill", "--yes", "--json"))
        assert [(o["pid"], o["outcome"]) for o in found["outcomes"]] == [(pid, "ended")]
