"""A login at a file server that forks: the trace shows the session, and the password only if that is asked for."""

from __future__ import annotations

import ftplib
import re
import subprocess
import sys

import pytest
from kit import PROPS
from tracekit import SECONDS, command

pytestmark = [pytest.mark.root, pytest.mark.bpf]

_PASSWORD = "Zq7secretwordXk9"


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """What two traces of the same session wrote: one as it is, one with --no-redact."""
    folder = tmp_path_factory.mktemp("ftp")
    options = ("--data", "-s", "100", "-o")
    argv = [sys.executable, "-S", str(PROPS / "ftpd.py")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        port, tree = int(server.stdout.readline()), f"tree:{server.pid}"
        with (
            command(*options, folder / "plain", "--no-redact", tree),
            command(*options, folder / "redacted", tree),
        ):
            with ftplib.FTP(timeout=SECONDS) as client:
                client.connect("127.0.0.1", port)
                client.login("joe", _PASSWORD)
                listed = []
                client.retrlines("LIST", listed.append)
                client.quit()
            server.stdin.close()
    assert "etc" in listed
    return (folder / "redacted").read_text(), (folder / "plain").read_text()


def test_the_session_is_there(session):
    shown, _plain = session
    said = ("220 ready", "USER joe", "331 Please", "230 Login successful", "PASV", "LIST", "226 Directory send OK")
    places = [shown.index(text) for text in said]
    assert places == sorted(places)
    assert "etc\\r\\n" in shown
    assert "clone(" in shown or "fork(" in shown


def test_the_password_is_not(session):
    shown, plain = session
    assert re.search(r"PASS (<redacted>|\*+)\\r\\n", shown)
    assert _PASSWORD not in shown
    assert f"PASS {_PASSWORD}\\r\\n" in plain
