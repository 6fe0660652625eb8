"""A function in a thread of its own: its answer, its error, and a Ctrl-C that has to wait for it."""

from __future__ import annotations

import _thread
import os
import signal
import threading

import pytest

from pidwarden.kernel import apart


def test_its_answer_comes_back_and_it_ran_elsewhere():
    assert apart.run(threading.get_native_id) != threading.get_native_id()


def test_its_error_is_raised():
    with pytest.raises(ZeroDivisionError):
        apart.run(lambda: 1 // 0)


def test_an_interrupt_waits_for_it():
    told, done = threading.Event(), []

    def work():
        os.kill(os.getpid(), signal.SIGINT)
        assert told.wait(60)
        done.append(True)

    with pytest.raises(KeyboardInterrupt):
        apart.run(work, told.set)
    assert done


def test_it_says_once_that_it_takes_long(monkeypatch):
    monkeypatch.setattr(apart, "_LATE", 0.0)
    late = threading.Event()
    assert apart.run(lambda: late.wait(60), on_late=late.set)


def test_where_no_thread_can_be_had(monkeypatch):
    def refuse(*_arguments):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    with pytest.raises(BlockingIOError):
        apart.run(lambda: None)
