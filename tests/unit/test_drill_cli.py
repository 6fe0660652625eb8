"""`pidwarden drill`, with a game that is only played out of a list."""

from __future__ import annotations

import json
import os

import pytest

from pidwarden.cli import drill
from pidwarden.cli.main import main
from pidwarden.drill import game
from pidwarden.drill.account import Alarm, Result
from pidwarden.drill.shapes import SHAPES
from pidwarden.kernel.limits import Limit


def result(shape, **changes):
    good = {
        "noticed_ms": 70.9, "held_ms": 0.1, "judged_ms": 10.7, "dead_ms": 85.2, "dead_after_first_ms": 85.2,
        "cleared_ms": 1640.8, "peak": 304, "pen_peak": 303, "killed": 303, "verdicts": ["bomb"], "worst_delay_ms": 2.1,
        "contained": True, "proven_empty": True,
    }  # fmt: skip
    return Result(shape, 3000, **(good | changes))


@pytest.fixture
def play(monkeypatch):
    """Installs results by shape, and complaints about the guard."""

    class Fake:
        results, complaints, given = {}, [], {}

        def __init__(self, **given):
            Fake.given = given
            self.tell, self.guard = given["tell"], self

        def __enter__(self):
            self.tell("ready", {"capabilities": {"hold": "HOLDING", "kill": "KILLING"}})
            return self

        def __exit__(self, *_why):
            pass

        def play(self, shape):
            alarm = Alarm(
                7, 0, "branch-slots", 301, 70.9, 0.1, 10.7, 85.2, 1640.8, "bomb", ["because", "so"], 303, 0, 302
            )
            self.tell("shape", {"shape": shape, "cap": 3000, "bystanders": 3})
            self.tell("alarm", {"alarm": alarm})
            self.tell("held", {"alarm": alarm})
            self.tell("verdict", {"alarm": alarm})
            self.tell("released", {"alarm": alarm, "after_ms": 19.4})
            self.tell("killed", {"alarm": alarm})
            self.tell("cleared", {"alarm": alarm})
            found = Fake.results.get(shape, result(shape))
            self.tell("result", found.as_json())
            return found

    monkeypatch.setattr(game, "Game", Fake)
    monkeypatch.setattr(game.os, "geteuid", lambda: 0)
    monkeypatch.setattr(game, "machine_limits", lambda: [Limit("pid_max", 100, 32768)])
    monkeypatch.setattr(drill, "DEFAULT_CONFIG", "/nonexistent")
    return Fake


@pytest.mark.usefixtures("play")
def test_all_shapes_in_order_and_exit_0(capsys):
    assert main(["drill", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.get("shape") for line in lines[:-1]] == list(SHAPES)
    assert all(line["passed"] for line in lines[:-1])
    summary = lines[-1]["summary"]
    assert (summary["passed"], summary["shapes"], summary["failed"]) == (True, 8, [])
    assert (summary["highest_peak"], summary["longest_dead_ms"], summary["worst_delay_ms"]) == (304, 85.2, 2.1)


@pytest.mark.parametrize(
    "changes", [{"contained": False}, {"proven_empty": False}, {"bystanders_hurt": ["the pipeline is dead (signal 9)"]}]
)
def test_one_failure_is_exit_1_and_named(play, capsys, changes):
    play.results = {"chain": result("chain", **changes)}
    assert main(["drill", "--json", "--shape", "tight", "--shape", "chain"]) == 1
    *_, summary = map(json.loads, capsys.readouterr().out.splitlines())
    assert summary["summary"]["failed"] == ["chain"]
    assert main(["drill", "--shape", "tight", "--shape", "chain"]) == 1
    *_, tight, chain, _empty, count, _legend = capsys.readouterr().out.splitlines()
    assert tight.startswith("tight")
    assert tight.endswith("contained")
    assert chain.startswith("chain")
    assert chain.endswith("FAILED")
    assert count.startswith("1 of 2 ")


def test_a_guard_that_leaves_something_behind_is_exit_1(play, capsys):
    play.complaints = ["the guard left /run/x behind"]
    assert main(["drill", "--shape", "tight"]) == 1
    assert "FAILED: the guard left /run/x behind" in capsys.readouterr().out
    assert main(["drill", "--shape", "tight", "--json"]) == 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["summary"]["complaints"] == play.complaints


def test_the_story_tells_every_step_with_its_time(play, capsys):
    play.results = {"tight": result("tight", bystanders_hurt=["the pipeline is dead"])}
    main(["drill", "--shape", "tight"])
    text = capsys.readouterr().out
    for part in (
        "HOLDING", "KILLING", "tight: Every member forks", "at most 3000 tasks", "70.9 ms", "301 slots", "+10.7 ms",
        "bomb: because; so", "+19.4 ms", "+85.2 ms", "303 killed, 0 survived, 302 to be reaped", "+1640.8 ms",
        "303 of 3000 in the pen", "HURT: the pipeline is dead",
    ):  # fmt: skip
        assert part in text, part


def test_what_was_never_measured_is_no_number(play, capsys):
    play.results = {"tight": Result("tight", 3000)}
    main(["drill", "--shape", "tight"])
    *_, tight, _empty, _count, _legend = capsys.readouterr().out.splitlines()
    assert tight.split()[:4] == ["tight", "—", "—", "—"]


def test_the_cap_and_the_limit_are_passed_on(play):
    main(["drill", "--shape", "tight", "--cap", "900", "--hold-at", "200"])
    assert play.given["cap"] == 900
    assert play.given["options"] == ["--hold-at", "200"]


@pytest.mark.usefixtures("play")
def test_an_unknown_shape_is_exit_2_and_the_shapes_are_named_even_without_root(capsys, monkeypatch):
    monkeypatch.setattr(game.os, "geteuid", lambda: 1000)
    assert main(["drill", "--shape", "tight", "--shape", "nuclear"]) == 2
    errors = capsys.readouterr().err
    assert "'nuclear'" in errors
    assert ", ".join(SHAPES) in errors


@pytest.mark.usefixtures("play")
def test_not_root_is_exit_3_and_one_sentence(capsys, monkeypatch):
    monkeypatch.setattr(game.os, "geteuid", lambda: 1000)
    assert main(["drill"]) == 3
    out, errors = capsys.readouterr()
    assert out == ""
    assert errors.count("\n") == 1
    assert "sudo pidwarden drill" in errors


@pytest.mark.usefixtures("play")
def test_a_cap_that_tells_nothing_is_exit_2(capsys):
    assert main(["drill", "--cap", "599"]) == 2
    assert "--cap 600" in capsys.readouterr().err
    assert main(["drill", "--cap", "600"]) == 0


@pytest.mark.parametrize(("used", "advice"), [(100, "--cap 1900"), (3500, "lower what is in use")])
@pytest.mark.usefixtures("play")
def test_a_machine_too_small_for_the_pen_is_exit_4(capsys, monkeypatch, used, advice):
    monkeypatch.setattr(game, "machine_limits", lambda: [Limit("pid_max", used, 4000)])
    assert main(["drill"]) == 4
    errors = capsys.readouterr().err
    assert advice in errors
    assert "pid_max" in errors


@pytest.mark.usefixtures("play")
def test_the_limit_of_the_configuration_file_counts(monkeypatch, tmp_path, capsys):
    config = tmp_path / "pidwarden.toml"
    config.write_text("hold_at = 2000\n")
    monkeypatch.setattr(drill, "DEFAULT_CONFIG", os.fspath(config))
    assert main(["drill"]) == 2
    assert "--cap 4000" in capsys.readouterr().err
