"""Whether a prepared rescue is as what is installed, and what the doctor says of that."""

from __future__ import annotations

import argparse
import json
import os
import sys

import pytest

import pidwarden
from pidwarden.cli import doctor
from pidwarden.model.paths import PREPARED
from pidwarden.rescue import prepared
from pidwarden.rescue.prepared import Preparation, State


@pytest.fixture
def installed(tmp_path):
    """Two files that are copied."""
    folder = tmp_path / "lib"
    folder.mkdir()
    for name in ("libc.so.6", "libm.so.6"):
        (folder / name).write_text("a library")
    return folder


@pytest.fixture
def copies(tmp_path, installed):
    """A preparation of those, made just now."""
    folder = tmp_path / "rescue"
    folder.mkdir()
    for path in installed.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    name, text = prepared.notes(prepared.original(p.name, str(p)) for p in sorted(installed.iterdir()))
    (folder / name).write_text(text)
    (folder / "start").write_text("exec it\n")
    return folder


def stale(copies):
    found = prepared.look(str(copies))
    assert (found.state, found.directory) == (State.STALE, str(copies))
    assert found.remedy.endswith(f"pidwarden rescue --prepare {copies}")
    return found.reason


def test_one_whose_files_are_as_they_were_is_ready(copies):
    assert prepared.look(str(copies)) == Preparation(State.READY, str(copies))


@pytest.mark.parametrize("gone", ["start", "."])
def test_without_a_text_to_start_it_there_is_none(copies, gone):
    where = copies if gone == "start" else copies / "nowhere"
    (copies / "start").unlink()
    found = prepared.look(str(where))
    assert (found.state, found.reason) == (State.ABSENT, f"there is no {where}/start")


def test_a_library_that_was_upgraded_is_named(copies, installed):
    (installed / "libc.so.6").write_text("another library")
    assert stale(copies) == f"{installed}/libc.so.6 was replaced since its copy was made"


def test_one_of_the_same_size_is_another_by_its_time(copies, installed):
    os.utime(installed / "libc.so.6", ns=(1, 1))
    os.utime(installed / "libm.so.6", ns=(1, 1))
    more = "; so it is with 1 more of 2 files"
    assert stale(copies) == f"{installed}/libc.so.6 was replaced since its copy was made{more}"


def test_a_library_that_is_gone_is_named(copies, installed):
    (installed / "libm.so.6").unlink()
    assert stale(copies) == f"{installed}/libm.so.6, of which it has a copy, is gone"


@pytest.mark.parametrize("left", [None, "half"])
def test_a_copy_that_is_gone_or_was_cut_short_is_told(copies, installed, left):
    (copies / "libm.so.6").unlink() if left is None else (copies / "libm.so.6").write_text(left)
    assert stale(copies) == f"its copy of {installed}/libm.so.6 is not whole"


def test_another_version_of_this_program_is_told(copies, monkeypatch):
    monkeypatch.setattr(prepared, "__version__", "99.0")
    assert stale(copies) == f"it was prepared by pidwarden {pidwarden.__version__}, and this is 99.0"


def test_another_interpreter_is_told(copies, monkeypatch):
    before = os.path.realpath(sys.executable)
    monkeypatch.setattr(sys, "executable", "/usr/bin/python9")
    assert stale(copies) == f"it starts {before}, and pidwarden runs on /usr/bin/python9 now"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 1, "python": 2, "files": [[1]]}', "\0"])
def test_notes_that_cannot_be_read_say_nothing(copies, text):
    (copies / "prepared.json").write_text(text)
    assert stale(copies) == f"{copies}/prepared.json does not say what the copies were made of"


def test_hostile_names_stay_on_their_line(copies, tmp_path):
    name = "lib\n\x1b[31m\udcff.so"
    (tmp_path / name).write_text("")
    notes, text = prepared.notes([prepared.original(name, str(tmp_path / name))])
    (copies / notes).write_text(text)
    (tmp_path / name).unlink()
    assert stale(copies) == f"{tmp_path}/lib\\n\\x1b[31m\\xff.so, of which it has a copy, is gone"


def said(monkeypatch, capsys, found, *, as_json):
    monkeypatch.setattr(prepared, "look", lambda: found)
    doctor.run(argparse.Namespace(json=as_json))
    return capsys.readouterr().out


def test_the_doctor_says_why_it_is_stale_and_what_to_type(monkeypatch, capsys):
    found = Preparation(State.STALE, PREPARED, "libc was replaced", "sudo pidwarden rescue --prepare")
    text = " ".join(said(monkeypatch, capsys, found, as_json=False).split())
    assert "prepared rescue: STALE reason libc was replaced would change `sudo pidwarden rescue --prepare`" in text
    assert json.loads(said(monkeypatch, capsys, found, as_json=True))["rescue"] == {
        "state": "stale",
        "directory": PREPARED,
        "reason": "libc was replaced",
        "remedy": "sudo pidwarden rescue --prepare",
    }


def test_the_doctor_says_how_to_start_one_that_is_ready(monkeypatch, capsys):
    text = said(monkeypatch, capsys, Preparation(State.READY, PREPARED), as_json=False)
    assert f"prepared rescue: ready\n  type            `. {PREPARED}/start` starts it" in text
