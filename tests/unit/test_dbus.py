"""The little D-Bus there is, against a server that takes messages apart by itself."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import threading

import pytest

from pidwarden.kernel import dbus


def reply(kind, serial, signature, body, error=""):
    fields = struct.pack("<BBcxI", 5, 1, b"u", serial)
    if error:
        fields += struct.pack("<BBcxI", 4, 1, b"s", len(error)) + error.encode() + b"\0"
    fields += bytes(-len(fields) % 8) + bytes([8, 1]) + b"g\0" + bytes([len(signature)]) + signature.encode() + b"\0"
    head = b"l" + bytes([kind, 1, 1]) + struct.pack("<III", len(body), 77, len(fields)) + fields
    return head + bytes(-len(head) % 8) + body


class Server:
    """Answers as systemd does, in a thread; keeps what it was asked."""

    def __init__(self, path, *, welcome=b"OK 1234\r\n", answers=()):
        self.asked, self._answers, self._welcome = [], list(answers), welcome
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(path)
        self._listening.listen()
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self):
        connection, _address = self._listening.accept()
        with connection, self._listening:
            self.auth = connection.recv(100)
            connection.sendall(self._welcome)
            if connection.recv(7) != b"BEGIN\r\n":
                return
            for answer in self._answers:
                data = connection.recv(4096)
                self.asked.append(data)
                (serial,) = struct.unpack_from("<I", data, 8)
                signal = reply(4, 0, "", b"")
                both = signal + answer(serial)
                connection.sendall(both[:20])  # in pieces
                connection.sendall(both[20:])


def text(value):
    return struct.pack("<I", len(value)) + value.encode() + b"\0"


def test_a_unit_is_found_and_restarted(tmp_path):
    where = str(tmp_path / "private")
    unit = "/org/freedesktop/systemd1/unit/my_2dapp_2eservice"
    server = Server(where, answers=[lambda s: reply(2, s, "o", text(unit)), lambda s: reply(2, s, "o", text("/job/1"))])
    with dbus.Systemd((str(tmp_path / "none"), where)) as systemd:
        assert systemd.unit_of(4321) == unit == dbus.unit_path("my-app.service")
        assert systemd.restart("my-app.service") == "/job/1"
    server.thread.join()
    assert server.auth == b"\0AUTH EXTERNAL " + str(os.geteuid()).encode().hex().encode() + b"\r\n"
    first, second = server.asked
    for asked in server.asked:
        body, _serial, fields = struct.unpack_from("<III", asked, 4)
        assert len(asked) == 16 + fields + -fields % 8 + body
        assert b"org.freedesktop.systemd1.Manager\0" in asked
    assert first.endswith(struct.pack("<I", 4321))
    assert second.endswith(struct.pack("<I", 14) + b"my-app.service\0\0" + struct.pack("<I", 7) + b"replace\0")
    assert b"RestartUnit\0" in second


def test_the_bus_is_greeted_first(tmp_path):
    where = str(tmp_path / "bus_socket")
    server = Server(where, answers=[lambda s: reply(2, s, "s", text(":1.7")), lambda s: reply(2, s, "o", text("/x"))])
    with dbus.Systemd((where,)) as systemd:
        assert systemd.unit_of(1) == "/x"
    server.thread.join()
    assert b"Hello\0" in server.asked[0]


def test_what_is_refused_is_said(tmp_path):
    where = str(tmp_path / "private")
    refused = "Interactive authentication required."
    server = Server(
        where, answers=[lambda s: reply(3, s, "s", text(refused), "org.freedesktop.DBus.Error.AccessDenied")]
    )
    with dbus.Systemd((where,)) as systemd, pytest.raises(dbus.DbusError, match=f"RestartUnit: {refused}"):
        systemd.restart("x.service")
    server.thread.join()
    missing = str(tmp_path / "missing")
    with pytest.raises(dbus.DbusError, match=missing):
        dbus.Systemd((missing,))
    stranger = Server(str(tmp_path / "stranger"), welcome=b"REJECTED EXTERNAL\r\n")
    with pytest.raises(dbus.DbusError, match="not let in: REJECTED"):
        dbus.Systemd((str(tmp_path / "stranger"),))
    stranger.thread.join()


@pytest.mark.parametrize(
    "data", [b"x" * 32, b"l\2\0\1" + b"\xff" * 28, b"l\2\0\1" + struct.pack("<III", 0, 1, 8) + b"\5"]
)
def test_nonsense_is_no_message(data, tmp_path):
    where = str(tmp_path / "private")
    server = Server(where, answers=[lambda _serial: data])
    with dbus.Systemd((where,)) as systemd, pytest.raises(dbus.DbusError):
        systemd.unit_of(1)
    server.thread.join()


@pytest.mark.parametrize(("name", "path"), [("a.service", "a_2eservice"), ("9p@x.service", "_39p_40x_2eservice")])
def test_names_in_paths(name, path):
    assert dbus.unit_path(name).rpartition("/")[2] == path


def test_a_real_bus_understands_us(tmp_path):
    where = str(tmp_path / "bus_socket")
    if not shutil.which("dbus-daemon"):
        pytest.skip("no dbus-daemon")
    command = ["dbus-daemon", "--session", "--nofork", "--print-address", f"--address=unix:path={where}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as bus:
        try:
            assert bus.stdout.readline()
            with dbus.Systemd((where,)) as systemd, pytest.raises(dbus.DbusError, match=r"GetUnitByPID: .*systemd1"):
                systemd.unit_of(os.getpid())
        finally:
            bus.terminate()
