"""What systemd and its login manager wrote down, out of files that were made for it."""

from __future__ import annotations

import pytest

from pidwarden.kernel.logind import Logind


@pytest.fixture
def root(tmp_path):
    for name in ("run/systemd/sessions", "run/systemd/users", "run/systemd/units", "var/lib/systemd/linger"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


def asked(root):
    return Logind(lambda uid: {7: "ann", 8: "../8"}.get(uid, str(uid)), str(root))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("STATE=active\nLEADER=12\n", (True, 12)),
        ("STATE=online\nLEADER=no\n", (True, 0)),
        ("# private\nSTATE=closing\nLEADER=12\n", (False, 12)),
        ("", (True, 0)),
    ],
)
def test_a_session(root, text, expected):
    (root / "run/systemd/sessions/9").write_text(text)
    assert asked(root).session("9") == expected


def test_a_session_without_a_file_is_over_where_they_are_kept(root, tmp_path):
    assert asked(root).session("9") == (False, 0)
    assert asked(tmp_path / "none").session("9") == (None, 0)


@pytest.mark.parametrize(("state", "here"), [("active", True), ("online", True), ("lingering", False),
                                             ("closing", False)])  # fmt: skip
def test_a_user(root, state, here):
    (root / "run/systemd/users/7").write_text(f"NAME=ann\nSTATE={state}\n")
    assert asked(root).user(7) is here
    assert asked(root).user(8) is False
    assert asked(root / "none").user(7) is None


def test_linger(root):
    assert not asked(root).lingers(7)
    (root / "var/lib/systemd/linger/ann").touch()
    assert asked(root).lingers(7)
    (root / "var/lib/systemd/8").touch()
    assert not asked(root).lingers(8)  # a name is no path


def test_a_unit(root):
    (root / "run/systemd/units/invocation:x.service").symlink_to("0" * 32)
    assert asked(root).active("x.service") is True
    assert asked(root).active("y.service") is False
    assert asked(root).active("x.service", 7) is None
    (root / "run/user/7/systemd/units").mkdir(parents=True)
    assert asked(root).active("x.service", 7) is False
