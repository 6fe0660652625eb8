"""Records become objects, a line of JSON each."""

from __future__ import annotations

import json

from pidwarden.trace import abi
from pidwarden.trace.event import Event, Piece
from pidwarden.trace.jsonlines import Objects


class Decoder:
    def name(self, nr):
        return {0: "read", 3: "close"}[nr]

    def values(self, enter, done):
        return {"fd": (done or enter).args[0], "entry": enter is not None}

    def signal(self, event):
        return f"--- SIG{event.args[0]} {{}} ---"

    def ending(self, _event):
        return "+++ exited with 0 +++"


def event(kind, ns, nr=3, ret=0, flags=0, enter=0, lost=0, args=(7, 8, 0, 0, 0, 0), pieces=()):  # noqa: PLR0913
    return Event(ns, enter, 5, 4, kind, nr, flags, lost, 1, ret, args, pieces)


def objects(*events, signals=None):
    return Objects(Decoder(), 1000, lambda name: name == "close", signals).feed(list(events))


HEAD = {"unix_ns": 1020, "pid": 4, "tid": 5}


def test_a_call_is_an_object_when_it_has_returned():
    found = objects(event(abi.ENTER, 10, enter=10), event(abi.RETURN, 20, enter=10, ret=3))
    assert found == [
        {
            "event": "call",
            **HEAD,
            "call": "close",
            "args": {"fd": 7, "entry": True},
            "ret": 3,
            "errno": None,
            "took_ns": 10,
        }
    ]


def test_an_error_has_its_name_and_no_duration_is_none():
    (found,) = objects(event(abi.RETURN, 20, ret=-9, flags=abi.NO_ENTRY))
    assert (found["ret"], found["errno"], found["took_ns"], found["entry"]) == (-1, "EBADF", None, "not seen")


def test_calls_and_signals_that_are_not_wanted_are_left_out_but_not_what_was_lost():
    assert objects(event(abi.RETURN, 20, nr=0)) == []
    assert objects(event(abi.RETURN, 20, nr=0, lost=2)) == [{"event": "lost", **HEAD, "lost": 2}]
    assert objects(event(abi.SIGNAL, 20), signals=frozenset({9})) == []


def test_life_of_processes():
    found = objects(
        event(abi.FORK, 20, args=(6, 6, 0, 0, 0, 0)),
        event(abi.EXEC, 20, args=(5, 0, 0, 0, 0, 0), pieces=(Piece(0, 0, 0, b"a\nb\xff\0\0"),)),
        event(abi.SIGNAL, 20, args=(17, 0, 0, 0, 0, 0)),
        event(abi.EXIT, 20, ret=256),
    )
    assert [f["event"] for f in found] == ["fork", "exec", "signal", "exit"]
    assert found[0]["child"] == 6
    assert found[1]["comm"] == "a\\nb\\xff"
    assert found[2]["text"] == "SIG17 {}"
    assert (found[3]["status"], found[3]["last"], found[3]["text"]) == (256, True, "exited with 0")
    assert all("\n" not in json.dumps(f) for f in found)


def test_what_goes_on_at_the_end():
    shown = Objects(Decoder(), 1000, lambda _name: True)
    shown.feed([event(abi.ENTER, 20, nr=0, enter=20)])
    assert shown.end() == [{"event": "unfinished", **HEAD, "call": "read", "args": {"fd": 7, "entry": True}}]
