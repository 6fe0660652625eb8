"""Lessons of the drill: which there are, where they are made, what is told of them; without making any."""

from __future__ import annotations

import json
import os

import pytest

from pidwarden.cli import lesson
from pidwarden.cli.main import main
from pidwarden.diagnose.cause import Cause
from pidwarden.diagnose.orphans import Verdict
from pidwarden.drill import game, lessons, shapes, teach
from pidwarden.drill.teach import Lesson, Said


def test_every_lesson_says_what_it_teaches_and_what_it_should_be_called():
    assert list(lessons.LESSONS) == list(teach.EXPECTED)
    assert not set(lessons.LESSONS) & set(shapes.SHAPES)
    for made in lessons.LESSONS.values():
        first = made.__doc__.splitlines()[0]
        assert first.endswith(".")
        assert len(first) > 40
    for expected in teach.EXPECTED.values():
        words = Cause if expected.command == "zombies" else Verdict
        assert expected.cause in list(words)


def test_a_pen_is_the_same_for_both():
    assert lessons.PEN == shapes.PEN
    for lines in (["8:pids:/pidwarden-pen-7-1\n", "0::/\n"], ["8:pids:/\n"], ["0::/pidwarden-pen-7-1\n"], []):
        assert lessons.in_pen(lines) is shapes.in_pen(lines)


def test_outside_a_pen_nothing_is_made(monkeypatch, capsys):
    monkeypatch.setitem(lessons.LESSONS, "orphan", lambda *_: pytest.fail("made outside a pen"))
    monkeypatch.setattr(lessons, "in_pen", lambda _lines: False)
    assert lessons.main(["orphan", "3", "1"]) == 4
    assert "pidwarden drill --shape orphan" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [[], ["orphan"], ["nothing", "1", "2"]])
def test_usage_names_the_lessons(argv, capsys):
    assert lessons.main(argv) == 2
    assert ", ".join(lessons.LESSONS) in capsys.readouterr().err


def test_who_is_ready_says_so_in_one_line(monkeypatch):
    reading, writing = os.pipe()
    monkeypatch.setattr(lessons, "in_pen", lambda _lines: True)
    monkeypatch.setitem(lessons.LESSONS, "orphan", lambda count, ready: ready(7, count))
    lessons.main(["orphan", "3", str(writing)])
    with os.fdopen(reading) as pipe:
        assert json.loads(pipe.read()) == {"pid": 7, "count": 3}


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture
def taught(monkeypatch):
    """A teacher that makes nothing; what he is given, and the word that he is to answer."""

    class Fake:
        given, cause = {}, None

        def __init__(self, **given):
            Fake.given = given

        def give(self, name):
            expected = teach.EXPECTED[name]
            found = Lesson(name, 4711, 200, *expected, proven_empty=True)
            tell = Fake.given["tell"]
            tell("lesson", {"lesson": found, "cap": 250})
            found.cause = Fake.cause or expected.cause
            said = Said(found.cause, "in other words", ("one", "two"), ("kill -CONT 4711",))
            tell("said", {"lesson": found, "said": said})
            tell("open", {"lesson": found, "seconds": 5.0, "enter": True})
            found.cleared_by_hand_s = 1.5
            tell("cleared-by-hand", {"lesson": found})
            tell("ended", {"lesson": found})
            return found

    monkeypatch.setattr(lesson, "Teacher", Fake)
    monkeypatch.setattr(game.os, "geteuid", lambda: 0)
    return Fake


def test_the_story_says_what_was_made_what_it_is_and_what_to_type(taught, capsys):
    assert main(["drill", "--shape", "stopped-parent", "--hold-open", "5"]) == 0
    assert taught.given["hold_open"] == 5
    text = capsys.readouterr().out
    for part in (
        "stopped-parent: A parent that waits", "at most 250 tasks: 200 zombies of process 4711",
        "zombies  parent-stopped: in other words", "pidwarden zombies pid:4711", "pidwarden reap pid:4711 --dry-run",
        "kill -CONT 4711", "another terminal for 5 s at the most; press Enter",
        "by hand, after 1.5 s", "nothing is left in the pen", "1 lesson: the cause was named",
    ):  # fmt: skip
        assert part in text, part


def test_a_cause_that_is_misnamed_is_exit_1(taught, capsys):
    taught.cause = "unknown"
    assert main(["drill", "--shape", "zombie-maker", "--shape", "orphan"]) == 1
    out = capsys.readouterr().out
    assert "FAILED: it is never-waits" in out
    assert "2 lessons: FAILED: zombie-maker, orphan" in out
    assert main(["drill", "--shape", "zombie-maker", "--json"]) == 1
    found, summary = map(json.loads, capsys.readouterr().out.splitlines())
    assert (found["passed"], found["expected"], found["cause"]) == (False, "never-waits", "unknown")
    assert summary["summary"] == {"passed": False, "lessons": 1, "failed": ["zombie-maker"]}


@pytest.mark.usefixtures("taught")
def test_no_lesson_is_given_when_another_shape_is_unknown(capsys):
    assert main(["drill", "--shape", "orphan", "--shape", "nuclear"]) == 2
    out, errors = capsys.readouterr()
    assert out == ""
    assert "'nuclear'" in errors
    assert "zombie-maker" in errors


@pytest.mark.usefixtures("taught")
def test_to_hold_nothing_open_is_exit_2(capsys):
    assert main(["drill", "--hold-open", "5"]) == 2
    assert "--shape with one of zombie-maker" in capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["-1", "x", "nan", "86401"])
@pytest.mark.usefixtures("taught")
def test_what_is_no_number_of_seconds_is_exit_2(seconds):
    with pytest.raises(SystemExit) as why:
        main(["drill", "--shape", "orphan", "--hold-open", seconds])
    assert why.value.code == 2


@pytest.mark.usefixtures("taught")
def test_not_root_is_exit_3(monkeypatch, capsys):
    monkeypatch.setattr(game.os, "geteuid", lambda: 1000)
    assert main(["drill", "--shape", "orphan"]) == 3
    assert "sudo pidwarden drill" in capsys.readouterr().err


def test_the_zombie_bomb_is_the_bomb_of_that_name(monkeypatch):
    played = []
    monkeypatch.setattr("pidwarden.cli.drill._play", lambda names, _args: played.append(names) or 0)
    assert main(["drill", "--shape", "zombie-bomb"]) == 0
    assert main(["drill"]) == 0
    assert played == [["zombies"], list(shapes.SHAPES)]
