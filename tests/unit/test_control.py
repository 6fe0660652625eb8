"""The guard's socket: packets, what comes beside one, and clients that do not behave."""

from __future__ import annotations

import errno
import json
import os
import select
import socket
import threading

import pytest

from pidwarden.errors import PidwardenError
from pidwarden.guard import control
from pidwarden.guard.control import Bulk, Server, ask, ask_bulk


def descriptors():
    return len(os.listdir("/proc/self/fd"))


class Serving:
    """A server in a thread, as the guard's loop would serve."""

    def __init__(self, directory, handler):
        self.server = Server(str(directory), handler)
        self._end = os.pipe()
        self._thread = threading.Thread(target=self._loop)
        self._thread.start()

    def _loop(self):
        while True:
            ready, _, _ = select.select([self.server.fileno(), self._end[0]], [], [])
            if self._end[0] in ready:
                return
            client = self.server.accept()
            if client is not None:
                select.select([client], [], [], 5)
                self.server.serve(client)

    def __enter__(self):
        return self.server

    def __exit__(self, *_what):
        os.write(self._end[1], b"x")
        self._thread.join()
        self.server.close()
        for fd in self._end:
            os.close(fd)


def test_an_answer_comes_back(tmp_path):
    with Serving(tmp_path, lambda words: {"words": words}):
        assert ask(str(tmp_path), "a", "b") == {"words": ["a", "b"]}
        assert ask_bulk(str(tmp_path), "a") == ({"words": ["a"]}, b"")


@pytest.mark.parametrize("size", [0, 1, 5_000_000])
def test_bytes_come_beside_it_and_nothing_stays_open(tmp_path, size):
    data = os.urandom(size)
    before = descriptors()
    with Serving(tmp_path, lambda _words: Bulk({"count": size}, memoryview(data))):
        assert ask_bulk(str(tmp_path), "records") == ({"count": size}, data)
        assert ask(str(tmp_path), "records") == {"count": size}
    assert descriptors() == before


def test_what_was_lent_is_given_back_at_once(tmp_path):
    lent = bytearray(b"records")
    with Serving(tmp_path, lambda _words: Bulk({}, memoryview(lent))):
        assert ask_bulk(str(tmp_path), "records") == ({}, b"records")
        lent.extend(b"!")  # impossible while somebody looks at it


def test_nobody_can_change_what_was_sent():
    fd = control.sealed(memoryview(b"x" * 100))
    try:
        for change in (lambda: os.write(fd, b"y"), lambda: os.truncate(fd, 5), lambda: os.truncate(fd, 500)):
            with pytest.raises(PermissionError):
                change()
    finally:
        os.close(fd)


def test_a_kernel_that_does_not_know_the_flag(monkeypatch):
    real = os.memfd_create

    def old(name, flags):
        if flags & control._NOEXEC_SEAL:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(name, flags)

    monkeypatch.setattr(os, "memfd_create", old)
    os.close(control.sealed(memoryview(b"x")))


def test_a_client_that_goes_away_harms_nobody(tmp_path):
    before = descriptors()
    with Serving(tmp_path, lambda _words: Bulk({}, memoryview(b"x" * 10_000))) as server:
        for _ in range(50):
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
                client.connect(server.path)
                client.send(b"records")
        assert ask_bulk(str(tmp_path), "records") == ({}, b"x" * 10_000)
    assert descriptors() == before


def test_no_memory_for_the_bytes_is_an_answer(tmp_path, monkeypatch):
    def full(*_what):
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(os, "memfd_create", full)
    lent = bytearray(b"x")
    with (
        Serving(tmp_path, lambda _words: Bulk({}, memoryview(lent))),
        pytest.raises(PidwardenError, match="Cannot allocate memory"),
    ):
        ask_bulk(str(tmp_path), "records")
    lent.extend(b"given back all the same")


def test_a_refusal_is_raised(tmp_path):
    def refuse(_words):
        raise PidwardenError("not today")

    with Serving(tmp_path, refuse), pytest.raises(PidwardenError, match="not today"):
        ask_bulk(str(tmp_path), "records")


def test_a_guard_that_does_not_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(control, "_TIMEOUT_SECONDS", 1)
    server = Server(str(tmp_path), lambda _words: {})
    try:
        with pytest.raises(PidwardenError, match=r"does not answer \(nothing for 1 s"):
            ask(str(tmp_path), "status")
    finally:
        server.close()


def test_nobody_there(tmp_path):
    assert ask_bulk(str(tmp_path), "records") is None
    assert ask(str(tmp_path), "records") is None


def test_an_answer_is_json(tmp_path):
    with Serving(tmp_path, lambda _words: {"x": "ü\n"}) as server, socket.socket(
        socket.AF_UNIX, socket.SOCK_SEQPACKET
    ) as client:  # fmt: skip
        client.connect(server.path)
        client.send(b"status")
        assert json.loads(client.recv(4096)) == {"x": "ü\n"}
